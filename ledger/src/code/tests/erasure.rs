//! An erased body is gone from the state, and everything else of its entry stays and is proven.
#![allow(clippy::unwrap_used)]

use cairn_proto::v1::Visibility;

use super::*;
use crate::state::MemoryState;
use crate::{apply, checkpoint, foreign, verify};

fn restricted(ledger: &mut Ledger, mut draft: Draft, by: u8) -> (Hash, Result<u64, RejectReason>) {
    draft.visibility = Visibility::Restricted;
    let entry = ledger.compose(draft, by, &[]);
    (id(&entry), ledger.submit(entry))
}

fn erase(ledger: &mut Ledger, ids: &[Hash]) -> Result<u64, RejectReason> {
    let body = erasure(ids);
    signed(ledger, EntryKind::BodyErasure, &[], &body, &GRANTERS)
}

fn erasure(ids: &[Hash]) -> v1::BodyErasure {
    let mut ids: Vec<[u8; 32]> = ids.iter().map(|id| id.0).collect();
    ids.sort();
    v1::BodyErasure {
        entry_ids: ids.concat().into(),
        legal_basis: "article 47".to_owned(),
    }
}

/// A ledger with one order for the codes 10 to 13 in two restricted chunks, the second one open.
fn half_done() -> (Ledger, Hash, Hash, Changes) {
    let (mut ledger, all) = issued();
    let changes = each(&all[..4], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    let draft = chunk_draft(&ledger, &order, 0, &changes[..2]);
    let (chunk, recorded) = restricted(&mut ledger, draft, AUTHORITY);
    recorded.unwrap();
    (ledger, order, chunk, changes)
}

#[test]
fn an_erased_body_is_gone_and_every_proof_stands() {
    let (mut ledger, order, chunk, changes) = half_done();
    super::chunk(&mut ledger, &order, 2, &changes[2..]).unwrap();
    let outcome = apply::entry_outcome(&ledger.state, &chunk)
        .unwrap()
        .unwrap();
    let body_of = |ledger: &Ledger| {
        let entry = apply::read_entry(&ledger.state, outcome.leaf_index).unwrap();
        entry.unwrap().entry.unwrap().body
    };
    let body = body_of(&ledger);
    assert!(!body.is_empty());
    let leaf_index = erase(&mut ledger, &[chunk]).unwrap();
    assert!(body_of(&ledger).is_empty());
    let holds = |value: &[u8]| value.windows(body.len()).any(|part| part == body);
    assert!(!ledger.state.pairs().values().any(|value| holds(value)));
    let erased: v1::ErasedState = ledger.map(ERASED_NAMESPACE, chunk.as_bytes()).unwrap();
    assert_eq!(erased, v1::ErasedState { leaf_index });
    assert!(
        is_erased(&ledger.state, &chunk).unwrap() && !is_erased(&ledger.state, &order).unwrap()
    );
    let block = apply::read_block(&ledger.state, outcome.height)
        .unwrap()
        .unwrap();
    assert!(block.proposal.unwrap().entries[0].body.is_empty());

    let checkpoint = ledger.checkpoint(&[0, 2, 3]);
    let receipt = ledger.receipt(outcome.leaf_index, checkpoint);
    let entry = verify::receipt(&ledger.chain, &receipt, Some(&body)).unwrap();
    assert_eq!(entry.id, chunk);
    assert_eq!(
        erase(&mut ledger, &[chunk]),
        Err(RejectReason::ErasureTwice)
    );
}

#[test]
fn a_copied_state_is_taken_without_the_erased_bodies_and_only_without_those() {
    let (mut ledger, order, chunk, changes) = half_done();
    super::chunk(&mut ledger, &order, 2, &changes[2..]).unwrap();
    let before = ledger.state.clone();
    erase(&mut ledger, &[chunk]).unwrap();
    let proto = ledger.checkpoint(&[0, 1, 3]);
    let certified = checkpoint::certify(&ledger.chain.id, &ledger.chain.members, &proto).unwrap();
    let check = |state: &MemoryState| foreign::check(&ledger.chain, state, &certified, &[7; 32]);
    check(&ledger.state).unwrap();

    let changed = ledger.state.pairs().iter().find(|(key, value)| {
        let old = before.pairs().get(*key);
        key[0] == crate::rooms::ENTRY && old.is_some_and(|old| old != *value)
    });
    let (key, _) = changed.unwrap();
    let mut kept = ledger.state.clone();
    kept.commit([(key.clone(), before.pairs()[key].clone())].into());
    assert!(check(&kept).is_err(), "a body that should be gone");
    let mut lost = ledger.state.clone();
    let other = before
        .pairs()
        .iter()
        .find(|(at, _)| at[0] == key[0] && *at != key);
    let (other, record) = other.unwrap();
    let mut entry = v1::SignedEntry::decode(record.clone()).unwrap();
    entry.body.clear();
    lost.commit([(other.clone(), canonical::encode(&entry))].into());
    assert!(check(&lost).is_err(), "a body that nobody erased");
}

#[test]
fn what_an_order_still_needs_and_what_is_public_cannot_be_erased() {
    let (mut ledger, order, chunk, changes) = half_done();
    assert_eq!(
        erase(&mut ledger, &[chunk]),
        Err(RejectReason::ErasureTooEarly)
    );
    // A chunk that was refused is needed by nothing.
    let draft = chunk_draft(&ledger, &order, 0, &changes[..2]);
    let (again, refused) = restricted(&mut ledger, draft, AUTHORITY);
    assert_eq!(refused, Err(RejectReason::OrderChunkOutOfOrder));
    erase(&mut ledger, &[again]).unwrap();
    let draft = chunk_draft(&ledger, &order, 2, &changes[2..]);
    let (last, recorded) = restricted(&mut ledger, draft, AUTHORITY);
    recorded.unwrap();
    erase(&mut ledger, &[chunk, last]).unwrap();
    assert_eq!(changed(&ledger), 4);

    let public = ledger.evidence(1);
    ledger.submit(public.clone()).unwrap();
    let draft = ledger.draft(
        EntryKind::StatusOrder,
        &[],
        &order_body(FREE_REGION, &changes),
    );
    let (header, recorded) = restricted(&mut ledger, draft, AUTHORITY);
    recorded.unwrap();
    let draft = ledger.evidence_draft(2);
    let (document, recorded) = restricted(&mut ledger, draft, NOTARY);
    recorded.unwrap();
    for (ids, reason) in [
        (&[id(&public)][..], RejectReason::ErasureNotAllowed),
        // The map holds the order itself.
        (&[header], RejectReason::ErasureNotAllowed),
        (&[Hash([9; 32])], RejectReason::ErasureUnknown),
        (&[document, id(&public)], RejectReason::ErasureNotAllowed),
        (&[document, document], RejectReason::FieldOutOfRange),
        (&[], RejectReason::FieldOutOfRange),
    ] {
        assert_eq!(erase(&mut ledger, ids), Err(reason), "{ids:?}");
    }
    erase(&mut ledger, &[document]).unwrap();
}

#[test]
fn an_erasure_is_ordered_by_granters_on_a_legal_basis() {
    let (mut ledger, ..) = half_done();
    let draft = ledger.evidence_draft(2);
    let (document, recorded) = restricted(&mut ledger, draft, NOTARY);
    recorded.unwrap();
    let body = erasure(&[document]);
    let by = |signers: &[u8]| judged(&ledger, EntryKind::BodyErasure, &[], &body, signers);
    assert_eq!(by(&[NOTARY]), Err(RejectReason::ApprovalMissing));
    assert_eq!(
        by(&[AUTHORITY, NOTARY]),
        Err(RejectReason::MandateWrongGranter)
    );
    let silent = v1::BodyErasure {
        legal_basis: String::new(),
        ..body.clone()
    };
    let refused = signed(&mut ledger, EntryKind::BodyErasure, &[], &silent, &GRANTERS);
    assert_eq!(refused, Err(RejectReason::FieldOutOfRange));
    let about = signed(
        &mut ledger,
        EntryKind::BodyErasure,
        &[1; 32],
        &body,
        &GRANTERS,
    );
    assert_eq!(about, Err(RejectReason::SubjectMismatch));
    // In one block with what it erases it finds nothing: the body has to be on the ledger first.
    let mut draft = ledger.evidence_draft(3);
    draft.visibility = Visibility::Restricted;
    let evidence = ledger.compose(draft, NOTARY, &[]);
    let draft = ledger.draft(EntryKind::BodyErasure, &[], &erasure(&[id(&evidence)]));
    let at_once = ledger.compose(draft, GRANTERS[0], &GRANTERS[1..]);
    let applied = ledger.block(vec![evidence, at_once]);
    assert_eq!(applied.outcomes[1].rejected(), RejectReason::ErasureUnknown);
}
