//! Stories of lotteries and of codes, each on a fresh cluster, told with the command `cairn` and checked by it.
//!
//! What holds here: every step is one that an office, an applicant or an outsider takes; what must
//! be refused is tried, and its exit code is looked at; the first thing that is not as it should be
//! ends the story with an error and a log.

mod absent;
mod cities;
mod district;
mod draw;
mod field;
mod gate;
mod henan;
mod housing;
mod scene;
mod town;
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
    /// 100,000 codes turned yellow by one order and released by check-ins on two days
    District,
    /// 1,317 codes turned red: without mandate, without the health office, and on a pretext
    Henan,
    /// A gate with no network: every node is stopped, and passes are judged
    Gate,
    /// A field team's journal: no network, a power cut, brought to the ledger once
    Field,
    /// Two cities with a ledger each, which recognise each other
    Cities,
}

/// What a scenario takes.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  testnet/scenarios/housing
  testnet/scenarios/voided --keep
  testnet/scenarios/district --nodes 3 --codes 1000000")]
pub struct Options {
    /// Which story
    story: Story,
    /// How many nodes: 3, 4, 5 or 7
    #[arg(long, value_name = "N", default_value = "4", value_parser = institutions::parse_count)]
    nodes: usize,
    /// District: issue so many codes, of which 100,000 are the district's
    #[arg(
        long,
        value_name = "N",
        default_value_t = district::DISTRICT as u64,
        value_parser = clap::value_parser!(u64).range(district::DISTRICT as u64..=10_000_000)
    )]
    codes: u64,
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
    let ports = ports::choose(options.nodes)?;
    let plan = plan::prepare(
        &layout,
        &offline,
        &institutions::of(options.nodes),
        ports,
        None,
    )
    .await?;
    let mut cluster = Cluster::new(&layout, &programs, plan)?;
    let mut other = match options.story {
        Story::Cities => Some(cities::second(&layout, &programs, &cluster.plan).await?),
        _ => None,
    };
    let scene = Scene::new(&layout, offline, &cluster.plan, steps)?;
    let told = tokio::select! {
        told = tell(scene, &mut cluster, other.as_mut(), &programs, &options) => told,
        () = interrupted() => Err(anyhow!("interrupted; the cluster was stopped")),
    };
    if let Some(other) = &mut other {
        other
            .stop_all()
            .await
            .context("stopping the other cluster")?;
    }
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
            Story::District => "A district of 100,000, yellow, and released by check-ins.",
            Story::Henan => "1,317 codes turned red.",
            Story::Gate => "A gate with no network.",
            Story::Field => "A field team's day.",
            Story::Cities => "Two cities that recognise each other.",
        }
    }
}

async fn tell(
    mut scene: Scene,
    cluster: &mut Cluster,
    other: Option<&mut Cluster>,
    programs: &Programs,
    options: &Options,
) -> anyhow::Result<()> {
    let began = Instant::now();
    cluster.start_all().await?;
    cluster.form().await?;
    let detail = format!("{} processes, peers over libp2p", options.nodes);
    scene.steps.done_since("cluster", detail, began);
    let told = match (options.story, other) {
        (Story::Housing, _) => housing::run(&mut scene).await,
        (Story::Draw, _) => draw::run(&mut scene).await,
        (Story::Voided, _) => voided::run(&mut scene).await,
        (Story::Absent, _) => absent::run(&mut scene).await,
        (Story::District, _) => district::run(&mut scene, options.codes).await,
        (Story::Henan, _) => henan::run(&mut scene).await,
        (Story::Gate, _) => gate::run(&mut scene, cluster).await,
        (Story::Field, _) => field::run(&mut scene).await,
        (Story::Cities, Some(east)) => cities::run(&mut scene, east, programs).await,
        (Story::Cities, None) => Err(anyhow!("there is one city")),
    };
    scene.steps.calm();
    told
}
