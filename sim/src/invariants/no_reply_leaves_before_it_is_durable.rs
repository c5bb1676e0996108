//! What a node says on the wires would survive power loss in this very instant: votes, appended
//! entries, cosignatures; and what a leader calls committed is durable on a majority. Checked
//! against what the simulated disks hold as synced. (Day-one bugs 1, 2, 3.)

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_proto::v1;
use cairn_storage::seal::unseal;
use cairn_storage::{DiskRead as _, SimDisk};

use crate::disks::APPLIED;
use crate::frames::{Ballot, LogId, stored_applied, stored_guard, stored_log_id, stored_vote};
use crate::notes::Notes;

const NAME: &str = "no_reply_leaves_before_it_is_durable";

/// Keys of the Raft database: see `storage`'s `log_store`.
pub const VOTE: &[u8] = b"mv";
pub const GUARD: &[u8] = b"mg";
const PURGED: &[u8] = b"mp";

pub fn record(index: u64) -> Vec<u8> {
    let mut key = vec![b'r'];
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// The two disks of a node.
pub struct Medium {
    pub raft: SimDisk,
    pub state: SimDisk,
}

impl Medium {
    /// Whether the entry is there in the state alone: it was purged, or came with a copy.
    fn applied(&self, index: u64) -> bool {
        let state = self.state.durable(APPLIED);
        purged(&self.raft) >= Some(index) || state.and_then(|at| stored_applied(&at)) >= Some(index)
    }
}

/// What a disk holds under a key.
enum Held {
    Nothing,
    This(Bytes),
    /// A record that was damaged on purpose says nothing of what was there.
    Damaged,
}

fn held(disk: &SimDisk, key: &[u8]) -> Held {
    match disk.durable(key) {
        None => Held::Nothing,
        Some(sealed) => unseal(key, &sealed).map_or(Held::Damaged, Held::This),
    }
}

fn purged(disk: &SimDisk) -> Option<u64> {
    match held(disk, PURGED) {
        Held::This(value) => Some(u64::from_be_bytes(*value.first_chunk()?)),
        Held::Nothing | Held::Damaged => None,
    }
}

/// The vote on the disk, and whether it was damaged.
fn vote(disk: &SimDisk) -> (Option<Ballot>, bool) {
    match held(disk, VOTE) {
        Held::This(value) => (stored_vote(&value), false),
        Held::Nothing => (None, false),
        Held::Damaged => (None, true),
    }
}

/// The height of the guard on the disk.
pub fn guarded(disk: &SimDisk) -> Option<u64> {
    match held(disk, GUARD) {
        Held::This(value) => stored_guard(&value).map(|held| held.0),
        Held::Nothing | Held::Damaged => None,
    }
}

/// The log id of the record on the disk.
pub fn log_id(disk: &SimDisk, index: u64) -> Option<LogId> {
    match held(disk, &record(index)) {
        Held::This(value) => stored_log_id(&value),
        Held::Nothing | Held::Damaged => None,
    }
}

/// The index of the last record on the disk, as far as an open disk shows it.
pub fn last_index(disk: &SimDisk) -> Option<u64> {
    let (key, _) = disk.last(b"r").ok()??;
    Some(u64::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

/// A new leader has the durable votes of so many disks.
pub fn elected(notes: &Notes, leader: Ballot, disks: &BTreeMap<u64, Medium>, majority: usize) {
    let granted = |disk: &&Medium| match vote(&disk.raft) {
        (Some(held), _) => held.0 > leader.0 || held == leader,
        (None, damaged) => damaged,
    };
    let count = disks.values().filter(granted).count();
    if count < majority {
        let (term, node) = leader;
        let of = disks.len();
        let what = format!("{node} leads in term {term} with the votes of {count} of {of} disks");
        notes.violation(NAME, what);
    }
}

pub fn voted(notes: &Notes, node: u64, disk: &SimDisk, said: Ballot) {
    let (held, damaged) = vote(disk);
    if damaged {
        return;
    }
    if held.is_none_or(|held| held.0 < said.0 || (held.0 == said.0 && held.1 != said.1)) {
        notes.violation(
            NAME,
            format!("{node} votes {said:?}, its disk has {held:?}"),
        );
    }
}

/// `node` says that it has all up to `last`, to the leader of this ballot.
pub fn appended(notes: &Notes, node: u64, disk: &Medium, leader: Ballot, last: u64) {
    let overtaken = vote(&disk.raft).0.is_none_or(|held| held != leader);
    let held = disk.raft.durable(&record(last)).is_some() || disk.applied(last);
    if !overtaken && !held {
        let what = format!("{node} says it has all up to {last}, and its disk does not");
        notes.violation(NAME, what);
    }
}

pub fn cosigned(notes: &Notes, node: u64, disk: &SimDisk, notice: &v1::CosignatureNotice) {
    let value = match held(disk, GUARD) {
        Held::This(value) => Some(value),
        Held::Nothing => None,
        Held::Damaged => return,
    };
    let held = value.as_ref().and_then(stored_guard);
    let binds = |(height, hash): (u64, &[u8])| {
        height > notice.height || (height == notice.height && hash == &notice.header_hash[..])
    };
    if !held.is_some_and(binds) {
        let height = notice.height;
        let held = held.map(|(height, _)| height);
        let what = format!("{node} cosigns {height}, its guard on disk has {held:?}");
        notes.violation(NAME, what);
    }
}

/// A leader calls `committed` what fewer than half of the disks hold. Only while all known nodes
/// are voters.
pub fn committed(notes: &Notes, leader: u64, disks: &BTreeMap<u64, Medium>, committed: LogId) {
    let (_, index) = committed;
    let holds = |disk: &&Medium| match held(&disk.raft, &record(index)) {
        Held::This(value) => stored_log_id(&value) == Some(committed),
        Held::Nothing => disk.applied(index),
        Held::Damaged => true,
    };
    let count = disks.values().filter(holds).count();
    if count * 2 <= disks.len() {
        let of = disks.len();
        let what = format!("{leader} calls {committed:?} committed, on {count} of {of} disks");
        notes.violation(NAME, what);
    }
}
