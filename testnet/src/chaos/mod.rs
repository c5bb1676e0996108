//! Real processes, killed, cut off or without space: what was acknowledged survives, and every node
//! says the same.
//!
//! What holds here: a run is bounded, stops its nodes however it ends, and fails when a promise was
//! broken, with the data folder kept. Choices come from a seed that is printed; the moments at
//! which they meet a process do not. Namespaces and mounts go with the run, or with the next one.

mod client;
mod cuts;
mod damage;
mod dice;
mod disk;
mod examine;
mod failover;
mod faults;
mod full;
mod grow;
mod net;
mod oracle;
mod proxy;
mod rolling;
mod times;

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::{ArgGroup, Args};

use crate::cairn::Cairn;
use crate::cluster::{self, Cluster};
use crate::institutions;
use crate::layout::Layout;
use crate::plan;
use crate::ports;
use crate::programs::Programs;
use crate::signals::interrupted;
use crate::steps::{count, thousands};

use client::Client;
use dice::Dice;
use disk::SmallDisk;
use net::Net;
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
  testnet/chaos --damage --flips 0    every byte of every file, hours
  testnet/chaos --cuts 60             cut, one-way, lossy and slow lines; root, iproute2, nftables
  testnet/chaos --full-disk           a follower's disk fills up, then the leader's; root
  testnet/chaos --rolling 5           each node in turn is stopped and started, 5 times
  testnet/chaos --grow 1000000        restarts and an empty node's catch-up, with figures";

/// What a run does instead of killing: one of them.
const INSTEAD: [&str; 5] = ["damage", "cuts", "full_disk", "rolling", "grow"];

/// What chaos takes.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP, group = ArgGroup::new("instead").args(INSTEAD))]
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
    /// Cut the lines between nodes so many times instead; each node in a network namespace
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cuts: Option<u32>,
    /// Let a follower's disk and then the leader's fill up instead; small file systems are mounted
    #[arg(long)]
    full_disk: bool,
    /// Stop and start each node in turn so many times instead, with SIGTERM
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rolling: Option<u32>,
    /// Measure restarts and a catch-up while the ledger grows to so many entries instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    grow: Option<u64>,
    /// With --grow: nodes keep a copy of their state after so many MiB of proposals, not their default
    #[arg(long, value_name = "MIB", requires = "grow")]
    copies: Option<u64>,
    /// Repeats the choices of another run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// What a run makes outside of its folder; it goes with this.
struct Made {
    net: Option<Net>,
    disks: Vec<SmallDisk>,
}

/// Runs it in `layout`, whose folder it replaces.
pub async fn run(layout: Layout, options: Options) -> anyhow::Result<()> {
    let programs = Programs::find()?;
    if options.full_disk {
        disk::available()?;
    }
    // First of all: threads that begin later begin where this one is.
    let ids = institutions::of(options.nodes).into_iter();
    let ids: Vec<u64> = ids.map(|institution| institution.raft_id).collect();
    let net = options.cuts.map(|_| Net::make(&ids)).transpose()?;
    disk::sweep(layout.root())?;
    cluster::clear(&layout, &programs)?;
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| anyhow!("no random seed: {error}"))?;
    let seed = options.seed.unwrap_or(u32::from_be_bytes(random).into());
    println!("seed {seed}");

    let cairn = Cairn::offline(&programs.cairn, layout.root(), &layout.commands_log());
    let institutions = institutions::of(options.nodes);
    let ports = match &net {
        Some(net) => net.ports(),
        None => ports::choose(institutions.len())?,
    };
    let plan = plan::prepare(&layout, &cairn, &institutions, ports, None).await?;
    let mut cluster = Cluster::new(&layout, &programs, plan)?;
    for &id in ids.iter().filter(|_| net.is_some()) {
        cluster.run_within(id, Net::within(id))?;
    }
    let disks = Vec::new();
    let mut made = Made { net, disks };
    let done = tokio::select! {
        done = under_way(&mut cluster, &layout, &programs, &options, seed, &mut made) => done,
        () = interrupted() => Err(anyhow!("interrupted")),
    };
    let nodes = cluster.ended().unwrap_or_default();
    faults::resume_all(&cluster);
    let stopped = cluster.stop_all().await;
    drop(made);
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
    made: &mut Made,
) -> anyhow::Result<()> {
    let dice = Dice::new(seed);
    let oracle = Oracle::new();
    let nodes = cluster.plan.nodes.iter();
    let nodes: Vec<_> = nodes.map(|node| (node.raft_id, node.ports.grpc)).collect();
    let client = Client::new(&layout.genesis(), &layout.key("organiser"), &nodes)?;
    if let Some(entries) = options.grow {
        let (knows, sizes) = ((&oracle, &dice), (entries, options.copies));
        return grow::run(cluster, layout, &client, knows, sizes).await;
    }
    cluster.start_all().await?;
    cluster.form().await?;
    if options.damage {
        return damage::run(cluster, layout, programs, &client, &dice, options.flips).await;
    }
    if let (Some(net), Some(rounds)) = (&made.net, options.cuts) {
        cut(
            cluster,
            &client,
            layout,
            (net, &oracle, &dice),
            (rounds, options.writers),
        )
        .await?;
    } else if options.full_disk {
        for leads in [false, true] {
            let (knows, disks) = ((&oracle, &dice), &mut made.disks);
            full::run(cluster, layout, &client, knows, disks, leads).await?;
        }
    } else if let Some(rounds) = options.rolling {
        let bounds = (rounds, options.writers);
        rolling::run(cluster, &client, (&oracle, &dice), bounds).await?;
    } else {
        kill(cluster, &client, &oracle, &dice, options).await?;
        settle(cluster, &client, &oracle, &dice).await?;
        if options.failovers > 0 {
            failover::measure(cluster, &client, &oracle, &dice, options.failovers).await?;
        }
    }
    settle(cluster, &client, &oracle, &dice).await
}

/// Cuts lines, and then slows them down, under load.
async fn cut(
    cluster: &mut Cluster,
    client: &Client,
    layout: &Layout,
    (net, oracle, dice): (&Net, &Oracle, &Dice),
    (rounds, writers): (u32, u32),
) -> anyhow::Result<()> {
    let began = Instant::now();
    let slow = cuts::slow_rounds(rounds);
    let knows = (net, oracle, dice);
    let cut = cuts::storm(cluster, client, knows, rounds);
    under_load(client, oracle, dice, writers, cut)
        .await?
        .print();
    println!(
        "{} healed; {} acknowledged in {:.0} s; longest time without a certified write {:.1} s",
        count(rounds.into(), "cut", "cuts"),
        count(oracle.acknowledged() as u64, "entry", "entries"),
        began.elapsed().as_secs_f64(),
        oracle.longest_gap().as_secs_f64(),
    );
    settle(cluster, client, oracle, dice).await?;
    let slowed = cuts::slow(cluster, client, layout, knows, slow);
    let (by, measured) = under_load(client, oracle, dice, writers, slowed).await?;
    measured.print();
    println!(
        "{} by {by}",
        count(slow.into(), "slow round", "slow rounds")
    );
    Ok(())
}

/// Writes all the time while something else goes on.
async fn under_load<T>(
    client: &Client,
    oracle: &Oracle,
    dice: &Dice,
    writers: u32,
    what: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..writers {
        let client = client.clone();
        tasks.spawn(client.write(dice.fork(), oracle.clone(), WRITERS_REST));
    }
    let done = tokio::select! {
        done = what => done?,
        Some(ended) = tasks.join_next() => {
            ended??;
            bail!("a writer ended")
        }
    };
    tasks.shutdown().await;
    Ok(done)
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
    let storm = faults::storm(cluster, oracle, dice, options.kills);
    let faults = under_load(client, oracle, dice, options.writers, storm).await?;
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
