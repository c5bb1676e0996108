//! The disks that nodes of a simulation are given: the simulated ones, watched, and bent where a bug
//! is planted.
//!
//! What holds here: without a planted bug every call goes through unchanged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cairn_ledger::{canonical, rooms};
use cairn_proto::v1;
use cairn_storage::SimDisk;
use cairn_storage::disk::{Batch, Disk, DiskError, DiskRead, Durability, Limit, Op};

use crate::bends;
use crate::invariants::no_reply_leaves_before_it_is_durable::{GUARD, VOTE};
use crate::notes::{Mark, Notes};
use crate::planted::Planted;

/// Keys of the state: see `storage`'s `state_store`.
pub const APPLIED: &[u8] = &[0, b'a'];
const EQUIVOCATION: &[u8] = &[0, b'e'];

/// How long the planted dedupe remembers.
const REMEMBERED_BLOCKS: u64 = 40;

/// How the disks of one simulation are bent.
#[derive(Debug, Clone)]
pub struct Bend {
    pub planted: Planted,
    pub notes: Notes,
    /// Members at the beginning.
    pub members: u64,
    /// Whoever leads flags no checkpoint.
    pub unflagged: Arc<AtomicBool>,
}

/// Blocks that a node once wrote, and that a planted bug still shows when another state has taken
/// the place of theirs.
#[derive(Debug, Clone, Default)]
pub struct OldBlocks(Arc<Mutex<BTreeMap<Vec<u8>, Bytes>>>);

impl OldBlocks {
    fn blocks(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.blocks().get(key).cloned()
    }

    fn keep(&self, batch: &Batch<'_>) {
        for op in batch.ops() {
            if let Op::Put { key, value } = op
                && key.first() == Some(&rooms::BLOCK)
            {
                let value = || Bytes::copy_from_slice(value);
                self.blocks().entry(key.to_vec()).or_insert_with(value);
            }
        }
    }
}

/// One disk, as a node has it.
#[derive(Debug, Clone)]
pub struct BentDisk {
    pub disk: SimDisk,
    pub bend: Bend,
    /// The next sync does nothing.
    pub skips: Arc<AtomicBool>,
    pub old_blocks: OldBlocks,
}

impl BentDisk {
    pub fn new(disk: SimDisk, bend: Bend) -> Self {
        Self {
            disk,
            bend,
            skips: Arc::default(),
            old_blocks: OldBlocks::default(),
        }
    }

    fn bent<T>(&self, read: Result<T, DiskError>, absent: T) -> Result<T, DiskError> {
        match read {
            Err(DiskError::Corrupt { .. }) if self.bend.planted == Planted::DamageReadsAsAbsent => {
                Ok(absent)
            }
            read => read,
        }
    }

    /// What was read under `key`, with its checksum or without anybody looking at it.
    fn sealed(&self, key: &[u8], value: Bytes) -> Bytes {
        match self.bend.planted {
            Planted::LogChecksumsIgnored if is_record(key) => bends::resealed(key, &value),
            _ => value,
        }
    }

    fn forgets(&self, key: &[u8]) -> bool {
        self.bend.planted == Planted::EvidenceDropped && key.starts_with(EQUIVOCATION)
    }

    /// The same changes, with other values under some keys.
    fn rewritten(&self, batch: &Batch<'_>) -> Option<Batch<'static>> {
        let value = |op: &Op<'_>| -> Option<Vec<u8>> {
            let Op::Put { key, value } = op else {
                return None;
            };
            if is_record(key) && self.bend.unflagged.load(Ordering::Relaxed) {
                return bends::unflagged(key, value);
            }
            let forgets = self.bend.planted == Planted::MembersForgotten;
            let position = forgets && key[..] == *APPLIED;
            position.then(|| bends::with_first_members(value, self.bend.members))?
        };
        let ops = batch.ops();
        let values: Vec<_> = ops.iter().map(value).collect();
        values.iter().any(Option::is_some).then(|| {
            let mut bent = Batch::new();
            for (op, value) in ops.iter().zip(values) {
                match value {
                    Some(value) => bent.put(key_of(op).to_vec(), value),
                    None => add(&mut bent, op),
                }
            }
            bent
        })
    }

    /// With a block, what was decided some blocks ago is forgotten.
    fn forgetting(&self, batch: &Batch<'_>) -> Result<Batch<'static>, DiskError> {
        let ops: Vec<_> = batch.ops().iter().collect();
        let mut bent = batch_of(&ops);
        let height = ops.iter().find_map(|op| {
            let height = key_of(op).strip_prefix(&[rooms::BLOCK])?;
            Some(u64::from_be_bytes(height.try_into().ok()?))
        });
        let Some(old) = height.and_then(|height| height.checked_sub(REMEMBERED_BLOCKS)) else {
            return Ok(bent);
        };
        let key = rooms::key(rooms::BLOCK, &[&old.to_be_bytes()]);
        let block = self.disk.get(&key)?;
        let block: Option<v1::Block> = block.and_then(|bytes| canonical::decode(&bytes).ok());
        for outcome in block.unwrap_or_default().outcomes {
            bent.delete(rooms::key(rooms::OUTCOME, &[&outcome.entry_id]));
        }
        Ok(bent)
    }
}

/// A record of the Raft log: see `storage`'s `log_store`.
fn is_record(key: &[u8]) -> bool {
    key.first() == Some(&b'r') && key.len() == 9
}

fn key_of<'a>(op: &'a Op<'_>) -> &'a [u8] {
    match op {
        Op::Put { key, .. } | Op::Delete { key } => key,
        Op::DeleteRange { from, .. } => from,
    }
}

fn add(batch: &mut Batch<'static>, op: &Op<'_>) {
    match op {
        Op::Put { key, value } => batch.put(key.to_vec(), value.to_vec()),
        Op::Delete { key } => batch.delete(key.to_vec()),
        Op::DeleteRange { from, to } => batch.delete_range(from.to_vec(), to.to_vec()),
    }
}

/// These changes as a batch of their own.
fn batch_of(ops: &[&Op<'_>]) -> Batch<'static> {
    let mut batch = Batch::new();
    ops.iter().for_each(|op| add(&mut batch, op));
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
        if let Some(old) = self.old_blocks.get(key) {
            return Ok(Some(old));
        }
        let value = self.bent(self.disk.get(key), None)?;
        Ok(value.map(|value| self.sealed(key, value)))
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
        let mut pairs = self.bent(self.disk.scan(prefix, from, limit), Vec::new())?;
        for (key, value) in &mut pairs {
            *value = self.sealed(key, value.clone());
        }
        Ok(pairs)
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        self.bent(self.disk.last(prefix), None)
    }
}

impl Disk for BentDisk {
    fn write(&self, batch: &Batch<'_>, durability: Durability) -> Result<(), DiskError> {
        if truncates(batch) {
            self.bend.notes.mark(Mark::LogTruncatedOnAFollower);
        }
        let rewritten = self.rewritten(batch);
        let batch = rewritten.as_ref().unwrap_or(batch);
        let buffered = Durability::Buffered;
        match self.bend.planted {
            Planted::OldBlocksStay => {
                self.old_blocks.keep(batch);
                self.disk.write(batch, durability)
            }
            Planted::DedupeForgets => self.disk.write(&self.forgetting(batch)?, durability),
            Planted::SyncLies => self.disk.write(batch, buffered),
            Planted::VoteNotSynced | Planted::GuardNotSynced => {
                let key = match self.bend.planted {
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
        match self.bend.planted {
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
        match self.bend.planted {
            Planted::NoTailMarker => Ok(Some(Bytes::from_static(&[0; 16]))),
            _ => self.disk.tail_marker(),
        }
    }

    fn set_tail_marker(&self, marker: &[u8], durability: Durability) -> Result<(), DiskError> {
        // Without it the node would notice what it lost and refuse to start: another bug's test.
        match self.bend.planted {
            Planted::SyncLies
            | Planted::VoteNotSynced
            | Planted::GuardNotSynced
            | Planted::NoTailMarker => Ok(()),
            _ => self.disk.set_tail_marker(marker, durability),
        }
    }
}
