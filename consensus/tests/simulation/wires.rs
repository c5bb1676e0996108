//! The simulated network: seeded delay and loss, lanes that overtake each other, partitions, and
//! wires that change what they carry (for a lying leader).
//!
//! What holds here: on one lane between two nodes requests arrive in the order in which they were
//! sent. A node that crashed neither sends nor receives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_consensus::{Core, Inbound, Lane, Network, NetworkError};
use tokio::time::Instant;

use crate::rng::Rng;
use crate::trace::Trace;

/// How bad the wires are.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub delay_ms: (u64, u64),
    pub lost_per_mille: u64,
}

impl Weather {
    pub const FAIR: Weather = Weather {
        delay_ms: (1, 3),
        lost_per_mille: 0,
    };
    pub const ROUGH: Weather = Weather {
        delay_ms: (1, 40),
        lost_per_mille: 30,
    };
}

/// On the way from one node to others, replaces some bytes by as many others.
#[derive(Debug, Clone)]
pub struct Lie {
    pub from: u64,
    pub to: BTreeSet<u64>,
    pub truth: Bytes,
    pub lie: Bytes,
}

struct State {
    weather: Weather,
    nodes: BTreeMap<u64, Core>,
    /// Pairs that cannot talk, as (from, to).
    cut: BTreeSet<(u64, u64)>,
    /// When the last request on this lane arrives.
    busy_until: BTreeMap<(u64, u64, Lane), Instant>,
    lies: Vec<Lie>,
}

/// All wires.
#[derive(Clone)]
pub struct Wires {
    state: Arc<Mutex<State>>,
    rng: Rng,
    trace: Trace,
}

impl Wires {
    pub fn new(rng: Rng, trace: Trace) -> Self {
        let state = State {
            weather: Weather::FAIR,
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            busy_until: BTreeMap::new(),
            lies: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            rng,
            trace,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn plug_in(&self, node: u64, core: Core) {
        self.state().nodes.insert(node, core);
    }

    pub fn unplug(&self, node: u64) {
        self.state().nodes.remove(&node);
    }

    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Only nodes on the same side can talk.
    pub fn partition(&self, side: &BTreeSet<u64>, all: &[u64]) {
        let cut = all
            .iter()
            .flat_map(|a| all.iter().map(move |b| (*a, *b)))
            .filter(|(a, b)| side.contains(a) != side.contains(b));
        self.state().cut = cut.collect();
    }

    pub fn heal(&self) {
        self.state().cut.clear();
    }

    pub fn lie(&self, lie: Lie) {
        assert_eq!(lie.truth.len(), lie.lie.len(), "frames keep their length");
        self.state().lies.push(lie);
    }

    /// From now on all is told as it is.
    pub fn honest(&self) {
        self.state().lies.clear();
    }

    /// How `node` reaches the others until it crashes.
    pub fn port(&self, node: u64) -> Port {
        Port {
            me: node,
            alive: Arc::new(AtomicBool::new(true)),
            wires: self.clone(),
        }
    }

    fn told(&self, from: u64, to: u64, request: &Bytes) -> Bytes {
        let state = self.state();
        let mut lies = state.lies.iter();
        let lie = lies.find(|lie| lie.from == from && lie.to.contains(&to));
        let Some(lie) = lie else {
            return request.clone();
        };
        let mut told = request.to_vec();
        let mut at = 0;
        while at + lie.truth.len() <= told.len() {
            if told[at..at + lie.truth.len()] == lie.truth[..] {
                told[at..at + lie.truth.len()].copy_from_slice(&lie.lie);
            }
            at += 1;
        }
        told.into()
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.state().cut.contains(&(from, to))
    }

    /// When a request that is sent now arrives; `None`: never.
    fn arrival(&self, from: u64, to: u64, lane: Lane) -> Option<Instant> {
        let mut state = self.state();
        let delay = self
            .rng
            .between(state.weather.delay_ms.0, state.weather.delay_ms.1);
        let lost = self.rng.per_mille(state.weather.lost_per_mille);
        let earliest = Instant::now() + Duration::from_millis(delay);
        let busy = state.busy_until.get(&(from, to, lane)).copied();
        // A timer ticks once a millisecond: two in one tick might be served in any order.
        let tick = Duration::from_millis(1);
        let arrival = busy.map_or(earliest, |busy| earliest.max(busy + tick));
        state.busy_until.insert((from, to, lane), arrival);
        (!lost).then_some(arrival)
    }
}

/// One node's end of the wires.
#[derive(Clone)]
pub struct Port {
    me: u64,
    alive: Arc<AtomicBool>,
    wires: Wires,
}

impl Port {
    pub fn cut(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    fn unreachable(&self, peer: u64, detail: &str) -> NetworkError {
        NetworkError::Unreachable {
            peer,
            detail: detail.to_owned(),
        }
    }
}

/// A message that was lost is noticed after so long, as a broken connection is.
const NOTICED: Duration = Duration::from_millis(400);

#[async_trait]
impl Network for Port {
    async fn call(&self, to: u64, lane: Lane, request: Bytes) -> Result<Bytes, NetworkError> {
        let (me, wires) = (self.me, &self.wires);
        if !self.alive.load(Ordering::Relaxed) {
            tokio::time::sleep(NOTICED).await;
            return Err(self.unreachable(to, "this node has crashed"));
        }
        let request = wires.told(me, to, &request);
        let Some(arrival) = wires.arrival(me, to, lane) else {
            tokio::time::sleep(NOTICED).await;
            return Err(NetworkError::TimedOut { peer: to });
        };
        tokio::time::sleep_until(arrival).await;
        let core = wires.state().nodes.get(&to).cloned();
        let Some(core) = core.filter(|_| !wires.is_cut(me, to)) else {
            tokio::time::sleep(NOTICED).await;
            return Err(self.unreachable(to, "down, or behind a partition"));
        };
        if !self.alive.load(Ordering::Relaxed) {
            return Err(self.unreachable(to, "this node has crashed"));
        }
        let mark = blake3::hash(&request);
        wires.trace.event(format_args!(
            "{me}>{to} {lane:?} {} {}",
            request.len(),
            &mark.to_hex()[..8]
        ));
        let answer = core.handle(me, lane, request).await;
        drop(core);
        let back = wires.arrival(to, me, lane);
        match back.filter(|_| !wires.is_cut(to, me)) {
            Some(back) => tokio::time::sleep_until(back).await,
            None => {
                tokio::time::sleep(NOTICED).await;
                return Err(NetworkError::TimedOut { peer: to });
            }
        }
        answer.map_err(|detail| NetworkError::Refused { peer: to, detail })
    }

    fn connected(&self, peer: u64) -> bool {
        self.wires.state().nodes.contains_key(&peer) && !self.wires.is_cut(self.me, peer)
    }
}
