//! Stories of lotteries, each on a fresh cluster, told with the command `cairn` and checked by it.
//!
//! What holds here: every step is one that an office, an applicant or an outsider takes; what must
//! be refused is tried, and its exit code is looked at; the first thing that is not as it should be
//! ends the story with an error and a log.

mod absent;
mod draw;
mod housing;
mod scene;
mod voided;

use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};

use crate::cairn::Cairn;
use crate::cluster::{self, Cluster};
use crate::institutions;
use crate::layout::Layout;
use crate::plan;
use crate::ports;
use crate::programs::Programs;
use crate::signals::interrupted;
use crate::standing;
use crate::steps::Steps;

use scene::Scene;

/// One notary, two departments and an institute.
const NODES: usize = 4;

/// Which story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Story {
    /// 800 families, two tiers, weights, a full ranking; an objection, a promotion, keys handed over
    Housing,
    /// 100,000 applicants, 10,000 winners, in order of rank
    Draw,
    /// A drawn attempt is voided by the members, in public, and the next one certified
    Voided,
    /// A contributor is absent: with a beacon the draw goes on, without one it waits for the members
    Absent,
}

/// What a scenario takes.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  testnet/scenarios/housing\n  testnet/scenarios/voided --keep")]
pub struct Options {
    /// Which story
    story: Story,
    /// Leave the cluster running at the end
    #[arg(long)]
    keep: bool,
}

/// Tells one story in `layout`, whose folder it replaces.
pub async fn run(layout: Layout, options: Options) -> anyhow::Result<()> {
    let programs = Programs::find()?;
    cluster::clear(&layout, &programs)?;
    let mut steps = Steps::new();
    println!("\n{}\n", options.story.title());

    let began = Instant::now();
    steps.busy("keys, genesis and nodes", false);
    let offline = Cairn::offline(&programs.cairn, layout.root(), &layout.commands_log());
    let ports = ports::choose(NODES)?;
    let plan = plan::prepare(&layout, &offline, &institutions::of(NODES), ports, None).await?;
    let mut cluster = Cluster::new(&layout, &programs, plan)?;
    let told = tokio::select! {
        told = tell(&mut cluster, &layout, offline, steps, options.story) => told,
        () = interrupted() => Err(anyhow!("interrupted; the cluster was stopped")),
    };
    if let Err(error) = told {
        let nodes = cluster.ended().unwrap_or_default();
        cluster.stop_all().await.context("stopping the cluster")?;
        let logs = layout.root().display();
        bail!("{error:#}{nodes}\nThe story failed. What it wrote, with all logs, is in {logs}");
    }
    println!(
        "\nAll of it held, in {:.1} s.",
        began.elapsed().as_secs_f64()
    );
    if options.keep {
        cluster.leave();
        standing::print_endpoints(&layout, &cluster.plan);
        standing::print_commands(&layout, &programs, &cluster.plan, None);
        println!("\nstop it with: testnet/down {}", layout.name());
        return Ok(());
    }
    let endings = cluster.stop_all().await?;
    match endings.iter().find(|(_, code)| *code != Some(0)) {
        Some((id, code)) => bail!("node {id} did not end with exit code 0 but with {code:?}"),
        None => Ok(()),
    }
}

impl Story {
    fn title(self) -> &'static str {
        match self {
            Story::Housing => "Homes for 300 of 800 families, in two tiers.",
            Story::Draw => "100,000 applicants, 10,000 winners.",
            Story::Voided => "An attempt that its members void, and the one after it.",
            Story::Absent => "A contributor who does not come.",
        }
    }
}

async fn tell(
    cluster: &mut Cluster,
    layout: &Layout,
    offline: Cairn,
    steps: Steps,
    story: Story,
) -> anyhow::Result<()> {
    let began = Instant::now();
    cluster.start_all().await?;
    cluster.form().await?;
    let mut scene = Scene::new(layout, offline, &cluster.plan, steps)?;
    let detail = format!("{NODES} processes, peers over libp2p");
    scene.steps.done_since("cluster", detail, began);
    let told = match story {
        Story::Housing => housing::run(&mut scene).await,
        Story::Draw => draw::run(&mut scene).await,
        Story::Voided => voided::run(&mut scene).await,
        Story::Absent => absent::run(&mut scene).await,
    };
    scene.steps.calm();
    told
}
