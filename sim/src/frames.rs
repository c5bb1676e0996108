//! What a frame between members says, read from outside: only what the invariants need.
//!
//! The formats belong to `consensus` and `storage`; where they change unnoticed, planted bugs are no
//! longer caught.

use bytes::Bytes;
use cairn_consensus::Lane;
use cairn_proto::v1;
use prost::Message as _;

use crate::bends;

/// A term and who was voted for in it.
pub type Ballot = (u64, u64);
/// Term and index.
pub type LogId = (u64, u64);
/// A vote as it travels.
pub type WireVote = (u64, Option<u64>, bool);

#[derive(Debug, Clone)]
pub enum Frame {
    Vote(Ballot),
    PreVote(Ballot),
    Append {
        leader: Ballot,
        /// The index of the last entry that it brings; none for a heartbeat.
        last: Option<u64>,
        /// What the leader calls committed.
        committed: Option<LogId>,
    },
    /// A copy of the state up to here.
    Offer(LogId),
    Cosignature(v1::CosignatureNotice),
    Other,
}

fn ballot((term, node, _): WireVote) -> Ballot {
    (term, node.unwrap_or(0))
}

fn part<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::take_from_bytes(bytes)
        .ok()
        .map(|(value, _)| value)
}

pub fn read(lane: Lane, request: &Bytes) -> Frame {
    if lane == Lane::Snapshot {
        let offer = part::<(u32, WireVote, Option<LogId>)>(request);
        let last = offer
            .filter(|(kind, ..)| *kind == 0)
            .and_then(|offer| offer.2);
        return last.map_or(Frame::Other, Frame::Offer);
    }
    if !matches!(lane, Lane::Control | Lane::Append) {
        return Frame::Other;
    }
    let Some((kind, body)) = request.split_first() else {
        return Frame::Other;
    };
    let frame = match kind {
        1 => part(body).map(|vote| Frame::Vote(ballot(vote))),
        2 => part(body).map(|vote| Frame::PreVote(ballot(vote))),
        3 => part::<(WireVote, Option<LogId>, u64)>(body).map(|(vote, before, count)| {
            let next = before.map_or(0, |(_, index)| index + 1);
            Frame::Append {
                leader: ballot(vote),
                last: (count > 0).then(|| next + count - 1),
                committed: bends::committed(body),
            }
        }),
        5 => notice(body).map(Frame::Cosignature),
        _ => None,
    };
    frame.unwrap_or(Frame::Other)
}

fn notice(body: &[u8]) -> Option<v1::CosignatureNotice> {
    v1::CosignatureNotice::decode(body).ok()
}

/// Whether an answer grants the vote that was asked for.
pub fn granted(answer: &Bytes) -> Option<Ballot> {
    let (vote, granted) = part::<(WireVote, bool)>(answer)?;
    granted.then(|| ballot(vote))
}

/// An answer that grants `ballot`, as a voter with an empty log gives it.
pub fn grant((term, node): Ballot) -> Bytes {
    let answer: (WireVote, bool, Option<LogId>) = ((term, Some(node), false), true, None);
    postcard::to_stdvec(&answer).unwrap().into()
}

/// The answer "all of it is on my disk".
pub const APPENDED: &[u8] = &[0];

/// The cosignature that an answer brings.
pub fn answered(answer: &Bytes) -> Option<v1::CosignatureNotice> {
    v1::CosignatureAnswer::decode(answer.clone()).ok()?.mine
}

/// A vote record as it is stored.
pub fn stored_vote(value: &Bytes) -> Option<Ballot> {
    part(value).map(ballot)
}

/// The index in Raft's position as it is stored with the state.
pub fn stored_applied(value: &Bytes) -> Option<u64> {
    part::<Option<LogId>>(value)?.map(|(_, index)| index)
}

/// Of a log record as it is stored.
pub fn stored_log_id(value: &Bytes) -> Option<LogId> {
    part(value)
}

/// Height and header hash in a sign guard record as it is stored.
pub fn stored_guard(value: &Bytes) -> Option<(u64, &[u8])> {
    let height = value.get(8..16)?.try_into().ok()?;
    Some((u64::from_be_bytes(height), value.get(16..48)?))
}
