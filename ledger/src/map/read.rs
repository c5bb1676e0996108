//! Reading values: one, or many at once.
//!
//! What holds here: of what is kept warm, only what is under the root that was named is read. What stays
//! out: proofs (`proof`), and keeping what was read, which is for updates and proofs to do.

use bytes::Bytes;

use super::page::Place;
use super::warm::{Page, Warm};
use crate::hash::Hash;
use crate::rooms;
use crate::state::{StateError, StateRead};

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
    let mut values = vec![None; keys.len()];
    read_into(&mut values, state, keys, &in_order(keys.iter()))?;
    Ok(values)
}

/// Reads the values of those of `keys` that stand at some places, into the same places.
fn read_into<S: StateRead + ?Sized>(
    values: &mut [Option<Bytes>],
    state: &S,
    keys: &[Hash],
    places: &[usize],
) -> Result<(), StateError> {
    let wanted: Vec<Vec<u8>> = places.iter().map(|at| value_key(&keys[*at])).collect();
    for (at, value) in places.iter().zip(state.multi_get(&wanted)?) {
        values[*at] = value;
    }
    Ok(())
}

/// Where each of `keys` stands, in the order of the keys; those that share their first half in any.
pub(crate) fn in_order<'a>(keys: impl Iterator<Item = &'a Hash>) -> Vec<usize> {
    let half = |key: &Hash| {
        key.0
            .first_chunk()
            .map_or(0, |half| u128::from_be_bytes(*half))
    };
    let mut halves: Vec<(u128, usize)> = keys.map(half).zip(0..).collect();
    halves.sort_unstable();
    halves.into_iter().map(|(_, at)| at).collect()
}

pub(super) fn value_key(key: &Hash) -> Vec<u8> {
    rooms::key(rooms::MAP_VALUE, &[key.as_bytes()])
}

/// Bytes of a value for which there is room from the beginning: a code's.
const USUAL_VALUE: usize = 160;

impl Warm {
    /// The same as [`get_many`] of the map with this root: what updates and proofs before have read is
    /// not read again.
    pub fn get_many<S: StateRead + ?Sized>(
        &self,
        state: &S,
        root: &Hash,
        keys: &[Hash],
    ) -> Result<Vec<Option<Bytes>>, StateError> {
        let mut search = Search {
            warm: self,
            keys,
            found: Vec::with_capacity(keys.len()),
            bytes: Vec::with_capacity(USUAL_VALUE * keys.len()),
            cold: Vec::new(),
        };
        search.below(&Place::ROOT, root, &in_order(keys.iter()));
        let mut values = vec![None; keys.len()];
        let bytes = Bytes::from(search.bytes);
        let mut begin = 0;
        for (at, end) in search.found {
            values[at] = Some(bytes.slice(begin..end));
            begin = end;
        }
        read_into(&mut values, state, keys, &search.cold)?;
        Ok(values)
    }
}

/// A search for many keys in what is kept of a map.
struct Search<'a> {
    warm: &'a Warm,
    keys: &'a [Hash],
    /// Where a key that was found stands, and where its value ends in `bytes`: in one piece, because
    /// each piece of memory has its price.
    found: Vec<(usize, usize)>,
    bytes: Vec<u8>,
    /// Where the keys stand of which nothing is known.
    cold: Vec<usize>,
}

impl Search<'_> {
    /// Looks for the keys at some places, which are sorted, in the page at `place`, whose subtree has
    /// this hash.
    fn below(&mut self, place: &Place, hash: &Hash, keys: &[usize]) {
        if *hash == Hash::ZERO {
            return;
        }
        let slot = |at: &usize| place.slot(&self.keys[*at]);
        let found = self.warm.find(hash, |page| match page {
            Page::Bucket(bucket) => {
                for at in keys {
                    let Some(leaf) = bucket.find(&self.keys[*at], place.depth) else {
                        continue;
                    };
                    match bucket.leaf(leaf).value {
                        [] => self.cold.push(*at),
                        value => {
                            self.bytes.extend_from_slice(value);
                            self.found.push((*at, self.bytes.len()));
                        }
                    }
                }
                Vec::new()
            }
            Page::Branch(branch) => keys
                .chunk_by(|a, b| slot(a) == slot(b))
                .filter_map(|group| {
                    let slot = slot(group.first()?);
                    Some((place.child(slot), branch.slot(slot), group))
                })
                .collect(),
        });
        let Some(branches) = found else {
            self.cold.extend_from_slice(keys);
            return;
        };
        for (place, hash, keys) in branches {
            self.below(&place, &hash, keys);
        }
    }
}
