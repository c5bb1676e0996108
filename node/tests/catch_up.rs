//! Real processes: one that is far behind gets a copy of the state, and a restart of each in turn
//! costs no write more than one retry.

#![allow(clippy::unwrap_used)]

mod cluster;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cairn_proto::v1;
use cluster::{Cluster, run_to_end};

const INSTALLED: &str = "a copy of the state was installed";
const PURGED: &str = "the Raft log is purged below the older copy";

async fn formed(more: &str) -> Cluster {
    let mut cluster = Cluster::with(more);
    for id in 1..=4 {
        cluster.start(id);
    }
    let (code, text) = run_to_end(&cluster, "init", 1, &["--wait", "20"]);
    assert_eq!(code, Some(0), "{text}");
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_member_behind_the_purge_gets_a_copy_and_serves_answers_that_verify() {
    let mut cluster = formed("[copies]\nevery_blocks = 30").await;
    let first = cluster.certified(1, cluster.evidence(1)).await;
    let leader = cluster.leader().await;
    let away = leader % 4 + 1;
    let writer = away % 4 + 1;
    assert_eq!(cluster.terminate(away), Some(0), "{}", cluster.log(away));

    // More than two copies apart, so that nobody has the log any more that the one away needs.
    let mut number = 1;
    let began = Instant::now();
    while (1..=4).any(|id| id != away && cluster.log(id).matches(PURGED).count() < 2) {
        number += 1;
        cluster.certified(writer, cluster.evidence(number)).await;
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "nothing is purged"
        );
    }
    let certified = cluster.verified_checkpoint(writer).await;
    cluster.start(away);
    // Writes go on meanwhile.
    let last = cluster
        .certified(writer, cluster.evidence(number + 1))
        .await;
    cluster.caught_up(away, certified.height).await;
    // What it serves is there a moment before it says so.
    cluster.says(away, INSTALLED).await;
    cluster.receipt_verifies(away, &first.entry_id).await;
    cluster.caught_up(away, last.height).await;
    cluster.receipt_verifies(away, &last.entry_id).await;
    cluster.listing_and_blocks_agree(away).await;
    let status = cluster.certified(away, cluster.evidence(number + 2)).await;
    assert_eq!(status.state(), v1::EntryState::Certified);

    // It starts from what it was given, killed or stopped.
    cluster.kill(away);
    cluster.start(away);
    cluster.caught_up(away, status.height).await;
    cluster.receipt_verifies(away, &first.entry_id).await;
    for id in 1..=4 {
        assert_eq!(cluster.terminate(id), Some(0), "{}", cluster.log(id));
    }

    // Without its state it starts from its own copy, and from the log behind that.
    let ledger = cluster.data(away).join("ledger");
    fs::remove_file(ledger.join("current")).unwrap();
    for entry in fs::read_dir(&ledger).unwrap() {
        let path = entry.unwrap().path();
        if !path.ends_with("kept") {
            fs::remove_dir_all(path).unwrap();
        }
    }
    for id in 1..=4 {
        cluster.start(id);
    }
    cluster.caught_up(away, status.height).await;
    cluster.receipt_verifies(away, &first.entry_id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_each_node_in_turn_costs_no_write_more_than_one_retry() {
    let mut cluster = formed("").await;
    cluster.certified(1, cluster.evidence(1)).await;
    // A client for the whole time, that knows nothing of restarts: at one node after the other, and
    // once more at the next one if that fails.
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU32::new(0));
    let (client, stopped, count) = (cluster.client(), stop.clone(), written.clone());
    let writing = tokio::spawn(async move {
        let (mut retried, mut lost, mut slowest) = (0, Vec::new(), Duration::ZERO);
        while !stopped.load(Ordering::Relaxed) {
            let number = 1_000 + count.load(Ordering::Relaxed);
            let began = Instant::now();
            let at = u8::try_from(number % 4 + 1).unwrap();
            let next = at % 4 + 1;
            let entry = client.evidence(number);
            if let Err(first) = client.submit(at, entry.clone()).await {
                retried += 1;
                if let Err(second) = client.submit(next, entry).await {
                    lost.push(format!("{number} at {at}: {first}; at {next}: {second}"));
                }
            }
            slowest = slowest.max(began.elapsed());
            count.fetch_add(1, Ordering::Relaxed);
        }
        (retried, lost, slowest)
    });
    let mut leaders = 0;
    // The leader last once more: whoever leads then is stopped too.
    for turn in 0..6 {
        let leader = cluster.leader().await;
        let id = if turn < 4 { turn + 1 } else { leader };
        leaders += u32::from(id == leader);
        // The client writes before, and while the node is away and comes back.
        let before = written.load(Ordering::Relaxed);
        while written.load(Ordering::Relaxed) == before && !writing.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(cluster.terminate(id), Some(0), "{}", cluster.log(id));
        cluster.start(id);
        let height = cluster.verified_checkpoint(id % 4 + 1).await.height;
        cluster.caught_up(id, height).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (retried, lost, slowest) = writing.await.unwrap();
    let written = written.load(Ordering::Relaxed);
    println!(
        "6 restarts ({leaders} of leaders): {written} writes, {retried} retried, slowest {slowest:?}"
    );
    assert!(lost.is_empty(), "{lost:?}");
    assert!(leaders >= 2 && written >= 6);
}
