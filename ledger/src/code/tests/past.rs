//! The history of a code is all of it, or it is refused.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::HistoryError;
use super::*;
use crate::state::MemoryState;
use crate::{checkpoint, foreign, rooms};

fn ordered_once(ledger: &mut Ledger, range: std::ops::Range<u8>, sequence: u64) {
    let changes = each(&codes(range), sequence);
    let order = order(ledger, AUTHORITY, &changes);
    chunk(ledger, &order, 0, &changes).unwrap();
}

/// Code 10: issued, ordered, released by a check-in, ordered twice. Code 11 the same but for the
/// release, which a third order stands for; code 12 as it was issued.
fn eventful() -> Ledger {
    let (mut ledger, _) = issued();
    let rule = v1::RegionRule {
        region: FREE_REGION.to_owned(),
        check_ins: 1,
        release_from: vec![2],
        release_to: 1,
        stations: vec![public(HEALTH)],
        check_in_delay_ms: DAY_MS,
        ..Default::default()
    };
    signed(&mut ledger, EntryKind::RegionRule, &[], &rule, &GRANTERS).unwrap();
    ordered_once(&mut ledger, 10..12, 1);
    let check_in = v1::CheckIn {
        region: FREE_REGION.to_owned(),
        codes: code(10).to_vec().into(),
        observed_at_ms: ledger.now,
    };
    submit(&mut ledger, EntryKind::CheckIn, HEALTH, &check_in).unwrap();
    ordered_once(&mut ledger, 11..12, 2);
    ordered_once(&mut ledger, 10..12, 3);
    ordered_once(&mut ledger, 10..12, 4);
    ledger
}

fn shown(ledger: &Ledger) -> (v1::CodeState, Vec<v1::ReplacedState>) {
    (state(ledger, 10).unwrap(), past(ledger, 10))
}

#[test]
fn the_states_of_a_code_lead_from_the_certified_one_to_its_issue() {
    let ledger = eventful();
    let (current, earlier) = shown(&ledger);
    let all = history::verify(&current, &earlier).unwrap();
    let told: Vec<_> = all
        .iter()
        .map(|state| (state.sequence, state.status(), state.released_at_leaf > 0))
        .collect();
    let (green, yellow) = (CodeStatus::Green, CodeStatus::Yellow);
    let expected = [
        (1, green, false),
        (2, yellow, false),
        (3, green, true),
        (4, yellow, false),
        (5, yellow, false),
    ];
    assert_eq!(told, expected);
    assert_eq!(all.last(), Some(&current));
    let blinded: Vec<bool> = earlier.iter().map(|one| !one.blind.is_empty()).collect();
    assert_eq!(
        blinded,
        [true, true, false, true],
        "a release hides nothing"
    );
    // In pages it is the same.
    let page = |below, limit| history::read(&ledger.state, &code(10), below, limit).unwrap();
    assert_eq!([page(5, 3), page(2, 3)].concat(), earlier);
    assert!(page(1, 3).is_empty() && page(0, 3).is_empty());
    let untouched = state(&ledger, 12).unwrap();
    assert_eq!(history::verify(&untouched, &[]).unwrap(), [untouched]);
}

#[test]
fn a_state_left_out_altered_moved_or_of_another_code_is_found() {
    let ledger = eventful();
    let (current, earlier) = shown(&ledger);
    let refused = |states: &[v1::ReplacedState]| history::verify(&current, states).unwrap_err();
    let others = past(&ledger, 11);
    for at in 0..earlier.len() {
        let sequence = 4 - at as u64;
        let unlinked = HistoryError::Unlinked(sequence);
        assert_eq!(
            refused(&earlier[..at]),
            HistoryError::Missing(sequence),
            "cut short"
        );
        let mut states = earlier.clone();
        states.remove(at);
        let left_out = match at {
            3 => HistoryError::Missing(1),
            _ => unlinked.clone(),
        };
        assert_eq!(refused(&states), left_out);
        let mut states = earlier.clone();
        states.insert(at, earlier[at].clone());
        let twice = match at {
            3 => HistoryError::TooMany(1),
            _ => HistoryError::Unlinked(sequence - 1),
        };
        assert_eq!(refused(&states), twice);
        for other in at + 1..earlier.len() {
            let mut states = earlier.clone();
            states.swap(at, other);
            assert_eq!(refused(&states), unlinked, "moved to {other}");
        }
        let mut states = earlier.clone();
        states[at] = others[at].clone();
        assert_eq!(refused(&states), unlinked, "of another code");
        let record = canonical::encode(&earlier[at]);
        for bit in 0..8 * record.len() {
            let mut bytes = record.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(altered) = canonical::decode::<v1::ReplacedState>(&bytes) {
                let mut states = earlier.clone();
                states[at] = altered;
                assert_eq!(refused(&states), unlinked, "bit {bit}");
            }
        }
    }
    let more = [&earlier[..], &others[3..]].concat();
    assert_eq!(refused(&more), HistoryError::TooMany(1));
    assert!(history::verify(&current, &others).is_err());
    assert!(history::verify(&v1::CodeState::default(), &[]).is_err());
}

#[test]
fn linked_states_that_no_node_writes_are_refused() {
    let state = |sequence, previous: &Hash| v1::CodeState {
        sequence,
        previous: previous.to_bytes(),
        ..Default::default()
    };
    let first = v1::CodeState {
        sequence: 1,
        ..Default::default()
    };
    let over = |state: &v1::CodeState| history::link(&by_release(state));
    let jumped = state(3, &over(&first));
    assert_eq!(
        history::verify(&jumped, &[by_release(&first)]),
        Err(HistoryError::Misnumbered(2))
    );
    let rooted = state(1, &over(&first));
    assert_eq!(
        history::verify(&rooted, &[by_release(&first)]),
        Err(HistoryError::Misnumbered(1))
    );
    let garbage = v1::ReplacedState {
        state: Bytes::from_static(b"?"),
        ..Default::default()
    };
    let behind = state(2, &history::link(&garbage));
    let malformed = history::verify(&behind, &[garbage]).unwrap_err();
    assert!(matches!(
        malformed,
        HistoryError::Malformed { sequence: 1, .. }
    ));
}

#[test]
fn a_chunk_says_what_hides_the_states_that_it_replaces() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..2], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    for blind in [vec![], vec![1; 31], vec![1; 33]] {
        let mut draft = chunk_draft(&ledger, &order, 0, &changes);
        let body = canonical::decode::<v1::StatusChunk>(&draft.body).unwrap();
        draft.body = canonical::encode(&v1::StatusChunk {
            blind: blind.into(),
            ..body
        });
        let entry = ledger.compose(draft, AUTHORITY, &[]);
        let refused = ledger.submit(entry);
        assert_eq!(refused, Err(RejectReason::FieldOutOfRange));
    }
    chunk(&mut ledger, &order, 0, &changes).unwrap();
    // The same state of two codes, by one chunk: neither names the other's.
    let previous = [10, 11].map(|n| state(&ledger, n).unwrap().previous);
    assert_ne!(previous[0], previous[1]);
}

#[test]
fn a_copied_state_has_exactly_the_states_that_lead_to_its_codes() {
    let mut ledger = eventful();
    let proto = ledger.checkpoint(&[0, 1, 3]);
    let certified = checkpoint::certify(&ledger.chain.id, &ledger.chain.members, &proto).unwrap();
    let check = |pairs: &BTreeMap<Vec<u8>, Bytes>| {
        let mut state = MemoryState::default();
        state.commit(pairs.clone().into_iter().collect());
        foreign::check(&ledger.chain, &state, &certified, &[7; 32])
    };
    let whole = ledger.state.pairs();
    check(whole).unwrap();
    let records = whole.iter().filter(|(key, _)| key[0] == rooms::HISTORY);
    let records: Vec<_> = records.collect();
    assert_eq!(records.len(), 8);
    for (key, value) in records {
        let mut changed = whole.clone();
        for at in 0..value.len() {
            let mut bytes = value.to_vec();
            bytes[at] ^= 1;
            changed.insert(key.clone(), bytes.into());
            assert!(check(&changed).is_err(), "byte {at} of {key:02x?}");
        }
        changed.remove(key);
        assert!(check(&changed).is_err(), "without {key:02x?}");
        for last in [0, 6, 99] {
            let mut more = whole.clone();
            let mut at = key.clone();
            at.truncate(at.len() - 1);
            at.push(last);
            more.insert(at, value.clone());
            assert!(check(&more).is_err(), "one more at {last}");
        }
    }
    // Of a code that was issued and no more, and of none at all.
    for key in [map::map_key(NAMESPACE, &code(12)), Hash([0xff; 32])] {
        let mut more = whole.clone();
        let at = rooms::key(rooms::HISTORY, &[&key.0, &1u64.to_be_bytes()]);
        more.insert(at, by_release(&state(&ledger, 12).unwrap()).state);
        assert!(check(&more).is_err());
    }
}
