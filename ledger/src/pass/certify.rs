//! Whether a pass is under a certificate: of which header, by whom, as of when.
//!
//! What holds here: the header is put together from the pass, the trust file and the map's root that
//! the proof leads to, and must be certified as it is; then every part of the pass was under the
//! cosignatures. Certificates that were verified are remembered, a bounded number of them, so that
//! many passes of one checkpoint cost a map proof each. What was certified must fit with everything
//! else that was: the trust file's blocks and the blocks of other passes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cairn_proto::v1;

use super::Pass;
use crate::canonical;
use crate::checkpoint::{CertifiedCheckpoint, CertifyError};
use crate::genesis;
use crate::hash::{self, Hash};
use crate::trust::{Position, TrustedLedger};

/// Certificates that are remembered of each ledger: gates meet those of the last minutes.
pub const MAX_WARM: usize = 256;

/// Why a pass is under no certificate that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UncertifiedError {
    /// Made after a change of members that the trust file does not know.
    #[error(
        "the pass is of epoch {epoch}, and the trust file knows the members up to epoch {known}: get a newer trust file"
    )]
    UnknownEpoch {
        /// Of the pass.
        epoch: u64,
        /// In the trust file.
        known: u64,
    },
    /// Too few members.
    #[error("the pass is not certified: {0}")]
    QuorumNotMet(CertifyError),
    /// Edited, or signed by others than the members.
    #[error("the pass is false, or was edited: {0}")]
    Forged(CertifyError),
    /// Signed by members after others had taken their place.
    #[error(
        "the pass is certified by the members of epoch {epoch} after that epoch had ended with block {end}: members that left do not count"
    )]
    RemovedMembers {
        /// Of the pass.
        epoch: u64,
        /// The last block of that epoch.
        end: u64,
    },
    /// Certified, and so is another history.
    #[error(
        "the pass is of a forked chain: its block {height} contradicts block {known}, which is certified too; keep it as evidence, and tell the institutions"
    )]
    Forked {
        /// Of the pass.
        height: u64,
        /// Of the block that it contradicts.
        known: u64,
    },
}

/// What a certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certified {
    /// The certified header.
    pub(crate) position: Position,
    /// At that time it was the latest.
    pub latest_as_of_ms: u64,
    /// Whether the ledger's policy only detects forks.
    pub detect_only: bool,
}

impl Certified {
    /// The height of the certified block.
    pub fn height(&self) -> u64 {
        self.position.height
    }

    /// The hash of its header.
    pub fn header_hash(&self) -> Hash {
        self.position.hash
    }
}

/// Certificates of one ledger that were verified before.
#[derive(Debug, Clone, Default)]
pub(super) struct Warm {
    by_key: BTreeMap<Hash, Certified>,
    /// Keys, the oldest first.
    order: VecDeque<Hash>,
}

impl Warm {
    /// The certificate of `pass`, whose proof leads to `map_root`.
    pub(super) fn certify(
        &mut self,
        ledger: &TrustedLedger,
        pass: &Pass,
        map_root: &Hash,
        tolerance_ms: u64,
    ) -> Result<Certified, UncertifiedError> {
        let key = pass.certificate_key(map_root);
        if let Some(certified) = self.by_key.get(&key) {
            return Ok(*certified);
        }
        let certified = certified(ledger, pass, map_root)?;
        check_epoch(ledger, &certified, tolerance_ms)?;
        let known = ledger.pins();
        let mut known = known.chain(self.by_key.values().map(|warm| warm.position));
        if let Some(known) = known.find(|known| known.contradicts(&certified.position)) {
            return Err(UncertifiedError::Forked {
                height: certified.position.height,
                known: known.height,
            });
        }
        if self.order.len() == MAX_WARM
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_key.remove(&oldest);
        }
        self.order.push_back(key);
        self.by_key.insert(key, certified);
        Ok(certified)
    }
}

impl Pass {
    /// What names a certificate in memory: all that it consists of.
    fn certificate_key(&self, map_root: &Hash) -> Hash {
        let mut parts = map_root.0.to_vec();
        self.put_certificate(&mut parts);
        hash::plain(&parts)
    }

    /// The checkpoint that the pass is of, under this ledger's members.
    fn checkpoint(
        &self,
        ledger: &TrustedLedger,
        members: &v1::MemberSet,
        map_root: &Hash,
    ) -> v1::Checkpoint {
        let head = &self.head;
        let members_hash = genesis::members_hash(members);
        let header = v1::Header {
            chain_id: ledger.chain().id.to_bytes(),
            epoch: head.epoch,
            height: head.height,
            parent_hash: head.parent_hash.to_bytes(),
            timestamp_ms: head.timestamp_ms,
            term: head.term,
            rules_version: head.rules_version,
            tree_size: head.tree_size,
            log_root: head.log_root.to_bytes(),
            map_root: map_root.to_bytes(),
            outcomes_root: head.outcomes_root.to_bytes(),
            members_hash: members_hash.to_bytes(),
            next_members_hash: head.next_members_hash.unwrap_or(members_hash).to_bytes(),
            checkpoint: true,
        };
        let cosignatures = self.cosigned.iter().map(|cosigned| {
            let member = members.members.get(usize::from(cosigned.place));
            v1::Cosignature {
                // A place behind the last member is nobody's, and certifies nothing.
                public_key: member.map_or(Bytes::new(), |member| member.cosign_key.clone()),
                cosigned_at_ms: cosigned.at_ms,
                signature: Bytes::copy_from_slice(&cosigned.signature),
            }
        });
        let mut cosignatures: Vec<v1::Cosignature> = cosignatures.collect();
        cosignatures.sort_by(|a, b| a.public_key.cmp(&b.public_key));
        v1::Checkpoint {
            header: canonical::encode(&header),
            cosignatures,
        }
    }
}

fn certified(
    ledger: &TrustedLedger,
    pass: &Pass,
    map_root: &Hash,
) -> Result<Certified, UncertifiedError> {
    let (epoch, epochs) = (pass.head.epoch, ledger.epochs());
    let known = epochs.newest().epoch;
    let members = epochs.set(epoch);
    let members = members.ok_or(UncertifiedError::UnknownEpoch { epoch, known })?;
    let certified: CertifiedCheckpoint = epochs
        .certify(&pass.checkpoint(ledger, members, map_root))
        .map_err(|error| match error {
            CertifyError::QuorumNotMet { .. } => UncertifiedError::QuorumNotMet(error),
            error => UncertifiedError::Forged(error),
        })?;
    Ok(Certified {
        position: Position::of(&certified),
        latest_as_of_ms: certified.latest_as_of_ms(),
        detect_only: certified.detect_only(),
    })
}

/// Members of an epoch that ended certify nothing behind its end, and say of nothing that it is the
/// latest later than they handed over. Their keys may be anybody's by now.
fn check_epoch(
    ledger: &TrustedLedger,
    certified: &Certified,
    tolerance_ms: u64,
) -> Result<(), UncertifiedError> {
    let (position, latest) = (&certified.position, certified.latest_as_of_ms);
    let Some(end) = ledger.end_of(position.epoch) else {
        return Ok(());
    };
    let behind = position.height > end.position.height;
    if behind || latest > end.latest_as_of_ms.saturating_add(tolerance_ms) {
        return Err(UncertifiedError::RemovedMembers {
            epoch: position.epoch,
            end: end.position.height,
        });
    }
    Ok(())
}
