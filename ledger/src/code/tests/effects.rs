//! Code by code: what is refused is counted, and named to whoever asks.
#![allow(clippy::unwrap_used)]

use super::*;

/// Codes 10 to 19 with one that was changed before, one of another region and one unknown.
fn mixed(ledger: &mut Ledger) -> Changes {
    let touched = each(&codes(12..13), 1);
    let quick = order(ledger, OTHER_AUTHORITY, &touched);
    let draft = chunk_draft(ledger, &quick, 0, &touched);
    let entry = ledger.compose(draft, OTHER_AUTHORITY, &[]);
    ledger.submit(entry).unwrap();
    issue(ledger, REGION, &codes(40..41)).unwrap();
    each(&[codes(10..20), codes(40..42)].concat(), 1)
}

fn expected_refusals() -> [Refused; 3] {
    let refused = |n, found, reason| Refused {
        code: code(n),
        expected: 1,
        found,
        reason,
    };
    [
        refused(12, Some(2), RejectReason::CodeStaleSequence),
        refused(40, Some(1), RejectReason::CodeOtherRegion),
        refused(41, None, RejectReason::CodeUnknown),
    ]
}

#[test]
fn code_by_code_the_refused_ones_stay_and_are_counted_under_a_root() {
    let (mut ledger, _) = issued();
    let changes = mixed(&mut ledger);
    let before: Vec<_> = [12, 40].map(|n| state(&ledger, n)).into();
    let body = v1::StatusOrder {
        mode: OrderMode::CodeByCode as i32,
        ..order_body(FREE_REGION, &changes)
    };
    let order = ordered(&mut ledger, &body, &[AUTHORITY]);
    chunk(&mut ledger, &order, 0, &changes[..5]).unwrap();
    chunk(&mut ledger, &order, 5, &changes[5..]).unwrap();

    let root = refused_root(&expected_refusals());
    let kept: v1::OrderState = ledger.map(ORDER_NAMESPACE, order.as_bytes()).unwrap();
    let effect = v1::OrderEffect {
        changed: 9,
        refused: 3,
        refused_root: root.to_bytes(),
        timestamp_ms: ledger.now,
    };
    assert_eq!((kept.applied, kept.effect), (true, Some(effect)));
    let after: Vec<_> = [12, 40].map(|n| state(&ledger, n)).into();
    assert_eq!((before, state(&ledger, 41)), (after, None));
    for n in (10..20).filter(|n| *n != 12) {
        assert_eq!(state(&ledger, n).unwrap().order_id, order.0[..]);
    }
    let acts = acts_of(&ledger, AUTHORITY);
    let last = acts.last().unwrap();
    assert_eq!(last.kind(), v1::ActKind::TookEffect);
    assert_eq!((last.codes, last.refused), (9, 3));
    assert_eq!(last.refused_root, root.0[..]);
    // Its own root stands for the refused ones with their reasons, and for nothing else.
    let mut other = expected_refusals();
    other[2].reason = RejectReason::CodeOtherRegion;
    assert_ne!(refused_root(&other), root);
    let day = ledger.now / DAY_MS;
    let counter: v1::OrderCounter = ledger
        .map(
            COUNTER_NAMESPACE,
            &counter_key(&public(AUTHORITY), day, "contact"),
        )
        .unwrap();
    assert_eq!(
        (counter.orders, counter.changed, counter.refused),
        (1, 9, 3)
    );
}

#[test]
fn the_first_code_that_keeps_an_order_from_taking_effect_is_named() {
    let (mut ledger, _) = issued();
    let changes = mixed(&mut ledger);
    let order = order(&mut ledger, AUTHORITY, &changes);
    chunk(&mut ledger, &order, 0, &changes[..5]).unwrap();
    let last = chunk_draft(&ledger, &order, 5, &changes[5..]);
    let last: v1::StatusChunk = canonical::decode(&last.body).unwrap();
    let named = rules::first_refused(&ledger.state, &last).unwrap();
    assert_eq!(named, Some(expected_refusals()[0]));
    let refused = chunk(&mut ledger, &order, 5, &changes[5..]);
    assert_eq!(refused, Err(named.unwrap().reason));
    let unknown = v1::StatusChunk {
        order_id: vec![7; 32].into(),
        ..last
    };
    assert_eq!(rules::first_refused(&ledger.state, &unknown).unwrap(), None);
}

#[test]
fn an_order_that_changes_nothing_is_still_in_effect_and_seen() {
    let (mut ledger, _) = issued();
    let changes = each(&codes(90..93), 1);
    let body = v1::StatusOrder {
        mode: OrderMode::CodeByCode as i32,
        ..order_body(FREE_REGION, &changes)
    };
    let order = ordered(&mut ledger, &body, &[AUTHORITY]);
    chunk(&mut ledger, &order, 0, &changes).unwrap();
    let kept: v1::OrderState = ledger.map(ORDER_NAMESPACE, order.as_bytes()).unwrap();
    let effect = kept.effect.unwrap();
    assert_eq!((effect.changed, effect.refused), (0, 3));
    assert_eq!(changed(&ledger), 0);
}
