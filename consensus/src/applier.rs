//! Applying: one committed log entry becomes one block of the ledger's state.
//!
//! What holds here: the rules decide alone (`cairn_ledger::apply`); a block's writes and Raft's
//! position are one batch; whoever waits is woken after that batch, never before. What needs no state,
//! reading and verifying, is a step of its own. An error is fatal: the node stops before it diverges.
//! What stays out: threads and openraft's traits, which are in `state_machine`.

use std::io;
use std::sync::{Arc, Mutex};

use cairn_ledger::apply::{self, Kept, Proposal};
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::OpenRosters;
use cairn_ledger::state::Writes;
use cairn_storage::{LogStore, StateStore};
use openraft::EntryPayload;
use serde::{Deserialize, Serialize};

use crate::admitted::AdmittedCache;
use crate::cosign::Cosigner;
use crate::sequencer::Queue;
use crate::snapshot::Copies;
use crate::tracker::Tracker;
use crate::types::{Applied, Entry, LogId, Membership, StoredMembership, from_bytes, to_bytes};
use crate::{locked, secret};

/// Raft's position in the state: written with every block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) last_applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

/// A committed log entry that was read.
#[derive(Debug)]
pub(crate) struct ReadEntry {
    log_id: LogId,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Nothing,
    Membership(Membership),
    Block {
        proposal: Proposal,
        /// Of its payload.
        bytes: u64,
    },
}

/// What turns entries into blocks.
pub struct Applier {
    chain: Arc<Chain>,
    store: Arc<StateStore>,
    rosters: OpenRosters,
    admitted: Arc<AdmittedCache>,
    tracker: Arc<Tracker>,
    cosigner: Arc<Cosigner>,
    queue: Arc<Queue>,
    copies: Arc<Copies>,
    position: Mutex<Position>,
}

/// Makes the genesis block the state of an empty store.
pub(crate) fn ensure_genesis(chain: &Chain, store: &StateStore) -> io::Result<()> {
    if apply::tip(store).map_err(io::Error::other)?.is_some() {
        return Ok(());
    }
    let genesis = apply::genesis_block(chain).map_err(io::Error::other)?;
    let position = to_bytes(&Position::default())?;
    store
        .commit_block(&genesis.writes, &position)
        .map_err(io::Error::other)
}

/// Whether the state reaches beyond the Raft log, or the log below it is gone: then only a copy of
/// the state can help another node.
pub(crate) fn is_ahead_of(store: &StateStore, log: &LogStore) -> io::Result<bool> {
    let Some(bytes) = store.applied().map_err(io::Error::other)? else {
        return Ok(false);
    };
    let position: Position = from_bytes(&bytes)?;
    let applied = position.last_applied.map(|applied| applied.index);
    let purged = log.purged().map_err(io::Error::other)?.is_some();
    Ok(purged || applied > log.last_index())
}

impl Applier {
    pub(crate) fn open(
        chain: Arc<Chain>,
        store: Arc<StateStore>,
        admitted: Arc<AdmittedCache>,
        tracker: Arc<Tracker>,
        cosigner: Arc<Cosigner>,
        queue: Arc<Queue>,
        copies: Arc<Copies>,
    ) -> io::Result<Self> {
        let position = match store.applied().map_err(io::Error::other)? {
            None => Position::default(),
            Some(bytes) => from_bytes(&bytes)?,
        };
        Ok(Self {
            chain,
            store,
            rosters: OpenRosters::new(&secret()),
            admitted,
            tracker,
            cosigner,
            queue,
            copies,
            position: Mutex::new(position),
        })
    }

    pub(crate) fn position(&self) -> Position {
        locked(&self.position).clone()
    }

    /// The state became another one: entries go on behind this position.
    pub(crate) fn moved_to(&self, position: Position) {
        *locked(&self.position) = position;
    }

    /// Reads a committed log entry, and verifies the signatures in it that this node has not yet.
    pub(crate) fn read(&self, entry: Entry) -> ReadEntry {
        let content = match entry.payload {
            EntryPayload::Blank => Content::Nothing,
            EntryPayload::Membership(membership) => Content::Membership(membership),
            EntryPayload::Normal(payload) => {
                let known = |leaf_hash: &Hash| self.admitted.contains(leaf_hash);
                Content::Block {
                    proposal: Proposal::read(&self.chain, &payload.0, &known),
                    bytes: payload.0.len() as u64,
                }
            }
        };
        ReadEntry {
            log_id: entry.log_id,
            content,
        }
    }

    /// Applies the next entry. After an error the caller must not apply another.
    pub(crate) fn apply(&self, entry: ReadEntry) -> io::Result<Applied> {
        let _still = self.copies.still();
        let log_id = entry.log_id;
        let result = self.try_apply(entry);
        if let Err(error) = &result {
            tracing::error!(%log_id, %error, "a committed entry could not be applied; this node stops");
        }
        result
    }

    fn try_apply(&self, entry: ReadEntry) -> io::Result<Applied> {
        let mut position = self.position();
        position.last_applied = Some(entry.log_id);
        let done = match entry.content {
            Content::Nothing => self.commit(&Writes::new(), &position).map(|()| None),
            Content::Membership(membership) => {
                position.membership = StoredMembership::new(Some(entry.log_id), membership);
                self.commit(&Writes::new(), &position).map(|()| None)
            }
            Content::Block { proposal, bytes } => {
                let term = *entry.log_id.leader_id;
                self.block(&proposal, bytes, term, &position).map(Some)
            }
        }?;
        *locked(&self.position) = position;
        Ok(Applied {
            height: done.unwrap_or(0),
        })
    }

    fn block(
        &self,
        proposal: &Proposal,
        bytes: u64,
        term: u64,
        position: &Position,
    ) -> io::Result<u64> {
        let kept = Kept {
            map: self.cosigner.warm(),
            rosters: &self.rosters,
        };
        let block = apply::apply(&self.chain, &*self.store, kept, proposal, term)
            .map_err(io::Error::other)?;
        // First: it may be what begins the epoch that this block is of.
        if let Some(certificate) = proposal.certificate() {
            self.cosigner.adopt(certificate).map_err(io::Error::other)?;
        }
        self.cosigner
            .block_computed(&block.header, &block.header_bytes, &block.header_hash)
            .map_err(io::Error::other)?;
        self.commit(&block.writes, position)?;
        self.cosigner
            .block_applied(&block.header, bytes)
            .map_err(io::Error::other)?;
        self.copies.block_applied(&block.header, bytes, position)?;
        let ids: Vec<Hash> = block
            .outcomes
            .iter()
            .filter_map(|outcome| Hash::from_slice(&outcome.entry_id))
            .collect();
        self.tracker.applied(ids.iter());
        self.queue.wake();
        Ok(block.header.height)
    }

    fn commit(&self, writes: &Writes, position: &Position) -> io::Result<()> {
        let position = to_bytes(position)?;
        self.store
            .commit_block(writes, &position)
            .map_err(io::Error::other)
    }
}
