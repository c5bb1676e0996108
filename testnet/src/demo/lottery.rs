//! The lottery, through the command that the offices have: each step with the keys of the office
//! that takes it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::task::JoinSet;

use super::codes::{self, Issued};
use super::crash::{self, Crash};
use super::story::Story;
use crate::applicants::IDENTITY_COLUMN;
use crate::cairn::{Field, args};
use crate::cluster::Cluster;
use crate::institutions::Role;
use crate::plan::{BeaconRules, LotteryRules, Offices, TierRules};
use crate::steps::thousands;

/// How long institutions may contribute: their commands take a fraction of a second each.
const CONTRIBUTION_WINDOW_MS: u64 = 2_000;
/// From the close to the beacon's round. Half of it is the time to certify the close in, on a
/// machine where all nodes share two cores with everything else.
const BEACON_MARGIN_MS: u64 = 4_000;
/// Batches of results: so many that progress is seen, each small enough to be read.
const BATCHES: u32 = 100;
/// And at most so many winners in one.
const MAX_BATCH: u32 = 1_000;
/// The development beacon gives a round every second.
const BEACON_PERIOD_S: u32 = 1;
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
    pub beacon: String,
    pub beacon_round: u64,
    pub issued: Issued,
    pub crash: Option<Crash>,
}

/// Opens, fills, draws, publishes and certifies the lottery; codes and evidence are recorded while
/// it waits for its beacon.
pub async fn run(story: &mut Story, cluster: &mut Cluster) -> anyhow::Result<Drawn> {
    let notary = story.author_key(story.plan.first(Role::Notary)?.raft_id);
    let institute = story.author_key(story.plan.first(Role::Institute)?.raft_id);
    let registrar = story.layout.key("registrar");

    let began = Instant::now();
    story.steps.busy("opening the lottery", false);
    let id = open(story, &notary).await?;
    let detail = "by the organiser and the notary; the rules can no longer change";
    story.steps.done_since("lottery opened", detail, began);

    story.steps.busy("registering applicants", true);
    let mut register = args![
        "lottery",
        "register",
        id,
        "--csv",
        story.layout.lottery("applicants.csv"),
        "--identity-column",
        IDENTITY_COLUMN,
        "--registrar-key",
        registrar,
        "--registrar-tag-key",
        story.layout.key("registrar-tag"),
        "--notary-tag-key",
        story.layout.key("notary-tag"),
        "--receipts",
        story.layout.lottery("receipts.csv"),
    ];
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
    let frozen = args![
        "lottery",
        "freeze",
        id,
        "--registrar-key",
        registrar,
        "--notary-key",
        notary
    ];
    let frozen = story.cairn.run(frozen).await?;
    Field(&frozen, "roster_root").is(roster_root.as_str())?;
    story.remember("the freeze", &frozen)?;
    let digits = dice(story, &id, &notary).await?;
    let detail = format!(
        "root {}…; simulated dice {digits}",
        roster_root.get(..16).unwrap_or("")
    );
    story.steps.done_since("frozen, dice rolled", detail, began);

    let began = Instant::now();
    story.steps.busy("contributions to the seed", false);
    contribute(story, &id).await?;
    let detail = format!("from all {} institutions", story.plan.nodes.len());
    story.steps.done_since("contributions", detail, began);

    story.steps.busy(
        "codes and evidence, while the lottery waits for its beacon",
        false,
    );
    let (beacon, issued) = tokio::join!(beacon(story, &id), codes::run(story));
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

    let crash = publish(story, cluster, &id, &institute).await?;

    let began = Instant::now();
    story.steps.busy("the notary certifies", false);
    certify(story, &id, &notary).await?;
    story.steps.done_since(
        "lottery certified",
        "by the notary, with the hash of the deed",
        began,
    );
    Ok(Drawn {
        id,
        seed: drawn_seed,
        roster_root,
        beacon: label,
        beacon_round,
        issued,
        crash,
    })
}

async fn open(story: &mut Story, notary: &std::path::Path) -> anyhow::Result<String> {
    let offices = Offices::load(&story.layout, &story.offline, &story.plan).await?;
    let genesis_time_s = match story.seed {
        Some(_) => REHEARSAL_BEACON_GENESIS_S,
        None => now_s()?,
    };
    let chain = format!(
        "{} {genesis_time_s} {BEACON_PERIOD_S}",
        offices.beacon.public_key
    );
    let rules = LotteryRules {
        title: "Masks for the people of Lakeside (a demo with invented applicants)".to_owned(),
        rows_per_batch: story.options.winners.div_ceil(BATCHES).clamp(1, MAX_BATCH),
        max_rows: story.options.applicants,
        with_dice: true,
        contribution_window_ms: CONTRIBUTION_WINDOW_MS,
        beacon_margin_ms: BEACON_MARGIN_MS,
        identity_rule: format!("the column {IDENTITY_COLUMN} as it stands, digits only, UTF-8"),
        notary: offices.notary.public_key,
        registrar: offices.registrar.public_key,
        institute: offices.institute.public_key,
        registrar_tag_key_commitment: offices.registrar_tag.commitment,
        notary_tag_key_commitment: offices.notary_tag.commitment,
        tier: vec![TierRules {
            name: "masks".to_owned(),
            quota: story.options.winners,
        }],
        contributor: offices.contributors,
        beacon: BeaconRules {
            chain_hash: blake3::hash(chain.as_bytes()).to_hex().to_string(),
            public_key: offices.beacon.public_key,
            genesis_time_s,
            period_s: BEACON_PERIOD_S,
        },
    };
    let path = story.layout.lottery("rules.toml");
    std::fs::write(&path, toml::to_string(&rules)?).context("rules.toml")?;
    let mut open = args![
        "lottery",
        "open",
        "--rules",
        path,
        "--organiser-key",
        story.layout.key("organiser"),
        "--notary-key",
        notary,
    ];
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

fn now_s() -> anyhow::Result<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(since.as_secs())
}

async fn dice(story: &mut Story, id: &str, notary: &std::path::Path) -> anyhow::Result<String> {
    // Of 256 values the first 252 fall evenly on six faces.
    let bytes = story.random("dice")?;
    let fair = bytes.iter().filter(|&&byte| byte < 252);
    let digits: Vec<String> = fair
        .map(|byte| (byte % 6 + 1).to_string())
        .take(DICE)
        .collect();
    let digits = digits.join(",");
    let recording = story.layout.lottery("dice.txt");
    std::fs::write(
        &recording,
        format!("No dice were thrown: a demo made them up.\n{digits}\n"),
    )?;
    let rolled = args![
        "lottery",
        "dice",
        id,
        "--notary-key",
        notary,
        "--digits",
        digits,
        "--evidence",
        recording
    ];
    let rolled = story.cairn.run(rolled).await?;
    story.remember("the dice", &rolled)?;
    Ok(digits)
}

/// All institutions at once, each with its own keys.
async fn contribute(story: &mut Story, id: &str) -> anyhow::Result<()> {
    let mut commands = JoinSet::new();
    for node in &story.plan.nodes {
        let cairn = story.cairn.clone();
        let command = args![
            "lottery",
            "contribute",
            id,
            "--seed-key",
            story.layout.seed_key(node.raft_id),
            "--author-key",
            story.layout.author_key(node.raft_id),
        ];
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

async fn beacon(story: &Story, id: &str) -> anyhow::Result<(Value, Duration)> {
    let mut command = args![
        "lottery",
        "beacon",
        id,
        "--author-key",
        story.layout.key("organiser"),
        "--dev-key",
        story.layout.key("beacon"),
    ];
    if story.seed.is_some() {
        command.extend(args!["--early"]);
    }
    let answer = story.cairn.timed(command).await?;
    Ok((answer.value, answer.took))
}

async fn publish(
    story: &mut Story,
    cluster: &mut Cluster,
    id: &str,
    institute: &std::path::Path,
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
    let command = args!["lottery", "publish", id, "--institute-key", institute];
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

async fn certify(story: &mut Story, id: &str, notary: &std::path::Path) -> anyhow::Result<()> {
    let deed = story.layout.lottery("deed.txt");
    let text = format!(
        "Notarial deed (a demo)\nI watched lottery {id}: roster, dice, draw and results.\n"
    );
    std::fs::write(&deed, text)?;
    let certified = args![
        "lottery",
        "certify",
        id,
        "--notary-key",
        notary,
        "--document",
        deed
    ];
    let certified = story.cairn.run(certified).await?;
    story.remember("the notary's certificate", &certified)
}
