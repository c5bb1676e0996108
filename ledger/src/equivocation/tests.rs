//! Every part of a proof matters.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::{Ledger, MEMBERS, STRANGER, certificate, with_offices};

struct Case {
    ledger: Ledger,
    proof: v1::Equivocation,
}

impl Case {
    fn verify(&self, proof: &v1::Equivocation) -> Result<Proven, EquivocationError> {
        let chain = &self.ledger.chain;
        verify(&chain.id, &Epochs::of_genesis(chain), proof)
    }

    /// A header with a cosignature by the key with this number.
    fn signed(&self, header: &v1::Header, key: u8) -> (Bytes, Option<v1::Cosignature>) {
        let bytes = canonical::encode(header);
        let made = certificate(&self.ledger.chain.id, bytes.clone(), [(key, 5)]);
        (bytes, made.cosignatures.into_iter().next())
    }

    fn with_b(&self, header: &v1::Header, key: u8) -> v1::Equivocation {
        let (header_b, cosignature_b) = self.signed(header, key);
        v1::Equivocation {
            header_b,
            cosignature_b,
            ..self.proof.clone()
        }
    }
}

/// Two blocks that could follow the genesis, both cosigned by the first member.
fn case() -> (Case, [v1::Header; 2]) {
    let ledger = Ledger::of(with_offices());
    let block = |entries| {
        let mut proposal = ledger.proposal(entries);
        proposal.checkpoint = true;
        ledger.apply(&proposal).unwrap().header
    };
    let headers = [block(vec![ledger.evidence(1)]), block(vec![])];
    let mut case = Case {
        ledger,
        proof: v1::Equivocation::default(),
    };
    let (header_a, cosignature_a) = case.signed(&headers[0], MEMBERS[0]);
    case.proof = v1::Equivocation {
        header_a,
        cosignature_a,
        ..v1::Equivocation::default()
    };
    case.proof = case.with_b(&headers[1], MEMBERS[0]);
    (case, headers)
}

#[test]
fn two_headers_of_one_height_under_one_key_name_its_member() {
    let (case, headers) = case();
    let proven = case.verify(&case.proof).unwrap();
    assert_eq!(proven.height, headers[0].height);
    assert_eq!(proven.headers, headers);
    assert_ne!(proven.hashes[0], proven.hashes[1]);
    assert_eq!(proven.cosigned_at_ms, [5, 5]);
    let listed = case.ledger.chain.members.members.iter();
    assert!(listed.clone().any(|member| *member == proven.member));
}

#[test]
fn whatever_is_changed_it_proves_nothing() {
    let (case, [a, b]) = case();
    let refused = |proof: &v1::Equivocation| case.verify(proof).unwrap_err();

    use EquivocationError as E;
    assert_eq!(refused(&case.with_b(&a, MEMBERS[0])), E::SameHeader);
    assert_eq!(refused(&case.with_b(&b, MEMBERS[1])), E::OtherKey);
    let stranger = refused(&case.with_b(&b, STRANGER));
    assert!(matches!(stranger, E::Cosignature(_)), "{stranger:?}");
    let next = v1::Header {
        height: b.height + 1,
        ..b.clone()
    };
    let later = refused(&case.with_b(&next, MEMBERS[0]));
    assert_eq!(later, E::OtherHeights(b.height, b.height + 1));
    let elsewhere = v1::Header {
        chain_id: vec![7; 32].into(),
        ..b.clone()
    };
    let elsewhere = refused(&case.with_b(&elsewhere, MEMBERS[0]));
    assert!(matches!(elsewhere, E::OtherChain { .. }), "{elsewhere:?}");
    let unknown = v1::Header {
        epoch: 3,
        ..b.clone()
    };
    let unknown = refused(&case.with_b(&unknown, MEMBERS[0]));
    assert_eq!(unknown, E::UnknownEpoch { epoch: 3, known: 0 });

    let unsigned = v1::Equivocation {
        cosignature_a: None,
        ..case.proof.clone()
    };
    assert_eq!(refused(&unsigned), E::NoCosignature);
    // No bit of headers and signatures could be another.
    for part in 0..4 {
        for byte in [0, 20, 40, 63] {
            let mut proof = case.proof.clone();
            let bytes = match part {
                0 => &mut proof.header_a,
                1 => &mut proof.header_b,
                2 => &mut proof.cosignature_a.as_mut().unwrap().signature,
                _ => &mut proof.cosignature_b.as_mut().unwrap().signature,
            };
            let mut other = bytes.to_vec();
            other[byte] ^= 1;
            *bytes = other.into();
            refused(&proof);
        }
    }
}

#[test]
fn two_contradicting_certificates_prove_it_of_whoever_signed_both() {
    let (case, [a, b]) = case();
    let chain = &case.ledger.chain;
    let certify = |header: &v1::Header, keys: [u8; 3]| {
        let bytes = canonical::encode(header);
        let proto = certificate(&chain.id, bytes, keys.map(|key| (key, 5)));
        checkpoint::certify(&chain.id, &chain.members, &proto).unwrap()
    };
    let [one, two, three, four] = MEMBERS;
    let (a, b) = (
        certify(&a, [one, two, three]),
        certify(&b, [two, three, four]),
    );
    assert!(between(&a, &a).is_empty());
    let proofs = between(&a, &b);
    assert_eq!(proofs.len(), 2, "the second and the third");
    for proof in &proofs {
        case.verify(proof).unwrap();
    }

    let file = v1::EquivocationFile {
        genesis: chain.bytes.clone(),
        equivocations: proofs,
        epoch_changes: Vec::new(),
    };
    let bytes = write_file(&file);
    let (_, proven) = verify_file(&chain.id, &bytes).unwrap();
    assert_eq!(proven.len(), 2);
    let other = Hash([1; 32]);
    let refused = verify_file(&other, &bytes).unwrap_err();
    assert!(matches!(refused, FileError::OtherChain { .. }));
    assert!(verify_file(&chain.id, &bytes[..bytes.len() - 1]).is_err());
    assert_eq!(
        verify_file(&chain.id, b"x").unwrap_err(),
        FileError::NotThatFile
    );
    let empty = v1::EquivocationFile {
        equivocations: Vec::new(),
        ..file.clone()
    };
    let empty = verify_file(&chain.id, &write_file(&empty)).unwrap_err();
    assert_eq!(empty, FileError::Empty);
    let mut false_one = file;
    false_one.equivocations[1].cosignature_b = None;
    let refused = verify_file(&chain.id, &write_file(&false_one)).unwrap_err();
    assert!(
        matches!(refused, FileError::NotProven { number: 2, .. }),
        "{refused:?}"
    );
}
