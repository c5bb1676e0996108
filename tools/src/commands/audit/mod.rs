//! `cairn audit`: what an auditor asks of a ledger that others keep.
//!
//! What holds here: nothing of a node is trusted; what is shown was verified here, and what is said
//! to be complete was proven to be.

mod acts;
mod authority;
mod bodies;
mod code;
mod replay;
mod spikes;

use std::path::PathBuf;

use clap::Subcommand;

pub use acts::parse_time;
use bodies::Bodies;

use crate::cli::Global;
use crate::commands::equivocations::Evidence;
use crate::exit::Failure;

/// `cairn audit …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replay every block from the genesis and compare headers, outcomes and certificates
    #[command(
        after_help = "Restricted bodies are shown by auditors' endpoints only: point --node to one. \
                      Bodies that granters had erased are in no node: whoever kept them gives their \
                      folder.\n\nExamples:\n  cairn audit replay --node http://127.0.0.1:7501 \
                      --genesis genesis.bin\n  cairn entry get 7be1…04 --body-out bodies/7be1…04 \
                      --node http://127.0.0.1:7501\n  cairn audit replay --node \
                      http://127.0.0.1:7501 --bodies bodies"
    )]
    Replay {
        /// Only up to this block
        #[arg(long, value_name = "HEIGHT")]
        until: Option<u64>,
        /// Bodies that nodes do not have any more: a file each, named by the entry's id
        #[arg(long, value_name = "FOLDER")]
        bodies: Option<PathBuf>,
    },
    /// List all that an authority did in a time, with the proof that nothing is left out
    #[command(
        after_help = "Examples:\n  cairn audit authority 3f07…c2 --from 2026-06-01 --to 2026-07-01\n  \
                      cairn audit authority 3f07…c2 -o json > orders.jsonl"
    )]
    Authority(authority::Authority),
    /// Show every change of one code, with the proof that nothing is left out
    #[command(
        after_help = "Histories are shown by auditors' endpoints only: point --node to one.\n\n\
                      Example:\n  cairn audit code 9f02…aa --node http://127.0.0.1:7501"
    )]
    Code(code::Code),
    /// Show days on which an authority changed far more codes than on its other days
    #[command(after_help = "Example:\n  cairn audit spikes 3f07…c2 --from 2026-01-01 --times 10")]
    Spikes(spikes::Spikes),
    /// Show, and export, proofs that a member cosigned two headers of one height
    #[command(
        after_help = "Examples:\n  cairn audit evidence --out case.evidence --genesis genesis.bin\n  \
                      cairn audit evidence verify case.evidence --chain-id 5c0f…e1"
    )]
    Evidence(Evidence),
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Replay { until, bodies } => replay::run(global, until, &Bodies::new(bodies)).await,
        Command::Authority(authority) => authority.run(global).await,
        Command::Code(code) => code.run(global).await,
        Command::Spikes(spikes) => spikes.run(global).await,
        Command::Evidence(evidence) => evidence.run(global).await,
    }
}
