//! What a node hands out of a lottery: one applicant's proof.
//!
//! What holds here: every part is read from one consistent state and checks against one map root.
//! What stays out: the checkpoint, which the serving view adds.

use bytes::Bytes;
use cairn_proto::v1;
use prost::Message;

use super::roster::{Columns, Row};
use super::{
    ATTEMPT_NAMESPACE, BRIEF_NAMESPACE, NAMESPACE, PLACE_NAMESPACE, attempt_key, index, place_key,
    recompute,
};
use crate::hash::Hash;
use crate::log::{self, LogError, TreeId};
use crate::state::{StateError, StateRead};
use crate::{map, rooms};

/// Why no proof could be made, where lottery and serial exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    /// The state could not be read: an operator has to look.
    #[error(transparent)]
    State(#[from] StateError),
    /// A tree lacks what the lottery's state says it has.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The proof of the row `serial`, without a checkpoint and what leads to its members; none where there is no such lottery or row.
/// `map_root` is the root of the map in this very `state`.
pub fn prove_applicant<S: StateRead + ?Sized>(
    state: &S,
    map_root: &Hash,
    lottery_id: &Hash,
    serial: u64,
) -> Result<Option<v1::ApplicantProof>, ProveError> {
    let Some(lottery) = lottery(state, lottery_id)? else {
        return Ok(None);
    };
    if serial >= lottery.rows {
        return Ok(None);
    }
    let (row, path) = row(state, lottery_id, serial, lottery.rows)?;
    let (rank, ranking_inclusion, place) =
        match rank(state, lottery_id, &lottery, serial, row.tier)? {
            Some((rank, path)) => {
                let place = place_key(lottery_id, lottery.attempt, serial);
                let place = map::map_key(PLACE_NAMESPACE, &place);
                let place = map::prove(state, map_root, &place)?;
                (rank, Some(inclusion(rank, &path)), Some(place))
            }
            None => (0, None, None),
        };
    let key = map::map_key(BRIEF_NAMESPACE, lottery_id.as_bytes());
    Ok(Some(v1::ApplicantProof {
        lottery_id: lottery_id.to_bytes(),
        serial,
        commitment: Bytes::copy_from_slice(&row.commitment),
        tag: Bytes::copy_from_slice(&row.tag),
        tier: row.tier,
        weight: row.weight,
        roster_inclusion: Some(inclusion(serial, &path)),
        lottery: Some(map::prove(state, map_root, &key)?),
        rank,
        ranking_inclusion,
        checkpoint: None,
        epoch_changes: Vec::new(),
        place,
    }))
}

/// A lottery's state.
pub fn lottery<S: StateRead + ?Sized>(
    state: &S,
    lottery_id: &Hash,
) -> Result<Option<v1::LotteryState>, StateError> {
    let key = map::map_key(NAMESPACE, lottery_id.as_bytes());
    kept(state, lottery_id, &key)
}

/// A lottery's state as it was when `attempt` was voided.
pub fn voided_attempt<S: StateRead + ?Sized>(
    state: &S,
    lottery_id: &Hash,
    attempt: u32,
) -> Result<Option<v1::LotteryState>, StateError> {
    let key = map::map_key(ATTEMPT_NAMESPACE, &attempt_key(lottery_id, attempt));
    kept(state, lottery_id, &key)
}

fn kept<S: StateRead + ?Sized>(
    state: &S,
    lottery_id: &Hash,
    key: &Hash,
) -> Result<Option<v1::LotteryState>, StateError> {
    let value = map::get(state, key)?;
    let decoded = value.map(v1::LotteryState::decode).transpose();
    decoded.map_err(|error| corrupt(lottery_id, error.to_string()))
}

/// The lotteries opened at or after leaf `from`, oldest first, at most `limit`: each with the leaf
/// at which it was opened.
pub fn lotteries<S: StateRead + ?Sized>(
    state: &S,
    from: u64,
    limit: usize,
) -> Result<Vec<(u64, Hash)>, StateError> {
    let prefix = [rooms::LOTTERY_INDEX];
    let from = rooms::key(rooms::LOTTERY_INDEX, &[&from.to_be_bytes()]);
    let parse = |(key, value): (Bytes, Bytes)| {
        let leaf = key.get(1..).and_then(|k| k.try_into().ok());
        let id = Hash::from_slice(&value);
        match (leaf.map(u64::from_be_bytes), id) {
            (Some(leaf), Some(id)) => Ok((leaf, id)),
            _ => Err(StateError::Corrupt {
                place: "the index of lotteries".to_owned(),
                detail: hex::encode(key),
            }),
        }
    };
    let page = state.scan(&prefix, &from, limit)?;
    page.into_iter().map(parse).collect()
}

/// The first rank at which a batch is not the draw's, for those who ask why it was refused; none
/// where it is the draw's, or where there is no such lottery, attempt, draw or tier.
pub fn first_difference<S: StateRead + ?Sized>(
    state: &S,
    lottery_id: &Hash,
    batch: &v1::BatchResult,
) -> Result<Option<u64>, StateError> {
    let Some(lottery) = lottery(state, lottery_id)? else {
        return Ok(None);
    };
    if lottery.attempt != batch.attempt {
        return Ok(None);
    }
    let rules = lottery.rules.unwrap_or_default();
    let tier = usize::try_from(batch.tier).unwrap_or(usize::MAX);
    let Some(result) = lottery.results.get(tier) else {
        return Ok(None);
    };
    let ranks = match rules.full_ranking {
        true => result.entrants,
        false => result.winners,
    };
    let per_batch = u64::from(rules.rows_per_batch);
    let first = u64::from(batch.batch) * per_batch;
    let count = per_batch.min(ranks.saturating_sub(first)) as usize;
    let (attempt, tier) = (batch.attempt, batch.tier);
    let drawn = index::ranking_slice(state, lottery_id, attempt, tier, first, count)?;
    let most = drawn.len().max(batch.serials.len());
    let differs = (0..most).find(|at| drawn.get(*at) != batch.serials.get(*at));
    Ok(differs.map(|at| first + at as u64))
}

/// The row `serial`, out of the body of its chunk's entry, and its path in the roster of `rows` rows.
fn row<S: StateRead + ?Sized>(
    state: &S,
    lottery_id: &Hash,
    serial: u64,
    rows: u64,
) -> Result<(Row, Vec<Hash>), ProveError> {
    let missing = |what: &str| corrupt(lottery_id, format!("serial {serial}: no {what}"));
    let record = index::chunk_of(state, lottery_id, serial)?.ok_or_else(|| missing("chunk"))?;
    let leaf = rooms::key(rooms::LEAF, &[&record.leaf_index.to_be_bytes()]);
    let place = state.get(&leaf)?.ok_or_else(|| missing("leaf"))?;
    let entry = rooms::key(rooms::ENTRY, &[&place]);
    let entry = state.get(&entry)?.ok_or_else(|| missing("entry"))?;
    let unreadable = |e: prost::DecodeError| corrupt(lottery_id, e.to_string());
    let entry = v1::SignedEntry::decode(entry).map_err(unreadable)?;
    let chunk = v1::RosterChunk::decode(entry.body).map_err(unreadable)?;
    // Apply checked the tiers; here any tier passes.
    let columns =
        Columns::of(&chunk, usize::MAX).map_err(|e| corrupt(lottery_id, e.to_string()))?;
    let row_at = |serial: u64| {
        let within = serial.checked_sub(record.first_serial)?;
        columns.row(usize::try_from(within).ok()?)
    };
    let row = row_at(serial).ok_or_else(|| missing("row"))?;
    let tree = TreeId::roster(lottery_id);
    let leaf = |serial: u64| row_at(serial).map(|row| row.leaf_hash());
    let path = log::inclusion_proof_from(state, &tree, serial, rows, leaf)?;
    Ok((row, path))
}

fn rank<S: StateRead + ?Sized>(
    state: &S,
    lottery_id: &Hash,
    lottery: &v1::LotteryState,
    serial: u64,
    tier: u32,
) -> Result<Option<(u64, Vec<Hash>)>, ProveError> {
    let missing = |what| corrupt(lottery_id, format!("serial {serial}: no {what}"));
    if lottery.seed.is_empty() {
        return Ok(None);
    }
    let rank = index::rank_of(state, lottery_id, lottery.attempt, serial)?;
    let rank = u64::from(rank.ok_or_else(|| missing("rank"))?);
    let result = lottery.results.get(tier as usize);
    let entrants = result.ok_or_else(|| missing("result"))?.entrants;
    // Those whose leaves lie in one tile with its own.
    let first = rank - rank % log::TILE_LEAVES;
    let count = log::TILE_LEAVES as usize;
    let beside = index::ranking_slice(state, lottery_id, lottery.attempt, tier, first, count)?;
    let leaf = |rank: u64| {
        let within = usize::try_from(rank.checked_sub(first)?).ok()?;
        beside
            .get(within)
            .map(|serial| recompute::ranking_leaf(*serial))
    };
    let tree = TreeId::ranking(lottery_id, lottery.attempt, tier);
    let path = log::inclusion_proof_from(state, &tree, rank, entrants, leaf)?;
    Ok(Some((rank, path)))
}

fn inclusion(leaf_index: u64, path: &[Hash]) -> v1::InclusionProof {
    v1::InclusionProof {
        leaf_index,
        path: path.iter().map(|hash| hash.to_bytes()).collect(),
    }
}

fn corrupt(lottery_id: &Hash, detail: String) -> StateError {
    StateError::Corrupt {
        place: format!("lottery {lottery_id}"),
        detail,
    }
}
