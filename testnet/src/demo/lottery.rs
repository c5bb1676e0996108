//! The lottery, through the command that the offices have: each step with the keys of the office
//! that takes it.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::task::JoinSet;

use super::codes::{self, Issued};
use super::crash::{self, Crash};
use super::story::Story;
use crate::cairn::{Field, args};
use crate::cluster::Cluster;
use crate::offices::Desks;
use crate::rules::{LotteryRules, Offices, now_s};
use crate::steps::thousands;

/// Batches of results: so many that progress is seen, each small enough to be read.
const BATCHES: u32 = 100;
/// And at most so many winners in one.
const MAX_BATCH: u32 = 1_000;
/// A rehearsal's beacon begins in 2100, so that every run pins its first round.
const REHEARSAL_BEACON_GENESIS_S: u64 = 4_102_444_800;
/// When a rehearsal's opening entry ends to be valid: part of the lottery's id.
const REHEARSAL_NOT_AFTER_MS: u64 = 4_102_358_400_000;
/// Dice that the notary rolls.
const DICE: usize = 8;

/// What the lottery came to.
#[derive(Debug)]
pub struct Drawn {
    pub id: String,
    pub seed: String,
    pub roster_root: String,
    pub registering: Duration,
    pub beacon: String,
    pub beacon_round: u64,
    pub issued: Issued,
    pub crash: Option<Crash>,
}

/// Opens, fills, draws, publishes and certifies the lottery; codes and evidence are recorded while
/// it waits for its beacon.
pub async fn run(story: &mut Story, cluster: &mut Cluster) -> anyhow::Result<Drawn> {
    let desks = Desks::of(&story.layout, &story.plan)?;
    let began = Instant::now();
    story.steps.busy("opening the lottery", false);
    let id = open(story, &desks).await?;
    let detail = "by the organiser and the notary; the rules can no longer change";
    story.steps.done_since("lottery opened", detail, began);

    story.steps.busy("registering applicants", true);
    let mut register = desks.register(&id);
    if let Some(seed) = &story.seed {
        let path = story.layout.lottery("salts.seed");
        std::fs::write(&path, hex::encode(seed.derive("salts"))).context("salts.seed")?;
        register.extend(args!["--salt-seed-file", path]);
    }
    let registered = story.cairn.shown(register).await?;
    Field(&registered.value, "rows").is(story.options.applicants)?;
    let roster_root = Field(&registered.value, "roster_root").text()?;
    let rows: u64 = story.options.applicants.into();
    let per_second = rows as f64 / registered.took.as_secs_f64();
    let detail = format!(
        "{} rows in {} entries, {} rows/s, durable on a majority and certified",
        thousands(rows),
        registered.value["chunks"],
        thousands(per_second as u64),
    );
    story
        .steps
        .done("applicants registered", detail, registered.took);

    let began = Instant::now();
    story
        .steps
        .busy("freezing the roster, rolling the dice", false);
    let frozen = story.cairn.run(desks.freeze(&id)).await?;
    Field(&frozen, "roster_root").is(roster_root.as_str())?;
    story.remember("the freeze", &frozen)?;
    let digits = dice(story, &desks, &id).await?;
    let detail = format!(
        "root {}…; simulated dice {digits}",
        roster_root.get(..16).unwrap_or("")
    );
    story.steps.done_since("frozen, dice rolled", detail, began);

    let began = Instant::now();
    story.steps.busy("contributions to the seed", false);
    contribute(story, &desks, &id).await?;
    let detail = format!("from all {} institutions", story.plan.nodes.len());
    story.steps.done_since("contributions", detail, began);

    story.steps.busy(
        "codes and evidence, while the lottery waits for its beacon",
        false,
    );
    let (beacon, issued) = tokio::join!(beacon(story, &desks, &id), codes::run(story));
    let (beacon, beacon_took) = beacon?;
    let issued = issued?;
    issued.tell(story)?;
    story.remember("the beacon's round", &beacon)?;
    let drawn_seed = Field(&beacon, "seed").text()?;
    let beacon_round = Field(&beacon, "round").number()?;
    let label = Field(&beacon, "beacon").text()?;
    let detail = format!(
        "round {beacon_round} ({label}), awaited while the codes were issued; every node draws"
    );
    story.steps.done("beacon and draw", detail, beacon_took);

    let crash = publish(story, cluster, desks.publish(&id)).await?;

    let began = Instant::now();
    story.steps.busy("the notary certifies", false);
    certify(story, &desks, &id).await?;
    story.steps.done_since(
        "lottery certified",
        "by the notary, with the hash of the deed",
        began,
    );
    Ok(Drawn {
        id,
        seed: drawn_seed,
        roster_root,
        registering: registered.took,
        beacon: label,
        beacon_round,
        issued,
        crash,
    })
}

async fn open(story: &mut Story, desks: &Desks) -> anyhow::Result<String> {
    let offices = Offices::load(&story.layout, &story.offline, &story.plan).await?;
    let beacon_genesis_s = match story.seed {
        Some(_) => REHEARSAL_BEACON_GENESIS_S,
        None => now_s()?,
    };
    let options = &story.options;
    let title = "Masks for the people of Lakeside (a demo with invented applicants)";
    let (applicants, winners) = (options.applicants, options.winners);
    let rules = LotteryRules {
        rows_per_batch: winners.div_ceil(BATCHES).clamp(1, MAX_BATCH),
        ..LotteryRules::of(offices, title, applicants, winners, beacon_genesis_s)
    };
    let path = story.layout.lottery("rules.toml");
    rules.write(&path)?;
    let mut open = desks.open(&path);
    if let Some(seed) = &story.seed {
        let nonce = hex::encode(&seed.derive("the opening's nonce")[..16]);
        open.extend(args![
            "--nonce",
            nonce,
            "--not-after-ms",
            REHEARSAL_NOT_AFTER_MS.to_string()
        ]);
    }
    let opened = story.cairn.run(open).await?;
    story.remember("the opening", &opened)?;
    Field(&opened, "lottery_id").text()
}

async fn dice(story: &mut Story, desks: &Desks, id: &str) -> anyhow::Result<String> {
    // Of 256 values the first 252 fall evenly on six faces.
    let bytes = story.random("dice")?;
    let fair = bytes.iter().filter(|&&byte| byte < 252);
    let digits: Vec<String> = fair
        .map(|byte| (byte % 6 + 1).to_string())
        .take(DICE)
        .collect();
    let digits = digits.join(",");
    let rolled = story.cairn.run(desks.dice(id, &digits)?).await?;
    story.remember("the dice", &rolled)?;
    Ok(digits)
}

/// All institutions at once, each with its own keys.
async fn contribute(story: &mut Story, desks: &Desks, id: &str) -> anyhow::Result<()> {
    let mut commands = JoinSet::new();
    for node in &story.plan.nodes {
        let cairn = story.cairn.clone();
        let command = desks.contribute(id, node.raft_id);
        let who = node.institution.clone();
        commands.spawn(async move { (who, cairn.run(command).await) });
    }
    while let Some(done) = commands.join_next().await {
        let (who, answer) = done?;
        let answer = answer.with_context(|| format!("the contribution of {who}"))?;
        story.remember(&format!("the contribution of {who}"), &answer)?;
    }
    Ok(())
}

async fn beacon(story: &Story, desks: &Desks, id: &str) -> anyhow::Result<(Value, Duration)> {
    let mut command = desks.beacon(id);
    if story.seed.is_some() {
        command.extend(args!["--early"]);
    }
    let answer = story.cairn.timed(command).await?;
    Ok((answer.value, answer.took))
}

async fn publish(
    story: &mut Story,
    cluster: &mut Cluster,
    command: Vec<OsString>,
) -> anyhow::Result<Option<Crash>> {
    let kill = story.options.kill_leader;
    let what = match (kill, kill && cluster.needs_all()?) {
        (false, _) => "publishing the winners",
        (true, false) => "publishing the winners; the leader will be killed",
        (true, true) => {
            "publishing the winners; the leader will be killed, and started again at once, for \
             here all institutions have to cosign"
        }
    };
    story.steps.busy(what, true);
    let (published, crash) = if kill {
        let (published, crash) = crash::publish(story, cluster, command).await?;
        (published, Some(crash))
    } else {
        (story.cairn.shown(command).await?, None)
    };
    Field(&published.value, "complete").holds()?;
    let winners = story.options.winners.min(story.options.applicants);
    Field(&published.value, "winners_published").is(winners)?;
    let detail = format!(
        "{} winners in {} batches; every node refuses a batch that it did not draw itself",
        thousands(winners.into()),
        published.value["batches"],
    );
    story
        .steps
        .done("winners published", detail, published.took);
    match crash {
        Some(crash) => Ok(Some(crash::recover(story, cluster, crash).await?)),
        None => Ok(None),
    }
}

async fn certify(story: &mut Story, desks: &Desks, id: &str) -> anyhow::Result<()> {
    let certified = story.cairn.run(desks.certify(id)?).await?;
    story.remember("the notary's certificate", &certified)
}
