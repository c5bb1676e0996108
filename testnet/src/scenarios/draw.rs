//! 100,000 applicants and 10,000 winners, published in order of rank.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, bail};

use super::scene::Scene;
use crate::cairn::{Field, args};
use crate::steps::thousands;

const APPLICANTS: u32 = 100_000;
const WINNERS: u32 = 10_000;
/// Of the waiting list.
const WAITING: u32 = 1_000;
/// In the order in which people were registered; each holds as many applicants.
const TENTHS: usize = 10;
/// 9 degrees of freedom go beyond this once in a million fair draws.
const MAX_CHI_SQUARE: f64 = 44.8;

pub async fn run(scene: &mut Scene) -> anyhow::Result<()> {
    let title = "Tickets for the people of Lakeside";
    let mut rules = scene.rules(title, APPLICANTS, WINNERS).await?;
    rules.tier[0].waiting_list = WAITING;
    let id = scene.open(&rules).await?;
    scene.invent(APPLICANTS, &[])?;
    let receipts = register_and_be_killed(scene, &id).await?;
    scene
        .enrol(&id, APPLICANTS, scene.desks.register(&id))
        .await?;
    if fs::read(scene.desks.receipts())? != receipts {
        bail!("registering went on with other receipts");
    }
    scene.contribute(&id, |_| true).await?;
    scene.beacon(&id).await?;
    scene.publish(&id).await?;
    scene.certify(&id).await?;

    let results = args!["lottery", "results", id, "--ranks", WINNERS.to_string()];
    let answer = scene.cairn.run(results).await?;
    let winners = answer["serials"].as_array().context("no serials")?;
    let winners: Vec<u64> = winners
        .iter()
        .filter_map(|serial| serial.as_u64())
        .collect();
    if winners.len() != WINNERS as usize {
        bail!("{} winners, expected {WINNERS}", winners.len());
    }
    let chi_square = over_entry_time(&winners);
    let began = Instant::now();
    if chi_square > MAX_CHI_SQUARE {
        bail!(
            "winners over entry time: chi-square {chi_square:.1}, a fair draw stays below {MAX_CHI_SQUARE}"
        );
    }
    for (serial, verdict) in [
        (winners[0], "won"),
        (winners[winners.len() - 1], "won"),
        (scene.find(&id, "waiting", 0).await?, "waiting"),
        (scene.find(&id, "not won", 0).await?, "not won"),
    ] {
        scene.stands(&id, serial, verdict).await?;
    }
    let detail = format!(
        "won, waiting and not won, each with proofs; over entry time chi-square {chi_square:.1} (9 \
         degrees of freedom)"
    );
    scene.steps.done_since("asked", detail, began);
    let again = scene.recompute(&id).await?;
    Field(&again, "winners").is(WINNERS)?;
    scene.report(&id, &[title, "10,000"]).await
}

/// Registering, killed as by `kill -9` once the first rows are certified; the receipts that it leaves.
async fn register_and_be_killed(scene: &mut Scene, id: &str) -> anyhow::Result<Vec<u8>> {
    let began = Instant::now();
    scene.steps.busy("registering, to be killed", false);
    let first_rows = async {
        loop {
            let lottery = scene.cairn.run(args!["lottery", "show", id]).await?;
            let rows = Field(&lottery, "rows").number()?;
            if rows > 0 {
                return anyhow::Ok(rows);
            }
        }
    };
    let detail = tokio::select! {
        registered = scene.cairn.run(scene.desks.register(id)) => {
            Field(&registered?, "rows").is(APPLICANTS)?;
            "it was done before a row was seen; the next run finds nothing to do".to_owned()
        }
        rows = first_rows => {
            format!("with {} rows certified; the next run goes on", thousands(rows?))
        }
    };
    scene.steps.done_since("killed", detail, began);
    Ok(fs::read(scene.desks.receipts())?)
}

/// How far the winners are from a tenth in each tenth of those who registered. A lottery that drew
/// its winners from the first days of registration was annulled in 2011.
fn over_entry_time(winners: &[u64]) -> f64 {
    let mut counts = [0.0; TENTHS];
    for serial in winners {
        let tenth = usize::try_from(*serial).unwrap_or(0) * TENTHS / APPLICANTS as usize;
        counts[tenth.min(TENTHS - 1)] += 1.0;
    }
    let expected = winners.len() as f64 / TENTHS as f64;
    let parts = counts.iter().map(|count: &f64| (count - expected).powi(2));
    parts.sum::<f64>() / expected
}
