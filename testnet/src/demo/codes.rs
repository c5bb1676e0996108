//! Codes, status orders and one document: recorded while the lottery waits for its beacon.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use super::story::{Acknowledged, Story};
use crate::cairn::{Field, args};
use crate::codes;
use crate::institutions::Role;
use crate::plan::{REASONS, REGION};
use crate::steps::thousands;

/// Codes that the demo issues.
const CODES: usize = 20_000;
/// Of these, the first turn yellow,
const YELLOW: usize = 1_000;
/// and the next red.
const RED: usize = 100;
/// What a command says when something is proven not to be there.
const NOT_FOUND: i32 = 3;

/// What was recorded beside the lottery.
#[derive(Debug)]
pub struct Issued {
    pub codes: usize,
    pub yellow: String,
    pub red: String,
    pub green: String,
    pub unknown: String,
    minutes: Value,
    orders: [Acknowledged; 2],
    issuing: Duration,
    ordering: Duration,
    recording: Duration,
}

/// Issues codes, turns some yellow and red, and records a document.
pub async fn run(story: &Story) -> anyhow::Result<Issued> {
    let file = story.layout.codes("codes.csv");
    let authority = story.layout.key("authority");
    let began = Instant::now();
    let issue = args![
        "code",
        "issue",
        "--key",
        authority,
        "--region",
        REGION,
        "--count",
        CODES.to_string(),
        "--valid-days",
        "30",
        "--out",
        file,
    ];
    let issued = story.cairn.run(issue).await?;
    Field(&issued, "codes").is(CODES)?;
    let issuing = began.elapsed();

    let began = Instant::now();
    let orders = [
        order(story, "yellow", REASONS[0], 0, YELLOW).await?,
        order(story, "red", REASONS[1], YELLOW, RED).await?,
    ];
    let ordering = began.elapsed();

    let began = Instant::now();
    let minutes = record(story).await?;
    let recording = began.elapsed();

    let codes = codes::read(&file)?;
    let at = |index: usize| {
        let code = codes.get(index).cloned();
        code.with_context(|| format!("{} has too few codes", file.display()))
    };
    Ok(Issued {
        codes: codes.len(),
        yellow: at(0)?,
        red: at(YELLOW)?,
        green: at(YELLOW + RED)?,
        unknown: hex::encode(story.random("a code that nobody issued")?),
        minutes,
        orders,
        issuing,
        ordering,
        recording,
    })
}

impl Issued {
    /// The steps' lines.
    pub fn tell(&self, story: &mut Story) -> anyhow::Result<()> {
        story.remember("the minutes", &self.minutes)?;
        story.acknowledged.extend(self.orders.clone());
        let detail = format!("{} pseudonyms for {REGION}", thousands(self.codes as u64));
        story.steps.done("codes issued", detail, self.issuing);
        let detail = format!(
            "{} yellow, {} red, each order co-signed by the health office",
            thousands(YELLOW as u64),
            thousands(RED as u64)
        );
        story.steps.done("status orders", detail, self.ordering);
        let detail = format!(
            "leaf {}: the hash of the minutes",
            self.minutes["leaf_index"]
        );
        story.steps.done("evidence", detail, self.recording);
        Ok(())
    }
}

async fn order(
    story: &Story,
    status: &str,
    reason: &str,
    skip: usize,
    limit: usize,
) -> anyhow::Result<Acknowledged> {
    let order = args![
        "code",
        "order",
        "--key",
        story.layout.key("authority"),
        "--approver-key",
        story.layout.key("health"),
        "--region",
        REGION,
        "--reason",
        reason,
        "--basis",
        "Act on Epidemic Control (a demo), article 7",
        "--status",
        status,
        "--from",
        story.layout.codes("codes.csv"),
        "--skip",
        skip.to_string(),
        "--limit",
        limit.to_string(),
        "--lapses-days",
        "7",
        "--on-lapse",
        "green",
        "--contact",
        "appeals@example.org",
        "--operator",
        "desk 7",
        "--rule-version",
        "2026-1",
    ];
    let ordered = story.cairn.run(order).await?;
    Field(&ordered, "count").is(limit)?;
    Ok(Acknowledged {
        what: format!("the order to turn codes {status}"),
        entry_id: Field(&ordered, "order_id").text()?,
        leaf_index: Field(&ordered, "leaf_index").number()?,
    })
}

async fn record(story: &Story) -> anyhow::Result<Value> {
    let path = story.layout.lottery("minutes.txt");
    let text = "Minutes of the draw (a demo)\nPresent: the organiser, the registrar, the notary.\n";
    std::fs::write(&path, text)?;
    let notary = story.plan.first(Role::Notary)?.raft_id;
    let record = args![
        "evidence",
        "record",
        "--key",
        story.author_key(notary),
        "--file",
        path,
        "--media-type",
        "text/plain",
        "--title",
        "Minutes of the draw",
        "--custodian",
        "Lakeside Notary Office",
        "--receipt",
        story.layout.proof("evidence.proof"),
    ];
    story.cairn.run(record).await
}

/// Asks for a status of each colour with proof, and for one that does not exist.
pub async fn ask(story: &Story, issued: &Issued) -> anyhow::Result<()> {
    for (colour, code) in [
        ("yellow", &issued.yellow),
        ("red", &issued.red),
        ("green", &issued.green),
    ] {
        let out = story.layout.proof(&format!("code-{colour}.proof"));
        let answer = story
            .cairn
            .run(args!["code", "status", code, "--out", out])
            .await?;
        Field(&answer, "status").is(colour)?;
    }
    let out = story.layout.proof("code-unknown.proof");
    let unknown = args!["code", "status", issued.unknown, "--out", out];
    story.cairn.refused(unknown, NOT_FOUND).await?;
    let other = story.layout.lottery("rules.toml");
    story
        .cairn
        .refused(args!["evidence", "show", "--file", other], NOT_FOUND)
        .await?;
    Ok(())
}
