//! The swarm: listens, dials, and keeps one connection to every other member.
//!
//! What holds here: of two members only the one with the lower peer id dials; it tries again for
//! ever, with growing, jittered pauses. The newest connection to a peer wins. A peer that says
//! nothing while requests wait for it is disconnected, so that a connection whose far end lost
//! power does not linger. All of it runs in tasks of one runtime.
//!
//! What stays out: frames (`streams`) and who may come in (`gate`).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identity, noise, tcp, yamux};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::address::{self, PeerAddress};
use super::gate::{Behaviour, BehaviourEvent};

/// A dial and its handshake take at most so long.
const DIAL_DEADLINE: Duration = Duration::from_secs(5);
/// Pauses between dials grow from the first to the second; a peer that restarts is back within
/// about a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(1_500);
/// A peer that has said nothing for so long, while an answer is due, is gone.
const SILENCE: Duration = Duration::from_secs(3);
/// Streams of one connection: four lanes each way, twice while they are being reopened.
const MAX_STREAMS: usize = 32;
/// The swarm's orders: a few per peer.
const COMMANDS: usize = 64;
/// Connections stay open without streams: lanes come and go, members stay.
const NEVER_IDLE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why the swarm did not start.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The listening address is taken or not ours.
    #[error("cannot listen for peers on {address}: {error}; {}", hint(.error))]
    Listen {
        /// As configured.
        address: PeerAddress,
        /// What the system said.
        error: io::Error,
    },
    /// libp2p would not be set up.
    #[error("the peer transport could not be built: {0}")]
    Build(String),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process has this port: stop it or change `listen`",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose a higher one",
        _ => "check `listen`",
    }
}

/// What the swarm is asked to do.
#[derive(Debug)]
enum Command {
    Dial(PeerId, Vec<Multiaddr>),
    Disconnect(PeerId),
    Allow(PeerId),
    Disallow(PeerId),
    Stop,
}

/// What is known of the connection to one peer.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkState {
    /// The connection in use.
    connection: Option<ConnectionId>,
    /// Dials that failed, ever.
    failures: u64,
}

impl LinkState {
    /// Whether a connection stands.
    pub fn connected(&self) -> bool {
        self.connection.is_some()
    }
}

/// The connection to one peer.
#[derive(Debug)]
pub struct Link {
    raft_id: u64,
    peer: PeerId,
    state: watch::Sender<LinkState>,
    started: Instant,
    /// When the peer last said anything, milliseconds since `started`.
    heard_ms: AtomicU64,
    commands: mpsc::Sender<Command>,
}

impl Link {
    /// Whether a connection stands.
    pub fn connected(&self) -> bool {
        self.state.borrow().connected()
    }

    /// Follows the connection.
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// The peer said something.
    pub fn heard(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(ms, Ordering::Relaxed);
    }

    /// The peer left a request without an answer: if it has been silent altogether, the connection
    /// is given up.
    pub fn suspect(&self) {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        if self.connected() && self.started.elapsed().saturating_sub(heard) > SILENCE {
            // If the queue of orders is full, the next unanswered request asks again.
            let _ = self.commands.try_send(Command::Disconnect(self.peer));
        }
    }
}

/// The links to all peers. Peers come and go with the members.
type Links = Arc<RwLock<BTreeMap<PeerId, Arc<Link>>>>;

fn link(links: &Links, peer: &PeerId) -> Option<Arc<Link>> {
    let links = links.read().unwrap_or_else(PoisonError::into_inner);
    links.get(peer).cloned()
}

/// The running swarm.
#[derive(Debug)]
pub struct Transport {
    links: Links,
    started: Instant,
    commands: mpsc::Sender<Command>,
    listening: SocketAddr,
}

impl Transport {
    /// Listens on `listen`.
    pub async fn start(
        keypair: identity::Keypair,
        behaviour: Behaviour,
        listen: &PeerAddress,
    ) -> Result<(Transport, libp2p_stream::Control), TransportError> {
        let mut swarm = build(keypair, behaviour)?;
        let control = swarm.behaviour().streams.new_control();
        let listening =
            listen_on(&mut swarm, listen)
                .await
                .map_err(|error| TransportError::Listen {
                    address: listen.clone(),
                    error,
                })?;

        let (commands, orders) = mpsc::channel(COMMANDS);
        let links = Links::default();
        tokio::spawn(drive(swarm, orders, links.clone()));
        let transport = Transport {
            links,
            started: Instant::now(),
            commands,
            listening,
        };
        Ok((transport, control))
    }

    /// Lets `peer` connect, and dials it where there is an address, as long as the task lives.
    pub async fn add(
        &self,
        raft_id: u64,
        peer: PeerId,
        dial: Option<PeerAddress>,
    ) -> (Arc<Link>, Option<JoinHandle<()>>) {
        let link = Arc::new(Link {
            raft_id,
            peer,
            state: watch::channel(LinkState::default()).0,
            started: self.started,
            heard_ms: AtomicU64::new(0),
            commands: self.commands.clone(),
        });
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(peer, link.clone());
        let _ = self.commands.send(Command::Allow(peer)).await;
        let dialling = dial.map(|address| tokio::spawn(keep_dialled(link.clone(), address)));
        (link, dialling)
    }

    /// Closes the connection to `peer` and lets it in no more.
    pub async fn remove(&self, peer: &PeerId) {
        let _ = self.commands.send(Command::Disallow(*peer)).await;
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.remove(peer) {
            link.state.send_modify(|state| state.connection = None);
        }
    }

    /// Where it listens, with the port that the system gave.
    pub fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// Closes all connections and stops.
    pub async fn stop(&self) {
        let _ = self.commands.send(Command::Stop).await;
        self.commands.closed().await;
    }
}

fn build(
    keypair: identity::Keypair,
    behaviour: Behaviour,
) -> Result<Swarm<Behaviour>, TransportError> {
    let failed = |detail: String| TransportError::Build(detail);
    let muxer = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config
    };
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            muxer,
        )
        .map_err(|e| failed(e.to_string()))?
        .with_behaviour(|_| behaviour)
        .map_err(|e| failed(e.to_string()))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(NEVER_IDLE))
        .with_connection_timeout(DIAL_DEADLINE)
        .build();
    Ok(swarm)
}

/// Listens, and returns the address with its real port. libp2p shares ports with whoever else
/// allows it, and would split the peers' connections between two processes; so the port is first
/// taken alone.
async fn listen_on(swarm: &mut Swarm<Behaviour>, listen: &PeerAddress) -> io::Result<SocketAddr> {
    let first = listen.resolve().await?.into_iter().next();
    let address = first.ok_or(io::ErrorKind::AddrNotAvailable)?;
    drop(std::net::TcpListener::bind(address)?);
    swarm
        .listen_on(address::multiaddr(address))
        .map_err(|e| io::Error::other(e.to_string()))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some(address) = address::socket_address(&address) {
                    return Ok(address);
                }
            }
            SwarmEvent::ListenerError { error, .. } => return Err(error),
            SwarmEvent::ListenerClosed {
                reason: Err(error), ..
            } => return Err(error),
            _ => {}
        }
    }
}

/// Dials whenever there is no connection.
async fn keep_dialled(link: Arc<Link>, address: PeerAddress) {
    let mut state = link.watch();
    let mut pause = FIRST_PAUSE;
    loop {
        if state.wait_for(|state| !state.connected()).await.is_err() {
            return;
        }
        let failures = state.borrow_and_update().failures;
        match address.resolve().await {
            Ok(found) => {
                let found = found.into_iter().map(address::multiaddr).collect();
                let dial = Command::Dial(link.peer, found);
                if link.commands.send(dial).await.is_err() {
                    return;
                }
                let decided = state.wait_for(|s| s.connected() || s.failures > failures);
                // libp2p has its own deadline; this one is for a dial that it never reports.
                let _ = tokio::time::timeout(DIAL_DEADLINE * 2, decided).await;
            }
            Err(error) => tracing::debug!(%address, %error, "peer address does not resolve"),
        }
        if state.borrow().connected() {
            pause = FIRST_PAUSE;
        } else {
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if link.commands.is_closed() {
            return;
        }
    }
}

/// Between half of `pause` and all of it, so that nodes that start together do not dial together.
pub fn jittered(pause: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without randomness there is no jitter; nothing else depends on it.
    let _ = getrandom::fill(&mut byte);
    pause / 2 + pause * u32::from(byte[0]) / 512
}

/// Runs the swarm until it is told to stop.
async fn drive(mut swarm: Swarm<Behaviour>, mut orders: mpsc::Receiver<Command>, links: Links) {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Command::Dial(peer, addresses)) => dial(&mut swarm, peer, addresses, &links),
                Some(Command::Disconnect(peer)) => {
                    let raft_id = link(&links, &peer).map(|link| link.raft_id);
                    tracing::warn!(peer = raft_id, "peer is silent: closing its connection");
                    let _ = swarm.disconnect_peer_id(peer);
                }
                Some(Command::Allow(peer)) => {
                    swarm.behaviour_mut().allowed.allow_peer(peer);
                }
                Some(Command::Disallow(peer)) => {
                    swarm.behaviour_mut().allowed.disallow_peer(peer);
                }
                Some(Command::Stop) | None => break,
            },
            event = swarm.select_next_some() => follow(&mut swarm, event, &links),
        }
    }
    orders.close();
    for link in links
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .values()
    {
        link.state.send_modify(|state| state.connection = None);
    }
}

fn dial(swarm: &mut Swarm<Behaviour>, peer: PeerId, addresses: Vec<Multiaddr>, links: &Links) {
    // A port of its own: dialling from the listening port collides with what is left of the last
    // connection between the same two ports.
    let options = DialOpts::peer_id(peer)
        .condition(PeerCondition::DisconnectedAndNotDialing)
        .addresses(addresses)
        .allocate_new_port()
        .build();
    if let Err(error) = swarm.dial(options) {
        failed(&peer, &error, links);
    }
}

fn failed(peer: &PeerId, error: &dyn std::fmt::Display, links: &Links) {
    if let Some(link) = link(links, peer) {
        tracing::debug!(peer = link.raft_id, %error, "dial failed");
        link.state.send_modify(|state| state.failures += 1);
    }
}

/// Keeps the links in step with the swarm.
fn follow(swarm: &mut Swarm<Behaviour>, event: SwarmEvent<BehaviourEvent>, links: &Links) {
    match event {
        SwarmEvent::ConnectionEstablished {
            peer_id,
            connection_id,
            ..
        } => {
            let Some(link) = link(links, &peer_id) else {
                return;
            };
            link.heard();
            let mut older = None;
            link.state.send_modify(|state| {
                older = state.connection.replace(connection_id);
            });
            tracing::info!(peer = link.raft_id, "peer connected");
            if let Some(older) = older {
                swarm.close_connection(older);
            }
        }
        SwarmEvent::ConnectionClosed {
            peer_id,
            connection_id,
            cause,
            ..
        } => {
            if let Some(link) = link(links, &peer_id) {
                link.state.send_if_modified(|state| {
                    let current = state.connection == Some(connection_id);
                    if current {
                        state.connection = None;
                        tracing::info!(peer = link.raft_id, ?cause, "peer disconnected");
                    }
                    current
                });
            }
        }
        SwarmEvent::OutgoingConnectionError {
            peer_id: Some(peer),
            error,
            ..
        } => failed(&peer, &error, links),
        SwarmEvent::IncomingConnectionError {
            send_back_addr,
            error,
            peer_id,
            ..
        } => {
            tracing::warn!(from = %send_back_addr, peer = ?peer_id, %error, "connection refused");
        }
        SwarmEvent::ListenerError { error, .. } => {
            tracing::warn!(%error, "listener for peers");
        }
        SwarmEvent::ListenerClosed { reason, .. } => {
            tracing::error!(
                ?reason,
                "the listener for peers closed: no peer can dial this node"
            );
        }
        _ => {}
    }
}
