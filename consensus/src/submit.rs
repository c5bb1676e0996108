//! From a node's admission to the leader's queue: here, or by one forwarded batch.
//!
//! What holds here: an entry that is queued or has an outcome is answered with yes, however often
//! it is handed in. "No" has a stable reason. When the leader changes, what is pending here is
//! handed to the new one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_ledger::admission::{self, Admitted};
use cairn_ledger::apply;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admitted::AdmittedCache;
use crate::config::Io;
use crate::cosign::Cosigner;
use crate::network::{Lane, Network};
use crate::raft::Leadership;
use crate::sequencer::Queue;
use crate::tracker::{Tracker, Travelling};
use cairn_storage::StateStore;

/// Entries and bytes of one forwarded batch: well below a frame, so that one slow batch holds back
/// little behind it.
const MAX_FORWARD_ENTRIES: usize = 4096;
const MAX_FORWARD_BYTES: usize = 4 << 20;

/// Why an entry was not queued. Each may be tried again, through any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitRefused {
    /// No leader is known; an election takes about a second.
    #[error("no leader is known; try again in a second")]
    NoLeader,
    /// The leader, or this node, has too much waiting; try again later.
    #[error("the queue is full; try again later")]
    QueueFull,
    /// Too much is committed but not certified; members that cosign are missing.
    #[error("too much is committed but uncertified; cosigning members are missing")]
    TailTooLong,
    /// The leader did not answer; whether it queued the entry is unknown, and asking again is safe.
    #[error("the leader did not answer; submitting again is safe")]
    Unreachable,
    /// The leader's admission refused the entry.
    #[error("the leader's admission refused the entry")]
    Invalid,
    /// This node has stopped taking part; use another.
    #[error("this node has stopped; use another")]
    Stopped,
}

impl SubmitRefused {
    const ALL: [SubmitRefused; 6] = [
        SubmitRefused::NoLeader,
        SubmitRefused::QueueFull,
        SubmitRefused::TailTooLong,
        SubmitRefused::Unreachable,
        SubmitRefused::Invalid,
        SubmitRefused::Stopped,
    ];

    /// Stable: for `google.rpc.ErrorInfo.reason` and between peers.
    pub fn reason(&self) -> &'static str {
        match self {
            SubmitRefused::NoLeader => "NO_LEADER",
            SubmitRefused::QueueFull => "QUEUE_FULL",
            SubmitRefused::TailTooLong => "UNCERTIFIED_TAIL_TOO_LONG",
            SubmitRefused::Unreachable => "LEADER_UNREACHABLE",
            SubmitRefused::Invalid => "ENTRY_INVALID",
            SubmitRefused::Stopped => "NODE_STOPPED",
        }
    }

    fn from_reason(reason: &str) -> Result<(), SubmitRefused> {
        if reason.is_empty() {
            return Ok(());
        }
        let known = Self::ALL.into_iter().find(|r| r.reason() == reason);
        // A reason of a later version: whatever it is, the entry is not queued.
        Err(known.unwrap_or(SubmitRefused::Unreachable))
    }
}

/// Hands entries to the leader.
pub(crate) struct Submitter {
    pub(crate) chain: Arc<Chain>,
    pub(crate) store: Arc<StateStore>,
    pub(crate) admitted: Arc<AdmittedCache>,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) cosigner: Arc<Cosigner>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) stopped: watch::Receiver<Option<String>>,
    pub(crate) deadline: Duration,
    pub(crate) io: Io,
}

type Answer = Result<(), SubmitRefused>;

/// Entries that a new leader refused are handed to it again after so long.
const HAND_ON_AGAIN: Duration = Duration::from_millis(100);

impl Submitter {
    /// Entries that this node admitted.
    pub(crate) async fn submit(&self, entries: Vec<Admitted>) -> Vec<Answer> {
        if self.stopped.borrow().is_some() {
            return vec![Err(SubmitRefused::Stopped); entries.len()];
        }
        let mut answers = vec![Ok(()); entries.len()];
        let mut places = Vec::new();
        let mut travelling = Vec::new();
        for (place, admitted) in entries.into_iter().enumerate() {
            if self.has_outcome(&admitted.id) {
                continue;
            }
            let entry = self.travelling(admitted);
            if !self.tracker.insert(&entry) {
                // Nor what follows: it may build on this one.
                answers[place..].fill(Err(SubmitRefused::QueueFull));
                break;
            }
            places.push(place);
            travelling.push(entry);
        }
        let handed_on = self.hand_on_in_time(&travelling).await;
        for ((place, entry), answer) in places.into_iter().zip(&travelling).zip(handed_on) {
            if answer.is_err_and(|refused| refused != SubmitRefused::Unreachable) {
                self.tracker.remove(&entry.id);
            }
            answers[place] = answer;
        }
        answers
    }

    /// A batch that a peer forwards, because it takes this node for the leader.
    pub(crate) async fn forwarded(self: &Arc<Self>, request: &[u8]) -> Result<Bytes, String> {
        let request = v1::ForwardRequest::decode(request).map_err(|error| error.to_string())?;
        let count = request.entries.len();
        if !self.leadership.borrow().leading {
            return Ok(respond(vec![Err(SubmitRefused::NoLeader); count]));
        }
        let term = self.leadership.borrow().term;
        let answers = match self.io {
            Io::Threads => {
                // Signatures take a core each their time: not on the thread that beats for Raft.
                let this = self.clone();
                tokio::task::spawn_blocking(move || this.admit_and_queue(request.entries, term))
                    .await
                    .map_err(|error| error.to_string())?
            }
            Io::Simulated { .. } => self.admit_and_queue(request.entries, term),
        };
        Ok(respond(answers))
    }

    fn admit_and_queue(&self, entries: Vec<v1::SignedEntry>, term: u64) -> Vec<Answer> {
        let progress = self.cosigner.progress();
        let queue = |signed| {
            let admitted = admission::admit(&self.chain, signed).map_err(|error| {
                tracing::warn!(%error, "a peer forwarded an entry that is not admitted");
                SubmitRefused::Invalid
            })?;
            if self.has_outcome(&admitted.id) {
                return Ok(());
            }
            self.queue.push(&self.travelling(admitted), term, &progress)
        };
        until_refused(entries, queue)
    }

    /// Hands what is pending to each new leader, until it took it.
    pub(crate) async fn follow_leader(self: Arc<Self>) {
        let mut leadership = self.leadership.clone();
        while leadership.changed().await.is_ok() {
            if leadership.borrow_and_update().leader.is_none() {
                continue;
            }
            loop {
                let pending = self.tracker.all();
                if pending.is_empty() {
                    break;
                }
                tracing::info!(
                    entries = pending.len(),
                    "handing pending entries to the new leader"
                );
                let answers = self.hand_on(&pending).await;
                if answers.iter().all(Result::is_ok) {
                    break;
                }
                // It may not know yet that it leads, or have no room yet.
                tokio::select! {
                    () = tokio::time::sleep(HAND_ON_AGAIN) => {}
                    changed = leadership.wait_for(|now| now.leader.is_none()) => {
                        if changed.is_err() { return }
                        break;
                    }
                }
            }
        }
    }

    /// Waits for a leader, who is missing during an election: refused is only what none took in time.
    async fn hand_on_in_time(&self, entries: &[Arc<Travelling>]) -> Vec<Answer> {
        let until = Instant::now() + self.deadline;
        let mut leadership = self.leadership.clone();
        let mut answers = Vec::with_capacity(entries.len());
        loop {
            leadership.mark_unchanged();
            answers.extend(self.hand_on(&entries[answers.len()..]).await);
            let taken = answers.iter().take_while(|answer| answer.is_ok()).count();
            let worth_waiting = matches!(
                answers.get(taken),
                Some(Err(SubmitRefused::NoLeader | SubmitRefused::Unreachable))
            );
            if !worth_waiting || Instant::now() >= until {
                return answers;
            }
            // The one asked may not know yet that it leads.
            let again = until.min(Instant::now() + HAND_ON_AGAIN);
            if let Ok(Err(_)) = tokio::time::timeout_at(again, leadership.changed()).await {
                return answers;
            }
            answers.truncate(taken);
        }
    }

    async fn hand_on(&self, entries: &[Arc<Travelling>]) -> Vec<Answer> {
        let leadership = self.leadership.borrow().clone();
        if leadership.leading {
            let progress = self.cosigner.progress();
            let push = |entry| self.queue.push(entry, leadership.term, &progress);
            return until_refused(entries, push);
        }
        let Some(leader) = leadership.leader else {
            return vec![Err(SubmitRefused::NoLeader); entries.len()];
        };
        let mut answers = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(MAX_FORWARD_ENTRIES).take_while(|entry| {
                bytes += entry.bytes;
                bytes <= MAX_FORWARD_BYTES
            });
            let (batch, later) = rest.split_at(fits.count().max(1));
            answers.extend(self.forward(leader, batch).await);
            if let Some(Err(refused)) = answers.last() {
                let refused = *refused;
                answers.resize(entries.len(), Err(refused));
                break;
            }
            rest = later;
        }
        answers
    }

    async fn forward(&self, leader: u64, batch: &[Arc<Travelling>]) -> Vec<Answer> {
        let request = v1::ForwardRequest {
            entries: batch.iter().map(|entry| entry.signed.clone()).collect(),
        };
        let call = self
            .network
            .call(leader, Lane::Forward, request.encode_to_vec().into());
        let unreachable = || vec![Err(SubmitRefused::Unreachable); batch.len()];
        // A leader that is cut off does not answer; as soon as it is another's turn there is no
        // reason to wait for it.
        let mut leadership = self.leadership.clone();
        let answered = tokio::select! {
            biased;
            answered = tokio::time::timeout(self.deadline, call) => answered,
            _ = leadership.wait_for(|now| now.leader != Some(leader)) => return unreachable(),
        };
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::info!(leader, %error, "forwarding failed");
                return unreachable();
            }
            Err(_) => return unreachable(),
        };
        match v1::ForwardResponse::decode(response) {
            Ok(response) if response.refused.len() == batch.len() => {
                let reasons = response.refused.iter();
                reasons
                    .map(|reason| SubmitRefused::from_reason(reason))
                    .collect()
            }
            _ => unreachable(),
        }
    }

    fn travelling(&self, admitted: Admitted) -> Arc<Travelling> {
        self.admitted.insert(admitted.leaf_hash);
        Arc::new(Travelling {
            id: admitted.id,
            bytes: admitted.signed.encoded_len(),
            signed: admitted.signed,
        })
    }

    fn has_outcome(&self, id: &Hash) -> bool {
        // A read that fails here fails again, loudly, in apply.
        matches!(apply::entry_outcome(&*self.store, id), Ok(Some(_)))
    }
}

/// Does `queue` to the entries in their order. Behind one that is refused none is queued, since it
/// may build on that one: they get the same answer.
fn until_refused<T>(
    entries: impl IntoIterator<Item = T>,
    mut queue: impl FnMut(T) -> Answer,
) -> Vec<Answer> {
    let mut refused = Ok(());
    let one = |entry| {
        if refused.is_ok() {
            refused = queue(entry);
        }
        refused
    };
    entries.into_iter().map(one).collect()
}

fn respond(answers: Vec<Answer>) -> Bytes {
    let reason = |answer: Answer| {
        answer
            .err()
            .map_or("", |refused| refused.reason())
            .to_owned()
    };
    let refused = answers.into_iter().map(reason).collect();
    v1::ForwardResponse { refused }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_travels_and_an_unknown_one_is_still_a_refusal() {
        for refused in SubmitRefused::ALL {
            assert_eq!(SubmitRefused::from_reason(refused.reason()), Err(refused));
        }
        assert_eq!(SubmitRefused::from_reason(""), Ok(()));
        assert!(SubmitRefused::from_reason("LATER_VERSION").is_err());
    }
}
