//! All that an authority did, in a log of its own, and the proof that nothing of a time is left out.
//!
//! What holds here: whatever a rule accepts of an authority's orders, effects and issues, and of its
//! mandates, is a leaf of its log, stamped with the block's time; times never go back, so the leaves
//! from the last one before a window to the first one behind it hold the whole window. The counters
//! follow from the leaves. What stays out: refused entries, which stand in their blocks with their
//! outcomes.

use std::collections::BTreeMap;
use std::ops::Range;

use cairn_proto::v1::{self, ActKind};
use prost::Message;

use super::{ACTS_OF_NAMESPACE, COUNTER_NAMESPACE, DAY_MS, counter_key};
use crate::apply::Ctx;
use crate::hash::Hash;
use crate::log::{self, LogError, ProofError, TreeId};
use crate::state::{StateError, StateRead};
use crate::{canonical, map, rooms};

/// An act of this block, by the entry at `leaf_index`.
pub(super) fn act<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    kind: ActKind,
    leaf_index: u64,
) -> v1::AuthorityAct {
    v1::AuthorityAct {
        kind: kind as i32,
        leaf_index,
        height: ctx.height,
        timestamp_ms: ctx.timestamp_ms,
        ..Default::default()
    }
}

/// Puts `act` behind the acts of `authority`.
pub(super) fn append<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    authority: &[u8],
    act: &v1::AuthorityAct,
) -> Result<(), StateError> {
    let tree = tree_of(authority)?;
    let past: Option<v1::AuthorityLog> = ctx.map_message(ACTS_OF_NAMESPACE, authority)?;
    let size = past.unwrap_or_default().size;
    let data = canonical::encode(act);
    let root = log::append(ctx.state, &tree, size, &[log::leaf_hash(&data)])?;
    ctx.state.put(act_key(authority, size), data);
    let log = v1::AuthorityLog {
        size: size + 1,
        root: root.to_bytes(),
    };
    ctx.map_put(ACTS_OF_NAMESPACE, authority, canonical::encode(&log));
    Ok(())
}

/// Counts `act`, an order or its effect, on the day of its block.
pub(super) fn count<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    authority: &[u8],
    act: &v1::AuthorityAct,
) -> Result<(), StateError> {
    let key = counter_key(authority, act.timestamp_ms / DAY_MS, &act.reason);
    let before: Option<v1::OrderCounter> = ctx.map_message(COUNTER_NAMESPACE, &key)?;
    let after = add(&before.unwrap_or_default(), act);
    ctx.map_put(COUNTER_NAMESPACE, &key, canonical::encode(&after));
    Ok(())
}

fn add(counter: &v1::OrderCounter, act: &v1::AuthorityAct) -> v1::OrderCounter {
    let mut counter = *counter;
    match act.kind() {
        ActKind::Ordered => counter.orders += 1,
        ActKind::TookEffect => {
            counter.changed += u64::from(act.codes);
            counter.refused += u64::from(act.refused);
        }
        _ => {}
    }
    counter
}

/// What the counters of an authority must be by its acts: by day and reason.
pub fn tally<'a>(
    acts: impl IntoIterator<Item = &'a v1::AuthorityAct>,
) -> BTreeMap<(u64, String), v1::OrderCounter> {
    let mut counters = BTreeMap::new();
    for act in acts {
        if matches!(act.kind(), ActKind::Ordered | ActKind::TookEffect) {
            let key = (act.timestamp_ms / DAY_MS, act.reason.clone());
            let counter = counters.entry(key).or_default();
            *counter = add(counter, act);
        }
    }
    counters
}

fn tree_of(authority: &[u8]) -> Result<TreeId, StateError> {
    let key = authority.try_into().map_err(|_| StateError::Corrupt {
        place: "an author".to_owned(),
        detail: "the public key is not 32 bytes".to_owned(),
    })?;
    Ok(TreeId::acts_of(key))
}

fn act_key(authority: &[u8], index: u64) -> Vec<u8> {
    rooms::key(rooms::ACT, &[authority, &index.to_be_bytes()])
}

fn corrupt(authority: &[u8], detail: impl ToString) -> StateError {
    StateError::Corrupt {
        place: format!("the acts of {}", hex::encode(authority)),
        detail: detail.to_string(),
    }
}

/// The log of an authority that has done nothing.
pub fn nothing() -> v1::AuthorityLog {
    v1::AuthorityLog {
        size: 0,
        root: log::empty_root().to_bytes(),
    }
}

/// The log of `authority`, as the map has it.
pub fn log_of<S: StateRead + ?Sized>(
    state: &S,
    authority: &[u8],
) -> Result<v1::AuthorityLog, StateError> {
    let value = map::get(state, &map::map_key(ACTS_OF_NAMESPACE, authority))?;
    let decoded = value.map(v1::AuthorityLog::decode).transpose();
    let decoded = decoded.map_err(|error| corrupt(authority, error))?;
    Ok(decoded.unwrap_or_else(nothing))
}

fn act_at<S: StateRead + ?Sized>(
    state: &S,
    authority: &[u8],
    index: u64,
) -> Result<v1::AuthorityAct, StateError> {
    let record = state.get(&act_key(authority, index))?;
    let record = record.ok_or_else(|| corrupt(authority, format!("act {index} is missing")))?;
    v1::AuthorityAct::decode(record).map_err(|error| corrupt(authority, error))
}

/// The place of the first act of `authority` at `from_ms` or later, below `size`.
fn first_since<S: StateRead + ?Sized>(
    state: &S,
    authority: &[u8],
    size: u64,
    from_ms: u64,
) -> Result<u64, StateError> {
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        if act_at(state, authority, middle)?.timestamp_ms < from_ms {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The acts at the places `range` in the log of `authority`, with what shows them whole.
pub fn prove<S: StateRead + ?Sized>(
    state: &S,
    authority: &[u8],
    range: Range<u64>,
) -> Result<v1::ActRange, LogError> {
    let size = log_of(state, authority)?.size;
    let tree = tree_of(authority)?;
    let (before, after) = log::prove_range(state, &tree, range.clone(), size)?;
    let hashes = |roots: Vec<Hash>| roots.into_iter().map(Hash::to_bytes).collect();
    let acts = range
        .clone()
        .map(|index| act_at(state, authority, index))
        .collect::<Result<_, _>>()?;
    Ok(v1::ActRange {
        first_index: range.start,
        acts,
        before: hashes(before),
        after: hashes(after),
    })
}

/// Where the acts of `authority` from `from_ms` on and before `to_ms` lie in its log, with the one
/// before and the one behind.
pub fn window<S: StateRead + ?Sized>(
    state: &S,
    authority: &[u8],
    from_ms: u64,
    to_ms: u64,
) -> Result<Range<u64>, StateError> {
    let size = log_of(state, authority)?.size;
    let first = first_since(state, authority, size, from_ms)?;
    let end = first_since(state, authority, size, to_ms.max(from_ms))?;
    Ok(first.saturating_sub(1)..size.min(end.saturating_add(1)))
}

/// All acts of `authority` from `from_ms` on and before `to_ms`, with what shows them whole.
pub fn prove_window<S: StateRead + ?Sized>(
    state: &S,
    authority: &[u8],
    from_ms: u64,
    to_ms: u64,
) -> Result<v1::ActRange, LogError> {
    prove(state, authority, window(state, authority, from_ms, to_ms)?)
}

/// Why a range of acts does not show the whole window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Later blocks may still add to it: end the window right behind the checkpoint's time at the
    /// latest.
    #[error("the window ends at {to_ms}, the checkpoint is of {as_of_ms}: take a newer one")]
    NotOver {
        /// The window's end.
        to_ms: u64,
        /// The checkpoint's time.
        as_of_ms: u64,
    },
    /// An act is left out, added or altered, or the proof is for another log.
    #[error("the acts are not those of the authority's log: {0}")]
    Proof(#[from] ProofError),
    /// No node's log has times or leaves that go back.
    #[error("act {0} of the log does not follow the one before it")]
    Backwards(u64),
    /// What comes before the first act shown may belong to the window.
    #[error("the act before the window is not shown: ask for the one at place {0}")]
    NoneBefore(u64),
    /// What comes behind the last act shown may belong to the window.
    #[error("the act behind the window is not shown: ask for the one at place {0}")]
    NoneBehind(u64),
}

/// The acts from `from_ms` on and before `to_ms`, if `shown` has all of them. `log` is the map's
/// value of the authority, or [`nothing`] where its absence is proven, under a verified checkpoint of
/// the time `as_of_ms`. A window that ends one millisecond behind that has all acts of this
/// checkpoint; later blocks of the very same millisecond may add some.
pub fn verify_window<'a>(
    log: &v1::AuthorityLog,
    as_of_ms: u64,
    from_ms: u64,
    to_ms: u64,
    shown: &'a v1::ActRange,
) -> Result<&'a [v1::AuthorityAct], WindowError> {
    if to_ms > as_of_ms.saturating_add(1) {
        return Err(WindowError::NotOver { to_ms, as_of_ms });
    }
    let root = log::read_path(std::slice::from_ref(&log.root))?;
    let leaf = |act| log::leaf_hash(&canonical::encode(act));
    let leaves: Vec<Hash> = shown.acts.iter().map(leaf).collect();
    log::verify_range(
        &leaves,
        shown.first_index,
        log.size,
        &log::read_path(&shown.before)?,
        &log::read_path(&shown.after)?,
        &root[0],
    )?;
    let acts = &shown.acts;
    let ascend = |pair: &[v1::AuthorityAct]| {
        pair[0].leaf_index < pair[1].leaf_index && pair[0].timestamp_ms <= pair[1].timestamp_ms
    };
    if let Some(at) = acts.windows(2).position(|pair| !ascend(pair)) {
        return Err(WindowError::Backwards(shown.first_index + at as u64 + 1));
    }
    let earlier = acts.first().is_some_and(|act| act.timestamp_ms < from_ms);
    if shown.first_index > 0 && !earlier {
        return Err(WindowError::NoneBefore(shown.first_index - 1));
    }
    let end = shown.first_index + acts.len() as u64;
    let later = acts.last().is_some_and(|act| act.timestamp_ms >= to_ms);
    if end < log.size && !later {
        return Err(WindowError::NoneBehind(end));
    }
    let from = acts.partition_point(|act| act.timestamp_ms < from_ms);
    let to = acts.partition_point(|act| act.timestamp_ms < to_ms);
    Ok(&acts[from..to.max(from)])
}
