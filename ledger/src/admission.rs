//! Admission: everything about an entry that can be judged without the ledger's state.
//!
//! What holds here: an admitted entry is within the limits, canonical, meant for this chain, bound
//! to its body, and signed as it says. A node does this for what it is handed, and
//! again when it reads what was committed (`apply::Proposal`), so no leader can smuggle anything in. What fails here
//! leaves no trace on the ledger. What stays out: who is registered, time, rules.

use bytes::Bytes;
use cairn_proto::v1::{self, EntryKind, SignaturePurpose, Visibility};
use prost::Message;

use crate::canonical::{self, CanonicalError};
use crate::entry;
use crate::genesis::Chain;
use crate::hash::{self, Hash};

/// Signatures of one entry: its author's and the approvals that any rule asks for. The most are
/// those of all members under a change of members.
pub const MAX_SIGNATURES: usize = crate::policy::MAX_MEMBERS;
const NONCE_LEN: usize = 16;

/// An entry that passed admission.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// BLAKE3 of the envelope.
    pub id: Hash,
    /// The leaf that the log will hold.
    pub leaf_hash: Hash,
    /// The envelope, decoded.
    pub envelope: v1::Envelope,
    /// The entry as it was handed in.
    pub signed: v1::SignedEntry,
}

impl Admitted {
    /// The canonical bytes of the kind's message.
    pub fn body(&self) -> &Bytes {
        &self.signed.body
    }

    /// The author's public key, 32 bytes.
    pub fn author_key(&self) -> &[u8] {
        &self.envelope.author
    }

    /// The public keys of those who approved.
    pub fn approvals(&self) -> impl Iterator<Item = &[u8]> {
        let approval = SignaturePurpose::Approval as i32;
        let signatures = self.signed.signatures.iter();
        signatures
            .filter(move |signature| signature.purpose == approval)
            .map(|signature| &signature.public_key[..])
    }
}

/// Why an entry is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// Split the entry: roster rows and status changes may go in several.
    #[error("the entry has {size} bytes; this ledger takes at most {limit}")]
    TooLarge {
        /// Of the entry, encoded.
        size: usize,
        /// In the genesis.
        limit: u32,
    },
    /// The envelope was encoded otherwise.
    #[error("the envelope is not canonical: {0}")]
    NotCanonical(#[from] CanonicalError),
    /// Signed for another ledger.
    #[error("the entry is meant for chain {found}, this is chain {expected}: sign it anew for it")]
    WrongChain {
        /// In the envelope, hex.
        found: String,
        /// This ledger.
        expected: Hash,
    },
    /// A field of the envelope.
    #[error("the envelope's {field} {problem}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The body is not the one that was signed.
    #[error("the body is not the one that the envelope commits to")]
    BodyMismatch,
    /// The list of signatures.
    #[error("the signatures {0}")]
    Signatures(&'static str),
    /// One signature.
    #[error("the signature of {public_key} does not verify")]
    BadSignature {
        /// Whose, hex.
        public_key: String,
    },
}

impl AdmissionError {
    /// A stable name for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "ENTRY_TOO_LARGE",
            Self::NotCanonical(_) => "ENVELOPE_NOT_CANONICAL",
            Self::WrongChain { .. } => "WRONG_CHAIN",
            Self::Field { .. } => "ENVELOPE_FIELD",
            Self::BodyMismatch => "BODY_MISMATCH",
            Self::Signatures(_) => "SIGNATURES_MALFORMED",
            Self::BadSignature { .. } => "SIGNATURE_INVALID",
        }
    }
}

/// An entry that is admitted if its signatures verify.
#[derive(Debug, Clone)]
pub struct Unverified(Admitted);

impl Unverified {
    /// The public keys of those who are said to have signed: the author and the approvers.
    pub fn signers(&self) -> impl Iterator<Item = &[u8]> {
        let signatures = self.0.signed.signatures.iter();
        signatures.map(|signature| &signature.public_key[..])
    }

    /// The entry, signatures verified.
    pub fn verify(self, chain: &Chain) -> Result<Admitted, AdmissionError> {
        let signed = &self.0.signed;
        verify_signatures(&chain.id, &signed.envelope, &signed.signatures)?;
        Ok(self.0)
    }
}

/// Admits an entry, signatures verified.
pub fn admit(chain: &Chain, signed: v1::SignedEntry) -> Result<Admitted, AdmissionError> {
    read(chain, signed)?.verify(chain)
}

/// The cheap part of [`admit`], for those who want to look at the signers first.
pub fn read(chain: &Chain, signed: v1::SignedEntry) -> Result<Unverified, AdmissionError> {
    parse(chain, signed).map(Unverified)
}

/// Everything but the curve arithmetic.
pub(crate) fn parse(chain: &Chain, signed: v1::SignedEntry) -> Result<Admitted, AdmissionError> {
    let limit = chain.limits().max_entry_bytes;
    let size = signed.encoded_len();
    if size as u64 > u64::from(limit) {
        return Err(AdmissionError::TooLarge { size, limit });
    }
    let envelope = check_envelope(&chain.id, &signed.envelope)?;
    let body_matches = envelope.body_len == signed.body.len() as u64
        && envelope.body_hash == hash::plain(&signed.body).0[..];
    if !body_matches {
        return Err(AdmissionError::BodyMismatch);
    }
    check_signers(&envelope, &signed.signatures)?;
    Ok(Admitted {
        id: hash::plain(&signed.envelope),
        leaf_hash: entry::leaf_hash(&signed.envelope, &signed.signatures),
        envelope,
        signed,
    })
}

/// The envelope, if it is canonical, complete and meant for this chain.
pub(crate) fn check_envelope(
    chain_id: &Hash,
    bytes: &[u8],
) -> Result<v1::Envelope, AdmissionError> {
    let envelope: v1::Envelope = canonical::decode(bytes)?;
    if envelope.chain_id != chain_id.0[..] {
        return Err(AdmissionError::WrongChain {
            found: hex::encode(&envelope.chain_id),
            expected: *chain_id,
        });
    }
    let field = |holds: bool, field, problem| {
        let error = AdmissionError::Field { field, problem };
        if holds { Ok(()) } else { Err(error) }
    };
    let len = |bytes: &Bytes, len: usize| bytes.len() == len;
    field(
        envelope.kind != EntryKind::Unspecified as i32,
        "kind",
        "is not set",
    )?;
    field(len(&envelope.author, 32), "author", "is not 32 bytes")?;
    field(len(&envelope.nonce, NONCE_LEN), "nonce", "is not 16 bytes")?;
    field(envelope.not_after_ms > 0, "not_after_ms", "is not set")?;
    field(
        envelope.visibility != Visibility::Unspecified as i32,
        "visibility",
        "is not set",
    )?;
    field(len(&envelope.body_hash, 32), "body_hash", "is not 32 bytes")?;
    field(
        envelope.subject.is_empty() || len(&envelope.subject, 32),
        "subject",
        "is neither absent nor 32 bytes",
    )?;
    Ok(envelope)
}

/// One author, no one twice in one office, no more than any rule could ask for. `SignedEntry` is
/// not hashed as bytes, so what it holds is checked here field by field.
pub(crate) fn check_signers(
    envelope: &v1::Envelope,
    signatures: &[v1::Signature],
) -> Result<(), AdmissionError> {
    let error = |problem| Err(AdmissionError::Signatures(problem));
    if signatures.len() > MAX_SIGNATURES {
        return error("are more than any rule asks for");
    }
    let sound = signatures.iter().all(|signature| {
        signature.public_key.len() == 32
            && signature.signature.len() == 64
            && matches!(
                signature.purpose(),
                SignaturePurpose::Author | SignaturePurpose::Approval
            )
    });
    if !sound {
        return error("have a wrong length or an unknown purpose");
    }
    let ascending = signatures.windows(2).all(|pair| {
        (&pair[0].public_key, pair[0].purpose) < (&pair[1].public_key, pair[1].purpose)
    });
    if !ascending {
        return error("do not ascend by public key and purpose");
    }
    let mut authors = signatures
        .iter()
        .filter(|signature| signature.purpose() == SignaturePurpose::Author);
    match (authors.next(), authors.next()) {
        (Some(author), None) if author.public_key == envelope.author => Ok(()),
        _ => error("lack the author's, or have another author's"),
    }
}

pub(crate) fn verify_signatures(
    chain_id: &Hash,
    envelope: &[u8],
    signatures: &[v1::Signature],
) -> Result<(), AdmissionError> {
    let bad = signatures
        .iter()
        .find(|signature| !entry::verify(chain_id, envelope, signature));
    match bad {
        None => Ok(()),
        Some(signature) => Err(AdmissionError::BadSignature {
            public_key: hex::encode(&signature.public_key),
        }),
    }
}

#[cfg(test)]
mod tests;
