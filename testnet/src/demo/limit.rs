//! What registering a roster cannot do without, measured on this machine in this run.
//!
//! What holds here: the work is what the design asks for and no more. The office hashes each row's
//! commitment and tags, and writes everybody's receipt, with one sync, for without it a row can never be
//! opened; every node hashes the row into the roster's tree; and as many nodes as make a majority write
//! the rows once, with a sync for each chunk. Hashing is shared by all cores, and all files lie on one
//! disk. What stays out: signatures, gRPC, Raft, indexes, and the search
//! for duplicate tags, which are what the ratio shows.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write as _;
use std::num::NonZero;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cairn_ledger::hash::Hash;
use cairn_ledger::log;
use cairn_ledger::lottery::roster::{self, MAX_CHUNK_ROWS, Row};

/// Bytes of a row that are written: commitment and tag.
const ROW_BYTES: usize = 64;
/// Bytes of a receipt: serial, an identity of 18 characters, the salt in hex.
const RECEIPT_BYTES: usize = 92;

/// How often it is measured: one run takes a second, and a disk's syncs differ by more than a tenth.
const RUNS: usize = 3;

/// Hashes and writes `rows` rows for `nodes` nodes, with files in `folder`: the middle one of some runs.
pub fn measure(folder: &Path, rows: u32, nodes: usize) -> anyhow::Result<Duration> {
    let mut runs = [Duration::ZERO; RUNS];
    for run in &mut runs {
        *run = once(folder, rows, nodes)?;
    }
    runs.sort_unstable();
    Ok(runs[RUNS / 2])
}

fn once(folder: &Path, rows: u32, nodes: usize) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let share = rows.div_ceil(u32::try_from(cores)?).max(1);
    thread::scope(|scope| {
        for first in (0..rows).step_by(share as usize) {
            scope.spawn(move || hash(first..rows.min(first + share), nodes));
        }
    });
    let rows = rows as usize;
    let copies = (0..nodes / 2 + 1).map(|copy| (copy, ROW_BYTES, MAX_CHUNK_ROWS));
    let receipts = (nodes, RECEIPT_BYTES, rows);
    for (file, row_bytes, rows_a_sync) in copies.chain([receipts]) {
        let path = folder.join(format!("limit-{file}"));
        write(&path, rows, row_bytes, rows_a_sync)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(began.elapsed())
}

fn hash(serials: std::ops::Range<u32>, nodes: usize) {
    let (salt, keys) = ([1; 32], [[2; 32], [3; 32]]);
    let row = |serial: u32| {
        let identity = serial.to_be_bytes();
        Row {
            commitment: roster::commitment(&salt, &identity, &[]).0,
            tag: roster::tag(&keys[1], &roster::inner_tag(&keys[0], &identity)),
            tier: 0,
            weight: 1,
        }
    };
    let rows: Vec<Row> = serials.map(row).collect();
    for _ in 0..nodes {
        let leaves: Vec<Hash> = rows.iter().map(Row::leaf_hash).collect();
        black_box(log::root_of(&leaves));
    }
}

fn write(path: &Path, rows: usize, row_bytes: usize, rows_a_sync: usize) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    for from in (0..rows).step_by(rows_a_sync.max(1)) {
        let rows = rows_a_sync.min(rows - from);
        file.write_all(&vec![7; rows * row_bytes])?;
        file.sync_data()?;
    }
    fs::remove_file(path)
}
