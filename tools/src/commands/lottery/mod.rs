//! `cairn lottery`: from the rules to a rank that anybody can check.
//!
//! What holds here: what is printed of a lottery was proven under a certified checkpoint first;
//! steps that take many entries (`register`, `publish`) can be cut short at any moment and run
//! again. What stays out: the rules themselves (`cairn_ledger::lottery`).

mod applicant;
mod audit_roster;
mod beacon;
mod check;
mod cohort;
mod counter;
mod export;
pub mod facts;
mod fetch;
mod history;
mod holder_keys;
mod objections;
mod open;
mod openings;
mod present;
mod promote;
mod publish;
mod receipt;
mod receipt_file;
pub mod receipts;
mod recompute;
mod record;
mod redeem;
mod register;
mod report;
mod resident_id;
mod results;
mod roster;
mod round;
mod rules_file;
mod show;
mod standing;
mod state;
mod steps;
mod tag;
mod tag_files;
mod void;
mod watch;

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
    /// Blind identities so that registrar and notary keep their tag keys apart
    #[command(
        subcommand,
        after_help = "Example:\n  cairn lottery tag inner ID --csv applicants.csv --identity-column \
                      id \\\n    --registrar-tag-key registrar-tag.key --out inner.tags"
    )]
    Tag(tag::Command),
    /// Register everybody in a CSV file; goes on where an earlier run stopped
    #[command(after_help = "\
Examples:
  cairn lottery register ID --csv applicants.csv --identity-column id --resident-id \\
    --registrar-key registrar.key --registrar-tag-key registrar-tag.key \\
    --tags outer.tags --with-holder-keys --receipts receipts.csv
  cairn lottery register ID --csv applicants.csv --identity-column id \\
    --registrar-key registrar.key --registrar-tag-key registrar-tag.key \\
    --notary-tag-key notary-tag.key --receipts receipts.csv

outer.tags comes from the notary: cairn lottery tag --help. The second form is for rehearsals, with
both offices' keys on one machine.

The receipts hold every applicant's salt. Without their salt nobody can show which row is theirs:
keep the file safe, and hand each applicant theirs: cairn lottery receipt. Where winners redeem on
the ledger, everybody needs a holder key, their own (--holder-key-column) or one that is made here
(--with-holder-keys); its secret is then in the receipts, and whoever has it can redeem.")]
    Register(register::Register),
    /// Write applicants' receipts, one file each
    #[command(after_help = "\
Examples:
  cairn lottery receipt ID --receipts receipts.csv --serial 17 --out receipt-17.json
  cairn lottery receipt ID --receipts receipts.csv --all --out-dir receipts --with-proof
  cairn lottery receipt ID --receipts receipts.csv --for-audit open-receipts.csv

The last one is the list for the notary (cairn lottery audit-roster): as it is, receipts.csv may hold
the secrets with which anybody could redeem.")]
    Receipt(receipt::Issue),
    /// Compare every row of the ledger's roster with the registrations, off the ledger
    #[command(after_help = "\
Examples:
  cairn lottery audit-roster ID --csv applicants.csv --identity-column id --receipts receipts.csv \\
    --notary-tag-key notary-tag.key --inner inner.tags
  cairn lottery audit-roster ID --csv applicants.csv --identity-column id --receipts receipts.csv \\
    --notary-tag-key notary-tag.key --registrar-tag-key registrar-tag.key

The notary runs it before approving the freeze: rows cannot be taken back.")]
    AuditRoster(audit_roster::AuditRoster),
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
  cairn lottery beacon ID --author-key notary.key --url https://api.drand.sh/CHAIN-HASH
  cairn lottery beacon ID --author-key notary.key --dev-key beacon.key

With a public beacon: run `cairn lottery close` first, and this one when the round is out. With
--dev-key, a development beacon and not a public one, this command does both.")]
    Beacon(beacon::Beacon),
    /// Publish the winners batch by batch; goes on where an earlier run stopped
    #[command(after_help = "\
Example:
  cairn lottery publish ID --institute-key institute.key")]
    Publish(publish::Publish),
    /// Record an objection that somebody brought forward
    #[command(after_help = "\
Example:
  cairn lottery object ID --notary-key notary.key --document objection.pdf --serials 17,44")]
    Object(objections::Object),
    /// List objections, and what was said to them
    #[command(after_help = "\
Example:
  cairn lottery objections ID --genesis genesis.bin")]
    Objections(objections::List),
    /// Rule on an objection
    #[command(after_help = "\
Example:
  cairn lottery rule ID --objection ENTRY --decision upheld --notary-key notary.key \\
    --document ruling.pdf")]
    Rule(objections::Rule),
    /// Record the notary's certificate
    #[command(after_help = "\
Example:
  cairn lottery certify ID --notary-key notary.key --document certificate.pdf")]
    Certify(steps::Certify),
    /// Give places that came free to the next of the waiting list
    #[command(after_help = "\
Example:
  cairn lottery promote ID --notary-key notary.key --vacate 17,44 --document renounced.pdf")]
    Promote(promote::Promote),
    /// End an attempt by members, in public
    #[command(
        subcommand,
        after_help = "Example:\n  cairn lottery void propose ID --reason \"…\" --document minutes.pdf \
                      --key office.key --out void.draft"
    )]
    Void(void::Command),
    /// Show how far a lottery is
    #[command(after_help = "\
Example:
  cairn lottery show ID --genesis genesis.bin")]
    Show(show::Show),
    /// Follow a running lottery: a line for each change, each proven; ends with the lottery
    #[command(after_help = "\
Example:
  cairn lottery watch ID --genesis genesis.bin")]
    Watch(watch::Watch),
    /// Show who drew which rank, in any attempt
    #[command(after_help = "\
Examples:
  cairn lottery results ID --genesis genesis.bin
  cairn lottery results ID --attempt 1 --ranks 20 --genesis genesis.bin")]
    Results(results::Results),
    /// List all lotteries, oldest first
    #[command(after_help = "\
Example:
  cairn lottery list --genesis genesis.bin")]
    List,
    /// Prove and explain where one applicant stands
    #[command(after_help = "\
Examples:
  cairn lottery check receipt-17.json --genesis genesis.bin
  cairn lottery check ID --receipts receipts.csv --serial 17 --genesis genesis.bin

A receipt with a proof in it (cairn lottery receipt --with-proof) and the genesis are enough: no node
is asked, unless with --online.")]
    Check(check::Check),
    /// Show a winner's code for the counter, as a QR code that changes with time
    #[command(after_help = "\
Examples:
  cairn lottery present receipt-17.json --shop 3b6a…29 --every 20 --genesis genesis.bin
  cairn lottery present receipt-17.json --shop 3b6a…29 --attempt 1 --png code.png")]
    Present(present::Present),
    /// Take a winner's code at the point of sale, and record the redemption
    #[command(after_help = "\
Examples:
  cairn lottery redeem ID --shop-key shop.key --code 'V50…' --genesis genesis.bin
  scanner | cairn lottery redeem ID --shop-key shop.key --scan - --genesis genesis.bin

Hand over the goods when this says so, and not before: it has then seen the redemption certified.")]
    Redeem(redeem::Redeem),
    /// Draw again from what the ledger or a file holds, and compare everything
    #[command(after_help = "\
Examples:
  cairn lottery recompute ID --chain-id HEX
  cairn lottery recompute --from masks.record --genesis genesis.bin")]
    Recompute(recompute::Recompute),
    /// Write the facts of a lottery as one HTML file, in Chinese and English, for print
    #[command(after_help = "\
Examples:
  cairn lottery report ID --out report.html --genesis genesis.bin
  cairn lottery report --from masks.record --out report.html --genesis genesis.bin")]
    Report(report::Report),
    /// Write the public record of a lottery as one file, with which anybody draws again offline
    #[command(after_help = "\
Example:
  cairn lottery export ID --out masks.record --genesis genesis.bin")]
    Export(export::Export),
}

/// Does what the command line says.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Open(args) => open::run(global, args).await,
        Command::Tag(command) => tag::run(global, command).await,
        Command::Register(args) => register::run(global, args).await,
        Command::Receipt(args) => receipt::run(global, args).await,
        Command::AuditRoster(args) => audit_roster::run(global, args).await,
        Command::Freeze(args) => steps::freeze(global, args).await,
        Command::Dice(args) => steps::dice(global, args).await,
        Command::Contribute(args) => steps::contribute(global, args).await,
        Command::Close(args) => beacon::close(global, args).await,
        Command::Beacon(args) => beacon::run(global, args).await,
        Command::Publish(args) => publish::run(global, args).await,
        Command::Object(args) => objections::object(global, args).await,
        Command::Objections(args) => objections::list(global, args).await,
        Command::Rule(args) => objections::rule(global, args).await,
        Command::Certify(args) => steps::certify(global, args).await,
        Command::Promote(args) => promote::run(global, args).await,
        Command::Void(command) => void::run(global, command).await,
        Command::Show(args) => show::show(global, args).await,
        Command::Watch(args) => watch::run(global, args).await,
        Command::Results(args) => results::run(global, args).await,
        Command::List => show::list(global).await,
        Command::Check(args) => check::run(global, args).await,
        Command::Present(args) => present::run(global, args).await,
        Command::Redeem(args) => redeem::run(global, args).await,
        Command::Recompute(args) => recompute::run(global, args).await,
        Command::Report(args) => report::run(global, args).await,
        Command::Export(args) => export::run(global, args).await,
    }
}
