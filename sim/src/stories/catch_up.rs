//! Members that are behind what the others have purged: they catch up from a copy, whole or not at
//! all, and believe none that was altered.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::v1;
use tokio::time::Instant;

use crate::fuses::{Fuse, Moment};
use crate::invariants::Violation;
use crate::oracle::Oracle;
use crate::storm::{begin, check};
use crate::wires::Lie;
use crate::world::World;

const NAME: &str = "a_member_behind_catches_up";

/// A member that is not the leader.
pub fn follower(world: &World) -> u64 {
    let leader = world.running()[0].1.status().leader;
    let mut ids = world.ids().into_iter();
    ids.find(|id| Some(*id) != leader).unwrap()
}

/// Writes until every running node has purged its log beyond `index`.
pub async fn write_beyond(world: &Arc<World>, oracle: &Oracle, index: u64) {
    let client = oracle.clone();
    let deadline = Instant::now() + Duration::from_secs(60);
    let purged = |world: &World| {
        let mut cores = world.running().into_iter();
        cores.all(|(_, core)| core.kept().1.is_some_and(|purged| purged > index))
    };
    let mut name = 1_000 * (index + 1);
    while !purged(world) {
        assert!(Instant::now() < deadline, "nothing is purged");
        name += 1;
        let until = Instant::now() + Duration::from_millis(500);
        let rng = world.rng.fork();
        client.clone().client(world.clone(), name, rng, until).await;
    }
}

/// One member is away until the others have purged what it would need; gives its id.
pub async fn away(world: &Arc<World>, oracle: &Oracle) -> u64 {
    begin(world).await;
    let id = follower(world);
    let last = world.core(id).unwrap().status().last_log_index;
    world.crash(&[id], true).await;
    write_beyond(world, oracle, last.unwrap_or(0) + 10).await;
    id
}

/// A member that was away catches up from a copy while writes go on.
pub async fn behind_the_purge(world: Arc<World>) -> Result<(), Violation> {
    let oracle = Oracle::default();
    let id = away(&world, &oracle).await;
    world.start(id).await.unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    let rng = world.rng.fork();
    oracle.clone().client(world.clone(), 7, rng, until).await;
    world.settle().await?;
    if world.core(id).unwrap().installs() != 1 {
        return Err(Violation::of(NAME, "no copy was installed"));
    }
    check(&world, &oracle)
}

/// Power fails somewhere in an install. Whether the new state was there already.
pub async fn interrupted(world: Arc<World>, moment: u64) -> Result<bool, Violation> {
    let oracle = Oracle::default();
    let id = away(&world, &oracle).await;
    let old = world.store_height(id);
    world.start(id).await.unwrap();
    // The last ones: in the very moment that it is noticed.
    if moment < 28 {
        tokio::time::sleep(Duration::from_millis(37 * moment)).await;
    } else {
        while world.core(id).unwrap().installs() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    world.crash(&[id], moment.is_multiple_of(2)).await;
    let left = world.store_height(id);
    world.settle().await?;
    check(&world, &oracle)?;
    Ok(left > old + 10)
}

/// How long an install may take to begin, or to get to an instant in it.
const INSTALL_WITHIN: Duration = Duration::from_secs(10);

/// An install meets power loss in one of its own steps, a leader that is gone in its middle, or
/// power loss at any time; and then perhaps another.
pub async fn aimed(world: Arc<World>) -> Result<(), Violation> {
    let oracle = Oracle::default();
    let id = away(&world, &oracle).await;
    for _ in 0..world.rng.between(1, 2) {
        world.try_start(id).await?;
        trouble(&world, id).await;
    }
    world.settle().await?;
    if !world.has_installed(id) {
        return Err(Violation::of(NAME, "no copy was installed"));
    }
    check(&world, &oracle)
}

/// Once, somewhere in the install of `id`.
pub async fn trouble(world: &World, id: u64) {
    match world.rng.between(0, 4) {
        0 => {
            tokio::time::sleep(Duration::from_millis(world.rng.between(0, 1_500))).await;
            world.crash(&[id], world.rng.per_mille(500)).await;
        }
        1 => {
            let receives = async {
                while !world.is_receiving(id) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let begun = tokio::time::timeout(INSTALL_WITHIN, receives).await;
            if let (Ok(()), Some(leader)) = (begun, world.leader()) {
                world.crash(&[leader], world.rng.per_mille(500)).await;
                // Long enough for the others to elect another.
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
        }
        number => {
            let steps = usize::try_from(number - 2).unwrap();
            let (node, moment) = (Some(id), Moment::INSTALL[steps]);
            world.wires.fuses.set(Fuse { node, moment });
            let blown = world.wires.fuses.blown();
            let _ = tokio::time::timeout(INSTALL_WITHIN, blown).await;
            world.wires.fuses.disarm();
            world.reap_blown().await;
        }
    }
}

/// The state and the copies of a member that caught up fit together across power losses of all.
pub async fn copy_gone(world: Arc<World>) -> Result<(), Violation> {
    let oracle = Oracle::default();
    let id = away(&world, &oracle).await;
    world.start(id).await.unwrap();
    world.settle().await?;
    // All at once, twice: purged logs and copies have to fit together on every node.
    for lose_all in [true, false] {
        world.crash(&world.ids(), lose_all).await;
        world.settle().await?;
    }
    check(&world, &oracle)
}

/// Every copy is altered on its way, until it is not.
pub async fn altered(world: Arc<World>) -> Result<(), Violation> {
    begin(&world).await;
    let oracle = Oracle::default();
    let id = follower(&world);
    let entry = world.ledger.evidence(77, 1);
    world.crash(&[id], true).await;
    let (_, core) = world.running().remove(0);
    core.submit(vec![entry.clone()]).await;
    let deadline = Instant::now() + Duration::from_secs(5);
    let told = core.wait(&entry.id, v1::WaitFor::Certified, deadline).await;
    assert_eq!(told.unwrap().state(), v1::EntryState::Certified);
    write_beyond(&world, &oracle, 20).await;
    // The title that the entry's body has, in each copy that the others send.
    let title = entry.signed.body.slice(..40);
    let mut lie = title.to_vec();
    lie[39] ^= 1;
    for from in world.ids() {
        world.wires.lie(Lie {
            from,
            to: [id].into(),
            truth: title.clone(),
            lie: lie.clone().into(),
        });
    }
    let old = world.store_height(id);
    world.start(id).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.core(id).unwrap().installs(), 0);
    assert!(world.store_height(id) <= old + 1, "nothing was built on it");
    world.wires.honest();
    world.settle().await?;
    assert_eq!(world.core(id).unwrap().installs(), 1);
    check(&world, &oracle)
}
