//! RocksDB as a disk.
//!
//! **What a crash leaves.** Every batch is one record of the write-ahead log and is handed to the
//! kernel when it is written; it survives the death of the process, and after a sync the loss of
//! power. `manual_wal_flush` is off: it would save one `write(2)` a batch and lose everything since
//! the last sync at each kill. Seen on a 2-core machine: an append of 1 KiB takes 24 µs in all, the
//! sync after it 229 µs, beside 223 µs for a bare write and fdatasync of as much.
//!
//! **What damage does.** Blocks of SST files carry checksums that every read verifies, and so do
//! records of the write-ahead log. On recovery the two databases differ:
//! - [`Purpose::RaftLog`] holds promises (votes, acknowledged entries, the sign guard). It takes
//!   RocksDB's *tolerate corrupted tail records*: a last record that was cut off is dropped, for
//!   it cannot have been synced; any other damage makes opening fail. Closed write-ahead logs are
//!   tracked in the manifest, so that one that is missing or shorter makes opening fail too. What
//!   is left, a live log that was cut short below its last sync, `log_store` finds with the tail
//!   marker, which lives in a file of its own.
//! - [`Purpose::Ledger`] can be computed again from the raft log. It takes *point in time*: what
//!   follows the first damage is dropped, and what is left is the state after some earlier block.
//!
//! **Memory.** One block cache for both databases, memtables bounded for each; together below 500
//! MiB, so that a node stays below 1 GiB.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBPinnableSlice,
    DBRecoveryMode, DataBlockIndexType, Env, Options, ReadOptions, WriteBatch, WriteOptions,
};

use crate::disk::{self, Batch, Disk, DiskError, DiskRead, Durability, Limit, Op};
use crate::open::OpenDb;
use crate::tail_marker::TailMarker;

/// Uncompressed blocks of both databases: map pages and tiles near the roots stay in it.
const BLOCK_CACHE_BYTES: usize = 256 << 20;
/// Table readers that stay open: bounded, so that file handles and memory are.
const MAX_OPEN_FILES: i32 = 512;
/// Flushes and compactions at once: 2 leave cores to apply and to serving.
const BACKGROUND_JOBS: i32 = 2;
/// Small blocks, because almost all reads are for one key.
const BLOCK_BYTES: usize = 4 << 10;
/// Bloom filters: 1 % false positives, so that an absent key rarely costs a block.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// Dirty pages are written back in portions of this size rather than in one stall.
const WRITE_BACK_BYTES: u64 = 1 << 20;
/// Bytes a second that flushes and compactions write, for each database, and how often they get their
/// share. Faster, the syncs of the Raft log wait behind them: on ext4 a sync writes back what others have
/// on the way too, and 0.3 s were seen.
const BACKGROUND_BYTES_A_SECOND: i64 = 64 << 20;
const BACKGROUND_REFILL_US: i64 = 50_000;
/// Of this many turns, low priority goes first in one: RocksDB's default.
const BACKGROUND_FAIRNESS: i32 = 10;
/// The last level's tables are not written again, to take out what only a snapshot held, before they are
/// so old: RocksDB's option, and a day in seconds. Its default is to do so as soon as the snapshot goes; every
/// checkpoint takes one and lets one go, so every table was written twice.
const REWRITE_AFTER: (&str, &str) = ("bottommost_file_compaction_delay", "86400");
/// Values that are read together. While they are, all their blocks are held in memory.
const READ_AT_ONCE: usize = 1_024;
/// RocksDB's own text log, per file; two are kept.
const INFO_LOG_BYTES: usize = 4 << 20;
/// The one column family.
const COLUMN_FAMILY: &str = "default";

/// What a database is for, which decides its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `raft/`: the log, the vote, the sign guard. Written and purged in order, synced often.
    RaftLog,
    /// `ledger/`: the state and the certificates. Read at random, never synced block by block.
    Ledger,
}

/// Share of a memtable that its filter takes: about ten bits a key for keys with small values.
const MEMTABLE_BLOOM_RATIO: f64 = 0.05;

/// The memory that the databases of one process share.
#[derive(Clone)]
pub struct Memory(Cache);

impl Memory {
    /// The block cache, in its usual size.
    pub fn new() -> Self {
        Self(Cache::new_lru_cache(BLOCK_CACHE_BYTES))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({} bytes used)", self.0.get_usage())
    }
}

fn options(purpose: Purpose, memory: &Memory) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&memory.0);
    table.set_block_size(BLOCK_BYTES);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(6);

    let mut options = Options::default();
    match purpose {
        Purpose::RaftLog => {
            options.set_write_buffer_size(32 << 20);
            options.set_max_write_buffer_number(3);
            options.set_max_total_wal_size(96 << 20);
            options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
            options.set_track_and_verify_wals_in_manifest(true);
        }
        Purpose::Ledger => {
            // What the write-ahead log holds is replayed on start: 64 MiB take about 0.3 s.
            options.set_write_buffer_size(32 << 20);
            options.set_max_write_buffer_number(4);
            options.set_max_total_wal_size(64 << 20);
            options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
            table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
            // Rules mostly ask for what is not there yet (tags, ids): a filter spares the search.
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
        }
    }
    options.set_block_based_table_factory(&table);
    options.create_if_missing(true);
    options.set_paranoid_checks(true);
    options.set_compression_type(match purpose {
        // Mostly hashes, and purged soon.
        Purpose::RaftLog => DBCompressionType::None,
        Purpose::Ledger => DBCompressionType::Lz4,
    });
    options.set_max_open_files(MAX_OPEN_FILES);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_bytes_per_sync(WRITE_BACK_BYTES);
    if purpose == Purpose::RaftLog {
        // The ledger's is not waited for: what is on its way to the disk would only delay this one.
        options.set_wal_bytes_per_sync(WRITE_BACK_BYTES);
    }
    options.set_ratelimiter(
        BACKGROUND_BYTES_A_SECOND,
        BACKGROUND_REFILL_US,
        BACKGROUND_FAIRNESS,
    );
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(2);
    options
}

/// A RocksDB database in a folder.
pub struct RocksDisk {
    db: Arc<OpenDb>,
    path: PathBuf,
    marker: Mutex<TailMarker>,
    /// The first failed write or sync.
    latch: OnceLock<String>,
}

impl std::fmt::Debug for RocksDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RocksDisk({})", self.path.display())
    }
}

impl RocksDisk {
    /// Opens the database in `path`, or makes it.
    pub fn open(path: &Path, purpose: Purpose, memory: &Memory) -> Result<Self, DiskError> {
        std::fs::create_dir_all(path).map_err(|error| DiskError::Io {
            doing: "making the database folder",
            detail: format!("{}: {error}", path.display()),
        })?;
        let mut options = options(purpose, memory);
        // Flushes and compactions give way to blocks and answers; if they fall far behind, writes wait
        // for them, and then they have the processor.
        let mut env = Env::new().map_err(|error| typed("asking for threads", path, &error))?;
        env.lower_thread_pool_cpu_priority();
        env.lower_high_priority_thread_pool_cpu_priority();
        options.set_env(&env);
        let family = ColumnFamilyDescriptor::new(COLUMN_FAMILY, options.clone());
        let db = DB::open_cf_descriptors(&options, path, [family]).map_err(|error| {
            if ["While lock file", "lock hold by current process"]
                .iter()
                .any(|text| error.as_ref().contains(text))
            {
                return DiskError::InUse {
                    path: path.to_path_buf(),
                };
            }
            typed("opening the database", path, &error)
        })?;
        // The binding has no setter for this one.
        db.set_options(&[REWRITE_AFTER])
            .map_err(|error| typed("setting an option of the database", path, &error))?;
        Ok(Self {
            db: Arc::new(OpenDb::new(db)),
            path: path.to_path_buf(),
            marker: Mutex::new(TailMarker::open(path)?),
            latch: OnceLock::new(),
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Does `change` unless an earlier one failed, and remembers if this one does.
    fn latching<T>(&self, change: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
        if let Some(first) = self.latch.get() {
            return Err(DiskError::Latched {
                first: first.clone(),
            });
        }
        change().inspect_err(|error| {
            tracing::error!(path = %self.path.display(), %error, "the disk is latched");
            let _ = self.latch.set(error.to_string());
        })
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            db: &self.db,
            path: &self.path,
            snapshot: None,
        }
    }
}

impl DiskRead for RocksDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        self.reader().get(key)
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, DiskError> {
        self.reader().multi_get(keys)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: Limit,
    ) -> Result<Vec<(Bytes, Bytes)>, DiskError> {
        self.reader().scan(prefix, from, limit)
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        self.reader().last(prefix)
    }
}

impl Disk for RocksDisk {
    fn write(&self, batch: &Batch<'_>, durability: Durability) -> Result<(), DiskError> {
        let mut rocks = WriteBatch::with_capacity_bytes(batch.ops().iter().map(encoded_len).sum());
        for op in batch.ops() {
            match op {
                Op::Put { key, value } => rocks.put(key, value),
                Op::Delete { key } => rocks.delete(key),
                Op::DeleteRange { from, to } => {
                    // RocksDB takes an empty or reversed range as an error.
                    if from < to {
                        rocks.delete_range(from.as_ref(), to.as_ref());
                    }
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(durability == Durability::Synced);
        // Batches are sorted: most keys go beside the one before.
        options.set_memtable_insert_hint_per_batch(true);
        self.latching(|| {
            self.db
                .write_opt(rocks, &options)
                .map_err(|error| typed("writing", &self.path, &error))
        })
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.latching(|| {
            self.db
                .flush_wal(true)
                .map_err(|error| typed("syncing the write-ahead log", &self.path, &error))
        })
    }

    fn snapshot(&self) -> Result<Arc<dyn DiskRead>, DiskError> {
        let cell = SnapshotCell::new(Arc::clone(&self.db), |db| db.snapshot());
        Ok(Arc::new(RocksSnapshot {
            cell,
            path: self.path.clone(),
        }))
    }

    fn checkpoint(&self, path: &Path) -> Result<(), DiskError> {
        rocksdb::checkpoint::Checkpoint::new(&**self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(path))
            .map_err(|error| typed("making a checkpoint folder", path, &error))
    }

    fn approximate_bytes(&self) -> Result<u64, DiskError> {
        let mut total = 0u64;
        for name in [
            rocksdb::properties::TOTAL_SST_FILES_SIZE,
            rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES,
        ] {
            let bytes = self
                .db
                .property_int_value(name)
                .map_err(|error| typed("asking for a size", &self.path, &error))?;
            total = total.saturating_add(bytes.unwrap_or(0));
        }
        Ok(total)
    }

    fn tail_marker(&self) -> Result<Option<Bytes>, DiskError> {
        let marker = self.marker.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(marker.get())
    }

    fn set_tail_marker(&self, marker: &[u8], durability: Durability) -> Result<(), DiskError> {
        let mut file = self.marker.lock().unwrap_or_else(PoisonError::into_inner);
        self.latching(|| file.set(marker, durability))
    }
}

type DbSnapshot<'a> = rocksdb::Snapshot<'a>;

self_cell::self_cell!(
    struct SnapshotCell {
        owner: Arc<OpenDb>,
        #[covariant]
        dependent: DbSnapshot,
    }
);

/// A snapshot that keeps its database open.
struct RocksSnapshot {
    cell: SnapshotCell,
    path: PathBuf,
}

impl RocksSnapshot {
    fn reader(&self) -> Reader<'_> {
        Reader {
            db: self.cell.borrow_owner(),
            path: &self.path,
            snapshot: Some(self.cell.borrow_dependent()),
        }
    }
}

impl DiskRead for RocksSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        self.reader().get(key)
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, DiskError> {
        self.reader().multi_get(keys)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: Limit,
    ) -> Result<Vec<(Bytes, Bytes)>, DiskError> {
        self.reader().scan(prefix, from, limit)
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        self.reader().last(prefix)
    }
}

/// Reads of the database, now or as a snapshot saw it.
struct Reader<'a> {
    db: &'a DB,
    path: &'a Path,
    snapshot: Option<&'a DbSnapshot<'a>>,
}

impl Reader<'_> {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = self.snapshot {
            options.set_snapshot(snapshot);
        }
        options
    }

    fn failed(&self, error: &rocksdb::Error) -> DiskError {
        typed("reading", self.path, error)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError> {
        self.db
            .get_pinned_opt(key, &self.options())
            .map(|found| found.map(copied))
            .map_err(|error| self.failed(&error))
    }

    fn multi_get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, DiskError> {
        let Some(family) = self.db.cf_handle(COLUMN_FAMILY) else {
            return Err(DiskError::Unsupported {
                what: "default column family",
            });
        };
        let mut options = self.options();
        // Thousands of keys lie in thousands of blocks: they would push out of the cache what single
        // reads come back to, and memory that was not used before costs more than reading a block.
        options.fill_cache(keys.len() < READ_AT_ONCE);
        let sorted = keys.is_sorted();
        let mut values = Vec::with_capacity(keys.len());
        for keys in keys.chunks(READ_AT_ONCE) {
            let found = self
                .db
                .batched_multi_get_cf_opt(family, keys, sorted, &options);
            let found: Vec<Option<DBPinnableSlice<'_>>> = found
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(|error| self.failed(&error))?;
            // One allocation for all of them.
            let len = found.iter().flatten().map(|value| value.len()).sum();
            let mut all = BytesMut::with_capacity(len);
            values.extend(found.into_iter().map(|value| {
                value.map(|value| {
                    all.extend_from_slice(&value);
                    all.split().freeze()
                })
            }));
        }
        Ok(values)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: Limit,
    ) -> Result<Vec<(Bytes, Bytes)>, DiskError> {
        let mut found = Vec::new();
        let mut bytes = 0usize;
        let mut iterator = self.iterator(prefix);
        iterator.seek(from.max(prefix));
        while let Some((key, value)) = iterator.item() {
            let next = key.len() + value.len();
            if !key.starts_with(prefix) || limit.is_reached(found.len(), bytes, next) {
                return Ok(found);
            }
            bytes += next;
            found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            iterator.next();
        }
        // An iterator also ends when it could not read on: that is no end of the data.
        match iterator.status() {
            Ok(()) => Ok(found),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<(Bytes, Bytes)>, DiskError> {
        let mut iterator = self.iterator(prefix);
        iterator.seek_to_last();
        if let Some((key, value)) = iterator.item() {
            return Ok(key
                .starts_with(prefix)
                .then(|| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))));
        }
        match iterator.status() {
            Ok(()) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn iterator(&self, prefix: &[u8]) -> rocksdb::DBRawIterator<'_> {
        let mut options = self.options();
        if let Some(end) = disk::prefix_end(prefix) {
            options.set_iterate_upper_bound(end);
        }
        options.set_iterate_lower_bound(prefix);
        self.db.raw_iterator_opt(options)
    }
}

/// At most so many bytes an operation takes in RocksDB's batch: what it is, and the two lengths.
fn encoded_len(op: &Op<'_>) -> usize {
    const BESIDE: usize = 12;
    BESIDE
        + match op {
            Op::Put { key, value } => key.len() + value.len(),
            Op::Delete { key } => key.len(),
            Op::DeleteRange { from, to } => from.len() + to.len(),
        }
}

fn copied(slice: DBPinnableSlice<'_>) -> Bytes {
    Bytes::copy_from_slice(&slice)
}

/// RocksDB's error by its kind. It reports everything as text.
fn typed(doing: &'static str, path: &Path, error: &rocksdb::Error) -> DiskError {
    let detail = error.as_ref().to_owned();
    if detail.contains("No space left on device") || detail.contains("Disk quota exceeded") {
        return DiskError::Full { detail };
    }
    match error.kind() {
        rocksdb::ErrorKind::Corruption => DiskError::Corrupt {
            place: path.display().to_string(),
            detail,
        },
        // A file that the manifest names and that is gone.
        rocksdb::ErrorKind::IOError if detail.contains("No such file") => DiskError::Corrupt {
            place: path.display().to_string(),
            detail,
        },
        _ => DiskError::Io { doing, detail },
    }
}
