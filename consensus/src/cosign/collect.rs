//! From verified cosignatures to certificates, and from a certificate to the serving view.

use std::sync::Arc;

use bytes::Bytes;
use cairn_ledger::apply;
use cairn_ledger::checkpoint::{self, CertifiedCheckpoint, CertifyError};
use cairn_ledger::epochs::Epochs;
use cairn_ledger::equivocation;
use cairn_ledger::hash::Hash;
use cairn_ledger::policy;
use cairn_ledger::state::StateError;
use cairn_proto::v1;
use cairn_storage::View;
use tokio::time::Instant;

use super::{Candidate, CosignError, Cosigner, Inner, MAX_EARLY};
use crate::locked;

impl Cosigner {
    /// A peer's notice; the answer is our own of the same height, where we have one.
    pub(crate) fn receive(
        &self,
        from: u64,
        notice: &v1::CosignatureNotice,
    ) -> Result<v1::CosignatureAnswer, CosignError> {
        match self.judge(from, notice) {
            Judged::Valid => {
                locked(&self.inner).witness.note(from, notice);
                self.count(from, notice)?;
            }
            Judged::Invalid => {}
            Judged::UnknownEpoch => {
                self.hear_of_epochs_from(from);
                self.keep_early(&mut locked(&self.inner), from, notice);
            }
        }
        Ok(v1::CosignatureAnswer {
            mine: self.own_notice(notice.height),
        })
    }

    fn own_notice(&self, height: u64) -> Option<v1::CosignatureNotice> {
        let inner = locked(&self.inner);
        let candidate = inner.candidates.get(&height)?;
        let cosignature = candidate.cosignatures.get(&self.public)?;
        Some(v1::CosignatureNotice {
            height,
            header_hash: candidate.hash.to_bytes(),
            cosignature: Some(cosignature.clone()),
            header: candidate.header_bytes.clone(),
        })
    }

    /// Whether `notice` is `member`'s own valid cosignature of the header that it brings.
    pub(super) fn judge(&self, member: u64, notice: &v1::CosignatureNotice) -> Judged {
        let judged = self.try_judge(member, notice);
        if judged == Judged::Invalid {
            tracing::warn!(member, notice.height, "a cosignature that does not verify");
        }
        judged
    }

    pub(super) fn try_judge(&self, member: u64, notice: &v1::CosignatureNotice) -> Judged {
        let (Some(hash), Some(cosignature), Ok(header)) = (
            Hash::from_slice(&notice.header_hash),
            &notice.cosignature,
            cairn_ledger::canonical::decode::<v1::Header>(&notice.header),
        ) else {
            return Judged::Invalid;
        };
        let header_agrees = checkpoint::header_hash(&notice.header) == hash
            && header.height == notice.height
            && header.chain_id == self.chain.id.0[..];
        if !header_agrees {
            return Judged::Invalid;
        }
        let epochs = self.epochs.borrow().clone();
        let Some(members) = epochs.set(header.epoch) else {
            return Judged::UnknownEpoch;
        };
        let signer = checkpoint::verify_cosignature(members, &self.chain.id, &hash, cosignature);
        if signer.is_ok_and(|signer| signer.raft_id == member) {
            Judged::Valid
        } else {
            Judged::Invalid
        }
    }

    /// Keeps a notice for a block that this node has not computed yet.
    fn keep_early(&self, inner: &mut Inner, member: u64, notice: &v1::CosignatureNotice) {
        if notice.height > inner.tip {
            let early = inner.early.entry(member).or_default();
            early.insert(notice.height, notice.clone());
            if early.len() > MAX_EARLY {
                early.pop_first();
            }
        }
    }

    /// Counts a verified cosignature.
    pub(super) fn count(
        &self,
        member: u64,
        notice: &v1::CosignatureNotice,
    ) -> Result<(), CosignError> {
        let Some(cosignature) = &notice.cosignature else {
            return Ok(());
        };
        let complete = {
            let inner = &mut *locked(&self.inner);
            let Some(candidate) = inner.candidates.get(&notice.height) else {
                self.keep_early(inner, member, notice);
                return self.not_a_candidate(inner, member, notice);
            };
            if candidate.hash.as_bytes()[..] != notice.header_hash[..] {
                let known = candidate.cosignatures.get(&cosignature.public_key);
                let ours = known.map(|known| (candidate.header_bytes.clone(), known.clone()));
                return self.keep(inner.alarms.conflict(member, notice, ours));
            }
            inner.witness.note(member, notice);
            let newer = candidate
                .cosignatures
                .get(&cosignature.public_key)
                .is_none_or(|known| known.cosigned_at_ms < cosignature.cosigned_at_ms);
            if !newer {
                return Ok(());
            }
            self.keep(inner.alarms.agreed(member, notice))?;
            let Some(candidate) = inner.candidates.get_mut(&notice.height) else {
                return Ok(());
            };
            candidate
                .cosignatures
                .insert(cosignature.public_key.clone(), cosignature.clone());
            // Of a block that is not written yet: when it is (`settle`).
            let written = notice.height <= inner.tip;
            written.then(|| self.complete(candidate)).flatten()
        };
        match complete {
            Some(proto) => self.adopt(&proto),
            None => Ok(()),
        }
    }

    /// A cosignature for a height that is not collected: where the block is known, it must be ours.
    fn not_a_candidate(
        &self,
        inner: &mut Inner,
        member: u64,
        notice: &v1::CosignatureNotice,
    ) -> Result<(), CosignError> {
        if notice.height > inner.tip {
            return Ok(());
        }
        let Some(ours) = self.header_at(notice.height)? else {
            return Ok(());
        };
        if checkpoint::header_hash(&ours).as_bytes()[..] != notice.header_hash[..] {
            let kept = self.store.checkpoint_at(notice.height)?;
            let key = notice.cosignature.as_ref().map(|c| &c.public_key);
            let known = kept.and_then(|kept| {
                let mut cosignatures = kept.cosignatures.into_iter();
                cosignatures.find(|c| Some(&c.public_key) == key)
            });
            let ours = known.map(|known| (ours, known));
            return self.keep(inner.alarms.conflict(member, notice, ours));
        }
        Ok(())
    }

    fn keep(&self, proof: Option<v1::Equivocation>) -> Result<(), CosignError> {
        let Some(proof) = proof else {
            return Ok(());
        };
        // Nobody could show anybody else what does not verify.
        if let Err(error) = equivocation::verify(&self.chain.id, &self.epochs.borrow(), &proof) {
            tracing::warn!(%error, "what looked like an equivocation proves none");
            return Ok(());
        }
        // Who renews a cosignature tells nothing new.
        let kept = self.store.list_equivocations()?;
        let key = |of: &v1::Equivocation| {
            let signer = of.cosignature_b.as_ref().map(|c| c.public_key.clone());
            (signer, of.header_a.clone(), of.header_b.clone())
        };
        if kept.iter().all(|kept| key(kept) != key(&proof)) {
            self.store.put_equivocation(&proof)?;
        }
        Ok(())
    }

    /// The certificate, where the cosignatures satisfy the policy.
    pub(super) fn complete(&self, candidate: &Candidate) -> Option<v1::Checkpoint> {
        let epochs = self.epochs.borrow().clone();
        let members = epochs.set(candidate.epoch)?;
        let signers: Vec<&v1::Member> = members
            .members
            .iter()
            .filter(|member| candidate.cosignatures.contains_key(&member.cosign_key))
            .collect();
        policy::satisfies(members, &signers).then(|| v1::Checkpoint {
            header: candidate.header_bytes.clone(),
            cosignatures: candidate.cosignatures.values().cloned().collect(),
        })
    }

    /// A certificate, from the cosignatures here or from the chain.
    pub(crate) fn adopt(&self, proto: &v1::Checkpoint) -> Result<(), CosignError> {
        let certified = self.epochs.borrow().certify(proto);
        let new = match certified {
            Ok(new) => Arc::new(new),
            // Of an epoch whose beginning this node has not seen: so are its blocks.
            Err(CertifyError::UnknownEpoch { .. }) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "a certificate that does not verify");
                return Ok(());
            }
        };
        let height = new.header().height;
        let ours = match self.header_at(height)? {
            None => return Ok(()),
            Some(ours) => checkpoint::header_hash(&ours),
        };
        if ours != new.header_hash() {
            return Err(CosignError::Diverged {
                height,
                certified: new.header_hash(),
                computed: ours,
            });
        }
        self.follow(&new)?;
        let inner = &mut *locked(&self.inner);
        let freshness = |c: &CertifiedCheckpoint| {
            let count = c.to_proto().cosignatures.len();
            (c.header().height, c.latest_as_of_ms(), count)
        };
        let known = self.certified.borrow().clone();
        inner.witness.note_all(&self.epochs.borrow(), &new);
        let higher = known.as_ref().is_none_or(|k| k.header().height < height);
        let fresher = known
            .as_ref()
            .is_none_or(|k| freshness(k) < freshness(&new));
        if fresher || self.store.checkpoint_at(height)?.is_none() {
            self.store.put_checkpoint(height, proto)?;
        }
        let served = inner.view.clone();
        let snapshot = match inner.snapshots.get(&height) {
            Some(snapshot) => Some(snapshot.clone()),
            None => served
                .as_ref()
                .filter(|view| view.height() == height)
                .map(|view| view.snapshot().clone()),
        };
        if let Some(snapshot) = snapshot
            && served.is_none_or(|v| v.height() < height || (v.height() == height && fresher))
        {
            let view = View::new(snapshot, new.clone(), self.warm.clone());
            inner.view = Some(Arc::new(view));
        }
        if higher {
            inner.witness.keep(self.guard.log())?;
            inner.candidates = inner.candidates.split_off(&height);
            inner.tail = inner.tail.split_off(&(height + 1));
            inner.tail_bytes = inner.tail.values().sum();
            inner.uncertified_since = (inner.tip > height).then(Instant::now);
        }
        inner.snapshots = inner.snapshots.split_off(&(height + 1));
        if fresher {
            self.certified.send_replace(Some(new));
        }
        Ok(())
    }

    /// The header that this node computed, of a block that is part of the state.
    fn header_at(&self, height: u64) -> Result<Option<Bytes>, CosignError> {
        Ok(apply::header_at(&*self.store, height)?)
    }
}

/// What a notice is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    Valid,
    Invalid,
    /// Members came or went, and this node has not seen it yet.
    UnknownEpoch,
}

pub(super) fn certify(
    epochs: &Epochs,
    proto: &v1::Checkpoint,
) -> Result<CertifiedCheckpoint, StateError> {
    epochs.certify(proto).map_err(|error| StateError::Corrupt {
        place: "the newest certificate".to_owned(),
        detail: error.to_string(),
    })
}
