//! Real processes: one that is far behind gets a copy of the state, and a restart of each in turn
//! costs no write more than one retry.

#![allow(clippy::unwrap_used)]

mod cluster;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    assert!(
        cluster.log(away).contains(INSTALLED),
        "{}",
        cluster.log(away)
    );
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
    let (client, stopped) = (cluster.client(), stop.clone());
    let writing = tokio::spawn(async move {
        let (mut retried, mut lost, mut slowest) = (0, Vec::new(), Duration::ZERO);
        let mut number = 1_000;
        while !stopped.load(Ordering::Relaxed) {
            number += 1;
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
        }
        (number - 1_000, retried, lost, slowest)
    });
    let mut leaders = 0;
    // The leader last once more: whoever leads then is stopped too.
    for turn in 0..6 {
        let leader = cluster.leader().await;
        let id = if turn < 4 { turn + 1 } else { leader };
        leaders += u32::from(id == leader);
        assert_eq!(cluster.terminate(id), Some(0), "{}", cluster.log(id));
        cluster.start(id);
        let height = cluster.verified_checkpoint(id % 4 + 1).await.height;
        cluster.caught_up(id, height).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (written, retried, lost, slowest) = writing.await.unwrap();
    println!(
        "6 restarts ({leaders} of leaders): {written} writes, {retried} retried, slowest {slowest:?}"
    );
    assert!(lost.is_empty(), "{lost:?}");
    assert!(leaders >= 2 && written > 20);
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            meta if meta.is_dir() => bytes_in(&entry.path()),
            meta => meta.len(),
        })
        .sum()
}

/// Figures, printed: `cargo test --release -p cairn-node --test catch_up -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; prints figures"]
async fn restart_and_catch_up_times_at_100_000_entries() {
    let mut cluster = formed("[copies]\nevery_blocks = 100").await;
    cluster.certified(1, cluster.evidence(0)).await;
    let away = cluster.leader().await % 4 + 1;
    let other = away % 4 + 1;
    cluster.terminate(away);
    let mut number = 1_u32;
    for target in [1_000, 10_000, 100_000_u32] {
        while number < target {
            let portion = (target - number).min(2_000);
            let entries = (number..number + portion)
                .map(|n| cluster.evidence(n))
                .collect();
            let (statuses, _) = cluster.stream(other, entries).await;
            assert_eq!(statuses.len(), portion as usize);
            number += portion;
        }
        let began = Instant::now();
        cluster.terminate(other);
        let stopped = began.elapsed();
        let began = Instant::now();
        cluster.start(other);
        println!(
            "{target} entries: stop {stopped:?}, start to serving {:?}",
            began.elapsed()
        );
        cluster.caught_up(other, 1).await;
    }
    // Single writes until the copy is newer than all of it.
    let purged = |cluster: &Cluster| cluster.log(other).matches(PURGED).count();
    let before = purged(&cluster);
    while purged(&cluster) < before + 2 {
        number += 1;
        cluster.certified(other, cluster.evidence(number)).await;
    }
    let height = cluster.verified_checkpoint(other).await.height;
    let kept = cluster.data(other).join("ledger/kept");
    let newest = fs::read_dir(&kept)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let newest = newest.filter(|path| path.is_dir()).max().unwrap();
    let bytes = bytes_in(&newest);
    let began = Instant::now();
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&newest).unwrap() {
        let path = entry.unwrap().path();
        let to = copy.path().join(path.file_name().unwrap());
        fs::copy(&path, &to).unwrap();
        fs::File::open(&to).unwrap().sync_all().unwrap();
    }
    let copied = began.elapsed();
    cluster.start(away);
    let began = Instant::now();
    cluster.caught_up(away, height).await;
    println!(
        "catch-up of {number} entries, {bytes} bytes: {:?}; copying the bytes: {copied:?}",
        began.elapsed()
    );
    assert!(cluster.log(away).contains(INSTALLED));
}
