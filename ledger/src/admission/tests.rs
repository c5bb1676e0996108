//! Every reason why an entry is not admitted, and what admission says of one that is.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::*;

fn reason(ledger: &Ledger, entry: v1::SignedEntry) -> &'static str {
    admit(&ledger.chain, entry).unwrap_err().reason()
}

/// The envelope changed, the signatures as they were: admission finds the first fault.
fn changed(ledger: &Ledger, change: fn(&mut v1::Envelope)) -> v1::SignedEntry {
    let mut entry = ledger.evidence(1);
    let mut envelope: v1::Envelope = canonical::decode(&entry.envelope).unwrap();
    change(&mut envelope);
    entry.envelope = canonical::encode(&envelope);
    entry
}

#[test]
fn an_admitted_entry_is_the_one_handed_in_with_its_id_and_leaf() {
    let ledger = Ledger::new();
    let entry = ledger.compose(ledger.evidence_draft(1), NOTARY, &[HEALTH, GOVERNMENT]);
    let admitted = admit(&ledger.chain, entry.clone()).unwrap();
    assert_eq!(admitted.signed, entry);
    assert_eq!(admitted.id, id(&entry));
    assert_eq!(
        admitted.leaf_hash,
        entry::leaf_hash(&entry.envelope, &entry.signatures)
    );
    assert_eq!(admitted.author_key(), public(NOTARY));
    let mut approvers = [public(HEALTH), public(GOVERNMENT)];
    approvers.sort();
    assert!(
        admitted
            .approvals()
            .eq(approvers.iter().map(|key| &key[..]))
    );
    assert_eq!(canonical::encode(&admitted.envelope), entry.envelope);
}

#[test]
fn the_id_is_the_envelopes_and_the_leaf_is_of_the_signatures_too() {
    let ledger = Ledger::new();
    let draft = ledger.evidence_draft(1);
    let admit = |approvers: &[u8]| {
        let entry = ledger.compose(draft.clone(), NOTARY, approvers);
        admit(&ledger.chain, entry).unwrap()
    };
    let (alone, approved) = (admit(&[]), admit(&[HEALTH]));
    assert_eq!(alone.id, approved.id);
    assert_ne!(alone.leaf_hash, approved.leaf_hash);
}

#[test]
fn an_entry_as_large_as_the_limit_is_admitted_and_no_larger_one() {
    let ledger = Ledger::new();
    let with_body = |len: usize| {
        let mut draft = ledger.evidence_draft(1);
        draft.body = vec![1; len].into();
        ledger.compose(draft, NOTARY, &[])
    };
    let most = MAX_ENTRY_BYTES as usize;
    let around = with_body(most - 400).encoded_len() - (most - 400);
    let largest = with_body(most - around);
    assert_eq!(largest.encoded_len(), most);
    assert!(admit(&ledger.chain, largest).is_ok());
    let error = admit(&ledger.chain, with_body(most - around + 1)).unwrap_err();
    let (size, limit) = (most + 1, MAX_ENTRY_BYTES);
    assert_eq!(error, AdmissionError::TooLarge { size, limit });
}

#[test]
fn each_fault_of_an_envelope_is_named() {
    let ledger = Ledger::new();
    let field = |change| match admit(&ledger.chain, changed(&ledger, change)) {
        Err(AdmissionError::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(|e| e.kind = 0), "kind");
    assert_eq!(field(|e| e.author = vec![1; 31].into()), "author");
    assert_eq!(field(|e| e.nonce = vec![1; 17].into()), "nonce");
    assert_eq!(field(|e| e.nonce = Bytes::new()), "nonce");
    assert_eq!(field(|e| e.not_after_ms = 0), "not_after_ms");
    assert_eq!(field(|e| e.visibility = 0), "visibility");
    assert_eq!(field(|e| e.body_hash = Bytes::new()), "body_hash");
    assert_eq!(field(|e| e.subject = vec![1; 33].into()), "subject");
    let wrong_chain = changed(&ledger, |e| e.chain_id = vec![1; 32].into());
    assert_eq!(reason(&ledger, wrong_chain), "WRONG_CHAIN");
    let body = changed(&ledger, |e| e.body_len += 1);
    assert_eq!(reason(&ledger, body), "BODY_MISMATCH");
    let body = changed(&ledger, |e| e.body_hash = vec![1; 32].into());
    assert_eq!(reason(&ledger, body), "BODY_MISMATCH");
    // Signed by another than the author it names.
    let author = changed(&ledger, |e| e.author = public(HEALTH));
    assert_eq!(reason(&ledger, author), "SIGNATURES_MALFORMED");
    // Anything else that was signed.
    let other = changed(&ledger, |e| e.not_after_ms += 1);
    assert_eq!(reason(&ledger, other), "SIGNATURE_INVALID");
    for bytes in [&[0x78, 1][..], &[0x08, 1], &[0x0a, 0]] {
        let mut entry = ledger.evidence(1);
        entry.envelope = Bytes::copy_from_slice(bytes);
        assert_eq!(reason(&ledger, entry), "ENVELOPE_NOT_CANONICAL");
    }
}

#[test]
fn signatures_are_ascending_few_and_one_authors() {
    let ledger = Ledger::new();
    let with = |change: fn(&mut Vec<v1::Signature>)| {
        let mut entry = ledger.compose(ledger.evidence_draft(1), NOTARY, &[NOTARY, HEALTH]);
        change(&mut entry.signatures);
        admit(&ledger.chain, entry)
    };
    assert!(with(|_| ()).is_ok());
    let malformed: [fn(&mut Vec<v1::Signature>); 8] = [
        |s| s.clear(),
        |s| s.reverse(),
        |s| s.insert(0, s[0].clone()),
        |s| s.retain(|s| s.purpose() != SignaturePurpose::Author),
        |s| s[0].purpose = 0,
        |s| s[0].purpose = 3,
        |s| s[0].signature = s[0].signature.slice(1..),
        |s| s[0].public_key = s[0].public_key.slice(1..),
    ];
    for (at, change) in malformed.into_iter().enumerate() {
        let error = with(change).unwrap_err();
        assert_eq!(error.reason(), "SIGNATURES_MALFORMED", "case {at}");
    }
    let many: Vec<u8> = (20..20 + MAX_SIGNATURES as u8).collect();
    let draft = ledger.evidence_draft(1);
    let most = ledger.compose(draft.clone(), NOTARY, &many[1..]);
    assert!(admit(&ledger.chain, most).is_ok());
    let more = ledger.compose(draft, NOTARY, &many);
    assert_eq!(reason(&ledger, more), "SIGNATURES_MALFORMED");
}

#[test]
fn one_bad_signature_among_good_ones_is_named() {
    let ledger = Ledger::new();
    let entry = ledger.compose(ledger.evidence_draft(1), NOTARY, &[HEALTH, GOVERNMENT]);
    for at in 0..3 {
        let mut bad = entry.clone();
        bad.signatures[at].signature = entry.signatures[(at + 1) % 3].signature.clone();
        let public_key = hex::encode(&bad.signatures[at].public_key);
        let error = admit(&ledger.chain, bad).unwrap_err();
        assert_eq!(error, AdmissionError::BadSignature { public_key });
    }
}
