//! Verification: what an outsider concludes from a proof and nothing but the chain id.
//!
//! What holds here: root and size come from the certified checkpoint, never from fields beside it;
//! members and policy come from the genesis, whose hash is pinned, and from changes that the members
//! before certified, one by one; every part of a proof is used, so
//! that no bit of it can change unnoticed. What a proof does not show is said where it is printed:
//! that what people fed the ledger is true, and that nothing newer exists (`latest_as_of_ms` says
//! until when nothing did).

use bytes::Bytes;
use cairn_proto::v1::{self, SignaturePurpose};

use crate::admission::{self, AdmissionError};
use crate::canonical::{self, CanonicalError};
use crate::checkpoint::{CertifiedCheckpoint, CertifyError};
use crate::entry;
use crate::epochs::{EpochError, Epochs};
use crate::genesis::{self, Chain, GenesisError};
use crate::hash::{self, Hash};
use crate::lottery::check::{self, CheckError, Checked, Opening};
use crate::{log, map};

/// Why a proof is refused. Keep it as a complaint, and ask another node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A part is missing.
    #[error("the proof has no {0}")]
    Missing(&'static str),
    /// The checkpoint is not certified.
    #[error("the checkpoint: {0}")]
    Certificate(#[from] CertifyError),
    /// The changes of members on the way to the checkpoint.
    #[error(transparent)]
    Members(#[from] EpochError),
    /// Envelope or signatures.
    #[error("the entry: {0}")]
    Entry(#[from] AdmissionError),
    /// The body shown is not the one that the envelope commits to.
    #[error("the body is not the one that the entry commits to")]
    Body,
    /// The entry is not under the log's root.
    #[error("the entry is not in the log: {0}")]
    Log(log::ProofError),
    /// Neither value nor absence is under the map's root.
    #[error("the map proof: {0}")]
    Map(map::ProofError),
    /// The applicant's standing.
    #[error("the applicant's proof: {0}")]
    Applicant(#[from] CheckError),
}

impl VerifyError {
    /// Whether the proof is sound but too few members cosigned it.
    pub fn is_quorum_not_met(&self) -> bool {
        match self {
            VerifyError::Certificate(error) => matches!(error, CertifyError::QuorumNotMet { .. }),
            VerifyError::Members(error) => error.is_quorum_not_met(),
            _ => false,
        }
    }
}

/// An entry that is on the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedEntry {
    /// BLAKE3 of the envelope.
    pub id: Hash,
    /// Its place in the log.
    pub leaf_index: u64,
    /// What was signed.
    pub envelope: v1::Envelope,
    /// Who signed it, in which office.
    pub signers: Vec<(Bytes, SignaturePurpose)>,
    /// The certificate.
    pub checkpoint: CertifiedCheckpoint,
}

/// The checkpoint, certified by members who follow from the genesis by exactly these changes.
fn certified(
    chain: &Chain,
    changes: &[v1::EpochChange],
    checkpoint: Option<&v1::Checkpoint>,
) -> Result<CertifiedCheckpoint, VerifyError> {
    let checkpoint = checkpoint.ok_or(VerifyError::Missing("checkpoint"))?;
    let epochs = Epochs::follow(chain, changes)?;
    let certified = epochs.certify(checkpoint)?;
    let (found, epoch) = (epochs.newest().epoch, certified.header().epoch);
    if found != epoch {
        return Err(EpochError::WrongEnd { found, epoch }.into());
    }
    Ok(certified)
}

/// Verifies a receipt; with a `body`, also that it is the entry's.
pub fn receipt(
    chain: &Chain,
    receipt: &v1::Receipt,
    body: Option<&[u8]>,
) -> Result<VerifiedEntry, VerifyError> {
    let checkpoint = certified(chain, &receipt.epoch_changes, receipt.checkpoint.as_ref())?;
    let envelope = admission::check_envelope(&chain.id, &receipt.envelope)?;
    admission::check_signers(&envelope, &receipt.signatures)?;
    admission::verify_signatures(&chain.id, &receipt.envelope, &receipt.signatures)?;
    if let Some(body) = body
        && (envelope.body_len != body.len() as u64 || envelope.body_hash != hash::plain(body).0[..])
    {
        return Err(VerifyError::Body);
    }
    let inclusion = receipt.inclusion.as_ref();
    let inclusion = inclusion.ok_or(VerifyError::Missing("inclusion proof"))?;
    let leaf = entry::leaf_hash(&receipt.envelope, &receipt.signatures);
    let path = log::read_path(&inclusion.path).map_err(VerifyError::Log)?;
    log::verify_inclusion(
        &leaf,
        inclusion.leaf_index,
        checkpoint.header().tree_size,
        &path,
        checkpoint.log_root(),
    )
    .map_err(VerifyError::Log)?;
    let signer = |s: &v1::Signature| (s.public_key.clone(), s.purpose());
    Ok(VerifiedEntry {
        id: hash::plain(&receipt.envelope),
        leaf_index: inclusion.leaf_index,
        envelope,
        signers: receipt.signatures.iter().map(signer).collect(),
        checkpoint,
    })
}

/// A key's value, or its proven absence.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedValue {
    /// What kind of thing the key names.
    pub namespace: String,
    /// The key.
    pub key: Bytes,
    /// The value; none where the map has no such key.
    pub value: Option<Bytes>,
    /// The certificate.
    pub checkpoint: CertifiedCheckpoint,
}

/// Verifies a map receipt.
pub fn map_receipt(chain: &Chain, receipt: &v1::MapReceipt) -> Result<VerifiedValue, VerifyError> {
    let checkpoint = certified(chain, &receipt.epoch_changes, receipt.checkpoint.as_ref())?;
    let proof = receipt.proof.as_ref();
    let proof = proof.ok_or(VerifyError::Missing("map proof"))?;
    let key = map::map_key(&receipt.namespace, &receipt.key);
    let value = map::verify(checkpoint.map_root(), &key, proof).map_err(VerifyError::Map)?;
    Ok(VerifiedValue {
        namespace: receipt.namespace.clone(),
        key: receipt.key.clone(),
        value,
        checkpoint,
    })
}

/// Verifies an applicant's standing; with an `opening`, also whose row it is.
pub fn applicant(
    chain: &Chain,
    proof: &v1::ApplicantProof,
    opening: Option<&Opening<'_>>,
) -> Result<(Checked, CertifiedCheckpoint), VerifyError> {
    let checkpoint = certified(chain, &proof.epoch_changes, proof.checkpoint.as_ref())?;
    let checked = check::check_applicant(checkpoint.map_root(), proof, opening)?;
    Ok((checked, checkpoint))
}

/// What a proof file begins with.
const FILE_MAGIC: &[u8] = b"cairn-proof-v1\n";

/// Why a proof file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Something else.
    #[error("this is no proof file: it does not begin with the line cairn-proof-v1")]
    NotAProofFile,
    /// Cut short or edited.
    #[error("the proof file is cut short or was edited: {0}")]
    Damaged(#[from] CanonicalError),
    /// A proof of another ledger, or one with an edited genesis.
    #[error("the proof starts from the ledger {found}; you pinned {pinned}")]
    OtherChain {
        /// The hash of the file's genesis.
        found: Hash,
        /// What was pinned.
        pinned: Hash,
    },
    /// The pinned genesis is none.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// None, or more than one; or a body without its receipt.
    #[error("a proof file holds exactly one proof, and a body only beside a receipt")]
    NotOneProof,
}

/// The bytes of a proof file.
pub fn write_file(file: &v1::ProofFile) -> Bytes {
    [FILE_MAGIC, &canonical::encode(file)].concat().into()
}

/// Reads a proof file that must start from the pinned ledger. The proof in it is not verified yet.
pub fn read_file(pinned: &Hash, bytes: &[u8]) -> Result<(Chain, v1::ProofFile), FileError> {
    let message = bytes
        .strip_prefix(FILE_MAGIC)
        .ok_or(FileError::NotAProofFile)?;
    let file: v1::ProofFile = canonical::decode(message)?;
    let found = genesis::chain_id(&file.genesis);
    if found != *pinned {
        return Err(FileError::OtherChain {
            found,
            pinned: *pinned,
        });
    }
    let proofs = [
        file.receipt.is_some(),
        file.map_receipt.is_some(),
        file.applicant.is_some(),
    ];
    let one = proofs.iter().filter(|there| **there).count() == 1;
    if !one || (file.receipt.is_none() && !file.body.is_empty()) {
        return Err(FileError::NotOneProof);
    }
    Ok((Chain::from_bytes(&file.genesis)?, file))
}

#[cfg(test)]
mod tests;
