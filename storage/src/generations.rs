//! Generations of the ledger's database: how a whole state is replaced at one instant.
//!
//! What holds here: `ledger/current` names the generation in use; a new one is built beside it,
//! made durable, and becomes current by one rename. Whoever opens the folder after a crash finds
//! the old state or the new one, never a mix; half-built ones are swept away. What stays out: where
//! a new state comes from.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskError};
use crate::rocks::{Memory, Purpose, RocksDisk};
use crate::sim::SimDisk;

/// Where the ledger's database lives, and how it is replaced.
pub trait Generations: Send + Sync + 'static {
    /// The generation in use; an empty one at first.
    fn current(&self) -> Result<Arc<dyn Disk>, DiskError>;

    /// A new, empty generation beside it. One that was begun before and not adopted is dropped.
    fn begin(&self) -> Result<Arc<dyn Disk>, DiskError>;

    /// Syncs the generation that was begun and makes it the current one, durably. The one before
    /// is removed when its last user has let go and the folder is opened again.
    fn adopt(&self) -> Result<Arc<dyn Disk>, DiskError>;
}

/// Names the generation in use.
const POINTER: &str = "current";
/// The pointer before its rename.
const NEW_POINTER: &str = "current.new";

/// Generations as folders `<n>` with RocksDB databases.
#[derive(Debug)]
pub struct RocksGenerations {
    folder: PathBuf,
    memory: Memory,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    number: u64,
    current: Arc<RocksDisk>,
    begun: Option<(u64, Arc<RocksDisk>)>,
}

fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> DiskError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DiskError::Full {
            detail: error.to_string(),
        },
        _ => DiskError::Io {
            doing,
            detail: format!("{}: {error}", path.display()),
        },
    }
}

impl RocksGenerations {
    /// Opens the current generation in `folder`, and sweeps all others.
    pub fn open(folder: &Path, memory: &Memory) -> Result<Self, DiskError> {
        fs::create_dir_all(folder).map_err(io_error("making the ledger folder", folder))?;
        let number = match read_pointer(folder)? {
            Some(number) => number,
            None => {
                write_pointer(folder, 0)?;
                0
            }
        };
        // Opening takes the database's lock, so nobody sweeps under a running node.
        let current = open_generation(folder, number, memory)?;
        sweep(folder, number)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            memory: memory.clone(),
            open: Mutex::new(Open {
                number,
                current: Arc::new(current),
                begun: None,
            }),
        })
    }

    fn opened(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations for RocksGenerations {
    fn current(&self) -> Result<Arc<dyn Disk>, DiskError> {
        Ok(Arc::clone(&self.opened().current) as Arc<dyn Disk>)
    }

    fn begin(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let mut open = self.opened();
        // A number of its own each time: the dropped one may still have users.
        let number = match open.begun.take() {
            Some((number, _)) => number + 1,
            None => open.number + 1,
        };
        let folder = self.folder.join(number.to_string());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(io_error("removing a generation", &folder))?;
        }
        let disk = Arc::new(open_generation(&self.folder, number, &self.memory)?);
        open.begun = Some((number, Arc::clone(&disk)));
        Ok(disk)
    }

    fn adopt(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let mut open = self.opened();
        let Some((number, disk)) = open.begun.take() else {
            return Err(DiskError::Unsupported {
                what: "generation that was begun",
            });
        };
        disk.sync()?;
        // The folder's own entry has to be durable before the pointer names it.
        sync_folder(&self.folder)?;
        write_pointer(&self.folder, number)?;
        open.number = number;
        open.current = Arc::clone(&disk);
        Ok(disk)
    }
}

fn open_generation(folder: &Path, number: u64, memory: &Memory) -> Result<RocksDisk, DiskError> {
    RocksDisk::open(&folder.join(number.to_string()), Purpose::Ledger, memory)
}

fn read_pointer(folder: &Path) -> Result<Option<u64>, DiskError> {
    let path = folder.join(POINTER);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return without_pointer(folder);
        }
        Err(error) => return Err(io_error("reading the pointer", &path)(error)),
    };
    match text.trim_end().parse() {
        Ok(number) if folder.join(text.trim_end()).is_dir() || number == 0 => Ok(Some(number)),
        _ => Err(DiskError::Corrupt {
            place: path.display().to_string(),
            detail: format!("it names no generation: {text:?}"),
        }),
    }
}

/// A folder without a pointer is new, or somebody removed the pointer.
fn without_pointer(folder: &Path) -> Result<Option<u64>, DiskError> {
    if generations(folder)?.is_empty() {
        return Ok(None);
    }
    Err(DiskError::Corrupt {
        place: folder.join(POINTER).display().to_string(),
        detail: "it is missing, and there are generations".into(),
    })
}

fn write_pointer(folder: &Path, number: u64) -> Result<(), DiskError> {
    let new = folder.join(NEW_POINTER);
    let failed = io_error("writing the pointer", &new);
    let mut file = File::create(&new).map_err(&failed)?;
    writeln!(file, "{number}").map_err(&failed)?;
    file.sync_all().map_err(&failed)?;
    fs::rename(&new, folder.join(POINTER)).map_err(&failed)?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<(), DiskError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("syncing the folder", folder))
}

fn generations(folder: &Path) -> Result<Vec<u64>, DiskError> {
    let failed = io_error("listing generations", folder);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(&failed)? {
        let name = entry.map_err(&failed)?.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.parse().ok()) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

fn sweep(folder: &Path, current: u64) -> Result<(), DiskError> {
    for number in generations(folder)? {
        if number != current {
            let path = folder.join(number.to_string());
            fs::remove_dir_all(&path).map_err(io_error("removing a generation", &path))?;
        }
    }
    Ok(())
}

/// Generations as simulated disks. Clones are handles to the same ones.
#[derive(Debug, Clone, Default)]
pub struct SimGenerations {
    disks: Arc<Mutex<(SimDisk, Option<SimDisk>)>>,
}

impl SimGenerations {
    /// One empty generation.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pulls the plug on all: see [`SimDisk::crash`]. What was begun is gone.
    pub fn crash(&self, keep: impl FnOnce(u64) -> u64) -> SimGenerations {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = disks.1.take() {
            let _dead = begun.crash(|_| 0);
        }
        let restarted = disks.0.crash(keep);
        Self {
            disks: Arc::new(Mutex::new((restarted, None))),
        }
    }

    /// The current disk, for injecting faults.
    pub fn disk(&self) -> SimDisk {
        let disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        disks.0.clone()
    }
}

impl Generations for SimGenerations {
    fn current(&self) -> Result<Arc<dyn Disk>, DiskError> {
        Ok(Arc::new(self.disk()))
    }

    fn begin(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = SimDisk::new();
        disks.1 = Some(disk.clone());
        Ok(Arc::new(disk))
    }

    fn adopt(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(begun) = disks.1.take() else {
            return Err(DiskError::Unsupported {
                what: "generation that was begun",
            });
        };
        begun.sync()?;
        disks.0 = begun.clone();
        Ok(Arc::new(begun))
    }
}
