//! The end of every story: heal everything, and all that is whole must agree and certify, in bounded
//! time.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::invariants::Violation;
use crate::wires::Weather;
use crate::world::World;

/// Longer than any election, copy or pause of ours, many times over.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
const NAME: &str = "a_healed_cluster_settles";

impl World {
    /// Brings everything back and waits until all nodes agree and all is certified. A node with a
    /// damaged record may stay away.
    pub async fn settle(&self) -> Result<(), Violation> {
        self.wires.heal();
        self.wires.set_weather(Weather::FAIR);
        self.wires.fuses.disarm();
        for id in self.ids() {
            self.set_skew(id, 0);
            self.set_full(id, false);
        }
        let deadline = Instant::now() + PATIENCE;
        self.bring_back().await?;
        // One more entry through any node: what a majority holds is committed only when a leader
        // commits something of its own term.
        let last = self.ledger.evidence(u64::MAX, self.rng.next());
        while !self.record(&last).await && Instant::now() < deadline {
            self.bring_back().await?;
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            self.bring_back().await?;
            let mut said = String::new();
            let mut ends = BTreeSet::new();
            let mut settled = true;
            let mut members = BTreeSet::new();
            for (id, core) in self.running() {
                let status = core.status();
                let _ = writeln!(said, "{id}: {status:?}");
                settled &= status.certified_height == Some(status.applied_height);
                settled &= core
                    .view()
                    .is_some_and(|v| v.height() == status.applied_height);
                ends.insert((status.applied_height, status.last_log_index));
                members.insert(core.raft_members());
            }
            // One log and one state are also one configuration of Raft.
            if settled && ends.len() == 1 && members.len() == 1 {
                self.trace.event(format_args!("settled {ends:?}"));
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Violation::of(
                    NAME,
                    format!("not after {PATIENCE:?}, Raft's members {members:?}:\n{said}"),
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What is down, or stopped for a fault that is over, starts again.
    async fn bring_back(&self) -> Result<(), Violation> {
        self.reap().await;
        for id in self.ids() {
            self.try_start(id).await?;
        }
        Ok(())
    }
}
