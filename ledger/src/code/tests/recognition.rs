//! What a region holds of others changes nothing of theirs.
#![allow(clippy::unwrap_used)]

use super::*;

fn recognition(ledger: &Ledger) -> v1::Recognition {
    v1::Recognition {
        region: FREE_REGION.to_owned(),
        genesis_hash: vec![7; 32].into(),
        name: "the neighbouring city".to_owned(),
        regions: vec!["east".to_owned(), "west".to_owned()],
        statuses: vec![1, 2],
        not_after_ms: ledger.now + 1_000_000,
    }
}

fn recognise(ledger: &mut Ledger, by: u8, body: &v1::Recognition) -> Result<u64, RejectReason> {
    let subject = body.genesis_hash.clone();
    signed(ledger, EntryKind::Recognition, &subject, body, &[by])
}

fn kept(ledger: &Ledger) -> Option<v1::RecognitionState> {
    ledger.map(
        RECOGNITION_NAMESPACE,
        &recognition_key(&[7; 32], FREE_REGION),
    )
}

#[test]
fn another_ledger_is_recognised_for_a_time_replaced_and_revoked() {
    let mut ledger = Ledger::new();
    let first = recognition(&ledger);
    let leaf_index = recognise(&mut ledger, AUTHORITY, &first).unwrap();
    let expected = v1::RecognitionState {
        recognition: Some(first.clone()),
        authority: public(AUTHORITY),
        revoked: false,
        leaf_index,
    };
    assert_eq!(kept(&ledger), Some(expected));
    let narrower = v1::Recognition {
        statuses: vec![1],
        ..first.clone()
    };
    recognise(&mut ledger, OTHER_AUTHORITY, &narrower).unwrap();
    assert_eq!(kept(&ledger).unwrap().recognition, Some(narrower.clone()));
    let revoke = v1::RecognitionRevoke {
        region: FREE_REGION.to_owned(),
        genesis_hash: vec![7; 32].into(),
    };
    let revoked = |ledger: &mut Ledger, by| {
        signed(
            ledger,
            EntryKind::RecognitionRevoke,
            &[7; 32],
            &revoke,
            &[by],
        )
    };
    assert_eq!(
        revoked(&mut ledger, HEALTH),
        Err(RejectReason::RoleNotAllowed)
    );
    revoked(&mut ledger, AUTHORITY).unwrap();
    let state = kept(&ledger).unwrap();
    assert_eq!((state.revoked, state.recognition), (true, Some(narrower)));
    assert_eq!(
        revoked(&mut ledger, AUTHORITY),
        Err(RejectReason::RecognitionUnknown)
    );
    recognise(&mut ledger, AUTHORITY, &first).unwrap();
    assert!(!kept(&ledger).unwrap().revoked);
}

#[test]
fn only_an_authority_of_the_region_recognises_and_only_what_makes_sense() {
    let mut ledger = Ledger::new();
    let good = recognition(&ledger);
    let refused = recognise(&mut ledger, NOTARY, &good);
    assert_eq!(refused, Err(RejectReason::RoleNotAllowed));
    let elsewhere = v1::Recognition {
        region: REGION.to_owned(),
        ..good.clone()
    };
    let refused = recognise(&mut ledger, OTHER_AUTHORITY, &elsewhere);
    assert_eq!(refused, Err(RejectReason::OutsideMandate));
    let own = ledger.chain.id.to_bytes();
    let unsound: [&dyn Fn(&mut v1::Recognition); 9] = [
        &|r| r.genesis_hash = own.clone(),
        &|r| r.name.clear(),
        &|r| r.regions.clear(),
        &|r| r.regions.swap(0, 1),
        &|r| r.regions[0].clear(),
        &|r| r.statuses.clear(),
        &|r| r.statuses = vec![2, 1],
        &|r| r.statuses = vec![0],
        &|r| r.not_after_ms = START,
    ];
    for (case, change) in unsound.into_iter().enumerate() {
        let mut body = good.clone();
        change(&mut body);
        let refused = recognise(&mut ledger, AUTHORITY, &body);
        assert_eq!(refused, Err(RejectReason::FieldOutOfRange), "case {case}");
    }
    let about = signed(
        &mut ledger,
        EntryKind::Recognition,
        &[8; 32],
        &good,
        &[AUTHORITY],
    );
    assert_eq!(about, Err(RejectReason::SubjectMismatch));
    assert_eq!(kept(&ledger), None);
}

#[test]
fn a_region_refuses_an_order_of_another_and_the_order_stays_what_it_is() {
    let mut ledger = Ledger::new();
    issue(&mut ledger, FREE_REGION, &codes(10..12)).unwrap();
    let changes = each(&codes(10..12), 1);
    let order = order(&mut ledger, OTHER_AUTHORITY, &changes);
    let before: v1::OrderState = ledger.map(ORDER_NAMESPACE, order.as_bytes()).unwrap();
    let own = ledger.chain.id.to_bytes();
    let body = |region: &str, genesis_hash: &[u8], order: &Hash| v1::OrderRefusal {
        region: region.to_owned(),
        genesis_hash: Bytes::copy_from_slice(genesis_hash),
        order_id: order.to_bytes(),
        reason: "the evidence is the hash of nothing".to_owned(),
    };
    let refuse = |ledger: &mut Ledger, by, body: &v1::OrderRefusal| {
        let subject = body.order_id.clone();
        signed(ledger, EntryKind::OrderRefusal, &subject, body, &[by])
    };
    let here = body(REGION, &own, &order);
    assert_eq!(
        refuse(&mut ledger, OTHER_AUTHORITY, &here),
        Err(RejectReason::OutsideMandate)
    );
    let leaf_index = refuse(&mut ledger, AUTHORITY, &here).unwrap();
    let kept = v1::OrderRefusalState {
        refusal: Some(here.clone()),
        authority: public(AUTHORITY),
        leaf_index,
    };
    let key = order_refusal_key(&own, order.as_bytes(), REGION);
    assert_eq!(ledger.map(ORDER_REFUSAL_NAMESPACE, &key), Some(kept));
    assert_eq!(ledger.map(ORDER_NAMESPACE, order.as_bytes()), Some(before));
    assert_eq!(
        refuse(&mut ledger, AUTHORITY, &here),
        Err(RejectReason::OrderRefusalExists)
    );
    // One of its own region is corrected, not refused; one of another ledger need not be known.
    let at_home = body(FREE_REGION, &own, &order);
    assert_eq!(
        refuse(&mut ledger, AUTHORITY, &at_home),
        Err(RejectReason::FieldOutOfRange)
    );
    let unknown = body(REGION, &own, &Hash([9; 32]));
    assert_eq!(
        refuse(&mut ledger, AUTHORITY, &unknown),
        Err(RejectReason::OrderUnknown)
    );
    let foreign = body(REGION, &[7; 32], &Hash([9; 32]));
    refuse(&mut ledger, AUTHORITY, &foreign).unwrap();
    let silent = v1::OrderRefusal {
        reason: String::new(),
        ..foreign
    };
    assert_eq!(
        refuse(&mut ledger, AUTHORITY, &silent),
        Err(RejectReason::FieldOutOfRange)
    );
}
