//! Each node in turn is stopped and started, as an upgrade does it, under load.
//!
//! What holds here: a client that knows nothing of it hands every write in at some node, and once
//! more at the next one if that fails; no write needs more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use cairn_proto::v1;
use tokio::task::JoinSet;

use super::client::Client;
use super::dice::Dice;
use super::oracle::Oracle;
use super::times::median_and_worst;
use crate::cluster::Cluster;
use crate::steps::{count, thousands};

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    times: Vec<Duration>,
    retried: u64,
    lost: Vec<String>,
}

/// Restarts all nodes so many times.
pub async fn run(
    cluster: &mut Cluster,
    client: &Client,
    (oracle, dice): (&Oracle, &Dice),
    (rounds, writers): (u32, u32),
) -> anyhow::Result<()> {
    ensure!(
        !cluster.needs_all()?,
        "while one of {} nodes is stopped nothing is certified; take --nodes 4 or more",
        cluster.plan.nodes.len()
    );
    let all: Vec<u64> = cluster.plan.nodes.iter().map(|node| node.raft_id).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..writers {
        let (oracle, stop) = (oracle.clone(), stop.clone());
        clients.spawn(write(
            client.clone(),
            all.clone(),
            oracle,
            dice.fork(),
            stop,
        ));
    }
    let (mut restarts, mut leaders, mut stops) = (0, 0, Vec::new());
    for round in 0..rounds {
        for &id in &all {
            leaders += u64::from(cluster.leader().await? == id);
            let began = Instant::now();
            let code = cluster.stop(id).await?;
            ensure!(
                code == Some(0),
                "node {id} ended with {code:?} after SIGTERM"
            );
            stops.push(began.elapsed());
            cluster.start(id).await?;
            let height = oracle.all().iter().map(|told| told.height).max();
            cluster.node_caught_up(id, height.unwrap_or(0)).await?;
            restarts += 1;
        }
        oracle.consistent()?;
        eprintln!("  {} of {rounds} rounds", round + 1);
    }
    stop.store(true, Ordering::Relaxed);
    let mut seen = Seen::default();
    while let Some(one) = clients.join_next().await {
        let one = one??;
        seen.times.extend(one.times);
        seen.retried += one.retried;
        seen.lost.extend(one.lost);
    }
    let (median, worst) = median_and_worst(&seen.times);
    println!(
        "{}, {leaders} of leaders: {} certified writes, {} retried once, {} failed twice; \
         median {:.3} s, slowest {:.2} s; slowest stop {:.2} s",
        count(restarts, "restart", "restarts"),
        thousands(seen.times.len() as u64),
        thousands(seen.retried),
        seen.lost.len(),
        median.as_secs_f64(),
        worst.as_secs_f64(),
        median_and_worst(&stops).1.as_secs_f64(),
    );
    match seen.lost.first() {
        Some(first) => bail!("a write needed more than one retry: {first}"),
        None => Ok(()),
    }
}

async fn write(
    client: Client,
    nodes: Vec<u64>,
    oracle: Oracle,
    dice: Dice,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    let first = usize::try_from(dice.below(nodes.len() as u64))?;
    for turn in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (at, next) = (nodes[turn % nodes.len()], nodes[(turn + 1) % nodes.len()]);
        let (signed, told) = client.entry(&dice);
        let wait_for = v1::WaitFor::Certified;
        let began = Instant::now();
        if let Err(why) = client.hand_in(at, &signed, told, wait_for, &oracle).await? {
            seen.retried += 1;
            let again = client
                .hand_in(next, &signed, told, wait_for, &oracle)
                .await?;
            if let Err(second) = again {
                seen.lost
                    .push(format!("node {at}: {why}; node {next}: {second}"));
            }
        }
        seen.times.push(began.elapsed());
    }
    Ok(seen)
}
