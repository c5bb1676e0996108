//! Members come and go while nodes crash: every story ends with the same members in Raft's
//! configuration, on every node, and with certificates that they made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_consensus::{Core, StartError};
use cairn_proto::v1;
use tokio::time::Instant;

use crate::invariants::{Violation, no_two_certified_headers_conflict, same_log_same_roots};
use crate::storm::begin;
use crate::wires::Weather;
use crate::world::World;

const NAME: &str = "members_follow_the_epochs";

/// Longer than any election and any pause of ours.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `holds`; `what` says what did not come.
pub async fn until(
    world: &World,
    what: &str,
    holds: impl Fn(&World) -> bool,
) -> Result<(), Violation> {
    let deadline = Instant::now() + PATIENCE;
    while !holds(world) {
        if Instant::now() > deadline {
            let mut said = what.to_owned();
            for (id, core) in world.running() {
                let epoch = core.epochs().borrow().newest().epoch;
                let state = core.raft_members();
                said += &format!("\n{id}: epoch {epoch}, {state:?}, {:?}", core.status());
            }
            return Err(Violation::of(NAME, said));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Submits until the change has its outcome, which must be an acceptance.
pub async fn accepted(
    world: &World,
    next: &v1::MemberSet,
    signers: &[u64],
) -> Result<(), Violation> {
    let entry = world.ledger.change(next, signers);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        for (_, core) in world.running() {
            core.submit(vec![entry.clone()]).await;
            let until = Instant::now() + Duration::from_millis(700);
            let status = core.wait(&entry.id, v1::WaitFor::Committed, until).await;
            match status {
                Ok(status) if status.state() == v1::EntryState::Rejected => {
                    return Err(Violation::of(NAME, format!("refused: {status:?}")));
                }
                Ok(status) if status.height > 0 => return Ok(()),
                _ => {}
            }
        }
    }
    Err(Violation::of(
        NAME,
        "the change was never committed".to_owned(),
    ))
}

/// Crashes something a few times, and brings it back.
async fn trouble(world: &World) -> Result<(), Violation> {
    for _ in 0..world.rng.between(0, 4) {
        tokio::time::sleep(Duration::from_millis(world.rng.between(0, 300))).await;
        let leader = world
            .running()
            .into_iter()
            .find_map(|(_, c)| c.status().leader);
        let victim = match (world.rng.between(0, 3), leader) {
            (0 | 1, Some(leader)) => leader,
            _ => *world.rng.pick(&world.ids()).unwrap(),
        };
        if world.rng.per_mille(200) {
            world.crash(&world.ids(), world.rng.per_mille(500)).await;
        } else {
            world.crash(&[victim], world.rng.per_mille(500)).await;
        }
        tokio::time::sleep(Duration::from_millis(world.rng.between(0, 1_500))).await;
        for id in world.ids() {
            match world.start(id).await {
                Ok(()) => {}
                // Its own state tells it that it has left.
                Err(StartError::NotAMember { .. }) if id == 2 => {}
                Err(error) => {
                    return Err(Violation::of(
                        NAME,
                        format!("{id} does not start again: {error}"),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Every node that runs has these voters and no learner, and knows this epoch.
pub fn agreed(world: &World, epoch: u64, members: &[u64]) -> bool {
    let expected: BTreeSet<u64> = members.iter().copied().collect();
    world.running().iter().all(|(_, core)| {
        let (configs, nodes) = core.raft_members();
        core.epochs().borrow().newest().epoch == epoch
            && configs == [expected.clone()]
            && nodes == expected
    })
}

pub fn certified_by(core: &Core) -> (u64, BTreeSet<Vec<u8>>) {
    let certified = core.certified().borrow().clone();
    let certified = certified.unwrap();
    let signers = certified.signers().map(|m| m.cosign_key.to_vec());
    (certified.header().epoch, signers.collect())
}

/// Five comes, two goes, while things crash.
pub async fn story(world: Arc<World>) -> Result<(), Violation> {
    begin(&world).await;
    if world.rng.per_mille(500) {
        world.wires.set_weather(Weather::ROUGH);
    }
    let mut next = world.ledger.chain.members.clone();
    next.epoch = 1;
    next.members.push(world.ledger.newcomer(5));
    next.policy.as_mut().unwrap().threshold = 4;
    accepted(&world, &next, &[1, 2, 4]).await?;
    world.add(5);
    if world.rng.per_mille(500) {
        world.start(5).await.unwrap();
    }
    trouble(&world).await?;
    world.settle().await?;
    until(&world, "five is a voter", |w| {
        agreed(w, 1, &[1, 2, 3, 4, 5])
    })
    .await?;

    let mut next = world.core(5).unwrap().epochs().borrow().newest().clone();
    next.epoch = 2;
    next.members.retain(|member| member.raft_id != 2);
    next.policy.as_mut().unwrap().threshold = 3;
    accepted(&world, &next, &[5, 1, 3, 4]).await?;
    trouble(&world).await?;
    world.wires.heal();
    world.wires.set_weather(Weather::FAIR);
    // Nobody hears two any more; it may still run, and think what it likes.
    let gone = |w: &World| {
        let others = w.running().into_iter().filter(|(id, _)| *id != 2);
        others.into_iter().all(|(_, core)| {
            let expected: BTreeSet<u64> = [1, 3, 4, 5].into();
            core.raft_members() == (vec![expected.clone()], expected)
                && core.status().leader.is_some_and(|leader| leader != 2)
        })
    };
    until(&world, "two is no voter", gone).await?;
    let terms = |w: &World| w.core(1).unwrap().status().term;
    let before = terms(&world);
    tokio::time::sleep(Duration::from_secs(10)).await;
    if terms(&world) != before {
        return Err(Violation::of(
            NAME,
            "who left moved the others' term".to_owned(),
        ));
    }
    world.retire(2).await;
    let last = world.ledger.evidence(7, 7);
    let core = world.core(3).unwrap();
    core.submit(vec![last.clone()]).await;
    let deadline = Instant::now() + PATIENCE;
    let status = core.wait(&last.id, v1::WaitFor::Certified, deadline).await;
    if status.unwrap().state() != v1::EntryState::Certified {
        return Err(Violation::of(
            NAME,
            "the four that are left do not certify".to_owned(),
        ));
    }
    world.settle().await?;
    let (epoch, signers) = certified_by(&core);
    let left = world
        .ledger
        .cosign_key(2)
        .verifying_key()
        .to_bytes()
        .to_vec();
    if epoch != 2 || signers.contains(&left) {
        return Err(Violation::of(
            NAME,
            format!("epoch {epoch}, signed by {signers:?}"),
        ));
    }
    for id in world.ids() {
        world.compare(id);
    }
    same_log_same_roots::check(&world)?;
    no_two_certified_headers_conflict::check(&world)
}

/// A node that was away hears of its new leader from members that it knows.
pub async fn away(world: Arc<World>) -> Result<(), Violation> {
    begin(&world).await;
    world.crash(&[3], false).await;
    let mut next = world.ledger.chain.members.clone();
    next.epoch = 1;
    next.members.push(world.ledger.newcomer(5));
    next.policy.as_mut().unwrap().threshold = 4;
    accepted(&world, &next, &[1, 2, 4]).await?;
    world.add(5);
    world.start(5).await.unwrap();
    until(&world, "five is a voter", |w| {
        agreed(w, 1, &[1, 2, 3, 4, 5])
    })
    .await?;
    world.start(3).await.unwrap();
    let five_leads = |w: &World| {
        w.core(3)
            .is_some_and(|core| core.epochs().borrow().newest().epoch == 1)
    };
    until(&world, "three knows of five", five_leads).await?;
    world.settle().await
}
