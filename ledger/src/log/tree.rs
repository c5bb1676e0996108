//! The tree in its tiles: append, roots, and the hashes that proofs are made of.
//!
//! A tile at (level L, index i) holds the hashes of the complete subtrees of height 4L at places
//! 16i to 16i + 15. Only the last tile of a level may hold fewer, and is written again as it fills;
//! full tiles never change. What is not complete is in no tile: the right edge is folded from the
//! last tiles whenever a root is asked for. Rosters and rankings leave tiles of leaves out (`append_kept_leaves`).
//!
//! Key: room ‖ tree id (33) ‖ level (1) ‖ index (8). A tile may be longer than an older size needs,
//! never shorter.

use std::ops::Range;

use super::tile::{SPAN, Tile, WIDTH, part};
use super::{TreeId, empty_root, node_hash};
use crate::hash::Hash;
use crate::rooms;
use crate::state::{Overlay, StateError, StateRead};

/// Tile levels that a tree of up to 2^64 - 1 leaves has.
const LEVELS: usize = 16;

/// Puts `leaves` behind the `old_size` leaves that `tree` has, and returns the new root.
///
/// One pass a level. A tree whose last tiles do not hold exactly `old_size` leaves is corrupt.
pub fn append<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    tree: &TreeId,
    old_size: u64,
    leaves: &[Hash],
) -> Result<Hash, StateError> {
    append_tiles(state, tree, old_size, leaves, u64::MAX)
}

/// The same, but a tile of leaves that all come from this very append is not stored: who keeps what
/// they are hashes of makes it again (`inclusion_proof_from`).
pub fn append_kept_leaves<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    tree: &TreeId,
    old_size: u64,
    leaves: &[Hash],
) -> Result<Hash, StateError> {
    append_tiles(state, tree, old_size, leaves, old_size)
}

/// Full tiles of leaves are stored that begin below leaf `stored_below`; all others always.
fn append_tiles<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    tree: &TreeId,
    old_size: u64,
    leaves: &[Hash],
    stored_below: u64,
) -> Result<Hash, StateError> {
    if old_size.checked_add(leaves.len() as u64).is_none() {
        return Err(corrupt(tree, 0, 0, "more than 2^64 - 1 leaves".to_owned()));
    }
    let mut edge = read_edge(state, tree, old_size)?;
    let mut fresh = leaves.to_vec();
    for (level, tile) in edge.iter_mut().enumerate() {
        if fresh.is_empty() {
            break;
        }
        let mut index = (old_size >> (SPAN * level as u32)) / WIDTH as u64;
        let mut above = Vec::with_capacity(fresh.len() / WIDTH + 1);
        for hash in fresh {
            if let Some(root) = tile.push(hash) {
                if level > 0 || index * (WIDTH as u64) < stored_below {
                    state.put(tile_key(tree, level as u8, index), tile.encode());
                }
                tile.clear();
                above.push(root);
                index += 1;
            }
        }
        if !tile.is_empty() {
            state.put(tile_key(tree, level as u8, index), tile.encode());
        }
        fresh = above;
    }
    Ok(fold_edge(&edge))
}

/// The root of the first `size` leaves of `tree`.
pub fn root<S: StateRead + ?Sized>(
    state: &S,
    tree: &TreeId,
    size: u64,
) -> Result<Hash, StateError> {
    if size == 0 {
        return Ok(empty_root());
    }
    let mut roots = roots_of_ranges(state, tree, std::slice::from_ref(&(0..size)), &|_| None)?;
    Ok(roots.pop().unwrap_or_else(empty_root))
}

/// The root of `leaves`, without a state: one pass, one hash of memory for each level.
pub fn root_of(leaves: &[Hash]) -> Hash {
    // The complete subtrees so far, the largest first; bit h of the count says whether there is one
    // of height h.
    let mut peaks: Vec<Hash> = Vec::new();
    for (count, leaf) in (0u64..).zip(leaves) {
        let mut hash = *leaf;
        for _ in 0..count.trailing_ones() {
            if let Some(left) = peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        peaks.push(hash);
    }
    peaks
        .into_iter()
        .rev()
        .reduce(|right, left| node_hash(&left, &right))
        .unwrap_or_else(empty_root)
}

/// The roots of the leaves in each range, read with one `multi_get`; `leaf` gives the hashes of leaves
/// whose tiles are not stored.
///
/// Each range must be one that the recursion of RFC 9162 visits: it starts at a multiple of the
/// least power of two that is not below its length.
pub(super) fn roots_of_ranges<S: StateRead + ?Sized>(
    state: &S,
    tree: &TreeId,
    ranges: &[Range<u64>],
    leaf: &dyn Fn(u64) -> Option<Hash>,
) -> Result<Vec<Hash>, StateError> {
    let mut wanted: Vec<(u8, u64)> = ranges
        .iter()
        .flat_map(|range| Complete::within(range.clone()).map(|part| part.tile()))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let keys: Vec<Vec<u8>> = wanted
        .iter()
        .map(|&(level, index)| tile_key(tree, level, index))
        .collect();
    let mut tiles = state.multi_get(&keys)?;
    for (tile, (level, index)) in tiles.iter_mut().zip(&wanted) {
        if tile.is_none() && *level == 0 {
            *tile = Tile::of_leaves(*index, leaf).map(|tile| tile.encode());
        }
    }

    let root_of_part = |wanted_part: &Complete| {
        let (level, index) = wanted_part.tile();
        wanted
            .binary_search(&(level, index))
            .ok()
            .and_then(|at| tiles.get(at)?.as_ref())
            .and_then(|tile| {
                part(
                    tile.as_chunks().0,
                    wanted_part.first_in_tile(),
                    wanted_part.height % SPAN,
                )
            })
            .ok_or_else(|| {
                corrupt(
                    tree,
                    level,
                    index,
                    "the tile is missing or too short".to_owned(),
                )
            })
    };
    let mut parts = Vec::new();
    ranges
        .iter()
        .map(|range| {
            parts.clear();
            parts.extend(Complete::within(range.clone()));
            let Some((last, before)) = parts.split_last() else {
                return Ok(empty_root());
            };
            before
                .iter()
                .rev()
                .try_fold(root_of_part(last)?, |right, part| {
                    Ok(node_hash(&root_of_part(part)?, &right))
                })
        })
        .collect()
}

/// A complete subtree: the `index`-th of those with 2^height leaves.
#[derive(Clone, Copy)]
struct Complete {
    height: u32,
    index: u64,
}

impl Complete {
    /// The complete subtrees that make up `range`, from the left: the largest first.
    fn within(range: Range<u64>) -> impl Iterator<Item = Complete> {
        let mut start = range.start;
        std::iter::from_fn(move || {
            let height = range.end.saturating_sub(start).checked_ilog2()?;
            let index = start >> height;
            start += 1 << height;
            Some(Complete { height, index })
        })
    }

    /// The tile that holds its part of the tree: level and index.
    fn tile(&self) -> (u8, u64) {
        let index = (self.index << (self.height % SPAN)) / WIDTH as u64;
        ((self.height / SPAN) as u8, index)
    }

    /// The first of that tile's hashes that it covers.
    fn first_in_tile(&self) -> usize {
        (self.index << (self.height % SPAN)) as usize % WIDTH
    }
}

/// The last tile of each level; an empty one where the tiles end with a full one.
fn read_edge<S: StateRead + ?Sized>(
    state: &S,
    tree: &TreeId,
    size: u64,
) -> Result<[Tile; LEVELS], StateError> {
    let partial: Vec<(usize, u64, usize)> = (0..LEVELS)
        .map(|level| (level, size >> (SPAN * level as u32)))
        .map(|(level, count)| {
            let held = (count % WIDTH as u64) as usize;
            (level, count / WIDTH as u64, held)
        })
        .filter(|&(_, _, held)| held > 0)
        .collect();
    let keys: Vec<Vec<u8>> = partial
        .iter()
        .map(|&(level, index, _)| tile_key(tree, level as u8, index))
        .collect();
    let tiles = state.multi_get(&keys)?;

    let mut edge: [Tile; LEVELS] = Default::default();
    for (&(level, index, held), stored) in partial.iter().zip(tiles) {
        let stored = stored.unwrap_or_default();
        edge[level] = Tile::decode(&stored, held).ok_or_else(|| {
            let detail = format!("{} bytes do not hold {held} hashes", stored.len());
            corrupt(tree, level as u8, index, detail)
        })?;
    }
    Ok(edge)
}

/// The root over the last tiles of all levels: what is lower stands further right.
fn fold_edge(edge: &[Tile; LEVELS]) -> Hash {
    edge.iter()
        .fold(None, |right, tile| tile.fold(right))
        .unwrap_or_else(empty_root)
}

fn tile_key(tree: &TreeId, level: u8, index: u64) -> Vec<u8> {
    rooms::key(
        rooms::TILE,
        &[tree.as_bytes(), &[level], &index.to_be_bytes()],
    )
}

fn corrupt(tree: &TreeId, level: u8, index: u64, detail: String) -> StateError {
    StateError::Corrupt {
        place: format!("tile {index} of level {level} of {tree:?}"),
        detail,
    }
}
