//! How long a draw takes, against what nobody can do without: one keyed BLAKE3 a row, and a sort.
//!
//! ```sh
//! cargo run --release -p cairn-ledger --example draw
//! ```
//!
//! Draw and limit run by turns on one core, in the same process; of both the median counts. The
//! limit sorts the first eight bytes of the hashes only, which is the least that gives an order.
#![allow(missing_docs)]

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use cairn_ledger::hash::{self, Hash};
use cairn_ledger::log;
use cairn_ledger::lottery::draw::{self, Ranking};

/// Rows a draw; 543,384 applied for masks in the lottery that Cairn measures itself by.
const SIZES: [u32; 5] = [1_000, 10_000, 100_000, 543_384, 1_000_000];
/// Rounds a size: the median of so many is steady to a few percent.
const ROUNDS: u64 = 9;
/// A draw may take so many times the limit.
const GOAL: f64 = 1.5;

fn main() {
    println!(
        "{:>10} {:>10} {:>10} {:>7} {:>14} {:>12}",
        "rows", "draw", "limit", "ratio", "with its root", "peak memory"
    );
    let mut worst: f64 = 0.0;
    for rows in SIZES {
        let (mut drawn, mut least, mut rooted) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let seed = hash::plain(&round.to_be_bytes());
            least.push(timed(|| limit(&seed, rows)));
            drawn.push(timed(|| drawn_from(&seed, rows)));
            rooted.push(timed(|| root(&drawn_from(&seed, rows))));
        }
        let (drawn, least) = (median(drawn), median(least));
        worst = worst.max(drawn / least);
        println!(
            "{rows:>10} {:>7.2} ms {:>7.2} ms {:>7.2} {:>11.2} ms {:>12}",
            drawn * 1e3,
            least * 1e3,
            drawn / least,
            median(rooted) * 1e3,
            peak_memory(),
        );
    }
    println!("worst ratio {worst:.2}, goal at most {GOAL}");
}

fn drawn_from(seed: &Hash, rows: u32) -> Ranking {
    draw::rank(seed, 0, (0..rows).map(|serial| (serial, 1)))
}

/// The tree over the ranking, from which everybody's rank is proven.
fn root(ranking: &Ranking) -> Hash {
    let leaf = |serial| log::leaf_hash(&u64::to_be_bytes(u64::from(serial)));
    let leaves: Vec<Hash> = ranking.serials().map(leaf).collect();
    log::root_of(&leaves)
}

/// One keyed hash of sixteen bytes a row, and a sort of what orders them.
fn limit(seed: &Hash, rows: u32) -> Vec<(u64, u32)> {
    let mut all: Vec<(u64, u32)> = (0..rows)
        .map(|serial| {
            let mut input = [0; 16];
            input[8..12].copy_from_slice(&serial.to_be_bytes());
            let ticket = blake3::keyed_hash(&seed.0, &input);
            let mut first = [0; 8];
            first.copy_from_slice(&ticket.as_bytes()[..8]);
            (u64::from_be_bytes(first), serial)
        })
        .collect();
    all.sort_unstable();
    all
}

/// Seconds.
fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let began = Instant::now();
    black_box(work());
    began.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The most that this process ever held; sizes grow, so it is that of the row.
fn peak_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: Option<u64> = kib.and_then(|kib| kib.trim().parse().ok());
    kib.map_or("?".to_owned(), |kib| format!("{} MiB", kib / 1_024))
}
