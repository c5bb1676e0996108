//! Wall clocks that disagree.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cairn_consensus::Clock;
use tokio::time::Instant;

use crate::fixture::EPOCH_MS;

/// One node's clock: the simulation's time and an error.
#[derive(Debug, Clone)]
pub struct SimClock {
    start: Instant,
    skew_ms: Arc<AtomicI64>,
}

impl SimClock {
    pub fn new(start: Instant, skew_ms: i64) -> Self {
        Self {
            start,
            skew_ms: Arc::new(AtomicI64::new(skew_ms)),
        }
    }

    pub fn set_skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        (EPOCH_MS + elapsed).saturating_add_signed(self.skew_ms.load(Ordering::Relaxed))
    }
}
