//! A disk in memory that crashes, fills up, fails and rots on command.
//!
//! What holds here: nothing is random and no clock is read, so a simulation that draws its faults
//! from a seed replays exactly. Every key keeps its versions by the number of the batch that wrote
//! them; a snapshot is a number, and a crash drops the versions above one. What stays out: torn
//! batches (the write-ahead log's checksums make a batch whole or absent on a real disk too).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::disk::{Batch, Disk, DiskError, DiskRead, Durability, Limit, Op};

/// A value, as the batch with this number left it.
#[derive(Debug, Clone)]
struct Version {
    batch: u64,
    value: Option<Bytes>,
    damaged: bool,
}

#[derive(Debug, Default)]
struct Medium {
    pairs: BTreeMap<Bytes, Vec<Version>>,
    /// The newest batch.
    written: u64,
    /// The newest batch that survives a crash.
    synced: u64,
    marker: Option<Bytes>,
    /// Open snapshots by the batch they show.
    snapshots: BTreeMap<u64, usize>,
    /// How often the machine was started: handles of earlier starts are dead.
    start: u64,
    latch: Option<String>,
    fail_writes: bool,
    fail_syncs: bool,
    full: bool,
    syncs: u64,
    /// Deletions since the last sweep.
    tombstones: usize,
    /// The state after this batch and every later one can still be shown.
    history_from: u64,
}

/// So many batches that were synced can still be lost by injected damage.
const LOSABLE_BATCHES: u64 = 64;

/// Deleted keys are swept out after this many deletions, so that long simulations stay small.
const SWEEP_AFTER_TOMBSTONES: usize = 4096;

/// A simulated disk. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct SimDisk {
    medium: Arc<Mutex<Medium>>,
    start: u64,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self {
            medium: Arc::default(),
            start: 0,
        }
    }

    /// Pulls the plug. Of the batches that were not synced, the first `keep(their number)`
    /// survive: draw it from the seed, return 0 for the strictest disk, or the number itself for a
    /// process that was killed while the machine went on. Handles and snapshots from before fail
    /// from now on; the returned handle is the disk after the restart, with no faults pending.
    pub fn crash(&self, keep: impl FnOnce(u64) -> u64) -> SimDisk {
        let mut medium = self.medium();
        let unsynced = medium.written - medium.synced;
        let left = medium.synced + keep(unsynced).min(unsynced);
        medium.roll_back_to(left);
        medium.start += 1;
        medium.snapshots.clear();
        medium.latch = None;
        medium.fail_writes = false;
        medium.fail_syncs = false;
        Self {
            medium: Arc::clone(&self.medium),
            start: medium.start,
        }
    }

    /// Crashes, and also loses the newest `batches` of those that *were* synced (64 at most), as
    /// a damaged write-ahead log does. The tail marker stays.
    pub fn crash_losing_synced(&self, batches: u64) -> SimDisk {
        let disk = self.crash(|_| 0);
        let mut medium = disk.medium();
        let left = medium.synced.saturating_sub(batches.min(LOSABLE_BATCHES));
        let left = left.max(medium.history_from);
        medium.roll_back_to(left);
        drop(medium);
        disk
    }

    /// The batches that a crash may lose.
    pub fn unsynced(&self) -> u64 {
        let medium = self.medium();
        medium.written - medium.synced
    }

    /// What is under `key` on the medium: what a crash in this instant would leave at least. For
    /// checks from outside; also after a crash, and through any handle.
    pub fn durable(&self, key: &[u8]) -> Option<Bytes> {
        let medium = self.medium();
        let versions = medium.pairs.get(key)?;
        at(versions, medium.synced)?.value.clone()
    }

    /// Whether there is no space now.
    pub fn is_full(&self) -> bool {
        self.medium().full
    }

    /// Forgets that a write or sync failed, as no disk may: for planted bugs.
    pub fn unlatch(&self) {
        self.medium().latch = None;
    }

    /// How many syncs were done.
    pub fn syncs(&self) -> u64 {
        self.medium().syncs
    }

    /// The next write fails, and latches the disk.
    pub fn fail_next_write(&self) {
        self.medium().fail_writes = true;
    }

    /// The next sync fails, and latches the disk. What it should have made durable may be lost.
    pub fn fail_next_sync(&self) {
        self.medium().fail_syncs = true;
    }

    /// From now on there is no space, or there is again.
    pub fn set_full(&self, full: bool) {
        self.medium().full = full;
    }

    /// Flips one bit of the value under `key`, behind the back of the disk's own checksums.
    /// False if there is no such bit.
    pub fn flip_bit(&self, key: &[u8], bit: usize) -> bool {
        let mut medium = self.medium();
        let Some(version) = medium.newest_mut(key) else {
            return false;
        };
        let Some(value) = &version.value else {
            return false;
        };
        let mut value = value.to_vec();
        let Some(byte) = value.get_mut(bit / 8) else {
            return false;
        };
        *byte ^= 1 << (bit % 8);
        version.value = Some(value.into());
        true
    }

    /// Damages the value under `key` so that reading it fails, as a block with a wrong checksum
    /// does. False if there is no such key.
    pub fn damage(&self, key: &[u8]) -> bool {
        match self.medium().newest_mut(key) {
            Some(version) => {
                version.damaged = true;
                true
            }
            None => false,
        }
    }

    /// Every pair, for comparisons in tests.
    pub fn dump(&self) -> BTreeMap<Bytes, Bytes> {
        let medium = self.medium();
        let now = medium.written;
        medium
            .pairs
            .iter()
            .filter_map(|(key, versions)| {
                let value = at(versions, now)?.value.clone()?;
                Some((key.clone(), value))
            })
            .collect()
    }

    fn medium(&self) -> MutexGuard<'_, Medium> {
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The medium, if this handle is not from before a crash.
    fn powered(&self, doing: &'static str) -> Result<MutexGuard<'_, Medium>, DiskError> {
        let medium = self.medium();
        if medium.start == self.start {
            return Ok(medium);
        }
        Err(DiskError::Io {
            doing,
            detail: "this handle is from before a crash".into(),
        })
    }

    /// The medium, if it still takes changes.
    fn writable(&self, doing: &'static str) -> Result<MutexGuard<'_, Medium>, DiskError> {
        let medium = self.powered(doing)?;
        match &medium.latch {
            None => Ok(medium),
            Some(first) => Err(DiskError::Latched {
                first: first.clone(),
            }),
        }
    }
}

/// The version that batch `batch` saw.
fn at(versions: &[Version], batch: u64) -> Option<&Version> {
    versions.iter().rev().find(|version| version.batch <= batch)
}

impl Medium {
    fn newest_mut(&mut self, key: &[u8]) -> Option<&mut Version> {
        self.pairs.get_mut(key)?.last_mut()
    }

    fn roll_back_to(&mut self, batch: u64) {
        self.pairs.retain(|_, versions| {
            versions.retain(|version| version.batch <= batch);
            !versions.is_empty()
        });
        self.written = batch;
        self.synced = batch;
    }

    /// Latches with `error`.
    fn fail(&mut self, error: DiskError) -> DiskError {
        self.latch = Some(error.to_string());
        error
    }

    /// Nobody reads what was replaced before this batch: no snapshot, nobody after a crash, and
    /// nobody after damage.
    fn forget_history(&mut self) -> u64 {
        let oldest_snapshot = self.snapshots.keys().next().copied();
        let needed = oldest_snapshot
            .unwrap_or(u64::MAX)
            .min(self.synced.saturating_sub(LOSABLE_BATCHES));
        self.history_from = self.history_from.max(needed);
        needed
    }

    fn sweep(&mut self) {
        let needed = self.forget_history();
        self.pairs.retain(|_, versions| match versions.as_slice() {
            [.., newest] => newest.value.is_some() || newest.batch > needed,
            [] => false,
        });
        self.tombstones = 0;
    }

    fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        let needed = self.forget_history();
        let batch = self.written;
        self.tombstones += usize::from(value.is_none());
        let versions = self.pairs.entry(key).or_default();
        let first = versions
            .iter()
            .rposition(|version| version.batch <= needed)
            .unwrap_or(0);
        versions.drain(..first);
        match versions.last_mut() {
            Some(newest) if newest.batch == batch => {
                newest.value = value;
                newest.damaged = false;
            }
            _ => versions.push(Version {
                batch,
                value,
                damaged: false,
            }),
        }
    }

    fn apply(&mut self, batch: &Batch<'_>) {
        self.written += 1;
        for op in batch.ops() {
            match op {
                Op::Put { key, value } => {
                    let value = Bytes::copy_from_slice(value);
                    self.set(Bytes::copy_from_slice(key), Some(value));
                }
                Op::Delete { key } => {
                    if self.pairs.contains_key(key.as_ref()) {
                        self.set(Bytes::copy_from_slice(key), None);
                    }
                }
                Op::DeleteRange { from, to } => {
                    if from >= to {
                        continue;
                    }
                    let range = (Bound::Included(from.as_ref()), Bound::Excluded(to.as_ref()));
                    let keys: Vec<Bytes> = self
                        .pairs
                        .range::<[u8], _>(range)
                        .map(|(key, _)| key.clone())
                        .collect();
                    for key in keys {
                        self.set(key, None);
                    }
                }
            }
        }
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        if std::mem::take(&mut self.fail_syncs) {
            return Err(self.fail(DiskError::Io {
                doing: "syncing",
                detail: "injected".into(),
            }));
        }
        self.synced = self.written;
        self.syncs += 1;
        if self.tombstones > SWEEP_AFTER_TOMBSTONES {
            self.sweep();
        }
        Ok(())
    }

    fn read(&self, key: &[u8], batch: u64) -> Result<Option<Bytes>, DiskError> {
        match self.pairs.get(key).and_then(|versions| at(versions, batch)) {
            None => Ok(None),
            Some(version) => whole(key, version),
        }
    }

    fn scan(
        &self,
        batch: u64,
        prefix: &[u8],
        from: &[u8],
        limit: Limit,
    ) -> Result<Vec<(Bytes, Bytes)>, DiskError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let range = (Bound::Included(from.max(prefix)), Bound::Unbounded);
        for (key, versions) in self.pairs.range::<[u8], _>(range) {
            if !key.starts_with(prefix) {
                break;
            }
            let Some(version) = at(versions, batch) else {
                continue;
            };
            let Some(value) = whole(key, version)? else {
                continue;
            };
            let next = key.len() + value.len();
            if limit.is_reached(found.len(), bytes, next) {
                break;
            }
            bytes += next;
            found.push((key.clone(), value));
        }
        Ok(found)
    }

    fn last(&self, batch: u64, prefix: &[u8]) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        let end = crate::disk::prefix_end(prefix);
        let end = match &end {
            Some(end) => Bound::Excluded(end.as_slice()),
            None => Bound::Unbounded,
        };
        let range = (Bound::Included(prefix), end);
        for (key, versions) in self.pairs.range::<[u8], _>(range).rev() {
            if let Some(version) = at(versions, batch)
                && let Some(value) = whole(key, version)?
            {
                return Ok(Some((key.clone(), value)));
            }
        }
        Ok(None)
    }
}

fn whole(key: &[u8], version: &Version) -> Result<Option<Bytes>, DiskError> {
    if version.damaged {
        return Err(DiskError::Corrupt {
            place: format!("simulated disk, key {key:02x?}"),
            detail: "block checksum mismatch".into(),
        });
    }
    Ok(version.value.clone())
}

impl DiskRead for SimDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        let medium = self.powered("reading")?;
        medium.read(key, medium.written)
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, DiskError> {
        let medium = self.powered("reading")?;
        let now = medium.written;
        keys.iter().map(|key| medium.read(key, now)).collect()
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: Limit,
    ) -> Result<Vec<(Bytes, Bytes)>, DiskError> {
        let medium = self.powered("reading")?;
        medium.scan(medium.written, prefix, from, limit)
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        let medium = self.powered("reading")?;
        medium.last(medium.written, prefix)
    }
}

impl Disk for SimDisk {
    fn write(&self, batch: &Batch<'_>, durability: Durability) -> Result<(), DiskError> {
        let mut medium = self.writable("writing")?;
        if medium.full {
            return Err(medium.fail(DiskError::Full {
                detail: "injected".into(),
            }));
        }
        if std::mem::take(&mut medium.fail_writes) {
            return Err(medium.fail(DiskError::Io {
                doing: "writing",
                detail: "injected".into(),
            }));
        }
        medium.apply(batch);
        match durability {
            Durability::Buffered => Ok(()),
            Durability::Synced => medium.sync(),
        }
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.writable("syncing")?.sync()
    }

    fn snapshot(&self) -> Result<Arc<dyn DiskRead>, DiskError> {
        let mut medium = self.powered("taking a snapshot")?;
        let batch = medium.written;
        *medium.snapshots.entry(batch).or_default() += 1;
        drop(medium);
        Ok(Arc::new(SimSnapshot {
            disk: self.clone(),
            batch,
        }))
    }

    fn checkpoint(&self, _path: &Path) -> Result<(), DiskError> {
        Err(DiskError::Unsupported {
            what: "checkpoint folders",
        })
    }

    fn approximate_bytes(&self) -> Result<u64, DiskError> {
        let medium = self.powered("asking for a size")?;
        let now = medium.written;
        let bytes = medium.pairs.iter().filter_map(|(key, versions)| {
            let value = at(versions, now)?.value.as_ref()?;
            Some((key.len() + value.len()) as u64)
        });
        Ok(bytes.sum())
    }

    fn tail_marker(&self) -> Result<Option<Bytes>, DiskError> {
        Ok(self.powered("reading the tail marker")?.marker.clone())
    }

    fn set_tail_marker(&self, marker: &[u8], _durability: Durability) -> Result<(), DiskError> {
        let mut medium = self.writable("writing the tail marker")?;
        medium.marker = Some(Bytes::copy_from_slice(marker));
        Ok(())
    }
}

/// What a disk held after one batch.
#[derive(Debug)]
struct SimSnapshot {
    disk: SimDisk,
    batch: u64,
}

impl Drop for SimSnapshot {
    fn drop(&mut self) {
        let mut medium = self.disk.medium();
        if medium.start != self.disk.start {
            return;
        }
        if let Some(count) = medium.snapshots.get_mut(&self.batch) {
            *count -= 1;
            if *count == 0 {
                medium.snapshots.remove(&self.batch);
            }
        }
    }
}

impl DiskRead for SimSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        self.disk.powered("reading")?.read(key, self.batch)
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, DiskError> {
        let medium = self.disk.powered("reading")?;
        keys.iter()
            .map(|key| medium.read(key, self.batch))
            .collect()
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: Limit,
    ) -> Result<Vec<(Bytes, Bytes)>, DiskError> {
        let medium = self.disk.powered("reading")?;
        medium.scan(self.batch, prefix, from, limit)
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        self.disk.powered("reading")?.last(self.batch, prefix)
    }
}
