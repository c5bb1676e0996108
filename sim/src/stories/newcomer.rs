//! A change of members that somebody misses until the log that tells of it is purged: the member that
//! comes in, or one that was away. It has only a copy to hear it from, which was certified by members
//! it has never heard of.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::v1;
use tokio::time::Instant;

use crate::invariants::{Violation, no_altered_proof_is_believed};
use crate::notes::Mark;
use crate::oracle::Oracle;
use crate::storm::{begin, check};
use crate::wires::Weather;
use crate::world::World;

use super::catch_up::{follower, trouble, write_beyond};
use super::disks::record;
use super::members::{accepted, agreed, certified_by, until};

const NAME: &str = "a_copy_crosses_a_change_of_members";
/// The member that comes in.
const NEW: u64 = 5;

pub async fn by_copy(world: Arc<World>) -> Result<u64, Violation> {
    begin(&world).await;
    let oracle = Oracle::default();
    let mut next = world.ledger.chain.members.clone();
    next.epoch = 1;
    next.members.push(world.ledger.newcomer(NEW));
    next.policy.as_mut().unwrap().threshold = 4;
    // Four of five certify, so one can miss it: the new one itself, or one of the old.
    let old = world.rng.per_mille(500).then(|| follower(&world));
    let behind = old.unwrap_or(NEW);
    if let Some(old) = old {
        world.crash(&[old], world.rng.per_mille(500)).await;
    }
    accepted(&world, &next, &[1, 2, 4]).await?;
    world.add(NEW);
    if old.is_some() {
        world.start(NEW).await.unwrap();
        until(&world, "five is a voter", |w| {
            agreed(w, 1, &[1, 2, 3, 4, 5])
        })
        .await?;
    }
    let last = world
        .running()
        .iter()
        .map(|(_, core)| core.status().last_log_index)
        .max();
    write_beyond(&world, &oracle, last.flatten().unwrap_or(0) + 10).await;

    if world.rng.per_mille(300) {
        world.wires.set_weather(Weather::ROUGH);
    }
    // While writes go on: power fails, or the leader goes, at some step or another.
    let end = Instant::now() + Duration::from_secs(6);
    let client = oracle
        .clone()
        .client(world.clone(), 7, world.rng.fork(), end);
    let client = tokio::spawn(client);
    for _ in 0..world.rng.between(0, 3) {
        for id in world.ids() {
            world.try_start(id).await?;
        }
        trouble(&world, behind).await;
        tokio::time::sleep(Duration::from_millis(world.rng.between(0, 800))).await;
    }
    for id in world.ids() {
        world.try_start(id).await?;
    }
    client.await.unwrap();
    world.settle().await?;
    until(&world, "five is a voter", |w| {
        agreed(w, 1, &[1, 2, 3, 4, 5])
    })
    .await?;
    world.settle().await?;
    if !world.has_installed(behind) {
        return Err(Violation::of(NAME, format!("{behind} installed no copy")));
    }
    world.notes.mark(Mark::CopyAcrossAnEpoch);
    check(&world, &oracle)?;

    // It counts: without another one, nothing is certified unless it cosigns.
    let away = follower_but(&world, behind);
    world.crash(&[away], true).await;
    let told = record(&world, behind, 1).await;
    let Some(told) = told else {
        return Err(Violation::of(NAME, "the four that are left do not commit"));
    };
    let core = world.core(behind).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = core.wait(&told.id, v1::WaitFor::Certified, deadline).await;
    let key = world.ledger.cosign_key(behind).verifying_key().to_bytes();
    let certified = status.is_ok_and(|status| status.state() == v1::EntryState::Certified);
    if !certified || !certified_by(&core).1.contains(&key[..]) {
        return Err(Violation::of(NAME, format!("{behind} does not cosign")));
    }
    world.settle().await?;
    no_altered_proof_is_believed::check(&world, &core, told.leaf_index)?;
    check(&world, &oracle)?;
    Ok(oracle.acknowledged().len() as u64 + 1)
}

/// A member that does not lead, and is another one.
fn follower_but(world: &World, other: u64) -> u64 {
    let leader = world.leader();
    let mut ids = world.ids().into_iter();
    ids.find(|id| Some(*id) != leader && *id != other).unwrap()
}
