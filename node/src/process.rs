//! The running node: its threads, and how it ends.
//!
//! What holds here: Raft and peers have one thread with a runtime of its own, gRPC another, so that
//! neither waits for the other's work; the main thread waits for a signal. On SIGTERM or SIGINT the
//! node hands leadership over if it leads, stops accepting calls, lets those under way end, leaves Raft and closes its databases, in
//! this order. A second signal ends it at once.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use cairn_consensus::{CopyRules, Core, CoreConfig, Io, SystemClock, Timing};
use cairn_ledger::genesis::Chain;
use cairn_storage::{
    Disk, Generations, Memory, Purpose, RocksDisk, RocksGenerations, wait_until_closed,
};
use ed25519_dalek::SigningKey;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::data::DataFolder;
use crate::grpc::Services;
use crate::metrics::{self, Metrics};
use crate::peers::{Peers, PeersConfig};
use crate::setup::Setup;
use crate::whole;

/// How long it may take until another member leads; after that the others elect one by themselves.
const HAND_OVER: Duration = Duration::from_secs(3);
/// How long calls under way may take to end once the node stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the last threads may take to close the databases.
const CLOSING: Duration = Duration::from_secs(10);

/// Runs the node until a signal.
pub fn run(config: Config) -> anyhow::Result<()> {
    set_limits();
    let setup = Setup::load(&config)?;
    let folder = DataFolder::open(&config.data, &setup.chain.id, config.raft_id)?;
    let ended = run_in(&folder, setup, &config);
    // Also after a start that failed: threads that are ending may still hold a database, and a
    // process that ends with one open may abort.
    let open = wait_until_closed(CLOSING);
    if open > 0 {
        tracing::warn!("{open} databases were not closed within {CLOSING:?}; they survive that");
    }
    drop(folder);
    tracing::info!("stopped");
    ended
}

fn run_in(folder: &DataFolder, setup: Setup, config: &Config) -> anyhow::Result<()> {
    let chain = setup.chain.clone();
    let listeners = Listeners::bind(config)?;
    let disks = Disks::open(folder)?;
    whole::check(disks.ledger.current()?, &chain.id)?;
    let member = Member {
        peers: setup.peers(config),
        raft_id: config.raft_id,
        joining: config.joining,
        chain: chain.clone(),
        cosign_key: setup.cosign_key,
        disks,
        copies: config.copies,
        timing: config.timing.clone(),
    };
    let raft = RaftThread::start(member)?;
    let stop = CancellationToken::new();
    let addresses = listeners.addresses()?;
    let services = Arc::new(Services {
        core: raft.core.clone(),
        chain: chain.clone(),
        metrics: Arc::default(),
        stop: stop.clone(),
    });
    let (grpc, grpc_ended) = serve(services, listeners)?;

    let Addresses {
        grpc: grpc_at,
        admin: admin_at,
    } = addresses;
    let peers_at = raft.listening;
    tracing::info!(
        "serving grpc={grpc_at} peers={peers_at} admin={admin_at} chain={}",
        chain.id
    );

    let waiting = runtime()?;
    let ended = waiting.block_on(until_told(&raft.core, grpc_ended, raft.ended));
    // While calls are still taken: what comes in meanwhile is forwarded to the next leader.
    waiting.block_on(raft.core.hand_over(HAND_OVER));
    tracing::info!("stopping: calls under way may end");
    stop.cancel();
    join("gRPC", grpc)?;
    let _ = raft.stop.send(());
    join("Raft", raft.thread)?;
    drop(raft.core);
    ended
}

/// No core dumps, which would hold keys, and as many files as the system grants: connections and
/// tables of the databases need some thousands.
fn set_limits() {
    let no_dumps = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, no_dumps) {
        tracing::warn!(%error, "core dumps are not forbidden: they would hold keys");
    }
    let files = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: files.maximum,
        ..files
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn join(name: &str, thread: JoinHandle<()>) -> anyhow::Result<()> {
    thread
        .join()
        .map_err(|_| anyhow!("the {name} thread panicked"))
}

/// Waits for a reason to stop. `Err`: nobody asked for it.
async fn until_told(
    core: &Core,
    grpc: oneshot::Receiver<anyhow::Error>,
    raft: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let alarm = core.clone();
    tokio::spawn(async move {
        let mut stopped = alarm.stopped();
        if let Ok(reason) = stopped.wait_for(Option::is_some).await {
            let reason = reason.as_deref().unwrap_or_default();
            tracing::error!(
                reason,
                "this node stopped taking part; it still serves reads"
            );
        }
    });
    let told = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        error = grpc => Err(error.unwrap_or_else(|_| anyhow!("the gRPC thread ended"))),
        _ = raft => Err(anyhow!("the Raft thread ended")),
    };
    // From now on a signal ends the process at once; the databases survive that.
    std::thread::spawn(|| {
        let Ok(runtime) = runtime() else { return };
        runtime.block_on(async {
            let (Ok(mut term), Ok(mut interrupt)) = (
                signal(SignalKind::terminate()),
                signal(SignalKind::interrupt()),
            ) else {
                return;
            };
            tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
            tracing::warn!("a second signal: ending at once");
            std::process::exit(130);
        });
    });
    told
}

/// The databases.
struct Disks {
    raft: Arc<dyn Disk>,
    ledger: Arc<dyn Generations>,
}

impl Disks {
    fn open(folder: &DataFolder) -> anyhow::Result<Disks> {
        let memory = Memory::new();
        let path = folder.path().join("raft");
        let raft = RocksDisk::open(&path, Purpose::RaftLog, &memory)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let path = folder.path().join("ledger");
        let ledger = RocksGenerations::open(&path, &memory)
            .with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Disks {
            raft: Arc::new(raft),
            ledger: Arc::new(ledger),
        })
    }
}

/// The sockets for clients, the operator and collectors: bound before anything starts, so that a
/// port in use is known at once.
struct Listeners {
    grpc: TcpListener,
    admin: TcpListener,
    metrics: Option<TcpListener>,
}

struct Addresses {
    grpc: SocketAddr,
    admin: SocketAddr,
}

impl Listeners {
    fn bind(config: &Config) -> anyhow::Result<Listeners> {
        let metrics = config.metrics.map(|address| bind("metrics", address));
        Ok(Listeners {
            grpc: bind("grpc", config.grpc)?,
            admin: bind("admin", config.admin)?,
            metrics: metrics.transpose()?,
        })
    }

    fn addresses(&self) -> io::Result<Addresses> {
        Ok(Addresses {
            grpc: self.grpc.local_addr()?,
            admin: self.admin.local_addr()?,
        })
    }
}

fn bind(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "; another process has this port: stop it or change the setting"
            }
            io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
            _ => "",
        };
        anyhow!("{key}: cannot listen on {address}: {error}{hint}")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What a member starts from.
struct Member {
    peers: PeersConfig,
    raft_id: u64,
    joining: bool,
    chain: Arc<Chain>,
    cosign_key: SigningKey,
    disks: Disks,
    copies: CopyRules,
    timing: Timing,
}

/// The thread of Raft and peers.
struct RaftThread {
    core: Core,
    listening: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl RaftThread {
    fn start(member: Member) -> anyhow::Result<RaftThread> {
        let runtime = runtime()?;
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let (ends, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("raft".to_owned());
        let thread = thread.spawn(move || {
            // Dropped when the thread ends, whatever the reason.
            let _ends: oneshot::Sender<()> = ends;
            runtime.block_on(async {
                match member.start().await {
                    Ok((peers, core)) => {
                        let _ = started.send(Ok((core.clone(), peers.listening())));
                        let _ = stopped.await;
                        core.shutdown().await;
                        peers.shutdown().await;
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            });
        })?;
        let (core, listening) = starting
            .recv()
            .map_err(|_| anyhow!("the Raft thread panicked while starting"))??;
        Ok(RaftThread {
            core,
            listening,
            stop,
            ended,
            thread,
        })
    }
}

impl Member {
    async fn start(self) -> anyhow::Result<(Arc<Peers>, Core)> {
        let peers = Peers::start(self.peers).await?;
        let config = CoreConfig {
            raft_id: self.raft_id,
            chain: self.chain,
            cosign_key: self.cosign_key,
            raft_disk: self.disks.raft,
            ledger: self.disks.ledger,
            copies: self.copies,
            network: peers.clone(),
            clock: Arc::new(SystemClock),
            timing: self.timing,
            io: Io::Threads,
            seed: None,
        };
        let core = if self.joining {
            Core::join(config).await?
        } else {
            Core::start(config).await?
        };
        tokio::spawn(follow_members(core.clone(), peers.clone()));
        peers.serve(Arc::new(core.clone()));
        Ok((peers, core))
    }
}

/// Keeps the peers' side in step with the certified members.
async fn follow_members(core: Core, peers: Arc<Peers>) {
    let mut reachable = core.reachable();
    // The handle must not keep the databases open.
    drop(core);
    loop {
        let members = reachable.borrow_and_update().clone();
        if !members.members.is_empty()
            && let Err(error) = peers.update(&members).await
        {
            tracing::error!(%error, "the members' peer ids are unusable: the old ones stay");
        }
        if reachable.changed().await.is_err() {
            return;
        }
    }
}

type Ended = oneshot::Receiver<anyhow::Error>;

/// Starts the gRPC thread. It ends when the services' `stop` is cancelled and calls have ended, or
/// [`DRAIN`] is over.
fn serve(services: Arc<Services>, listeners: Listeners) -> anyhow::Result<(JoinHandle<()>, Ended)> {
    let runtime = runtime()?;
    let (failed, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("grpc".to_owned());
    let thread = thread.spawn(move || {
        let stop = services.stop.clone();
        let served = runtime.block_on(async {
            let drained = async {
                stop.cancelled().await;
                tokio::time::sleep(DRAIN).await;
            };
            tokio::select! {
                served = serve_all(services, listeners) => served,
                () = drained => {
                    tracing::warn!("calls under way were cut off after {DRAIN:?}");
                    Ok(())
                }
            }
        });
        if let Err(error) = served {
            let _ = failed.send(error);
        }
    })?;
    Ok((thread, ended))
}

async fn serve_all(services: Arc<Services>, listeners: Listeners) -> anyhow::Result<()> {
    let grpc = tokio::net::TcpListener::from_std(listeners.grpc)?;
    let admin = tokio::net::TcpListener::from_std(listeners.admin)?;
    if let Some(listener) = listeners.metrics {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let metrics: Arc<Metrics> = services.metrics.clone();
        tokio::spawn(metrics::serve(listener, metrics, services.core.clone()));
    }
    tokio::try_join!(
        services.clone().serve_public(grpc),
        services.serve_admin(admin),
    )?;
    Ok(())
}
