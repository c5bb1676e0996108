//! Proofs of a key's value or of its absence: making them, and checking them.
//!
//! A proof is the way from the root to where the key's place ends: its own leaf, or, for absence,
//! an empty subtree or the leaf of another key. Siblings come from the root down; the bitmap says
//! which are not empty. A statement has exactly one proof: the checks below refuse every second
//! spelling, every part that nothing uses, and a terminal that stands deeper than the compact trie
//! would put it. The root must come from a verified checkpoint, never from beside the proof.

use bytes::Bytes;
use cairn_proto::v1;

use super::bucket::{Bucket, Holds};
use super::page::{Branch, Place, SPAN, WIDTH};
use super::warm::{Page, Warm};
use super::{KEY_BITS, bit, get, is_leaf, leaf_hash, node_hash, shared_bits, value_hash};
use crate::hash::Hash;
use crate::state::{StateError, StateRead};

/// Why a proof proves nothing. Whoever sent it is wrong or lying.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Deeper than a key has bits.
    #[error("the terminal stands at depth {depth}, but keys have 256 bits")]
    TooDeep {
        /// The depth in the proof.
        depth: u32,
    },
    /// The bitmap must have exactly one bit a level, and zeros up to the next whole byte.
    #[error("the bitmap has {len} bytes, or bits set behind depth {depth}")]
    Bitmap {
        /// The depth in the proof.
        depth: u32,
        /// Bytes of the bitmap.
        len: usize,
    },
    /// The bitmap names another number of siblings than there are.
    #[error("{found} siblings where the bitmap has {expected}")]
    SiblingCount {
        /// Siblings in the proof.
        found: usize,
        /// Bits set in the bitmap.
        expected: usize,
    },
    /// A sibling is no hash, or is the empty subtree, which has no place in the list.
    #[error("sibling {at} is not the hash of a subtree that holds something")]
    Sibling {
        /// Which sibling, from the root down.
        at: usize,
    },
    /// The terminal stands deeper than it would in a compact trie.
    #[error("the terminal at depth {depth} would stand higher")]
    NotCompact {
        /// The depth in the proof.
        depth: u32,
    },
    /// There must be a value, another leaf, or nothing; nothing between.
    #[error("the terminal is neither a value nor another leaf nor empty")]
    Terminal,
    /// The other leaf does not stand on the key's way: it says nothing about the key.
    #[error("the other leaf {other} shares {shared} bits with the key, not {depth}")]
    OtherLeaf {
        /// The other leaf's key.
        other: Hash,
        /// Leading bits in common with the key.
        shared: usize,
        /// The depth in the proof.
        depth: u32,
    },
    /// The proof leads to another root than the checkpoint's.
    #[error("the proof leads to root {computed}, not to {expected}")]
    WrongRoot {
        /// The root that the proof leads to.
        computed: Hash,
        /// The root of the checkpoint.
        expected: Hash,
    },
}

/// Proves the value of `key`, or its absence, under `root`.
///
/// Every page and value is checked against the hash above it before it is used, which is how damage
/// shows.
pub fn prove<S: StateRead + ?Sized>(
    state: &S,
    root: &Hash,
    key: &Hash,
) -> Result<v1::MapProof, StateError> {
    Warm::new(0).prove(state, root, key)
}

impl Warm {
    /// The same as [`prove`], with what proofs before have read, of this state or of another.
    pub fn prove<S: StateRead + ?Sized>(
        &self,
        state: &S,
        root: &Hash,
        key: &Hash,
    ) -> Result<v1::MapProof, StateError> {
        let mut way = Way::new();
        let terminal = way.find(self, state, root, key)?;
        let mut proof = way.into_proof();
        match terminal {
            None => {}
            Some(End::Value(value)) => proof.value = value,
            Some(End::Long(expected)) => proof.value = long_value(state, key, &expected)?,
            Some(End::Other(other, value_hash)) => {
                proof.other_key = other.to_bytes();
                proof.other_value_hash = value_hash.to_bytes();
            }
        }
        debug_assert!(verify(root, key, &proof).is_ok());
        Ok(proof)
    }
}

/// The leaf at the end of a way.
enum End {
    /// The key's own, with this value.
    Value(Bytes),
    /// The key's own, with a value of this hash that is too long to be kept.
    Long(Hash),
    /// That of another key: the key, and the hash of its value.
    Other(Hash, Hash),
}

fn long_value<S: StateRead + ?Sized>(
    state: &S,
    key: &Hash,
    expected: &Hash,
) -> Result<Bytes, StateError> {
    let value = get(state, key)?.unwrap_or_default();
    match value_hash(&value) == *expected {
        true => Ok(value),
        false => Err(StateError::Corrupt {
            place: format!("map value of {key}"),
            detail: "it is not the one that its leaf has the hash of".to_owned(),
        }),
    }
}

/// Siblings for which there is room from the beginning: more than a map of a billion keys has on most
/// ways.
const USUAL_SIBLINGS: usize = 32;

/// The siblings on the way from the root down.
struct Way {
    depth: usize,
    bitmap: Vec<u8>,
    siblings: Vec<u8>,
}

impl Way {
    fn new() -> Way {
        Way {
            depth: 0,
            bitmap: Vec::with_capacity(USUAL_SIBLINGS / 8),
            siblings: Vec::with_capacity(32 * USUAL_SIBLINGS),
        }
    }

    /// Follows `key` to the leaf at its end, or to an empty subtree.
    fn find<S: StateRead + ?Sized>(
        &mut self,
        warm: &Warm,
        state: &S,
        root: &Hash,
        key: &Hash,
    ) -> Result<Option<End>, StateError> {
        let mut place = Place::ROOT;
        let mut hash = *root;
        while hash != Hash::ZERO {
            let below = warm.look(state, &place, &hash, |page| match page {
                Page::Bucket(bucket) => Err(self.find_leaf(bucket, key)),
                Page::Branch(branch) => {
                    let at = self.find_below(branch, place.depth, key);
                    Ok((at - WIDTH, *branch.at(at)))
                }
            });
            match below? {
                Ok((slot, below)) => (place, hash) = (place.child(slot), below),
                Err(end) => return Ok(end),
            }
        }
        Ok(None)
    }

    /// Through a branch at `depth`: where the subtree stands in it in which the way goes on.
    fn find_below(&mut self, branch: &Branch, depth: usize, key: &Hash) -> usize {
        let mut at = 1;
        for depth in depth..depth + SPAN {
            let hash = branch.at(at);
            if *hash == Hash::ZERO || is_leaf(hash) {
                // Here the way ends. A lone leaf has moved up from whichever side it is on.
                at = 2 * at + usize::from(*branch.at(2 * at) == Hash::ZERO);
            } else {
                at = 2 * at + usize::from(bit(key, depth));
                self.step(branch.at(at ^ 1));
            }
        }
        at
    }

    /// Through a bucket.
    fn find_leaf(&mut self, bucket: &Bucket, key: &Hash) -> Option<End> {
        let mut holds = bucket.root();
        while let Holds::Fork(fork) = holds {
            let half = usize::from(bit(key, self.depth));
            self.step(&bucket.hashes(fork)[1 - half]);
            holds = bucket.half(fork, half);
        }
        let Holds::Leaf(leaf) = holds else {
            return None;
        };
        let leaf = bucket.leaf(leaf);
        Some(match leaf.value {
            _ if leaf.key != *key => End::Other(leaf.key, leaf.value_hash),
            [] => End::Long(leaf.value_hash),
            value => End::Value(Bytes::copy_from_slice(value)),
        })
    }

    /// One level down, past `sibling`.
    fn step(&mut self, sibling: &Hash) {
        if self.depth.is_multiple_of(8) {
            self.bitmap.push(0);
        }
        if *sibling != Hash::ZERO {
            if let Some(last) = self.bitmap.last_mut() {
                *last |= 0x80 >> (self.depth % 8);
            }
            self.siblings.extend_from_slice(sibling.as_bytes());
        }
        self.depth += 1;
    }

    fn into_proof(self) -> v1::MapProof {
        // One allocation for all siblings.
        let siblings = Bytes::from(self.siblings);
        v1::MapProof {
            sibling_bitmap: self.bitmap.into(),
            depth: self.depth as u32,
            siblings: (0..siblings.len() / 32)
                .map(|at| siblings.slice(32 * at..32 * at + 32))
                .collect(),
            ..Default::default()
        }
    }
}

/// What `proof` says about `key` under `root`: its value, or that it has none.
pub fn verify(root: &Hash, key: &Hash, proof: &v1::MapProof) -> Result<Option<Bytes>, ProofError> {
    let (computed, value) = implied_root(key, proof)?;
    if computed != *root {
        return Err(ProofError::WrongRoot {
            computed,
            expected: *root,
        });
    }
    Ok(value)
}

/// The root that `proof` leads to, and what it says about `key`, which is worth nothing until that
/// very root turns out to be a certified checkpoint's.
pub fn implied_root(key: &Hash, proof: &v1::MapProof) -> Result<(Hash, Option<Bytes>), ProofError> {
    let (mut hash, value) = terminal(key, proof)?;
    check_bitmap(proof)?;
    let depth = proof.depth as usize;
    let mut siblings = proof.siblings.iter().enumerate().rev();
    for level in (0..depth).rev() {
        let sibling = match is_held(proof, level).then(|| siblings.next()).flatten() {
            None => Hash::ZERO,
            Some((at, bytes)) => Hash::from_slice(bytes)
                .filter(|hash| *hash != Hash::ZERO)
                .ok_or(ProofError::Sibling { at })?,
        };
        let lone = sibling == Hash::ZERO || (hash == Hash::ZERO && is_leaf(&sibling));
        if lone && level + 1 == depth {
            return Err(ProofError::NotCompact { depth: proof.depth });
        }
        hash = if bit(key, level) {
            node_hash(&sibling, &hash)
        } else {
            node_hash(&hash, &sibling)
        };
    }
    Ok((hash, value))
}

/// The hash that the way starts from, and the value that it stands for.
fn terminal(key: &Hash, proof: &v1::MapProof) -> Result<(Hash, Option<Bytes>), ProofError> {
    if proof.depth as usize > KEY_BITS {
        return Err(ProofError::TooDeep { depth: proof.depth });
    }
    let no_other = proof.other_key.is_empty() && proof.other_value_hash.is_empty();
    if no_other && proof.value.is_empty() {
        return Ok((Hash::ZERO, None));
    }
    if no_other {
        let hash = leaf_hash(key, &value_hash(&proof.value));
        return Ok((hash, Some(proof.value.clone())));
    }
    let other = Hash::from_slice(&proof.other_key).zip(Hash::from_slice(&proof.other_value_hash));
    let Some((other, other_value_hash)) = other.filter(|_| proof.value.is_empty()) else {
        return Err(ProofError::Terminal);
    };
    let shared = shared_bits(key, &other);
    if other == *key || shared < proof.depth as usize {
        return Err(ProofError::OtherLeaf {
            other,
            shared,
            depth: proof.depth,
        });
    }
    Ok((leaf_hash(&other, &other_value_hash), None))
}

/// Whether the sibling at `level` is in the list. The bitmap must be checked.
fn is_held(proof: &v1::MapProof, level: usize) -> bool {
    let byte = proof.sibling_bitmap.get(level / 8);
    byte.is_some_and(|byte| byte & (0x80 >> (level % 8)) != 0)
}

/// That the bitmap has one bit a level, and as many set as there are siblings.
fn check_bitmap(proof: &v1::MapProof) -> Result<(), ProofError> {
    let (depth, bitmap) = (proof.depth as usize, &proof.sibling_bitmap);
    let len = bitmap.len();
    if len != depth.div_ceil(8) || (depth..8 * len).any(|level| is_held(proof, level)) {
        return Err(ProofError::Bitmap {
            depth: proof.depth,
            len,
        });
    }
    let expected = bitmap.iter().map(|byte| byte.count_ones() as usize).sum();
    let found = proof.siblings.len();
    match found == expected {
        true => Ok(()),
        false => Err(ProofError::SiblingCount { found, expected }),
    }
}
