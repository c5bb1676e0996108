//! Entries: how one is signed, what the log's leaf binds, and which keys may sign at all.
//!
//! What holds here: a signature is over chain, purpose and envelope, so that it can be replayed
//! neither on another ledger nor in another office; Ed25519 validity has one definition,
//! [`verify_strict`](ed25519_dalek::VerifyingKey::verify_strict) under a [`public_key`]. What stays
//! out: whether an entry is well-formed (`admission`) and whether it may be recorded (`apply`).

use bytes::{BufMut, Bytes};
use cairn_proto::v1::{self, SignaturePurpose};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::canonical;
use crate::hash::{self, Hash};
use crate::log;

/// What the signed bytes begin with.
const SIGNATURE_TAG: &[u8] = b"cairn v1 entry signature";

/// The bytes that are signed: tag ‖ chain id ‖ purpose (4, big-endian) ‖ BLAKE3(envelope).
fn signed_message(chain_id: &Hash, purpose: i32, envelope: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(SIGNATURE_TAG.len() + 68);
    message.put_slice(SIGNATURE_TAG);
    message.put_slice(chain_id.as_bytes());
    message.put_i32(purpose);
    message.put_slice(hash::plain(envelope).as_bytes());
    message
}

/// Signs the canonical bytes of an envelope.
pub fn sign(
    key: &SigningKey,
    chain_id: &Hash,
    purpose: SignaturePurpose,
    envelope: &[u8],
) -> v1::Signature {
    let message = signed_message(chain_id, purpose as i32, envelope);
    v1::Signature {
        public_key: Bytes::copy_from_slice(key.verifying_key().as_bytes()),
        purpose: purpose as i32,
        signature: Bytes::copy_from_slice(&key.sign(&message).to_bytes()),
    }
}

/// Whether `signature` is its key's over `envelope`.
pub(crate) fn verify(chain_id: &Hash, envelope: &[u8], signature: &v1::Signature) -> bool {
    let message = signed_message(chain_id, signature.purpose, envelope);
    let key = public_key(&signature.public_key);
    let bytes = Signature::from_slice(&signature.signature);
    match (key, bytes) {
        (Some(key), Ok(bytes)) => key.verify_strict(&message, &bytes).is_ok(),
        _ => false,
    }
}

/// The Ed25519 key of 32 bytes, if it is one that may sign: canonically encoded (RFC 8032, 5.1.3)
/// and not of small order. Two encodings of one key would be two authors.
pub fn public_key(bytes: &[u8]) -> Option<VerifyingKey> {
    let bytes: &[u8; 32] = bytes.try_into().ok()?;
    if !y_below_p(bytes) {
        return None;
    }
    let key = VerifyingKey::from_bytes(bytes).ok()?;
    (!key.is_weak()).then_some(key)
}

/// Whether the y coordinate, little-endian below the sign bit, is below p = 2^255 - 19.
fn y_below_p(bytes: &[u8; 32]) -> bool {
    bytes[0] < 0xed || bytes[31] & 0x7f != 0x7f || bytes[1..31].iter().any(|byte| *byte != 0xff)
}

/// The data of an entry's leaf: envelope and signatures, so that neither can be exchanged. The
/// body is bound by the envelope's `body_hash`.
///
/// len(envelope) (8) ‖ envelope ‖ count (4) ‖ for each signature: public key (32) ‖ purpose (4) ‖
/// signature (64); integers big-endian.
pub fn leaf_hash(envelope: &[u8], signatures: &[v1::Signature]) -> Hash {
    let mut data = Vec::with_capacity(12 + envelope.len() + 100 * signatures.len());
    data.put_u64(envelope.len() as u64);
    data.put_slice(envelope);
    data.put_u32(signatures.len() as u32);
    for signature in signatures {
        data.put_slice(&signature.public_key);
        data.put_i32(signature.purpose);
        data.put_slice(&signature.signature);
    }
    log::leaf_hash(&data)
}

/// An entry before it is signed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Selects the message type of the body.
    pub kind: v1::EntryKind,
    /// Who may be shown the body.
    pub visibility: v1::Visibility,
    /// 32 bytes or none: what the entry is about.
    pub subject: Bytes,
    /// Makes two otherwise equal entries different.
    pub nonce: [u8; 16],
    /// Ledger time after which the entry is refused, milliseconds since 1970.
    pub not_after_ms: u64,
    /// The canonical bytes of the kind's message.
    pub body: Bytes,
}

/// Signs a draft: by its author, and by those who approve it.
pub fn compose(
    chain_id: &Hash,
    draft: Draft,
    author: &SigningKey,
    approvers: &[&SigningKey],
) -> v1::SignedEntry {
    let envelope = canonical::encode(&v1::Envelope {
        chain_id: chain_id.to_bytes(),
        kind: draft.kind as i32,
        author: Bytes::copy_from_slice(author.verifying_key().as_bytes()),
        nonce: Bytes::copy_from_slice(&draft.nonce),
        not_after_ms: draft.not_after_ms,
        visibility: draft.visibility as i32,
        body_hash: hash::plain(&draft.body).to_bytes(),
        body_len: draft.body.len() as u64,
        subject: draft.subject,
    });
    let mut signatures = vec![sign(author, chain_id, SignaturePurpose::Author, &envelope)];
    let approve = |key: &&SigningKey| sign(key, chain_id, SignaturePurpose::Approval, &envelope);
    signatures.extend(approvers.iter().map(approve));
    signatures.sort_by(|a, b| (&a.public_key, a.purpose).cmp(&(&b.public_key, b.purpose)));
    v1::SignedEntry {
        envelope,
        signatures,
        body: draft.body,
    }
}

#[cfg(test)]
mod tests;
