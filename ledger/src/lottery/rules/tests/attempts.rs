//! Ending an attempt, and the one that follows: nobody rolls again unseen.

use super::*;

const DOCUMENT: [u8; 32] = [91; 32];

fn voided(ledger: &mut Ledger, id: &Hash) {
    let document = document(ledger, DOCUMENT);
    let attempt = ledger.lottery(id).attempt;
    ledger.accept(&void(id, &void_body(id, attempt, &document)));
}

#[test]
fn an_attempt_is_ended_by_members_alone_and_only_with_a_document_on_the_ledger() {
    use RejectReason as R;
    let (mut ledger, id) = contributing();
    let unknown: Bytes = vec![90; 32].into();
    ledger.refuse(&void(&id, &void_body(&id, 1, &unknown)), R::VoidNoEvidence);
    let none = void_body(&id, 1, &Bytes::new());
    ledger.refuse(&void(&id, &none), R::VoidNoEvidence);
    let document = document(&mut ledger, DOCUMENT);
    let good = void_body(&id, 1, &document);
    let by =
        |author, approvals: &[u8]| entry(EntryKind::LotteryVoid, author, approvals, &id.0, &good);
    let members = [OFFICES + 2, OFFICES + 4];
    // Those who run the lottery cannot end an attempt, not even all together.
    for office in [ORGANISER, NOTARY, REGISTRAR, INSTITUTE] {
        ledger.refuse(&by(office, &members), R::LotteryWrongOffice);
    }
    ledger.refuse(
        &by(OFFICES + 1, &[NOTARY, OFFICES + 2]),
        R::ApprovalUnexpected,
    );
    ledger.refuse(&by(OFFICES + 1, &[OFFICES + 2]), R::ApprovalMissing);
    ledger.refuse(&by(OFFICES + 1, &[]), R::ApprovalMissing);
    ledger.refuse(
        &void(&id, &void_body(&id, 2, &document)),
        R::LotteryWrongAttempt,
    );
    let mut bad = good.clone();
    bad.reason.clear();
    ledger.refuse(&void(&id, &bad), R::FieldOutOfRange);
    bad.reason = "x".repeat(501);
    ledger.refuse(&void(&id, &bad), R::FieldOutOfRange);
    bad = good.clone();
    bad.evidence_hash = document.slice(1..);
    ledger.refuse(&void(&id, &bad), R::FieldOutOfRange);
    // Only a closed lottery waits for somebody.
    bad = good.clone();
    bad.absentees = vec![seed_key(2)];
    ledger.refuse(&void(&id, &bad), R::VoidNotAbsent);
    ledger.accept(&void(&id, &good));
    ledger.refuse(&void(&id, &good), R::LotteryWrongAttempt);
}

#[test]
fn there_is_no_void_before_the_freeze_and_none_after_the_certificate() {
    let (mut ledger, id) = filled();
    let paper = document(&mut ledger, DOCUMENT);
    let wrong = RejectReason::LotteryWrongStage;
    ledger.refuse(&void(&id, &void_body(&id, 1, &paper)), wrong);
    let (mut ledger, id) = complete();
    ledger.accept(&certify(&id));
    let paper = document(&mut ledger, DOCUMENT);
    ledger.refuse(&void(&id, &void_body(&id, 1, &paper)), wrong);
}

#[test]
fn who_voids_after_the_draw_leaves_the_ranking_for_all_to_see() {
    let (mut ledger, id) = drawn();
    let before = ledger.lottery(&id);
    voided(&mut ledger, &id);
    let now = ledger.lottery(&id);
    assert_eq!((now.attempt, now.stage()), (2, LotteryStage::Frozen));
    assert_eq!(
        (now.rows, &now.roster_root, now.tickets),
        (before.rows, &before.roster_root, before.tickets)
    );
    assert!(now.contributions.is_empty() && now.dice.is_empty() && now.seed.is_empty());
    assert!(now.results.is_empty() && !now.close_certified);
    assert_eq!(now.rules, before.rules);
    let [record] = &now.voids[..] else {
        panic!("{:?}", now.voids)
    };
    assert!(record.drawn && record.attempt == 1 && record.evidence_hash == DOCUMENT[..]);

    let key = attempt_key(&id, 1);
    let ended: v1::LotteryState = map_message(&ledger, ATTEMPT_NAMESPACE, &key).unwrap();
    assert_eq!(ended.stage(), LotteryStage::Voided);
    assert_eq!(
        (&ended.seed, &ended.results),
        (&before.seed, &before.results)
    );
    let rankings = recompute(&ledger.chain.id, &id, &ended, rows(0..ROWS)).unwrap();
    for (tier, ranking) in (0u32..).zip(&rankings) {
        let kept = ranking_slice(&ledger.state, &id, 1, tier, 0, 100).unwrap();
        assert!(ranking.serials().map(u64::from).eq(kept));
    }
}

/// The second attempt, drawn.
fn drawn_again() -> (Ledger, Hash) {
    let (mut ledger, id) = drawn();
    voided(&mut ledger, &id);
    ledger.refuse(&dice(&id, &[1, 6, 3]), RejectReason::LotteryWrongAttempt);
    let mut roll = dice_body(&id, &[1, 6, 3]);
    roll.attempt = 2;
    ledger.accept(&entry(EntryKind::DiceRoll, NOTARY, &[], &id.0, &roll));
    for n in [3, 1] {
        let given = contribution_body(&ledger, &id, n);
        ledger.accept(&contribution(&id, &given));
    }
    let lottery = ledger.lottery(&id);
    let close = lottery.contributions_close_ms;
    ledger.now = close + 1;
    ledger.certificate(close + 1, close + 2);
    let mut last = round_body(&id, lottery.beacon_round);
    let as_entry =
        |body: &v1::BeaconRound| entry(EntryKind::BeaconRound, AUTHORITY, &[], &id.0, body);
    ledger.refuse(&as_entry(&last), RejectReason::LotteryWrongAttempt);
    last.attempt = 2;
    ledger.accept(&as_entry(&last));
    (ledger, id)
}

#[test]
fn the_next_attempt_draws_anew_on_the_same_roster_and_the_old_batches_are_refused() {
    let (first, id) = drawn();
    let old_batch = winners(&first, &id, 0, 0);
    let (mut ledger, again) = drawn_again();
    assert_eq!(id, again);
    assert_ne!(first.lottery(&id).seed, ledger.lottery(&id).seed);
    let drawn = ranking_slice(&ledger.state, &id, 2, 0, 0, 3).unwrap();
    assert_ne!(drawn, old_batch);
    let forged = batch(&id, 0, 0, old_batch.clone());
    ledger.refuse(&forged, RejectReason::LotteryWrongAttempt);
    let forged = batch_of(&id, 2, 0, 0, old_batch);
    ledger.refuse(&forged, RejectReason::BatchMismatch);
    ledger.accept(&batch_of(&id, 2, 0, 0, drawn));
    recompute(&ledger.chain.id, &id, &ledger.lottery(&id), rows(0..ROWS)).unwrap();
    let proof = prove::prove_applicant(&ledger.state, &ledger.map_root, &id, 7);
    check_applicant(&ledger.map_root, &proof.unwrap().unwrap(), None).unwrap();
}

#[test]
fn contributions_of_one_attempt_are_none_of_the_next() {
    let (mut ledger, id) = contributing();
    let mut old = contribution_body(&ledger, &id, 1);
    voided(&mut ledger, &id);
    let mut roll = dice_body(&id, &[1, 6, 3]);
    roll.attempt = 2;
    ledger.accept(&entry(EntryKind::DiceRoll, NOTARY, &[], &id.0, &roll));
    ledger.refuse(&contribution(&id, &old), RejectReason::LotteryWrongAttempt);
    old.attempt = 2;
    ledger.refuse(&contribution(&id, &old), RejectReason::ContributionInvalid);
}

#[test]
fn nobody_rolls_more_often_than_the_rules_say() {
    let (mut ledger, id) = drawn_again();
    voided(&mut ledger, &id);
    let lottery = ledger.lottery(&id);
    assert_eq!(
        (lottery.attempt, lottery.stage()),
        (2, LotteryStage::Voided)
    );
    assert_eq!(lottery.voids.len(), 2);
    for attempt in [1, 2] {
        let key = attempt_key(&id, attempt);
        let ended: v1::LotteryState = map_message(&ledger, ATTEMPT_NAMESPACE, &key).unwrap();
        assert!(!ended.seed.is_empty());
    }
    // Ranks can still be proven, and are nobody's prize.
    for serial in 0..u64::from(ROWS) {
        let proof = prove::prove_applicant(&ledger.state, &ledger.map_root, &id, serial);
        let checked = check_applicant(&ledger.map_root, &proof.unwrap().unwrap(), None);
        assert_eq!(checked.unwrap().verdict, Verdict::Voided);
    }
    let wrong = RejectReason::LotteryWrongStage;
    let mut roll = dice_body(&id, &[1]);
    roll.attempt = 2;
    let roll = entry(EntryKind::DiceRoll, NOTARY, &[], &id.0, &roll);
    ledger.refuse(&roll, wrong);
    ledger.refuse(&batch_of(&id, 2, 0, 0, vec![0]), wrong);
    let paper = document(&mut ledger, DOCUMENT);
    ledger.refuse(&void(&id, &void_body(&id, 2, &paper)), wrong);
}

#[test]
fn nobody_looks_at_a_public_round_and_then_prefers_another() {
    use RejectReason as R;
    for certified in [true, false] {
        let (mut ledger, id) = contributing();
        let paper = document(&mut ledger, DOCUMENT);
        let lottery = ledger.lottery(&id);
        let close = lottery.contributions_close_ms;
        let round_ms = beacon::round_time_ms(&rules().beacon.unwrap(), lottery.beacon_round);
        ledger.now = close + 1;
        if certified {
            ledger.certificate(close + 1, close + 2);
        }
        let end = void(&id, &void_body(&id, 1, &paper));
        for now in [
            close + 1,
            round_ms,
            round_ms + super::super::void::ROUND_PATIENCE_MS - 1,
        ] {
            ledger.now = now;
            ledger.refuse(&end, R::VoidRoundPending);
        }
        if certified {
            // The round is recorded; now the ranking that is voided can be seen.
            let pinned = lottery.beacon_round;
            ledger.accept(&round(&id, pinned));
            ledger.accept(&end);
            assert!(ledger.lottery(&id).voids[0].drawn);
        } else {
            ledger.now = round_ms + super::super::void::ROUND_PATIENCE_MS;
            ledger.accept(&end);
        }
    }
}

#[test]
fn a_missed_close_needs_no_other_document() {
    let (mut ledger, id) = contributing();
    let lottery = ledger.lottery(&id);
    let round_ms = beacon::round_time_ms(&rules().beacon.unwrap(), lottery.beacon_round);
    ledger.now = round_ms;
    let bare = void(&id, &void_body(&id, 1, &Bytes::new()));
    ledger.refuse(&bare, RejectReason::VoidNoEvidence);
    ledger.certificate(round_ms, round_ms);
    let pinned = round(&id, lottery.beacon_round);
    ledger.refuse(&pinned, RejectReason::BeaconCloseNotCertified);
    ledger.accept(&bare);
    assert_eq!(ledger.lottery(&id).attempt, 2);
}

#[test]
fn a_voided_attempt_waits_for_no_certificate() {
    let (mut ledger, id) = contributing();
    let close = ledger.lottery(&id).contributions_close_ms;
    voided(&mut ledger, &id);
    let list: v1::ContributingLotteries =
        map_message(&ledger, CONTRIBUTING_NAMESPACE, &[]).unwrap();
    assert!(list.lottery_ids.is_empty());
    // A certificate that would have shown the old attempt's close changes nothing.
    let before = ledger.lottery(&id);
    ledger.now = close + 1;
    ledger.certificate(close + 1, close + 2);
    assert_eq!(ledger.lottery(&id), before);
}

#[test]
fn without_dice_the_next_attempt_contributes_at_once() {
    let mut plain = rules();
    plain.with_dice = false;
    let (mut ledger, id) = opened(&plain);
    ledger.accept(&chunk(&id, 0, &rows(0..9)));
    let root = ledger.lottery(&id).roster_root;
    ledger.accept(&freeze(&id, &root, 9));
    ledger.now += 777;
    voided(&mut ledger, &id);
    let lottery = ledger.lottery(&id);
    assert_eq!(lottery.stage(), LotteryStage::Contributing);
    assert_eq!(lottery.contributions_close_ms, ledger.now + WINDOW);
    let list: v1::ContributingLotteries =
        map_message(&ledger, CONTRIBUTING_NAMESPACE, &[]).unwrap();
    assert_eq!(list.lottery_ids, vec![id.to_bytes()]);
}
