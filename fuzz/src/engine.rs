//! The loop: choose an input, change it, feed it, look at the answer.
//!
//! What guides it is what a target answers: an answer that was not seen before, numbers left out,
//! is a place in the code that was not reached before. That is coarser than coverage of branches
//! and needs no special compiler.

use std::collections::HashSet;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::mutate::{Rng, mutate};
use crate::targets::Target;

/// Inputs that are mutated: enough for every kind of answer.
const POOL: usize = 600;
/// One input may take so long; a stall is a bug.
const SLOW: Duration = Duration::from_secs(2);
/// An answer's kind shows at its front.
const MAX_ANSWER: usize = 160;
/// After so many bugs a target is left alone.
const MAX_BUGS: usize = 5;

/// When a target has had enough.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    Runs(u64),
    Time(Duration),
}

/// Panics anywhere in this process, and the last one's words.
static PANICS: AtomicUsize = AtomicUsize::new(0);
static WORDS: Mutex<String> = Mutex::new(String::new());

/// Feeds one target; how many bugs it has.
pub fn run(
    mut target: Box<dyn Target>,
    limit: Limit,
    seed: u64,
    corpus: &Path,
    keep: bool,
) -> anyhow::Result<usize> {
    panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        *WORDS.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    let folder = corpus.join(target.name());
    let mut pool = target.seeds();
    pool.extend(kept(&folder)?);
    let mut found = Found::default();
    let first = pool.len();
    for input in pool.clone() {
        found.feed(&mut *target, &input, &folder)?;
    }

    let mut rng = Rng(seed);
    let began = Instant::now();
    while found.bugs < MAX_BUGS {
        match limit {
            Limit::Runs(runs) if found.runs >= runs + first as u64 => break,
            Limit::Time(time) if began.elapsed() >= time => break,
            _ => {}
        }
        let mut input = pool[rng.below(pool.len())].clone();
        let other = &pool[rng.below(pool.len())];
        mutate(&mut input, other, &mut rng);
        if found.feed(&mut *target, &input, &folder)? && pool.len() < POOL {
            if keep {
                write(&folder, "found", &input)?;
            }
            pool.push(input);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:<14} {:>12} {:>8.1} {:>9.0} {:>8} {:>7.1}ms {:>5}",
        target.name(),
        found.runs,
        seconds,
        found.runs as f64 / seconds.max(0.001),
        found.answers.len(),
        found.longest.as_secs_f64() * 1e3,
        found.bugs
    );
    let _ = panic::take_hook();
    Ok(found.bugs)
}

#[derive(Default)]
struct Found {
    runs: u64,
    answers: HashSet<String>,
    longest: Duration,
    bugs: usize,
}

impl Found {
    /// Feeds one input; whether it was answered as none before.
    fn feed(
        &mut self,
        target: &mut dyn Target,
        input: &[u8],
        folder: &Path,
    ) -> anyhow::Result<bool> {
        let panics = PANICS.load(Ordering::SeqCst);
        let began = Instant::now();
        let answer = panic::catch_unwind(AssertUnwindSafe(|| target.feed(input)));
        let took = began.elapsed();
        self.runs += 1;
        self.longest = self.longest.max(took);
        let bug = if PANICS.load(Ordering::SeqCst) > panics {
            let words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
            Some(words.clone())
        } else if took > SLOW {
            Some(format!("took {took:?}"))
        } else {
            match &answer {
                Ok(Err(violation)) => Some(violation.clone()),
                _ => None,
            }
        };
        if let Some(bug) = bug {
            self.bugs += 1;
            let path = write(folder, "bug", input)?;
            eprintln!("{}: {bug}\n  input: {path}", target.name());
            target.renew();
            return Ok(false);
        }
        let Ok(Ok(answer)) = answer else {
            return Ok(false);
        };
        Ok(self.answers.insert(shape(&answer)))
    }
}

/// An answer without quoted pieces and without words that are numbers or hashes.
fn shape(answer: &str) -> String {
    let mut plain = String::new();
    let mut quoted = false;
    for c in answer.chars().take(MAX_ANSWER) {
        match c {
            '"' | '`' => quoted = !quoted,
            _ if quoted => {}
            c if c.is_ascii_alphabetic() => plain.push(c),
            c if c.is_ascii_digit() => plain.push('0'),
            _ => plain.push(' '),
        }
    }
    let word = |word: &&str| word.len() < 20 && !word.contains('0');
    plain
        .split_whitespace()
        .filter(word)
        .collect::<Vec<_>>()
        .join(" ")
}

fn kept(folder: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths
        .into_iter()
        .map(fs::read)
        .collect::<std::io::Result<_>>()?)
}

fn write(folder: &Path, what: &str, input: &[u8]) -> anyhow::Result<String> {
    fs::create_dir_all(folder)?;
    let hash = cairn_ledger::hash::plain(input).to_string();
    let path = folder.join(format!("{what}-{}", hash.get(..16).unwrap_or(&hash)));
    fs::write(&path, input)?;
    Ok(path.display().to_string())
}

/// The most memory that this process ever had, in bytes.
pub fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
