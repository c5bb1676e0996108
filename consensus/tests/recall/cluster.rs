//! A few members on simulated disks whose folders can be copied, wiped and put back.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_consensus::{
    Clock, CopyRules, Core, CoreConfig, Inbound, Io, Lane, Network, NetworkError, SIMULATED_RECENT,
    StartError, Timing,
};
use cairn_proto::v1;
use cairn_sim::fixture::{EPOCH_MS, Ledger};
use cairn_sim::rng::Rng;
use cairn_storage::{Batch, Disk, Durability, LogStore, SignGuard, SimDisk, SimGenerations};
use tokio::time::Instant;

pub const MEMBERS: u64 = 4;

/// The first byte of requests that are or bear a promise: votes, appends, cosignatures.
pub const VOTE: u8 = 1;
pub const APPEND: u8 = 3;
pub const COSIGNATURE: u8 = 5;
/// The first byte of what is asked at a start.
pub const RECALL: u8 = 7;

/// Changes an answer on its way: who asked, who answered, what kind, the answer.
pub type Twist = Arc<dyn Fn(u64, u64, u8, Bytes) -> Bytes + Send + Sync>;

#[derive(Default)]
struct State {
    cores: BTreeMap<u64, Core>,
    /// These neither hear nor are heard.
    cut: BTreeSet<u64>,
    /// Requests of this kind are lost.
    lost: BTreeSet<u8>,
    /// By sender: how many requests of each kind it sent.
    sent: BTreeMap<(u64, u8), u64>,
    twist: Option<Twist>,
}

type Shared = Arc<Mutex<State>>;

struct Port {
    me: u64,
    alive: Arc<AtomicBool>,
    state: Shared,
}

impl Port {
    fn lost(&self, peer: u64) -> NetworkError {
        let detail = "down or cut off".to_owned();
        NetworkError::Unreachable { peer, detail }
    }
}

#[async_trait]
impl Network for Port {
    async fn call(&self, to: u64, lane: Lane, request: Bytes) -> Result<Bytes, NetworkError> {
        let framed = matches!(lane, Lane::Control | Lane::Append);
        let kind = if framed { request[0] } else { 0 };
        tokio::time::sleep(Duration::from_millis(2)).await;
        let core = {
            let state = &mut *self.state.lock().unwrap();
            let heard = self.alive.load(Ordering::Relaxed)
                && !state.cut.contains(&self.me)
                && !state.cut.contains(&to)
                && !state.lost.contains(&kind);
            if heard {
                *state.sent.entry((self.me, kind)).or_default() += 1;
            }
            state.cores.get(&to).filter(|_| heard).cloned()
        };
        let core = core.ok_or_else(|| self.lost(to))?;
        let answer = core.handle(self.me, lane, request).await;
        drop(core);
        if !self.alive.load(Ordering::Relaxed) {
            return Err(self.lost(to));
        }
        let twist = self.state.lock().unwrap().twist.clone();
        match (answer, twist) {
            (Ok(answer), Some(twist)) => Ok(twist(self.me, to, kind, answer)),
            (Ok(answer), None) => Ok(answer),
            (Err(detail), _) => Err(NetworkError::Refused { peer: to, detail }),
        }
    }

    fn connected(&self, peer: u64) -> bool {
        self.state.lock().unwrap().cores.contains_key(&peer)
    }
}

struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now_ms(&self) -> u64 {
        EPOCH_MS + u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }
}

/// One node's folders.
#[derive(Clone, Default)]
pub struct Folders {
    raft: SimDisk,
    ledger: SimGenerations,
}

fn copy_into(from: &SimDisk, to: &SimDisk) {
    let pairs = from.dump();
    let mut batch = Batch::new();
    for (key, value) in pairs {
        batch.put(key.to_vec(), value.to_vec());
    }
    to.write(&batch, Durability::Synced).unwrap();
    if let Some(marker) = from.tail_marker().unwrap() {
        to.set_tail_marker(&marker, Durability::Synced).unwrap();
    }
}

impl Folders {
    /// What `cp -a` of a node that is down makes.
    pub fn copied(&self) -> Folders {
        let copy = Folders::default();
        copy_into(&self.raft, &copy.raft);
        copy_into(&self.ledger.disk(), &copy.ledger.disk());
        copy
    }

    /// The Raft folder of one copy beside the state of another.
    pub fn with_ledger_of(&self, other: &Folders) -> Folders {
        let (raft, ledger) = (self.copied().raft, other.copied().ledger);
        Folders { raft, ledger }
    }

    /// The height that the sign guard holds.
    pub fn signed(&self) -> Option<u64> {
        let log = Arc::new(LogStore::open(Arc::new(self.raft.clone())).unwrap());
        SignGuard::open(log).unwrap().held().map(|held| held.height)
    }
}

pub struct Cluster {
    pub ledger: Ledger,
    pub rng: Rng,
    start: Instant,
    state: Shared,
    folders: BTreeMap<u64, Folders>,
    alive: BTreeMap<u64, Arc<AtomicBool>>,
    entries: u64,
}

/// Runs a story in paused time.
pub fn run<F: Future<Output = ()>>(seed: u64, story: impl FnOnce(Cluster) -> F) {
    cairn_sim::logs();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()))
        .build()
        .unwrap();
    runtime.block_on(async { story(Cluster::new(seed)).await });
}

impl Cluster {
    fn new(seed: u64) -> Self {
        Self {
            ledger: Ledger::new(MEMBERS, None),
            rng: Rng::new(seed),
            start: Instant::now(),
            state: Shared::default(),
            folders: (1..=MEMBERS).map(|id| (id, Folders::default())).collect(),
            alive: BTreeMap::new(),
            entries: 0,
        }
    }

    pub async fn start(&mut self, id: u64) -> Result<(), StartError> {
        let folders = &self.folders[&id];
        let alive = Arc::new(AtomicBool::new(true));
        let port = Port {
            me: id,
            alive: alive.clone(),
            state: self.state.clone(),
        };
        let core = Core::start(CoreConfig {
            raft_id: id,
            chain: self.ledger.chain.clone(),
            cosign_key: self.ledger.cosign_key(id),
            raft_disk: Arc::new(folders.raft.clone()),
            ledger: Arc::new(folders.ledger.clone()),
            copies: CopyRules::default(),
            network: Arc::new(port),
            clock: Arc::new(PausedClock(self.start)),
            timing: Timing::default(),
            io: Io::Simulated {
                sync: Duration::from_millis(2),
                recent: SIMULATED_RECENT,
            },
            seed: Some(self.rng.next()),
        })
        .await?;
        self.alive.insert(id, alive);
        self.state.lock().unwrap().cores.insert(id, core);
        Ok(())
    }

    /// All members, and the cluster formed.
    pub async fn formed(&mut self) {
        for id in 1..=MEMBERS {
            self.start(id).await.unwrap();
        }
        self.core(1).initialize().await.unwrap();
        self.record(1).await;
    }

    pub fn core(&self, id: u64) -> Core {
        self.state.lock().unwrap().cores[&id].clone()
    }

    /// Power loss; of what was not synced, as much survives as the seed says.
    pub async fn crash(&mut self, id: u64) {
        let core = self.state.lock().unwrap().cores.remove(&id);
        let Some(core) = core else { return };
        self.alive[&id].store(false, Ordering::Relaxed);
        let before = &self.folders[&id];
        let after = Folders {
            raft: before.raft.crash(|unsynced| self.rng.between(0, unsynced)),
            ledger: before
                .ledger
                .crash(|unsynced| self.rng.between(0, unsynced)),
        };
        self.folders.insert(id, after);
        core.shutdown().await;
    }

    pub fn folders(&self, id: u64) -> Folders {
        self.folders[&id].clone()
    }

    pub fn put_back(&mut self, id: u64, folders: Folders) {
        self.folders.insert(id, folders);
    }

    pub fn set_cut(&self, ids: &[u64]) {
        self.state.lock().unwrap().cut = ids.iter().copied().collect();
    }

    pub fn lose(&self, kinds: &[u8]) {
        self.state.lock().unwrap().lost = kinds.iter().copied().collect();
    }

    pub fn twist(&self, twist: Twist) {
        self.state.lock().unwrap().twist = Some(twist);
    }

    /// How many requests of this kind a member sent.
    pub fn sent(&self, id: u64, kind: u8) -> u64 {
        let state = self.state.lock().unwrap();
        state.sent.get(&(id, kind)).copied().unwrap_or(0)
    }

    /// Records so many blocks, each certified; the height of the last.
    pub async fn record(&mut self, blocks: u64) -> u64 {
        let mut height = 0;
        for _ in 0..blocks {
            self.entries += 1;
            let entry = self.ledger.evidence(1, self.entries);
            height = self.certified(&entry).await;
        }
        height
    }

    async fn certified(&self, entry: &cairn_ledger::admission::Admitted) -> u64 {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            let cores: Vec<Core> = self.state.lock().unwrap().cores.values().cloned().collect();
            for core in cores.iter().filter(|core| core.status().stopped.is_none()) {
                core.submit(vec![entry.clone()]).await;
                let soon = Instant::now() + Duration::from_secs(2);
                let status = core.wait(&entry.id, v1::WaitFor::Certified, soon).await;
                if let Ok(status) = status
                    && status.state() == v1::EntryState::Certified
                {
                    return status.height;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("an entry is not certified within a minute");
    }

    /// Waits until the member has stopped; why.
    pub async fn stopped(&self, id: u64) -> String {
        let mut stopped = self.core(id).stopped();
        let seen = stopped.wait_for(Option::is_some);
        let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
        let seen = seen.unwrap_or_else(|_| panic!("{:?}", self.core(id).status()));
        seen.unwrap().clone().unwrap()
    }

    /// Waits until the member takes part; how long that took.
    pub async fn takes_part(&self, id: u64) -> Duration {
        let begun = Instant::now();
        while self.core(id).status().raft_state == "asking" {
            assert!(begun.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begun.elapsed()
    }
}
