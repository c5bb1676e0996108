//! What a node says on the wires would survive power loss in this very instant: votes, appended
//! entries, cosignatures; and what a leader calls committed is durable on a majority. Checked
//! against what the simulated disks hold as synced. (Day-one bugs 1, 2, 3.)

use std::collections::BTreeMap;

use cairn_proto::v1;
use cairn_storage::SimDisk;

use crate::frames::{Ballot, LogId, stored_guard, stored_log_id, stored_vote};
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

fn purged(disk: &SimDisk) -> Option<u64> {
    let sealed = disk.durable(PURGED)?;
    Some(u64::from_be_bytes(sealed.get(8..16)?.try_into().ok()?))
}

fn vote(disk: &SimDisk) -> Option<Ballot> {
    stored_vote(&disk.durable(VOTE)?)
}

pub fn voted(notes: &Notes, node: u64, disk: &SimDisk, said: Ballot) {
    let held = vote(disk);
    if held.is_none_or(|held| held.0 < said.0 || (held.0 == said.0 && held.1 != said.1)) {
        notes.violation(
            NAME,
            format!("{node} votes {said:?}, its disk has {held:?}"),
        );
    }
}

/// `node` says that it has all up to `last`, to the leader of this ballot.
pub fn appended(notes: &Notes, node: u64, disk: &SimDisk, leader: Ballot, last: u64) {
    let overtaken = vote(disk).is_none_or(|held| held != leader);
    let held = disk.durable(&record(last)).is_some() || purged(disk) >= Some(last);
    if !overtaken && !held {
        let what = format!("{node} says it has all up to {last}, and its disk does not");
        notes.violation(NAME, what);
    }
}

pub fn cosigned(notes: &Notes, node: u64, disk: &SimDisk, notice: &v1::CosignatureNotice) {
    let sealed = disk.durable(GUARD);
    let held = sealed.as_ref().and_then(stored_guard);
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
pub fn committed(notes: &Notes, leader: u64, disks: &BTreeMap<u64, SimDisk>, committed: LogId) {
    let (_, index) = committed;
    let holds = |disk: &&SimDisk| {
        let found = disk.durable(&record(index));
        found.as_ref().and_then(stored_log_id) == Some(committed) || purged(disk) >= Some(index)
    };
    let count = disks.values().filter(holds).count();
    if count * 2 <= disks.len() {
        let of = disks.len();
        let what = format!("{leader} calls {committed:?} committed, on {count} of {of} disks");
        notes.violation(NAME, what);
    }
}
