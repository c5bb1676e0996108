//! How every error looks to a client: a gRPC code, a sentence, and `google.rpc.ErrorInfo` with the
//! domain `cairn` and a stable reason; `RetryInfo` where waiting helps.
//!
//! What holds here: reasons are names that programs may compare; sentences may change. What stays
//! out: an entry that a rule refused. That is no error but an answer.

use std::collections::HashMap;
use std::time::Duration;

use cairn_ledger::state::StateError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every reason.
pub const DOMAIN: &str = "cairn";

/// Stable reasons of this layer. Those of admission and of submission come from where they are
/// decided.
pub mod reason {
    /// This node has no certified checkpoint to answer from.
    pub const NO_CERTIFIED_VIEW: &str = "NO_CERTIFIED_VIEW";
    /// The state could not be read; the operator has to look.
    pub const STATE_UNREADABLE: &str = "STATE_UNREADABLE";
    /// A request's field is missing or out of its range; the sentence names it.
    pub const FIELD_INVALID: &str = "FIELD_INVALID";
    /// Histories are shown to auditors only.
    pub const HISTORY_RESTRICTED: &str = "HISTORY_RESTRICTED";
    /// The page token is not one that this method gave out.
    pub const PAGE_TOKEN_INVALID: &str = "PAGE_TOKEN_INVALID";
    /// No entry with this id or index is certified.
    pub const ENTRY_NOT_FOUND: &str = "ENTRY_NOT_FOUND";
    /// No block with this height is certified.
    pub const BLOCK_NOT_FOUND: &str = "BLOCK_NOT_FOUND";
    /// No lottery with this id is certified.
    pub const LOTTERY_NOT_FOUND: &str = "LOTTERY_NOT_FOUND";
    /// The lottery has no row with this serial.
    pub const SERIAL_NOT_FOUND: &str = "SERIAL_NOT_FOUND";
    /// The lottery has no tier with this number.
    pub const TIER_NOT_FOUND: &str = "TIER_NOT_FOUND";
    /// The lottery has no attempt with this number.
    pub const ATTEMPT_NOT_FOUND: &str = "ATTEMPT_NOT_FOUND";
    /// The lottery is not drawn yet.
    pub const NOT_DRAWN: &str = "NOT_DRAWN";
    /// The tree is not that large in this node's certified view.
    pub const SIZE_NOT_REACHED: &str = "SIZE_NOT_REACHED";
    /// A signer is no registered author.
    pub const AUTHOR_UNKNOWN: &str = "AUTHOR_UNKNOWN";
    /// The entry has not the approvals that the rules ask for, or others too.
    pub const APPROVALS: &str = "APPROVALS";
    /// The node has as many calls or watchers as it takes.
    pub const OVERLOADED: &str = "OVERLOADED";
    /// The request did not arrive whole in time.
    pub const REQUEST_TOO_SLOW: &str = "REQUEST_TOO_SLOW";
    /// Nothing came on a stream of requests for long.
    pub const STREAM_IDLE: &str = "STREAM_IDLE";
    /// The request never reached a method: too large, malformed, cancelled or unknown.
    pub const REQUEST_REJECTED: &str = "REQUEST_REJECTED";
    /// The cluster is formed already, or cannot be.
    pub const INITIALIZE_REFUSED: &str = "INITIALIZE_REFUSED";
}

/// An error on its way to a client.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    reason: String,
    message: String,
    metadata: HashMap<String, String>,
    retry: Option<Duration>,
}

impl Failure {
    /// With a reason and a sentence that says what to do.
    pub fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure {
            code,
            reason: reason.into(),
            message: message.into(),
            metadata: HashMap::new(),
            retry: None,
        }
    }

    /// Adds a fact that programs may read.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Failure {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Says when to try again.
    pub fn retry_in(mut self, delay: Duration) -> Failure {
        self.retry = Some(delay);
        self
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        let mut details = ErrorDetails::with_error_info(failure.reason, DOMAIN, failure.metadata);
        if failure.retry.is_some() {
            details.set_retry_info(failure.retry);
        }
        Status::with_error_details(failure.code, failure.message, details)
    }
}

/// A field that is missing or out of range.
pub fn invalid(field: &str, detail: impl std::fmt::Display) -> Status {
    let message = format!("{field}: {detail}");
    Failure::new(Code::InvalidArgument, reason::FIELD_INVALID, message)
        .with("field", field)
        .into()
}

/// What was asked for is not in the certified state.
pub fn not_found(reason: &str, message: impl Into<String>) -> Status {
    Failure::new(Code::NotFound, reason, message).into()
}

/// The state could not be read. The client learns that, the log learns why.
pub fn unreadable(error: &dyn std::fmt::Display) -> Status {
    tracing::error!(%error, "a read failed");
    let message = "this node cannot read its state; ask another one";
    Failure::new(Code::Internal, reason::STATE_UNREADABLE, message).into()
}

/// [`unreadable`], for `map_err`.
pub fn state(error: StateError) -> Status {
    unreadable(&error)
}

/// Too much at once.
pub fn overloaded(message: &str) -> Status {
    Failure::new(Code::ResourceExhausted, reason::OVERLOADED, message)
        .retry_in(Duration::from_secs(1))
        .into()
}

/// No certified checkpoint to answer from.
pub fn no_view() -> Status {
    let message = "this node has no certified checkpoint to answer from yet; try again or ask \
                   another node";
    Failure::new(Code::Unavailable, reason::NO_CERTIFIED_VIEW, message)
        .retry_in(Duration::from_secs(1))
        .into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_domain_and_a_reason() {
        for status in [
            invalid("code", "must be 32 bytes"),
            not_found(reason::BLOCK_NOT_FOUND, "no"),
            unreadable(&"disk"),
            overloaded("busy"),
            no_view(),
        ] {
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!(info.domain, DOMAIN);
            assert!(
                info.reason
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b == b'_')
            );
        }
        assert!(no_view().get_error_details().retry_info().is_some());
        assert!(!unreadable(&"secret detail").message().contains("secret"));
    }
}
