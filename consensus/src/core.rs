//! The handle: one member's part in the agreement, started, asked and stopped.
//!
//! What holds here: [`Core::start`] brings a node to where its disks left it; [`Core::submit`] and
//! [`Core::wait`] are the way in, [`Core::view`] and [`Core::certified`] the way out. A node that
//! must not go on ([`CoreStatus::stopped`]) still serves reads. What stays out: everything that
//! these are made of, each in its own room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_ledger::admission::Admitted;
use cairn_ledger::apply;
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::epochs::Epochs;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::state::StateError;
use cairn_proto::v1;
use cairn_storage::{LogStore, SignGuard, StateStore, StoreError, View};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{InitializeError, RaftError};
use openraft::{EmptyNode, ServerState};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admitted::AdmittedCache;
use crate::applier::{self, Applier};
use crate::config::{
    CoreConfig, InitError, Standing, StartError, check_blocks, check_identity, check_member,
};
use crate::cosign::Cosigner;
use crate::log::RaftLog;
use crate::membership::{self, Follower};
use crate::network::{Clock, Inbound, Lane, Network};
use crate::raft::{self, Leadership, RaftHandle};
use crate::raft_network::RaftNetworks;
use crate::recall::Recall;
use crate::sequencer::{Queue, Sequencer};
use crate::snapshot::install::Installer;
use crate::snapshot::receive::Receiver;
use crate::snapshot::{self, Copies};
use crate::state_machine::StateMachine;
use crate::status::{CoreStatus, PeerView};
use crate::submit::{SubmitRefused, Submitter};
use crate::tracker::Tracker;
use crate::types::Runtime;
use crate::{gossip, inbound, locked, lost_leader};

/// How long a member may take to become leader when it is asked to: one round of votes.
const TRANSFER: Duration = Duration::from_millis(1_000);
/// How long forming a cluster waits for the other members: they may be on their way up.
const FORM: Duration = Duration::from_secs(15);

/// What all parts of a running node share.
pub(crate) struct Shared {
    me: u64,
    pub(crate) chain: Arc<Chain>,
    store: Arc<StateStore>,
    network: Arc<dyn Network>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) raft: RaftHandle,
    pub(crate) cosigner: Arc<Cosigner>,
    copies: Arc<Copies>,
    pub(crate) receiver: Arc<Receiver>,
    pub(crate) submitter: Arc<Submitter>,
    tracker: Arc<Tracker>,
    queue: Arc<Queue>,
    pub(crate) stopped: watch::Sender<Option<String>>,
    /// Whether enough others said what this node promised before: until then it takes no part.
    pub(crate) ready: watch::Sender<bool>,
    reachable: watch::Sender<Arc<v1::MemberSet>>,
    pub(crate) early_leader: inbound::EarlyLeader,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A running member. Clones are handles to the same one.
#[derive(Clone)]
pub struct Core {
    shared: Arc<Shared>,
}

impl Core {
    /// Starts the member on its disks. Takes part as soon as enough of the other members have said
    /// what it promised before; if the cluster is not formed yet, waits for [`Core::initialize`]
    /// here or elsewhere.
    pub async fn start(config: CoreConfig) -> Result<Core, StartError> {
        Self::start_as(config, Standing::Member).await
    }

    /// The same for a node that is to come in, or whose key is to change: what it has of the ledger
    /// need not list it yet. It cosigns from the epoch on that does.
    pub async fn join(config: CoreConfig) -> Result<Core, StartError> {
        Self::start_as(config, Standing::Joining).await
    }

    async fn start_as(config: CoreConfig, standing: Standing) -> Result<Core, StartError> {
        let CoreConfig {
            raft_id: me,
            chain,
            cosign_key,
            raft_disk,
            ledger,
            copies,
            network,
            clock,
            timing,
            io,
            seed,
        } = config;
        check_blocks(&chain)?;
        let log_store = Arc::new(LogStore::open(raft_disk)?);
        check_identity(&log_store, me)?;
        let guard = SignGuard::open(log_store.clone())?;
        let store = StateStore::open(ledger.current().map_err(StoreError::from)?, &chain.id)?;
        let store = Arc::new(store);
        applier::ensure_genesis(&chain, &store)?;
        let ahead = applier::is_ahead_of(&store, &log_store)?;
        let copies = Arc::new(Copies::open(ledger, store.clone(), copies, ahead)?);
        if standing == Standing::Member {
            check_member(&store, me, &cosign_key)?;
        }

        let admitted = Arc::new(AdmittedCache::default());
        let tracker = Arc::new(Tracker::default());
        let queue = Arc::new(Queue::default());
        let cosigner = Arc::new(Cosigner::open(
            me,
            chain.clone(),
            cosign_key,
            clock.clone(),
            guard,
            store.clone(),
        )?);
        let applier = Arc::new(Applier::open(
            chain.clone(),
            store.clone(),
            admitted.clone(),
            tracker.clone(),
            cosigner.clone(),
            queue.clone(),
            copies.clone(),
        )?);
        let installer = Arc::new(Installer {
            copies: copies.clone(),
            log: log_store.clone(),
            store: store.clone(),
            applier: applier.clone(),
            cosigner: cosigner.clone(),
            tracker: tracker.clone(),
        });
        let raft_config = Arc::new(timing.raft(&format!("cairn {}", chain.id))?);
        let log = RaftLog::new(log_store, io)?;
        let machine = StateMachine::new(applier.clone(), log.durable(), installer, io)?;
        let networks = RaftNetworks::new(me, network.clone(), copies.clone(), io);
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(me));
        let raft = openraft::Raft::new(me, raft_config, networks, log, machine);
        let raft = Runtime::scope(seed, raft)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;

        let (leadership, leadership_seen) = watch::channel(Leadership::default());
        let (stopped, stopped_seen) = watch::channel(None);
        let (ready, _) = watch::channel(false);
        let submitter = Arc::new(Submitter {
            chain: chain.clone(),
            store: store.clone(),
            admitted,
            tracker: tracker.clone(),
            queue: queue.clone(),
            cosigner: cosigner.clone(),
            network: network.clone(),
            leadership: leadership_seen.clone(),
            stopped: stopped_seen.clone(),
            deadline: timing.forward,
            io,
        });
        let limits = chain.limits();
        let sequencer = Sequencer {
            raft: raft.clone(),
            queue: queue.clone(),
            cosigner: cosigner.clone(),
            clock: clock.clone(),
            max_entries: limits.max_block_entries as usize,
            max_bytes: limits.max_block_bytes as usize,
        };
        let mut tasks = vec![
            tokio::spawn(raft::follow(raft.clone(), me, leadership, stopped.clone())),
            tokio::spawn(raft::shut_down_when(raft.clone(), stopped_seen)),
            tokio::spawn(lost_leader::watch(
                raft.clone(),
                network.clone(),
                leadership_seen.clone(),
            )),
            tokio::spawn(sequencer.run(leadership_seen)),
            tokio::spawn(submitter.clone().follow_leader()),
            tokio::spawn(gossip::renew(
                cosigner.clone(),
                timing.renew,
                stopped.clone(),
            )),
            tokio::spawn(snapshot::keep(
                copies.clone(),
                raft.clone(),
                cosigner.certified(),
                io,
                stopped.clone(),
            )),
        ];
        let receiver = Arc::new(Receiver {
            chain: chain.clone(),
            store: store.clone(),
            generations: copies.generations().clone(),
            applier,
            cosigner: cosigner.clone(),
            raft: raft.clone(),
            io,
            transfers: Arc::default(),
        });
        let (reachable, _) = watch::channel(Arc::new(v1::MemberSet::default()));
        let follower = Follower {
            me,
            raft: raft.clone(),
            cosigner: cosigner.clone(),
            network: network.clone(),
            stopped: stopped.clone(),
            reachable: reachable.clone(),
        };
        tasks.extend(follower.spawn());
        let recall = Recall {
            me,
            raft: raft.clone(),
            cosigner: cosigner.clone(),
            network: network.clone(),
            ready: ready.clone(),
            stopped: stopped.clone(),
        };
        tasks.push(tokio::spawn(recall.run()));
        Ok(Core {
            shared: Arc::new(Shared {
                me,
                chain,
                store,
                network,
                clock,
                raft,
                cosigner,
                copies,
                receiver,
                submitter,
                tracker,
                queue,
                stopped,
                ready,
                reachable,
                early_leader: inbound::EarlyLeader::default(),
                tasks: Mutex::new(tasks),
            }),
        })
    }

    /// Forms the cluster of the genesis members. Once, on one node, by an operator's hand.
    pub async fn initialize(&self) -> Result<(), InitError> {
        let mut ready = self.shared.ready.subscribe();
        let asked = tokio::time::timeout(FORM, ready.wait_for(|ready| *ready)).await;
        asked
            .map_err(|_| InitError::Asking)?
            .map_err(|_| InitError::Asking)?;
        let members = self.shared.chain.members.members.iter();
        let members: BTreeMap<u64, EmptyNode> = members
            .map(|member| (member.raft_id, EmptyNode {}))
            .collect();
        match self.shared.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                Err(InitError::AlreadyFormed)
            }
            Err(error) => Err(InitError::Raft(error.to_string())),
        }
    }

    /// Hands admitted entries to the leader's queue, here or by forwarding. `Ok`: queued, or known.
    pub async fn submit(&self, entries: Vec<Admitted>) -> Vec<Result<(), SubmitRefused>> {
        self.shared.submitter.submit(entries).await
    }

    /// Where an entry is on its way.
    pub fn entry_status(&self, id: &Hash) -> Result<v1::EntryStatus, StateError> {
        let shared = &self.shared;
        let mut status = v1::EntryStatus {
            entry_id: id.to_bytes(),
            ..v1::EntryStatus::default()
        };
        let outcome = apply::entry_outcome(&*shared.store, id)?;
        let state = match outcome {
            None if shared.tracker.is_pending(id) => v1::EntryState::Pending,
            None => v1::EntryState::Unknown,
            Some(outcome) => {
                status.height = outcome.height;
                if outcome.rejected != 0 {
                    status.reason = outcome.rejected;
                    v1::EntryState::Rejected
                } else {
                    status.leaf_index = outcome.leaf_index;
                    let certified = shared.cosigner.certified_height();
                    if certified.is_some_and(|certified| certified >= outcome.height) {
                        v1::EntryState::Certified
                    } else {
                        v1::EntryState::Committed
                    }
                }
            }
        };
        status.set_state(state);
        Ok(status)
    }

    /// Waits until the entry is committed (or certified) or rejected; at the deadline answers what
    /// is true then. A rejection counts once it is committed, like an acceptance.
    pub async fn wait(
        &self,
        id: &Hash,
        wait_for: v1::WaitFor,
        deadline: Instant,
    ) -> Result<v1::EntryStatus, StateError> {
        let outcome = self.shared.tracker.outcome_of(id);
        let status = self.entry_status(id)?;
        let status = if status.height == 0 && !decided(&status) {
            let _ = tokio::time::timeout_at(deadline, outcome).await;
            self.entry_status(id)?
        } else {
            drop(outcome);
            status
        };
        self.shared.tracker.gave_up(id);
        if wait_for != v1::WaitFor::Certified || status.state() != v1::EntryState::Committed {
            return Ok(status);
        }
        let mut certified = self.certified();
        let covers = |newest: &Option<Arc<CertifiedCheckpoint>>| {
            let height = newest.as_ref().map(|newest| newest.header().height);
            height.is_some_and(|height| height >= status.height)
        };
        let _ = tokio::time::timeout_at(deadline, certified.wait_for(covers)).await;
        self.entry_status(id)
    }

    /// The serving view: the state at the newest certified checkpoint that this node has a
    /// snapshot of. `None`: nothing is certified since the start.
    pub fn view(&self) -> Option<Arc<View>> {
        self.shared.cosigner.view()
    }

    /// The newest certificate, and every newer or fresher one.
    pub fn certified(&self) -> watch::Receiver<Option<Arc<CertifiedCheckpoint>>> {
        self.shared.cosigner.certified()
    }

    /// Who certifies, as far as certified changes of members are known here, and every change.
    pub fn epochs(&self) -> watch::Receiver<Arc<Epochs>> {
        self.shared.cosigner.epochs()
    }

    /// Whom this node may have to talk to: the newest members, and who has left and is still in
    /// Raft's configuration. Only the former are heard. Empty until the first look.
    pub fn reachable(&self) -> watch::Receiver<Arc<v1::MemberSet>> {
        self.shared.reachable.subscribe()
    }

    /// Raft's configuration: the sets of voters (more than one in the middle of a change), and all
    /// nodes.
    pub fn raft_members(&self) -> (Vec<BTreeSet<u64>>, BTreeSet<u64>) {
        let metrics = self.shared.raft.metrics();
        let metrics = metrics.borrow_watched();
        let stored = &metrics.membership_config;
        let nodes = stored.nodes().map(|(id, _)| *id).collect();
        (stored.membership().get_joint_config().clone(), nodes)
    }

    /// The certified checkpoint at `height`.
    pub fn checkpoint_at(&self, height: u64) -> Result<Option<v1::Checkpoint>, StateError> {
        Ok(self.shared.store.checkpoint_at(height)?)
    }

    /// Proofs that members cosigned contradicting headers.
    pub fn equivocations(&self) -> Result<Vec<v1::Equivocation>, StateError> {
        Ok(self.shared.store.list_equivocations()?)
    }

    /// At most `limit` of these behind the one with the hash `after`, ascending by hash.
    pub fn equivocations_after(
        &self,
        after: Option<&Hash>,
        limit: usize,
    ) -> Result<Vec<(Hash, v1::Equivocation)>, StateError> {
        Ok(self.shared.store.equivocations_after(after, limit)?)
    }

    /// Why this node stopped taking part, as soon as it does.
    pub fn stopped(&self) -> watch::Receiver<Option<String>> {
        self.shared.stopped.subscribe()
    }

    /// What this node is doing.
    pub fn status(&self) -> CoreStatus {
        let shared = &self.shared;
        let progress = shared.cosigner.progress();
        let metrics = shared.raft.metrics();
        let metrics = metrics.borrow_watched();
        let epochs = shared.cosigner.epochs().borrow().clone();
        let peers = membership::others(&epochs, shared.me).map(|raft_id| PeerView {
            raft_id,
            connected: shared.network.connected(raft_id),
            cosigned_height: shared.cosigner.seen(raft_id),
        });
        CoreStatus {
            raft_id: shared.me,
            raft_state: match metrics.state {
                ServerState::Shutdown => "shutdown",
                _ if !*shared.ready.borrow() => "asking",
                ServerState::Leader => "leader",
                ServerState::Follower => "follower",
                ServerState::Candidate => "candidate",
                ServerState::Learner => "learner",
            },
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_log_index: metrics.last_log_index,
            applied_height: progress.tip,
            certified_height: progress.certified,
            uncertified_bytes: progress.tail_bytes,
            queued_entries: shared.queue.len() as u64,
            pending_entries: shared.tracker.pending() as u64,
            peers: peers.collect(),
            equivocations: shared.cosigner.conflicts(),
            stopped: shared.stopped.borrow().clone(),
        }
    }

    /// If this node leads, hands leadership to the connected member whose log reaches furthest, and
    /// waits until another leads or `patience` is over. A restart then costs no election timeout.
    pub async fn hand_over(&self, patience: Duration) {
        let shared = &self.shared;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let target = {
                let metrics = shared.raft.metrics();
                let metrics = metrics.borrow_watched();
                if metrics.state != ServerState::Leader {
                    return;
                }
                let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
                let others = metrics.replication.iter().flatten();
                others
                    .filter(|(id, _)| voters.contains(id) && **id != shared.me)
                    .filter(|(id, _)| shared.network.connected(**id))
                    .max_by_key(|(id, matched)| (**matched, Reverse(**id)))
                    .map(|(id, _)| *id)
            };
            let Some(target) = target else { return };
            tracing::info!(to = target, "handing leadership over");
            if shared.raft.trigger().transfer_leader(target).await.is_err() {
                return;
            }
            let mut metrics = shared.raft.metrics();
            let moved = async {
                while metrics.borrow_watched().state == ServerState::Leader {
                    if metrics.changed().await.is_err() {
                        return;
                    }
                }
            };
            // A target that does not take it is asked once more, or another one is.
            let _ = tokio::time::timeout(TRANSFER, moved).await;
        }
    }

    /// Height of the newest certified copy of the state that this node keeps for others, and the
    /// last index that its Raft log was purged to.
    pub fn kept(&self) -> (Option<u64>, Option<u64>) {
        let purged = self.shared.raft.metrics().borrow_watched().purged;
        let copy = self.shared.copies.newest_height();
        (copy, purged.map(|purged| purged.index))
    }

    /// How often a copy of another member's state became this node's since the start.
    pub fn installs(&self) -> u64 {
        self.shared.copies.installs()
    }

    /// Stops taking part. Disks are closed when the last handle is gone.
    pub async fn shutdown(&self) {
        // Our tasks first: to them Raft's end would be a failure to report.
        let tasks = std::mem::take(&mut *locked(&self.shared.tasks));
        for task in tasks {
            task.abort();
            // Cancelled, which is what was asked for.
            let _ = task.await;
        }
        if let Err(error) = self.shared.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not end by itself");
        }
    }
}

#[async_trait]
impl Inbound for Core {
    async fn handle(&self, from: u64, lane: Lane, request: Bytes) -> Result<Bytes, String> {
        inbound::handle(&self.shared, from, lane, request).await
    }
}

fn decided(status: &v1::EntryStatus) -> bool {
    !matches!(
        status.state(),
        v1::EntryState::Unspecified | v1::EntryState::Unknown | v1::EntryState::Pending
    )
}
