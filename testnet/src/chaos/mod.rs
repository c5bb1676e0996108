//! Real processes, killed at random: what was acknowledged survives, and every node says the same.
//!
//! What holds here: a run is bounded, stops its nodes however it ends, and fails when a promise was
//! broken, with the data folder kept. Choices come from a seed that is printed; the moments at
//! which they meet a process do not.

mod client;
mod damage;
mod dice;
mod examine;
mod failover;
mod faults;
mod oracle;

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;

use crate::cairn::Cairn;
use crate::cluster::Cluster;
use crate::institutions;
use crate::layout::Layout;
use crate::plan::{self, ClusterPlan};
use crate::programs::Programs;
use crate::steps::{count, thousands};

use client::Client;
use dice::Dice;
use oracle::Oracle;

/// Until everything that was healed must be certified again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Milliseconds that a writer rests at most: some hundred entries a second of all writers.
const WRITERS_REST: u64 = 60;

const AFTER_HELP: &str = "\
Examples:
  testnet/chaos                       200 kills under load, then 30 times the leader
  testnet/chaos --kills 20 --seed 7
  testnet/chaos --damage              flip bits in a stopped node's files, 1000 times
  testnet/chaos --damage --flips 0    every byte of every file, hours";

/// What chaos takes.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// How many processes are killed with SIGKILL
    #[arg(long, default_value_t = 200, value_name = "N")]
    kills: u32,
    /// How many times the leader is killed to measure how soon something is certified again
    #[arg(long, default_value_t = 30, value_name = "N")]
    failovers: u32,
    /// Clients that write all the time
    #[arg(long, default_value_t = 8, value_name = "N")]
    writers: u32,
    /// How many institutions run a node: 3, 4, 5 or 7
    #[arg(long, default_value = "4", value_name = "N", value_parser = institutions::parse_count)]
    nodes: usize,
    /// Damage a stopped node's files instead of killing
    #[arg(long)]
    damage: bool,
    /// How many times a file is damaged; 0: a bit in every byte of every file
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    flips: u64,
    /// Repeats the choices of another run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Runs it in `layout`, whose folder it replaces.
pub async fn run(layout: Layout, options: Options) -> anyhow::Result<()> {
    let programs = Programs::find()?;
    if let Some(plan) = ClusterPlan::load(&layout)? {
        let cluster = Cluster::new(&layout, &programs, plan)?;
        let mut ids = cluster.plan.nodes.iter().map(|node| node.raft_id);
        if ids.any(|id| cluster.pid(id).is_some()) {
            bail!(
                "the last run's nodes are still there; stop them first: testnet/down {}",
                layout.name()
            );
        }
    }
    layout.delete()?;
    std::fs::create_dir_all(layout.root())
        .with_context(|| format!("cannot make {}", layout.root().display()))?;
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no random seed: {error}"))?;
    let seed = options.seed.unwrap_or(u32::from_be_bytes(random).into());
    println!("seed {seed}");

    let cairn = Cairn::offline(&programs.cairn, layout.root(), &layout.commands_log());
    let institutions = institutions::of(options.nodes);
    let plan = plan::prepare(&layout, &cairn, &institutions, None).await?;
    let mut cluster = Cluster::new(&layout, &programs, plan)?;
    let done = tokio::select! {
        done = under_way(&mut cluster, &layout, &programs, &options, seed) => done,
        () = crate::demo::interrupted() => Err(anyhow!("interrupted")),
    };
    let nodes = cluster.ended().unwrap_or_default();
    faults::resume_all(&cluster);
    let stopped = cluster.stop_all().await;
    if let Err(error) = done {
        let root = layout.root().display();
        bail!("{error:#}{nodes}\nchaos failed with seed {seed}; databases and logs are in {root}");
    }
    stopped.context("stopping the cluster")?;
    layout.delete()
}

async fn under_way(
    cluster: &mut Cluster,
    layout: &Layout,
    programs: &Programs,
    options: &Options,
    seed: u64,
) -> anyhow::Result<()> {
    let dice = Dice::new(seed);
    let nodes = cluster.plan.nodes.iter();
    let nodes: Vec<_> = nodes.map(|node| (node.raft_id, node.ports.grpc)).collect();
    cluster.start_all().await?;
    cluster.form().await?;
    let client = Client::new(&layout.genesis(), &layout.key("organiser"), &nodes)?;
    if options.damage {
        return damage::run(cluster, layout, programs, &client, &dice, options.flips).await;
    }
    let oracle = Oracle::new();
    kill(cluster, &client, &oracle, &dice, options).await?;
    settle(cluster, &client, &oracle, &dice).await?;
    if options.failovers > 0 {
        failover::measure(cluster, &client, &oracle, &dice, options.failovers).await?;
        settle(cluster, &client, &oracle, &dice).await?;
    }
    Ok(())
}

/// Kills under load.
async fn kill(
    cluster: &mut Cluster,
    client: &Client,
    oracle: &Oracle,
    dice: &Dice,
    options: &Options,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..options.writers {
        writers.spawn(
            client
                .clone()
                .write(dice.fork(), oracle.clone(), WRITERS_REST),
        );
    }
    let faults = tokio::select! {
        faults = faults::storm(cluster, oracle, dice, options.kills) => faults?,
        Some(ended) = writers.join_next() => {
            ended??;
            bail!("a writer ended")
        }
    };
    writers.shutdown().await;
    println!(
        "{} survived, {} of all nodes at once; {}; {} acknowledged in {:.0} s; \
         longest time without a certified write {:.1} s",
        count(faults.kills.into(), "kill -9", "kills -9"),
        faults.all_at_once,
        count(faults.pauses.into(), "SIGSTOP", "SIGSTOPs"),
        count(oracle.acknowledged() as u64, "entry", "entries"),
        began.elapsed().as_secs_f64(),
        oracle.longest_gap().as_secs_f64(),
    );
    Ok(())
}

/// After all faults: something new is certified, every node has everything, all say the same.
async fn settle(
    cluster: &mut Cluster,
    client: &Client,
    oracle: &Oracle,
    dice: &Dice,
) -> anyhow::Result<()> {
    cluster.start_all().await?;
    let ids: Vec<u64> = cluster.plan.nodes.iter().map(|node| node.raft_id).collect();
    client.certified(&ids, dice, oracle, PATIENCE).await?;
    let told = oracle.all();
    let height = told.iter().map(|told| told.height).max().unwrap_or(0);
    cluster.caught_up(height).await?;
    oracle.consistent()?;
    let mut headers = Vec::new();
    for id in ids {
        let mut ledger = client.ledger(id)?;
        let checked = oracle::check(&mut ledger, &client.chain, &told).await;
        headers.push((id, checked.with_context(|| format!("node {id}"))?));
    }
    let blocks = oracle::same_headers(&headers)?;
    println!(
        "checked: {} in their places with proofs on {} nodes, {} blocks with equal headers",
        count(
            told.len() as u64,
            "acknowledged entry",
            "acknowledged entries"
        ),
        headers.len(),
        thousands(blocks as u64),
    );
    Ok(())
}
