//! An order takes effect whole or not at all, and its chunks come as it says.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::{apply, rooms};

#[test]
fn an_order_takes_effect_with_its_last_chunk() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..9], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    assert_eq!(chunk(&mut ledger, &order, 0, &changes[..4]), Ok(2));
    assert_eq!(chunk(&mut ledger, &order, 4, &changes[4..7]), Ok(3));
    assert_eq!(changed(&ledger), 0);
    let before = state(&ledger, 10).unwrap();
    assert_eq!(chunk(&mut ledger, &order, 7, &changes[7..]), Ok(4));
    assert_eq!(changed(&ledger), 9);
    let after = |n| v1::CodeState {
        status: CodeStatus::Yellow as i32,
        sequence: 2,
        valid_from_ms: ledger.now,
        order_id: order.to_bytes(),
        previous: history::link(&by_order(n, &before)).to_bytes(),
        ..before.clone()
    };
    assert!((10..19).all(|n| state(&ledger, n) == Some(after(n))));
    let kept: v1::OrderState = ledger.map(ORDER_NAMESPACE, order.as_bytes()).unwrap();
    assert!(kept.applied);
    assert_eq!((kept.received, kept.chunk_leaves), (9, vec![2, 3, 4]));
    assert_eq!(kept.authority, public(AUTHORITY));
    let again = chunk(&mut ledger, &order, 9, &each(&all[9..10], 1));
    assert_eq!(again, Err(RejectReason::OrderComplete));
}

#[test]
fn issue_order_and_chunks_may_share_a_block() {
    let mut ledger = Ledger::new();
    let all = codes(10..30);
    let issue = issue_body(&ledger, FREE_REGION, &all);
    let issue = ledger.compose(
        ledger.draft(EntryKind::CodeIssue, &[], &issue),
        AUTHORITY,
        &[],
    );
    let changes = each(&all, 1);
    let body = order_body(FREE_REGION, &changes);
    let order = ledger.compose(
        ledger.draft(EntryKind::StatusOrder, &[], &body),
        AUTHORITY,
        &[],
    );
    let mut entries = vec![issue, order.clone()];
    for (at, part) in changes.chunks(5).enumerate() {
        let draft = chunk_draft(&ledger, &id(&order), 5 * at as u32, part);
        entries.push(ledger.compose(draft, AUTHORITY, &[]));
    }
    let applied = ledger.block(entries);
    assert!(applied.outcomes.iter().all(|outcome| outcome.rejected == 0));
    assert_eq!(changed(&ledger), 20);
}

#[test]
fn one_code_that_is_stale_unknown_or_elsewhere_keeps_all_as_they_were() {
    // Which change is wrong, in which chunk, must not matter.
    for wrong_at in [0, 4, 8] {
        let (mut ledger, all) = issued();
        let mut abroad = code(10);
        abroad[31] = 9;
        issue(&mut ledger, REGION, &[abroad]).unwrap();
        let good = each(&all[..9], 1);
        let mut stale = good.clone();
        stale[wrong_at].1 = 2;
        let mut unknown = good.clone();
        unknown[wrong_at].0[31] += 100;
        let mut elsewhere = good.clone();
        elsewhere[0].0 = abroad;
        for (changes, reason) in [
            (stale, RejectReason::CodeStaleSequence),
            (unknown, RejectReason::CodeUnknown),
            (elsewhere, RejectReason::CodeOtherRegion),
        ] {
            let order = order(&mut ledger, AUTHORITY, &changes);
            chunk(&mut ledger, &order, 0, &changes[..5]).unwrap();
            assert_eq!(chunk(&mut ledger, &order, 5, &changes[5..]), Err(reason));
            assert_eq!(changed(&ledger), 0);
            let kept: v1::OrderState = ledger.map(ORDER_NAMESPACE, order.as_bytes()).unwrap();
            assert_eq!((kept.received, kept.applied), (5, false));
        }
    }
}

#[test]
fn an_order_expects_the_sequence_at_the_time_of_its_last_chunk() {
    let (mut ledger, all) = issued();
    let (first, second) = (each(&all[..2], 1), each(&all[1..3], 1));
    let slow = order(&mut ledger, AUTHORITY, &first);
    chunk(&mut ledger, &slow, 0, &first[..1]).unwrap();
    // Meanwhile another authority changes one of the two.
    let quick = order(&mut ledger, OTHER_AUTHORITY, &second);
    let draft = chunk_draft(&ledger, &quick, 0, &second);
    let theirs = ledger.compose(draft, OTHER_AUTHORITY, &[]);
    ledger.submit(theirs).unwrap();
    let late = chunk(&mut ledger, &slow, 1, &first[1..]);
    assert_eq!(late, Err(RejectReason::CodeStaleSequence));
    assert_eq!(changed(&ledger), 2);
    assert_eq!(state(&ledger, 11).unwrap().order_id, quick.0[..]);
}

#[test]
fn chunks_come_in_order_and_their_codes_ascend_across_them() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..6], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    let out_of_order = Err(RejectReason::OrderChunkOutOfOrder);
    assert_eq!(chunk(&mut ledger, &order, 1, &changes[..2]), out_of_order);
    assert_eq!(chunk(&mut ledger, &order, 2, &changes[2..4]), out_of_order);
    chunk(&mut ledger, &order, 0, &changes[..2]).unwrap();
    // The same again, the next too late, and a code that is not above the last.
    assert_eq!(chunk(&mut ledger, &order, 0, &changes[..2]), out_of_order);
    assert_eq!(chunk(&mut ledger, &order, 3, &changes[3..5]), out_of_order);
    assert_eq!(chunk(&mut ledger, &order, 2, &changes[1..3]), out_of_order);
    assert_eq!(chunk(&mut ledger, &order, 2, &changes[..2]), out_of_order);
    let too_many = each(&all[2..7], 1);
    assert_eq!(
        chunk(&mut ledger, &order, 2, &too_many),
        Err(RejectReason::OrderMismatch)
    );
    chunk(&mut ledger, &order, 2, &changes[2..]).unwrap();
    assert_eq!(changed(&ledger), 6);
}

#[test]
fn chunks_that_do_not_make_the_orders_root_are_refused_and_the_right_ones_taken() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..4], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    chunk(&mut ledger, &order, 0, &changes[..2]).unwrap();
    let mismatch = Err(RejectReason::OrderMismatch);
    let other_codes = each(&all[3..5], 1);
    assert_eq!(chunk(&mut ledger, &order, 2, &other_codes), mismatch);
    let other_sequence = each(&all[2..4], 2);
    assert_eq!(chunk(&mut ledger, &order, 2, &other_sequence), mismatch);
    assert_eq!(changed(&ledger), 0);
    chunk(&mut ledger, &order, 2, &changes[2..]).unwrap();
    assert_eq!(changed(&ledger), 4);
}

#[test]
fn a_chunk_is_of_a_known_order_by_its_authority_and_well_formed() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..4], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    let unknown = chunk(&mut ledger, &Hash([7; 32]), 0, &changes);
    assert_eq!(unknown, Err(RejectReason::OrderUnknown));
    for author in [OTHER_AUTHORITY, NOTARY] {
        let entry = ledger.compose(chunk_draft(&ledger, &order, 0, &changes), author, &[]);
        assert_eq!(ledger.submit(entry), Err(RejectReason::OutsideMandate));
    }
    let mut elsewhere = chunk_draft(&ledger, &order, 0, &changes);
    elsewhere.subject = Hash([7; 32]).to_bytes();
    let elsewhere = ledger.compose(elsewhere, AUTHORITY, &[]);
    assert_eq!(ledger.submit(elsewhere), Err(RejectReason::SubjectMismatch));
    let mut unequal = chunk_draft(&ledger, &order, 0, &changes);
    let mut body: v1::StatusChunk = canonical::decode(&unequal.body).unwrap();
    body.expected_sequences.pop();
    unequal.body = canonical::encode(&body);
    let unequal = ledger.compose(unequal, AUTHORITY, &[]);
    assert_eq!(ledger.submit(unequal), Err(RejectReason::FieldOutOfRange));
    let none = chunk(&mut ledger, &order, 0, &[]);
    assert_eq!(none, Err(RejectReason::FieldOutOfRange));
    chunk(&mut ledger, &order, 0, &changes).unwrap();
}

#[test]
fn a_chunk_that_was_lost_is_damage_and_not_a_refusal() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..4], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    let leaf = chunk(&mut ledger, &order, 0, &changes[..2]).unwrap();
    let key = rooms::key(rooms::LEAF, &[&leaf.to_be_bytes()]);
    let place = ledger.state.pairs()[&key].clone();
    let entry = rooms::key(rooms::ENTRY, &[&place]);
    ledger
        .state
        .commit([(entry, Bytes::from_static(&[0xff]))].into());
    let last = ledger.compose(
        chunk_draft(&ledger, &order, 2, &changes[2..]),
        AUTHORITY,
        &[],
    );
    let applied = ledger.apply(&ledger.proposal(vec![last]));
    assert!(matches!(applied, Err(apply::ApplyError::State(_))));
}
