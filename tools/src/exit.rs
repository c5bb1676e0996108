//! How a command can fail, and the exit code and stable reason of each way.
//!
//! What holds here: scripts tell the ways apart by exit code, programs by `reason`; the sentence
//! says what, where, and what to type next. What stays out: printing it (`output`).

use tonic::Code;
use tonic_types::StatusExt as _;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something did not work, or a rule refused an entry.
    #[error("{0}")]
    Failed(String),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// Not there, proven absent, or not yet committed.
    #[error("{0}")]
    NotFound(String),
    /// A gate does not let somebody through.
    #[error("{0}")]
    Refused(String),
    /// What was shown does not prove what it should.
    #[error("{0}")]
    InvalidProof(String),
    /// A certificate's cosignatures do not satisfy the policy.
    #[error("{0}")]
    QuorumNotMet(String),
    /// Two certified headers contradict each other.
    #[error("{0}")]
    Fork(String),
}

impl Failure {
    /// The process's exit code, as `cairn --help` lists it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::NotFound(_) => 3,
            Failure::Refused(_) => 4,
            Failure::InvalidProof(_) => 10,
            Failure::QuorumNotMet(_) => 11,
            Failure::Fork(_) => 12,
        }
    }

    /// A name that programs may compare.
    pub fn reason(&self) -> &'static str {
        match self {
            Failure::Failed(_) => "FAILED",
            Failure::Usage(_) => "USAGE",
            Failure::NotFound(_) => "NOT_FOUND",
            Failure::Refused(_) => "REFUSED",
            Failure::InvalidProof(_) => "INVALID_PROOF",
            Failure::QuorumNotMet(_) => "QUORUM_NOT_MET",
            Failure::Fork(_) => "FORK",
        }
    }

    /// The same failure, its sentence behind `what:`.
    pub fn during(self, what: &str) -> Failure {
        self.map(|message| format!("{what}: {message}"))
    }

    /// The same failure, its sentence changed.
    pub fn map(self, with: impl FnOnce(String) -> String) -> Failure {
        match self {
            Failure::Failed(message) => Failure::Failed(with(message)),
            Failure::Usage(message) => Failure::Usage(with(message)),
            Failure::NotFound(message) => Failure::NotFound(with(message)),
            Failure::Refused(message) => Failure::Refused(with(message)),
            Failure::InvalidProof(message) => Failure::InvalidProof(with(message)),
            Failure::QuorumNotMet(message) => Failure::QuorumNotMet(with(message)),
            Failure::Fork(message) => Failure::Fork(with(message)),
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Failure {
        let reason = status.get_details_error_info().map(|info| info.reason);
        let message = match reason {
            Some(reason) => format!("{} ({reason})", status.message()),
            None => format!("{} ({:?})", status.message(), status.code()),
        };
        match status.code() {
            Code::NotFound => Failure::NotFound(message),
            _ => Failure::Failed(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn exit_codes_and_reasons_are_those_that_help_lists() {
        let failures = [
            (Failure::Failed("m".into()), 1, "FAILED"),
            (Failure::Usage("m".into()), 2, "USAGE"),
            (Failure::NotFound("m".into()), 3, "NOT_FOUND"),
            (Failure::Refused("m".into()), 4, "REFUSED"),
            (Failure::InvalidProof("m".into()), 10, "INVALID_PROOF"),
            (Failure::QuorumNotMet("m".into()), 11, "QUORUM_NOT_MET"),
            (Failure::Fork("m".into()), 12, "FORK"),
        ];
        for (failure, code, reason) in failures {
            let failure = failure.during("w");
            assert_eq!((failure.exit_code(), failure.reason()), (code, reason));
            assert_eq!(failure.to_string(), "w: m");
        }
    }

    #[test]
    fn a_nodes_reason_stays_in_the_sentence() {
        let details = ErrorDetails::with_error_info("ENTRY_NOT_FOUND", "cairn", []);
        let status = tonic::Status::with_error_details(Code::NotFound, "no entry 7", details);
        let failure = Failure::from(status);
        assert_eq!(failure.exit_code(), 3);
        assert_eq!(failure.to_string(), "no entry 7 (ENTRY_NOT_FOUND)");
    }
}
