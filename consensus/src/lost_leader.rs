//! A leader whose connection is gone.
//!
//! What holds here: a follower grants no vote and asks for none for the longest election timeout after
//! it heard its leader, so that a leader that only stalls is not replaced. A process that died closes
//! its connections, and nobody needs to wait for it: once there has been no connection to the leader
//! for [`GONE_FOR`], this follower gives that time up. It campaigns after its random timeout, and only
//! a majority that no longer hears the leader lets it. What stays out: votes and terms, which are
//! Raft's. Nothing reads by that lease, so it is no matter of safety.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::TransferLeaderRequest;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::network::Network;
use crate::raft::{Leadership, RaftHandle};
use crate::recall::NOBODY;
use crate::types::Types;

/// A connection that broke is dialled again at once; within this time the leader is back, or gone.
/// Below the shortest election timeout, so that it costs nothing.
const GONE_FOR: Duration = Duration::from_millis(400);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Watches over the leader until Raft ends.
pub(crate) async fn watch(
    raft: RaftHandle,
    network: Arc<dyn Network>,
    mut leadership: watch::Receiver<Leadership>,
) {
    loop {
        let now = leadership.borrow_and_update().clone();
        let lost = async {
            match now.leader {
                Some(leader) if !now.leading => gone(&*network, leader).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = leadership.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = lost => {}
        }
        tracing::info!(
            term = now.term,
            leader = now.leader,
            "the leader's connection is gone"
        );
        if expire(&raft, now.term).await.is_none() || leadership.changed().await.is_err() {
            return;
        }
    }
}

/// Returns when there has been no connection to `peer` for long enough.
async fn gone(network: &dyn Network, peer: u64) {
    let mut since = None;
    loop {
        if network.connected(peer) {
            since = None;
        } else if since.get_or_insert_with(Instant::now).elapsed() >= GONE_FOR {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Gives up the time that the leader of `term` was given. `None`: Raft has ended.
async fn expire(raft: &RaftHandle, term: u64) -> Option<()> {
    let vote = |state: &openraft::RaftState<Types>| *state.vote_ref();
    let vote = raft.with_raft_state(vote).await.ok()?;
    if vote.leader_id.term == term {
        // What a leader says that hands over to somebody else.
        let request = TransferLeaderRequest::new(vote, NOBODY, None);
        let _ = raft.handle_transfer_leader(request).await.ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::network::{Lane, NetworkError};

    struct Line(AtomicBool);

    #[async_trait]
    impl Network for Line {
        async fn call(&self, _: u64, _: Lane, _: Bytes) -> Result<Bytes, NetworkError> {
            std::future::pending().await
        }

        fn connected(&self, _: u64) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_comes_back_in_time_is_not_gone() {
        let line = Arc::new(Line(AtomicBool::new(true)));
        let watched = line.clone();
        let began = Instant::now();
        let watching = tokio::spawn(async move { gone(&*watched, 1).await });
        for _ in 0..10 {
            tokio::time::sleep(GONE_FOR).await;
            line.0.store(false, Ordering::Relaxed);
            tokio::time::sleep(GONE_FOR - LOOK_EVERY * 2).await;
            assert!(!watching.is_finished(), "after {:?}", began.elapsed());
            line.0.store(true, Ordering::Relaxed);
        }
        line.0.store(false, Ordering::Relaxed);
        let lost = Instant::now();
        watching.await.ok();
        assert!(lost.elapsed() <= GONE_FOR + LOOK_EVERY * 2);
    }
}
