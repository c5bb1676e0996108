//! openraft's state machine: entries go to the applier, on a thread of its own.
//!
//! What holds here: entries are applied one after another in order; after an error none is. In the
//! simulator the applier runs inline, so that one thread fixes the order of everything. A snapshot is
//! built from a certified copy or not at all; one that is installed was checked before (`snapshot`).

use std::io;
use std::sync::Arc;

use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::{mpsc, oneshot, watch};

use crate::applier::Applier;
use crate::config::Io;
use crate::log::Durable;
use crate::snapshot::install::Installer;
use crate::snapshot::{Copies, RaftSnapshot, SnapshotData, off_thread};
use crate::types::{Applied, Entry, LogId, SnapshotMeta, StoredMembership, Types};

/// Entries that are handed to the apply thread at once: enough that handing over costs nothing.
const MAX_BATCH: usize = 64;
/// Batches between Raft and the apply thread.
const MAX_WAITING_BATCHES: usize = 4;

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
            installer,
            io,
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
