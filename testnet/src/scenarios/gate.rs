//! A gate with no network: all nodes are stopped, and a trust file, a policy and a clock are enough
//! to judge whoever comes.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, bail};

use super::scene::{REFUSED, Scene};
use super::town::Order;
use crate::cairn::{Field, args};
use crate::cluster::Cluster;
use crate::codes;
use crate::plan::REGION;
use crate::rules::now_s;

const CODES: usize = 200;
/// People in the queue.
const QUEUE: usize = 40;
const DAY_MS: u64 = 86_400_000;
const NOT_FOUND: i32 = 3;
/// The number of an ID card.
const HOLDER: &str = "11010519491231002X";
const POLICY: &str = "max_age_s = 3600\nclock_tolerance_s = 120\n";
const LENIENT: &str =
    "max_age_s = 3600\naccept = [\"green\", \"yellow\"]\nregions = [\"lakeside\"]\n";

pub async fn run(scene: &mut Scene, cluster: &mut Cluster) -> anyhow::Result<()> {
    let file = scene.issue("codes.csv", CODES).await?;
    let all = codes::read(&file)?;
    let [yellow, red, green, ..] = &all[..] else {
        bail!("three codes at least");
    };
    for (status, code) in [("yellow", yellow), ("red", red)] {
        let one = scene.layout.codes(&format!("{status}.csv"));
        codes::write(&one, std::slice::from_ref(code))?;
        scene
            .ordered(&format!("one code {status}"), &Order::of(status, one))
            .await?;
    }

    let began = Instant::now();
    let mut passes = Vec::new();
    for code in all.iter().take(QUEUE) {
        passes.push(scene.pass(code).await?);
    }
    let unknown = args!["pass", "show", hex::encode([7; 32])];
    scene.cairn.refused(unknown, NOT_FOUND).await?;
    let paper = scene.layout.outsider().join("pass.html");
    let show = args!["pass", "show", green, "--paper", paper];
    let shown = scene.cairn.run(show).await?;
    let bytes = Field(&shown, "bytes").number()?;
    let page = fs::read_to_string(&paper)?;
    if !page.contains("<svg") {
        bail!("{} has no QR code", paper.display());
    }
    let detail = format!("{QUEUE} of {bytes} bytes, one QR code each; one on paper");
    scene.steps.done_since("passes", detail, began);
    let of_holder = with_holder(scene).await?;
    let trust = scene.trust(Vec::new()).await?;
    let policy = scene.policy(POLICY)?;

    let began = Instant::now();
    cluster.stop_all().await?;
    let ask = args!["code", "status", green, "--timeout", "1"];
    scene.cairn.refused(ask, REFUSED).await?;
    scene
        .steps
        .done_since("no network", "every node is stopped", began);

    let began = Instant::now();
    let pass = |index: usize| passes.get(index).context("no pass");
    let by = |more| {
        let mut all = args!["--policy", policy];
        all.extend::<Vec<_>>(more);
        all
    };
    let (yellow, red, green) = (pass(0)?, pass(1)?, pass(2)?);
    scene.gate(green, &trust, by(vec![]), "accepted").await?;
    scene.gate(yellow, &trust, by(vec![]), "STATUS").await?;
    scene.gate(red, &trust, by(vec![]), "STATUS").await?;
    let now_ms = now_s()? * 1_000;
    for (at_ms, expected) in [
        (now_ms - DAY_MS, "CLOCK_BEHIND"),
        (now_ms + DAY_MS, "TOO_OLD"),
        (now_ms + 31 * DAY_MS, "TRUST_EXPIRED"),
    ] {
        let at = by(args!["--now-ms", at_ms.to_string()]);
        scene.gate(green, &trust, at, expected).await?;
    }
    let edited = flipped(green, green.len() / 2);
    scene.gate(&edited, &trust, by(vec![]), "DAMAGED").await?;
    let detail = "green passes; yellow and red, an edited pass, a clock a day off, an old trust file do \
                  not, each for its own reason";
    scene.steps.done_since("at the gate", detail, began);

    let lenient = scene.policy(LENIENT)?;
    let lenient = || args!["--policy", lenient];
    scene.gate(yellow, &trust, lenient(), "accepted").await?;
    scene.gate(red, &trust, lenient(), "STATUS").await?;
    let matched = scene.policy("id_card = true\n")?;
    for (id_card, expected) in [
        (Some(HOLDER), "accepted"),
        (Some("110105194912310038"), "ID_CARD"),
        (None, "ID_CARD_NEEDED"),
    ] {
        let mut shown = args!["--policy", matched];
        if let Some(number) = id_card {
            shown.extend(args!["--id-card", number]);
        }
        scene.gate(&of_holder, &trust, shown, expected).await?;
    }
    queue(scene, &passes, &trust).await?;
    scene.policy(POLICY)?;

    let began = Instant::now();
    cluster.start_all().await?;
    cluster.caught_up(0).await?;
    let one = scene.layout.codes("late.csv");
    codes::write(&one, std::slice::from_ref(&all[2]))?;
    scene
        .ordered("one more code red", &Order::of("red", one))
        .await?;
    // The old pass is what it was: the latest as of its time. The gate decides how old that may be.
    scene.gate(green, &trust, by(vec![]), "accepted").await?;
    let newer = scene.pass(&all[2]).await?;
    scene.gate(&newer, &trust, by(vec![]), "STATUS").await?;
    let detail = "a pass made now is red; the old one passes until it is an hour old";
    scene.steps.done_since("the network is back", detail, began);
    Ok(())
}

/// Issues a code to somebody with an ID card; the pass, with the salt that the holder got.
async fn with_holder(scene: &mut Scene) -> anyhow::Result<String> {
    let began = Instant::now();
    let people = scene.layout.codes("people.csv");
    let out = scene.layout.codes("holders.csv");
    fs::write(&people, format!("name,id_card\nWang,{HOLDER}\n"))?;
    let issue = args![
        "code",
        "issue",
        "--key",
        scene.layout.key("authority"),
        "--region",
        REGION,
        "--holders",
        people,
        "--valid-days",
        "30",
        "--out",
        out
    ];
    scene.cairn.run(issue).await?;
    let text = fs::read_to_string(&out)?;
    let row = text.lines().nth(1).and_then(|row| row.split_once(','));
    let (code, salt) = row.context("no code and salt")?;
    let show = args!["pass", "show", code, "--salt", salt];
    let shown = scene.cairn.run(show).await?;
    let what = "one code bound to an ID card; its number is on no ledger and in no file";
    scene.steps.done_since("a holder", what, began);
    Field(&shown, "pass").text()
}

/// A queue: every pass one line, on one process.
async fn queue(
    scene: &mut Scene,
    passes: &[String],
    trust: &std::path::Path,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let scanned = scene.layout.outsider().join("scanned.txt");
    fs::write(&scanned, passes.join("\n"))?;
    let gate = scene.offline.in_folder(&scene.layout.outsider());
    let all = args!["pass", "verify", "--from", scanned, "--trust", trust];
    let judged = gate.rows_of(all, super::town::NOT_THROUGH).await?;
    let through = judged.iter().filter(|one| one["verdict"] == "accepted");
    let (through, expected) = (through.count(), passes.len() - 2);
    if (through, judged.len()) != (expected, passes.len()) {
        bail!("{through} of {} passed, expected {expected}", judged.len());
    }
    let detail = format!("{} judged, {through} let through", passes.len());
    scene.steps.done_since("the queue", detail, began);
    Ok(())
}

/// The pass with another character at a place.
fn flipped(pass: &str, at: usize) -> String {
    let other = if pass.as_bytes()[at] == b'A' {
        "B"
    } else {
        "A"
    };
    let mut edited = pass.to_owned();
    edited.replace_range(at..=at, other);
    edited
}
