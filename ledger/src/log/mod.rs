//! Merkle logs: the tree of RFC 9162 with BLAKE3, kept in tiles, with its proofs.
//!
//! A leaf is BLAKE3(0x00 ‖ data), a node BLAKE3(0x01 ‖ left ‖ right), the empty tree BLAKE3 of
//! nothing. The state holds many such trees: the ledger's own, one for each roster and ranking, one
//! for the acts of each authority; a [`TreeId`] tells them apart and is part of no hash. Trees
//! only grow. Which sizes and roots are certified is not known here: the caller takes them from
//! verified headers and map values.

mod proof;
mod range;
mod tile;
mod tree;

pub use proof::{
    LogError, MAX_PATH, ProofError, consistency_proof, inclusion_proof, inclusion_proof_from,
    read_path, verify_consistency, verify_inclusion,
};
pub use range::{prove_range, verify_range};
pub use tree::{append, append_kept_leaves, root, root_of};

use std::fmt;

use crate::hash::{Domain, Hash, plain};

/// Leaves whose hashes lie in one tile, and that a proof of one of them may ask for.
pub const TILE_LEAVES: u64 = tile::WIDTH as u64;

static RANKING_TREE: Domain = Domain::new("cairn v1 ranking tree");

/// Which tree: one byte for its kind, 32 for its owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeId([u8; 33]);

impl TreeId {
    /// The ledger's own log.
    pub const LEDGER: TreeId = TreeId([0; 33]);

    /// The roster of a lottery: one leaf for each row.
    pub fn roster(lottery_id: &Hash) -> TreeId {
        TreeId::of(1, lottery_id.as_bytes())
    }

    /// The ranking of one tier in one attempt. Its three coordinates are hashed to fit.
    pub fn ranking(lottery_id: &Hash, attempt: u32, tier: u32) -> TreeId {
        let owner = RANKING_TREE.hash_parts(&[
            lottery_id.as_bytes(),
            &attempt.to_be_bytes(),
            &tier.to_be_bytes(),
        ]);
        TreeId::of(2, owner.as_bytes())
    }

    /// The log of an authority's acts.
    pub fn acts_of(authority: &[u8; 32]) -> TreeId {
        TreeId::of(3, authority)
    }

    /// The 33 bytes.
    pub fn as_bytes(&self) -> &[u8; 33] {
        &self.0
    }

    fn of(kind: u8, owner: &[u8; 32]) -> TreeId {
        let mut id = [kind; 33];
        id[1..].copy_from_slice(owner);
        TreeId(id)
    }
}

impl fmt::Debug for TreeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeId({})", hex::encode(self.0))
    }
}

/// The hash of a leaf: BLAKE3(0x00 ‖ data).
pub fn leaf_hash(data: &[u8]) -> Hash {
    // Rows of a roster are short: in one piece they take one call, and not a hasher's four.
    let mut short = [0; 128];
    if let Some(behind) = short.get_mut(1..=data.len()) {
        behind.copy_from_slice(data);
        return plain(&short[..=data.len()]);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[0]).update(data);
    Hash(*hasher.finalize().as_bytes())
}

/// The hash of a node: BLAKE3(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left.as_bytes());
    bytes[33..].copy_from_slice(right.as_bytes());
    plain(&bytes)
}

/// The root of a tree without leaves: BLAKE3 of nothing.
pub fn empty_root() -> Hash {
    plain(&[])
}

#[cfg(test)]
mod tests;
