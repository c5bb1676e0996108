//! One simulation from its seed: a runtime with paused time, a world, a story.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::notes::Notes;
use crate::world::{Setup, World};

/// What one simulation left behind.
pub struct Ran<T> {
    pub answer: T,
    /// The hash of all that happened.
    pub hash: String,
    pub events: u64,
    /// How long it took there.
    pub simulated: Duration,
    pub notes: Notes,
}

/// Runs one simulation. The answer and the hash of all that happened.
pub fn simulate<T, F>(seed: u64, setup: Setup, story: impl FnOnce(Arc<World>) -> F) -> (T, String)
where
    F: Future<Output = T>,
{
    let ran = simulate_noted(seed, setup, story);
    (ran.answer, ran.hash)
}

/// The same, with all that was noted.
pub fn simulate_noted<T, F>(seed: u64, setup: Setup, story: impl FnOnce(Arc<World>) -> F) -> Ran<T>
where
    F: Future<Output = T>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()))
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new(seed, setup));
        let answer = story(world.clone()).await;
        Ran {
            answer,
            hash: world.trace.hash(),
            events: world.trace.events(),
            simulated: world.start.elapsed(),
            notes: world.notes.clone(),
        }
    })
}
