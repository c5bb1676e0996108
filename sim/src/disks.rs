//! The disks that nodes of a simulation are given: the simulated ones, watched, and bent where a bug
//! is planted.
//!
//! What holds here: without a planted bug every call goes through unchanged.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use cairn_storage::disk::{Batch, Disk, DiskError, DiskRead, Durability, Limit, Op};
use cairn_storage::generations::{CopyFile, Generations};
use cairn_storage::{SimDisk, SimGenerations};
use tokio::time::Instant;

use crate::invariants::no_reply_leaves_before_it_is_durable::{GUARD, VOTE};
use crate::notes::{Mark, Notes};
use crate::planted::Planted;

/// Keys of the state: see `storage`'s `state_store`.
const APPLIED: &[u8] = &[0, b'a'];
const EQUIVOCATION: &[u8] = &[0, b'e'];

/// One disk, as a node has it.
#[derive(Debug, Clone)]
pub struct BentDisk {
    pub disk: SimDisk,
    pub planted: Planted,
    pub notes: Notes,
    /// The next sync does nothing.
    pub skips: Arc<AtomicBool>,
}

impl BentDisk {
    pub fn new(disk: SimDisk, planted: Planted, notes: Notes) -> Self {
        let skips = Arc::default();
        Self {
            disk,
            planted,
            notes,
            skips,
        }
    }

    fn bent<T>(&self, read: Result<T, DiskError>, absent: T) -> Result<T, DiskError> {
        match read {
            Err(DiskError::Corrupt { .. }) if self.planted == Planted::DamageReadsAsAbsent => {
                Ok(absent)
            }
            read => read,
        }
    }

    fn forgets(&self, key: &[u8]) -> bool {
        self.planted == Planted::EvidenceDropped && key.starts_with(EQUIVOCATION)
    }
}

fn key_of<'a>(op: &'a Op<'_>) -> &'a [u8] {
    match op {
        Op::Put { key, .. } | Op::Delete { key } => key,
        Op::DeleteRange { from, .. } => from,
    }
}

/// These changes as a batch of their own.
fn batch_of(ops: &[&Op<'_>]) -> Batch<'static> {
    let mut batch = Batch::new();
    for op in ops {
        match op {
            Op::Put { key, value } => batch.put(key.to_vec(), value.to_vec()),
            Op::Delete { key } => batch.delete(key.to_vec()),
            Op::DeleteRange { from, to } => batch.delete_range(from.to_vec(), to.to_vec()),
        }
    }
    batch
}

fn has(batch: &Batch<'_>, key: &[u8]) -> bool {
    batch.ops().iter().any(|op| key_of(op) == key)
}

/// Records of the Raft log go, and not because they were purged.
fn truncates(batch: &Batch<'_>) -> bool {
    let removes = |op: &Op<'_>| !matches!(op, Op::Put { .. }) && key_of(op).first() == Some(&b'r');
    batch.ops().iter().any(removes) && !has(batch, b"mp")
}

impl DiskRead for BentDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        self.bent(self.disk.get(key), None)
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, DiskError> {
        self.bent(self.disk.multi_get(keys), vec![None; keys.len()])
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: Limit,
    ) -> Result<Vec<(Bytes, Bytes)>, DiskError> {
        self.bent(self.disk.scan(prefix, from, limit), Vec::new())
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        self.bent(self.disk.last(prefix), None)
    }
}

impl Disk for BentDisk {
    fn write(&self, batch: &Batch<'_>, durability: Durability) -> Result<(), DiskError> {
        if truncates(batch) {
            self.notes.mark(Mark::LogTruncatedOnAFollower);
        }
        let buffered = Durability::Buffered;
        match self.planted {
            Planted::SyncLies => self.disk.write(batch, buffered),
            Planted::VoteNotSynced | Planted::GuardNotSynced => {
                let key = match self.planted {
                    Planted::VoteNotSynced => VOTE,
                    _ => GUARD,
                };
                if has(batch, key) {
                    self.skips.store(true, Ordering::Relaxed);
                }
                self.disk.write(batch, buffered)
            }
            Planted::BlockInTwoBatches if has(batch, APPLIED) => {
                let (position, rest): (Vec<_>, Vec<_>) =
                    batch.ops().iter().partition(|op| key_of(op) == APPLIED);
                self.disk.write(&batch_of(&position), buffered)?;
                self.disk.write(&batch_of(&rest), durability)
            }
            Planted::EvidenceDropped => {
                let kept: Vec<_> = batch
                    .ops()
                    .iter()
                    .filter(|op| !self.forgets(key_of(op)))
                    .collect();
                self.disk.write(&batch_of(&kept), durability)
            }
            Planted::FullDiskDropsWrites => match self.disk.is_full() {
                true => Ok(()),
                false => self.disk.write(batch, durability),
            },
            Planted::FailedSyncRetried => match self.disk.write(batch, durability) {
                Err(
                    DiskError::Io {
                        doing: "syncing", ..
                    }
                    | DiskError::Latched { .. },
                ) => {
                    self.disk.unlatch();
                    self.disk.write(batch, buffered)
                }
                written => written,
            },
            _ => self.disk.write(batch, durability),
        }
    }

    fn sync(&self) -> Result<(), DiskError> {
        match self.planted {
            Planted::SyncLies => Ok(()),
            _ if self.skips.swap(false, Ordering::Relaxed) => Ok(()),
            // What the failed sync should have written is marked clean, and nobody writes it again.
            Planted::FailedSyncRetried => {
                if self.disk.sync().is_err() {
                    self.disk.unlatch();
                }
                Ok(())
            }
            _ => self.disk.sync(),
        }
    }

    fn snapshot(&self) -> Result<Arc<dyn DiskRead>, DiskError> {
        self.disk.snapshot()
    }

    fn checkpoint(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.checkpoint(path)
    }

    fn approximate_bytes(&self) -> Result<u64, DiskError> {
        self.disk.approximate_bytes()
    }

    fn tail_marker(&self) -> Result<Option<Bytes>, DiskError> {
        match self.planted {
            Planted::NoTailMarker => Ok(Some(Bytes::from_static(&[0; 16]))),
            _ => self.disk.tail_marker(),
        }
    }

    fn set_tail_marker(&self, marker: &[u8], durability: Durability) -> Result<(), DiskError> {
        // Without it the node would notice what it lost and refuse to start: another bug's test.
        match self.planted {
            Planted::SyncLies
            | Planted::VoteNotSynced
            | Planted::GuardNotSynced
            | Planted::NoTailMarker => Ok(()),
            _ => self.disk.set_tail_marker(marker, durability),
        }
    }
}

/// When a node's state was last replaced, in milliseconds of the simulation; 0: never.
#[derive(Debug, Clone, Default)]
pub struct Adopted(Arc<AtomicU64>);

impl Adopted {
    pub fn at(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The state's disks, as a node has them.
#[derive(Debug, Clone)]
pub struct BentGenerations {
    pub disks: SimGenerations,
    pub planted: Planted,
    pub notes: Notes,
    pub start: Instant,
    pub adopted: Adopted,
}

impl BentGenerations {
    fn bend(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        if self.planted == Planted::Nothing {
            return disk;
        }
        self.bent(self.disks.disk())
    }

    fn bent(&self, disk: SimDisk) -> Arc<dyn Disk> {
        Arc::new(BentDisk::new(disk, self.planted, self.notes.clone()))
    }

    /// What an install must not do: the new pairs into the old state.
    fn adopt_in_place(&self) -> Result<Arc<dyn Disk>, DiskError> {
        const AT_A_TIME: usize = 50;
        let (old, new) = (self.disks.disk(), self.disks.begun().1);
        let new = new.ok_or(DiskError::Unsupported {
            what: "generation that was begun",
        })?;
        let pairs: Vec<_> = new.dump().into_iter().collect();
        for (number, part) in pairs.chunks(AT_A_TIME).enumerate() {
            let mut batch = Batch::new();
            for (key, value) in part {
                batch.put(key.to_vec(), value.to_vec());
            }
            old.write(&batch, Durability::Buffered)?;
            if number * AT_A_TIME < pairs.len() / 2 {
                old.sync()?;
            }
        }
        Ok(Arc::new(old))
    }
}

impl Generations for BentGenerations {
    fn current(&self) -> Result<Arc<dyn Disk>, DiskError> {
        Ok(self.bend(self.disks.current()?))
    }

    fn begin(&self) -> Result<Arc<dyn Disk>, DiskError> {
        self.disks.begin()
    }

    fn adopt(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let disk = match self.planted {
            Planted::InstallInPlace => self.adopt_in_place()?,
            _ => {
                let disk = self.disks.adopt()?;
                self.bend(disk)
            }
        };
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.adopted.0.store(now.max(1), Ordering::Relaxed);
        Ok(disk)
    }

    fn keep(&self, height: u64) -> Result<(), DiskError> {
        self.disks.keep(height)
    }

    fn note(&self, height: u64, note: &[u8]) -> Result<(), DiskError> {
        self.disks.note(height, note)
    }

    fn kept(&self) -> Result<Vec<(u64, Bytes)>, DiskError> {
        self.disks.kept()
    }

    fn forget(&self, height: u64) -> Result<(), DiskError> {
        self.disks.forget(height)
    }

    fn files(&self, height: u64) -> Result<Vec<CopyFile>, DiskError> {
        self.disks.files(height)
    }

    fn read_file(
        &self,
        height: u64,
        name: &str,
        offset: u64,
        most: usize,
    ) -> Result<Bytes, DiskError> {
        self.disks.read_file(height, name, offset, most)
    }

    fn begin_from(&self, height: u64) -> Result<Arc<dyn Disk>, DiskError> {
        self.disks.begin_from(height)
    }

    fn receive(&self, files: &[CopyFile]) -> Result<(), DiskError> {
        self.disks.receive(files)
    }

    fn write_file(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.disks.write_file(name, offset, bytes)
    }

    fn received(&self) -> Result<Arc<dyn Disk>, DiskError> {
        self.disks.received()
    }
}
