//! Membership: Raft's configuration and the conversations between nodes follow the certified
//! members.
//!
//! What holds here: everything is level-triggered. The leader compares Raft's configuration with
//! the newest certified set and takes one step towards it, each under the precondition that the
//! configuration is still the one it looked at: a leftover joint configuration is flattened, who is
//! new becomes a learner, who left is taken out, a learner that has caught up becomes a voter. So a
//! crash or another leader at any step ends in the same place. Nothing here is awaited inside
//! apply. What stays out: who the members are (`cosign`, by certificates), and addresses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_ledger::epochs::Epochs;
use cairn_proto::v1;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::raft::Precondition;
use openraft::{ChangeMembers, EmptyNode, ServerState};
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::cosign::Cosigner;
use crate::gossip;
use crate::network::{Lane, Network};
use crate::raft::RaftHandle;
use crate::raft_network::Kind;
use crate::types::StoredMembership;

/// How often the configuration is looked at while nothing is said to have changed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A step that takes longer is tried again: its precondition tells whether it happened.
const STEP_DEADLINE: Duration = Duration::from_secs(5);
/// A learner that lacks fewer log entries than this has caught up: it gets the rest in one append.
const CAUGHT_UP_WITHIN: u64 = 64;
/// A member that is asked for changes answers in this time, or is asked again.
const ASK_DEADLINE: Duration = Duration::from_secs(2);

/// The members of the newest epoch but this one.
pub(crate) fn others(epochs: &Epochs, me: u64) -> impl Iterator<Item = u64> {
    let ids = epochs.newest().members.iter().map(|m| m.raft_id);
    ids.filter(move |id| *id != me)
}

/// The next step from Raft's configuration towards the members.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The voters become these, in one joint change and its end.
    Voters(BTreeSet<u64>),
    /// This one gets the log.
    Learner(u64),
    /// These no longer do.
    Forget(BTreeSet<u64>),
}

/// What Raft's configuration is.
#[derive(Debug, Clone, Default)]
struct Configuration {
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeSet<u64>,
}

impl Configuration {
    fn of(stored: &StoredMembership) -> Self {
        Self {
            configs: stored.membership().get_joint_config().clone(),
            nodes: stored.nodes().map(|(id, _)| *id).collect(),
        }
    }

    /// `caught_up`: whether a learner has almost all of the log.
    fn step(&self, members: &BTreeSet<u64>, caught_up: impl Fn(u64) -> bool) -> Option<Step> {
        let last = self.configs.last()?;
        if self.configs.len() > 1 {
            return Some(Step::Voters(last.clone()));
        }
        if let Some(new) = members.difference(&self.nodes).next() {
            return Some(Step::Learner(*new));
        }
        // Who is gone counts against the quorum: out first, where somebody stays.
        let staying: BTreeSet<u64> = last.intersection(members).copied().collect();
        if staying.len() < last.len() && !staying.is_empty() {
            return Some(Step::Voters(staying));
        }
        let mut new = members.difference(last).copied();
        if let Some(ready) = new.find(|id| caught_up(*id)) {
            return Some(Step::Voters(last.iter().copied().chain([ready]).collect()));
        }
        let forgotten = self.nodes.iter().copied();
        let forgotten: BTreeSet<u64> = forgotten
            .filter(|id| !members.contains(id) && !last.contains(id))
            .collect();
        (!forgotten.is_empty()).then_some(Step::Forget(forgotten))
    }
}

/// What follows the members on one node.
#[derive(Clone)]
pub(crate) struct Follower {
    pub(crate) me: u64,
    pub(crate) raft: RaftHandle,
    pub(crate) cosigner: Arc<Cosigner>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) stopped: watch::Sender<Option<String>>,
    pub(crate) reachable: watch::Sender<Arc<v1::MemberSet>>,
}

impl Follower {
    pub(crate) fn spawn(self) -> [JoinHandle<()>; 3] {
        [
            tokio::spawn(self.clone().align()),
            tokio::spawn(self.clone().talk()),
            tokio::spawn(self.ask()),
        ]
    }

    fn members(&self) -> Arc<Epochs> {
        self.cosigner.epochs().borrow().clone()
    }

    /// Brings Raft's configuration into line, while this node leads and is a member.
    async fn align(self) {
        let mut epochs = self.cosigner.epochs();
        loop {
            let moved = self.look().await;
            if !moved {
                tokio::select! {
                    changed = epochs.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        }
    }

    /// One look, and at most one step. Whether one was taken.
    async fn look(&self) -> bool {
        let epochs = self.members();
        let metrics = self.raft.metrics().borrow_watched().clone();
        let stored = metrics.membership_config.clone();
        let configuration = Configuration::of(&stored);
        self.note_reachable(&epochs, &configuration);
        if metrics.state != ServerState::Leader || !epochs.has(self.me) {
            return false;
        }
        let members: BTreeSet<u64> = others(&epochs, self.me).chain([self.me]).collect();
        let last = metrics.last_log_index.unwrap_or(0);
        let replication = metrics.replication.unwrap_or_default();
        let caught_up = |id: u64| {
            let matched = replication.get(&id).and_then(|log_id| log_id.as_ref());
            matched.is_some_and(|log_id| log_id.index + CAUGHT_UP_WITHIN > last)
        };
        let Some(step) = configuration.step(&members, caught_up) else {
            return false;
        };
        tracing::info!(?step, "Raft's configuration follows the members");
        let unchanged = Precondition::LastMembershipLogId {
            last_membership_log_id: *stored.log_id(),
        };
        let change = match &step {
            Step::Learner(id) => ChangeMembers::AddNodes([(*id, EmptyNode {})].into()),
            Step::Voters(ids) => ChangeMembers::ReplaceAllVoters(ids.clone()),
            Step::Forget(ids) => ChangeMembers::RemoveNodes(ids.clone()),
        };
        let taken = self.raft.change_membership_if(change, false, [unchanged]);
        match tokio::time::timeout(STEP_DEADLINE, taken).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::info!(?step, %error, "not yet");
                false
            }
            Err(_) => false,
        }
    }

    /// Who has left and is still in Raft's configuration is called, for its votes and
    /// acknowledgements may be needed to leave it; it is not heard.
    fn note_reachable(&self, epochs: &Epochs, configuration: &Configuration) {
        let mut set = epochs.newest().clone();
        if let Some(before) = epochs.before() {
            let leaving = before.members.iter().filter(|member| {
                configuration.nodes.contains(&member.raft_id) && !epochs.has(member.raft_id)
            });
            set.members.extend(leaving.cloned());
        }
        self.reachable.send_if_modified(|known| {
            let changed = **known != set;
            if changed {
                *known = Arc::new(set);
            }
            changed
        });
    }

    /// Tells each other member this one's newest cosignature. Who left with the newest change is
    /// told on: it may be what they lack to know it.
    async fn talk(self) {
        let mut epochs = self.cosigner.epochs();
        let mut told = BTreeSet::new();
        let mut tasks = JoinSet::new();
        loop {
            let known = epochs.borrow_and_update().clone();
            let before = known.before().map(|set| set.members.clone());
            let leaving = before.unwrap_or_default().into_iter().map(|m| m.raft_id);
            let peers: BTreeSet<u64> = others(&known, self.me)
                .chain(leaving.filter(|id| *id != self.me))
                .collect();
            if peers != told {
                tasks.shutdown().await;
                for peer in &peers {
                    let (cosigner, network) = (self.cosigner.clone(), self.network.clone());
                    tasks.spawn(gossip::tell(*peer, cosigner, network, self.stopped.clone()));
                }
                told = peers;
            }
            if epochs.changed().await.is_err() {
                return;
            }
        }
    }

    /// Asks whoever speaks of an epoch that is not known here how it came about.
    async fn ask(self) {
        let mut behind = self.cosigner.behind();
        while behind.changed().await.is_ok() {
            let Some(peer) = *behind.borrow_and_update() else {
                continue;
            };
            let request = v1::EpochsRequest {
                known_epoch: self.members().newest().epoch,
            };
            let request = Kind::Epochs.frame(&request.encode_to_vec());
            let call = self.network.call(peer, Lane::Control, request);
            let Ok(Ok(answer)) = tokio::time::timeout(ASK_DEADLINE, call).await else {
                continue;
            };
            let changes = v1::EpochsResponse::decode(answer).unwrap_or_default();
            if let Err(error) = self.cosigner.learn(&changes.epoch_changes) {
                tracing::warn!(peer, %error, "a member shows a change of members that does not verify");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    fn at(configs: &[&[u64]], nodes: &[u64]) -> Configuration {
        Configuration {
            configs: configs.iter().map(|config| ids(config)).collect(),
            nodes: ids(nodes),
        }
    }

    #[test]
    fn each_step_follows_from_what_is_there_alone() {
        let members = ids(&[1, 2, 3, 5]);
        let no = |_| false;
        let lost = at(&[&[1, 2, 3, 4]], &[1, 2, 3, 4]);
        assert_eq!(lost.step(&members, no), Some(Step::Learner(5)));
        let learning = at(&[&[1, 2, 3, 4]], &[1, 2, 3, 4, 5]);
        let out = Some(Step::Voters(ids(&[1, 2, 3])));
        assert_eq!(learning.step(&members, no), out);
        let joint = at(&[&[1, 2, 3, 4], &[1, 2, 3]], &[1, 2, 3, 4, 5]);
        assert_eq!(joint.step(&members, no), out, "flattened");
        let waiting = at(&[&[1, 2, 3]], &[1, 2, 3, 5]);
        assert_eq!(waiting.step(&members, no), None);
        let ready = Some(Step::Voters(ids(&[1, 2, 3, 5])));
        assert_eq!(waiting.step(&members, |id| id == 5), ready);
        let done = at(&[&[1, 2, 3, 5]], &[1, 2, 3, 5]);
        assert_eq!(done.step(&members, no), None);
        let leftover = at(&[&[1, 2, 3, 5]], &[1, 2, 3, 4, 5]);
        let forget = Some(Step::Forget(ids(&[4])));
        assert_eq!(leftover.step(&members, no), forget);
        assert_eq!(at(&[], &[]).step(&members, no), None, "not formed yet");
    }

    #[test]
    fn voters_are_not_taken_out_before_one_of_the_next_is_there() {
        let members = ids(&[5, 6]);
        let all_new = at(&[&[1, 2]], &[1, 2, 5, 6]);
        assert_eq!(all_new.step(&members, |_| false), None);
        let first = Some(Step::Voters(ids(&[1, 2, 5])));
        assert_eq!(all_new.step(&members, |id| id == 5), first);
    }
}
