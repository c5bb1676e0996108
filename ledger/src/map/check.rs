//! Checking a whole map against its root: for a state that came from elsewhere.
//!
//! What holds here: when [`check`] returns, every page that a lookup, a proof or an update can reach
//! has the hash that its parent says, and the values are exactly those that the leaves name, none
//! missing and none besides. Pages and values are walked side by side in the order of their keys, so
//! memory does not grow with the map.

use bytes::Bytes;

use super::page::{Branch, Leaf, Place, WIDTH, root_of_leaves};
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
    match values.next_if(|_| true)? {
        None => Ok(values.taken),
        Some(leaf) => {
            let detail = "a value that the map does not have";
            Err(corrupt(leaf.key.as_bytes(), detail))
        }
    }
}

fn check_page<S: StateRead + ?Sized>(
    state: &S,
    place: &Place,
    expected: &Hash,
    values: &mut Values<'_, S>,
) -> Result<(), StateError> {
    let Some(stored) = state.get(&place.state_key())? else {
        let leaves = values.below(place)?;
        return place.expect(expected, &root_of_leaves(&leaves, place.depth));
    };
    let branch = Branch::read(place, &stored, expected)?;
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
    portion: std::iter::Peekable<std::vec::IntoIter<(Bytes, Bytes)>>,
    from: Option<Vec<u8>>,
    taken: u64,
}

impl<'a, S: StateRead + ?Sized> Values<'a, S> {
    fn new(state: &'a S) -> Self {
        Self {
            state,
            portion: Vec::new().into_iter().peekable(),
            from: Some(vec![rooms::MAP_VALUE]),
            taken: 0,
        }
    }

    /// The leaves of the bucket at `place`.
    fn below(&mut self, place: &Place) -> Result<Vec<Leaf<'static>>, StateError> {
        let mut leaves = Vec::new();
        while let Some(leaf) = self.next_if(|key| place.holds(key))? {
            leaves.push(leaf);
            place.fits_bucket(&leaves)?;
        }
        Ok(leaves)
    }

    /// The next leaf, if its key is one that is `wanted`.
    fn next_if(
        &mut self,
        wanted: impl Fn(&Hash) -> bool,
    ) -> Result<Option<Leaf<'static>>, StateError> {
        if self.portion.peek().is_none()
            && let Some(from) = self.from.take()
        {
            let portion = self.state.scan(&[rooms::MAP_VALUE], &from, PORTION)?;
            if portion.len() == PORTION
                && let Some((last, _)) = portion.last()
            {
                self.from = Some([last, &[0][..]].concat());
            }
            self.portion = portion.into_iter().peekable();
        }
        let Some((key, value)) = self.portion.peek() else {
            return Ok(None);
        };
        let key = Hash::from_slice(&key[1..]).ok_or_else(|| corrupt(&key[1..], "no key"))?;
        if !wanted(&key) {
            return Ok(None);
        }
        let value_hash = value_hash(value);
        self.portion.next();
        self.taken += 1;
        Ok(Some(Leaf {
            key,
            value_hash,
            value: &[],
        }))
    }
}
