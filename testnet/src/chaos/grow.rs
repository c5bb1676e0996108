//! A ledger that grows: how long a restart takes, and the catch-up of a node that has nothing.
//!
//! What holds here: figures, printed beside what the same machine takes for the bare work; none of
//! them fails a run. One member is not started until the end: its folder is empty then.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::Client;
use super::dice::Dice;
use super::oracle::Oracle;
use crate::admin::peak_memory;
use crate::cluster::Cluster;
use crate::layout::{Layout, bytes_below};
use crate::steps::thousands;

/// Entries are handed in by so many streams, in portions of so many.
const STREAMS: usize = 3;
const PORTION: u64 = 2_000;
/// Sizes of the ledger at which restarts are measured: the end, and these parts of it.
const PARTS: [u64; 4] = [100, 10, 3, 1];
/// A restart is measured so many times at each size: after SIGTERM, and after SIGKILL.
const RESTARTS: usize = 3;
/// For a portion, and until what was written is certified.
const PATIENCE: Duration = Duration::from_secs(60);
/// Fills and catches up at this rate at least, in entries a second, or hangs.
const SLOWEST: u64 = 200;
/// Between two lines that say how far it is.
const SAID_EVERY: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
const KIB: u64 = 1_024;

/// Grows the ledger to so many entries. `copies`: MiB of proposals between copies of the state.
pub async fn run(
    cluster: &mut Cluster,
    layout: &Layout,
    client: &Client,
    (oracle, dice): (&Oracle, &Dice),
    (entries, copies): (u64, Option<u64>),
) -> anyhow::Result<()> {
    let all: Vec<u64> = cluster.plan.nodes.iter().map(|node| node.raft_id).collect();
    ensure!(
        !cluster.needs_all()?,
        "without one of {} nodes nothing is certified; take --nodes 4 or more",
        all.len()
    );
    let (&late, early) = all.split_last().context("no nodes")?;
    if let Some(mib) = copies {
        for &id in &all {
            let path = layout.node_config(id);
            let text = fs::read_to_string(&path)?;
            fs::write(&path, format!("{text}\n[copies]\nevery_mib = {mib}\n"))?;
        }
    }
    for &id in early {
        cluster.start(id).await?;
    }
    cluster.form().await?;
    client.certified(early, dice, oracle, PATIENCE).await?;

    let mut there = 1;
    println!("entries       filled/s  folder MiB   stop s   start s   start after kill s");
    for part in PARTS {
        let target = (entries / part).max(1);
        let began = Instant::now();
        let added = target.saturating_sub(there);
        fill(client, dice, early, added).await?;
        there += added;
        let rate = added as f64 / began.elapsed().as_secs_f64();
        let height = certified(cluster, client, (oracle, dice), early).await?;
        restarts(cluster, layout, early, (there, rate, height)).await?;
    }

    let source = *early.first().context("no nodes")?;
    let peak = cluster.pid(source).and_then(peak_memory).unwrap_or(0);
    let height = certified(cluster, client, (oracle, dice), early).await?;
    let began = Instant::now();
    cluster.start(late).await?;
    let bound = PATIENCE + Duration::from_secs(entries / SLOWEST);
    let mut said = Instant::now();
    loop {
        let status = cluster.admin(late)?.status().await;
        let at = status.map(|status| status.certified_height).unwrap_or(0);
        if at >= height {
            break;
        }
        if began.elapsed() > bound {
            bail!("node {late} is at block {at} of {height} after {bound:?}");
        }
        if said.elapsed() > SAID_EVERY {
            said = Instant::now();
            eprintln!("  node {late} is at block {at} of {height}");
        }
        sleep(LOOK).await;
    }
    let caught_up = began.elapsed();
    let by = match cluster
        .words(late)?
        .contains("a copy of the state was installed")
    {
        true => "a copy of the state and the log behind it",
        false => "the log alone",
    };
    let late_peak = cluster.pid(late).and_then(peak_memory).unwrap_or(0);
    // A node that runs deletes what it has compacted while it is copied.
    cluster.stop(late).await?;
    let (copied, bytes) = copy(&layout.node_data(late), &layout.root().join("copied"))?;
    println!(
        "catch-up of an empty node at {} entries, by {by}: {:.1} s; copying the {:.0} MiB that it \
         then has, with fsync: {:.1} s; ratio {:.1}; most memory of the node that caught up \
         {:.0} MiB, of node {source} {:.0} MiB",
        thousands(there),
        caught_up.as_secs_f64(),
        mib(bytes),
        copied.as_secs_f64(),
        caught_up.as_secs_f64() / copied.as_secs_f64(),
        mib(late_peak),
        mib(peak),
    );
    Ok(())
}

/// A write at the end of all; its height, which all early nodes have.
async fn certified(
    cluster: &mut Cluster,
    client: &Client,
    (oracle, dice): (&Oracle, &Dice),
    early: &[u64],
) -> anyhow::Result<u64> {
    client.certified(early, dice, oracle, PATIENCE).await?;
    let height = oracle.all().iter().map(|told| told.height).max();
    let height = height.context("nothing was certified")?;
    for &id in early {
        cluster.node_caught_up(id, height).await?;
    }
    Ok(height)
}

/// Restarts one that does not lead, and prints how long that took.
async fn restarts(
    cluster: &mut Cluster,
    layout: &Layout,
    early: &[u64],
    (entries, rate, height): (u64, f64, u64),
) -> anyhow::Result<()> {
    let leader = cluster.leader().await?;
    let id = *early.iter().find(|id| **id != leader).context("no nodes")?;
    let (mut stops, mut starts, mut kills) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        let began = Instant::now();
        cluster.stop(id).await?;
        stops.push(began.elapsed());
        let began = Instant::now();
        cluster.start(id).await?;
        starts.push(began.elapsed());
        cluster.node_caught_up(id, height).await?;
        cluster.kill(id)?;
        let began = Instant::now();
        cluster.start(id).await?;
        kills.push(began.elapsed());
        cluster.node_caught_up(id, height).await?;
    }
    let median = |times: &[Duration]| super::times::median_and_worst(times).0.as_secs_f64();
    println!(
        "{:<12} {rate:>9.0} {:>11.0} {:>8.2} {:>9.2} {:>20.2}",
        thousands(entries),
        mib(bytes_below(&layout.node_data(id))),
        median(&stops),
        median(&starts),
        median(&kills),
    );
    Ok(())
}

/// Hands in so many small entries; every one was promised when this returns.
async fn fill(client: &Client, dice: &Dice, nodes: &[u64], entries: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let there = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for (number, &at) in nodes.iter().cycle().take(STREAMS).enumerate() {
        let share = (entries + number as u64) / STREAMS as u64;
        tasks.spawn(hand_in(
            client.clone(),
            at,
            dice.fork(),
            share,
            there.clone(),
        ));
    }
    let bound = PATIENCE + Duration::from_secs(entries / SLOWEST);
    let all = async {
        loop {
            match tokio::time::timeout(SAID_EVERY, tasks.join_next()).await {
                Ok(Some(done)) => done??,
                Ok(None) => return Ok(()),
                Err(_) => eprintln!(
                    "  {} of {} more entries",
                    thousands(there.load(Ordering::Relaxed)),
                    thousands(entries)
                ),
            }
        }
    };
    let done = tokio::time::timeout(bound, all).await;
    let took = began.elapsed();
    done.with_context(|| format!("{} entries in {took:?}", thousands(entries)))?
}

async fn hand_in(
    client: Client,
    at: u64,
    dice: Dice,
    entries: u64,
    there: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let mut left = entries;
    while left > 0 {
        let size = left.min(PORTION);
        let (signer, own) = (client.clone(), dice.fork());
        let portion = tokio::task::spawn_blocking(move || {
            let portion = (0..size).map(|_| signer.entry_with(&own, ""));
            portion.collect::<Vec<_>>()
        });
        let portion = portion.await?;
        let mut done = 0;
        while done < portion.len() {
            let (more, ended) = client.stream(at, &portion[done..], None).await?;
            done += more;
            there.fetch_add(more as u64, Ordering::Relaxed);
            if ended.is_some() {
                sleep(LOOK).await;
            }
        }
        left -= size;
    }
    Ok(())
}

/// Copies all files below a folder into one folder, each with its fsync: the bare work.
fn copy(from: &Path, to: &Path) -> anyhow::Result<(Duration, u64)> {
    fs::create_dir(to)?;
    let began = Instant::now();
    let (mut bytes, mut number) = (0, 0);
    let mut folders = vec![from.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let target = to.join(number.to_string());
            bytes += fs::copy(&path, &target)?;
            File::open(&target)?.sync_all()?;
            number += 1;
        }
    }
    File::open(to)?.sync_all()?;
    Ok((began.elapsed(), bytes))
}

fn mib(bytes: u64) -> f64 {
    (bytes / KIB) as f64 / KIB as f64
}
