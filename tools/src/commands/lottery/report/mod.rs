//! `cairn lottery report`: the facts of one lottery as one HTML file, in Chinese and in English, fit
//! to be attached to a notarial certificate.
//!
//! What holds here: every figure is from a certified state or an entry that is proven to be in the
//! log, after the whole lottery was computed again (`history`); a lottery whose record does not hold
//! has no report. What stays out: what the ledger does not know, such as who the applicants are.

mod attempt;
mod caveats;
mod html;
mod page;
mod words;

use std::path::PathBuf;

use cairn_ledger::hash;
use clap::Args;

use super::facts::Facts;
use super::history::History;
use super::recompute::Source;
use super::state::stage_in_words;
use crate::cli::Global;
use crate::exit::Failure;

/// What `report` takes.
#[derive(Debug, Args)]
pub struct Report {
    #[command(flatten)]
    source: Source,
    /// Where the report is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Writes the report.
pub async fn run(global: &Global, args: Report) -> Result<(), Failure> {
    let (chain, record, _) = args.source.read(global).await?;
    let history = History::of(&chain, &record)?;
    let text = page::of(&chain, &record, &history)?;
    let path = args.out.display();
    std::fs::write(&args.out, &text)
        .map_err(|error| Failure::Failed(format!("cannot write {path}: {error}")))?;
    let header = record.lottery.checkpoint.header();
    Facts::default()
        .with("lottery_id", record.lottery.id.to_string())
        .with("stage", stage_in_words(record.lottery.state.stage()))
        .with("attempts", history.attempts.len())
        .with("height", header.height)
        .with("file", path.to_string())
        .with("bytes", text.len())
        .with("file_hash", hash::plain(text.as_bytes()).to_string())
        .print(global);
    Ok(())
}
