//! Each reason for which a pass does not let through, and that it does where it should.
#![allow(clippy::unwrap_used)]

mod certificates;

use super::super::certify::UncertifiedError;
use super::super::fixture::{City, DAY, HOUR, ID_CARD, NOW, SALT, code_of, file, green};
use super::super::{DecodeError, PREFIX};
use super::*;
use crate::testing::REGION;

const MINUTE: u64 = 60_000;

fn gate(city: &mut City) -> Gate {
    let trust = city.trust(NOW - DAY);
    Gate::new(trust, GatePolicy::default())
}

fn with(policy: GatePolicy, gate: Gate) -> Gate {
    Gate::new(gate.trust, policy)
}

/// Why the pass does not let through.
fn why(gate: &mut Gate, pass: &Pass, now_ms: u64) -> Refusal {
    match gate.judge(&pass.to_text(), now_ms, None) {
        Verdict::Refused { why, .. } => why,
        accepted => panic!("{accepted:?}"),
    }
}

fn passes(gate: &mut Gate, pass: &Pass, now_ms: u64) -> Proven {
    match gate.judge(&pass.to_text(), now_ms, None) {
        Verdict::Accepted(proven) => *proven,
        refused => panic!("{refused:?}"),
    }
}

/// A city, its gate, and a fresh pass of a code with this state.
fn shown(state: v1::CodeState) -> (City, Gate, Pass) {
    let mut city = City::new("a");
    let gate = gate(&mut city);
    let pass = city.pass_of(state, NOW);
    (city, gate, pass)
}

fn of_status(status: CodeStatus) -> v1::CodeState {
    v1::CodeState {
        status: status.into(),
        ..green()
    }
}

#[test]
fn a_green_pass_lets_through_and_says_what_it_proves() {
    let (city, mut gate, pass) = shown(green());
    let proven = passes(&mut gate, &pass, NOW + MINUTE);
    assert_eq!((proven.chain_id, proven.code), (city.chain.id, code_of(0)));
    assert_eq!(proven.state, green());
    assert_eq!(proven.effective, Some(CodeStatus::Green));
    assert_eq!((proven.age_ms, proven.paper), (MINUTE, false));
    assert_eq!(proven.certified.height(), city.height);
}

#[test]
fn statuses_that_the_policy_does_not_accept_are_refused() {
    for status in [CodeStatus::Yellow, CodeStatus::Red] {
        let (_, mut gate, pass) = shown(of_status(status));
        assert_eq!(why(&mut gate, &pass, NOW), Refusal::Status(status));
        let mut open = GatePolicy::default();
        open.accept.push(status);
        passes(&mut with(open, gate), &pass, NOW);
    }
}

#[test]
fn a_status_that_lapsed_counts_as_what_it_lapsed_to() {
    let lapses_at_ms = NOW + MINUTE;
    let to = |from: CodeStatus, to: CodeStatus| v1::CodeState {
        lapses_at_ms,
        on_lapse: to.into(),
        ..of_status(from)
    };
    let (_, mut gate, pass) = shown(to(CodeStatus::Green, CodeStatus::Yellow));
    passes(&mut gate, &pass, lapses_at_ms - 1);
    let lapsed = Refusal::Lapsed {
        at_ms: lapses_at_ms,
        shows: CodeStatus::Yellow,
    };
    assert_eq!(why(&mut gate, &pass, lapses_at_ms), lapsed);
    let (_, mut gate, pass) = shown(to(CodeStatus::Yellow, CodeStatus::Green));
    let status = Refusal::Status(CodeStatus::Yellow);
    assert_eq!(why(&mut gate, &pass, lapses_at_ms - 1), status);
    passes(&mut gate, &pass, lapses_at_ms);
}

#[test]
fn a_code_counts_inside_its_validity_only() {
    let (from_ms, until_ms) = (NOW + MINUTE, NOW + 2 * MINUTE);
    let (_, mut gate, pass) = shown(v1::CodeState {
        valid_from_ms: from_ms,
        valid_until_ms: until_ms,
        ..green()
    });
    let early = Refusal::NotYetValid { from_ms };
    assert_eq!(why(&mut gate, &pass, from_ms - 1), early);
    passes(&mut gate, &pass, from_ms);
    passes(&mut gate, &pass, until_ms - 1);
    let late = Refusal::Expired { until_ms };
    assert_eq!(why(&mut gate, &pass, until_ms), late);
}

#[test]
fn a_pass_older_than_the_policy_allows_is_refused() {
    let (_, mut gate, pass) = shown(green());
    passes(&mut gate, &pass, NOW + HOUR);
    let old = Refusal::TooOld {
        age_ms: HOUR + 1,
        max_age_ms: HOUR,
    };
    assert_eq!(why(&mut gate, &pass, NOW + HOUR + 1), old);
}

#[test]
fn paper_has_its_own_time_where_the_policy_gives_it() {
    let (_, gate, pass) = shown(green());
    let paper = pass.clone().on_paper();
    let mut plain = with(GatePolicy::default(), gate.clone());
    assert!(matches!(
        why(&mut plain, &paper, NOW + DAY),
        Refusal::TooOld { .. }
    ));
    let policy = GatePolicy {
        paper: Some(PaperRule {
            max_age_ms: 7 * DAY,
            id_card: true,
        }),
        ..GatePolicy::default()
    };
    let mut gate = with(policy, gate);
    // Whoever prints gets more time, and so has to show an ID card.
    assert_eq!(
        why(&mut gate, &paper, NOW + DAY),
        Refusal::IdCard(IdCardError::NotGiven)
    );
    let text = paper.with_salt(SALT).to_text();
    let verdict = gate.judge(&text, NOW + 7 * DAY, Some(ID_CARD));
    assert!(
        matches!(&verdict, Verdict::Accepted(p) if p.paper),
        "{verdict:?}"
    );
    let verdict = gate.judge(&text, NOW + 7 * DAY + 1, Some(ID_CARD));
    assert!(matches!(verdict, Verdict::Refused { .. }));
    assert!(matches!(
        why(&mut gate, &pass, NOW + DAY),
        Refusal::TooOld { .. }
    ));
}

#[test]
fn an_id_card_is_matched_with_the_holder() {
    let (_, gate, pass) = shown(green());
    let salted = pass.clone().with_salt(SALT);
    let wrong_salt = pass.clone().with_salt([1; 32]);
    let asks = GatePolicy {
        id_card: true,
        ..GatePolicy::default()
    };
    let mut gate = with(asks, gate);
    let mut judge = |pass: &Pass, card: Option<&[u8]>| match gate.judge(&pass.to_text(), NOW, card)
    {
        Verdict::Accepted(_) => Ok(()),
        Verdict::Refused {
            why: Refusal::IdCard(error),
            ..
        } => Err(error),
        other => panic!("{other:?}"),
    };
    assert_eq!(judge(&salted, Some(ID_CARD)), Ok(()));
    assert_eq!(judge(&salted, None), Err(IdCardError::NotGiven));
    assert_eq!(judge(&pass, Some(ID_CARD)), Err(IdCardError::NoSalt));
    assert_eq!(judge(&wrong_salt, Some(ID_CARD)), Err(IdCardError::Other));
    assert_eq!(judge(&salted, Some(b"another")), Err(IdCardError::Other));
    let (_, mut gate, pass) = shown(v1::CodeState {
        holder: Default::default(),
        ..green()
    });
    // A number that is given must match, whether the policy asks for it or not.
    let verdict = gate.judge(&pass.with_salt(SALT).to_text(), NOW, Some(ID_CARD));
    let Verdict::Refused { why, .. } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(why, Refusal::IdCard(IdCardError::NoHolder));
}

#[test]
fn regions_count_as_the_policy_says() {
    let (_, gate, pass) = shown(green());
    let only = |region: &str| GatePolicy {
        regions: vec![region.to_owned()],
        ..GatePolicy::default()
    };
    passes(&mut with(only(REGION), gate.clone()), &pass, NOW);
    let other = why(&mut with(only("330100"), gate), &pass, NOW);
    assert_eq!(other, Refusal::Region(REGION.to_owned()));
}

/// Two cities; the gate of the first, whose trust file knows both, under a policy.
fn two_cities(policy: impl FnOnce(&City) -> GatePolicy) -> (City, Gate) {
    let (mut a, mut b) = (City::new("a"), City::new("b"));
    let policy = policy(&b);
    let checkpoints = [a.checkpoint(NOW - DAY), b.checkpoint(NOW - DAY)];
    let trusted = [a.trusted(&checkpoints[0]), b.trusted(&checkpoints[1])];
    let trust = Trust::of(file(trusted, NOW + DAY)).unwrap();
    (b, Gate::new(trust, policy))
}

fn recognises(city: &City, region: &str) -> GatePolicy {
    GatePolicy {
        recognised: vec![Recognised {
            chain_id: city.chain.id,
            regions: vec![region.to_owned()],
            until_ms: NOW + HOUR,
        }],
        ..GatePolicy::default()
    }
}

#[test]
fn another_ledgers_pass_counts_only_if_recognised_there_and_then() {
    let (mut b, mut gate) = two_cities(|_| GatePolicy::default());
    let pass = b.pass_of(green(), NOW);
    let other = Refusal::OtherLedger(pass.chain_tag);
    assert_eq!(why(&mut gate, &pass, NOW), other);
    // One that the trust file does not even know.
    let mut c = City::new("c");
    let foreign = c.pass_of(green(), NOW);
    let other = Refusal::OtherLedger(foreign.chain_tag);
    assert_eq!(why(&mut gate, &foreign, NOW), other);

    let (mut b, mut gate) = two_cities(|b| recognises(b, REGION));
    let pass = b.pass_of(green(), NOW);
    assert_eq!(passes(&mut gate, &pass, NOW).chain_id, b.chain.id);
    let fresh = b.pass_of(green(), NOW + HOUR);
    assert_eq!(
        why(&mut gate, &fresh, NOW + HOUR),
        Refusal::RecognitionEnded {
            chain_id: b.chain.id,
            until_ms: NOW + HOUR
        }
    );
    let (mut b, mut gate) = two_cities(|b| recognises(b, "330100"));
    let pass = b.pass_of(green(), NOW);
    assert_eq!(
        why(&mut gate, &pass, NOW),
        Refusal::Region(REGION.to_owned())
    );
}

#[test]
fn a_recognised_ledger_whose_members_are_not_in_the_trust_file_is_named() {
    let (mut a, mut b) = (City::new("a"), City::new("b"));
    let trust = a.trust(NOW - DAY);
    let mut gate = Gate::new(trust, recognises(&b, REGION));
    let pass = b.pass_of(green(), NOW);
    assert_eq!(why(&mut gate, &pass, NOW), Refusal::NoMembers(b.chain.id));
}

#[test]
fn a_pass_that_claims_another_ledger_is_forged() {
    let (mut b, mut gate) = two_cities(|b| recognises(b, REGION));
    let mut pass = b.pass_of(green(), NOW);
    pass.chain_tag = gate.trust.own().tag();
    assert!(matches!(
        why(&mut gate, &pass, NOW),
        Refusal::Uncertified(UncertifiedError::Forged(_))
    ));
}

#[test]
fn an_expired_trust_file_lets_nobody_through() {
    let (_, mut gate, _) = shown(green());
    let mut city = City::new("a");
    let not_after_ms = gate.trust.not_after_ms();
    city.height += 10;
    let pass = city.pass_of(green(), not_after_ms);
    passes(&mut gate, &pass, not_after_ms - 1);
    let expired = Refusal::TrustExpired { not_after_ms };
    assert_eq!(why(&mut gate, &pass, not_after_ms), expired);
}

#[test]
fn an_order_that_a_region_refuses_stops_nobody_where_the_policy_follows_that_region() {
    let mut city = City::new("a");
    let order = Hash::from_slice(&green().order_id).unwrap();
    let id = city.chain.id;
    let refusal = city.refuse("440300", &id, &order, NOW - DAY);
    let checkpoint = city.checkpoint(NOW - DAY);
    let mut trusted = file([city.trusted(&checkpoint)], NOW + DAY);
    trusted.refusals = vec![refusal];
    let trust = Trust::of(trusted).unwrap();
    let mut gate = Gate::new(trust, GatePolicy::default());
    let red = city.pass_of(of_status(CodeStatus::Red), NOW);
    assert_eq!(why(&mut gate, &red, NOW), Refusal::OrderRefused(order));
    let follows = |region: &str| GatePolicy {
        refusals_of: vec![region.to_owned()],
        ..GatePolicy::default()
    };
    let mut elsewhere = with(follows("330100"), gate.clone());
    assert_eq!(why(&mut elsewhere, &red, NOW), Refusal::OrderRefused(order));
    let mut gate = with(follows("440300"), gate);
    let proven = passes(&mut gate, &red, NOW);
    assert_eq!(proven.refused_by, ["440300".to_owned()].into());
    let others = city.pass_of(
        v1::CodeState {
            order_id: crate::hash::plain(b"another").to_bytes(),
            ..of_status(CodeStatus::Red)
        },
        NOW + 1,
    );
    let red = Refusal::Status(CodeStatus::Red);
    assert_eq!(why(&mut gate, &others, NOW + 1), red);
}

#[test]
fn what_is_no_pass_is_refused_as_such() {
    let (_, mut gate, _) = shown(green());
    for (text, error) in [("", DecodeError::NotAPass), (PREFIX, DecodeError::Damaged)] {
        let verdict = gate.judge(text, NOW, None);
        let Verdict::Refused { why, proven: None } = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(why, Refusal::Unreadable(error));
    }
}
