//! What a node says of itself, for its operator and for metrics.

/// One other member, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// The member.
    pub raft_id: u64,
    /// Whether a connection stands.
    pub connected: bool,
    /// The highest header that it cosigned, as seen here.
    pub cosigned_height: u64,
}

/// What a node is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreStatus {
    /// This member.
    pub raft_id: u64,
    /// "leader", "follower", "candidate", "learner" or "shutdown"; "asking" as long as this node
    /// takes no part because too few others have said what it promised before.
    pub raft_state: &'static str,
    /// Raft's term.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<u64>,
    /// The last index in the Raft log.
    pub last_log_index: Option<u64>,
    /// The highest block that was applied here.
    pub applied_height: u64,
    /// The highest certified checkpoint.
    pub certified_height: Option<u64>,
    /// Bytes of proposals above it.
    pub uncertified_bytes: u64,
    /// Entries in the leader's queue here.
    pub queued_entries: u64,
    /// Entries handed in here without outcome.
    pub pending_entries: u64,
    /// The other members.
    pub peers: Vec<PeerView>,
    /// Cosignatures of members that contradict this node's headers. More than 0: raise the alarm.
    pub equivocations: u64,
    /// Why this node stopped taking part, if it did.
    pub stopped: Option<String>,
}
