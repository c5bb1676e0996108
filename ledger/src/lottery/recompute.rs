//! The whole draw again, from the roster and the published parts of the seed: what rules do once
//! and auditors do as often as they like. Both call the same functions, so they cannot differ.
//!
//! What holds here: nothing is believed. The roster's root, every contribution, the beacon's round,
//! the seed, and each tier's result are computed and compared with what the lottery states. What
//! stays out: whether the lottery's state is the certified one (`check`, `verify`).

use cairn_proto::v1::{self, SeedProfile};

use super::beacon::{self, BeaconError};
use super::bls::BlsError;
use super::draw::{self, Ranking};
use super::index::Entrants;
use super::roster::Row;
use super::seed::{self, Frozen};
use crate::hash::Hash;
use crate::log;
use crate::state::StateError;

/// Where the published draw and the recomputed one part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecomputeError {
    /// Wait until the beacon's round was recorded.
    #[error("this lottery is not drawn yet")]
    NotDrawn,
    /// The lottery's state lacks a part that rules always write: it is not from a ledger.
    #[error("the lottery's state is incomplete: {0}")]
    Incomplete(&'static str),
    /// The rows are not the frozen roster. Fetch every chunk, in order.
    #[error("the roster has root {found} over {rows} rows, which is not what was frozen")]
    Roster {
        /// The root over the rows given.
        found: Hash,
        /// How many were given.
        rows: u64,
    },
    /// A contribution does not verify.
    #[error("the contribution of {institution}: {cause}")]
    Contribution {
        /// Whose.
        institution: String,
        /// What is wrong with it.
        cause: BlsError,
    },
    /// The beacon's round is not the one pinned by the close of contributions.
    #[error("the lottery pinned beacon round {stated}, its close pins {pinned}")]
    Round {
        /// In the lottery's state.
        stated: u64,
        /// Computed.
        pinned: u64,
    },
    /// The beacon's signature does not verify.
    #[error(transparent)]
    Beacon(#[from] BeaconError),
    /// The seed is not made of its published parts.
    #[error("the seed stated is not {found}, which its parts give")]
    Seed {
        /// The seed of the published parts.
        found: Hash,
    },
    /// A tier was drawn differently.
    #[error("tier {tier}: the stated result is not the one that seed and roster give")]
    Tier {
        /// Which tier.
        tier: u32,
    },
}

/// A state that was read from disk and lacks a part is corrupt.
impl From<Missing> for StateError {
    fn from(missing: Missing) -> Self {
        StateError::Corrupt {
            place: "the state of a lottery".to_owned(),
            detail: format!("no {}", missing.0),
        }
    }
}

impl From<Missing> for RecomputeError {
    fn from(missing: Missing) -> Self {
        RecomputeError::Incomplete(missing.0)
    }
}

/// A part that every lottery's state has in this stage, and this one lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing(&'static str);

pub(super) fn beacon_of(rules: &v1::LotteryOpen) -> Result<&v1::BeaconChain, Missing> {
    rules.beacon.as_ref().ok_or(Missing("beacon"))
}

/// Seed keys of those who have not contributed and were not dropped: a closed lottery waits for
/// them.
pub(super) fn awaited<'a>(rules: &'a v1::LotteryOpen, lottery: &v1::LotteryState) -> Vec<&'a [u8]> {
    let given = |key: &[u8]| lottery.contributions.iter().any(|c| c.seed_key == key);
    let dropped = |key: &[u8]| lottery.dropped.iter().any(|d| d == key);
    let keys = rules.contributors.iter().map(|c| &c.seed_key[..]);
    keys.filter(|key| !given(key) && !dropped(key)).collect()
}

pub(super) fn root_of(lottery: &v1::LotteryState) -> Result<Hash, Missing> {
    Hash::from_slice(&lottery.roster_root).ok_or(Missing("roster root"))
}

pub(super) fn frozen<'a>(
    chain_id: &'a Hash,
    lottery_id: &'a Hash,
    lottery: &'a v1::LotteryState,
    roster_root: &'a Hash,
) -> Frozen<'a> {
    Frozen {
        chain_id,
        lottery_id,
        attempt: lottery.attempt,
        roster_root,
        count: lottery.rows,
        dice: &lottery.dice,
    }
}

/// What a lottery's contributors sign.
pub fn contribution_message(
    chain_id: &Hash,
    lottery_id: &Hash,
    lottery: &v1::LotteryState,
) -> Result<Hash, RecomputeError> {
    let root = root_of(lottery)?;
    let frozen = frozen(chain_id, lottery_id, lottery, &root);
    Ok(seed::contribution_message(&frozen))
}

/// The seed of the lottery's contributions and the round's randomness, which a closed lottery lacks.
pub(super) fn seed_of(
    chain_id: &Hash,
    lottery_id: &Hash,
    lottery: &v1::LotteryState,
    randomness: Option<&[u8; 32]>,
) -> Result<Hash, Missing> {
    let rules = lottery.rules.as_ref().ok_or(Missing("rules"))?;
    let given = |key: &[u8]| -> &[u8] {
        let mut all = lottery.contributions.iter();
        all.find(|c| c.seed_key == key)
            .map_or(&[], |c| &c.signature[..])
    };
    let contributions: Vec<&[u8]> = rules
        .contributors
        .iter()
        .map(|c| given(&c.seed_key))
        .collect();
    let beacon = match randomness {
        None => None,
        Some(randomness) => Some(seed::Beacon {
            chain_hash: &beacon_of(rules)?.chain_hash,
            round: lottery.beacon_round,
            randomness,
        }),
    };
    let root = root_of(lottery)?;
    let frozen = frozen(chain_id, lottery_id, lottery, &root);
    Ok(seed::seed(&frozen, &contributions, beacon.as_ref()))
}

/// The leaf data of a ranking's tree: the serial, 8 bytes, big-endian.
pub fn ranking_leaf(serial: u64) -> Hash {
    log::leaf_hash(&serial.to_be_bytes())
}

pub(super) fn ranking_leaves(ranking: &Ranking) -> Vec<Hash> {
    ranking
        .serials()
        .map(|serial| ranking_leaf(u64::from(serial)))
        .collect()
}

/// A tier's result before its first batch.
pub(super) fn tier_result(quota: u32, ranking: &Ranking, root: &Hash) -> v1::TierResult {
    let winners = ranking.len().min(quota as usize);
    let cutoff = winners.checked_sub(1).and_then(|last| ranking.at(last));
    let (cutoff_ticket, cutoff_serial) = match cutoff {
        Some((serial, ticket)) => (ticket.to_vec().into(), u64::from(serial)),
        None => Default::default(),
    };
    v1::TierResult {
        entrants: ranking.len() as u64,
        ranking_root: root.to_bytes(),
        cutoff_ticket,
        cutoff_serial,
        batches_published: 0,
        winners: winners as u64,
        promoted_through: 0,
    }
}

/// Draws a lottery again from all `rows` of its roster, in order of serial. Gives each tier's
/// ranking, or says where the published draw differs.
pub fn recompute(
    chain_id: &Hash,
    lottery_id: &Hash,
    lottery: &v1::LotteryState,
    rows: impl IntoIterator<Item = Row>,
) -> Result<Vec<Ranking>, RecomputeError> {
    let entrants = recompute_roster(lottery, rows)?;
    redraw(chain_id, lottery_id, lottery, &entrants)
}

/// The first half of [`recompute`]: the entrants of all `rows`, in order of serial, once their
/// root and number are those that the lottery states.
pub fn recompute_roster(
    lottery: &v1::LotteryState,
    rows: impl IntoIterator<Item = Row>,
) -> Result<Entrants, RecomputeError> {
    let mut entrants = Entrants::default();
    let mut leaves = Vec::new();
    for row in rows {
        leaves.push(row.leaf_hash());
        entrants.push(row.tier, row.weight);
    }
    let found = log::root_of(&leaves);
    let rows = u64::from(entrants.rows());
    if found != root_of(lottery)? || rows != lottery.rows {
        return Err(RecomputeError::Roster { found, rows });
    }
    Ok(entrants)
}

/// The second half of [`recompute`]: seed, ranking and result of every tier.
pub fn redraw(
    chain_id: &Hash,
    lottery_id: &Hash,
    lottery: &v1::LotteryState,
    entrants: &Entrants,
) -> Result<Vec<Ranking>, RecomputeError> {
    // A voided attempt can be drawn again too, if its seed was known.
    if lottery.seed.is_empty() {
        return Err(RecomputeError::NotDrawn);
    }
    let rules = lottery.rules.as_ref().ok_or(Missing("rules"))?;
    let seed = recompute_seed(chain_id, lottery_id, lottery, rules)?;
    if lottery.results.len() != rules.tiers.len() {
        return Err(RecomputeError::Incomplete("result of every tier"));
    }
    let tiers = rules.tiers.iter().zip(&lottery.results);
    let redraw = |(tier, (rules, stated)): (u32, (&v1::Tier, &v1::TierResult))| {
        let ranking = draw::rank(&seed, tier, entrants.of_tier(tier));
        let root = log::root_of(&ranking_leaves(&ranking));
        let expected = v1::TierResult {
            batches_published: stated.batches_published,
            promoted_through: stated.promoted_through,
            ..tier_result(rules.quota, &ranking, &root)
        };
        if *stated == expected {
            Ok(ranking)
        } else {
            Err(RecomputeError::Tier { tier })
        }
    };
    (0u32..).zip(tiers).map(redraw).collect()
}

fn recompute_seed(
    chain_id: &Hash,
    lottery_id: &Hash,
    lottery: &v1::LotteryState,
    rules: &v1::LotteryOpen,
) -> Result<Hash, RecomputeError> {
    let message = contribution_message(chain_id, lottery_id, lottery)?;
    for contribution in &lottery.contributions {
        let known = rules.contributors.iter();
        let contributor = known
            .clone()
            .find(|c| c.seed_key == contribution.seed_key)
            .ok_or(RecomputeError::Incomplete("contributor of a contribution"))?;
        seed::verify_contribution(&contributor.seed_key, &message, &contribution.signature)
            .map_err(|cause| RecomputeError::Contribution {
                institution: contributor.institution.clone(),
                cause,
            })?;
    }
    let randomness = match rules.seed_profile() {
        SeedProfile::Beacon => Some(check_round(lottery, rules)?),
        SeedProfile::Closed => match awaited(rules, lottery).first() {
            None => None,
            Some(_) => return Err(RecomputeError::Incomplete("contribution of everybody")),
        },
    };
    let found = seed_of(chain_id, lottery_id, lottery, randomness.as_ref())?;
    if found.as_bytes().as_slice() == lottery.seed {
        Ok(found)
    } else {
        Err(RecomputeError::Seed { found })
    }
}

/// The pinned round's randomness.
fn check_round(
    lottery: &v1::LotteryState,
    rules: &v1::LotteryOpen,
) -> Result<[u8; 32], RecomputeError> {
    let chain = beacon_of(rules)?;
    let pinned = beacon::pinned_round(
        chain,
        lottery.contributions_close_ms,
        rules.beacon_margin_ms,
    );
    if pinned != lottery.beacon_round {
        let stated = lottery.beacon_round;
        return Err(RecomputeError::Round { stated, pinned });
    }
    Ok(beacon::verify_round(
        chain,
        pinned,
        &lottery.beacon_signature,
    )?)
}
