//! Key files: one line, `cairn-<purpose>-key-v1 <64 hex digits>`, for the owner's eyes only.
//!
//! What holds here: one key, one purpose; a file that others may read, that another user owns or
//! that is a link is refused with the command that mends it; secrets are wiped from memory when
//! they are dropped, and no `Debug` prints one. What stays out: making keys (`cairn key`) and the
//! seed and author keys, which never lie on a node.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use libp2p::identity;
use zeroize::Zeroizing;

/// A key file is one line of about 90 bytes; a file above this is none.
const MAX_FILE: u64 = 256;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Proves to peers who this node is.
    Network,
    /// Cosigns checkpoints.
    Cosign,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::Network => "network",
            Purpose::Cosign => "cosign",
        })
    }
}

/// Why a key file was not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("cannot read the {purpose} key {path}: {error}")]
    Read {
        /// The key's purpose.
        purpose: Purpose,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It is a symbolic link, or no plain file.
    #[error("{path} is not a plain file: put the key itself there, not a link to it")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Others may read or write it.
    #[error("{path} has mode {mode:04o}, so others may use the key; run: chmod 0600 '{path}'")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error(
        "{path} belongs to user {owner}, but this process runs as {me}; run: chown {me} '{path}'"
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs this process.
        me: u32,
    },
    /// It does not hold the line.
    #[error(
        "{path} is not a {purpose} key: it must hold one line, \"cairn-{purpose}-key-v1\" and 64 hex digits; make one with: cairn key"
    )]
    Format {
        /// The key's purpose.
        purpose: Purpose,
        /// The file.
        path: PathBuf,
    },
}

/// A 32-byte secret.
struct Secret(Zeroizing<[u8; 32]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The network identity in `path`.
pub fn network(path: &Path) -> Result<identity::Keypair, KeyError> {
    let mut secret = read(Purpose::Network, path)?;
    // libp2p wipes the bytes that it is given.
    identity::Keypair::ed25519_from_bytes(&mut secret.0[..]).map_err(|_| KeyError::Format {
        purpose: Purpose::Network,
        path: path.to_owned(),
    })
}

/// The cosigning key in `path`.
pub fn cosign(path: &Path) -> Result<SigningKey, KeyError> {
    Ok(SigningKey::from_bytes(&read(Purpose::Cosign, path)?.0))
}

fn read(purpose: Purpose, path: &Path) -> Result<Secret, KeyError> {
    let failed = |error| KeyError::Read {
        purpose,
        path: path.to_owned(),
        error,
    };
    let not_a_file = || KeyError::NotAFile {
        path: path.to_owned(),
    };
    if !std::fs::symlink_metadata(path).map_err(failed)?.is_file() {
        return Err(not_a_file());
    }
    // What was just seen may be swapped for a link; then opening fails.
    let mut file = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let mode = meta.mode() & 0o7777;
    if mode != 0o600 {
        return Err(KeyError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    let (owner, me) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner != me {
        return Err(KeyError::Owner {
            path: path.to_owned(),
            owner,
            me,
        });
    }
    let format = || KeyError::Format {
        purpose,
        path: path.to_owned(),
    };
    if meta.len() > MAX_FILE {
        return Err(format());
    }
    // Room for all, so that no half-filled buffer is left behind unwiped.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    file.by_ref()
        .take(MAX_FILE)
        .read_to_end(&mut text)
        .map_err(failed)?;
    parse(purpose, &text).ok_or_else(format)
}

fn parse(purpose: Purpose, text: &[u8]) -> Option<Secret> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let digits = line.strip_prefix(format!("cairn-{purpose}-key-v1 ").as_bytes())?;
    let mut secret = Secret(Zeroizing::new([0; 32]));
    hex::decode_to_slice(digits, &mut secret.0[..]).ok()?;
    Some(secret)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn line(purpose: &str) -> String {
        format!("cairn-{purpose}-key-v1 {}\n", "2a".repeat(32))
    }

    #[test]
    fn a_key_of_the_right_purpose_is_read() {
        let (_folder, path) = file(&line("cosign"), 0o600);
        assert_eq!(cosign(&path).unwrap().to_bytes(), [0x2a; 32]);
        let error = network(&path).unwrap_err();
        assert!(matches!(error, KeyError::Format { .. }), "{error}");
        let (_folder, path) = file(&line("network"), 0o600);
        network(&path).unwrap();
    }

    #[test]
    fn files_that_others_can_use_are_refused_with_the_cure() {
        for mode in [0o644, 0o640, 0o604, 0o700, 0o400, 0o4600] {
            let (_folder, path) = file(&line("cosign"), mode);
            let error = cosign(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 0600"), "{mode:o}: {error}");
        }
        let (folder, path) = file(&line("cosign"), 0o600);
        let link = folder.path().join("link.key");
        symlink(&path, &link).unwrap();
        assert!(matches!(cosign(&link), Err(KeyError::NotAFile { .. })));
        assert!(matches!(
            cosign(folder.path()),
            Err(KeyError::NotAFile { .. })
        ));
    }

    #[test]
    fn anything_but_the_line_is_refused_and_never_printed() {
        let hex = "2a".repeat(32);
        for text in [
            String::new(),
            hex.clone(),
            format!("cairn-cosign-key-v1 {}", &hex[2..]),
            format!("cairn-cosign-key-v1 {hex}00"),
            format!("cairn-cosign-key-v1  {hex}"),
            format!("cairn-cosign-key-v2 {hex}"),
            format!("cairn-cosign-key-v1 {hex}\n\n"),
            "x".repeat(1000),
        ] {
            let (_folder, path) = file(&text, 0o600);
            let error = cosign(&path).unwrap_err();
            assert!(matches!(error, KeyError::Format { .. }), "{text:?}");
            assert!(!format!("{error} {error:?}").contains("2a2a"));
        }
        let secret = Secret(Zeroizing::new([0x2a; 32]));
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
