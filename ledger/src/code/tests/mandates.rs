//! Nothing is ordered outside a mandate in force, and mandates change by entries of several offices.
#![allow(clippy::unwrap_used)]

use cairn_proto::v1::Role;

use super::*;

/// An order in [`REGION`], where a mandate limits it, approved as it asks for.
fn limited(
    ledger: &mut Ledger,
    change: impl FnOnce(&mut v1::StatusOrder),
) -> Result<u64, RejectReason> {
    let mut body = order_body(REGION, &each(&codes(1..3), 1));
    body.lapses_at_ms = ledger.now + 1_000;
    body.on_lapse = CodeStatus::Green as i32;
    change(&mut body);
    let draft = ledger.draft(EntryKind::StatusOrder, &[], &body);
    let entry = ledger.compose(draft, AUTHORITY, &[HEALTH]);
    ledger.submit(entry)
}

#[test]
fn an_order_stays_within_its_mandate() {
    let mut ledger = Ledger::new();
    limited(&mut ledger, |_| ()).unwrap();
    limited(&mut ledger, |o| o.reason = "travel".to_owned()).unwrap();
    let at = ledger.now + 10;
    limited(&mut ledger, |o| o.lapses_at_ms = at + MAX_DURATION).unwrap();
    // Back to green needs no end.
    limited(&mut ledger, |o| {
        (o.status, o.lapses_at_ms, o.on_lapse) = (CodeStatus::Green as i32, 0, 0);
    })
    .unwrap();

    let at = ledger.now + 10;
    let outside: [&dyn Fn(&mut v1::StatusOrder); 7] = [
        &|o| o.reason = "protest".to_owned(),
        &|o| o.reason.clear(),
        &|o| o.status = CodeStatus::Red as i32,
        &|o| o.lapses_at_ms = at + MAX_DURATION + 1_000,
        &|o| (o.lapses_at_ms, o.on_lapse) = (0, 0),
        &|o| o.lapses_at_ms = at - 1,
        &|o| o.region = "999999".to_owned(),
    ];
    for (case, change) in outside.into_iter().enumerate() {
        let refused = limited(&mut ledger, change);
        assert_eq!(refused, Err(RejectReason::OutsideMandate), "case {case}");
    }
    let kept: v1::AuthorityLog = ledger.map(ACTS_OF_NAMESPACE, &public(AUTHORITY)).unwrap();
    assert_eq!(kept.size, 4);
}

#[test]
fn an_order_says_on_what_ground_how_many_and_where_to_appeal() {
    let mut ledger = Ledger::new();
    let long = "x".repeat(501);
    let incomplete: [&dyn Fn(&mut v1::StatusOrder); 18] = [
        &|o| o.legal_basis.clear(),
        &|o| o.legal_basis = long.clone(),
        &|o| o.appeal_contact.clear(),
        &|o| o.appeal_contact = long.clone(),
        &|o| o.status = 0,
        &|o| o.lapses_at_ms = 0,
        &|o| o.on_lapse = 0,
        &|o| o.evidence_commitment = vec![1; 31].into(),
        &|o| o.evidence_commitment = Bytes::new(),
        &|o| o.count = 0,
        &|o| o.count = rules::MAX_ORDER_CODES + 1,
        &|o| o.changes_root = vec![1; 33].into(),
        &|o| o.mode = 0,
        &|o| o.operator.clear(),
        &|o| o.operator = long.clone(),
        &|o| o.rule_version.clear(),
        &|o| o.rule_version = long.clone(),
        &|o| o.corrects = vec![1; 31].into(),
    ];
    for (case, change) in incomplete.into_iter().enumerate() {
        let refused = limited(&mut ledger, change);
        assert_eq!(refused, Err(RejectReason::FieldOutOfRange), "case {case}");
    }
    for author in [HEALTH, NOTARY, GOVERNMENT] {
        let body = order_body(FREE_REGION, &each(&codes(1..3), 1));
        let refused = submit(&mut ledger, EntryKind::StatusOrder, author, &body);
        assert_eq!(refused, Err(RejectReason::RoleNotAllowed));
    }
    let body = order_body(FREE_REGION, &each(&codes(1..3), 1));
    let draft = ledger.draft(EntryKind::StatusOrder, &[1; 32], &body);
    let entry = ledger.compose(draft, AUTHORITY, &[]);
    assert_eq!(ledger.submit(entry), Err(RejectReason::SubjectMismatch));
}

/// What the rule says about an order in `region` with these approvers.
fn with_approvers(ledger: &Ledger, region: &str, approvers: &[u8]) -> Result<(), RejectReason> {
    let mut body = order_body(region, &each(&codes(1..3), 1));
    body.lapses_at_ms = ledger.now + 1_000;
    body.on_lapse = CodeStatus::Green as i32;
    let signers = [&[AUTHORITY], approvers].concat();
    judged(ledger, EntryKind::StatusOrder, &[], &body, &signers)
}

#[test]
fn exactly_one_of_the_mandates_approvers_signs() {
    let ledger = Ledger::new();
    let missing = Err(RejectReason::ApprovalMissing);
    let unexpected = Err(RejectReason::ApprovalUnexpected);
    for (region, approvers, expected) in [
        (REGION, &[HEALTH][..], Ok(())),
        (REGION, &[OTHER_HEALTH], Ok(())),
        (REGION, &[], missing),
        (REGION, &[NOTARY], missing),
        (REGION, &[AUTHORITY], missing),
        (REGION, &[HEALTH, OTHER_HEALTH], unexpected),
        (REGION, &[HEALTH, NOTARY], unexpected),
        (FREE_REGION, &[], Ok(())),
        (FREE_REGION, &[HEALTH], unexpected),
    ] {
        let found = with_approvers(&ledger, region, approvers);
        assert_eq!(found, expected, "{region} {approvers:?}");
    }
}

/// A mandate that nobody has yet.
fn new_mandate() -> v1::Mandate {
    v1::Mandate {
        authority: public(OTHER_AUTHORITY),
        region: REGION.to_owned(),
        reasons: vec!["contact".to_owned()],
        statuses: vec![1, 2, 3],
        max_duration_ms: 0,
        approver_role: 0,
    }
}

fn grant(ledger: &mut Ledger, mandate: &v1::Mandate) -> Result<u64, RejectReason> {
    let subject = mandate.authority.clone();
    signed(
        ledger,
        EntryKind::MandateGrant,
        &subject,
        mandate,
        &GRANTERS,
    )
}

fn revoke(ledger: &mut Ledger, by: u8, region: &str) -> Result<u64, RejectReason> {
    let body = v1::MandateRevoke {
        authority: public(by),
        region: region.to_owned(),
    };
    signed(
        ledger,
        EntryKind::MandateRevoke,
        &public(by),
        &body,
        &GRANTERS,
    )
}

fn order_here(ledger: &mut Ledger) -> Result<u64, RejectReason> {
    let body = order_body(REGION, &each(&codes(1..3), 1));
    submit(ledger, EntryKind::StatusOrder, OTHER_AUTHORITY, &body)
}

#[test]
fn a_mandate_is_granted_changed_and_revoked_by_entries() {
    let mut ledger = Ledger::new();
    let outside = Err(RejectReason::OutsideMandate);
    assert_eq!(order_here(&mut ledger), outside);
    let leaf = grant(&mut ledger, &new_mandate()).unwrap();
    let key = mandate_key(&public(OTHER_AUTHORITY), REGION);
    let kept = v1::MandateState {
        mandate: Some(new_mandate()),
        revoked: false,
        leaf_index: leaf,
    };
    assert_eq!(ledger.map(MANDATE_NAMESPACE, &key), Some(kept.clone()));
    order_here(&mut ledger).unwrap();
    // The next one replaces it whole.
    let narrower = v1::Mandate {
        statuses: vec![1],
        ..new_mandate()
    };
    grant(&mut ledger, &narrower).unwrap();
    assert_eq!(order_here(&mut ledger), outside);
    grant(&mut ledger, &new_mandate()).unwrap();
    order_here(&mut ledger).unwrap();
    let leaf = revoke(&mut ledger, OTHER_AUTHORITY, REGION).unwrap();
    assert_eq!(order_here(&mut ledger), outside);
    let revoked = v1::MandateState {
        revoked: true,
        leaf_index: leaf,
        ..kept
    };
    assert_eq!(ledger.map(MANDATE_NAMESPACE, &key), Some(revoked));
    let again = revoke(&mut ledger, OTHER_AUTHORITY, REGION);
    assert_eq!(again, Err(RejectReason::MandateUnknown));
    // It does not take away what the same authority may do elsewhere.
    let elsewhere = order_body(FREE_REGION, &each(&codes(1..3), 1));
    submit(
        &mut ledger,
        EntryKind::StatusOrder,
        OTHER_AUTHORITY,
        &elsewhere,
    )
    .unwrap();
    grant(&mut ledger, &new_mandate()).unwrap();
    order_here(&mut ledger).unwrap();
    let kinds: Vec<_> = acts_of(&ledger, OTHER_AUTHORITY)
        .iter()
        .map(|act| act.kind())
        .collect();
    use v1::ActKind::{MandateGranted, MandateRevoked, Ordered};
    let expected = [
        MandateGranted,
        Ordered,
        MandateGranted,
        MandateGranted,
        Ordered,
        MandateRevoked,
        Ordered,
        MandateGranted,
        Ordered,
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn a_mandate_changes_only_with_enough_granters_and_for_a_registered_authority() {
    let mut ledger = Ledger::new();
    let (mandate, subject) = (new_mandate(), public(OTHER_AUTHORITY));
    let by = |ledger: &Ledger, signers: &[u8]| {
        judged(ledger, EntryKind::MandateGrant, &subject, &mandate, signers)
    };
    let wrong = Err(RejectReason::MandateWrongGranter);
    let unexpected = Err(RejectReason::ApprovalUnexpected);
    for (signers, expected) in [
        (&[NOTARY, GOVERNMENT][..], Ok(())),
        (&[INSTITUTE, NOTARY, GOVERNMENT], Ok(())),
        (&[NOTARY], Err(RejectReason::ApprovalMissing)),
        (&[NOTARY, NOTARY], unexpected),
        (&[NOTARY, HEALTH], unexpected),
        (&[NOTARY, GOVERNMENT, OTHER_AUTHORITY], unexpected),
        (&[OTHER_AUTHORITY, NOTARY, GOVERNMENT], wrong),
        (&[HEALTH, NOTARY], wrong),
    ] {
        assert_eq!(by(&ledger, signers), expected, "{signers:?}");
    }
    let unsound: [&dyn Fn(&mut v1::Mandate); 7] = [
        &|m| m.authority = public(HEALTH),
        &|m| m.authority = public(STRANGER),
        &|m| m.region.clear(),
        &|m| m.reasons = vec!["b".to_owned(), "a".to_owned()],
        &|m| m.statuses = vec![2, 1],
        &|m| m.statuses = vec![0, 1],
        &|m| m.approver_role = Role::Authority as i32,
    ];
    for (case, change) in unsound.into_iter().enumerate() {
        let mut changed = new_mandate();
        change(&mut changed);
        let refused = grant(&mut ledger, &changed);
        assert_eq!(refused, Err(RejectReason::FieldOutOfRange), "case {case}");
    }
    for (kind, subject) in [
        (EntryKind::MandateGrant, AUTHORITY),
        (EntryKind::MandateRevoke, HEALTH),
    ] {
        let subject = public(subject);
        let refused = match kind {
            EntryKind::MandateGrant => signed(&mut ledger, kind, &subject, &mandate, &GRANTERS),
            _ => {
                let body = v1::MandateRevoke {
                    authority: public(AUTHORITY),
                    region: REGION.to_owned(),
                };
                signed(&mut ledger, kind, &subject, &body, &GRANTERS)
            }
        };
        assert_eq!(refused, Err(RejectReason::SubjectMismatch));
    }
    let unknown = revoke(&mut ledger, OTHER_AUTHORITY, REGION);
    assert_eq!(unknown, Err(RejectReason::MandateUnknown));
}

#[test]
fn a_genesis_that_names_no_granters_is_the_last_word_on_mandates() {
    let mut genesis = genesis();
    genesis.mandate_policy = None;
    let chain = crate::genesis::Chain::from_bytes(&canonical::encode(&genesis)).unwrap();
    let mut ledger = Ledger::of(chain);
    let refused = grant(&mut ledger, &new_mandate());
    assert_eq!(refused, Err(RejectReason::MandateWrongGranter));
}

#[test]
fn an_order_that_is_not_complete_when_its_mandate_ends_never_is() {
    let (mut ledger, all) = issued();
    let done = each(&all[..2], 1);
    let first = order(&mut ledger, AUTHORITY, &done);
    chunk(&mut ledger, &first, 0, &done).unwrap();
    let changes = each(&all[2..6], 1);
    let slow = order(&mut ledger, AUTHORITY, &changes);
    chunk(&mut ledger, &slow, 0, &changes[..2]).unwrap();
    revoke(&mut ledger, AUTHORITY, FREE_REGION).unwrap();
    let last = chunk(&mut ledger, &slow, 2, &changes[2..]);
    assert_eq!(last, Err(RejectReason::OutsideMandate));
    // What was in effect stays.
    assert_eq!(changed(&ledger), 2);
    // A new mandate lets it go on if it covers the order, and not if it does not.
    let mut back = v1::Mandate {
        authority: public(AUTHORITY),
        region: FREE_REGION.to_owned(),
        statuses: vec![1],
        ..new_mandate()
    };
    grant(&mut ledger, &back).unwrap();
    let last = chunk(&mut ledger, &slow, 2, &changes[2..]);
    assert_eq!(last, Err(RejectReason::OutsideMandate));
    back.statuses = vec![2];
    grant(&mut ledger, &back).unwrap();
    chunk(&mut ledger, &slow, 2, &changes[2..]).unwrap();
    assert_eq!(changed(&ledger), 6);
}

#[test]
fn a_correction_cites_an_order_of_the_same_region() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..2], 1);
    let wrong = order(&mut ledger, AUTHORITY, &changes);
    chunk(&mut ledger, &wrong, 0, &changes).unwrap();
    let mut elsewhere = order_body(REGION, &each(&codes(1..3), 1));
    (elsewhere.status, elsewhere.corrects) = (1, wrong.to_bytes());
    let refused = signed(
        &mut ledger,
        EntryKind::StatusOrder,
        &[],
        &elsewhere,
        &[AUTHORITY, HEALTH],
    );
    assert_eq!(refused, Err(RejectReason::CorrectionUnknown));
    let back = each(&all[..2], 2);
    let mut body = order_body(FREE_REGION, &back);
    (body.status, body.corrects) = (1, vec![9; 32].into());
    let refused = submit(&mut ledger, EntryKind::StatusOrder, AUTHORITY, &body);
    assert_eq!(refused, Err(RejectReason::CorrectionUnknown));
    // Another authority may correct it, and the wrong order stays on the ledger.
    body.corrects = wrong.to_bytes();
    let correction = ordered(&mut ledger, &body, &[OTHER_AUTHORITY]);
    let draft = chunk_draft(&ledger, &correction, 0, &back);
    let entry = ledger.compose(draft, OTHER_AUTHORITY, &[]);
    ledger.submit(entry).unwrap();
    let corrected = state(&ledger, 10).unwrap();
    assert_eq!(
        (corrected.status(), corrected.sequence),
        (CodeStatus::Green, 3)
    );
    assert!(
        ledger
            .map::<v1::OrderState>(ORDER_NAMESPACE, wrong.as_bytes())
            .unwrap()
            .applied
    );
}
