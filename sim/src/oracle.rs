//! Clients that remember what they were told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use tokio::time::Instant;

use crate::invariants::Violation;
use crate::rng::Rng;
use crate::world::World;

/// "Committed", as a client heard it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Which client, and its how-manieth entry.
    pub by: (u64, u64),
    pub id: Hash,
    pub leaf_hash: Hash,
    pub height: u64,
    pub leaf_index: u64,
}

/// All that was acknowledged. Clones share it.
#[derive(Clone, Default)]
pub struct Oracle(Arc<Mutex<(Vec<Acknowledged>, Vec<Violation>)>>);

impl Oracle {
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .clone()
    }

    /// Answers that contradicted each other.
    pub fn violations(&self) -> Vec<Violation> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .clone()
    }

    fn heard(&self, world: &World, told: Acknowledged) {
        world.trace.event(format_args!("acknowledged {told:?}"));
        let (all, violations) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = all
            .iter()
            .find(|known| known.id == told.id && **known != told)
        {
            violations.push(Violation::of(
                "one_place_one_answer",
                format!("{before:?}, later {told:?}"),
            ));
        }
        if !all.contains(&told) {
            all.push(told);
        }
    }

    /// One client: submits entry after entry through any node, and the same one again through
    /// another until it is told that it is committed. Ends at `until`.
    pub async fn client(self, world: Arc<World>, name: u64, rng: Rng, until: Instant) {
        let mut number = 0;
        while Instant::now() < until {
            number += 1;
            let entry = world.ledger.evidence(name, number);
            let (id, leaf_hash) = (entry.id, entry.leaf_hash);
            loop {
                let running = world.running();
                let Some((node, core)) = rng.pick(&running) else {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                };
                let queued = core.submit(vec![entry.clone()]).await;
                let refused = queued.into_iter().find_map(Result::err);
                let patience = Duration::from_millis(rng.between(50, 3000));
                let wait_for = match rng.per_mille(300) {
                    true => v1::WaitFor::Certified,
                    false => v1::WaitFor::Committed,
                };
                let status = core.wait(&id, wait_for, Instant::now() + patience).await;
                let state = status.as_ref().map(v1::EntryStatus::state).ok();
                world.trace.event(format_args!(
                    "client {name} entry {number} at {node}: {refused:?} {state:?}"
                ));
                if let Ok(status) = &status
                    && matches!(
                        state,
                        Some(v1::EntryState::Committed | v1::EntryState::Certified)
                    )
                {
                    let (height, leaf_index) = (status.height, status.leaf_index);
                    self.heard(
                        &world,
                        Acknowledged {
                            by: (name, number),
                            id,
                            leaf_hash,
                            height,
                            leaf_index,
                        },
                    );
                    // Ask once more elsewhere, sometimes: one place, one answer.
                    if !rng.per_mille(200) {
                        break;
                    }
                }
                if Instant::now() >= until {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(rng.between(0, 60))).await;
        }
    }
}
