//! Planted bugs: the invariants must see them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_proto::v1;
use prost::Message as _;
use tokio::time::Instant;

use crate::invariants::{
    Violation, acknowledged_is_never_lost, no_two_certified_headers_conflict, same_log_same_roots,
};
use crate::oracle::{Acknowledged, Oracle};
use crate::storm::{begin, check};
use crate::wires::Lie;
use crate::world::{Setup, World, simulate};

/// Submits one entry through `node` and waits until it is committed there.
async fn record(world: &World, node: u64, number: u64) -> Option<Acknowledged> {
    let core = world.core(node).unwrap();
    let entry = world.ledger.evidence(1, number);
    let (id, leaf_hash) = (entry.id, entry.leaf_hash);
    core.submit(vec![entry]).await;
    let deadline = Instant::now() + Duration::from_secs(5);
    let status = core
        .wait(&id, v1::WaitFor::Committed, deadline)
        .await
        .unwrap();
    (status.state() != v1::EntryState::Unknown && status.height > 0).then_some(Acknowledged {
        id,
        leaf_hash,
        height: status.height,
        leaf_index: status.leaf_index,
    })
}

/// Bug 2: an acknowledgement before fsync, then power loss of all nodes at once.
async fn power_loss(world: Arc<World>) -> Result<(), Violation> {
    begin(&world).await;
    let told = record(&world, 2, 1)
        .await
        .expect("a healthy cluster commits");
    let all = world.ids();
    world.crash(&all, true).await;
    for id in &all {
        world.start(*id).await.unwrap();
    }
    // With honest disks the cluster is formed already.
    let _ = world.core(1).unwrap().initialize().await;
    // Something new, so that there is something to settle.
    tokio::time::sleep(Duration::from_secs(5)).await;
    record(&world, 1, 2).await;
    world.settle().await?;
    acknowledged_is_never_lost::check(&world, &[told])?;
    check(&world, &Oracle::default())
}

#[test]
fn acknowledged_entries_survive_power_loss_of_all_nodes_at_once() {
    crate::logs();
    simulate(2, Setup::FOUR, power_loss).0.unwrap();
}

#[test]
fn a_disk_that_only_says_synced_is_caught() {
    let setup = Setup {
        lying_disks: true,
        ..Setup::FOUR
    };
    let caught = simulate(2, setup, power_loss).0;
    let Violation(what) = caught.expect_err("the checker must see it");
    println!("caught: {what}");
}

/// Bug 16: a failed fsync that is retried.
#[test]
fn a_node_whose_sync_failed_stops_and_the_others_go_on() {
    crate::logs();
    let story = |world: Arc<World>| async move {
        begin(&world).await;
        let leader = world.core(1).unwrap().status().leader.unwrap();
        let other = world.ids().into_iter().find(|id| *id != leader).unwrap();
        world.fail_next_sync(leader);
        let broken = world.core(leader).unwrap();
        let refused = record(&world, leader, 1).await;
        assert_eq!(refused, None, "nothing is acknowledged after a failed sync");
        assert!(broken.status().stopped.is_some(), "{:?}", broken.status());
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(
            record(&world, other, 2).await.is_some(),
            "three of four go on"
        );
        world.crash(&[leader], false).await;
        world.settle().await?;
        check(&world, &Oracle::default())
    };
    simulate(4, Setup::FOUR, story).0.unwrap();
}

/// A leader that sends one entry to two followers and another to the third, and what came of it.
async fn two_faced_leader(world: Arc<World>) -> (World2, Result<(), Violation>) {
    begin(&world).await;
    let leader = world.core(1).unwrap().status().leader.unwrap();
    let others: Vec<u64> = world.ids().into_iter().filter(|id| *id != leader).collect();
    let (truth, lie) = (world.ledger.evidence(1, 7), world.ledger.evidence(1, 8));
    // Followers to whom the leader lies: enough that each story has half of the members.
    let deceived: BTreeSet<u64> = others.iter().skip(1).copied().collect();
    world.wires.lie(Lie {
        from: leader,
        to: deceived,
        truth: truth.signed.encode_to_vec().into(),
        lie: lie.signed.encode_to_vec().into(),
    });
    world.core(leader).unwrap().submit(vec![truth]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let same = same_log_same_roots::check(&world);
    let alarms = world
        .running()
        .iter()
        .map(|(_, core)| core.status().equivocations)
        .sum();
    (
        World2 { alarms },
        same.and(no_two_certified_headers_conflict::check(&world)),
    )
}

/// What the members noticed.
struct World2 {
    alarms: u64,
}

#[test]
fn a_two_faced_leader_gets_no_two_headers_certified_and_is_noticed() {
    crate::logs();
    let story = |world: Arc<World>| async move {
        let (noticed, roots) = two_faced_leader(world.clone()).await;
        (
            noticed,
            roots,
            no_two_certified_headers_conflict::check(&world),
        )
    };
    let (noticed, roots, certified) = simulate(3, Setup::FOUR, story).0;
    assert!(
        roots.is_err(),
        "followers applied different blocks, which the checker must see"
    );
    assert_eq!(certified, Ok(()), "but no two of them were certified");
    assert!(noticed.alarms > 0, "and members raised the alarm");
}

#[test]
fn under_a_policy_that_only_detects_two_conflicting_certificates_are_caught() {
    crate::logs();
    let setup = Setup {
        threshold: Some(2),
        ..Setup::FOUR
    };
    let story = |world: Arc<World>| async move {
        let _ = two_faced_leader(world.clone()).await;
        no_two_certified_headers_conflict::check(&world)
    };
    let caught = simulate(3, setup, story).0;
    let Violation(what) = caught.expect_err("the checker must see it");
    println!("caught: {what}");
}
