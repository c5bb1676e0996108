//! What a rule sees: the block's time and height, the state, and the map with the block's own
//! changes on top.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_proto::v1;
use prost::Message;

use super::{AUTHOR_NAMESPACE, Kept};
use crate::genesis::Chain;
use crate::hash::Hash;
use crate::lottery::OpenRosters;
use crate::map::{self, Warm};
use crate::state::{Overlay, StateError, StateRead, put_all};

/// The room in which one block's entries are decided.
#[derive(Debug)]
pub struct Ctx<'a, 's, S: ?Sized> {
    /// The ledger.
    pub chain: &'a Chain,
    /// The block's time, milliseconds since 1970.
    pub timestamp_ms: u64,
    /// The block's height.
    pub height: u64,
    /// Indexes, and what earlier entries of this block wrote.
    pub state: &'a mut Overlay<'s, S>,
    /// What this node keeps of rosters that are being filled.
    pub rosters: &'a OpenRosters,
    warm: &'a Warm,
    map_root: Hash,
    map_changes: BTreeMap<Hash, Bytes>,
}

impl<'a, 's, S: StateRead + ?Sized> Ctx<'a, 's, S> {
    /// For a block on top of `state`, whose map has this root.
    pub fn new(
        chain: &'a Chain,
        timestamp_ms: u64,
        height: u64,
        state: &'a mut Overlay<'s, S>,
        map_root: Hash,
        kept: Kept<'a>,
    ) -> Self {
        Self {
            chain,
            timestamp_ms,
            height,
            state,
            rosters: kept.rosters,
            warm: kept.map,
            map_root,
            map_changes: BTreeMap::new(),
        }
    }

    /// The map's value under `namespace` and `raw`.
    pub fn map_get(&self, namespace: &str, raw: &[u8]) -> Result<Option<Bytes>, StateError> {
        let key = map::map_key(namespace, raw);
        match self.map_changes.get(&key) {
            Some(value) => Ok(Some(value.clone())),
            None => map::get(self.state, &key),
        }
    }

    /// The map's values of many keys, each made with [`map::map_key`], in their order, with one read.
    pub fn map_get_many(&self, keys: &[Hash]) -> Result<Vec<Option<Bytes>>, StateError> {
        let mut found = self.warm.get_many(self.state, &self.map_root, keys)?;
        if !self.map_changes.is_empty() {
            for (key, slot) in keys.iter().zip(&mut found) {
                if let Some(value) = self.map_changes.get(key) {
                    *slot = Some(value.clone());
                }
            }
        }
        Ok(found)
    }

    /// The map's message under `namespace` and `raw`.
    pub fn map_message<M: Message + Default>(
        &self,
        namespace: &str,
        raw: &[u8],
    ) -> Result<Option<M>, StateError> {
        let value = self.map_get(namespace, raw)?;
        let decoded = value.map(M::decode).transpose();
        decoded.map_err(|error| StateError::Corrupt {
            place: format!("the map's value under {namespace} {}", hex::encode(raw)),
            detail: error.to_string(),
        })
    }

    /// Sets the map's value under `namespace` and `raw`; a value is never empty, since proofs
    /// tell absence by that.
    pub fn map_put(&mut self, namespace: &str, raw: &[u8], value: Bytes) {
        assert!(!value.is_empty(), "a rule wrote an empty value");
        self.map_changes.insert(map::map_key(namespace, raw), value);
    }

    /// Sets the map's values of many keys, each made with [`map::map_key`].
    pub fn map_put_many(&mut self, changes: Vec<(Hash, Bytes)>) {
        let sound = changes.iter().all(|(_, value)| !value.is_empty());
        assert!(sound, "a rule wrote an empty value");
        put_all(&mut self.map_changes, changes);
    }

    /// The registered author with this public key.
    pub fn author(&self, public_key: &[u8]) -> Result<Option<v1::Author>, StateError> {
        self.map_message(AUTHOR_NAMESPACE, public_key)
    }

    /// What the block changes in the map.
    pub fn into_map_changes(self) -> BTreeMap<Hash, Bytes> {
        self.map_changes
    }
}
