//! A contributor does not come. With a beacon it is listed as absent and the draw goes on; without
//! one the lottery waits, until the members void the attempt and drop who stayed away.

use std::time::Instant;

use anyhow::{Context as _, bail};

use super::scene::{REFUSED, Scene};
use crate::cairn::args;
use crate::institutions::Role;

const APPLICANTS: u32 = 1_000;
const WINNERS: u32 = 100;

pub async fn run(scene: &mut Scene) -> anyhow::Result<()> {
    let institute = scene.plan.first(Role::Institute)?.clone();
    let absent = institute.institution.as_str();

    let rules = scene.rules("With a beacon", APPLICANTS, WINNERS).await?;
    let open = scene.open(&rules).await?;
    scene.invent(APPLICANTS, &[])?;
    scene
        .enrol(&open, APPLICANTS, scene.desks.register(&open))
        .await?;
    scene
        .contribute(&open, |node| node.raft_id != institute.raft_id)
        .await?;
    scene.beacon(&open).await?;
    // Too late, and refused: the seed is what it is.
    let late = scene.desks.contribute(&open, institute.raft_id);
    scene.cairn.refused(late, REFUSED).await?;
    scene.publish(&open).await?;
    scene.certify(&open).await?;
    scene.recompute(&open).await?;
    scene.report(&open, &[absent]).await?;

    let rules = scene.rules("Without a beacon", APPLICANTS, WINNERS).await?;
    let closed = scene.open(&rules.without_beacon()).await?;
    // Receipts belong to one lottery.
    std::fs::remove_file(scene.desks.receipts())?;
    scene
        .enrol(&closed, APPLICANTS, scene.desks.register(&closed))
        .await?;
    scene
        .contribute(&closed, |node| node.raft_id != institute.raft_id)
        .await?;
    waits(scene, &closed).await?;
    let began = Instant::now();
    let letter = scene.document("letter.txt", "The institute was asked, and did not come.\n")?;
    scene
        .void(&closed, "the institute did not come", &letter, &[absent])
        .await?;
    let what = "the lottery waited; the members void the attempt and name who stayed away";
    scene.steps.done_since("attempt 1 voided", what, began);
    scene.roll(&closed).await?;
    scene
        .contribute(&closed, |node| node.raft_id != institute.raft_id)
        .await?;
    scene.publish(&closed).await?;
    scene.certify(&closed).await?;
    scene.recompute(&closed).await?;
    scene.report(&closed, &[absent]).await
}

/// Whoever is absent holds up a closed lottery, and changes nothing of its seed.
async fn waits(scene: &Scene, id: &str) -> anyhow::Result<()> {
    scene
        .cairn
        .refused(scene.desks.publish(id), REFUSED)
        .await?;
    let shown = scene.cairn.run(args!["lottery", "show", id]).await?;
    let stage = shown["stage"].as_str().context("no stage")?;
    if stage != "contributing" {
        bail!("a closed lottery with an absent contributor is {stage}");
    }
    Ok(())
}
