//! The simulations that every run of the tests does: some seeds of each story, the same seed twice,
//! and planted bugs that must be caught. Campaigns are the command `sim`'s.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "simulation/catch_up.rs"]
mod catch_up;
#[path = "simulation/membership.rs"]
mod membership;
#[path = "simulation/planted.rs"]
mod planted;

use cairn_sim::logs;
use cairn_sim::storm::storm;
use cairn_sim::world::{Setup, simulate, simulate_noted};

/// Seeds that every run tries. A seed that once failed is added here and stays.
const SEEDS: std::ops::Range<u64> = 0..8;

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    if let Some(seed) = number("CAIRN_SIM_SEED") {
        return vec![seed];
    }
    match number("CAIRN_SIM_SEEDS") {
        Some(count) => (0..count).collect(),
        None => SEEDS.collect(),
    }
}

#[test]
fn whatever_happens_the_invariants_hold() {
    logs();
    let mut failed = Vec::new();
    for seed in seeds() {
        let ran = simulate_noted(seed, Setup::FOUR, storm);
        match ran.answer {
            Ok(acknowledged) => println!(
                "seed {seed}: trace {}, {} events, {acknowledged} acknowledged, marks {:?}",
                ran.hash,
                ran.events,
                ran.notes.marks()
            ),
            Err(violation) => {
                println!(
                    "seed {seed}: {violation}\nreplay: CAIRN_SIM_SEED={seed} cargo test --release \
                     -p cairn-sim --test simulation whatever -- --nocapture",
                );
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "violations with the seeds {failed:?}");
}

#[test]
fn one_seed_run_twice_is_one_trace() {
    logs();
    let run = || simulate(1, Setup::FOUR, storm).1;
    assert_eq!(run(), run());
}
