//! Why a pass does not let through: one reason each, in words for whoever stands at the gate and by
//! a name for programs.

use cairn_proto::v1::CodeStatus;

use super::certify::UncertifiedError;
use super::{ChainTag, DecodeError};
use crate::hash::Hash;

/// Why a pass does not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a pass, or not read well.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// The gate's own fault.
    #[error("the gate's trust file ended: get a newer one, with: cairn trust update")]
    TrustExpired {
        /// When, milliseconds since 1970.
        not_after_ms: u64,
    },
    /// Not of a ledger that counts here.
    #[error("the pass is of another ledger, {}…, which this gate does not recognise", hex::encode(.0))]
    OtherLedger(ChainTag),
    /// Recognised, but the trust file lacks its members.
    #[error(
        "the pass is of the ledger {0}, which the policy recognises, but the trust file does not hold its members: get one that does"
    )]
    NoMembers(Hash),
    /// Recognised once.
    #[error("the pass is of the ledger {chain_id}, whose recognition ended")]
    RecognitionEnded {
        /// The ledger.
        chain_id: Hash,
        /// When, milliseconds since 1970.
        until_ms: u64,
    },
    /// Under no certificate that counts.
    #[error(transparent)]
    Uncertified(#[from] UncertifiedError),
    /// What every node would have refused; the members are wrong.
    #[error("what the pass proves is no state of a code: {0}")]
    NotAState(String),
    /// The gate's clock is behind, or the members' are ahead.
    #[error(
        "the gate's clock is {} behind the ledger: set the clock", duration(*.behind_ms)
    )]
    ClockBehind {
        /// How far.
        behind_ms: u64,
    },
    /// Other regions are not asked for here.
    #[error("the pass is of the region {0}, which this gate does not accept")]
    Region(String),
    /// It may have changed since.
    #[error(
        "the pass is {} old, and at most {} are allowed: show a fresh one (or the gate's clock is ahead)",
        duration(*.age_ms), duration(*.max_age_ms)
    )]
    TooOld {
        /// How old.
        age_ms: u64,
        /// What is allowed.
        max_age_ms: u64,
    },
    /// Not shown to belong to whoever shows it.
    #[error(transparent)]
    IdCard(#[from] IdCardError),
    /// Its time comes.
    #[error("the code is not valid yet")]
    NotYetValid {
        /// From when, milliseconds since 1970.
        from_ms: u64,
    },
    /// Its time is over.
    #[error("the code expired: it has to be issued anew")]
    Expired {
        /// When, milliseconds since 1970.
        until_ms: u64,
    },
    /// The status lapsed, and what then holds does not pass.
    #[error("the status lapsed, and the code shows {} since", name(*.shows))]
    Lapsed {
        /// When, milliseconds since 1970.
        at_ms: u64,
        /// What it shows since.
        shows: CodeStatus,
    },
    /// Its status does not pass.
    #[error("the code shows {}", name(*.0))]
    Status(CodeStatus),
    /// Set by an order that a region does not recognise; what was before is not known here.
    #[error(
        "the status was set by the order {0}, which a region refuses to recognise: let a person decide, or name the region in the policy"
    )]
    OrderRefused(Hash),
}

/// Why a pass and an ID card do not belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdCardError {
    /// The gate's person has to look.
    #[error("the gate's policy asks for the ID card: enter its number")]
    NotGiven,
    /// Issued without one.
    #[error("the code was issued without a holder: no ID card can match it")]
    NoHolder,
    /// The holder left it out.
    #[error("the pass lacks the salt that opens its holder: show it with the salt")]
    NoSalt,
    /// Somebody else's, or a number mistyped.
    #[error("the ID card is not the holder's, or its number was mistyped")]
    Other,
}

impl Refusal {
    /// A name that programs may compare.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::Unreadable(DecodeError::NotAPass) => "NOT_A_PASS",
            Refusal::Unreadable(DecodeError::Version(_)) => "UNKNOWN_VERSION",
            Refusal::Unreadable(_) => "DAMAGED",
            Refusal::TrustExpired { .. } => "TRUST_EXPIRED",
            Refusal::OtherLedger(_) => "OTHER_LEDGER",
            Refusal::NoMembers(_) => "NO_MEMBERS",
            Refusal::RecognitionEnded { .. } => "RECOGNITION_ENDED",
            Refusal::Uncertified(UncertifiedError::UnknownEpoch { .. }) => "UNKNOWN_EPOCH",
            Refusal::Uncertified(UncertifiedError::QuorumNotMet(_)) => "QUORUM_NOT_MET",
            Refusal::Uncertified(UncertifiedError::Forged(_)) => "FORGED",
            Refusal::Uncertified(UncertifiedError::RemovedMembers { .. }) => "REMOVED_MEMBERS",
            Refusal::Uncertified(UncertifiedError::Forked { .. }) => "FORK",
            Refusal::NotAState(_) => "NOT_A_STATE",
            Refusal::ClockBehind { .. } => "CLOCK_BEHIND",
            Refusal::Region(_) => "REGION",
            Refusal::TooOld { .. } => "TOO_OLD",
            Refusal::IdCard(IdCardError::NotGiven) => "ID_CARD_NEEDED",
            Refusal::IdCard(_) => "ID_CARD",
            Refusal::NotYetValid { .. } => "NOT_YET_VALID",
            Refusal::Expired { .. } => "EXPIRED",
            Refusal::Lapsed { .. } => "LAPSED",
            Refusal::Status(_) => "STATUS",
            Refusal::OrderRefused(_) => "ORDER_REFUSED",
        }
    }
}

/// A status in words.
pub fn name(status: CodeStatus) -> &'static str {
    match status {
        CodeStatus::Unspecified => "no status",
        CodeStatus::Green => "green",
        CodeStatus::Yellow => "yellow",
        CodeStatus::Red => "red",
    }
}

/// A duration in words, in its largest whole units.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
