//! The map: every key's current value under one root, with proofs of value and of absence.
//!
//! A compact binary trie over 32-byte keys, their bits taken most significant first. An empty
//! subtree is 32 zero bytes; a subtree with one leaf is that leaf; a leaf's hash has the top bit 1,
//! a node's the top bit 0. So the root depends on the pairs alone, not on the order in which they
//! came, and a leaf can never be shown as a node.
//!
//! What holds: **nothing is ever deleted**, a value is only replaced; values are never empty,
//! because an empty value in a proof means absence. Keys are hashes ([`map_key`]), so nobody can
//! crowd a prefix. What stays out: what the values mean, and which root is certified.

mod bucket;
mod check;
mod page;
mod proof;
mod read;
mod trie;
mod warm;

pub use check::check;
pub use proof::{ProofError, implied_root, prove, verify};
pub(crate) use read::in_order;
pub use read::{get, get_many};
pub use trie::update;
pub use warm::Warm;

use crate::hash::{Domain, Hash};

static KEY: Domain = Domain::new("cairn v1 map key");
static VALUE: Domain = Domain::new("cairn v1 map value");
static LEAF: Domain = Domain::new("cairn v1 map leaf");
static NODE: Domain = Domain::new("cairn v1 map node");

/// Bits of a key: no path is longer.
const KEY_BITS: usize = 256;
/// The top bit of a hash's first byte: set in leaves, clear in nodes.
const LEAF_MARK: u8 = 0x80;

/// The key of `raw` in `namespace`.
pub fn map_key(namespace: &str, raw: &[u8]) -> Hash {
    KEY.hash_parts(&[namespace.as_bytes(), raw])
}

/// The hash of a value, which its leaf binds.
pub fn value_hash(value: &[u8]) -> Hash {
    VALUE.hash(value)
}

/// The hash of a leaf.
fn leaf_hash(key: &Hash, value_hash: &Hash) -> Hash {
    let mut hash = LEAF.hash(&side_by_side(key, value_hash));
    hash.0[0] |= LEAF_MARK;
    hash
}

/// The hash of a node.
fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hash = NODE.hash(&side_by_side(left, right));
    hash.0[0] &= !LEAF_MARK;
    hash
}

/// The hash of a subtree from those of its halves: a lone leaf moves up, nothing stays nothing.
fn join(left: &Hash, right: &Hash) -> Hash {
    if *left == Hash::ZERO && (*right == Hash::ZERO || is_leaf(right)) {
        *right
    } else if *right == Hash::ZERO && is_leaf(left) {
        *left
    } else {
        node_hash(left, right)
    }
}

fn is_leaf(hash: &Hash) -> bool {
    hash.0[0] & LEAF_MARK != 0
}

fn side_by_side(left: &Hash, right: &Hash) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(left.as_bytes());
    bytes[32..].copy_from_slice(right.as_bytes());
    bytes
}

/// Bit `depth` of `key`, the most significant first.
fn bit(key: &Hash, depth: usize) -> bool {
    key.0[depth / 8] & (0x80 >> (depth % 8)) != 0
}

/// How many leading bits two keys share.
fn shared_bits(a: &Hash, b: &Hash) -> usize {
    let differing = a.0.iter().zip(&b.0).position(|(x, y)| x != y);
    differing.map_or(KEY_BITS, |at| {
        8 * at + (a.0[at] ^ b.0[at]).leading_zeros() as usize
    })
}

#[cfg(test)]
mod tests;
