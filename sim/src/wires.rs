//! The simulated network: seeded delay, loss, duplicates, lanes that overtake each other, cuts one
//! way or both, and wires that change what they carry (for members that lie).
//!
//! What holds here: on one lane between two nodes requests arrive in the order in which they were
//! sent; only a duplicate may come late, behind others. A node that crashed neither sends nor
//! receives. Everything that passes is shown to the witness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cairn_consensus::{Core, Lane};
use tokio::time::Instant;

use crate::bends;
use crate::frames::{self, Frame};
use crate::fuses::Fuses;
use crate::planted::Planted;
use crate::port::Port;
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

pub(crate) struct State {
    pub(crate) weather: Weather,
    pub(crate) nodes: BTreeMap<u64, Core>,
    /// Pairs that cannot talk, as (from, to).
    cut: BTreeSet<(u64, u64)>,
    /// When the last request on this lane arrives.
    busy_until: BTreeMap<(u64, u64, Lane), Instant>,
    lies: Vec<Lie>,
    twist: Option<Twist>,
}

/// A part of a copy takes so much longer: copies are large where ledgers are.
const COPY_PART_MS: (u64, u64) = (0, 400);

/// All wires.
#[derive(Clone)]
pub struct Wires {
    state: Arc<Mutex<State>>,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub witness: Witness,
    planted: Planted,
    pub fuses: Fuses,
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
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            rng,
            trace,
            witness,
            planted,
            fuses: Fuses::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
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

    /// How `node` reaches the others until it crashes.
    pub fn port(&self, node: u64) -> Port {
        Port::new(node, self.clone())
    }

    pub(crate) fn told(&self, from: u64, to: u64, lane: Lane, request: &Bytes) -> Told {
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

    /// What a planted bug makes of a request before it leaves.
    pub(crate) fn bent(&self, from: u64, request: Bytes, frame: &Frame) -> Bytes {
        let bent = match (self.planted, frame) {
            (Planted::EarlierTermsCounted, Frame::Append { last: None, .. }) => {
                let counted = self.witness.on_most_disks(from);
                counted.and_then(|counted| bends::heartbeat(&request, counted))
            }
            (Planted::CopyKeepsOldMembers, Frame::Offer(_)) => {
                bends::offer(&request, self.witness.members())
            }
            _ => None,
        };
        bent.unwrap_or(request)
    }

    /// What a planted bug takes a lost request's answer for.
    pub(crate) fn made_up(&self, frame: &Frame, why: &str) -> Option<Bytes> {
        let left = self.planted == Planted::LeaverIsHeard;
        if left != why.contains("is no member") {
            return None;
        }
        match (self.planted, frame) {
            (Planted::StaleAcknowledgements, Frame::Append { last: Some(_), .. }) => {
                Some(Bytes::from_static(frames::APPENDED))
            }
            (
                Planted::VotesMadeUp | Planted::LeaverIsHeard,
                Frame::Vote(ballot) | Frame::PreVote(ballot),
            ) => Some(frames::grant(*ballot)),
            _ => None,
        }
    }

    pub(crate) fn is_cut(&self, from: u64, to: u64) -> bool {
        self.state().cut.contains(&(from, to))
    }

    /// Whether what `from` sends now comes to `to`, as far as power and wires go.
    pub(crate) fn reaches(&self, from: u64, to: u64) -> bool {
        let dark = |node| self.fuses.has_blown(node);
        !dark(from) && !dark(to) && !self.is_cut(from, to)
    }

    /// When a request that is sent now arrives; `None`: never.
    pub(crate) fn arrival(&self, from: u64, to: u64, lane: Lane) -> Option<Instant> {
        let mut state = self.state();
        let mut delay = self
            .rng
            .between(state.weather.delay_ms.0, state.weather.delay_ms.1);
        if lane == Lane::Snapshot {
            delay += self.rng.between(COPY_PART_MS.0, COPY_PART_MS.1);
        }
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
