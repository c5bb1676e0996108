//! Key files for a testnet, and what `cairn key` says of them.
//!
//! Fresh keys come from `cairn key new`. A demo that must be repeatable derives them from its seed
//! instead: whoever knows the seed knows every key, so nothing but a rehearsal may use them.

use std::path::Path;

use anyhow::Context as _;
use cairn_keys::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

pub use cairn_keys::Purpose;

use crate::cairn::{Cairn, args};

const CONTEXT: &str = "cairn testnet v1 everything from one seed";

/// A seed that fixes a rehearsal.
#[derive(Debug, Clone)]
pub struct Seed(String);

impl Seed {
    pub fn new(text: &str) -> Seed {
        Seed(text.to_owned())
    }

    /// 32 bytes for the purpose that `label` names.
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(&(self.0.len() as u64).to_be_bytes());
        hasher.update(self.0.as_bytes());
        hasher.update(label.as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// The public side of a key file, as `cairn key new` and `cairn key show` print it.
#[derive(Debug, Clone, Deserialize)]
pub struct PublicKey {
    #[serde(default)]
    pub public_key: String,
    #[serde(default)]
    pub peer_id: String,
    #[serde(default)]
    pub proof_of_possession: String,
    #[serde(default)]
    pub commitment: String,
}

/// Makes the key file `path`.
pub async fn make(
    cairn: &Cairn,
    seed: Option<&Seed>,
    purpose: Purpose,
    path: &Path,
) -> anyhow::Result<PublicKey> {
    let Some(seed) = seed else {
        let made = cairn.run(args![
            "key",
            "new",
            "--purpose",
            purpose.name(),
            "--out",
            path
        ]);
        return Ok(serde_json::from_value(made.await?)?);
    };
    let label = format!("{} {}", purpose.name(), label_of(path));
    write(path, purpose, seed.derive(&label))?;
    show(cairn, path).await
}

/// The public side of the key in `path`.
pub async fn show(cairn: &Cairn, path: &Path) -> anyhow::Result<PublicKey> {
    let shown = cairn.run(args!["key", "show", path]).await?;
    Ok(serde_json::from_value(shown)?)
}

/// The last two parts of a key file's path, which differ for all keys of one cluster.
fn label_of(path: &Path) -> String {
    let parts: Vec<_> = path.iter().rev().take(2).collect();
    let parts = parts.iter().rev().map(|part| part.to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

fn write(path: &Path, purpose: Purpose, mut secret: [u8; 32]) -> anyhow::Result<()> {
    if purpose == Purpose::Seed {
        // A BLS secret is a number below the group's order, which begins with 0x73.
        secret[0] &= 0x3f;
    }
    let secret = Secret::new(Zeroizing::new(secret));
    cairn_keys::create(path, purpose, &secret)
        .with_context(|| format!("cannot write the key {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_every_label_its_own_bytes_again_and_again() {
        let seed = Seed::new("7");
        assert_eq!(seed.derive("a"), Seed::new("7").derive("a"));
        assert_ne!(seed.derive("a"), seed.derive("b"));
        assert_ne!(Seed::new("1").derive("1a"), Seed::new("11").derive("a"));
    }

    #[test]
    fn labels_tell_the_nodes_keys_apart() {
        let one = label_of(Path::new("/data/demo/nodes/1/cosign.key"));
        assert_eq!(one, "1/cosign.key");
        assert_ne!(one, label_of(Path::new("/data/demo/nodes/2/cosign.key")));
        let moved = label_of(Path::new("/elsewhere/other/nodes/1/cosign.key"));
        assert_eq!(one, moved, "a seed means the same in every folder");
    }

    #[test]
    fn key_files_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.key");
        write(&path, Purpose::Seed, [0xff; 32]).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("cairn-seed-key-v1 3fff"), "{text}");
        assert!(write(&path, Purpose::Tag, [0; 32]).is_err());
    }
}
