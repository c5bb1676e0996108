//! openraft's state machine: entries go to the applier, on a thread of its own.
//!
//! What holds here: entries are applied one after another in order; after an error none is. They are
//! read, and their signatures verified, one step ahead on another thread: that is half of the work of a
//! node that catches up. In the simulator the applier runs inline, so that one thread fixes the order of
//! everything. A snapshot is built from a certified copy or not at all; one that is installed was checked
//! before (`snapshot`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use futures::stream::Fuse;
use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::{mpsc, oneshot, watch};

use crate::applier::{Applier, ReadEntry};
use crate::config::Io;
use crate::log::Durable;
use crate::snapshot::install::Installer;
use crate::snapshot::{Copies, RaftSnapshot, SnapshotData, off_thread};
use crate::types::{Applied, Entry, LogId, SnapshotMeta, StoredMembership, Types};

/// Entries that are handed over at once: enough that handing over costs nothing,
const MAX_BATCH: usize = 64;
/// and no more once they have so many bytes: a batch is applied while the next one is verified.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Batches that are under way: one on each thread, and one that waits for either.
const MAX_BATCHES: usize = 3;

struct Job<E> {
    entries: Vec<E>,
    done: oneshot::Sender<io::Result<Vec<Applied>>>,
}

/// A batch that is under way, and who waits for its entries.
struct UnderWay {
    done: oneshot::Receiver<io::Result<Vec<Applied>>>,
    responders: Vec<Option<ApplyResponder<Types>>>,
}

/// The state machine, for openraft.
pub struct StateMachine {
    applier: Arc<Applier>,
    /// `None`: inline.
    thread: Option<mpsc::Sender<Job<Entry>>>,
    durable: watch::Receiver<Durable>,
    installer: Arc<Installer>,
    io: Io,
}

impl StateMachine {
    /// Above `applier`, never ahead of what is `durable`. The thread, if any, ends with this value.
    pub(crate) fn new(
        applier: Arc<Applier>,
        durable: watch::Receiver<Durable>,
        installer: Arc<Installer>,
        io: Io,
    ) -> io::Result<Self> {
        let thread = match io {
            Io::Simulated { .. } => None,
            Io::Threads => Some(threads(&applier)?),
        };
        Ok(Self {
            applier,
            thread,
            durable,
            installer,
            io,
        })
    }

    /// Hands over the entries that are there, a batch at most. `None`: there are no more.
    async fn hand_over<Strm>(&mut self, entries: &mut Fuse<Strm>) -> io::Result<Option<UnderWay>>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let Some(first) = entries.next().await else {
            return Ok(None);
        };
        let (entry, responder) = first?;
        let mut bytes = bytes_of(&entry);
        let (mut batch, mut responders) = (vec![entry], vec![responder]);
        while batch.len() < MAX_BATCH
            && bytes < MAX_BATCH_BYTES
            && let Some(Some(next)) = entries.next().now_or_never()
        {
            let (entry, responder) = next?;
            bytes += bytes_of(&entry);
            batch.push(entry);
            responders.push(responder);
        }
        let last = batch.last().map_or(0, |entry| entry.log_id.index);
        let covered = self.durable.wait_for(|durable| durable.next > last).await;
        covered.map_err(|_| io::Error::other("the Raft log has ended"))?;
        let (sender, done) = oneshot::channel();
        match &self.thread {
            // Nobody waits yet, and the answer does.
            None => {
                let read = batch.into_iter().map(|entry| self.applier.read(entry));
                drop(sender.send(apply_all(&self.applier, read)));
            }
            Some(thread) => {
                let job = Job {
                    entries: batch,
                    done: sender,
                };
                thread.send(job).await.map_err(|_| ended())?;
            }
        }
        Ok(Some(UnderWay { done, responders }))
    }
}

fn ended() -> io::Error {
    io::Error::other("the apply thread has ended")
}

fn bytes_of(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

/// The thread that reads and verifies, and behind it the one that applies.
fn threads(applier: &Arc<Applier>) -> io::Result<mpsc::Sender<Job<Entry>>> {
    let (sender, mut jobs) = mpsc::channel::<Job<Entry>>(MAX_BATCHES);
    let (verified, mut to_apply) = mpsc::channel::<Job<ReadEntry>>(MAX_BATCHES);
    let reader = applier.clone();
    std::thread::Builder::new()
        .name("verify".to_owned())
        .spawn(move || {
            while let Some(Job { entries, done }) = jobs.blocking_recv() {
                let entries = entries
                    .into_iter()
                    .map(|entry| reader.read(entry))
                    .collect();
                if verified.blocking_send(Job { entries, done }).is_err() {
                    return;
                }
            }
        })?;
    let applier = applier.clone();
    std::thread::Builder::new()
        .name("apply".to_owned())
        .spawn(move || {
            while let Some(job) = to_apply.blocking_recv() {
                let result = apply_all(&applier, job.entries);
                let failed = result.is_err();
                // Raft may have been shut down meanwhile.
                let _ = job.done.send(result);
                if failed {
                    return;
                }
            }
        })?;
    Ok(sender)
}

fn apply_all(
    applier: &Applier,
    entries: impl IntoIterator<Item = ReadEntry>,
) -> io::Result<Vec<Applied>> {
    let apply = |entry| applier.apply(entry);
    entries.into_iter().map(apply).collect()
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let position = self.applier.position();
        Ok((position.last_applied, position.membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut entries = entries.fuse();
        let mut under_way = VecDeque::new();
        loop {
            if under_way.len() < MAX_BATCHES
                && let Some(batch) = self.hand_over(&mut entries).await?
            {
                under_way.push_back(batch);
                continue;
            }
            let Some(UnderWay { done, responders }) = under_way.pop_front() else {
                return Ok(());
            };
            let applied = done.await.map_err(|_| ended())??;
            for (responder, applied) in responders.into_iter().zip(applied) {
                if let Some(responder) = responder {
                    responder.send(applied);
                }
            }
        }
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let has_one = self.installer.copies.newest().is_some();
        (force || has_one).then(|| self.builder())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.builder()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let (installer, meta) = (self.installer.clone(), meta.clone());
        off_thread(self.io, move || installer.install(&meta, snapshot)).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        Ok(self.installer.copies.snapshot())
    }
}

impl StateMachine {
    fn builder(&self) -> Builder {
        Builder {
            copies: self.installer.copies.clone(),
            applier: self.applier.clone(),
        }
    }
}

/// Tells openraft of the newest copy: building was done by apply.
pub struct Builder {
    copies: Arc<Copies>,
    applier: Arc<Applier>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        Ok(self.copies.insist(&self.applier.position()))
    }
}
