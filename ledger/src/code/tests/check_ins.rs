//! Check-ins release by the region's rule, and by nothing else.
#![allow(clippy::unwrap_used)]

use cairn_proto::v1::Role;

use super::*;

const STATION: u8 = HEALTH;
const DELAY: u64 = 2 * DAY_MS;

/// Seven daily ones, from yellow and red to green, in a region at UTC+8.
fn seven_days() -> v1::RegionRule {
    v1::RegionRule {
        region: FREE_REGION.to_owned(),
        check_ins: 7,
        consecutive: true,
        day_offset_minutes: 480,
        release_from: vec![2, 3],
        release_to: CodeStatus::Green as i32,
        stations: vec![public(STATION)],
        check_in_delay_ms: DELAY,
        paper_validity_ms: DAY_MS,
        appeals_role: Role::Government as i32,
    }
}

fn set_rule(ledger: &mut Ledger, rule: &v1::RegionRule) -> Result<u64, RejectReason> {
    signed(ledger, EntryKind::RegionRule, &[], rule, &GRANTERS)
}

/// A ledger with the codes 10 to 14, of which 10 to 12 are yellow, under this rule.
fn under(rule: &v1::RegionRule) -> Ledger {
    let mut ledger = Ledger::new();
    let mut body = issue_body(&ledger, FREE_REGION, &codes(10..15));
    body.valid_until_ms = START + 100 * DAY_MS;
    submit(&mut ledger, EntryKind::CodeIssue, AUTHORITY, &body).unwrap();
    turn_yellow(&mut ledger, &each(&codes(10..13), 1));
    set_rule(&mut ledger, rule).unwrap();
    ledger
}

fn turn_yellow(ledger: &mut Ledger, changes: &[([u8; 32], u64)]) -> Hash {
    let order = order(ledger, AUTHORITY, changes);
    chunk(ledger, &order, 0, changes).unwrap();
    order
}

fn check_in_at(
    ledger: &mut Ledger,
    codes: &[[u8; 32]],
    observed_at_ms: u64,
) -> Result<u64, RejectReason> {
    let body = v1::CheckIn {
        region: FREE_REGION.to_owned(),
        codes: codes.concat().into(),
        observed_at_ms,
    };
    submit(ledger, EntryKind::CheckIn, STATION, &body)
}

fn check_in(ledger: &mut Ledger, codes: &[[u8; 32]]) -> Result<u64, RejectReason> {
    let now = ledger.now;
    check_in_at(ledger, codes, now)
}

fn counted(ledger: &Ledger, n: u8) -> u32 {
    state(ledger, n).unwrap().check_ins
}

#[test]
fn seven_days_in_a_row_release_a_code_by_rule() {
    let mut ledger = under(&seven_days());
    let yellow = state(&ledger, 10).unwrap();
    for day in 1..=6 {
        check_in(&mut ledger, &codes(10..12)).unwrap();
        assert_eq!((counted(&ledger, 10), counted(&ledger, 12)), (day, 0));
        next_day(&mut ledger);
    }
    let before = state(&ledger, 10).unwrap();
    assert_eq!(
        (before.status, before.sequence),
        (yellow.status, yellow.sequence)
    );
    let leaf = check_in(&mut ledger, &codes(10..11)).unwrap();
    let released = v1::CodeState {
        status: CodeStatus::Green as i32,
        sequence: 3,
        valid_from_ms: ledger.now,
        released_at_leaf: leaf,
        previous: history::link(&by_release(&before)).to_bytes(),
        ..yellow
    };
    assert_eq!(state(&ledger, 10), Some(released));
    assert_eq!(
        (state(&ledger, 11).unwrap().status(), counted(&ledger, 11)),
        (CodeStatus::Yellow, 6)
    );
    // Released is released: another check-in counts for nothing, and an order may come again.
    let quiet = ledger.tip().header.map_root;
    check_in(&mut ledger, &codes(10..11)).unwrap();
    assert_eq!(ledger.tip().header.map_root, quiet);
    turn_yellow(&mut ledger, &each(&codes(10..11), 3));
    let again = state(&ledger, 10).unwrap();
    assert_eq!(
        (again.check_ins, again.released_at_leaf, again.sequence),
        (0, 0, 4)
    );
}

#[test]
fn a_code_counts_once_a_day_and_the_regions_day_begins_at_its_own_midnight() {
    let mut ledger = under(&seven_days());
    // 22:13 UTC is 06:13 in the region; its midnight is at 16:00 UTC.
    let midnight = (START / DAY_MS + 1) * DAY_MS + 16 * 3_600_000;
    ledger.now = midnight - 100;
    check_in(&mut ledger, &codes(10..11)).unwrap();
    check_in(&mut ledger, &codes(10..12)).unwrap();
    assert_eq!((counted(&ledger, 10), counted(&ledger, 11)), (1, 1));
    let day = state(&ledger, 10).unwrap().last_check_in_day;
    assert_eq!(day, START / DAY_MS + 1);
    ledger.now = midnight;
    check_in(&mut ledger, &codes(10..11)).unwrap();
    assert_eq!((counted(&ledger, 10), counted(&ledger, 11)), (2, 1));
    assert_eq!(state(&ledger, 10).unwrap().last_check_in_day, day + 1);
    // What is observed on an earlier day comes too late to count.
    check_in_at(&mut ledger, &codes(10..11), midnight - 1).unwrap();
    assert_eq!(counted(&ledger, 10), 2);
}

#[test]
fn a_missed_day_starts_anew_where_the_rule_wants_days_in_a_row() {
    for (consecutive, expected) in [(true, 1), (false, 3)] {
        let mut ledger = under(&v1::RegionRule {
            consecutive,
            ..seven_days()
        });
        for _ in 0..2 {
            check_in(&mut ledger, &codes(10..11)).unwrap();
            next_day(&mut ledger);
        }
        next_day(&mut ledger);
        check_in(&mut ledger, &codes(10..11)).unwrap();
        assert_eq!(counted(&ledger, 10), expected);
    }
}

#[test]
fn an_order_or_a_lapse_ends_what_was_counted() {
    let mut ledger = under(&seven_days());
    check_in(&mut ledger, &codes(10..12)).unwrap();
    turn_yellow(&mut ledger, &each(&codes(10..11), 2));
    assert_eq!((counted(&ledger, 10), counted(&ledger, 11)), (0, 1));
    // What was observed before the order counts against nothing.
    let before = ledger.now - 10_000;
    check_in_at(&mut ledger, &codes(10..11), before).unwrap();
    assert_eq!(counted(&ledger, 10), 0);
    // Green by lapse: nothing to be released from.
    let changes = each(&codes(10..11), 3);
    let mut body = order_body(FREE_REGION, &changes);
    (body.lapses_at_ms, body.on_lapse) = (ledger.now + 1_000, CodeStatus::Green as i32);
    let lapsing = ordered(&mut ledger, &body, &[AUTHORITY]);
    chunk(&mut ledger, &lapsing, 0, &changes).unwrap();
    check_in(&mut ledger, &codes(10..11)).unwrap();
    assert_eq!(counted(&ledger, 10), 1);
    ledger.now += DAY_MS;
    check_in(&mut ledger, &codes(10..11)).unwrap();
    assert_eq!(counted(&ledger, 10), 1);
}

#[test]
fn a_check_in_is_a_stations_in_time_and_of_codes_of_the_region() {
    let mut ledger = under(&seven_days());
    issue(&mut ledger, REGION, &codes(40..41)).unwrap();
    let body = |region: &str, codes: &[[u8; 32]], at| v1::CheckIn {
        region: region.to_owned(),
        codes: codes.concat().into(),
        observed_at_ms: at,
    };
    let now = ledger.now;
    let good = body(FREE_REGION, &codes(10..11), now);
    for author in [OTHER_HEALTH, AUTHORITY, NOTARY] {
        let refused = submit(&mut ledger, EntryKind::CheckIn, author, &good);
        assert_eq!(refused, Err(RejectReason::CheckInWrongStation));
    }
    let subject = signed(&mut ledger, EntryKind::CheckIn, &[1; 32], &good, &[STATION]);
    assert_eq!(subject, Err(RejectReason::SubjectMismatch));
    let approved = judged(&ledger, EntryKind::CheckIn, &[], &good, &[STATION, NOTARY]);
    assert_eq!(approved, Err(RejectReason::ApprovalUnexpected));
    for (body, reason) in [
        (
            body(REGION, &codes(40..41), now),
            RejectReason::RegionRuleMissing,
        ),
        (body(FREE_REGION, &[], now), RejectReason::FieldOutOfRange),
        (
            body(FREE_REGION, &[code(11), code(10)], now),
            RejectReason::FieldOutOfRange,
        ),
        (
            body(FREE_REGION, &codes(10..11), now + 100_000),
            RejectReason::CheckInTime,
        ),
        (
            body(FREE_REGION, &codes(10..11), now - DELAY),
            RejectReason::CheckInTime,
        ),
        (
            body(FREE_REGION, &codes([10, 90]), now),
            RejectReason::CodeUnknown,
        ),
        (
            body(FREE_REGION, &codes([10, 40]), now),
            RejectReason::CodeOtherRegion,
        ),
    ] {
        let refused = submit(&mut ledger, EntryKind::CheckIn, STATION, &body);
        assert_eq!(refused, Err(reason), "{body:?}");
    }
    assert_eq!(counted(&ledger, 10), 0);
    // On paper only: no check-ins.
    let paper = v1::RegionRule {
        region: FREE_REGION.to_owned(),
        paper_validity_ms: DAY_MS,
        ..Default::default()
    };
    set_rule(&mut ledger, &paper).unwrap();
    let refused = check_in(&mut ledger, &codes(10..11));
    assert_eq!(refused, Err(RejectReason::RegionRuleMissing));
}

#[test]
fn a_regions_rule_is_set_by_granters_and_must_be_one_that_can_work() {
    let mut ledger = Ledger::new();
    let unsound: [&dyn Fn(&mut v1::RegionRule); 12] = [
        &|r| r.region.clear(),
        &|r| r.check_ins = 0,
        &|r| r.check_ins = 367,
        &|r| r.day_offset_minutes = 1_440,
        &|r| r.release_from.clear(),
        &|r| r.release_from = vec![3, 2],
        &|r| r.release_from = vec![1, 2],
        &|r| r.release_to = 0,
        &|r| r.stations.clear(),
        &|r| r.stations = vec![vec![1; 31].into()],
        &|r| r.stations = vec![public(STATION), public(STATION)],
        &|r| r.appeals_role = Role::Authority as i32,
    ];
    for (case, change) in unsound.into_iter().enumerate() {
        let mut rule = seven_days();
        change(&mut rule);
        let refused = set_rule(&mut ledger, &rule);
        assert_eq!(refused, Err(RejectReason::FieldOutOfRange), "case {case}");
    }
    let by = |signers: &[u8]| judged(&ledger, EntryKind::RegionRule, &[], &seven_days(), signers);
    assert_eq!(by(&[NOTARY]), Err(RejectReason::ApprovalMissing));
    assert_eq!(
        by(&[AUTHORITY, NOTARY]),
        Err(RejectReason::MandateWrongGranter)
    );
    let about = signed(
        &mut ledger,
        EntryKind::RegionRule,
        &[1; 32],
        &seven_days(),
        &GRANTERS,
    );
    assert_eq!(about, Err(RejectReason::SubjectMismatch));
    let leaf_index = set_rule(&mut ledger, &seven_days()).unwrap();
    let kept = v1::RegionRuleState {
        rule: Some(seven_days()),
        leaf_index,
    };
    assert_eq!(
        ledger.map(REGION_RULE_NAMESPACE, FREE_REGION.as_bytes()),
        Some(kept)
    );
}
