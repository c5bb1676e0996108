//! The state that rules read and write: a sorted map from bytes to bytes.
//!
//! What holds here: nothing is ever deleted, a block's writes become visible to the entries that
//! follow in the same block, and a read that fails is an error, never an absence. What stays out:
//! where the bytes live. `storage` keeps them in RocksDB; [`MemoryState`] serves tests and
//! replaying auditors.
//!
//! Keys begin with one byte that names their room; `rooms` lists them.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Why a read failed. Fatal to whoever applies blocks: it must stop, not guess.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes that were read are not what was written.
    #[error("the state is corrupt at {place}: {detail}")]
    Corrupt {
        /// Which record, for an operator to find it.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The disk did not answer.
    #[error("the state could not be read: {0}")]
    Io(String),
}

/// Reads of one consistent state.
pub trait StateRead {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError>;

    /// The values under `keys`, in their order.
    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StateError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// At most `limit` pairs whose keys start with `prefix` and are at least `from`, ascending.
    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError>;
}

/// What a block writes, each key once. There are no deletions.
pub type Writes = Vec<(Vec<u8>, Bytes)>;

/// Puts `pairs` into `map`. Merging two sorted lists goes over both; searching a place for each pair
/// does not, and is faster for few.
pub(crate) fn put_all<K: Ord, V>(map: &mut BTreeMap<K, V>, pairs: Vec<(K, V)>) {
    if pairs.len() < map.len() / 8 {
        map.extend(pairs);
    } else {
        map.append(&mut pairs.into_iter().collect());
    }
}

/// A state with writes on top that it does not have yet.
#[derive(Debug)]
pub struct Overlay<'a, S: ?Sized> {
    base: &'a S,
    writes: BTreeMap<Vec<u8>, Bytes>,
}

impl<'a, S: StateRead + ?Sized> Overlay<'a, S> {
    /// No writes yet.
    pub fn new(base: &'a S) -> Self {
        Self {
            base,
            writes: BTreeMap::new(),
        }
    }

    /// Sets `key`.
    pub fn put(&mut self, key: Vec<u8>, value: impl Into<Bytes>) {
        self.writes.insert(key, value.into());
    }

    /// Adds `writes` on top; many at once are faster than one by one.
    pub fn extend(&mut self, writes: Writes) {
        put_all(&mut self.writes, writes);
    }

    /// What was written, in the order of the keys.
    pub fn into_writes(self) -> Writes {
        self.writes.into_iter().collect()
    }
}

impl<S: StateRead + ?Sized> StateRead for Overlay<'_, S> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        match self.writes.get(key) {
            Some(value) => Ok(Some(value.clone())),
            None => self.base.get(key),
        }
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StateError> {
        let mut found = self.base.multi_get(keys)?;
        for (key, slot) in keys.iter().zip(&mut found) {
            if let Some(value) = self.writes.get(key) {
                *slot = Some(value.clone());
            }
        }
        Ok(found)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        let base = self.base.scan(prefix, from, limit)?;
        let start = from.max(prefix).to_vec();
        let mut merged: BTreeMap<Bytes, Bytes> = base.into_iter().collect();
        for (key, value) in self
            .writes
            .range(start..)
            .take_while(|(k, _)| k.starts_with(prefix))
        {
            merged.insert(Bytes::copy_from_slice(key), value.clone());
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}

/// A state in memory.
#[derive(Debug, Default, Clone)]
pub struct MemoryState {
    pairs: BTreeMap<Vec<u8>, Bytes>,
}

impl MemoryState {
    /// Makes `writes` part of the state.
    pub fn commit(&mut self, writes: Writes) {
        self.pairs.extend(writes);
    }

    /// All pairs, for comparisons in tests.
    pub fn pairs(&self) -> &BTreeMap<Vec<u8>, Bytes> {
        &self.pairs
    }
}

impl StateRead for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.pairs.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        let start = from.max(prefix).to_vec();
        Ok(self
            .pairs
            .range(start..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, value)| (Bytes::copy_from_slice(key), value.clone()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_shows_its_writes_over_the_base() {
        let mut base = MemoryState::default();
        base.commit(Writes::from([
            (b"a1".to_vec(), Bytes::from_static(b"base")),
            (b"a3".to_vec(), Bytes::from_static(b"base")),
            (b"b1".to_vec(), Bytes::from_static(b"base")),
        ]));
        let mut overlay = Overlay::new(&base);
        overlay.put(b"a2".to_vec(), Bytes::from_static(b"new"));
        overlay.put(b"a3".to_vec(), Bytes::from_static(b"new"));
        let keys = |from: &[u8], limit| -> Vec<_> {
            let pairs = overlay.scan(b"a", from, limit).unwrap_or_default();
            pairs.into_iter().map(|(k, v)| (k.to_vec(), v)).collect()
        };
        assert_eq!(
            keys(b"", 9),
            vec![
                (b"a1".to_vec(), Bytes::from_static(b"base")),
                (b"a2".to_vec(), Bytes::from_static(b"new")),
                (b"a3".to_vec(), Bytes::from_static(b"new")),
            ]
        );
        assert_eq!(
            keys(b"a2", 1),
            vec![(b"a2".to_vec(), Bytes::from_static(b"new"))]
        );
        assert_eq!(overlay.get(b"b1"), Ok(Some(Bytes::from_static(b"base"))));
    }
}
