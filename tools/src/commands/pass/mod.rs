//! `cairn pass`: a code's status as one QR code, for phones and for paper, and the gate that reads
//! it with no network.
//!
//! What holds here: a pass is made only of what a node proved; a gate needs nothing but its trust
//! file, and its policy where the usual one does not do. What stays out: what a pass is and when it
//! lets through (`cairn_ledger::pass`), and how a gate comes to its trust file (`cairn trust`).

mod page;
mod policy_file;
mod show;
mod verify;

use clap::Subcommand;

use crate::cli::Global;
use crate::exit::Failure;

/// What can be done with passes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch a code's status with its proof, and show the pass as a QR code
    #[command(after_help = "\
Examples:
  cairn pass show 9f03…07 --genesis genesis.bin
  cairn pass show 9f03…07 --png pass.png --salt 41d2…c0 --genesis genesis.bin
  cairn pass show 9f03…07 --paper pass.html --genesis genesis.bin

A pass that an ID card is to match needs the salt that the holder got with the code. The page for
paper holds the same pass with a mark; how old it may be is said by each gate's policy.")]
    Show(show::Show),
    /// Verify passes with nothing but a trust file: whether they let through, how old, and why
    #[command(after_help = "\
Examples:
  cairn pass verify CAIRN1:… --trust gate.trust
  cairn pass verify --from scanned.txt --trust gate.trust --policy gate.toml -o json
  scanner | cairn pass verify --trust gate.trust --policy gate.toml

One pass a line; where an ID card is matched, its number follows behind a tab, or is given with
--id-card for a single pass. Exit code 0 if all let through, 4 if one does not.

A policy, with all that it may hold (every line may be left out; these are examples):
  max_age_s = 3600                  # how long ago the pass was the latest; without: an hour
  clock_tolerance_s = 120           # how far clocks may lie apart; without: two minutes
  accept = [\"green\", \"yellow\"]      # without: green
  regions = [\"suzhou\"]              # of the own ledger; without: all
  id_card = true                    # an ID card must match; without: false
  refusals_of = [\"suzhou\"]          # an order that this region refuses to recognise stops nobody
  [paper]                           # for passes on paper; without: as for others
  max_age_s = 604800
  id_card = true                    # without: true, for anybody's pass can be printed
  [[recognised]]                    # another ledger, once for each
  chain_id = \"5c0f…e1\"
  regions = [\"nanjing\"]
  until = 2027-01-31T00:00:00Z")]
    Verify(verify::Verify),
}

/// Does what the command line says.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Show(args) => show::run(global, args).await,
        Command::Verify(args) => verify::run(global, &args),
    }
}
