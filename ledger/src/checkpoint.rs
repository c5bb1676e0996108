//! Checkpoints: headers that members cosigned, and when that certifies them.
//!
//! What holds here: a cosignature is over chain, header hash and the signer's clock; a certificate
//! has cosignatures of members only, each once, each valid, and together they satisfy the policy.
//! [`CertifiedCheckpoint`] can only be made by [`certify`], so whoever holds one holds a proof.

use bytes::{BufMut, Bytes};
use cairn_proto::v1;
use ed25519_dalek::{Signature, Signer, SigningKey};

use crate::canonical::{self, CanonicalError};
use crate::entry;
use crate::genesis;
use crate::hash::{Domain, Hash};
use crate::policy;

static HEADER: Domain = Domain::new("cairn v1 header");
/// What the cosigned bytes begin with.
const COSIGNATURE_TAG: &[u8] = b"cairn v1 cosignature";

/// The hash of a header's canonical bytes.
pub fn header_hash(header_bytes: &[u8]) -> Hash {
    HEADER.hash(header_bytes)
}

/// The bytes that are cosigned: tag ‖ chain id ‖ header hash ‖ cosigned_at_ms (8, big-endian).
fn cosigned_message(chain_id: &Hash, header_hash: &Hash, cosigned_at_ms: u64) -> Vec<u8> {
    let mut message = Vec::with_capacity(COSIGNATURE_TAG.len() + 72);
    message.put_slice(COSIGNATURE_TAG);
    message.put_slice(chain_id.as_bytes());
    message.put_slice(header_hash.as_bytes());
    message.put_u64(cosigned_at_ms);
    message
}

/// Cosigns a header. The caller has recorded it in its sign guard before.
pub fn cosign(
    key: &SigningKey,
    chain_id: &Hash,
    header_hash: &Hash,
    cosigned_at_ms: u64,
) -> v1::Cosignature {
    let message = cosigned_message(chain_id, header_hash, cosigned_at_ms);
    v1::Cosignature {
        public_key: Bytes::copy_from_slice(key.verifying_key().as_bytes()),
        cosigned_at_ms,
        signature: Bytes::copy_from_slice(&key.sign(&message).to_bytes()),
    }
}

/// Why a cosignature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// The key is no member's.
    #[error("{0} is no member's cosigning key")]
    NotAMember(String),
    /// The bytes are no signature by that key over this header at that time.
    #[error("the cosignature of {0} does not verify")]
    Invalid(String),
}

/// The member whose valid cosignature this is.
pub fn verify_cosignature<'a>(
    members: &'a v1::MemberSet,
    chain_id: &Hash,
    header_hash: &Hash,
    cosignature: &v1::Cosignature,
) -> Result<&'a v1::Member, CosignatureError> {
    let mut all = members.members.iter();
    let member = all.find(|member| member.cosign_key == cosignature.public_key);
    let name = || hex::encode(&cosignature.public_key);
    let member = member.ok_or_else(|| CosignatureError::NotAMember(name()))?;
    let message = cosigned_message(chain_id, header_hash, cosignature.cosigned_at_ms);
    let key = entry::public_key(&cosignature.public_key);
    let signature = Signature::from_slice(&cosignature.signature);
    match (key, signature) {
        (Some(key), Ok(signature)) if key.verify_strict(&message, &signature).is_ok() => Ok(member),
        _ => Err(CosignatureError::Invalid(member.institution.clone())),
    }
}

/// Why a checkpoint is not certified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertifyError {
    /// The header was encoded otherwise.
    #[error("the header is not canonical: {0}")]
    NotCanonical(#[from] CanonicalError),
    /// A header of another ledger.
    #[error("the header is of chain {found}, not of {expected}")]
    WrongChain {
        /// In the header, hex.
        found: String,
        /// The pinned one.
        expected: Hash,
    },
    /// Cosigned by another set of members than the one given.
    #[error("the header is of epoch {epoch}, and the member set given is another one")]
    WrongMembers {
        /// In the header.
        epoch: u64,
    },
    /// Cosigned by members that came in later: get the changes of members from a node.
    #[error("the header is of epoch {epoch}, and changes of members are known up to epoch {known}")]
    UnknownEpoch {
        /// In the header.
        epoch: u64,
        /// The newest that is known.
        known: u64,
    },
    /// Not a header that members cosign.
    #[error("block {height} is no checkpoint")]
    NotACheckpoint {
        /// Its height.
        height: u64,
    },
    /// A hash in the header is not 32 bytes.
    #[error("the header of block {height} has a hash that is not 32 bytes")]
    BadHash {
        /// Its height.
        height: u64,
    },
    /// One who cosigned twice counts once, and the list has one order.
    #[error("the cosignatures do not ascend by public key")]
    Order,
    /// A cosignature that does not count has no place here.
    #[error(transparent)]
    Cosignature(#[from] CosignatureError),
    /// Ask again later, or another node: too few members have cosigned.
    #[error(
        "{found} of {members} members cosigned (with {roles} roles); the policy asks for {threshold} from {min_roles} roles"
    )]
    QuorumNotMet {
        /// Valid cosignatures.
        found: usize,
        /// Of how many members.
        members: usize,
        /// Roles among them.
        roles: usize,
        /// What the policy asks for.
        threshold: u32,
        /// What the policy asks for.
        min_roles: u32,
    },
}

/// A checkpoint whose cosignatures satisfy the policy.
#[derive(Debug, Clone, PartialEq)]
pub struct CertifiedCheckpoint {
    proto: v1::Checkpoint,
    header: v1::Header,
    header_hash: Hash,
    log_root: Hash,
    map_root: Hash,
    signers: Vec<v1::Member>,
    certified_by_ms: u64,
    latest_as_of_ms: u64,
    detect_only: bool,
}

impl CertifiedCheckpoint {
    /// The header that is certified.
    pub fn header(&self) -> &v1::Header {
        &self.header
    }

    /// Its hash.
    pub fn header_hash(&self) -> Hash {
        self.header_hash
    }

    /// The root of the log at `header().tree_size`.
    pub fn log_root(&self) -> &Hash {
        &self.log_root
    }

    /// The root of the map.
    pub fn map_root(&self) -> &Hash {
        &self.map_root
    }

    /// As it travels.
    pub fn to_proto(&self) -> v1::Checkpoint {
        self.proto.clone()
    }

    /// Who cosigned, in the order of the cosignatures.
    pub fn signers(&self) -> impl Iterator<Item = &v1::Member> {
        self.signers.iter()
    }

    /// The largest t such that those who cosigned at or after t satisfy the policy: at t this was
    /// still the latest checkpoint. Milliseconds since 1970, by the cosigners' clocks.
    pub fn latest_as_of_ms(&self) -> u64 {
        self.latest_as_of_ms
    }

    /// The smallest t such that those who cosigned at or before t satisfy the policy: by t this
    /// checkpoint was certified.
    pub fn certified_by_ms(&self) -> u64 {
        self.certified_by_ms
    }

    /// Whether the policy only detects forks: one institution could have got another header
    /// certified at this height.
    pub fn detect_only(&self) -> bool {
        self.detect_only
    }
}

/// Certifies a checkpoint under the member set of its epoch.
pub fn certify(
    chain_id: &Hash,
    members: &v1::MemberSet,
    checkpoint: &v1::Checkpoint,
) -> Result<CertifiedCheckpoint, CertifyError> {
    let header = read_header(chain_id, members, &checkpoint.header)?;
    let header_hash = header_hash(&checkpoint.header);
    let cosignatures = &checkpoint.cosignatures;
    if !cosignatures.is_sorted_by(|a, b| a.public_key < b.public_key) {
        return Err(CertifyError::Order);
    }
    let mut signed: Vec<(u64, &v1::Member)> = Vec::with_capacity(cosignatures.len());
    for cosignature in cosignatures {
        let member = verify_cosignature(members, chain_id, &header_hash, cosignature)?;
        signed.push((cosignature.cosigned_at_ms, member));
    }
    let signers = signed.iter().map(|(_, member)| (*member).clone()).collect();
    signed.sort_by_key(|(at, _)| *at);
    let certified_by = first_quorum(members, signed.iter());
    let latest_as_of = first_quorum(members, signed.iter().rev());
    let (Some(certified_by_ms), Some(latest_as_of_ms)) = (certified_by, latest_as_of) else {
        return Err(quorum_not_met(members, &signed));
    };
    Ok(CertifiedCheckpoint {
        log_root: hash_of(&header, &header.log_root)?,
        map_root: hash_of(&header, &header.map_root)?,
        proto: checkpoint.clone(),
        header,
        header_hash,
        signers,
        certified_by_ms,
        latest_as_of_ms,
        detect_only: members.policy.as_ref().is_some_and(|p| p.detect_only),
    })
}

fn hash_of(header: &v1::Header, bytes: &[u8]) -> Result<Hash, CertifyError> {
    Hash::from_slice(bytes).ok_or(CertifyError::BadHash {
        height: header.height,
    })
}

fn read_header(
    chain_id: &Hash,
    members: &v1::MemberSet,
    bytes: &[u8],
) -> Result<v1::Header, CertifyError> {
    let header: v1::Header = canonical::decode(bytes)?;
    if header.chain_id != chain_id.0[..] {
        return Err(CertifyError::WrongChain {
            found: hex::encode(&header.chain_id),
            expected: *chain_id,
        });
    }
    if header.members_hash != genesis::members_hash(members).0[..] || header.epoch != members.epoch
    {
        return Err(CertifyError::WrongMembers {
            epoch: header.epoch,
        });
    }
    if !header.checkpoint {
        return Err(CertifyError::NotACheckpoint {
            height: header.height,
        });
    }
    Ok(header)
}

/// When, going through `signed` in its order, the policy is first satisfied.
fn first_quorum<'a>(
    members: &v1::MemberSet,
    signed: impl Iterator<Item = &'a (u64, &'a v1::Member)>,
) -> Option<u64> {
    let mut so_far = Vec::new();
    for (at, member) in signed {
        so_far.push(*member);
        if policy::satisfies(members, &so_far) {
            return Some(*at);
        }
    }
    None
}

fn quorum_not_met(members: &v1::MemberSet, signed: &[(u64, &v1::Member)]) -> CertifyError {
    let mut roles: Vec<i32> = signed.iter().map(|(_, member)| member.role).collect();
    roles.sort_unstable();
    roles.dedup();
    let policy = members.policy.unwrap_or_default();
    CertifyError::QuorumNotMet {
        found: signed.len(),
        members: members.members.len(),
        roles: roles.len(),
        threshold: policy.threshold,
        min_roles: policy.min_roles,
    }
}

#[cfg(test)]
mod tests;
