//! Files of the offices and of applicants that nobody else is to read.
//!
//! What holds here: mode 0600; a file has its name only when it is whole, so that what was cut short
//! is never taken for it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// One write to the disk: lines are about a hundred bytes.
const BUFFER: usize = 1 << 20;

/// Writes the file that `fill` fills, in place of one that is there.
pub fn write(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    write_lazily(path, |buffer| {
        fill(buffer)?;
        buffer.flush()?;
        buffer.get_ref().sync_all()
    })?;
    sync_folder(path)
}

/// The same, and the system brings it to the disk when it likes: for files that can be made again,
/// by the hundred thousand.
pub fn write_lazily(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<()> {
    let partial = partial_name(path);
    // What an earlier run left behind was never used: only whole files get the final name.
    if partial.exists() {
        fs::remove_file(&partial)?;
    }
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    let mut buffer = BufWriter::with_capacity(BUFFER, file);
    fill(&mut buffer)?;
    buffer.flush()?;
    fs::rename(&partial, path)
}

/// The name of a file that is being written.
pub fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// A rename is on disk only once its folder is.
fn sync_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(partial_name(&path), "left behind").unwrap();
        let failed = write(&path, |out| {
            out.write_all(b"half")?;
            Err(std::io::Error::other("the disk is full"))
        });
        assert!(failed.is_err() && !path.exists());
        write(&path, |out| out.write_all(b"whole")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(!partial_name(&path).exists());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
