//! Chance, from one seed.

use std::sync::{Arc, Mutex, PoisonError};

/// A splittable stream of numbers (SplitMix64). Clones share it.
#[derive(Debug, Clone)]
pub struct Rng(Arc<Mutex<u64>>);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    pub fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A stream of its own for one purpose, so that one purpose's draws do not shift another's.
    pub fn fork(&self) -> Rng {
        Rng::new(self.next())
    }

    /// From `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True in so many of 1,000 cases.
    pub fn per_mille(&self, share: u64) -> bool {
        self.next() % 1000 < share
    }

    pub fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        let length = u64::try_from(from.len())
            .ok()
            .filter(|length| *length > 0)?;
        from.get(usize::try_from(self.next() % length).ok()?)
    }
}
