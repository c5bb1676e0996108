//! The raft log on both disks: what was acknowledged is there after every crash, what is damaged
//! or missing is noticed, and the sign guard permits one header for one height.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use cairn_ledger::hash::{Hash, plain};
use cairn_storage::seal::Unsealed;
use cairn_storage::{
    Disk, DiskError, Durability, GuardRefused, LogError, LogStore, Memory, Purpose, RocksDisk,
    SignGuard, SimDisk, Slot,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn on(disk: &SimDisk) -> Result<LogStore, LogError> {
    LogStore::open(Arc::new(disk.clone()))
}

fn record(index: u64, salt: u8) -> Bytes {
    Bytes::from(vec![salt; 5 + usize::try_from(index % 7).unwrap()])
}

fn records(range: std::ops::Range<u64>, salt: u8) -> Vec<(u64, Bytes)> {
    range.map(|index| (index, record(index, salt))).collect()
}

fn unsealed(records: &[(u64, Bytes)]) -> Vec<(u64, Unsealed)> {
    let unsealed = |(index, bytes): &(u64, Bytes)| (*index, Unsealed::from(&bytes[..]));
    records.iter().map(unsealed).collect()
}

#[derive(Debug, Clone)]
enum Op {
    Append(u64, u8),
    /// Cuts off this many.
    Truncate(u64),
    /// Purges this many, perhaps more than there are.
    Purge(u64),
    Vote(u8, Durability),
    Sync,
}

fn op() -> impl Strategy<Value = Op> {
    let durability = prop::sample::select(vec![Durability::Buffered, Durability::Synced]);
    prop_oneof![
        6 => (1u64..90, any::<u8>()).prop_map(|(n, salt)| Op::Append(n, salt)),
        2 => (0u64..90).prop_map(Op::Truncate),
        2 => (0u64..90).prop_map(Op::Purge),
        2 => (any::<u8>(), durability).prop_map(|(v, d)| Op::Vote(v, d)),
        3 => Just(Op::Sync),
    ]
}

/// What the log should hold.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    records: BTreeMap<u64, Bytes>,
    purged: Option<u64>,
    vote: Option<u8>,
}

impl Model {
    fn next(&self) -> u64 {
        let last = self.records.keys().next_back().copied();
        last.or(self.purged).map_or(0, |index| index + 1)
    }

    fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged + 1)
    }

    fn of(store: &LogStore) -> Result<Model, LogError> {
        let records = store.read(0..u64::MAX, usize::MAX)?.into_iter().collect();
        let vote = store.get_meta(Slot::Vote)?.map(|vote| vote[0]);
        Ok(Model {
            records,
            purged: store.purged()?.map(|(index, _)| index),
            vote,
        })
    }
}

/// Does `op` to both. True if everything so far is durable after it.
fn run(store: &LogStore, model: &mut Model, op: &Op) -> Result<bool, LogError> {
    match op {
        Op::Append(count, salt) => {
            let new = records(model.next()..model.next() + count, *salt);
            store.append(unsealed(&new))?;
            model.records.extend(new);
        }
        Op::Truncate(count) => {
            let from = model.next().saturating_sub(*count).max(model.first());
            store.truncate_from(from)?;
            model.records.retain(|index, _| *index < from);
        }
        Op::Purge(count) => {
            let to = model.first() + count;
            store.purge_to(to, b"purged")?;
            model.records.retain(|index, _| *index > to);
            model.purged = Some(to);
        }
        Op::Vote(vote, durability) => {
            store.put_meta(Slot::Vote, &[*vote], *durability)?;
            model.vote = Some(*vote);
            return Ok(*durability == Durability::Synced);
        }
        Op::Sync => {
            store.sync()?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn assert_holds(store: &LogStore, model: &Model) {
    assert_eq!(&Model::of(store).unwrap(), model);
    assert_eq!(store.first_index(), model.records.keys().next().copied());
    assert_eq!(
        store.last_index(),
        model.records.keys().next_back().copied()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn acknowledged_records_and_votes_survive_a_crash_at_every_write_day_one_1_2(
        ops in vec(op(), 1..25),
    ) {
        for crash_after in 0..=ops.len() {
            let disk = SimDisk::new();
            let store = on(&disk).unwrap();
            let mut model = Model::default();
            // What may be found after the crash: the state of the last sync, or any later one.
            let mut possible = vec![model.clone()];
            for op in &ops[..crash_after] {
                let before = disk.unsynced();
                let durable = run(&store, &mut model, op).unwrap();
                if durable {
                    possible.clear();
                    possible.push(model.clone());
                } else if disk.unsynced() > before {
                    possible.push(model.clone());
                }
                assert_holds(&store, &model);
            }
            // Strict power loss, a kill, and something between.
            for keep in [0, possible.len() as u64 / 2, u64::MAX] {
                let restarted = clone_of(&ops[..crash_after]).crash(|_| keep);
                let store = on(&restarted).unwrap();
                let kept = usize::try_from(keep).unwrap_or(usize::MAX).min(possible.len() - 1);
                assert_holds(&store, &possible[kept]);
                // It goes on from there.
                let next = possible[kept].next();
                store.append(unsealed(&records(next..next + 2, 9))).unwrap();
                store.sync().unwrap();
            }
        }
    }

    #[test]
    fn reads_stay_within_their_bytes_and_return_one_at_least(
        count in 1u64..60, start in 0u64..60, budget in 0usize..400,
    ) {
        let disk = SimDisk::new();
        let store = on(&disk).unwrap();
        store.append(unsealed(&records(0..count, 1))).unwrap();
        let found = store.read(start..count, budget).unwrap();
        prop_assert_eq!(found.is_empty(), start >= count);
        let bytes: usize = found.iter().map(|(_, bytes)| bytes.len()).sum();
        prop_assert!(bytes <= budget || found.len() <= 1);
        for (wanted, (index, bytes)) in (start..).zip(found) {
            prop_assert_eq!((index, bytes), (wanted, record(wanted, 1)));
        }
    }
}

/// The same disk again: crashing one leaves the other.
fn clone_of(ops: &[Op]) -> SimDisk {
    let disk = SimDisk::new();
    let store = on(&disk).unwrap();
    let mut model = Model::default();
    for op in ops {
        run(&store, &mut model, op).unwrap();
    }
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_log_on_rocksdb_holds_what_was_written(ops in vec(op(), 1..30)) {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new();
        let open = || {
            let disk = RocksDisk::open(folder.path(), Purpose::RaftLog, &memory).unwrap();
            LogStore::open(Arc::new(disk)).unwrap()
        };
        let mut store = open();
        let mut model = Model::default();
        for (step, op) in ops.iter().enumerate() {
            run(&store, &mut model, op).unwrap();
            assert_holds(&store, &model);
            if step % 8 == 7 {
                drop(store);
                store = open();
                assert_holds(&store, &model);
            }
        }
    }
}

#[test]
fn a_gap_is_refused_and_a_new_log_begins_anywhere() {
    let disk = SimDisk::new();
    let store = on(&disk).unwrap();
    store.append(unsealed(&records(5..7, 1))).unwrap();
    for wrong in [4, 6, 8] {
        let gap = store.append(unsealed(&records(wrong..wrong + 1, 1)));
        assert_eq!(
            gap,
            Err(LogError::Gap {
                expected: 7,
                got: wrong
            })
        );
    }
    store.purge_to(20, b"x").unwrap();
    assert_eq!((store.first_index(), store.last_index()), (None, None));
    let gap = store.append(unsealed(&records(7..8, 1)));
    assert_eq!(
        gap,
        Err(LogError::Gap {
            expected: 21,
            got: 7
        })
    );
    assert_eq!(
        store.truncate_from(20),
        Err(LogError::Purged {
            index: 20,
            purged: 20
        })
    );
    store.append(unsealed(&records(21..22, 1))).unwrap();
    assert_eq!(on(&disk).unwrap().first_index(), Some(21));
    assert_eq!(store.purged().unwrap().unwrap(), (20, Bytes::from("x")));
}

fn record_key(index: u64) -> Vec<u8> {
    [&b"r"[..], &index.to_be_bytes()].concat()
}

#[test]
fn a_flipped_bit_anywhere_in_a_record_or_slot_is_damage_day_one_7() {
    let disk = SimDisk::new();
    let store = on(&disk).unwrap();
    store.append(unsealed(&records(0..3, 1))).unwrap();
    store
        .put_meta(Slot::Vote, b"vote", Durability::Synced)
        .unwrap();
    let mut bits = 0;
    while disk.flip_bit(&record_key(1), bits) {
        let read = store.read(0..3, usize::MAX);
        assert!(matches!(read, Err(LogError::Damaged { .. })), "bit {bits}");
        disk.flip_bit(&record_key(1), bits);
        bits += 1;
    }
    assert!(bits > 64);
    let mut bits = 0;
    while disk.flip_bit(b"mv", bits) {
        let vote = store.get_meta(Slot::Vote);
        assert!(matches!(vote, Err(LogError::Damaged { .. })), "bit {bits}");
        disk.flip_bit(b"mv", bits);
        bits += 1;
    }
    assert!(store.read(0..3, usize::MAX).is_ok());

    disk.damage(&record_key(1));
    let read = store.read(0..3, usize::MAX);
    assert!(matches!(
        read,
        Err(LogError::Disk(DiskError::Corrupt { .. }))
    ));
}

#[test]
fn a_missing_record_is_damage_and_no_end_of_the_log() {
    let disk = SimDisk::new();
    let store = on(&disk).unwrap();
    store.append(unsealed(&records(0..5, 1))).unwrap();
    let mut batch = cairn_storage::Batch::new();
    batch.delete(record_key(2));
    disk.write(&batch, Durability::Buffered).unwrap();
    for range in [0..5, 2..3, 2..5] {
        let read = store.read(range, usize::MAX);
        assert!(matches!(read, Err(LogError::Damaged { .. })));
    }
    assert_eq!(store.read(3..5, usize::MAX).unwrap().len(), 2);
}

#[test]
fn synced_writes_that_are_gone_are_noticed_on_open_day_one_13() {
    for lost in 1..6 {
        let disk = SimDisk::new();
        let store = on(&disk).unwrap();
        for index in 0..4 {
            store
                .append(unsealed(&records(index..index + 1, 1)))
                .unwrap();
            store.sync().unwrap();
        }
        store
            .put_meta(Slot::Vote, b"vote", Durability::Synced)
            .unwrap();
        let restarted = disk.crash_losing_synced(lost);
        assert_eq!(
            on(&restarted).unwrap_err(),
            LogError::LostTail {
                synced: 5,
                synced_next_index: 4,
                found: 5 - lost
            }
        );
    }
}

#[test]
fn a_raft_wal_cut_below_its_last_sync_is_noticed_by_the_tail_marker_day_one_13() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let disk = RocksDisk::open(folder.path(), Purpose::RaftLog, &Memory::new())?;
        LogStore::open(Arc::new(disk))
    };
    let store = open().unwrap();
    for index in 0..10 {
        store
            .append(unsealed(&records(index..index + 1, 1)))
            .unwrap();
        store.sync().unwrap();
    }
    drop(store);
    let wal = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .max()
        .unwrap();
    let bytes = fs::read(&wal).unwrap();
    fs::write(&wal, &bytes[..bytes.len() - 3]).unwrap();
    assert!(matches!(
        open(),
        Err(LogError::LostTail {
            synced: 10,
            synced_next_index: 10,
            found: 9
        })
    ));
}

#[test]
fn a_log_without_its_tail_marker_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let disk = RocksDisk::open(folder.path(), Purpose::RaftLog, &Memory::new())?;
        LogStore::open(Arc::new(disk))
    };
    open().unwrap().append(unsealed(&records(0..1, 1))).unwrap();
    fs::remove_file(folder.path().join("TAIL-MARKER")).unwrap();
    assert_eq!(open().unwrap_err(), LogError::NoTailMarker { writes: 1 });
}

#[test]
fn a_failed_sync_acknowledges_nothing_day_one_16() {
    let disk = SimDisk::new();
    let store = on(&disk).unwrap();
    store.append(unsealed(&records(0..2, 1))).unwrap();
    disk.fail_next_sync();
    assert!(store.sync().is_err());
    assert!(matches!(
        store.sync(),
        Err(LogError::Disk(DiskError::Latched { .. }))
    ));
    assert!(matches!(
        store.append(unsealed(&records(2..3, 1))),
        Err(LogError::Disk(DiskError::Latched { .. }))
    ));
    assert_eq!(store.read(0..2, usize::MAX).unwrap().len(), 2);
    let store = on(&disk.crash(|_| 0)).unwrap();
    assert_eq!(store.last_index(), None);
}

fn guard_on(disk: &SimDisk) -> SignGuard {
    SignGuard::open(Arc::new(on(disk).unwrap())).unwrap()
}

fn hash(n: u8) -> Hash {
    plain(&[n])
}

proptest! {
    #[test]
    fn the_guard_never_permits_two_hashes_for_one_height_day_one_17(
        asks in vec((0u64..2, 0u64..6, 0u8..3, any::<bool>(), 0u8..6), 1..60),
    ) {
        let mut disk = SimDisk::new();
        let mut guard = guard_on(&disk);
        let mut permitted: HashMap<u64, Hash> = HashMap::new();
        let mut highest = 0;
        for (epoch, height, n, descends, accident) in asks {
            match accident {
                0 => {
                    disk = disk.crash(|_| 0);
                    guard = guard_on(&disk);
                }
                1 => disk.fail_next_sync(),
                _ => {}
            }
            let hash = hash(n);
            match guard.permit(epoch, height, &hash, |_| descends) {
                Ok(()) => {
                    prop_assert_eq!(*permitted.entry(height).or_insert(hash), hash);
                    prop_assert!(height >= highest);
                    highest = height;
                }
                Err(GuardRefused::Log(_)) => {
                    // The node stops; whoever starts it finds any part of what was written.
                    disk = disk.crash(|unsynced| unsynced * u64::from(n % 2));
                    guard = guard_on(&disk);
                }
                Err(_) => {}
            }
        }
    }
}

#[test]
fn the_guard_tells_why_it_refuses() {
    let disk = SimDisk::new();
    let guard = guard_on(&disk);
    guard.permit(1, 5, &hash(1), |_| false).unwrap();
    guard.permit(1, 5, &hash(1), |_| false).unwrap();
    let refused = |epoch, height, n, descends| {
        guard
            .permit(epoch, height, &hash(n), |_| descends)
            .unwrap_err()
    };
    let held = guard.held().unwrap();
    assert_eq!(
        refused(1, 5, 2, true),
        GuardRefused::Conflict {
            held,
            asked: hash(2)
        }
    );
    assert_eq!(
        refused(1, 4, 2, true),
        GuardRefused::Below {
            held,
            epoch: 1,
            height: 4
        }
    );
    assert_eq!(
        refused(0, 6, 2, true),
        GuardRefused::Below {
            held,
            epoch: 0,
            height: 6
        }
    );
    assert_eq!(
        refused(1, 6, 2, false),
        GuardRefused::NotDescendant {
            held,
            height: 6,
            asked: hash(2)
        }
    );
    assert_eq!(guard_on(&disk).held(), Some(held));
    let text = refused(1, 5, 2, true).to_string();
    assert!(text.contains(&hash(1).to_string()) && text.contains(&hash(2).to_string()));
}

#[test]
fn a_permission_is_durable_when_it_is_given_also_on_rocksdb() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let disk = RocksDisk::open(folder.path(), Purpose::RaftLog, &Memory::new()).unwrap();
        SignGuard::open(Arc::new(LogStore::open(Arc::new(disk)).unwrap())).unwrap()
    };
    let guard = open();
    guard.permit(0, 1, &hash(1), |_| false).unwrap();
    guard.permit(0, 2, &hash(2), |_| true).unwrap();
    drop(guard);
    let guard = open();
    assert!(guard.permit(0, 2, &hash(3), |_| true).is_err());
    guard.permit(0, 2, &hash(2), |_| false).unwrap();
}

#[test]
fn a_damaged_guard_does_not_read_as_none() {
    let disk = SimDisk::new();
    guard_on(&disk).permit(0, 1, &hash(1), |_| false).unwrap();
    assert!(disk.flip_bit(b"mg", 200));
    let opened = SignGuard::open(Arc::new(on(&disk).unwrap()));
    assert!(matches!(opened, Err(LogError::Damaged { .. })));
}
