//! Key files on disk: read without following links, made new with mode 0600.
//!
//! What holds here: what the system says of the open file is looked at before a byte of it counts, so
//! a file that is swapped meanwhile gains nothing. What stays out: the line in it (`super`).

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::{MAX_BYTES, MODE, Purpose, Secret, parse, render};

/// Why a key file was not used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no key file.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// The key in the file `path`, and what it is for.
pub fn read(path: &Path) -> Result<(Purpose, Secret), ReadError> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(Unfit::NotAFile.into());
    }
    // What was just seen may be swapped for a link; then opening fails.
    let file = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let meta = file.metadata()?;
    let facts = Facts {
        plain: meta.is_file(),
        mode: meta.mode() & 0o7777,
        owner: meta.uid(),
        len: meta.len(),
    };
    check(&facts, rustix::process::geteuid().as_raw())?;
    // Room for all, so that no half-filled buffer is left behind unwiped; a file that grows
    // meanwhile is seen to be too long.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(parse(&text).ok_or(Unfit::Format)?)
}

/// Writes a key to the new file `path`; [`io::ErrorKind::AlreadyExists`] where there is one.
pub fn create(path: &Path, purpose: Purpose, secret: &Secret) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)?;
    file.write_all(render(purpose, secret).as_bytes())?;
    file.sync_all()
}

/// What the system says of a file.
#[derive(Debug, Clone, Copy)]
struct Facts {
    /// It is a plain file, not a link, folder or device.
    plain: bool,
    /// Its permission bits, those of 0o7777.
    mode: u32,
    /// Whose it is.
    owner: u32,
    /// Its bytes.
    len: u64,
}

/// Why a file is no key file, whatever is in it. The sentences follow the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is a symbolic link, or no plain file.
    #[error("is not a plain file: put the key itself there, not a link to it")]
    NotAFile,
    /// Others may read or write it, or it is marked in another way.
    #[error("has mode {mode:04o}, and a key has 0600, so that nobody else may use it")]
    Mode {
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error("belongs to user {owner}, but this process runs as {me}")]
    Owner {
        /// Its owner.
        owner: u32,
        /// Who runs this process.
        me: u32,
    },
    /// It does not hold a key's line.
    #[error("is no key file: it must hold one line, \"cairn-<purpose>-key-v1\" and 64 hex digits")]
    Format,
}

impl Unfit {
    /// The command that mends it, for the file `path`.
    pub fn cure(&self, path: &str) -> Option<String> {
        match self {
            Unfit::Mode { .. } => Some(format!("chmod 0600 '{path}'")),
            Unfit::Owner { me, .. } => Some(format!("chown {me} '{path}'")),
            Unfit::Format => Some("cairn key new".to_owned()),
            Unfit::NotAFile => None,
        }
    }
}

/// Whether a file may hold a key that the user `me` uses.
fn check(facts: &Facts, me: u32) -> Result<(), Unfit> {
    let (mode, owner) = (facts.mode, facts.owner);
    if !facts.plain {
        return Err(Unfit::NotAFile);
    }
    if mode != MODE {
        return Err(Unfit::Mode { mode });
    }
    if owner != me {
        return Err(Unfit::Owner { owner, me });
    }
    if facts.len > MAX_BYTES as u64 {
        return Err(Unfit::Format);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_may_use_is_no_key_file_and_the_cure_is_named() {
        let good = Facts {
            plain: true,
            mode: MODE,
            owner: 7,
            len: 88,
        };
        assert_eq!(check(&good, 7), Ok(()));
        let linked = Facts {
            plain: false,
            ..good
        };
        assert_eq!(check(&linked, 7), Err(Unfit::NotAFile));
        let foreign = check(&good, 8).unwrap_err();
        assert_eq!(foreign.cure("k").unwrap(), "chown 8 'k'");
        for mode in [0o644, 0o640, 0o604, 0o620, 0o700, 0o400, 0o4600] {
            let unfit = check(&Facts { mode, ..good }, 7).unwrap_err();
            assert_eq!(unfit.cure("k").unwrap(), "chmod 0600 'k'", "{mode:o}");
        }
        let long = Facts { len: 257, ..good };
        assert_eq!(check(&long, 7), Err(Unfit::Format));
    }
}
