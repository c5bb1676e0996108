//! Four real processes on loopback: formed by command, one killed and restarted, stopped cleanly.

#![allow(clippy::unwrap_used)]

mod cluster;

use std::time::Duration;

use cairn_proto::v1;
use cluster::{Cluster, run_to_end};
use tonic_types::StatusExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn four_members_certify_survive_a_kill_and_stop_cleanly() {
    let mut cluster = Cluster::new();
    for id in 1..=4 {
        let (code, text) = run_to_end(&cluster, "check", id, &[]);
        assert_eq!(code, Some(0), "{text}");
    }

    // Alone a node certifies nothing, and says so with a stable reason.
    cluster.start(2);
    let mut ledger = cluster.ledger(2).await;
    let early = ledger.get_checkpoint(v1::GetCheckpointRequest::default());
    let early = early.await.unwrap_err();
    let details = early.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "NO_CERTIFIED_VIEW");
    assert!(details.retry_info().is_some());
    assert!(!cluster.healthy(2).await);

    // Together they certify the genesis without a leader; entries need one.
    for id in [1, 3, 4] {
        cluster.start(id);
    }
    cluster.caught_up(2, 0).await;
    assert!(cluster.healthy(2).await);
    let early = cluster.submit(2, cluster.evidence(0)).await.unwrap_err();
    let details = early.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "NO_LEADER");

    let (code, text) = run_to_end(&cluster, "init", 1, &["--wait", "20"]);
    assert_eq!(code, Some(0), "{text}");
    // The same node again: another one may not have heard of it yet, and then forms the same
    // cluster from the same genesis, which Raft allows.
    let (code, text) = run_to_end(&cluster, "init", 1, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("nothing to do"), "{text}");

    // What is served is what reflection tells, and the operator's service is not public.
    let public = cluster.reflected(3).await;
    assert!(
        public.contains(&"cairn.v1.CodeStatusService".to_owned()),
        "{public:?}"
    );
    assert!(!public.contains(&"cairn.v1.AdminService".to_owned()));
    assert!(cluster.public_admin_is_unknown(3).await);

    // Entries through every node, each certified; the same again gives the same answer.
    let mut ids = Vec::new();
    for number in 1..=12 {
        let entry = cluster.evidence(number);
        let node = u8::try_from(number % 4 + 1).unwrap();
        let status = cluster.certified(node, entry.clone()).await;
        let again = cluster.certified(node % 4 + 1, entry).await;
        assert_eq!(status, again);
        ids.push(status.entry_id);
    }
    assert!(cluster.healthy(2).await);
    let before = cluster.verified_checkpoint(1).await;
    assert!(before.tree_size >= 12);

    // A folder in use, and a port in use.
    let (code, text) = run_to_end(&cluster, "run", 1, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("another process uses the data folder"),
        "{text}"
    );

    // Many on one stream, answered in order; one that is no entry ends it, behind the others.
    let watching = cluster.watch(3, before.height + 1).await;
    let entries: Vec<_> = (1_000..1_600).map(|n| cluster.evidence(n)).collect();
    let (answers, error) = cluster.stream(2, entries.clone()).await;
    let places: Vec<u64> = answers.iter().map(|status| status.leaf_index).collect();
    assert_eq!(answers.len(), entries.len());
    assert!(places.is_sorted_by(|a, b| a + 1 == *b), "{places:?}");
    let details = error.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "FIELD_INVALID");
    watching.await.unwrap();
    let metrics = cluster.metrics(2);
    assert!(metrics.contains("cairn_connected_peers 3"), "{metrics}");
    assert!(
        metrics.contains("method=\"LedgerService/SubmitEntries\""),
        "{metrics}"
    );

    // The leader dies; three of four go on.
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let other = leader % 4 + 1;
    for number in 13..=20 {
        let status = cluster.certified(other, cluster.evidence(number)).await;
        ids.push(status.entry_id);
    }
    let during = cluster.verified_checkpoint(other).await;
    assert!(during.height > before.height && during.tree_size >= 620);

    // It comes back, catches up, and has everything.
    cluster.start(leader);
    cluster.caught_up(leader, during.height).await;
    for id in &ids {
        cluster.receipt_verifies(leader, id).await;
    }
    let status = cluster.certified(leader, cluster.evidence(21)).await;
    assert_eq!(status.state(), v1::EntryState::Certified);
    cluster.listing_and_blocks_agree(leader).await;

    for id in 1..=4 {
        assert_eq!(cluster.terminate(id), Some(0), "{}", cluster.log(id));
    }
    // And all of them come back together.
    for id in 1..=4 {
        cluster.start(id);
    }
    cluster.caught_up(3, during.height).await;
    cluster.receipt_verifies(3, &ids[0]).await;
    tokio::time::timeout(
        Duration::from_secs(30),
        cluster.certified(4, cluster.evidence(22)),
    )
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_fifth_member_comes_in_and_certifies_and_one_that_left_is_not_heard_day_one_21() {
    let mut cluster = Cluster::new();
    for id in 1..=4 {
        cluster.start(id);
    }
    let (code, text) = run_to_end(&cluster, "init", 1, &["--wait", "20"]);
    assert_eq!(code, Some(0), "{text}");
    let first = cluster.certified(3, cluster.evidence(1)).await;

    let mut next = cluster.next_members();
    next.members.push(cluster.newcomer());
    next.policy.as_mut().unwrap().threshold = 4;
    let change = cluster.change(&next, &[1, 2, 4]);
    cluster.certified(2, change).await;
    cluster.follow(1, 1).await;
    cluster.start(5);
    let second = cluster.certified(1, cluster.evidence(2)).await;
    cluster.caught_up(5, second.height).await;

    // Without the fourth, the fifth is needed.
    cluster.kill(4);
    let third = cluster.certified(5, cluster.evidence(3)).await;
    let signers = cluster.cosigners(1, 1).await;
    assert!(signers.contains(&5), "{signers:?}");
    cluster.start(4);
    cluster.caught_up(4, third.height).await;

    let mut next = cluster.next_members();
    next.members.retain(|member| member.raft_id != 2);
    next.policy.as_mut().unwrap().threshold = 3;
    let change = cluster.change(&next, &[5, 1, 3, 4]);
    cluster.certified(3, change).await;
    cluster.follow(3, 2).await;
    let fourth = cluster.certified(3, cluster.evidence(4)).await;
    for id in [1, 3, 4, 5] {
        cluster.caught_up(id, fourth.height).await;
    }
    let signers = cluster.cosigners(5, 2).await;
    assert!(!signers.contains(&2), "{signers:?}");

    // It runs on, and nobody lets it in: what it takes goes nowhere.
    let began = std::time::Instant::now();
    while cluster.connected(2, 1).await || cluster.connected(2, 3).await {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{}",
            cluster.log(1)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let lost = cluster.submit(2, cluster.evidence(5)).await;
    assert!(lost.is_err() || lost.is_ok_and(|status| status.height == 0));
    cluster.certified(4, cluster.evidence(6)).await;

    // What was recorded before is proven by those who are there now, and a restart finds them.
    for id in [1, 4, 5] {
        assert_eq!(cluster.terminate(id), Some(0), "{}", cluster.log(id));
        cluster.start(id);
        cluster
            .certified(id, cluster.evidence(10 + u32::from(id)))
            .await;
    }
    cluster.receipt_verifies(5, &first.entry_id).await;
}
