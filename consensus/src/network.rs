//! The seams: how a node reaches its peers, how they reach it, and what the wall clock says.
//!
//! What holds here: consensus knows peers by `raft_id` only. The node implements [`Network`] over
//! libp2p streams, the simulator over its own seeded wires; both hand what arrives to [`Inbound`].
//! What stays out: connections, keys and addresses.

use async_trait::async_trait;
use bytes::Bytes;

/// No request and no answer may be longer: the largest block that a genesis may allow, framed. A
/// transport checks it before it allocates.
pub const MAX_FRAME_BYTES: usize = 24 << 20;

/// Requests of different lanes never wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, cosignatures: small, and late ones cost elections.
    Control,
    /// Raft's log.
    Append,
    /// Entries on their way to the leader.
    Forward,
    /// State for nodes that are far behind.
    Snapshot,
}

/// Why a call has no answer. The caller may always try again; whether the peer acted is unknown
/// unless it refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No connection; try again after a pause.
    #[error("peer {peer} cannot be reached: {detail}")]
    Unreachable {
        /// The peer's `raft_id`.
        peer: u64,
        /// What the transport said.
        detail: String,
    },
    /// The answer did not come in time; try again.
    #[error("peer {peer} did not answer in time")]
    TimedOut {
        /// The peer's `raft_id`.
        peer: u64,
    },
    /// The peer answered that it does not serve this request.
    #[error("peer {peer} refused: {detail}")]
    Refused {
        /// The peer's `raft_id`.
        peer: u64,
        /// What it said.
        detail: String,
    },
    /// The request is longer than a frame may be; send less.
    #[error("a request of {bytes} bytes exceeds the frame limit of {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// How a node calls its peers.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// One request and its answer. Requests on one lane to one peer are delivered and answered in
    /// the order in which their futures were first polled; many may be outstanding. Dropping the
    /// future gives the call up.
    async fn call(&self, to: u64, lane: Lane, request: Bytes) -> Result<Bytes, NetworkError>;

    /// Whether a connection to `peer` stands.
    fn connected(&self, peer: u64) -> bool;
}

/// What a node does with a peer's request.
#[async_trait]
pub trait Inbound: Send + Sync + 'static {
    /// Handles one request. `from` is authenticated by the transport. Requests of one lane and
    /// peer must be *started* (first polled) in the order of arrival and answered in that order,
    /// but need not wait for each other: Raft's appends are pipelined, and a transport that
    /// finishes one before it starts the next pays one disk sync for each.
    async fn handle(&self, from: u64, lane: Lane, request: Bytes) -> Result<Bytes, String>;
}

/// The wall clock. Durations are measured with tokio's clock, never with this one.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    }
}
