//! The sign guard: what this node last cosigned, on the disk before the signature leaves.
//!
//! What holds here: for one height at most one header is ever permitted, also across crashes and
//! restarts; heights only rise, and each permitted header descends from the one before. The guard
//! lives in the raft database, which is in no backup and no snapshot. One that is older than what
//! was signed, because its folder was copied back or wiped, cannot notice that by itself:
//! `consensus` asks the other members before it uses it. What stays out: signing, and what a header
//! is.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cairn_ledger::hash::Hash;

use crate::disk::Durability;
use crate::log_store::{LogError, LogStore, Slot};

/// A header that was cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    /// Its epoch.
    pub epoch: u64,
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
}

/// epoch ‖ height ‖ hash.
const GUARDED_BYTES: usize = 8 + 8 + 32;

impl Guarded {
    fn to_bytes(self) -> [u8; GUARDED_BYTES] {
        let mut bytes = [0; GUARDED_BYTES];
        bytes[..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.height.to_be_bytes());
        bytes[16..].copy_from_slice(self.hash.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &Bytes) -> Option<Self> {
        let (epoch, rest) = bytes.split_first_chunk::<8>()?;
        let (height, hash) = rest.split_first_chunk::<8>()?;
        Some(Self {
            epoch: u64::from_be_bytes(*epoch),
            height: u64::from_be_bytes(*height),
            hash: Hash::from_slice(hash)?,
        })
    }
}

/// Why a header must not be cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardRefused {
    /// Another header was cosigned at this height. Somebody lies, or this node computed two
    /// results: raise an alarm, keep both headers.
    #[error("at height {} this node already cosigned {}, and is asked to cosign {asked}", held.height, held.hash)]
    Conflict {
        /// What was cosigned.
        held: Guarded,
        /// The other header.
        asked: Hash,
    },
    /// A higher header was cosigned before. Harmless: a late request.
    #[error("this node already cosigned height {} (epoch {}), above {height} (epoch {epoch})", held.height, held.epoch)]
    Below {
        /// What was cosigned.
        held: Guarded,
        /// The epoch asked for.
        epoch: u64,
        /// The height asked for.
        height: u64,
    },
    /// The header is higher and does not descend from what was cosigned. Raise an alarm.
    #[error("{asked} at height {height} does not descend from {} at height {}", held.hash, held.height)]
    NotDescendant {
        /// What was cosigned.
        held: Guarded,
        /// The height asked for.
        height: u64,
        /// The header asked for.
        asked: Hash,
    },
    /// The guard could not be read or written. Stop the node; nothing is signed.
    #[error("the sign guard failed: {0}")]
    Log(#[from] LogError),
}

/// Permits cosignatures.
#[derive(Debug)]
pub struct SignGuard {
    store: Arc<LogStore>,
    held: Mutex<Option<Guarded>>,
}

impl SignGuard {
    /// The guard in `store`.
    pub fn open(store: Arc<LogStore>) -> Result<Self, LogError> {
        let held = match store.get_meta(Slot::SignGuard)? {
            None => None,
            Some(bytes) => Some(
                Guarded::from_bytes(&bytes).ok_or_else(|| LogError::Damaged {
                    place: "the sign guard".into(),
                    detail: "not a guard's record",
                })?,
            ),
        };
        Ok(Self {
            store,
            held: Mutex::new(held),
        })
    }

    /// The log beside which the guard is kept.
    pub fn log(&self) -> &Arc<LogStore> {
        &self.store
    }

    /// What was last permitted.
    pub fn held(&self) -> Option<Guarded> {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Permits to cosign the header `hash` at `height` of `epoch`. When this returns `Ok` the
    /// permission is durable. `is_descendant` is asked about the header held, if it is lower.
    pub fn permit(
        &self,
        epoch: u64,
        height: u64,
        hash: &Hash,
        is_descendant: impl FnOnce(&Guarded) -> bool,
    ) -> Result<(), GuardRefused> {
        let asked = Guarded {
            epoch,
            height,
            hash: *hash,
        };
        // Held over the write: two requests for one height must not both find it free.
        let mut slot = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = *slot {
            if held == asked {
                return Ok(());
            }
            if height == held.height {
                let asked = *hash;
                return Err(GuardRefused::Conflict { held, asked });
            }
            if height < held.height || epoch < held.epoch {
                return Err(GuardRefused::Below {
                    held,
                    epoch,
                    height,
                });
            }
            if !is_descendant(&held) {
                return Err(GuardRefused::NotDescendant {
                    held,
                    height,
                    asked: *hash,
                });
            }
        }
        self.store
            .put_meta(Slot::SignGuard, &asked.to_bytes(), Durability::Synced)?;
        *slot = Some(asked);
        Ok(())
    }
}
