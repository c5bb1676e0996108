//! What was handed in at this node and has no outcome yet, and who waits for it.
//!
//! What holds here: an entry is pending from its submission here until this node applies it or
//! forgets it; pending entries are handed to a new leader again, so that a crash between queueing
//! and commit costs the client nothing but time. What stays out: outcomes themselves. They are in
//! the state, and whoever is woken reads them there.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::locked;

/// Pending entries at one node. A few seconds of the highest rate; past it, submits are refused.
pub const MAX_PENDING_ENTRIES: usize = 65_536;
/// And their bytes.
pub const MAX_PENDING_BYTES: usize = 256 << 20;
/// A pending entry is forgotten after this: nobody waits so long on one call.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// An entry on its way.
#[derive(Debug)]
pub(crate) struct Travelling {
    pub(crate) id: Hash,
    pub(crate) signed: v1::SignedEntry,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Pending {
    entry: Arc<Travelling>,
    number: u64,
    handed_in: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    pending: HashMap<Hash, Pending>,
    /// By number: the order of submission, in which they are forgotten and handed in again.
    order: BTreeMap<u64, Hash>,
    bytes: usize,
    next: u64,
    waiters: HashMap<Hash, VecDeque<oneshot::Sender<()>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Tracker {
    inner: Mutex<Inner>,
}

impl Inner {
    fn remove(&mut self, id: &Hash) {
        if let Some(pending) = self.pending.remove(id) {
            self.order.remove(&pending.number);
            self.bytes -= pending.entry.bytes;
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((_, id)) = self.order.first_key_value() {
            let id = *id;
            match self.pending.get(&id) {
                Some(p) if now.duration_since(p.handed_in) < FORGET_AFTER => return,
                _ => self.remove(&id),
            }
        }
    }
}

impl Tracker {
    /// Notes an entry as handed in here. False: there is no room.
    pub(crate) fn insert(&self, entry: &Arc<Travelling>) -> bool {
        let now = Instant::now();
        let inner = &mut *locked(&self.inner);
        inner.forget_old(now);
        if let Some(pending) = inner.pending.get_mut(&entry.id) {
            pending.entry = entry.clone();
            return true;
        }
        if inner.pending.len() >= MAX_PENDING_ENTRIES
            || inner.bytes + entry.bytes > MAX_PENDING_BYTES
        {
            return false;
        }
        let number = inner.next;
        inner.next += 1;
        inner.bytes += entry.bytes;
        inner.order.insert(number, entry.id);
        let pending = Pending {
            entry: entry.clone(),
            number,
            handed_in: now,
        };
        inner.pending.insert(entry.id, pending);
        true
    }

    pub(crate) fn is_pending(&self, id: &Hash) -> bool {
        locked(&self.inner).pending.contains_key(id)
    }

    /// The leader refused it for good: it is on no way.
    pub(crate) fn remove(&self, id: &Hash) {
        locked(&self.inner).remove(id);
    }

    /// All that is pending, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Travelling>> {
        let inner = &mut *locked(&self.inner);
        inner.forget_old(Instant::now());
        inner
            .order
            .values()
            .filter_map(|id| inner.pending.get(id))
            .map(|pending| pending.entry.clone())
            .collect()
    }

    pub(crate) fn pending(&self) -> usize {
        locked(&self.inner).pending.len()
    }

    /// Resolves when the entry has an outcome.
    pub(crate) fn outcome_of(&self, id: &Hash) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let inner = &mut *locked(&self.inner);
        inner.waiters.entry(*id).or_default().push_back(sender);
        receiver
    }

    /// Drops waiters whose receivers are gone.
    pub(crate) fn gave_up(&self, id: &Hash) {
        let inner = &mut *locked(&self.inner);
        if let Some(waiters) = inner.waiters.get_mut(id) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                inner.waiters.remove(id);
            }
        }
    }

    /// A block with these entries is part of the state.
    pub(crate) fn applied<'a>(&self, ids: impl Iterator<Item = &'a Hash>) {
        let inner = &mut *locked(&self.inner);
        for id in ids {
            inner.remove(id);
            for waiter in inner.waiters.remove(id).into_iter().flatten() {
                // The waiter may be gone by its deadline.
                let _ = waiter.send(());
            }
        }
    }
}
