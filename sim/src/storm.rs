//! The story that most seeds tell: clients that never stop, and one fault after another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_consensus::Core;
use tokio::time::Instant;

use crate::fuses::{Fuse, Moment};
use crate::invariants::{
    Violation, a_chain_only_grows, acknowledged_is_never_lost, no_altered_proof_is_believed,
    no_two_certified_headers_conflict, same_log_same_roots,
};
use crate::oracle::Oracle;
use crate::rng::Rng;
use crate::wires::Weather;
use crate::world::World;

/// How long it storms, in simulated time.
const STORM: Duration = Duration::from_secs(25);
const CLIENTS: u64 = 3;
/// The one member whose clock may jump a day. Were there two of four, both could hold a proposal
/// from the future that nobody else accepts, and no other member could win an election: safe, but
/// stuck until that future has come.
const DAY_OFF: u64 = 2;

/// Forms the cluster and waits until every node knows who leads and the genesis is certified.
pub async fn begin(world: &World) {
    world.start_all().await;
    let first = world.core(1).unwrap();
    first.initialize().await.unwrap();
    let formed = async {
        let ready = |core: &Core| core.status().leader.is_some() && core.view().is_some();
        while !world.running().iter().all(|(_, core)| ready(core)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), formed)
        .await
        .expect("a fresh cluster elects a leader and certifies its genesis");
}

pub async fn storm(world: Arc<World>) -> Result<u64, Violation> {
    begin(&world).await;
    let oracle = Oracle::default();
    storm_for(&world, &oracle, STORM).await?;
    world.settle().await?;
    check(&world, &oracle)?;
    Ok(oracle.acknowledged().len() as u64)
}

/// Clients and faults, and nothing is healed afterwards.
pub async fn storm_for(
    world: &Arc<World>,
    oracle: &Oracle,
    long: Duration,
) -> Result<(), Violation> {
    let until = Instant::now() + long;
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|name| {
            let rng = world.rng.fork();
            // A name of its own in each storm.
            let name = world.rng.next() & !0xf | name;
            tokio::spawn(oracle.clone().client(world.clone(), name, rng, until))
        })
        .collect();
    let faults = world.rng.fork();
    while Instant::now() < until {
        let pause = Duration::from_millis(faults.between(100, 1500));
        tokio::select! {
            biased;
            () = world.wires.fuses.blown() => world.reap_blown().await,
            () = tokio::time::sleep(pause) => {}
        }
        fault(world, &faults).await?;
        world.notes.check()?;
        if let Some(violation) = oracle.violations().into_iter().next() {
            return Err(violation);
        }
    }
    for client in clients {
        client.await.unwrap();
    }
    Ok(())
}

/// All invariants.
pub fn check(world: &World, oracle: &Oracle) -> Result<(), Violation> {
    same_log_same_roots::check(world)?;
    a_chain_only_grows::check(world)?;
    no_two_certified_headers_conflict::check(world)?;
    if let Some(violation) = oracle.violations().into_iter().next() {
        return Err(violation);
    }
    let acknowledged = oracle.acknowledged();
    acknowledged_is_never_lost::check(world, &acknowledged)?;
    let mut running = world.running().into_iter();
    let whole = running.find(|(id, _)| !world.is_damaged(*id));
    match (whole, acknowledged.first()) {
        (Some((_, core)), Some(told)) => {
            no_altered_proof_is_believed::check(world, &core, told.leaf_index)
        }
        _ => Ok(()),
    }
}

async fn fault(world: &World, rng: &Rng) -> Result<(), Violation> {
    let all = world.ids();
    let notes = &world.notes;
    let some = || -> BTreeSet<u64> {
        let half = |_: &&u64| rng.per_mille(500);
        all.iter().filter(half).copied().collect()
    };
    let one = *rng.pick(&all).unwrap();
    match rng.between(0, 14) {
        0 | 1 => world.crash(&[one], rng.per_mille(500)).await,
        2 => {
            let several: Vec<u64> = some().into_iter().collect();
            world.crash(&several, rng.per_mille(500)).await;
        }
        3 if rng.per_mille(300) => world.crash(&all, true).await,
        4 => {
            let side = some();
            notes.fault("partition");
            world.trace.event(format_args!("partition {side:?}"));
            world.wires.partition(&side, &all);
        }
        5 | 6 => {
            world.trace.event(format_args!("heal"));
            world.wires.heal();
        }
        7 => {
            let rough = rng.per_mille(500);
            if rough {
                notes.fault("rough weather");
            }
            world.trace.event(format_args!("rough weather: {rough}"));
            world
                .wires
                .set_weather(if rough { Weather::ROUGH } else { Weather::FAIR });
        }
        8 => {
            let skew = match rng.between(0, 5) {
                0 if one == DAY_OFF => 86_400_000,
                1 if one == DAY_OFF => -86_400_000,
                _ => i64::try_from(rng.between(0, 1500)).unwrap_or(0) - 750,
            };
            notes.fault("clock");
            world.set_skew(one, skew);
        }
        9 => {
            let to = *rng.pick(&all).unwrap();
            notes.fault("one-way cut");
            world.trace.event(format_args!("cut {one}>{to}"));
            world.wires.cut_one_way(one, to);
        }
        10 => world.fail_next_sync(one),
        11 => {
            let leader = world.leader().filter(|_| rng.per_mille(500));
            world.set_full(leader.unwrap_or(one), true);
        }
        12 if rng.per_mille(500) => {
            notes.fault("power fails before a cosignature leaves");
            let moment = Moment::Cosigning;
            let node = Some(one);
            world.wires.fuses.set(Fuse { node, moment });
        }
        // Whoever is behind next: installs are rare, and their instants matter most.
        12 => {
            let moment = *rng.pick(&Moment::INSTALL).unwrap();
            world.wires.fuses.set(Fuse { node: None, moment });
        }
        // Of three members all have to cosign.
        13 if all.len() > 3
            && !all.iter().any(|id| world.is_damaged(*id))
            && rng.per_mille(300) =>
        {
            world.damage(one, rng);
        }
        _ => {}
    }
    // What is down comes back sooner or later, and space is found.
    for id in &all {
        if rng.per_mille(300) && world.is_full(*id) {
            world.set_full(*id, false);
        }
    }
    if rng.per_mille(600) {
        world.reap().await;
    }
    for id in &all {
        if rng.per_mille(400) {
            world.try_start(*id).await?;
        }
    }
    Ok(())
}
