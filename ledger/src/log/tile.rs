//! Tiles: sixteen neighbouring hashes of one tree level in one stored value.
//!
//! Behind every fourth hash stands the root over those four, behind every eighth the root over
//! those eight: a proof then hashes at most once in a tile instead of eleven times, for 22 stored
//! hashes instead of 16. What was written stays in its place as a tile fills, so a fuller tile
//! begins with all its earlier versions.

use bytes::Bytes;

use super::node_hash;
use crate::hash::Hash;

/// Hashes in a full tile, not counting the roots between them: one read for four levels.
pub(super) const WIDTH: usize = 16;
/// Tree levels that one tile spans: the binary logarithm of [`WIDTH`].
pub(super) const SPAN: u32 = 4;

/// A tile being filled.
#[derive(Debug, Default)]
pub(super) struct Tile {
    len: usize,
    hashes: Vec<[u8; 32]>,
}

impl Tile {
    /// The tile that holds `len` hashes, if that is what `stored` is.
    pub(super) fn decode(stored: &[u8], len: usize) -> Option<Tile> {
        let (hashes, []) = stored.as_chunks::<32>() else {
            return None;
        };
        let hashes = hashes.to_vec();
        (hashes.len() == place(len)).then_some(Tile { len, hashes })
    }

    pub(super) fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(self.hashes.as_flattened())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a hash; the tile's root if that was the last one that it can hold.
    pub(super) fn push(&mut self, hash: Hash) -> Option<Hash> {
        self.hashes.push(hash.0);
        self.len += 1;
        if !self.len.is_multiple_of(4) {
            return None;
        }
        let pair = |first| part(&self.hashes, first, 1);
        let four = node_hash(&pair(self.len - 4)?, &pair(self.len - 2)?);
        self.hashes.push(four.0);
        if !self.len.is_multiple_of(8) {
            return None;
        }
        let eight = node_hash(&part(&self.hashes, self.len - 8, 2)?, &four);
        self.hashes.push(eight.0);
        if self.len < WIDTH {
            return None;
        }
        Some(node_hash(&part(&self.hashes, 0, 3)?, &eight))
    }

    /// The root over what the tile holds, with `right` beside it if there is something. A full tile
    /// counts on the level above.
    pub(super) fn fold(&self, right: Option<Hash>) -> Option<Hash> {
        let (mut rest, mut root) = (self.len, right);
        while rest > 0 {
            let height = rest.trailing_zeros();
            rest -= 1 << height;
            let left = part(&self.hashes, rest, height)?;
            root = Some(root.map_or(left, |right| node_hash(&left, &right)));
        }
        root
    }
}

/// The root over the 2^height hashes from the `first` one of a stored tile, where the tile has them.
/// `height` is below [`SPAN`].
pub(super) fn part(tile: &[[u8; 32]], first: usize, height: u32) -> Option<Hash> {
    let at = |place: usize| tile.get(place).copied().map(Hash);
    match height {
        0 => at(place(first)),
        1 => Some(node_hash(&at(place(first))?, &at(place(first + 1))?)),
        2 => at(place(first + 3) + 1),
        _ => at(place(first + 7) + 2),
    }
}

/// Where the hash `index` stands in a tile; also how many hashes a tile of that length stores.
fn place(index: usize) -> usize {
    index + index / 4 + index / 8
}
