//! The format: what is made is read again, and nothing else is.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::fixture::{City, DAY, HOUR, NOW, SALT, code_of};
use super::gate::{Gate, GatePolicy, Verdict};
use super::*;

/// A city's pass, and a gate that lets it through.
fn pass_and_gate() -> (Pass, Gate) {
    let mut city = City::new("a");
    let trust = city.trust(NOW - DAY);
    let checkpoint = city.checkpoint(NOW - HOUR / 2);
    let pass = city.pass(&code_of(7), &checkpoint);
    (pass, Gate::new(trust, GatePolicy::default()))
}

fn accepted(gate: &mut Gate, text: &str) -> bool {
    matches!(gate.judge(text, NOW, None), Verdict::Accepted(_))
}

fn text_of(bytes: &[u8]) -> String {
    format!("{PREFIX}{}", base45::encode(bytes))
}

/// With a hash at the end that fits.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let body = &bytes[..bytes.len() - 4];
    let check = crate::hash::Domain::new("cairn v1 pass").hash(body);
    [body, &check.0[..4]].concat()
}

#[test]
fn a_pass_is_read_as_it_was_made_and_lets_through() {
    let (pass, mut gate) = pass_and_gate();
    for pass in [
        pass.clone(),
        pass.clone().on_paper(),
        pass.clone().with_salt(SALT),
        pass.on_paper().with_salt(SALT),
    ] {
        let text = pass.to_text();
        assert_eq!(Pass::from_text(&text), Ok(pass));
        assert!(accepted(&mut gate, &text));
    }
}

#[test]
fn no_flipped_bit_is_read() {
    let (pass, _) = pass_and_gate();
    let bytes = pass.to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Pass::from_bytes(&flipped).is_err(), "bit {bit}");
    }
}

/// The hash at the end protects from nobody: what does is under the cosignatures.
#[test]
fn no_bit_can_change_even_under_a_hash_that_fits_but_the_mark_of_paper() {
    let (pass, mut gate) = pass_and_gate();
    let bytes = pass.to_bytes();
    let mut believed = Vec::new();
    for bit in 0..(bytes.len() - 4) * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if accepted(&mut gate, &text_of(&sealed(&flipped))) {
            believed.push(bit);
        }
    }
    // The lowest bit of the second byte.
    assert_eq!(believed, [8]);
    assert!(accepted(&mut gate, &pass.to_text()));
}

#[test]
fn nothing_shorter_or_longer_is_read() {
    let (pass, _) = pass_and_gate();
    let bytes = pass.to_bytes();
    for len in 0..bytes.len() {
        assert!(Pass::from_bytes(&bytes[..len]).is_err(), "cut at {len}");
    }
    for len in 0..bytes.len() - 4 {
        let cut = [&bytes[..len], &[0; 4]].concat();
        assert!(Pass::from_bytes(&sealed(&cut)).is_err(), "cut at {len}");
    }
    let longer = [&bytes[..bytes.len() - 4], &[0; 5]].concat();
    assert_eq!(
        Pass::from_bytes(&sealed(&longer)),
        Err(DecodeError::Malformed("something follows behind its end"))
    );
    let huge = vec![VERSION; MAX_LEN + 1];
    assert_eq!(
        Pass::from_bytes(&huge),
        Err(DecodeError::TooLong(MAX_LEN + 1))
    );
}

#[test]
fn what_is_no_pass_is_told_from_a_damaged_and_from_a_newer_one() {
    let (pass, _) = pass_and_gate();
    let text = pass.to_text();
    let newer = [&[VERSION + 1], &pass.to_bytes()[1..]].concat();
    for (text, error) in [
        (String::new(), DecodeError::NotAPass),
        ("https://example.org".to_owned(), DecodeError::NotAPass),
        (text[PREFIX.len()..].to_owned(), DecodeError::NotAPass),
        (text.to_lowercase(), DecodeError::NotAPass),
        (format!("{text}a"), DecodeError::Base45),
        (text_of(&[]), DecodeError::Damaged),
        (text_of(&sealed(&newer)), DecodeError::Version(VERSION + 1)),
    ] {
        assert_eq!(Pass::from_text(&text), Err(error));
    }
}

#[test]
fn a_pass_of_a_thousand_codes_fits_a_qr_code_with_room() {
    let (pass, _) = pass_and_gate();
    // Ten levels; at 13 million codes there are 14 more, of 32 bytes each.
    let grown = pass.to_bytes().len() + 14 * 32;
    assert!(grown <= 1_500, "{grown}");
}

#[test]
fn of_cosignatures_a_pass_keeps_the_newest_that_do() {
    let mut city = City::new("a");
    let header = city.header(NOW);
    let times = [NOW + 3, NOW + 1, NOW + 2, NOW];
    let signers: Vec<_> = city.keys.iter().copied().zip(times).collect();
    let checkpoint = city.certify(&header, &signers);
    let pass = city.pass(&code_of(1), &checkpoint);
    let kept: Vec<_> = pass.cosigned.iter().map(|c| (c.place, c.at_ms)).collect();
    assert_eq!(kept, [(0, NOW + 3), (1, NOW + 1), (2, NOW + 2)]);
    let trust = city.trust(NOW);
    let verdict = Gate::new(trust, GatePolicy::default()).judge(&pass.to_text(), NOW, None);
    let Verdict::Accepted(proven) = verdict else {
        panic!("{verdict:?}");
    };
    let certified = city.chain.members.clone();
    let whole = crate::checkpoint::certify(&city.chain.id, &certified, &checkpoint).unwrap();
    assert_eq!(proven.certified.latest_as_of_ms, whole.latest_as_of_ms());
    assert_eq!(proven.certified.header_hash(), whole.header_hash());
}

#[test]
fn only_a_proven_status_becomes_a_pass() {
    let mut city = City::new("a");
    let checkpoint = city.checkpoint(NOW);
    let never = city.receipt(&code_of(9_999), &checkpoint);
    let made = Pass::of_receipt(&city.chain, &never);
    assert_eq!(made, Err(PackError::NeverIssued));
    let good = city.receipt(&code_of(9), &checkpoint);
    let elsewhere = Pass::of_receipt(&City::new("b").chain, &good);
    assert!(matches!(elsewhere, Err(PackError::Proof(_))));
    let mut edited = good.clone();
    edited.proof.as_mut().unwrap().value = vec![8, 2].into();
    let made = Pass::of_receipt(&city.chain, &edited);
    assert!(matches!(made, Err(PackError::Proof(_))));
}

fn head() -> impl Strategy<Value = Head> {
    let hash = || any::<[u8; 32]>().prop_map(Hash);
    let numbers = any::<(u64, u64, u64, u64, u32, u64)>();
    (numbers, hash(), hash(), hash(), prop::option::of(hash())).prop_map(
        |(numbers, parent_hash, log_root, outcomes_root, next_members_hash)| Head {
            epoch: numbers.0,
            height: numbers.1,
            timestamp_ms: numbers.2,
            term: numbers.3,
            rules_version: numbers.4,
            tree_size: numbers.5,
            parent_hash,
            log_root,
            outcomes_root,
            next_members_hash,
        },
    )
}

fn proof() -> impl Strategy<Value = v1::MapProof> {
    let siblings = prop::collection::vec(prop::option::of(any::<[u8; 32]>()), 0..40);
    let value = prop::collection::vec(any::<u8>(), 1..300);
    (siblings, value).prop_map(|(siblings, value)| {
        let mut bitmap = vec![0u8; siblings.len().div_ceil(8)];
        for (level, _) in siblings.iter().enumerate().filter(|(_, s)| s.is_some()) {
            bitmap[level / 8] |= 0x80 >> (level % 8);
        }
        v1::MapProof {
            sibling_bitmap: bitmap.into(),
            depth: siblings.len() as u32,
            siblings: siblings
                .into_iter()
                .flatten()
                .map(|s| Hash(s).to_bytes())
                .collect(),
            value: value.into(),
            ..Default::default()
        }
    })
}

fn any_pass() -> impl Strategy<Value = Pass> {
    let places = prop::collection::btree_map(0u8..16, any::<(u64, [u8; 32])>(), 1..5);
    let marks = any::<(bool, [u8; 4], [u8; 32], Option<[u8; 32]>)>();
    (marks, proof(), head(), places).prop_map(|(marks, proof, head, places)| Pass {
        paper: marks.0,
        chain_tag: marks.1,
        code: Hash(marks.2),
        salt: marks.3,
        proof,
        head,
        cosigned: places
            .into_iter()
            .map(|(place, (at_ms, half))| Cosigned {
                place,
                at_ms,
                signature: [half, half].concat().try_into().unwrap(),
            })
            .collect(),
    })
}

proptest! {
    #[test]
    fn every_pass_comes_back_and_has_one_text(pass in any_pass()) {
        let text = pass.to_text();
        prop_assert_eq!(Pass::from_text(&text).unwrap(), pass);
    }

    #[test]
    fn whatever_is_read_encodes_to_the_same_bytes(
        pass in any_pass(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = pass.to_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len() - 4);
            bytes[at] = byte;
        }
        let bytes = sealed(&bytes);
        if let Ok(read) = Pass::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }
}
