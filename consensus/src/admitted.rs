//! The signatures that this node has verified: a bounded set of leaf hashes.
//!
//! What holds here: a leaf hash binds envelope and signatures, so admission's verdict is valid for
//! exactly those bytes, and they need not be verified again once they are committed. Forgetting one
//! costs a verification, never correctness.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use cairn_ledger::hash::Hash;

use crate::locked;

/// Leaf hashes kept: well over what can be queued and in flight between admission and apply.
const CAPACITY: usize = 262_144;

/// The set, oldest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct AdmittedCache {
    inner: Mutex<(HashSet<Hash>, VecDeque<Hash>)>,
}

impl AdmittedCache {
    pub(crate) fn insert(&self, leaf_hash: Hash) {
        let (set, order) = &mut *locked(&self.inner);
        if set.insert(leaf_hash) {
            order.push_back(leaf_hash);
            if order.len() > CAPACITY
                && let Some(oldest) = order.pop_front()
            {
                set.remove(&oldest);
            }
        }
    }

    pub(crate) fn contains(&self, leaf_hash: &Hash) -> bool {
        locked(&self.inner).0.contains(leaf_hash)
    }
}
