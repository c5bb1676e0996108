//! 1,317 codes are turned red to keep people from a bank's doors, as happened in Henan in 2022: by
//! an authority without the mandate, without the health office, and with both on a pretext. The first
//! two are refused; the third is recorded whole, stands out, is not recognised next door, and is
//! corrected without being erased.

use std::time::Instant;

use anyhow::{Context as _, bail};

use super::scene::{REFUSED, Scene};
use super::town::Order;
use crate::cairn::{Field, args};
use crate::codes;
use crate::institutions::Role;
use crate::plan::{NEIGHBOUR, REASONS, REGION};
use crate::steps::thousands;

/// Codes that were turned red in Henan in June 2022, by the official finding.
const DEPOSITORS: usize = 1_317;
/// Codes of the region.
const CODES: usize = 5_000;
/// People whose codes an authority turns on an ordinary day.
const ORDINARY: usize = 12;

pub async fn run(scene: &mut Scene) -> anyhow::Result<()> {
    let file = scene.issue("codes.csv", CODES).await?;
    let all = codes::read(&file)?;
    let ordinary = scene.layout.codes("ordinary.csv");
    let depositors = scene.layout.codes("depositors.csv");
    codes::write(&ordinary, &all[..ORDINARY])?;
    codes::write(&depositors, &all[ORDINARY..ORDINARY + DEPOSITORS])?;
    let victim = &all[ORDINARY];
    scene
        .ordered("an ordinary day", &Order::of("yellow", ordinary))
        .await?;
    let rule = format!("[region]\nregion = \"{REGION}\"\nappeals_role = \"notary\"\n");
    scene.granted("rule", &rule).await?;

    let began = Instant::now();
    let red = Order {
        reason: REASONS[1],
        ..Order::of("red", depositors.clone())
    };
    let no_mandate = Order {
        authority: "neighbour",
        ..red.clone()
    };
    scene.order_refused(&no_mandate).await?;
    scene.shows(victim, "green").await?;
    let what = "an authority of another region has no mandate here: refused";
    scene.steps.done_since("(a) no mandate", what, began);

    let began = Instant::now();
    let alone = Order {
        approver: None,
        ..red.clone()
    };
    scene.order_refused(&alone).await?;
    scene.shows(victim, "green").await?;
    let what = "the health office does not sign: refused";
    scene.steps.done_since("(b) alone", what, began);

    let order = scene.ordered("(c) both sign", &red).await?;
    scene.shows(victim, "red").await?;
    audited(scene, &order).await?;
    next_door(scene, &order, victim).await?;
    appealed(scene, &order, &depositors, victim).await?;
    erased(scene, &order, victim).await
}

/// The order is among all acts of the authority, which are proven to be all, and it stands out.
async fn audited(scene: &mut Scene, order: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let acts = scene.acts("authority").await?;
    let of_order = |kind: &str| {
        let mut acts = acts.iter();
        acts.any(|act| act["order"] == order && act["act"] == kind && act["codes"] == DEPOSITORS)
    };
    if !of_order("ordered") || !of_order("took effect") {
        bail!("the order is not among the {} acts", acts.len());
    }
    let key = scene.public("authority").await?;
    let spikes = args!["audit", "spikes", key, "--from", "2022-06-01"];
    let spikes = scene.cairn.rows(spikes).await?;
    let found = spikes.iter().find(|spike| spike["reason"] == REASONS[1]);
    let found = found.context("no day stands out")?;
    Field(found, "changed").is(DEPOSITORS)?;
    let what = format!(
        "{} acts, all there are; {} red on one day stand out of none before",
        acts.len(),
        thousands(DEPOSITORS as u64)
    );
    scene.steps.done_since("an auditor", what, began);
    Ok(())
}

/// The neighbouring region does not recognise the order, and its gates let those people through.
async fn next_door(scene: &mut Scene, order: &str, victim: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let refuse = args![
        "code",
        "refuse-order",
        "--key",
        scene.layout.key("neighbour"),
        "--region",
        NEIGHBOUR,
        "--order",
        order,
        "--reason",
        "no evidence of an infection behind 1,317 codes"
    ];
    scene.cairn.run(refuse).await?;
    let refusal = format!("{NEIGHBOUR}/{order}");
    let trust = scene.trust(args!["--refusal", refusal]).await?;
    let pass = scene.pass(victim).await?;
    let policy = scene.policy("")?;
    scene
        .gate(&pass, &trust, args!["--policy", policy], "ORDER_REFUSED")
        .await?;
    let policy = scene.policy(&format!("refusals_of = [\"{NEIGHBOUR}\"]\n"))?;
    scene
        .gate(&pass, &trust, args!["--policy", policy], "accepted")
        .await?;
    let what = "does not recognise the order: its gates let these people through; the order and the \
                codes are what they were";
    scene.steps.done_since("the region next door", what, began);
    Ok(())
}

/// A holder appeals, a notary grants it, and a new order corrects the old one, which stays.
async fn appealed(
    scene: &mut Scene,
    order: &str,
    depositors: &std::path::Path,
    victim: &str,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let statement = scene.layout.codes("statement.txt");
    std::fs::write(&statement, "I was in no risk area, and in no contact.\n")?;
    let appeal = args![
        "code",
        "appeal",
        "--key",
        scene.layout.key("registrar"),
        "--order",
        order,
        "--code",
        victim,
        "--statement",
        statement
    ];
    let appealed = scene.cairn.run(appeal).await?;
    let appeal = Field(&appealed, "entry_id").text()?;
    let correction = Order {
        corrects: Some(order.to_owned()),
        ..Order::of("green", depositors.to_owned())
    };
    let correcting = scene.ordered("corrected", &correction).await?;
    let reasons = scene.layout.codes("reasons.txt");
    std::fs::write(&reasons, "The order names no evidence.\n")?;
    let notary = scene.plan.first(Role::Notary)?.raft_id;
    let decide = |key: std::path::PathBuf| {
        args![
            "code",
            "decide",
            "--key",
            key,
            "--appeal",
            appeal,
            "--grant",
            "--reasons",
            reasons,
            "--correcting-order",
            correcting
        ]
    };
    // Nobody decides on an appeal against an own order.
    let own = decide(scene.layout.key("authority"));
    scene.cairn.refused(own, REFUSED).await?;
    let office = decide(scene.layout.author_key(notary));
    scene.cairn.run(office).await?;
    let shown = scene.shows(victim, "green").await?;
    Field(&shown, "sequence").is(3)?;
    let auditors = scene.auditors();
    let history = auditors.rows(args!["audit", "code", victim]).await?;
    let statuses = history.iter().map(|change| change["status"].as_str());
    let statuses: Vec<_> = statuses.flatten().collect();
    if statuses != ["green", "red", "green"] {
        bail!("the history of a code is {statuses:?}");
    }
    let what = "the notary grants the appeal; green again, and green, red, green in the history for \
                good";
    scene.steps.done_since("appeal", what, began);
    Ok(())
}

/// The list of the people is erased; whoever is to replay the ledger kept it.
async fn erased(scene: &mut Scene, order: &str, victim: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let auditors = scene.auditors();
    let entries = auditors
        .rows(args!["entry", "list", "--limit", "200"])
        .await?;
    // The first chunk behind the order is its own: nobody else orders here.
    let mut entries = entries
        .iter()
        .skip_while(|entry| entry["entry_id"] != order);
    let list = entries.find(|entry| entry["kind"] == "status chunk");
    let list = list.context("no status chunk")?;
    let list = Field(list, "entry_id").text()?;
    let bodies = scene.layout.codes("bodies");
    std::fs::create_dir(&bodies)?;
    let kept = bodies.join(&list);
    auditors
        .run(args!["entry", "get", list, "--body-out", kept])
        .await?;
    let act = format!("[erase]\nentries = [\"{list}\"]\nlegal_basis = \"corrected\"\n");
    scene.granted("erase", &act).await?;

    let shown = auditors.run(args!["entry", "get", list]).await?;
    Field(&shown, "erased_by_leaf").number()?;
    let history = auditors.rows(args!["audit", "code", victim]).await?;
    if history.len() != 3 {
        bail!("{} states of a code after an erasure", history.len());
    }
    auditors.refused(args!["audit", "replay"], REFUSED).await?;
    let replayed = auditors
        .run(args!["audit", "replay", "--bodies", bodies])
        .await?;
    let what = format!(
        "the list of the people is on no node; its proof and all histories stand, and with the copy \
         that an auditor kept all {} blocks are computed again",
        Field(&replayed, "blocks").number()?
    );
    scene.steps.done_since("erased", what, began);
    Ok(())
}
