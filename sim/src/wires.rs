//! The simulated network: seeded delay, loss, duplicates, lanes that overtake each other, cuts one
//! way or both, and wires that change what they carry (for members that lie).
//!
//! What holds here: on one lane between two nodes requests arrive in the order in which they were
//! sent; only a duplicate may come late, behind others. A node that crashed neither sends nor
//! receives. Everything that passes is shown to the witness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_consensus::{Core, Inbound, Lane, Network, NetworkError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::frames::{self, Frame};
use crate::notes::Mark;
use crate::planted::Planted;
use crate::rng::Rng;
use crate::trace::Trace;
use crate::witness::Witness;

/// How bad the wires are.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub delay_ms: (u64, u64),
    pub lost_per_mille: u64,
    /// Requests that arrive a second time, later.
    pub twice_per_mille: u64,
}

impl Weather {
    pub const FAIR: Weather = Weather {
        delay_ms: (1, 3),
        lost_per_mille: 0,
        twice_per_mille: 0,
    };
    pub const ROUGH: Weather = Weather {
        delay_ms: (1, 40),
        lost_per_mille: 30,
        twice_per_mille: 30,
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

/// What a member that lies does with a request on its way.
pub enum Told {
    /// Sends it as it is.
    Truth,
    /// Sends something else.
    Instead(Bytes),
    /// Sends nothing, and takes this for the answer.
    Answer(Bytes),
}

/// Decides over each request: from, to, lane, bytes.
pub type Twist = Arc<dyn Fn(u64, u64, Lane, &Bytes) -> Told + Send + Sync>;

struct State {
    weather: Weather,
    nodes: BTreeMap<u64, Core>,
    /// Pairs that cannot talk, as (from, to).
    cut: BTreeSet<(u64, u64)>,
    /// When the last request on this lane arrives.
    busy_until: BTreeMap<(u64, u64, Lane), Instant>,
    lies: Vec<Lie>,
    twist: Option<Twist>,
    /// Who loses power as soon as it sends a cosignature.
    fuse: Option<u64>,
}

/// A duplicate comes so much later.
const LATE_MS: (u64, u64) = (1, 2_000);

/// All wires.
#[derive(Clone)]
pub struct Wires {
    state: Arc<Mutex<State>>,
    rng: Rng,
    trace: Trace,
    pub witness: Witness,
    planted: Planted,
    blown: watch::Sender<Option<u64>>,
}

impl Wires {
    pub fn new(rng: Rng, trace: Trace, witness: Witness, planted: Planted) -> Self {
        let state = State {
            weather: Weather::FAIR,
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            busy_until: BTreeMap::new(),
            lies: Vec::new(),
            twist: None,
            fuse: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            rng,
            trace,
            witness,
            planted,
            blown: watch::Sender::new(None),
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

    /// What `from` sends to `to` is lost; the other way all is well.
    pub fn cut_one_way(&self, from: u64, to: u64) {
        self.state().cut.insert((from, to));
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
        let mut state = self.state();
        state.lies.clear();
        state.twist = None;
    }

    /// From now on every request goes through `twist`.
    pub fn twist(&self, twist: Twist) {
        self.state().twist = Some(twist);
    }

    /// The next cosignature that `node` is about to send never leaves: its power fails first.
    pub fn set_fuse(&self, node: Option<u64>) {
        self.state().fuse = node;
        self.blown.send_replace(None);
    }

    /// Whose power failed.
    pub async fn blown(&self) -> u64 {
        let mut blown = self.blown.subscribe();
        loop {
            if let Some(node) = *blown.borrow_and_update() {
                return node;
            }
            let _ = blown.changed().await;
        }
    }

    /// How `node` reaches the others until it crashes.
    pub fn port(&self, node: u64) -> Port {
        Port {
            me: node,
            alive: Arc::new(AtomicBool::new(true)),
            wires: self.clone(),
        }
    }

    fn told(&self, from: u64, to: u64, lane: Lane, request: &Bytes) -> Told {
        let twist = self.state().twist.clone();
        if let Some(twist) = twist {
            match twist(from, to, lane, request) {
                Told::Truth => {}
                told => return told,
            }
        }
        let state = self.state();
        let mut lies = state.lies.iter();
        let Some(lie) = lies.find(|lie| lie.from == from && lie.to.contains(&to)) else {
            return Told::Truth;
        };
        let mut told = request.to_vec();
        let mut at = 0;
        while at + lie.truth.len() <= told.len() {
            if told[at..at + lie.truth.len()] == lie.truth[..] {
                told[at..at + lie.truth.len()].copy_from_slice(&lie.lie);
            }
            at += 1;
        }
        Told::Instead(told.into())
    }

    /// What a planted bug takes a lost request's answer for.
    fn made_up(&self, frame: &Frame) -> Option<Bytes> {
        match (self.planted, frame) {
            (Planted::StaleAcknowledgements, Frame::Append { last: Some(_), .. }) => {
                Some(Bytes::from_static(frames::APPENDED))
            }
            (Planted::VotesMadeUp, Frame::Vote(ballot) | Frame::PreVote(ballot)) => {
                Some(frames::grant(*ballot))
            }
            _ => None,
        }
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
/// A member that lies to itself is as quick as a peer.
const LIES_TAKE: Duration = Duration::from_millis(2);

impl Port {
    /// What passes here, before anything else happens to it. False: the power failed first.
    fn sends(&self, frame: &Frame) -> bool {
        let wires = &self.wires;
        if matches!(frame, Frame::Cosignature(_)) && wires.state().fuse == Some(self.me) {
            wires.state().fuse = None;
            self.cut();
            wires.blown.send_replace(Some(self.me));
            return false;
        }
        if wires.witness.sent(self.me, frame) {
            let notes = wires.witness.notes();
            let waits = |core: &Core| core.status().pending_entries > 0;
            // Asking a node asks the wires: not under their lock.
            let nodes: Vec<Core> = wires.state().nodes.values().cloned().collect();
            if nodes.iter().any(waits) {
                notes.mark(Mark::LeaderChangeWithEntriesInFlight);
            }
            if wires.witness.someone_installs() {
                notes.mark(Mark::ElectedDuringInstall);
            }
        }
        true
    }

    /// The same request once more, some time later. Nobody waits for its answer.
    fn again(&self, to: u64, lane: Lane, request: &Bytes) {
        let rng = &self.wires.rng;
        if !rng.per_mille(self.wires.state().weather.twice_per_mille) {
            return;
        }
        let late = Duration::from_millis(rng.between(LATE_MS.0, LATE_MS.1));
        let (port, request) = (self.clone(), request.clone());
        self.wires.witness.notes().fault("duplicate");
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            let wires = &port.wires;
            let core = wires.state().nodes.get(&to).cloned();
            let Some(core) = core.filter(|_| !wires.is_cut(port.me, to)) else {
                return;
            };
            let frame = frames::read(lane, &request);
            let answer = core.handle(port.me, lane, request).await;
            wires.witness.answered(to, port.me, &frame, &answer);
        });
    }
}

#[async_trait]
impl Network for Port {
    async fn call(&self, to: u64, lane: Lane, request: Bytes) -> Result<Bytes, NetworkError> {
        let (me, wires) = (self.me, &self.wires);
        let frame = frames::read(lane, &request);
        if !self.alive.load(Ordering::Relaxed) || !self.sends(&frame) {
            tokio::time::sleep(NOTICED).await;
            return Err(self.unreachable(to, "this node has crashed"));
        }
        let request = match wires.told(me, to, lane, &request) {
            Told::Truth => request,
            Told::Instead(lie) => lie,
            Told::Answer(answer) => {
                tokio::time::sleep(LIES_TAKE).await;
                return Ok(answer);
            }
        };
        self.again(to, lane, &request);
        let Some(arrival) = wires.arrival(me, to, lane) else {
            wires.witness.notes().fault("loss");
            tokio::time::sleep(NOTICED).await;
            return match wires.made_up(&frame) {
                Some(answer) => Ok(answer),
                None => Err(NetworkError::TimedOut { peer: to }),
            };
        };
        tokio::time::sleep_until(arrival).await;
        let core = wires.state().nodes.get(&to).cloned();
        let Some(core) = core.filter(|_| !wires.is_cut(me, to)) else {
            tokio::time::sleep(NOTICED).await;
            return match wires.made_up(&frame) {
                Some(answer) => Ok(answer),
                None => Err(self.unreachable(to, "down, or behind a partition")),
            };
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
        wires.witness.delivered(me, to, &frame);
        if lane == Lane::Snapshot {
            wires.witness.copying(to);
        }
        let answer = core.handle(me, lane, request).await;
        drop(core);
        wires.witness.answered(to, me, &frame, &answer);
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
