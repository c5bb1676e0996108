//! Equivocation: a member's key cosigned two headers of one height.
//!
//! What holds here: an honest member never does, also across crashes, so two such headers prove that
//! it lied, that its folders were copied, or that somebody else has its key. The proof needs nothing
//! but the genesis and the changes of members. What it does not prove: which of the three, and which
//! of the two headers is the chain's.

use bytes::Bytes;
use cairn_proto::v1;

use crate::canonical::{self, CanonicalError};
use crate::checkpoint::{self, CertifiedCheckpoint, CosignatureError};
use crate::epochs::{EpochError, Epochs};
use crate::genesis::{self, Chain, GenesisError};
use crate::hash::Hash;

/// What a proof of an equivocation shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Proven {
    /// Who cosigned both, as the epoch of the first header lists it.
    pub member: v1::Member,
    /// The height of both headers.
    pub height: u64,
    /// The two headers.
    pub headers: [v1::Header; 2],
    /// Their hashes, which differ.
    pub hashes: [Hash; 2],
    /// When each was cosigned, by the signer's clock.
    pub cosigned_at_ms: [u64; 2],
}

/// Why something proves no equivocation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EquivocationError {
    /// A header has no cosignature beside it.
    #[error("a header has no cosignature beside it")]
    NoCosignature,
    /// A header was encoded otherwise.
    #[error("a header is not canonical: {0}")]
    NotCanonical(#[from] CanonicalError),
    /// A header of another ledger.
    #[error("a header is of chain {found}, not of {expected}")]
    OtherChain {
        /// In the header, hex.
        found: String,
        /// The pinned one.
        expected: Hash,
    },
    /// Who signed in that epoch is not known here: get the changes of members from a node.
    #[error("a header is of epoch {epoch}, and changes of members are known up to epoch {known}")]
    UnknownEpoch {
        /// In the header.
        epoch: u64,
        /// The newest that is known.
        known: u64,
    },
    /// Not a member's valid signature.
    #[error(transparent)]
    Cosignature(#[from] CosignatureError),
    /// Two members may well cosign different headers.
    #[error("two different keys cosigned the two headers")]
    OtherKey,
    /// Blocks follow each other.
    #[error("the headers are of the heights {0} and {1}, which one chain has both")]
    OtherHeights(u64, u64),
    /// A renewed cosignature contradicts nothing.
    #[error("both cosignatures are of one and the same header")]
    SameHeader,
}

/// One of the two sides.
struct Side {
    header: v1::Header,
    hash: Hash,
    member: v1::Member,
    at_ms: u64,
}

fn side(
    chain_id: &Hash,
    epochs: &Epochs,
    bytes: &Bytes,
    cosignature: Option<&v1::Cosignature>,
) -> Result<Side, EquivocationError> {
    let cosignature = cosignature.ok_or(EquivocationError::NoCosignature)?;
    let header: v1::Header = canonical::decode(bytes)?;
    if header.chain_id != chain_id.0[..] {
        return Err(EquivocationError::OtherChain {
            found: hex::encode(&header.chain_id),
            expected: *chain_id,
        });
    }
    let unknown = || EquivocationError::UnknownEpoch {
        epoch: header.epoch,
        known: epochs.newest().epoch,
    };
    let members = epochs.set(header.epoch).ok_or_else(unknown)?;
    let hash = checkpoint::header_hash(bytes);
    let member = checkpoint::verify_cosignature(members, chain_id, &hash, cosignature)?.clone();
    Ok(Side {
        header,
        hash,
        member,
        at_ms: cosignature.cosigned_at_ms,
    })
}

/// Whether `evidence` proves that one key of one member cosigned two headers of one height.
pub fn verify(
    chain_id: &Hash,
    epochs: &Epochs,
    evidence: &v1::Equivocation,
) -> Result<Proven, EquivocationError> {
    let (a, b) = (&evidence.cosignature_a, &evidence.cosignature_b);
    let a = side(chain_id, epochs, &evidence.header_a, a.as_ref())?;
    let b = side(chain_id, epochs, &evidence.header_b, b.as_ref())?;
    if a.member.cosign_key != b.member.cosign_key || a.member.raft_id != b.member.raft_id {
        return Err(EquivocationError::OtherKey);
    }
    if a.header.height != b.header.height {
        let (a, b) = (a.header.height, b.header.height);
        return Err(EquivocationError::OtherHeights(a, b));
    }
    if a.hash == b.hash {
        return Err(EquivocationError::SameHeader);
    }
    Ok(Proven {
        member: a.member,
        height: a.header.height,
        headers: [a.header, b.header],
        hashes: [a.hash, b.hash],
        cosigned_at_ms: [a.at_ms, b.at_ms],
    })
}

/// What two certificates prove together: one proof for each key that cosigned both, if they are of
/// one height and of different headers.
pub fn between(a: &CertifiedCheckpoint, b: &CertifiedCheckpoint) -> Vec<v1::Equivocation> {
    if a.header().height != b.header().height || a.header_hash() == b.header_hash() {
        return Vec::new();
    }
    let (a, b) = (a.to_proto(), b.to_proto());
    let both = a.cosignatures.iter().filter_map(|first| {
        let mut others = b.cosignatures.iter();
        let second = others.find(|other| other.public_key == first.public_key)?;
        Some(v1::Equivocation {
            header_a: a.header.clone(),
            cosignature_a: Some(first.clone()),
            header_b: b.header.clone(),
            cosignature_b: Some(second.clone()),
        })
    });
    both.collect()
}

/// What a file of equivocations begins with.
const FILE_MAGIC: &[u8] = b"cairn-equivocation-v1\n";

/// Why a file of equivocations is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Something else.
    #[error(
        "this is no file of equivocations: it does not begin with the line cairn-equivocation-v1"
    )]
    NotThatFile,
    /// Cut short or edited.
    #[error("the file is cut short or was edited: {0}")]
    Damaged(#[from] CanonicalError),
    /// About another ledger, or with an edited genesis.
    #[error("the file starts from the ledger {found}; you pinned {pinned}")]
    OtherChain {
        /// The hash of the file's genesis.
        found: Hash,
        /// What was pinned.
        pinned: Hash,
    },
    /// The pinned genesis is none.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The members of some epoch are not shown.
    #[error(transparent)]
    Members(#[from] EpochError),
    /// It claims nothing.
    #[error("the file holds no equivocation")]
    Empty,
    /// One of them is none.
    #[error("number {number} in the file proves no equivocation: {error}")]
    NotProven {
        /// From 1 on.
        number: usize,
        /// Why not.
        error: EquivocationError,
    },
}

/// The bytes of a file of equivocations.
pub fn write_file(file: &v1::EquivocationFile) -> Bytes {
    [FILE_MAGIC, &canonical::encode(file)].concat().into()
}

/// Verifies a file of equivocations, all of them, from the pinned chain id alone.
pub fn verify_file(pinned: &Hash, bytes: &[u8]) -> Result<(Chain, Vec<Proven>), FileError> {
    let message = bytes.strip_prefix(FILE_MAGIC);
    let message = message.ok_or(FileError::NotThatFile)?;
    let file: v1::EquivocationFile = canonical::decode(message)?;
    let found = genesis::chain_id(&file.genesis);
    if found != *pinned {
        let pinned = *pinned;
        return Err(FileError::OtherChain { found, pinned });
    }
    let chain = Chain::from_bytes(&file.genesis)?;
    let epochs = Epochs::follow(&chain, &file.epoch_changes)?;
    if file.equivocations.is_empty() {
        return Err(FileError::Empty);
    }
    let proven = file.equivocations.iter().zip(1..).map(|(one, number)| {
        let proven = verify(&chain.id, &epochs, one);
        proven.map_err(|error| FileError::NotProven { number, error })
    });
    let proven = proven.collect::<Result<_, _>>()?;
    Ok((chain, proven))
}

#[cfg(test)]
mod tests;
