//! Key files: one line, `cairn-<purpose>-key-v1 <64 hex digits>`, for the owner's eyes only.
//!
//! What holds here: one key, one purpose; a new file has mode 0600 and never replaces another; a
//! file that others may use is refused with the command that mends it; secrets are wiped from
//! memory when they are dropped and never printed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use cairn_ledger::lottery::bls::SeedSecret;
use clap::ValueEnum;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::system;

/// A key file is one line of about 90 bytes; a file above this is none.
const MAX_FILE: u64 = 256;

/// The 32 bytes of a key.
pub type Secret = Zeroizing<[u8; 32]>;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// Proves to other nodes which node this is
    Network,
    /// Cosigns checkpoints
    Cosign,
    /// Signs an institution's contribution to a lottery's seed
    Seed,
    /// Signs entries
    Author,
    /// Turns identities into tags that show who is registered twice
    Tag,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::Network => "network",
            Purpose::Cosign => "cosign",
            Purpose::Seed => "seed",
            Purpose::Author => "author",
            Purpose::Tag => "tag",
        })
    }
}

/// A new key in a new file.
pub fn create(purpose: Purpose, path: &Path) -> Result<Secret, Failure> {
    let secret = generate(purpose)?;
    let digits = Zeroizing::new(hex::encode(&secret[..]));
    let line = Zeroizing::new(format!("cairn-{purpose}-key-v1 {}\n", *digits));
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| {
        file.write_all(line.as_bytes())?;
        file.sync_all()
    });
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
    let material: Secret = Zeroizing::new(system::random());
    if purpose != Purpose::Seed {
        return Ok(material);
    }
    // Not every 32 bytes are a BLS secret.
    let secret = SeedSecret::from_key_material(&material[..]);
    secret
        .map(|secret| secret.to_bytes())
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
    let unreadable = |error: io::Error| failed(path, format!("cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    let mode = meta.permissions().mode() & 0o7777;
    if meta.is_file() && mode & 0o077 != 0 {
        let path = path.display();
        let message =
            format!("has mode {mode:04o}, so others may use the key; run: chmod 0600 '{path}'");
        return Err(Failure::Failed(format!("{path} {message}")));
    }
    // Room for all, so that no half-filled buffer is left behind unwiped.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    let taken = file.take(MAX_FILE + 1).read_to_end(&mut text);
    taken.map_err(unreadable)?;
    parse(&text).ok_or_else(|| {
        let what = "is no key file: it must hold one line, \"cairn-<purpose>-key-v1\" and 64 hex \
                    digits; make one with: cairn key new";
        failed(path, what)
    })
}

fn parse(text: &[u8]) -> Option<(Purpose, Secret)> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    Purpose::value_variants().iter().find_map(|&purpose| {
        let digits = line.strip_prefix(format!("cairn-{purpose}-key-v1 ").as_bytes())?;
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, &mut secret[..]).ok()?;
        Some((purpose, secret))
    })
}

fn failed(path: &Path, what: impl fmt::Display) -> Failure {
    Failure::Failed(format!("{} {what}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_new_key_is_read_back_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for &purpose in Purpose::value_variants() {
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
    }

    #[test]
    fn anything_but_the_line_is_refused() {
        let hex = "2a".repeat(32);
        assert!(parse(format!("cairn-seed-key-v1 {hex}\n").as_bytes()).is_some());
        for text in [
            String::new(),
            hex.clone(),
            format!("cairn-author-key-v1 {}", &hex[2..]),
            format!("cairn-author-key-v1 {hex}00"),
            format!("cairn-author-key-v1  {hex}"),
            format!("cairn-author-key-v2 {hex}"),
            format!("cairn-other-key-v1 {hex}"),
            format!("cairn-author-key-v1 {hex}\n\n"),
        ] {
            assert!(parse(text.as_bytes()).is_none(), "{text:?}");
        }
    }
}
