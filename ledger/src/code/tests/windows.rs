//! All acts of a time are shown, or the proof fails: one left out, altered, or a neighbour missing.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::code::acts::{WindowError, prove, prove_window, verify_window};
use crate::log::ProofError;

/// Orders of [`AUTHORITY`] at these times after the start, in blocks of their own.
fn ordered_at(times: &[u64]) -> (Ledger, v1::AuthorityLog) {
    let mut ledger = Ledger::new();
    for time in times {
        ledger.now = START + time - 10;
        order(&mut ledger, AUTHORITY, &each(&codes(1..3), 1));
    }
    let log = acts::log_of(&ledger.state, &public(AUTHORITY)).unwrap();
    (ledger, log)
}

const TIMES: [u64; 9] = [100, 200, 300, 300, 400, 500, 600, 700, 800];
const AS_OF: u64 = START + 10_000;

#[test]
fn every_window_shows_exactly_the_acts_inside_of_it() {
    for many in 0..=TIMES.len() {
        let (ledger, log) = ordered_at(&TIMES[..many]);
        assert_eq!(log.size, many as u64);
        for from in (0..1_000).step_by(50) {
            for to in (from..1_000).step_by(50) {
                let (from, to) = (START + from, START + to);
                let shown = prove_window(&ledger.state, &public(AUTHORITY), from, to).unwrap();
                let acts = verify_window(&log, AS_OF, from, to, &shown).unwrap();
                let found: Vec<u64> = acts.iter().map(|act| act.timestamp_ms - START).collect();
                let inside = |time: &&u64| (from..to).contains(&(START + **time));
                let expected: Vec<u64> = TIMES[..many].iter().filter(inside).copied().collect();
                assert_eq!(found, expected);
            }
        }
    }
}

/// What a window from 250 to 550 says to a changed proof of it.
fn changed_proof(change: impl FnOnce(&mut v1::ActRange)) -> WindowError {
    let (ledger, log) = ordered_at(&TIMES);
    let (from, to) = (START + 250, START + 550);
    let mut shown = prove_window(&ledger.state, &public(AUTHORITY), from, to).unwrap();
    assert_eq!((shown.first_index, shown.acts.len()), (1, 6));
    change(&mut shown);
    verify_window(&log, AS_OF, from, to, &shown).unwrap_err()
}

#[test]
fn an_act_that_is_left_out_altered_added_or_moved_breaks_the_proof() {
    let broken = |change: &dyn Fn(&mut v1::ActRange)| {
        let error = changed_proof(|shown| change(shown));
        assert!(matches!(error, WindowError::Proof(_)), "{error}");
    };
    for at in 0..6 {
        broken(&|shown| {
            shown.acts.remove(at);
        });
        broken(&|shown| shown.acts[at].codes += 1);
        broken(&|shown| shown.acts[at].refused += 1);
        broken(&|shown| shown.acts[at].timestamp_ms += 1);
        broken(&|shown| shown.acts[at].reason = "travel".to_owned());
        broken(&|shown| {
            let twice = shown.acts[at].clone();
            shown.acts.insert(at, twice);
        });
    }
    broken(&|shown| shown.acts.swap(2, 3));
    broken(&|shown| shown.first_index = 0);
    broken(&|shown| shown.first_index = u64::MAX);
    broken(&|shown| shown.before.clear());
    broken(&|shown| shown.after.push(Bytes::from_static(&[0; 32])));
    broken(&|shown| shown.after[0] = Bytes::from_static(&[0; 32]));
    broken(&|shown| shown.after[0] = Bytes::new());
}

#[test]
fn a_window_needs_its_neighbours_its_end_and_its_own_log() {
    let (ledger, log) = ordered_at(&TIMES);
    let (from, to) = (START + 250, START + 550);
    let part = |range| prove(&ledger.state, &public(AUTHORITY), range).unwrap();
    let verify = |shown: &v1::ActRange| verify_window(&log, AS_OF, from, to, shown).map(<[_]>::len);
    assert_eq!(verify(&part(1..7)), Ok(4));
    // More neighbours are no fault.
    assert_eq!(verify(&part(0..9)), Ok(4));
    assert_eq!(verify(&part(2..7)), Err(WindowError::NoneBefore(1)));
    assert_eq!(verify(&part(1..6)), Err(WindowError::NoneBehind(6)));
    assert_eq!(verify(&part(1..1)), Err(WindowError::NoneBefore(0)));
    // At the very edges: an act at `from` belongs to it, one at `to` does not.
    let edges = |from, to, range| {
        let shown = part(range);
        verify_window(&log, AS_OF, START + from, START + to, &shown).map(<[_]>::len)
    };
    assert_eq!(edges(300, 500, 1..6), Ok(3));
    assert_eq!(edges(300, 500, 2..6), Err(WindowError::NoneBefore(1)));
    assert_eq!(edges(300, 501, 1..6), Err(WindowError::NoneBehind(6)));
    // What may still grow is not complete.
    let shown = part(1..7);
    let open = verify_window(&log, to - 2, from, to, &shown);
    let not_over = WindowError::NotOver {
        to_ms: to,
        as_of_ms: to - 2,
    };
    assert_eq!(open, Err(not_over));
    // A checkpoint shows what its own block did.
    assert!(verify_window(&log, to - 1, from, to, &shown).is_ok());
    // Without an act nothing is left out, and an older log is another one.
    let shown = v1::ActRange::default();
    assert_eq!(
        verify_window(&acts::nothing(), AS_OF, from, to, &shown),
        Ok(&[][..])
    );
    let (_, older) = ordered_at(&TIMES[..8]);
    let error = verify_window(&older, AS_OF, from, to, &part(1..7)).unwrap_err();
    assert!(matches!(
        error,
        WindowError::Proof(ProofError::TooLong { .. } | ProofError::WrongRoot { .. })
    ));
}

#[test]
fn a_log_whose_times_or_leaves_go_back_is_no_nodes() {
    let act = |leaf_index, timestamp_ms| v1::AuthorityAct {
        leaf_index,
        timestamp_ms,
        ..Default::default()
    };
    for (second, sound) in [
        (act(6, 100), true),
        (act(6, 99), false),
        (act(5, 101), false),
    ] {
        let shown = v1::ActRange {
            acts: vec![act(5, 100), second],
            ..Default::default()
        };
        let leaves: Vec<Hash> = shown
            .acts
            .iter()
            .map(|act| log::leaf_hash(&canonical::encode(act)))
            .collect();
        let log = v1::AuthorityLog {
            size: 2,
            root: log::root_of(&leaves).to_bytes(),
        };
        let found = verify_window(&log, 1_000, 0, 1_000, &shown).map(<[_]>::len);
        let expected = if sound {
            Ok(2)
        } else {
            Err(WindowError::Backwards(1))
        };
        assert_eq!(found, expected);
    }
}
