//! Who may change whose code, and that an order takes effect whole or not at all.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use cairn_proto::v1::{EntryKind, RejectReason};
use proptest::prelude::*;

use super::*;
use crate::entry::Draft;
use crate::state::Overlay;
use crate::testing::*;
use crate::{admission, apply, rooms, verify};

const VALID_FOR: u64 = 10_000_000;

fn code(n: u8) -> [u8; 32] {
    [n; 32]
}

fn codes(range: impl IntoIterator<Item = u8>) -> Vec<[u8; 32]> {
    range.into_iter().map(code).collect()
}

fn issue_body(ledger: &Ledger, region: &str, codes: &[[u8; 32]]) -> v1::CodeIssue {
    v1::CodeIssue {
        region: region.to_owned(),
        codes: codes.concat().into(),
        valid_until_ms: ledger.now + VALID_FOR,
    }
}

fn issue(ledger: &mut Ledger, region: &str, codes: &[[u8; 32]]) -> Result<u64, RejectReason> {
    let body = issue_body(ledger, region, codes);
    submit(ledger, EntryKind::CodeIssue, AUTHORITY, &body)
}

fn submit(
    ledger: &mut Ledger,
    kind: EntryKind,
    author: u8,
    body: &impl prost::Message,
) -> Result<u64, RejectReason> {
    let entry = ledger.compose(ledger.draft(kind, &[], body), author, &[]);
    ledger.submit(entry)
}

fn state(ledger: &Ledger, n: u8) -> Option<v1::CodeState> {
    ledger.map(NAMESPACE, &code(n))
}

/// Codes and the sequences that an order expects of them.
type Changes = Vec<([u8; 32], u64)>;

fn each(codes: &[[u8; 32]], sequence: u64) -> Changes {
    codes.iter().map(|code| (*code, sequence)).collect()
}

fn order_body(region: &str, changes: &[([u8; 32], u64)]) -> v1::StatusOrder {
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
    }
}

/// Orders in [`FREE_REGION`]; the order's id.
fn order(ledger: &mut Ledger, author: u8, changes: &[([u8; 32], u64)]) -> Hash {
    let body = order_body(FREE_REGION, changes);
    let draft = ledger.draft(EntryKind::StatusOrder, &[], &body);
    let entry = ledger.compose(draft, author, &[]);
    ledger.submit(entry.clone()).unwrap();
    id(&entry)
}

fn chunk_draft(ledger: &Ledger, order: &Hash, first: u32, changes: &[([u8; 32], u64)]) -> Draft {
    let (codes, sequences): (Vec<_>, Vec<_>) = changes.iter().copied().unzip();
    let body = v1::StatusChunk {
        order_id: order.to_bytes(),
        first_change: first,
        codes: codes.concat().into(),
        expected_sequences: sequences,
    };
    ledger.draft(EntryKind::StatusChunk, order.as_bytes(), &body)
}

fn chunk(
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
fn issued() -> (Ledger, Vec<[u8; 32]>) {
    let mut ledger = Ledger::new();
    let all = codes(10..30);
    issue(&mut ledger, FREE_REGION, &all).unwrap();
    (ledger, all)
}

/// How many of the codes 10 to 29 are not as they were issued.
fn changed(ledger: &Ledger) -> usize {
    let sequences = (10..30).map(|n| state(ledger, n).unwrap().sequence);
    sequences.filter(|sequence| *sequence != 1).count()
}

#[test]
fn issued_codes_are_green_from_now_until_their_end() {
    let (ledger, _) = issued();
    let expected = v1::CodeState {
        status: CodeStatus::Green as i32,
        sequence: 1,
        valid_from_ms: ledger.now,
        valid_until_ms: ledger.now - 10 + VALID_FOR,
        region: FREE_REGION.to_owned(),
        ..Default::default()
    };
    assert!((10..30).all(|n| state(&ledger, n).as_ref() == Some(&expected)));
    assert_eq!(state(&ledger, 9), None);
}

#[test]
fn an_issue_with_one_code_that_exists_issues_none() {
    let (mut ledger, _) = issued();
    let mixed = [code(5), code(20), code(40)];
    let refused = issue(&mut ledger, FREE_REGION, &mixed);
    assert_eq!(refused, Err(RejectReason::CodeExists));
    assert_eq!((state(&ledger, 5), state(&ledger, 40)), (None, None));
    // Two issues of one code in one block: the first stands.
    let twice: Vec<_> = (0..2)
        .map(|_| {
            let body = issue_body(&ledger, FREE_REGION, &[code(50)]);
            ledger.compose(
                ledger.draft(EntryKind::CodeIssue, &[], &body),
                AUTHORITY,
                &[],
            )
        })
        .collect();
    let applied = ledger.block(twice);
    assert_eq!(applied.outcomes[0].rejected, 0);
    assert_eq!(applied.outcomes[1].rejected(), RejectReason::CodeExists);
}

#[test]
fn codes_are_issued_by_an_authority_in_its_region_ascending_and_for_a_while() {
    let mut ledger = Ledger::new();
    let good = issue_body(&ledger, FREE_REGION, &codes(1..3));
    let by = |ledger: &mut Ledger, author, body: &v1::CodeIssue| {
        submit(ledger, EntryKind::CodeIssue, author, body)
    };
    let with = |change: &dyn Fn(&mut v1::CodeIssue)| {
        let mut body = good.clone();
        change(&mut body);
        body
    };
    for author in [HEALTH, NOTARY, GOVERNMENT] {
        assert_eq!(
            by(&mut ledger, author, &good),
            Err(RejectReason::RoleNotAllowed)
        );
    }
    let other_region = with(&|b| b.region = REGION.to_owned());
    let outside = Err(RejectReason::OutsideMandate);
    assert_eq!(by(&mut ledger, OTHER_AUTHORITY, &other_region), outside);
    let no_region = with(&|b| b.region.clear());
    assert_eq!(by(&mut ledger, AUTHORITY, &no_region), outside);
    let out_of_range: [&dyn Fn(&mut v1::CodeIssue); 6] = [
        &|b| b.codes = Bytes::new(),
        &|b| b.codes = b.codes.slice(1..),
        &|b| b.codes = [code(2), code(1)].concat().into(),
        &|b| b.codes = [code(2), code(2)].concat().into(),
        &|b| b.codes = vec![1; 32 * (MAX_CHUNK_CODES + 1)].into(),
        &|b| b.valid_until_ms = START,
    ];
    for (at, change) in out_of_range.into_iter().enumerate() {
        let refused = by(&mut ledger, AUTHORITY, &with(change));
        assert_eq!(refused, Err(RejectReason::FieldOutOfRange), "case {at}");
    }
    let draft = ledger.draft(EntryKind::CodeIssue, &[1; 32], &good);
    let entry = ledger.compose(draft, AUTHORITY, &[]);
    assert_eq!(ledger.submit(entry), Err(RejectReason::SubjectMismatch));
    // As many as one entry may have, and valid for one more millisecond than the block.
    let numbered = (0..MAX_CHUNK_CODES as u32).map(|n| {
        let mut code = [0; 32];
        code[..4].copy_from_slice(&n.to_be_bytes());
        code
    });
    let mut most = issue_body(&ledger, FREE_REGION, &numbered.collect::<Vec<_>>());
    most.valid_until_ms = ledger.now + 11;
    assert!(by(&mut ledger, AUTHORITY, &most).is_ok());
}

#[test]
fn an_order_takes_effect_with_its_last_chunk() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..9], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    assert_eq!(chunk(&mut ledger, &order, 0, &changes[..4]), Ok(2));
    assert_eq!(chunk(&mut ledger, &order, 4, &changes[4..7]), Ok(3));
    assert_eq!(changed(&ledger), 0);
    let before = state(&ledger, 10).unwrap();
    assert_eq!(chunk(&mut ledger, &order, 7, &changes[7..]), Ok(4));
    assert_eq!(changed(&ledger), 9);
    let after = v1::CodeState {
        status: CodeStatus::Yellow as i32,
        sequence: 2,
        valid_from_ms: ledger.now,
        order_id: order.to_bytes(),
        ..before
    };
    assert!((10..19).all(|n| state(&ledger, n).as_ref() == Some(&after)));
    let kept: v1::OrderState = ledger.map(ORDER_NAMESPACE, order.as_bytes()).unwrap();
    assert!(kept.applied);
    assert_eq!((kept.received, kept.chunk_leaves), (9, vec![2, 3, 4]));
    assert_eq!(kept.authority, public(AUTHORITY));
    let again = chunk(&mut ledger, &order, 9, &each(&all[9..10], 1));
    assert_eq!(again, Err(RejectReason::OrderComplete));
}

#[test]
fn issue_order_and_chunks_may_share_a_block() {
    let mut ledger = Ledger::new();
    let all = codes(10..30);
    let issue = issue_body(&ledger, FREE_REGION, &all);
    let issue = ledger.compose(
        ledger.draft(EntryKind::CodeIssue, &[], &issue),
        AUTHORITY,
        &[],
    );
    let changes = each(&all, 1);
    let body = order_body(FREE_REGION, &changes);
    let order = ledger.compose(
        ledger.draft(EntryKind::StatusOrder, &[], &body),
        AUTHORITY,
        &[],
    );
    let mut entries = vec![issue, order.clone()];
    for (at, part) in changes.chunks(5).enumerate() {
        let draft = chunk_draft(&ledger, &id(&order), 5 * at as u32, part);
        entries.push(ledger.compose(draft, AUTHORITY, &[]));
    }
    let applied = ledger.block(entries);
    assert!(applied.outcomes.iter().all(|outcome| outcome.rejected == 0));
    assert_eq!(changed(&ledger), 20);
}

#[test]
fn one_code_that_is_stale_unknown_or_elsewhere_keeps_all_as_they_were() {
    // Which change is wrong, in which chunk, must not matter.
    for wrong_at in [0, 4, 8] {
        let (mut ledger, all) = issued();
        let mut abroad = code(10);
        abroad[31] = 9;
        issue(&mut ledger, REGION, &[abroad]).unwrap();
        let good = each(&all[..9], 1);
        let mut stale = good.clone();
        stale[wrong_at].1 = 2;
        let mut unknown = good.clone();
        unknown[wrong_at].0[31] += 100;
        let mut elsewhere = good.clone();
        elsewhere[0].0 = abroad;
        for (changes, reason) in [
            (stale, RejectReason::CodeStaleSequence),
            (unknown, RejectReason::CodeUnknown),
            (elsewhere, RejectReason::OutsideMandate),
        ] {
            let order = order(&mut ledger, AUTHORITY, &changes);
            chunk(&mut ledger, &order, 0, &changes[..5]).unwrap();
            assert_eq!(chunk(&mut ledger, &order, 5, &changes[5..]), Err(reason));
            assert_eq!(changed(&ledger), 0);
            let kept: v1::OrderState = ledger.map(ORDER_NAMESPACE, order.as_bytes()).unwrap();
            assert_eq!((kept.received, kept.applied), (5, false));
        }
    }
}

#[test]
fn an_order_expects_the_sequence_at_the_time_of_its_last_chunk() {
    let (mut ledger, all) = issued();
    let (first, second) = (each(&all[..2], 1), each(&all[1..3], 1));
    let slow = order(&mut ledger, AUTHORITY, &first);
    chunk(&mut ledger, &slow, 0, &first[..1]).unwrap();
    // Meanwhile another authority changes one of the two.
    let quick = order(&mut ledger, OTHER_AUTHORITY, &second);
    let draft = chunk_draft(&ledger, &quick, 0, &second);
    let theirs = ledger.compose(draft, OTHER_AUTHORITY, &[]);
    ledger.submit(theirs).unwrap();
    let late = chunk(&mut ledger, &slow, 1, &first[1..]);
    assert_eq!(late, Err(RejectReason::CodeStaleSequence));
    assert_eq!(changed(&ledger), 2);
    assert_eq!(state(&ledger, 11).unwrap().order_id, quick.0[..]);
}

#[test]
fn chunks_come_in_order_and_their_codes_ascend_across_them() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..6], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    let out_of_order = Err(RejectReason::OrderChunkOutOfOrder);
    assert_eq!(chunk(&mut ledger, &order, 1, &changes[..2]), out_of_order);
    assert_eq!(chunk(&mut ledger, &order, 2, &changes[2..4]), out_of_order);
    chunk(&mut ledger, &order, 0, &changes[..2]).unwrap();
    // The same again, the next too late, and a code that is not above the last.
    assert_eq!(chunk(&mut ledger, &order, 0, &changes[..2]), out_of_order);
    assert_eq!(chunk(&mut ledger, &order, 3, &changes[3..5]), out_of_order);
    assert_eq!(chunk(&mut ledger, &order, 2, &changes[1..3]), out_of_order);
    assert_eq!(chunk(&mut ledger, &order, 2, &changes[..2]), out_of_order);
    let too_many = each(&all[2..7], 1);
    assert_eq!(
        chunk(&mut ledger, &order, 2, &too_many),
        Err(RejectReason::OrderMismatch)
    );
    chunk(&mut ledger, &order, 2, &changes[2..]).unwrap();
    assert_eq!(changed(&ledger), 6);
}

#[test]
fn chunks_that_do_not_make_the_orders_root_are_refused_and_the_right_ones_taken() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..4], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    chunk(&mut ledger, &order, 0, &changes[..2]).unwrap();
    let mismatch = Err(RejectReason::OrderMismatch);
    let other_codes = each(&all[3..5], 1);
    assert_eq!(chunk(&mut ledger, &order, 2, &other_codes), mismatch);
    let other_sequence = each(&all[2..4], 2);
    assert_eq!(chunk(&mut ledger, &order, 2, &other_sequence), mismatch);
    assert_eq!(changed(&ledger), 0);
    chunk(&mut ledger, &order, 2, &changes[2..]).unwrap();
    assert_eq!(changed(&ledger), 4);
}

#[test]
fn a_chunk_is_of_a_known_order_by_its_authority_and_well_formed() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..4], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    let unknown = chunk(&mut ledger, &Hash([7; 32]), 0, &changes);
    assert_eq!(unknown, Err(RejectReason::OrderUnknown));
    for author in [OTHER_AUTHORITY, NOTARY] {
        let entry = ledger.compose(chunk_draft(&ledger, &order, 0, &changes), author, &[]);
        assert_eq!(ledger.submit(entry), Err(RejectReason::OutsideMandate));
    }
    let mut elsewhere = chunk_draft(&ledger, &order, 0, &changes);
    elsewhere.subject = Hash([7; 32]).to_bytes();
    let elsewhere = ledger.compose(elsewhere, AUTHORITY, &[]);
    assert_eq!(ledger.submit(elsewhere), Err(RejectReason::SubjectMismatch));
    let mut unequal = chunk_draft(&ledger, &order, 0, &changes);
    let mut body: v1::StatusChunk = canonical::decode(&unequal.body).unwrap();
    body.expected_sequences.pop();
    unequal.body = canonical::encode(&body);
    let unequal = ledger.compose(unequal, AUTHORITY, &[]);
    assert_eq!(ledger.submit(unequal), Err(RejectReason::FieldOutOfRange));
    let none = chunk(&mut ledger, &order, 0, &[]);
    assert_eq!(none, Err(RejectReason::FieldOutOfRange));
    chunk(&mut ledger, &order, 0, &changes).unwrap();
}

/// An order in [`REGION`], where a mandate limits it, approved as it asks for.
fn limited(
    ledger: &mut Ledger,
    change: impl FnOnce(&mut v1::StatusOrder),
) -> Result<u64, RejectReason> {
    let mut body = order_body(REGION, &each(&codes(1..3), 1));
    body.lapses_at_ms = ledger.now + 1_000;
    body.on_lapse = CodeStatus::Green as i32;
    change(&mut body);
    let draft = ledger.draft(EntryKind::StatusOrder, &[], &body);
    let entry = ledger.compose(draft, AUTHORITY, &[HEALTH]);
    ledger.submit(entry)
}

#[test]
fn an_order_stays_within_its_mandate() {
    let mut ledger = Ledger::new();
    limited(&mut ledger, |_| ()).unwrap();
    limited(&mut ledger, |o| o.reason = "travel".to_owned()).unwrap();
    let at = ledger.now + 10;
    limited(&mut ledger, |o| o.lapses_at_ms = at + MAX_DURATION).unwrap();
    // Back to green needs no end.
    limited(&mut ledger, |o| {
        (o.status, o.lapses_at_ms, o.on_lapse) = (CodeStatus::Green as i32, 0, 0);
    })
    .unwrap();

    let at = ledger.now + 10;
    let outside: [&dyn Fn(&mut v1::StatusOrder); 7] = [
        &|o| o.reason = "protest".to_owned(),
        &|o| o.reason.clear(),
        &|o| o.status = CodeStatus::Red as i32,
        &|o| o.lapses_at_ms = at + MAX_DURATION + 1_000,
        &|o| (o.lapses_at_ms, o.on_lapse) = (0, 0),
        &|o| o.lapses_at_ms = at - 1,
        &|o| o.region = "999999".to_owned(),
    ];
    for (case, change) in outside.into_iter().enumerate() {
        let refused = limited(&mut ledger, change);
        assert_eq!(refused, Err(RejectReason::OutsideMandate), "case {case}");
    }
    let kept: v1::AuthorityLog = ledger.map(ORDERS_OF_NAMESPACE, &public(AUTHORITY)).unwrap();
    assert_eq!(kept.size, 4);
}

#[test]
fn an_order_says_on_what_ground_how_many_and_where_to_appeal() {
    let mut ledger = Ledger::new();
    let long = "x".repeat(501);
    let incomplete: [&dyn Fn(&mut v1::StatusOrder); 12] = [
        &|o| o.legal_basis.clear(),
        &|o| o.legal_basis = long.clone(),
        &|o| o.appeal_contact.clear(),
        &|o| o.appeal_contact = long.clone(),
        &|o| o.status = 0,
        &|o| o.lapses_at_ms = 0,
        &|o| o.on_lapse = 0,
        &|o| o.evidence_commitment = vec![1; 31].into(),
        &|o| o.evidence_commitment = Bytes::new(),
        &|o| o.count = 0,
        &|o| o.count = rules::MAX_ORDER_CODES + 1,
        &|o| o.changes_root = vec![1; 33].into(),
    ];
    for (case, change) in incomplete.into_iter().enumerate() {
        let refused = limited(&mut ledger, change);
        assert_eq!(refused, Err(RejectReason::FieldOutOfRange), "case {case}");
    }
    for author in [HEALTH, NOTARY, GOVERNMENT] {
        let body = order_body(FREE_REGION, &each(&codes(1..3), 1));
        let refused = submit(&mut ledger, EntryKind::StatusOrder, author, &body);
        assert_eq!(refused, Err(RejectReason::RoleNotAllowed));
    }
    let body = order_body(FREE_REGION, &each(&codes(1..3), 1));
    let draft = ledger.draft(EntryKind::StatusOrder, &[1; 32], &body);
    let entry = ledger.compose(draft, AUTHORITY, &[]);
    assert_eq!(ledger.submit(entry), Err(RejectReason::SubjectMismatch));
}

/// What the rule says about an order in `region` with these approvers.
fn with_approvers(ledger: &Ledger, region: &str, approvers: &[u8]) -> Result<(), RejectReason> {
    let mut body = order_body(region, &each(&codes(1..3), 1));
    body.lapses_at_ms = ledger.now + 1_000;
    body.on_lapse = CodeStatus::Green as i32;
    let draft = ledger.draft(EntryKind::StatusOrder, &[], &body);
    let entry = ledger.compose(draft, AUTHORITY, approvers);
    let entry = admission::admit(&ledger.chain, entry).unwrap();
    let mut overlay = Overlay::new(&ledger.state);
    let mut ctx = Ctx::new(&ledger.chain, ledger.now, 1, &mut overlay);
    rules::apply_entry(&mut ctx, &entry, 0).unwrap()
}

#[test]
fn exactly_one_of_the_mandates_approvers_signs() {
    let ledger = Ledger::new();
    let missing = Err(RejectReason::ApprovalMissing);
    let unexpected = Err(RejectReason::ApprovalUnexpected);
    for (region, approvers, expected) in [
        (REGION, &[HEALTH][..], Ok(())),
        (REGION, &[OTHER_HEALTH], Ok(())),
        (REGION, &[], missing),
        (REGION, &[NOTARY], missing),
        (REGION, &[AUTHORITY], missing),
        (REGION, &[HEALTH, OTHER_HEALTH], unexpected),
        (REGION, &[HEALTH, NOTARY], unexpected),
        (FREE_REGION, &[], Ok(())),
        (FREE_REGION, &[HEALTH], unexpected),
    ] {
        let found = with_approvers(&ledger, region, approvers);
        assert_eq!(found, expected, "{region} {approvers:?}");
    }
}

/// The root of RFC 9162 2.1.1, by its recursive definition.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => log::empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            log::node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_authoritys_log_holds_the_leaf_of_each_of_its_orders(
        acts in proptest::collection::vec(0..4u8, 1..40),
    ) {
        let mut ledger = Ledger::new();
        let mut leaves = [vec![], vec![]];
        for (n, act) in (0..).zip(acts) {
            let authority = usize::from(act == 1);
            let body = order_body(FREE_REGION, &each(&codes(1..3), 1));
            let by = [AUTHORITY, OTHER_AUTHORITY][authority];
            match act {
                0 | 1 => {
                    let leaf = submit(&mut ledger, EntryKind::StatusOrder, by, &body).unwrap();
                    leaves[authority].push(log::leaf_hash(&leaf.to_be_bytes()));
                }
                2 => {
                    ledger.block(vec![ledger.evidence(n)]);
                }
                _ => {
                    let refused = v1::StatusOrder { reason: "protest".to_owned(), ..body };
                    submit(&mut ledger, EntryKind::StatusOrder, by, &refused).unwrap_err();
                }
            }
        }
        for (by, leaves) in [AUTHORITY, OTHER_AUTHORITY].into_iter().zip(leaves) {
            let kept = ledger.map::<v1::AuthorityLog>(ORDERS_OF_NAMESPACE, &public(by));
            let expected = (!leaves.is_empty()).then(|| v1::AuthorityLog {
                size: leaves.len() as u64,
                root: naive_root(&leaves).to_bytes(),
            });
            prop_assert_eq!(kept, expected);
        }
    }
}

#[test]
fn what_a_code_shows_is_a_function_of_its_state_and_the_time() {
    const ALL: std::ops::Range<u64> = 0..5;
    let pairs = || ALL.flat_map(|a| ALL.map(move |b| (a, b)));
    for ((from, until), (lapses, now)) in pairs().flat_map(|a| pairs().map(move |b| (a, b))) {
        let state = v1::CodeState {
            status: CodeStatus::Red as i32,
            on_lapse: CodeStatus::Green as i32,
            valid_from_ms: from,
            valid_until_ms: until,
            lapses_at_ms: lapses,
            ..Default::default()
        };
        let naive = match (from..until).contains(&now) {
            false => None,
            true if lapses == 0 || now < lapses => Some(CodeStatus::Red),
            true => Some(CodeStatus::Green),
        };
        assert_eq!(effective_status(&state, now), naive, "{state:?} at {now}");
    }
}

#[test]
fn an_order_lapses_without_an_entry() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..1], 1);
    let mut body = order_body(FREE_REGION, &changes);
    body.status = CodeStatus::Red as i32;
    body.lapses_at_ms = ledger.now + 1_000;
    body.on_lapse = CodeStatus::Yellow as i32;
    let lapses = body.lapses_at_ms;
    let draft = ledger.draft(EntryKind::StatusOrder, &[], &body);
    let entry = ledger.compose(draft, AUTHORITY, &[]);
    ledger.submit(entry.clone()).unwrap();
    chunk(&mut ledger, &id(&entry), 0, &changes).unwrap();
    let state = state(&ledger, 10).unwrap();
    let shown = |at| effective_status(&state, at);
    assert_eq!(shown(ledger.now - 1), None);
    assert_eq!(shown(ledger.now), Some(CodeStatus::Red));
    assert_eq!(shown(lapses - 1), Some(CodeStatus::Red));
    assert_eq!(shown(lapses), Some(CodeStatus::Yellow));
    assert_eq!(shown(state.valid_until_ms - 1), Some(CodeStatus::Yellow));
    assert_eq!(shown(state.valid_until_ms), None);
}

#[test]
fn latest_and_never_issued_are_proven_to_outsiders() {
    let (mut ledger, _) = issued();
    let checkpoint = ledger.checkpoint(&[0, 2, 3]);
    let shown = |n: u8| {
        let receipt = ledger.map_receipt(NAMESPACE, &code(n), checkpoint.clone());
        verify::map_receipt(&ledger.chain, &receipt).unwrap().value
    };
    assert_eq!(shown(10), state(&ledger, 10).map(|s| canonical::encode(&s)));
    assert_eq!(shown(99), None);
}

#[test]
fn a_chunk_that_was_lost_is_damage_and_not_a_refusal() {
    let (mut ledger, all) = issued();
    let changes = each(&all[..4], 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    let leaf = chunk(&mut ledger, &order, 0, &changes[..2]).unwrap();
    let key = rooms::key(rooms::LEAF, &[&leaf.to_be_bytes()]);
    let place = ledger.state.pairs()[&key].clone();
    let entry = rooms::key(rooms::ENTRY, &[&place]);
    ledger
        .state
        .commit([(entry, Bytes::from_static(&[0xff]))].into());
    let last = ledger.compose(
        chunk_draft(&ledger, &order, 2, &changes[2..]),
        AUTHORITY,
        &[],
    );
    let applied = ledger.apply(&ledger.proposal(vec![last]));
    assert!(matches!(applied, Err(apply::ApplyError::State(_))));
}
