//! A few members in one process: started, crashed, cut off and watched.
//!
//! What holds here: one thread, paused time, every choice from one seed. The nodes are the real
//! `Core`; only disks, wires and clocks are simulated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_consensus::{
    Clock as _, CopyRules, Core, CoreConfig, Io, SIMULATED_RECENT, StartError, Timing,
};
use cairn_ledger::admission::Admitted;
use cairn_ledger::hash::Hash;
use cairn_ledger::{apply, checkpoint};
use cairn_proto::v1;
use cairn_storage::{LogStore, SimDisk, SimGenerations, StateStore};
use tokio::time::Instant;

use crate::clock::SimClock;
use crate::disks::{Bend, BentDisk};
use crate::fixture::{CHECKPOINT_EVERY, Ledger};
use crate::generations::{Adopted, BentGenerations, Power};
use crate::invariants::freshness_is_never_overstated;
use crate::notes::{Mark, Notes};
use crate::planted::Planted;
use crate::port::Port;
use crate::rng::Rng;
pub use crate::run::{Ran, simulate, simulate_noted};
use crate::trace::Trace;
use crate::wires::Wires;
use crate::witness::{Disks, Witness};

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
    /// The bug that is planted.
    pub planted: Planted,
}

impl Setup {
    pub const FOUR: Setup = Setup {
        members: 4,
        threshold: None,
        planted: Planted::Nothing,
    };
}

pub(crate) struct Node {
    pub(crate) raft: SimDisk,
    pub(crate) ledger: SimGenerations,
    pub(crate) adopted: Adopted,
    /// A record was damaged: it may stop, and refuse to start.
    pub(crate) damaged: bool,
    pub(crate) led_when_full: bool,
    /// What it was told to apply was a lie, so its blocks are its own.
    pub(crate) deceived: bool,
    pub(crate) clock: SimClock,
    pub(crate) running: Option<(Core, Port)>,
    /// Up to which height its blocks were compared with everybody's.
    pub(crate) compared: u64,
}

/// What was seen of certificates: by height, by header, by whom.
pub type Certified = BTreeMap<u64, BTreeMap<Hash, BTreeSet<u64>>>;

#[derive(Default)]
struct Seen {
    certified: Certified,
    /// When a height was first certified anywhere, by an exact clock.
    certified_at: BTreeMap<u64, u64>,
    blocks: BTreeMap<u64, (Hash, u64)>,
}

/// One simulation.
pub struct World {
    pub setup: Setup,
    pub ledger: Ledger,
    pub rng: Rng,
    pub trace: Trace,
    pub notes: Notes,
    pub start: Instant,
    pub wires: Wires,
    pub bend: Bend,
    pub(crate) nodes: Mutex<BTreeMap<u64, Node>>,
    seen: Arc<Mutex<Seen>>,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    fn new(start: Instant) -> Self {
        Self {
            raft: SimDisk::new(),
            ledger: SimGenerations::new(),
            adopted: Adopted::default(),
            damaged: false,
            led_when_full: false,
            deceived: false,
            clock: SimClock::new(start, 0),
            running: None,
            compared: 0,
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, setup: Setup) -> Self {
        let rng = Rng::new(seed);
        let start = Instant::now();
        let trace = Trace::new(start);
        let notes = Notes::default();
        let witness = Witness::new(notes.clone(), setup.members);
        let wires = Wires::new(rng.fork(), trace.clone(), witness, setup.planted);
        let bend = Bend {
            planted: setup.planted,
            notes: notes.clone(),
            members: setup.members,
            unflagged: Arc::default(),
        };
        let every = match setup.planted {
            Planted::NoForcedCheckpoint => (u32::MAX, u64::MAX),
            _ => CHECKPOINT_EVERY,
        };
        let ledger = Ledger::with_checkpoints(setup.members, setup.threshold, every);
        let nodes = (1..=setup.members).map(|id| (id, Node::new(start)));
        Self {
            setup,
            ledger,
            nodes: Mutex::new(nodes.collect()),
            rng,
            trace,
            notes,
            start,
            wires,
            bend,
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
        self.wires.witness.members_change();
        locked(&self.nodes).insert(id, Node::new(self.start));
    }

    /// Switches a node off for good.
    pub async fn retire(&self, id: u64) {
        self.crash(&[id], false).await;
        locked(&self.nodes).remove(&id);
    }

    /// Starts a node that is down.
    pub async fn start(&self, id: u64) -> Result<(), StartError> {
        let (config, port, config_disk) = {
            let nodes = locked(&self.nodes);
            let node = &nodes[&id];
            if node.running.is_some() {
                return Ok(());
            }
            let port = self.wires.port(id);
            let config_disk = node.raft.clone();
            let bend = self.bend.clone();
            let raft_disk = BentDisk::new(node.raft.clone(), bend.clone());
            let ledger = BentGenerations {
                disks: node.ledger.clone(),
                bend,
                start: self.start,
                adopted: node.adopted.clone(),
                power: Power {
                    node: id,
                    raft: node.raft.clone(),
                    fuses: self.wires.fuses.clone(),
                    rng: self.rng.fork(),
                },
            };
            let disks = Disks {
                raft: node.raft.clone(),
                ledger: node.ledger.clone(),
                adopted: node.adopted.clone(),
            };
            self.wires.witness.disks_of(id, disks);
            // What is bent on its way to the disk must not be applied from memory as it was.
            let recent = match self.bend.unflagged.load(Ordering::Relaxed) {
                true => 0,
                false => SIMULATED_RECENT,
            };
            let config = CoreConfig {
                raft_id: id,
                chain: self.ledger.chain.clone(),
                cosign_key: self.ledger.cosign_key(id),
                raft_disk: Arc::new(raft_disk),
                ledger: Arc::new(ledger),
                copies: COPIES,
                network: Arc::new(port.clone()),
                clock: Arc::new(node.clock.clone()),
                timing: Timing::default(),
                io: Io::Simulated { sync: SYNC, recent },
                seed: Some(self.rng.next()),
            };
            (config, port, config_disk)
        };
        self.trace.event(format_args!("{id} starts"));
        let purged = self
            .running()
            .into_iter()
            .filter_map(|(_, core)| core.kept().1);
        if purged.max()
            > LogStore::open(Arc::new(config_disk))
                .ok()
                .and_then(|log| log.last_index())
        {
            self.notes.mark(Mark::MemberBehindThePurge);
        }
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
        let (witness, clock) = (self.wires.witness.clone(), SimClock::new(self.start, 0));
        tokio::spawn(async move {
            loop {
                let newest = certified.borrow_and_update().clone();
                if let Some(newest) = newest {
                    let (height, hash) = (newest.header().height, newest.header_hash());
                    freshness_is_never_overstated::seen(
                        witness.notes(),
                        id,
                        &newest,
                        clock.now_ms(),
                    );
                    let seen = &mut *locked(&seen);
                    seen.certified_at.entry(height).or_insert(clock.now_ms());
                    let new = seen
                        .certified
                        .entry(height)
                        .or_default()
                        .entry(hash)
                        .or_default()
                        .insert(id);
                    if new {
                        witness.certified(id, &newest);
                        trace.event(format_args!("{id} certified {height} {hash}"));
                    }
                }
                if certified.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// What the node's clock says.
    pub fn clock_of(&self, id: u64) -> u64 {
        locked(&self.nodes)[&id].clock.now_ms()
    }

    /// `id` answers a read from `height` and says that this was the latest then.
    pub fn answered_as_of(&self, id: u64, height: u64, as_of_ms: u64) {
        let at = &locked(&self.seen).certified_at;
        freshness_is_never_overstated::read(&self.notes, at, id, height, as_of_ms);
    }

    /// What an exact clock says.
    pub fn now_ms(&self) -> u64 {
        SimClock::new(self.start, 0).now_ms()
    }

    /// The state on the node's disk, unless it is damaged there.
    pub fn readable_store(&self, id: u64) -> Option<StateStore> {
        let disk = locked(&self.nodes).get(&id)?.ledger.disk();
        StateStore::open(Arc::new(disk), &self.ledger.chain.id).ok()
    }

    /// The height of the state on the node's disk.
    pub fn store_height(&self, id: u64) -> u64 {
        let store = self.readable_store(id);
        let tip = store.and_then(|store| apply::tip(&store).ok().flatten());
        tip.map_or(0, |tip| tip.header.height)
    }

    /// Compares the node's new blocks with everybody's.
    pub fn compare(&self, id: u64) {
        let (from, deceived) = {
            let node = &locked(&self.nodes)[&id];
            (node.compared, node.deceived)
        };
        if deceived {
            return;
        }
        let Some(store) = self.readable_store(id) else {
            return;
        };
        let mut height = from;
        while let Some(header) = apply::header_at(&store, height).unwrap_or(None) {
            let hash = checkpoint::header_hash(&header);
            let seen = &mut *locked(&self.seen);
            let (first, by) = *seen.blocks.entry(height).or_insert((hash, id));
            if first != hash {
                let what = format!("block {height} is {first} at {by} and {hash} at {id}");
                self.notes.violation("same_log_same_roots", what);
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

    pub fn certified(&self) -> Certified {
        locked(&self.seen).certified.clone()
    }

    /// Whether `entry` is committed at the first node that runs, after a moment.
    pub(crate) async fn record(&self, entry: &Admitted) -> bool {
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
}
