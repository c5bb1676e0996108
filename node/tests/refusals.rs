//! What a node refuses over the wire, with which reason, and what it costs to be asked.

#![allow(clippy::unwrap_used)]

mod cluster;

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cairn_ledger::{canonical, entry, hash};
use cairn_proto::v1;
use cluster::{Cluster, author, office};
use ed25519_dalek::SigningKey;
use futures::future::join_all;
use http_body::Frame;
use tonic::body::Body;
use tonic::codegen::http::Request;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::{Service, ServiceExt};

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!(info.domain, "cairn");
    info.reason.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_not_sound_is_refused_with_its_reason_and_leaves_no_trace() {
    let mut cluster = Cluster::new();
    cluster.form().await;
    let entry = cluster.evidence(1);
    let good = cluster.certified(1, entry.clone()).await;
    let before = cluster.verified_checkpoint(1).await;

    let client = cluster.client();
    let stranger = SigningKey::from_bytes(&[9; 32]);
    let by_author = |number, change: &dyn Fn(&mut v1::Envelope)| {
        client.evidence_with(number, &author(), |envelope| change(envelope))
    };
    let mut bad_signature = cluster.evidence(2);
    let bytes = bad_signature.signatures[0].signature.to_vec();
    bad_signature.signatures[0].signature = bytes.iter().map(|b| b ^ 1).collect();
    let mut other_body = cluster.evidence(3);
    other_body.body = cluster.evidence(4).body;
    let mut approved = cluster.evidence(11);
    let purpose = v1::SignaturePurpose::Approval;
    let approval = entry::sign(&office(2), &cluster.chain().id, purpose, &approved.envelope);
    approved.signatures.push(approval);
    approved
        .signatures
        .sort_by(|a, b| (&a.public_key, a.purpose).cmp(&(&b.public_key, b.purpose)));
    // A field that no schema has, behind the others.
    let plain = cluster.evidence(5);
    let trailing = Bytes::from([&plain.envelope[..], &[0xf8, 0x07, 1]].concat());
    let not_canonical = client.signed(trailing, plain.body, &author());
    let large = |bytes: usize| {
        let body = canonical::encode(&v1::Evidence {
            title: "x".repeat(bytes),
            ..Default::default()
        });
        let mut entry = by_author(6, &|envelope| {
            envelope.body_hash = hash::plain(&body).to_bytes();
            envelope.body_len = body.len() as u64;
        });
        entry.body = body.clone();
        entry
    };
    let table = [
        (
            "WRONG_CHAIN",
            Code::InvalidArgument,
            by_author(7, &|e| e.chain_id = Bytes::from_static(&[1; 32])),
        ),
        ("SIGNATURE_INVALID", Code::InvalidArgument, bad_signature),
        ("BODY_MISMATCH", Code::InvalidArgument, other_body),
        ("APPROVALS", Code::FailedPrecondition, approved),
        (
            "ENVELOPE_NOT_CANONICAL",
            Code::InvalidArgument,
            not_canonical,
        ),
        (
            "ENVELOPE_FIELD",
            Code::InvalidArgument,
            by_author(8, &|e| e.not_after_ms = 0),
        ),
        ("ENTRY_TOO_LARGE", Code::InvalidArgument, large(1 << 20)),
        ("REQUEST_REJECTED", Code::OutOfRange, large(2 << 20)),
        (
            "AUTHOR_UNKNOWN",
            Code::PermissionDenied,
            client.evidence_with(9, &stranger, |_| {}),
        ),
    ];
    let mut refused = Vec::new();
    for (expected, code, entry) in table {
        refused.push(hash::plain(&entry.envelope));
        let status = cluster.submit(2, entry).await.unwrap_err();
        assert_eq!(
            (reason(&status).as_str(), status.code()),
            (expected, code),
            "{status:?}"
        );
    }

    // An entry that is there already is answered with where it is.
    let again = cluster.submit(3, entry).await.unwrap();
    assert_eq!(again, good);
    // One that came too late is recorded as rejected: its author can show that it was handed in.
    let late = by_author(10, &|envelope| envelope.not_after_ms = 1);
    let late = cluster.submit(2, late).await.unwrap();
    assert_eq!(late.state(), v1::EntryState::Rejected, "{late:?}");
    assert_eq!(late.reason(), v1::RejectReason::Expired);

    // Whatever was on its way is recorded before this one.
    cluster.certified(2, cluster.evidence(11)).await;
    let after = cluster.verified_checkpoint(2).await;
    assert_eq!(
        after.tree_size,
        before.tree_size + 1,
        "only the last one is in the log"
    );
    for id in refused {
        let request = v1::GetEntryStatusRequest {
            entry_id: id.to_bytes(),
        };
        let status = cluster.ledger(2).await.get_entry_status(request).await;
        let status = status.unwrap().into_inner().status.unwrap();
        assert_eq!(status.state(), v1::EntryState::Unknown, "{status:?}");
    }
}

/// Gives its bytes and then nothing, for ever.
struct HeldOpen(Option<Bytes>);

impl http_body::Body for HeldOpen {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

/// A stranger on one connection begins 120 large requests and ends none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn bodies_that_are_held_open_cost_little_and_end_soon() {
    let mut cluster = Cluster::new();
    cluster.start(1);
    let channel = cluster.channel(1).await;
    let before = cluster.memory(1);
    let length = 1_u32 << 20;
    let bytes = [
        &[0][..],
        &length.to_be_bytes(),
        &vec![7; length as usize - 1],
    ]
    .concat();
    let bytes = Bytes::from(bytes);
    let calls = (0..120).map(|_| {
        let (mut channel, bytes) = (channel.clone(), bytes.clone());
        async move {
            let request = Request::post("/cairn.v1.LedgerService/SubmitEntry")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Body::new(HeldOpen(Some(bytes))))
                .unwrap();
            let answer = channel.ready().await.unwrap().call(request).await.unwrap();
            reason(&Status::from_header_map(answer.headers()).unwrap())
        }
    });
    let watched = async {
        let mut most = 0;
        for _ in 0..80 {
            most = most.max(cluster.memory(1));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        most
    };
    let answers = tokio::time::timeout(Duration::from_secs(30), join_all(calls));
    let (answers, most) = tokio::join!(answers, watched);
    let mut reasons = HashMap::new();
    for reason in answers.unwrap() {
        *reasons.entry(reason).or_insert(0) += 1;
    }
    let mib = |bytes: usize| bytes >> 20;
    println!(
        "{} MiB, then at most {} MiB; {reasons:?}",
        mib(before),
        mib(most)
    );
    assert!(most < before + (48 << 20), "{} {}", mib(before), mib(most));
    assert!(reasons["OVERLOADED"] >= 100, "{reasons:?}");
    assert_eq!(reasons.values().sum::<i32>(), 120);
    assert!(
        reasons
            .keys()
            .all(|r| r == "OVERLOADED" || r == "REQUEST_TOO_SLOW"),
        "{reasons:?}"
    );

    // And others are served meanwhile and afterwards.
    let genesis = cluster
        .ledger(1)
        .await
        .get_genesis(v1::GetGenesisRequest {})
        .await;
    assert_eq!(genesis.unwrap().into_inner().genesis, cluster.genesis());
}

/// One connection has a share of the long-lived streams, and a fresh chain's watcher hears of the
/// genesis' certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn watchers_hear_of_certificate_0_and_one_connection_has_few_of_them() {
    let mut cluster = Cluster::new();
    (1..=4).for_each(|id| cluster.start(id));
    cluster.caught_up(1, 0).await;
    let mut ledger = cluster.ledger(1).await;
    let mut open = Vec::new();
    let refused = loop {
        match ledger
            .watch_checkpoints(v1::WatchCheckpointsRequest {})
            .await
        {
            Ok(stream) => open.push(stream.into_inner()),
            Err(status) => break status,
        }
    };
    assert_eq!(open.len(), 16);
    assert_eq!(reason(&refused), "OVERLOADED");
    let first = tokio::time::timeout(Duration::from_secs(10), open[0].message()).await;
    let first = first.unwrap().unwrap().unwrap().checkpoint.unwrap();
    assert_eq!(
        canonical::decode::<v1::Header>(&first.header)
            .unwrap()
            .height,
        0
    );
    let mut other = cluster.ledger(1).await;
    other
        .watch_checkpoints(v1::WatchCheckpointsRequest {})
        .await
        .unwrap();
    open.clear();
}
