//! What all rules have in common: how one refuses, and how one fails.
//!
//! What holds here: a refusal is an outcome of the entry, a failed read is fatal to the node; the
//! two never turn into each other.

use cairn_proto::schema::Described;
use cairn_proto::v1::RejectReason;
use prost::Message;

use crate::admission::Admitted;
use crate::canonical;
use crate::state::StateError;

/// Why a rule ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// An outcome: the entry is refused.
    Refused(RejectReason),
    /// Fatal: the state could not be read.
    Failed(StateError),
}

impl From<RejectReason> for Stop {
    fn from(reason: RejectReason) -> Self {
        Stop::Refused(reason)
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Stop::Failed(error)
    }
}

/// Tells refusal and failure apart: the outer error is fatal, the inner one is the outcome.
pub(crate) fn decided(done: Result<(), Stop>) -> Result<Result<(), RejectReason>, StateError> {
    match done {
        Ok(()) => Ok(Ok(())),
        Err(Stop::Refused(reason)) => Ok(Err(reason)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Refuses with `reason` unless `holds`.
pub(crate) fn require(holds: bool, reason: RejectReason) -> Result<(), RejectReason> {
    if holds { Ok(()) } else { Err(reason) }
}

/// The entry's body.
pub(crate) fn body<M: Message + Default + Described>(entry: &Admitted) -> Result<M, RejectReason> {
    canonical::decode_shared(entry.body()).map_err(|_| RejectReason::BodyMalformed)
}

/// Nobody but the author signed.
pub(crate) fn no_approvals(entry: &Admitted) -> Result<(), RejectReason> {
    let unexpected = entry.approvals().next().is_some();
    require(!unexpected, RejectReason::ApprovalUnexpected)
}
