//! The face of a disk: sorted bytes to bytes, atomic batches, snapshots, one sync.
//!
//! What holds for every implementation: a batch is applied whole or not at all, also across a
//! crash; batches survive in the order in which they were written, so that what is left after a
//! crash is a prefix that ends at or after the last sync; the first failed write or sync latches
//! the disk, because after a failed fsync nobody knows which pages are on the medium, and a second
//! fsync that succeeds would lie. What stays out: formats and checksums of records, which
//! `log_store` and `state_store` own.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

/// Why the disk did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// What was read is not what was written. Stop the node; restore it or let it rejoin.
    #[error("corrupt: {place}: {detail}")]
    Corrupt {
        /// Where.
        place: String,
        /// What is wrong there.
        detail: String,
    },
    /// The operating system refused. Stop the node; look at the disk.
    #[error("{doing} failed: {detail}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        detail: String,
    },
    /// No space is left. Reads go on; free some space and start the node again.
    #[error("the disk is full: {detail}")]
    Full {
        /// What the system said.
        detail: String,
    },
    /// A write or sync failed before, so nothing more is written. Stop the node.
    #[error("nothing is written any more, because an earlier write or sync failed: {first}")]
    Latched {
        /// The first failure.
        first: String,
    },
    /// Another process has this folder open. Stop it, or use another folder.
    #[error("another process uses the folder {}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// This disk cannot do that.
    #[error("this disk has no {what}")]
    Unsupported {
        /// What was asked of it.
        what: &'static str,
    },
}

/// What a scan returns at most. It always returns one pair if there is one, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Pairs.
    pub pairs: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl Limit {
    /// A number of pairs, of any size.
    pub fn pairs(pairs: usize) -> Self {
        Self {
            pairs,
            bytes: usize::MAX,
        }
    }

    /// A number of bytes.
    pub fn bytes(bytes: usize) -> Self {
        Self {
            pairs: usize::MAX,
            bytes,
        }
    }

    /// True if, after `pairs` with `bytes` in all, a pair of `next` bytes is too much.
    pub(crate) fn is_reached(&self, pairs: usize, bytes: usize, next: usize) -> bool {
        pairs >= self.pairs || (pairs > 0 && bytes.saturating_add(next) > self.bytes)
    }
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When reads see it. It may be gone after a crash.
    Buffered,
    /// When it and all that was written before it survive a crash.
    Synced,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op<'a> {
    /// Sets `key` to `value`.
    Put {
        /// The key.
        key: Cow<'a, [u8]>,
        /// Its value.
        value: Cow<'a, [u8]>,
    },
    /// Removes `key`.
    Delete {
        /// The key.
        key: Cow<'a, [u8]>,
    },
    /// Removes every key from `from`, up to and without `to`.
    DeleteRange {
        /// The first key.
        from: Cow<'a, [u8]>,
        /// The key behind the last one.
        to: Cow<'a, [u8]>,
    },
}

/// Changes that happen together, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch<'a> {
    ops: Vec<Op<'a>>,
}

impl<'a> Batch<'a> {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// No changes yet, with room for so many.
    pub fn with_capacity(changes: usize) -> Self {
        Self {
            ops: Vec::with_capacity(changes),
        }
    }

    /// Sets `key`.
    pub fn put(&mut self, key: impl Into<Cow<'a, [u8]>>, value: impl Into<Cow<'a, [u8]>>) {
        let (key, value) = (key.into(), value.into());
        self.ops.push(Op::Put { key, value });
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: impl Into<Cow<'a, [u8]>>) {
        self.ops.push(Op::Delete { key: key.into() });
    }

    /// Removes every key from `from`, up to and without `to`.
    pub fn delete_range(&mut self, from: impl Into<Cow<'a, [u8]>>, to: impl Into<Cow<'a, [u8]>>) {
        let (from, to) = (from.into(), to.into());
        self.ops.push(Op::DeleteRange { from, to });
    }

    /// The changes.
    pub fn ops(&self) -> &[Op<'a>] {
        &self.ops
    }
}

/// Reads, of a disk or of a snapshot of it.
pub trait DiskRead: Send + Sync + 'static {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError>;

    /// The values under `keys`, in their order. Sorted keys are found faster.
    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, DiskError>;

    /// The pairs whose keys start with `prefix` and are at least `from`, ascending.
    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: Limit,
    ) -> Result<Vec<(Bytes, Bytes)>, DiskError>;

    /// The pair with the highest key that starts with `prefix`.
    fn last(&self, prefix: &[u8]) -> Result<Option<(Bytes, Bytes)>, DiskError>;
}

/// One database.
pub trait Disk: DiskRead {
    /// Applies `batch`.
    fn write(&self, batch: &Batch<'_>, durability: Durability) -> Result<(), DiskError>;

    /// Makes all that was written before this call survive a crash, with one fsync.
    fn sync(&self) -> Result<(), DiskError>;

    /// What is there now, unmoved by later writes.
    fn snapshot(&self) -> Result<Arc<dyn DiskRead>, DiskError>;

    /// Makes the folder `path`, which must not exist, with a durable copy of what is there now.
    fn checkpoint(&self, path: &Path) -> Result<(), DiskError>;

    /// About how many bytes the database takes.
    fn approximate_bytes(&self) -> Result<u64, DiskError>;

    /// The tail marker: a few bytes kept beside the database and outside its write-ahead log.
    fn tail_marker(&self) -> Result<Option<Bytes>, DiskError>;

    /// Replaces the tail marker. A buffered one may fall back to an older one at power loss, never
    /// when only the process dies.
    fn set_tail_marker(&self, marker: &[u8], durability: Durability) -> Result<(), DiskError>;
}

/// The lowest key above all that start with `prefix`, if there is one.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
