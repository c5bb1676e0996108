//! Everything that happened, as one hash: two runs of one seed must agree in it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// The trace. Clones share it.
#[derive(Clone)]
pub struct Trace {
    start: Instant,
    state: Arc<Mutex<(blake3::Hasher, u64)>>,
}

impl Trace {
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            state: Arc::default(),
        }
    }

    /// Adds one event. `CAIRN_SIM_TRACE` prints it.
    pub fn event(&self, what: std::fmt::Arguments<'_>) {
        let at = self.start.elapsed().as_millis();
        let line = format!("{at:>7} {what}\n");
        if std::env::var_os("CAIRN_SIM_TRACE").is_some() {
            eprint!("{line}");
        }
        let (hasher, events) = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        hasher.update(line.as_bytes());
        *events += 1;
    }

    pub fn hash(&self) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.finalize().to_hex()[..16].to_owned()
    }

    pub fn events(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}
