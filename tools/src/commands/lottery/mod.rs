//! `cairn lottery`: from the rules to a rank that anybody can check.
//!
//! What holds here: what is printed of a lottery was proven under a certified checkpoint first;
//! steps that take many entries (`register`, `publish`) can be cut short at any moment and run
//! again. What stays out: the rules themselves (`cairn_ledger::lottery`).

mod beacon;
mod check;
mod cohort;
mod open;
mod publish;
pub mod receipts;
mod recompute;
mod record;
mod register;
mod report;
mod roster;
mod rules_file;
mod show;
mod state;
mod steps;

use clap::Subcommand;

use crate::cli::Global;
use crate::exit::Failure;

pub use steps::document_hash;

/// What can be done with lotteries.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open a lottery: from then on nobody changes its rules
    #[command(after_help = "\
Example:
  cairn lottery open --rules rules.toml --organiser-key organiser.key --notary-key notary.key

rules.toml, all keys in hex as `cairn key show` prints them:
  title = \"Masks for Suzhou\"
  identity_rule = \"resident id, 18 characters, X in upper case\"
  rows_per_batch = 1000
  max_rows = 600000
  with_dice = true
  contribution_window_ms = 60000
  beacon_margin_ms = 600000
  notary = \"…\"
  registrar = \"…\"
  institute = \"…\"
  registrar_tag_key_commitment = \"…\"
  notary_tag_key_commitment = \"…\"
  [[tier]]
  name = \"everybody\"
  quota = 100000
  [[contributor]]
  institution = \"Institute\"
  seed_key = \"…\"
  seed_key_proof = \"…\"
  [beacon]
  chain_hash = \"…\"
  public_key = \"…\"
  genesis_time_s = 1692803367
  period_s = 3")]
    Open(open::Open),
    /// Register everybody in a CSV file; goes on where an earlier run stopped
    #[command(after_help = "\
Example:
  cairn lottery register ID --csv applicants.csv --identity-column id \\
    --registrar-key registrar.key --registrar-tag-key registrar-tag.key \\
    --notary-tag-key notary-tag.key --receipts receipts.csv

The receipts hold every applicant's salt. Without their salt nobody can show which row is theirs:
keep the file safe, and hand each applicant their line.")]
    Register(register::Register),
    /// Freeze the roster: no row can be added from then on
    #[command(after_help = "\
Example:
  cairn lottery freeze ID --registrar-key registrar.key --notary-key notary.key")]
    Freeze(steps::Freeze),
    /// Record the notary's dice
    #[command(after_help = "\
Example:
  cairn lottery dice ID --notary-key notary.key --digits 3,1,4,1,5 --evidence throw.mp4")]
    Dice(steps::Dice),
    /// Contribute to the seed
    #[command(after_help = "\
Example:
  cairn lottery contribute ID --seed-key institute-seed.key --author-key institute.key")]
    Contribute(steps::Contribute),
    /// Wait for the close of contributions, and have the chain show that it was in time
    #[command(after_help = "\
Example:
  cairn lottery close ID --author-key notary.key

Start it before the contributions close. The round is accepted only once the chain itself shows that
contributions were closed before anybody could know it; where nobody else writes, this command
writes the blocks that show it.")]
    Close(beacon::Close),
    /// Hand in the beacon's round that completes the seed; waits for its time
    #[command(after_help = "\
Examples:
  cairn lottery beacon ID --author-key notary.key --from-file round.json
  cairn lottery beacon ID --author-key notary.key --dev-key beacon.key

With a public beacon: run `cairn lottery close` first, and this one when the round is out. With
--dev-key, a development beacon and not a public one, this command does both.")]
    Beacon(beacon::Beacon),
    /// Publish the winners batch by batch; goes on where an earlier run stopped
    #[command(after_help = "\
Example:
  cairn lottery publish ID --institute-key institute.key")]
    Publish(publish::Publish),
    /// Record the notary's certificate
    #[command(after_help = "\
Example:
  cairn lottery certify ID --notary-key notary.key --document certificate.pdf")]
    Certify(steps::Certify),
    /// Show how far a lottery is
    #[command(after_help = "\
Example:
  cairn lottery show ID --genesis genesis.bin")]
    Show(show::Show),
    /// List all lotteries, oldest first
    #[command(after_help = "\
Example:
  cairn lottery list --genesis genesis.bin")]
    List,
    /// Prove and explain where one applicant stands
    #[command(after_help = "\
Example:
  cairn lottery check ID --receipts receipts.csv --serial 17 --genesis genesis.bin")]
    Check(check::Check),
    /// Draw again from what the ledger holds, and compare everything
    #[command(after_help = "\
Example:
  cairn lottery recompute ID --chain-id HEX")]
    Recompute(recompute::Recompute),
}

/// Does what the command line says.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Open(args) => open::run(global, args).await,
        Command::Register(args) => register::run(global, args).await,
        Command::Freeze(args) => steps::freeze(global, args).await,
        Command::Dice(args) => steps::dice(global, args).await,
        Command::Contribute(args) => steps::contribute(global, args).await,
        Command::Close(args) => beacon::close(global, args).await,
        Command::Beacon(args) => beacon::run(global, args).await,
        Command::Publish(args) => publish::run(global, args).await,
        Command::Certify(args) => steps::certify(global, args).await,
        Command::Show(args) => show::show(global, args).await,
        Command::List => show::list(global).await,
        Command::Check(args) => check::run(global, args).await,
        Command::Recompute(args) => recompute::run(global, args).await,
    }
}
