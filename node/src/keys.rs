//! The node's own keys, from their files (`cairn_keys`).
//!
//! What holds here: a file that others may read, that another user owns or that is a link is
//! refused with the command that mends it. What stays out: making keys (`cairn key`) and the seed
//! and author keys, which never lie on a node.

use std::io;
use std::path::{Path, PathBuf};

use cairn_keys::{Purpose, ReadError, Secret, Unfit};
use ed25519_dalek::SigningKey;
use libp2p::identity;
use zeroize::Zeroizing;

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
    /// It is no key file.
    #[error("{path} {unfit}{}", cure(path, unfit))]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        unfit: Unfit,
    },
    /// It holds another key, or none that works.
    #[error(
        "{path} is not a {purpose} key; make one with: cairn key new --purpose {purpose} --out FILE"
    )]
    Purpose {
        /// The key's purpose.
        purpose: Purpose,
        /// The file.
        path: PathBuf,
    },
}

fn cure(path: &Path, unfit: &Unfit) -> String {
    let cure = unfit.cure(&path.display().to_string());
    cure.map_or_else(String::new, |command| format!("; run: {command}"))
}

/// The network identity in `path`.
pub fn network(path: &Path) -> Result<identity::Keypair, KeyError> {
    let secret = read(Purpose::Network, path)?;
    // libp2p wipes the bytes that it is given.
    let mut bytes = Zeroizing::new(*secret);
    identity::Keypair::ed25519_from_bytes(&mut bytes[..]).map_err(|_| KeyError::Purpose {
        purpose: Purpose::Network,
        path: path.to_owned(),
    })
}

/// The cosigning key in `path`.
pub fn cosign(path: &Path) -> Result<SigningKey, KeyError> {
    Ok(SigningKey::from_bytes(&*read(Purpose::Cosign, path)?))
}

fn read(purpose: Purpose, path: &Path) -> Result<Secret, KeyError> {
    let path = path.to_owned();
    match cairn_keys::read(&path) {
        Ok((found, secret)) if found == purpose => Ok(secret),
        Ok(_) => Err(KeyError::Purpose { purpose, path }),
        Err(ReadError::Unfit(unfit)) => Err(KeyError::Unfit { path, unfit }),
        Err(ReadError::Io(error)) => Err(KeyError::Read {
            purpose,
            path,
            error,
        }),
    }
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
        assert!(matches!(error, KeyError::Purpose { .. }), "{error}");
        let (_folder, path) = file(&line("network"), 0o600);
        network(&path).unwrap();
    }

    #[test]
    fn files_that_others_can_use_are_refused_with_the_cure() {
        let (folder, path) = file(&line("cosign"), 0o644);
        let error = cosign(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 0600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link.key");
        symlink(&path, &link).unwrap();
        for path in [&link, folder.path()] {
            let error = cosign(path).unwrap_err();
            let unfit = Unfit::NotAFile;
            assert!(matches!(error, KeyError::Unfit { unfit: u, .. } if u == unfit));
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_printed() {
        let hex = "2a".repeat(32);
        for text in [
            String::new(),
            hex.clone(),
            format!("cairn-cosign-key-v2 {hex}"),
            "x".repeat(1000),
        ] {
            let (_folder, path) = file(&text, 0o600);
            let error = cosign(&path).unwrap_err();
            assert!(
                matches!(
                    error,
                    KeyError::Unfit {
                        unfit: Unfit::Format,
                        ..
                    }
                ),
                "{text:?}"
            );
            assert!(!format!("{error} {error:?}").contains("2a2a"));
        }
    }
}
