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
use crate::code::{NAMESPACE, ORDER_NAMESPACE, Refused, change_leaf, refused_root};
use crate::hash::Hash;
use crate::state::{StateError, StateRead};
use crate::{apply, canonical, log, map};

/// What an order makes of its codes.
pub(super) struct Effects {
    /// The codes that change, with what the map will hold.
    pub changed: Vec<([u8; 32], Bytes)>,
    pub outcome: v1::OrderEffect,
}

/// Code, expected sequence, and the state that the map has.
type Change<'a> = (&'a [u8; 32], u64, Option<v1::CodeState>);

/// Goes over all changes of an order whose last chunk is `last`, in order.
fn each_change<S: StateRead + ?Sized>(
    state: &S,
    read: impl Fn(&[[u8; 32]]) -> Result<Vec<Option<Bytes>>, StateError>,
    order: &v1::OrderState,
    last: &v1::StatusChunk,
    mut visit: impl FnMut(Change<'_>),
) -> Result<(), StateError> {
    let count = order.received as usize + last.expected_sequences.len();
    let (mut codes, mut expected) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut take = |chunk: &v1::StatusChunk| {
        codes.extend_from_slice(chunk.codes.as_chunks::<32>().0);
        expected.extend_from_slice(&chunk.expected_sequences);
    };
    for leaf in &order.chunk_leaves {
        take(&chunk_at(state, *leaf)?);
    }
    take(last);
    for ((code, expected), value) in codes.iter().zip(expected).zip(read(&codes)?) {
        let before = value.map(|value| decode(code, &value)).transpose()?;
        visit((code, expected, before));
    }
    Ok(())
}

/// Why this change cannot be made, or the state before it.
fn judge(region: &str, change: Change<'_>) -> Result<v1::CodeState, Refused> {
    let (code, expected, before) = change;
    let found = before.as_ref().map(|state| state.sequence);
    let refused = |reason| Refused {
        code: *code,
        expected,
        found,
        reason,
    };
    let before = before.ok_or(refused(RejectReason::CodeUnknown))?;
    if before.region != region {
        return Err(refused(RejectReason::CodeOtherRegion));
    }
    if before.sequence != expected {
        return Err(refused(RejectReason::CodeStaleSequence));
    }
    Ok(before)
}

/// What the order of `state` does with `last` as its last chunk.
pub(super) fn of_order<S: StateRead + ?Sized>(
    entries: &S,
    read: impl Fn(&[[u8; 32]]) -> Result<Vec<Option<Bytes>>, StateError>,
    state: &v1::OrderState,
    last: &v1::StatusChunk,
    now_ms: u64,
) -> Result<Effects, Stop> {
    let order = order_of(state)?;
    let count = order.count as usize;
    let (mut leaves, mut changed) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut refused: Vec<Refused> = Vec::new();
    each_change(entries, read, state, last, |change| {
        let (code, expected, _) = change;
        leaves.push(change_leaf(code, expected));
        let code = *code;
        match judge(&order.region, change) {
            Ok(before) => {
                let after = v1::CodeState {
                    status: order.status,
                    sequence: before.sequence + 1,
                    valid_from_ms: now_ms,
                    lapses_at_ms: order.lapses_at_ms,
                    on_lapse: order.on_lapse,
                    order_id: last.order_id.clone(),
                    check_ins: 0,
                    last_check_in_day: 0,
                    released_at_leaf: 0,
                    ..before
                };
                changed.push((code, canonical::encode(&after)));
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
    let read = |codes: &[[u8; 32]]| {
        let keys: Vec<Hash> = codes
            .iter()
            .map(|code| map::map_key(NAMESPACE, code))
            .collect();
        map::get_many(state, &keys)
    };
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
