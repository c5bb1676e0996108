//! What a node does with its peers' requests, lane by lane.
//!
//! What holds here: a vote or an append must name its sender as the candidate or leader; an append
//! whose proposal is stamped too far ahead of this node's clock is dropped as if it were lost, so
//! that a leader with a wrong clock cannot commit; whoever is no member (any more) is not heard, so it
//! can neither campaign nor lead nor cosign; and before this node knows what it promised before
//! (`recall`), it neither votes nor acknowledges. What stays out: who may connect at all. The transport
//! has checked that.

use std::collections::BTreeSet;
use std::sync::Mutex;

use bytes::Bytes;
use cairn_ledger::apply::Proposal;
use cairn_ledger::canonical;
use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use openraft::raft::TransferLeaderRequest;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use openraft::{EntryPayload, LogIdOptionExt as _};
use prost::Message as _;
use serde::Serialize;

use crate::core::Shared;
use crate::gossip;
use crate::locked;
use crate::network::Lane;
use crate::raft_network::Kind;
use crate::sequencer::timestamp_of;
use crate::types::{Entry, LogId, Types, Vote, from_bytes, from_shared, to_bytes};

/// A million blocks a second take 140,000 years to get there.
pub(crate) const MAX_TERM_OR_INDEX: u64 = 1 << 62;
/// Changes of members in one answer: a few kilobytes each.
const MAX_CHANGES: usize = 100;

/// What a node that asks the others says to who wants more than answers.
const NOT_READY: &str = "not ready: this node still asks the other members what it promised before";

/// How far ahead of a follower's clock a proposal may be stamped.
pub const MAX_AHEAD_MS: u64 = 2_000;

pub(crate) async fn handle(
    shared: &Shared,
    from: u64,
    lane: Lane,
    request: Bytes,
) -> Result<Bytes, String> {
    if lane == Lane::Control
        && let Some((Kind::Recall, _)) = Kind::split(&request)
    {
        // Whoever left may have to vote for the change that lets it go.
        return recall(shared, from).await;
    }
    if !shared.cosigner.epochs().borrow().has(from) {
        // It left, and its node may still run; or it has come in, and this node has yet to hear.
        return Err(format!("{from} is no member, as far as this node knows"));
    }
    match lane {
        Lane::Forward => shared.submitter.forwarded(&request).await,
        Lane::Snapshot if !*shared.ready.borrow() => Err(NOT_READY.to_owned()),
        Lane::Snapshot => shared.receiver.handle(from, request).await,
        Lane::Control | Lane::Append => {
            let (kind, body) = Kind::split(&request).ok_or("an unknown kind of request")?;
            match kind {
                Kind::Append | Kind::Vote | Kind::PreVote | Kind::TransferLeader
                    if !*shared.ready.borrow() =>
                {
                    Err(NOT_READY.to_owned())
                }
                Kind::Append => append(shared, from, &body).await,
                Kind::Vote | Kind::PreVote => vote(shared, from, kind, &body).await,
                Kind::TransferLeader => transfer(shared, from, &body).await,
                Kind::Cosignature => cosignature(shared, from, body),
                Kind::Epochs => epochs(shared, &body),
                Kind::Recall => recall(shared, from).await,
            }
        }
    }
}

async fn append(shared: &Shared, from: u64, body: &Bytes) -> Result<Bytes, String> {
    // Blocks are long: the message is kept as long as one of them is.
    let request: AppendEntriesRequest<Types> =
        from_shared(body).map_err(|error| error.to_string())?;
    is_from(&request.vote, from)?;
    within_bounds(&request.vote, request.prev_log_id.as_ref())?;
    within_bounds(&request.vote, request.leader_commit.as_ref())?;
    let mut newest = None;
    let begin = request.prev_log_id.next_index();
    for (entry, index) in request.entries.iter().zip(begin..) {
        within_bounds(&request.vote, Some(&entry.log_id))?;
        if entry.log_id.index() != index {
            return Err(format!(
                "entry {} in the place of {index}",
                entry.log_id.index()
            ));
        }
        newest = newest.max(Some(stamp(shared, from, entry)?));
    }
    let term = request.vote.leader_id.term;
    shared
        .early_leader
        .judge(term, newest, shared.clock.now_ms())
        .map_err(|early| {
            let Early { ahead, first } = early;
            if first {
                tracing::warn!(
                    from,
                    term,
                    ahead,
                    "a leader ahead of this node's clock is not heard"
                );
            }
            format!("stamped {ahead} ms ahead of this node's clock")
        })?;
    answer(shared.raft.append_entries(request).await)
}

/// The time that an entry is stamped with. `Err`: an honest leader proposes no such entry, and what
/// is dropped here by a majority is never committed.
fn stamp(shared: &Shared, from: u64, entry: &Entry) -> Result<u64, String> {
    match &entry.payload {
        EntryPayload::Blank => Ok(0),
        EntryPayload::Normal(payload) => {
            // Canonical bytes have each field once and in order, so the first field is the time.
            canonical::check::<v1::Proposal>(&payload.0).map_err(|error| error.to_string())?;
            let most = shared.chain.limits().max_block_entries as usize;
            let entries = Proposal::count_entries(&payload.0);
            if entries > most {
                return Err(format!(
                    "{entries} entries where a block has {most} at most"
                ));
            }
            Ok(timestamp_of(&payload.0))
        }
        EntryPayload::Membership(membership) => {
            // Those that the members of all epochs make, the steps between two of them included.
            let known = shared.cosigner.epochs().borrow().clone();
            let named = membership.nodes().map(|(id, _)| *id);
            let strangers: BTreeSet<u64> = named.filter(|id| !known.had(*id)).collect();
            if strangers.is_empty() {
                return Ok(0);
            }
            shared.cosigner.hear_of_epochs_from(from);
            Err(format!(
                "a Raft configuration with {strangers:?}, who never were members as far as this node knows"
            ))
        }
    }
}

/// Why an append is not heard.
#[derive(Debug, PartialEq, Eq)]
struct Early {
    /// How far ahead its leader is, milliseconds.
    ahead: u64,
    /// Whether this is the first that is dropped for it.
    first: bool,
}

/// The leader whose proposal came from the future, if there is one: term and stamp.
///
/// Its heartbeats are dropped with its appends. Were they heard, it would lead for ever and commit
/// nothing, because the stamp is in its log; unheard, it is replaced, and its log is overwritten.
#[derive(Debug, Default)]
pub(crate) struct EarlyLeader(Mutex<Option<(u64, u64)>>);

impl EarlyLeader {
    /// Whether to hear an append.
    fn judge(&self, term: u64, stamp: Option<u64>, now_ms: u64) -> Result<(), Early> {
        let early = &mut *locked(&self.0);
        let known = early.filter(|(of, _)| *of == term).map(|(_, stamp)| stamp);
        let Some(stamp) = stamp.max(known) else {
            return Ok(());
        };
        let ahead = stamp.saturating_sub(now_ms);
        if ahead > MAX_AHEAD_MS {
            *early = Some((term, stamp));
            let first = known.is_none();
            return Err(Early { ahead, first });
        }
        *early = None;
        Ok(())
    }
}

async fn vote(shared: &Shared, from: u64, kind: Kind, body: &[u8]) -> Result<Bytes, String> {
    let request: VoteRequest<Types> = decode(body)?;
    is_from(&request.vote, from)?;
    within_bounds(&request.vote, request.last_log_id.as_ref())?;
    answer(if kind == Kind::PreVote {
        shared.raft.pre_vote(request).await
    } else {
        shared.raft.vote(request).await
    })
}

async fn transfer(shared: &Shared, from: u64, body: &[u8]) -> Result<Bytes, String> {
    let request: TransferLeaderRequest<Types> = decode(body)?;
    is_from(request.from_leader(), from)?;
    within_bounds(request.from_leader(), request.last_log_id())?;
    answer(shared.raft.handle_transfer_leader(request).await)
}

fn cosignature(shared: &Shared, from: u64, body: Bytes) -> Result<Bytes, String> {
    let notice = v1::CosignatureNotice::decode(body).map_err(|error| error.to_string())?;
    if Hash::from_slice(&notice.header_hash).is_none() {
        return Err("a header hash has 32 bytes".to_owned());
    }
    match shared.cosigner.receive(from, &notice) {
        Ok(answer) => Ok(answer.encode_to_vec().into()),
        Err(error) => {
            gossip::stop(&shared.stopped, &error);
            Err("this node has stopped".to_owned())
        }
    }
}

fn epochs(shared: &Shared, body: &[u8]) -> Result<Bytes, String> {
    let request = v1::EpochsRequest::decode(body).map_err(|error| error.to_string())?;
    let epochs = shared.cosigner.epochs().borrow().clone();
    let changes = epochs.changes_after(request.known_epoch).iter();
    let answer = v1::EpochsResponse {
        epoch_changes: changes.take(MAX_CHANGES).cloned().collect(),
    };
    Ok(answer.encode_to_vec().into())
}

/// What this node knows of the promises of `from`.
async fn recall(shared: &Shared, from: u64) -> Result<Bytes, String> {
    let (had, epoch) = {
        let epochs = shared.cosigner.epochs();
        let epochs = epochs.borrow();
        (epochs.had(from), epochs.newest().epoch)
    };
    if !had {
        return Err(format!(
            "{from} never was a member, as far as this node knows"
        ));
    }
    if shared.stopped.borrow().is_some() {
        return Err("this node has stopped".to_owned());
    }
    let term = |state: &openraft::RaftState<Types>| state.vote_ref().leader_id.term;
    let term = shared.raft.with_raft_state(term).await;
    let answer = v1::RecallResponse {
        cosigned: shared.cosigner.witnessed(from),
        term: term.map_err(|error| error.to_string())?,
        epoch,
    };
    Ok(answer.encode_to_vec().into())
}

fn is_from(vote: &Vote, from: u64) -> Result<(), String> {
    let named = vote.leader_id.voted_for;
    if named == from {
        Ok(())
    } else {
        Err(format!("{from} speaks for {named}"))
    }
}

/// Raft adds to terms and indices without looking.
fn within_bounds(vote: &Vote, log_id: Option<&LogId>) -> Result<(), String> {
    let (term, index) = log_id.map_or((0, 0), |id| (id.committed_leader_id().term, id.index()));
    if vote.leader_id.term.max(term).max(index) < MAX_TERM_OR_INDEX {
        Ok(())
    } else {
        Err("a term or an index that no log reaches".to_owned())
    }
}

fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    from_bytes(body).map_err(|error| error.to_string())
}

fn answer<A: Serialize, E: std::fmt::Display>(result: Result<A, E>) -> Result<Bytes, String> {
    let answer = result.map_err(|error| error.to_string())?;
    to_bytes(&answer).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_from_the_future_is_not_heard_until_the_clock_or_the_term_moves() {
        let early = EarlyLeader::default();
        let dropped = |ahead, first| Err(Early { ahead, first });
        assert_eq!(early.judge(3, Some(1_000), 0), Ok(()));
        assert_eq!(early.judge(3, Some(9_000), 1_000), dropped(8_000, true));
        let heartbeat = early.judge(3, None, 2_000);
        assert_eq!(heartbeat, dropped(7_000, false), "its heartbeats");
        assert_eq!(early.judge(4, None, 2_000), Ok(()), "the next leader");
        assert_eq!(early.judge(3, None, 7_000), Ok(()), "its time has come");
    }
}
