//! A field team's day: a journal is kept with no network, survives a power cut in the middle of a
//! record, and is brought to the ledger once, however often that is tried.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::scene::{REFUSED, Scene};
use super::town::Order;
use crate::cairn::{Cairn, Field, args};
use crate::codes;
use crate::plan::REGION;

/// People who come to the station in the morning.
const REGISTERED: usize = 60;
/// Of these, so many are tested in the afternoon.
const TESTED: usize = 40;

pub async fn run(scene: &mut Scene) -> anyhow::Result<()> {
    let station = scene.public("station").await?;
    // One test releases: the day is short.
    let rule = format!(
        "[region]\nregion = \"{REGION}\"\ncheck_ins = 1\nrelease_from = [\"yellow\"]\nrelease_to = \
         \"green\"\nstations = [\"{station}\"]\ncheck_in_delay_hours = 24\n"
    );
    let began = Instant::now();
    scene.granted("rule", &rule).await?;
    let what = "a test releases a yellow code; the station may record tests";
    scene.steps.done_since("region's rule", what, began);

    let began = Instant::now();
    let journal = scene.layout.codes("day.journal");
    let field = scene.offline.in_folder(&scene.layout.outsider());
    let begin = args![
        "intake",
        "begin",
        "--journal",
        journal,
        "--key",
        scene.layout.key("station"),
        "--region",
        REGION,
        "--chain-id",
        scene.plan.chain_id
    ];
    field.run(begin).await?;
    let registered = register(scene, &field, &journal, REGISTERED).await?;
    let what = format!("{REGISTERED} people, each on the disk before it is said");
    scene.steps.done_since("registered", what, began);

    let began = Instant::now();
    power_cut(&journal)?;
    let listed = list(&field, &journal).await?;
    if listed.len() != REGISTERED {
        bail!("{} records are left of {REGISTERED}", listed.len());
    }
    test(scene, &field, &journal, &registered[..1]).await?;
    edited(scene, &field, &journal).await?;
    let what = "half a record is cut off, the others are there; an edited journal is refused";
    scene.steps.done_since("power cut", what, began);

    let began = Instant::now();
    let synced = sync(scene, &journal, true).await?;
    Field(&synced, "recorded").is(REGISTERED as u64 + 1)?;
    let again = sync(scene, &journal, true).await?;
    Field(&again, "recorded").is(0)?;
    Field(&again, "earlier").is(REGISTERED as u64 + 1)?;
    let what = "once, though it is sent twice";
    scene.steps.done_since("brought to the ledger", what, began);

    afternoon(scene, &field, &journal, &registered).await
}

/// All are turned yellow; the station tests some, and two of them are turned red before the journal
/// gets to the ledger.
async fn afternoon(
    scene: &mut Scene,
    field: &Cairn,
    journal: &Path,
    registered: &[String],
) -> anyhow::Result<()> {
    let cohort = scene.layout.codes("cohort.csv");
    codes::write(&cohort, registered)?;
    scene
        .ordered("all yellow", &Order::of("yellow", cohort))
        .await?;
    let began = Instant::now();
    let tested = &registered[..TESTED];
    test(scene, field, journal, tested).await?;
    let late = scene.layout.codes("red.csv");
    codes::write(&late, &registered[..2])?;
    scene
        .ordered("two turned red", &Order::of("red", late))
        .await?;
    let synced = sync(scene, journal, false).await?;
    Field(&synced, "recorded").is(TESTED as u64)?;
    let conflicts = synced["conflicts"].as_array().map_or(0, Vec::len);
    if conflicts != 2 {
        bail!("{conflicts} conflicts are told, and two codes have newer statuses");
    }
    for (index, code) in registered.iter().enumerate() {
        let expected = match index {
            0..2 => "red",
            2..TESTED => "green",
            _ => "yellow",
        };
        scene.shows(code, expected).await?;
    }
    let what = format!(
        "{} released by their tests; two that were turned red meanwhile stay so, and are told",
        TESTED - 2
    );
    scene.steps.done_since("the afternoon's tests", what, began);
    Ok(())
}

async fn register(
    scene: &Scene,
    field: &Cairn,
    journal: &Path,
    count: usize,
) -> anyhow::Result<Vec<String>> {
    let register = args![
        "intake",
        "register",
        "--journal",
        journal,
        "--key",
        scene.layout.key("station"),
        "--count",
        count.to_string(),
        "--valid-days",
        "30"
    ];
    let kept = field.rows(register).await?;
    kept.iter().map(|one| Field(one, "code").text()).collect()
}

async fn test(
    scene: &Scene,
    field: &Cairn,
    journal: &Path,
    codes: &[String],
) -> anyhow::Result<()> {
    let mut test = args!["intake", "test", "--journal", journal];
    test.extend(args!["--key", scene.layout.key("station")]);
    for code in codes {
        test.extend(args![code]);
    }
    let kept = field.rows(test).await?;
    match kept.len() == codes.len() {
        true => Ok(()),
        false => bail!("{} of {} tests were recorded", kept.len(), codes.len()),
    }
}

async fn list(field: &Cairn, journal: &Path) -> anyhow::Result<Vec<Value>> {
    field
        .rows(args!["intake", "list", "--journal", journal])
        .await
}

async fn sync(scene: &Scene, journal: &Path, all_well: bool) -> anyhow::Result<Value> {
    let sync = args![
        "intake",
        "sync",
        "--journal",
        journal,
        "--key",
        scene.layout.key("station"),
        "--authority-key",
        scene.layout.key("authority")
    ];
    match all_well {
        true => scene.cairn.run(sync).await,
        false => scene.cairn.refused(sync, REFUSED).await,
    }
}

/// The disk has the beginning of a record, as after a power cut while it was written.
fn power_cut(journal: &Path) -> anyhow::Result<()> {
    let bytes = fs::read(journal)?;
    let half = bytes.get(..60).context("the journal is short")?;
    File::options()
        .append(true)
        .open(journal)?
        .write_all(half)?;
    Ok(())
}

/// Somebody edits a record that is not the last one: no journal at all.
async fn edited(scene: &Scene, field: &Cairn, journal: &Path) -> anyhow::Result<()> {
    let copy = scene.layout.codes("edited.journal");
    let mut bytes = fs::read(journal)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&copy, bytes)?;
    let list = args!["intake", "list", "--journal", copy];
    field.refused(list, REFUSED).await?;
    Ok(())
}
