//! Real processes: what was restricted is shown to auditors alone, and what was erased to nobody,
//! not even by a node that gets a copy of the state later; every proof stands.

#![allow(clippy::unwrap_used)]

mod cluster;

use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_ledger::code::{self, history};
use cairn_ledger::{canonical, hash, verify};
use cairn_proto::v1::code_status_service_client::CodeStatusServiceClient;
use cairn_proto::v1::ledger_service_client::LedgerServiceClient;
use cairn_proto::v1::{self, EntryKind, Visibility};
use cluster::{Cluster, REGION, authority, office};
use futures::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const INSTALLED: &str = "a copy of the state was installed";
const PURGED: &str = "the Raft log is purged below the older copy";
const CODES: [[u8; 32]; 2] = [[1; 32], [2; 32]];

/// A certified entry with a restricted body.
struct Recorded {
    signed: v1::SignedEntry,
    status: v1::EntryStatus,
}

async fn record(
    cluster: &Cluster,
    kind: EntryKind,
    subject: &[u8],
    body: &impl prost::Message,
) -> Recorded {
    let by = [authority()];
    let signed = cluster.compose(kind, Visibility::Restricted, subject, body, &by);
    let status = cluster.certified(1, signed.clone()).await;
    assert_eq!(status.reason(), v1::RejectReason::Unspecified);
    Recorded { signed, status }
}

/// Issues two codes and turns them yellow: the entries that list them.
async fn ordered(cluster: &Cluster) -> [Recorded; 2] {
    let codes = Bytes::from(CODES.concat());
    let issue = v1::CodeIssue {
        region: REGION.to_owned(),
        codes: codes.clone(),
        valid_until_ms: u64::MAX,
        holders: Bytes::new(),
    };
    let issue = record(cluster, EntryKind::CodeIssue, &[], &issue).await;
    let order = v1::StatusOrder {
        region: REGION.to_owned(),
        reason: "contact".to_owned(),
        legal_basis: "article 12".to_owned(),
        status: v1::CodeStatus::Yellow.into(),
        evidence_commitment: vec![3; 32].into(),
        appeal_contact: "12345".to_owned(),
        count: 2,
        changes_root: code::changes_root(CODES.map(|code| (code, 1))).to_bytes(),
        mode: v1::OrderMode::AllOrNothing.into(),
        operator: "desk 7".to_owned(),
        rule_version: "1".to_owned(),
        ..Default::default()
    };
    let order = record(cluster, EntryKind::StatusOrder, &[], &order).await;
    let order_id = order.status.entry_id;
    let chunk = v1::StatusChunk {
        order_id: order_id.clone(),
        first_change: 0,
        codes,
        expected_sequences: vec![1, 1],
        blind: vec![9; 32].into(),
    };
    let chunk = record(cluster, EntryKind::StatusChunk, &order_id, &chunk).await;
    [issue, chunk]
}

async fn history_of(
    channel: Channel,
    code: [u8; 32],
    from_sequence: u64,
) -> Result<v1::GetHistoryResponse, Status> {
    let request = v1::GetHistoryRequest {
        code: code.to_vec().into(),
        from_sequence,
        page_size: 0,
    };
    let mut client = CodeStatusServiceClient::new(channel);
    Ok(client.get_history(request).await?.into_inner())
}

/// The history of the first code, as an auditor checks it, and nobody else is told.
async fn histories_are_for_auditors(cluster: &Cluster, id: u8) {
    let public = history_of(cluster.channel(id).await, CODES[0], 0).await;
    let refused = public.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "HISTORY_RESTRICTED");
    assert!(refused.message().contains("admin"), "{refused}");

    let auditors = cluster.auditors_channel(id).await;
    let shown = history_of(auditors.clone(), CODES[0], 0).await.unwrap();
    let receipt = shown.receipt.unwrap();
    let value = verify::map_receipt(cluster.chain(), &receipt).unwrap();
    assert_eq!(
        (value.namespace.as_str(), &value.key[..]),
        ("code", &CODES[0][..])
    );
    let current: v1::CodeState = canonical::decode(&value.value.unwrap()).unwrap();
    let states = history::verify(&current, &shown.earlier).unwrap();
    let statuses: Vec<_> = states.iter().map(v1::CodeState::status).collect();
    assert_eq!(statuses, [v1::CodeStatus::Green, v1::CodeStatus::Yellow]);
    assert_eq!(shown.next_from_sequence, 0);
    let unknown = history_of(auditors.clone(), [77; 32], 0).await.unwrap();
    assert!(unknown.earlier.is_empty());
    let absent = verify::map_receipt(cluster.chain(), &unknown.receipt.unwrap()).unwrap();
    assert_eq!(absent.value, None);
    for beyond in [2, u64::MAX] {
        let refused = history_of(auditors.clone(), CODES[0], beyond).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    }
}

/// The body of an entry in every answer that has one.
async fn bodies(channel: Channel, recorded: &Recorded) -> Vec<Bytes> {
    let mut ledger = LedgerServiceClient::new(channel);
    let status = &recorded.status;
    let key = v1::get_entry_request::Key::LeafIndex(status.leaf_index);
    let by_leaf = v1::GetEntryRequest { key: Some(key) };
    let key = v1::get_entry_request::Key::EntryId(status.entry_id.clone());
    let by_id = v1::GetEntryRequest { key: Some(key) };
    let mut found = Vec::new();
    for request in [by_leaf, by_id] {
        let answer = ledger.get_entry(request).await.unwrap().into_inner();
        found.extend(answer.entry.unwrap().entry);
    }
    let listed = v1::ListEntriesRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let listed = ledger.list_entries(listed).await.unwrap().into_inner();
    found.extend(listed.entries.into_iter().filter_map(|entry| entry.entry));
    let request = v1::GetBlockRequest {
        height: status.height,
    };
    let block = ledger.get_block(request).await.unwrap().into_inner().block;
    found.extend(block.unwrap().proposal.unwrap().entries);
    let request = v1::StreamBlocksRequest {
        first_height: status.height,
        last_height: status.height,
    };
    let mut stream = ledger.stream_blocks(request).await.unwrap().into_inner();
    while let Some(answer) = stream.next().await {
        found.extend(answer.unwrap().block.unwrap().proposal.unwrap().entries);
    }
    found.retain(|entry| entry.envelope == recorded.signed.envelope);
    assert_eq!(found.len(), 5);
    found.into_iter().map(|entry| entry.body).collect()
}

/// The entry is in the log, whether its body is at hand or not, and the map says who erased it.
async fn proofs_stand(cluster: &Cluster, channel: Channel, recorded: &Recorded, erasure: u64) {
    let mut ledger = LedgerServiceClient::new(channel);
    let key = v1::get_receipt_request::Key::EntryId(recorded.status.entry_id.clone());
    let request = v1::GetReceiptRequest { key: Some(key) };
    let receipt = ledger.get_receipt(request).await.unwrap().into_inner();
    let receipt = receipt.receipt.unwrap();
    for body in [None, Some(&recorded.signed.body[..])] {
        let verified = verify::receipt(cluster.chain(), &receipt, body).unwrap();
        assert_eq!(verified.leaf_index, recorded.status.leaf_index);
    }
    let request = v1::GetMapProofRequest {
        namespace: code::ERASED_NAMESPACE.to_owned(),
        key: recorded.status.entry_id.clone(),
    };
    let proof = ledger.get_map_proof(request).await.unwrap().into_inner();
    let value = verify::map_receipt(cluster.chain(), &proof.receipt.unwrap()).unwrap();
    let erased: v1::ErasedState = canonical::decode(&value.value.unwrap()).unwrap();
    assert_eq!(erased.leaf_index, erasure);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn restricted_is_for_auditors_and_an_erased_body_is_shown_by_nobody_while_every_proof_stands()
{
    let mut cluster = Cluster::with("[copies]\nevery_blocks = 30");
    cluster.form().await;
    let recorded = ordered(&cluster).await;
    let newest = recorded[1].status.height;
    for id in 1..=4 {
        cluster.caught_up(id, newest).await;
        histories_are_for_auditors(&cluster, id).await;
        for entry in &recorded {
            let own = &entry.signed.body;
            assert!(!own.is_empty());
            let public = bodies(cluster.channel(id).await, entry).await;
            assert!(public.iter().all(Bytes::is_empty));
            let shown = bodies(cluster.auditors_channel(id).await, entry).await;
            assert!(shown.iter().all(|body| body == own));
        }
    }

    let away = cluster.leader().await % 4 + 1;
    let writer = away % 4 + 1;
    assert_eq!(cluster.terminate(away), Some(0), "{}", cluster.log(away));
    let mut ids: Vec<[u8; 32]> = recorded
        .iter()
        .map(|entry| hash::plain(&entry.signed.envelope).0)
        .collect();
    ids.sort_unstable();
    let erasure = v1::BodyErasure {
        entry_ids: ids.concat().into(),
        legal_basis: "article 47".to_owned(),
    };
    let erasure = cluster.compose(
        EntryKind::BodyErasure,
        Visibility::Public,
        &[],
        &erasure,
        &[office(1), office(3)],
    );
    let erased = cluster.certified(writer, erasure).await;
    for id in (1..=4).filter(|id| *id != away) {
        cluster.caught_up(id, erased.height).await;
        is_gone(&cluster, id, &recorded, erased.leaf_index).await;
    }

    // Until nobody has the log any more that the one away needs: it gets a copy of the state.
    let mut number = 0;
    let began = Instant::now();
    while (1..=4).any(|id| id != away && cluster.log(id).matches(PURGED).count() < 2) {
        number += 1;
        cluster.certified(writer, cluster.evidence(number)).await;
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(120), "nothing is purged");
    }
    let height = cluster.verified_checkpoint(writer).await.height;
    cluster.start(away);
    cluster.caught_up(away, height).await;
    cluster.says(away, INSTALLED).await;
    is_gone(&cluster, away, &recorded, erased.leaf_index).await;
    histories_are_for_auditors(&cluster, away).await;
}

/// No listener of the node has the bodies, and both have the proofs.
async fn is_gone(cluster: &Cluster, id: u8, recorded: &[Recorded], erasure: u64) {
    for entry in recorded {
        for channel in [
            cluster.channel(id).await,
            cluster.auditors_channel(id).await,
        ] {
            let found = bodies(channel.clone(), entry).await;
            assert!(found.iter().all(Bytes::is_empty));
            proofs_stand(cluster, channel, entry, erasure).await;
        }
    }
}
