//! The ledger's state on both disks: blocks whole, folders that know their ledger, certificates by
//! height, and generations that replace each other at one instant.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cairn_ledger::hash::{Hash, plain};
use cairn_ledger::state::{MemoryState, StateError, StateRead, Writes};
use cairn_proto::v1;
use cairn_storage::{
    Batch, Disk, DiskError, DiskRead, Durability, Memory, Purpose, RocksDisk, SimDisk, StateStore,
    StoreError,
};
use cairn_storage::{Generations, RocksGenerations, SimGenerations};

fn chain() -> Hash {
    plain(b"chain")
}

/// Runs `test` on an empty disk of each kind.
fn on_both(test: impl Fn(Arc<dyn Disk>)) {
    test(Arc::new(SimDisk::new()));
    let folder = tempfile::tempdir().unwrap();
    let disk = RocksDisk::open(folder.path(), Purpose::Ledger, &Memory::new()).unwrap();
    test(Arc::new(disk));
}

fn block(height: u8) -> Writes {
    Writes::from([
        (b"n".to_vec(), Bytes::from(vec![height])),
        (vec![b'h', height], Bytes::from(vec![height; 3])),
    ])
}

#[test]
fn the_store_reads_as_the_ledgers_own_memory_state_does() {
    on_both(|disk| {
        let store = StateStore::open(disk, &chain()).unwrap();
        let mut memory = MemoryState::default();
        for height in 0..9 {
            store.commit_block(&block(height), &[height]).unwrap();
            memory.commit(block(height));
        }
        let view = store.snapshot().unwrap();
        let keys = [b"n".to_vec(), vec![b'h', 3], vec![b'h', 99]];
        let states: [&dyn StateRead; 2] = [&store, &view];
        for state in states {
            assert_eq!(state.multi_get(&keys), memory.multi_get(&keys));
            assert_eq!(state.get(b"n"), memory.get(b"n"));
            let from = [b'h', 4];
            assert_eq!(state.scan(b"h", &from, 3), memory.scan(b"h", &from, 3));
            assert_eq!(state.scan(b"h", b"", 99), memory.scan(b"h", b"", 99));
        }
    });
}

#[test]
fn a_snapshot_stays_at_its_block() {
    on_both(|disk| {
        let store = StateStore::open(disk, &chain()).unwrap();
        store.commit_block(&block(1), b"one").unwrap();
        let then = store.snapshot().unwrap();
        store.commit_block(&block(2), b"two").unwrap();
        assert_eq!(then.get(b"n").unwrap().unwrap(), &[1][..]);
        assert_eq!(then.get(&[b'h', 2]).unwrap(), None);
        assert_eq!(then.applied().unwrap().unwrap(), &b"one"[..]);
        assert_eq!(store.applied().unwrap().unwrap(), &b"two"[..]);
    });
}

#[test]
fn state_and_raft_position_agree_after_a_crash_at_any_block_day_one_8() {
    for blocks in 0..6 {
        for keep in 0..=blocks {
            let disk = SimDisk::new();
            let store = StateStore::open(Arc::new(disk.clone()), &chain()).unwrap();
            for height in 1..=blocks {
                store.commit_block(&block(height), &[height]).unwrap();
            }
            let restarted = disk.crash(|_| u64::from(keep));
            let store = StateStore::open(Arc::new(restarted), &chain()).unwrap();
            let expected = (keep > 0).then(|| Bytes::from(vec![keep]));
            assert_eq!(store.applied().unwrap(), expected);
            assert_eq!(store.get(b"n").unwrap(), expected);
            assert_eq!(store.scan(b"h", b"", 99).unwrap().len(), usize::from(keep));
        }
    }
}

#[test]
fn a_folder_of_another_ledger_is_refused_with_both_names() {
    on_both(|disk| {
        StateStore::open(Arc::clone(&disk), &chain()).unwrap();
        StateStore::open(Arc::clone(&disk), &chain()).unwrap();
        let other = plain(b"other");
        let refused = StateStore::open(disk, &other).unwrap_err();
        assert_eq!(
            refused,
            StoreError::OtherLedger {
                found: chain(),
                expected: other
            }
        );
        let text = refused.to_string();
        assert!(text.contains(&chain().to_string()) && text.contains(&other.to_string()));
    });
}

#[test]
fn records_without_a_ledgers_name_are_corruption() {
    on_both(|disk| {
        let mut batch = Batch::new();
        batch.put(&b"n"[..], &b"x"[..]);
        disk.write(&batch, Durability::Synced).unwrap();
        let opened = StateStore::open(disk, &chain());
        assert!(matches!(opened, Err(StoreError::Corrupt { .. })));
    });
}

#[test]
fn a_block_cannot_write_the_stores_own_keys() {
    on_both(|disk| {
        let store = StateStore::open(disk, &chain()).unwrap();
        for key in [vec![], vec![0, b'a']] {
            let mut writes = block(1);
            writes.push((key.clone(), Bytes::new()));
            let refused = store.commit_block(&writes, b"x");
            assert_eq!(refused, Err(StoreError::ForeignKey { key }));
            assert_eq!(store.get(b"n").unwrap(), None);
        }
    });
}

fn checkpoint(n: u8) -> v1::Checkpoint {
    v1::Checkpoint {
        header: Bytes::from(vec![n]),
        ..Default::default()
    }
}

#[test]
fn checkpoints_are_found_by_height() {
    on_both(|disk| {
        let store = StateStore::open(disk, &chain()).unwrap();
        assert_eq!(store.latest_checkpoint().unwrap(), None);
        assert_eq!(store.checkpoint_at_or_after(0).unwrap(), None);
        for height in [3u64, 300, 7] {
            let n = u8::try_from(height % 256).unwrap();
            store.put_checkpoint(height, &checkpoint(n)).unwrap();
        }
        let latest = store.latest_checkpoint().unwrap().unwrap();
        assert_eq!(latest, (300, checkpoint(44)));
        assert_eq!(store.checkpoint_at(7).unwrap(), Some(checkpoint(7)));
        assert_eq!(store.checkpoint_at(8).unwrap(), None);
        let after = |height| {
            let found = store.checkpoint_at_or_after(height).unwrap();
            found.map(|(height, _)| height)
        };
        assert_eq!(after(0), Some(3));
        assert_eq!(after(7), Some(7));
        assert_eq!(after(8), Some(300));
        assert_eq!(after(301), None);
    });
}

#[test]
fn evidence_of_equivocation_is_kept_once_and_durably_day_one_18() {
    let disk = SimDisk::new();
    let store = StateStore::open(Arc::new(disk.clone()), &chain()).unwrap();
    let evidence = |n: u8| v1::Equivocation {
        header_a: Bytes::from(vec![n]),
        ..Default::default()
    };
    assert!(store.put_equivocation(&evidence(1)).unwrap());
    assert!(!store.put_equivocation(&evidence(1)).unwrap());
    assert!(store.put_equivocation(&evidence(2)).unwrap());
    let store = StateStore::open(Arc::new(disk.crash(|_| 0)), &chain()).unwrap();
    let kept = store.list_equivocations().unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept.contains(&evidence(1)) && kept.contains(&evidence(2)));
}

#[test]
fn damage_is_a_state_error_and_no_absence_day_one_14() {
    let disk = SimDisk::new();
    let store = StateStore::open(Arc::new(disk.clone()), &chain()).unwrap();
    store.commit_block(&block(1), b"x").unwrap();
    disk.damage(b"n");
    let corrupt = |error| matches!(error, StateError::Corrupt { .. });
    assert!(corrupt(store.get(b"n").unwrap_err()));
    assert!(corrupt(store.multi_get(&[b"n".to_vec()]).unwrap_err()));
    assert!(corrupt(store.scan(b"n", b"", 9).unwrap_err()));
    let _restarted = disk.crash(|_| 0);
    assert!(matches!(store.get(b"n"), Err(StateError::Io(_))));
}

fn write(disk: &dyn Disk, value: &'static [u8]) {
    let mut batch = Batch::new();
    batch.put(&b"a"[..], value);
    disk.write(&batch, Durability::Buffered).unwrap();
}

fn value(disk: &dyn DiskRead) -> Option<Bytes> {
    disk.get(b"a").unwrap()
}

#[test]
fn a_generation_replaces_the_state_at_one_instant_or_not_at_all_day_one_9() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::new();
    let open = |path: &Path| RocksGenerations::open(path, &memory);

    let ledger = open(folder.path()).unwrap();
    let old = ledger.current().unwrap();
    write(&*old, b"old");
    // Begun and left: after a restart it is gone.
    write(&*ledger.begin().unwrap(), b"half");
    drop((ledger, old));
    let ledger = open(folder.path()).unwrap();
    let old = ledger.current().unwrap();
    assert_eq!(value(&*old).unwrap(), &b"old"[..]);
    assert!(!folder.path().join("1").exists());

    // Begun twice and adopted: the new one, and readers of the old one go on.
    write(&*ledger.begin().unwrap(), b"half");
    write(&*ledger.begin().unwrap(), b"new");
    let new = ledger.adopt().unwrap();
    assert_eq!(value(&*ledger.current().unwrap()).unwrap(), &b"new"[..]);
    assert_eq!(value(&*old).unwrap(), &b"old"[..]);
    drop((ledger, old, new));
    let ledger = open(folder.path()).unwrap();
    assert_eq!(value(&*ledger.current().unwrap()).unwrap(), &b"new"[..]);
    assert!(!folder.path().join("0").exists());
    drop(ledger);

    fs::remove_file(folder.path().join("current")).unwrap();
    assert!(matches!(
        open(folder.path()),
        Err(DiskError::Corrupt { .. })
    ));
}

/// A copy travels whole into another ledger folder, and what is not noted or not adopted is gone
/// after `again`.
fn copies_travel(from: &dyn Generations, to: &dyn Generations) {
    write(&*from.current().unwrap(), b"kept");
    from.keep(7).unwrap();
    write(&*from.current().unwrap(), b"later");
    assert_eq!(from.kept().unwrap(), vec![]);
    from.note(7, b"worth").unwrap();
    from.keep(9).unwrap();
    assert_eq!(
        from.kept().unwrap(),
        vec![(7, Bytes::from_static(b"worth"))]
    );

    let files = from.files(7).unwrap();
    to.receive(&files).unwrap();
    for file in &files {
        let mut offset = 0;
        while offset < file.bytes {
            let bytes = from.read_file(7, &file.name, offset, 100).unwrap();
            to.write_file(&file.name, offset, &bytes).unwrap();
            offset += bytes.len() as u64;
        }
    }
    assert!(matches!(to.adopt(), Err(DiskError::Unsupported { .. })) || files.is_empty());
}

#[test]
fn a_copy_travels_whole_and_what_is_not_noted_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::new();
    let open = |name: &str| RocksGenerations::open(&folder.path().join(name), &memory).unwrap();
    let (from, to) = (open("a"), open("b"));
    write(&*to.current().unwrap(), b"old");
    copies_travel(&from, &to);
    let outside = cairn_storage::CopyFile {
        name: "../current".to_owned(),
        bytes: 1,
    };
    assert!(!outside.is_plain());
    // Refused without a trace: what came in before goes on.
    assert!(matches!(
        to.receive(&[outside]),
        Err(DiskError::Corrupt { .. })
    ));
    assert_eq!(value(&*to.received().unwrap()).unwrap(), &b"kept"[..]);
    to.adopt().unwrap();
    assert_eq!(value(&*to.current().unwrap()).unwrap(), &b"kept"[..]);
    drop((from, to));

    let from = open("a");
    assert_eq!(from.kept().unwrap().len(), 1);
    assert!(!folder.path().join("a/kept/9").exists());
    assert_eq!(value(&*from.current().unwrap()).unwrap(), &b"later"[..]);
    assert_eq!(value(&*from.begin_from(7).unwrap()).unwrap(), &b"kept"[..]);
    from.forget(7).unwrap();
    assert_eq!(from.kept().unwrap(), vec![]);
    assert_eq!(value(&*open("b").current().unwrap()).unwrap(), &b"kept"[..]);
}

#[test]
fn a_simulated_copy_travels_as_a_folder_does() {
    let (from, to) = (SimGenerations::new(), SimGenerations::new());
    copies_travel(&from, &to);
    assert_eq!(value(&*to.received().unwrap()).unwrap(), &b"kept"[..]);
    to.adopt().unwrap();
    assert_eq!(value(&*to.current().unwrap()).unwrap(), &b"kept"[..]);
    // Keeping makes durable; the copy without a note is gone.
    let from = from.crash(|_| 0);
    assert_eq!(value(&*from.current().unwrap()).unwrap(), &b"later"[..]);
    assert_eq!(from.kept().unwrap().len(), 1);
    assert!(from.files(9).is_err());
}

#[test]
fn simulated_generations_behave_as_folders_do_day_one_9() {
    let ledger = SimGenerations::new();
    write(&*ledger.current().unwrap(), b"old");
    ledger.current().unwrap().sync().unwrap();
    write(&*ledger.begin().unwrap(), b"half");
    let ledger = ledger.crash(|_| 0);
    assert_eq!(value(&*ledger.current().unwrap()).unwrap(), &b"old"[..]);
    assert!(matches!(ledger.adopt(), Err(DiskError::Unsupported { .. })));
    write(&*ledger.begin().unwrap(), b"new");
    ledger.adopt().unwrap();
    let ledger = ledger.crash(|_| 0);
    assert_eq!(value(&*ledger.current().unwrap()).unwrap(), &b"new"[..]);
}
