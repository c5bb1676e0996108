//! The data folder: whose it is, and that one process uses it at a time.
//!
//! What holds here: a folder belongs to one member of one chain for ever, as its `identity` file
//! says; a vote or a sign guard is never taken up by another member. What stays out: the
//! databases in it (`storage`).

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cairn_ledger::hash::Hash;

/// The mode of a data folder.
const OWNER_ONLY: u32 = 0o700;

/// Why a data folder was not used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The system said no.
    #[error("cannot use the data folder {path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process has it.
    #[error(
        "another process uses the data folder {path}: stop it, or give this node a folder of its own"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// It belongs to another chain or another member.
    #[error(
        "the data folder {path} belongs to {found}, but this node is {wanted}; point data at this node's own folder"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asks.
        wanted: String,
    },
}

/// The folder, held until this is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Takes `path` for member `raft_id` of the chain, and makes it if there is none.
    pub fn open(path: &Path, chain_id: &Hash, raft_id: u64) -> Result<DataFolder, DataError> {
        let failed = |at: &Path| {
            let path = at.to_owned();
            move |error| DataError::Io { path, error }
        };
        make_private(path).map_err(failed(path))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&lock_path)(error)),
        }
        let wanted = format!("member {raft_id} of chain {chain_id}");
        let identity = path.join("identity");
        match fs::read_to_string(&identity) {
            Ok(found) if found.trim_end() == wanted => {}
            Ok(found) => {
                return Err(DataError::Foreign {
                    path: path.to_owned(),
                    found: found.trim_end().to_owned(),
                    wanted,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_durably(path, &identity, &wanted).map_err(failed(&identity))?;
            }
            Err(error) => return Err(failed(&identity)(error)),
        }
        Ok(DataFolder {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the folder, for its owner's eyes only: what is in it was restricted by its authors, and
/// is this member's vote. One that others may enter is closed to them.
fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(OWNER_ONLY).create(path)?;
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(OWNER_ONLY))?;
        let path = path.display();
        tracing::warn!(
            "the data folder {path} had mode {mode:04o}, so others could read it; it has 0700 now"
        );
    }
    Ok(())
}

fn write_durably(folder: &Path, path: &Path, line: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    fs::rename(&part, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_for_its_owner_only_and_made_so() {
        let root = tempfile::tempdir().unwrap();
        let (new, loose) = (root.path().join("new"), root.path().join("loose"));
        fs::create_dir(&loose).unwrap();
        fs::set_permissions(&loose, fs::Permissions::from_mode(0o755)).unwrap();
        for path in [&new, &loose] {
            DataFolder::open(path, &Hash([1; 32]), 1).unwrap();
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, OWNER_ONLY, "{}", path.display());
        }
    }

    #[test]
    fn a_folder_belongs_to_one_member_of_one_chain_and_to_one_process() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let (one, other) = (Hash([1; 32]), Hash([2; 32]));
        let held = DataFolder::open(&path, &one, 1).unwrap();
        assert_eq!(held.path(), path);
        let second = DataFolder::open(&path, &one, 1).unwrap_err();
        assert!(matches!(second, DataError::InUse { .. }), "{second}");
        drop(held);
        DataFolder::open(&path, &one, 1).unwrap();
        for (chain, raft_id) in [(other, 1), (one, 2)] {
            let error = DataFolder::open(&path, &chain, raft_id).unwrap_err();
            assert!(matches!(error, DataError::Foreign { .. }), "{error}");
            assert!(error.to_string().contains("member 1 of chain 0101"));
        }
    }
}
