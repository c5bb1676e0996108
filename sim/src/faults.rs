//! What is done to the nodes of a world: power loss, full, failing and damaged disks; and how a node
//! that stopped comes back.

use cairn_consensus::Core;

use crate::invariants::{Violation, no_reply_leaves_before_it_is_durable as durable};
use crate::notes::Mark;
use crate::rng::Rng;
use crate::world::{World, locked};

impl World {
    /// Power loss of one node whose Raft log also loses `batches` that were synced.
    pub async fn crash_losing_synced(&self, id: u64, batches: u64) {
        self.notes.fault("synced records lost");
        self.crash(&[id], true).await;
        if let Some(node) = locked(&self.nodes).get_mut(&id) {
            node.raft = node.raft.crash_losing_synced(batches);
            node.damaged = true;
        }
    }

    /// Power loss of some nodes in one instant: of what was not synced, a part chosen by the seed
    /// survives, or nothing.
    pub async fn crash(&self, ids: &[u64], lose_all: bool) {
        let mut dead = Vec::new();
        for id in ids {
            self.compare(*id);
            let mut nodes = locked(&self.nodes);
            let Some(node) = nodes.get_mut(id) else {
                continue;
            };
            let Some((core, port)) = node.running.take() else {
                continue;
            };
            self.notes.fault("crash");
            if core.raft_members().0.len() > 1 {
                self.notes.mark(Mark::JointConfigurationInterrupted);
            }
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.wires.witness.crashes(*id, now);
            port.cut();
            self.wires.unplug(*id);
            let keep = |unsynced| match lose_all {
                true => 0,
                false => self.rng.between(0, unsynced),
            };
            node.raft = node.raft.crash(keep);
            // Sometimes the state survives and the log's end does not.
            let state_survives = !lose_all && self.rng.per_mille(500);
            let keep_state = |unsynced| {
                if state_survives {
                    unsynced
                } else {
                    keep(unsynced)
                }
            };
            node.ledger = node.ledger.crash(keep_state);
            node.compared = 0;
            dead.push(core);
        }
        self.trace
            .event(format_args!("crash of {ids:?}, lose all: {lose_all}"));
        for core in dead {
            core.shutdown().await;
        }
    }

    /// The next sync of the node's Raft log fails.
    pub fn fail_next_sync(&self, id: u64) {
        if self.core(id).is_none() {
            return;
        }
        self.notes.fault("failed sync");
        self.trace.event(format_args!("{id} will fail to sync"));
        locked(&self.nodes)[&id].raft.fail_next_sync();
    }

    /// There is no space for the node's Raft log any more, or there is again.
    pub fn set_full(&self, id: u64, full: bool) {
        self.trace.event(format_args!("{id} disk full: {full}"));
        if full {
            self.notes.fault("full disk");
        }
        let leads = self.leader() == Some(id);
        if let Some(node) = locked(&self.nodes).get_mut(&id) {
            node.raft.set_full(full);
            node.led_when_full = full && leads;
        }
    }

    pub fn is_full(&self, id: u64) -> bool {
        locked(&self.nodes)[&id].raft.is_full()
    }

    /// Damages one record of the node, of its log or of its state. False if there is none.
    pub fn damage(&self, id: u64, rng: &Rng) -> bool {
        let mut nodes = locked(&self.nodes);
        let Some(node) = nodes.get_mut(&id) else {
            return false;
        };
        let in_log = rng.per_mille(500);
        let disk = if in_log {
            node.raft.clone()
        } else {
            node.ledger.disk()
        };
        let keys: Vec<_> = disk.dump().into_iter().collect();
        let Some((key, value)) = rng.pick(&keys) else {
            return false;
        };
        // The log's records carry checksums of ours; under the state are those of the database.
        let bits = 8 * value.len() as u64;
        let done = match in_log {
            true if bits > 0 => {
                let bit = usize::try_from(rng.between(0, bits - 1)).unwrap_or(0);
                disk.flip_bit(key, bit)
            }
            true => false,
            false => disk.damage(key),
        };
        node.damaged |= done;
        drop(nodes);
        if done {
            self.notes.fault("damaged record");
            self.trace
                .event(format_args!("{id} damaged, in its log: {in_log}"));
        }
        done
    }

    /// Flips a bit in one of the entries that the node's Raft log holds.
    pub fn damage_log(&self, id: u64, rng: &Rng) {
        let raft = locked(&self.nodes)[&id].raft.clone();
        let records = raft.dump().into_iter();
        let records: Vec<_> = records
            .filter(|(key, _)| key.first() == Some(&b'r'))
            .collect();
        let Some((key, value)) = rng.pick(&records) else {
            return;
        };
        let bit = rng.between(0, 8 * value.len() as u64 - 1);
        raft.flip_bit(key, usize::try_from(bit).unwrap_or(0));
        self.notes.fault("damaged record");
        self.trace
            .event(format_args!("{id} damaged, bit {bit} of a log record"));
        if let Some(node) = locked(&self.nodes).get_mut(&id) {
            node.damaged = true;
        }
    }

    /// What this node was told was a lie: nobody else has its blocks.
    pub fn set_deceived(&self, id: u64) {
        if let Some(node) = locked(&self.nodes).get_mut(&id) {
            node.deceived = true;
        }
    }

    /// The highest block that the node's sign guard holds, on its disk.
    pub fn guarded(&self, id: u64) -> Option<u64> {
        durable::guarded(&locked(&self.nodes)[&id].raft)
    }

    pub fn is_damaged(&self, id: u64) -> bool {
        locked(&self.nodes)
            .get(&id)
            .is_some_and(|node| node.damaged)
    }

    /// The node that most recently was heard to lead.
    pub fn leader(&self) -> Option<u64> {
        let running = self.running();
        let led = |(_, core): &(u64, Core)| {
            let status = core.status();
            Some((status.term, status.leader?))
        };
        running.iter().filter_map(led).max().map(|(_, id)| id)
    }

    /// Whose power failed in the middle of a step is switched off.
    pub async fn reap_blown(&self) {
        if let Some(id) = self.wires.fuses.take_blown() {
            self.crash(&[id], self.rng.per_mille(500)).await;
        }
    }

    /// Whether the node has begun to receive a copy and not adopted it.
    pub fn is_receiving(&self, id: u64) -> bool {
        locked(&self.nodes)
            .get(&id)
            .is_some_and(|node| node.ledger.begun().0)
    }

    /// Whether the node ever took a copy for its state.
    pub fn has_installed(&self, id: u64) -> bool {
        locked(&self.nodes)
            .get(&id)
            .is_some_and(|node| node.adopted.at() > 0)
    }

    /// What stopped is switched off, and noted.
    pub async fn reap(&self) {
        self.reap_blown().await;
        for (id, core) in self.running() {
            let Some(why) = core.status().stopped else {
                continue;
            };
            self.trace.event(format_args!("{id} has stopped"));
            if self.is_damaged(id) {
                self.notes.mark(Mark::DamageStoppedANode);
            } else if why.contains("full") {
                if locked(&self.nodes)
                    .get(&id)
                    .is_some_and(|n| n.led_when_full)
                {
                    self.notes.mark(Mark::FullDiskOnLeader);
                }
            } else if why.contains("syncing") {
                self.notes.mark(Mark::FailedSyncStoppedANode);
            }
            self.crash(&[id], self.rng.per_mille(500)).await;
        }
    }

    /// Starts a node that is down, if it can: with a damaged record, a full disk or after it left
    /// it may refuse.
    pub async fn try_start(&self, id: u64) -> Result<(), Violation> {
        let excused = {
            let nodes = locked(&self.nodes);
            nodes.get(&id).is_none_or(|n| n.damaged || n.raft.is_full())
        };
        let started = self.start(id).await;
        if started.is_err()
            && let Some(node) = locked(&self.nodes).get_mut(&id)
        {
            // The process ended, and the next one opens its files anew.
            node.raft = node.raft.crash(|unsynced| unsynced);
            node.ledger = node.ledger.crash(|unsynced| unsynced);
        }
        let in_the_dark = self.wires.fuses.has_blown(id);
        match started {
            Ok(()) => Ok(()),
            Err(_) if in_the_dark => {
                self.wires.fuses.take_blown();
                Ok(())
            }
            Err(_) if excused => {
                if self.is_damaged(id) {
                    self.notes.mark(Mark::DamageStoppedANode);
                }
                Ok(())
            }
            Err(error) => Err(Violation::of(
                "a_node_starts_again",
                format!("{id} does not start again: {error}"),
            )),
        }
    }
}
