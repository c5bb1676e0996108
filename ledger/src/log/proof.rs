//! Inclusion and consistency: making the proofs of RFC 9162, and checking them.
//!
//! Checking follows RFC 9162 2.1.3.2 and 2.1.4.2 step by step and needs no state, so that an
//! outsider can do it. Sizes and roots must come from verified checkpoints, never from beside the
//! proof. What RFC 9162 leaves open is decided here: from size 0 a consistency proof is the empty
//! path, and the old root must be that of the empty tree (which is all that such a proof can say);
//! from n to n it is the empty path, and the roots must be equal.

use std::ops::Range;

use bytes::Bytes;

use super::tree::roots_of_ranges;
use super::{TreeId, empty_root, node_hash};
use crate::hash::Hash;
use crate::state::{StateError, StateRead};

/// The longest path that a proof can need: one hash a level, and sizes have 64 bits. A consistency
/// proof has one hash more, the subtree that it starts from.
pub const MAX_PATH: usize = 65;

/// Why a proof could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The tree has no such leaf: ask for a smaller index, or against a newer checkpoint.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    NoSuchLeaf {
        /// The leaf index asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The old tree is larger than the new one: swap the sizes, or take a newer checkpoint.
    #[error("a tree of {old} leaves cannot have grown to {new}")]
    Shrinks {
        /// The old size asked for.
        old: u64,
        /// The new size asked for.
        new: u64,
    },
    /// The tiles could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why a proof proves nothing. Whoever sent it is wrong or lying.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The checkpoint's tree has no such leaf.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    NoSuchLeaf {
        /// The leaf index in the proof.
        index: u64,
        /// The tree size of the checkpoint.
        size: u64,
    },
    /// The newer tree has fewer leaves.
    #[error("a tree of {old} leaves cannot have grown to {new}")]
    Shrinks {
        /// The old size.
        old: u64,
        /// The new size.
        new: u64,
    },
    /// The path has fewer hashes than these sizes need.
    #[error("the path is too short: {len} hashes")]
    TooShort {
        /// Hashes in the path.
        len: usize,
    },
    /// The path has hashes that nothing needs.
    #[error("the path is too long: {len} hashes")]
    TooLong {
        /// Hashes in the path.
        len: usize,
    },
    /// A part of the path is not a hash.
    #[error("hash {at} of the path has {len} bytes instead of 32")]
    NotAHash {
        /// Which part.
        at: usize,
        /// Its length.
        len: usize,
    },
    /// The path leads to another root than the checkpoint's.
    #[error("the path leads to root {computed}, not to {expected}")]
    WrongRoot {
        /// The root that the path leads to.
        computed: Hash,
        /// The root of the checkpoint.
        expected: Hash,
    },
    /// The path starts from another old root than the one held.
    #[error("the path starts from old root {computed}, not from {expected}")]
    WrongOldRoot {
        /// The old root that the path leads to.
        computed: Hash,
        /// The old root held.
        expected: Hash,
    },
}

/// The path of leaf `index` in the tree of the first `size` leaves, from the leaf up.
pub fn inclusion_proof<S: StateRead + ?Sized>(
    state: &S,
    tree: &TreeId,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, LogError> {
    inclusion_proof_from(state, tree, index, size, |_| None)
}

/// The same in a tree that leaves tiles of leaves out (`append_kept_leaves`), where all other proofs may
/// miss one: `leaf` knows the hashes of all sixteen leaves in the tile of `index`, if one append brought
/// them.
pub fn inclusion_proof_from<S: StateRead + ?Sized>(
    state: &S,
    tree: &TreeId,
    index: u64,
    size: u64,
    leaf: impl Fn(u64) -> Option<Hash>,
) -> Result<Vec<Hash>, LogError> {
    if index >= size {
        return Err(LogError::NoSuchLeaf { index, size });
    }
    let ranges = inclusion_ranges(index, size);
    Ok(roots_of_ranges(state, tree, &ranges, &leaf)?)
}

/// The path that shows that the first `old` leaves are the beginning of the first `new` ones.
pub fn consistency_proof<S: StateRead + ?Sized>(
    state: &S,
    tree: &TreeId,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, LogError> {
    if old > new {
        return Err(LogError::Shrinks { old, new });
    }
    let ranges = consistency_ranges(old, new);
    Ok(roots_of_ranges(state, tree, &ranges, &|_| None)?)
}

/// The subtrees beside the way from leaf `index` to the root: PATH of RFC 9162 2.1.3.1, read from
/// its end.
fn inclusion_ranges(index: u64, size: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::with_capacity(MAX_PATH);
    let mut within = 0..size;
    while within.end - within.start > 1 {
        let (left, right) = halves(&within);
        let (inner, beside) = if index < right.start {
            (left, right)
        } else {
            (right, left)
        };
        ranges.push(beside);
        within = inner;
    }
    ranges.reverse();
    ranges
}

/// The subtrees of SUBPROOF, RFC 9162 2.1.4.1, in the order of the proof.
fn consistency_ranges(old: u64, new: u64) -> Vec<Range<u64>> {
    if old == 0 || old == new {
        return Vec::new();
    }
    let mut ranges = Vec::with_capacity(MAX_PATH);
    let mut within = 0..new;
    while old < within.end {
        let (left, right) = halves(&within);
        let (inner, beside) = if old <= right.start {
            (left, right)
        } else {
            (right, left)
        };
        ranges.push(beside);
        within = inner;
    }
    // The verifier holds the root of this one already when it is the whole old tree.
    if within.start > 0 {
        ranges.push(within);
    }
    ranges.reverse();
    ranges
}

/// Split at the largest power of two below the length, which must be at least 2.
fn halves(range: &Range<u64>) -> (Range<u64>, Range<u64>) {
    let split = range.start + (1 << (range.end - range.start - 1).ilog2());
    (range.start..split, split..range.end)
}

/// A path as protobuf has it. Bounded before anything is copied.
pub fn read_path(path: &[Bytes]) -> Result<Vec<Hash>, ProofError> {
    if path.len() > MAX_PATH {
        return Err(ProofError::TooLong { len: path.len() });
    }
    path.iter()
        .enumerate()
        .map(|(at, bytes)| {
            let len = bytes.len();
            Hash::from_slice(bytes).ok_or(ProofError::NotAHash { at, len })
        })
        .collect()
}

/// Checks that `leaf` is leaf `index` of the tree of `size` leaves with this `root`.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::NoSuchLeaf { index, size });
    }
    let len = path.len();
    // RFC 9162's fn and sn: the places of this leaf and of the last one, level by level. Where a
    // sibling stands on the left, place is not 0: it is odd, or equal to last, which is not 0.
    let (mut place, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for beside in path {
        if last == 0 {
            return Err(ProofError::TooLong { len });
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(beside, &hash);
            // A last node without a sibling moves up as it is.
            let lift = place.trailing_zeros();
            place >>= lift;
            last >>= lift;
        } else {
            hash = node_hash(&hash, beside);
        }
        place >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::TooShort { len });
    }
    same_root(hash, root)
}

/// Checks that the tree of `old_size` leaves with `old_root` is the beginning of the tree of
/// `new_size` leaves with `new_root`.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    path: &[Hash],
) -> Result<(), ProofError> {
    let len = path.len();
    if old_size > new_size {
        return Err(ProofError::Shrinks {
            old: old_size,
            new: new_size,
        });
    }
    if old_size == 0 || old_size == new_size {
        if len > 0 {
            return Err(ProofError::TooLong { len });
        }
        if old_size == 0 {
            same_old_root(empty_root(), old_root)?;
        }
        return match old_size == new_size {
            true => same_root(*old_root, new_root),
            false => Ok(()),
        };
    }
    // The way up starts at the largest subtree that ends where the old tree ends. When that is the
    // whole old tree, its root is held already and left out of the path.
    let lift = old_size.trailing_zeros();
    let (mut place, mut last) = ((old_size - 1) >> lift, (new_size - 1) >> lift);
    let (start, rest) = match path.split_first() {
        _ if old_size.is_power_of_two() => (old_root, path),
        Some(split) => split,
        None => return Err(ProofError::TooShort { len }),
    };
    let (mut old, mut new) = (*start, *start);
    for beside in rest {
        if last == 0 {
            return Err(ProofError::TooLong { len });
        }
        if place & 1 == 1 || place == last {
            old = node_hash(beside, &old);
            new = node_hash(beside, &new);
            let lift = place.trailing_zeros();
            place >>= lift;
            last >>= lift;
        } else {
            new = node_hash(&new, beside);
        }
        place >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::TooShort { len });
    }
    same_old_root(old, old_root)?;
    same_root(new, new_root)
}

fn same_root(computed: Hash, expected: &Hash) -> Result<(), ProofError> {
    match computed == *expected {
        true => Ok(()),
        false => Err(ProofError::WrongRoot {
            computed,
            expected: *expected,
        }),
    }
}

fn same_old_root(computed: Hash, expected: &Hash) -> Result<(), ProofError> {
    match computed == *expected {
        true => Ok(()),
        false => Err(ProofError::WrongOldRoot {
            computed,
            expected: *expected,
        }),
    }
}
