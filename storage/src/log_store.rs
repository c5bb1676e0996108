//! The raft log: records by index, a few named slots, and a way to notice that any went missing.
//!
//! What holds here:
//! - Indexes are contiguous. A hole, a record that is not the one that was written, or a slot that
//!   is not, is an error that stops the node; it never reads as "not there".
//! - Every write carries the next *write number* in its batch. After each sync the tail marker,
//!   which lives outside the database, takes the number that the sync covered. A database that
//!   comes back with a lower one has lost promises, and does not open: its node rejoins under a
//!   new raft id.
//! - Nothing counts before [`LogStore::sync`], or a write with [`Durability::Synced`], returned.
//!
//! What stays out: what the bytes mean. `consensus` puts openraft's entries and votes in.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::disk::{Batch, Disk, DiskError, Durability, Limit};
use crate::seal::{Unsealed, seal, unseal};

/// Records: index (8).
const RECORD: u8 = b'r';
/// Slots: one byte.
const SLOT: u8 = b'm';
/// Internal slot: the number of the last write.
const WRITE_NUMBER: u8 = b'w';
/// Internal slot: up to where the log was purged (8), then the caller's bytes.
const PURGED: u8 = b'p';
/// Up to this many records are removed one by one: a range tombstone costs every later read a
/// look, so it has to pay.
const DELETE_ONE_BY_ONE: u64 = 64;
/// Reads that meet a truncation start again; truncations are rare, so this many in a row are not
/// believable.
const READ_ATTEMPTS: usize = 16;

/// What is kept beside the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Raft's term and vote.
    Vote,
    /// The last committed log id that was known here.
    Committed,
    /// The newest header that this node cosigned: see `guard`.
    SignGuard,
    /// Which node this is: written once by `consensus`.
    Identity,
    /// The highest header that each member cosigned, as seen here: for those that come back and
    /// ask.
    Witnessed,
}

impl Slot {
    fn key(self) -> [u8; 2] {
        let slot = match self {
            Slot::Vote => b'v',
            Slot::Committed => b'c',
            Slot::SignGuard => b'g',
            Slot::Identity => b'i',
            Slot::Witnessed => b's',
        };
        [SLOT, slot]
    }
}

/// Why the log could not be read or written. All but [`LogError::Gap`] and
/// [`LogError::Purged`], which are mistakes of the caller, must stop the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A record is not what was written. This node's log is worth nothing; let it rejoin under a
    /// new raft id.
    #[error("the raft log is damaged at {place}: {detail}")]
    Damaged {
        /// Which record.
        place: String,
        /// What is wrong.
        detail: &'static str,
    },
    /// Records that were synced are gone: the database came back older than its tail marker.
    /// Let the node rejoin under a new raft id.
    #[error(
        "the raft log lost synced writes: write {synced} was synced (next index \
         {synced_next_index}), but the last one found is {found}"
    )]
    LostTail {
        /// The last write known to be synced.
        synced: u64,
        /// The index after the last record at that time.
        synced_next_index: u64,
        /// The last write found.
        found: u64,
    },
    /// The database holds writes and its tail marker is gone, so losses cannot be ruled out.
    #[error("the raft log has {writes} writes and no tail marker beside it")]
    NoTailMarker {
        /// The last write found.
        writes: u64,
    },
    /// These records do not follow what is there.
    #[error("the next index is {expected}, not {got}")]
    Gap {
        /// The only index that may follow.
        expected: u64,
        /// The one that was given.
        got: u64,
    },
    /// This part of the log was purged.
    #[error("index {index} was purged, with all up to {purged}")]
    Purged {
        /// The index asked for.
        index: u64,
        /// The last purged one.
        purged: u64,
    },
}

/// What is in the log.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// The first record, if there is any.
    first: Option<u64>,
    /// The index that the next record must have; any, if `first` and `purged` are empty.
    next: u64,
    purged: Option<u64>,
    /// The number of the last write.
    writes: u64,
    /// How often records were removed.
    removals: u64,
}

impl Extent {
    fn last(&self) -> Option<u64> {
        self.first.map(|_| self.next - 1)
    }
}

/// The raft log above a disk.
pub struct LogStore {
    disk: Arc<dyn Disk>,
    extent: Mutex<Extent>,
    /// The write number in the tail marker.
    marked: Mutex<u64>,
}

impl std::fmt::Debug for LogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogStore({:?})", self.extent())
    }
}

fn record_key(index: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(RECORD);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

fn index_of(key: &[u8]) -> Result<u64, LogError> {
    key.get(1..)
        .and_then(|index| index.try_into().ok())
        .map(u64::from_be_bytes)
        .ok_or_else(|| LogError::Damaged {
            place: format!("key {key:02x?}"),
            detail: "not a record's key",
        })
}

fn read_sealed(disk: &dyn Disk, key: &[u8]) -> Result<Option<Bytes>, LogError> {
    let Some(sealed) = disk.get(key)? else {
        return Ok(None);
    };
    let value = unseal(key, &sealed).ok_or_else(|| LogError::Damaged {
        place: format!("slot {}", key.escape_ascii()),
        detail: "the checksum does not match",
    })?;
    Ok(Some(value))
}

/// Splits off a leading number.
fn number(value: &Bytes, place: &'static str) -> Result<(u64, Bytes), LogError> {
    match value.split_first_chunk::<8>() {
        Some((number, _)) => Ok((u64::from_be_bytes(*number), value.slice(8..))),
        None => Err(LogError::Damaged {
            place: place.into(),
            detail: "too short",
        }),
    }
}

impl LogStore {
    /// Opens the log on `disk`, and checks that nothing that was synced is missing.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, LogError> {
        let writes = match read_sealed(&*disk, &[SLOT, WRITE_NUMBER])? {
            Some(value) => number(&value, "the write number")?.0,
            None => 0,
        };
        let marked = match disk.tail_marker()? {
            Some(marker) => {
                let (synced, rest) = number(&marker, "the tail marker")?;
                let (synced_next_index, _) = number(&rest, "the tail marker")?;
                if writes < synced {
                    return Err(LogError::LostTail {
                        synced,
                        synced_next_index,
                        found: writes,
                    });
                }
                synced
            }
            None if writes > 0 => return Err(LogError::NoTailMarker { writes }),
            None => {
                // From the first write on there is a marker.
                disk.set_tail_marker(&[0; 16], Durability::Synced)?;
                0
            }
        };
        let purged = match read_sealed(&*disk, &[SLOT, PURGED])? {
            Some(value) => Some(number(&value, "the purged index")?.0),
            None => None,
        };
        let first = disk.scan(&[RECORD], &[], Limit::pairs(1))?;
        let first = first.first().map(|(key, _)| index_of(key)).transpose()?;
        let last = disk.last(&[RECORD])?;
        let last = last.map(|(key, _)| index_of(&key)).transpose()?;
        let store = Self {
            extent: Mutex::new(Extent {
                first,
                next: last.or(purged).map_or(0, |index| index + 1),
                purged,
                writes,
                removals: 0,
            }),
            marked: Mutex::new(marked),
            disk,
        };
        store.check_ends()?;
        Ok(store)
    }

    /// The ends of the log must be whole, and begin where the purged part ended. What lies between
    /// is checked when it is read.
    fn check_ends(&self) -> Result<(), LogError> {
        let extent = *self.extent();
        let (Some(first), Some(last)) = (extent.first, extent.last()) else {
            return Ok(());
        };
        if let Some(purged) = extent.purged
            && first != purged + 1
        {
            return Err(LogError::Damaged {
                place: format!("record {first}"),
                detail: "the log does not begin where its purged part ends",
            });
        }
        for end in [first, last] {
            self.read(end..end + 1, 0)?;
        }
        Ok(())
    }

    /// Adds records behind the last one. They count after the next sync.
    pub fn append(&self, records: Vec<(u64, Unsealed)>) -> Result<(), LogError> {
        let Some((start, _)) = records.first() else {
            return Ok(());
        };
        let start = *start;
        let mut extent = self.extent();
        let fresh = extent.first.is_none() && extent.purged.is_none();
        let mut expected = if fresh { start } else { extent.next };
        let mut batch = Batch::new();
        for (index, record) in records {
            if index != expected {
                return Err(LogError::Gap {
                    expected,
                    got: index,
                });
            }
            let key = record_key(index);
            let sealed = record.seal(&key);
            batch.put(key, sealed);
            expected += 1;
        }
        self.write(&mut extent, batch)?;
        extent.first.get_or_insert(start);
        extent.next = expected;
        Ok(())
    }

    /// The records of `range` that are there, from its start (or the first one) on without a hole.
    /// Their bytes stay below `byte_budget`, but one record is returned if there is any.
    pub fn read(
        &self,
        range: Range<u64>,
        byte_budget: usize,
    ) -> Result<Vec<(u64, Bytes)>, LogError> {
        for _ in 0..READ_ATTEMPTS {
            let before = *self.extent();
            let Some(first) = before.first else {
                return Ok(Vec::new());
            };
            let (start, end) = (range.start.max(first), range.end.min(before.next));
            if start >= end {
                return Ok(Vec::new());
            }
            let read = self.read_present(start, end, byte_budget);
            // Records may have been removed under the scan: then it says nothing.
            if self.extent().removals == before.removals {
                return read;
            }
        }
        Err(LogError::Damaged {
            place: format!("records {} to {}", range.start, range.end),
            detail: "removed again and again while they were read",
        })
    }

    /// Reads records that must be there.
    fn read_present(
        &self,
        start: u64,
        end: u64,
        byte_budget: usize,
    ) -> Result<Vec<(u64, Bytes)>, LogError> {
        let limit = Limit {
            pairs: usize::try_from(end - start).unwrap_or(usize::MAX),
            bytes: byte_budget,
        };
        let pairs = self.disk.scan(&[RECORD], &record_key(start), limit)?;
        if pairs.is_empty() {
            return Err(LogError::Damaged {
                place: format!("record {start}"),
                detail: "missing",
            });
        }
        let mut records = Vec::with_capacity(pairs.len());
        for (expected, (key, sealed)) in (start..).zip(pairs) {
            if index_of(&key)? != expected {
                return Err(LogError::Damaged {
                    place: format!("record {expected}"),
                    detail: "missing",
                });
            }
            let bytes = unseal(&key, &sealed).ok_or_else(|| LogError::Damaged {
                place: format!("record {expected}"),
                detail: "the checksum does not match",
            })?;
            records.push((expected, bytes));
        }
        Ok(records)
    }

    /// Removes the records from `index` on.
    pub fn truncate_from(&self, index: u64) -> Result<(), LogError> {
        let mut extent = self.extent();
        if let Some(purged) = extent.purged
            && index <= purged
        {
            return Err(LogError::Purged { index, purged });
        }
        let Some(first) = extent.first else {
            return Ok(());
        };
        if index >= extent.next {
            return Ok(());
        }
        let start = index.max(first);
        let mut batch = Batch::new();
        remove(&mut batch, start, extent.next);
        self.write(&mut extent, batch)?;
        extent.removals += 1;
        extent.next = start;
        if start == first {
            extent.first = None;
        }
        Ok(())
    }

    /// Removes the records up to and with `index`, which may lie behind the last one, and keeps
    /// `record` (the purged log id) beside them. Purging less than before changes nothing.
    pub fn purge_to(&self, index: u64, record: &[u8]) -> Result<(), LogError> {
        let mut extent = self.extent();
        if extent.purged.is_some_and(|purged| index < purged) {
            return Ok(());
        }
        let mut batch = Batch::new();
        if let Some(first) = extent.first {
            remove(&mut batch, first, extent.next.min(index + 1));
        }
        let key = [SLOT, PURGED];
        let value = [&index.to_be_bytes(), record].concat();
        batch.put(key.to_vec(), seal(&key, &value));
        self.write(&mut extent, batch)?;
        extent.removals += 1;
        extent.purged = Some(index);
        if extent.first.is_none() || index + 1 >= extent.next {
            extent.first = None;
            extent.next = index + 1;
        } else {
            extent.first = extent.first.max(Some(index + 1));
        }
        Ok(())
    }

    /// The first record.
    pub fn first_index(&self) -> Option<u64> {
        self.extent().first
    }

    /// The last record.
    pub fn last_index(&self) -> Option<u64> {
        self.extent().last()
    }

    /// The last purged index, with what was kept about it.
    pub fn purged(&self) -> Result<Option<(u64, Bytes)>, LogError> {
        match read_sealed(&*self.disk, &[SLOT, PURGED])? {
            Some(value) => number(&value, "the purged index").map(Some),
            None => Ok(None),
        }
    }

    /// Sets a slot.
    pub fn put_meta(
        &self,
        slot: Slot,
        value: &[u8],
        durability: Durability,
    ) -> Result<(), LogError> {
        let key = slot.key();
        let mut batch = Batch::new();
        batch.put(key.to_vec(), seal(&key, value));
        let mut extent = self.extent();
        self.write(&mut extent, batch)?;
        drop(extent);
        match durability {
            Durability::Buffered => Ok(()),
            // Outside the lock: appends go on while the disk syncs.
            Durability::Synced => self.sync(),
        }
    }

    /// What is in a slot.
    pub fn get_meta(&self, slot: Slot) -> Result<Option<Bytes>, LogError> {
        read_sealed(&*self.disk, &slot.key())
    }

    /// Makes everything that was written before this call survive a crash.
    pub fn sync(&self) -> Result<(), LogError> {
        let covered = *self.extent();
        self.disk.sync()?;
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        // The marker never claims more than a sync that has returned, and never falls.
        if covered.writes > *marked {
            let mut marker = [0; 16];
            marker[..8].copy_from_slice(&covered.writes.to_be_bytes());
            marker[8..].copy_from_slice(&covered.next.to_be_bytes());
            self.disk.set_tail_marker(&marker, Durability::Buffered)?;
            *marked = covered.writes;
        }
        Ok(())
    }

    /// The disk below, for its size.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    fn extent(&self) -> MutexGuard<'_, Extent> {
        self.extent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `batch` with the next write number. The caller holds the extent, so that numbers
    /// rise in the order of the batches.
    fn write(&self, extent: &mut Extent, mut batch: Batch<'_>) -> Result<(), LogError> {
        let key = [SLOT, WRITE_NUMBER];
        let writes = extent.writes + 1;
        batch.put(key.to_vec(), seal(&key, &writes.to_be_bytes()));
        self.disk.write(&batch, Durability::Buffered)?;
        extent.writes = writes;
        Ok(())
    }
}

/// Removes the records from `start`, up to and without `end`.
fn remove(batch: &mut Batch<'_>, start: u64, end: u64) {
    if start >= end {
        return;
    }
    if end - start <= DELETE_ONE_BY_ONE {
        for index in start..end {
            batch.delete(record_key(index));
        }
    } else {
        batch.delete_range(record_key(start), record_key(end));
    }
}
