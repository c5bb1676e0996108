//! An appeal is heard by another office, once, and an order is corrected by another order.
#![allow(clippy::unwrap_used)]

use cairn_proto::v1::Role;

use super::*;

/// A ledger on which the codes 10 to 12 were turned yellow; the order.
fn in_effect(appeals_role: Role) -> (Ledger, Hash) {
    let (mut ledger, all) = issued();
    let rule = v1::RegionRule {
        region: FREE_REGION.to_owned(),
        appeals_role: appeals_role as i32,
        ..Default::default()
    };
    signed(&mut ledger, EntryKind::RegionRule, &[], &rule, &GRANTERS).unwrap();
    let changes = each(&all[..3], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    chunk(&mut ledger, &order, 0, &changes).unwrap();
    (ledger, order)
}

fn appeal_body(order: &Hash, n: u8) -> v1::Appeal {
    v1::Appeal {
        order_id: order.to_bytes(),
        code: code(n).to_vec().into(),
        statement_commitment: vec![5; 32].into(),
    }
}

fn appeal(ledger: &mut Ledger, order: &Hash, n: u8) -> Result<Hash, RejectReason> {
    let draft = ledger.draft(EntryKind::Appeal, order.as_bytes(), &appeal_body(order, n));
    let entry = ledger.compose(draft, NOTARY, &[]);
    ledger.submit(entry.clone()).map(|_| id(&entry))
}

fn decision(granted: bool, appeal: &Hash, correcting: &[u8]) -> v1::Decision {
    v1::Decision {
        appeal_id: appeal.to_bytes(),
        granted,
        reasons_commitment: vec![6; 32].into(),
        correcting_order_id: Bytes::copy_from_slice(correcting),
    }
}

fn decide(ledger: &mut Ledger, by: u8, body: &v1::Decision) -> Result<u64, RejectReason> {
    let subject = body.appeal_id.clone();
    signed(ledger, EntryKind::Decision, &subject, body, &[by])
}

#[test]
fn an_appeal_is_decided_once_by_the_office_that_the_region_names() {
    let (mut ledger, order) = in_effect(Role::Government);
    let first = appeal(&mut ledger, &order, 10).unwrap();
    assert_eq!(
        appeal(&mut ledger, &order, 10),
        Err(RejectReason::AppealOpen)
    );
    let other = appeal(&mut ledger, &order, 11).unwrap();
    let granted = decision(true, &first, &[]);
    for by in [AUTHORITY, HEALTH, NOTARY] {
        let refused = decide(&mut ledger, by, &granted);
        assert_eq!(refused, Err(RejectReason::DecisionWrongOffice));
    }
    let leaf = decide(&mut ledger, GOVERNMENT, &granted).unwrap();
    let kept: v1::AppealState = ledger.map(APPEAL_NAMESPACE, first.as_bytes()).unwrap();
    assert_eq!(kept.appeal, Some(appeal_body(&order, 10)));
    assert_eq!(
        (kept.decision, kept.decision_leaf_index),
        (Some(granted.clone()), leaf)
    );
    let again = decide(&mut ledger, GOVERNMENT, &granted);
    assert_eq!(again, Err(RejectReason::AppealDecided));
    decide(&mut ledger, GOVERNMENT, &decision(false, &other, &[])).unwrap();
    // Decided is not closed for ever: new facts, a new appeal.
    appeal(&mut ledger, &order, 11).unwrap();
    // A decision alone changes no code.
    assert_eq!(state(&ledger, 10).unwrap().sequence, 2);
}

#[test]
fn a_decision_names_an_order_that_cites_the_one_appealed_against() {
    let (mut ledger, order) = in_effect(Role::Government);
    let appealed = appeal(&mut ledger, &order, 10).unwrap();
    let back = each(&codes(10..11), 2);
    let mut body = order_body(FREE_REGION, &back);
    body.status = CodeStatus::Green as i32;
    let unrelated = ordered(&mut ledger, &body, &[AUTHORITY]);
    body.corrects = order.to_bytes();
    let correcting = ordered(&mut ledger, &body, &[AUTHORITY]);
    for wrong in [&unrelated, &order, &Hash([9; 32])] {
        let refused = decide(
            &mut ledger,
            GOVERNMENT,
            &decision(true, &appealed, &wrong.0),
        );
        assert_eq!(refused, Err(RejectReason::CorrectionUnknown));
    }
    for unsound in [
        decision(false, &appealed, &correcting.0),
        decision(true, &appealed, &correcting.0[1..]),
        v1::Decision {
            reasons_commitment: Bytes::new(),
            ..decision(true, &appealed, &[])
        },
    ] {
        let refused = decide(&mut ledger, GOVERNMENT, &unsound);
        assert_eq!(refused, Err(RejectReason::FieldOutOfRange));
    }
    let unknown = decide(&mut ledger, GOVERNMENT, &decision(true, &order, &[]));
    assert_eq!(unknown, Err(RejectReason::AppealUnknown));
    decide(
        &mut ledger,
        GOVERNMENT,
        &decision(true, &appealed, &correcting.0),
    )
    .unwrap();
    chunk(&mut ledger, &correcting, 0, &back).unwrap();
    assert_eq!(state(&ledger, 10).unwrap().status(), CodeStatus::Green);
}

#[test]
fn an_appeal_is_against_an_order_in_effect_for_a_code_of_its_region() {
    let (mut ledger, order) = in_effect(Role::Government);
    issue(&mut ledger, REGION, &codes(40..41)).unwrap();
    let pending = super::order(&mut ledger, AUTHORITY, &each(&codes(15..16), 1));
    for (order, n, reason) in [
        (&Hash([9; 32]), 10, RejectReason::OrderUnknown),
        (&pending, 15, RejectReason::OrderNotInEffect),
        (&order, 90, RejectReason::CodeUnknown),
        (&order, 40, RejectReason::CodeOtherRegion),
    ] {
        assert_eq!(appeal(&mut ledger, order, n), Err(reason));
    }
    let submit = |ledger: &mut Ledger, body: &v1::Appeal, subject: &[u8]| {
        signed(ledger, EntryKind::Appeal, subject, body, &[NOTARY])
    };
    for unsound in [
        v1::Appeal {
            code: Bytes::new(),
            ..appeal_body(&order, 10)
        },
        v1::Appeal {
            statement_commitment: vec![5; 33].into(),
            ..appeal_body(&order, 10)
        },
    ] {
        let refused = submit(&mut ledger, &unsound, &order.0);
        assert_eq!(refused, Err(RejectReason::FieldOutOfRange));
    }
    let elsewhere = submit(&mut ledger, &appeal_body(&order, 10), &pending.0);
    assert_eq!(elsewhere, Err(RejectReason::SubjectMismatch));
    let body = appeal_body(&order, 10);
    let approved = judged(
        &ledger,
        EntryKind::Appeal,
        &order.0,
        &body,
        &[NOTARY, HEALTH],
    );
    assert_eq!(approved, Err(RejectReason::ApprovalUnexpected));
    let (mut without, order) = in_effect(Role::Unspecified);
    assert_eq!(
        appeal(&mut without, &order, 10),
        Err(RejectReason::RegionRuleMissing)
    );
}
