//! The way in: admission here, then the leader's queue, then waiting as long as the client asked.
//!
//! What holds here: a rule's rejection is an answer, and so is "not yet" at the deadline; errors
//! are for entries that were never queued. Entries of one stream are queued in the order in which
//! they were handed in, a bounded number at a time. What stays out: what makes an entry valid
//! (`cairn_ledger::admission`, `apply`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_consensus::{Core, SubmitRefused};
use cairn_ledger::admission::{self, AdmissionError, Admitted};
use cairn_ledger::apply::{self, AUTHOR_NAMESPACE};
use cairn_ledger::canonical;
use cairn_ledger::code::Refused;
use cairn_ledger::code::rules::first_refused;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::prove;
use cairn_ledger::map;
use cairn_ledger::state::{StateError, StateRead};
use cairn_proto::v1;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};

use super::bodies::IDLE_TIME;
use super::errors::{self, Failure, invalid, reason};

/// How long a submit waits where the client sets no deadline.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// However long a client's deadline is, a call ends: status can be asked for again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The answer has to reach the client before its own deadline does.
const ANSWER_MARGIN: Duration = Duration::from_millis(50);
/// Entries of one stream that wait for their outcome: enough to fill blocks at a few thousand
/// entries a second, and at most so many bodies in memory.
const STREAM_WINDOW: usize = 256;
/// A full queue is tried again so soon, in a stream; the client feels it as back-pressure.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// What submitting needs.
#[derive(Clone)]
pub struct Submission {
    /// The node's part in the agreement.
    pub core: Core,
    /// The ledger.
    pub chain: Arc<Chain>,
}

impl Submission {
    /// One entry from the wire to its status.
    pub async fn one(
        &self,
        entry: Option<v1::SignedEntry>,
        wait_for: v1::WaitFor,
        metadata: &MetadataMap,
    ) -> Result<v1::EntryStatus, Status> {
        let deadline = Instant::now() + wait_time(metadata);
        let admitted = self.admit(entry)?;
        let queued = Queued::of(&admitted);
        let answers = self.core.submit(vec![admitted]).await;
        if let Some(Err(refused)) = answers.into_iter().next() {
            return Err(refusal(&queued.id, refused));
        }
        self.status_at(&queued, wait_for, deadline).await
    }

    /// How far an entry is, at the latest at `deadline`, and what is wrong with it.
    async fn status_at(
        &self,
        queued: &Queued,
        wait_for: v1::WaitFor,
        deadline: Instant,
    ) -> Result<v1::EntryStatus, Status> {
        let status = self.core.wait(&queued.id, wait_for, deadline).await;
        let mut status = status.map_err(errors::state)?;
        status.detail = self.detail(&status, queued).map_err(errors::state)?;
        Ok(status)
    }

    /// For a batch that is not the draw's: at which rank it differs. For an order's last chunk: which
    /// code keeps the order from taking effect.
    fn detail(&self, status: &v1::EntryStatus, queued: &Queued) -> Result<String, StateError> {
        use v1::RejectReason as Reason;
        let (Some(body), Some(view)) = (&queued.explained_by, self.core.view()) else {
            return Ok(String::new());
        };
        let said = match status.reason() {
            Reason::BatchMismatch => {
                let batch = canonical::decode::<v1::BatchResult>(body).ok();
                batch
                    .map(|batch| differing_rank(&*view, &batch))
                    .transpose()?
            }
            Reason::CodeUnknown | Reason::CodeOtherRegion | Reason::CodeStaleSequence => {
                let last = canonical::decode::<v1::StatusChunk>(body).ok();
                last.map(|last| refused_code(&*view, &last)).transpose()?
            }
            _ => None,
        };
        Ok(said.unwrap_or_default())
    }

    /// Checks everything about an entry that needs no order. Who signed is looked up before any
    /// signature is verified: strangers cost a read each, not arithmetic.
    fn admit(&self, entry: Option<v1::SignedEntry>) -> Result<Admitted, Status> {
        let entry = entry.ok_or_else(|| invalid("entry", "is missing"))?;
        let refused = |error: AdmissionError| {
            let failure = Failure::new(Code::InvalidArgument, error.reason(), error.to_string());
            Status::from(failure)
        };
        let entry = admission::read(&self.chain, entry).map_err(refused)?;
        for key in entry.signers() {
            if !self.registered(key).map_err(errors::state)? {
                let key = hex::encode(key);
                let message = format!("{key} is no registered author; its office has to register");
                return Err(
                    Failure::new(Code::PermissionDenied, reason::AUTHOR_UNKNOWN, message)
                        .with("public_key", key)
                        .into(),
                );
            }
        }
        let entry = entry.verify(&self.chain).map_err(refused)?;
        self.approved(&entry)?;
        Ok(entry)
    }

    /// An entry without the approvals that its rule asks for leaves no trace in any block, so its
    /// client hears of it here or never. By the certified view; apply decides.
    fn approved(&self, entry: &Admitted) -> Result<(), Status> {
        let Some(view) = self.core.view().filter(|_| needs_approvals(entry)) else {
            return Ok(());
        };
        let refused = apply::approvals_refused(&self.chain, &*view, entry);
        let message = match refused.map_err(errors::state)? {
            None => return Ok(()),
            Some(v1::RejectReason::ApprovalMissing) => {
                "not all have approved whose approval the rules ask for; add it and submit again"
            }
            Some(_) => "somebody approved whose approval the rules do not ask for; leave it out",
        };
        let failure = Failure::new(Code::FailedPrecondition, reason::APPROVALS, message);
        Err(failure.with("entry_id", entry.id.to_string()).into())
    }

    /// Whether a key is a registered author's: by the certified view, or, before there is one, by
    /// the genesis. Apply decides; this keeps strangers out of the queue.
    fn registered(&self, key: &[u8]) -> Result<bool, StateError> {
        match self.core.view() {
            Some(view) => Ok(map::get(&*view, &map::map_key(AUTHOR_NAMESPACE, key))?.is_some()),
            None => {
                let authors = &self.chain.genesis.authors;
                Ok(authors.iter().any(|author| author.public_key == key))
            }
        }
    }

    /// Many entries, in order; answers go to `out` in the same order. Ends with the first entry
    /// that is refused, after the answers before it.
    pub async fn many(
        self,
        mut entries: Streaming<v1::SubmitEntriesRequest>,
        out: mpsc::Sender<Result<v1::SubmitEntriesResponse, Status>>,
    ) {
        let mut wait_for = None;
        let mut waiting = FuturesOrdered::new();
        let mut failed = None;
        let mut open = true;
        while open || !waiting.is_empty() {
            let room = STREAM_WINDOW - waiting.len();
            tokio::select! {
                biased;
                Some(answer) = waiting.next() => {
                    // The client is gone, or does not listen: its entries go on without it.
                    if out.send_timeout(answer, IDLE_TIME).await.is_err() { return }
                }
                next = ready_batch(&mut entries, room), if open && room > 0 => {
                    let (batch, end) = next;
                    let first = batch.first().map(v1::SubmitEntriesRequest::wait_for);
                    let wait_for = *wait_for.get_or_insert(first.unwrap_or_default());
                    let (queued, refused) = self.enqueue(batch).await;
                    for entry in queued {
                        waiting.push_back(self.clone().outcome(entry, wait_for));
                    }
                    failed = refused.or(end);
                    open = failed.is_none();
                }
            }
        }
        if let Some(Some(status)) = failed.map(Ended::status) {
            let _ = out.send_timeout(Err(status), IDLE_TIME).await;
        }
    }

    async fn outcome(
        self,
        queued: Queued,
        wait_for: v1::WaitFor,
    ) -> Result<v1::SubmitEntriesResponse, Status> {
        let deadline = Instant::now() + DEFAULT_WAIT;
        let status = self.status_at(&queued, wait_for, deadline).await?;
        Ok(v1::SubmitEntriesResponse {
            status: Some(status),
        })
    }

    /// Queues a batch, in order, and returns what was queued and what ended it. Behind a refused
    /// entry nothing is queued.
    async fn enqueue(&self, batch: Vec<v1::SubmitEntriesRequest>) -> (Vec<Queued>, Option<Ended>) {
        let mut ended = None;
        let mut admitted = Vec::with_capacity(batch.len());
        for request in batch {
            match self.admit(request.entry) {
                Ok(entry) => admitted.push(entry),
                Err(status) => {
                    ended = Some(Ended::Failed(status));
                    break;
                }
            }
        }
        let deadline = Instant::now() + DEFAULT_WAIT;
        let mut queued = Vec::with_capacity(admitted.len());
        while !admitted.is_empty() {
            let answers = self.core.submit(admitted.clone()).await;
            let first_refused = answers.iter().position(Result::is_err);
            let done = first_refused.unwrap_or(admitted.len());
            queued.extend(admitted.drain(..done).map(|entry| Queued::of(&entry)));
            if let Some(Err(refused)) = first_refused.map(|at| answers[at]) {
                if !passes(refused) || Instant::now() > deadline {
                    ended = Some(Ended::Failed(refusal(&admitted[0].id, refused)));
                    break;
                }
                tokio::time::sleep(FULL_PAUSE).await;
            }
        }
        (queued, ended)
    }
}

/// Whether it may depend on who approved. Chunks, which are many and large, never do.
fn needs_approvals(entry: &Admitted) -> bool {
    use v1::EntryKind as Kind;
    let chunk = matches!(
        entry.envelope.kind(),
        Kind::RosterChunk | Kind::BatchResult | Kind::StatusChunk | Kind::CodeIssue | Kind::CheckIn
    );
    !chunk || entry.approvals().next().is_some()
}

/// An entry on its way, with what its rejection is explained from.
struct Queued {
    id: Hash,
    /// The body, where it is a batch of results or a chunk of an order.
    explained_by: Option<Bytes>,
}

impl Queued {
    fn of(entry: &Admitted) -> Queued {
        let explained = matches!(
            entry.envelope.kind(),
            v1::EntryKind::BatchResult | v1::EntryKind::StatusChunk
        );
        Queued {
            id: entry.id,
            explained_by: explained.then(|| entry.body().clone()),
        }
    }
}

fn differing_rank<S: StateRead + ?Sized>(
    view: &S,
    batch: &v1::BatchResult,
) -> Result<String, StateError> {
    let id = Hash::from_slice(&batch.lottery_id).unwrap_or_default();
    let rank = prove::first_difference(view, &id, batch)?;
    // Batches and ranks are said from 1, as in all words to people.
    let (tier, number) = (batch.tier, u64::from(batch.batch) + 1);
    let said = |rank| format!("batch {number} of tier {tier} differs from the draw at rank {rank}");
    Ok(rank.map(|rank| said(rank + 1)).unwrap_or_default())
}

fn refused_code<S: StateRead + ?Sized>(
    view: &S,
    last: &v1::StatusChunk,
) -> Result<String, StateError> {
    let said = |refused: Refused| {
        let (code, expected) = (hex::encode(refused.code), refused.expected);
        match (refused.reason, refused.found) {
            (v1::RejectReason::CodeStaleSequence, Some(found)) => {
                format!("code {code} has sequence {found}, the order expects {expected}")
            }
            (v1::RejectReason::CodeOtherRegion, _) => format!("code {code} is of another region"),
            _ => format!("code {code} was never issued"),
        }
    };
    let refused = first_refused(view, last)?;
    Ok(refused.map(said).unwrap_or_default())
}

/// How a stream ended.
enum Ended {
    ByClient,
    Failed(Status),
}

impl Ended {
    fn status(self) -> Option<Status> {
        match self {
            Ended::ByClient => None,
            Ended::Failed(status) => Some(status),
        }
    }
}

/// The next entry and those behind it that have already arrived.
async fn ready_batch(
    entries: &mut Streaming<v1::SubmitEntriesRequest>,
    most: usize,
) -> (Vec<v1::SubmitEntriesRequest>, Option<Ended>) {
    let mut batch = Vec::new();
    let mut next = entries.next().await;
    loop {
        match next {
            Some(Ok(request)) => batch.push(request),
            Some(Err(status)) => return (batch, Some(Ended::Failed(status))),
            None => return (batch, Some(Ended::ByClient)),
        }
        if batch.len() >= most {
            return (batch, None);
        }
        match entries.next().now_or_never() {
            Some(ready) => next = ready,
            None => return (batch, None),
        }
    }
}

/// Whether waiting a moment may help.
fn passes(refused: SubmitRefused) -> bool {
    !matches!(refused, SubmitRefused::Invalid | SubmitRefused::Stopped)
}

fn refusal(id: &Hash, refused: SubmitRefused) -> Status {
    let code = match refused {
        SubmitRefused::QueueFull | SubmitRefused::TailTooLong => Code::ResourceExhausted,
        SubmitRefused::Invalid => Code::InvalidArgument,
        _ => Code::Unavailable,
    };
    let failure =
        Failure::new(code, refused.reason(), refused.to_string()).with("entry_id", id.to_string());
    if passes(refused) {
        failure.retry_in(Duration::from_secs(1)).into()
    } else {
        failure.into()
    }
}

/// How long to wait: until shortly before the client's own deadline.
fn wait_time(metadata: &MetadataMap) -> Duration {
    let asked = metadata.get("grpc-timeout").and_then(|v| v.to_str().ok());
    let asked = asked
        .and_then(grpc_timeout)
        .unwrap_or(DEFAULT_WAIT + ANSWER_MARGIN);
    asked
        .saturating_sub(ANSWER_MARGIN)
        .max(asked / 2)
        .min(LONGEST_WAIT)
}

/// `grpc-timeout`: up to eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count.checked_mul(3600)?),
        "M" => Duration::from_secs(count.checked_mul(60)?),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// What `out` receives, as a response stream that ends with `stop`.
pub fn answers<T: Send + 'static>(
    out: mpsc::Receiver<Result<T, Status>>,
    stop: tokio_util::sync::CancellationToken,
) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
    tokio_stream::wrappers::ReceiverStream::new(out).take_until(stop.cancelled_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_comes_before_the_clients_deadline() {
        let with = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            wait_time(&metadata)
        };
        assert_eq!(wait_time(&MetadataMap::new()), DEFAULT_WAIT);
        assert_eq!(with("2S"), Duration::from_millis(1950));
        assert_eq!(with("60m"), Duration::from_millis(30));
        assert_eq!(with("99999999H"), LONGEST_WAIT);
        for bad in ["", "S", "x", "1X", "123456789S", "-1S"] {
            assert_eq!(with(bad), DEFAULT_WAIT, "{bad}");
        }
    }
}
