//! Pages: how the trie lies in the state. Not consensus: only hashes are.
//!
//! A page stands at a depth that is a multiple of four and holds all below its prefix, in one of
//! two forms. With at most [`MAX_LEAVES`] leaves it is a *bucket*, and is not stored: its leaves are
//! the map's values, which lie side by side in the order of their keys. With more it is a *branch*:
//! the hashes of its sixteen subtrees four levels down, each of which is a page again unless it is
//! empty, and the hashes between, so that a proof copies where it would hash. Since nothing is
//! deleted, which form a page has depends on the pairs alone.
//!
//! Key: room ‖ depth (1 byte) ‖ the first `depth` bits of the keys below, in whole bytes with zeros
//! behind. Depth first, so that the sixteen children of a branch lie side by side.
//!
//! Branch: bitmap (4 bytes) ‖ hashes (32 each). Bit i of the bitmap, the first the most
//! significant, is set where hash i is not empty; hash 1 is the page's own and not stored (nor is
//! there a hash 0), the halves of i are 2i and 2i + 1, and the subtrees are 16 to 31.

use bytes::Bytes;

use super::{Hash, KEY_BITS, bit, join, leaf_hash, node_hash, shared_bits, value_hash};
use crate::rooms;
use crate::state::{StateError, StateRead};

/// Leaves in a bucket. With 1,000,000 keys 16 meant 99,000 pages to change for 100,000 changes, 32 and
/// 64 meant 56,000; more also means more values to read and hash for one proof.
pub(super) const MAX_LEAVES: usize = 32;
/// Levels of the trie that a branch spans.
pub(super) const SPAN: usize = 4;
/// Subtrees of a branch.
pub(super) const WIDTH: usize = 1 << SPAN;

/// Bytes before the hashes of a branch.
const BRANCH_HEAD: usize = 4;

/// A leaf: a key, and the hash of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf<'v> {
    pub(super) key: Hash,
    pub(super) value_hash: Hash,
    /// The value, or nothing where it is not at hand: no value is empty.
    pub(super) value: &'v [u8],
}

impl<'v> Leaf<'v> {
    pub(super) fn new(key: Hash, value: &'v [u8]) -> Leaf<'v> {
        Leaf {
            key,
            value_hash: value_hash(value),
            value,
        }
    }

    pub(super) fn hash(&self) -> Hash {
        leaf_hash(&self.key, &self.value_hash)
    }
}

/// Where a page stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// A multiple of [`SPAN`], below 256.
    pub(super) depth: usize,
    /// Its bits behind `depth` are zero.
    prefix: Hash,
}

impl Place {
    /// The page that holds all.
    pub(super) const ROOT: Place = Place {
        depth: 0,
        prefix: Hash::ZERO,
    };

    /// The page of the `slot`-th subtree of the branch here.
    pub(super) fn child(&self, slot: usize) -> Place {
        let mut prefix = self.prefix;
        let shift = if self.depth.is_multiple_of(8) { 4 } else { 0 };
        prefix.0[self.depth / 8] |= (slot as u8) << shift;
        Place {
            depth: self.depth + SPAN,
            prefix,
        }
    }

    /// The subtree of the branch here that `key` belongs to.
    pub(super) fn slot(&self, key: &Hash) -> usize {
        let byte = key.0[self.depth / 8];
        usize::from(if self.depth.is_multiple_of(8) {
            byte >> 4
        } else {
            byte & 0x0f
        })
    }

    /// The key in the state of the branch here.
    pub(super) fn state_key(&self) -> Vec<u8> {
        let prefix = &self.prefix.0[..self.depth.div_ceil(8)];
        rooms::key(rooms::MAP_PAGE, &[&[self.depth as u8], prefix])
    }

    /// Whether `key` belongs here.
    pub(super) fn holds(&self, key: &Hash) -> bool {
        shared_bits(key, &self.prefix) >= self.depth
    }

    /// What the state has of the bucket here: values that lie side by side, behind their keys.
    pub(super) fn values<S: StateRead + ?Sized>(
        &self,
        state: &S,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        let room = |depth: usize| rooms::key(rooms::MAP_VALUE, &[&self.prefix.0[..depth]]);
        let (prefix, from) = (room(self.depth / 8), room(self.depth.div_ceil(8)));
        state.scan(&prefix, &from, MAX_LEAVES + 1)
    }

    /// The leaves of the bucket here among `values`, as they were read.
    pub(super) fn leaves<'v>(
        &self,
        values: &'v [(Bytes, Bytes)],
    ) -> Result<Vec<Leaf<'v>>, StateError> {
        let leaf = |(key, value): &'v (Bytes, Bytes)| {
            let key = Hash::from_slice(&key[1..]).filter(|key| self.holds(key))?;
            Some(Leaf::new(key, value))
        };
        let leaves: Vec<Leaf<'_>> = values.iter().map_while(leaf).collect();
        self.fits_bucket(&leaves)?;
        Ok(leaves)
    }

    /// That so many leaves need no branch.
    pub(super) fn fits_bucket(&self, leaves: &[Leaf<'_>]) -> Result<(), StateError> {
        match leaves.len() <= MAX_LEAVES {
            true => Ok(()),
            false => Err(self.corrupt("the page is missing")),
        }
    }

    /// That the subtree here has the hash that its parent, or the root, has for it.
    pub(super) fn expect(&self, expected: &Hash, found: &Hash) -> Result<(), StateError> {
        match found == expected {
            true => Ok(()),
            false => Err(self.corrupt(format!("its hash is {found} instead of {expected}"))),
        }
    }

    fn corrupt(&self, detail: impl Into<String>) -> StateError {
        StateError::Corrupt {
            place: format!("map page at depth {} of {}", self.depth, self.prefix),
            detail: detail.into(),
        }
    }
}

/// The hashes of the subtrees one to [`SPAN`] levels below a page, and the page's own.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Branch {
    /// Place 0 is unused, 1 the whole; the halves of i are 2i and 2i + 1.
    hashes: [Hash; 2 * WIDTH],
}

impl Branch {
    /// The branch over these subtrees.
    pub(super) fn new(slots: [Hash; WIDTH]) -> Branch {
        let mut hashes = [Hash::ZERO; 2 * WIDTH];
        hashes[WIDTH..].copy_from_slice(&slots);
        let mut branch = Branch { hashes };
        for at in (1..WIDTH).rev() {
            branch.hashes[at] = branch.joined(at);
        }
        branch
    }

    /// What the state has at `place`, if every hash in it is that of its halves, and the whole has the
    /// hash `expected`.
    pub(super) fn read(
        place: &Place,
        stored: &[u8],
        expected: &Hash,
    ) -> Result<Branch, StateError> {
        // Recursions end within the bits of a key.
        let decoded = Branch::decode(stored).filter(|_| place.depth + SPAN < KEY_BITS);
        let branch = decoded.ok_or_else(|| place.corrupt("this is not a page of this place"))?;
        place.expect(expected, branch.root())?;
        (1..WIDTH).try_for_each(|at| place.expect(&branch.hashes[at], &branch.joined(at)))?;
        Ok(branch)
    }

    fn decode(stored: &[u8]) -> Option<Branch> {
        let (bitmap, hashes) = stored.split_first_chunk::<BRANCH_HEAD>()?;
        let bitmap = u32::from_be_bytes(*bitmap);
        let (stored, []) = hashes.as_chunks::<32>() else {
            return None;
        };
        if bitmap >> 30 != 0 || stored.len() != bitmap.count_ones() as usize {
            return None;
        }
        let held = (2..2 * WIDTH).filter(|at| bitmap & (0x8000_0000 >> at) != 0);
        let mut hashes = [Hash::ZERO; 2 * WIDTH];
        for (at, hash) in held.zip(stored) {
            hashes[at] = Hash(*hash);
        }
        let mut branch = Branch { hashes };
        branch.hashes[1] = branch.joined(1);
        Some(branch)
    }

    /// As the state keeps it.
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(BRANCH_HEAD + 32 * (2 * WIDTH - 2));
        let mut bitmap = 0u32;
        bytes.extend_from_slice(&[0; BRANCH_HEAD]);
        for (at, hash) in self.hashes.iter().enumerate().skip(2) {
            if *hash != Hash::ZERO {
                bitmap |= 0x8000_0000 >> at;
                bytes.extend_from_slice(hash.as_bytes());
            }
        }
        bytes[..BRANCH_HEAD].copy_from_slice(&bitmap.to_be_bytes());
        bytes.into()
    }

    /// The hash of the whole.
    pub(super) fn root(&self) -> &Hash {
        &self.hashes[1]
    }

    /// The hash at a place: see the page format.
    pub(super) fn at(&self, at: usize) -> &Hash {
        &self.hashes[at]
    }

    /// The hash of the `slot`-th subtree.
    pub(super) fn slot(&self, slot: usize) -> Hash {
        self.hashes[WIDTH + slot]
    }

    /// Replaces the hashes of some subtrees.
    pub(super) fn replace(&mut self, changed: impl IntoIterator<Item = (usize, Hash)>) {
        let mut touched = [false; 2 * WIDTH];
        for (slot, hash) in changed {
            touched[WIDTH + slot] = true;
            self.hashes[WIDTH + slot] = hash;
        }
        for at in (1..WIDTH).rev() {
            touched[at] = touched[2 * at] || touched[2 * at + 1];
            if touched[at] {
                self.hashes[at] = self.joined(at);
            }
        }
    }

    fn joined(&self, at: usize) -> Hash {
        join(&self.hashes[2 * at], &self.hashes[2 * at + 1])
    }
}

/// Sorted leaves that share their first `depth` bits, split by the next one.
pub(super) fn split_at_bit<'a, 'v>(
    leaves: &'a [Leaf<'v>],
    depth: usize,
) -> (&'a [Leaf<'v>], &'a [Leaf<'v>]) {
    leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.key, depth)))
}

/// The hash of the subtree at `depth` that holds exactly `leaves`.
pub(super) fn root_of_leaves(leaves: &[Leaf<'_>], depth: usize) -> Hash {
    match leaves {
        [] => Hash::ZERO,
        [leaf] => leaf.hash(),
        _ => {
            let (left, right) = split_at_bit(leaves, depth);
            node_hash(
                &root_of_leaves(left, depth + 1),
                &root_of_leaves(right, depth + 1),
            )
        }
    }
}
