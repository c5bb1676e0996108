//! The command line: flags that every noun shares, and the nouns.
//!
//! What holds here: a flag means the same behind every noun, and every `--help` ends with an
//! example. What stays out: what the nouns do (`commands`).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{
    audit, checkpoint, code, entry, evidence, genesis, intake, key, lottery, mandate, member, pass,
    proof, trust,
};

/// Where a node of a testnet listens.
const DEFAULT_NODE: &str = "http://127.0.0.1:7401";

const AFTER_HELP: &str = "\
Exit codes:
   0  done; and where something was checked, it is so
   1  failed; also an entry that a rule refused
   2  the command line is wrong
   3  not found, or not yet committed
   4  a gate refuses a pass
  10  a proof is invalid
  11  a certificate lacks the quorum
  12  a fork: two certified headers that contradict each other

Examples:
  cairn key new --purpose author --out notary.key
  cairn checkpoint show --chain-id 5c0f…e1
  cairn evidence show --file minutes.pdf --genesis genesis.bin -o json";

/// Cairn: a ledger that several institutions keep together and anyone can check.
#[derive(Debug, Parser)]
#[command(name = "cairn", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Flags of every noun.
    #[command(flatten)]
    pub global: Global,
    /// What it is about.
    #[command(subcommand)]
    pub noun: Noun,
}

/// Flags that stand before or behind any noun.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Flags of every command")]
pub struct Global {
    /// Nodes to ask: the first that answers. Repeat the flag, or separate with commas
    #[arg(
        long = "node",
        global = true,
        value_name = "URL",
        env = "CAIRN_NODE",
        value_delimiter = ',',
        default_value = DEFAULT_NODE
    )]
    pub nodes: Vec<String>,
    /// The ledger that you trust: the hash of its genesis, 64 hex digits
    #[arg(long, global = true, value_name = "HEX", env = "CAIRN_CHAIN_ID")]
    pub chain_id: Option<String>,
    /// The same as its genesis file
    #[arg(long, global = true, value_name = "FILE", env = "CAIRN_GENESIS")]
    pub genesis: Option<PathBuf>,
    /// Give up after so long without an answer
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value = "60",
        value_parser = seconds
    )]
    pub timeout: Duration,
    /// How results are printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// No progress on stderr
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One line of JSON per result.
    Json,
}

/// What a command is about.
#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Make and show key files
    #[command(
        subcommand,
        after_help = "Example:\n  cairn key new --purpose author --out notary.key"
    )]
    Key(key::Command),
    /// Make, show and check the genesis that a ledger starts from
    #[command(
        subcommand,
        after_help = "Example:\n  cairn genesis new --plan plan.toml --out genesis.bin"
    )]
    Genesis(genesis::Command),
    /// Submit entries, and read what was recorded
    #[command(
        subcommand,
        after_help = "Example:\n  cairn entry get 0 --genesis genesis.bin"
    )]
    Entry(entry::Command),
    /// Open, run and check lotteries
    #[command(
        subcommand,
        after_help = "Example:\n  cairn lottery list --genesis genesis.bin"
    )]
    Lottery(lottery::Command),
    /// Issue codes, order changes of their status, and ask for it
    #[command(
        subcommand,
        after_help = "Example:\n  cairn code status 9f…07 --genesis genesis.bin"
    )]
    Code(code::Command),
    /// Grant and revoke mandates, set a region's rule, erase bodies: what granters sign together
    #[command(
        subcommand,
        after_help = "Example:\n  cairn mandate propose grant.toml --key notary.key --out grant.draft"
    )]
    Mandate(mandate::Command),
    /// Keep a field station's journal without a network, and bring it to the ledger later
    #[command(
        subcommand,
        after_help = "Example:\n  cairn intake test 9f03…07 --journal station.journal --key station.key"
    )]
    Intake(intake::Command),
    /// Show a code's pass as a QR code, and verify passes at a gate with no network
    #[command(
        subcommand,
        after_help = "Example:\n  cairn pass verify CAIRN1:… --trust gate.trust --policy gate.toml"
    )]
    Pass(pass::Command),
    /// Make, show and renew the file that a gate with no network knows the members from
    #[command(
        subcommand,
        after_help = "Example:\n  cairn trust export --out gate.trust --genesis genesis.bin"
    )]
    Trust(trust::Command),
    /// Record that a document existed, and show that it was recorded
    #[command(
        subcommand,
        after_help = "Example:\n  cairn evidence show --file minutes.pdf --genesis genesis.bin"
    )]
    Evidence(evidence::Command),
    /// Fetch proofs as files, and verify such files offline
    #[command(
        subcommand,
        after_help = "Example:\n  cairn proof verify entry.proof --chain-id 5c0f…e1"
    )]
    Proof(proof::Command),
    /// Show, follow and compare certified checkpoints
    #[command(
        subcommand,
        after_help = "Example:\n  cairn checkpoint show --genesis genesis.bin"
    )]
    Checkpoint(checkpoint::Command),
    /// Show who certifies, and change it: members, their keys, the policy
    #[command(
        subcommand,
        after_help = "Example:\n  cairn member show --genesis genesis.bin"
    )]
    Member(member::Command),
    /// Replay the chain, list all that an authority did, a code's history, days that stand out
    #[command(
        subcommand,
        after_help = "Example:\n  cairn audit replay --genesis genesis.bin"
    )]
    Audit(audit::Command),
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("must be a whole number of seconds, at least 1".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_ends_with_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let after = command.get_after_help().map(ToString::to_string);
            let after = after.unwrap_or_default();
            assert!(after.contains("Example"), "{path} has no example");
            assert!(after.contains("cairn "), "{path} has no example");
            for below in command.get_subcommands() {
                check(below, &path);
            }
        }
        check(&Cli::command(), "");
    }

    #[test]
    fn shared_flags_stand_before_or_behind_the_noun() {
        let before = ["cairn", "-o", "json", "--node", "http://a:1,http://b:2"];
        let cli = Cli::try_parse_from(before.iter().chain(&["checkpoint", "show"])).unwrap();
        assert_eq!(cli.global.output, Format::Json);
        assert_eq!(cli.global.nodes, ["http://a:1", "http://b:2"]);
        let behind = ["cairn", "checkpoint", "show", "--timeout", "5", "-q"];
        let cli = Cli::try_parse_from(behind).unwrap();
        assert_eq!(cli.global.timeout, Duration::from_secs(5));
        assert!(cli.global.quiet);
        let zero = ["cairn", "checkpoint", "show", "--timeout", "0"];
        assert!(Cli::try_parse_from(zero).is_err());
    }
}
