//! A bucket in memory: its leaves with their values, and the hashes of all subtrees of them.
//!
//! What holds here: the hashes are those of the leaves, and the values those that they have the hashes
//! of, also after some were replaced. What stays out: where the leaves come from (`page`), and which
//! buckets are kept (`warm`).

use std::mem;

use super::page::{Leaf, split_at_bit};
use super::{bit, node_hash};
use crate::hash::Hash;

/// Longer values are not kept: they are read from the state each time.
const MAX_VALUE: usize = 1 << 10;

/// A bucket with the hashes of all subtrees in it.
///
/// A proof goes down one way and copies what stands beside it, mostly from memory that no processor has
/// in its cache: what costs is how many lines of 64 bytes it waits for, one after the other. So all is
/// in one piece, in cells of a line each: first where the way goes, sixteen forks to a cell, so that what
/// is to be copied is known at once; then the hashes of each fork's halves; then the leaves.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Of the whole.
    hash: Hash,
    root: Holds,
    forks: usize,
    cells: Vec<Cell>,
    /// Of each leaf: a piece of memory of its own, so that replacing one copies no others.
    values: Vec<Box<[u8]>>,
    /// Bytes of all values.
    values_len: usize,
}

/// Two hashes: of a fork's halves, or a leaf's key and that of its value. Or sixteen forks' [`Link`]s.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Cell([Hash; 2]);

/// What a subtree of a bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Nothing,
    /// Which one.
    Leaf(usize),
    /// More than one leaf: which fork.
    Fork(usize),
}

/// [`Holds`] in two bytes: at most 32 leaves, and forks for 256 levels below each.
#[derive(Debug, Clone, Copy)]
struct Link([u8; 2]);

impl Link {
    const NOTHING: u16 = u16::MAX;
    const LEAF: u16 = 1 << 15;

    fn new(holds: Holds) -> Link {
        let number = match holds {
            Holds::Nothing => Link::NOTHING,
            Holds::Leaf(leaf) => Link::LEAF | leaf as u16,
            Holds::Fork(fork) => fork as u16,
        };
        Link(number.to_le_bytes())
    }

    fn holds(self) -> Holds {
        match u16::from_le_bytes(self.0) {
            Link::NOTHING => Holds::Nothing,
            leaf if leaf & Link::LEAF != 0 => Holds::Leaf(usize::from(leaf & !Link::LEAF)),
            fork => Holds::Fork(usize::from(fork)),
        }
    }
}

/// Forks whose links fill one hash of a cell.
const FORKS_IN_A_HASH: usize = 8;

impl Bucket {
    pub(super) fn new(leaves: &[Leaf<'_>], depth: usize) -> Bucket {
        let mut growing = Growing {
            links: Vec::with_capacity(leaves.len()),
            pairs: Vec::with_capacity(leaves.len()),
        };
        let (root, hash) = growing.grow(leaves, 0, depth);
        let Growing { links, pairs } = growing;
        let forks = pairs.len();
        let mut cells = Vec::with_capacity(cells_of_links(forks) + forks + leaves.len());
        cells.resize(cells_of_links(forks), Cell([Hash::ZERO; 2]));
        for (fork, [left, right]) in links.into_iter().enumerate() {
            let bytes = &mut cells[fork / (2 * FORKS_IN_A_HASH)].0[fork / FORKS_IN_A_HASH % 2].0;
            let at = 4 * (fork % FORKS_IN_A_HASH);
            bytes[at..at + 2].copy_from_slice(&Link::new(left).0);
            bytes[at + 2..at + 4].copy_from_slice(&Link::new(right).0);
        }
        cells.extend(pairs.into_iter().map(Cell));
        cells.extend(leaves.iter().map(|leaf| Cell([leaf.key, leaf.value_hash])));
        let values: Vec<Box<[u8]>> = leaves.iter().map(|leaf| kept(leaf.value)).collect();
        Bucket {
            hash,
            root,
            forks,
            cells,
            values_len: values.iter().map(|value| value.len()).sum(),
            values,
        }
    }

    /// Gives leaves that are here other values, if all of `changes` are; what they leave alone is not
    /// hashed again. The bucket is that of a page at `depth`.
    pub(super) fn replace(&mut self, changes: &[Leaf<'_>], depth: usize) -> bool {
        let all = changes
            .iter()
            .all(|change| self.find(&change.key, depth).is_some());
        if all {
            self.hash = self.replace_below(self.root, self.hash, changes, depth);
        }
        all
    }

    /// In the subtree at `depth` that holds `holds` and has `hash`; its new hash.
    fn replace_below(
        &mut self,
        holds: Holds,
        hash: Hash,
        changes: &[Leaf<'_>],
        depth: usize,
    ) -> Hash {
        let [first, ..] = changes else {
            return hash;
        };
        match holds {
            Holds::Nothing => hash,
            Holds::Leaf(leaf) => {
                let at = self.first_leaf() + leaf;
                self.cells[at] = Cell([first.key, first.value_hash]);
                let before = mem::replace(&mut self.values[leaf], kept(first.value));
                self.values_len = self.values_len - before.len() + self.values[leaf].len();
                first.hash()
            }
            Holds::Fork(fork) => {
                let (lefts, rights) = split_at_bit(changes, depth);
                let [left, right] = *self.hashes(fork);
                let left = self.replace_below(self.half(fork, 0), left, lefts, depth + 1);
                let right = self.replace_below(self.half(fork, 1), right, rights, depth + 1);
                let at = cells_of_links(self.forks) + fork;
                self.cells[at] = Cell([left, right]);
                node_hash(&left, &right)
            }
        }
    }

    /// What the whole holds.
    pub(super) fn root(&self) -> Holds {
        self.root
    }

    /// The hash of the whole.
    pub(super) fn hash(&self) -> &Hash {
        &self.hash
    }

    /// What the left half of a fork holds (0), or the right one (1).
    pub(super) fn half(&self, fork: usize, half: usize) -> Holds {
        let bytes = &self.cells[fork / (2 * FORKS_IN_A_HASH)].0[fork / FORKS_IN_A_HASH % 2].0;
        let at = 4 * (fork % FORKS_IN_A_HASH) + 2 * half;
        Link([bytes[at], bytes[at + 1]]).holds()
    }

    /// The hashes of a fork's halves.
    pub(super) fn hashes(&self, fork: usize) -> &[Hash; 2] {
        &self.cells[cells_of_links(self.forks) + fork].0
    }

    /// Which leaf has this key, in the bucket of a page at `depth`. The way there waits for two lines of
    /// memory, a binary search for four.
    pub(super) fn find(&self, key: &Hash, mut depth: usize) -> Option<usize> {
        let mut holds = self.root;
        loop {
            match holds {
                Holds::Nothing => return None,
                Holds::Leaf(leaf) => return (self.leaf(leaf).key == *key).then_some(leaf),
                Holds::Fork(fork) => holds = self.half(fork, bit(key, depth).into()),
            }
            depth += 1;
        }
    }

    pub(super) fn leaf(&self, leaf: usize) -> Leaf<'_> {
        let Cell([key, value_hash]) = self.cells[self.first_leaf() + leaf];
        Leaf {
            key,
            value_hash,
            value: &self.values[leaf],
        }
    }

    /// All leaves in the order of their keys.
    pub(super) fn leaves(&self) -> Vec<Leaf<'_>> {
        (0..self.values.len()).map(|leaf| self.leaf(leaf)).collect()
    }

    /// Bytes in memory.
    pub(super) fn len(&self) -> usize {
        mem::size_of::<Bucket>()
            + mem::size_of_val(&self.cells[..])
            + mem::size_of_val(&self.values[..])
            + self.values_len
    }

    fn first_leaf(&self) -> usize {
        cells_of_links(self.forks) + self.forks
    }
}

fn cells_of_links(forks: usize) -> usize {
    forks.div_ceil(2 * FORKS_IN_A_HASH)
}

/// What is kept of a value: nothing of one that is too long.
fn kept(value: &[u8]) -> Box<[u8]> {
    match value.len() <= MAX_VALUE {
        true => value.into(),
        false => Box::default(),
    }
}

/// The forks of a bucket that is being made.
struct Growing {
    links: Vec<[Holds; 2]>,
    pairs: Vec<[Hash; 2]>,
}

impl Growing {
    /// Adds the subtree at `depth` of some leaves, before which there are `before`; what it holds, and
    /// its hash.
    fn grow(&mut self, leaves: &[Leaf<'_>], before: usize, depth: usize) -> (Holds, Hash) {
        match leaves {
            [] => (Holds::Nothing, Hash::ZERO),
            [leaf] => (Holds::Leaf(before), leaf.hash()),
            _ => {
                let (left, right) = split_at_bit(leaves, depth);
                let behind = before + left.len();
                let (left, l) = self.grow(left, before, depth + 1);
                let (right, r) = self.grow(right, behind, depth + 1);
                self.links.push([left, right]);
                self.pairs.push([l, r]);
                (Holds::Fork(self.pairs.len() - 1), node_hash(&l, &r))
            }
        }
    }
}
