//! What the nouns do, one room each.
//!
//! What holds here: a command ends in a verified result or in a `Failure`; what several share is
//! named for what it is (`certificate`, `session`, `submit`), not kept here.

pub mod audit;
pub mod checkpoint;
pub mod code;
pub mod entry;
mod equivocations;
pub mod evidence;
pub mod genesis;
pub mod in_order;
pub mod intake;
pub mod key;
pub mod lottery;
pub mod mandate;
pub mod member;
pub mod pass;
pub mod problems;
pub mod proof;
mod quotes;
pub mod trust;

use crate::cli::{Global, Noun};
use crate::exit::Failure;

/// Does what the command line says.
pub async fn run(global: &Global, noun: Noun) -> Result<(), Failure> {
    match noun {
        Noun::Key(command) => key::run(global, command).await,
        Noun::Genesis(command) => genesis::run(global, command).await,
        Noun::Entry(command) => entry::run(global, command).await,
        Noun::Lottery(command) => lottery::run(global, command).await,
        Noun::Code(command) => code::run(global, command).await,
        Noun::Mandate(command) => mandate::run(global, command).await,
        Noun::Intake(command) => intake::run(global, command).await,
        Noun::Pass(command) => pass::run(global, command).await,
        Noun::Trust(command) => trust::run(global, command).await,
        Noun::Evidence(command) => evidence::run(global, command).await,
        Noun::Proof(command) => proof::run(global, command).await,
        Noun::Checkpoint(command) => checkpoint::run(global, command).await,
        Noun::Member(command) => member::run(global, command).await,
        Noun::Audit(command) => audit::run(global, command).await,
    }
}
