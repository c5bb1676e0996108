//! `cairn lottery open`: rules that nobody can change from then on.

use std::path::PathBuf;

use bytes::Bytes;
use cairn_ledger::{canonical, entry};
use cairn_proto::v1::{self, EntryKind, Visibility, WaitFor};
use clap::Args;

use super::facts::recorded;
use super::rules_file;
use super::state::Proven;
use crate::cli::Global;
use crate::exit::Failure;
use crate::key_file;
use crate::session::Session;
use crate::submit::{draft, entry_id};

/// What `open` takes.
#[derive(Debug, Args)]
pub struct Open {
    /// The rules, as TOML
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// The organiser's author key
    #[arg(long, value_name = "FILE")]
    organiser_key: PathBuf,
    /// The author key of the notary that the rules name
    #[arg(long, value_name = "FILE")]
    notary_key: PathBuf,
    /// Rehearsals: this nonce instead of a random one, so that the lottery's id can be foreseen
    #[arg(long, value_name = "HEX", value_parser = parse_nonce)]
    nonce: Option<[u8; 16]>,
    /// Rehearsals: until when the entry may be recorded, milliseconds since 1970
    #[arg(long, value_name = "MS")]
    not_after_ms: Option<u64>,
}

fn parse_nonce(text: &str) -> Result<[u8; 16], String> {
    let bytes = hex::decode(text).ok().and_then(|b| b.try_into().ok());
    bytes.ok_or_else(|| "must be 32 hex digits".to_owned())
}

/// Opens a lottery.
pub async fn run(global: &Global, args: Open) -> Result<(), Failure> {
    let rules = read_rules(&args)?;
    let organiser = key_file::author(&args.organiser_key)?;
    let notary = key_file::author(&args.notary_key)?;
    if rules.notary != notary.verifying_key().as_bytes().as_slice() {
        let (file, rules) = (args.notary_key.display(), args.rules.display());
        return Err(Failure::Failed(format!(
            "{file} is not the key of the notary in {rules}"
        )));
    }
    let session = Session::connect(global).await?;
    let mut draft = draft(
        &session.chain,
        EntryKind::LotteryOpen,
        Visibility::Public,
        Bytes::new(),
        canonical::encode(&rules),
    );
    draft.nonce = args.nonce.unwrap_or(draft.nonce);
    draft.not_after_ms = args.not_after_ms.unwrap_or(draft.not_after_ms);
    let entry = entry::compose(&session.chain.id, draft, &organiser, &[&notary]);
    let id = entry_id(&entry);
    let status = session.submit(&entry, WaitFor::Certified).await?;
    let as_opened = |state: &v1::LotteryState| state.rules.as_ref() == Some(&rules);
    let lottery = Proven::wait_until(&session, &id, "the opening", as_opened).await?;
    let facts = recorded(&session, &lottery, &status).await?;
    facts.with("title", rules.title).print(global);
    Ok(())
}

fn read_rules(args: &Open) -> Result<v1::LotteryOpen, Failure> {
    let path = args.rules.display();
    let text = std::fs::read_to_string(&args.rules)
        .map_err(|error| Failure::Failed(format!("{path}: {error}")))?;
    rules_file::parse(&text).map_err(|error| Failure::Failed(format!("{path}: {error}")))
}
