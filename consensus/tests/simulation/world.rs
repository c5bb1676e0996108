//! A few members in one process: started, crashed, cut off and watched.
//!
//! What holds here: one thread, paused time, every choice from one seed. The nodes are the real
//! `Core`; only disks, wires and clocks are simulated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_consensus::{CopyRules, Core, CoreConfig, Io, StartError, Timing};
use cairn_ledger::admission::Admitted;
use cairn_ledger::hash::Hash;
use cairn_ledger::{apply, checkpoint};
use cairn_proto::v1;
use cairn_storage::{Disk, SimDisk, SimGenerations, StateStore};
use tokio::time::Instant;

use crate::clock::SimClock;
use crate::disks::LyingDisk;
use crate::fixture::Ledger;
use crate::invariants::Violation;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::wires::{Port, Wires};

/// What one sync takes on a simulated disk.
const SYNC: Duration = Duration::from_millis(2);

/// Copies of the state come often, so that a node that was down for some seconds needs one.
const COPIES: CopyRules = CopyRules {
    every_blocks: 25,
    every_bytes: u64::MAX,
};

/// What a simulation is made of, beside its seed.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub members: u64,
    /// Cosignatures that certify; `None`: the safe default.
    pub threshold: Option<u32>,
    /// Planted: disks that promise and do not keep.
    pub lying_disks: bool,
}

impl Setup {
    pub const FOUR: Setup = Setup {
        members: 4,
        threshold: None,
        lying_disks: false,
    };
}

struct Node {
    raft: SimDisk,
    ledger: SimGenerations,
    clock: SimClock,
    running: Option<(Core, Port)>,
    /// Up to which height its blocks were compared with everybody's.
    compared: u64,
}

/// What was seen of certificates: by height, by header, by whom.
pub type Certified = BTreeMap<u64, BTreeMap<Hash, BTreeSet<u64>>>;

#[derive(Default)]
struct Seen {
    certified: Certified,
    blocks: BTreeMap<u64, (Hash, u64)>,
    violations: Vec<Violation>,
}

/// One simulation.
pub struct World {
    pub setup: Setup,
    pub ledger: Ledger,
    pub rng: Rng,
    pub trace: Trace,
    start: Instant,
    pub wires: Wires,
    nodes: Mutex<BTreeMap<u64, Node>>,
    seen: Arc<Mutex<Seen>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one simulation. The answer and the hash of all that happened.
pub fn simulate<T, F>(seed: u64, setup: Setup, story: impl FnOnce(Arc<World>) -> F) -> (T, String)
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
        (answer, world.trace.hash())
    })
}

impl Node {
    fn new(start: Instant) -> Self {
        Self {
            raft: SimDisk::new(),
            ledger: SimGenerations::new(),
            clock: SimClock::new(start, 0),
            running: None,
            compared: 0,
        }
    }
}

impl World {
    fn new(seed: u64, setup: Setup) -> Self {
        let rng = Rng::new(seed);
        let start = Instant::now();
        let trace = Trace::new(start);
        let wires = Wires::new(rng.fork(), trace.clone());
        let ledger = Ledger::new(setup.members, setup.threshold);
        let nodes = (1..=setup.members).map(|id| (id, Node::new(start)));
        Self {
            setup,
            ledger,
            nodes: Mutex::new(nodes.collect()),
            rng,
            trace,
            start,
            wires,
            seen: Arc::default(),
        }
    }

    pub fn ids(&self) -> Vec<u64> {
        locked(&self.nodes).keys().copied().collect()
    }

    pub fn running(&self) -> Vec<(u64, Core)> {
        let nodes = locked(&self.nodes);
        let running = nodes.iter().filter_map(|(id, node)| {
            let (core, _) = node.running.as_ref()?;
            Some((*id, core.clone()))
        });
        running.collect()
    }

    pub fn core(&self, id: u64) -> Option<Core> {
        let nodes = locked(&self.nodes);
        let (core, _) = nodes.get(&id)?.running.as_ref()?;
        Some(core.clone())
    }

    pub fn set_skew(&self, id: u64, skew_ms: i64) {
        self.trace
            .event(format_args!("{id} clock off by {skew_ms} ms"));
        locked(&self.nodes)[&id].clock.set_skew(skew_ms);
    }

    /// A node that no genesis lists, down as yet.
    pub fn add(&self, id: u64) {
        locked(&self.nodes).insert(id, Node::new(self.start));
    }

    /// Switches a node off for good.
    pub async fn retire(&self, id: u64) {
        self.crash(&[id], false).await;
        locked(&self.nodes).remove(&id);
    }

    /// Starts a node that is down.
    pub async fn start(&self, id: u64) -> Result<(), StartError> {
        let (config, port) = {
            let nodes = locked(&self.nodes);
            let node = &nodes[&id];
            if node.running.is_some() {
                return Ok(());
            }
            let port = self.wires.port(id);
            let raft_disk: Arc<dyn Disk> = if self.setup.lying_disks {
                Arc::new(LyingDisk(node.raft.clone()))
            } else {
                Arc::new(node.raft.clone())
            };
            let config = CoreConfig {
                raft_id: id,
                chain: self.ledger.chain.clone(),
                cosign_key: self.ledger.cosign_key(id),
                raft_disk,
                ledger: Arc::new(node.ledger.clone()),
                copies: COPIES,
                network: Arc::new(port.clone()),
                clock: Arc::new(node.clock.clone()),
                timing: Timing::default(),
                io: Io::Simulated { sync: SYNC },
                seed: Some(self.rng.next()),
            };
            (config, port)
        };
        self.trace.event(format_args!("{id} starts"));
        let core = if id > self.setup.members {
            Core::join(config).await?
        } else {
            Core::start(config).await?
        };
        self.watch(id, &core);
        self.wires.plug_in(id, core.clone());
        if let Some(node) = locked(&self.nodes).get_mut(&id) {
            node.running = Some((core, port));
        }
        Ok(())
    }

    pub async fn start_all(&self) {
        for id in self.ids() {
            self.start(id).await.unwrap();
        }
    }

    /// Notes every certificate that the node makes.
    fn watch(&self, id: u64, core: &Core) {
        let mut certified = core.certified();
        let (seen, trace) = (self.seen.clone(), self.trace.clone());
        tokio::spawn(async move {
            loop {
                let newest = certified.borrow_and_update().clone();
                if let Some(newest) = newest {
                    let (height, hash) = (newest.header().height, newest.header_hash());
                    let by = &mut locked(&seen).certified;
                    let new = by
                        .entry(height)
                        .or_default()
                        .entry(hash)
                        .or_default()
                        .insert(id);
                    if new {
                        trace.event(format_args!("{id} certified {height} {hash}"));
                    }
                }
                if certified.changed().await.is_err() {
                    return;
                }
            }
        });
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
        locked(&self.nodes)[&id].raft.fail_next_sync();
    }

    pub fn store(&self, id: u64) -> StateStore {
        let disk = locked(&self.nodes)[&id].ledger.disk();
        StateStore::open(Arc::new(disk), &self.ledger.chain.id).unwrap()
    }

    /// The height of the state on the node's disk.
    pub fn store_height(&self, id: u64) -> u64 {
        let tip = apply::tip(&self.store(id)).unwrap();
        tip.map_or(0, |tip| tip.header.height)
    }

    /// Compares the node's new blocks with everybody's.
    pub fn compare(&self, id: u64) {
        let from = locked(&self.nodes)[&id].compared;
        let store = self.store(id);
        let mut height = from;
        while let Some(header) = apply::header_at(&store, height).unwrap() {
            let hash = checkpoint::header_hash(&header);
            let seen = &mut *locked(&self.seen);
            let (first, by) = *seen.blocks.entry(height).or_insert((hash, id));
            if first != hash {
                let what = format!("block {height} is {first} at {by} and {hash} at {id}");
                seen.violations.push(Violation(what));
            }
            height += 1;
        }
        if let Some(node) = locked(&self.nodes).get_mut(&id) {
            node.compared = height;
        }
    }

    pub fn block(&self, height: u64) -> Option<Hash> {
        locked(&self.seen)
            .blocks
            .get(&height)
            .map(|(hash, _)| *hash)
    }

    pub fn violations(&self) -> Vec<Violation> {
        locked(&self.seen).violations.clone()
    }

    pub fn certified(&self) -> Certified {
        locked(&self.seen).certified.clone()
    }

    /// Whether `entry` is committed at the first node that runs, after a moment.
    async fn record(&self, entry: &Admitted) -> bool {
        for (_, core) in self.running() {
            core.submit(vec![entry.clone()]).await;
            let deadline = Instant::now() + Duration::from_secs(1);
            let status = core.wait(&entry.id, v1::WaitFor::Committed, deadline).await;
            if status.is_ok_and(|status| status.height > 0) {
                return true;
            }
        }
        false
    }

    /// Brings everything back and waits until all nodes agree and all is certified.
    pub async fn settle(&self) -> Result<(), Violation> {
        self.wires.heal();
        self.wires.set_weather(crate::wires::Weather::FAIR);
        for id in self.ids() {
            self.set_skew(id, 0);
            let started = self.start(id).await;
            started.map_err(|error| Violation(format!("{id} does not start again: {error}")))?;
        }
        let deadline = Instant::now() + Duration::from_secs(120);
        // One more entry through any node: what a majority holds is committed only when a leader
        // commits something of its own term.
        let last = self.ledger.evidence(u64::MAX, self.rng.next());
        while !self.record(&last).await && Instant::now() < deadline {}
        loop {
            let mut said = String::new();
            let mut ends = BTreeSet::new();
            let mut settled = true;
            for (id, core) in self.running() {
                let status = core.status();
                let _ = writeln!(said, "{id}: {status:?}");
                settled &= status.certified_height == Some(status.applied_height);
                settled &= core
                    .view()
                    .is_some_and(|v| v.height() == status.applied_height);
                ends.insert((status.applied_height, status.last_log_index));
            }
            if settled && ends.len() == 1 {
                self.trace.event(format_args!("settled {ends:?}"));
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("after all faults were healed the nodes never settled:\n{said}");
                return Err(Violation(what));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
