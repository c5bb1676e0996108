//! A bucket in memory: its leaves, and the hashes of all subtrees of them.
//!
//! What holds here: the hashes are those of the leaves, also after some were replaced. What stays out:
//! where the leaves come from (`page`), and which buckets are kept (`warm`).

use std::mem;

use super::node_hash;
use super::page::{Leaf, split_at_bit};
use crate::hash::Hash;

/// A bucket with the hashes of all subtrees in it.
///
/// A proof goes down one way and copies what stands beside it, mostly from memory that no processor has
/// in its cache. Where the way goes is therefore kept apart from the hashes, in a line or two of a
/// cache; what is to be copied is then known at once and does not wait for each other.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    leaves: Vec<Leaf>,
    /// What the halves of each subtree with more than one leaf hold; that of the whole is the last.
    forks: Vec<[Holds; 2]>,
    /// The hashes of these halves.
    hashes: Vec<[Hash; 2]>,
    root: (Holds, Hash),
}

/// What a subtree of a bucket holds. There are at most 32 leaves and 256 levels, so places fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Nothing,
    /// Which one.
    Leaf(u16),
    /// More than one leaf: which fork.
    Fork(u16),
}

impl Bucket {
    pub(super) fn new(leaves: Vec<Leaf>, depth: usize) -> Bucket {
        let mut bucket = Bucket {
            leaves: Vec::new(),
            forks: Vec::with_capacity(leaves.len()),
            hashes: Vec::with_capacity(leaves.len()),
            root: (Holds::Nothing, Hash::ZERO),
        };
        bucket.root = bucket.grow(&leaves, 0, depth);
        bucket.leaves = leaves;
        bucket
    }

    /// Gives leaves that are here other values, if all of `changes` are; what they leave alone is not
    /// hashed again. The bucket is that of a page at `depth`.
    pub(super) fn replace(&mut self, changes: &[Leaf], depth: usize) -> bool {
        let found = |change: &Leaf| self.place_of(&change.key).is_some();
        let all = changes.iter().all(found);
        if all {
            self.root.1 = self.replace_below(self.root, changes, depth);
        }
        all
    }

    /// In the subtree at `depth` that holds `holds` and has `hash`; its new hash.
    fn replace_below(
        &mut self,
        (holds, hash): (Holds, Hash),
        changes: &[Leaf],
        depth: usize,
    ) -> Hash {
        let [first, ..] = changes else {
            return hash;
        };
        match holds {
            Holds::Nothing => hash,
            Holds::Leaf(leaf) => {
                self.leaves[usize::from(leaf)] = *first;
                first.hash()
            }
            Holds::Fork(fork) => {
                let fork = usize::from(fork);
                let (lefts, rights) = split_at_bit(changes, depth);
                let ([left, right], [l, r]) = (self.forks[fork], self.hashes[fork]);
                let halves = [
                    self.replace_below((left, l), lefts, depth + 1),
                    self.replace_below((right, r), rights, depth + 1),
                ];
                self.hashes[fork] = halves;
                node_hash(&halves[0], &halves[1])
            }
        }
    }

    fn place_of(&self, key: &Hash) -> Option<usize> {
        let found = self.leaves.binary_search_by(|leaf| leaf.key.cmp(key));
        found.ok()
    }

    pub(super) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// Adds the subtree at `depth` of some leaves, before which there are `before`; what it holds, and
    /// its hash.
    fn grow(&mut self, leaves: &[Leaf], before: usize, depth: usize) -> (Holds, Hash) {
        match leaves {
            [] => (Holds::Nothing, Hash::ZERO),
            [leaf] => (Holds::Leaf(before as u16), leaf.hash()),
            _ => {
                let (left, right) = split_at_bit(leaves, depth);
                let behind = before + left.len();
                let (left, l) = self.grow(left, before, depth + 1);
                let (right, r) = self.grow(right, behind, depth + 1);
                self.forks.push([left, right]);
                self.hashes.push([l, r]);
                (
                    Holds::Fork((self.forks.len() - 1) as u16),
                    node_hash(&l, &r),
                )
            }
        }
    }

    /// What the whole holds.
    pub(super) fn root(&self) -> Holds {
        self.root.0
    }

    /// The hash of the whole.
    pub(super) fn hash(&self) -> Hash {
        self.root.1
    }

    /// What the halves of a fork hold, and their hashes.
    pub(super) fn fork(&self, fork: u16) -> (&[Holds; 2], &[Hash; 2]) {
        let fork = usize::from(fork);
        (&self.forks[fork], &self.hashes[fork])
    }

    pub(super) fn leaf(&self, leaf: u16) -> Leaf {
        self.leaves[usize::from(leaf)]
    }

    /// Bytes in memory.
    pub(super) fn len(&self) -> usize {
        mem::size_of_val(&self.leaves[..])
            + mem::size_of_val(&self.forks[..])
            + mem::size_of_val(&self.hashes[..])
    }
}
