//! Tiles: sixteen neighbouring hashes of one tree level in one stored value.
//!
//! A proof reads one tile for four levels, and hashes at most eleven times in it. Roots between the
//! hashes are not stored: they would save most of these 0.8 µs a tile, and cost 12 bytes a leaf.
//! What was written stays in its place as a tile fills, so a fuller tile begins with all its
//! earlier versions.

use bytes::Bytes;

use super::node_hash;
use crate::hash::Hash;

/// Hashes in a full tile: one read for four levels.
pub(super) const WIDTH: usize = 16;
/// Tree levels that one tile spans: the binary logarithm of [`WIDTH`].
pub(super) const SPAN: u32 = 4;

/// A tile being filled.
#[derive(Debug, Default)]
pub(super) struct Tile {
    hashes: Vec<[u8; 32]>,
}

impl Tile {
    /// The tile that holds `len` hashes, if that is what `stored` is.
    pub(super) fn decode(stored: &[u8], len: usize) -> Option<Tile> {
        let (hashes, []) = stored.as_chunks::<32>() else {
            return None;
        };
        let hashes = hashes.to_vec();
        (hashes.len() == len).then_some(Tile { hashes })
    }

    pub(super) fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(self.hashes.as_flattened())
    }

    /// The full tile of leaves at `index`, where `leaf` has them all.
    pub(super) fn of_leaves(index: u64, leaf: &dyn Fn(u64) -> Option<Hash>) -> Option<Tile> {
        let first = index * WIDTH as u64;
        let hashes = (0..WIDTH as u64).map(|at| leaf(first | at).map(|hash| hash.0));
        let hashes = hashes.collect::<Option<_>>()?;
        Some(Tile { hashes })
    }

    pub(super) fn clear(&mut self) {
        self.hashes.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Adds a hash; the tile's root if that was the last one that it can hold.
    pub(super) fn push(&mut self, hash: Hash) -> Option<Hash> {
        self.hashes.push(hash.0);
        (self.hashes.len() == WIDTH).then(|| root(&self.hashes))
    }

    /// The root over what the tile holds, with `right` beside it if there is something. A full tile
    /// counts on the level above.
    pub(super) fn fold(&self, right: Option<Hash>) -> Option<Hash> {
        let (mut rest, mut folded) = (self.hashes.len(), right);
        while rest > 0 {
            let height = rest.trailing_zeros();
            rest -= 1 << height;
            let left = part(&self.hashes, rest, height)?;
            folded = Some(folded.map_or(left, |right| node_hash(&left, &right)));
        }
        folded
    }
}

/// The root over the 2^height hashes from the `first` one of a stored tile, where the tile has them.
/// `height` is below [`SPAN`].
pub(super) fn part(tile: &[[u8; 32]], first: usize, height: u32) -> Option<Hash> {
    tile.get(first..first + (1 << height)).map(root)
}

/// The root over a power of two of hashes.
fn root(hashes: &[[u8; 32]]) -> Hash {
    match hashes {
        [hash] => Hash(*hash),
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node_hash(&root(left), &root(right))
        }
    }
}
