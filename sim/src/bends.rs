//! What planted bugs, and leaders that lie, make of frames and records.
//!
//! What holds here: functions from bytes to bytes. The formats belong to `consensus` and `storage`;
//! what is not of the expected one stays as it is, and then the planted bug is not caught.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_proto::v1;
use cairn_storage::seal;
use serde::{Deserialize, Serialize};

use crate::frames::{LogId, WireVote};

/// Voters and all nodes.
type Members = (Vec<BTreeSet<u64>>, BTreeMap<u64, ()>);
/// Raft's members as they are kept: since where, and who.
type StoredMembers = (Option<LogId>, Members);

/// A log entry.
#[derive(Debug, Serialize, Deserialize)]
struct Entry<'a> {
    log_id: LogId,
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Payload<'a> {
    Blank,
    Normal(&'a [u8]),
    Membership(Members),
}

fn bytes<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap()
}

/// The members that the ledger began with, as Raft keeps them.
fn first(members: u64) -> StoredMembers {
    let ids = || 1..=members;
    let all = (vec![ids().collect()], ids().map(|id| (id, ())).collect());
    (Some((0, 0)), all)
}

/// Raft's position, with the members that the ledger began with.
pub fn with_first_members(position: &[u8], members: u64) -> Option<Vec<u8>> {
    let (applied, rest) = postcard::take_from_bytes::<Option<LogId>>(position).ok()?;
    postcard::take_from_bytes::<StoredMembers>(rest).ok()?;
    Some([bytes(&applied), bytes(&first(members))].concat())
}

/// The offer of a copy, with the members that the ledger began with.
pub fn offer(request: &[u8], members: u64) -> Option<Bytes> {
    type Offer = (u32, WireVote, Option<LogId>, StoredMembers);
    let (offer, rest) = postcard::take_from_bytes::<Offer>(request).ok()?;
    let (kind, vote, last, _) = offer;
    let bent = bytes(&(kind, vote, last, first(members)));
    (kind == 0).then(|| [&bent, rest].concat().into())
}

/// A heartbeat that calls `committed` committed.
pub fn heartbeat(request: &[u8], committed: LogId) -> Option<Bytes> {
    type Heartbeat = (WireVote, Option<LogId>, u64, Option<LogId>);
    let (kind, body) = request.split_first()?;
    let (vote, before, count, _) = postcard::from_bytes::<Heartbeat>(body).ok()?;
    let bent = bytes(&(vote, before, count, Some(committed)));
    (count == 0).then(|| [&[*kind], &bent[..]].concat().into())
}

/// A record of the Raft log with a checksum that fits, whatever is in it.
pub fn resealed(key: &[u8], sealed: &Bytes) -> Bytes {
    match sealed.get(seal::CHECKSUM_BYTES..) {
        Some(value) => seal::seal(key, value).into(),
        None => sealed.clone(),
    }
}

/// A record of the Raft log whose proposal, if it is one, asks for no checkpoint.
pub fn unflagged(key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let entry: Entry<'_> = postcard::from_bytes(sealed.get(seal::CHECKSUM_BYTES..)?).ok()?;
    let Payload::Normal(payload) = entry.payload else {
        return None;
    };
    let mut proposal: v1::Proposal = canonical::decode(payload).ok()?;
    proposal.checkpoint = false;
    let payload = canonical::encode(&proposal);
    let entry = Entry {
        log_id: entry.log_id,
        payload: Payload::Normal(&payload),
    };
    Some(seal::seal(key, &bytes(&entry)))
}

/// What an append calls committed.
pub fn committed(body: &[u8]) -> Option<LogId> {
    type Append<'a> = (WireVote, Option<LogId>, Vec<Entry<'a>>, Option<LogId>);
    postcard::from_bytes::<Append<'_>>(body).ok()?.3
}
