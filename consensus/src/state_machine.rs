//! openraft's state machine: entries go to the applier, on a thread of its own.
//!
//! What holds here: entries are applied one after another in order; after an error none is. In the
//! simulator the applier runs inline, so that one thread fixes the order of everything. Snapshots
//! do not exist in this version: the log is never purged.

use std::io;
use std::sync::Arc;

use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use tokio::sync::{mpsc, oneshot, watch};

use crate::applier::Applier;
use crate::config::Io;
use crate::log::Durable;
use crate::types::{Applied, Entry, LogId, StoredMembership, Types};

/// Entries that are handed to the apply thread at once: enough that handing over costs nothing.
const MAX_BATCH: usize = 64;
/// Batches between Raft and the apply thread.
const MAX_WAITING_BATCHES: usize = 4;

/// What a snapshot holds in this version: nothing, because there are none.
#[derive(Debug, Clone, Copy)]
pub struct NoSnapshot;

struct Job {
    entries: Vec<Entry>,
    done: oneshot::Sender<io::Result<Vec<Applied>>>,
}

/// The state machine, for openraft.
pub struct StateMachine {
    applier: Arc<Applier>,
    /// `None`: inline.
    thread: Option<mpsc::Sender<Job>>,
    durable: watch::Receiver<Durable>,
}

impl StateMachine {
    /// Above `applier`, never ahead of what is `durable`. The thread, if any, ends with this value.
    pub(crate) fn new(
        applier: Arc<Applier>,
        durable: watch::Receiver<Durable>,
        io: Io,
    ) -> io::Result<Self> {
        let thread = match io {
            Io::Simulated { .. } => None,
            Io::Threads => {
                let (sender, mut jobs) = mpsc::channel::<Job>(MAX_WAITING_BATCHES);
                let applier = applier.clone();
                std::thread::Builder::new()
                    .name("apply".to_owned())
                    .spawn(move || {
                        while let Some(job) = jobs.blocking_recv() {
                            let result = apply_all(&applier, job.entries);
                            let failed = result.is_err();
                            // Raft may have been shut down meanwhile.
                            let _ = job.done.send(result);
                            if failed {
                                return;
                            }
                        }
                    })?;
                Some(sender)
            }
        };
        Ok(Self {
            applier,
            thread,
            durable,
        })
    }

    async fn apply_batch(&mut self, entries: Vec<Entry>) -> io::Result<Vec<Applied>> {
        let last = entries.last().map_or(0, |entry| entry.log_id.index);
        let covered = self.durable.wait_for(|durable| durable.next > last).await;
        covered.map_err(|_| io::Error::other("the Raft log has ended"))?;
        let Some(thread) = &self.thread else {
            return apply_all(&self.applier, entries);
        };
        let ended = || io::Error::other("the apply thread has ended");
        let (done, result) = oneshot::channel();
        thread
            .send(Job { entries, done })
            .await
            .map_err(|_| ended())?;
        result.await.map_err(|_| ended())?
    }
}

fn apply_all(applier: &Applier, entries: Vec<Entry>) -> io::Result<Vec<Applied>> {
    let apply = |entry| applier.apply(entry);
    entries.into_iter().map(apply).collect()
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = NoSnapshot;
    type SnapshotBuilder = NoSnapshot;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let position = self.applier.position();
        Ok((position.last_applied, position.membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut entries = entries.fuse();
        while let Some(first) = entries.next().await {
            let (entry, responder) = first?;
            let (mut batch, mut responders) = (vec![entry], vec![responder]);
            while batch.len() < MAX_BATCH
                && let Some(Some(next)) = entries.next().now_or_never()
            {
                let (entry, responder) = next?;
                batch.push(entry);
                responders.push(responder);
            }
            let applied = self.apply_batch(batch).await?;
            for (responder, applied) in responders.into_iter().zip(applied) {
                if let Some(responder) = responder {
                    responder.send(applied);
                }
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshot {
        NoSnapshot
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<Types>,
        _snapshot: NoSnapshot,
    ) -> io::Result<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, NoSnapshot>>> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Types> for NoSnapshot {
    type SnapshotData = NoSnapshot;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, NoSnapshot>> {
        Err(no_snapshots())
    }
}

fn no_snapshots() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this version makes no snapshots: its log is never purged",
    )
}
