//! Sealed records: a value behind a checksum that binds it to its key.
//!
//! RocksDB's own checksums end where a block or a WAL record has been decoded. Records that decide
//! over votes, log entries and signatures carry one of their own, from the moment they are
//! written until they are used. It detects accidents; it is no signature.

use bytes::Bytes;

/// Eight bytes of BLAKE3: one accident in 2^64 passes.
pub const CHECKSUM_BYTES: usize = 8;

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    checksum
}

/// A value that is still being written, behind room for its checksum: a long one is sealed where it
/// lies.
#[derive(Debug, Clone)]
pub struct Unsealed(Vec<u8>);

impl Unsealed {
    /// No bytes yet, and room for `len`.
    pub fn with_capacity(len: usize) -> Self {
        let mut bytes = Vec::with_capacity(CHECKSUM_BYTES + len);
        bytes.resize(CHECKSUM_BYTES, 0);
        Self(bytes)
    }

    /// The value as it is stored under `key`.
    pub fn seal(self, key: &[u8]) -> Vec<u8> {
        let Self(mut sealed) = self;
        let (place, value) = sealed.split_at_mut(CHECKSUM_BYTES);
        place.copy_from_slice(&checksum(key, value));
        sealed
    }
}

impl Extend<u8> for Unsealed {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

impl From<&[u8]> for Unsealed {
    fn from(value: &[u8]) -> Self {
        let mut unsealed = Self::with_capacity(value.len());
        unsealed.0.extend_from_slice(value);
        unsealed
    }
}

/// `value` as it is stored under `key`.
pub fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    Unsealed::from(value).seal(key)
}

/// The value that was stored under `key`, or nothing if these are not its bytes.
pub fn unseal(key: &[u8], sealed: &Bytes) -> Option<Bytes> {
    let value = sealed.get(CHECKSUM_BYTES..)?;
    (sealed[..CHECKSUM_BYTES] == checksum(key, value)).then(|| sealed.slice(CHECKSUM_BYTES..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_other_key_is_refused() {
        let sealed = Bytes::from(seal(b"key", b"value"));
        assert_eq!(unseal(b"key", &sealed).unwrap(), &b"value"[..]);
        assert_eq!(unseal(b"kex", &sealed), None);
        assert_eq!(unseal(b"ke", &sealed), None);
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(b"key", &Bytes::from(damaged)), None);
        }
        for len in 0..sealed.len() {
            assert_eq!(unseal(b"key", &sealed.slice(..len)), None);
        }
    }
}
