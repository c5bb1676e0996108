//! What a complete order does to its codes: all or nothing, or code by code.
//!
//! What holds here: the chunks are read again from the entries that hold them, and all codes with one
//! read; nothing is written. The same walk names the code that stopped an order. Codes are walked as
//! they lie in the map, which is where reading and writing them is fast; what is said of them is in the
//! order's own order.

use bytes::Bytes;
use cairn_proto::v1::{self, OrderMode, RejectReason};
use prost::Message;

use super::check_ins::decode;
use super::orders::order_of;
use super::{Stop, require};
use crate::code::{NAMESPACE, ORDER_NAMESPACE, Refused, change_leaf, history, refused_root};
use crate::hash::Hash;
use crate::state::{StateError, StateRead, Writes};
use crate::{apply, canonical, log, map};

/// What an order makes of its codes.
pub(super) struct Effects {
    /// What the map will hold, by its keys.
    pub changed: Vec<(Hash, Bytes)>,
    /// What keeps the states that were replaced.
    pub replaced: Writes,
    pub outcome: v1::OrderEffect,
}

/// One change of an order.
struct Change<'a> {
    code: &'a [u8; 32],
    /// Its key in the map.
    key: Hash,
    expected: u64,
    chunk: &'a v1::StatusChunk,
}

/// All chunks of an order whose last one is `last`.
fn chunks<S: StateRead + ?Sized>(
    state: &S,
    order: &v1::OrderState,
    last: &v1::StatusChunk,
) -> Result<Vec<v1::StatusChunk>, StateError> {
    let earlier = order.chunk_leaves.iter().map(|leaf| chunk_at(state, *leaf));
    earlier.chain([Ok(last.clone())]).collect()
}

/// The changes of all chunks, in order.
fn changes(chunks: &[v1::StatusChunk]) -> Vec<Change<'_>> {
    fn of_chunk(chunk: &v1::StatusChunk) -> impl Iterator<Item = Change<'_>> {
        let codes = chunk.codes.as_chunks::<32>().0.iter();
        let expected = codes.zip(&chunk.expected_sequences);
        expected.map(|(code, expected)| Change {
            code,
            key: map::map_key(NAMESPACE, code),
            expected: *expected,
            chunk,
        })
    }
    chunks.iter().flat_map(of_chunk).collect()
}

/// What the map has of the codes of `changes`, in the order of its keys, with the places of the changes.
fn codes(
    changes: &[Change<'_>],
    read: impl Fn(&[Hash]) -> Result<Vec<Option<Bytes>>, StateError>,
) -> Result<impl Iterator<Item = (usize, Option<Bytes>)>, StateError> {
    let order = map::in_order(changes.iter().map(|change| &change.key));
    let keys: Vec<Hash> = order.iter().map(|at| changes[*at].key).collect();
    Ok(order.into_iter().zip(read(&keys)?))
}

/// The state of a change's code before it, as the map has it, or why the change cannot be made.
fn judge(
    region: &str,
    change: &Change<'_>,
    before: Option<&Bytes>,
) -> Result<Result<v1::CodeState, Refused>, StateError> {
    let refused = |reason, found| Refused {
        code: *change.code,
        expected: change.expected,
        found,
        reason,
    };
    let before = before.map(|value| decode(change.code, value)).transpose()?;
    Ok(match before {
        None => Err(refused(RejectReason::CodeUnknown, None)),
        Some(state) if state.region != region => {
            let found = Some(state.sequence);
            Err(refused(RejectReason::CodeOtherRegion, found))
        }
        Some(state) if state.sequence != change.expected => {
            let found = Some(state.sequence);
            Err(refused(RejectReason::CodeStaleSequence, found))
        }
        Some(state) => Ok(state),
    })
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
    let chunks = chunks(entries, state, last)?;
    let changes = changes(&chunks);
    let leaf = |change: &Change<'_>| change_leaf(change.code, change.expected);
    let leaves: Vec<Hash> = changes.iter().map(leaf).collect();
    require(
        order.changes_root == log::root_of(&leaves).0[..],
        RejectReason::OrderMismatch,
    )?;
    let mut changed = Vec::with_capacity(changes.len());
    let mut replaced = Vec::with_capacity(changes.len());
    let mut refused = Vec::new();
    for (at, value) in codes(&changes, read)? {
        let change = &changes[at];
        let before = match judge(&order.region, change, value.as_ref())? {
            Ok(before) => before,
            Err(why) => {
                refused.push((at, why));
                continue;
            }
        };
        let past = v1::ReplacedState {
            state: value.unwrap_or_default(),
            blind: blind(change.chunk, change.code),
        };
        replaced.push(history::record(&change.key, before.sequence, &past));
        let after = v1::CodeState {
            status: order.status,
            sequence: before.sequence + 1,
            previous: history::link(&past).to_bytes(),
            valid_from_ms: now_ms,
            lapses_at_ms: order.lapses_at_ms,
            on_lapse: order.on_lapse,
            order_id: last.order_id.clone(),
            check_ins: 0,
            last_check_in_day: 0,
            released_at_leaf: 0,
            ..before
        };
        changed.push((change.key, canonical::encode(&after)));
    }
    refused.sort_unstable_by_key(|(at, _)| *at);
    let refused: Vec<Refused> = refused.into_iter().map(|(_, why)| why).collect();
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
        replaced,
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
    let chunks = chunks(state, &order, last)?;
    let changes = changes(&chunks);
    let mut first: Option<(usize, Refused)> = None;
    for (at, value) in codes(&changes, |keys| map::get_many(state, keys))? {
        if first.is_none_or(|(earlier, _)| at < earlier) {
            let refused = judge(region, &changes[at], value.as_ref())?.err();
            first = refused.map(|why| (at, why)).or(first);
        }
    }
    Ok(first.map(|(_, why)| why))
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
