//! Generations as simulated disks, with copies as one file of pairs each.
//!
//! What holds here: what [`Generations`] promises, across [`SimGenerations::crash`]: the pointer, the
//! copies and their notes are durable at once, what was begun is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes};

use crate::disk::{Batch, Disk, DiskError, Durability};
use crate::generations::{CopyFile, Generations};
use crate::sim::SimDisk;

/// The one file of a simulated copy.
const PAIRS: &str = "pairs";

#[derive(Debug, Clone, Default)]
struct Disks {
    current: SimDisk,
    begun: Option<SimDisk>,
    incoming: Option<Vec<u8>>,
    kept: BTreeMap<u64, (Bytes, Option<Bytes>)>,
}

/// Generations as simulated disks. Clones are handles to the same ones.
#[derive(Debug, Clone, Default)]
pub struct SimGenerations {
    disks: Arc<Mutex<Disks>>,
}

impl SimGenerations {
    /// One empty generation.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pulls the plug on all: see [`SimDisk::crash`]. What was begun is gone. Handles from before
    /// change nothing any more.
    pub fn crash(&self, keep: impl FnOnce(u64) -> u64) -> SimGenerations {
        let mut disks = self.disks();
        if let Some(begun) = disks.begun.take() {
            let _dead = begun.crash(|_| 0);
        }
        let mut kept = disks.kept.clone();
        kept.retain(|_, (_, note)| note.is_some());
        Self {
            disks: Arc::new(Mutex::new(Disks {
                current: disks.current.crash(keep),
                begun: None,
                incoming: None,
                kept,
            })),
        }
    }

    /// The current disk, for injecting faults.
    pub fn disk(&self) -> SimDisk {
        self.disks().current.clone()
    }

    /// The generation that was begun, or is being received, and has not been adopted: whether there
    /// is one, and its disk.
    pub fn begun(&self) -> (bool, Option<SimDisk>) {
        let disks = self.disks();
        let there = disks.begun.is_some() || disks.incoming.is_some();
        (there, disks.begun.clone())
    }

    fn disks(&self) -> MutexGuard<'_, Disks> {
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn absent(height: u64) -> DiskError {
    DiskError::Io {
        doing: "reading a copy",
        detail: format!("there is none at {height}"),
    }
}

fn not_begun() -> DiskError {
    DiskError::Unsupported {
        what: "generation that was begun",
    }
}

fn pairs_of(disk: &SimDisk) -> Bytes {
    let mut bytes = Vec::new();
    for (key, value) in disk.dump() {
        for part in [key, value] {
            bytes.put_u64(part.len() as u64);
            bytes.put_slice(&part);
        }
    }
    bytes.into()
}

/// A disk with the pairs of a copy, or with those before its first damage.
fn disk_of(mut bytes: Bytes) -> Result<SimDisk, DiskError> {
    let disk = SimDisk::new();
    let mut batch = Batch::new();
    let mut part = || {
        let len = usize::try_from(bytes.try_get_u64().ok()?).ok()?;
        (len <= bytes.len()).then(|| bytes.split_to(len))
    };
    while let (Some(key), Some(value)) = (part(), part()) {
        batch.put(key.to_vec(), value.to_vec());
    }
    disk.write(&batch, Durability::Synced)?;
    Ok(disk)
}

impl Generations for SimGenerations {
    fn current(&self) -> Result<Arc<dyn Disk>, DiskError> {
        Ok(Arc::new(self.disk()))
    }

    fn begin(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let disk = SimDisk::new();
        self.disks().begun = Some(disk.clone());
        Ok(Arc::new(disk))
    }

    fn adopt(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let mut disks = self.disks();
        let begun = disks.begun.take().ok_or_else(not_begun)?;
        begun.sync()?;
        disks.current = begun.clone();
        Ok(Arc::new(begun))
    }

    fn keep(&self, height: u64) -> Result<(), DiskError> {
        let mut disks = self.disks();
        disks.current.sync()?;
        let pairs = pairs_of(&disks.current);
        disks.kept.insert(height, (pairs, None));
        Ok(())
    }

    fn note(&self, height: u64, note: &[u8]) -> Result<(), DiskError> {
        let mut disks = self.disks();
        let (_, slot) = disks.kept.get_mut(&height).ok_or_else(|| absent(height))?;
        *slot = Some(Bytes::copy_from_slice(note));
        Ok(())
    }

    fn kept(&self) -> Result<Vec<(u64, Bytes)>, DiskError> {
        let disks = self.disks();
        let noted =
            |(height, (_, note)): (&u64, &(Bytes, Option<Bytes>))| Some((*height, note.clone()?));
        Ok(disks.kept.iter().filter_map(noted).collect())
    }

    fn forget(&self, height: u64) -> Result<(), DiskError> {
        self.disks().kept.remove(&height);
        Ok(())
    }

    fn files(&self, height: u64) -> Result<Vec<CopyFile>, DiskError> {
        let disks = self.disks();
        let (pairs, _) = disks.kept.get(&height).ok_or_else(|| absent(height))?;
        Ok(vec![CopyFile {
            name: PAIRS.to_owned(),
            bytes: pairs.len() as u64,
        }])
    }

    fn read_file(
        &self,
        height: u64,
        _name: &str,
        offset: u64,
        most: usize,
    ) -> Result<Bytes, DiskError> {
        let disks = self.disks();
        let (pairs, _) = disks.kept.get(&height).ok_or_else(|| absent(height))?;
        let from = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(pairs.len());
        Ok(pairs.slice(from..pairs.len().min(from.saturating_add(most))))
    }

    fn begin_from(&self, height: u64) -> Result<Arc<dyn Disk>, DiskError> {
        let mut disks = self.disks();
        let (pairs, _) = disks.kept.get(&height).ok_or_else(|| absent(height))?;
        let disk = disk_of(pairs.clone())?;
        disks.begun = Some(disk.clone());
        Ok(Arc::new(disk))
    }

    fn receive(&self, files: &[CopyFile]) -> Result<(), DiskError> {
        if files.iter().any(|file| file.name != PAIRS) {
            return Err(not_begun());
        }
        let mut disks = self.disks();
        disks.begun = None;
        disks.incoming = Some(Vec::new());
        Ok(())
    }

    fn write_file(&self, _name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut disks = self.disks();
        let file = disks.incoming.as_mut().ok_or_else(not_begun)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = from.saturating_add(bytes.len());
        if file.len() < end {
            file.resize(end, 0);
        }
        file[from..end].copy_from_slice(bytes);
        Ok(())
    }

    fn received(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let mut disks = self.disks();
        let file = disks.incoming.take().ok_or_else(not_begun)?;
        let disk = disk_of(file.into())?;
        disks.begun = Some(disk.clone());
        Ok(Arc::new(disk))
    }
}
