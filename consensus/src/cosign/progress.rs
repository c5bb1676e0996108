//! Where checkpoints stand, and why a node must stop.

use cairn_ledger::hash::Hash;
use cairn_ledger::state::StateError;
use cairn_storage::{GuardRefused, LogError, StoreError};

/// Where checkpoints stand, for the sequencer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) tip: u64,
    pub(crate) newest_checkpoint: Option<u64>,
    /// The block of a change of members whose certificate the chain does not carry yet. Nothing
    /// behind it is a checkpoint.
    pub(crate) changing: Option<u64>,
    pub(crate) certified: Option<u64>,
    /// Bytes of the proposals above the last certificate, as far as this process applied them.
    pub(crate) tail_bytes: u64,
}

impl Progress {
    /// The newest checkpoint has its certificate, so another may be asked for.
    pub(crate) fn settled(&self) -> bool {
        self.newest_checkpoint <= self.certified
    }

    /// Blocks that no certificate and no waiting checkpoint covers; or an epoch that has begun and
    /// whose members have not cosigned yet.
    pub(crate) fn uncovered(&self) -> bool {
        self.changing.is_some()
            || self
                .newest_checkpoint
                .is_none_or(|height| height < self.tip)
    }
}

/// Why a node must stop instead of going on.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// This node computed another header than the one that it signed at this height. Keep its
    /// folder for an investigation; replace the node under a new raft_id.
    #[error("block {height} is {computed} here, but this node signed {signed}")]
    Contradiction {
        /// The block.
        height: u64,
        /// What the guard holds.
        signed: Hash,
        /// What apply made.
        computed: Hash,
    },
    /// The members certified another header than the one that this node computed.
    #[error("block {height} is {computed} here, but the members certified {certified}")]
    Diverged {
        /// The block.
        height: u64,
        /// What the certificate holds.
        certified: Hash,
        /// What apply made.
        computed: Hash,
    },
    /// This node signed what its guard does not know.
    #[error(
        "this node's data is older than what it signed: its sign guard holds {}, and member {shown_by} \
         has its cosignature of block {seen}. These folders are an old copy, or were wiped. Never \
         start a node on them again: keep them, and replace this node under a new raft_id (cairn \
         member propose)",
        Held(*.held)
    )]
    Older {
        /// The guard's height, if it holds any.
        held: Option<u64>,
        /// Who showed the cosignature; this node itself, where its own ledger did.
        shown_by: u64,
        /// The height that it is for.
        seen: u64,
    },
    /// What is kept beside the Raft log could not be read or written.
    #[error("the Raft log: {0}")]
    Log(#[from] LogError),
    /// The guard refused or could not record.
    #[error("the sign guard: {0}")]
    Guard(#[from] GuardRefused),
    /// The state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a guard holds, in words.
struct Held(Option<u64>);

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => write!(f, "nothing"),
            Some(height) => write!(f, "block {height}"),
        }
    }
}
