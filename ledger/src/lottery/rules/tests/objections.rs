//! Objections and rulings: nothing is certified over an open question.

use super::*;
use v1::RulingDecision::{Dismissed, Unspecified, Upheld};

const HEARING: u64 = 50_000;
const PAPER: [u8; 32] = [93; 32];

pub(super) fn objection_body(id: &Hash, serials: Vec<u64>) -> v1::Objection {
    v1::Objection {
        lottery_id: id.to_bytes(),
        attempt: 1,
        serials,
        document_hash: PAPER.to_vec().into(),
    }
}

pub(super) fn objection(id: &Hash, serials: Vec<u64>) -> Admitted {
    let body = objection_body(id, serials);
    entry(EntryKind::Objection, NOTARY, &[], &id.0, &body)
}

pub(super) fn ruling(id: &Hash, about: &Admitted, decision: v1::RulingDecision) -> Admitted {
    let body = v1::Ruling {
        lottery_id: id.to_bytes(),
        attempt: 1,
        objection: about.id.to_bytes(),
        decision: decision as i32,
        document_hash: PAPER.to_vec().into(),
    };
    entry(EntryKind::Ruling, NOTARY, &[], &id.0, &body)
}

/// Complete, with a window for objections.
fn heard() -> (Ledger, Hash) {
    let mut with_window = rules();
    with_window.objection_window_ms = HEARING;
    completed(&with_window)
}

#[test]
fn nothing_is_certified_while_objections_may_come_or_wait() {
    use RejectReason as R;
    let (mut ledger, id) = heard();
    let until = ledger.lottery(&id).completed_at_ms + HEARING;
    ledger.refuse(&certify(&id), R::ObjectionsOpen);
    ledger.now = until;
    ledger.refuse(&certify(&id), R::ObjectionsOpen);
    let about = objection(&id, vec![3]);
    ledger.accept(&about);
    ledger.now = until + 1;
    ledger.refuse(&objection(&id, vec![4]), R::ObjectionLate);
    ledger.refuse(&certify(&id), R::ObjectionsOpen);
    ledger.accept(&ruling(&id, &about, Dismissed));
    ledger.accept(&certify(&id));
    ledger.refuse(&objection(&id, vec![5]), R::LotteryWrongStage);
    ledger.refuse(&ruling(&id, &about, Upheld), R::LotteryWrongStage);
    let lottery = ledger.lottery(&id);
    assert_eq!((lottery.objections, lottery.objections_open), (1, 0));
}

#[test]
fn an_objection_is_ruled_on_once_by_the_notary() {
    use RejectReason as R;
    let (mut ledger, id) = heard();
    let about = objection(&id, vec![3, 7]);
    ledger.refuse(&ruling(&id, &about, Upheld), R::ObjectionUnknown);
    let by = |author| {
        let body = objection_body(&id, vec![3]);
        entry(EntryKind::Objection, author, &[], &id.0, &body)
    };
    ledger.refuse(&by(REGISTRAR), R::LotteryWrongOffice);
    ledger.refuse(&by(STRANGER), R::RoleNotAllowed);
    for rows in [
        vec![7, 3],
        vec![3, 3],
        vec![u64::from(ROWS)],
        (0..1_001).collect(),
    ] {
        ledger.refuse(&objection(&id, rows), R::FieldOutOfRange);
    }
    let mut bad = objection_body(&id, vec![3]);
    bad.document_hash = Bytes::new();
    let bad = entry(EntryKind::Objection, NOTARY, &[], &id.0, &bad);
    ledger.refuse(&bad, R::FieldOutOfRange);
    ledger.accept(&about);
    ledger.refuse(&ruling(&id, &about, Unspecified), R::FieldOutOfRange);
    let mut other = v1::Ruling::decode(ruling(&id, &about, Upheld).signed.body).unwrap();
    let as_entry = |author, body: &v1::Ruling| entry(EntryKind::Ruling, author, &[], &id.0, body);
    ledger.refuse(&as_entry(ORGANISER, &other), R::LotteryWrongOffice);
    other.attempt = 2;
    ledger.refuse(&as_entry(NOTARY, &other), R::LotteryWrongAttempt);
    other.attempt = 1;
    other.document_hash = Bytes::new();
    ledger.refuse(&as_entry(NOTARY, &other), R::FieldOutOfRange);
    ledger.accept(&ruling(&id, &about, Upheld));
    ledger.refuse(&ruling(&id, &about, Dismissed), R::ObjectionRuled);
    for serial in [3, 7] {
        let place: v1::PlaceState =
            map_message(&ledger, PLACE_NAMESPACE, &place_key(&id, 1, serial)).unwrap();
        assert_eq!(place.status(), v1::PlaceStatus::Struck);
    }
    let none: Option<v1::PlaceState> = map_message(&ledger, PLACE_NAMESPACE, &place_key(&id, 1, 4));
    assert_eq!(none, None);
}

#[test]
fn an_attempt_that_an_objection_has_felled_is_never_certified() {
    use RejectReason as R;
    let (mut ledger, id) = heard();
    let about = objection(&id, vec![]);
    ledger.accept(&about);
    ledger.accept(&ruling(&id, &about, Upheld));
    ledger.now += HEARING + 1;
    ledger.refuse(&certify(&id), R::AttemptTainted);
    let paper = document(&mut ledger, PAPER);
    ledger.accept(&void(&id, &void_body(&id, 1, &paper)));
    let lottery = ledger.lottery(&id);
    assert_eq!(
        (lottery.attempt, lottery.tainted, lottery.objections),
        (2, false, 0)
    );
    // Rulings belong to their attempt.
    let mut late = v1::Ruling::decode(ruling(&id, &about, Upheld).signed.body).unwrap();
    late.attempt = 2;
    let late = entry(EntryKind::Ruling, NOTARY, &[], &id.0, &late);
    ledger.refuse(&late, R::ObjectionUnknown);
}

#[test]
fn a_ruling_never_touches_the_draw() {
    let (mut plain, id) = frozen();
    let about = objection(&id, vec![0, 1, 2, 3, 4, 5]);
    plain.accept(&about);
    plain.accept(&ruling(&id, &about, Upheld));
    plain.now += 5_000;
    plain.accept(&dice(&id, &[1, 6, 3]));
    for n in [3, 1] {
        let body = contribution_body(&plain, &id, n);
        plain.accept(&contribution(&id, &body));
    }
    let lottery = plain.lottery(&id);
    plain.now = lottery.contributions_close_ms + 1;
    plain.certificate(plain.now, plain.now);
    plain.accept(&round(&id, lottery.beacon_round));
    let (undisturbed, same) = drawn();
    assert_eq!(id, same);
    let (with, without) = (plain.lottery(&id), undisturbed.lottery(&id));
    assert_eq!(
        (&with.seed, &with.results),
        (&without.seed, &without.results)
    );
}
