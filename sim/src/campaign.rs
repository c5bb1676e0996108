//! Many seeds, one report: what was run, what was done to it, and what was found.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::notes::Mark;
use crate::rng::Rng;
use crate::stories::{self, Run, Story};
use crate::world::Setup;

/// How many members a simulated ledger begins with.
pub const NODES: RangeInclusive<u64> = 3..=7;
/// A campaign of so many seeds that misses a mark did not test what it says.
pub const SEEDS_FOR_ALL_MARKS: u64 = 100;

/// What is fixed for all seeds; the rest is drawn from each.
#[derive(Debug, Clone, Copy, Default)]
pub struct What {
    /// Members at the beginning.
    pub nodes: Option<u64>,
    pub story: Option<Story>,
}

impl What {
    pub fn story(self, seed: u64) -> Story {
        self.story.unwrap_or(Story::of(seed))
    }
}

/// The number of members of a seed, unless it is fixed. Where a story needs four, it has them; those
/// of coming and going members begin with four.
pub fn nodes_of(seed: u64, what: What) -> u64 {
    let story = what.story(seed);
    if matches!(story, Story::Members | Story::Newcomer) {
        return 4;
    }
    let drawn = Rng::new(seed ^ 0x6e6f_6465).between(*NODES.start(), *NODES.end());
    what.nodes.unwrap_or(drawn).max(match story {
        // One of them is away, or lies, and the others have to certify.
        Story::Storm | Story::LeaderAhead | Story::HeldBack | Story::PowerLoss => 3,
        _ => 4,
    })
}

/// Runs the seed as a campaign does.
pub fn one(seed: u64, what: What) -> Run {
    let members = nodes_of(seed, what);
    let setup = Setup {
        members,
        ..Setup::FOUR
    };
    stories::run(seed, setup, what.story(seed))
}

/// All that a campaign found.
#[derive(Default)]
pub struct Report {
    pub seeds: u64,
    pub simulated: Duration,
    pub took: Duration,
    /// What the process took of a processor meanwhile.
    pub cpu: Duration,
    pub acknowledged: u64,
    pub events: u64,
    pub faults: BTreeMap<&'static str, u64>,
    pub marks: BTreeMap<Mark, u64>,
    pub failed: Vec<(u64, String)>,
    /// All tell one story, so not every mark can be hit.
    one_story: bool,
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
        let few = self.seeds < SEEDS_FOR_ALL_MARKS || self.one_story;
        self.failed.is_empty() && (few || self.missed().is_empty())
    }

    pub fn print(&self, what: What) {
        let faults: u64 = self.faults.values().sum();
        let minutes = self.cpu.as_secs_f64() / 60.0;
        println!("seeds               {}", self.seeds);
        println!(
            "simulated           {:.2} hours",
            self.simulated.as_secs_f64() / 3600.0
        );
        println!(
            "took                {:.1} s, {:.1} s of CPU",
            self.took.as_secs_f64(),
            self.cpu.as_secs_f64()
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
        println!("faults per minute   {rate:.0} of CPU");
        println!("marks");
        for mark in Mark::ALL {
            let count = self.marks.get(&mark).copied().unwrap_or(0);
            let hit = if count > 0 { "hit" } else { "NOT HIT" };
            println!("  {count:>8}  {hit:<8} {}", mark.name());
        }
        println!("violations          {}", self.failed.len());
        for (seed, found) in &self.failed {
            println!("  seed {seed}: {found}\n  replay: {}", replay(*seed, what));
        }
    }
}

/// What this process took of a processor so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The command that runs this seed again.
pub fn replay(seed: u64, what: What) -> String {
    let nodes = what.nodes.map(|nodes| format!(" --nodes {nodes}"));
    let story = what.story.as_ref().and_then(ValueEnum::to_possible_value);
    let story = story.map(|story| format!(" --story {}", story.get_name()));
    let (nodes, story) = (nodes.unwrap_or_default(), story.unwrap_or_default());
    format!("cargo run --release -p cairn-sim --bin sim -- --seed {seed}{nodes}{story}")
}

/// Runs so many seeds, with a line that says how far it is.
pub fn campaign(from: u64, seeds: u64, what: What) -> Report {
    const SAY_EVERY: Duration = Duration::from_millis(500);
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut report = Report {
        one_story: what.story.is_some(),
        ..Report::default()
    };
    let mut said = begun;
    for seed in from..from + seeds {
        let run = one(seed, what);
        if let Err(violation) = &run.outcome {
            eprintln!("\rseed {seed}: {violation}\nreplay: {}", replay(seed, what));
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
    report.cpu = cpu_time().saturating_sub(cpu);
    report
}
