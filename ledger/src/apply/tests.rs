//! Blocks: what gets an outcome, what leaves no trace, and that every node computes the same.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use proptest::prelude::*;
use prost::Message;
use v1::Visibility;

use super::*;
use crate::testing::*;
use crate::{admission, entry, verify};

fn rooms_of(applied: &Applied) -> Vec<u8> {
    let mut rooms: Vec<u8> = applied.writes.iter().map(|(key, _)| key[0]).collect();
    rooms.sort_unstable();
    rooms.dedup();
    rooms
}

fn outcome(ledger: &Ledger, entry: &v1::SignedEntry) -> Option<EntryOutcome> {
    entry_outcome(&ledger.state, &id(entry)).unwrap()
}

#[test]
fn the_genesis_block_is_a_checkpoint_with_authors_and_mandates() {
    let chain = chain();
    let block = genesis_block(&chain).unwrap();
    assert_eq!(block, genesis_block(&chain).unwrap());
    let header = &block.header;
    assert!(header.checkpoint);
    assert_eq!((header.height, header.term, header.tree_size), (0, 0, 0));
    assert_eq!(header.timestamp_ms, START);
    assert_eq!(header.parent_hash, Hash::ZERO.0[..]);
    assert_eq!(header.log_root, log::empty_root().0[..]);
    assert_eq!(header.chain_id, chain.id.0[..]);
    assert_eq!(header.members_hash, header.next_members_hash);
    assert_eq!(
        block.header_hash,
        checkpoint::header_hash(&block.header_bytes)
    );

    let ledger = Ledger::new();
    assert_eq!(ledger.tip().header_hash, block.header_hash);
    let certified = ledger.certificate(block.header_bytes, &[0, 1, 3]);
    for author in &chain.genesis.authors {
        let key = &author.public_key;
        let receipt = ledger.map_receipt(AUTHOR_NAMESPACE, key, certified.clone());
        let proven = verify::map_receipt(&chain, &receipt).unwrap();
        assert_eq!(proven.value, Some(canonical::encode(author)));
    }
    for mandate in &chain.genesis.mandates {
        let key = code::mandate_key(&mandate.authority, &mandate.region);
        let state: v1::MandateState = ledger.map(code::MANDATE_NAMESPACE, &key).unwrap();
        assert_eq!(
            (state.mandate.as_ref(), state.revoked),
            (Some(mandate), false)
        );
    }
}

#[test]
fn there_is_no_block_before_genesis_or_after_rules_that_are_unknown() {
    let mut ledger = Ledger::new();
    let nothing = MemoryState::default();
    let proposal = ledger.proposal(vec![]);
    let read = Proposal::of(&ledger.chain, proposal.clone(), &|_| false);
    let applied = apply(&ledger.chain, &nothing, ledger.kept(), &read, 1);
    assert_eq!(applied, Err(ApplyError::NoGenesis));

    let mut header = ledger.tip().header;
    header.rules_version += 1;
    let mut overlay = Overlay::new(&ledger.state);
    read::put_tip(&mut overlay, None, &header, &canonical::encode(&header));
    let writes = overlay.into_writes();
    ledger.state.commit(writes);
    assert_eq!(ledger.apply(&proposal), Err(ApplyError::RulesVersion(2)));
}

#[test]
fn accepted_entries_get_the_next_leaves_and_receipts_that_verify() {
    let mut ledger = Ledger::new();
    let mut accepted = Vec::new();
    for block in 0..5 {
        let entries: Vec<_> = (0..4).map(|n| ledger.evidence(4 * block + n)).collect();
        // The same document again is refused, and takes no leaf.
        let refused = ledger.evidence(4 * block);
        let [a, b, c, d] = &entries[..] else {
            unreachable!()
        };
        let mixed = [a, &refused, b, c, &refused, d].map(Clone::clone);
        let applied = ledger.block(mixed.to_vec());
        assert_eq!(applied.outcomes.len(), 5);
        assert_eq!(applied.outcomes[1].rejected(), RejectReason::EvidenceExists);
        accepted.extend(entries);
        assert_eq!(applied.header.tree_size, accepted.len() as u64);
    }
    let leaf = |entry: &v1::SignedEntry| entry::leaf_hash(&entry.envelope, &entry.signatures);
    let leaves: Vec<Hash> = accepted.iter().map(leaf).collect();
    assert_eq!(ledger.tip().header.log_root, log::root_of(&leaves).0[..]);

    let certified = ledger.checkpoint(&[0, 1, 2, 3]);
    for (index, entry) in (0..).zip(&accepted) {
        let receipt = ledger.receipt(index, certified.clone());
        let verified = verify::receipt(&ledger.chain, &receipt, Some(&entry.body)).unwrap();
        assert_eq!((verified.id, verified.leaf_index), (id(entry), index));
        let found = outcome(&ledger, entry).unwrap();
        assert_eq!((found.rejected, found.leaf_index), (0, index));
        let read = read_entry(&ledger.state, index).unwrap().unwrap();
        assert_eq!(
            (read.entry.as_ref(), read.height),
            (Some(entry), found.height)
        );
    }
    assert_eq!(read_entry(&ledger.state, 20).unwrap(), None);
}

#[test]
fn the_outcomes_root_binds_every_outcome_in_order() {
    let mut ledger = Ledger::new();
    let entries = vec![ledger.evidence(1), ledger.evidence(1), ledger.evidence(2)];
    let applied = ledger.block(entries.clone());
    let leaf = |entry: &v1::SignedEntry, reason: u32, index: u64| {
        log::leaf_hash(
            &[
                &id(entry).0[..],
                &reason.to_be_bytes(),
                &index.to_be_bytes(),
            ]
            .concat(),
        )
    };
    let leaves = [
        leaf(&entries[0], 0, 0),
        leaf(&entries[1], RejectReason::EvidenceExists as u32, 0),
        leaf(&entries[2], 0, 1),
    ];
    assert_eq!(applied.header.outcomes_root, log::root_of(&leaves).0[..]);
}

#[test]
fn an_entry_counts_up_to_its_not_after_and_no_further_ahead_than_the_limit() {
    let mut ledger = Ledger::new();
    let at = ledger.now + 10;
    let entry = |n, not_after_ms| {
        let draft = entry::Draft {
            not_after_ms,
            ..ledger.evidence_draft(n)
        };
        ledger.compose(draft, NOTARY, &[])
    };
    let entries = vec![
        entry(0, at),
        entry(1, at - 1),
        entry(2, at + LIFETIME),
        entry(3, at + LIFETIME + 1),
        entry(4, u64::MAX),
    ];
    let applied = ledger.block(entries);
    assert_eq!(applied.header.timestamp_ms, at);
    let reasons: Vec<_> = applied.outcomes.iter().map(|o| o.rejected()).collect();
    assert_eq!(
        reasons,
        [
            RejectReason::Unspecified,
            RejectReason::Expired,
            RejectReason::Unspecified,
            RejectReason::NotAfterTooFar,
            RejectReason::NotAfterTooFar,
        ]
    );
}

#[test]
fn a_leader_that_holds_an_entry_back_makes_it_expire() {
    let mut ledger = Ledger::new();
    let entry = ledger.evidence(1);
    let mut proposal = ledger.proposal(vec![entry]);
    proposal.timestamp_ms = ledger.now + PATIENCE + 1;
    let applied = ledger.run(&proposal);
    assert_eq!(applied.outcomes[0].rejected(), RejectReason::Expired);
    assert!(!has_document(&ledger, 1));
}

#[test]
fn a_body_that_is_not_canonical_is_refused_in_every_kind() {
    let kinds = (1..=32).filter_map(|n| EntryKind::try_from(n).ok());
    let mut seen = 0;
    for kind in kinds {
        let mut ledger = Ledger::new();
        let mut draft = ledger.draft(kind, &[], &v1::Evidence::default());
        // No message has a field 31.
        draft.body = Bytes::from_static(&[0xf8, 0x01, 0x01]);
        let entry = ledger.compose(draft, AUTHORITY, &[]);
        assert_eq!(
            ledger.submit(entry),
            Err(RejectReason::BodyMalformed),
            "{kind:?}"
        );
        seen += 1;
    }
    assert_eq!(seen, 17);
}

#[test]
fn an_outcome_is_for_ever_and_recorded_once() {
    let mut ledger = Ledger::new();
    // Refused now; ten seconds later it would be accepted.
    let draft = entry::Draft {
        not_after_ms: ledger.now + LIFETIME + 5_000,
        ..ledger.evidence_draft(1)
    };
    let early = ledger.compose(draft, NOTARY, &[]);
    let good = ledger.evidence(2);
    let applied = ledger.block(vec![
        early.clone(),
        good.clone(),
        early.clone(),
        good.clone(),
    ]);
    assert_eq!(applied.outcomes.len(), 2);
    let before = [outcome(&ledger, &early), outcome(&ledger, &good)];
    assert_eq!(
        before[0].unwrap().rejected,
        RejectReason::NotAfterTooFar as i32
    );
    assert_eq!(before[1].unwrap().rejected, 0);

    ledger.now += 10_000;
    let again = ledger.proposal(vec![early.clone(), good.clone()]);
    let nothing = ledger.proposal(vec![]);
    assert!(ledger.apply(&again) == ledger.apply(&nothing));
    ledger.run(&again);
    assert_eq!([outcome(&ledger, &early), outcome(&ledger, &good)], before);
    assert!(!has_document(&ledger, 1));
}

/// The envelope changed and signed anew, so that nothing but the change is wrong.
fn with_envelope(ledger: &Ledger, change: impl FnOnce(&mut v1::Envelope)) -> v1::SignedEntry {
    let mut entry = ledger.evidence(1);
    let mut envelope: v1::Envelope = canonical::decode(&entry.envelope).unwrap();
    change(&mut envelope);
    entry.envelope = canonical::encode(&envelope);
    sign_anew(ledger, entry)
}

fn sign_anew(ledger: &Ledger, mut entry: v1::SignedEntry) -> v1::SignedEntry {
    let author = v1::SignaturePurpose::Author;
    let signed = entry::sign(&key(NOTARY), &ledger.chain.id, author, &entry.envelope);
    entry.signatures = vec![signed];
    entry
}

/// What no node may record, with every signature valid.
fn malformed(ledger: &Ledger) -> Vec<(&'static str, v1::SignedEntry)> {
    let change = |change: fn(&mut v1::SignedEntry)| {
        let mut entry = ledger.compose(ledger.evidence_draft(1), NOTARY, &[HEALTH]);
        change(&mut entry);
        entry
    };
    let mut not_canonical = ledger.evidence(1);
    not_canonical.envelope = [&not_canonical.envelope[..], &[0x78, 0x01]].concat().into();
    let mut large = ledger.evidence_draft(1);
    large.body = vec![0; MAX_ENTRY_BYTES as usize].into();
    vec![
        (
            "a stranger",
            ledger.compose(ledger.evidence_draft(1), STRANGER, &[]),
        ),
        (
            "a stranger's approval",
            ledger.compose(ledger.evidence_draft(1), NOTARY, &[STRANGER]),
        ),
        (
            "wrong chain",
            with_envelope(ledger, |e| e.chain_id = Hash::ZERO.to_bytes()),
        ),
        ("no kind", with_envelope(ledger, |e| e.kind = 0)),
        (
            "short nonce",
            with_envelope(ledger, |e| e.nonce = vec![1; 15].into()),
        ),
        (
            "no not_after",
            with_envelope(ledger, |e| e.not_after_ms = 0),
        ),
        ("no visibility", with_envelope(ledger, |e| e.visibility = 0)),
        (
            "short subject",
            with_envelope(ledger, |e| e.subject = vec![1; 31].into()),
        ),
        (
            "wrong body length",
            with_envelope(ledger, |e| e.body_len += 1),
        ),
        (
            "wrong body hash",
            with_envelope(ledger, |e| e.body_hash = vec![1; 32].into()),
        ),
        (
            "another author",
            with_envelope(ledger, |e| e.author = public(HEALTH)),
        ),
        ("not canonical", sign_anew(ledger, not_canonical)),
        ("too large", ledger.compose(large, NOTARY, &[])),
        ("another body", change(|e| e.body = vec![1; 9].into())),
        ("no signatures", change(|e| e.signatures.clear())),
        ("not ascending", change(|e| e.signatures.reverse())),
        (
            "twice the same",
            change(|e| e.signatures[1] = e.signatures[0].clone()),
        ),
        ("an empty entry", v1::SignedEntry::default()),
    ]
}

/// What is wrong only with the signatures.
fn badly_signed(ledger: &Ledger) -> Vec<(&'static str, v1::SignedEntry)> {
    let change = |change: fn(&mut [u8])| {
        let mut entry = ledger.evidence(1);
        let mut bytes = entry.signatures[0].signature.to_vec();
        change(&mut bytes);
        entry.signatures[0].signature = bytes.into();
        entry
    };
    let author = v1::SignaturePurpose::Author;
    let mut replayed = ledger.evidence(1);
    let signed = entry::sign(&key(NOTARY), &Hash::ZERO, author, &replayed.envelope);
    replayed.signatures = vec![signed];
    // What a health office signed as an author, shown as its approval.
    let mut other_office = ledger.compose(order_to_approve(ledger), AUTHORITY, &[HEALTH]);
    let as_author = entry::sign(
        &key(HEALTH),
        &ledger.chain.id,
        author,
        &other_office.envelope,
    );
    for signature in &mut other_office.signatures {
        if signature.public_key == as_author.public_key {
            signature.signature = as_author.signature.clone();
        }
    }
    vec![
        ("a bit of R", change(|s| s[0] ^= 1)),
        ("a bit of S", change(|s| s[32] ^= 1)),
        ("zeros", change(|s| s.fill(0))),
        ("for another chain", replayed),
        ("for another office", other_office),
    ]
}

#[test]
fn what_is_malformed_unknown_or_badly_signed_leaves_no_trace() {
    let ledger = Ledger::new();
    let good = ledger.evidence(2);
    let without = ledger.apply(&ledger.proposal(vec![good.clone()])).unwrap();
    let all = malformed(&ledger).into_iter().chain(badly_signed(&ledger));
    for (what, bad) in all {
        let with = ledger.proposal(vec![bad.clone(), good.clone(), bad]);
        assert!(ledger.apply(&with).unwrap() == without, "{what}");
    }
}

/// An order that needs the approval of a health office.
fn order_to_approve(ledger: &Ledger) -> entry::Draft {
    let body = v1::StatusOrder {
        region: REGION.to_owned(),
        reason: "contact".to_owned(),
        legal_basis: "article 12".to_owned(),
        status: v1::CodeStatus::Yellow as i32,
        lapses_at_ms: ledger.now + 1_000,
        on_lapse: v1::CodeStatus::Green as i32,
        evidence_commitment: vec![3; 32].into(),
        appeal_contact: "12345".to_owned(),
        count: 1,
        changes_root: vec![4; 32].into(),
        mode: v1::OrderMode::AllOrNothing as i32,
        operator: "desk 7".to_owned(),
        rule_version: "2022-06".to_owned(),
        corrects: Bytes::new(),
    };
    ledger.draft(EntryKind::StatusOrder, &[], &body)
}

#[test]
fn who_strips_or_adds_an_approval_cannot_spend_the_entrys_id() {
    let mut ledger = Ledger::new();
    let draft = order_to_approve(&ledger);
    let approved_by = |approvers: &[u8]| ledger.compose(draft.clone(), AUTHORITY, approvers);
    let without = ledger.apply(&ledger.proposal(vec![])).unwrap();
    let full = approved_by(&[HEALTH]);
    let mut unsigned = full.clone();
    unsigned.signatures.clear();
    let stripped = approved_by(&[]);
    let exchanged = approved_by(&[NOTARY]);
    let added = approved_by(&[HEALTH, NOTARY]);
    for altered in [unsigned, stripped, exchanged, added] {
        assert_eq!(id(&altered), id(&full));
        let first = ledger.proposal(vec![altered.clone()]);
        assert!(ledger.apply(&first).unwrap() == without);
        let both = ledger.proposal(vec![altered, full.clone()]);
        let alone = ledger.proposal(vec![full.clone()]);
        assert!(ledger.apply(&both) == ledger.apply(&alone));
    }
    assert_eq!(ledger.submit(full), Ok(0));
}

#[test]
fn admitted_before_spares_the_signatures_and_nothing_else() {
    let ledger = Ledger::new();
    let apply_known = |entries: Vec<v1::SignedEntry>, known: &dyn Fn(&Hash) -> bool| {
        let proposal = Proposal::of(&ledger.chain, ledger.proposal(entries), known);
        apply(&ledger.chain, &ledger.state, ledger.kept(), &proposal, 1).unwrap()
    };
    let apply_admitted = |entries| apply_known(entries, &|_| true);
    let nothing = apply_admitted(vec![]);
    for (what, entry) in malformed(&ledger) {
        assert!(apply_admitted(vec![entry]) == nothing, "{what}");
    }
    for (what, entry) in badly_signed(&ledger) {
        // A node that lied to itself would record it: the answer is trusted, and asked for by leaf.
        assert_eq!(
            apply_admitted(vec![entry.clone()]).outcomes.len(),
            1,
            "{what}"
        );
        let leaf = entry::leaf_hash(&entry.envelope, &entry.signatures);
        let applied = apply_known(vec![entry], &|asked| *asked != leaf);
        assert!(applied == nothing, "{what}");
    }
    let good = vec![ledger.evidence(1), ledger.evidence(1), ledger.evidence(2)];
    assert_eq!(
        apply_admitted(good.clone()),
        ledger.apply(&ledger.proposal(good)).unwrap()
    );
}

#[test]
fn a_refused_entry_writes_nothing_but_itself_and_its_outcome() {
    let mut ledger = Ledger::new();
    ledger.block(vec![ledger.evidence(1)]);
    let mut expired = ledger.evidence_draft(2);
    expired.not_after_ms = ledger.now;
    let mut malformed = ledger.evidence_draft(3);
    malformed.body = Bytes::from_static(&[1]);
    let entries = vec![
        ledger.evidence(1),
        ledger.compose(expired, NOTARY, &[]),
        ledger.compose(malformed, NOTARY, &[]),
        ledger.compose(
            ledger.draft(EntryKind::Evidence, &[], &v1::Evidence::default()),
            NOTARY,
            &[],
        ),
    ];
    let before = ledger.tip().header;
    let applied = ledger.block(entries);
    assert!(applied.outcomes.iter().all(|o| o.rejected != 0));
    assert_eq!(applied.outcomes.len(), 4);
    assert_eq!(applied.header.map_root, before.map_root);
    assert_eq!(applied.header.log_root, before.log_root);
    assert_eq!(
        rooms_of(&applied),
        [rooms::ENTRY, rooms::BLOCK, rooms::TIP, rooms::OUTCOME]
    );
}

#[test]
fn time_never_falls_and_every_header_names_its_parent() {
    let mut ledger = Ledger::new();
    let mut parent = ledger.tip();
    for (at, expected) in [
        (START + 50, START + 50),
        (START, START + 50),
        (0, START + 50),
        (START + 60, START + 60),
        (START + 59, START + 60),
    ] {
        let mut proposal = ledger.proposal(vec![]);
        proposal.timestamp_ms = at;
        let applied = ledger.run(&proposal);
        assert_eq!(applied.header.timestamp_ms, expected);
        assert_eq!(applied.header.parent_hash, parent.header_hash.0[..]);
        assert_eq!(applied.header.height, parent.header.height + 1);
        parent = ledger.tip();
        assert_eq!(parent.header_hash, applied.header_hash);
        assert_eq!(parent.header, applied.header);
        let bytes = header_at(&ledger.state, applied.header.height).unwrap();
        assert_eq!(bytes, Some(applied.header_bytes));
    }
}

#[test]
fn a_checkpoint_is_due_after_so_many_blocks_whatever_the_leader_wants() {
    let mut ledger = Ledger::new();
    let mut heights = Vec::new();
    for _ in 0..30 {
        let mut proposal = ledger.proposal(vec![]);
        proposal.timestamp_ms = ledger.now;
        // The leader flags one by itself, and the count starts again.
        proposal.checkpoint = ledger.tip().header.height == 10;
        let header = ledger.run(&proposal).header;
        if header.checkpoint {
            heights.push(header.height);
        }
        let tip = ledger.tip();
        assert_eq!(tip.last_checkpoint_height, *heights.last().unwrap_or(&0));
    }
    assert_eq!(heights, [8, 11, 19, 27]);
}

#[test]
fn a_checkpoint_is_due_after_so_much_ledger_time_whatever_the_leader_wants() {
    let mut ledger = Ledger::new();
    let steps = [
        (CHECKPOINT_EVERY_MS - 1, false),
        (1, true),
        (CHECKPOINT_EVERY_MS - 1, false),
        (0, false),
        (500, true),
        (CHECKPOINT_EVERY_MS * 9, true),
    ];
    for (step, (after, checkpoint)) in steps.into_iter().enumerate() {
        let mut proposal = ledger.proposal(vec![]);
        proposal.timestamp_ms = ledger.now + after;
        assert_eq!(
            ledger.run(&proposal).header.checkpoint,
            checkpoint,
            "{step}"
        );
    }
}

#[test]
fn a_certificate_is_kept_if_it_is_valid_and_changes_nothing_if_it_is_not() {
    let mut ledger = Ledger::new();
    ledger.block(vec![ledger.evidence(1)]);
    let good = ledger.checkpoint(&[0, 1, 3]);
    let mut unknown = v1::Header::decode(&good.header[..]).unwrap();
    unknown.height += 1;
    let few = ledger.certificate(good.header.clone(), &[0, 1]);
    let future = ledger.certificate(canonical::encode(&unknown), &[0, 1, 3]);
    let mut forged = good.clone();
    forged.cosignatures[0].cosigned_at_ms += 1;

    let without = ledger.apply(&ledger.proposal(vec![])).unwrap();
    for bad in [few, future, forged, v1::Checkpoint::default()] {
        let mut proposal = ledger.proposal(vec![]);
        proposal.certificate = Some(bad);
        assert!(ledger.apply(&proposal).unwrap() == without);
    }
    let mut proposal = ledger.proposal(vec![]);
    proposal.certificate = Some(good.clone());
    let applied = ledger.run(&proposal);
    // No lottery waits for it here: the header is the same, the certificate is beside it.
    assert_eq!(applied.header, without.header);
    let kept = read_block(&ledger.state, applied.header.height).unwrap();
    assert_eq!(kept.unwrap().proposal.unwrap().certificate, Some(good));
}

#[test]
fn a_valid_certificate_for_another_header_of_ours_stops_the_node() {
    let mut ledger = Ledger::new();
    let ours = ledger.checkpoint(&[0, 1, 3]).header;
    let computed = checkpoint::header_hash(&ours);
    let mut other = v1::Header::decode(&ours[..]).unwrap();
    other.map_root = Hash([1; 32]).to_bytes();
    let other = canonical::encode(&other);
    ledger.block(vec![ledger.evidence(1)]);

    let mut proposal = ledger.proposal(vec![]);
    proposal.certificate = Some(ledger.certificate(other.clone(), &[0, 1, 3]));
    let stopped = Err(ApplyError::CertifiedOtherwise {
        height: 1,
        certified: checkpoint::header_hash(&other),
        computed,
    });
    assert_eq!(ledger.apply(&proposal), stopped);
    // One institution's word is not enough to stop anyone.
    proposal.certificate = Some(ledger.certificate(other, &[0]));
    assert!(ledger.apply(&proposal).is_ok());
}

#[test]
fn a_block_takes_no_more_entries_than_the_genesis_allows() {
    let ledger = Ledger::new();
    let most = u64::from(MAX_BLOCK_ENTRIES);
    let entries: Vec<_> = (0..most + 5).map(|n| ledger.evidence(n)).collect();
    let applied = ledger.apply(&ledger.proposal(entries.clone())).unwrap();
    let allowed = entries[..most as usize].to_vec();
    assert!(applied == ledger.apply(&ledger.proposal(allowed)).unwrap());
    assert_eq!(applied.header.tree_size, most);
}

/// A state whose n-th read fails.
struct Failing<'a> {
    state: &'a MemoryState,
    reads_left: Cell<u64>,
}

impl Failing<'_> {
    fn read(&self) -> Result<(), StateError> {
        let left = self.reads_left.get().checked_sub(1);
        self.reads_left
            .set(left.ok_or(StateError::Io("planted".to_owned()))?);
        Ok(())
    }
}

impl StateRead for Failing<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.read()?;
        self.state.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        self.read()?;
        self.state.scan(prefix, from, limit)
    }
}

#[test]
fn a_read_that_fails_stops_the_block_and_decides_nothing() {
    let mut ledger = Ledger::new();
    ledger.block((0..5).map(|n| ledger.evidence(n)).collect());
    let mut proposal = ledger.proposal(vec![ledger.evidence(9), ledger.evidence(0)]);
    let header = header_at(&ledger.state, 0).unwrap().unwrap();
    proposal.certificate = Some(ledger.certificate(header, &[0, 1, 2]));
    let expected = ledger.apply(&proposal).unwrap();
    let mut fewest = None;
    for reads in 0..1_000 {
        let failing = Failing {
            state: &ledger.state,
            reads_left: Cell::new(reads),
        };
        match replay(&ledger.chain, &failing, &proposal, 1) {
            Ok(applied) => {
                assert_eq!(applied, expected);
                fewest = Some(reads);
                break;
            }
            Err(error) => assert_eq!(
                error,
                ApplyError::State(StateError::Io("planted".to_owned())),
                "after {reads} reads"
            ),
        }
    }
    assert!(fewest.unwrap() > 10);
}

/// What a random block is made of.
#[derive(Debug, Clone)]
enum Op {
    Evidence(u64),
    EvidenceApproved(u64),
    Again(usize),
    Expired(u64),
    Malformed,
    Stranger,
    BadSignature,
    Issue(u8),
    Restricted(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u64..40).prop_map(Op::Evidence),
        1 => (0u64..40).prop_map(Op::EvidenceApproved),
        2 => any::<usize>().prop_map(Op::Again),
        1 => (0u64..40).prop_map(Op::Expired),
        1 => Just(Op::Malformed),
        1 => Just(Op::Stranger),
        1 => Just(Op::BadSignature),
        2 => any::<u8>().prop_map(Op::Issue),
        1 => (0u64..40).prop_map(Op::Restricted),
    ]
}

fn entry_of(ledger: &Ledger, op: &Op, before: &[v1::SignedEntry]) -> v1::SignedEntry {
    match op {
        Op::Evidence(n) => ledger.evidence(*n),
        Op::EvidenceApproved(n) => ledger.compose(ledger.evidence_draft(*n), NOTARY, &[HEALTH]),
        Op::Again(n) if !before.is_empty() => before[n % before.len()].clone(),
        Op::Again(_) | Op::Stranger => ledger.compose(ledger.evidence_draft(1), STRANGER, &[]),
        Op::Expired(n) => {
            let mut draft = ledger.evidence_draft(*n);
            draft.not_after_ms = ledger.now;
            ledger.compose(draft, NOTARY, &[])
        }
        Op::Malformed => {
            let mut draft = ledger.evidence_draft(1);
            draft.body = Bytes::from_static(&[7]);
            ledger.compose(draft, NOTARY, &[])
        }
        Op::BadSignature => {
            let mut entry = ledger.evidence(1);
            entry.signatures[0].signature = vec![1; 64].into();
            entry
        }
        Op::Issue(n) => {
            let body = v1::CodeIssue {
                region: FREE_REGION.to_owned(),
                codes: [[*n; 32], [n.saturating_add(1); 32]].concat().into(),
                valid_until_ms: ledger.now + 1_000_000,
                holders: Bytes::new(),
            };
            ledger.compose(
                ledger.draft(EntryKind::CodeIssue, &[], &body),
                AUTHORITY,
                &[],
            )
        }
        Op::Restricted(n) => {
            let mut draft = ledger.evidence_draft(*n);
            draft.visibility = Visibility::Restricted;
            ledger.compose(draft, INSTITUTE, &[])
        }
    }
}

/// The same pairs held otherwise: half of them in an overlay.
fn split(state: &MemoryState) -> (MemoryState, Writes) {
    let (mut below, mut above) = (MemoryState::default(), Writes::new());
    for (at, (key, value)) in state.pairs().iter().enumerate() {
        if at % 2 == 0 {
            below.commit(Writes::from([(key.clone(), Bytes::from_static(b"old"))]));
            above.push((key.clone(), value.clone()));
        } else {
            below.commit(Writes::from([(key.clone(), value.clone())]));
        }
    }
    (below, above)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_node_and_every_replay_computes_the_same_blocks(
        blocks in proptest::collection::vec(
            (proptest::collection::vec(op(), 0..8), 0u64..400, any::<bool>(), 1u64..4), 1..6),
    ) {
        let mut ledger = Ledger::new();
        let mut history = Vec::new();
        for (ops, after, flag, term) in &blocks {
            let mut proposal = ledger.proposal(vec![]);
            for op in ops {
                let entry = entry_of(&ledger, op, &history);
                history.push(entry.clone());
                proposal.entries.push(entry);
            }
            proposal.timestamp_ms += after;
            proposal.checkpoint = *flag;
            let tip = ledger.tip();
            if tip.header.checkpoint {
                let header = header_at(&ledger.state, tip.header.height).unwrap().unwrap();
                proposal.certificate = Some(ledger.certificate(header, &[1, 2, 3]));
            }
            let read = Proposal::of(&ledger.chain, proposal.clone(), &|_| false);
            let applied = apply(&ledger.chain, &ledger.state, ledger.kept(), &read, *term).unwrap();
            // A node that admitted the good ones before, on a state that is held otherwise.
            let good = |leaf: &Hash| {
                proposal.entries.iter().any(|signed| {
                    admission::admit(&ledger.chain, signed.clone()).is_ok_and(|a| a.leaf_hash == *leaf)
                })
            };
            let (below, above) = split(&ledger.state);
            let mut elsewhere = Overlay::new(&below);
            elsewhere.extend(above);
            let fresh = Fresh::new();
            let read = Proposal::read(&ledger.chain, &canonical::encode(&proposal), &good);
            let there = apply(&ledger.chain, &elsewhere, fresh.kept(), &read, *term).unwrap();
            prop_assert!(there == applied);
            ledger.commit(applied);
        }

        let mut replayed = Ledger::new();
        for height in 0..=ledger.tip().header.height {
            let block = read_block(&ledger.state, height).unwrap().unwrap();
            let header: v1::Header = canonical::decode(&block.header).unwrap();
            if let Some(proposal) = &block.proposal {
                let read = Proposal::of(&replayed.chain, proposal.clone(), &|_| false);
                let again = apply(&replayed.chain, &replayed.state, replayed.kept(), &read, header.term);
                let again = again.unwrap();
                prop_assert_eq!(&again.header_bytes, &block.header);
                prop_assert_eq!(&again.outcomes, &block.outcomes);
                replayed.commit(again);
            }
            prop_assert_eq!(read_block(&replayed.state, height).unwrap().unwrap(), block);
        }
        prop_assert!(replayed.state.pairs() == ledger.state.pairs());
        prop_assert_eq!(read_block(&ledger.state, blocks.len() as u64 + 1).unwrap(), None);
    }
}
