//! The trust file: what a verifier with no network knows of the members, from the genesis on.
//!
//! What holds here: a file is believed only as far as it proves itself from its ledgers' genesis
//! hashes: every change of members certified by the members before, then the newest checkpoint by
//! the members of today. A file takes the place of an older one only if it goes on where that one
//! stood ([`Trust::updated`]). Its end lies within a bound of what the members signed, so that an
//! edit cannot make an old file last. What stays out: which ledgers count and for what, which the
//! gate's policy says ([`crate::pass::gate`]); and who may hand a file over: the first one is trusted
//! as it is, compare its chain id.

mod refusals;
mod update;

use std::collections::BTreeSet;

use bytes::Bytes;
use cairn_proto::v1;

use crate::canonical::{self, CanonicalError};
use crate::checkpoint::{CertifiedCheckpoint, CertifyError};
use crate::epochs::{EpochError, Epochs};
use crate::genesis::{Chain, GenesisError};
use crate::hash::Hash;
use crate::pass::{ChainTag, chain_tag};

pub use refusals::{Refusals, RefusalsError};
pub use update::UpdateError;

/// What a trust file begins with.
const FILE_MAGIC: &[u8] = b"cairn-trust-v1\n";
/// Ledgers in one file: each takes a few kilobytes, and a pass names its own by four bytes.
pub const MAX_LEDGERS: usize = 64;
/// How long after its newest checkpoint a file may last. Long enough for a gate that nobody visits
/// in a year; who leaves the institutions can sign passes for its old keys no longer than that.
pub const MAX_LIFETIME_MS: u64 = 366 * 86_400_000;

/// Why a trust file is refused. Export it once more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Something else.
    #[error("this is no trust file: it does not begin with the line cairn-trust-v1")]
    NotATrustFile,
    /// Cut short or edited.
    #[error("the trust file is cut short or was edited: {0}")]
    Damaged(#[from] CanonicalError),
    /// Too few or too many ledgers, or in another order, or two that a pass cannot tell apart.
    #[error("the trust file's ledgers: {0}")]
    Ledgers(&'static str),
    /// A genesis that is none.
    #[error("ledger {at} of the trust file: {error}")]
    Genesis {
        /// Which ledger, from 0.
        at: usize,
        /// Why not.
        error: GenesisError,
    },
    /// Members that do not follow from the genesis.
    #[error("the trust file, ledger {chain_id}: {error}")]
    Members {
        /// Which ledger.
        chain_id: Hash,
        /// Why not.
        error: EpochError,
    },
    /// The newest checkpoint is not certified.
    #[error("the trust file, ledger {chain_id}, newest checkpoint: {error}")]
    Certificate {
        /// Which ledger.
        chain_id: Hash,
        /// Why not.
        error: CertifyError,
    },
    /// Certified headers that cannot be of one history.
    #[error(
        "the trust file, ledger {chain_id}: the certified blocks {first} and {second} contradict \
         each other; keep the file: it is evidence of a fork"
    )]
    Fork {
        /// Which ledger.
        chain_id: Hash,
        /// A height.
        first: u64,
        /// Another one, or the same.
        second: u64,
    },
    /// Refusals to recognise orders that are not proven.
    #[error("the trust file's refusals: {0}")]
    Refusals(#[from] RefusalsError),
    /// An end that nobody signed for.
    #[error(
        "the trust file would last until {not_after_ms}, later than {latest_ms}, which is {} days after its newest checkpoint",
        MAX_LIFETIME_MS / 86_400_000
    )]
    Lifetime {
        /// Its end, milliseconds since 1970.
        not_after_ms: u64,
        /// The latest end.
        latest_ms: u64,
    },
}

/// Where a certified header stands, as far as another one can contradict it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) height: u64,
    pub(crate) hash: Hash,
    pub(crate) epoch: u64,
    pub(crate) timestamp_ms: u64,
    pub(crate) tree_size: u64,
    /// Whether it ends its epoch.
    pub(crate) changes_members: bool,
}

impl Position {
    pub(crate) fn of(certified: &CertifiedCheckpoint) -> Position {
        let header = certified.header();
        Position {
            height: header.height,
            hash: certified.header_hash(),
            epoch: header.epoch,
            timestamp_ms: header.timestamp_ms,
            tree_size: header.tree_size,
            changes_members: header.next_members_hash != header.members_hash,
        }
    }

    /// Whether no history has both. Two that do not contradict each other may still be of two.
    pub(crate) fn contradicts(&self, other: &Position) -> bool {
        if self.height == other.height {
            return self.hash != other.hash;
        }
        let (first, second) = match self.height < other.height {
            true => (self, other),
            false => (other, self),
        };
        let epoch = first.epoch.saturating_add(first.changes_members.into());
        epoch > second.epoch
            || first.timestamp_ms > second.timestamp_ms
            || first.tree_size > second.tree_size
    }
}

/// The end of an epoch: the block that brought the next members in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EpochEnd {
    pub(crate) position: Position,
    /// When the set before it last said that it is the latest.
    pub(crate) latest_as_of_ms: u64,
}

/// One ledger's members, and its newest known checkpoint.
#[derive(Debug, Clone)]
pub struct TrustedLedger {
    chain: Chain,
    epochs: Epochs,
    /// By epoch.
    ends: Vec<EpochEnd>,
    newest: CertifiedCheckpoint,
}

impl TrustedLedger {
    /// The ledger.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Who certifies, and who did.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// The newest checkpoint that the file holds.
    pub fn newest(&self) -> &CertifiedCheckpoint {
        &self.newest
    }

    pub(crate) fn tag(&self) -> ChainTag {
        chain_tag(&self.chain.id)
    }

    /// The end of `epoch`, where another one followed it.
    pub(crate) fn end_of(&self, epoch: u64) -> Option<&EpochEnd> {
        self.ends.get(usize::try_from(epoch).ok()?)
    }

    /// All that a header of this ledger must agree with.
    pub(crate) fn pins(&self) -> impl Iterator<Item = Position> + '_ {
        let ends = self.ends.iter().map(|end| end.position);
        ends.chain([Position::of(&self.newest)])
    }

    fn read(at: usize, file: &v1::TrustedLedger) -> Result<TrustedLedger, TrustError> {
        let chain = Chain::from_bytes(&file.genesis);
        let chain = chain.map_err(|error| TrustError::Genesis { at, error })?;
        let chain_id = chain.id;
        let members = |error| TrustError::Members { chain_id, error };
        let certificate = |error| TrustError::Certificate { chain_id, error };
        let epochs = Epochs::follow(&chain, &file.epoch_changes).map_err(members)?;
        let mut ends = Vec::with_capacity(file.epoch_changes.len());
        for change in &file.epoch_changes {
            let checkpoint = change.checkpoint.clone().unwrap_or_default();
            let certified = epochs.certify(&checkpoint).map_err(certificate)?;
            ends.push(EpochEnd {
                position: Position::of(&certified),
                latest_as_of_ms: certified.latest_as_of_ms(),
            });
        }
        let checkpoint = file.checkpoint.as_ref();
        let checkpoint = checkpoint.ok_or_else(|| members(EpochError::Missing("checkpoint")))?;
        let newest = epochs.certify(checkpoint).map_err(certificate)?;
        let (found, epoch) = (epochs.newest().epoch, newest.header().epoch);
        if found != epoch {
            return Err(members(EpochError::WrongEnd { found, epoch }));
        }
        let ledger = TrustedLedger {
            chain,
            epochs,
            ends,
            newest,
        };
        let pins: Vec<Position> = ledger.pins().collect();
        match pins.windows(2).find(|pair| pair[0].contradicts(&pair[1])) {
            None => Ok(ledger),
            Some(pair) => Err(TrustError::Fork {
                chain_id,
                first: pair[0].height,
                second: pair[1].height,
            }),
        }
    }
}

/// A trust file that proved itself.
#[derive(Debug, Clone)]
pub struct Trust {
    file: v1::TrustFile,
    ledgers: Vec<TrustedLedger>,
    refusals: Refusals,
}

impl Trust {
    /// Believes what the file proves.
    pub fn of(file: v1::TrustFile) -> Result<Trust, TrustError> {
        if !(1..=MAX_LEDGERS).contains(&file.ledgers.len()) {
            return Err(TrustError::Ledgers("there must be 1 to 64"));
        }
        let each = file.ledgers.iter().enumerate();
        let ledgers = each.map(|(at, ledger)| TrustedLedger::read(at, ledger));
        let ledgers: Vec<_> = ledgers.collect::<Result<_, _>>()?;
        if !ledgers[1..].is_sorted_by(|a, b| a.chain.id < b.chain.id) {
            return Err(TrustError::Ledgers(
                "those behind the first must ascend by chain id, each once",
            ));
        }
        let tags: BTreeSet<ChainTag> = ledgers.iter().map(TrustedLedger::tag).collect();
        if tags.len() != ledgers.len() {
            return Err(TrustError::Ledgers("two begin with the same four bytes"));
        }
        let refusals = Refusals::read(&ledgers[0], &file.refusals)?;
        let as_of = ledgers[0].newest.latest_as_of_ms();
        let latest_ms = as_of.saturating_add(MAX_LIFETIME_MS);
        if file.not_after_ms > latest_ms {
            return Err(TrustError::Lifetime {
                not_after_ms: file.not_after_ms,
                latest_ms,
            });
        }
        Ok(Trust {
            refusals,
            ledgers,
            file,
        })
    }

    /// Reads a trust file.
    pub fn read(bytes: &[u8]) -> Result<Trust, TrustError> {
        let message = bytes.strip_prefix(FILE_MAGIC);
        Trust::of(canonical::decode(
            message.ok_or(TrustError::NotATrustFile)?,
        )?)
    }

    /// The bytes of the file.
    pub fn write(&self) -> Bytes {
        [FILE_MAGIC, &canonical::encode(&self.file)].concat().into()
    }

    /// The gate's own ledger.
    pub fn own(&self) -> &TrustedLedger {
        &self.ledgers[0]
    }

    /// All ledgers, the own one first.
    pub fn ledgers(&self) -> &[TrustedLedger] {
        &self.ledgers
    }

    /// From then on nothing is accepted with it, milliseconds since 1970.
    pub fn not_after_ms(&self) -> u64 {
        self.file.not_after_ms
    }

    /// Status orders that regions of the gate's own ledger do not recognise.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// As it travels.
    pub fn file(&self) -> &v1::TrustFile {
        &self.file
    }
}

#[cfg(test)]
mod tests;
