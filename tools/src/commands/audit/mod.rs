//! `cairn audit`: what an auditor asks of a ledger that others keep.
//!
//! What holds here: nothing of a node is trusted; what is shown was verified here, and what is said
//! to be complete was proven to be.

mod acts;
mod authority;
mod code;
mod replay;
mod spikes;

use clap::Subcommand;

use crate::cli::Global;
use crate::commands::equivocations::Evidence;
use crate::exit::Failure;

/// `cairn audit …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replay every block from the genesis and compare headers, outcomes and certificates
    #[command(
        after_help = "Restricted bodies are shown by auditors' endpoints only: point --node to one.\n\n\
                      Example:\n  cairn audit replay --node http://127.0.0.1:7501 --genesis \
                      genesis.bin"
    )]
    Replay {
        /// Only up to this block
        #[arg(long, value_name = "HEIGHT")]
        until: Option<u64>,
    },
    /// List all that an authority did in a time, with the proof that nothing is left out
    #[command(
        after_help = "Examples:\n  cairn audit authority 3f07…c2 --from 2026-06-01 --to 2026-07-01\n  \
                      cairn audit authority 3f07…c2 -o json > orders.jsonl"
    )]
    Authority(authority::Authority),
    /// Show every change of one code, found by replaying the ledger
    #[command(
        after_help = "Restricted bodies are shown by auditors' endpoints only: point --node to one.\n\n\
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
        Command::Replay { until } => replay::run(global, until).await,
        Command::Authority(authority) => authority.run(global).await,
        Command::Code(code) => code.run(global).await,
        Command::Spikes(spikes) => spikes.run(global).await,
        Command::Evidence(evidence) => evidence.run(global).await,
    }
}
