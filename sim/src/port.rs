//! One node's end of the simulated wires, as its `Core` has it.
//!
//! What holds here: everything that a node says passes here once, and the witness sees it before
//! anything else happens to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_consensus::{Core, Inbound, Lane, Network, NetworkError};

use crate::frames::{self, Frame};
use crate::fuses::Moment;
use crate::notes::Mark;
use crate::wires::{Told, Wires};

/// One node's end of the wires.
#[derive(Clone)]
pub struct Port {
    me: u64,
    alive: Arc<AtomicBool>,
    wires: Wires,
}

impl Port {
    pub fn new(me: u64, wires: Wires) -> Self {
        let alive = Arc::new(AtomicBool::new(true));
        Self { me, alive, wires }
    }

    pub fn cut(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    fn is_dead(&self) -> bool {
        !self.alive.load(Ordering::Relaxed) || self.wires.fuses.has_blown(self.me)
    }

    fn unreachable(&self, peer: u64, detail: &str) -> NetworkError {
        NetworkError::Unreachable {
            peer,
            detail: detail.to_owned(),
        }
    }
}

/// A duplicate comes so much later.
const LATE_MS: (u64, u64) = (1, 2_000);
/// A message that was lost is noticed after so long, as a broken connection is.
const NOTICED: Duration = Duration::from_millis(400);
/// A member that lies to itself is as quick as a peer.
const LIES_TAKE: Duration = Duration::from_millis(2);

impl Port {
    /// What passes here, before anything else happens to it. False: the power failed first.
    fn sends(&self, frame: &Frame) -> bool {
        let wires = &self.wires;
        let cosigns = matches!(frame, Frame::Cosignature(_));
        if cosigns && wires.fuses.blows(self.me, Moment::Cosigning) {
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
            let Some(core) = core.filter(|_| wires.reaches(port.me, to)) else {
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
        let request = wires.bent(me, request.clone(), &frames::read(lane, &request));
        let frame = frames::read(lane, &request);
        if self.is_dead() || !self.sends(&frame) {
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
            return match wires.made_up(&frame, "lost") {
                Some(answer) => Ok(answer),
                None => Err(NetworkError::TimedOut { peer: to }),
            };
        };
        tokio::time::sleep_until(arrival).await;
        let core = wires.state().nodes.get(&to).cloned();
        let Some(core) = core.filter(|_| wires.reaches(me, to)) else {
            tokio::time::sleep(NOTICED).await;
            return match wires.made_up(&frame, "lost") {
                Some(answer) => Ok(answer),
                None => Err(self.unreachable(to, "down, or behind a partition")),
            };
        };
        if self.is_dead() {
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
        let mut answer = core.handle(me, lane, request).await;
        drop(core);
        if let Err(why) = &answer
            && let Some(made_up) = wires.made_up(&frame, why)
        {
            answer = Ok(made_up);
        }
        wires.witness.answered(to, me, &frame, &answer);
        let back = wires.arrival(to, me, lane);
        match back.filter(|_| wires.reaches(to, me)) {
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
