//! Peers: the other institutions' nodes, reached over libp2p (TCP, Noise, Yamux).
//!
//! What holds here: only members connect (`gate`), as the certified member set says at any time;
//! each pair keeps one connection (`transport`),
//! and on it one long-lived stream per lane and direction (`streams`), so that a large append
//! never delays a vote. [`Peers`] is the node's implementation of consensus' [`Network`]; what
//! arrives goes to its [`Inbound`]. What stays out: what is said.

pub mod address;
mod gate;
mod in_portions;
mod streams;
mod transport;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_consensus::network::{Inbound, Lane, Network, NetworkError};
use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use futures::StreamExt;
use libp2p::{PeerId, StreamProtocol, identity};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use address::PeerAddress;
use gate::Gate;
use streams::{LANES, LaneQueue, Outgoing, exchange, protocol, rules, serve};
use transport::{Link, Transport, jittered};

/// Opening a stream on a standing connection takes one round trip; libp2p has no deadline for it.
const OPEN_DEADLINE: Duration = Duration::from_secs(2);
/// Pauses before a stream is opened again, from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why the peers' side did not start.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The genesis, the key and `raft_id` do not fit together.
    #[error(transparent)]
    Gate(#[from] gate::GateError),
    /// The network would not have it.
    #[error(transparent)]
    Transport(#[from] transport::TransportError),
    /// A peer is configured that the genesis does not know.
    #[error("peers names raft_id {0}, which is not another member of the genesis; remove it")]
    UnknownPeer(u64),
    /// A peer is missing from the configuration, and it is this node that has to dial it.
    #[error("member {raft_id} ({institution}) has no address in peers; add it")]
    NoAddress {
        /// The member.
        raft_id: u64,
        /// Its institution.
        institution: String,
    },
}

/// What the peers' side needs to know.
#[derive(Debug)]
pub struct PeersConfig {
    /// The chain; its first bytes are in the protocol names.
    pub chain_id: Hash,
    /// Who may connect.
    pub members: v1::MemberSet,
    /// This node.
    pub raft_id: u64,
    /// Its network identity.
    pub keypair: identity::Keypair,
    /// Where to listen.
    pub listen: PeerAddress,
    /// Where the others are.
    pub addresses: BTreeMap<u64, PeerAddress>,
}

impl PeersConfig {
    /// Whether members, key and addresses fit together, for a node that the members list and that
    /// starts for the first time; needs no network.
    pub fn check(&self) -> Result<(), PeersError> {
        let identity = PeerId::from(self.keypair.public());
        let gate = Gate::new(&self.members, self.raft_id, identity)?;
        gate.check_own()?;
        let highest = self.members.members.last().map_or(0, |m| m.raft_id);
        let known = |raft_id: &u64| gate.others().any(|(id, _)| id == *raft_id);
        // Higher numbers belong to members that came in later, or will.
        let mut unknown = self.addresses.keys().filter(|id| **id <= highest);
        if let Some(raft_id) = unknown.find(|raft_id| !known(raft_id)) {
            return Err(PeersError::UnknownPeer(*raft_id));
        }
        for member in &self.members.members {
            let peer = gate.others().find(|(id, _)| *id == member.raft_id);
            let dials = peer.is_some_and(|(_, peer)| gate.dials(&peer));
            if dials && self.address_of(member).is_none() {
                return Err(PeersError::NoAddress {
                    raft_id: member.raft_id,
                    institution: member.institution.clone(),
                });
            }
        }
        Ok(())
    }

    /// What the operator configured, or else what the member says of itself.
    fn address_of(&self, member: &v1::Member) -> Option<PeerAddress> {
        let configured = self.addresses.get(&member.raft_id).cloned();
        configured.or_else(|| member.address.parse().ok())
    }
}

/// One other member. What keeps its connection and its lanes ends with it.
struct Peer {
    peer: PeerId,
    link: Arc<Link>,
    lanes: HashMap<Lane, LaneQueue>,
    _tasks: Vec<AbortOnDrop>,
}

/// Who may connect now.
struct Roster {
    gate: Gate,
    peers: BTreeMap<u64, Peer>,
}

type SharedRoster = Arc<RwLock<Roster>>;

fn read(roster: &SharedRoster) -> RwLockReadGuard<'_, Roster> {
    roster.read().unwrap_or_else(PoisonError::into_inner)
}

/// The connections to all other members.
pub struct Peers {
    config: PeersConfig,
    roster: SharedRoster,
    transport: Transport,
    control: libp2p_stream::Control,
    chain_prefix: String,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Peers {
    /// Listens, dials, and opens lanes. Nothing is answered before [`Peers::serve`].
    pub async fn start(config: PeersConfig) -> Result<Arc<Peers>, PeersError> {
        let identity = PeerId::from(config.keypair.public());
        let gate = Gate::new(&config.members, config.raft_id, identity)?;
        let keypair = config.keypair.clone();
        let (transport, control) =
            Transport::start(keypair, gate.behaviour(), &config.listen).await?;
        let peers = Arc::new(Peers {
            chain_prefix: hex::encode(&config.chain_id.as_bytes()[..8]),
            roster: Arc::new(RwLock::new(Roster {
                gate,
                peers: BTreeMap::new(),
            })),
            config,
            transport,
            control,
            tasks: Mutex::default(),
        });
        let members = peers.config.members.clone();
        peers.update(&members).await?;
        Ok(peers)
    }

    /// From now on these may connect, and nobody else. One that stays under its peer id keeps its
    /// connection.
    pub async fn update(&self, members: &v1::MemberSet) -> Result<(), PeersError> {
        let identity = PeerId::from(self.config.keypair.public());
        let gate = Gate::new(members, self.config.raft_id, identity)?;
        let gone: Vec<Peer> = {
            let roster = &mut *self.roster.write().unwrap_or_else(PoisonError::into_inner);
            let stays = |raft_id: u64, peer: &Peer| gate.raft_id(&peer.peer) == Some(raft_id);
            let gone: Vec<u64> = roster
                .peers
                .iter()
                .filter(|(raft_id, peer)| !stays(**raft_id, peer))
                .map(|(raft_id, _)| *raft_id)
                .collect();
            roster.gate = gate.clone();
            gone.iter()
                .filter_map(|id| roster.peers.remove(id))
                .collect()
        };
        for peer in gone {
            tracing::info!(peer = %peer.peer, "no member any more: let in no more");
            self.transport.remove(&peer.peer).await;
        }
        for member in &members.members {
            let known = read(&self.roster).peers.contains_key(&member.raft_id);
            let peer_id = gate.others().find(|(id, _)| *id == member.raft_id);
            if let Some((raft_id, peer_id)) = peer_id.filter(|_| !known) {
                let dial = self.config.address_of(member);
                if dial.is_none() && gate.dials(&peer_id) {
                    let institution = &member.institution;
                    tracing::warn!(raft_id, institution, "no address in peers for this member");
                }
                let dial = dial.filter(|_| gate.dials(&peer_id));
                let peer = self.open(raft_id, peer_id, dial).await;
                let mut roster = self.roster.write().unwrap_or_else(PoisonError::into_inner);
                roster.peers.insert(raft_id, peer);
            }
        }
        Ok(())
    }

    async fn open(&self, raft_id: u64, peer_id: PeerId, dial: Option<PeerAddress>) -> Peer {
        let (link, dialling) = self.transport.add(raft_id, peer_id, dial).await;
        let mut tasks: Vec<AbortOnDrop> = dialling.into_iter().map(AbortOnDrop).collect();
        let mut lanes = HashMap::new();
        for lane in LANES {
            let (queue, drain) = LaneQueue::new(lane, raft_id);
            lanes.insert(lane, queue);
            tasks.push(AbortOnDrop(tokio::spawn(keep_open(LaneTask {
                control: self.control.clone(),
                link: link.clone(),
                peer: (raft_id, peer_id),
                lane,
                protocol: protocol(&self.chain_prefix, lane),
                queue: drain,
            }))));
        }
        Peer {
            peer: peer_id,
            link,
            lanes,
            _tasks: tasks,
        }
    }

    /// From now on what peers ask goes to `inbound`.
    pub fn serve(&self, inbound: Arc<dyn Inbound>) {
        for lane in LANES {
            let protocol = protocol(&self.chain_prefix, lane);
            let Ok(incoming) = self.control.clone().accept(protocol) else {
                tracing::error!(?lane, "the lane is served already");
                continue;
            };
            let accept = accept(incoming, lane, self.roster.clone(), inbound.clone());
            self.keep(tokio::spawn(accept));
        }
    }

    fn keep(&self, task: JoinHandle<()>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push(task);
    }

    /// Where peers are listened for.
    pub fn listening(&self) -> SocketAddr {
        self.transport.listening()
    }

    /// Closes all connections and ends all tasks.
    pub async fn shutdown(&self) {
        self.transport.stop().await;
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        let mut roster = self.roster.write().unwrap_or_else(PoisonError::into_inner);
        roster.peers.clear();
    }
}

#[async_trait]
impl Network for Peers {
    async fn call(&self, to: u64, lane: Lane, request: Bytes) -> Result<Bytes, NetworkError> {
        let unreachable = |detail: &str| NetworkError::Unreachable {
            peer: to,
            detail: detail.to_owned(),
        };
        let (link, queue) = {
            let roster = read(&self.roster);
            let peer = roster
                .peers
                .get(&to)
                .ok_or_else(|| unreachable("not a member"))?;
            let queue = peer.lanes.get(&lane).cloned();
            (peer.link.clone(), queue)
        };
        if !link.connected() {
            return Err(unreachable("not connected"));
        }
        let queue = queue.ok_or_else(|| unreachable("no such lane"))?;
        match tokio::time::timeout(rules(lane).deadline, queue.call(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                link.suspect();
                Err(NetworkError::TimedOut { peer: to })
            }
        }
    }

    fn connected(&self, peer: u64) -> bool {
        let roster = read(&self.roster);
        let peer = roster.peers.get(&peer);
        peer.is_some_and(|peer| peer.link.connected())
    }
}

/// What the near end of a lane needs.
struct LaneTask {
    control: libp2p_stream::Control,
    link: Arc<Link>,
    peer: (u64, PeerId),
    lane: Lane,
    protocol: StreamProtocol,
    queue: mpsc::Receiver<Outgoing>,
}

/// Keeps one stream open while there is a connection, and turns requests away while there is not.
async fn keep_open(mut task: LaneTask) {
    let (raft_id, peer_id) = task.peer;
    let mut state = task.link.watch();
    let mut pause = FIRST_PAUSE;
    loop {
        if !task.link.connected() {
            tokio::select! {
                up = state.wait_for(|state| state.connected()) => if up.is_err() { return },
                outgoing = task.queue.recv() => {
                    let Some(outgoing) = outgoing else { return };
                    outgoing.fail(unreachable(raft_id, "not connected"));
                }
            }
            continue;
        }
        let open = task.control.open_stream(peer_id, task.protocol.clone());
        let ended = match tokio::time::timeout(OPEN_DEADLINE, open).await {
            Ok(Ok(stream)) => {
                let opened = tokio::time::Instant::now();
                let link = task.link.clone();
                let heard = move || link.heard();
                let end = exchange(stream, (raft_id, task.lane), &mut task.queue, heard).await;
                let Some(reason) = end else { return };
                if opened.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                reason
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "opening it took too long".to_owned(),
        };
        tracing::debug!(peer = raft_id, lane = ?task.lane, reason = %ended, "stream ended");
        task.link.suspect();
        while let Ok(outgoing) = task.queue.try_recv() {
            outgoing.fail(unreachable(raft_id, &ended));
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn unreachable(peer: u64, detail: &str) -> NetworkError {
    NetworkError::Unreachable {
        peer,
        detail: detail.to_owned(),
    }
}

/// Accepts one lane's streams. libp2p drops a stream that arrives while the acceptor is busy, so
/// this loop only starts tasks. A peer has one stream per lane: a newer one replaces the older.
async fn accept(
    mut incoming: libp2p_stream::IncomingStreams,
    lane: Lane,
    roster: SharedRoster,
    inbound: Arc<dyn Inbound>,
) {
    let mut serving: HashMap<u64, AbortOnDrop> = HashMap::new();
    while let Some((peer, stream)) = incoming.next().await {
        let found = {
            let roster = read(&roster);
            let from = roster.gate.raft_id(&peer);
            from.and_then(|from| Some((from, roster.peers.get(&from)?.link.clone())))
        };
        let Some((from, link)) = found else {
            tracing::warn!(%peer, "a stream from no member was dropped");
            continue;
        };
        let inbound = inbound.clone();
        let task = tokio::spawn(async move {
            let heard = move || link.heard();
            if let Err(error) = serve(stream, lane, from, inbound, heard).await {
                tracing::debug!(peer = from, ?lane, %error, "inbound stream ended");
            }
        });
        serving.insert(from, AbortOnDrop(task));
    }
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
