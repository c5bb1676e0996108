//! A drawn attempt is voided by the members, with a document and in public; the next one, on the
//! same roster, is certified, and the first draw stays to be seen.

use std::time::Instant;

use anyhow::bail;

use super::scene::{REFUSED, Scene};
use crate::cairn::{Field, args};

const APPLICANTS: u32 = 2_000;
const WINNERS: u32 = 200;

pub async fn run(scene: &mut Scene) -> anyhow::Result<()> {
    let title = "Places in a school, drawn twice";
    let rules = scene.rules(title, APPLICANTS, WINNERS).await?;
    let id = scene.open(&rules).await?;
    scene.invent(APPLICANTS, &[])?;
    scene
        .enrol(&id, APPLICANTS, scene.desks.register(&id))
        .await?;
    scene.contribute(&id, |_| true).await?;
    scene.beacon(&id).await?;
    scene.publish(&id).await?;
    let first = results(scene, &id, 1).await?;

    let began = Instant::now();
    let minutes = "The cameras were off while the dice were thrown.\n";
    let document = scene.document("minutes.txt", minutes)?;
    scene
        .void(&id, "the dice were not recorded", &document, &[])
        .await?;
    let what = "by the members, for the dice were not recorded";
    scene.steps.done_since("attempt 1 voided", what, began);
    // Nobody is certified as a winner of a draw that was voided.
    let certify = scene.desks.certify(&id)?;
    scene.cairn.refused(certify, REFUSED).await?;

    scene.roll(&id).await?;
    scene.contribute(&id, |_| true).await?;
    scene.beacon(&id).await?;
    scene.publish(&id).await?;
    scene.certify(&id).await?;

    let second = results(scene, &id, 2).await?;
    if first == second {
        bail!("both attempts drew the same");
    }
    if results(scene, &id, 1).await? != first {
        bail!("the voided draw is no longer what it was");
    }
    let shown = scene.cairn.run(args!["lottery", "show", id]).await?;
    Field(&shown, "attempt").is(2)?;
    scene.recompute(&id).await?;
    scene.report(&id, &["the dice were not recorded"]).await
}

/// The ranking of an attempt.
async fn results(scene: &Scene, id: &str, attempt: u32) -> anyhow::Result<String> {
    let attempt = attempt.to_string();
    let results = args!["lottery", "results", id, "--attempt", attempt];
    let answer = scene.cairn.run(results).await?;
    Ok(answer["serials"].to_string())
}
