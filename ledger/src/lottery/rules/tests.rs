//! A lottery's whole life, and every refusal on the way. One entry a block; a refused entry must
//! leave the state as it was.
#![allow(clippy::unwrap_used)]

mod attacks;
mod attempts;
mod closed;
mod objections;
mod promotions;
mod redemptions;
mod scene;

use bytes::Bytes;
use cairn_proto::v1::{self, EntryKind, LotteryStage, RejectReason, Role};
use prost::Message;

use super::*;
use crate::genesis::Chain;
use crate::lottery::bls::SeedSecret;
use crate::lottery::check::{CheckError, Opening, Verdict, check_applicant};
use crate::lottery::index::ranking_slice;
use crate::lottery::recompute::{RecomputeError, contribution_message, recompute};
use crate::lottery::roster::{Row, commitment};
use crate::lottery::{
    ATTEMPT_NAMESPACE, PLACE_NAMESPACE, attempt_key, beacon, place_key, prove, seed,
};
use crate::state::{MemoryState, Overlay};
use crate::{hash, log, map, rooms};

// By name too: the rules have a function of that name.
use scene::contributing;
use scene::*;

#[test]
fn a_lottery_walks_from_open_to_certified() {
    let (mut ledger, id) = complete();
    assert_eq!(ledger.lottery(&id).stage(), LotteryStage::Complete);
    ledger.accept(&certify(&id));
    let lottery = ledger.lottery(&id);
    assert_eq!(lottery.stage(), LotteryStage::Certified);
    assert_eq!(lottery.rows, 30);
    let tickets: u64 = rows(0..30).iter().map(|r| u64::from(r.weight)).sum();
    assert_eq!(lottery.tickets, tickets);
    let counts: Vec<_> = lottery
        .results
        .iter()
        .map(|r| (r.entrants, r.winners))
        .collect();
    assert_eq!(counts, vec![(20, 5), (10, 10)]);
    assert_eq!(
        prove::lotteries(&ledger.state, 0, 5).unwrap(),
        vec![(1, id)]
    );
}

#[test]
fn every_applicant_gets_a_proof_that_checks() {
    let (ledger, id) = complete();
    let lottery = ledger.lottery(&id);
    for tier in 0..2 {
        let result = &lottery.results[tier as usize];
        let ranking = ranking_slice(&ledger.state, &id, 1, tier, 0, 100).unwrap();
        assert_eq!(ranking.len() as u64, result.entrants);
        for (rank, &serial) in (0u64..).zip(&ranking) {
            let proof = prove::prove_applicant(&ledger.state, &ledger.map_root, &id, serial);
            let identity = (serial as u32).to_be_bytes();
            let opening = Opening {
                salt: &SALT,
                identity: &identity,
                holder_key: &holder_key(serial as u32),
            };
            let proof = proof.unwrap().unwrap();
            let checked = check_applicant(&ledger.map_root, &proof, Some(&opening)).unwrap();
            let expected = if rank < result.winners {
                Verdict::Won {
                    rank,
                    batch: rank / 3,
                    published: true,
                }
            } else {
                // These rules have no waiting list.
                Verdict::NotWon { rank }
            };
            assert_eq!(checked.verdict, expected);
        }
    }
    let beyond = prove::prove_applicant(&ledger.state, &ledger.map_root, &id, 30).unwrap();
    assert_eq!(beyond, None);
    let other = prove::prove_applicant(&ledger.state, &ledger.map_root, &Hash::ZERO, 0).unwrap();
    assert_eq!(other, None);
}

#[test]
fn before_the_draw_a_proof_says_so() {
    let (ledger, id) = filled();
    let proof = prove::prove_applicant(&ledger.state, &ledger.map_root, &id, 7);
    let mut proof = proof.unwrap().unwrap();
    let checked = check_applicant(&ledger.map_root, &proof, None).unwrap();
    let stage = LotteryStage::Open;
    assert_eq!(checked.verdict, Verdict::NotDrawnYet { stage });
    proof.rank = 1;
    assert!(check_applicant(&ledger.map_root, &proof, None).is_err());
}

#[test]
fn a_proof_with_any_part_changed_is_refused() {
    let (ledger, id) = complete();
    let prove = |serial| {
        let proof = prove::prove_applicant(&ledger.state, &ledger.map_root, &id, serial);
        proof.unwrap().unwrap()
    };
    let good = prove(4);
    let check = |proof: &v1::ApplicantProof| check_applicant(&ledger.map_root, proof, None);
    assert!(check(&good).is_ok());
    let flip = |bytes: &Bytes| -> Bytes {
        let mut bytes = bytes.to_vec();
        bytes[0] ^= 1;
        bytes.into()
    };
    type Change<'a> = Box<dyn Fn(&mut v1::ApplicantProof) + 'a>;
    let other = prove(5);
    let changes: Vec<Change<'_>> = vec![
        Box::new(|p| p.serial += 1),
        Box::new(|p| p.commitment = flip(&p.commitment)),
        Box::new(|p| p.tag = flip(&p.tag)),
        Box::new(|p| p.tag = p.tag.slice(1..)),
        Box::new(|p| p.tier ^= 1),
        Box::new(|p| p.weight += 1),
        Box::new(|p| p.rank += 1),
        Box::new(|p| p.lottery = None),
        Box::new(|p| p.lottery_id = p.lottery_id.slice(1..)),
        Box::new(|p| p.roster_inclusion = None),
        Box::new(|p| p.ranking_inclusion = None),
        Box::new(|p| p.ranking_inclusion = other.ranking_inclusion.clone()),
        Box::new(|p| p.place = None),
        Box::new(|p| p.place = p.lottery.clone()),
        Box::new(|p| p.rank = other.rank),
        Box::new(|p| {
            p.rank = other.rank;
            p.ranking_inclusion = other.ranking_inclusion.clone();
        }),
        Box::new(|p| {
            let path = &mut p.ranking_inclusion.as_mut().unwrap().path;
            path[0] = flip(&path[0]);
        }),
        Box::new(|p| {
            let path = &mut p.roster_inclusion.as_mut().unwrap().path;
            path.pop();
        }),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(check(&bad).is_err(), "change {i}");
    }
    let wrong = Opening {
        salt: &SALT,
        identity: b"somebody else",
        holder_key: &[],
    };
    assert_eq!(
        check_applicant(&ledger.map_root, &good, Some(&wrong)),
        Err(CheckError::Opening)
    );
}

#[test]
fn an_auditor_recomputes_the_draw_and_sees_where_it_differs() {
    let (ledger, id) = complete();
    let chain = ledger.chain.id;
    let good = ledger.lottery(&id);
    let redraw = |lottery: &v1::LotteryState, rows: Vec<Row>| recompute(&chain, &id, lottery, rows);
    let rankings = redraw(&good, rows(0..ROWS)).unwrap();
    for (tier, ranking) in (0u32..).zip(&rankings) {
        let kept = ranking_slice(&ledger.state, &id, 1, tier, 0, 100).unwrap();
        assert!(ranking.serials().map(u64::from).eq(kept));
    }
    assert!(matches!(
        redraw(&good, rows(0..ROWS - 1)),
        Err(RecomputeError::Roster { rows: 29, .. })
    ));
    let mut bad = good.clone();
    bad.contributions.pop();
    assert!(matches!(
        redraw(&bad, rows(0..ROWS)),
        Err(RecomputeError::Seed { .. })
    ));
    let mut bad = good.clone();
    bad.contributions[0].signature = bad.contributions[1].signature.clone();
    assert!(matches!(
        redraw(&bad, rows(0..ROWS)),
        Err(RecomputeError::Contribution { .. })
    ));
    let mut bad = good.clone();
    bad.beacon_round += 1;
    assert!(matches!(
        redraw(&bad, rows(0..ROWS)),
        Err(RecomputeError::Round { .. })
    ));
    let mut bad = good.clone();
    bad.beacon_signature = beacon::sign_round(&bls(BEACON), 1).to_vec().into();
    assert!(matches!(
        redraw(&bad, rows(0..ROWS)),
        Err(RecomputeError::Beacon(_))
    ));
    let mut bad = good.clone();
    bad.results[1].cutoff_serial ^= 1;
    assert_eq!(
        redraw(&bad, rows(0..ROWS)),
        Err(RecomputeError::Tier { tier: 1 })
    );
    let (ledger, id) = closed();
    assert_eq!(
        recompute(&chain, &id, &ledger.lottery(&id), rows(0..ROWS)),
        Err(RecomputeError::NotDrawn)
    );
}

#[test]
fn rules_out_of_range_open_nothing() {
    use RejectReason::FieldOutOfRange as Range;
    type Change = fn(&mut v1::LotteryOpen);
    let changes: Vec<Change> = vec![
        |r| r.title.clear(),
        |r| r.title = "x".repeat(201),
        |r| r.tiers.clear(),
        |r| r.tiers = vec![r.tiers[0].clone(); 17],
        |r| r.tiers[0].quota = 0,
        |r| r.tiers[0].name.clear(),
        |r| r.tiers[0].name = r.tiers[1].name.clone(),
        |r| r.rows_per_batch = 0,
        |r| r.rows_per_batch = 10_001,
        |r| r.max_rows = 0,
        |r| r.max_rows = 4_000_001,
        |r| r.max_attempts = 0,
        |r| r.identity_rule.clear(),
        |r| r.contribution_window_ms = 999,
        |r| r.contribution_window_ms = 30 * 86_400_000 + 1,
        |r| r.beacon_margin_ms = 999,
        |r| r.beacon_margin_ms = 86_400_001,
        |r| r.notary = r.notary.slice(1..),
        |r| r.notary_tag_key_commitment = Bytes::new(),
        |r| r.registrar_tag_key_commitment = Bytes::new(),
        |r| r.beacon = None,
        |r| r.beacon.as_mut().unwrap().period_s = 0,
        |r| r.beacon.as_mut().unwrap().chain_hash = Bytes::new(),
        |r| r.beacon.as_mut().unwrap().genesis_time_s = u64::MAX,
        |r| r.beacon.as_mut().unwrap().public_key = vec![0; 96].into(),
        |r| r.contributors.clear(),
        |r| r.contributors[1] = r.contributors[0].clone(),
        |r| r.contributors[0].institution.clear(),
        |r| r.contributors[0].seed_key_proof = r.contributors[1].seed_key_proof.clone(),
        |r| r.contributors[0].seed_key_proof = Bytes::new(),
        |r| r.contributors[0].seed_key = vec![0; 96].into(),
        // Only keys that no member has: those who wrote the rules might hold them all.
        |r| {
            r.contributors.truncate(1);
            r.contributors[0].seed_key = seed_key(30);
            r.contributors[0].seed_key_proof = possession(30);
        },
    ];
    let mut ledger = Ledger::new();
    for (i, change) in changes.iter().enumerate() {
        let mut bad = rules();
        change(&mut bad);
        assert_eq!(ledger.apply(&open(&bad)), Err(Range), "change {i}");
    }
    assert_eq!(check_rules(&rules()), Ok(()));
}

#[test]
fn only_an_organiser_with_the_notary_opens_a_lottery() {
    use RejectReason as R;
    let mut ledger = Ledger::new();
    let open_by = |author, approvals: &[u8], subject: &[u8], rules: &v1::LotteryOpen| {
        entry(EntryKind::LotteryOpen, author, approvals, subject, rules)
    };
    let good = rules();
    ledger.refuse(&open_by(NOTARY, &[], &[], &good), R::RoleNotAllowed);
    ledger.refuse(&open_by(STRANGER, &[NOTARY], &[], &good), R::RoleNotAllowed);
    ledger.refuse(&open_by(ORGANISER, &[], &[], &good), R::ApprovalMissing);
    ledger.refuse(
        &open_by(ORGANISER, &[REGISTRAR], &[], &good),
        R::ApprovalMissing,
    );
    let two = [NOTARY, REGISTRAR];
    ledger.refuse(&open_by(ORGANISER, &two, &[], &good), R::ApprovalUnexpected);
    ledger.refuse(
        &open_by(ORGANISER, &[NOTARY], &[1; 32], &good),
        R::SubjectMismatch,
    );
    type Change = fn(&mut v1::LotteryOpen);
    let offices: Vec<Change> = vec![
        |r| r.notary = key(STRANGER),
        |r| r.notary = key(ORGANISER),
        |r| r.registrar = key(INSTITUTE),
        |r| r.institute = key(REGISTRAR),
    ];
    for change in offices {
        let mut bad = rules();
        change(&mut bad);
        ledger.refuse(&open(&bad), R::RoleNotAllowed);
    }
    ledger.accept(&open(&good));
    ledger.refuse(&open(&good), R::LotteryExists);
    let mut garbled = open(&good);
    garbled.signed.body = Bytes::from_static(&[0xff]);
    ledger.refuse(&garbled, R::BodyMalformed);
}

#[test]
fn a_roster_grows_without_gaps_or_duplicates() {
    use RejectReason as R;
    let (mut ledger, id) = opened(&rules());
    ledger.accept(&chunk(&id, 0, &rows(0..20)));
    ledger.refuse(&chunk(&id, 0, &rows(20..22)), R::RosterSerialGap);
    ledger.refuse(&chunk(&id, 21, &rows(20..22)), R::RosterSerialGap);
    ledger.refuse(&chunk(&id, 20, &rows(19..22)), R::RosterDuplicateTag);
    let twice = [rows(20..22), rows(20..21)].concat();
    ledger.refuse(&chunk(&id, 20, &twice), R::RosterDuplicateTag);
    ledger.refuse(&chunk(&id, 20, &rows(20..41)), R::RosterFull);
    let mut bad = rows(20..22);
    bad[1].weight = 65;
    ledger.refuse(&chunk(&id, 20, &bad), R::FieldOutOfRange);
    bad[1].weight = 1;
    bad[1].tier = 2;
    ledger.refuse(&chunk(&id, 20, &bad), R::FieldOutOfRange);
    ledger.refuse(&chunk(&Hash::ZERO, 20, &rows(20..22)), R::LotteryUnknown);
    let body = chunk_of(&id, 20, &rows(20..22));
    let by = |author, approvals: &[u8], subject: &[u8]| {
        entry(EntryKind::RosterChunk, author, approvals, subject, &body)
    };
    ledger.refuse(&by(INSTITUTE, &[], &id.0), R::LotteryWrongOffice);
    ledger.refuse(&by(STRANGER, &[], &id.0), R::RoleNotAllowed);
    ledger.refuse(&by(REGISTRAR, &[NOTARY], &id.0), R::ApprovalUnexpected);
    ledger.refuse(&by(REGISTRAR, &[], &[]), R::SubjectMismatch);
    ledger.refuse(&by(REGISTRAR, &[], &[9; 32]), R::SubjectMismatch);
    ledger.accept(&chunk(&id, 20, &rows(20..40)));
    let leaves: Vec<Hash> = rows(0..40).iter().map(Row::leaf_hash).collect();
    let lottery = ledger.lottery(&id);
    assert_eq!(lottery.roster_root, log::root_of(&leaves).to_bytes());
    assert_eq!(lottery.rows, 40);
}

#[test]
fn the_same_tag_may_stand_in_two_lotteries() {
    let (mut ledger, first) = opened(&rules());
    let mut other = rules();
    other.title = "Houses".to_owned();
    let other = open(&other);
    ledger.accept(&other);
    ledger.accept(&chunk(&first, 0, &rows(0..5)));
    ledger.accept(&chunk(&other.id, 0, &rows(0..5)));
}

#[test]
fn a_freeze_states_what_the_nodes_computed_and_ends_the_roster() {
    use RejectReason as R;
    let (mut ledger, id) = opened(&rules());
    let root = ledger.lottery(&id).roster_root;
    ledger.refuse(&freeze(&id, &root, 0), R::FieldOutOfRange);
    let (mut ledger, id) = filled();
    let root = ledger.lottery(&id).roster_root;
    ledger.refuse(&freeze(&id, &root, 29), R::RosterMismatch);
    let wrong: Bytes = vec![1; 32].into();
    ledger.refuse(&freeze(&id, &wrong, 30), R::RosterMismatch);
    let mut alone = freeze(&id, &root, 30);
    alone.signed.signatures.remove(0);
    ledger.refuse(&alone, R::ApprovalMissing);
    ledger.refuse(&dice(&id, &[1]), R::LotteryWrongStage);
    ledger.accept(&freeze(&id, &root, 30));
    ledger.refuse(&freeze(&id, &root, 30), R::LotteryWrongStage);
    ledger.refuse(&chunk(&id, 30, &rows(30..31)), R::LotteryWrongStage);
    assert_eq!(ledger.lottery(&id).stage(), LotteryStage::Frozen);
}

#[test]
fn dice_are_rolled_once_by_the_notary_after_the_freeze() {
    use RejectReason as R;
    let (mut ledger, id) = frozen();
    for digits in [&[0][..], &[7], &[], &[1; 33]] {
        ledger.refuse(&dice(&id, digits), R::FieldOutOfRange);
    }
    let mut body = dice_body(&id, &[1]);
    let by = |author, body: &v1::DiceRoll| entry(EntryKind::DiceRoll, author, &[], &id.0, body);
    ledger.refuse(&by(REGISTRAR, &body), R::LotteryWrongOffice);
    body.attempt = 2;
    ledger.refuse(&by(NOTARY, &body), R::LotteryWrongAttempt);
    body = dice_body(&id, &[1]);
    body.evidence_hash = Bytes::new();
    ledger.refuse(&by(NOTARY, &body), R::FieldOutOfRange);
    let given = contribution_body(&ledger, &id, 1);
    ledger.refuse(&contribution(&id, &given), R::LotteryWrongStage);
    ledger.now += 1_234;
    ledger.accept(&dice(&id, &[1, 6]));
    let lottery = ledger.lottery(&id);
    assert_eq!(lottery.stage(), LotteryStage::Contributing);
    assert_eq!(lottery.contributions_close_ms, ledger.now + WINDOW);
    ledger.refuse(&dice(&id, &[2]), R::LotteryWrongStage);
}

#[test]
fn without_dice_the_freeze_begins_contributing() {
    let mut plain = rules();
    plain.with_dice = false;
    let (mut ledger, id) = opened(&plain);
    ledger.accept(&chunk(&id, 0, &rows(0..9)));
    let root = ledger.lottery(&id).roster_root;
    ledger.accept(&freeze(&id, &root, 9));
    let lottery = ledger.lottery(&id);
    assert_eq!(lottery.stage(), LotteryStage::Contributing);
    assert_eq!(lottery.contributions_close_ms, START + WINDOW);
    let chain = plain.beacon.unwrap();
    let time = beacon::round_time_ms(&chain, lottery.beacon_round);
    assert!((0..3_000).contains(&(time - START - WINDOW - MARGIN)));
    ledger.refuse(&dice(&id, &[1]), RejectReason::LotteryWrongStage);
}

#[test]
fn a_contribution_counts_once_in_time_and_for_this_lottery_only() {
    use RejectReason as R;
    let (mut ledger, id) = contributing();
    let close = ledger.lottery(&id).contributions_close_ms;
    let good = contribution_body(&ledger, &id, 1);
    let mut bad = good.clone();
    bad.attempt = 2;
    ledger.refuse(&contribution(&id, &bad), R::LotteryWrongAttempt);
    bad = good.clone();
    bad.seed_key = seed_key(4);
    ledger.refuse(&contribution(&id, &bad), R::ContributorUnknown);
    bad = good.clone();
    bad.seed_key = seed_key(2);
    ledger.refuse(&contribution(&id, &bad), R::ContributionInvalid);
    bad.signature = Bytes::new();
    ledger.refuse(&contribution(&id, &bad), R::ContributionInvalid);
    let (elsewhere, other) = {
        let mut two = rules();
        two.title = "Houses".to_owned();
        let (mut ledger, id) = opened(&two);
        ledger.accept(&chunk(&id, 0, &rows(0..ROWS)));
        let root = ledger.lottery(&id).roster_root;
        ledger.accept(&freeze(&id, &root, ROWS.into()));
        ledger.accept(&dice(&id, &[1, 6, 3]));
        (ledger, id)
    };
    bad = contribution_body(&elsewhere, &other, 1);
    bad.lottery_id = id.to_bytes();
    ledger.refuse(&contribution(&id, &bad), R::ContributionInvalid);
    let stranger = entry(EntryKind::SeedContribution, STRANGER, &[], &id.0, &good);
    ledger.refuse(&stranger, R::RoleNotAllowed);
    ledger.accept(&contribution(&id, &good));
    ledger.refuse(&contribution(&id, &good), R::ContributionTwice);

    ledger.now = close;
    let last = contribution_body(&ledger, &id, 2);
    ledger.accept(&contribution(&id, &last));
    ledger.now = close + 1;
    let late = contribution_body(&ledger, &id, 3);
    ledger.refuse(&contribution(&id, &late), R::ContributionLate);
    let stamps: Vec<u64> = ledger
        .lottery(&id)
        .contributions
        .iter()
        .map(|c| c.timestamp_ms)
        .collect();
    assert_eq!(stamps, vec![close - WINDOW, close]);
}

#[test]
fn only_a_certificate_in_time_shows_the_close() {
    let waits = |ledger: &Ledger| -> usize {
        let key = map::map_key(CONTRIBUTING_NAMESPACE, &[]);
        let value = map::get(&ledger.state, &key).unwrap().unwrap();
        let list = v1::ContributingLotteries::decode(value).unwrap();
        list.lottery_ids.len()
    };
    let (ledger, id) = contributing();
    let lottery = ledger.lottery(&id);
    let close = lottery.contributions_close_ms;
    let round_ms = beacon::round_time_ms(&rules().beacon.unwrap(), lottery.beacon_round);
    let limit = round_ms - MARGIN / 2;
    let cases = [
        // Header, latest counted clock, certified, still waiting.
        (close, close + 1, false, true),
        (close + 1, limit - 1, true, false),
        (close + 1, limit, false, true),
        (round_ms - 1, limit - 1, true, false),
        (round_ms, limit, false, false),
        (close - 1, 0, false, true),
    ];
    for (header, cosigned, certified, waiting) in cases {
        let (mut ledger, id) = contributing();
        ledger.certificate(header, cosigned);
        assert_eq!(
            ledger.lottery(&id).close_certified,
            certified,
            "{header} {cosigned}"
        );
        assert_eq!(waits(&ledger), usize::from(waiting), "{header} {cosigned}");
    }
}

#[test]
fn only_the_pinned_round_completes_the_seed_and_only_after_a_certified_close() {
    use RejectReason as R;
    let (mut ledger, id) = contributing();
    let lottery = ledger.lottery(&id);
    let pinned = lottery.beacon_round;
    ledger.now = lottery.contributions_close_ms + 1_000_000;
    ledger.refuse(&round(&id, pinned), R::BeaconCloseNotCertified);

    let (mut ledger, id) = closed();
    for wrong in [pinned - 1, pinned + 1, 0] {
        ledger.refuse(&round(&id, wrong), R::BeaconWrongRound);
    }
    let mut bad = round_body(&id, pinned);
    bad.signature = beacon::sign_round(&bls(BEACON), pinned + 1).to_vec().into();
    let as_entry =
        |body: &v1::BeaconRound| entry(EntryKind::BeaconRound, AUTHORITY, &[], &id.0, body);
    ledger.refuse(&as_entry(&bad), R::BeaconInvalid);
    bad = round_body(&id, pinned);
    bad.attempt = 2;
    ledger.refuse(&as_entry(&bad), R::LotteryWrongAttempt);
    let mut long = round_body(&id, pinned);
    long.signature = [&long.signature[..], &[0; 48]].concat().into();
    ledger.refuse(&as_entry(&long), R::BeaconInvalid);
    ledger.accept(&round(&id, pinned));
    ledger.refuse(&round(&id, pinned), R::LotteryWrongStage);
    let late = contribution_body(&ledger, &id, 2);
    ledger.refuse(&contribution(&id, &late), R::LotteryWrongStage);
}

#[test]
fn batches_come_in_order_and_equal_the_draw() {
    use RejectReason as R;
    let (mut ledger, id) = closed();
    ledger.refuse(&batch(&id, 0, 0, vec![1, 2, 3]), R::LotteryWrongStage);
    let (mut ledger, id) = drawn();
    let first = winners(&ledger, &id, 0, 0);
    let second = winners(&ledger, &id, 0, 1);
    assert_eq!((first.len(), second.len()), (3, 2));
    ledger.refuse(&batch(&id, 0, 1, second.clone()), R::BatchOutOfOrder);
    ledger.refuse(&batch(&id, 2, 0, first.clone()), R::FieldOutOfRange);
    ledger.refuse(&batch(&id, 1, 0, first.clone()), R::BatchMismatch);
    let mut swapped = first.clone();
    swapped.swap(0, 1);
    ledger.refuse(&batch(&id, 0, 0, swapped), R::BatchMismatch);
    ledger.refuse(&batch(&id, 0, 0, first[..2].to_vec()), R::BatchMismatch);
    let more = [first.clone(), second.clone()].concat();
    ledger.refuse(&batch(&id, 0, 0, more), R::BatchMismatch);
    let body = v1::BatchResult::decode(batch(&id, 0, 0, first.clone()).signed.body).unwrap();
    let by_notary = entry(EntryKind::BatchResult, NOTARY, &[], &id.0, &body);
    ledger.refuse(&by_notary, R::LotteryWrongOffice);
    ledger.accept(&batch(&id, 0, 0, first.clone()));
    ledger.refuse(&batch(&id, 0, 0, first), R::BatchOutOfOrder);
    ledger.accept(&batch(&id, 0, 1, second));
    ledger.refuse(&batch(&id, 0, 2, vec![]), R::BatchOutOfOrder);
}

#[test]
fn a_tier_that_nobody_entered_has_no_winner_and_no_batch() {
    let (mut ledger, id) = opened(&rules());
    let mut north = rows(0..2);
    north[1].weight = 3;
    let mut body = chunk_of(&id, 0, &north);
    body.tiers.clear();
    let all_north = entry(EntryKind::RosterChunk, REGISTRAR, &[], &id.0, &body);
    ledger.accept(&all_north);
    let root = ledger.lottery(&id).roster_root;
    ledger.accept(&freeze(&id, &root, 2));
    ledger.accept(&dice(&id, &[5]));
    let close = ledger.lottery(&id).contributions_close_ms;
    ledger.now = close + 1;
    ledger.certificate(close + 1, close + 2);
    let pinned = ledger.lottery(&id).beacon_round;
    ledger.accept(&round(&id, pinned));
    let lottery = ledger.lottery(&id);
    let empty = &lottery.results[1];
    assert_eq!((empty.entrants, empty.winners), (0, 0));
    assert!(empty.cutoff_ticket.is_empty());
    let nobody = batch(&id, 1, 0, vec![]);
    ledger.refuse(&nobody, RejectReason::BatchOutOfOrder);
    recompute(&ledger.chain.id, &id, &lottery, north).unwrap();
    let all = winners(&ledger, &id, 0, 0);
    assert_eq!(all.len(), 2);
    ledger.accept(&batch(&id, 0, 0, all));
    assert_eq!(ledger.lottery(&id).stage(), LotteryStage::Complete);
}

#[test]
fn the_notary_certifies_only_what_is_complete() {
    use RejectReason as R;
    let (mut ledger, id, last) = nearly_complete();
    ledger.refuse(&certify(&id), R::LotteryWrongStage);
    ledger.accept(&last);
    let mut body = v1::LotteryCertify::decode(certify(&id).signed.body).unwrap();
    let by = |author, body: &v1::LotteryCertify| {
        entry(EntryKind::LotteryCertify, author, &[], &id.0, body)
    };
    ledger.refuse(&by(INSTITUTE, &body), R::LotteryWrongOffice);
    body.document_hash = Bytes::new();
    ledger.refuse(&by(NOTARY, &body), R::FieldOutOfRange);
    ledger.accept(&certify(&id));
    ledger.refuse(&certify(&id), R::LotteryWrongStage);
}
