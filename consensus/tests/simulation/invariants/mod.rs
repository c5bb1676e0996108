//! What must be true whatever happened: one file each.

pub mod acknowledged_is_never_lost;
pub mod no_two_certified_headers_conflict;
pub mod same_log_same_roots;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);
