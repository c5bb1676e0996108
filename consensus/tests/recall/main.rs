//! A node never votes or signs on folders that are older than its promises, and an honest node is
//! never kept from going on.

#![allow(clippy::unwrap_used, missing_docs)]

mod cluster;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_proto::v1;
use cluster::{APPEND, COSIGNATURE, Folders, MEMBERS, RECALL, VOTE, run};
use prost::Message as _;

const OLDER: &str = "older than what it signed";

#[test]
fn a_member_whose_folders_were_wiped_stops_and_signs_nothing() {
    run(1, |mut cluster| async move {
        cluster.formed().await;
        let height = cluster.record(5).await;
        cluster.crash(3).await;
        let signed = cluster.folders(3).signed();
        assert!(signed >= Some(height - 1), "{signed:?}");
        cluster.put_back(3, Folders::default());
        let said = cluster.sent(3, COSIGNATURE);
        cluster.start(3).await.unwrap();
        let why = cluster.stopped(3).await;
        assert!(
            why.contains(OLDER) && why.contains("holds nothing"),
            "{why}"
        );
        assert!(why.contains("cairn member propose"), "{why}");
        cluster.record(5).await;
        assert_eq!(cluster.sent(3, COSIGNATURE), said, "not even the genesis");
        assert_eq!(cluster.folders(3).signed(), None);
    });
}

#[test]
fn a_member_on_a_copy_from_fifty_blocks_ago_stops_and_signs_nothing() {
    run(2, |mut cluster| async move {
        cluster.formed().await;
        cluster.record(5).await;
        cluster.crash(2).await;
        let old = cluster.folders(2).copied();
        let was = old.signed();
        cluster.start(2).await.unwrap();
        cluster.record(50).await;
        cluster.crash(2).await;
        let new = cluster.folders(2).copied();
        assert!(new.signed() > was);

        cluster.put_back(2, old.copied());
        let said = [VOTE, COSIGNATURE].map(|kind| cluster.sent(2, kind));
        cluster.start(2).await.unwrap();
        let why = cluster.stopped(2).await;
        assert!(why.contains(OLDER), "{why}");
        cluster.record(5).await;
        let says = [VOTE, COSIGNATURE].map(|kind| cluster.sent(2, kind));
        assert_eq!(says, said);
        assert_eq!(cluster.folders(2).signed(), was);

        // Its own state, where that is newer, says so without asking anybody.
        cluster.crash(2).await;
        cluster.put_back(2, old.with_ledger_of(&new));
        let refused = cluster.start(2).await.unwrap_err().to_string();
        assert!(refused.contains(OLDER), "{refused}");
        // And with what it really had it goes on.
        cluster.put_back(2, new.copied());
        cluster.start(2).await.unwrap();
        cluster.takes_part(2).await;
        let signed = cluster.record(5).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        cluster.crash(2).await;
        assert!(cluster.folders(2).signed() >= Some(signed));
    });
}

#[test]
fn a_member_that_reaches_nobody_waits_and_promises_nothing() {
    run(3, |mut cluster| async move {
        cluster.formed().await;
        cluster.record(5).await;
        cluster.crash(4).await;
        cluster.set_cut(&[1, 2]);
        let said = [VOTE, APPEND, COSIGNATURE].map(|kind| cluster.sent(4, kind));
        cluster.start(4).await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        let status = cluster.core(4).status();
        assert_eq!(status.raft_state, "asking", "one of three is too few");
        let says = [VOTE, APPEND, COSIGNATURE].map(|kind| cluster.sent(4, kind));
        assert_eq!(says, said);
        cluster.set_cut(&[1]);
        let took = cluster.takes_part(4).await;
        assert!(took < Duration::from_millis(1_500), "{took:?}");
        cluster.record(5).await;
    });
}

#[test]
fn a_restart_in_a_healthy_cluster_takes_one_round_trip() {
    run(4, |mut cluster| async move {
        cluster.formed().await;
        for id in 1..=MEMBERS {
            cluster.record(2).await;
            cluster.crash(id).await;
            cluster.start(id).await.unwrap();
            let took = cluster.takes_part(id).await;
            assert!(took < Duration::from_millis(20), "{took:?}");
        }
        cluster.record(2).await;
    });
}

#[test]
fn all_restarted_at_once_go_on() {
    run(5, |mut cluster| async move {
        cluster.formed().await;
        let before = cluster.record(10).await;
        for _ in 0..3 {
            for id in 1..=MEMBERS {
                cluster.crash(id).await;
            }
            for id in 1..=MEMBERS {
                cluster.start(id).await.unwrap();
            }
            assert!(cluster.record(3).await > before);
        }
    });
}

/// The same folders, but the others have held elections since.
#[test]
fn a_member_that_may_have_voted_does_not_vote_in_a_term_that_others_know() {
    run(6, |mut cluster| async move {
        for id in 1..=MEMBERS {
            cluster.start(id).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        cluster.crash(4).await;
        let fresh = cluster.folders(4).copied();
        cluster.start(4).await.unwrap();
        cluster.takes_part(4).await;
        cluster.core(1).initialize().await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let term = cluster.core(1).status().term;
        assert!(term > 0);

        cluster.crash(4).await;
        cluster.put_back(4, fresh.copied());
        cluster.lose(&[APPEND, VOTE]);
        cluster.start(4).await.unwrap();
        cluster.takes_part(4).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let status = cluster.core(4).status();
        assert!(status.term >= term && status.leader.is_none(), "{status:?}");
        // It follows the leader of that very term all the same.
        cluster.lose(&[]);
        cluster.record(3).await;
    });
}

#[test]
fn a_claim_without_this_nodes_own_signature_stops_nobody() {
    run(7, |mut cluster| async move {
        cluster.formed().await;
        cluster.record(3).await;
        cluster.crash(1).await;
        cluster.record(3).await;
        // Member 2 shows its own cosignature of a later block as if it were member 1's.
        let later = cluster.core(2).checkpoint_at(6).unwrap().unwrap();
        let key = cluster.ledger.cosign_key(2).verifying_key().to_bytes();
        cluster.twist(Arc::new(move |asked, answered, kind, answer| {
            if kind != RECALL || asked != 1 || answered != 2 {
                return answer;
            }
            let cosignature = later.cosignatures.iter().find(|c| c.public_key[..] == key);
            let lie = v1::RecallResponse {
                cosigned: Some(v1::CosignatureNotice {
                    height: 6,
                    header_hash: cairn_ledger::checkpoint::header_hash(&later.header).to_bytes(),
                    cosignature: cosignature.cloned(),
                    header: later.header.clone(),
                }),
                ..v1::RecallResponse::decode(answer).unwrap()
            };
            Bytes::from(lie.encode_to_vec())
        }));
        cluster.start(1).await.unwrap();
        cluster.takes_part(1).await;
        cluster.record(3).await;
        assert_eq!(cluster.core(1).status().stopped, None);
    });
}

#[test]
fn no_crash_of_an_honest_node_makes_it_stop() {
    for seed in 100..116 {
        run(seed, |mut cluster| async move {
            cluster.formed().await;
            for _ in 0..12 {
                let blocks = cluster.rng.between(0, 2);
                cluster.record(blocks).await;
                let entry = cluster.ledger.evidence(2, cluster.rng.next());
                let through = cluster.rng.between(1, MEMBERS);
                cluster.core(through).submit(vec![entry]).await;
                // In the middle of everything that this entry brings about.
                let moment = Duration::from_millis(cluster.rng.between(0, 60));
                tokio::time::sleep(moment).await;
                let mut down = vec![cluster.rng.between(1, MEMBERS)];
                if cluster.rng.per_mille(300) {
                    down = (1..=MEMBERS).collect();
                }
                for id in &down {
                    cluster.crash(*id).await;
                }
                for id in &down {
                    let started = cluster.start(*id).await;
                    assert!(started.is_ok(), "seed {seed}, member {id}: {started:?}");
                }
                for id in 1..=MEMBERS {
                    cluster.takes_part(id).await;
                    let stopped = cluster.core(id).status().stopped;
                    assert_eq!(stopped, None, "seed {seed}, member {id}");
                }
            }
            cluster.record(1).await;
        });
    }
}
