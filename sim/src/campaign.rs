//! Many seeds, one report: what was run, what was done to it, and what was found.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::notes::Mark;
use crate::rng::Rng;
use crate::stories::{self, Run, Story};
use crate::world::Setup;

/// How many members a simulated ledger begins with.
pub const NODES: RangeInclusive<u64> = 3..=7;
/// A campaign of so many seeds that misses a mark did not test what it says.
pub const SEEDS_FOR_ALL_MARKS: u64 = 100;

/// The number of members of a seed, unless it is fixed. Where a story needs four, it has them; the
/// one of coming and going members begins with four.
pub fn nodes_of(seed: u64, fixed: Option<u64>) -> u64 {
    if Story::of(seed) == Story::Members {
        return 4;
    }
    let drawn = Rng::new(seed ^ 0x6e6f_6465).between(*NODES.start(), *NODES.end());
    fixed.unwrap_or(drawn).max(match Story::of(seed) {
        // One of them is away, or lies, and the others have to certify.
        Story::Storm | Story::LeaderAhead | Story::HeldBack | Story::PowerLoss => 3,
        _ => 4,
    })
}

/// Runs the seed as a campaign does.
pub fn one(seed: u64, nodes: Option<u64>) -> Run {
    let members = nodes_of(seed, nodes);
    let setup = Setup {
        members,
        ..Setup::FOUR
    };
    stories::run(seed, setup, Story::of(seed))
}

/// All that a campaign found.
#[derive(Default)]
pub struct Report {
    pub seeds: u64,
    pub simulated: Duration,
    pub took: Duration,
    pub acknowledged: u64,
    pub events: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub marks: BTreeMap<Mark, u64>,
    pub failed: Vec<(u64, String)>,
}

impl Report {
    fn add(&mut self, seed: u64, run: Run) {
        self.seeds += 1;
        self.simulated += run.simulated;
        self.events += run.events;
        for (fault, count) in run.notes.faults() {
            *self.faults.entry(fault).or_default() += count;
        }
        for (mark, count) in run.notes.marks() {
            *self.marks.entry(mark).or_default() += count;
        }
        match run.outcome {
            Ok(acknowledged) => self.acknowledged += acknowledged,
            Err(violation) => self.failed.push((seed, violation.to_string())),
        }
    }

    /// Marks that were never hit.
    pub fn missed(&self) -> Vec<Mark> {
        let hit = |mark: &Mark| self.marks.contains_key(mark);
        Mark::ALL.into_iter().filter(|mark| !hit(mark)).collect()
    }

    /// Whether the campaign shows what it should.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty() && (self.seeds < SEEDS_FOR_ALL_MARKS || self.missed().is_empty())
    }

    pub fn print(&self, nodes: Option<u64>) {
        let faults: u64 = self.faults.values().sum();
        let minutes = self.took.as_secs_f64() / 60.0;
        println!("seeds               {}", self.seeds);
        println!(
            "simulated           {:.2} hours",
            self.simulated.as_secs_f64() / 3600.0
        );
        println!(
            "took                {:.1} s on one core",
            self.took.as_secs_f64()
        );
        println!("events              {}", self.events);
        println!(
            "acknowledged        {} entries, all proven",
            self.acknowledged
        );
        println!("faults              {faults}");
        for (fault, count) in &self.faults {
            println!("  {count:>8}  {fault}");
        }
        #[allow(clippy::cast_precision_loss, reason = "for display")]
        let rate = faults as f64 / minutes;
        println!("faults per minute   {rate:.0}");
        println!("marks");
        for mark in Mark::ALL {
            let count = self.marks.get(&mark).copied().unwrap_or(0);
            let hit = if count > 0 { "hit" } else { "NOT HIT" };
            println!("  {count:>8}  {hit:<8} {}", mark.name());
        }
        println!("violations          {}", self.failed.len());
        for (seed, what) in &self.failed {
            println!("  seed {seed}: {what}\n  replay: {}", replay(*seed, nodes));
        }
    }
}

/// The command that runs this seed again.
pub fn replay(seed: u64, nodes: Option<u64>) -> String {
    let nodes = nodes.map_or(String::new(), |nodes| format!(" --nodes {nodes}"));
    format!("cargo run --release -p cairn-sim --bin sim -- --seed {seed}{nodes}")
}

/// Runs so many seeds, with a line that says how far it is.
pub fn campaign(from: u64, seeds: u64, nodes: Option<u64>) -> Report {
    const SAY_EVERY: Duration = Duration::from_millis(500);
    let begun = Instant::now();
    let mut report = Report::default();
    let mut said = begun;
    for seed in from..from + seeds {
        let run = one(seed, nodes);
        if let Err(violation) = &run.outcome {
            eprintln!(
                "\rseed {seed}: {violation}\nreplay: {}",
                replay(seed, nodes)
            );
        }
        report.add(seed, run);
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let (done, found) = (report.seeds, report.failed.len());
            let missed = report.missed().len();
            eprint!("\r{done} of {seeds} seeds, {found} violations, {missed} marks to hit ");
            let _ = std::io::stderr().flush();
        }
    }
    eprintln!();
    report.took = begun.elapsed();
    report
}
