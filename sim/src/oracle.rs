//! Clients that remember what they were told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cairn_consensus::Core;
use cairn_ledger::admission::Admitted;
use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use tokio::time::Instant;

use crate::invariants::Violation;
use crate::planted::Planted;
use crate::rng::Rng;
use crate::world::World;

/// How soon a client asks again.
const AGAIN: Duration = Duration::from_millis(5);

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

/// What a node answers from, and how fresh it says that is.
fn read(world: &World, node: u64, core: &Core) {
    let Some(view) = core.view() else {
        return;
    };
    let certified = view.checkpoint();
    let as_of_ms = match world.setup.planted {
        Planted::FreshByTheClock => world.clock_of(node),
        _ => certified.latest_as_of_ms(),
    };
    world.answered_as_of(node, certified.header().height, as_of_ms);
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

    /// Hands in again what was acknowledged long ago, as one does who lost the answer.
    async fn retry(&self, world: &World, by: (u64, u64), entry: &Admitted, rng: &Rng) {
        let running = world.running();
        let Some((node, core)) = rng.pick(&running) else {
            return;
        };
        world.trace.event(format_args!("{by:?} again at {node}"));
        core.submit(vec![entry.clone()]).await;
        let deadline = Instant::now() + Duration::from_secs(1);
        let status = core.wait(&entry.id, v1::WaitFor::Committed, deadline).await;
        if let Ok(status) = status
            && status.height > 0
        {
            self.heard(
                world,
                Acknowledged {
                    by,
                    id: entry.id,
                    leaf_hash: entry.leaf_hash,
                    height: status.height,
                    leaf_index: status.leaf_index,
                },
            );
        }
    }

    /// One client: submits entry after entry through any node, and the same one again through
    /// another until it is told that it is committed. Ends at `until`.
    pub async fn client(self, world: Arc<World>, name: u64, rng: Rng, until: Instant) {
        let mut number = 0;
        let mut mine = Vec::new();
        while Instant::now() < until {
            number += 1;
            if rng.per_mille(50)
                && let Some((number, entry)) = rng.pick(&mine)
            {
                self.retry(&world, (name, *number), entry, &rng).await;
            }
            let entry = world.ledger.evidence(name, number);
            let (id, leaf_hash) = (entry.id, entry.leaf_hash);
            loop {
                let running = world.running();
                let Some((node, core)) = rng.pick(&running) else {
                    // The storm may end while all are down.
                    if Instant::now() >= until {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                };
                if rng.per_mille(200) {
                    read(&world, *node, core);
                }
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
                // A node that answers at once, and nothing, must not stop the time.
                tokio::time::sleep(AGAIN).await;
            }
            mine.push((number, entry));
            tokio::time::sleep(Duration::from_millis(rng.between(0, 60))).await;
        }
    }
}
