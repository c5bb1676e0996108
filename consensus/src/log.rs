//! Raft's log above [`LogStore`]: openraft's traits, and the one place that syncs.
//!
//! What holds here: entries are readable as soon as they are appended and count once one sync has
//! covered them; a single sync thread serves all callbacks that wait. A vote is synced before it
//! is answered. After a failed sync nothing more succeeds: the disk latches, and Raft stops. Reads
//! are bounded by bytes. What stays out: what a payload means.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_storage::seal::Unsealed;
use cairn_storage::{Durability, LogError, LogStore, Slot};
use futures::Stream;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::{LogState, OptionalSend};
use tokio::sync::watch;

use crate::config::Io;
use crate::locked;
use crate::raft_network::MAX_APPEND_BYTES;
use crate::recent::Recent;
use crate::types::{Entry, LogId, Types, Vote, from_bytes, to_bytes, to_record};

/// Callbacks that wait for the sync thread. openraft keeps far fewer outstanding.
const MAX_WAITING_SYNCS: usize = 8192;

/// Bytes of entries that stay in memory: of full blocks as many as may be under way.
const RECENT_BYTES: usize = 12 << 20;

/// The log, for openraft. Clones share it.
#[derive(Clone)]
pub struct RaftLog {
    store: Arc<LogStore>,
    recent: Arc<Mutex<Recent>>,
    syncs: Syncs,
    durable: watch::Sender<Durable>,
}

/// How far the log survives power loss. Apply waits for it: a state that is ahead of its own log
/// after a crash could never be brought into line again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Durable {
    /// Entries below this index are.
    pub(crate) next: u64,
    /// Truncations so far: a sync that began before one says nothing about what came after.
    truncations: u64,
}

impl Durable {
    /// As if everything were.
    #[cfg(test)]
    pub(crate) const ALL: Durable = Durable {
        next: u64::MAX,
        truncations: 0,
    };
}

/// One sync, and what it made durable.
fn sync(store: &LogStore, durable: &watch::Sender<Durable>) -> Result<(), LogError> {
    let before = *durable.borrow();
    let next = store.last_index().map_or(0, |last| last + 1);
    store.sync()?;
    durable.send_if_modified(|now| {
        let more = now.truncations == before.truncations && now.next < next;
        if more {
            now.next = next;
        }
        more
    });
    Ok(())
}

/// Who syncs.
#[derive(Clone)]
enum Syncs {
    Thread(SyncSender<IOFlushed<Types>>),
    /// A task per append, after the time that a simulated disk takes.
    Task(Duration),
}

impl RaftLog {
    /// Above `store`. With threads, one is started; it ends when the last clone is gone.
    pub fn new(store: Arc<LogStore>, io: Io) -> io::Result<Self> {
        let durable = watch::Sender::new(Durable {
            next: 0,
            truncations: 0,
        });
        // What a killed process left in the system's memory is about to be applied.
        sync(&store, &durable).map_err(io::Error::other)?;
        let recent = Recent::new(match io {
            Io::Threads => RECENT_BYTES,
            Io::Simulated { recent, .. } => recent,
        });
        let syncs = match io {
            Io::Threads => {
                let (sender, receiver) = sync_channel(MAX_WAITING_SYNCS);
                let (synced, durable) = (store.clone(), durable.clone());
                std::thread::Builder::new()
                    .name("raft-sync".to_owned())
                    .spawn(move || sync_all(&synced, &durable, &receiver))?;
                Syncs::Thread(sender)
            }
            Io::Simulated { sync, .. } => Syncs::Task(sync),
        };
        Ok(Self {
            store,
            recent: Arc::new(Mutex::new(recent)),
            syncs,
            durable,
        })
    }

    /// How far the log is durable.
    pub(crate) fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.subscribe()
    }

    fn entries(&self, range: impl RangeBounds<u64>, budget: usize) -> io::Result<Vec<Entry>> {
        let (start, end) = ends(&range);
        if start >= end {
            return Ok(Vec::new());
        }
        if let Some(entries) = locked(&self.recent).get(&(start..end), budget) {
            return Ok(entries);
        }
        let records = self
            .store
            .read(start..end, budget)
            .map_err(io::Error::other)?;
        records.iter().map(|(_, bytes)| from_bytes(bytes)).collect()
    }
}

/// The first index of a range, and the one behind its last.
fn ends(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

/// Serves every callback that waits with one sync.
fn sync_all(
    store: &LogStore,
    durable: &watch::Sender<Durable>,
    waiting: &Receiver<IOFlushed<Types>>,
) {
    while let Ok(first) = waiting.recv() {
        let mut callbacks = vec![first];
        callbacks.extend(waiting.try_iter());
        match sync(store, durable) {
            Ok(()) => callbacks.into_iter().for_each(|c| c.io_completed(Ok(()))),
            Err(error) => {
                tracing::error!(%error, "the Raft log could not be synced; this node stops");
                for callback in callbacks {
                    callback.io_completed(Err(io::Error::other(error.to_string())));
                }
            }
        }
    }
}

impl RaftLogReader<Types> for RaftLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        self.entries(range, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.entries(start..end, MAX_APPEND_BYTES)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = ends(&range);
        Portions {
            log: self.clone(),
            next: start,
            end,
            portion: Vec::new().into_iter(),
        }
        .stream()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let bytes = self.store.get_meta(Slot::Vote).map_err(io::Error::other)?;
        bytes.map(|bytes| from_bytes(&bytes)).transpose()
    }
}

/// Entries on their way to apply, read a portion of bytes at a time.
struct Portions {
    log: RaftLog,
    next: u64,
    end: u64,
    portion: std::vec::IntoIter<Entry>,
}

impl Portions {
    fn stream(self) -> impl Stream<Item = io::Result<Entry>> + Send {
        let items = futures::stream::unfold(Some(self), |portions| async move {
            let mut portions = portions?;
            match portions.entry() {
                Ok(None) => None,
                Ok(Some(entry)) => Some((Ok(entry), Some(portions))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Box::pin(items)
    }

    fn entry(&mut self) -> io::Result<Option<Entry>> {
        if let Some(entry) = self.portion.next() {
            return Ok(Some(entry));
        }
        if self.next >= self.end {
            return Ok(None);
        }
        let read = self.log.entries(self.next..self.end, MAX_APPEND_BYTES)?;
        match read.last() {
            // Absent at the end of the range: not stored yet.
            None => self.next = self.end,
            Some(last) => self.next = last.log_id.index + 1,
        }
        self.portion = read.into_iter();
        Ok(self.portion.next())
    }
}

impl RaftLogStorage<Types> for RaftLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let purged = self.store.purged().map_err(io::Error::other)?;
        let last_purged_log_id: Option<LogId> =
            purged.map(|(_, record)| from_bytes(&record)).transpose()?;
        let last = match self.store.last_index() {
            None => None,
            Some(last) => self.entries(last..=last, usize::MAX)?.pop(),
        };
        Ok(LogState {
            last_purged_log_id,
            last_log_id: last.map(|entry| entry.log_id).or(last_purged_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let bytes = to_bytes(vote)?;
        self.store
            .put_meta(Slot::Vote, &bytes, Durability::Synced)
            .map_err(io::Error::other)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Buffered: the next sync of the log takes it along, and an older one is only older.
        let bytes = to_bytes(&committed)?;
        self.store
            .put_meta(Slot::Committed, &bytes, Durability::Buffered)
            .map_err(io::Error::other)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        match self
            .store
            .get_meta(Slot::Committed)
            .map_err(io::Error::other)?
        {
            None => Ok(None),
            Some(bytes) => from_bytes(&bytes),
        }
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let records: Vec<(u64, Unsealed)> = entries
            .iter()
            .map(|entry| Ok((entry.log_id.index, to_record(entry)?)))
            .collect::<io::Result<_>>()?;
        self.store.append(records).map_err(io::Error::other)?;
        let mut recent = locked(&self.recent);
        entries.into_iter().for_each(|entry| recent.push(entry));
        drop(recent);
        match &self.syncs {
            Syncs::Thread(waiting) => waiting
                .send(callback)
                .map_err(|_| io::Error::other("the sync thread has ended")),
            Syncs::Task(time) => {
                let (store, durable, time) = (self.store.clone(), self.durable.clone(), *time);
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    callback.io_completed(sync(&store, &durable).map_err(io::Error::other));
                });
                Ok(())
            }
        }
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let first_gone = last_log_id.map_or(0, |last| last.index + 1);
        locked(&self.recent).keep_below(first_gone);
        self.store
            .truncate_from(first_gone)
            .map_err(io::Error::other)?;
        // Afterwards: a sync that began before would call entries durable that are gone.
        self.durable.send_modify(|now| {
            now.truncations += 1;
            now.next = now.next.min(first_gone);
        });
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let record = to_bytes(&log_id)?;
        locked(&self.recent).keep_above(log_id.index);
        self.store
            .purge_to(log_id.index, &record)
            .map_err(io::Error::other)
    }
}
