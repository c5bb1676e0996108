//! What must be true whatever happened: one file each.

pub mod a_chain_only_grows;
pub mod a_leader_counts_only_its_own_term;
pub mod acknowledged_is_never_lost;
pub mod freshness_is_never_overstated;
pub mod no_altered_proof_is_believed;
pub mod no_reply_leaves_before_it_is_durable;
pub mod no_two_certified_headers_conflict;
pub mod one_vote_one_leader_one_cosignature;
pub mod same_log_same_roots;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
}

impl Violation {
    pub fn of(invariant: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { invariant, what }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}
