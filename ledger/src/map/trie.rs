//! Updating the map: a sorted batch in one pass.
//!
//! Each page on the way of the batch is read once, unless a batch before has left it warm, and each
//! branch is written once; the children of a branch that the batch touches are read together. A
//! block's changes therefore belong into one batch.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bucket::Bucket;
use super::page::{Branch, Leaf, MAX_LEAVES, Place, SPAN, WIDTH};
use super::read::value_key;
use super::warm::{Page, Warm};
use crate::hash::Hash;
use crate::state::{StateError, StateRead, Writes};

/// Inserts or replaces the values of `changes` in the map with `old_root`; the new root, and what
/// is to be written. Values must not be empty: there would be no proof of them.
///
/// `warm` is what updates and proofs before have read; what this one makes is kept there too.
pub fn update<S: StateRead + ?Sized>(
    state: &S,
    warm: &Warm,
    old_root: &Hash,
    changes: BTreeMap<Hash, Bytes>,
) -> Result<(Hash, Writes), StateError> {
    let leaves: Vec<Leaf<'_>> = changes
        .iter()
        .map(|(key, value)| {
            assert!(!value.is_empty(), "the map has no empty values: {key}");
            Leaf::new(*key, value)
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
            .into_iter()
            .map(|(key, value)| (value_key(&key), value)),
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
        changes: &[&[Leaf<'_>]],
    ) -> Result<Vec<Hash>, StateError> {
        let pages = self.warm.take(state, places)?;
        let pages = pages.into_iter().zip(places).zip(changes);
        pages
            .map(|((page, (place, _)), changes)| match page {
                None => Ok(self.build(place, changes)),
                Some(Page::Bucket(bucket)) => Ok(self.change_bucket(place, bucket, changes)),
                Some(Page::Branch(branch)) => self.change_branch(state, place, branch, changes),
            })
            .collect()
    }

    fn change_branch<S: StateRead + ?Sized>(
        &mut self,
        state: &S,
        place: &Place,
        mut branch: Box<Branch>,
        changes: &[Leaf<'_>],
    ) -> Result<Hash, StateError> {
        let (slots, groups): (Vec<usize>, Vec<&[Leaf<'_>]>) = groups(place, changes).unzip();
        let child = |slot: &usize| (place.child(*slot), branch.slot(*slot));
        let places: Vec<(Place, Hash)> = slots.iter().map(child).collect();
        let hashes = self.bring_in(state, &places, &groups)?;
        branch.replace(slots.into_iter().zip(hashes));
        Ok(self.put_branch(place, branch))
    }

    fn change_bucket(
        &mut self,
        place: &Place,
        mut bucket: Box<Bucket>,
        changes: &[Leaf<'_>],
    ) -> Hash {
        if bucket.replace(changes, place.depth) {
            return self.keep_bucket(bucket);
        }
        self.build(place, &merge(&bucket.leaves(), changes))
    }

    /// Makes the pages of a subtree that holds exactly `leaves`.
    fn build(&mut self, place: &Place, leaves: &[Leaf<'_>]) -> Hash {
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
        self.warm.keep(hash, Page::Branch(branch));
        hash
    }

    /// The values are all that is stored of a bucket.
    fn keep_bucket(&self, bucket: Box<Bucket>) -> Hash {
        let hash = *bucket.hash();
        self.warm.keep(hash, Page::Bucket(bucket));
        hash
    }
}

/// Sorted leaves by the subtree of the branch at `place` that they belong to.
fn groups<'a, 'v>(
    place: &Place,
    leaves: &'a [Leaf<'v>],
) -> impl Iterator<Item = (usize, &'a [Leaf<'v>])> {
    leaves
        .chunk_by(|a, b| place.slot(&a.key) == place.slot(&b.key))
        .filter_map(|group| Some((place.slot(&group.first()?.key), group)))
}

/// Both, sorted; where a key is in both, as in `changes`.
fn merge<'v>(leaves: &[Leaf<'v>], changes: &[Leaf<'v>]) -> Vec<Leaf<'v>> {
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
