//! Homes for 800 families: two tiers with tickets of their own, a ranking that is published whole
//! because it is an order of choice, an objection, a promotion, and keys handed over.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::scene::{REFUSED, Scene};
use crate::cairn::{Field, args};
use crate::keys;
use crate::rules::{TierRules, now_s};

const FAMILIES: u32 = 800;
/// Every family's number decides its tier in turn; large families have two tickets.
const TIERS: [(&str, u32); 4] = [
    ("large families", 2),
    ("families", 1),
    ("families", 1),
    ("families", 1),
];
/// How long objections are heard: time enough for two, each with its ruling.
const OBJECTIONS: Duration = Duration::from_secs(6);
/// How long keys are handed over.
const REDEMPTIONS: Duration = Duration::from_secs(600);
/// A screenshot of a code is worthless after a minute.
const OLD: Duration = Duration::from_secs(61);

pub async fn run(scene: &mut Scene) -> anyhow::Result<()> {
    let title = "Homes at <Lakeside> & the river";
    let mut rules = scene.rules(title, FAMILIES, 0).await?;
    rules.tier = vec![tier("large families", 60), tier("families", 240)];
    rules.rows_per_batch = 50;
    rules.full_ranking = true;
    rules.objection_window_ms = OBJECTIONS.as_millis() as u64;
    rules.redemption_window_ms = REDEMPTIONS.as_millis() as u64;
    let id = scene.open(&rules).await?;
    scene.invent(FAMILIES, &TIERS)?;
    let tags = tag(scene, &id).await?;
    let mut register = scene.desks.register_with_tags(&id, &tags);
    register.extend(columns());
    register.extend(args!["--with-holder-keys"]);
    scene.enrol(&id, FAMILIES, register).await?;
    audit_roster(scene, &id).await?;
    scene.contribute(&id, |_| true).await?;
    scene.beacon(&id).await?;
    let published = Instant::now();
    scene.publish(&id).await?;

    let struck = scene.find(&id, "won", 0).await?;
    let disputed = scene.find(&id, "won", struck + 1).await?;
    object(scene, &id, struck, "upheld").await?;
    object(scene, &id, disputed, "dismissed").await?;
    // The window begins with the block of the last batch, which is before this.
    tokio::time::sleep(OBJECTIONS.saturating_sub(published.elapsed()) + OBJECTIONS / 6).await;
    scene.certify(&id).await?;
    scene.stands(&id, struck, "struck").await?;
    scene.stands(&id, disputed, "won").await?;
    promote(scene, &id, struck).await?;
    hand_over(scene, &id, disputed, struck).await?;
    scene.recompute(&id).await?;
    scene
        .report(&id, &["Homes at &lt;Lakeside&gt; &amp; the river"])
        .await
}

/// What the registrar's file has beside names and numbers.
fn columns() -> Vec<OsString> {
    args![
        "--tier-column",
        "tier",
        "--weight-column",
        "tickets",
        "--resident-id"
    ]
}

fn tier(name: &str, quota: u32) -> TierRules {
    TierRules {
        name: name.to_owned(),
        quota,
        waiting_list: 100,
    }
}

/// The two offices blind the identities one after the other: neither has both keys.
async fn tag(scene: &mut Scene, id: &str) -> anyhow::Result<PathBuf> {
    let began = Instant::now();
    let (inner, tags) = (
        scene.layout.lottery("inner-tags"),
        scene.layout.lottery("tags"),
    );
    let mut blind = scene.desks.blind(id, &inner);
    blind.extend(args!["--resident-id"]);
    scene.cairn.run(blind).await?;
    scene
        .cairn
        .run(scene.desks.blind_again(id, &inner, &tags))
        .await?;
    let what = "by the registrar, then by the notary, who saw no identity";
    scene.steps.done_since("identities blinded", what, began);
    Ok(tags)
}

/// The notary holds every row against the registrations, off the ledger.
async fn audit_roster(scene: &mut Scene, id: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut audit = scene.desks.audit_roster(id);
    audit.extend(columns());
    let audited = scene.cairn.run(audit).await?;
    Field(&audited, "ok").holds()?;
    let what = "every row is of a registration, and every registration has its row";
    scene.steps.done_since("roster audited", what, began);
    Ok(())
}

/// Somebody objects against a row, and the notary rules.
async fn object(scene: &mut Scene, id: &str, serial: u64, decision: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let letter = scene.document("objection.txt", "This family owns a home already.\n")?;
    let object = args![
        "lottery",
        "object",
        id,
        "--notary-key",
        scene.desks.notary,
        "--document",
        letter,
        "--serials",
        serial.to_string()
    ];
    let objection = Field(&scene.cairn.run(object).await?, "entry_id").text()?;
    let reasons = scene.document(
        "ruling.txt",
        &format!("Objection {objection}: {decision}.\n"),
    )?;
    let rule = args![
        "lottery",
        "rule",
        id,
        "--objection",
        objection,
        "--decision",
        decision,
        "--notary-key",
        scene.desks.notary,
        "--document",
        reasons
    ];
    scene.cairn.run(rule).await?;
    let what = format!("against serial {serial}, and {decision}");
    scene.steps.done_since("objection", what, began);
    Ok(())
}

/// The struck row's place goes to the next of the waiting list.
async fn promote(scene: &mut Scene, id: &str, struck: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let ground = scene.document("vacated.txt", "Struck by the ruling of the notary.\n")?;
    let promote = args![
        "lottery",
        "promote",
        id,
        "--notary-key",
        scene.desks.notary,
        "--vacate",
        struck.to_string(),
        "--tier",
        TIERS[(struck % 4) as usize].0,
        "--document",
        ground
    ];
    let promoted = scene.cairn.run(promote).await?;
    let next = promoted["promoted"][0].as_u64().context("nobody came up")?;
    scene.stands(id, next, "promoted").await?;
    let what = format!("serial {next} came up for serial {struck}");
    scene.steps.done_since("waiting list", what, began);
    Ok(())
}

/// A winner's code buys the keys once, at the office that it names, within its minute.
async fn hand_over(scene: &mut Scene, id: &str, winner: u64, struck: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let shop_key = scene.layout.key("shop");
    let shop = keys::show(&scene.offline, &shop_key).await?.public_key;
    let other = keys::show(&scene.offline, &scene.desks.registrar).await?;
    let redeem = |code: String| {
        let take = ["lottery", "redeem", id, "--code", code.as_str()];
        let mut command: Vec<OsString> = take.map(OsString::from).to_vec();
        command.extend(args!["--shop-key", shop_key]);
        command
    };
    let old = now_s()? * 1_000 - OLD.as_millis() as u64;
    for (serial, shop, made_at) in [
        (struck, &shop, None),
        (winner, &other.public_key, None),
        (winner, &shop, Some(old)),
    ] {
        let code = scene.code(id, serial, shop, made_at).await?;
        scene.cairn.refused(redeem(code), REFUSED).await?;
    }
    let code = scene.code(id, winner, &shop, None).await?;
    scene.cairn.run(redeem(code.clone())).await?;
    scene.cairn.refused(redeem(code), REFUSED).await?;
    let what = "once; refused: a struck family, another office's code, an old one, the same again";
    scene.steps.done_since("keys handed over", what, began);
    Ok(())
}
