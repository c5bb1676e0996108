//! `cairn code order`: one order for many codes, on a stated ground, all or nothing.
//!
//! What holds here: each code's present state is proven first, so the order names the sequence that
//! it expects and a code that somebody else changed meanwhile stops it; codes that were never
//! issued, or are of another region, are named by their lines before anything is submitted. An order
//! with a receipt is gone on with, after whatever stopped it, and is never given twice.

mod chunks;
mod dry_run;
mod outcome;
mod receipt;

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::code::rules::MAX_ORDER_CODES;
use cairn_ledger::code::{DAY_MS, changes_root};
use cairn_ledger::hash::{self, Hash};
use cairn_proto::v1::{self, CodeStatus, EntryKind, EntryState, OrderMode, WaitFor};
use clap::Args;
use ed25519_dalek::SigningKey;

use super::codes_file::{self, Listed};
use super::{BodyShown, Colour, in_words, parse_text, states};
use crate::cli::Global;
use crate::commands::in_order;
use crate::commands::lottery::document_hash;
use crate::commands::problems::Problems;
use crate::exit::Failure;
use crate::output;
use crate::session::{Session, parse_hash, sign_entry};
use crate::submit::accepted;
use crate::{key_file, progress, system};
use chunks::Chunks;
use outcome::{Ordered, Outcome};
use receipt::{Asked, Given, Held};

/// What `order` takes.
#[derive(Debug, Args)]
pub struct Order {
    /// The authority's author key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The author key of an approver of the role that the mandate names; without, if it names none
    #[arg(long, value_name = "FILE")]
    approver_key: Option<PathBuf>,
    /// The region of the codes
    #[arg(long, value_name = "NAME")]
    region: String,
    /// The reason, as the mandate names it
    #[arg(long, value_name = "REASON")]
    reason: String,
    /// The legal basis
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    basis: String,
    /// The new status
    #[arg(long, value_enum)]
    status: Colour,
    /// The codes: a CSV file with a column "code"
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Take at most so many codes of the file
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Pass over the first codes of the file
    #[arg(long, value_name = "N", default_value = "0")]
    skip: usize,
    /// The status lapses after so many days
    #[arg(
        long,
        value_name = "DAYS",
        requires = "on_lapse",
        value_parser = clap::value_parser!(u64).range(1..=36_500)
    )]
    lapses_days: Option<u64>,
    /// What holds when it has lapsed
    #[arg(long, value_enum, requires = "lapses_days")]
    on_lapse: Option<Colour>,
    /// The evidence for the order; its hash goes on the ledger. Without: the hash of nothing
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// Where those concerned can appeal
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    contact: String,
    /// Who gives the order: a number or a pseudonym, never a name
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    operator: String,
    /// Which edition of its rules the authority applies
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    rule_version: String,
    /// The order of the same region that this one corrects
    #[arg(long, value_name = "ORDER", value_parser = parse_hash)]
    corrects: Option<Hash>,
    /// Change each code that can be changed, instead of all or none
    #[arg(long)]
    code_by_code: bool,
    /// Where the order is kept before it leaves, and its receipt at the end: the same command with this
    /// file goes on with what was interrupted. Without it, an interrupted order has to be given anew
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Only say what would be refused, and why; exit 1 if anything would be
    #[arg(long, conflicts_with = "receipt")]
    dry_run: bool,
    /// Who may read the order's body and its codes on the ledger
    #[arg(long, value_enum, default_value = "restricted")]
    visibility: BodyShown,
}

/// A code and the sequence that it is expected to have.
type Change = ([u8; 32], u64);

/// Who signs.
struct Keys {
    authority: SigningKey,
    approver: Option<SigningKey>,
}

impl Keys {
    fn read(args: &Order) -> Result<Keys, Failure> {
        let approver = args.approver_key.as_deref().map(key_file::author);
        Ok(Keys {
            authority: key_file::author(&args.key)?,
            approver: approver.transpose()?,
        })
    }
}

/// Submits an order with all of its changes, or what is missing of it.
pub async fn run(global: &Global, args: Order) -> Result<(), Failure> {
    let started = Instant::now();
    let keys = Keys::read(&args)?;
    if args.dry_run {
        return dry_run::run(global, &args, &keys).await;
    }
    let listed = codes_file::read(&args.from)?;
    let listed = args.taken(listed)?;
    let session = Session::connect(global).await?;
    let (given, handed_in) = begin(&session, &args, &keys, &listed).await?;
    let mut chunks = Chunks::new(
        &session,
        given.id(),
        args.visibility.into(),
        &keys.authority,
        &given.changes,
    );
    let mut bar = progress::bar(global, given.changes.len() as u64, "changes");
    let submitted = in_order::submit(&session, &mut chunks, &mut bar).await;
    let path = args.receipt.as_deref();
    let submitted = submitted.map_err(|failure| interrupted(failure, &given, path))?;
    let certified_after = handed_in.map(|since| since.elapsed().as_secs_f64());
    let outcome = Outcome::of(&session, &given, &chunks.proven).await?;
    if let Some(path) = path {
        let _held = Held::of(path)?;
        given.write(path, Some(&outcome))?;
    }
    let ordered = Ordered {
        order_id: given.id().to_string(),
        leaf_index: outcome.leaf_index,
        height: outcome.height,
        status: in_words(args.status.into()),
        count: given.changes.len() as u64,
        changed: outcome.changed,
        refused: outcome.refused,
        refusals: outcome.refusals,
        entries: submitted + u64::from(handed_in.is_some()),
        receipt: args.receipt.map(|path| path.display().to_string()),
        certified_after,
        seconds: started.elapsed().as_secs_f64(),
    };
    output::print(global, &ordered, Ordered::table);
    Ok(())
}

/// The order, once the ledger has accepted it: that of the receipt, or a new one, which is on the disk
/// before it leaves. Since when, if this run handed it in.
async fn begin(
    session: &Session,
    args: &Order,
    keys: &Keys,
    listed: &[Listed],
) -> Result<(Given, Option<Instant>), Failure> {
    let path = args.receipt.as_deref();
    let held = path.map(Held::of).transpose()?;
    let kept = path.map(Given::read).transpose()?.flatten();
    if let (Some(path), Some(mut given)) = (path, kept) {
        same(session, args, keys, listed, &given, path)?;
        let (found, checkpoint) = states::order(session, &given.id()).await?;
        if found.is_some() {
            return Ok((given, None));
        }
        // Of an order that is not on the ledger when its time is over, nothing will ever be there.
        if given.envelope()?.not_after_ms >= checkpoint.header().timestamp_ms {
            if given.approved_by(keys.approver.as_ref(), session)? {
                given.write(path, None)?;
            }
            drop(held);
            let since = Instant::now();
            record(session, &given, Some(path)).await?;
            return Ok((given, Some(since)));
        }
    }
    let given = sign(session, args, keys, listed).await?;
    if let Some(path) = path {
        given.write(path, None)?;
    }
    drop(held);
    let since = Instant::now();
    record(session, &given, path).await?;
    Ok((given, Some(since)))
}

/// Fails unless the receipt is of this very order.
fn same(
    session: &Session,
    args: &Order,
    keys: &Keys,
    listed: &[Listed],
    given: &Given,
    path: &Path,
) -> Result<(), Failure> {
    let order = args.compose(&given.changes, given.signed_at_ms)?;
    let codes: Vec<[u8; 32]> = listed.iter().map(|listed| listed.code).collect();
    let asked = Asked {
        chain_id: &session.chain.id,
        codes: &codes,
        order: &order,
        author: keys.authority.verifying_key().to_bytes(),
        visibility: args.visibility.into(),
    };
    given.same_as(&asked, path)
}

/// A new order, with the sequences that its codes have now.
async fn sign(
    session: &Session,
    args: &Order,
    keys: &Keys,
    listed: &[Listed],
) -> Result<Given, Failure> {
    let mut problems = Problems::default();
    let changes = changes(session, args, listed, &mut problems).await?;
    if !problems.is_empty() {
        return Err(problems.into_failure(&args.from));
    }
    let signed_at_ms = system::now_ms();
    let order = args.compose(&changes, signed_at_ms)?;
    let entry = sign_entry(
        &session.chain,
        EntryKind::StatusOrder,
        args.visibility.into(),
        Bytes::new(),
        canonical::encode(&order),
        &keys.authority,
        &keys.approver.iter().collect::<Vec<_>>(),
    );
    Ok(Given {
        chain_id: session.chain.id,
        signed_at_ms,
        entry,
        changes,
    })
}

/// Hands the order in. One that the rules refuse leaves no receipt: there is nothing to go on with.
async fn record(session: &Session, given: &Given, path: Option<&Path>) -> Result<(), Failure> {
    let decided = session.decide(&given.entry, WaitFor::Certified).await;
    let status = decided.map_err(|failure| interrupted(failure, given, path))?;
    if let (EntryState::Rejected, Some(path)) = (status.state(), path) {
        Given::discard(path)?;
    }
    accepted(&status)
}

/// What is left of an order that stopped half way, in words.
fn interrupted(failure: Failure, given: &Given, path: Option<&Path>) -> Failure {
    let id = given.id();
    let next = match path {
        Some(path) => format!(
            "run the same again to go on with it; if its codes were changed by others meanwhile, give \
             a new order, with another file than {} as --receipt",
            path.display()
        ),
        None => {
            "look at its codes before you give another one; with --receipt FILE an order can be \
                 gone on with"
                .to_owned()
        }
    };
    failure.map(|message| format!("{message}; the order {id} was not seen to take effect: {next}"))
}

/// The changes of those codes that can be changed, by ascending code; the others are noted.
async fn changes(
    session: &Session,
    args: &Order,
    listed: &[Listed],
    problems: &mut Problems,
) -> Result<Vec<Change>, Failure> {
    let found = states::of_region(session, &args.region, listed, problems).await?;
    let changes = found
        .into_iter()
        .map(|(code, state)| (code, state.sequence));
    let mut changes: Vec<Change> = changes.collect();
    changes.sort_unstable();
    Ok(changes)
}

impl Order {
    /// Those of the listed codes that the order is about.
    fn taken(&self, listed: Vec<Listed>) -> Result<Vec<Listed>, Failure> {
        let most = self.limit.unwrap_or(usize::MAX);
        let (path, found) = (self.from.display(), listed.len());
        let taken: Vec<Listed> = listed.into_iter().skip(self.skip).take(most).collect();
        match taken.len() {
            0 => Err(Failure::Failed(format!(
                "{path} has {found} codes, and --skip and --limit leave none of them"
            ))),
            number if number > MAX_ORDER_CODES as usize => Err(Failure::Failed(format!(
                "{path}: {number} codes, and one order has at most {MAX_ORDER_CODES}; give several, \
                 with --skip and --limit"
            ))),
            _ => Ok(taken),
        }
    }

    /// The order for these changes, as it is signed at that time.
    fn compose(&self, changes: &[Change], signed_at_ms: u64) -> Result<v1::StatusOrder, Failure> {
        let evidence = match &self.evidence {
            Some(path) => document_hash(path)?,
            None => hash::plain(&[]),
        };
        let lapses_at_ms = self.lapses_days.map(|days| signed_at_ms + days * DAY_MS);
        let on_lapse = self
            .on_lapse
            .map_or(CodeStatus::Unspecified, CodeStatus::from);
        Ok(v1::StatusOrder {
            region: self.region.clone(),
            reason: self.reason.clone(),
            legal_basis: self.basis.clone(),
            status: CodeStatus::from(self.status).into(),
            lapses_at_ms: lapses_at_ms.unwrap_or(0),
            on_lapse: on_lapse.into(),
            evidence_commitment: evidence.to_bytes(),
            appeal_contact: self.contact.clone(),
            // Fewer than MAX_ORDER_CODES.
            count: u32::try_from(changes.len()).unwrap_or(u32::MAX),
            changes_root: changes_root(changes.iter().copied()).to_bytes(),
            mode: match self.code_by_code {
                true => OrderMode::CodeByCode.into(),
                false => OrderMode::AllOrNothing.into(),
            },
            operator: self.operator.clone(),
            rule_version: self.rule_version.clone(),
            corrects: self.corrects.map(Hash::to_bytes).unwrap_or_default(),
        })
    }
}
