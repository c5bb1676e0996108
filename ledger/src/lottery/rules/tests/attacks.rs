//! Attacks that no single rule's test shows: each ends in a refusal, or in what everybody can see.

use super::*;
use crate::lottery::draw;
use crate::lottery::roster::{Columns, inner_tag, tag};

#[test]
fn rows_inserted_removed_reordered_or_duplicated_after_the_freeze_are_seen_by_everybody() {
    let (mut ledger, id) = frozen();
    // On the ledger there is no row after the freeze, whoever signs.
    let more = chunk(&id, ROWS.into(), &rows(ROWS..ROWS + 1));
    ledger.refuse(&more, RejectReason::LotteryWrongStage);
    // Beside the ledger, every other roster has another root.
    let (ledger, id) = complete();
    let lottery = ledger.lottery(&id);
    let honest = rows(0..ROWS);
    let mut forged: Vec<Vec<Row>> = Vec::new();
    for at in [0, 1, 15, honest.len() - 1] {
        let mut inserted = honest.clone();
        inserted.insert(at, rows(ROWS..ROWS + 1)[0]);
        let mut removed = honest.clone();
        removed.remove(at);
        let mut duplicated = honest.clone();
        duplicated.insert(at, honest[at]);
        let mut reordered = honest.clone();
        reordered.swap(at, (at + 1) % honest.len());
        let mut heavier = honest.clone();
        heavier[at].weight += 1;
        let mut elsewhere = honest.clone();
        elsewhere[at].tier ^= 1;
        forged.extend([inserted, removed, duplicated, reordered, heavier, elsewhere]);
    }
    for (i, forged) in forged.into_iter().enumerate() {
        let seen = recompute(&ledger.chain.id, &id, &lottery, forged);
        assert!(matches!(seen, Err(RecomputeError::Roster { .. })), "{i}");
    }
}

#[test]
fn grinding_tags_or_serials_only_changes_what_contributors_sign() {
    let signed = |rows: &[Row]| {
        let (mut ledger, id) = opened(&rules());
        ledger.accept(&chunk(&id, 0, rows));
        let lottery = ledger.lottery(&id);
        contribution_message(&ledger.chain.id, &id, &lottery).unwrap()
    };
    // A registrar who tries tags or places for a friend gets other messages each time, and what
    // contributors and beacon will make of any of them is not known yet.
    let mut messages = Vec::new();
    for n in 0..8 {
        let mut ground = rows(0..9);
        ground[4].tag = hash::plain(&[n]).0;
        messages.push(signed(&ground));
        let mut moved = rows(0..9);
        moved.rotate_left(1 + usize::from(n));
        messages.push(signed(&moved));
    }
    // Rotating nine rows by nine is the first order again, once.
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), 16);
    // And a row's ticket is of seed, tier and serial alone: tag and commitment move nothing.
    let seed = Hash([3; 32]);
    let ticket = draw::least_ticket(&seed, 0, 4, 1);
    assert_eq!(ticket, draw::rank(&seed, 0, [(4, 1)]).at(0).unwrap().1);
}

#[test]
fn a_key_that_came_after_the_freeze_contributes_to_nothing() {
    let (mut ledger, id) = contributing();
    // Member 4 is a member with a seed key, but not one of this lottery's contributors.
    let given = contribution_body(&ledger, &id, 4);
    let unknown = RejectReason::ContributorUnknown;
    ledger.refuse(&contribution(&id, &given), unknown);
    let foreign = contribution_body(&ledger, &id, 77);
    ledger.refuse(&contribution(&id, &foreign), unknown);
}

#[test]
fn who_withholds_the_last_contribution_is_absent_and_the_round_does_not_move() {
    let (mut ledger, id) = contributing();
    let pinned = ledger.lottery(&id).beacon_round;
    let withheld = contribution_body(&ledger, &id, 2);
    for n in [1, 3] {
        let given = contribution_body(&ledger, &id, n);
        ledger.accept(&contribution(&id, &given));
        assert_eq!(ledger.lottery(&id).beacon_round, pinned);
    }
    let close = ledger.lottery(&id).contributions_close_ms;
    ledger.now = close + 1;
    ledger.certificate(close + 1, close + 2);
    // Now the round is out, and the withheld part with it would make another seed: too late.
    ledger.refuse(
        &contribution(&id, &withheld),
        RejectReason::ContributionLate,
    );
    assert_eq!(ledger.lottery(&id).beacon_round, pinned);
    ledger.accept(&round(&id, pinned));
    let lottery = ledger.lottery(&id);
    let present: Vec<&Bytes> = lottery.contributions.iter().map(|c| &c.seed_key).collect();
    assert_eq!(present, vec![&seed_key(1), &seed_key(3)]);
    recompute(&ledger.chain.id, &id, &lottery, rows(0..ROWS)).unwrap();
}

#[test]
fn a_leader_that_backdates_blocks_gets_no_round_taken() {
    let (mut ledger, id) = contributing();
    let lottery = ledger.lottery(&id);
    let close = lottery.contributions_close_ms;
    let round_ms = beacon::round_time_ms(&rules().beacon.unwrap(), lottery.beacon_round);
    // The leader's clock stands still at the close; a friend contributes when the round is out.
    ledger.now = close;
    let friend = contribution_body(&ledger, &id, 2);
    ledger.accept(&contribution(&id, &friend));
    // The members' clocks did not stand still: whatever the next checkpoint is stamped, they say
    // when they saw it.
    for header in [close + 1, round_ms - 1] {
        ledger.certificate(header, round_ms);
    }
    assert!(!ledger.lottery(&id).close_certified);
    ledger.now = close + 1;
    let taken = round(&id, lottery.beacon_round);
    ledger.refuse(&taken, RejectReason::BeaconCloseNotCertified);
}

#[test]
fn a_leader_that_delays_an_honest_contribution_leaves_an_absence_and_no_choice() {
    let (mut ledger, id) = contributing();
    let delayed = contribution_body(&ledger, &id, 1);
    let pinned = ledger.lottery(&id).beacon_round;
    ledger.now = ledger.lottery(&id).contributions_close_ms + 1;
    ledger.refuse(&contribution(&id, &delayed), RejectReason::ContributionLate);
    ledger.certificate(ledger.now, ledger.now);
    ledger.accept(&round(&id, pinned));
    // Both seeds were fixed before the round was known; the leader chose blindly, and everybody
    // sees who is missing.
    let lottery = ledger.lottery(&id);
    assert!(lottery.contributions.is_empty());
    assert_eq!(lottery.beacon_round, pinned);
}

#[test]
fn there_is_one_draw_and_no_second_one() {
    let (mut ledger, id) = drawn();
    let before = ledger.lottery(&id);
    let wrong = RejectReason::LotteryWrongStage;
    ledger.refuse(&round(&id, before.beacon_round), wrong);
    ledger.refuse(&round(&id, before.beacon_round + 1), wrong);
    ledger.refuse(&dice(&id, &[6]), wrong);
    ledger.refuse(&freeze(&id, &before.roster_root, ROWS.into()), wrong);
    assert_eq!(ledger.lottery(&id), before);
}

#[test]
fn an_executor_who_colludes_publishes_nothing_but_the_draw() {
    let (mut ledger, id) = drawn();
    let honest = winners(&ledger, &id, 0, 0);
    let loser = *ranking_slice(&ledger.state, &id, 1, 0, 19, 1)
        .unwrap()
        .first()
        .unwrap();
    for at in 0..honest.len() {
        let mut forged = honest.clone();
        forged[at] = loser;
        let forged = batch(&id, 0, 0, forged);
        ledger.refuse(&forged, RejectReason::BatchMismatch);
        let mut turned = honest.clone();
        turned.rotate_left(at);
        if at > 0 {
            let turned = batch(&id, 0, 0, turned);
            ledger.refuse(&turned, RejectReason::BatchMismatch);
        }
    }
    ledger.accept(&batch(&id, 0, 0, honest));
}

#[test]
fn false_randomness_beside_a_true_signature_makes_no_seed() {
    let (ledger, id) = complete();
    let good = ledger.lottery(&id);
    // The entry has no place for randomness; a state that was made with another is not the draw's.
    let mut forged = good.clone();
    let key = rules().contributors;
    let given = |n: &v1::Contributor| {
        let mut all = good.contributions.iter();
        let found = all.find(|c| c.seed_key == n.seed_key);
        found.map(|c| c.signature.clone()).unwrap_or_default()
    };
    let parts: Vec<Bytes> = key.iter().map(given).collect();
    let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
    let root = Hash::from_slice(&good.roster_root).unwrap();
    let frozen = seed::Frozen {
        chain_id: &ledger.chain.id,
        lottery_id: &id,
        attempt: 1,
        roster_root: &root,
        count: good.rows,
        dice: &good.dice,
    };
    let seed_with = |randomness: &[u8; 32]| {
        let beacon = seed::Beacon {
            chain_hash: &[8; 32],
            round: good.beacon_round,
            randomness,
        };
        seed::seed(&frozen, &parts, Some(&beacon)).to_bytes()
    };
    let honest = beacon::randomness(&good.beacon_signature);
    assert_eq!(seed_with(&honest), good.seed);
    forged.seed = seed_with(&[7; 32]);
    assert!(matches!(
        recompute(&ledger.chain.id, &id, &forged, rows(0..ROWS)),
        Err(RecomputeError::Seed { .. })
    ));
}

#[test]
fn an_inner_node_passes_for_no_row_and_no_rank() {
    let honest = rows(0..4);
    let leaves: Vec<Hash> = honest.iter().map(Row::leaf_hash).collect();
    let root = log::root_of(&leaves);
    let left = log::root_of(&leaves[..2]);
    let right = log::root_of(&leaves[2..]);
    // With a size of the attacker's choice an inner node is a leaf of a smaller tree.
    assert!(log::verify_inclusion(&left, 0, 2, &[right], &root).is_ok());
    // The size comes from the state, and under it no index takes the node.
    for index in 0..4 {
        assert!(log::verify_inclusion(&left, index, 4, &[right], &root).is_err());
    }
    // Nor is there data whose leaf is that node: the first byte differs, and a row has 72.
    let joined = [leaves[0].0, leaves[1].0].concat();
    assert_ne!(log::leaf_hash(&joined), left);
    assert_eq!(honest[0].leaf_data().len(), 72);
}

#[test]
fn one_tag_key_and_a_list_of_identities_link_nobody() {
    let (registrar, notary) = ([1; 32], [2; 32]);
    let guesses: Vec<String> = (0..2_000).map(|n| format!("3205{n:06}")).collect();
    let target = &guesses[1_234];
    let kept = tag(&notary, &inner_tag(&registrar, target.as_bytes()));
    let hidden = commitment(&[77; 32], target.as_bytes(), &[]).0;
    for guess in &guesses {
        let inner = inner_tag(&registrar, guess.as_bytes());
        // The registrar, who lacks the notary's key, and the notary, who lacks the registrar's.
        assert!(kept != inner && kept != tag(&registrar, &inner));
        let alone = inner_tag(&notary, guess.as_bytes());
        assert!(kept != alone && kept != tag(&notary, &alone));
        assert_ne!(kept, hash::plain(guess.as_bytes()).0);
        // Without its salt a commitment opens to nobody.
        assert_ne!(hidden, commitment(&[0; 32], guess.as_bytes(), &[]).0);
    }
    // Said plainly: both keys together, or the salt, link at once. Shredding is an act of people.
    let both = guesses
        .iter()
        .filter(|guess| tag(&notary, &inner_tag(&registrar, guess.as_bytes())) == kept);
    assert_eq!(both.collect::<Vec<_>>(), vec![target]);
}

#[test]
fn huge_weights_are_refused_and_tickets_are_capped() {
    use RejectReason as R;
    let (mut ledger, id) = opened(&rules());
    for weight in [0, 65, 1_000_000, u32::MAX] {
        let mut heavy = rows(1..3);
        heavy[1].weight = weight;
        ledger.refuse(&chunk(&id, 0, &heavy), R::FieldOutOfRange);
        assert!(Columns::of(&chunk_of(&id, 0, &heavy), 2).is_err());
    }
    // A roster near its cap of tickets, whatever the rows before were.
    let mut lottery = ledger.lottery(&id);
    lottery.tickets = MAX_TICKETS - 3;
    ledger
        .block(|ctx| {
            save(ctx, &id, &lottery);
            Ok(())
        })
        .unwrap();
    let mut last = rows(1..3);
    last[0].weight = 1;
    last[1].weight = 3;
    ledger.refuse(&chunk(&id, 0, &last), R::RosterFull);
    last[1].weight = 2;
    ledger.accept(&chunk(&id, 0, &last));
}
