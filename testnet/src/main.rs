//! The program `cairn-testnet`: a whole ledger on one machine.
//!
//! What holds here: it only starts and watches the programs that institutions and users have,
//! `cairn-node` and `cairn`, and reads what they print, so that whatever it shows, anybody can do by
//! hand. The one exception is `chaos`, whose clients sign and verify some hundred entries a second
//! and link the ledger. What stays out: rules, proofs and cryptography.

mod admin;
mod applicants;
mod cairn;
mod chaos;
mod cluster;
mod codes;
mod demo;
mod institutions;
mod keys;
mod layout;
mod offices;
mod pids;
mod plan;
mod ports;
mod programs;
mod rules;
mod scenarios;
mod signals;
mod standing;
mod steps;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::layout::Layout;

/// A Cairn ledger on one machine, with real nodes that talk over libp2p on loopback.
#[derive(Debug, Parser)]
#[command(name = "cairn-testnet", version, after_help = EXAMPLES)]
struct Cli {
    /// Where testnets keep their keys, databases and logs
    #[arg(
        long,
        global = true,
        env = "CAIRN_TESTNET_DATA",
        default_value = "testnet/data",
        value_name = "DIR"
    )]
    data: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  testnet/demo                                   the whole story, 543,384 applicants
  testnet/demo --applicants 2000 --winners 300   the same, small
  testnet/scenarios/housing                      another story
  testnet/up                                     a cluster that stays
  testnet/status
  testnet/down";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a lottery, codes and evidence on a fresh cluster, and verify all of it from outside
    Demo(demo::Options),
    /// Kill, cut off or damage nodes, or fill their disks, and check that nothing acknowledged is lost
    Chaos(chaos::Options),
    /// Run one story of a lottery on a fresh cluster, and check how it ends
    Scenario(scenarios::Options),
    /// Start a cluster that stays; makes its keys and genesis the first time
    Up(Up),
    /// Stop a cluster
    Down(Down),
    /// Show a cluster's nodes
    Status(Status),
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  testnet/up\n  testnet/up seven --nodes 7")]
struct Up {
    /// The cluster's name, a folder below the data folder
    #[arg(default_value = "local")]
    name: String,
    /// How many institutions, when the cluster is made
    #[arg(long, value_name = "N", value_parser = institutions::parse_count)]
    nodes: Option<usize>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  testnet/down\n  testnet/down demo --delete")]
struct Down {
    /// The cluster's name
    #[arg(default_value = "local")]
    name: String,
    /// Delete its keys, databases and logs too
    #[arg(long)]
    delete: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  testnet/status\n  testnet/status demo --json")]
struct Status {
    /// The cluster's name
    #[arg(default_value = "local")]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let layout = |name: &str| Layout::new(&cli.data, name);
    match cli.command {
        Command::Demo(options) => demo::run(layout("demo")?, options).await,
        Command::Chaos(options) => chaos::run(layout("chaos")?, options).await,
        Command::Scenario(options) => scenarios::run(layout("scenario")?, options).await,
        Command::Up(Up { name, nodes }) => standing::up(layout(&name)?, nodes).await,
        Command::Down(Down { name, delete }) => standing::down(layout(&name)?, delete).await,
        Command::Status(Status { name, json }) => standing::status(layout(&name)?, json).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
