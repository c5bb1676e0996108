//! A pass: one code's status with its proof, small enough for one QR code, checked with no network.
//!
//! What holds here: what a pass is, how one is made of a map receipt, and what it says once it is
//! certified ([`certify`]); whether it opens a gate ([`gate`]). Whatever a verifier has from its
//! trust file or can compute is left out: chain id, member set, keys, and the root of the map, which
//! the proof leads to. So every bit of what is left is under the cosignatures, but for two things
//! that whoever shows a pass may add: the salt that opens the commitment to the ID card, which is
//! then under the commitment, and the mark of a paper pass, which is nothing but a claim. What stays
//! out: clocks, files, QR codes.

mod bytes;
pub mod certify;
pub mod gate;
pub mod refusal;

use cairn_proto::v1;

use crate::base45;
use crate::code;
use crate::epochs::{EpochError, Epochs};
use crate::genesis::Chain;
use crate::hash::Hash;
use crate::policy;
use crate::verify::{self, VerifyError};

pub use bytes::{DecodeError, MAX_LEN, VERSION};

/// What a pass' text begins with, so that a scanner knows it among other codes.
pub const PREFIX: &str = "CAIRN1:";
/// Bytes of a chain id that a pass names its ledger by.
pub const TAG_LEN: usize = 4;

/// The name of a ledger in a pass: enough to tell a few ledgers apart, and no proof of anything.
pub type ChainTag = [u8; TAG_LEN];

/// The tag of a ledger.
pub fn chain_tag(chain_id: &Hash) -> ChainTag {
    let [a, b, c, d, ..] = chain_id.0;
    [a, b, c, d]
}

/// A pass as it was read, with nothing verified yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Pass {
    /// Shown on paper, says whoever shows it: a policy may give it more time.
    pub paper: bool,
    /// Of which ledger.
    pub chain_tag: ChainTag,
    /// The code.
    pub code: Hash,
    /// Opens the commitment to the holder's ID card, where the holder adds it.
    pub salt: Option<[u8; 32]>,
    /// That the map holds this state of the code.
    pub(crate) proof: v1::MapProof,
    /// The certified header, but for what follows from elsewhere.
    pub(crate) head: Head,
    /// At least one, ascending by place.
    pub(crate) cosigned: Vec<Cosigned>,
}

/// A header without chain id, map root and members hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) epoch: u64,
    pub(crate) height: u64,
    pub(crate) timestamp_ms: u64,
    pub(crate) term: u64,
    pub(crate) rules_version: u32,
    pub(crate) tree_size: u64,
    pub(crate) parent_hash: Hash,
    pub(crate) log_root: Hash,
    pub(crate) outcomes_root: Hash,
    /// Where the block changes the members.
    pub(crate) next_members_hash: Option<Hash>,
}

/// A cosignature, its key named by the member's place in the set of the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cosigned {
    pub(crate) place: u8,
    pub(crate) at_ms: u64,
    pub(crate) signature: [u8; 64],
}

/// Why no pass can be made of a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The receipt proves nothing.
    #[error(transparent)]
    Proof(#[from] VerifyError),
    /// Of something else.
    #[error("a pass shows a code, and the receipt is about the namespace {0}")]
    NotACode(String),
    /// Nothing to show.
    #[error("the code was never issued, and so it has no pass")]
    NeverIssued,
    /// Nobody's map is so deep by chance, and no state so long.
    #[error("the proof does not fit into a pass: {0}")]
    Unusual(&'static str),
}

impl Pass {
    /// The pass that shows what `receipt` proves of a code. Of the cosignatures it keeps the newest
    /// that satisfy the policy: the others add nothing to the time that it is the latest as of.
    pub fn of_receipt(chain: &Chain, receipt: &v1::MapReceipt) -> Result<Pass, PackError> {
        let verified = verify::map_receipt(chain, receipt)?;
        if verified.namespace != code::NAMESPACE {
            return Err(PackError::NotACode(verified.namespace));
        }
        let code = Hash::from_slice(&verified.key);
        let code = code.ok_or(PackError::Unusual("the code is not 32 bytes"))?;
        if verified.value.is_none() {
            return Err(PackError::NeverIssued);
        }
        let follow = |error: EpochError| PackError::Proof(VerifyError::Members(error));
        let epochs = Epochs::follow(chain, &receipt.epoch_changes).map_err(follow)?;
        let pass = Pass {
            paper: false,
            chain_tag: chain_tag(&chain.id),
            code,
            salt: None,
            proof: receipt.proof.clone().unwrap_or_default(),
            head: head_of(verified.checkpoint.header())?,
            cosigned: newest_quorum(epochs.newest(), &verified.checkpoint.to_proto())?,
        };
        // Whatever the bytes cannot hold is refused here, and not by a gate.
        match Pass::from_bytes(&pass.to_bytes()) {
            Ok(read) if read == pass => Ok(pass),
            _ => Err(PackError::Unusual("it would not be read again")),
        }
    }

    /// The same pass for paper, which a gate's policy may give more time.
    pub fn on_paper(self) -> Pass {
        Pass {
            paper: true,
            ..self
        }
    }

    /// The same pass with what a gate needs to match it with an ID card.
    pub fn with_salt(self, salt: [u8; 32]) -> Pass {
        Pass {
            salt: Some(salt),
            ..self
        }
    }

    /// The text that a QR code shows.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}", base45::encode(&self.to_bytes()))
    }

    /// The pass that `text` shows.
    pub fn from_text(text: &str) -> Result<Pass, DecodeError> {
        let text = text.strip_prefix(PREFIX).ok_or(DecodeError::NotAPass)?;
        let bytes = base45::decode(text).ok_or(DecodeError::Base45)?;
        Pass::from_bytes(&bytes)
    }
}

fn head_of(header: &v1::Header) -> Result<Head, PackError> {
    let hash = |bytes: &[u8]| {
        Hash::from_slice(bytes).ok_or(PackError::Unusual("a hash of the header is not 32 bytes"))
    };
    let changes = header.next_members_hash != header.members_hash;
    let next = changes.then(|| hash(&header.next_members_hash));
    Ok(Head {
        epoch: header.epoch,
        height: header.height,
        timestamp_ms: header.timestamp_ms,
        term: header.term,
        rules_version: header.rules_version,
        tree_size: header.tree_size,
        parent_hash: hash(&header.parent_hash)?,
        log_root: hash(&header.log_root)?,
        outcomes_root: hash(&header.outcomes_root)?,
        next_members_hash: next.transpose()?,
    })
}

/// The newest cosignatures that satisfy the policy, by the signers' places in the set.
fn newest_quorum(
    members: &v1::MemberSet,
    checkpoint: &v1::Checkpoint,
) -> Result<Vec<Cosigned>, PackError> {
    let mut newest: Vec<&v1::Cosignature> = checkpoint.cosignatures.iter().collect();
    newest.sort_by_key(|cosignature| std::cmp::Reverse(cosignature.cosigned_at_ms));
    let (mut kept, mut signers) = (Vec::new(), Vec::new());
    for cosignature in newest {
        let mut all = members.members.iter().zip(0u8..);
        let found = all.find(|(member, _)| member.cosign_key == cosignature.public_key);
        let signature = cosignature.signature[..].try_into();
        let (Some((member, place)), Ok(signature)) = (found, signature) else {
            return Err(PackError::Unusual("a cosignature is no member's"));
        };
        kept.push(Cosigned {
            place,
            at_ms: cosignature.cosigned_at_ms,
            signature,
        });
        signers.push(member);
        if policy::satisfies(members, &signers) {
            break;
        }
    }
    kept.sort_by_key(|cosigned| cosigned.place);
    Ok(kept)
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
