//! Who may change whose code, and what stays to be seen of it.
//!
//! Here is what the tests of all rules share; the tests stand by rule.
#![allow(clippy::unwrap_used)]

mod appeals;
mod check_ins;
mod effects;
mod erasure;
mod henan;
mod issues;
mod mandates;
mod orders;
mod past;
mod random;
mod recognition;
mod status;
mod windows;

use bytes::Bytes;
use cairn_proto::v1::{EntryKind, OrderMode, RejectReason};
use prost::Message;

use super::*;
use crate::admission;
use crate::entry::Draft;
use crate::state::Overlay;
use crate::testing::*;

pub(super) const VALID_FOR: u64 = 10_000_000;

pub(super) fn code(n: u8) -> [u8; 32] {
    [n; 32]
}

pub(super) fn codes(range: impl IntoIterator<Item = u8>) -> Vec<[u8; 32]> {
    range.into_iter().map(code).collect()
}

pub(super) fn issue_body(ledger: &Ledger, region: &str, codes: &[[u8; 32]]) -> v1::CodeIssue {
    v1::CodeIssue {
        region: region.to_owned(),
        codes: codes.concat().into(),
        valid_until_ms: ledger.now + VALID_FOR,
        holders: Bytes::new(),
    }
}

pub(super) fn issue(
    ledger: &mut Ledger,
    region: &str,
    codes: &[[u8; 32]],
) -> Result<u64, RejectReason> {
    let body = issue_body(ledger, region, codes);
    submit(ledger, EntryKind::CodeIssue, AUTHORITY, &body)
}

pub(super) fn submit(
    ledger: &mut Ledger,
    kind: EntryKind,
    author: u8,
    body: &impl Message,
) -> Result<u64, RejectReason> {
    signed(ledger, kind, &[], body, &[author])
}

/// By the first of the signers, approved by the others.
pub(super) fn signed(
    ledger: &mut Ledger,
    kind: EntryKind,
    subject: &[u8],
    body: &impl Message,
    signers: &[u8],
) -> Result<u64, RejectReason> {
    let draft = ledger.draft(kind, subject, body);
    let entry = ledger.compose(draft, signers[0], &signers[1..]);
    ledger.submit(entry)
}

/// What the rule says about an entry, where a block would keep no trace of it.
pub(super) fn judged(
    ledger: &Ledger,
    kind: EntryKind,
    subject: &[u8],
    body: &impl Message,
    signers: &[u8],
) -> Result<(), RejectReason> {
    let draft = ledger.draft(kind, subject, body);
    let entry = ledger.compose(draft, signers[0], &signers[1..]);
    let entry = admission::admit(&ledger.chain, entry).unwrap();
    let mut overlay = Overlay::new(&ledger.state);
    let header = crate::apply::tip(&ledger.state).unwrap().unwrap().header;
    let map_root = Hash::from_slice(&header.map_root).unwrap();
    let (chain, kept) = (&ledger.chain, ledger.kept());
    let mut ctx = Ctx::new(chain, ledger.now, 1, &mut overlay, map_root, kept);
    rules::apply_entry(&mut ctx, &entry, 0).unwrap()
}

/// The granters of [`genesis`] who sign here: the author, and who approves.
pub(super) const GRANTERS: [u8; 2] = [GOVERNMENT, NOTARY];

pub(super) fn state(ledger: &Ledger, n: u8) -> Option<v1::CodeState> {
    ledger.map(NAMESPACE, &code(n))
}

/// Codes and the sequences that an order expects of them.
pub(super) type Changes = Vec<([u8; 32], u64)>;

pub(super) fn each(codes: &[[u8; 32]], sequence: u64) -> Changes {
    codes.iter().map(|code| (*code, sequence)).collect()
}

pub(super) fn order_body(region: &str, changes: &[([u8; 32], u64)]) -> v1::StatusOrder {
    v1::StatusOrder {
        region: region.to_owned(),
        reason: "contact".to_owned(),
        legal_basis: "article 12".to_owned(),
        status: CodeStatus::Yellow as i32,
        lapses_at_ms: 0,
        on_lapse: 0,
        evidence_commitment: vec![3; 32].into(),
        appeal_contact: "12345".to_owned(),
        count: changes.len() as u32,
        changes_root: changes_root(changes.iter().copied()).to_bytes(),
        mode: OrderMode::AllOrNothing as i32,
        operator: "desk 7".to_owned(),
        rule_version: "2022-06".to_owned(),
        corrects: Bytes::new(),
    }
}

/// Records an order; its id.
pub(super) fn ordered(ledger: &mut Ledger, body: &v1::StatusOrder, signers: &[u8]) -> Hash {
    let draft = ledger.draft(EntryKind::StatusOrder, &[], body);
    let entry = ledger.compose(draft, signers[0], &signers[1..]);
    ledger.submit(entry.clone()).unwrap();
    id(&entry)
}

/// Orders in [`FREE_REGION`]; the order's id.
pub(super) fn order(ledger: &mut Ledger, author: u8, changes: &[([u8; 32], u64)]) -> Hash {
    ordered(ledger, &order_body(FREE_REGION, changes), &[author])
}

/// Of the chunks of these tests.
const BLIND: [u8; 32] = [17; 32];

/// What the history of code `n` has of `state`, which an order replaced.
pub(super) fn by_order(n: u8, state: &v1::CodeState) -> v1::ReplacedState {
    v1::ReplacedState {
        state: canonical::encode(state),
        blind: history::blind(&BLIND, &code(n)).to_bytes(),
    }
}

/// The same where a check-in released the code.
pub(super) fn by_release(state: &v1::CodeState) -> v1::ReplacedState {
    v1::ReplacedState {
        state: canonical::encode(state),
        ..Default::default()
    }
}

/// What code `n` had before its state of now, newest first.
pub(super) fn past(ledger: &Ledger, n: u8) -> Vec<v1::ReplacedState> {
    let current = state(ledger, n).unwrap();
    history::read(&ledger.state, &code(n), current.sequence, usize::MAX).unwrap()
}

pub(super) fn chunk_draft(
    ledger: &Ledger,
    order: &Hash,
    first: u32,
    changes: &[([u8; 32], u64)],
) -> Draft {
    let (codes, sequences): (Vec<_>, Vec<_>) = changes.iter().copied().unzip();
    let body = v1::StatusChunk {
        order_id: order.to_bytes(),
        first_change: first,
        codes: codes.concat().into(),
        expected_sequences: sequences,
        blind: Bytes::copy_from_slice(&BLIND),
    };
    ledger.draft(EntryKind::StatusChunk, order.as_bytes(), &body)
}

pub(super) fn chunk(
    ledger: &mut Ledger,
    order: &Hash,
    first: u32,
    changes: &[([u8; 32], u64)],
) -> Result<u64, RejectReason> {
    let draft = chunk_draft(ledger, order, first, changes);
    let entry = ledger.compose(draft, AUTHORITY, &[]);
    ledger.submit(entry)
}

/// A ledger with the codes 10 to 29 in [`FREE_REGION`], all green.
pub(super) fn issued() -> (Ledger, Vec<[u8; 32]>) {
    let mut ledger = Ledger::new();
    let all = codes(10..30);
    issue(&mut ledger, FREE_REGION, &all).unwrap();
    (ledger, all)
}

/// How many of the codes 10 to 29 are not as they were issued.
pub(super) fn changed(ledger: &Ledger) -> usize {
    let sequences = (10..30).map(|n| state(ledger, n).unwrap().sequence);
    sequences.filter(|sequence| *sequence != 1).count()
}

/// A day later.
pub(super) fn next_day(ledger: &mut Ledger) {
    ledger.now += DAY_MS;
}

/// The acts of an authority, as its log has them.
pub(super) fn acts_of(ledger: &Ledger, by: u8) -> Vec<v1::AuthorityAct> {
    let log = acts::log_of(&ledger.state, &public(by)).unwrap();
    acts::prove(&ledger.state, &public(by), 0..log.size)
        .unwrap()
        .acts
}
