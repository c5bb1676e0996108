//! Epochs: how a node keeps up with who certifies.
//!
//! What holds here: a set of members counts when the block that brought it is certified by the set
//! before; that certificate is made here, comes with the chain, or comes from a member that is ahead
//! of us. A member cosigns only headers of epochs that list its number with its key. What stays
//! out: Raft's configuration and connections, which follow (`membership`).

use std::sync::Arc;

use cairn_ledger::checkpoint::{self, CertifiedCheckpoint};
use cairn_ledger::epochs::{EpochError, Epochs};
use cairn_ledger::genesis::Chain;
use cairn_ledger::state::StateError;
use cairn_ledger::{apply, members};
use cairn_proto::v1;
use cairn_storage::StateStore;
use prost::Message as _;

use super::{CosignError, Cosigner};
use crate::locked;

fn corrupt(error: impl ToString) -> StateError {
    StateError::Corrupt {
        place: "the changes of members".to_owned(),
        detail: error.to_string(),
    }
}

/// Whether the block of this header is the last of its epoch.
pub(super) fn ends(header: &v1::Header) -> bool {
    header.next_members_hash != header.members_hash
}

/// What the state shows: the changes whose certificates the chain carries, and the one behind them
/// where its certificate was made here.
pub(super) fn held(chain: &Chain, store: &StateStore) -> Result<Epochs, CosignError> {
    let changes = members::changes_after(store, 0, usize::MAX)?;
    let mut epochs = Epochs::follow(chain, &changes).map_err(corrupt)?;
    let state = members::state_of(store)?.unwrap_or_default();
    if state.pending
        && let Some(certificate) = store.checkpoint_at(state.changed_at_height)?
    {
        let change = v1::EpochChange {
            checkpoint: Some(certificate),
            next_members: members::recorded(store, state.epoch)?,
        };
        epochs.extend(&change).map_err(corrupt)?;
    }
    Ok(epochs)
}

impl Cosigner {
    /// `member` speaks of an epoch that is not known here, and is asked how it came about.
    pub(crate) fn hear_of_epochs_from(&self, member: u64) {
        self.behind.send_replace(Some(member));
    }

    /// Learns the changes that the state shows, after another one took its place.
    pub(super) fn learn_from_state(&self) -> Result<(), CosignError> {
        let held = held(&self.chain, &self.store)?;
        self.learn(held.changes_after(0))
            .map_err(|error| CosignError::State(corrupt(error)))
    }

    /// Whether this node's key is this member's in `epoch`.
    pub(super) fn cosigns_in(&self, epoch: u64) -> bool {
        let epochs = self.epochs.borrow();
        let listed = |set: &v1::MemberSet| {
            let mut members = set.members.iter();
            members.any(|m| m.raft_id == self.me && m.cosign_key == self.public)
        };
        epochs.set(epoch).is_some_and(listed)
    }

    /// A certificate of a block that is ours: where it ends an epoch, the next one is known.
    pub(super) fn follow(&self, new: &CertifiedCheckpoint) -> Result<(), CosignError> {
        let header = new.header();
        let known = self.epochs.borrow().clone();
        if !ends(header) || known.newest().epoch != header.epoch {
            return Ok(());
        }
        let change = v1::EpochChange {
            checkpoint: Some(new.to_proto()),
            next_members: members::recorded(&*self.store, header.epoch + 1)?,
        };
        self.learn(std::slice::from_ref(&change))
            .map_err(|error| CosignError::State(corrupt(error)))
    }

    /// Changes of members, from here or from another member. What does not verify changes nothing.
    pub(crate) fn learn(&self, changes: &[v1::EpochChange]) -> Result<(), EpochError> {
        // Under the lock: two that learn at once must not undo each other.
        let _one_at_a_time = locked(&self.learning);
        let mut epochs = Epochs::clone(&self.epochs.borrow());
        let learned = epochs.extend_all(changes);
        if epochs.newest().epoch > self.epochs.borrow().newest().epoch {
            let set = epochs.newest();
            let (epoch, members) = (set.epoch, set.members.len());
            tracing::info!(epoch, members, "the members have changed");
            if !epochs.has(self.me) {
                tracing::warn!(epoch, "this node is not among the members");
            }
            self.epochs.send_replace(Arc::new(epochs));
        }
        learned.map(|_| ())
    }

    /// After a restart in the middle of a change: nothing behind its block is a checkpoint, so its
    /// cosignatures are collected again.
    pub(super) fn resume_change(&self, tip: u64) -> Result<(), CosignError> {
        let state = members::state_of(&*self.store)?.unwrap_or_default();
        let height = state.changed_at_height;
        if !state.pending || height == tip {
            return Ok(());
        }
        let Some(header_bytes) = apply::header_at(&*self.store, height)? else {
            return Ok(());
        };
        let header = v1::Header::decode(header_bytes.clone()).map_err(corrupt)?;
        let hash = checkpoint::header_hash(&header_bytes);
        self.collect(&header, &header_bytes, &hash)?;
        self.settle(height)
    }
}
