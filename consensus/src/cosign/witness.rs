//! What a node can tell others of their own cosignatures, and what it makes of what they tell.
//!
//! What holds here: of each member the highest header that it cosigned is known, with the
//! cosignature, from notices and certificates. It is written beside the Raft log when a higher block
//! is certified, without a sync of its own: it rides on the next. A claim about this node counts
//! only with its own valid cosignature, so a member that lies stops nobody. "Never saw one" and
//! "height 0", the genesis, are different answers. What stays out: whom to ask and for how long
//! (`recall`).

use std::collections::BTreeMap;

use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::epochs::Epochs;
use cairn_proto::v1;
use cairn_storage::{Durability, LogError, LogStore, Slot};
use prost::Message as _;

use super::collect::Judged;
use super::{CosignError, Cosigner};
use crate::locked;

/// By member: the highest header that it cosigned.
#[derive(Debug, Default)]
pub(super) struct Witness(BTreeMap<u64, v1::CosignatureNotice>);

impl Witness {
    pub(super) fn open(log: &LogStore) -> Result<Self, LogError> {
        let Some(bytes) = log.get_meta(Slot::Witnessed)? else {
            return Ok(Self::default());
        };
        let kept = v1::Witnessed::decode(bytes).map_err(|_| LogError::Damaged {
            place: "what members cosigned".to_owned(),
            detail: "not such a record",
        })?;
        let members = kept.members.into_iter();
        let members = members.map(|m| (m.raft_id, m.notice.unwrap_or_default()));
        Ok(Self(members.collect()))
    }

    pub(super) fn keep(&self, log: &LogStore) -> Result<(), LogError> {
        let members = self.0.iter().map(|(raft_id, notice)| v1::WitnessedMember {
            raft_id: *raft_id,
            notice: Some(notice.clone()),
        });
        let members = members.collect();
        let bytes = v1::Witnessed { members }.encode_to_vec();
        log.put_meta(Slot::Witnessed, &bytes, Durability::Buffered)
    }

    /// Notes a verified cosignature.
    pub(super) fn note(&mut self, member: u64, notice: &v1::CosignatureNotice) {
        if self.height(member).is_none_or(|seen| seen < notice.height) {
            self.0.insert(member, notice.clone());
        }
    }

    /// Notes all cosignatures of a verified certificate.
    pub(super) fn note_all(&mut self, epochs: &Epochs, certified: &CertifiedCheckpoint) {
        let (height, certificate) = (certified.header().height, certified.to_proto());
        let Some(set) = epochs.set(certified.header().epoch) else {
            return;
        };
        let header_hash = certified.header_hash().to_bytes();
        for cosignature in &certificate.cosignatures {
            let mut members = set.members.iter();
            let Some(member) = members.find(|m| m.cosign_key == cosignature.public_key) else {
                continue;
            };
            let notice = v1::CosignatureNotice {
                height,
                header_hash: header_hash.clone(),
                cosignature: Some(cosignature.clone()),
                header: certificate.header.clone(),
            };
            self.note(member.raft_id, &notice);
        }
    }

    pub(super) fn height(&self, member: u64) -> Option<u64> {
        self.0.get(&member).map(|notice| notice.height)
    }

    pub(super) fn of(&self, member: u64) -> Option<&v1::CosignatureNotice> {
        self.0.get(&member)
    }
}

/// What an answer is worth to a node that asks for its own promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recalled {
    /// Nothing that this node does not know itself.
    Known,
    /// It speaks of an epoch that is not known here yet, or shows what does not verify.
    NotYet,
}

impl Cosigner {
    /// The highest header that `member` cosigned, with its cosignature, as seen here.
    pub(crate) fn witnessed(&self, member: u64) -> Option<v1::CosignatureNotice> {
        locked(&self.inner).witness.of(member).cloned()
    }

    /// What `member` saw of this node's cosignatures. An error: this node must never sign again.
    pub(crate) fn recalled(
        &self,
        member: u64,
        answer: &v1::RecallResponse,
    ) -> Result<Recalled, CosignError> {
        if answer.epoch > self.epochs.borrow().newest().epoch {
            self.hear_of_epochs_from(member);
            return Ok(Recalled::NotYet);
        }
        let Some(notice) = &answer.cosigned else {
            return Ok(Recalled::Known);
        };
        match self.try_judge(self.me, notice) {
            Judged::Valid => {}
            Judged::Invalid | Judged::UnknownEpoch => {
                tracing::warn!(
                    member,
                    "a member shows a cosignature as this node's that is none"
                );
                return Ok(Recalled::NotYet);
            }
        }
        self.is_known(member, notice)?;
        Ok(Recalled::Known)
    }

    /// Whether the guard knows of this cosignature of ours. It is synced before any cosignature
    /// leaves, so a crash cannot make it forget one.
    pub(super) fn is_known(
        &self,
        shown_by: u64,
        notice: &v1::CosignatureNotice,
    ) -> Result<(), CosignError> {
        let held = self.guard.held().map(|held| held.height);
        if held >= Some(notice.height) {
            return Ok(());
        }
        Err(CosignError::Older {
            held,
            shown_by,
            seen: notice.height,
        })
    }
}
