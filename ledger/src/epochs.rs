//! Epochs: which members certify, followed from the genesis by certified changes alone.
//!
//! What holds here: a set of members is believed only if the pinned genesis holds it, or if a
//! checkpoint that the set before certified names its hash; epochs are followed one by one. Nodes,
//! clients and offline verifiers all verify certificates through this, so that none of them needs a
//! ledger's state to know who cosigns. What stays out: how a change comes about
//! ([`crate::members`]).
//!
//! What a change does not protect from: members of an earlier epoch whose keys leak *later*, enough
//! of them to satisfy their policy, can sign another history from their epoch on. Who has seen a
//! later checkpoint notices; who has only the genesis hash cannot.

use cairn_proto::v1;

use crate::canonical;
use crate::checkpoint::{self, CertifiedCheckpoint, CertifyError};
use crate::genesis::{self, Chain};
use crate::hash::Hash;
use crate::policy::{self, PolicyError};

/// Why a change of members is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// A part is missing.
    #[error("a change of members has no {0}")]
    Missing(&'static str),
    /// The set before did not certify it.
    #[error("the change to epoch {next}: {error}")]
    Certificate {
        /// The epoch that it would begin.
        next: u64,
        /// Why not.
        error: CertifyError,
    },
    /// The checkpoint names another set, or none.
    #[error("the change to epoch {next} shows members that its checkpoint does not name")]
    OtherMembers {
        /// The epoch that it would begin.
        next: u64,
    },
    /// A set that no honest node takes.
    #[error("the change to epoch {next}: {error}")]
    Policy {
        /// The epoch that it would begin.
        next: u64,
        /// Why not.
        error: PolicyError,
    },
    /// A proof's changes must lead to its checkpoint's epoch, and no further.
    #[error("the proof shows changes up to epoch {found}, its checkpoint is of epoch {epoch}")]
    WrongEnd {
        /// Where the changes lead.
        found: u64,
        /// The checkpoint's.
        epoch: u64,
    },
}

impl EpochError {
    /// Whether too few members cosigned a change that is otherwise sound.
    pub fn is_quorum_not_met(&self) -> bool {
        matches!(
            self,
            EpochError::Certificate {
                error: CertifyError::QuorumNotMet { .. },
                ..
            }
        )
    }
}

/// The member sets of a ledger, from its genesis to the newest one that is known here.
#[derive(Debug, Clone, PartialEq)]
pub struct Epochs {
    chain_id: Hash,
    /// By epoch; never empty.
    sets: Vec<v1::MemberSet>,
    changes: Vec<v1::EpochChange>,
}

impl Epochs {
    /// What the genesis alone says.
    pub fn of_genesis(chain: &Chain) -> Epochs {
        Epochs {
            chain_id: chain.id,
            sets: vec![chain.members.clone()],
            changes: Vec::new(),
        }
    }

    /// From the genesis through these changes, in order.
    pub fn follow(chain: &Chain, changes: &[v1::EpochChange]) -> Result<Epochs, EpochError> {
        let mut epochs = Epochs::of_genesis(chain);
        for change in changes {
            epochs.extend(change)?;
        }
        Ok(epochs)
    }

    /// Goes one epoch further.
    pub fn extend(&mut self, change: &v1::EpochChange) -> Result<(), EpochError> {
        let checkpoint = change.checkpoint.as_ref();
        let checkpoint = checkpoint.ok_or(EpochError::Missing("checkpoint"))?;
        let members = change.next_members.as_ref();
        let members = members.ok_or(EpochError::Missing("member set"))?;
        let newest = self.newest();
        let next = newest.epoch.saturating_add(1);
        let certified = checkpoint::certify(&self.chain_id, newest, checkpoint)
            .map_err(|error| EpochError::Certificate { next, error })?;
        let header = certified.header();
        let named = header.next_members_hash == genesis::members_hash(members).0[..]
            && header.next_members_hash != header.members_hash
            && members.epoch == next;
        if !named {
            return Err(EpochError::OtherMembers { next });
        }
        policy::check(members).map_err(|error| EpochError::Policy { next, error })?;
        self.sets.push(members.clone());
        self.changes.push(change.clone());
        Ok(())
    }

    /// Takes what continues these epochs, passes over what is known already, and says whether
    /// anything was new. What was taken before an error stays.
    pub fn extend_all(&mut self, changes: &[v1::EpochChange]) -> Result<bool, EpochError> {
        let mut new = false;
        for change in changes {
            let begins = change.next_members.as_ref().map_or(0, |set| set.epoch);
            if self.set(begins).is_none() {
                self.extend(change)?;
                new = true;
            }
        }
        Ok(new)
    }

    /// The set of `epoch`, where it is known here.
    pub fn set(&self, epoch: u64) -> Option<&v1::MemberSet> {
        self.sets.get(usize::try_from(epoch).ok()?)
    }

    /// The newest set that is known here.
    pub fn newest(&self) -> &v1::MemberSet {
        &self.sets[self.sets.len() - 1]
    }

    /// The set before the newest; none in the epoch of the genesis.
    pub fn before(&self) -> Option<&v1::MemberSet> {
        self.sets.iter().rev().nth(1)
    }

    /// Whether the newest set has this member.
    pub fn has(&self, raft_id: u64) -> bool {
        self.member(raft_id).is_some()
    }

    /// Whether any set that is known here has this member.
    pub fn had(&self, raft_id: u64) -> bool {
        let mut all = self.sets.iter().flat_map(|set| &set.members);
        all.any(|member| member.raft_id == raft_id)
    }

    /// A member of the newest set.
    pub fn member(&self, raft_id: u64) -> Option<&v1::Member> {
        let mut members = self.newest().members.iter();
        members.find(|member| member.raft_id == raft_id)
    }

    /// The changes after `epoch`.
    pub fn changes_after(&self, epoch: u64) -> &[v1::EpochChange] {
        let from = usize::try_from(epoch).unwrap_or(usize::MAX);
        self.changes.get(from..).unwrap_or_default()
    }

    /// Certifies a checkpoint under the set of its epoch. One of an epoch that is not known here is
    /// [`CertifyError::UnknownEpoch`]: ask for the changes.
    pub fn certify(
        &self,
        checkpoint: &v1::Checkpoint,
    ) -> Result<CertifiedCheckpoint, CertifyError> {
        let header: v1::Header = canonical::decode(&checkpoint.header)?;
        let members = match self.set(header.epoch) {
            Some(members) => members,
            // Another ledger's epochs mean nothing here; that is said then.
            None if header.chain_id != self.chain_id.0[..] => self.newest(),
            None => {
                return Err(CertifyError::UnknownEpoch {
                    epoch: header.epoch,
                    known: self.newest().epoch,
                });
            }
        };
        checkpoint::certify(&self.chain_id, members, checkpoint)
    }
}

#[cfg(test)]
mod tests;
