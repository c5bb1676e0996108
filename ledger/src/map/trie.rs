//! Reading and updating the map: a sorted batch in one pass.
//!
//! Each page on the way of the batch is read once, unless a batch before has left it warm, and each
//! branch is written once; the children of a branch that the batch touches are read together. A
//! block's changes therefore belong into one batch.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bucket::Bucket;
use super::page::{Branch, Leaf, MAX_LEAVES, Place, SPAN, WIDTH};
use super::value_hash;
use super::warm::{Kept, Warm};
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
    let root = match &leaves[..] {
        [] => *old_root,
        all => pages.bring_in(state, &[(Place::ROOT, *old_root)], &[all])?[0],
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
    /// Brings changes into the pages at some places, whose subtrees have these hashes, each list into
    /// the page that it belongs below; the new hashes.
    fn bring_in<S: StateRead + ?Sized>(
        &mut self,
        state: &S,
        places: &[(Place, Hash)],
        changes: &[&[Leaf]],
    ) -> Result<Vec<Hash>, StateError> {
        let pages = self.warm.take(state, places)?;
        let pages = pages.into_iter().zip(places).zip(changes);
        pages
            .map(|((page, (place, _)), changes)| match page {
                None => Ok(self.build(place, changes)),
                Some(Kept::Bucket(bucket)) => Ok(self.change_bucket(place, bucket, changes)),
                Some(Kept::Branch(branch)) => self.change_branch(state, place, branch, changes),
            })
            .collect()
    }

    fn change_branch<S: StateRead + ?Sized>(
        &mut self,
        state: &S,
        place: &Place,
        mut branch: Box<Branch>,
        changes: &[Leaf],
    ) -> Result<Hash, StateError> {
        let (slots, groups): (Vec<usize>, Vec<&[Leaf]>) = groups(place, changes).unzip();
        let child = |slot: &usize| (place.child(*slot), branch.slot(*slot));
        let places: Vec<(Place, Hash)> = slots.iter().map(child).collect();
        let hashes = self.bring_in(state, &places, &groups)?;
        branch.replace(slots.into_iter().zip(hashes));
        Ok(self.put_branch(place, branch))
    }

    fn change_bucket(&mut self, place: &Place, mut bucket: Box<Bucket>, changes: &[Leaf]) -> Hash {
        if bucket.replace(changes, place.depth) {
            return self.keep_bucket(bucket);
        }
        self.build(place, &merge(&bucket.leaves(), changes))
    }

    /// Makes the pages of a subtree that holds exactly `leaves`.
    fn build(&mut self, place: &Place, leaves: &[Leaf]) -> Hash {
        if leaves.len() <= MAX_LEAVES {
            return self.keep_bucket(Bucket::new(leaves, place.depth).into());
        }
        let mut slots = [Hash::ZERO; WIDTH];
        for (slot, group) in groups(place, leaves) {
            slots[slot] = self.build(&place.child(slot), group);
        }
        self.put_branch(place, Branch::new(slots).into())
    }

    fn put_branch(&mut self, place: &Place, branch: Box<Branch>) -> Hash {
        let hash = *branch.root();
        let level = place.depth / SPAN;
        if self.branches.len() <= level {
            self.branches.resize_with(level + 1, Writes::new);
        }
        self.branches[level].push((place.state_key(), branch.encode()));
        self.warm.keep_page(hash, Kept::Branch(branch));
        hash
    }

    /// The values are all that is stored of a bucket.
    fn keep_bucket(&self, bucket: Box<Bucket>) -> Hash {
        let hash = *bucket.hash();
        self.warm.keep_page(hash, Kept::Bucket(bucket));
        hash
    }
}

/// Sorted leaves by the subtree of the branch at `place` that they belong to.
fn groups<'a>(place: &Place, leaves: &'a [Leaf]) -> impl Iterator<Item = (usize, &'a [Leaf])> {
    leaves
        .chunk_by(|a, b| place.slot(&a.key) == place.slot(&b.key))
        .filter_map(|group| Some((place.slot(&group.first()?.key), group)))
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
