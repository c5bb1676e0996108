//! Two cities, each with a ledger of its own, that recognise each other: a pass of the one opens a
//! gate of the other, as far and as long as its gates' policy says, and nothing is handed on to third
//! ones.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;

use super::scene::{REFUSED, Scene};
use super::town::Order;
use crate::cairn::{Cairn, Field, args};
use crate::cluster::{self, Cluster};
use crate::codes;
use crate::institutions;
use crate::layout::Layout;
use crate::plan::{self, ClusterPlan, NEIGHBOUR, REGION};
use crate::ports;
use crate::programs::Programs;
use crate::steps::Steps;

/// The second city's nodes.
const NODES: usize = 3;
const CODES: usize = 50;
/// Until when they recognise each other.
const UNTIL: &str = "2099-01-01";

/// Makes the second city's cluster, in a folder beside the first one's. Nothing runs yet.
pub async fn second(
    layout: &Layout,
    programs: &Programs,
    first: &ClusterPlan,
) -> anyhow::Result<Cluster> {
    let data = layout.root().parent().context("no folder for data")?;
    let layout = Layout::new(data, &format!("{}-east", layout.name()))?;
    cluster::clear(&layout, programs)?;
    let offline = Cairn::offline(&programs.cairn, layout.root(), &layout.commands_log());
    let theirs: Vec<_> = first.nodes.iter().map(|node| node.ports).collect();
    let ports = ports::choose_beside(&theirs, NODES)?;
    let plan = plan::prepare(&layout, &offline, &institutions::of(NODES), ports, None).await?;
    Cluster::new(&layout, programs, plan)
}

pub async fn run(
    west: &mut Scene,
    cluster: &mut Cluster,
    programs: &Programs,
) -> anyhow::Result<()> {
    let layout = cluster.layout().clone();
    let offline = Cairn::offline(&programs.cairn, layout.root(), &layout.commands_log());
    let began = Instant::now();
    cluster.start_all().await?;
    cluster.form().await?;
    let east = Scene::new(&layout, offline, &cluster.plan, Steps::new())?;
    let what = format!("{NODES} more processes, another genesis");
    west.steps.done_since("the eastern city", what, began);

    // Each city's codes; in the east one turns red.
    let began = Instant::now();
    let western = codes::read(&quietly(west, "codes.csv").await?)?;
    let eastern = codes::read(&quietly(&east, "codes.csv").await?)?;
    let one = east.layout.codes("red.csv");
    codes::write(&one, &eastern[..1])?;
    let red = Order::of("red", one);
    east.cairn.run(east.order(&red)).await?;
    let what = format!("{CODES} in each; one of the east is red");
    west.steps.done_since("codes", what, began);

    recognise(west, &east).await?;
    recognise(&east, west).await?;
    let what = "each authority names the other's ledger, regions, statuses and an end";
    west.steps.done("recognition", what, began.elapsed());

    let began = Instant::now();
    let theirs = east.trust(Vec::new()).await?;
    let trust = west.trust(args!["--with", theirs]).await?;
    let policy = |region: &str, until: &str| {
        let east = &east.plan.chain_id;
        west.policy(&format!(
            "[[recognised]]\nchain_id = \"{east}\"\nregions = [\"{region}\"]\nuntil = \
             {until}T00:00:00Z\n"
        ))
    };
    let by = |policy: &Path| args!["--policy", policy];
    let own = west.pass(&western[0]).await?;
    let green = east.pass(&eastern[1]).await?;
    let red = east.pass(&eastern[0]).await?;
    let both = policy(REGION, UNTIL)?;
    west.gate(&own, &trust, by(&both), "accepted").await?;
    let judged = west.gate(&green, &trust, by(&both), "accepted").await?;
    Field(&judged, "chain_id").is(east.plan.chain_id.as_str())?;
    west.gate(&red, &trust, by(&both), "STATUS").await?;
    // A gate that names no other ledger, another region only, or an end that is past.
    west.gate(&green, &trust, Vec::new(), "OTHER_LEDGER")
        .await?;
    let other = policy(NEIGHBOUR, UNTIL)?;
    west.gate(&green, &trust, by(&other), "REGION").await?;
    let over = policy(REGION, "2022-12-31")?;
    west.gate(&green, &trust, by(&over), "RECOGNITION_ENDED")
        .await?;
    // In the east nobody has the west's members.
    east.gate(&own, &theirs, Vec::new(), "OTHER_LEDGER").await?;
    let what = "green of the east passes, red does not; where the east is not named, or another \
                region is, nobody does";
    west.steps.done_since("a western gate", what, began);

    let began = Instant::now();
    let revoke = |of: &Scene, theirs: &Scene| {
        args![
            "code",
            "recognise",
            "--revoke",
            "--key",
            of.layout.key("authority"),
            "--region",
            REGION,
            "--ledger",
            theirs.plan.chain_id
        ]
    };
    west.cairn.run(revoke(west, &east)).await?;
    west.cairn.refused(revoke(west, &east), REFUSED).await?;
    let what = "the entry stays; gates follow their policy";
    west.steps.done_since("recognition ended", what, began);
    Ok(())
}

/// Issues codes without a line of its own.
async fn quietly(scene: &Scene, file: &str) -> anyhow::Result<PathBuf> {
    let out = scene.layout.codes(file);
    scene.cairn.run(scene.issuing(&out, CODES)).await?;
    Ok(out)
}

async fn recognise(of: &Scene, theirs: &Scene) -> anyhow::Result<()> {
    let recognise = args![
        "code",
        "recognise",
        "--key",
        of.layout.key("authority"),
        "--region",
        REGION,
        "--ledger",
        theirs.plan.chain_id,
        "--name",
        "the other city",
        "--regions",
        REGION,
        "--statuses",
        "green,yellow",
        "--until",
        UNTIL
    ];
    of.cairn.run(recognise).await?;
    Ok(())
}
