//! Hostile keys and signatures: whatever they are, every path gives the same answer.
//!
//! The definition is restated here from the curve's arithmetic, so that neither this program nor
//! the library it uses judges itself: the key is canonical and not of small order, R is not of
//! small order, S is below the group's order, and R is the very encoding of \[S\]B - \[k\]A.
#![allow(clippy::unwrap_used)]

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::Verifier;
use sha2::{Digest, Sha512};

use super::*;
use crate::genesis::{Chain, GenesisError};
use crate::testing::*;
use crate::{admission, checkpoint, genesis, verify as outsider};

type Key = [u8; 32];

fn challenge(r: &Key, a: &Key, message: &[u8]) -> Scalar {
    let hash = Sha512::new().chain_update(r).chain_update(a);
    Scalar::from_bytes_mod_order_wide(&hash.chain_update(message).finalize().into())
}

/// The definition of valid.
fn is_valid(key: &Key, message: &[u8], signature: &[u8; 64]) -> bool {
    let (r, s) = signature.split_at(32);
    let (r, s): (Key, Key) = (r.try_into().unwrap(), s.try_into().unwrap());
    let Some(a) = CompressedEdwardsY(*key).decompress() else {
        return false;
    };
    let Some(point) = CompressedEdwardsY(r).decompress() else {
        return false;
    };
    let Some(s) = Scalar::from_canonical_bytes(s).into_option() else {
        return false;
    };
    a.compress().0 == *key
        && !a.is_small_order()
        && !point.is_small_order()
        && (s * B - challenge(&r, key, message) * a).compress().0 == r
}

fn little_endian_p_plus(n: u8) -> Key {
    let mut bytes = [0xff; 32];
    // p = 2^255 - 19 ends in 0xed.
    bytes[0] = 0xed + n;
    bytes[31] = 0x7f;
    bytes
}

/// All encodings of a y coordinate that is not below p, with both signs.
fn not_canonical() -> impl Iterator<Item = Key> {
    (0..19).flat_map(|n| {
        let (even, mut odd) = (little_endian_p_plus(n), little_endian_p_plus(n));
        odd[31] |= 0x80;
        [even, odd]
    })
}

/// The eight points of small order, and every other way to write one of them.
fn small_order() -> Vec<Key> {
    let canonical = EIGHT_TORSION.map(|point| point.compress().0);
    let other_sign = canonical.map(|mut key| {
        key[31] ^= 0x80;
        key
    });
    let mut keys: Vec<Key> = canonical.into_iter().chain(other_sign).collect();
    keys.extend(not_canonical().filter(|key| {
        let point = CompressedEdwardsY(*key).decompress();
        point.is_some_and(|point| point.is_small_order())
    }));
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// R and S as one.
fn joined(r: &Key, s: &Key) -> [u8; 64] {
    [&r[..], s].concat().try_into().unwrap()
}

type Sign = Box<dyn Fn(&[u8]) -> [u8; 64]>;

/// Who signs, and how, whatever the message.
struct Hostile {
    key: Key,
    sign: Sign,
}

/// Puts one hostile key on every path and asks for its answer. What is signed differs for entries
/// and for headers, so there are two verdicts: the definition's for each.
fn one_answer(hostile: &Hostile) -> [bool; 2] {
    let mut chain = chain();
    let author = v1::Author {
        public_key: Bytes::copy_from_slice(&hostile.key),
        ..chain.genesis.authors[0].clone()
    };
    chain.genesis.authors.push(author);
    let ledger = Ledger::of(chain);
    [on_entries(&ledger, hostile), on_headers(&ledger, hostile)]
}

fn on_entries(ledger: &Ledger, hostile: &Hostile) -> bool {
    let mut entry = ledger.evidence(1);
    let mut envelope: v1::Envelope = canonical::decode(&entry.envelope).unwrap();
    envelope.author = Bytes::copy_from_slice(&hostile.key);
    entry.envelope = canonical::encode(&envelope);
    let message = [
        b"cairn v1 entry signature",
        &ledger.chain.id.0[..],
        &[0, 0, 0, 1],
        blake3::hash(&entry.envelope).as_bytes(),
    ]
    .concat();
    let bytes = (hostile.sign)(&message);
    entry.signatures = vec![v1::Signature {
        public_key: envelope.author,
        purpose: SignaturePurpose::Author as i32,
        signature: Bytes::copy_from_slice(&bytes),
    }];

    let expected = is_valid(&hostile.key, &message, &bytes);
    let signature = &entry.signatures[0];
    assert_eq!(
        verify(&ledger.chain.id, &entry.envelope, signature),
        expected
    );
    assert_eq!(
        admission::admit(&ledger.chain, entry.clone()).is_ok(),
        expected
    );
    let applied = ledger.apply(&ledger.proposal(vec![entry.clone()])).unwrap();
    assert_eq!(applied.outcomes.len(), usize::from(expected));

    // A log that holds just this entry, certified by honest members: they cannot make it valid.
    let header = v1::Header {
        tree_size: 1,
        log_root: leaf_hash(&entry.envelope, &entry.signatures).to_bytes(),
        ..ledger.tip().header
    };
    let receipt = v1::Receipt {
        envelope: entry.envelope,
        signatures: entry.signatures,
        inclusion: Some(v1::InclusionProof::default()),
        checkpoint: Some(ledger.certificate(canonical::encode(&header), &[0, 1, 3])),
        epoch_changes: vec![],
    };
    let verified = outsider::receipt(&ledger.chain, &receipt, None);
    assert_eq!(verified.is_ok(), expected);
    expected
}

fn on_headers(ledger: &Ledger, hostile: &Hostile) -> bool {
    let mut members = ledger.chain.members.clone();
    members.members[3].cosign_key = Bytes::copy_from_slice(&hostile.key);
    let header = canonical::encode(&v1::Header {
        members_hash: genesis::members_hash(&members).to_bytes(),
        ..ledger.tip().header
    });
    let hash = checkpoint::header_hash(&header);
    let message = [
        b"cairn v1 cosignature",
        &ledger.chain.id.0[..],
        hash.as_bytes(),
        &START.to_be_bytes(),
    ]
    .concat();
    let bytes = (hostile.sign)(&message);
    let cosignature = v1::Cosignature {
        public_key: Bytes::copy_from_slice(&hostile.key),
        cosigned_at_ms: START,
        signature: Bytes::copy_from_slice(&bytes),
    };

    let expected = is_valid(&hostile.key, &message, &bytes);
    let verified = checkpoint::verify_cosignature(&members, &ledger.chain.id, &hash, &cosignature);
    assert_eq!(verified.is_ok(), expected);
    let mut certificate = ledger.certificate(header, &[0, 1]);
    certificate.cosignatures.push(cosignature);
    let order = |c: &v1::Cosignature| c.public_key.clone();
    certificate.cosignatures.sort_by_key(order);
    let certified = checkpoint::certify(&ledger.chain.id, &members, &certificate);
    assert_eq!(certified.is_ok(), expected);
    expected
}

/// What cofactorless verification without these checks says: shows that the cases have teeth.
fn lenient(hostile: &Hostile) -> bool {
    let message = b"any";
    let signature = Signature::from_bytes(&(hostile.sign)(message));
    VerifyingKey::from_bytes(&hostile.key).is_ok_and(|key| key.verify(message, &signature).is_ok())
}

#[test]
fn a_key_of_small_order_signs_nothing_anywhere() {
    let keys = small_order();
    assert_eq!(keys.len(), 14);
    let mut would_pass = 0;
    for key in keys {
        let torsion = EIGHT_TORSION.map(|point| (point, Scalar::ZERO));
        let secret = Scalar::from(7u64);
        let mixed = EIGHT_TORSION.map(|point| (secret * B + point, secret));
        for (r, s) in torsion.into_iter().chain(mixed) {
            let bytes = joined(&r.compress().0, s.as_bytes());
            let hostile = Hostile {
                key,
                sign: Box::new(move |_| bytes),
            };
            assert_eq!(one_answer(&hostile), [false, false]);
            would_pass += usize::from(lenient(&hostile));
        }
    }
    assert!(would_pass > 10, "{would_pass}");
}

#[test]
fn a_key_with_a_torsion_component_gets_one_answer_on_every_path() {
    let (a, mut seen) = (Scalar::from(1_234_567u64), [[0; 2]; 2]);
    for component in &EIGHT_TORSION[1..] {
        let key = (a * B + component).compress().0;
        for beside in EIGHT_TORSION {
            for nonce in 1..3u64 {
                let nonce = Scalar::from(nonce);
                let r = (nonce * B + beside).compress().0;
                let sign = move |message: &[u8]| {
                    let s = nonce + challenge(&r, &key, message) * a;
                    joined(&r, s.as_bytes())
                };
                let sign = Box::new(sign);
                let [entry, header] = one_answer(&Hostile { key, sign });
                seen[0][usize::from(entry)] += 1;
                seen[1][usize::from(header)] += 1;
            }
        }
    }
    // One in eight is valid by the definition; paths that disagreed would have failed above.
    assert!(seen.iter().flatten().all(|count| *count > 3), "{seen:?}");
}

#[test]
fn a_second_spelling_of_a_valid_signature_is_refused_everywhere() {
    let secret = key(NOTARY);
    let a = secret.to_scalar();
    let key = *secret.verifying_key().as_bytes();
    let hostile = |sign: Sign| one_answer(&Hostile { key, sign });

    let honest = key_signer();
    assert_eq!(hostile(Box::new(honest)), [true, true]);
    // S + L: the same residue.
    let above = |message: &[u8]| {
        let mut bytes = key_signer()(message);
        add_group_order(&mut bytes[32..]);
        bytes
    };
    assert_eq!(hostile(Box::new(above)), [false, false]);
    // R of small order, with S made for it.
    for r in small_order() {
        let sign = move |message: &[u8]| {
            let s = challenge(&r, &key, message) * a;
            joined(&r, s.as_bytes())
        };
        assert_eq!(hostile(Box::new(sign)), [false, false]);
    }
    // R with y >= p.
    for r in not_canonical() {
        let sign = move |message: &[u8]| joined(&r, (challenge(&r, &key, message) * a).as_bytes());
        assert_eq!(hostile(Box::new(sign)), [false, false]);
    }
    // R with a torsion component.
    for component in &EIGHT_TORSION[1..] {
        let nonce = Scalar::from(99u64);
        let r = (nonce * B + component).compress().0;
        let sign =
            move |message: &[u8]| joined(&r, (nonce + challenge(&r, &key, message) * a).as_bytes());
        assert_eq!(hostile(Box::new(sign)), [false, false]);
    }
}

fn key_signer() -> impl Fn(&[u8]) -> [u8; 64] {
    |message| key(NOTARY).sign(message).to_bytes()
}

/// L = 2^252 + 27742317777372353535851937790883648493, little-endian.
fn add_group_order(s: &mut [u8]) {
    let minus_one = (-Scalar::ONE).to_bytes();
    let mut carry = 1u16;
    for (byte, l) in s.iter_mut().zip(minus_one) {
        let sum = u16::from(*byte) + u16::from(l) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
}

#[test]
fn weak_and_non_canonical_keys_are_registered_nowhere() {
    let bad: Vec<Key> = small_order().into_iter().chain(not_canonical()).collect();
    let not_on_curve = (0..=255u8).map(|n| [n; 32]);
    let not_on_curve: Vec<Key> = not_on_curve
        .filter(|key| CompressedEdwardsY(*key).decompress().is_none())
        .collect();
    assert!(not_on_curve.len() > 50);
    for bytes in bad.iter().chain(&not_on_curve) {
        assert_eq!(public_key(bytes), None, "{}", hex::encode(bytes));
        let bytes = Bytes::copy_from_slice(bytes);
        let refused = |genesis: v1::Genesis, field: &str| {
            let error = Chain::from_bytes(&canonical::encode(&genesis)).unwrap_err();
            assert!(
                matches!(&error, GenesisError::Field { place, problem }
                    if place.ends_with(field) && *problem == "is no sound Ed25519 key"),
                "{error}"
            );
        };
        let mut as_author = crate::testing::genesis();
        as_author.authors[0].public_key = bytes.clone();
        refused(as_author, ": public_key");
        let mut as_member = crate::testing::genesis();
        as_member.members.as_mut().unwrap().members[0].cosign_key = bytes;
        refused(as_member, ": cosign_key");
    }
    for len in [0, 31, 33, 64] {
        assert_eq!(public_key(&vec![9; len]), None);
    }
    // The last y below p that is on the curve and not weak is a key.
    let mut last = little_endian_p_plus(0);
    let sound = (1..0xed).find_map(|below| {
        last[0] = 0xed - below;
        CompressedEdwardsY(last)
            .decompress()
            .filter(|p: &EdwardsPoint| !p.is_small_order())
    });
    assert!(public_key(&sound.unwrap().compress().0).is_some());
}

#[test]
fn a_leaf_binds_envelope_signers_purposes_and_signatures() {
    let ledger = Ledger::new();
    let entry = ledger.compose(ledger.evidence_draft(1), NOTARY, &[HEALTH]);
    let leaf = leaf_hash(&entry.envelope, &entry.signatures);
    let mut seen = vec![leaf];
    let mut other = |change: &dyn Fn(&mut v1::SignedEntry)| {
        let mut changed = entry.clone();
        change(&mut changed);
        seen.push(leaf_hash(&changed.envelope, &changed.signatures));
    };
    other(&|e| e.envelope = [&e.envelope[..], &[0]].concat().into());
    other(&|e| e.signatures.reverse());
    other(&|e| e.signatures.truncate(1));
    other(&|e| e.signatures.clear());
    other(&|e| e.signatures[0].purpose ^= 3);
    other(&|e| e.signatures[1].public_key = public(STRANGER));
    other(&|e| e.signatures[1].signature = vec![0; 64].into());
    // A byte moved from one field to the next.
    other(&|e| {
        let signature = &mut e.signatures[0];
        signature.public_key = [&signature.public_key[..], &[0]].concat().into();
        signature.signature = signature.signature.slice(1..);
    });
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), all);
}
