//! The ledger's state on a disk, with what belongs to it: how far raft was applied, the certified
//! checkpoints by height, and evidence of equivocation.
//!
//! What holds here: a block's writes and the raft position after it are one batch, so after any
//! crash the state is that after some block, and the position says which. A folder belongs to one
//! ledger, whose id it names.
//!
//! Values carry no checksum of ours. Everything read from an SST file or replayed from the
//! write-ahead log has passed RocksDB's checksum of its block or record, index and filter blocks
//! included, so a flipped bit is an error there and neither another value nor an absence; and what
//! `apply` reads is bound by `map_root` and `log_root`, which the members cosign. The raft log is
//! different (`seal`): nothing else vouches for a vote.
//!
//! What stays out: the meaning of keys (`cairn_ledger::rooms`), and syncing block by block: the
//! raft log has every block until a synced checkpoint covers it.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use cairn_ledger::hash::{self, Hash};
use cairn_ledger::state::{StateError, StateRead, Writes};
use cairn_proto::v1;
use prost::Message;

use crate::disk::{Batch, Disk, DiskError, DiskRead, Durability, Limit};

/// The first byte of this module's own keys. The ledger's rooms are letters.
const OWN: u8 = 0;
/// The id of the ledger.
const CHAIN_ID: [u8; 2] = [OWN, b'i'];
/// The raft position after the last block.
const APPLIED: [u8; 2] = [OWN, b'a'];
/// Certified checkpoints: height (8).
const CHECKPOINTS: [u8; 2] = [OWN, b'c'];
/// Equivocations: hash of the record (32).
const EQUIVOCATIONS: [u8; 2] = [OWN, b'e'];
/// Kept equivocations. A member that equivocates all day long adds nothing after these.
const MAX_EQUIVOCATIONS: usize = 10_000;

/// Why the state store could not be opened or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk failed. Stop the node.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Wrong folder, or wrong genesis file.
    #[error("this folder belongs to the ledger {found}, not to {expected}")]
    OtherLedger {
        /// The ledger that the folder names.
        found: Hash,
        /// The ledger that was asked for.
        expected: Hash,
    },
    /// Something in the folder is not what was written. Stop the node.
    #[error("corrupt: {place}: {detail}")]
    Corrupt {
        /// Which record.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A block wrote a key that does not begin with a room. A bug; nothing was written.
    #[error("a block may not write the key {key:02x?}")]
    ForeignKey {
        /// The key.
        key: Vec<u8>,
    },
}

impl From<DiskError> for StateError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Corrupt { place, detail } => StateError::Corrupt { place, detail },
            other => StateError::Io(other.to_string()),
        }
    }
}

impl From<StoreError> for StateError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Disk(error) => error.into(),
            StoreError::Corrupt { place, detail } => StateError::Corrupt { place, detail },
            other => StateError::Corrupt {
                place: "the ledger folder".into(),
                detail: other.to_string(),
            },
        }
    }
}

/// The state after the last applied block.
///
/// The disk below may be replaced by one that holds a later state of the same ledger; whoever reads
/// twice around that instant sees first the one and then the other.
#[derive(Clone)]
pub struct StateStore {
    disk: Arc<RwLock<Arc<dyn Disk>>>,
}

impl std::fmt::Debug for StateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateStore")
    }
}

impl StateStore {
    /// Opens the state of the ledger `chain_id` on `disk`; an empty disk becomes its own.
    pub fn open(disk: Arc<dyn Disk>, chain_id: &Hash) -> Result<Self, StoreError> {
        match disk.get(&CHAIN_ID)? {
            None => {
                if !disk.scan(&[], &[], Limit::pairs(1))?.is_empty() {
                    return Err(StoreError::Corrupt {
                        place: "the ledger folder".into(),
                        detail: "it holds records and does not name its ledger".into(),
                    });
                }
                let mut batch = Batch::new();
                batch.put(&CHAIN_ID[..], &chain_id.as_bytes()[..]);
                disk.write(&batch, Durability::Synced)?;
            }
            Some(found) if found[..] == chain_id.as_bytes()[..] => {}
            Some(found) => {
                return Err(match Hash::from_slice(&found) {
                    Some(found) => StoreError::OtherLedger {
                        found,
                        expected: *chain_id,
                    },
                    None => StoreError::Corrupt {
                        place: "the ledger's id".into(),
                        detail: format!("{} bytes instead of 32", found.len()),
                    },
                });
            }
        }
        Ok(Self {
            disk: Arc::new(RwLock::new(disk)),
        })
    }

    /// The state on a disk that is known to be one of this ledger.
    pub fn new_unchecked(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk: Arc::new(RwLock::new(disk)),
        }
    }

    /// Makes a block's writes and the raft position after it (opaque bytes) the state, together.
    pub fn commit_block(&self, writes: &Writes, applied: &[u8]) -> Result<(), StoreError> {
        let mut batch = Batch::with_capacity(writes.len() + 1);
        for (key, value) in writes {
            if key.first().is_none_or(|room| *room == OWN) {
                return Err(StoreError::ForeignKey { key: key.clone() });
            }
            batch.put(key.as_slice(), &value[..]);
        }
        batch.put(&APPLIED[..], applied);
        self.disk().write(&batch, Durability::Buffered)?;
        Ok(())
    }

    /// The raft position of the state.
    pub fn applied(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.disk().get(&APPLIED)?)
    }

    /// Keeps a certified checkpoint.
    pub fn put_checkpoint(
        &self,
        height: u64,
        checkpoint: &v1::Checkpoint,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(checkpoint_key(height), checkpoint.encode_to_vec());
        self.disk().write(&batch, Durability::Buffered)?;
        Ok(())
    }

    /// The certified checkpoint at `height`, if that block is one.
    pub fn checkpoint_at(&self, height: u64) -> Result<Option<v1::Checkpoint>, StoreError> {
        let key = checkpoint_key(height);
        match self.disk().get(&key)? {
            Some(bytes) => Ok(Some(decoded(&key, &bytes)?)),
            None => Ok(None),
        }
    }

    /// The certified checkpoint with the greatest height.
    pub fn latest_checkpoint(&self) -> Result<Option<(u64, v1::Checkpoint)>, StoreError> {
        match self.disk().last(&CHECKPOINTS)? {
            Some((key, bytes)) => Ok(Some((height_of(&key)?, decoded(&key, &bytes)?))),
            None => Ok(None),
        }
    }

    /// The first certified checkpoint that covers `height`.
    pub fn checkpoint_at_or_after(
        &self,
        height: u64,
    ) -> Result<Option<(u64, v1::Checkpoint)>, StoreError> {
        let from = checkpoint_key(height);
        let found = self.disk().scan(&CHECKPOINTS, &from, Limit::pairs(1))?;
        match found.first() {
            Some((key, bytes)) => Ok(Some((height_of(key)?, decoded(key, bytes)?))),
            None => Ok(None),
        }
    }

    /// At most `limit` certified checkpoints from `height` on, ascending.
    pub fn checkpoints_from(
        &self,
        height: u64,
        limit: usize,
    ) -> Result<Vec<(u64, v1::Checkpoint)>, StoreError> {
        self.disk()
            .scan(&CHECKPOINTS, &checkpoint_key(height), Limit::pairs(limit))?
            .iter()
            .map(|(key, bytes)| Ok((height_of(key)?, decoded(key, bytes)?)))
            .collect()
    }

    /// Replaces all evidence, in a state that came from elsewhere: what others saw is theirs to
    /// show, and what this node saw must not be lost.
    pub fn replace_equivocations(&self, evidence: &[v1::Equivocation]) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete_range(&EQUIVOCATIONS[..], &[OWN, EQUIVOCATIONS[1] + 1][..]);
        for evidence in evidence {
            let bytes = evidence.encode_to_vec();
            let key = [&EQUIVOCATIONS[..], hash::plain(&bytes).as_bytes()].concat();
            batch.put(key, bytes);
        }
        self.disk().write(&batch, Durability::Buffered)?;
        Ok(())
    }

    /// Keeps evidence, durably, once. False if it was known, or if there is too much already.
    pub fn put_equivocation(&self, evidence: &v1::Equivocation) -> Result<bool, StoreError> {
        let bytes = evidence.encode_to_vec();
        let key = [&EQUIVOCATIONS[..], hash::plain(&bytes).as_bytes()].concat();
        if self.disk().get(&key)?.is_some() {
            return Ok(false);
        }
        let kept = self
            .disk()
            .scan(&EQUIVOCATIONS, &[], Limit::pairs(MAX_EQUIVOCATIONS))?;
        if kept.len() >= MAX_EQUIVOCATIONS {
            return Ok(false);
        }
        let mut batch = Batch::new();
        batch.put(key, bytes);
        self.disk().write(&batch, Durability::Synced)?;
        Ok(true)
    }

    /// All evidence.
    pub fn list_equivocations(&self) -> Result<Vec<v1::Equivocation>, StoreError> {
        self.disk()
            .scan(&EQUIVOCATIONS, &[], Limit::pairs(MAX_EQUIVOCATIONS))?
            .iter()
            .map(|(key, bytes)| decoded(key, bytes))
            .collect()
    }

    /// At most `limit` pieces of evidence behind the one with the hash `after`, with their hashes,
    /// ascending.
    pub fn equivocations_after(
        &self,
        after: Option<&Hash>,
        limit: usize,
    ) -> Result<Vec<(Hash, v1::Equivocation)>, StoreError> {
        // The next key behind one is that key and a zero byte.
        let from = after.map(|after| [&EQUIVOCATIONS[..], after.as_bytes(), &[0]].concat());
        let from = from.unwrap_or_default();
        let found = self
            .disk()
            .scan(&EQUIVOCATIONS, &from, Limit::pairs(limit))?;
        let found = found.iter().map(|(key, bytes)| {
            let hash = Hash::from_slice(key.get(EQUIVOCATIONS.len()..).unwrap_or_default());
            let hash = hash.ok_or_else(|| StoreError::Corrupt {
                place: "an equivocation's key".into(),
                detail: "no hash in it".into(),
            })?;
            Ok((hash, decoded(key, bytes)?))
        });
        found.collect()
    }

    /// The state now, unmoved by later blocks.
    pub fn snapshot(&self) -> Result<StateSnapshot, StoreError> {
        Ok(StateSnapshot {
            disk: self.disk().snapshot()?,
        })
    }

    /// Makes all blocks so far survive a crash. Before the raft log is purged, this or a
    /// checkpoint folder must cover what is purged.
    pub fn sync(&self) -> Result<(), StoreError> {
        Ok(self.disk().sync()?)
    }

    /// The disk below, for its size.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this is the state on `disk`.
    pub fn replace(&self, disk: Arc<dyn Disk>) {
        *self.disk.write().unwrap_or_else(PoisonError::into_inner) = disk;
    }
}

fn checkpoint_key(height: u64) -> Vec<u8> {
    [&CHECKPOINTS[..], &height.to_be_bytes()].concat()
}

fn height_of(key: &[u8]) -> Result<u64, StoreError> {
    key.get(CHECKPOINTS.len()..)
        .and_then(|height| height.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| StoreError::Corrupt {
            place: format!("key {key:02x?}"),
            detail: "not a checkpoint's key".into(),
        })
}

fn decoded<M: Message + Default>(key: &[u8], bytes: &Bytes) -> Result<M, StoreError> {
    M::decode(bytes.clone()).map_err(|error| StoreError::Corrupt {
        place: format!("key {key:02x?}"),
        detail: error.to_string(),
    })
}

impl StateRead for StateStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.disk().get(key)?)
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StateError> {
        Ok(self.disk().multi_get(keys)?)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        Ok(self.disk().scan(prefix, from, Limit::pairs(limit))?)
    }
}

/// The state after one block.
#[derive(Clone)]
pub struct StateSnapshot {
    disk: Arc<dyn DiskRead>,
}

impl std::fmt::Debug for StateSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateSnapshot")
    }
}

impl StateSnapshot {
    /// The raft position of this state.
    pub fn applied(&self) -> Result<Option<Bytes>, StateError> {
        Ok(self.disk.get(&APPLIED)?)
    }

    /// The pairs below, for sending the whole state elsewhere.
    pub fn disk(&self) -> &Arc<dyn DiskRead> {
        &self.disk
    }
}

impl StateRead for StateSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        Ok(self.disk.get(key)?)
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StateError> {
        Ok(self.disk.multi_get(keys)?)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        Ok(self.disk.scan(prefix, from, Limit::pairs(limit))?)
    }
}
