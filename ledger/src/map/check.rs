//! Checking a whole map against its root: for a state that came from elsewhere.
//!
//! What holds here: when [`check`] returns, every page that a lookup, a proof or an update can reach
//! has the hash that its parent says, and the values are exactly those that the leaves name, none
//! missing and none besides. Pages and values are walked side by side in the order of their keys, so
//! memory does not grow with the map.

use super::page::{Branch, Leaf, Page, Place, WIDTH, root_of_leaves};
use super::value_hash;
use crate::hash::Hash;
use crate::rooms;
use crate::state::{StateError, StateRead};

/// Values read at a time: some hundred kilobytes.
const PORTION: usize = 1024;

/// Checks every page and every value of the map with this `root`; gives the number of its keys.
pub fn check<S: StateRead + ?Sized>(state: &S, root: &Hash) -> Result<u64, StateError> {
    let mut values = Values::new(state);
    if *root != Hash::ZERO {
        check_page(state, &Place::ROOT, root, &mut values)?;
    }
    match values.next()? {
        None => Ok(values.taken),
        Some((key, _)) => Err(corrupt(&key, "a value that the map does not have")),
    }
}

fn check_page<S: StateRead + ?Sized>(
    state: &S,
    place: &Place,
    expected: &Hash,
    values: &mut Values<'_, S>,
) -> Result<(), StateError> {
    let stored = state.get(&place.state_key())?;
    let branch: Branch = match Page::read(place, stored)? {
        Page::Bucket(leaves) => {
            place.expect(expected, &root_of_leaves(&leaves, place.depth))?;
            return leaves.iter().try_for_each(|leaf| values.expect(leaf));
        }
        Page::Branch(stored) => stored.open(),
    };
    branch.check(place)?;
    place.expect(expected, &branch.root())?;
    for slot in 0..WIDTH {
        let hash = branch.slot(slot);
        if hash != Hash::ZERO {
            check_page(state, &place.child(slot), &hash, values)?;
        }
    }
    Ok(())
}

fn corrupt(key: &[u8], detail: &str) -> StateError {
    StateError::Corrupt {
        place: format!("the map's value {}", hex::encode(key)),
        detail: detail.to_owned(),
    }
}

/// All values in the order of their keys.
struct Values<'a, S: ?Sized> {
    state: &'a S,
    portion: std::vec::IntoIter<(bytes::Bytes, bytes::Bytes)>,
    from: Option<Vec<u8>>,
    taken: u64,
}

impl<'a, S: StateRead + ?Sized> Values<'a, S> {
    fn new(state: &'a S) -> Self {
        Self {
            state,
            portion: Vec::new().into_iter(),
            from: Some(vec![rooms::MAP_VALUE]),
            taken: 0,
        }
    }

    /// The next key, without its room, and the hash of its value.
    fn next(&mut self) -> Result<Option<(Vec<u8>, Hash)>, StateError> {
        if self.portion.len() == 0
            && let Some(from) = self.from.take()
        {
            let portion = self.state.scan(&[rooms::MAP_VALUE], &from, PORTION)?;
            if portion.len() == PORTION
                && let Some((last, _)) = portion.last()
            {
                self.from = Some([last, &[0][..]].concat());
            }
            self.portion = portion.into_iter();
        }
        let Some((key, value)) = self.portion.next() else {
            return Ok(None);
        };
        self.taken += 1;
        Ok(Some((key[1..].to_vec(), value_hash(&value))))
    }

    fn expect(&mut self, leaf: &Leaf) -> Result<(), StateError> {
        match self.next()? {
            Some((key, hash)) if key == leaf.key.as_bytes() && hash == leaf.value_hash => Ok(()),
            _ => Err(corrupt(
                leaf.key.as_bytes(),
                "missing, or not what the map names",
            )),
        }
    }
}
