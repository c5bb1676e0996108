//! A district of 100,000 is turned yellow by one order, and released by check-ins on two days of the
//! region, without any further order.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::time::sleep;

use super::scene::{REFUSED, Scene};
use super::town::Order;
use crate::cairn::{Cairn, Field, args};
use crate::codes;
use crate::plan::REGION;
use crate::rules::now_s;
use crate::steps::thousands;

/// People of the district.
pub const DISTRICT: usize = 100_000;
/// People who miss the second day.
const MISSED: usize = 1_000;
const MINUTES_OF_A_DAY: u64 = 1_440;
/// The first day's check-ins take less.
const FIRST_DAY: u64 = 45;

pub async fn run(scene: &mut Scene, codes: u64) -> anyhow::Result<()> {
    let issued = scene.issue("codes.csv", usize::try_from(codes)?).await?;
    let mut all = codes::read(&issued)?;
    all.truncate(DISTRICT);
    let file = scene.layout.codes("district.csv");
    codes::write(&file, &all)?;
    let stays = scene.layout.codes("missed.csv");
    let comes = scene.layout.codes("comes.csv");
    codes::write(&stays, &all[..MISSED])?;
    codes::write(&comes, &all[MISSED..])?;

    let mut bad = all[..3].to_vec();
    bad.push(hex::encode([9; 32]));
    bad.push(all[0].clone());
    let cohort = scene.layout.codes("bad.csv");
    codes::write(&cohort, &bad)?;
    let mut rehearsed = scene.order(&Order::of("yellow", cohort.clone()));
    rehearsed.extend(args!["--dry-run"]);
    scene.cairn.refused(rehearsed, REFUSED).await?;
    let mut rehearsed = scene.order(&Order::of("yellow", file.clone()));
    rehearsed.extend(args!["--dry-run"]);
    let began = Instant::now();
    let told = scene.cairn.run(rehearsed).await?;
    Field(&told, "would_be_accepted").holds()?;
    let what = "nothing is handed in; a cohort with an unknown code and a double is named by lines";
    scene.steps.done_since("rehearsed", what, began);

    scene
        .ordered("the district", &Order::of("yellow", file.clone()))
        .await?;

    // The region's midnight is at the next full minute that leaves time for the first day.
    let midnight = (now_s()? + FIRST_DAY).div_ceil(60) * 60;
    let minute = midnight / 60 % MINUTES_OF_A_DAY;
    let offset = (MINUTES_OF_A_DAY - minute) % MINUTES_OF_A_DAY;
    let station = scene.public("station").await?;
    let rule = format!(
        "[region]\nregion = \"{REGION}\"\ncheck_ins = 2\nconsecutive = true\nday_offset_minutes = \
         {offset}\nrelease_from = [\"yellow\"]\nrelease_to = \"green\"\nstations = \
         [\"{station}\"]\ncheck_in_delay_hours = 24\n"
    );
    scene.granted("rule", &rule).await?;

    let first = check_in(scene, "the first day", &file).await?;
    if first != (DISTRICT as u64, 0) {
        bail!("{first:?} counted and released on the first day");
    }
    if now_s()? >= midnight {
        bail!("the first day's check-ins took beyond the region's midnight: a machine too slow");
    }
    // Twice on a day counts once.
    let again = check_in(scene, "and once more", &stays).await?;
    if again != (0, 0) {
        bail!("{again:?} counted and released by a second check-in on one day");
    }
    scene.shows(&all[0], "yellow").await?;
    let began = Instant::now();
    scene.steps.busy("until the region's midnight", false);
    sleep(Duration::from_secs(midnight.saturating_sub(now_s()?) + 1)).await;
    let what = "the region's day ends at a full minute, by its rule";
    scene.steps.done_since("midnight", what, began);
    let second = check_in(scene, "the second day", &comes).await?;
    let released = (DISTRICT - MISSED) as u64;
    if second != (released, released) {
        bail!("{second:?} counted and released on the second day");
    }
    let released = all.last().context("no codes")?;
    scene.shows(released, "green").await?;
    scene.shows(&all[0], "yellow").await?;

    let began = Instant::now();
    let auditors = scene.auditors();
    let history = auditors.rows(args!["audit", "code", released]).await?;
    let statuses = history.iter().map(|change| change["status"].as_str());
    if statuses.flatten().collect::<Vec<_>>() != ["green", "yellow", "green"] {
        bail!("the history of a code that was released: {history:?}");
    }
    let acts = scene.acts("authority").await?;
    let orders = acts.iter().filter(|act| act["act"] == "ordered").count();
    if orders != 1 {
        bail!("{orders} orders among the authority's acts, expected one");
    }
    let what = format!(
        "one order among {} acts; {} released, {} still yellow",
        acts.len(),
        thousands((DISTRICT - MISSED) as u64),
        thousands(MISSED as u64)
    );
    scene.steps.done_since("an auditor", what, began);
    Ok(())
}

/// The station sees the holders of all codes in a file: how many counted, and were released.
async fn check_in(
    scene: &mut Scene,
    title: &str,
    from: &std::path::Path,
) -> anyhow::Result<(u64, u64)> {
    let cairn: &Cairn = &scene.cairn;
    let seen = args![
        "code",
        "check-in",
        "--key",
        scene.layout.key("station"),
        "--region",
        REGION,
        "--from",
        from
    ];
    let seen = cairn.timed(seen).await?;
    let [codes, counted, released] =
        ["codes", "counted", "released"].map(|name| Field(&seen.value, name).number());
    let (codes, counted, released) = (codes?, counted?, released?);
    let what = format!(
        "{} seen, {} counted, {} released",
        thousands(codes),
        thousands(counted),
        thousands(released)
    );
    scene.steps.done(title, what, seen.took);
    Ok((counted, released))
}
