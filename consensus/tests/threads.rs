//! The members as a node runs them: threads, RocksDB, real time; only the wires are in memory.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cairn_consensus::{
    CopyRules, Core, CoreConfig, Inbound, Io, Lane, Network, NetworkError, SystemClock, Timing,
};
use cairn_proto::v1;
use cairn_sim::fixture::Ledger;
use cairn_storage::{Memory, Purpose, RocksDisk, RocksGenerations, wait_until_closed};
use tokio::time::Instant;

const MEMBERS: u64 = 3;

#[derive(Clone, Default)]
struct Hub(Arc<Mutex<BTreeMap<u64, Core>>>);

struct Port {
    me: u64,
    hub: Hub,
}

#[async_trait]
impl Network for Port {
    async fn call(&self, to: u64, lane: Lane, request: Bytes) -> Result<Bytes, NetworkError> {
        let core = self.hub.0.lock().unwrap().get(&to).cloned();
        let Some(core) = core else {
            let detail = "down".to_owned();
            return Err(NetworkError::Unreachable { peer: to, detail });
        };
        let answer = core.handle(self.me, lane, request).await;
        answer.map_err(|detail| NetworkError::Refused { peer: to, detail })
    }

    fn connected(&self, peer: u64) -> bool {
        self.hub.0.lock().unwrap().contains_key(&peer)
    }
}

async fn start(folder: &Path, ledger: &Ledger, hub: &Hub) {
    for id in 1..=MEMBERS {
        let memory = Memory::new();
        let path = |name| folder.join(id.to_string()).join(name);
        let raft = RocksDisk::open(&path("raft"), Purpose::RaftLog, &memory).unwrap();
        let generations = RocksGenerations::open(&path("ledger"), &memory).unwrap();
        let core = Core::start(CoreConfig {
            raft_id: id,
            chain: ledger.chain.clone(),
            cosign_key: ledger.cosign_key(id),
            raft_disk: Arc::new(raft),
            ledger: Arc::new(generations),
            copies: CopyRules::default(),
            network: Arc::new(Port {
                me: id,
                hub: hub.clone(),
            }),
            clock: Arc::new(SystemClock),
            timing: Timing::default(),
            io: Io::Threads,
            seed: None,
        });
        let core = core.await.unwrap();
        hub.0.lock().unwrap().insert(id, core);
    }
}

async fn stop(hub: &Hub) {
    let cores: Vec<Core> = std::mem::take(&mut *hub.0.lock().unwrap())
        .into_values()
        .collect();
    for core in cores {
        core.shutdown().await;
    }
}

fn core(hub: &Hub, id: u64) -> Core {
    hub.0.lock().unwrap()[&id].clone()
}

async fn certified(core: &Core, id: &cairn_ledger::hash::Hash) -> v1::EntryStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    core.wait(id, v1::WaitFor::Certified, deadline)
        .await
        .unwrap()
}

#[test]
fn entries_are_certified_through_any_node_and_still_there_after_a_restart() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(certify_restart_certify());
    drop(runtime);
    // A process that ends while RocksDB's threads still work aborts.
    assert_eq!(wait_until_closed(Duration::from_secs(60)), 0);
}

async fn certify_restart_certify() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(MEMBERS, None);
    let hub = Hub::default();
    start(folder.path(), &ledger, &hub).await;
    core(&hub, 1).initialize().await.unwrap();
    let again = core(&hub, 1).initialize().await;
    assert!(again.is_err(), "a cluster is formed once");
    let led = |id| core(&hub, id).status().leader.is_some();
    while !(1..=MEMBERS).all(led) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let entries: Vec<_> = (0..2_000).map(|n| ledger.evidence(1, n)).collect();
    let begun = std::time::Instant::now();
    for (number, batch) in entries.chunks(100).enumerate() {
        let node = core(&hub, 1 + number as u64 % MEMBERS);
        for answer in node.submit(batch.to_vec()).await {
            answer.unwrap();
        }
    }
    for entry in &entries {
        let status = certified(&core(&hub, 2), &entry.id).await;
        assert_eq!(status.state(), v1::EntryState::Certified);
    }
    println!("2,000 entries in {:?}", begun.elapsed());
    // What is certified is never asked for again: the chain comes to rest.
    let tip = core(&hub, 2).status().applied_height;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let rest = core(&hub, 2).status();
    assert!(
        rest.applied_height <= tip + 1,
        "no endless empty blocks: {tip}, {rest:?}"
    );
    assert_eq!(rest.certified_height, Some(rest.applied_height));
    assert_eq!(core(&hub, 2).view().unwrap().height(), rest.applied_height);

    stop(&hub).await;
    start(folder.path(), &ledger, &hub).await;
    let late = ledger.evidence(2, 1);
    let node = core(&hub, 3);
    loop {
        // An election takes a moment.
        let answers = node.submit(vec![late.clone()]).await;
        if answers[0].is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        certified(&node, &late.id).await.state(),
        v1::EntryState::Certified
    );
    for entry in &entries {
        let status = node.entry_status(&entry.id).unwrap();
        assert_eq!(status.state(), v1::EntryState::Certified);
    }
    stop(&hub).await;
}
