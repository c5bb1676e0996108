//! The state's generations that nodes of a simulation are given: the simulated ones, with power that
//! may fail in the middle of an install, and bent where a bug is planted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cairn_ledger::{apply, rooms};
use cairn_storage::disk::{Batch, Disk, DiskError, Durability};
use cairn_storage::generations::{CopyFile, Generations};
use cairn_storage::{SimDisk, SimGenerations, StateStore};
use tokio::time::Instant;

use crate::bends;
use crate::disks::{APPLIED, Bend, BentDisk, OldBlocks};
use crate::fuses::{Fuses, Moment};
use crate::notes::Mark;
use crate::planted::Planted;
use crate::rng::Rng;

/// What one node's generations leave behind for the next start.
#[derive(Debug, Clone, Default)]
pub struct Adopted {
    at: Arc<AtomicU64>,
    blocks: OldBlocks,
}

impl Adopted {
    /// When the state was last replaced, in milliseconds of the simulation; 0: never.
    pub fn at(&self) -> u64 {
        self.at.load(Ordering::Relaxed)
    }
}

/// The state's disks, as a node has them.
#[derive(Debug, Clone)]
pub struct BentGenerations {
    pub disks: SimGenerations,
    pub bend: Bend,
    pub start: Instant,
    pub adopted: Adopted,
    pub power: Power,
}

/// A node's power, as far as its steps can take it away.
#[derive(Debug, Clone)]
pub struct Power {
    pub node: u64,
    pub raft: SimDisk,
    pub fuses: Fuses,
    pub rng: Rng,
}

impl BentGenerations {
    /// Here the power may fail: of all that was not synced some is left, and no handle works any
    /// more.
    fn passes(&self, moment: Moment) -> Result<(), DiskError> {
        let power = &self.power;
        if !power.fuses.blows(power.node, moment) {
            return Ok(());
        }
        self.bend.notes.fault("power fails in an install");
        self.bend.notes.mark(match moment {
            Moment::Adopted => Mark::CrashAfterThePointerMoved,
            _ => Mark::CrashBeforeThePointerMoved,
        });
        let keep = |unsynced| power.rng.between(0, unsynced);
        // The world's own handles crash once more, with nothing left to lose.
        power.raft.crash(keep);
        self.disks.crash(keep);
        Err(DiskError::Io {
            doing: "installing",
            detail: "the power has failed".to_owned(),
        })
    }

    fn bend(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        if self.bend.planted == Planted::Nothing {
            return disk;
        }
        self.bent(self.disks.disk())
    }

    fn bent(&self, disk: SimDisk) -> Arc<dyn Disk> {
        let mut disk = BentDisk::new(disk, self.bend.clone());
        disk.old_blocks = self.adopted.blocks.clone();
        Arc::new(disk)
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
            old.sync()?;
            if number * AT_A_TIME >= pairs.len() / 2 {
                self.passes(Moment::Adopting)?;
            }
        }
        Ok(Arc::new(old))
    }
}

/// What a start must not find: the height of some blocks ago, and all else as it was.
fn with_an_older_tip(disk: SimDisk) -> Result<SimDisk, DiskError> {
    const BLOCKS: u64 = 3;
    let state = StateStore::new_unchecked(Arc::new(disk.clone()));
    let tip = rooms::key(rooms::TIP, &[]);
    if let Ok(Some(newest)) = apply::tip(&state)
        && let Some(height) = newest.header.height.checked_sub(BLOCKS)
        && let Ok(Some(older)) = apply::header_at(&state, height)
    {
        let checkpoint = newest.last_checkpoint_height.min(height).to_be_bytes();
        let time = newest.last_checkpoint_ms.to_be_bytes();
        let mut batch = Batch::new();
        batch.put(tip, [&checkpoint, &time, &older[..]].concat());
        disk.write(&batch, Durability::Synced)?;
    }
    Ok(disk)
}

impl Generations for BentGenerations {
    fn current(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let disk = self.disks.current()?;
        Ok(match self.bend.planted {
            Planted::TipGoesBack => self.bent(with_an_older_tip(self.disks.disk())?),
            _ => self.bend(disk),
        })
    }

    fn begin(&self) -> Result<Arc<dyn Disk>, DiskError> {
        self.disks.begin()
    }

    fn adopt(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let disk = match self.bend.planted {
            Planted::InstallInPlace => self.adopt_in_place()?,
            _ => {
                self.passes(Moment::Adopting)?;
                let disk = self.disks.adopt()?;
                self.bend(disk)
            }
        };
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.adopted.at.store(now.max(1), Ordering::Relaxed);
        self.passes(Moment::Adopted)?;
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
        self.passes(Moment::Receiving)?;
        self.disks.write_file(name, offset, bytes)
    }

    fn received(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let disk = self.disks.received()?;
        if self.bend.planted == Planted::CopyKeepsOldMembers
            && let Some(position) = disk.get(APPLIED)?
            && let Some(old) = bends::with_first_members(&position, self.bend.members)
        {
            let mut batch = Batch::new();
            batch.put(APPLIED, old);
            disk.write(&batch, Durability::Buffered)?;
        }
        Ok(disk)
    }
}
