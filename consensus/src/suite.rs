//! openraft's own suite over our log and state machine, on both disks.
//!
//! Left out are the tests that make snapshots of states without checkpoints: `snapshot_meta*` and
//! `transfer_snapshot`. A copy here is of a certified block (see `snapshot`).

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cairn_sim::fixture;
use cairn_storage::rocks::{Memory, Purpose};
use cairn_storage::{
    Disk, Generations, LogStore, RocksDisk, RocksGenerations, SignGuard, SimDisk, SimGenerations,
    StateStore, wait_until_closed,
};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tokio::sync::watch;

use crate::applier::{self, Applier};
use crate::config::{Io, SIMULATED_RECENT};
use crate::cosign::Cosigner;
use crate::log::{Durable, RaftLog};
use crate::network::SystemClock;
use crate::snapshot::install::Installer;
use crate::snapshot::{Copies, CopyRules};
use crate::state_machine::StateMachine;
use crate::types::{Runtime, Types};

/// What lives as long as one test.
#[allow(dead_code)]
struct Folder(Option<tempfile::TempDir>);

struct OnSimDisk;
struct OnRocks;

fn build(
    raft: Arc<dyn Disk>,
    generations: Arc<dyn Generations>,
    io: Io,
) -> Result<(RaftLog, StateMachine), StorageError<Types>> {
    let ledger = fixture::Ledger::new(3, None);
    let log_store = Arc::new(LogStore::open(raft).unwrap());
    let guard = SignGuard::open(log_store.clone()).unwrap();
    let store =
        Arc::new(StateStore::open(generations.current().unwrap(), &ledger.chain.id).unwrap());
    applier::ensure_genesis(&ledger.chain, &store).unwrap();
    let (chain, key) = (ledger.chain.clone(), ledger.cosign_key(1));
    let cosigner = Cosigner::open(
        1,
        chain.clone(),
        key,
        Arc::new(SystemClock),
        guard,
        store.clone(),
    );
    let (cosigner, tracker) = (Arc::new(cosigner.unwrap()), Arc::default());
    let copies = Copies::open(generations, store.clone(), CopyRules::default(), false).unwrap();
    let copies = Arc::new(copies);
    let applier = Applier::open(
        chain,
        store.clone(),
        Arc::default(),
        Arc::clone(&tracker),
        cosigner.clone(),
        Arc::default(),
        copies.clone(),
    );
    let applier = Arc::new(applier.unwrap());
    let installer = Installer {
        copies,
        log: log_store.clone(),
        store,
        applier: applier.clone(),
        cosigner,
        tracker,
    };
    // The suite applies what it never appended.
    let (_, durable) = watch::channel(Durable::ALL);
    let machine = StateMachine::new(applier, durable, Arc::new(installer), io).unwrap();
    Ok((RaftLog::new(log_store, io).unwrap(), machine))
}

impl StoreBuilder<Types, RaftLog, StateMachine, Folder> for OnSimDisk {
    async fn build(&self) -> Result<(Folder, RaftLog, StateMachine), StorageError<Types>> {
        let sync = Duration::from_millis(1);
        let (raft, ledger) = (Arc::new(SimDisk::new()), Arc::new(SimGenerations::new()));
        let recent = SIMULATED_RECENT;
        let (log, machine) = build(raft, ledger, Io::Simulated { sync, recent })?;
        Ok((Folder(None), log, machine))
    }
}

impl StoreBuilder<Types, RaftLog, StateMachine, Folder> for OnRocks {
    async fn build(&self) -> Result<(Folder, RaftLog, StateMachine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new();
        let path = |name| folder.path().join(name);
        let raft = RocksDisk::open(&path("raft"), Purpose::RaftLog, &memory).unwrap();
        let ledger = RocksGenerations::open(&path("ledger"), &memory).unwrap();
        let (log, machine) = build(Arc::new(raft), Arc::new(ledger), Io::Threads)?;
        Ok((Folder(Some(folder)), log, machine))
    }
}

type Tests<B> = Suite<Types, RaftLog, StateMachine, B, Folder>;

async fn one<B, F>(builder: &B, test: impl FnOnce(RaftLog, StateMachine) -> F) -> Option<String>
where
    B: StoreBuilder<Types, RaftLog, StateMachine, Folder>,
    F: Future<Output = Result<(), io::Error>>,
{
    let (folder, log, machine) = builder.build().await.unwrap();
    let done = test(log, machine).await;
    drop(folder);
    done.err().map(|error| error.to_string())
}

macro_rules! each {
    ($builder:expr, $B:ty: $($test:ident)*) => {
        $(assert_eq!(one($builder, Tests::<$B>::$test).await, None, stringify!($test));)*
    };
}

async fn all<B>(builder: &B)
where
    B: StoreBuilder<Types, RaftLog, StateMachine, Folder>,
{
    each!(builder, B:
        last_membership_in_log_initial last_membership_in_log last_membership_in_log_multi_step
        get_membership_initial get_membership_from_log_and_empty_sm
        get_membership_from_empty_log_and_sm get_membership_from_log_le_sm_last_applied
        get_membership_from_log_gt_sm_last_applied_1 get_membership_from_log_gt_sm_last_applied_2
        get_initial_state_without_init

        get_initial_state_with_state
        get_initial_state_last_log_gt_sm
        get_initial_state_inverted_log_order get_initial_state_conflict_at_same_index

        save_vote get_log_entries limited_get_log_entries leader_bounded_stream entries_stream
        try_get_log_entry log_reader_reads_new_entries initial_logs get_log_state get_log_id
        last_id_in_log last_applied_state
        purge_logs_upto_0 purge_logs_upto_5 purge_logs_upto_20
        delete_logs_after_11 delete_logs_after_5 delete_logs_after_0 delete_logs_after_none
        append_to_log apply_single apply_multiple
    );
}

#[tokio::test]
async fn openrafts_suite_passes_on_the_simulated_disk() {
    Runtime::scope(1, all(&OnSimDisk)).await;
}

#[test]
fn openrafts_suite_passes_on_rocksdb() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Runtime::scope(1, all(&OnRocks)));
    drop(runtime);
    // A process that ends while RocksDB's threads still work aborts.
    assert_eq!(wait_until_closed(Duration::from_secs(60)), 0);
}
