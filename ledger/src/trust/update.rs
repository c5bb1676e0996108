//! A gate's trust file gives way to a newer one that was handed over.
//!
//! What holds here: the newer file is of the same ledger, knows more, and contradicts nothing that
//! the older one had proven, so that a fork cannot be slipped under a gate as an update. Whoever
//! hands it over need not be trusted.

use std::collections::BTreeMap;

use cairn_proto::v1;

use super::{Position, Trust, TrustError, TrustedLedger};
use crate::genesis;
use crate::hash::Hash;

/// Why a file does not take the place of the one that is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// A gate does not change its ledger by an update.
    #[error(
        "the file handed over is of the ledger {found}, this gate's is {own}; to move a gate to another ledger, put that file in its place by hand"
    )]
    OtherLedger {
        /// In the file handed over.
        found: Hash,
        /// In the one that is there.
        own: Hash,
    },
    /// It knows less.
    #[error("the file handed over ends with block {found}, the one here with block {own}: keep it")]
    Older {
        /// Height of the newest checkpoint handed over.
        found: u64,
        /// Of the one that is there.
        own: u64,
    },
    /// It knows the same.
    #[error("the file handed over says nothing new")]
    NothingNew,
    /// Both are certified, and one of the histories is false.
    #[error(
        "a fork of the ledger {chain_id}: block {found} of the file handed over contradicts block {known} of the one here; keep both files as evidence, and use neither before the institutions have answered"
    )]
    Fork {
        /// Which ledger.
        chain_id: Hash,
        /// In the file handed over.
        found: u64,
        /// In the one that is there.
        known: u64,
    },
    /// The two cannot be put together.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Trust {
    /// What a gate knows after `newer` was handed over: all that either of the two proves, and of
    /// each ledger its newest state. Nobody takes anything away from a gate by an update.
    pub fn updated(&self, newer: &Trust) -> Result<Trust, UpdateError> {
        let (own, found) = (self.own(), newer.own());
        if own.chain.id != found.chain.id {
            return Err(UpdateError::OtherLedger {
                found: found.chain.id,
                own: own.chain.id,
            });
        }
        agree(own, found)?;
        let (own_height, found_height) = (height(own), height(found));
        if found_height < own_height {
            return Err(UpdateError::Older {
                found: found_height,
                own: own_height,
            });
        }
        let file = v1::TrustFile {
            ledgers: self.newest_ledgers(newer)?,
            not_after_ms: self.file.not_after_ms.max(newer.file.not_after_ms),
            refusals: self.all_refusals(newer),
        };
        match file == self.file {
            true => Err(UpdateError::NothingNew),
            false => Ok(Trust::of(file)?),
        }
    }

    /// The ledgers of both files, the own one first.
    fn newest_ledgers(&self, newer: &Trust) -> Result<Vec<v1::TrustedLedger>, UpdateError> {
        let with_file = |trust: &Trust| -> Vec<(TrustedLedger, v1::TrustedLedger)> {
            let files = trust.file.ledgers.iter().cloned();
            trust.ledgers.iter().cloned().zip(files).collect()
        };
        let mut all = with_file(self);
        for (found, mut handed) in with_file(newer) {
            let known = all.iter_mut().find(|(l, _)| l.chain.id == found.chain.id);
            let Some((known, file)) = known else {
                all.push((found, handed));
                continue;
            };
            agree(known, &found)?;
            if height(&found) >= height(known) {
                keep_changes(file, &mut handed);
                *file = handed;
            }
        }
        all[1..].sort_by_key(|(ledger, _)| ledger.chain.id);
        Ok(all.into_iter().map(|(_, file)| file).collect())
    }

    /// The refusals of both files; a refusal is for ever.
    fn all_refusals(&self, newer: &Trust) -> Vec<v1::MapReceipt> {
        let both = newer.file.refusals.iter().chain(&self.file.refusals);
        let by_key: BTreeMap<_, _> = both.map(|receipt| (&receipt.key, receipt)).collect();
        by_key.into_values().cloned().collect()
    }
}

fn height(ledger: &TrustedLedger) -> u64 {
    ledger.newest.header().height
}

/// Keeps the certificates by which epochs ended as they were first seen: whoever holds the keys of
/// members that left could make them anew, with a later time.
fn keep_changes(known: &v1::TrustedLedger, handed: &mut v1::TrustedLedger) {
    let pairs = known.epoch_changes.iter().zip(&mut handed.epoch_changes);
    pairs.for_each(|(known, handed)| handed.clone_from(known));
}

/// That two states of one ledger may be of one history.
fn agree(known: &TrustedLedger, found: &TrustedLedger) -> Result<(), UpdateError> {
    let chain_id = known.chain.id;
    // Where both know an epoch, they know the same members of it.
    let both = known.epochs.newest().epoch.min(found.epochs.newest().epoch);
    for epoch in 0..=both {
        let hash = |ledger: &TrustedLedger| ledger.epochs.set(epoch).map(genesis::members_hash);
        let began = |ledger: &TrustedLedger| {
            let end = ledger.end_of(epoch.saturating_sub(1));
            end.map_or(0, |end| end.position.height)
        };
        if hash(known) != hash(found) {
            return Err(UpdateError::Fork {
                chain_id,
                found: began(found),
                known: began(known),
            });
        }
    }
    let pairs = known.pins().flat_map(|a| found.pins().map(move |b| (a, b)));
    let mut pairs = pairs.filter(|(a, b): &(Position, Position)| a.contradicts(b));
    match pairs.next() {
        None => Ok(()),
        Some((known, found)) => Err(UpdateError::Fork {
            chain_id,
            found: found.height,
            known: known.height,
        }),
    }
}
