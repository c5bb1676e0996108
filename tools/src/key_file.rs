//! Key files, made and read (`cairn_keys`).
//!
//! What holds here: a new file has mode 0600 and never replaces another; a file that others may
//! use, that another user owns or that is a link is refused with the command that mends it.

use std::fmt;
use std::io;
use std::path::Path;

use cairn_keys::ReadError;
use cairn_ledger::lottery::bls::SeedSecret;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::system;

pub use cairn_keys::{Purpose, Secret};

/// A new key in a new file.
pub fn create(purpose: Purpose, path: &Path) -> Result<Secret, Failure> {
    let secret = generate(purpose)?;
    let written = cairn_keys::create(path, purpose, &secret);
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => failed(
            path,
            "is there already; a key is never overwritten, name another file",
        ),
        _ => failed(path, format!("cannot be written: {error}")),
    })?;
    Ok(secret)
}

fn generate(purpose: Purpose) -> Result<Secret, Failure> {
    let material = Secret::new(Zeroizing::new(system::random()));
    if purpose != Purpose::Seed {
        return Ok(material);
    }
    // Not every 32 bytes are a BLS secret.
    let secret = SeedSecret::from_key_material(&material[..]);
    secret
        .map(|secret| Secret::new(secret.to_bytes()))
        .map_err(|error| Failure::Failed(error.to_string()))
}

/// The author key in `path`.
pub fn author(path: &Path) -> Result<SigningKey, Failure> {
    Ok(SigningKey::from_bytes(&*of_purpose(Purpose::Author, path)?))
}

/// The seed key in `path`.
pub fn seed(path: &Path) -> Result<SeedSecret, Failure> {
    let secret = of_purpose(Purpose::Seed, path)?;
    SeedSecret::from_bytes(&secret[..]).map_err(|error| failed(path, error))
}

/// The tag key in `path`.
pub fn tag(path: &Path) -> Result<Secret, Failure> {
    of_purpose(Purpose::Tag, path)
}

fn of_purpose(purpose: Purpose, path: &Path) -> Result<Secret, Failure> {
    match read(path)? {
        (found, secret) if found == purpose => Ok(secret),
        (found, _) => Err(failed(
            path,
            format!(
                "is a {found} key, and a {purpose} key is needed; make one with: \
                 cairn key new --purpose {purpose} --out FILE"
            ),
        )),
    }
}

/// The key in `path`, and what it is for.
pub fn read(path: &Path) -> Result<(Purpose, Secret), Failure> {
    cairn_keys::read(path).map_err(|error| match error {
        ReadError::Io(error) => failed(path, format!("cannot be read: {error}")),
        ReadError::Unfit(unfit) => match unfit.cure(&path.display().to_string()) {
            Some(cure) => failed(path, format!("{unfit}; run: {cure}")),
            None => failed(path, unfit),
        },
    })
}

fn failed(path: &Path, what: impl fmt::Display) -> Failure {
    Failure::Failed(format!("{} {what}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_new_key_is_read_back_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for purpose in Purpose::ALL {
            let path = folder.path().join(purpose.to_string());
            let secret = create(purpose, &path).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
            assert_eq!(read(&path).unwrap(), (purpose, secret));
            let again = create(purpose, &path).unwrap_err().to_string();
            assert!(again.contains("never overwritten"), "{again}");
        }
        seed(&folder.path().join("seed")).unwrap();
        let wrong = author(&folder.path().join("tag")).unwrap_err().to_string();
        assert!(wrong.contains("is a tag key"), "{wrong}");
    }

    #[test]
    fn files_that_others_can_use_are_refused_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.key");
        create(Purpose::Author, &path).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = author(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 0600"), "{mode:o}: {error}");
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link.key");
        symlink(&path, &link).unwrap();
        let error = author(&link).unwrap_err().to_string();
        assert!(error.contains("not a plain file"), "{error}");
    }
}
