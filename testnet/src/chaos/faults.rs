//! What happens to the processes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::dice::Dice;
use super::oracle::Oracle;
use crate::cluster::Cluster;
use crate::steps::thousands;

/// With all nodes up, something must be certified within this time.
const PROGRESS: Duration = Duration::from_secs(45);
/// A run that takes longer than this for each kill hangs.
const PER_KILL: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// How often the storm pauses until something was certified again.
const BREATHE: u32 = 8;

/// What was done.
#[derive(Debug, Default)]
pub struct Faults {
    pub kills: u32,
    pub all_at_once: u32,
    pub pauses: u32,
}

/// Kills at least so many processes, and starts them again.
pub async fn storm(
    cluster: &mut Cluster,
    oracle: &Oracle,
    dice: &Dice,
    kills: u32,
) -> anyhow::Result<Faults> {
    let all: Vec<u64> = cluster.plan.nodes.iter().map(|node| node.raft_id).collect();
    let began = Instant::now();
    let mut done = Faults::default();
    let mut said = 0;
    for round in 1.. {
        if done.kills >= kills {
            break;
        }
        if began.elapsed() > PROGRESS + PER_KILL * kills {
            bail!("{} of {kills} kills in {:?}", done.kills, began.elapsed());
        }
        fault(cluster, &all, dice, &mut done).await?;
        oracle.consistent()?;
        if round % BREATHE == 0 {
            progress(cluster, oracle).await?;
        }
        if done.kills / 25 > said {
            said = done.kills / 25;
            let entries = thousands(oracle.acknowledged() as u64);
            eprintln!(
                "  {} of {kills} kills, {entries} entries acknowledged",
                done.kills
            );
        }
    }
    progress(cluster, oracle).await?;
    Ok(done)
}

async fn fault(
    cluster: &mut Cluster,
    all: &[u64],
    dice: &Dice,
    done: &mut Faults,
) -> anyhow::Result<()> {
    let one = dice.pick(all).copied().unwrap_or(1);
    let victims: BTreeSet<u64> = match dice.below(10) {
        // A process that stands still, also the leader, and goes on as if nothing had been.
        0 | 1 => {
            let one = match dice.below(2) {
                0 => cluster.leader().await?,
                _ => one,
            };
            signal(cluster, one, Signal::STOP)?;
            done.pauses += 1;
            sleep(dice.millis(4_000)).await;
            signal(cluster, one, Signal::CONT)?;
            return Ok(());
        }
        2 => all.iter().copied().collect(),
        3 => all.iter().copied().filter(|_| dice.below(2) == 0).collect(),
        4 => [cluster.leader().await?].into(),
        _ => [one].into(),
    };
    if victims.len() == all.len() {
        done.all_at_once += 1;
    }
    if let Some(words) = cluster.ended() {
        bail!("a node ended by itself:{words}");
    }
    for &id in &victims {
        cluster.kill(id)?;
        done.kills += 1;
    }
    sleep(dice.millis(1_200)).await;
    for &id in &victims {
        cluster.spawn(id)?;
        // Sometimes again, while it opens its databases or replays.
        if dice.below(4) == 0 {
            sleep(dice.millis(400)).await;
            cluster.kill(id)?;
            done.kills += 1;
            cluster.spawn(id)?;
        }
    }
    sleep(dice.millis(1_500)).await;
    Ok(())
}

/// Waits until something is certified that was not before.
async fn progress(cluster: &mut Cluster, oracle: &Oracle) -> anyhow::Result<()> {
    let (began, before) = (Instant::now(), oracle.last_certified());
    while oracle.last_certified() == before {
        if let Some(words) = cluster.ended() {
            bail!("a node ended by itself:{words}");
        }
        if began.elapsed() > PROGRESS {
            bail!("all nodes run, and nothing was certified in {PROGRESS:?}");
        }
        sleep(LOOK).await;
    }
    Ok(())
}

fn signal(cluster: &Cluster, raft_id: u64, signal: Signal) -> anyhow::Result<()> {
    let pid = cluster.pid(raft_id).and_then(|pid| i32::try_from(pid).ok());
    match pid.and_then(Pid::from_raw) {
        Some(pid) => Ok(kill_process(pid, signal)?),
        None => bail!("node {raft_id} does not run"),
    }
}

/// Lets every process go on that was stopped: a stopped one does not end.
pub fn resume_all(cluster: &Cluster) {
    for node in &cluster.plan.nodes {
        let _ = signal(cluster, node.raft_id, Signal::CONT);
    }
}
