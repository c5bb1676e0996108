//! Reading and updating the map: a sorted batch in one pass.
//!
//! Each page on the way of the batch is read once and written once; the children of a branch that
//! the batch touches are read together. A block's changes therefore belong into one batch.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::page::{
    Branch, Leaf, MAX_LEAVES, Page, Place, WIDTH, encode_bucket, root_of_leaves, split_at_bit,
};
use super::{node_hash, value_hash};
use crate::hash::Hash;
use crate::rooms;
use crate::state::{Overlay, StateError, StateRead};

/// The value of `key`.
pub fn get<S: StateRead + ?Sized>(state: &S, key: &Hash) -> Result<Option<Bytes>, StateError> {
    state.get(&value_key(key))
}

/// The values of `keys`, in their order. They are read in the order in which they lie, so that many
/// keys cost a look into each block of a disk and not one for each key.
pub fn get_many<S: StateRead + ?Sized>(
    state: &S,
    keys: &[Hash],
) -> Result<Vec<Option<Bytes>>, StateError> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_unstable_by_key(|at| keys[*at]);
    let sorted: Vec<Vec<u8>> = order.iter().map(|at| value_key(&keys[*at])).collect();
    let mut values = vec![None; keys.len()];
    for (at, value) in order.into_iter().zip(state.multi_get(&sorted)?) {
        values[at] = value;
    }
    Ok(values)
}

/// Inserts or replaces the values of `changes` in the map with `old_root`, and returns the new
/// root. Values must not be empty: there would be no proof of them.
pub fn update<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    old_root: &Hash,
    changes: &BTreeMap<Hash, Bytes>,
) -> Result<Hash, StateError> {
    let leaves: Vec<Leaf> = changes
        .iter()
        .map(|(key, value)| {
            assert!(!value.is_empty(), "the map has no empty values: {key}");
            Leaf {
                key: *key,
                value_hash: value_hash(value),
            }
        })
        .collect();
    if leaves.is_empty() {
        return Ok(*old_root);
    }
    let root = if *old_root == Hash::ZERO {
        build(state, &Place::ROOT, &leaves)
    } else {
        let stored = state.get(&Place::ROOT.state_key())?;
        let page = Page::read(&Place::ROOT, stored)?;
        change(state, &Place::ROOT, page, old_root, &leaves)?
    };
    for (key, value) in changes {
        state.put(value_key(key), value.clone());
    }
    Ok(root)
}

/// Brings `changes`, which all belong below `place`, into the `page` there, whose subtree must have
/// the hash `expected`.
fn change<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    place: &Place,
    page: Page,
    expected: &Hash,
    changes: &[Leaf],
) -> Result<Hash, StateError> {
    let mut branch = match page {
        Page::Bucket(leaves) => return change_bucket(state, place, &leaves, expected, changes),
        Page::Branch(branch) => branch.open(),
    };
    place.expect(expected, &branch.root())?;
    let groups = groups(place, changes);
    let keys: Vec<Vec<u8>> = groups
        .iter()
        .filter(|(slot, _)| branch.slot(*slot) != Hash::ZERO)
        .map(|(slot, _)| place.child(*slot).state_key())
        .collect();
    let mut stored = state.multi_get(&keys)?.into_iter();
    let mut changed = Vec::with_capacity(groups.len());
    for (slot, group) in groups {
        let child = place.child(slot);
        let hash = match branch.slot(slot) {
            Hash::ZERO => build(state, &child, group),
            expected => {
                let page = Page::read(&child, stored.next().flatten())?;
                change(state, &child, page, &expected, group)?
            }
        };
        changed.push((slot, hash));
    }
    branch.replace(place, &changed)?;
    state.put(place.state_key(), branch.encode());
    Ok(branch.root())
}

fn change_bucket<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    place: &Place,
    leaves: &[Leaf],
    expected: &Hash,
    changes: &[Leaf],
) -> Result<Hash, StateError> {
    let merged = merge(leaves, changes);
    if merged.len() > MAX_LEAVES {
        place.expect(expected, &root_of_leaves(leaves, place.depth))?;
        return Ok(build(state, place, &merged));
    }
    let (old, new) = roots_of_both(leaves, &merged, changes, place.depth);
    place.expect(expected, &old)?;
    state.put(place.state_key(), encode_bucket(&merged));
    Ok(new)
}

/// The hashes of a subtree before and after `changes`, hashing once what they leave alone.
fn roots_of_both(old: &[Leaf], new: &[Leaf], changes: &[Leaf], depth: usize) -> (Hash, Hash) {
    if changes.is_empty() {
        let same = root_of_leaves(old, depth);
        return (same, same);
    }
    if old.len() < 2 {
        return (root_of_leaves(old, depth), root_of_leaves(new, depth));
    }
    let (old, new) = (split_at_bit(old, depth), split_at_bit(new, depth));
    let changes = split_at_bit(changes, depth);
    let left = roots_of_both(old.0, new.0, changes.0, depth + 1);
    let right = roots_of_both(old.1, new.1, changes.1, depth + 1);
    (node_hash(&left.0, &right.0), node_hash(&left.1, &right.1))
}

/// Writes the pages of a subtree that holds exactly `leaves`.
fn build<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    place: &Place,
    leaves: &[Leaf],
) -> Hash {
    if leaves.len() <= MAX_LEAVES {
        state.put(place.state_key(), encode_bucket(leaves));
        return root_of_leaves(leaves, place.depth);
    }
    let mut slots = [Hash::ZERO; WIDTH];
    for (slot, group) in groups(place, leaves) {
        slots[slot] = build(state, &place.child(slot), group);
    }
    let branch = Branch::new(slots);
    state.put(place.state_key(), branch.encode());
    branch.root()
}

/// Sorted leaves by the subtree of the branch at `place` that they belong to.
fn groups<'a>(place: &Place, leaves: &'a [Leaf]) -> Vec<(usize, &'a [Leaf])> {
    leaves
        .chunk_by(|a, b| place.slot(&a.key) == place.slot(&b.key))
        .filter_map(|group| Some((place.slot(&group.first()?.key), group)))
        .collect()
}

/// Both, sorted; where a key is in both, as in `changes`.
fn merge(leaves: &[Leaf], changes: &[Leaf]) -> Vec<Leaf> {
    let mut merged = Vec::with_capacity(leaves.len() + changes.len());
    let mut old = leaves.iter().peekable();
    for change in changes {
        while let Some(leaf) = old.next_if(|leaf| leaf.key < change.key) {
            merged.push(*leaf);
        }
        old.next_if(|leaf| leaf.key == change.key);
        merged.push(*change);
    }
    merged.extend(old);
    merged
}

fn value_key(key: &Hash) -> Vec<u8> {
    rooms::key(rooms::MAP_VALUE, &[key.as_bytes()])
}
