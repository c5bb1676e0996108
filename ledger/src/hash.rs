//! Hashing: BLAKE3 everywhere, one way to separate domains.
//!
//! `tagged(tag, parts)` is BLAKE3 in keyed mode with the key BLAKE3(tag): one compression for
//! short inputs, and no two domains can be confused. Only two hashes are plain: entry ids and body
//! hashes (BLAKE3 of the bytes), and the log's tree, which follows RFC 9162 with its own prefixes.

use std::fmt;
use std::mem;

/// Parts of so many bytes in all are hashed from the stack.
const SHORT: usize = 256;

/// A BLAKE3 hash, 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// All zero: no hash. The root of an empty map, the parent of genesis.
    pub const ZERO: Hash = Hash([0; 32]);
    /// Bytes of a hash.
    pub const LEN: usize = 32;

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Hash> {
        bytes.try_into().ok().map(Hash)
    }

    /// As protobuf `bytes`.
    pub fn to_bytes(self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.0)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// A domain: its tag, and the key derived from it.
#[derive(Debug)]
pub struct Domain {
    tag: &'static str,
    key: std::sync::OnceLock<[u8; 32]>,
}

impl Domain {
    /// The domain with this tag. Tags are listed in `docs/formats.md`.
    pub const fn new(tag: &'static str) -> Self {
        Self {
            tag,
            key: std::sync::OnceLock::new(),
        }
    }

    /// The tag.
    pub fn tag(&self) -> &'static str {
        self.tag
    }

    /// BLAKE3(tag): the key of the keyed mode.
    pub fn key(&self) -> &[u8; 32] {
        self.key
            .get_or_init(|| *blake3::hash(self.tag.as_bytes()).as_bytes())
    }

    /// The keyed hash of `data`.
    pub fn hash(&self, data: &[u8]) -> Hash {
        Hash(*blake3::keyed_hash(self.key(), data).as_bytes())
    }

    /// The keyed hash of each part behind its length (u64, big-endian), so that no two lists of
    /// parts run together.
    pub fn hash_parts(&self, parts: &[&[u8]]) -> Hash {
        // Most are short: side by side they take one call, half the time of a hasher's.
        let mut short = [0; SHORT];
        let mut rest = &mut short[..];
        let fits = parts.iter().all(|part| {
            let Some((to, behind)) = mem::take(&mut rest).split_at_mut_checked(8 + part.len())
            else {
                return false;
            };
            to[..8].copy_from_slice(&(part.len() as u64).to_be_bytes());
            to[8..].copy_from_slice(part);
            rest = behind;
            true
        });
        if fits {
            let len = SHORT - rest.len();
            return self.hash(&short[..len]);
        }
        let mut hasher = blake3::Hasher::new_keyed(self.key());
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Hash(*hasher.finalize().as_bytes())
    }
}

/// BLAKE3 of `data`, without a domain: entry ids and body hashes.
pub fn plain(data: &[u8]) -> Hash {
    Hash(*blake3::hash(data).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_parts_are_hashed_behind_their_lengths() {
        let domain = Domain::new("cairn v1 map key");
        let bytes = [7; 2 * SHORT];
        for first in [0, 1, 100] {
            for second in (0..2 * SHORT).filter(|len| *len < 3 || len.abs_diff(SHORT) < 130) {
                let parts = [&bytes[..first], &bytes[..second]];
                let behind = |part: &&[u8]| [&(part.len() as u64).to_be_bytes(), *part].concat();
                let whole: Vec<u8> = parts.iter().flat_map(behind).collect();
                assert_eq!(domain.hash_parts(&parts), domain.hash(&whole));
            }
        }
    }
}
