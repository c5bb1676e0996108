//! What a node is started with, and why it may not start.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cairn_ledger::genesis::Chain;
use cairn_ledger::members;
use cairn_ledger::state::StateError;
use cairn_storage::{
    Disk, Durability, Generations, LogError, LogStore, Slot, StateStore, StoreError,
};
use ed25519_dalek::SigningKey;

use crate::cosign::CosignError;
use crate::network::{Clock, MAX_FRAME_BYTES, Network};
use crate::snapshot::CopyRules;
use crate::timing::Timing;

/// The largest block that an append can carry, with room for what surrounds it.
const MAX_BLOCK_BYTES: usize = MAX_FRAME_BYTES - (1 << 20);

/// Bytes of Raft's newest entries that a simulated member keeps in memory: so few that others are read
/// from the disk as well.
pub const SIMULATED_RECENT: usize = 4 << 10;

/// Whether work leaves the calling thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Io {
    /// Apply and sync have threads of their own; forwarded signatures are verified on others.
    Threads,
    /// Everything is a task of the calling runtime.
    Simulated {
        /// How long a sync takes.
        sync: Duration,
        /// Bytes of Raft's newest entries that stay in memory: [`SIMULATED_RECENT`], or none.
        recent: usize,
    },
}

/// What a node is made of.
pub struct CoreConfig {
    /// This member.
    pub raft_id: u64,
    /// The ledger.
    pub chain: Arc<Chain>,
    /// The member's cosigning key.
    pub cosign_key: SigningKey,
    /// The database `raft/`: log, vote, sign guard.
    pub raft_disk: Arc<dyn Disk>,
    /// The database `ledger/`: the state, and copies of it.
    pub ledger: Arc<dyn Generations>,
    /// When copies are made.
    pub copies: CopyRules,
    /// How peers are reached.
    pub network: Arc<dyn Network>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Durations.
    pub timing: Timing,
    /// Threads or none.
    pub io: Io,
    /// Fixes Raft's random choices (election timeouts). `None`: another in each run.
    pub seed: Option<u64>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The ledger lists no such member. Check the configured raft_id and genesis file.
    #[error(
        "the ledger has no member with raft_id {raft_id}; a node that is to come in starts as joining"
    )]
    NotAMember {
        /// The id asked for.
        raft_id: u64,
    },
    /// The ledger lists another cosigning key for this member. Check the key file.
    #[error(
        "the ledger lists another cosigning key for member {raft_id}; after a rotation start the node as joining until it has caught up"
    )]
    WrongKey {
        /// The member.
        raft_id: u64,
    },
    /// The folder belongs to another node. Two nodes must never share one.
    #[error("this raft folder belongs to member {found}, not {raft_id}")]
    OtherNode {
        /// Whose it is.
        found: u64,
        /// Who asked.
        raft_id: u64,
    },
    /// The genesis allows blocks that do not fit into a frame between peers.
    #[error("the genesis allows blocks of {bytes} bytes, more than the {most} that peers can send")]
    BlocksTooLarge {
        /// What the genesis allows.
        bytes: u32,
        /// What a frame holds.
        most: usize,
    },
    /// The Raft log could not be opened.
    #[error("the Raft log: {0}")]
    Log(#[from] LogError),
    /// The state could not be opened.
    #[error("the ledger's state: {0}")]
    Store(#[from] StoreError),
    /// The ledger's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// What this node signed and what it holds contradict each other.
    #[error(transparent)]
    Cosign(#[from] CosignError),
    /// A thread or a record failed.
    #[error("starting: {0}")]
    Io(#[from] io::Error),
    /// Timing that cannot work, such as elections faster than heartbeats.
    #[error("timing: {0}")]
    Timing(#[from] openraft::ConfigError),
    /// Raft did not start.
    #[error("Raft: {0}")]
    Raft(String),
}

/// Why the cluster was not formed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It was formed before, or this node already takes part in it. Nothing to do.
    #[error("this node already has a Raft log: the cluster is formed")]
    AlreadyFormed,
    /// Too few of the other members were there to say what this node promised before. Start them
    /// and try again; where this node has stopped, its log says why.
    #[error(
        "this node still asks the other members what it promised before: start them, then try again"
    )]
    Asking,
    /// Raft refused or stopped.
    #[error("Raft: {0}")]
    Raft(String),
}

/// Whether the ledger is expected to list this node with its key already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Member,
    Joining,
}

pub(crate) fn check_blocks(chain: &Chain) -> Result<(), StartError> {
    let bytes = chain.limits().max_block_bytes;
    if bytes as usize > MAX_BLOCK_BYTES {
        let most = MAX_BLOCK_BYTES;
        return Err(StartError::BlocksTooLarge { bytes, most });
    }
    Ok(())
}

/// Whether the newest members that the state knows list this one with its key.
pub(crate) fn check_member(
    store: &StateStore,
    raft_id: u64,
    key: &SigningKey,
) -> Result<(), StartError> {
    let newest = members::state_of(store)?.unwrap_or_default().epoch;
    let set = members::recorded(store, newest)?.unwrap_or_default();
    let mut members = set.members.iter();
    let member = members
        .find(|member| member.raft_id == raft_id)
        .ok_or(StartError::NotAMember { raft_id })?;
    if member.cosign_key[..] == key.verifying_key().as_bytes()[..] {
        Ok(())
    } else {
        Err(StartError::WrongKey { raft_id })
    }
}

/// A raft folder names its node from the first start on.
pub(crate) fn check_identity(store: &LogStore, raft_id: u64) -> Result<(), StartError> {
    match store.get_meta(Slot::Identity)? {
        None => {
            let identity = raft_id.to_be_bytes();
            Ok(store.put_meta(Slot::Identity, &identity, Durability::Synced)?)
        }
        Some(found) => match found[..].try_into().map(u64::from_be_bytes) {
            Ok(found) if found == raft_id => Ok(()),
            Ok(found) => Err(StartError::OtherNode { found, raft_id }),
            Err(_) => Err(StartError::Log(LogError::Damaged {
                place: "the node's identity".to_owned(),
                detail: "not 8 bytes",
            })),
        },
    }
}
