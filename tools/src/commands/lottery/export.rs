//! `cairn lottery export`: the public record of a lottery as one file.
//!
//! What holds here: what is written was verified and computed again before; the file needs nothing
//! but the chain id to be verified once more, by anybody, without a node.

use std::path::PathBuf;

use cairn_ledger::hash::Hash;
use clap::Args;

use super::facts::Facts;
use super::fetch::fetch;
use super::history::History;
use super::record::{self, Record};
use super::state::stage_in_words;
use crate::cli::Global;
use crate::exit::Failure;
use crate::session::{Session, parse_hash};

/// What `export` takes.
#[derive(Debug, Args)]
pub struct Export {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// Where the record is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes the record.
pub async fn run(global: &Global, args: Export) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let file = fetch(global, &session, &args.id).await?;
    let bytes = record::encode(&file);
    let record =
        Record::of(&session.chain, file).map_err(|failure| failure.during(session.node()))?;
    History::of(&session.chain, &record)?;
    let path = args.out.display();
    std::fs::write(&args.out, &bytes)
        .map_err(|error| Failure::Failed(format!("cannot write {path}: {error}")))?;
    let (state, header) = (&record.lottery.state, record.lottery.checkpoint.header());
    Facts::default()
        .with("lottery_id", args.id.to_string())
        .with("stage", stage_in_words(state.stage()))
        .with("rows", state.rows)
        .with("entries", record.entries.len())
        .with("height", header.height)
        .with("bytes", bytes.len())
        .with("file", path.to_string())
        .with(
            "check_it_with",
            format!("cairn lottery recompute --from {path}"),
        )
        .print(global);
    Ok(())
}
