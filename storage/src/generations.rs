//! Generations of the ledger's database: how a whole state is replaced at one instant.
//!
//! What holds here: `ledger/current` names the generation in use; a new one is built beside it,
//! made durable, and becomes current by one rename. Whoever opens the folder after a crash finds
//! the old state or the new one, never a mix; half-built ones are swept away. Beside the generations,
//! `ledger/kept/<height>` holds durable copies (hard links) of the state after one block, for nodes
//! that are behind. What stays out: where a new state comes from, and whether to believe it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::disk::{Disk, DiskError};
use crate::rocks::{Memory, Purpose, RocksDisk};

/// Where the ledger's database lives, how it is replaced, and the copies of it that are kept for
/// others.
pub trait Generations: Send + Sync + 'static {
    /// The generation in use; an empty one at first.
    fn current(&self) -> Result<Arc<dyn Disk>, DiskError>;

    /// A new, empty generation beside it. One that was begun before and not adopted is dropped.
    fn begin(&self) -> Result<Arc<dyn Disk>, DiskError>;

    /// Syncs the generation that was begun and makes it the current one, durably. The one before
    /// is removed when its last user has let go and the folder is opened again.
    fn adopt(&self) -> Result<Arc<dyn Disk>, DiskError>;

    /// Keeps a durable copy of the current generation as it is now, by the name of a height. The
    /// generation itself is durable up to here when this returns. A copy of that name is replaced.
    fn keep(&self, height: u64) -> Result<(), DiskError>;

    /// Notes durably what the copy at `height` is worth. Copies without a note are removed when the
    /// folder is opened again.
    fn note(&self, height: u64, note: &[u8]) -> Result<(), DiskError>;

    /// The copies with a note, ascending.
    fn kept(&self) -> Result<Vec<(u64, Bytes)>, DiskError>;

    /// Removes the copy at `height`.
    fn forget(&self, height: u64) -> Result<(), DiskError>;

    /// The files of the copy at `height`.
    fn files(&self, height: u64) -> Result<Vec<CopyFile>, DiskError>;

    /// At most `most` bytes of one of its files, from `offset` on.
    fn read_file(
        &self,
        height: u64,
        name: &str,
        offset: u64,
        most: usize,
    ) -> Result<Bytes, DiskError>;

    /// Begins a generation from the copy at `height`.
    fn begin_from(&self, height: u64) -> Result<Arc<dyn Disk>, DiskError>;

    /// Begins a generation from files that come from elsewhere, empty at first.
    fn receive(&self, files: &[CopyFile]) -> Result<(), DiskError>;

    /// Writes into one of them.
    fn write_file(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes them durable and opens them as the generation that was begun.
    fn received(&self) -> Result<Arc<dyn Disk>, DiskError>;
}

/// A file of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFile {
    /// Its name, without a folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// RocksDB's names have some 20 bytes.
const MAX_NAME_BYTES: usize = 64;

impl CopyFile {
    /// Whether the name stays inside its folder, whoever sent it.
    pub fn is_plain(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        self.name.len() <= MAX_NAME_BYTES
            && self.name.bytes().next().is_some_and(|byte| byte != b'.')
            && self.name.bytes().all(plain)
    }
}

fn not_begun() -> DiskError {
    DiskError::Unsupported {
        what: "generation that was begun",
    }
}

fn not_plain(file: &str) -> DiskError {
    DiskError::Corrupt {
        place: "a copy from elsewhere".into(),
        detail: format!("it names the file {file:?}"),
    }
}

/// Names the generation in use.
const POINTER: &str = "current";
/// Behind the name of a small file before its rename.
const NEW: &str = ".new";
/// Behind the height in the name of a copy's note.
const NOTE: &str = ".note";
/// The folder of the copies: `<height>/`, and `<height>.note` beside it.
const KEPT: &str = "kept";

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
    begun: Option<(u64, Begun)>,
}

/// A generation beside the current one.
#[derive(Debug)]
enum Begun {
    Disk(Arc<RocksDisk>),
    /// Files that are still coming in.
    Files(Vec<String>),
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
        sweep_kept(&folder.join(KEPT))?;
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

    /// An empty folder for the next generation. Older ones that nobody adopted go.
    fn next_folder(&self, open: &mut Open) -> Result<(u64, PathBuf), DiskError> {
        // A number of its own each time: the dropped one may still have users.
        let number = match open.begun.take() {
            Some((number, _)) => number + 1,
            None => open.number + 1,
        };
        let folder = self.folder.join(number.to_string());
        remove_folder(&folder)?;
        Ok((number, folder))
    }

    fn copy(&self, height: u64) -> PathBuf {
        self.folder.join(KEPT).join(height.to_string())
    }

    fn note_of(&self, height: u64) -> PathBuf {
        self.folder.join(KEPT).join(format!("{height}{NOTE}"))
    }
}

impl Generations for RocksGenerations {
    fn current(&self) -> Result<Arc<dyn Disk>, DiskError> {
        Ok(Arc::clone(&self.opened().current) as Arc<dyn Disk>)
    }

    fn begin(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let mut open = self.opened();
        let (number, _) = self.next_folder(&mut open)?;
        let disk = Arc::new(open_generation(&self.folder, number, &self.memory)?);
        open.begun = Some((number, Begun::Disk(Arc::clone(&disk))));
        Ok(disk)
    }

    fn adopt(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let mut open = self.opened();
        let Some((number, Begun::Disk(disk))) = &open.begun else {
            return Err(not_begun());
        };
        let (number, disk) = (*number, Arc::clone(disk));
        open.begun = None;
        disk.sync()?;
        // The folder's own entry has to be durable before the pointer names it.
        sync_folder(&self.folder)?;
        write_pointer(&self.folder, number)?;
        open.number = number;
        open.current = Arc::clone(&disk);
        Ok(disk)
    }

    fn keep(&self, height: u64) -> Result<(), DiskError> {
        self.forget(height)?;
        let kept = self.folder.join(KEPT);
        fs::create_dir_all(&kept).map_err(io_error("making a folder for copies", &kept))?;
        let current = Arc::clone(&self.opened().current);
        current.checkpoint(&self.copy(height))?;
        sync_folder(&kept)
    }

    fn note(&self, height: u64, note: &[u8]) -> Result<(), DiskError> {
        write_durably(&self.note_of(height), note)
    }

    fn kept(&self) -> Result<Vec<(u64, Bytes)>, DiskError> {
        let mut kept = Vec::new();
        for height in generations(&self.folder.join(KEPT))? {
            let path = self.note_of(height);
            match fs::read(&path) {
                Ok(note) => kept.push((height, note.into())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("reading a copy's note", &path)(error)),
            }
        }
        kept.sort_unstable();
        Ok(kept)
    }

    fn forget(&self, height: u64) -> Result<(), DiskError> {
        // The note first: a copy that is not whole must not have one.
        let note = self.note_of(height);
        match fs::remove_file(&note) {
            Ok(()) => sync_folder(&self.folder.join(KEPT))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("removing a copy's note", &note)(error)),
        }
        remove_folder(&self.copy(height))
    }

    fn files(&self, height: u64) -> Result<Vec<CopyFile>, DiskError> {
        let folder = self.copy(height);
        let failed = io_error("listing a copy", &folder);
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            files.push(CopyFile {
                name: entry.file_name().to_string_lossy().into_owned(),
                bytes: entry.metadata().map_err(&failed)?.len(),
            });
        }
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn read_file(
        &self,
        height: u64,
        name: &str,
        offset: u64,
        most: usize,
    ) -> Result<Bytes, DiskError> {
        let path = self.copy(height).join(name);
        let failed = io_error("reading a copy", &path);
        let file = File::open(&path).map_err(&failed)?;
        let len = file.metadata().map_err(&failed)?.len();
        let left = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(most)];
        file.read_exact_at(&mut bytes, offset).map_err(&failed)?;
        Ok(bytes.into())
    }

    fn begin_from(&self, height: u64) -> Result<Arc<dyn Disk>, DiskError> {
        let files = self.files(height)?;
        self.receive(&files)?;
        let number = self.opened().begun.as_ref().map(|(number, _)| *number);
        let folder = self.folder.join(number.ok_or_else(not_begun)?.to_string());
        for file in &files {
            let (from, to) = (self.copy(height).join(&file.name), folder.join(&file.name));
            fs::copy(&from, &to).map_err(io_error("copying a copy", &to))?;
        }
        self.received()
    }

    fn receive(&self, files: &[CopyFile]) -> Result<(), DiskError> {
        if let Some(file) = files.iter().find(|file| !file.is_plain()) {
            return Err(not_plain(&file.name));
        }
        let mut open = self.opened();
        let (number, folder) = self.next_folder(&mut open)?;
        fs::create_dir_all(&folder).map_err(io_error("making a generation", &folder))?;
        for file in files {
            let path = folder.join(&file.name);
            File::create(&path).map_err(io_error("making a file", &path))?;
        }
        let names = files.iter().map(|file| file.name.clone()).collect();
        open.begun = Some((number, Begun::Files(names)));
        Ok(())
    }

    fn write_file(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let path = match &self.opened().begun {
            Some((number, Begun::Files(names))) if names.iter().any(|known| known == name) => {
                self.folder.join(number.to_string()).join(name)
            }
            _ => return Err(not_begun()),
        };
        let failed = io_error("writing a received file", &path);
        let file = File::options().write(true).open(&path).map_err(&failed)?;
        file.write_all_at(bytes, offset).map_err(&failed)
    }

    fn received(&self) -> Result<Arc<dyn Disk>, DiskError> {
        let mut open = self.opened();
        let Some((number, Begun::Files(names))) = open.begun.take() else {
            return Err(not_begun());
        };
        let folder = self.folder.join(number.to_string());
        for name in &names {
            let path = folder.join(name);
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(io_error("syncing a received file", &path))?;
        }
        sync_folder(&folder)?;
        let disk = Arc::new(open_generation(&self.folder, number, &self.memory)?);
        open.begun = Some((number, Begun::Disk(Arc::clone(&disk))));
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
    write_durably(&folder.join(POINTER), format!("{number}\n").as_bytes())
}

/// Replaces a small file at one instant.
fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut new = path.as_os_str().to_owned();
    new.push(NEW);
    let new = PathBuf::from(new);
    let failed = io_error("writing a small file", &new);
    let mut file = File::create(&new).map_err(&failed)?;
    file.write_all(bytes).map_err(&failed)?;
    file.sync_all().map_err(&failed)?;
    fs::rename(&new, path).map_err(&failed)?;
    path.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> Result<(), DiskError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("syncing the folder", folder))
}

fn generations(folder: &Path) -> Result<Vec<u64>, DiskError> {
    let failed = io_error("listing generations", folder);
    let mut numbers = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
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

fn remove_folder(folder: &Path) -> Result<(), DiskError> {
    match fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("removing a folder", folder)(error)),
    }
}

/// Removes copies without a note, notes without a copy, and what was left half made.
fn sweep_kept(kept: &Path) -> Result<(), DiskError> {
    let failed = io_error("listing copies", kept);
    let entries = match fs::read_dir(kept) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let path = entry.map_err(&failed)?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        let copy = name.strip_suffix(NOTE).unwrap_or(name);
        let numbered = copy.parse::<u64>().is_ok();
        let note = kept.join(format!("{copy}{NOTE}"));
        if numbered && note.is_file() && kept.join(copy).is_dir() {
            continue;
        }
        if path.is_dir() {
            remove_folder(&path)?;
        } else {
            fs::remove_file(&path).map_err(io_error("removing a file", &path))?;
        }
    }
    Ok(())
}
