//! `cairn code`: codes are issued, their status is ordered, and anybody asks for it with proof.
//!
//! What holds here: a code is 32 random bytes that nobody derives from an identity; what is said
//! of one was proven against a certified map root first, absence included.

mod appeal;
mod check_in;
mod codes_file;
mod issue;
mod order;
mod recognise;
pub mod states;
mod status;

use bytes::Bytes;
use cairn_ledger::code::rules::MAX_TEXT;
use cairn_ledger::hash::Hash;
use cairn_proto::v1::{CodeStatus, EntryKind, Visibility, WaitFor};
use clap::{Subcommand, ValueEnum};
use ed25519_dalek::SigningKey;

use crate::cli::Global;
use crate::commands::lottery::facts::Facts;
use crate::exit::Failure;
use crate::session::{Session, sign_entry};

/// What can be done with codes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Issue new codes, all green
    #[command(after_help = "\
Examples:
  cairn code issue --key authority.key --region suzhou --count 20000 --valid-days 30 \\
    --out codes.csv
  cairn code issue --key authority.key --region suzhou --holders people.csv --valid-days 30 \\
    --out codes.csv

If a run is cut short, the same command with the same file goes on with its codes.")]
    Issue(issue::Issue),
    /// Order a status for many codes, all or nothing
    #[command(after_help = "\
Example:
  cairn code order --key authority.key --approver-key health.key --region suzhou \\
    --reason exposure --basis \"Order 12/2022, section 3\" --status yellow \\
    --from codes.csv --limit 500 --lapses-days 7 --on-lapse green --contact \"tel. 12345\" \\
    --operator \"desk 7\" --rule-version 2022-3 --receipt order.json

With --dry-run instead of --receipt it says what would be refused. If a run is cut short, the same
command with the same receipt goes on with its order.")]
    Order(Box<order::Order>),
    /// Show a code's status with proof, or prove that it was never issued
    #[command(after_help = "\
Example:
  cairn code status 9f…07 --genesis genesis.bin --out status.proof")]
    Status(status::Status),
    /// Record that a station saw the holders of codes; the region's rule counts the days
    #[command(after_help = "\
Examples:
  cairn code check-in --key station.key --region suzhou 9f…07 51…c0
  cairn code check-in --key station.key --region suzhou --from seen.csv \\
    --observed-at 2026-06-01T08:30:00Z")]
    CheckIn(check_in::CheckIn),
    /// Appeal against an order for the holder of a code
    #[command(after_help = "\
Example:
  cairn code appeal --key notary.key --order 77…e0 --code 9f…07 --statement letter.pdf")]
    Appeal(appeal::Appeal),
    /// Decide an appeal, as the office that the region's rule names
    #[command(after_help = "\
Examples:
  cairn code decide --key court.key --appeal 20…5b --reject --reasons reasons.pdf
  cairn code decide --key court.key --appeal 20…5b --grant --reasons reasons.pdf \\
    --correcting-order 4c…11")]
    Decide(appeal::Decide),
    /// Recognise statuses of another ledger in a region, or end that
    #[command(after_help = "\
Examples:
  cairn code recognise --key authority.key --region suzhou --ledger 5c0f…e1 --name \"Nanjing\" \\
    --regions nanjing --statuses green,yellow --until 2027-06-01
  cairn code recognise --revoke --key authority.key --region suzhou --ledger 5c0f…e1")]
    Recognise(recognise::Recognise),
    /// Say that a region does not recognise an order of another region or ledger
    #[command(after_help = "\
Example:
  cairn code refuse-order --key authority.key --region suzhou --order 77…e0 \\
    --reason \"no ground in public health\"")]
    RefuseOrder(recognise::RefuseOrder),
}

/// Does what the command line says.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Issue(args) => issue::run(global, args).await,
        Command::Order(args) => order::run(global, *args).await,
        Command::Status(args) => status::run(global, args).await,
        Command::CheckIn(args) => check_in::run(global, args).await,
        Command::Appeal(args) => appeal::appeal(global, args).await,
        Command::Decide(args) => appeal::decide(global, args).await,
        Command::Recognise(args) => recognise::recognise(global, args).await,
        Command::RefuseOrder(args) => recognise::refuse_order(global, args).await,
    }
}

/// Signs a statement about `subject`, waits until it is certified, and says where it is.
async fn record(
    session: &Session,
    kind: EntryKind,
    visibility: Visibility,
    subject: &Hash,
    body: Bytes,
    author: &SigningKey,
) -> Result<Facts, Failure> {
    let (chain, subject) = (&session.chain, subject.to_bytes());
    let entry = sign_entry(chain, kind, visibility, subject, body, author, &[]);
    let status = session.submit(&entry, WaitFor::Certified).await?;
    Facts::default().with_entry(session, &status).await
}

/// A text that goes on the ledger.
fn parse_text(text: &str) -> Result<String, String> {
    match (1..=MAX_TEXT).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err(format!("must have 1 to {MAX_TEXT} bytes")),
    }
}

/// A status as it is typed and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colour {
    Green,
    Yellow,
    Red,
}

impl From<Colour> for CodeStatus {
    fn from(colour: Colour) -> CodeStatus {
        match colour {
            Colour::Green => CodeStatus::Green,
            Colour::Yellow => CodeStatus::Yellow,
            Colour::Red => CodeStatus::Red,
        }
    }
}

pub fn in_words(status: CodeStatus) -> &'static str {
    match status {
        CodeStatus::Unspecified => "",
        CodeStatus::Green => "green",
        CodeStatus::Yellow => "yellow",
        CodeStatus::Red => "red",
    }
}

/// Who may read the list of codes in an entry. Its envelope and every proof are public either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BodyShown {
    /// Anybody
    Public,
    /// Auditors only
    Restricted,
}

impl From<BodyShown> for Visibility {
    fn from(shown: BodyShown) -> Visibility {
        match shown {
            BodyShown::Public => Visibility::Public,
            BodyShown::Restricted => Visibility::Restricted,
        }
    }
}
