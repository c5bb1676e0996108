//! `cairn mandate`: what the granters of the genesis do together: grant and revoke mandates, set a
//! region's rule, erase restricted bodies.
//!
//! What holds here: a draft goes from granter to granter, and each sees in words what it signs. What
//! stays out: which mandates are wise.

mod act;

use std::path::{Path, PathBuf};

use cairn_ledger::canonical;
use cairn_ledger::code::{MANDATE_NAMESPACE, REGION_RULE_NAMESPACE, mandate_key};
use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use clap::{Args, Subcommand};
use ed25519_dalek::SigningKey;
use serde::Serialize;

use crate::cli::Global;
use crate::drafts;
use crate::exit::Failure;
use crate::key_file;
use crate::output::{self, count, line};
use crate::session::{Session, parse_hash};
use act::{Act, in_words};

const EXAMPLE: &str = "\
Example, grant.toml:
  [grant]                        # or [revoke], [region], [erase]
  authority = \"3f07…c2\"          # as cairn key show prints it
  region = \"lakeside\"
  reasons = [\"close contact\"]
  statuses = [\"green\", \"yellow\"]
  max_duration_days = 14
  approver_role = \"health\"
  # [revoke]: authority, region
  # [region]: region, check_ins, consecutive, day_offset_minutes, release_from, release_to, stations,
  #           check_in_delay_hours, paper_validity_hours, appeals_role
  # [erase]:  entries, legal_basis
Then:
  cairn mandate propose grant.toml --key notary.key --out grant.draft
  cairn mandate approve grant.draft --key government.key
  cairn mandate submit grant.draft";

/// `cairn mandate …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draft what a file says, and sign it as its author
    #[command(after_help = EXAMPLE)]
    Propose(Propose),
    /// Say what a draft does, and sign it with one more granter's key
    #[command(after_help = "Example:\n  cairn mandate approve grant.draft --key government.key")]
    Approve(drafts::Approve),
    /// Hand in a draft that enough granters have signed
    #[command(after_help = "Example:\n  cairn mandate submit grant.draft")]
    Submit {
        /// The draft
        #[arg(value_name = "DRAFT")]
        draft: PathBuf,
    },
    /// Show an authority's mandate for a region, and the region's rule
    #[command(after_help = "Example:\n  cairn mandate show 3f07…c2 lakeside")]
    Show {
        /// The authority's author key, 64 hex digits
        #[arg(value_name = "KEY", value_parser = parse_hash)]
        authority: Hash,
        /// The region
        #[arg(value_name = "REGION")]
        region: String,
    },
}

/// `cairn mandate propose`
#[derive(Debug, Args)]
pub struct Propose {
    /// What is to be done
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    draft: drafts::Proposal,
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    match command {
        Command::Propose(propose) => {
            let act = read(&propose.file)?.body();
            let key = granter_key(&session, &propose.draft.key)?;
            let entry = drafts::compose(&session, act.kind, act.subject, act.body, &key);
            drafts::write(&propose.draft.out, &entry)?;
            tell(global, &session, &entry, None)
        }
        Command::Approve(approve) => {
            let mut entry = drafts::read(&approve.draft)?;
            let key = granter_key(&session, &approve.key)?;
            in_words(&entry)?;
            drafts::sign(&session, &mut entry, &key);
            drafts::write(&approve.draft, &entry)?;
            tell(global, &session, &entry, None)
        }
        Command::Submit { draft } => {
            let entry = drafts::read(&draft)?;
            in_words(&entry)?;
            let (signed, required) = (entry.signatures.len(), policy(&session)?.required);
            if signed < required as usize {
                return Err(Failure::QuorumNotMet(format!(
                    "{signed} of the {required} granters that are needed have signed; the next one \
                     signs with: cairn mandate approve {} --key <author key>",
                    draft.display()
                )));
            }
            let status = session.submit(&entry, v1::WaitFor::Certified).await?;
            tell(global, &session, &entry, Some(&status))
        }
        Command::Show { authority, region } => show(global, &session, &authority, &region).await,
    }
}

fn read(path: &Path) -> Result<Act, Failure> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::Failed(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    toml::from_str(&text).map_err(|error| wrong(&error))
}

fn policy(session: &Session) -> Result<&v1::MandatePolicy, Failure> {
    session
        .chain
        .genesis
        .mandate_policy
        .as_ref()
        .ok_or_else(|| {
            let message =
                "the genesis of this ledger names nobody who grants mandates: those in it stand";
            Failure::Failed(message.to_owned())
        })
}

/// A key file's key, which must be that of a granter.
fn granter_key(session: &Session, path: &Path) -> Result<SigningKey, Failure> {
    let key = key_file::author(path)?;
    let public = key.verifying_key().to_bytes();
    if policy(session)?
        .granters
        .iter()
        .any(|granter| *granter == public[..])
    {
        return Ok(key);
    }
    Err(Failure::Failed(format!(
        "{} is no granter's key, and its signature would make the draft void; cairn genesis show lists \
         the granters",
        path.display()
    )))
}

/// What a draft does and who signed it.
#[derive(Debug, Serialize)]
struct Told {
    what: String,
    signed_by: Vec<String>,
    needed: u32,
    leaf_index: Option<u64>,
    height: Option<u64>,
}

fn tell(
    global: &Global,
    session: &Session,
    entry: &v1::SignedEntry,
    status: Option<&v1::EntryStatus>,
) -> Result<(), Failure> {
    let authors = &session.chain.genesis.authors;
    let name = |signature: &v1::Signature| {
        let author = authors
            .iter()
            .find(|author| author.public_key == signature.public_key);
        author.map_or_else(
            || hex::encode(&signature.public_key),
            |author| author.name.clone(),
        )
    };
    let told = Told {
        what: in_words(entry)?,
        signed_by: entry.signatures.iter().map(name).collect(),
        needed: policy(session)?.required,
        leaf_index: status.map(|status| status.leaf_index),
        height: status.map(|status| status.height),
    };
    output::print(global, &told, |told| {
        let mut lines = vec![
            line("what", &told.what),
            line("signed by", told.signed_by.join(", ")),
            line("needed", format!("{} granters", told.needed)),
        ];
        lines.extend(
            told.height
                .map(|height| line("certified in block", count(height))),
        );
        lines.extend(told.leaf_index.map(|leaf| line("leaf", count(leaf))));
        lines
    });
    Ok(())
}

/// A mandate and its region's rule, as the certified map has them.
#[derive(Debug, Serialize)]
struct Shown {
    authority: String,
    region: String,
    mandate: &'static str,
    reasons: Vec<String>,
    statuses: Vec<String>,
    approver_role: String,
    max_duration_ms: u64,
    check_ins: Option<u32>,
    paper_validity_ms: Option<u64>,
}

async fn show(
    global: &Global,
    session: &Session,
    authority: &Hash,
    region: &str,
) -> Result<(), Failure> {
    let malformed = |error| Failure::InvalidProof(format!("the map's value: {error}"));
    let key = mandate_key(authority.as_bytes(), region);
    let value = session.map_value(MANDATE_NAMESPACE, &key).await?.value;
    let Some(value) = value else {
        return Err(Failure::NotFound(format!(
            "{authority} has no mandate for {region}, and never had one: that is proven"
        )));
    };
    let state: v1::MandateState = canonical::decode(&value).map_err(malformed)?;
    let mandate = state.mandate.unwrap_or_default();
    let rule = session
        .map_value(REGION_RULE_NAMESPACE, region.as_bytes())
        .await?
        .value;
    let rule: Option<v1::RegionRuleState> = rule
        .map(|value| canonical::decode(&value))
        .transpose()
        .map_err(malformed)?;
    let rule = rule.and_then(|state| state.rule);
    let small = |text: String| text.to_lowercase();
    let shown = Shown {
        authority: authority.to_string(),
        region: region.to_owned(),
        mandate: if state.revoked { "revoked" } else { "in force" },
        statuses: mandate
            .statuses()
            .map(|status| small(format!("{status:?}")))
            .collect(),
        approver_role: match mandate.approver_role() {
            v1::Role::Unspecified => "nobody".to_owned(),
            role => small(format!("{role:?}")),
        },
        reasons: mandate.reasons,
        max_duration_ms: mandate.max_duration_ms,
        check_ins: rule.as_ref().map(|rule| rule.check_ins),
        paper_validity_ms: rule.as_ref().map(|rule| rule.paper_validity_ms),
    };
    output::print(global, &shown, |shown| {
        let days = |ms: u64| format!("{} days", ms / (24 * 3_600_000));
        let mut lines = vec![
            line("mandate", shown.mandate),
            line("region", &shown.region),
            line("reasons", shown.reasons.join(", ")),
            line("statuses", shown.statuses.join(", ")),
            line("approved by", &shown.approver_role),
            line("at most", days(shown.max_duration_ms)),
        ];
        lines.extend(
            shown
                .check_ins
                .map(|n| line("released after", format!("{n} check-ins"))),
        );
        lines
    });
    Ok(())
}
