//! What a code shows, by its state and the time.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::verify;

#[test]
fn what_a_code_shows_is_a_function_of_its_state_and_the_time() {
    const ALL: std::ops::Range<u64> = 0..5;
    let pairs = || ALL.flat_map(|a| ALL.map(move |b| (a, b)));
    for ((from, until), (lapses, now)) in pairs().flat_map(|a| pairs().map(move |b| (a, b))) {
        let state = v1::CodeState {
            status: CodeStatus::Red as i32,
            on_lapse: CodeStatus::Green as i32,
            valid_from_ms: from,
            valid_until_ms: until,
            lapses_at_ms: lapses,
            ..Default::default()
        };
        let naive = match (from..until).contains(&now) {
            false => None,
            true if lapses == 0 || now < lapses => Some(CodeStatus::Red),
            true => Some(CodeStatus::Green),
        };
        assert_eq!(effective_status(&state, now), naive, "{state:?} at {now}");
    }
}

#[test]
fn an_order_lapses_without_an_entry() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..1], 1);
    let mut body = order_body(FREE_REGION, &changes);
    body.status = CodeStatus::Red as i32;
    body.lapses_at_ms = ledger.now + 1_000;
    body.on_lapse = CodeStatus::Yellow as i32;
    let lapses = body.lapses_at_ms;
    let draft = ledger.draft(EntryKind::StatusOrder, &[], &body);
    let entry = ledger.compose(draft, AUTHORITY, &[]);
    ledger.submit(entry.clone()).unwrap();
    chunk(&mut ledger, &id(&entry), 0, &changes).unwrap();
    let state = state(&ledger, 10).unwrap();
    let shown = |at| effective_status(&state, at);
    assert_eq!(shown(ledger.now - 1), None);
    assert_eq!(shown(ledger.now), Some(CodeStatus::Red));
    assert_eq!(shown(lapses - 1), Some(CodeStatus::Red));
    assert_eq!(shown(lapses), Some(CodeStatus::Yellow));
    assert_eq!(shown(state.valid_until_ms - 1), Some(CodeStatus::Yellow));
    assert_eq!(shown(state.valid_until_ms), None);
}

#[test]
fn latest_and_never_issued_are_proven_to_outsiders() {
    let (mut ledger, _) = issued();
    let checkpoint = ledger.checkpoint(&[0, 2, 3]);
    let shown = |n: u8| {
        let receipt = ledger.map_receipt(NAMESPACE, &code(n), checkpoint.clone());
        verify::map_receipt(&ledger.chain, &receipt).unwrap().value
    };
    assert_eq!(shown(10), state(&ledger, 10).map(|s| canonical::encode(&s)));
    assert_eq!(shown(99), None);
}
