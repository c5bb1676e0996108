//! Successive leaves of a tree, shown whole: whoever holds the root knows that none is missing.
//!
//! What holds here: the proof is the roots of the largest complete subtrees on both sides of the
//! leaves, so it has at most two hashes a level however many leaves it is for, and its shape follows
//! from the sizes alone.

use std::ops::Range;

use super::proof::{LogError, ProofError};
use super::tree::roots_of_ranges;
use super::{TreeId, empty_root, node_hash};
use crate::hash::Hash;
use crate::state::StateRead;

/// The complete subtrees that make up `range`, from the left, each as large as its place allows.
fn subtrees(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let fits = range.end.saturating_sub(start).checked_ilog2()?;
        let height = fits.min(start.trailing_zeros());
        let subtree = start..start + (1 << height);
        start = subtree.end;
        Some(subtree)
    })
}

/// The roots beside the leaves `range` in the tree of the first `size` leaves: those before, and
/// those behind.
pub fn prove_range<S: StateRead + ?Sized>(
    state: &S,
    tree: &TreeId,
    range: Range<u64>,
    size: u64,
) -> Result<(Vec<Hash>, Vec<Hash>), LogError> {
    if range.start > range.end || range.end > size {
        let index = range.end.max(range.start);
        return Err(LogError::NoSuchLeaf { index, size });
    }
    let mut ranges: Vec<Range<u64>> = subtrees(0..range.start).collect();
    let before = ranges.len();
    ranges.extend(subtrees(range.end..size));
    let mut roots = roots_of_ranges(state, tree, &ranges, &|_| None)?;
    let after = roots.split_off(before);
    Ok((roots, after))
}

/// Checks that `leaves` are all leaves from `first` on, as many as there are, of the tree of `size`
/// leaves with this `root`.
pub fn verify_range(
    leaves: &[Hash],
    first: u64,
    size: u64,
    before: &[Hash],
    after: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    let end = first.checked_add(leaves.len() as u64);
    let end = end
        .filter(|end| *end <= size)
        .ok_or(ProofError::NoSuchLeaf {
            index: first.saturating_add(leaves.len() as u64),
            size,
        })?;
    let mut edge = Edge::default();
    edge.extend(subtrees(0..first), before)?;
    for leaf in leaves {
        edge.push(0, *leaf);
    }
    edge.extend(subtrees(end..size), after)?;
    let computed = edge.root();
    if computed == *root {
        return Ok(());
    }
    Err(ProofError::WrongRoot {
        computed,
        expected: *root,
    })
}

/// The complete subtrees of the leaves so far, the largest first, with their heights.
#[derive(Default)]
struct Edge(Vec<(u32, Hash)>);

impl Edge {
    fn push(&mut self, mut height: u32, mut hash: Hash) {
        while let Some((_, left)) = self.0.pop_if(|(top, _)| *top == height) {
            hash = node_hash(&left, &hash);
            height += 1;
        }
        self.0.push((height, hash));
    }

    fn extend(
        &mut self,
        subtrees: impl Iterator<Item = Range<u64>>,
        roots: &[Hash],
    ) -> Result<(), ProofError> {
        let len = roots.len();
        let mut roots = roots.iter();
        for subtree in subtrees {
            let root = roots.next().ok_or(ProofError::TooShort { len })?;
            self.push((subtree.end - subtree.start).ilog2(), *root);
        }
        match roots.next() {
            None => Ok(()),
            Some(_) => Err(ProofError::TooLong { len }),
        }
    }

    fn root(self) -> Hash {
        let hashes = self.0.into_iter().rev().map(|(_, hash)| hash);
        hashes
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(empty_root)
    }
}
