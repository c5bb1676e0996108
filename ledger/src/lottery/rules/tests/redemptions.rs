//! Redemption: once, by a winner, inside the window, never by the shop alone.

use super::objections::{objection, ruling};
use super::promotions::promotion;
use super::*;
use crate::log::TreeId;
use crate::lottery::holder::Presented;
use crate::lottery::roster::identity_hash;
use v1::PlaceStatus;

const WINDOW_TO_REDEEM: u64 = 3_600_000;

fn with_redemption() -> v1::LotteryOpen {
    let mut rules = rules();
    rules.tiers[0].waiting_list = 8;
    rules.redemption_window_ms = WINDOW_TO_REDEEM;
    rules
}

/// Certified, with the ranking of the tier "north", of which five win.
fn certified() -> (Ledger, Hash, Vec<u64>) {
    let (mut ledger, id) = completed(&with_redemption());
    ledger.accept(&certify(&id));
    let ranking = ranking_slice(&ledger.state, &id, 1, 0, 0, 100).unwrap();
    (ledger, id, ranking)
}

fn signed(ledger: &Ledger, body: v1::Redemption, by: u64, shop: u8) -> v1::Redemption {
    let lottery_id = Hash::from_slice(&body.lottery_id).unwrap();
    let shop = key(shop);
    let presented = Presented {
        chain_id: &ledger.chain.id,
        lottery_id: &lottery_id,
        attempt: body.attempt,
        serial: body.serial,
        shop: &shop,
        signed_at_ms: body.signed_at_ms,
    };
    let signature = presented.sign(&holder(by as u32));
    v1::Redemption {
        holder_signature: signature.to_vec().into(),
        ..body
    }
}

/// What a winner's phone and a shop make together, now.
fn body(ledger: &Ledger, id: &Hash, serial: u64) -> v1::Redemption {
    let row = rows(serial as u32..serial as u32 + 1)[0];
    let count = ledger.lottery(id).rows;
    let leaf = |serial: u64| Some(rows(serial as u32..serial as u32 + 1)[0].leaf_hash());
    let tree = TreeId::roster(id);
    let path = log::inclusion_proof_from(&ledger.state, &tree, serial, count, leaf).unwrap();
    let body = v1::Redemption {
        lottery_id: id.to_bytes(),
        attempt: 1,
        serial,
        identity_hash: identity_hash(&SALT, &(serial as u32).to_be_bytes()).to_bytes(),
        holder_key: holder_key(serial as u32).to_vec().into(),
        tag: row.tag.to_vec().into(),
        tier: row.tier,
        weight: row.weight,
        path: path.into_iter().map(Hash::to_bytes).collect(),
        signed_at_ms: ledger.now,
        holder_signature: Bytes::new(),
    };
    signed(ledger, body, serial, SHOP)
}

fn at(shop: u8, id: &Hash, body: &v1::Redemption) -> Admitted {
    entry(EntryKind::Redemption, shop, &[], &id.0, body)
}

#[test]
fn a_winner_redeems_once_and_not_at_two_shops() {
    use RejectReason as R;
    let (mut ledger, id, rank) = certified();
    for serial in &rank[..5] {
        let good = body(&ledger, &id, *serial);
        ledger.accept(&at(SHOP, &id, &good));
        ledger.now += 1;
        let again = body(&ledger, &id, *serial);
        ledger.refuse(&at(SHOP, &id, &again), R::RedemptionTwice);
        let elsewhere = signed(&ledger, again, *serial, OTHER_SHOP);
        ledger.refuse(&at(OTHER_SHOP, &id, &elsewhere), R::RedemptionTwice);
        let place: v1::PlaceState =
            map_message(&ledger, PLACE_NAMESPACE, &place_key(&id, 1, *serial)).unwrap();
        assert_eq!(place.status(), PlaceStatus::Redeemed);
        assert_eq!(place.shop, key(SHOP));
    }
    // What is used up cannot be given to the next.
    let next = promotion(&id, &rank[..1], &rank[5..6]);
    ledger.refuse(&next, R::PromotionNoPlace);
}

#[test]
fn who_has_no_place_redeems_nothing() {
    use RejectReason as R;
    let (mut ledger, id, rank) = certified();
    for loser in &rank[5..] {
        let theirs = body(&ledger, &id, *loser);
        ledger.refuse(&at(SHOP, &id, &theirs), R::RedemptionNotAWinner);
    }
    // A loser who shows a winner's row has not the winner's key, and the other way round.
    let winners = body(&ledger, &id, rank[0]);
    let by_loser = signed(&ledger, winners.clone(), rank[9], SHOP);
    ledger.refuse(&at(SHOP, &id, &by_loser), R::RedemptionHolderInvalid);
    let mut own_key = winners.clone();
    own_key.holder_key = holder_key(rank[9] as u32).to_vec().into();
    let own_key = signed(&ledger, own_key, rank[9], SHOP);
    ledger.refuse(&at(SHOP, &id, &own_key), R::RedemptionWrongRow);
    type Change = fn(&mut v1::Redemption);
    let rows: Vec<Change> = vec![
        |r| r.serial ^= 1,
        |r| r.tier ^= 1,
        |r| r.weight = r.weight % 4 + 1,
        |r| r.tag = vec![1; 32].into(),
        |r| r.identity_hash = vec![1; 32].into(),
        |r| {
            r.path.pop();
        },
        |r| r.path.push(vec![1; 32].into()),
    ];
    for (i, change) in rows.iter().enumerate() {
        let mut bad = winners.clone();
        change(&mut bad);
        let bad = signed(&ledger, bad, rank[0], SHOP);
        let refused = ledger.apply(&at(SHOP, &id, &bad));
        assert_eq!(refused, Err(R::RedemptionWrongRow), "change {i}");
    }
    let fields: Vec<Change> = vec![
        |r| r.weight = 65,
        |r| r.weight = 0,
        |r| r.tag = Bytes::new(),
        |r| r.identity_hash = Bytes::new(),
        |r| r.holder_key = Bytes::new(),
        |r| r.holder_key = vec![0; 32].into(),
        |r| r.path = vec![vec![1; 31].into()],
    ];
    for (i, change) in fields.iter().enumerate() {
        let mut bad = winners.clone();
        change(&mut bad);
        let refused = ledger.apply(&at(SHOP, &id, &bad));
        assert_eq!(refused, Err(R::FieldOutOfRange), "change {i}");
    }
}

#[test]
fn a_shop_redeems_nothing_alone_and_with_no_old_code() {
    use RejectReason as R;
    let (mut ledger, id, rank) = certified();
    let good = body(&ledger, &id, rank[0]);
    // Nobody but a point of sale, and none by another's code.
    ledger.refuse(&at(NOTARY, &id, &good), R::RoleNotAllowed);
    ledger.refuse(&at(STRANGER, &id, &good), R::RoleNotAllowed);
    ledger.refuse(&at(OTHER_SHOP, &id, &good), R::RedemptionHolderInvalid);
    // The shop knows the row, but not the holder's secret.
    let shops_own = ed25519_dalek::SigningKey::from_bytes(&[SHOP; 32]);
    let shop = key(SHOP);
    let presented = Presented {
        chain_id: &ledger.chain.id,
        lottery_id: &id,
        attempt: 1,
        serial: rank[0],
        shop: &shop,
        signed_at_ms: ledger.now,
    };
    let mut forged = good.clone();
    forged.holder_signature = presented.sign(&shops_own).to_vec().into();
    ledger.refuse(&at(SHOP, &id, &forged), R::RedemptionHolderInvalid);
    forged.holder_signature = Bytes::new();
    ledger.refuse(&at(SHOP, &id, &forged), R::RedemptionHolderInvalid);
    let mut later = good.clone();
    later.signed_at_ms += 1;
    ledger.refuse(&at(SHOP, &id, &later), R::RedemptionHolderInvalid);
    // Yesterday's code, and one made for tomorrow.
    let made = ledger.now;
    ledger.now = made + SIGNATURE_LIFETIME_MS + 1;
    ledger.refuse(&at(SHOP, &id, &good), R::RedemptionCodeExpired);
    let mut early = good.clone();
    early.signed_at_ms = ledger.now + SIGNATURE_AHEAD_MS + 1;
    let early = signed(&ledger, early, rank[0], SHOP);
    ledger.refuse(&at(SHOP, &id, &early), R::RedemptionCodeExpired);
    ledger.now = made + SIGNATURE_LIFETIME_MS;
    ledger.accept(&at(SHOP, &id, &good));
}

#[test]
fn a_window_ends_and_begins_anew_for_who_came_up() {
    use RejectReason as R;
    let (mut ledger, id, rank) = certified();
    let until = ledger.lottery(&id).certified_at_ms + WINDOW_TO_REDEEM;
    ledger.now = until;
    let in_time = body(&ledger, &id, rank[0]);
    ledger.accept(&at(SHOP, &id, &in_time));
    ledger.now = until + 1;
    let late = body(&ledger, &id, rank[1]);
    ledger.refuse(&at(SHOP, &id, &late), R::RedemptionWindow);
    // Who did not come gives up the place; who gets it has as long as the others had.
    ledger.accept(&promotion(&id, &rank[1..2], &rank[5..6]));
    let late = body(&ledger, &id, rank[1]);
    ledger.refuse(&at(SHOP, &id, &late), R::RedemptionNotAWinner);
    ledger.now += WINDOW_TO_REDEEM + 1;
    let promoted = body(&ledger, &id, rank[5]);
    ledger.refuse(&at(SHOP, &id, &promoted), R::RedemptionWindow);
    ledger.now -= 1;
    let promoted = body(&ledger, &id, rank[5]);
    ledger.accept(&at(SHOP, &id, &promoted));
}

#[test]
fn nothing_is_redeemed_before_the_certificate_without_a_window_or_after_a_strike() {
    use RejectReason as R;
    let (mut ledger, id) = completed(&with_redemption());
    let rank = ranking_slice(&ledger.state, &id, 1, 0, 0, 5).unwrap();
    let early = body(&ledger, &id, rank[0]);
    ledger.refuse(&at(SHOP, &id, &early), R::LotteryWrongStage);
    let about = objection(&id, vec![rank[0]]);
    ledger.accept(&about);
    ledger.accept(&ruling(&id, &about, v1::RulingDecision::Upheld));
    ledger.accept(&certify(&id));
    let struck = body(&ledger, &id, rank[0]);
    ledger.refuse(&at(SHOP, &id, &struck), R::RedemptionNotAWinner);
    let mut other_attempt = body(&ledger, &id, rank[1]);
    other_attempt.attempt = 2;
    ledger.refuse(&at(SHOP, &id, &other_attempt), R::LotteryWrongAttempt);

    let (mut ledger, id) = completed(&rules());
    ledger.accept(&certify(&id));
    let rank = ranking_slice(&ledger.state, &id, 1, 0, 0, 5).unwrap();
    let nowhere = body(&ledger, &id, rank[0]);
    ledger.refuse(&at(SHOP, &id, &nowhere), R::RedemptionWindow);
}
