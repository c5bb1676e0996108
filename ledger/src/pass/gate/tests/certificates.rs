//! What is under no certificate that counts: too few, strangers, members that left, forks, clocks.

use super::super::super::certify::MAX_WARM;
use super::*;
use crate::testing::MEMBERS;

#[test]
fn too_few_cosignatures_do_not_count() {
    let mut city = City::new("a");
    let mut gate = gate(&mut city);
    let mut pass = city.pass_of(green(), NOW);
    pass.cosigned.pop();
    assert!(matches!(
        why(&mut gate, &pass, NOW),
        Refusal::Uncertified(UncertifiedError::QuorumNotMet(_))
    ));
}

#[test]
fn cosignatures_of_strangers_do_not_count() {
    let mut city = City::new("a");
    let mut gate = gate(&mut city);
    let good = city.pass_of(green(), NOW);
    let mut moved = good.clone();
    moved.cosigned[0].signature = good.cosigned[1].signature;
    let mut nobodys = good.clone();
    nobodys.cosigned[2].place = 15;
    let mut later = good.clone();
    later.cosigned[0].at_ms += 1;
    for pass in [moved, nobodys, later] {
        assert!(matches!(
            why(&mut gate, &pass, NOW),
            Refusal::Uncertified(UncertifiedError::Forged(_))
        ));
    }
    passes(&mut gate, &good, NOW);
}

#[test]
fn members_that_left_certify_nothing_behind_their_end() {
    let mut city = City::new("a");
    let (old_pass, before) = (city.pass_of(green(), NOW - HOUR / 2), city.clone());
    city.rotate(0, 120, NOW - HOUR / 3);
    let end = city.height;
    let removed = Refusal::Uncertified(UncertifiedError::RemovedMembers { epoch: 0, end });
    let trust = city.trust(NOW - HOUR / 4);
    let mut gate = Gate::new(trust, GatePolicy::default());

    // A pass from before the change still counts, and one of the new members.
    passes(&mut gate, &old_pass, NOW);
    let fresh = city.pass_of(green(), NOW);
    passes(&mut gate, &fresh, NOW);

    // The old keys make a block behind the end, and a younger time for an old block.
    let mut leaked = before.clone();
    leaked.height = end;
    let forged = leaked.pass_of(green(), NOW);
    assert_eq!(why(&mut gate, &forged, NOW), removed);
    let header = before.clone().header(NOW - HOUR / 2);
    let signers: Vec<_> = MEMBERS.iter().map(|key| (*key, NOW)).collect();
    let renewed = before.pass(&code_of(3), &before.certify(&header, &signers));
    assert_eq!(why(&mut gate, &renewed, NOW), removed);

    // An old key in the name of the new epoch is a stranger's.
    let header = city.header(NOW);
    let with_old = city.certify(&header, &signers);
    let mut pass = fresh.clone();
    for (cosigned, made) in pass.cosigned.iter_mut().zip(&with_old.cosignatures) {
        cosigned.signature = made.signature[..].try_into().unwrap();
    }
    assert!(matches!(
        why(&mut gate, &pass, NOW),
        Refusal::Uncertified(UncertifiedError::Forged(_))
    ));
}

#[test]
fn the_last_block_of_an_epoch_shows_passes_too() {
    let mut city = City::new("a");
    city.rotate(0, 120, NOW);
    let last = city.changes[0].checkpoint.clone().unwrap();
    let pass = city.pass(&code_of(4), &last);
    let trust = city.trust(NOW + MINUTE);
    let mut gate = Gate::new(trust, GatePolicy::default());
    passes(&mut gate, &pass, NOW + MINUTE);
}

#[test]
fn a_pass_of_members_that_the_trust_file_does_not_know_asks_for_a_newer_one() {
    let mut city = City::new("a");
    let mut gate = gate(&mut city);
    city.rotate(0, 120, NOW - HOUR);
    let pass = city.pass_of(green(), NOW);
    assert_eq!(
        why(&mut gate, &pass, NOW),
        Refusal::Uncertified(UncertifiedError::UnknownEpoch { epoch: 1, known: 0 })
    );
}

#[test]
fn a_forked_chain_is_told_where_it_can_be() {
    let mut city = City::new("a");
    let mut other = city.clone();
    let trust = city.trust(NOW - DAY);
    let known = city.height;
    let mut gate = Gate::new(trust, GatePolicy::default());
    let forked = |height: u64| Refusal::Uncertified(UncertifiedError::Forked { height, known });

    // Another block of the height that the trust file pins.
    let pass = other.pass_of(green(), NOW);
    assert_eq!(why(&mut gate, &pass, NOW), forked(known));
    // A lower one that is younger, and a higher one that is older.
    other.height = known - 50;
    let pass = other.pass_of(green(), NOW);
    assert_eq!(why(&mut gate, &pass, NOW), forked(known - 49));
    other.height = known;
    let pass = other.pass_of(green(), NOW - 2 * DAY);
    assert_eq!(why(&mut gate, &pass, NOW), forked(known + 1));
    // Two blocks of one height, neither of them pinned: the second is refused.
    let ours = city.pass_of(green(), NOW);
    other.height = known;
    let theirs = other.pass_of(of_status(CodeStatus::Yellow), NOW);
    passes(&mut gate, &ours, NOW);
    let met = Refusal::Uncertified(UncertifiedError::Forked {
        height: known + 1,
        known: known + 1,
    });
    assert_eq!(why(&mut gate, &theirs, NOW), met);
    passes(&mut gate, &ours, NOW);
}

#[test]
fn a_clock_a_day_behind_is_noticed_and_one_a_day_ahead_lets_nobody_through() {
    let (_, mut gate, pass) = shown(green());
    let behind = Refusal::ClockBehind { behind_ms: DAY };
    assert_eq!(why(&mut gate, &pass, NOW - DAY), behind);
    // It is not asked how a pass looks by a clock that is known to be wrong.
    let mut city = City::new("a");
    city.height -= 1;
    let stale = city.pass_of(green(), NOW - DAY);
    assert_eq!(why(&mut gate, &stale, NOW - DAY), behind);
    assert!(matches!(
        why(&mut gate, &pass, NOW + DAY),
        Refusal::TooOld { age_ms: DAY, .. }
    ));
}

#[test]
fn a_clock_before_the_trust_file_was_made_is_noticed() {
    let mut city = City::new("a");
    let pass = city.pass_of(green(), NOW - DAY);
    let trust = city.trust(NOW);
    let mut gate = Gate::new(trust, GatePolicy::default());
    assert_eq!(
        why(&mut gate, &pass, NOW - DAY),
        Refusal::ClockBehind { behind_ms: DAY }
    );
}

#[test]
fn clocks_may_lie_apart_as_far_as_the_policy_says() {
    let (_, mut gate, pass) = shown(green());
    let tolerance = GatePolicy::default().clock_tolerance_ms;
    assert_eq!(passes(&mut gate, &pass, NOW - tolerance).age_ms, 0);
    let behind_ms = tolerance + 1;
    assert_eq!(
        why(&mut gate, &pass, NOW - behind_ms),
        Refusal::ClockBehind { behind_ms }
    );
}

/// A ledger that is recognised could otherwise stop a gate for everybody.
#[test]
fn what_another_ledger_says_about_the_time_counts_for_its_own_passes_only() {
    let mut a = City::new("a");
    let (mut b, mut gate) = two_cities(|b| recognises(b, REGION));
    let ahead = b.pass_of(green(), NOW + DAY);
    assert_eq!(
        why(&mut gate, &ahead, NOW),
        Refusal::ClockBehind { behind_ms: DAY }
    );
    a.height += 10;
    let own = a.pass_of(green(), NOW);
    passes(&mut gate, &own, NOW);
}

#[test]
fn what_the_members_certified_must_be_the_state_of_a_code() {
    let mut city = City::new("a");
    let mut gate = gate(&mut city);
    let mut pass = city.pass_of(green(), NOW);
    // Not deep enough for the code, and no map at all.
    pass.proof.depth = 0;
    pass.proof.sibling_bitmap = Default::default();
    pass.proof.siblings.clear();
    assert!(matches!(
        why(&mut gate, &pass, NOW),
        Refusal::Uncertified(UncertifiedError::Forged(_))
    ));
}

#[test]
fn certificates_that_were_met_are_bounded_and_do_not_change_verdicts() {
    let mut city = City::new("a");
    let mut gate = gate(&mut city);
    let mut all = Vec::new();
    for n in 0..=MAX_WARM as u64 {
        let checkpoint = city.checkpoint(NOW + n);
        all.push(city.pass(&code_of(5), &checkpoint));
    }
    for _ in 0..2 {
        for pass in &all {
            passes(&mut gate, pass, NOW + MINUTE);
        }
    }
    // The same header under other cosignatures is verified anew.
    let mut edited = all[9].clone();
    edited.cosigned[0].at_ms += 1;
    assert!(matches!(
        why(&mut gate, &edited, NOW + MINUTE),
        Refusal::Uncertified(UncertifiedError::Forged(_))
    ));
}
