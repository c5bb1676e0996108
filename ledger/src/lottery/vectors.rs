//! The formats of a lottery, pinned by `ledger/vectors/lottery.json`, which is readable from any
//! language. A value that changes here changes every draw: that needs another `rules_version`.
#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::roster::{self, Row};
use super::seed::{self, Beacon, Frozen};
use super::{bls::SeedSecret, draw, holder::Presented};
use crate::hash::Hash;

fn hash(v: &Value) -> Hash {
    Hash::from_slice(&bytes(v)).unwrap()
}

fn bytes(v: &Value) -> Vec<u8> {
    hex::decode(v.as_str().unwrap()).unwrap()
}

fn number(v: &Value) -> u32 {
    v.as_u64().unwrap().try_into().unwrap()
}

#[test]
fn formats_are_the_published_ones() {
    let json: Value = serde_json::from_str(include_str!("../../vectors/lottery.json")).unwrap();

    let v = &json["row"];
    let salt = hash(&v["salt"]).0;
    let commitment = roster::commitment(&salt, &bytes(&v["identity"]), &bytes(&v["holder_key"]));
    let identity = roster::identity_hash(&salt, &bytes(&v["identity"]));
    assert_eq!(identity, hash(&v["identity_hash"]));
    assert_eq!(commitment, hash(&v["commitment"]));
    let inner = roster::inner_tag(&hash(&v["registrar_key"]).0, &bytes(&v["identity"]));
    let tag = roster::tag(&hash(&v["notary_key"]).0, &inner);
    assert_eq!(Hash(tag), hash(&v["tag"]));
    let tag_key = roster::tag_key_commitment(&hash(&v["notary_key"]).0);
    assert_eq!(tag_key, hash(&v["notary_tag_key_commitment"]));
    let row = Row {
        commitment: commitment.0,
        tag,
        tier: number(&v["tier"]),
        weight: number(&v["weight"]),
    };
    assert_eq!(row.leaf_data().to_vec(), bytes(&v["leaf_data"]));
    assert_eq!(row.leaf_hash(), hash(&v["leaf_hash"]));

    let v = &json["seed"];
    let (chain_id, lottery_id) = (hash(&v["chain_id"]), hash(&v["lottery_id"]));
    let (roster_root, dice) = (hash(&v["roster_root"]), bytes(&v["dice"]));
    let frozen = Frozen {
        chain_id: &chain_id,
        lottery_id: &lottery_id,
        attempt: number(&v["attempt"]),
        roster_root: &roster_root,
        count: v["count"].as_u64().unwrap(),
        dice: &dice,
    };
    let message = seed::contribution_message(&frozen);
    assert_eq!(message, hash(&v["contribution_message"]));
    let secret = SeedSecret::from_bytes(&bytes(&v["secret"])).unwrap();
    let public = seed::seed_key_public(&secret);
    assert_eq!(public.to_vec(), bytes(&v["seed_key"]));
    let proof = seed::prove_possession(&secret);
    assert_eq!(proof.to_vec(), bytes(&v["seed_key_proof"]));
    let contribution = seed::sign_contribution(&secret, &message);
    assert_eq!(contribution.to_vec(), bytes(&v["contribution"]));
    let beacon = Beacon {
        chain_hash: &bytes(&v["beacon_chain_hash"]),
        round: v["beacon_round"].as_u64().unwrap(),
        randomness: &hash(&v["beacon_randomness"]).0,
    };
    let seed = seed::seed(&frozen, &[&contribution, &[]], Some(&beacon));
    assert_eq!(seed, hash(&v["seed_second_contributor_absent"]));

    let without_beacon = seed::seed(&frozen, &[&contribution, &[]], None);
    assert_eq!(
        without_beacon,
        hash(&v["seed_closed_second_contributor_dropped"])
    );

    let v = &json["redemption"];
    let holder = ed25519_dalek::SigningKey::from_bytes(&hash(&v["holder_secret"]).0);
    let shop = bytes(&v["shop"]);
    let presented = Presented {
        chain_id: &chain_id,
        lottery_id: &lottery_id,
        attempt: number(&v["attempt"]),
        serial: v["serial"].as_u64().unwrap(),
        shop: &shop,
        signed_at_ms: v["signed_at_ms"].as_u64().unwrap(),
    };
    let (holder_key, signature) = (bytes(&v["holder_key"]), bytes(&v["signature"]));
    assert_eq!(presented.message(), bytes(&v["message"]));
    assert_eq!(presented.sign(&holder).to_vec(), signature);
    assert!(presented.is_signed_by(&holder_key, &signature));

    for v in json["tickets"].as_array().unwrap() {
        let (tier, serial, weight) = (&v["tier"], &v["serial"], &v["weight"]);
        let ticket = draw::least_ticket(&seed, number(tier), number(serial), number(weight));
        assert_eq!(Hash(ticket), hash(&v["ticket"]), "{v}");
    }
}
