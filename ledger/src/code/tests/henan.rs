//! Henan, June 2022: 1,317 people were turned red to keep them from protesting. Here the same is tried
//! without a mandate, without the health office, and with both on no evidence at all.
#![allow(clippy::unwrap_used)]

use cairn_proto::v1::{ActKind, Role};

use super::*;
use crate::code::acts::{prove_window, tally, verify_window};
use crate::hash;

const PEOPLE: u32 = 1_317;
const CITY: &str = "410100";

fn person(n: u32) -> [u8; 32] {
    let mut code = [0x41; 32];
    code[..4].copy_from_slice(&n.to_be_bytes());
    code
}

/// A city whose epidemic office may turn codes red for two weeks, if the health office agrees.
fn city() -> Ledger {
    let mut ledger = Ledger::new();
    let mandate = v1::Mandate {
        authority: public(AUTHORITY),
        region: CITY.to_owned(),
        reasons: vec!["contact".to_owned()],
        statuses: vec![1, 3],
        max_duration_ms: 14 * DAY_MS,
        approver_role: Role::Health as i32,
    };
    let subject = public(AUTHORITY);
    signed(
        &mut ledger,
        EntryKind::MandateGrant,
        &subject,
        &mandate,
        &GRANTERS,
    )
    .unwrap();
    let rule = v1::RegionRule {
        region: CITY.to_owned(),
        appeals_role: Role::Government as i32,
        ..Default::default()
    };
    signed(&mut ledger, EntryKind::RegionRule, &[], &rule, &GRANTERS).unwrap();
    let people: Vec<[u8; 32]> = (0..PEOPLE).map(person).collect();
    let mut body = issue_body(&ledger, CITY, &people);
    body.valid_until_ms = START + 365 * DAY_MS;
    submit(&mut ledger, EntryKind::CodeIssue, AUTHORITY, &body).unwrap();
    ledger
}

fn red(ledger: &Ledger, changes: &Changes) -> v1::StatusOrder {
    v1::StatusOrder {
        status: CodeStatus::Red as i32,
        lapses_at_ms: ledger.now + 14 * DAY_MS,
        on_lapse: CodeStatus::Green as i32,
        // The commitment to nothing: well formed, and seen by everybody to be empty.
        evidence_commitment: hash::plain(&[]).to_bytes(),
        ..order_body(CITY, changes)
    }
}

fn carried_out(ledger: &mut Ledger, order: &Hash, changes: &Changes) {
    chunk(ledger, order, 0, changes).unwrap();
}

fn reds(ledger: &Ledger) -> usize {
    let state = |n| ledger.map::<v1::CodeState>(NAMESPACE, &person(n)).unwrap();
    (0..PEOPLE)
        .filter(|n| state(*n).status() == CodeStatus::Red)
        .count()
}

#[test]
fn without_the_mandate_or_the_health_office_nobody_turns_red() {
    let mut ledger = city();
    let everybody: Changes = (0..PEOPLE).map(|n| (person(n), 1)).collect();
    let body = red(&ledger, &everybody);
    // (a) Another authority, even with the health office.
    let by = [OTHER_AUTHORITY, HEALTH];
    let refused = signed(&mut ledger, EntryKind::StatusOrder, &[], &body, &by);
    assert_eq!(refused, Err(RejectReason::OutsideMandate));
    assert_eq!(acts_of(&ledger, OTHER_AUTHORITY), []);
    // (b) The right authority, alone or with somebody else's approval.
    for (by, reason) in [
        (&[AUTHORITY][..], RejectReason::ApprovalMissing),
        (&[AUTHORITY, GOVERNMENT], RejectReason::ApprovalMissing),
        (
            &[AUTHORITY, HEALTH, GOVERNMENT],
            RejectReason::ApprovalUnexpected,
        ),
    ] {
        let found = judged(&ledger, EntryKind::StatusOrder, &[], &body, by);
        assert_eq!(found, Err(reason));
        let draft = ledger.draft(EntryKind::StatusOrder, &[], &body);
        let entry = ledger.compose(draft, by[0], &by[1..]);
        assert_eq!(ledger.block(vec![entry.clone()]).outcomes, []);
        // There is no such order, so there is nothing to carry out.
        let chunk = chunk(&mut ledger, &id(&entry), 0, &everybody);
        assert_eq!(chunk, Err(RejectReason::OrderUnknown));
    }
    assert_eq!(reds(&ledger), 0);
}

#[test]
fn with_both_it_is_recorded_seen_counted_refusable_and_corrected_without_a_trace_lost() {
    let mut ledger = city();
    let began = ledger.now;
    // Ordinary days: a few contacts each.
    for day in 0..5 {
        next_day(&mut ledger);
        let few: Changes = (3 * day..3 * day + 3).map(|n| (person(n), 1)).collect();
        let body = red(&ledger, &few);
        let order = ordered(&mut ledger, &body, &[AUTHORITY, HEALTH]);
        carried_out(&mut ledger, &order, &few);
    }
    // (c) On the day of the protest.
    next_day(&mut ledger);
    let sequence = |n| if n < 15 { 2 } else { 1 };
    let everybody: Changes = (0..PEOPLE).map(|n| (person(n), sequence(n))).collect();
    let body = red(&ledger, &everybody);
    let order = ordered(&mut ledger, &body, &[AUTHORITY, HEALTH]);
    carried_out(&mut ledger, &order, &everybody);
    assert_eq!(reds(&ledger), PEOPLE as usize);

    // Complete: the window shows it, with nothing left out, and when.
    next_day(&mut ledger);
    ledger.block(vec![]);
    let log = acts::log_of(&ledger.state, &public(AUTHORITY)).unwrap();
    let (now, public_key) = (ledger.now, public(AUTHORITY));
    let shown = prove_window(&ledger.state, &public_key, began, now).unwrap();
    let acts = verify_window(&log, now, began, now, &shown)
        .unwrap()
        .to_vec();
    let ordered_here = acts.iter().filter(|act| act.kind() == ActKind::Ordered);
    assert_eq!(ordered_here.count(), 6);
    let found = acts.iter().filter(|act| act.order_id == order.0[..]);
    assert_eq!(found.clone().count(), 2);
    assert!(
        found
            .clone()
            .all(|act| act.codes == PEOPLE && act.reason == "contact")
    );
    let kept: v1::OrderState = ledger.map(ORDER_NAMESPACE, order.as_bytes()).unwrap();
    let ground = kept.order.clone().unwrap();
    assert_eq!(ground.evidence_commitment, hash::plain(&[]).0[..]);
    assert_eq!(ground.operator, "desk 7");

    // Visible: one day stands out, and the counters in the map are those that the acts make.
    let counters = tally(&acts);
    assert_eq!(counters.len(), 6);
    let of_days: Vec<u64> = counters.values().map(|counter| counter.changed).collect();
    assert_eq!(of_days, [3, 3, 3, 3, 3, 1_317]);
    for ((day, reason), counter) in counters {
        let key = counter_key(&public_key, day, &reason);
        assert_eq!(ledger.map(COUNTER_NAMESPACE, &key), Some(counter));
    }

    // Refusable: another region does not recognise it, and it stays what it is.
    let refusal = v1::OrderRefusal {
        region: FREE_REGION.to_owned(),
        genesis_hash: ledger.chain.id.to_bytes(),
        order_id: order.to_bytes(),
        reason: "no evidence, and 1,317 contacts on one day".to_owned(),
    };
    let by = [OTHER_AUTHORITY];
    signed(
        &mut ledger,
        EntryKind::OrderRefusal,
        &order.0,
        &refusal,
        &by,
    )
    .unwrap();
    assert_eq!(
        ledger.map(ORDER_NAMESPACE, order.as_bytes()),
        Some(kept.clone())
    );

    // Appealed against, decided by another office, corrected by an order that cites it.
    let appeal = v1::Appeal {
        order_id: order.to_bytes(),
        code: person(700).to_vec().into(),
        statement_commitment: vec![5; 32].into(),
    };
    let draft = ledger.draft(EntryKind::Appeal, &order.0, &appeal);
    let entry = ledger.compose(draft, NOTARY, &[]);
    ledger.submit(entry.clone()).unwrap();
    let back: Changes = everybody.iter().map(|(code, n)| (*code, n + 1)).collect();
    let correction = v1::StatusOrder {
        status: CodeStatus::Green as i32,
        corrects: order.to_bytes(),
        ..order_body(CITY, &back)
    };
    let correction = ordered(&mut ledger, &correction, &[AUTHORITY, HEALTH]);
    carried_out(&mut ledger, &correction, &back);
    let decision = v1::Decision {
        appeal_id: id(&entry).to_bytes(),
        granted: true,
        reasons_commitment: vec![6; 32].into(),
        correcting_order_id: correction.to_bytes(),
    };
    let subject = id(&entry);
    signed(
        &mut ledger,
        EntryKind::Decision,
        &subject.0,
        &decision,
        &[GOVERNMENT],
    )
    .unwrap();
    assert_eq!(reds(&ledger), 0);
    assert_eq!(ledger.map(ORDER_NAMESPACE, order.as_bytes()), Some(kept));
    // All that was in the log before stands there still, behind the granting of the mandate.
    let now = acts_of(&ledger, AUTHORITY);
    assert_eq!(now[1..=acts.len()], acts);
}
