//! What an outsider believes: nothing whose smallest part was changed.
//!
//! A message travels in two ways. In a proof file it is canonical, and no second spelling is read.
//! Over gRPC the decoder skips what it does not know, so a flipped bit can also leave a part out;
//! with no more cosignatures than the policy asks for, each of them is needed.
#![allow(clippy::unwrap_used)]

use cairn_proto::schema::Described;
use prost::Message;

use super::*;
use crate::testing::{HEALTH, Ledger, NOTARY, document, genesis, key, public};
use crate::{apply, checkpoint, evidence};

/// As many cosignatures as the policy asks for.
const JUST_ENOUGH: &[usize] = &[0, 1, 3];
const ALL: &[usize] = &[0, 1, 2, 3];
/// On the ledger, in the middle of the log.
const LEAF: u64 = 5;

/// Eleven documents, on a chain with a small genesis: proof files carry it.
fn ledger() -> Ledger {
    let mut small = genesis();
    small.mandates.clear();
    small.mandate_policy = None;
    small
        .authors
        .retain(|author| author.public_key == public(NOTARY));
    let chain = Chain::from_bytes(&canonical::encode(&small)).unwrap();
    let mut ledger = Ledger::of(chain);
    ledger.block((0..5).map(|n| ledger.evidence(n)).collect());
    ledger.block((5..11).map(|n| ledger.evidence(n)).collect());
    ledger
}

fn flips(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        (bit, flipped)
    })
}

/// Every flipped bit and every cut of `good`, decoded as gRPC does and as a file is read: none may
/// be `believed`, unless it decodes to the very message; how many did.
fn nothing_else_is_believed<M>(good: &M, believed: impl Fn(&M) -> bool) -> usize
where
    M: Message + Default + PartialEq + Described,
{
    let bytes = canonical::encode(good);
    assert!(believed(good));
    let mut identical = 0;
    for (bit, flipped) in flips(&bytes) {
        let Ok(message) = M::decode(&flipped[..]) else {
            continue;
        };
        if message == *good {
            identical += 1;
            assert!(canonical::decode::<M>(&flipped).is_err(), "bit {bit}");
        } else {
            assert!(!believed(&message), "bit {bit}");
        }
    }
    for len in 0..bytes.len() {
        if let Ok(message) = M::decode(&bytes[..len]) {
            assert!(!believed(&message), "cut at {len}");
        }
    }
    identical
}

#[test]
fn no_bit_of_a_receipt_can_change() {
    let mut ledger = ledger();
    let checkpoint = ledger.checkpoint(JUST_ENOUGH);
    let receipt = ledger.receipt(LEAF, checkpoint);
    let believed = |r: &v1::Receipt| super::receipt(&ledger.chain, r, None).is_ok();
    assert_eq!(nothing_else_is_believed(&receipt, believed), 0);
}

#[test]
fn no_bit_of_a_certificate_can_change() {
    let mut ledger = ledger();
    let checkpoint = ledger.checkpoint(JUST_ENOUGH);
    let (id, members) = (&ledger.chain.id, &ledger.chain.members);
    let believed = |c: &v1::Checkpoint| checkpoint::certify(id, members, c).is_ok();
    assert_eq!(nothing_else_is_believed(&checkpoint, believed), 0);
}

/// Keys whose map proofs are of every kind: a value, another leaf, an empty terminal.
fn one_of_each_kind(ledger: &mut Ledger) -> [v1::MapReceipt; 3] {
    let checkpoint = ledger.checkpoint(JUST_ENOUGH);
    let of = |n: u64| {
        let key = document(n);
        ledger.map_receipt(evidence::NAMESPACE, key.as_bytes(), checkpoint.clone())
    };
    let absent = |other: bool| {
        let mut all = (1_000..).map(of);
        let found = all.find(|r| r.proof.as_ref().unwrap().other_key.is_empty() != other);
        found.unwrap()
    };
    [of(3), absent(true), absent(false)]
}

#[test]
fn no_bit_of_a_map_receipt_can_change() {
    let mut ledger = ledger();
    for receipt in one_of_each_kind(&mut ledger) {
        let good = map_receipt(&ledger.chain, &receipt).unwrap();
        // Whoever asked for one key does not take an answer about another.
        let believed = |changed: &v1::MapReceipt| {
            let Ok(verified) = map_receipt(&ledger.chain, changed) else {
                return false;
            };
            let asked = (&verified.namespace, &verified.key) == (&good.namespace, &good.key);
            // And what it says about another is true.
            let key = map::map_key(&verified.namespace, &verified.key);
            let held = map::get(&ledger.state, &key).unwrap();
            assert_eq!(verified.value, held);
            asked
        };
        assert_eq!(nothing_else_is_believed(&receipt, believed), 0);
    }
}

/// What a proof file says, if anything.
#[derive(Debug, PartialEq)]
enum Said {
    Entry(Box<VerifiedEntry>),
    Value(Box<VerifiedValue>),
}

fn read(pinned: &Hash, bytes: &[u8]) -> Option<Said> {
    let (chain, file) = read_file(pinned, bytes).ok()?;
    if let Some(proof) = &file.receipt {
        let body = (!file.body.is_empty()).then_some(&file.body[..]);
        let entry = receipt(&chain, proof, body).ok()?;
        return Some(Said::Entry(Box::new(entry)));
    }
    let value = map_receipt(&chain, file.map_receipt.as_ref()?).ok()?;
    Some(Said::Value(Box::new(value)))
}

/// One of a receipt with everybody's cosignature, one of an absence.
fn files(ledger: &mut Ledger) -> Vec<v1::ProofFile> {
    let genesis = ledger.chain.bytes.clone();
    let checkpoint = ledger.checkpoint(ALL);
    let entry = apply::signed_entry(&ledger.state, LEAF).unwrap().unwrap();
    let with_receipt = v1::ProofFile {
        genesis: genesis.clone(),
        receipt: Some(ledger.receipt(LEAF, checkpoint)),
        body: entry.body,
        ..Default::default()
    };
    let [_, absent, _] = one_of_each_kind(ledger);
    let with_absence = v1::ProofFile {
        genesis,
        map_receipt: Some(absent),
        ..Default::default()
    };
    vec![with_receipt, with_absence]
}

#[test]
fn no_bit_of_a_proof_file_can_change_and_none_can_be_missing() {
    let mut ledger = ledger();
    let pinned = ledger.chain.id;
    for file in files(&mut ledger) {
        let bytes = write_file(&file);
        assert_eq!(read_file(&pinned, &bytes).unwrap().1, file);
        let said = read(&pinned, &bytes).unwrap();
        for (bit, flipped) in flips(&bytes) {
            match (read(&pinned, &flipped), &said) {
                (None, _) => {}
                // The absence of another key: true, and not what was asked.
                (Some(Said::Value(other)), Said::Value(asked)) if other.key != asked.key => {
                    let key = map::map_key(&other.namespace, &other.key);
                    assert_eq!(map::get(&ledger.state, &key), Ok(None));
                    assert_eq!(other.value, None);
                }
                (Some(Said::Value(other)), Said::Value(asked)) => {
                    assert_ne!(other.namespace, asked.namespace, "bit {bit}");
                    assert_eq!(other.value, None);
                }
                (Some(other), _) => panic!("bit {bit}: {other:?}"),
            }
        }
        // Cut right before the body it is the same receipt, shown without the body.
        let whole_without_body = write_file(&v1::ProofFile {
            body: Bytes::new(),
            ..file.clone()
        });
        for len in 0..bytes.len() {
            let cut = read(&pinned, &bytes[..len]);
            assert!(
                cut.is_none() || len == whole_without_body.len(),
                "cut at {len}"
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(read(&pinned, &longer).is_none());
    }
}

#[test]
fn a_proof_file_holds_one_proof_from_the_pinned_genesis() {
    let mut ledger = ledger();
    let pinned = ledger.chain.id;
    let all = files(&mut ledger);
    let refused = |file: &v1::ProofFile| read_file(&pinned, &write_file(file)).unwrap_err();

    let other = Hash([7; 32]);
    let bytes = write_file(&all[0]);
    let found = pinned;
    assert_eq!(
        read_file(&other, &bytes).unwrap_err(),
        FileError::OtherChain {
            found,
            pinned: other
        }
    );
    assert_eq!(
        read_file(&pinned, &bytes[1..]).unwrap_err(),
        FileError::NotAProofFile
    );
    assert_eq!(
        read_file(&pinned, &[]).unwrap_err(),
        FileError::NotAProofFile
    );
    assert!(matches!(
        read_file(&pinned, &bytes[..bytes.len() - 1]).unwrap_err(),
        FileError::Damaged(_)
    ));
    let two = v1::ProofFile {
        map_receipt: all[1].map_receipt.clone(),
        ..all[0].clone()
    };
    assert_eq!(refused(&two), FileError::NotOneProof);
    let none = v1::ProofFile {
        receipt: None,
        body: Bytes::new(),
        ..all[0].clone()
    };
    assert_eq!(refused(&none), FileError::NotOneProof);
    let body_of_nothing = v1::ProofFile {
        body: vec![1].into(),
        ..all[1].clone()
    };
    assert_eq!(refused(&body_of_nothing), FileError::NotOneProof);
    // A pinned hash of bytes that are no genesis.
    let genesis = Bytes::from_static(b"no genesis");
    let wrong = v1::ProofFile {
        genesis: genesis.clone(),
        ..all[1].clone()
    };
    let read = read_file(&crate::genesis::chain_id(&genesis), &write_file(&wrong));
    assert!(matches!(read.unwrap_err(), FileError::Genesis(_)));
}

#[test]
fn a_quorum_that_is_not_met_is_told_apart_from_a_lie() {
    let mut ledger = ledger();
    let few = ledger.checkpoint(&[1, 2]);
    let receipt = ledger.receipt(LEAF, few.clone());
    let error = super::receipt(&ledger.chain, &receipt, None).unwrap_err();
    assert!(error.is_quorum_not_met(), "{error}");
    let absent = ledger.map_receipt("no such namespace", b"x", few.clone());
    let error = map_receipt(&ledger.chain, &absent).unwrap_err();
    assert!(error.is_quorum_not_met(), "{error}");

    let mut forged = receipt;
    let checkpoint = forged.checkpoint.as_mut().unwrap();
    checkpoint.cosignatures[1].cosigned_at_ms += 1;
    let error = super::receipt(&ledger.chain, &forged, None).unwrap_err();
    assert!(!error.is_quorum_not_met(), "{error}");
}

#[test]
fn a_receipt_is_of_its_own_leaf_size_body_and_checkpoint() {
    let mut ledger = ledger();
    let earlier = ledger.checkpoint(JUST_ENOUGH);
    ledger.block(vec![ledger.evidence(50)]);
    let later = ledger.checkpoint(JUST_ENOUGH);
    let good = ledger.receipt(LEAF, later.clone());
    let verify = |receipt: &v1::Receipt| super::receipt(&ledger.chain, receipt, None);
    let verified = verify(&good).unwrap();
    assert_eq!(
        verified.signers,
        [(public(NOTARY), SignaturePurpose::Author)]
    );

    let mut at_another_size = good.clone();
    at_another_size.checkpoint = Some(earlier);
    assert!(matches!(verify(&at_another_size), Err(VerifyError::Log(_))));
    for index in (0..20).filter(|index| *index != LEAF) {
        let mut elsewhere = good.clone();
        elsewhere.inclusion.as_mut().unwrap().leaf_index = index;
        assert!(
            matches!(verify(&elsewhere), Err(VerifyError::Log(_))),
            "{index}"
        );
    }
    for at in 0..=good.inclusion.as_ref().unwrap().path.len() {
        let mut longer = good.clone();
        let path = &mut longer.inclusion.as_mut().unwrap().path;
        path.insert(at, Hash::ZERO.to_bytes());
        assert!(matches!(verify(&longer), Err(VerifyError::Log(_))), "{at}");
    }
    let mut without = good.clone();
    without.inclusion = None;
    assert_eq!(
        verify(&without),
        Err(VerifyError::Missing("inclusion proof"))
    );
    let mut without = good.clone();
    without.checkpoint = None;
    assert_eq!(verify(&without), Err(VerifyError::Missing("checkpoint")));
    let mut approved_by_more = good.clone();
    let more = entry::sign(
        &key(HEALTH),
        &ledger.chain.id,
        SignaturePurpose::Approval,
        &good.envelope,
    );
    approved_by_more.signatures.push(more);
    approved_by_more
        .signatures
        .sort_by(|a, b| a.public_key.cmp(&b.public_key));
    assert!(matches!(
        verify(&approved_by_more),
        Err(VerifyError::Log(_))
    ));

    let body = apply::signed_entry(&ledger.state, LEAF)
        .unwrap()
        .unwrap()
        .body;
    let with = |body: &[u8]| super::receipt(&ledger.chain, &good, Some(body));
    assert!(with(&body).is_ok());
    assert_eq!(with(&[]), Err(VerifyError::Body));
    assert_eq!(with(&body[1..]), Err(VerifyError::Body));
    assert_eq!(with(&[&body[..], &[0]].concat()), Err(VerifyError::Body));
}

#[test]
fn a_map_proof_is_of_its_own_key_and_root() {
    let mut ledger = ledger();
    let earlier = ledger.checkpoint(JUST_ENOUGH);
    let key = document(50);
    let absent = ledger.map_receipt(evidence::NAMESPACE, key.as_bytes(), earlier.clone());
    ledger.block(vec![ledger.evidence(50)]);
    let later = ledger.checkpoint(JUST_ENOUGH);
    let present = ledger.map_receipt(evidence::NAMESPACE, key.as_bytes(), later.clone());
    let verify = |receipt: &v1::MapReceipt| map_receipt(&ledger.chain, receipt);
    assert_eq!(verify(&absent).unwrap().value, None);
    assert!(verify(&present).unwrap().value.is_some());

    let crossed = v1::MapReceipt {
        checkpoint: Some(later),
        ..absent.clone()
    };
    assert!(matches!(verify(&crossed), Err(VerifyError::Map(_))));
    let crossed = v1::MapReceipt {
        checkpoint: Some(earlier),
        ..present.clone()
    };
    assert!(matches!(verify(&crossed), Err(VerifyError::Map(_))));
    let other_key = v1::MapReceipt {
        key: document(51).to_bytes(),
        ..present.clone()
    };
    assert!(matches!(verify(&other_key), Err(VerifyError::Map(_))));
    let other_namespace = v1::MapReceipt {
        namespace: "code".to_owned(),
        ..present.clone()
    };
    assert!(matches!(verify(&other_namespace), Err(VerifyError::Map(_))));
    // Bytes moved from the namespace to the key.
    let run_together = v1::MapReceipt {
        namespace: "evidenc".to_owned(),
        key: [b"e", key.as_bytes().as_slice()].concat().into(),
        ..present.clone()
    };
    assert!(matches!(verify(&run_together), Err(VerifyError::Map(_))));
    let without = v1::MapReceipt {
        proof: None,
        ..present.clone()
    };
    assert_eq!(verify(&without), Err(VerifyError::Missing("map proof")));
    let without = v1::MapReceipt {
        checkpoint: None,
        ..present
    };
    assert_eq!(verify(&without), Err(VerifyError::Missing("checkpoint")));
}
