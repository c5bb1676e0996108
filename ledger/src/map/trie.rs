//! Reading and updating the map: a sorted batch in one pass.
//!
//! Each page on the way of the batch is read once, unless a batch before has left it warm, and each
//! branch is written once; the children of a branch that the batch touches are read together. A block's changes
//! therefore belong into one batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::page::{Branch, Leaf, MAX_LEAVES, Place, SPAN, WIDTH};
use super::value_hash;
use super::warm::{Bucket, Kept, Warm};
use crate::hash::Hash;
use crate::rooms;
use crate::state::{StateError, StateRead, Writes};

/// The value of `key`.
pub fn get<S: StateRead + ?Sized>(state: &S, key: &Hash) -> Result<Option<Bytes>, StateError> {
    state.get(&value_key(key))
}

/// The values of `keys`, in their order. They are read in the order in which they lie, so that many
/// keys cost a look into each block of a disk and not one for each key.
pub fn get_many<S: StateRead + ?Sized>(
    state: &S,
    keys: &[Hash],
) -> Result<Vec<Option<Bytes>>, StateError> {
    let order = in_order(keys.iter());
    let sorted: Vec<Vec<u8>> = order.iter().map(|at| value_key(&keys[*at])).collect();
    let mut values = vec![None; keys.len()];
    for (at, value) in order.into_iter().zip(state.multi_get(&sorted)?) {
        values[at] = value;
    }
    Ok(values)
}

/// Where each of `keys` stands, in the order of the keys; those that share their first half in any.
pub(crate) fn in_order<'a>(keys: impl Iterator<Item = &'a Hash>) -> Vec<usize> {
    let half = |key: &Hash| {
        key.0
            .first_chunk()
            .map_or(0, |half| u128::from_be_bytes(*half))
    };
    let mut halves: Vec<(u128, usize)> = keys.map(half).zip(0..).collect();
    halves.sort_unstable();
    halves.into_iter().map(|(_, at)| at).collect()
}

/// Inserts or replaces the values of `changes` in the map with `old_root`; the new root, and what
/// is to be written. Values must not be empty: there would be no proof of them.
///
/// `warm` is what updates and proofs before have read; what this one makes is kept there too.
pub fn update<S: StateRead + ?Sized>(
    state: &S,
    warm: &Warm,
    old_root: &Hash,
    changes: &BTreeMap<Hash, Bytes>,
) -> Result<(Hash, Writes), StateError> {
    let leaves: Vec<Leaf> = changes
        .iter()
        .map(|(key, value)| {
            assert!(!value.is_empty(), "the map has no empty values: {key}");
            Leaf {
                key: *key,
                value_hash: value_hash(value),
            }
        })
        .collect();
    let mut pages = Pages {
        warm,
        branches: Vec::new(),
    };
    let root = if leaves.is_empty() {
        *old_root
    } else if *old_root == Hash::ZERO {
        pages.build(&Place::ROOT, &leaves)
    } else {
        let mut page = warm.take(state, &[(Place::ROOT, *old_root)])?;
        match page.pop() {
            Some(page) => pages.change(state, &Place::ROOT, page, &leaves)?,
            None => pages.build(&Place::ROOT, &leaves),
        }
    };
    // As they lie in the state: that is where inserting them is fast.
    let mut writes: Writes = pages.branches.into_iter().flatten().collect();
    writes.extend(
        changes
            .iter()
            .map(|(key, value)| (value_key(key), value.clone())),
    );
    Ok((root, writes))
}

/// The pages that an update makes.
struct Pages<'w> {
    warm: &'w Warm,
    /// By depth, and there from left to right.
    branches: Vec<Writes>,
}

impl Pages<'_> {
    /// Brings `changes`, which all belong below `place`, into the `page` there; the new hash of its
    /// subtree.
    fn change<S: StateRead + ?Sized>(
        &mut self,
        state: &S,
        place: &Place,
        page: Kept,
        changes: &[Leaf],
    ) -> Result<Hash, StateError> {
        let stored = match page {
            Kept::Bucket(bucket) => return Ok(self.change_bucket(place, bucket, changes)),
            Kept::Branch(stored) => stored,
        };
        let mut branch = stored.open();
        let groups = groups(place, changes);
        let there: Vec<(Place, Hash)> = groups
            .iter()
            .map(|(slot, _)| (place.child(*slot), branch.slot(*slot)))
            .filter(|(_, hash)| *hash != Hash::ZERO)
            .collect();
        let mut children = self.warm.take(state, &there)?.into_iter();
        let mut changed = Vec::with_capacity(groups.len());
        for (slot, group) in groups {
            let child = place.child(slot);
            let is_empty = branch.slot(slot) == Hash::ZERO;
            let page = (!is_empty).then(|| children.next()).flatten();
            let hash = match page {
                None => self.build(&child, group),
                Some(page) => self.change(state, &child, page, group)?,
            };
            changed.push((slot, hash));
        }
        branch.replace(&changed);
        Ok(self.put_branch(place, &branch))
    }

    fn change_bucket(&mut self, place: &Place, bucket: Arc<Bucket>, changes: &[Leaf]) -> Hash {
        // A proof may be looking at it.
        let mut bucket = Arc::unwrap_or_clone(bucket);
        if bucket.replace(changes, place.depth) {
            return self.keep_bucket(bucket);
        }
        self.build(place, &merge(bucket.leaves(), changes))
    }

    /// Makes the pages of a subtree that holds exactly `leaves`.
    fn build(&mut self, place: &Place, leaves: &[Leaf]) -> Hash {
        if leaves.len() <= MAX_LEAVES {
            return self.keep_bucket(Bucket::new(leaves.to_vec(), place.depth));
        }
        let mut slots = [Hash::ZERO; WIDTH];
        for (slot, group) in groups(place, leaves) {
            slots[slot] = self.build(&place.child(slot), group);
        }
        self.put_branch(place, &Branch::new(slots))
    }

    fn put_branch(&mut self, place: &Place, branch: &Branch) -> Hash {
        let stored = branch.store();
        let level = place.depth / SPAN;
        if self.branches.len() <= level {
            self.branches.resize_with(level + 1, Writes::new);
        }
        self.branches[level].push((place.state_key(), stored.bytes().clone()));
        self.warm.keep_page(branch.root(), Kept::Branch(stored));
        branch.root()
    }

    /// The values are all that is stored of a bucket.
    fn keep_bucket(&self, bucket: Bucket) -> Hash {
        let hash = bucket.hash(bucket.root());
        self.warm.keep_page(hash, Kept::Bucket(bucket.into()));
        hash
    }
}

/// Sorted leaves by the subtree of the branch at `place` that they belong to.
fn groups<'a>(place: &Place, leaves: &'a [Leaf]) -> Vec<(usize, &'a [Leaf])> {
    leaves
        .chunk_by(|a, b| place.slot(&a.key) == place.slot(&b.key))
        .filter_map(|group| Some((place.slot(&group.first()?.key), group)))
        .collect()
}

/// Both, sorted; where a key is in both, as in `changes`.
fn merge(leaves: &[Leaf], changes: &[Leaf]) -> Vec<Leaf> {
    let mut merged = Vec::with_capacity(leaves.len() + changes.len());
    let mut old = leaves.iter().peekable();
    for change in changes {
        while let Some(leaf) = old.next_if(|leaf| leaf.key < change.key) {
            merged.push(*leaf);
        }
        old.next_if(|leaf| leaf.key == change.key);
        merged.push(*change);
    }
    merged.extend(old);
    merged
}

fn value_key(key: &Hash) -> Vec<u8> {
    rooms::key(rooms::MAP_VALUE, &[key.as_bytes()])
}
