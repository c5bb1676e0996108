//! How long things take: the one place where consensus' durations are set.
//!
//! What holds here: nothing below decides what is true, only how soon. Limits that apply uses are
//! in the genesis.

use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy};

use crate::cosign::STALE_AFTER;

/// Durations of one node. All members should have the same.
#[derive(Debug, Clone)]
pub struct Timing {
    /// A leader is heard at least so often.
    pub heartbeat: Duration,
    /// For the second of the two a follower that heard its leader lets nobody take its place, unless
    /// its connection is gone (`lost_leader`); after a further random time between the two it starts
    /// an election. The default leaves room for four busy processes on two cores. A vote must be
    /// there within the first, its sync included.
    pub election: (Duration, Duration),
    /// How long a batch of entries may take to the leader and into its queue.
    pub forward: Duration,
    /// How often an idle member renews the cosignature of the highest checkpoint that it signed.
    pub renew: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(150),
            election: (Duration::from_millis(750), Duration::from_millis(1500)),
            forward: Duration::from_secs(2),
            renew: Duration::from_secs(3),
        }
    }
}

impl Timing {
    /// openraft's configuration.
    pub(crate) fn raft(&self, name: &str) -> Result<Config, ConfigError> {
        debug_assert!(self.renew < STALE_AFTER);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Config {
            cluster_name: name.to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            heartbeat_min_interval: None,
            election_timeout_min: millis(self.election.0),
            election_timeout_max: millis(self.election.1),
            // Off by default: a node that comes back must not unseat a leader that others hear.
            enable_pre_vote: Some(true),
            // Switched on as soon as enough others were asked what this node promised (`recall`).
            enable_elect: false,
            // A restarted leader asks for votes again: its first proposal flags a checkpoint.
            enable_leader_restore: Some(false),
            // Copies are made by apply and purging follows them (`snapshot`), never by openraft's own
            // counting.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            replication_lag_threshold: u64::MAX,
            // Bytes bound appends and applies; counts are only a second line.
            max_payload_entries: 256,
            max_append_entries: Some(256),
            api_channel_size: Some(4096),
            notification_channel_size: Some(4096),
            state_machine_channel_size: Some(256),
            backoff: "50ms 100ms ...1s".to_owned(),
            ..Config::default()
        }
        .validate()
    }
}
