//! Every refusal of a genesis, with its place, and what the chain id pins.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::lottery::bls::SeedSecret;
use crate::testing::{AUTHORITY, HEALTH, MAX_ENTRY_BYTES, STRANGER, chain, genesis, public};

fn refused(change: impl FnOnce(&mut v1::Genesis)) -> GenesisError {
    let mut changed = genesis();
    change(&mut changed);
    Chain::from_bytes(&canonical::encode(&changed)).unwrap_err()
}

/// Where a changed genesis is refused, without what names the member or author.
fn place(change: impl FnOnce(&mut v1::Genesis)) -> String {
    match refused(change) {
        GenesisError::Field { place, .. } => {
            let field = place.rsplit(": ").next();
            field.unwrap_or_default().to_owned()
        }
        other => panic!("refused for another reason: {other}"),
    }
}

fn members(genesis: &mut v1::Genesis) -> &mut Vec<v1::Member> {
    &mut genesis.members.as_mut().unwrap().members
}

fn limits(genesis: &mut v1::Genesis) -> &mut v1::Limits {
    genesis.limits.as_mut().unwrap()
}

fn policy(genesis: &mut v1::Genesis) -> &mut v1::MandatePolicy {
    genesis.mandate_policy.as_mut().unwrap()
}

fn seeded(member: &mut v1::Member, n: u8) {
    let secret = SeedSecret::from_key_material(&[n; 32]).unwrap();
    member.seed_key = seed::seed_key_public(&secret).to_vec().into();
    member.seed_key_proof = seed::prove_possession(&secret).to_vec().into();
}

#[test]
fn a_sound_genesis_makes_a_chain_with_and_without_seed_keys() {
    let plain = chain();
    assert_eq!(plain.id, chain_id(&plain.bytes));
    assert_eq!(plain.bytes, canonical::encode(&genesis()));
    assert_eq!(plain.members, genesis().members.unwrap());
    let mut with_seeds = genesis();
    for (n, member) in (1..).zip(members(&mut with_seeds)) {
        seeded(member, n);
    }
    let with_seeds = Chain::from_bytes(&canonical::encode(&with_seeds)).unwrap();
    assert_ne!(with_seeds.id, plain.id);
}

#[test]
fn every_field_that_cannot_work_is_refused_by_its_name() {
    type Change = fn(&mut v1::Genesis);
    let long = || "x".repeat(MAX_NAME + 1);
    let cases: [(Change, &str); 47] = [
        (|g| g.name.clear(), "name or created_at_ms"),
        (
            |g| g.name = "x".repeat(MAX_NAME + 1),
            "name or created_at_ms",
        ),
        (|g| g.created_at_ms = 0, "name or created_at_ms"),
        (|g| g.members = None, "members"),
        (|g| members(g).clear(), "members"),
        (|g| g.members.as_mut().unwrap().epoch = 1, "members.epoch"),
        (|g| members(g)[0].raft_id = 0, "raft_id"),
        (|g| members(g)[1].raft_id = members(g)[0].raft_id, "raft_id"),
        (|g| members(g).swap(0, 1), "raft_id"),
        (|g| members(g)[2].institution.clear(), "institution or role"),
        (|g| members(g)[2].role = 0, "institution or role"),
        (
            |g| members(g)[2].cosign_key = vec![1; 31].into(),
            "cosign_key",
        ),
        (|g| members(g)[2].peer_id = Bytes::new(), "peer_id"),
        (|g| members(g)[2].peer_id = vec![1; 65].into(), "peer_id"),
        (
            |g| members(g)[2].cosign_key = members(g)[0].cosign_key.clone(),
            "keys",
        ),
        (
            |g| members(g)[2].peer_id = members(g)[0].peer_id.clone(),
            "keys",
        ),
        (|g| members(g)[2].seed_key = vec![1; 96].into(), "seed_key"),
        (
            |g| members(g)[2].seed_key_proof = vec![1; 48].into(),
            "seed_key",
        ),
        (
            |g| {
                seeded(&mut members(g)[0], 1);
                members(g)[0].seed_key_proof = Bytes::new();
            },
            "seed_key",
        ),
        (
            |g| {
                // Possession of another key.
                seeded(&mut members(g)[0], 1);
                let proof = members(g)[0].seed_key_proof.clone();
                seeded(&mut members(g)[0], 2);
                members(g)[0].seed_key_proof = proof;
            },
            "seed_key",
        ),
        (
            |g| {
                seeded(&mut members(g)[0], 1);
                seeded(&mut members(g)[1], 1);
            },
            "keys",
        ),
        (|g| g.limits = None, "limits.max_entry_bytes"),
        (
            |g| limits(g).max_entry_bytes = MIN_ENTRY_BYTES - 1,
            "limits.max_entry_bytes",
        ),
        (
            |g| limits(g).max_block_bytes = MAX_ENTRY_BYTES - 1,
            "limits.max_block_bytes",
        ),
        (
            |g| limits(g).max_block_bytes = MAX_BLOCK_BYTES + 1,
            "limits.max_block_bytes",
        ),
        (
            |g| limits(g).max_block_entries = 0,
            "limits.max_block_entries",
        ),
        (
            |g| limits(g).max_entry_lifetime_ms = 0,
            "limits.max_entry_lifetime_ms",
        ),
        (
            |g| limits(g).checkpoint_every_blocks = 0,
            "limits.checkpoint_every_blocks and limits.checkpoint_every_ms",
        ),
        (
            |g| limits(g).checkpoint_every_ms = 0,
            "limits.checkpoint_every_blocks and limits.checkpoint_every_ms",
        ),
        (
            |g| g.authors[0].public_key = vec![1; 33].into(),
            "public_key",
        ),
        (|g| g.authors[0].name.clear(), "name or role"),
        (|g| g.authors[0].role = 0, "name or role"),
        (|g| g.authors.swap(0, 1), "authors"),
        (|g| g.authors[1] = g.authors[0].clone(), "authors"),
        (|g| g.mandates[0].authority = public(STRANGER), "authority"),
        (|g| g.mandates[0].authority = public(HEALTH), "authority"),
        (|g| g.mandates[0].region.clear(), "region"),
        (
            |g| g.mandates[0].reasons = vec!["b".into(), "a".into()],
            "reasons",
        ),
        (|g| g.mandates[0].statuses = vec![1, 1], "statuses"),
        (
            |g| g.mandates[0].approver_role = Role::Authority as i32,
            "approver_role",
        ),
        (
            |g| policy(g).granters = vec![public(HEALTH), public(HEALTH)],
            "mandate_policy.granters",
        ),
        (
            |g| policy(g).granters = vec![public(AUTHORITY)],
            "mandate_policy.granters",
        ),
        (
            |g| policy(g).granters = vec![public(STRANGER)],
            "mandate_policy.granters",
        ),
        (|g| policy(g).granters.clear(), "mandate_policy.granters"),
        (|g| policy(g).required = 0, "mandate_policy.required"),
        (|g| policy(g).required = 4, "mandate_policy.required"),
        (|g| g.mandates.reverse(), "mandates"),
    ];
    for (at, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(place(change), expected, "case {at}");
    }
    assert_eq!(
        place(|g| members(g)[0].institution = long()),
        "institution or role"
    );
    assert_eq!(place(|g| g.mandates[0].reasons = vec![long()]), "reasons");
    let GenesisError::Field { place, .. } = refused(|g| members(g)[2].role = 0) else {
        panic!("refused for another reason");
    };
    assert_eq!(place, "member 103 (institution 103): institution or role");
}

#[test]
fn a_newer_edition_of_the_rules_is_named() {
    let error = refused(|g| g.rules_version = 2);
    assert_eq!(error, GenesisError::RulesVersion(2));
    assert_eq!(
        refused(|g| g.rules_version = 0),
        GenesisError::RulesVersion(0)
    );
}

#[test]
fn a_policy_that_one_institution_could_break_is_refused_with_the_two_sets() {
    let error = refused(|g| {
        let policy = g.members.as_mut().unwrap().policy.as_mut().unwrap();
        policy.threshold = 2;
    });
    let GenesisError::Policy(PolicyError::Unsafe {
        institution,
        first,
        second,
        safe_threshold,
    }) = &error
    else {
        panic!("{error}");
    };
    assert_eq!(*safe_threshold, 3);
    let text = error.to_string();
    for name in first.iter().chain(second).chain([institution]) {
        assert!(text.contains(name), "{text}");
    }
    let error = refused(|g| g.members.as_mut().unwrap().policy = None);
    assert_eq!(error, GenesisError::Policy(PolicyError::Empty));
    let error = refused(|g| members(g).truncate(2));
    assert!(matches!(
        error,
        GenesisError::Policy(PolicyError::Unsatisfiable { .. })
    ));
}

#[test]
fn any_bit_of_the_genesis_changes_the_chain_id_or_is_refused() {
    let (good, mut accepted) = (chain(), 0);
    for at in 0..good.bytes.len() * 8 {
        let mut bytes = good.bytes.to_vec();
        bytes[at / 8] ^= 1 << (at % 8);
        assert_ne!(chain_id(&bytes), good.id);
        if let Ok(other) = Chain::from_bytes(&bytes) {
            assert_ne!(other.genesis, good.genesis);
            assert_eq!(canonical::encode(&other.genesis), bytes);
            accepted += 1;
        }
    }
    // Names and numbers may be others: then it is another ledger.
    assert!(accepted > 100);
    // Cut between two mandates it is a genesis still, of another ledger.
    for len in 0..good.bytes.len() {
        let cut = Chain::from_bytes(&good.bytes[..len]);
        assert!(cut.is_err() || cut.unwrap().id != good.id, "{len}");
    }
}

#[test]
fn the_members_hash_binds_epoch_members_and_policy() {
    let set = genesis().members.unwrap();
    let hash = members_hash(&set);
    let other = |change: fn(&mut v1::MemberSet)| {
        let mut set = set.clone();
        change(&mut set);
        members_hash(&set)
    };
    assert_ne!(hash, other(|s| s.epoch = 1));
    assert_ne!(hash, other(|s| s.policy.as_mut().unwrap().threshold = 4));
    assert_ne!(
        hash,
        other(|s| s.policy.as_mut().unwrap().detect_only = true)
    );
    assert_ne!(hash, other(|s| s.members.truncate(3)));
    assert_ne!(hash, other(|s| s.members[0].role = 2));
}
