//! Raft as the rest of the crate sees it: a handle, who leads, and whether it still runs.

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::sync::watch;

use crate::state_machine::StateMachine;
use crate::types::Types;

/// openraft's handle.
pub(crate) type RaftHandle = openraft::Raft<Types, StateMachine>;

/// Who leads, as this node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// This node does.
    pub(crate) leading: bool,
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
}

/// Follows Raft's metrics until Raft ends: tells who leads, and why Raft stopped.
pub(crate) async fn follow(
    raft: RaftHandle,
    me: u64,
    leadership: watch::Sender<Leadership>,
    stopped: watch::Sender<Option<String>>,
) {
    let mut metrics = raft.metrics();
    loop {
        let (now, running) = {
            let metrics = metrics.borrow_watched();
            let leading =
                metrics.state == ServerState::Leader && metrics.current_leader == Some(me);
            let now = Leadership {
                leading: leading && metrics.running_state.is_ok(),
                term: metrics.current_term,
                leader: metrics.current_leader,
            };
            (now, metrics.running_state.clone())
        };
        leadership.send_if_modified(|known| {
            let changed = *known != now;
            if changed {
                tracing::info!(term = now.term, leader = now.leader, "leadership");
                known.clone_from(&now);
            }
            changed
        });
        if let Err(fatal) = running {
            tracing::error!(%fatal, "Raft has stopped; this node serves reads until it is restarted");
            first_reason(&stopped, fatal.to_string());
            return;
        }
        if metrics.changed().await.is_err() {
            first_reason(&stopped, "Raft was shut down".to_owned());
            return;
        }
    }
}

/// Notes why this node stopped. That Raft ended, because something else stopped it, is no news.
fn first_reason(stopped: &watch::Sender<Option<String>>, reason: String) {
    stopped.send_if_modified(|known| {
        let first = known.is_none();
        if first {
            *known = Some(reason);
        }
        first
    });
}

/// Shuts Raft down as soon as another part of the node must not go on.
pub(crate) async fn shut_down_when(raft: RaftHandle, mut stopped: watch::Receiver<Option<String>>) {
    if stopped.wait_for(Option::is_some).await.is_ok()
        && let Err(error) = raft.shutdown().await
    {
        tracing::warn!(%error, "Raft did not end by itself");
    }
}
