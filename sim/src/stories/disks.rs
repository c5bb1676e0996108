//! Disks that lose, fail, fill up and rot.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::v1;
use tokio::time::Instant;

use crate::invariants::{Violation, acknowledged_is_never_lost};
use crate::notes::Mark;
use crate::oracle::{Acknowledged, Oracle};
use crate::storm::{begin, check};
use crate::world::World;

use super::catch_up::follower;

const NAME: &str = "a_node_with_a_broken_disk_stops";

/// Submits one entry through `node` and waits until it is committed there.
pub async fn record(world: &World, node: u64, number: u64) -> Option<Acknowledged> {
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
        by: (1, number),
        id,
        leaf_hash,
        height: status.height,
        leaf_index: status.leaf_index,
    })
}

/// Bug 2: an acknowledgement before fsync, then power loss of all nodes at once.
pub async fn power_loss(world: Arc<World>) -> Result<(), Violation> {
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

/// Bug 13: a node whose log lost synced records refuses to start; the others go on.
pub async fn lost_tail(world: Arc<World>) -> Result<(), Violation> {
    begin(&world).await;
    let id = follower(&world);
    for number in 1..=5 {
        record(&world, id, number).await.unwrap();
    }
    world.crash_losing_synced(id, world.rng.between(1, 5)).await;
    match world.start(id).await {
        Err(_) => world.settle().await,
        Ok(()) => {
            let what = format!("{id} starts, though its log lost what it had synced");
            Err(Violation::of(NAME, what))
        }
    }
}

/// Bug 14: damage is an error and never an absence.
pub async fn damage(world: Arc<World>) -> Result<(), Violation> {
    begin(&world).await;
    let oracle = Oracle::default();
    let clients = |seconds| {
        let until = Instant::now() + Duration::from_secs(seconds);
        let (name, rng) = (world.rng.next(), world.rng.fork());
        oracle.clone().client(world.clone(), name, rng, until)
    };
    clients(3).await;
    let victim = *world.rng.pick(&world.ids()).unwrap();
    // Several records: one alone is often read by nobody.
    for _ in 0..20 {
        world.damage(victim, &world.rng);
    }
    clients(3).await;
    check(&world, &oracle).or_else(|violation| match world.notes.check() {
        Ok(()) if violation.invariant != "acknowledged_is_never_lost" => Err(violation),
        // Clients may still have been waiting for certificates.
        Ok(()) => Ok(()),
        noted => noted,
    })?;
    if world.rng.per_mille(500) {
        world.crash(&[victim], false).await;
    }
    if world.ids().len() == 3 {
        // All three have to cosign, and one may be gone for good.
        return world.notes.check();
    }
    world.settle().await?;
    check(&world, &oracle)
}

/// Bug 7: a record of the leader's log is damaged where a member that was away needs it. The leader
/// stops, or sends what it wrote; never something else.
pub async fn log_damage(world: Arc<World>) -> Result<u64, Violation> {
    begin(&world).await;
    let oracle = Oracle::default();
    let id = follower(&world);
    world.crash(&[id], true).await;
    let until = Instant::now() + Duration::from_millis(700);
    let rng = world.rng.fork();
    oracle.clone().client(world.clone(), 8, rng, until).await;
    let leader = world.leader().unwrap();
    for _ in 0..5 {
        world.damage_log(leader, &world.rng);
    }
    world.start(id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.settle().await?;
    check(&world, &oracle)?;
    Ok(oracle.acknowledged().len() as u64)
}

/// Bug 15: with a full disk a node refuses cleanly, and goes on when there is space.
pub async fn full(world: Arc<World>) -> Result<(), Violation> {
    begin(&world).await;
    let oracle = Oracle::default();
    let until = Instant::now() + Duration::from_secs(4);
    let rng = world.rng.fork();
    let client = tokio::spawn(oracle.clone().client(world.clone(), 5, rng, until));
    tokio::time::sleep(Duration::from_millis(world.rng.between(100, 1_000))).await;
    let leader = world.leader().unwrap();
    world.set_full(leader, true);
    client.await.unwrap();
    let status = world.core(leader).unwrap().status();
    if status.stopped.is_none() {
        return Err(Violation::of(
            NAME,
            format!("{leader} has no space and goes on"),
        ));
    }
    if world.core(leader).unwrap().view().is_none() {
        return Err(Violation::of(NAME, format!("{leader} serves no reads")));
    }
    world.settle().await?;
    check(&world, &oracle)
}

/// Bug 16: a failed fsync that is retried.
pub async fn failed_sync(world: Arc<World>) -> Result<(), Violation> {
    begin(&world).await;
    let leader = world.leader().unwrap();
    let other = world.ids().into_iter().find(|id| *id != leader).unwrap();
    world.fail_next_sync(leader);
    let broken = world.core(leader).unwrap();
    let refused = record(&world, leader, 1).await;
    if refused.is_some() || broken.status().stopped.is_none() {
        let what = format!(
            "{leader} goes on after a failed sync: {:?}",
            broken.status()
        );
        return Err(Violation::of(NAME, what));
    }
    world.notes.mark(Mark::FailedSyncStoppedANode);
    tokio::time::sleep(Duration::from_secs(5)).await;
    if record(&world, other, 2).await.is_none() {
        return Err(Violation::of(NAME, "three of four do not go on"));
    }
    world.crash(&[leader], false).await;
    world.settle().await?;
    check(&world, &Oracle::default())
}
