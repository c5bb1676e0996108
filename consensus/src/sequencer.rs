//! The leader's sequencer: from a bounded queue of entries to proposals.
//!
//! What holds here: one Raft entry is one proposal is one block. A few proposals are in flight at a
//! time, so batching grows with load by itself. A proposal asks for a checkpoint as soon as the last
//! one is certified; the first of a leadership always does, and so does a long one with nothing behind
//! it; and where committed entries would stay uncertified on an idle chain, an empty one does. Past the bounds of the uncertified tail nothing
//! is proposed and submits get a stable reason. What stays out: what an entry means, and whether a
//! block *must* be a checkpoint; apply knows.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use futures::stream::{FuturesUnordered, StreamExt};
use openraft::impls::ProgressResponder;
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cosign::{Cosigner, Progress};
use crate::locked;
use crate::network::Clock;
use crate::raft::{Leadership, RaftHandle};
use crate::submit::SubmitRefused;
use crate::tracker::Travelling;
use crate::types::Payload;

/// Entries in the queue: a few full blocks, so that a leader under load answers "later" within a
/// second instead of "maybe" within a minute.
pub const MAX_QUEUED_ENTRIES: usize = 32_768;
/// And their bytes.
pub const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Proposals between queue and apply. One would leave the disk idle during apply; many would make
/// small blocks under load.
pub const MAX_IN_FLIGHT: usize = 3;
/// The uncertified tail: blocks,
pub const MAX_TAIL_BLOCKS: u64 = 10_000;
/// and bytes.
pub const MAX_TAIL_BYTES: u64 = 64 << 20;
/// How long the queue must be empty before an empty checkpoint block covers what is uncertified.
const IDLE_BEFORE_CHECKPOINT: Duration = Duration::from_millis(20);
/// A proposal of so many bytes with nothing behind it asks for a checkpoint in any case: to certify its
/// block costs little beside applying it, and waiting for an empty block to cover it costs a round.
const LONG_PROPOSAL: usize = 64 << 10;
/// A checkpoint without certificate for so long is asked for again with a later block: members
/// that restarted meanwhile sign only the newest.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// After a proposal that Raft did not take (its lease ran out, say) the next waits so long.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);
/// What a proposal takes beside its entries: timestamp, flag, certificate.
const PROPOSAL_OVERHEAD: usize = 4096;
/// And beside each entry: tag and length.
const ENTRY_OVERHEAD: usize = 8;

#[derive(Debug, Default)]
struct Waiting {
    /// The leadership that the queue is open for.
    term: Option<u64>,
    /// By place: entries that come back go where they were, however many proposals failed.
    entries: BTreeMap<u64, Arc<Travelling>>,
    next: u64,
    bytes: usize,
    /// Ids queued or in flight: the same entry twice is one.
    known: HashSet<Hash>,
}

/// An entry and its place in the queue.
type Queued = (u64, Arc<Travelling>);

/// The queue before the sequencer; closed while this node does not lead.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

impl Queue {
    /// Queues `entry` for the leadership of `term`.
    pub(crate) fn push(
        &self,
        entry: &Arc<Travelling>,
        term: u64,
        progress: &Progress,
    ) -> Result<(), SubmitRefused> {
        let waiting = &mut *locked(&self.waiting);
        if waiting.term != Some(term) {
            return Err(SubmitRefused::NoLeader);
        }
        if waiting.known.contains(&entry.id) {
            return Ok(());
        }
        if progress.tail_too_long() {
            return Err(SubmitRefused::TailTooLong);
        }
        if waiting.entries.len() >= MAX_QUEUED_ENTRIES
            || waiting.bytes + entry.bytes > MAX_QUEUED_BYTES
        {
            return Err(SubmitRefused::QueueFull);
        }
        waiting.known.insert(entry.id);
        waiting.bytes += entry.bytes;
        waiting.entries.insert(waiting.next, entry.clone());
        waiting.next += 1;
        self.wake.notify_one();
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        locked(&self.waiting).entries.len()
    }

    /// Something changed that the sequencer should look at.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Opens the queue for a leadership, or closes it. Who handed in what is in it hands it to the
    /// next leader.
    fn open_for(&self, term: Option<u64>) {
        let waiting = &mut *locked(&self.waiting);
        *waiting = Waiting {
            term,
            next: waiting.next,
            ..Waiting::default()
        };
    }

    fn take(&self, max_entries: usize, max_bytes: usize) -> Vec<Queued> {
        let waiting = &mut *locked(&self.waiting);
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = waiting.entries.first_entry() {
            bytes += next.get().bytes + ENTRY_OVERHEAD;
            if taken.len() >= max_entries || (!taken.is_empty() && bytes > max_bytes) {
                break;
            }
            waiting.bytes -= next.get().bytes;
            taken.push(next.remove_entry());
        }
        taken
    }

    fn done(&self, entries: &[Queued]) {
        let waiting = &mut *locked(&self.waiting);
        for (_, entry) in entries {
            waiting.known.remove(&entry.id);
        }
    }

    /// Entries of a proposal that Raft did not take, or of which it cannot say whether it will be
    /// committed: back to their places. Should it be committed after all, apply sees them twice and
    /// counts them once.
    fn put_back(&self, entries: Vec<Queued>) {
        let waiting = &mut *locked(&self.waiting);
        if waiting.term.is_none() {
            return;
        }
        for (place, entry) in entries {
            let bytes = entry.bytes;
            waiting.known.insert(entry.id);
            if waiting.entries.insert(place, entry).is_none() {
                waiting.bytes += bytes;
            }
        }
    }
}

impl Progress {
    fn tail_too_long(&self) -> bool {
        let certified = self.certified.unwrap_or(0);
        self.tip.saturating_sub(certified) >= MAX_TAIL_BLOCKS || self.tail_bytes >= MAX_TAIL_BYTES
    }
}

/// A proposal that came back, committed or not.
struct Done {
    entries: Vec<Queued>,
    asked: bool,
    committed: bool,
}

/// The task that turns the queue into proposals.
pub(crate) struct Sequencer {
    pub(crate) raft: RaftHandle,
    pub(crate) queue: Arc<Queue>,
    pub(crate) cosigner: Arc<Cosigner>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) max_entries: usize,
    pub(crate) max_bytes: usize,
}

/// What one leadership has proposed so far.
#[derive(Default)]
struct Reign {
    term: Option<u64>,
    last_ms: u64,
    asked_at: Option<Instant>,
    asks_in_flight: usize,
    last_proposal: Option<Instant>,
    /// Height and freshness of the newest certificate proposed.
    certificate: (u64, u64),
}

impl Sequencer {
    /// Runs until its runtime ends.
    pub(crate) async fn run(self, mut leadership: tokio::sync::watch::Receiver<Leadership>) {
        let mut certified = self.cosigner.certified();
        let mut in_flight = FuturesUnordered::new();
        let mut reign = Reign::default();
        let mut hold_until = Instant::now();
        loop {
            let now = leadership.borrow_and_update().clone();
            let term = now.leading.then_some(now.term);
            if term != reign.term {
                self.queue.open_for(term);
                reign = Reign {
                    term,
                    asks_in_flight: reign.asks_in_flight,
                    ..Reign::default()
                };
            }
            let hold = hold_until.saturating_duration_since(Instant::now());
            let mut pause = (!hold.is_zero()).then_some(hold);
            while pause.is_none() && reign.term.is_some() && in_flight.len() < MAX_IN_FLIGHT {
                let entries = if self.cosigner.progress().tail_too_long() {
                    Vec::new()
                } else {
                    let room = self.max_bytes.saturating_sub(PROPOSAL_OVERHEAD);
                    self.queue.take(self.max_entries, room)
                };
                if entries.is_empty() {
                    match self.empty_checkpoint_due(&reign, in_flight.is_empty()) {
                        Due::Never => break,
                        Due::In(wait) => {
                            pause = Some(wait);
                            break;
                        }
                        Due::Now => {}
                    }
                }
                match self.propose(&mut reign, entries).await {
                    Some(done) => in_flight.push(done),
                    None => return,
                }
            }
            let pause = pause.unwrap_or(ASK_AGAIN_AFTER);
            tokio::select! {
                biased;
                changed = leadership.changed() => if changed.is_err() { return },
                Some(Done { entries, asked, committed }) = in_flight.next() => {
                    reign.asks_in_flight -= usize::from(asked);
                    if committed {
                        self.queue.done(&entries);
                    } else {
                        self.queue.put_back(entries);
                        hold_until = Instant::now() + PAUSE_AFTER_FAILURE;
                    }
                }
                changed = certified.changed() => if changed.is_err() { return },
                () = self.queue.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// When an empty checkpoint block should cover what no checkpoint covers.
    fn empty_checkpoint_due(&self, reign: &Reign, nothing_in_flight: bool) -> Due {
        let progress = self.cosigner.progress();
        if !nothing_in_flight || !progress.uncovered() {
            return Due::Never;
        }
        if progress.changing.is_some() && !progress.settled() {
            // Nothing behind a change of members is a checkpoint before it is certified.
            return Due::Never;
        }
        let since = |at: Option<Instant>| at.map_or(Duration::MAX, |at| at.elapsed());
        let idle = IDLE_BEFORE_CHECKPOINT.saturating_sub(since(reign.last_proposal));
        let again = if progress.settled() {
            Duration::ZERO
        } else {
            ASK_AGAIN_AFTER.saturating_sub(since(reign.asked_at))
        };
        match idle.max(again) {
            Duration::ZERO => Due::Now,
            wait => Due::In(wait),
        }
    }

    fn wants_checkpoint(&self, reign: &Reign, entries: &[Queued]) -> bool {
        let first = reign.last_proposal.is_none();
        let bytes: usize = entries.iter().map(|(_, entry)| entry.bytes).sum();
        let ends_long = bytes >= LONG_PROPOSAL && self.queue.len() == 0;
        let waited = reign
            .asked_at
            .is_none_or(|at| at.elapsed() >= ASK_AGAIN_AFTER);
        let settled = self.cosigner.progress().settled();
        first
            || entries.is_empty()
            || ends_long
            || (reign.asks_in_flight == 0 && (settled || waited))
    }

    /// Hands one proposal to Raft. `None`: Raft has stopped.
    async fn propose(
        &self,
        reign: &mut Reign,
        entries: Vec<Queued>,
    ) -> Option<impl Future<Output = Done> + use<>> {
        let asked = self.wants_checkpoint(reign, &entries);
        reign.last_ms = reign.last_ms.max(self.clock.now_ms());
        let newest = self.cosigner.certified().borrow().clone();
        let certificate = newest.and_then(|newest| {
            let mark = (newest.header().height, newest.latest_as_of_ms());
            // The certificate of a change of members is offered until the chain carries it: a proposal
            // that had it may have been lost.
            let awaited = self.cosigner.progress().changing == Some(mark.0);
            (mark > reign.certificate || awaited).then(|| {
                reign.certificate = mark;
                newest.to_proto()
            })
        });
        let proposal = v1::Proposal {
            timestamp_ms: reign.last_ms,
            checkpoint: asked,
            certificate,
            entries: entries.iter().map(|(_, e)| e.signed.clone()).collect(),
        };
        let bytes = Bytes::from(proposal.encode_to_vec());
        let (responder, answer) = ProgressResponder::complete_only();
        let sent = self
            .raft
            .client_write_ff(Payload(bytes), Some(responder))
            .await;
        if let Err(error) = sent {
            tracing::error!(%error, "Raft has stopped, so the sequencer stops");
            return None;
        }
        let now = Instant::now();
        reign.last_proposal = Some(now);
        if asked {
            reign.asked_at = Some(now);
            reign.asks_in_flight += 1;
        }
        Some(async move {
            let answer = answer.await;
            match &answer {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a proposal was not committed here"),
                Err(_) => tracing::info!("Raft stopped before a proposal was applied"),
            }
            Done {
                entries,
                asked,
                committed: matches!(answer, Ok(Ok(_))),
            }
        })
    }
}

enum Due {
    Now,
    In(Duration),
    Never,
}

/// The time that a proposal is stamped with, without decoding its entries: the first field.
pub(crate) fn timestamp_of(proposal: &[u8]) -> u64 {
    const TIMESTAMP_TAG: u8 = 1 << 3;
    match proposal.split_first() {
        Some((&TIMESTAMP_TAG, mut rest)) => {
            prost::encoding::decode_varint(&mut rest).unwrap_or(u64::MAX)
        }
        _ => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(number: u8, bytes: usize) -> Arc<Travelling> {
        Arc::new(Travelling {
            id: Hash([number; 32]),
            signed: v1::SignedEntry::default(),
            bytes,
        })
    }

    const TERM: u64 = 3;
    const FRESH: Progress = Progress {
        tip: 0,
        newest_checkpoint: None,
        changing: None,
        certified: None,
        tail_bytes: 0,
    };

    #[test]
    fn the_same_entry_twice_is_queued_once_until_it_is_done() {
        let queue = Queue::default();
        assert_eq!(
            queue.push(&entry(1, 1), TERM, &FRESH),
            Err(SubmitRefused::NoLeader)
        );
        queue.open_for(Some(TERM));
        queue.push(&entry(1, 1), TERM, &FRESH).unwrap();
        queue.push(&entry(1, 1), TERM, &FRESH).unwrap();
        assert_eq!(queue.take(9, 99).len(), 1);
        queue.push(&entry(1, 1), TERM, &FRESH).unwrap();
        assert_eq!(queue.len(), 0, "it is in flight");
        queue.done(&[(0, entry(1, 1))]);
        queue.push(&entry(1, 1), TERM, &FRESH).unwrap();
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_proposal_is_bounded_in_entries_and_bytes_but_never_empty() {
        let queue = Queue::default();
        queue.open_for(Some(TERM));
        for number in 1..=5 {
            queue.push(&entry(number, 100), TERM, &FRESH).unwrap();
        }
        assert_eq!(queue.take(2, 1000).len(), 2);
        assert_eq!(queue.take(9, 250).len(), 2);
        assert_eq!(queue.take(9, 1).len(), 1);
    }

    #[test]
    fn what_was_not_committed_goes_back_to_its_place_once() {
        let queue = Queue::default();
        queue.open_for(Some(TERM));
        for number in 1..=7 {
            queue.push(&entry(number, 1), TERM, &FRESH).unwrap();
        }
        let in_flight: Vec<_> = (0..3).map(|_| queue.take(2, 99)).collect();
        for taken in in_flight.iter().chain([&in_flight[0]]) {
            queue.put_back(taken.clone());
        }
        let ids = |taken: Vec<Queued>| -> Vec<u8> {
            taken.iter().map(|(_, entry)| entry.id.0[0]).collect()
        };
        assert_eq!(ids(queue.take(9, 99)), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(locked(&queue.waiting).bytes, 0);
    }

    #[test]
    fn the_queue_is_open_for_one_leadership_only() {
        let queue = Queue::default();
        queue.open_for(Some(TERM));
        let late = queue.push(&entry(1, 1), TERM - 1, &FRESH);
        assert_eq!(late, Err(SubmitRefused::NoLeader));
        queue.push(&entry(1, 1), TERM, &FRESH).unwrap();
        queue.open_for(Some(TERM + 1));
        assert_eq!(queue.len(), 0, "handed in again by who handed it in");
        queue.open_for(None);
        let closed = queue.push(&entry(1, 1), TERM + 1, &FRESH);
        assert_eq!(closed, Err(SubmitRefused::NoLeader));
    }

    #[test]
    fn a_long_uncertified_tail_is_refused_with_its_reason() {
        let queue = Queue::default();
        queue.open_for(Some(TERM));
        let long = Progress {
            tip: MAX_TAIL_BLOCKS,
            ..FRESH
        };
        let heavy = Progress {
            tail_bytes: MAX_TAIL_BYTES,
            ..FRESH
        };
        for progress in [long, heavy] {
            let refused = queue.push(&entry(1, 1), TERM, &progress);
            assert_eq!(refused, Err(SubmitRefused::TailTooLong));
        }
    }

    #[test]
    fn a_proposals_time_is_read_without_its_entries() {
        let mut proposal = v1::Proposal {
            timestamp_ms: 1_700_000_000_123,
            checkpoint: true,
            ..v1::Proposal::default()
        };
        assert_eq!(timestamp_of(&proposal.encode_to_vec()), 1_700_000_000_123);
        proposal.timestamp_ms = 0;
        assert_eq!(timestamp_of(&proposal.encode_to_vec()), 0);
        assert_eq!(
            timestamp_of(&[8, 255, 255]),
            u64::MAX,
            "damaged is never early"
        );
    }
}
