//! The serving view: one snapshot of the state with the certified checkpoint that vouches for it.
//!
//! What holds here: the snapshot was taken right after the checkpoint's block, so every answer
//! read through one view agrees with one certificate. What stays out: when views are made and
//! replaced (`consensus`), and how proofs are made (`cairn_ledger::map`).

use std::sync::Arc;

use bytes::Bytes;
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::hash::Hash;
use cairn_ledger::map::Warm;
use cairn_ledger::state::{StateError, StateRead};
use cairn_proto::v1;

use crate::state_store::StateSnapshot;

/// A state and its certificate.
#[derive(Debug, Clone)]
pub struct View {
    snapshot: StateSnapshot,
    checkpoint: Arc<CertifiedCheckpoint>,
    warm: Arc<Warm>,
}

impl View {
    /// The caller vouches that `snapshot` is the state after the block that `checkpoint` certifies.
    /// `warm` is what proofs of views before it have read.
    pub fn new(
        snapshot: StateSnapshot,
        checkpoint: Arc<CertifiedCheckpoint>,
        warm: Arc<Warm>,
    ) -> Self {
        Self {
            snapshot,
            checkpoint,
            warm,
        }
    }

    /// The value of a map key, or its absence, with its proof.
    pub fn prove(&self, key: &Hash) -> Result<v1::MapProof, StateError> {
        self.warm
            .prove(&self.snapshot, self.checkpoint.map_root(), key)
    }

    /// The height of the checkpoint.
    pub fn height(&self) -> u64 {
        self.checkpoint.header().height
    }

    /// The certificate of everything that is read here.
    pub fn checkpoint(&self) -> &CertifiedCheckpoint {
        &self.checkpoint
    }

    /// The state.
    pub fn snapshot(&self) -> &StateSnapshot {
        &self.snapshot
    }
}

impl StateRead for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.snapshot.get(key)
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StateError> {
        self.snapshot.multi_get(keys)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        self.snapshot.scan(prefix, from, limit)
    }
}
