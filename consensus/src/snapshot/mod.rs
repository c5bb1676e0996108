//! Copies of the state for members that are far behind, and how far the Raft log may be purged.
//!
//! What holds here: a copy is made right after a checkpoint block, when one is due, and counts once
//! that block is certified; so what is sent can be checked by whoever receives it. The Raft log is
//! purged only below the *older* of the two copies that are kept: a member that was away for a short
//! while finds the log, and one that takes the newer copy finds what follows it. A copy that is being
//! sent stays, and so does the log behind it. Whoever is sent one gets a fresh one. The raft database,
//! with vote and sign guard, is in no copy.
//!
//! What stays out: files and folders (`cairn_storage::generations`), sending (`send`), receiving
//! (`receive`), and what makes a received state believed (`install`).

mod fresh;
pub(crate) mod install;
pub(crate) mod receive;
pub(crate) mod send;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_ledger::apply;
use cairn_proto::v1;
use cairn_storage::{Generations, StateStore};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::storage::Snapshot;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::applier::Position;
use crate::config::Io;
use crate::locked;
use crate::raft::RaftHandle;
use crate::types::{LogId, SnapshotMeta, from_bytes, to_bytes};

/// A copy is due after so many blocks: at some 50 blocks a second every few minutes, so that the Raft
/// log of small blocks stays short,
pub const COPY_EVERY_BLOCKS: u64 = 5_000;
/// or after so many bytes of proposals: the Raft log holds at most about twice as much, and making a
/// copy costs one flush of a memtable (about 0.2 s of the apply thread) each time.
pub const COPY_EVERY_BYTES: u64 = 64 << 20;
/// How long the purge is followed, for the log line.
const PURGE_NOTICED: Duration = Duration::from_secs(5);
/// Copies kept: the newest is sent; the log is purged below the older one.
const COPIES: usize = 2;

/// When copies are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyRules {
    /// After so many blocks since the last one,
    pub every_blocks: u64,
    /// or so many bytes of proposals.
    pub every_bytes: u64,
}

impl Default for CopyRules {
    fn default() -> Self {
        Self {
            every_blocks: COPY_EVERY_BLOCKS,
            every_bytes: COPY_EVERY_BYTES,
        }
    }
}

/// A certified copy.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) height: u64,
    pub(crate) meta: SnapshotMeta,
    pub(crate) certificate: v1::Checkpoint,
}

impl Copy {
    fn index(&self) -> u64 {
        self.meta.last_log_id.map_or(0, |last| last.index)
    }
}

/// What a copy is worth, as it is noted beside it.
#[derive(Serialize, Deserialize)]
struct Note {
    position: Position,
    certificate: Vec<u8>,
}

/// openraft's snapshot data: where the state is, never the state itself.
pub enum SnapshotData {
    /// A copy of ours.
    #[allow(private_interfaces)]
    Kept(Arc<Copy>),
    /// A state from elsewhere that was checked and is about to be adopted.
    #[allow(private_interfaces)]
    Checked(Checked),
    /// A place in the log without a copy: the log behind is gone, and the next certified copy is
    /// still to come.
    Awaited,
}

/// A state from elsewhere that was checked: the generation that was begun.
pub(crate) struct Checked {
    pub(crate) certificate: v1::Checkpoint,
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotData::Kept(copy) => write!(f, "the copy at {}", copy.height),
            SnapshotData::Checked(_) => f.write_str("a received state"),
            SnapshotData::Awaited => f.write_str("no copy yet"),
        }
    }
}

/// openraft's snapshot.
pub(crate) type RaftSnapshot =
    openraft::type_config::alias::SnapshotOf<crate::types::Types, SnapshotData>;

#[derive(Default)]
struct Inner {
    /// Since the last copy.
    blocks: u64,
    bytes: u64,
    /// Somebody needs a copy: the next checkpoint makes one.
    wanted: bool,
    /// A copy whose block is not certified yet.
    pending: Option<(u64, Position)>,
    /// Certified, ascending.
    copies: Vec<Arc<Copy>>,
    /// No longer kept, and perhaps still being sent.
    retired: Vec<Arc<Copy>>,
    installs: u64,
    /// Where a snapshot was promised to openraft without a copy.
    awaited: Option<SnapshotMeta>,
}

impl Inner {
    /// A copy is being made.
    fn begun(&mut self) {
        (self.blocks, self.bytes, self.wanted) = (0, 0, false);
    }
}

/// The copies of one node.
pub(crate) struct Copies {
    generations: Arc<dyn Generations>,
    store: Arc<StateStore>,
    rules: CopyRules,
    /// Held while the state moves.
    still: Mutex<()>,
    inner: Mutex<Inner>,
    /// A copy waits for its certificate.
    made: Notify,
}

pub(crate) fn meta_of(position: &Position) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: position.last_applied,
        last_membership: position.membership.clone(),
    }
}

impl Copies {
    /// What the disk has. `needed`: the log below the state is gone, so a copy must be had, as after
    /// an install that was interrupted at its very end.
    pub(crate) fn open(
        generations: Arc<dyn Generations>,
        store: Arc<StateStore>,
        rules: CopyRules,
        needed: bool,
    ) -> io::Result<Self> {
        let mut copies = Vec::new();
        for (height, note) in generations.kept().map_err(io::Error::other)? {
            let note: Note = from_bytes(&note)?;
            let certificate = v1::Checkpoint::decode(&note.certificate[..]);
            copies.push(Arc::new(Copy {
                height,
                meta: meta_of(&note.position),
                certificate: certificate.map_err(io::Error::other)?,
            }));
        }
        let tip = apply::tip(&*store).map_err(io::Error::other)?;
        let height = tip.map_or(0, |tip| tip.header.height);
        let newest = copies.last().map_or(0, |copy| copy.height);
        let copies = Self {
            generations,
            store,
            rules,
            still: Mutex::default(),
            inner: Mutex::new(Inner {
                blocks: height.saturating_sub(newest),
                copies,
                ..Inner::default()
            }),
            made: Notify::new(),
        };
        if needed && copies.newest().is_none() {
            copies.of_certified_tip(height)?;
        }
        Ok(copies)
    }

    /// A block is part of the state, and no other is applied before this returns.
    pub(crate) fn block_applied(
        &self,
        header: &v1::Header,
        proposal_bytes: u64,
        position: &Position,
    ) -> io::Result<()> {
        {
            let inner = &mut *locked(&self.inner);
            inner.blocks += 1;
            inner.bytes += proposal_bytes;
            let due = inner.wanted
                || inner.blocks >= self.rules.every_blocks
                || inner.bytes >= self.rules.every_bytes;
            if !header.checkpoint || !due || inner.pending.is_some() {
                return Ok(());
            }
            inner.begun();
        }
        self.generations
            .keep(header.height)
            .map_err(io::Error::other)?;
        tracing::info!(height = header.height, "a copy of the state was made");
        locked(&self.inner).pending = Some((header.height, position.clone()));
        // The block may have been certified while the copy was made.
        self.made.notify_one();
        Ok(())
    }

    /// Looks whether the waiting copy's block is certified by now. If so: up to which index the log
    /// may go.
    fn settle(&self) -> io::Result<Option<u64>> {
        let Some((height, position)) = locked(&self.inner).pending.clone() else {
            return Ok(None);
        };
        let certificate = self.store.checkpoint_at(height).map_err(io::Error::other)?;
        match certificate {
            Some(certificate) => self.certified(height, position, certificate)?,
            None => {
                let newest = self.store.latest_checkpoint().map_err(io::Error::other)?;
                if newest.is_some_and(|(newest, _)| newest > height) {
                    // Its own certificate will never come; the next block that is due makes another.
                    let inner = &mut *locked(&self.inner);
                    inner.pending = None;
                    inner.blocks = self.rules.every_blocks;
                    self.generations.forget(height).map_err(io::Error::other)?;
                }
                return Ok(None);
            }
        }
        let inner = locked(&self.inner);
        let [older, _] = &inner.copies[..] else {
            return Ok(None);
        };
        let sent = inner.retired.iter().map(|copy| copy.index());
        Ok(sent.chain([older.index()]).min())
    }

    fn certified(
        &self,
        height: u64,
        position: Position,
        certificate: v1::Checkpoint,
    ) -> io::Result<()> {
        let note = to_bytes(&Note {
            position: position.clone(),
            certificate: certificate.encode_to_vec(),
        })?;
        self.generations
            .note(height, &note)
            .map_err(io::Error::other)?;
        let inner = &mut *locked(&self.inner);
        inner.pending = None;
        inner.copies.push(Arc::new(Copy {
            height,
            meta: meta_of(&position),
            certificate,
        }));
        while inner.copies.len() > COPIES {
            let old = inner.copies.remove(0);
            inner.retired.push(old);
        }
        // Nobody else has it: it goes.
        for copy in inner
            .retired
            .extract_if(.., |copy| Arc::strong_count(copy) == 1)
        {
            self.generations
                .forget(copy.height)
                .map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Another state took the place of the one that these copies are of.
    pub(crate) fn installed(
        &self,
        height: u64,
        position: Position,
        certificate: v1::Checkpoint,
    ) -> io::Result<()> {
        let pending = locked(&self.inner).pending.take();
        if let Some((pending, _)) = pending {
            self.generations.forget(pending).map_err(io::Error::other)?;
        }
        let known = locked(&self.inner)
            .copies
            .iter()
            .any(|copy| copy.height == height);
        if !known {
            self.generations.keep(height).map_err(io::Error::other)?;
            self.certified(height, position, certificate)?;
        }
        let inner = &mut *locked(&self.inner);
        inner.begun();
        inner.installs += 1;
        Ok(())
    }

    pub(crate) fn newest(&self) -> Option<Arc<Copy>> {
        locked(&self.inner).copies.last().cloned()
    }

    /// What openraft may hold for the current snapshot.
    pub(crate) fn snapshot(&self) -> Option<RaftSnapshot> {
        let inner = locked(&self.inner);
        if let Some(newest) = inner.copies.last() {
            return Some(Snapshot {
                meta: newest.meta.clone(),
                snapshot: SnapshotData::Kept(newest.clone()),
            });
        }
        inner.awaited.clone().map(|meta| Snapshot {
            meta,
            snapshot: SnapshotData::Awaited,
        })
    }

    /// A snapshot where openraft insists: the newest copy, or a place that one is awaited for.
    pub(crate) fn insist(&self, position: &Position) -> RaftSnapshot {
        if let Some(snapshot) = self.snapshot() {
            return snapshot;
        }
        let meta = meta_of(position);
        locked(&self.inner).awaited = Some(meta.clone());
        Snapshot {
            meta,
            snapshot: SnapshotData::Awaited,
        }
    }

    pub(crate) fn generations(&self) -> &Arc<dyn Generations> {
        &self.generations
    }

    /// States that came from elsewhere since the start.
    pub(crate) fn installs(&self) -> u64 {
        locked(&self.inner).installs
    }

    /// Height of the newest certified copy, for the operator.
    pub(crate) fn newest_height(&self) -> Option<u64> {
        self.newest().map(|copy| copy.height)
    }
}

/// Follows the certificates: lets copies count, tells Raft of them, and purges its log.
pub(crate) async fn keep(
    copies: Arc<Copies>,
    raft: RaftHandle,
    mut certified: watch::Receiver<Option<Arc<cairn_ledger::checkpoint::CertifiedCheckpoint>>>,
    io: Io,
    failed: watch::Sender<Option<String>>,
) {
    loop {
        tokio::select! {
            biased;
            changed = certified.changed() => if changed.is_err() { return },
            () = copies.made.notified() => {}
        }
        let settled = copies.clone();
        let told = match off_thread(io, move || settled.settle()).await {
            Ok(None) => continue,
            Ok(Some(upto)) => purge(&copies, &raft, upto).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = told {
            tracing::error!(%error, "copies of the state cannot be kept; this node stops");
            failed.send_replace(Some(error));
            return;
        }
    }
}

async fn purge(copies: &Copies, raft: &RaftHandle, upto: u64) -> Result<(), String> {
    let fatal = |error: openraft::errors::Fatal<crate::types::Types>| error.to_string();
    raft.trigger().snapshot().await.map_err(fatal)?;
    // Raft purges only what its snapshot covers, and it hears of the copy in a moment.
    let covers = |last: Option<LogId>| last.is_some_and(|last| last.index >= upto);
    let mut metrics = raft.metrics();
    while !covers(metrics.borrow_watched().snapshot) {
        if metrics.changed().await.is_err() {
            return Ok(());
        }
    }
    raft.trigger().purge_log(upto).await.map_err(fatal)?;
    let gone = async {
        while !covers(metrics.borrow_watched().purged) {
            if metrics.changed().await.is_err() {
                return;
            }
        }
        tracing::info!(
            upto,
            copy = copies.newest_height(),
            "the Raft log is purged below the older copy"
        );
    };
    // A leader that is sending a part of it to a member purges it afterwards.
    let _ = tokio::time::timeout(PURGE_NOTICED, gone).await;
    Ok(())
}

/// Runs what may take long off the thread of Raft, or here in the simulator.
pub(crate) async fn off_thread<T: Send + 'static>(
    io: Io,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match io {
        Io::Simulated { .. } => work(),
        Io::Threads => tokio::task::spawn_blocking(work)
            .await
            .map_err(io::Error::other)?,
    }
}
