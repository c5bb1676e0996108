//! The closed profile: all contribute, however long it takes, and no beacon.

use super::*;

const DOCUMENT: [u8; 32] = [92; 32];

fn closed_rules() -> v1::LotteryOpen {
    v1::LotteryOpen {
        seed_profile: v1::SeedProfile::Closed as i32,
        beacon: None,
        beacon_margin_ms: 0,
        ..rules()
    }
}

fn waiting_for_contributors() -> (Ledger, Hash) {
    let (mut ledger, id) = opened(&closed_rules());
    ledger.accept(&chunk(&id, 0, &rows(0..ROWS)));
    let root = ledger.lottery(&id).roster_root;
    ledger.accept(&freeze(&id, &root, ROWS.into()));
    ledger.accept(&dice(&id, &[1, 6, 3]));
    (ledger, id)
}

fn contribute(ledger: &mut Ledger, id: &Hash, n: u8) {
    let given = contribution_body(ledger, id, n);
    ledger.accept(&contribution(id, &given));
}

fn absentees(id: &Hash, document: &Bytes, names: &[u8]) -> v1::LotteryVoid {
    let mut absentees: Vec<Bytes> = names.iter().map(|n| seed_key(*n)).collect();
    absentees.sort();
    v1::LotteryVoid {
        absentees,
        ..void_body(id, 1, document)
    }
}

#[test]
fn a_profile_has_exactly_its_own_fields() {
    type Change = fn(&mut v1::LotteryOpen);
    let changes: Vec<Change> = vec![
        |r| r.beacon = rules().beacon,
        |r| r.beacon_margin_ms = MARGIN,
        |r| r.seed_profile = v1::SeedProfile::Beacon as i32,
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut bad = closed_rules();
        change(&mut bad);
        let refused = Err(RejectReason::FieldOutOfRange);
        assert_eq!(check_rules(&bad), refused, "change {i}");
    }
    assert_eq!(check_rules(&closed_rules()), Ok(()));
}

#[test]
fn the_last_contribution_draws_and_no_beacon_is_asked() {
    let (mut ledger, id) = waiting_for_contributors();
    contribute(&mut ledger, &id, 2);
    contribute(&mut ledger, &id, 1);
    let wrong = round(&id, 0);
    ledger.refuse(&wrong, RejectReason::BeaconCloseNotCertified);
    let twice = contribution_body(&ledger, &id, 1);
    ledger.refuse(&contribution(&id, &twice), RejectReason::ContributionTwice);
    assert_eq!(ledger.lottery(&id).stage(), LotteryStage::Contributing);
    contribute(&mut ledger, &id, 3);
    let lottery = ledger.lottery(&id);
    assert_eq!(lottery.stage(), LotteryStage::Drawing);
    recompute(&ledger.chain.id, &id, &lottery, rows(0..ROWS)).unwrap();
    let mut bad = lottery.clone();
    bad.contributions.pop();
    assert!(matches!(
        recompute(&ledger.chain.id, &id, &bad, rows(0..ROWS)),
        Err(RecomputeError::Incomplete(_))
    ));
    let first = ranking_slice(&ledger.state, &id, 1, 0, 0, 3).unwrap();
    ledger.accept(&batch(&id, 0, 0, first));
}

#[test]
fn absence_never_changes_the_seed_the_lottery_waits() {
    let (mut ledger, id) = waiting_for_contributors();
    contribute(&mut ledger, &id, 1);
    contribute(&mut ledger, &id, 3);
    let close = ledger.lottery(&id).contributions_close_ms;
    ledger.now = close + 30 * 86_400_000;
    ledger.certificate(ledger.now, ledger.now);
    let lottery = ledger.lottery(&id);
    assert_eq!(lottery.stage(), LotteryStage::Contributing);
    assert!(lottery.seed.is_empty() && !lottery.close_certified);
    // Late is not too late, and the seed is the one that it would have been in time.
    contribute(&mut ledger, &id, 2);
    let late = ledger.lottery(&id).seed;
    let (mut ledger, id) = waiting_for_contributors();
    for n in 1..=3 {
        contribute(&mut ledger, &id, n);
    }
    assert_eq!(ledger.lottery(&id).seed, late);
}

#[test]
fn only_who_let_the_others_wait_is_dropped() {
    use RejectReason as R;
    let (mut ledger, id) = waiting_for_contributors();
    contribute(&mut ledger, &id, 1);
    contribute(&mut ledger, &id, 3);
    let paper = document(&mut ledger, DOCUMENT);
    let close = ledger.lottery(&id).contributions_close_ms;
    let named = absentees(&id, &paper, &[2]);
    ledger.now = close;
    ledger.refuse(&void(&id, &named), R::VoidNotAbsent);
    ledger.now = close + 1;
    for wrong in [&[1][..], &[4], &[1, 2]] {
        let wrong = absentees(&id, &paper, wrong);
        ledger.refuse(&void(&id, &wrong), R::VoidNotAbsent);
    }
    let mut twice = named.clone();
    twice.absentees.push(seed_key(2));
    ledger.refuse(&void(&id, &twice), R::FieldOutOfRange);
    ledger.accept(&void(&id, &named));
    let lottery = ledger.lottery(&id);
    assert_eq!(
        (lottery.attempt, lottery.stage()),
        (2, LotteryStage::Frozen)
    );
    assert_eq!(lottery.dropped, vec![seed_key(2)]);

    let mut roll = dice_body(&id, &[2]);
    roll.attempt = 2;
    ledger.accept(&entry(EntryKind::DiceRoll, NOTARY, &[], &id.0, &roll));
    let back = contribution_body(&ledger, &id, 2);
    ledger.refuse(&contribution(&id, &back), R::ContributorUnknown);
    contribute(&mut ledger, &id, 1);
    contribute(&mut ledger, &id, 3);
    let lottery = ledger.lottery(&id);
    assert_eq!(lottery.stage(), LotteryStage::Drawing);
    recompute(&ledger.chain.id, &id, &lottery, rows(0..ROWS)).unwrap();
}

#[test]
fn a_lottery_whose_writers_would_be_among_themselves_ends() {
    let mut alone = closed_rules();
    // One member from outside, one key that no member has.
    alone.contributors.truncate(2);
    alone.contributors[1].seed_key = seed_key(30);
    alone.contributors[1].seed_key_proof = possession(30);
    let (mut ledger, id) = opened(&alone);
    ledger.accept(&chunk(&id, 0, &rows(0..9)));
    let root = ledger.lottery(&id).roster_root;
    ledger.accept(&freeze(&id, &root, 9));
    ledger.accept(&dice(&id, &[1]));
    contribute(&mut ledger, &id, 30);
    let paper = document(&mut ledger, DOCUMENT);
    ledger.now = ledger.lottery(&id).contributions_close_ms + 1;
    ledger.accept(&void(&id, &absentees(&id, &paper, &[1])));
    let lottery = ledger.lottery(&id);
    assert_eq!(
        (lottery.attempt, lottery.stage()),
        (1, LotteryStage::Voided)
    );
}
