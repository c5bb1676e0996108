//! One suite for every disk: what `disk` promises, on RocksDB and on the simulated disk; and what
//! only one of them can show (damaged files here, injected faults there).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cairn_storage::{
    Batch, Disk, DiskError, DiskRead, Durability, Limit, Memory, Purpose, RocksDisk, SimDisk,
};
use proptest::collection::vec;
use proptest::prelude::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone)]
enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Change>, Durability),
    Sync,
    Snapshot,
    Reopen,
}

/// Few bytes, the edges of prefixes among them, so that keys meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(vec![0u8, 1, 0xfe, 0xff]), 0..4)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => (key(), vec(any::<u8>(), 0..6)).prop_map(|(k, v)| Change::Put(k, v)),
        2 => key().prop_map(Change::Delete),
        1 => (key(), key()).prop_map(|(a, b)| Change::DeleteRange(a, b)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let durability = prop::sample::select(vec![Durability::Buffered, Durability::Synced]);
    prop_oneof![
        8 => (vec(change(), 0..6), durability).prop_map(|(c, d)| Step::Write(c, d)),
        1 => Just(Step::Sync),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
    ]
}

fn batch(changes: &[Change]) -> Batch<'_> {
    let mut batch = Batch::new();
    for change in changes {
        match change {
            Change::Put(key, value) => batch.put(&key[..], &value[..]),
            Change::Delete(key) => batch.delete(&key[..]),
            Change::DeleteRange(from, to) => batch.delete_range(&from[..], &to[..]),
        }
    }
    batch
}

fn apply(model: &mut Model, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(key, value) => {
                model.insert(key.clone(), value.clone());
            }
            Change::Delete(key) => {
                model.remove(key);
            }
            Change::DeleteRange(from, to) => model.retain(|key, _| key < from || key >= to),
        }
    }
}

fn assert_reads_as(disk: &dyn DiskRead, model: &Model) {
    let keys: Vec<Vec<u8>> = [&[][..], &[0], &[1], &[0xff], &[0xff, 0xff], &[0xfe, 0, 1]]
        .iter()
        .map(|k| k.to_vec())
        .chain(model.keys().cloned())
        .collect();
    let wanted: Vec<Option<Bytes>> = keys
        .iter()
        .map(|key| model.get(key).map(|v| Bytes::from(v.clone())))
        .collect();
    assert_eq!(disk.multi_get(&keys).unwrap(), wanted);
    for (key, value) in keys.iter().zip(&wanted) {
        assert_eq!(&disk.get(key).unwrap(), value);
    }
    for prefix in [&[][..], &[0], &[1], &[0xff], &[0xff, 0xff], &[0xfe, 0xff]] {
        let under = || model.iter().filter(|(key, _)| key.starts_with(prefix));
        let last = under().next_back().map(pair);
        assert_eq!(disk.last(prefix).unwrap(), last, "last of {prefix:?}");
        for from in [&[][..], &[0, 1], &[1, 0xff], &[0xff, 0xff, 0]] {
            for limit in [
                Limit::pairs(0),
                Limit::pairs(1),
                Limit::pairs(1000),
                Limit::bytes(0),
                Limit::bytes(9),
            ] {
                let mut wanted = Vec::new();
                let mut bytes = 0;
                for (key, value) in under().filter(|(key, _)| key.as_slice() >= from) {
                    let next = key.len() + value.len();
                    let full = wanted.len() >= limit.pairs
                        || (!wanted.is_empty() && bytes + next > limit.bytes);
                    if full {
                        break;
                    }
                    bytes += next;
                    wanted.push(pair((key, value)));
                }
                let found = disk.scan(prefix, from, limit).unwrap();
                assert_eq!(found, wanted, "{prefix:?} from {from:?}, {limit:?}");
            }
        }
    }
}

fn pair((key, value): (&Vec<u8>, &Vec<u8>)) -> (Bytes, Bytes) {
    (key.clone().into(), value.clone().into())
}

fn rocks(path: &Path, purpose: Purpose) -> RocksDisk {
    RocksDisk::open(path, purpose, &Memory::new()).unwrap()
}

/// Runs `steps`; `reopen` gets the old disk and returns the same one, opened again.
fn conforms(
    mut disk: Arc<dyn Disk>,
    steps: &[Step],
    reopen: &dyn Fn(Arc<dyn Disk>) -> Arc<dyn Disk>,
) {
    let mut model = Model::new();
    let mut snapshots: Vec<(Arc<dyn DiskRead>, Model)> = Vec::new();
    for step in steps {
        match step {
            Step::Write(changes, durability) => {
                disk.write(&batch(changes), *durability).unwrap();
                apply(&mut model, changes);
            }
            Step::Sync => disk.sync().unwrap(),
            Step::Snapshot => snapshots.push((disk.snapshot().unwrap(), model.clone())),
            Step::Reopen => {
                snapshots.clear();
                disk = reopen(disk);
            }
        }
        assert_reads_as(&*disk, &model);
        for (snapshot, then) in &snapshots {
            assert_reads_as(&**snapshot, then);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rocksdb_reads_what_was_written_and_snapshots_stay(steps in vec(step(), 1..24)) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(rocks(folder.path(), Purpose::Ledger));
        conforms(disk, &steps, &|old| {
            drop(old);
            Arc::new(rocks(folder.path(), Purpose::Ledger))
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_simulated_disk_reads_what_was_written_and_snapshots_stay(steps in vec(step(), 1..40)) {
        let disk = SimDisk::new();
        let newest = std::cell::RefCell::new(disk.clone());
        // Killed and started again, with what the machine had in its cache.
        conforms(Arc::new(disk), &steps, &|_| {
            let restarted = newest.borrow().crash(|unsynced| unsynced);
            *newest.borrow_mut() = restarted.clone();
            Arc::new(restarted)
        });
    }

    #[test]
    fn what_a_crash_leaves_is_a_prefix_that_holds_all_that_was_synced(
        writes in vec((vec(change(), 0..4), any::<bool>()), 1..20),
        keep in any::<prop::sample::Index>(),
    ) {
        let disk = SimDisk::new();
        let mut model = Model::new();
        let mut since_sync = vec![model.clone()];
        for (changes, synced) in &writes {
            let durability = if *synced { Durability::Synced } else { Durability::Buffered };
            disk.write(&batch(changes), durability).unwrap();
            apply(&mut model, changes);
            if *synced {
                since_sync.clear();
            }
            since_sync.push(model.clone());
        }
        let _held = disk.snapshot().unwrap();
        prop_assert_eq!(disk.unsynced(), since_sync.len() as u64 - 1);
        let kept = keep.index(since_sync.len());
        let restarted = disk.crash(|_| kept as u64);
        assert_reads_as(&restarted, &since_sync[kept]);
        assert!(matches!(disk.get(b""), Err(DiskError::Io { .. })));
        let late = disk.write(&Batch::new(), Durability::Buffered);
        assert!(matches!(late, Err(DiskError::Io { .. })));
    }
}

#[test]
fn injected_damage_takes_the_simulated_disk_back_to_a_state_it_had() {
    for lost in [0, 1, 5, 64, 1000] {
        let disk = SimDisk::new();
        for i in 0..200u8 {
            let mut batch = Batch::new();
            batch.put(&b"a"[..], vec![i]);
            batch.put(vec![b'b', i], vec![i]);
            disk.write(&batch, Durability::Synced).unwrap();
        }
        let left = disk.crash_losing_synced(lost);
        let newest = 199 - u8::try_from(lost.min(64)).unwrap();
        assert_eq!(left.get(b"a").unwrap().unwrap()[..], [newest]);
        assert_eq!(left.last(b"b").unwrap().unwrap().1[..], [newest]);
    }
}

fn put(key: &'static [u8], value: &'static [u8]) -> Batch<'static> {
    let mut batch = Batch::new();
    batch.put(key, value);
    batch
}

#[test]
fn after_a_failed_sync_or_write_nothing_is_written_and_reads_go_on_day_one_16() {
    let faults: [fn(&SimDisk); 3] = [SimDisk::fail_next_sync, SimDisk::fail_next_write, |disk| {
        disk.set_full(true)
    }];
    for fault in faults {
        let disk = SimDisk::new();
        disk.write(&put(b"a", b"1"), Durability::Synced).unwrap();
        fault(&disk);
        disk.write(&put(b"b", b"2"), Durability::Synced)
            .unwrap_err();
        disk.set_full(false);
        for _ in 0..2 {
            let again = disk.write(&put(b"c", b"3"), Durability::Buffered);
            assert!(matches!(again, Err(DiskError::Latched { .. })));
            assert!(matches!(disk.sync(), Err(DiskError::Latched { .. })));
        }
        assert_eq!(disk.get(b"a").unwrap().unwrap(), &b"1"[..]);
        assert_eq!(disk.get(b"c").unwrap(), None);
        let restarted = disk.crash(|_| 0);
        assert_eq!(restarted.get(b"b").unwrap(), None);
        restarted
            .write(&put(b"c", b"3"), Durability::Synced)
            .unwrap();
    }
}

#[test]
fn a_damaged_value_is_an_error_and_no_absence_day_one_14() {
    let disk = SimDisk::new();
    disk.write(&put(b"a", b"1"), Durability::Synced).unwrap();
    assert!(disk.damage(b"a"));
    assert!(!disk.damage(b"b"));
    let corrupt = |error| matches!(error, DiskError::Corrupt { .. });
    assert!(corrupt(disk.get(b"a").unwrap_err()));
    assert!(corrupt(disk.multi_get(&[b"a".to_vec()]).unwrap_err()));
    assert!(corrupt(disk.scan(b"", b"", Limit::pairs(9)).unwrap_err()));
    assert!(corrupt(disk.last(b"").unwrap_err()));
}

/// A copy of an open database's folder: what a killed process leaves behind.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

#[test]
fn a_killed_process_leaves_what_it_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let disk = rocks(&folder.path().join("a"), Purpose::RaftLog);
    disk.write(&put(b"a", b"1"), Durability::Synced).unwrap();
    disk.write(&put(b"b", b"2"), Durability::Buffered).unwrap();
    disk.set_tail_marker(b"mark", Durability::Buffered).unwrap();
    copy(&folder.path().join("a"), &folder.path().join("b"));
    let left = rocks(&folder.path().join("b"), Purpose::RaftLog);
    assert_eq!(left.get(b"a").unwrap().unwrap(), &b"1"[..]);
    assert_eq!(left.get(b"b").unwrap().unwrap(), &b"2"[..]);
    assert_eq!(left.tail_marker().unwrap().unwrap(), &b"mark"[..]);
}

#[test]
fn a_folder_in_use_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let _disk = rocks(folder.path(), Purpose::Ledger);
    let again = RocksDisk::open(folder.path(), Purpose::Ledger, &Memory::new());
    let path = folder.path().to_path_buf();
    assert_eq!(again.unwrap_err(), DiskError::InUse { path });
}

#[test]
fn a_checkpoint_folder_is_a_database_of_that_moment() {
    let folder = tempfile::tempdir().unwrap();
    let disk = rocks(&folder.path().join("a"), Purpose::Ledger);
    disk.write(&put(b"a", b"1"), Durability::Buffered).unwrap();
    disk.checkpoint(&folder.path().join("b")).unwrap();
    disk.write(&put(b"a", b"2"), Durability::Buffered).unwrap();
    let then = rocks(&folder.path().join("b"), Purpose::Ledger);
    assert_eq!(then.get(b"a").unwrap().unwrap(), &b"1"[..]);
    assert!(then.approximate_bytes().unwrap() > 0);
    assert_eq!(then.tail_marker().unwrap(), None);
}

#[test]
fn a_snapshot_outlives_its_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = rocks(folder.path(), Purpose::Ledger);
    disk.write(&put(b"a", b"1"), Durability::Buffered).unwrap();
    let snapshot = disk.snapshot().unwrap();
    drop(disk);
    assert_eq!(snapshot.get(b"a").unwrap().unwrap(), &b"1"[..]);
}

#[test]
fn a_table_is_not_written_again_because_a_snapshot_goes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = rocks(&folder.path().join("db"), Purpose::Ledger);
    let flush = |name: &str| disk.checkpoint(&folder.path().join(name)).unwrap();
    disk.write(&put(b"k", b"old"), Durability::Buffered)
        .unwrap();
    flush("a");
    let snapshot = disk.snapshot().unwrap();
    disk.write(&put(b"l", b"new"), Durability::Buffered)
        .unwrap();
    let tables = || files(&folder.path().join("db"), "sst");
    let before = tables();
    drop(snapshot);
    // RocksDB looks for work in the background when a snapshot goes; and the last moment of closing
    // waits for it.
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(disk);
    assert_eq!(tables()[..before.len()], before[..]);
}

/// Twenty synced writes of a kilobyte each.
fn filled(path: &Path, purpose: Purpose) -> RocksDisk {
    let disk = rocks(path, purpose);
    for i in 0..20u8 {
        let mut batch = Batch::new();
        let noise = blake3::hash(&[i]).as_bytes().repeat(32);
        batch.put(vec![i], noise);
        disk.write(&batch, Durability::Synced).unwrap();
    }
    disk
}

#[test]
fn damage_in_the_middle_of_the_raft_logs_wal_stops_the_node_day_one_13() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path(), Purpose::RaftLog));
    let wal = files(folder.path(), "log").pop().unwrap();
    let whole = fs::read(&wal).unwrap();
    for at in [10, whole.len() / 3, whole.len() / 2, whole.len() - 10] {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        fs::write(&wal, &damaged).unwrap();
        let opened = RocksDisk::open(folder.path(), Purpose::RaftLog, &Memory::new());
        assert!(
            matches!(opened, Err(DiskError::Corrupt { .. })),
            "a flipped bit at {at} of {}: {opened:?}",
            whole.len()
        );
    }
}

#[test]
fn damage_in_the_ledgers_wal_leaves_an_earlier_state() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path(), Purpose::Ledger));
    let wal = files(folder.path(), "log").pop().unwrap();
    let mut bytes = fs::read(&wal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&wal, &bytes).unwrap();
    let disk = rocks(folder.path(), Purpose::Ledger);
    let left = disk.scan(b"", b"", Limit::pairs(99)).unwrap();
    assert!(!left.is_empty() && left.len() < 20);
    for (i, (key, _)) in (0..).zip(left) {
        assert_eq!(key[..], [i]);
    }
}

#[test]
fn a_flipped_bit_in_an_sst_or_a_missing_one_is_never_an_absence_day_one_14() {
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("origin");
    let disk = filled(&folder.path().join("live"), Purpose::Ledger);
    disk.checkpoint(&origin).unwrap();
    drop(disk);
    let sst = files(&origin, "sst").pop().unwrap();
    let name = sst.file_name().unwrap().to_owned();
    let whole = fs::read(&sst).unwrap();

    let read_all = |path: &Path| -> Result<(), DiskError> {
        let disk = RocksDisk::open(path, Purpose::Ledger, &Memory::new())?;
        for i in 0..20u8 {
            let value = disk.get(&[i])?;
            let wanted = blake3::hash(&[i]).as_bytes().repeat(32);
            assert_eq!(value.as_deref(), Some(&wanted[..]), "silent damage at {i}");
        }
        Ok(())
    };
    let mut noticed = 0;
    for n in 0..40 {
        let path = folder.path().join(n.to_string());
        copy(&origin, &path);
        let mut damaged = whole.clone();
        damaged[whole.len() * n / 40] ^= 1;
        fs::write(path.join(&name), damaged).unwrap();
        match read_all(&path) {
            Ok(()) => {}
            Err(DiskError::Corrupt { .. }) => noticed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(noticed > 20, "{noticed} of 40");

    let path = folder.path().join("missing");
    copy(&origin, &path);
    fs::remove_file(path.join(&name)).unwrap();
    let missing = read_all(&path);
    assert!(
        matches!(missing, Err(DiskError::Corrupt { .. })),
        "{missing:?}"
    );
}
