//! Submitting: one entry, or a stream of many, until they are as far as the user wants.
//!
//! What holds here: an entry is signed once and handed in again, to whichever node answers, until
//! its outcome is known; that is safe, for it is recorded once. A rejection is final and fails the
//! command. What a node says of an entry's state is its word; proofs come from `session`.

use std::collections::VecDeque;
use std::iter::Fuse;
use std::time::Duration;

use bytes::Bytes;
use cairn_ledger::entry::{self, Draft};
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::{self, Hash};
use cairn_proto::v1;
use cairn_proto::v1::{EntryState, WaitFor};
use ed25519_dalek::SigningKey;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::exit::Failure;
use crate::nodes::next_message;
use crate::session::{Patience, Session, ledger_client, passes};
use crate::system;

/// How long a signed entry may wait to be recorded.
const LIFETIME_MS: u64 = 600_000;
/// How long one call waits at the node before this side looks again.
const CALL: Duration = Duration::from_secs(10);
/// Entries on their way without an answer: at most so many bodies are in memory, and enough to
/// fill blocks.
const IN_FLIGHT: usize = 32;

/// Composes and signs an entry for a chain, as [`draft`] has it.
pub fn sign_entry(
    chain: &Chain,
    kind: v1::EntryKind,
    visibility: v1::Visibility,
    subject: Bytes,
    body: Bytes,
    author: &SigningKey,
    approvers: &[&SigningKey],
) -> v1::SignedEntry {
    let draft = draft(chain, kind, visibility, subject, body);
    entry::compose(&chain.id, draft, author, approvers)
}

/// An entry to sign: with a fresh nonce, and ten minutes to be recorded in.
pub fn draft(
    chain: &Chain,
    kind: v1::EntryKind,
    visibility: v1::Visibility,
    subject: Bytes,
    body: Bytes,
) -> Draft {
    Draft {
        kind,
        visibility,
        subject,
        nonce: system::random(),
        not_after_ms: system::now_ms().saturating_add(lifetime_ms(chain)),
        body,
    }
}

/// Half of what the genesis allows, so that clocks may differ.
fn lifetime_ms(chain: &Chain) -> u64 {
    LIFETIME_MS.min(chain.limits().max_entry_lifetime_ms / 2)
}

impl Session {
    /// The draft of an entry that is the same one when it is drafted again soon: with this nonce,
    /// and an end rounded down to half its lifetime.
    pub fn repeatable(&self, draft: Draft, nonce: [u8; 16]) -> Draft {
        let not_after_ms = rounded_end(draft.not_after_ms, lifetime_ms(&self.chain));
        Draft {
            nonce,
            not_after_ms,
            ..draft
        }
    }
}

fn rounded_end(not_after_ms: u64, lifetime_ms: u64) -> u64 {
    not_after_ms - not_after_ms % (lifetime_ms / 2).max(1)
}

/// The id of a signed entry.
pub fn entry_id(entry: &v1::SignedEntry) -> Hash {
    hash::plain(&entry.envelope)
}

/// An entry's state in words.
pub fn state_in_words(state: EntryState) -> &'static str {
    match state {
        EntryState::Unspecified | EntryState::Unknown => "unknown",
        EntryState::Pending => "pending",
        EntryState::Committed => "committed",
        EntryState::Certified => "certified",
        EntryState::Rejected => "rejected",
    }
}

/// A rule's reason for refusing an entry, as the formats name it.
pub fn reject_reason(reason: v1::RejectReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("REJECT_REASON_").unwrap_or(name)
}

/// Whether an entry is as far as is wanted.
fn reached(status: &v1::EntryStatus, wait: WaitFor) -> bool {
    match status.state() {
        EntryState::Certified => true,
        EntryState::Committed => wait != WaitFor::Certified,
        _ => false,
    }
}

/// A rejection as a failure.
pub fn accepted(status: &v1::EntryStatus) -> Result<(), Failure> {
    if status.state() != EntryState::Rejected {
        return Ok(());
    }
    let id = hex::encode(&status.entry_id);
    let reason = reject_reason(status.reason());
    let detail = match status.detail.as_str() {
        "" => String::new(),
        detail => format!(": {detail}"),
    };
    Err(Failure::Failed(format!(
        "entry {id} was refused by the rules: {reason}, in block {}{detail}",
        status.height
    )))
}

fn not_yet(status: &v1::EntryStatus) -> Failure {
    let id = hex::encode(&status.entry_id);
    let state = state_in_words(status.state());
    Failure::NotFound(format!(
        "entry {id} was handed in and is {state}: the time is up before it came further; ask again \
         with: cairn entry status {id}"
    ))
}

impl Session {
    /// Hands in an entry and waits until it is as far as wanted. A rejection fails, and so does
    /// the end of the time; the message then says how far the entry is.
    pub async fn submit(
        &self,
        entry: &v1::SignedEntry,
        wait: WaitFor,
    ) -> Result<v1::EntryStatus, Failure> {
        let status = self.decide(entry, wait).await?;
        accepted(&status)?;
        Ok(status)
    }

    /// The same, and a rejection is an answer.
    pub async fn decide(
        &self,
        entry: &v1::SignedEntry,
        wait: WaitFor,
    ) -> Result<v1::EntryStatus, Failure> {
        let mut patience = Patience::new(self.timeout());
        loop {
            let status = self.hand_in(entry, wait, &mut patience).await?;
            let status = self.follow(status, wait, &mut patience).await?;
            if status.state() == EntryState::Rejected || reached(&status, wait) {
                return Ok(status);
            }
            // Not in a block, perhaps lost with a leader: once more.
            if !patience.pause().await {
                return Err(not_yet(&status));
            }
        }
    }

    async fn hand_in(
        &self,
        entry: &v1::SignedEntry,
        wait: WaitFor,
        patience: &mut Patience,
    ) -> Result<v1::EntryStatus, Failure> {
        let what = format!("submitting entry {}", entry_id(entry));
        loop {
            let mut request = Request::new(v1::SubmitEntryRequest {
                entry: Some(entry.clone()),
                wait_for: wait.into(),
            });
            request.set_timeout(patience.left().min(CALL));
            let answer = ledger_client(self.channel()).submit_entry(request).await;
            match answer {
                Ok(answer) => {
                    let status = answer.into_inner().status.unwrap_or_default();
                    self.about(entry, &status)?;
                    return Ok(status);
                }
                Err(status) if passes(&status) => {
                    self.pass_over(&what, &status, patience).await?;
                }
                Err(status) => return Err(Failure::from(status).during(&what)),
            }
        }
    }

    /// Whether the node answered about the entry that was handed in.
    fn about(&self, entry: &v1::SignedEntry, status: &v1::EntryStatus) -> Result<(), Failure> {
        let id = entry_id(entry);
        if status.entry_id == id.as_bytes().as_slice() {
            return Ok(());
        }
        let (node, other) = (self.node(), hex::encode(&status.entry_id));
        let message = format!("{node} answered about entry {other}, not {id}; ask another node");
        Err(Failure::Failed(message))
    }

    /// Asks how far a committed entry is, until it is as far as wanted or the time is up. One that
    /// is in no block yet is left to the caller.
    async fn follow(
        &self,
        mut status: v1::EntryStatus,
        wait: WaitFor,
        patience: &mut Patience,
    ) -> Result<v1::EntryStatus, Failure> {
        while status.state() == EntryState::Committed && !reached(&status, wait) {
            if !patience.pause().await {
                return Err(not_yet(&status));
            }
            let id = Hash::from_slice(&status.entry_id).unwrap_or_default();
            status = self.entry_status(&id).await?;
        }
        Ok(status)
    }

    /// How far an entry is, as a node says; without proof.
    pub async fn entry_status(&self, id: &Hash) -> Result<v1::EntryStatus, Failure> {
        let request = v1::GetEntryStatusRequest {
            entry_id: id.to_bytes(),
        };
        let answer = self.retry("asking for the entry's status", async |channel| {
            let mut client = ledger_client(channel);
            client.get_entry_status(request.clone()).await
        });
        Ok(answer.await?.into_inner().status.unwrap_or_default())
    }

    /// Hands in many entries on one stream, in order, and returns where each of them is. Entries
    /// are drawn from the iterator as answers come; `progress` sees each answer with its index.
    /// Where a node fails, what has no answer yet is handed in again through the next one.
    ///
    /// Ends with the first entry that is rejected. Entries behind it may be recorded; those who
    /// resume look at the certified state first.
    pub async fn submit_all<I>(
        &self,
        entries: I,
        wait: WaitFor,
        progress: &mut dyn FnMut(usize, &v1::EntryStatus),
    ) -> Result<Vec<v1::EntryStatus>, Failure>
    where
        I: IntoIterator<Item = v1::SignedEntry>,
    {
        let mut queue = Queue::new(entries.into_iter());
        let mut patience = Patience::new(self.timeout());
        loop {
            let before = queue.answered.len();
            match self.stream_once(&mut queue, wait, progress).await {
                Ok(()) => return Ok(queue.answered),
                Err(Broken::Final(failure)) => return Err(failure),
                Err(Broken::Passing(status)) => {
                    if queue.answered.len() > before {
                        patience = Patience::new(self.timeout());
                    }
                    let what = "submitting entries";
                    self.pass_over(what, &status, &mut patience).await?;
                }
            }
        }
    }

    /// One stream to one node, to the end of the entries or of the stream.
    async fn stream_once<I>(
        &self,
        queue: &mut Queue<I>,
        wait: WaitFor,
        progress: &mut dyn FnMut(usize, &v1::EntryStatus),
    ) -> Result<(), Broken>
    where
        I: Iterator<Item = v1::SignedEntry>,
    {
        let (out, requests) = mpsc::channel(IN_FLIGHT);
        let mut out = Some(out);
        queue.again(out.as_ref(), wait);
        queue.fill(&mut out, wait);
        let mut client = ledger_client(self.channel());
        let call = client.submit_entries(ReceiverStream::new(requests));
        let mut answers = call.await?.into_inner();
        while !queue.waiting.is_empty() {
            let answer = next_message(&mut answers).await?;
            let answer = answer.ok_or_else(|| Status::unavailable("the node ended the stream"))?;
            let status = answer.status.unwrap_or_default();
            let status = self.settle(queue, status, wait).await?;
            progress(queue.answered.len(), &status);
            queue.waiting.pop_front();
            queue.answered.push(status);
            queue.fill(&mut out, wait);
        }
        Ok(())
    }

    /// The final status of the entry at the front of the queue, whose answer this is.
    async fn settle<I>(
        &self,
        queue: &Queue<I>,
        status: v1::EntryStatus,
        wait: WaitFor,
    ) -> Result<v1::EntryStatus, Broken> {
        let Some(front) = queue.waiting.front() else {
            return Ok(status);
        };
        let number = queue.answered.len() + 1;
        let finish = async {
            self.about(front, &status)?;
            accepted(&status)?;
            if reached(&status, wait) {
                return Ok(status);
            }
            self.submit(front, wait).await
        };
        finish.await.map_err(|failure: Failure| {
            Broken::Final(failure.during(&format!("entry number {number}")))
        })
    }
}

/// What ended a stream.
enum Broken {
    /// Nothing helps.
    Final(Failure),
    /// The next node may take it.
    Passing(Status),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Broken {
        if passes(&status) {
            Broken::Passing(status)
        } else {
            Broken::Final(Failure::from(status).during("submitting entries"))
        }
    }
}

/// Entries on their way.
struct Queue<I> {
    entries: Fuse<I>,
    /// Handed in, not answered.
    waiting: VecDeque<v1::SignedEntry>,
    answered: Vec<v1::EntryStatus>,
}

type Out = mpsc::Sender<v1::SubmitEntriesRequest>;

impl<I: Iterator<Item = v1::SignedEntry>> Queue<I> {
    fn new(entries: I) -> Self {
        Queue {
            entries: entries.fuse(),
            waiting: VecDeque::new(),
            answered: Vec::new(),
        }
    }

    /// Hands in again what an earlier stream left unanswered.
    fn again(&self, out: Option<&Out>, wait: WaitFor) {
        for entry in &self.waiting {
            send(out, entry, wait);
        }
    }

    /// Hands in new entries up to the bound; lets go of `out` behind the last one.
    fn fill(&mut self, out: &mut Option<Out>, wait: WaitFor) {
        while out.is_some() && self.waiting.len() < IN_FLIGHT {
            match self.entries.next() {
                Some(entry) => {
                    send(out.as_ref(), &entry, wait);
                    self.waiting.push_back(entry);
                }
                None => *out = None,
            }
        }
    }
}

/// The channel has room for all that may wait, so this fails only where the stream has ended; then
/// reading answers says so.
fn send(out: Option<&Out>, entry: &v1::SignedEntry, wait: WaitFor) {
    if let Some(out) = out {
        let _ = out.try_send(v1::SubmitEntriesRequest {
            entry: Some(entry.clone()),
            wait_for: wait.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: EntryState) -> v1::EntryStatus {
        v1::EntryStatus {
            state: state.into(),
            reason: v1::RejectReason::EvidenceExists.into(),
            ..Default::default()
        }
    }

    #[test]
    fn committed_is_enough_only_where_it_was_asked_for() {
        assert!(reached(&status(EntryState::Committed), WaitFor::Committed));
        assert!(!reached(&status(EntryState::Committed), WaitFor::Certified));
        assert!(reached(&status(EntryState::Certified), WaitFor::Committed));
        assert!(!reached(&status(EntryState::Pending), WaitFor::Committed));
    }

    #[test]
    fn a_rejection_fails_with_its_reason() {
        let failure = accepted(&status(EntryState::Rejected));
        let text = failure.map_err(|failure| failure.to_string());
        assert!(text.is_err_and(|text| text.contains("EVIDENCE_EXISTS")));
        assert!(accepted(&status(EntryState::Pending)).is_ok());
    }

    #[test]
    fn a_rounded_end_is_the_same_for_a_while_and_never_near() {
        let (life, step) = (600_000, 300_000);
        let ends: Vec<u64> = (0..step)
            .step_by(7)
            .map(|t| rounded_end(step * 9 + t + life, life))
            .collect();
        assert!(ends.iter().all(|end| *end == step * 11), "{:?}", ends[0]);
        let last = step * 10 - 1;
        assert!(rounded_end(last + life, life) - last > step);
        assert_eq!(rounded_end(5, 1), 5, "a lifetime that cannot be halved");
    }

    #[test]
    fn the_queue_draws_no_more_than_may_be_on_the_way() {
        let mut drawn = 0;
        let entries = std::iter::repeat_with(|| {
            drawn += 1;
            v1::SignedEntry::default()
        });
        let mut queue = Queue::new(entries.take(IN_FLIGHT + 1));
        let (out, mut sent) = mpsc::channel(IN_FLIGHT);
        let mut out = Some(out);
        queue.fill(&mut out, WaitFor::Committed);
        assert_eq!(queue.waiting.len(), IN_FLIGHT);
        assert!(out.is_some());
        while sent.try_recv().is_ok() {}
        queue.waiting.clear();
        queue.fill(&mut out, WaitFor::Committed);
        assert_eq!(queue.waiting.len(), 1);
        assert!(out.is_none(), "the stream ends behind the last entry");
        assert_eq!(drawn, IN_FLIGHT + 1);
    }
}
