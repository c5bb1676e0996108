//! The story that most seeds tell: clients that never stop, and one fault after another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_consensus::Core;
use tokio::time::Instant;

use crate::invariants::{
    Violation, acknowledged_is_never_lost, no_two_certified_headers_conflict, same_log_same_roots,
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

/// What one storm left behind.
#[derive(Debug)]
pub struct Outcome {
    pub acknowledged: usize,
    pub certified: usize,
    /// Copies that took the place of a state, of the nodes that run at the end.
    pub installs: u64,
    pub events: u64,
}

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

pub async fn storm(world: Arc<World>) -> Result<Outcome, Violation> {
    begin(&world).await;
    let oracle = Oracle::default();
    let until = Instant::now() + STORM;
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|name| {
            let rng = world.rng.fork();
            tokio::spawn(oracle.clone().client(world.clone(), name, rng, until))
        })
        .collect();
    let faults = world.rng.fork();
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(faults.between(100, 1500))).await;
        fault(&world, &faults).await?;
    }
    for client in clients {
        client.await.unwrap();
    }
    world.settle().await?;
    check(&world, &oracle)?;
    Ok(Outcome {
        acknowledged: oracle.acknowledged().len(),
        certified: world.certified().len(),
        installs: world
            .running()
            .iter()
            .map(|(_, core)| core.installs())
            .sum(),
        events: world.trace.events(),
    })
}

/// All invariants.
pub fn check(world: &World, oracle: &Oracle) -> Result<(), Violation> {
    same_log_same_roots::check(world)?;
    no_two_certified_headers_conflict::check(world)?;
    if let Some(violation) = oracle.violations().into_iter().next() {
        return Err(violation);
    }
    acknowledged_is_never_lost::check(world, &oracle.acknowledged())
}

async fn fault(world: &World, rng: &Rng) -> Result<(), Violation> {
    let all = world.ids();
    let some = || -> BTreeSet<u64> {
        let half = |_: &&u64| rng.per_mille(500);
        all.iter().filter(half).copied().collect()
    };
    match rng.between(0, 9) {
        0 | 1 => {
            if let Some(one) = rng.pick(&all) {
                world.crash(&[*one], rng.per_mille(500)).await;
            }
        }
        2 => {
            let several: Vec<u64> = some().into_iter().collect();
            world.crash(&several, rng.per_mille(500)).await;
        }
        3 if rng.per_mille(300) => world.crash(&all, true).await,
        4 => {
            let side = some();
            world.trace.event(format_args!("partition {side:?}"));
            world.wires.partition(&side, &all);
        }
        5 | 6 => {
            world.trace.event(format_args!("heal"));
            world.wires.heal();
        }
        7 => {
            let rough = rng.per_mille(500);
            world.trace.event(format_args!("rough weather: {rough}"));
            world
                .wires
                .set_weather(if rough { Weather::ROUGH } else { Weather::FAIR });
        }
        8 => {
            if let Some(one) = rng.pick(&all) {
                let skew = match rng.between(0, 5) {
                    0 if *one == DAY_OFF => 86_400_000,
                    1 if *one == DAY_OFF => -86_400_000,
                    _ => i64::try_from(rng.between(0, 1500)).unwrap_or(0) - 750,
                };
                world.set_skew(*one, skew);
            }
        }
        _ => {}
    }
    // What is down comes back sooner or later.
    for id in &all {
        if rng.per_mille(400) {
            let started = world.start(*id).await;
            started.map_err(|error| Violation(format!("{id} does not start again: {error}")))?;
        }
    }
    Ok(())
}
