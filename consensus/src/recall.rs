//! Recall: before a node promises anything again, it asks the others what it promised before.
//!
//! What holds here: disks that are an old copy, or were wiped, look whole to their own node. So at
//! every start, before it votes, acknowledges an append, campaigns or cosigns, a node asks the other
//! members which header of its own they saw cosigned, and which term they know. Where one shows a
//! cosignature that the sign guard does not know, the node stops for good. Else it votes in no term
//! that they know, for it may have voted there before. Nodes that still ask themselves answer too,
//! so that all can start at once.
//!
//! How many must answer: with n members, this one included, ceil(n/2) of the others. Whatever this
//! node promised together with a majority, at least one of them took part in, because
//! majority - 1 + ceil(n/2) > n - 1. What stays out: what an answer says (`cosign`), and a promise
//! that reached nobody but members that are down now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::v1;
use futures::stream::{FuturesUnordered, StreamExt};
use openraft::raft::VoteRequest;
use openraft::type_config::alias::CommittedLeaderIdOf;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cosign::{CosignError, Cosigner, Recalled};
use crate::gossip;
use crate::inbound::MAX_TERM_OR_INDEX;
use crate::membership;
use crate::network::{Lane, Network};
use crate::raft::RaftHandle;
use crate::raft_network::Kind;
use crate::types::{LogId, Types, Vote};

/// A member that is asked answers in this time, or is asked again.
const DEADLINE: Duration = Duration::from_secs(1);
/// How soon a member that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the log says that this node still waits.
const REMIND_EVERY: Duration = Duration::from_secs(10);
/// No member has this number: a vote for it is a term in which this node votes for nobody.
pub(crate) const NOBODY: u64 = 0;

/// What asks.
pub(crate) struct Recall {
    pub(crate) me: u64,
    pub(crate) raft: RaftHandle,
    pub(crate) cosigner: Arc<Cosigner>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) stopped: watch::Sender<Option<String>>,
}

/// How many of `others` must answer.
fn needed(others: usize) -> usize {
    match others {
        0 => 0,
        others => (others + 1).div_ceil(2),
    }
}

impl Recall {
    /// Asks, and lets the node take part; or stops it.
    pub(crate) async fn run(self) {
        let begun = Instant::now();
        let term = match self.ask().await {
            Ok(term) => term,
            Err(error) => return gossip::stop(&self.stopped, &error),
        };
        if !self.raise(term).await {
            return;
        }
        if let Err(error) = self.cosigner.begin() {
            return gossip::stop(&self.stopped, &error);
        }
        let took = begun.elapsed();
        tracing::info!(term, ?took, "this node takes part");
        self.ready.send_replace(true);
        self.raft.runtime_config().elect(true);
    }

    /// The highest term that enough others know.
    async fn ask(&self) -> Result<u64, CosignError> {
        let mut epochs = self.cosigner.epochs();
        let mut terms = BTreeMap::new();
        let mut remind = Instant::now() + REMIND_EVERY;
        loop {
            let others: BTreeSet<u64> = {
                let known = epochs.borrow_and_update();
                membership::others(&known, self.me).collect()
            };
            let silent = others.iter().filter(|id| !terms.contains_key(*id));
            let mut asked: FuturesUnordered<_> = silent.map(|id| self.answer_of(*id)).collect();
            loop {
                let silent: Vec<u64> = others
                    .iter()
                    .copied()
                    .filter(|id| !terms.contains_key(id))
                    .collect();
                let needed = needed(others.len());
                if others.len() - silent.len() >= needed {
                    return Ok(terms.values().copied().max().unwrap_or(0));
                }
                tokio::select! {
                    biased;
                    Some((member, answer)) = asked.next() => {
                        if self.cosigner.recalled(member, &answer)? == Recalled::Known {
                            terms.insert(member, answer.term);
                        } else {
                            asked.push(self.answer_of(member));
                        }
                    }
                    // Other members: they are to be asked.
                    changed = epochs.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => std::future::pending().await,
                    },
                    () = tokio::time::sleep_until(remind) => {
                        remind += REMIND_EVERY;
                        tracing::warn!(
                            ?silent,
                            needed,
                            "too few members answer what this node promised before; it takes no part yet"
                        );
                    }
                }
            }
        }
    }

    async fn answer_of(&self, member: u64) -> (u64, v1::RecallResponse) {
        let request = Kind::Recall.frame(&v1::RecallRequest {}.encode_to_vec());
        loop {
            let call = self.network.call(member, Lane::Control, request.clone());
            if let Ok(Ok(answer)) = tokio::time::timeout(DEADLINE, call).await
                && let Ok(answer) = v1::RecallResponse::decode(answer)
                && answer.term < MAX_TERM_OR_INDEX
            {
                return (member, answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// From now on this node neither votes nor campaigns in `term` or below. False: Raft has ended.
    ///
    /// It is a vote for nobody in that term, which Raft records like any other; a leader of the term
    /// is still followed.
    async fn raise(&self, term: u64) -> bool {
        loop {
            let own = |state: &openraft::RaftState<Types>| state.vote_ref().leader_id.term;
            match self.raft.with_raft_state(own).await {
                Ok(own) if own >= term => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
            // Who stands for nobody has a log as long as any, and no lease stands against it.
            let log_id = LogId::new(CommittedLeaderIdOf::<Types>::new(u64::MAX), u64::MAX);
            let mut request = VoteRequest::new(Vote::new(term, NOBODY), Some(log_id));
            request.leadership_transfer = true;
            if self.raft.vote(request).await.is_err() {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_asked_overlaps_with_every_majority_that_this_node_was_part_of() {
        assert_eq!(needed(0), 0, "alone, there is nobody to ask");
        for others in 1..20 {
            let members = others + 1;
            let majority = members / 2 + 1;
            assert!(2 * majority > members, "{members}");
            assert!(majority - 1 + needed(others) > others, "{members}");
            assert!(needed(others) <= others, "{members}");
        }
    }
}
