//! The demo: a mask lottery, health codes and a document on a fresh cluster, and everything
//! verified by processes that know nothing but the chain id.
//!
//! What holds here: whatever the demo does, it does with the command `cairn` over the public gRPC;
//! every check that fails ends it with an error and a log to look at; however it ends, no node is
//! left running unless `--keep` asked for it.

mod codes;
mod crash;
mod limit;
mod lottery;
mod report;
mod story;
mod verify;

use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;

use crate::applicants;
use crate::cairn::Cairn;
use crate::cluster::{self, Cluster, Ending};
use crate::institutions;
use crate::keys::Seed;
use crate::layout::{Layout, bytes_below};
use crate::plan::{self, ClusterPlan};
use crate::ports;
use crate::programs::Programs;
use crate::signals::interrupted;
use crate::standing;
use crate::steps::{Steps, count, thousands};

use report::Report;
use story::Story;

const AFTER_HELP: &str = "\
About --seed: a real draw cannot be repeated, because nobody may know the beacon's round before
contributions are closed. With --seed the demo is a rehearsal instead: all keys, applicants, salts
and dice come from the seed, and the development beacon gives the first round of a chain that
begins in 2100, long before its time. The ledger's rules are the same, and the same seed with the
same --applicants, --winners and --nodes gives the same draw on any day and any machine. Whoever
knows the seed knows the winners beforehand, which is why no real lottery may be held like this.

Examples:
  testnet/demo
  testnet/demo --applicants 2000 --winners 300 --seed 7
  testnet/demo --kill-leader
  testnet/demo --nodes 7 --keep";

/// What the demo takes.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Options {
    /// How many people apply
    #[arg(long, default_value_t = 543_384, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub applicants: u32,
    /// How many of them win
    #[arg(long, default_value_t = 100_000, value_name = "M",
          value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    pub winners: u32,
    /// How many institutions run a node: 3, 4, 5 or 7
    #[arg(long, default_value = "4", value_name = "N", value_parser = institutions::parse_count)]
    pub nodes: usize,
    /// Rehearse: the same seed gives the same keys, the same people and the same draw
    #[arg(long, value_name = "TEXT")]
    pub seed: Option<String>,
    /// kill -9 the leader in the middle of the batch results, and start it again later
    #[arg(long)]
    pub kill_leader: bool,
    /// Leave the cluster running at the end
    #[arg(long)]
    pub keep: bool,
}

/// Runs the demo in `layout`, whose folder it replaces.
pub async fn run(layout: Layout, options: Options) -> anyhow::Result<()> {
    let programs = Programs::find()?;
    cluster::clear(&layout, &programs)?;

    println!("{}", title(&options));
    let mut steps = Steps::new();
    let prepared = tokio::select! {
        prepared = prepare(&layout, &programs, &options, &mut steps) => prepared,
        () = interrupted() => Err(anyhow!("interrupted")),
    };
    let (cairn, plan) = prepared?;
    let mut cluster = Cluster::new(&layout, &programs, plan)?;
    let mut story = Story::new(&layout, options, cairn, &cluster.plan, steps);
    let told = tokio::select! {
        told = tell(&mut story, &mut cluster) => told,
        () = interrupted() => Err(anyhow!("interrupted; the cluster was stopped")),
    };
    story.steps.calm();
    match told {
        Ok(report) => end(story, cluster, &programs, report).await,
        Err(error) => {
            let nodes = cluster.ended().unwrap_or_default();
            let stopped = cluster.stop_all().await;
            let logs = layout.root().display();
            stopped.context("stopping the cluster")?;
            bail!("{error:#}{nodes}\nThe demo failed. What it wrote, with all logs, is in {logs}")
        }
    }
}

fn title(options: &Options) -> String {
    let people = count(options.applicants.into(), "applicant", "applicants");
    let winners = count(options.winners.into(), "winner", "winners");
    let rehearsal = match &options.seed {
        Some(seed) => {
            format!("\nA rehearsal with seed \"{seed}\": repeatable, and therefore no real draw.")
        }
        None => String::new(),
    };
    format!(
        "\nA mask lottery on Cairn: {people}, {winners}, {} institutions with a node each.{rehearsal}\n",
        options.nodes
    )
}

/// Keys, genesis and the people: what happens before the cluster starts.
async fn prepare(
    layout: &Layout,
    programs: &Programs,
    options: &Options,
    steps: &mut Steps,
) -> anyhow::Result<(Cairn, ClusterPlan)> {
    let cairn = Cairn::offline(&programs.cairn, layout.root(), &layout.commands_log());
    let seed = options.seed.as_deref().map(Seed::new);
    let institutions = institutions::of(options.nodes);

    let began = Instant::now();
    steps.busy("keys and genesis", false);
    let ports = ports::choose(institutions.len())?;
    let plan = plan::prepare(layout, &cairn, &institutions, ports, seed.as_ref()).await?;
    let chain_id = &plan.chain_id;
    let detail = format!(
        "{} institutions and their offices; chain id {}…",
        institutions.len(),
        chain_id.get(..16).unwrap_or(chain_id)
    );
    steps.done_since("keys and genesis", detail, began);

    let began = Instant::now();
    steps.busy("a list of applicants", false);
    let people = seed.unwrap_or_else(|| Seed::new("")).derive("applicants");
    let csv = layout.lottery("applicants.csv");
    applicants::write_csv(&csv, options.applicants.into(), people, &[])?;
    let detail = format!(
        "{} people who do not exist, as CSV",
        thousands(options.applicants.into())
    );
    steps.done_since("applicants", detail, began);
    Ok((cairn, plan))
}

/// From the start of the cluster to the last check.
async fn tell(story: &mut Story, cluster: &mut Cluster) -> anyhow::Result<Report> {
    let began = Instant::now();
    story.steps.busy("starting the nodes", false);
    cluster.start_all().await?;
    cluster.form().await?;
    let checkpoint = story
        .cairn
        .run(crate::cairn::args!["checkpoint", "show"])
        .await?;
    let leader = cluster.leader().await?;
    let detail = format!(
        "{} processes, peers over libp2p; node {leader} leads; checkpoint {} is certified",
        cluster.plan.nodes.len(),
        checkpoint["height"]
    );
    story.steps.done_since("cluster", detail, began);

    let lottery = lottery::run(story, cluster).await?;
    let proofs = verify::run(story, cluster, &lottery).await?;
    let whole = began.elapsed();
    Report::collect(story, cluster, lottery, proofs, whole).await
}

/// Stops the cluster, or leaves it, and tells what was seen.
async fn end(
    mut story: Story,
    mut cluster: Cluster,
    programs: &Programs,
    mut report: Report,
) -> anyhow::Result<()> {
    let layout = story.layout.clone();
    let mut endings: Vec<Ending> = Vec::new();
    if story.options.keep {
        cluster.leave();
    } else {
        let began = Instant::now();
        story.steps.busy("stopping the nodes", false);
        endings = cluster.stop_all().await?;
        let clean = endings.iter().filter(|(_, code)| *code == Some(0)).count();
        let detail = format!(
            "SIGTERM; {clean} of {} ended with exit code 0",
            endings.len()
        );
        story.steps.done_since("stopped", detail, began);
    }
    let first = cluster.plan.nodes.first().map_or(1, |node| node.raft_id);
    let data = layout.node_data(first);
    report.ledger_bytes = bytes_below(&data.join("ledger"));
    report.raft_bytes = bytes_below(&data.join("raft"));
    report.steps = story.steps.all().to_vec();
    report.print(&layout);
    let json = serde_json::to_vec_pretty(&report)?;
    std::fs::write(layout.report(), json).context("demo.json")?;
    if story.options.keep {
        println!("\nThe cluster runs on.\n");
        standing::print_endpoints(&layout, &cluster.plan);
        standing::print_commands(&layout, programs, &cluster.plan, Some(&report.a_code));
        println!("\nstop it with: testnet/down {}", layout.name());
        return Ok(());
    }
    let unclean: Vec<_> = endings
        .iter()
        .filter(|(_, code)| *code != Some(0))
        .collect();
    if !unclean.is_empty() {
        let nodes = layout.root().join("nodes");
        bail!(
            "nodes did not end with exit code 0: {unclean:?}; their logs are in {}",
            nodes.display()
        );
    }
    Ok(())
}
