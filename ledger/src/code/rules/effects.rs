//! What a complete order does to its codes: all or nothing, or code by code.
//!
//! What holds here: the chunks are read again from the entries that hold them, and all codes with one
//! read; nothing is written. The same walk names the code that stopped an order.

use bytes::Bytes;
use cairn_proto::v1::{self, OrderMode, RejectReason};
use prost::Message;

use super::check_ins::decode;
use super::orders::order_of;
use super::{Stop, require};
use crate::code::{NAMESPACE, ORDER_NAMESPACE, Refused, change_leaf, history, refused_root};
use crate::hash::Hash;
use crate::state::{StateError, StateRead};
use crate::{apply, canonical, log, map};

/// What an order makes of its codes.
pub(super) struct Effects {
    pub changed: Vec<Changed>,
    pub outcome: v1::OrderEffect,
}

/// A code that changes.
pub(super) struct Changed {
    /// Its key in the map.
    pub key: Hash,
    /// What the map will hold.
    pub value: Bytes,
    /// The sequence and the state that it had.
    pub sequence: u64,
    pub replaced: v1::ReplacedState,
}

/// One change of an order, and what the map has of its code.
struct Change<'a> {
    code: &'a [u8; 32],
    /// Its key in the map.
    key: Hash,
    expected: u64,
    chunk: &'a v1::StatusChunk,
    before: Option<(v1::CodeState, Bytes)>,
}

/// Goes over all changes of an order whose last chunk is `last`, in order.
fn each_change<S: StateRead + ?Sized>(
    state: &S,
    read: impl Fn(&[Hash]) -> Result<Vec<Option<Bytes>>, StateError>,
    order: &v1::OrderState,
    last: &v1::StatusChunk,
    mut visit: impl FnMut(Change<'_>),
) -> Result<(), StateError> {
    let earlier = order.chunk_leaves.iter().map(|leaf| chunk_at(state, *leaf));
    let earlier: Vec<v1::StatusChunk> = earlier.collect::<Result<_, _>>()?;
    let chunks = || earlier.iter().chain([last]);
    let codes = chunks().flat_map(|chunk| chunk.codes.as_chunks::<32>().0);
    let keys: Vec<Hash> = codes.map(|code| map::map_key(NAMESPACE, code)).collect();
    let mut values = keys.iter().zip(read(&keys)?);
    for chunk in chunks() {
        let codes = chunk.codes.as_chunks::<32>().0.iter();
        let changes = codes.zip(&chunk.expected_sequences).zip(&mut values);
        for ((code, expected), (key, value)) in changes {
            let before = match value {
                Some(value) => Some((decode(code, &value)?, value)),
                None => None,
            };
            visit(Change {
                code,
                key: *key,
                expected: *expected,
                chunk,
                before,
            });
        }
    }
    Ok(())
}

/// Why this change cannot be made, or the state before it with its bytes.
fn judge(region: &str, change: Change<'_>) -> Result<(v1::CodeState, Bytes), Refused> {
    let found = change.before.as_ref().map(|(state, _)| state.sequence);
    let refused = |reason| Refused {
        code: *change.code,
        expected: change.expected,
        found,
        reason,
    };
    let before = change.before.ok_or(refused(RejectReason::CodeUnknown))?;
    if before.0.region != region {
        return Err(refused(RejectReason::CodeOtherRegion));
    }
    if before.0.sequence != change.expected {
        return Err(refused(RejectReason::CodeStaleSequence));
    }
    Ok(before)
}

/// What hides the state that a chunk replaces of a code.
fn blind(chunk: &v1::StatusChunk, code: &[u8; 32]) -> Bytes {
    // A chunk without one was not accepted.
    let of_chunk: &[u8; 32] = chunk.blind[..].try_into().unwrap_or(&[0; 32]);
    history::blind(of_chunk, code).to_bytes()
}

/// What the order of `state` does with `last` as its last chunk.
pub(super) fn of_order<S: StateRead + ?Sized>(
    entries: &S,
    read: impl Fn(&[Hash]) -> Result<Vec<Option<Bytes>>, StateError>,
    state: &v1::OrderState,
    last: &v1::StatusChunk,
    now_ms: u64,
) -> Result<Effects, Stop> {
    let order = order_of(state)?;
    let count = order.count as usize;
    let (mut leaves, mut changed) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut refused: Vec<Refused> = Vec::new();
    each_change(entries, read, state, last, |change| {
        leaves.push(change_leaf(change.code, change.expected));
        let (code, key, chunk) = (*change.code, change.key, change.chunk);
        match judge(&order.region, change) {
            Ok((before, state)) => {
                let replaced = v1::ReplacedState {
                    state,
                    blind: blind(chunk, &code),
                };
                let sequence = before.sequence;
                let after = v1::CodeState {
                    status: order.status,
                    sequence: sequence + 1,
                    previous: history::link(&replaced).to_bytes(),
                    valid_from_ms: now_ms,
                    lapses_at_ms: order.lapses_at_ms,
                    on_lapse: order.on_lapse,
                    order_id: last.order_id.clone(),
                    check_ins: 0,
                    last_check_in_day: 0,
                    released_at_leaf: 0,
                    ..before
                };
                changed.push(Changed {
                    key,
                    value: canonical::encode(&after),
                    sequence,
                    replaced,
                });
            }
            Err(why) => refused.push(why),
        }
    })?;
    require(
        order.changes_root == log::root_of(&leaves).0[..],
        RejectReason::OrderMismatch,
    )?;
    if let (OrderMode::AllOrNothing, Some(first)) = (order.mode(), refused.first()) {
        return Err(first.reason.into());
    }
    let root = match refused.is_empty() {
        true => Bytes::new(),
        false => refused_root(&refused).to_bytes(),
    };
    Ok(Effects {
        outcome: v1::OrderEffect {
            changed: changed.len() as u32,
            refused: refused.len() as u32,
            refused_root: root,
            timestamp_ms: now_ms,
        },
        changed,
    })
}

/// The first code that keeps an order from taking effect with `last`, for whoever handed that chunk
/// in; none where the state has no such order, or every code would take its change.
pub fn first_refused<S: StateRead + ?Sized>(
    state: &S,
    last: &v1::StatusChunk,
) -> Result<Option<Refused>, StateError> {
    let key = map::map_key(ORDER_NAMESPACE, &last.order_id);
    let Some(value) = map::get(state, &key)? else {
        return Ok(None);
    };
    let order = v1::OrderState::decode(value).map_err(|error| StateError::Corrupt {
        place: format!("the map's value of order {}", hex::encode(&last.order_id)),
        detail: error.to_string(),
    })?;
    let region = &order_of(&order)?.region;
    let read = |keys: &[Hash]| map::get_many(state, keys);
    let mut first = None;
    each_change(state, read, &order, last, |change| {
        if first.is_none() {
            first = judge(region, change).err();
        }
    })?;
    Ok(first)
}

/// The body of a chunk that was accepted before.
fn chunk_at<S: StateRead + ?Sized>(
    state: &S,
    leaf_index: u64,
) -> Result<v1::StatusChunk, StateError> {
    let lost = |detail: String| StateError::Corrupt {
        place: format!("the status chunk at leaf {leaf_index}"),
        detail,
    };
    let signed = apply::signed_entry(state, leaf_index)?;
    let signed = signed.ok_or_else(|| lost("no entry".to_owned()))?;
    v1::StatusChunk::decode(signed.body).map_err(|error| lost(error.to_string()))
}
