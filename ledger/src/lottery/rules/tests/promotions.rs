//! The waiting list moves by entries, in its order, one place for one place.

use super::objections::{objection, ruling};
use super::*;

const WAITING: u32 = 8;
/// The quota of the tier "north".
const QUOTA: usize = 5;

fn with_waiting_list() -> v1::LotteryOpen {
    let mut rules = rules();
    rules.tiers[0].waiting_list = WAITING;
    rules
}

fn promotion_body(id: &Hash, vacated: &[u64], serials: &[u64]) -> v1::Promotion {
    let mut vacated = vacated.to_vec();
    vacated.sort_unstable();
    v1::Promotion {
        lottery_id: id.to_bytes(),
        attempt: 1,
        tier: 0,
        vacated,
        serials: serials.to_vec(),
        document_hash: vec![94; 32].into(),
    }
}

pub(super) fn promotion(id: &Hash, vacated: &[u64], serials: &[u64]) -> Admitted {
    let body = promotion_body(id, vacated, serials);
    entry(EntryKind::Promotion, NOTARY, &[], &id.0, &body)
}

/// Complete, with the tier's ranking.
fn ranked() -> (Ledger, Hash, Vec<u64>) {
    let (ledger, id) = completed(&with_waiting_list());
    let ranking = ranking_slice(&ledger.state, &id, 1, 0, 0, 100).unwrap();
    (ledger, id, ranking)
}

fn status(ledger: &Ledger, id: &Hash, serial: u64) -> v1::PlaceStatus {
    let place: Option<v1::PlaceState> =
        map_message(ledger, PLACE_NAMESPACE, &place_key(id, 1, serial));
    place.unwrap_or_default().status()
}

fn verdict(ledger: &Ledger, id: &Hash, serial: u64) -> Verdict {
    let proof = prove::prove_applicant(&ledger.state, &ledger.map_root, id, serial);
    let proof = proof.unwrap().unwrap();
    check_applicant(&ledger.map_root, &proof, None)
        .unwrap()
        .verdict
}

#[test]
fn as_many_come_up_as_give_up_and_in_the_order_of_rank() {
    use RejectReason as R;
    let (mut ledger, id, rank) = ranked();
    let next = [rank[QUOTA], rank[QUOTA + 1]];
    let gone = [rank[1], rank[4]];
    for wrong in [
        &[rank[QUOTA + 1], rank[QUOTA]][..],
        &[rank[QUOTA]],
        &[rank[QUOTA], rank[QUOTA + 2]],
        &rank[QUOTA..QUOTA + 3],
        &[],
    ] {
        ledger.refuse(&promotion(&id, &gone, wrong), R::PromotionMismatch);
    }
    let beyond = ledger.lottery(&id).results[1].clone();
    ledger.accept(&promotion(&id, &gone, &next));
    let lottery = ledger.lottery(&id);
    assert_eq!(lottery.results[0].promoted_through, QUOTA as u64 + 2);
    assert_eq!(lottery.results[1], beyond);
    for (serial, expected) in [
        (gone[0], v1::PlaceStatus::Vacated),
        (gone[1], v1::PlaceStatus::Vacated),
        (next[0], v1::PlaceStatus::Promoted),
        (next[1], v1::PlaceStatus::Promoted),
        (rank[0], v1::PlaceStatus::Unspecified),
        (rank[QUOTA + 2], v1::PlaceStatus::Unspecified),
    ] {
        assert_eq!(status(&ledger, &id, serial), expected, "{serial}");
    }
    let up = Verdict::Promoted { rank: QUOTA as u64 };
    assert_eq!(verdict(&ledger, &id, next[0]), up);
    let first = Verdict::Waiting {
        rank: QUOTA as u64 + 2,
        place: 1,
    };
    assert_eq!(verdict(&ledger, &id, rank[QUOTA + 2]), first);
    let lost = Verdict::Vacated { rank: 1 };
    assert_eq!(verdict(&ledger, &id, gone[0]), lost);
    // Who leaves out what became of the place, or shows another's, proves nothing.
    let prove = |serial| {
        let proof = prove::prove_applicant(&ledger.state, &ledger.map_root, &id, serial);
        proof.unwrap().unwrap()
    };
    for place in [None, prove(rank[0]).place] {
        let hidden = v1::ApplicantProof {
            place,
            ..prove(gone[0])
        };
        assert!(check_applicant(&ledger.map_root, &hidden, None).is_err());
    }
    // An auditor's draw is the same as before.
    recompute(&ledger.chain.id, &id, &lottery, rows(0..ROWS)).unwrap();
}

#[test]
fn nobody_gives_up_a_place_that_they_do_not_have() {
    use RejectReason as R;
    let (mut ledger, id, rank) = ranked();
    let next = rank[QUOTA];
    let other_tier = ranking_slice(&ledger.state, &id, 1, 1, 0, 1).unwrap()[0];
    for wrong in [rank[QUOTA], other_tier, u64::from(ROWS), u64::MAX] {
        ledger.refuse(&promotion(&id, &[wrong], &[next]), R::PromotionNoPlace);
    }
    ledger.accept(&promotion(&id, &[rank[0]], &[next]));
    // Neither twice, nor for two others.
    let again = promotion(&id, &[rank[0]], &[rank[QUOTA + 1]]);
    ledger.refuse(&again, R::PromotionNoPlace);
    // Who came up may give up like the others.
    ledger.accept(&promotion(&id, &[next], &[rank[QUOTA + 1]]));
}

#[test]
fn only_the_notary_moves_the_list_and_only_after_all_is_published() {
    use RejectReason as R;
    let (mut ledger, id, rank) = ranked();
    let good = promotion_body(&id, &[rank[0]], &[rank[QUOTA]]);
    let by = |author, approvals: &[u8], body: &v1::Promotion| {
        entry(EntryKind::Promotion, author, approvals, &id.0, body)
    };
    ledger.refuse(&by(ORGANISER, &[], &good), R::LotteryWrongOffice);
    ledger.refuse(&by(NOTARY, &[ORGANISER], &good), R::ApprovalUnexpected);
    type Change = fn(&mut v1::Promotion);
    let changes: Vec<Change> = vec![
        |p| p.tier = 2,
        |p| p.vacated.clear(),
        |p| p.vacated = vec![p.vacated[0]; 2],
        |p| p.vacated = (0..1_001).collect(),
        |p| p.document_hash = Bytes::new(),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        let refused = ledger.apply(&by(NOTARY, &[], &bad));
        assert_eq!(refused, Err(R::FieldOutOfRange), "change {i}");
    }
    let mut bad = good.clone();
    bad.attempt = 2;
    ledger.refuse(&by(NOTARY, &[], &bad), R::LotteryWrongAttempt);
    let (mut early, other) = drawn();
    early.refuse(
        &promotion(&other, &[rank[0]], &[rank[QUOTA]]),
        R::LotteryWrongStage,
    );
    ledger.accept(&certify(&id));
    ledger.accept(&by(NOTARY, &[], &good));
}

#[test]
fn a_list_ends_where_the_rules_say() {
    let (mut ledger, id, rank) = ranked();
    // Sixteen would be asked for, eight are on the list: five places go first, then three of those
    // who came up, and for the rest there is nobody.
    ledger.accept(&promotion(&id, &rank[..5], &rank[5..10]));
    let mismatch = RejectReason::PromotionMismatch;
    ledger.refuse(&promotion(&id, &rank[5..10], &rank[10..15]), mismatch);
    ledger.accept(&promotion(&id, &rank[5..10], &rank[10..13]));
    ledger.refuse(&promotion(&id, &rank[10..11], &rank[13..14]), mismatch);
    ledger.accept(&promotion(&id, &rank[10..11], &[]));
    assert_eq!(ledger.lottery(&id).results[0].promoted_through, 13);

    let (mut none, same) = completed(&rules());
    let rank = ranking_slice(&none.state, &same, 1, 0, 0, 100).unwrap();
    none.refuse(&promotion(&same, &rank[..1], &rank[5..6]), mismatch);
}

#[test]
fn who_was_struck_is_passed_over_and_leaves_no_second_place_behind() {
    use RejectReason as R;
    let (mut ledger, id, rank) = ranked();
    let mut rows = vec![rank[2], rank[QUOTA]];
    rows.sort_unstable();
    let about = objection(&id, rows);
    ledger.accept(&about);
    ledger.accept(&ruling(&id, &about, v1::RulingDecision::Upheld));
    // The struck winner's place goes to the first who was not struck.
    ledger.refuse(
        &promotion(&id, &[rank[2]], &[rank[QUOTA]]),
        R::PromotionMismatch,
    );
    ledger.accept(&promotion(&id, &[rank[2]], &[rank[QUOTA + 1]]));
    // The one who was passed over has none to give.
    let second = promotion(&id, &[rank[QUOTA]], &[rank[QUOTA + 2]]);
    ledger.refuse(&second, R::PromotionNoPlace);
}

#[test]
fn there_are_never_more_places_than_the_quota() {
    let (mut ledger, id, rank) = ranked();
    let places = |ledger: &Ledger| {
        let through = ledger.lottery(&id).results[0].promoted_through;
        let through = (through as usize).max(QUOTA);
        let held = rank[..through].iter().filter(|serial| {
            let status = status(ledger, &id, **serial);
            status != v1::PlaceStatus::Vacated
        });
        held.count()
    };
    let mut through = QUOTA;
    // Every promotion that a notary could try with two of the first ranks.
    for a in 0..6 {
        for b in a + 1..8 {
            let next = &rank[through..(through + 2).min(QUOTA + WAITING as usize)];
            if ledger
                .apply(&promotion(&id, &[rank[a], rank[b]], next))
                .is_ok()
            {
                through += next.len();
            }
            assert!(places(&ledger) <= QUOTA);
        }
    }
    assert!(through > QUOTA);
}

#[test]
fn a_full_ranking_is_published_to_its_end() {
    let mut all = rules();
    all.full_ranking = true;
    let (mut ledger, id) = completed(&all);
    let lottery = ledger.lottery(&id);
    let published: u32 = lottery.results.iter().map(|r| r.batches_published).sum();
    // Twenty rows and ten, three a batch.
    assert_eq!(published, 7 + 4);
    let beyond = batch(&id, 0, 7, vec![]);
    ledger.refuse(&beyond, RejectReason::LotteryWrongStage);
    // Order is all that counts there: the winners are who they were.
    let (plain, same) = completed(&rules());
    let winners = |ledger: &Ledger, id: &Hash| -> Vec<u64> {
        let results = ledger.lottery(id).results;
        results.iter().map(|r| r.winners).collect()
    };
    assert_eq!(winners(&ledger, &id), winners(&plain, &same));
}
