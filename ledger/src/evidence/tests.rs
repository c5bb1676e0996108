//! A document is recorded once, under its own hash, by anyone who is registered.
#![allow(clippy::unwrap_used)]

use v1::EntryKind;

use super::*;
use crate::testing::*;

fn body() -> v1::Evidence {
    v1::Evidence {
        hash: document(1).to_bytes(),
        media_type: "video/mp4".to_owned(),
        title: "The draw".to_owned(),
        custodian: "The notary".to_owned(),
    }
}

fn submit(ledger: &mut Ledger, subject: &[u8], body: &v1::Evidence) -> Result<u64, RejectReason> {
    let draft = ledger.draft(EntryKind::Evidence, subject, body);
    let entry = ledger.compose(draft, INSTITUTE, &[]);
    ledger.submit(entry)
}

#[test]
fn the_first_record_of_a_document_stands() {
    let mut ledger = Ledger::new();
    ledger.block(vec![ledger.evidence(7)]);
    assert_eq!(submit(&mut ledger, &body().hash, &body()), Ok(1));
    let recorded_at = ledger.now;
    let state = v1::EvidenceState {
        leaf_index: 1,
        timestamp_ms: recorded_at,
        author: public(INSTITUTE),
    };
    let found = |ledger: &Ledger| ledger.map::<v1::EvidenceState>(NAMESPACE, &body().hash);
    assert_eq!(found(&ledger), Some(state.clone()));
    for author in [INSTITUTE, HEALTH] {
        let again = ledger.compose(ledger.evidence_draft(1), author, &[]);
        assert_eq!(ledger.submit(again), Err(RejectReason::EvidenceExists));
    }
    assert_eq!(found(&ledger), Some(state));
}

#[test]
fn twice_in_one_block_the_first_stands() {
    let mut ledger = Ledger::new();
    let applied = ledger.block(vec![ledger.evidence(1), ledger.evidence(1)]);
    let reasons: Vec<_> = applied.outcomes.iter().map(|o| o.rejected()).collect();
    assert_eq!(
        reasons,
        [RejectReason::Unspecified, RejectReason::EvidenceExists]
    );
}

#[test]
fn the_subject_is_the_documents_hash() {
    let mut ledger = Ledger::new();
    for subject in [&[][..], document(2).as_bytes()] {
        assert_eq!(
            submit(&mut ledger, subject, &body()),
            Err(RejectReason::SubjectMismatch)
        );
    }
}

#[test]
fn a_hash_has_32_bytes_and_texts_have_a_bound() {
    let mut ledger = Ledger::new();
    let too_long = "x".repeat(MAX_TEXT + 1);
    let changes: [&dyn Fn(&mut v1::Evidence); 6] = [
        &|e| e.hash = Bytes::new(),
        &|e| e.hash = vec![1; 31].into(),
        &|e| e.hash = vec![1; 33].into(),
        &|e| e.media_type = too_long.clone(),
        &|e| e.title = too_long.clone(),
        &|e| e.custodian = too_long.clone(),
    ];
    for change in changes {
        let mut body = body();
        change(&mut body);
        let subject = document(1);
        assert_eq!(
            submit(&mut ledger, subject.as_bytes(), &body),
            Err(RejectReason::FieldOutOfRange)
        );
    }
    let mut longest = body();
    longest.title = "x".repeat(MAX_TEXT);
    assert_eq!(submit(&mut ledger, &longest.hash, &longest), Ok(0));
}
