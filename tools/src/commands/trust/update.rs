//! `cairn trust update`: a gate's trust file gives way to a newer one that was handed over.

use std::path::PathBuf;

use cairn_ledger::trust::UpdateError;
use clap::Args;

use super::Shown;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output;

/// What `update` takes.
#[derive(Debug, Args)]
pub struct Update {
    /// The file that was handed over
    #[arg(value_name = "FILE")]
    newer: PathBuf,
    /// The gate's trust file, which is replaced
    #[arg(long, value_name = "FILE", env = "CAIRN_TRUST")]
    trust: PathBuf,
}

/// Replaces a trust file, or leaves it as it is.
pub fn run(global: &Global, args: &Update) -> Result<(), Failure> {
    let own = super::read(global, &args.trust)?;
    let newer = super::read(global, &args.newer)?;
    let trust = match own.updated(&newer) {
        Ok(trust) => trust,
        // Whoever does it every day need not know whether anything changed.
        Err(UpdateError::NothingNew) => own,
        Err(error) => return Err(refused(&error)),
    };
    super::write(&args.trust, &trust)?;
    output::print(global, &Shown::of(&args.trust, &trust), Shown::table);
    Ok(())
}

fn refused(error: &UpdateError) -> Failure {
    let message = error.to_string();
    match error {
        UpdateError::Fork { .. } => Failure::Fork(message),
        UpdateError::OtherLedger { .. } | UpdateError::Trust(_) => Failure::InvalidProof(message),
        UpdateError::Older { .. } | UpdateError::NothingNew => Failure::Failed(message),
    }
}
