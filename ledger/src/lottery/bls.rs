//! BLS12-381 signatures in G1 under keys in G2: the one way in which seed contributions and beacon
//! rounds are checked.
//!
//! What holds here: exactly 48 and 96 compressed bytes, on the curve, in the subgroup, not the
//! identity; everything else is refused. Such a signature is unique for its key and message, so
//! whoever signs cannot choose among several. What stays out: what is signed (`seed`, `beacon`).

use blst::BLST_ERROR;
use blst::min_sig::{PublicKey, SecretKey, Signature};

/// Bytes of a compressed public key in G2.
pub const PUBLIC_KEY_LEN: usize = 96;
/// Bytes of a compressed signature in G1.
pub const SIGNATURE_LEN: usize = 48;

/// Why a key or a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlsError {
    /// The key has another length. Pass the compressed form in G2.
    #[error("a BLS public key has 96 compressed bytes, this has {0}")]
    KeyLength(usize),
    /// The key is no point, outside of the subgroup, or the identity.
    #[error("these 96 bytes are no BLS public key")]
    KeyInvalid,
    /// The signature has another length. Pass the compressed form in G1.
    #[error("a BLS signature has 48 compressed bytes, this has {0}")]
    SignatureLength(usize),
    /// The signature is no point, outside of the subgroup, or the identity.
    #[error("these 48 bytes are no BLS signature")]
    SignatureInvalid,
    /// Key and signature are sound, but the one did not make the other over this message.
    #[error("the BLS signature is not this key's over this message")]
    Mismatch,
    /// Key material is too short. Pass at least 32 random bytes.
    #[error("a BLS secret is made of at least 32 random bytes, these are {0}")]
    KeyMaterial(usize),
    /// The stored secret is not a scalar. Restore it from its backup.
    #[error("these bytes are no BLS secret")]
    SecretInvalid,
}

/// A BLS secret. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SeedSecret(SecretKey);

impl std::fmt::Debug for SeedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SeedSecret(hidden)")
    }
}

impl SeedSecret {
    /// Derived from at least 32 random bytes, which the caller draws.
    pub fn from_key_material(ikm: &[u8]) -> Result<Self, BlsError> {
        SecretKey::key_gen(ikm, &[])
            .map(Self)
            .map_err(|_| BlsError::KeyMaterial(ikm.len()))
    }

    /// From the 32 bytes of [`SeedSecret::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BlsError> {
        SecretKey::from_bytes(bytes)
            .map(Self)
            .map_err(|_| BlsError::SecretInvalid)
    }

    /// The scalar, big-endian, for a key file.
    pub fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_LEN] {
        self.0.sk_to_pk().to_bytes()
    }

    /// Signs `message` in the domain `dst`.
    pub(super) fn sign(&self, message: &[u8], dst: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(message, dst, &[]).to_bytes()
    }
}

/// Checks that `key` is a public key.
pub fn check_public_key(key: &[u8]) -> Result<(), BlsError> {
    public_key(key).map(|_| ())
}

fn public_key(key: &[u8]) -> Result<PublicKey, BlsError> {
    if key.len() != PUBLIC_KEY_LEN {
        return Err(BlsError::KeyLength(key.len()));
    }
    PublicKey::key_validate(key).map_err(|_| BlsError::KeyInvalid)
}

/// Checks that `signature` is `key`'s over `message` in the domain `dst`.
pub(super) fn verify(
    key: &[u8],
    message: &[u8],
    dst: &[u8],
    signature: &[u8],
) -> Result<(), BlsError> {
    let key = public_key(key)?;
    if signature.len() != SIGNATURE_LEN {
        return Err(BlsError::SignatureLength(signature.len()));
    }
    let signature =
        Signature::sig_validate(signature, true).map_err(|_| BlsError::SignatureInvalid)?;
    // Both were checked above: subgroup and identity need no second look.
    match signature.verify(false, message, dst, &[], &key, false) {
        BLST_ERROR::BLST_SUCCESS => Ok(()),
        _ => Err(BlsError::Mismatch),
    }
}
