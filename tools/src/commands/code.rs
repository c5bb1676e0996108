//! `cairn code`: codes are issued, their status is ordered, and anybody asks for it with proof.
//!
//! What holds here: a code is 32 random bytes that nobody derives from an identity; what is said
//! of one was proven against a certified map root first, absence included.

mod codes_file;
mod issue;
mod order;
mod states;
mod status;

use cairn_proto::v1::{CodeStatus, Visibility};
use clap::{Subcommand, ValueEnum};

use crate::cli::Global;
use crate::exit::Failure;

pub const DAY_MS: u64 = 86_400_000;

/// What can be done with codes.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Issue new codes, all green
    #[command(after_help = "\
Example:
  cairn code issue --key authority.key --region suzhou --count 20000 --valid-days 30 \\
    --out codes.csv

If a run is cut short, the same command with the same file goes on with its codes.")]
    Issue(issue::Issue),
    /// Order a status for many codes, all or nothing
    #[command(after_help = "\
Example:
  cairn code order --key authority.key --approver-key health.key --region suzhou \\
    --reason exposure --basis \"Order 12/2022, section 3\" --status yellow \\
    --from codes.csv --limit 500 --lapses-days 7 --on-lapse green --contact \"tel. 12345\"")]
    Order(Box<order::Order>),
    /// Show a code's status with proof, or prove that it was never issued
    #[command(after_help = "\
Example:
  cairn code status 9f…07 --genesis genesis.bin --out status.proof")]
    Status(status::Status),
}

/// Does what the command line says.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Issue(args) => issue::run(global, args).await,
        Command::Order(args) => order::run(global, *args).await,
        Command::Status(args) => status::run(global, args).await,
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
