//! Random choices that a seed repeats. When a process is killed the seed decides; what it was doing
//! at that moment the machine decides.

use std::cell::Cell;
use std::time::Duration;

/// SplitMix64.
#[derive(Debug)]
pub struct Dice(Cell<u64>);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(Cell::new(seed))
    }

    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(u64::try_from(from.len()).ok().filter(|len| *len > 0)?);
        from.get(usize::try_from(at).ok()?)
    }

    pub fn millis(&self, below: u64) -> Duration {
        Duration::from_millis(self.below(below))
    }

    /// Dice of its own.
    pub fn fork(&self) -> Dice {
        Dice::new(self.next())
    }
}
