//! Issuing: what a new code is, and who may issue it.
#![allow(clippy::unwrap_used)]

use super::*;

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
fn a_holders_commitment_stays_with_the_code_through_its_changes() {
    let mut ledger = Ledger::new();
    let all = codes(10..13);
    let holder = |n: u8| holder_commitment(&[n; 32], b"11010519491231002X");
    let mut body = issue_body(&ledger, FREE_REGION, &all);
    let holders = [1, 2, 3].map(|n| holder(n).0).concat();
    for wrong in [
        &holders[..32],
        &holders[..95],
        &[&holders[..], &[0; 32]].concat(),
    ] {
        body.holders = Bytes::copy_from_slice(wrong);
        let refused = submit(&mut ledger, EntryKind::CodeIssue, AUTHORITY, &body);
        assert_eq!(refused, Err(RejectReason::FieldOutOfRange));
    }
    body.holders = holders.into();
    submit(&mut ledger, EntryKind::CodeIssue, AUTHORITY, &body).unwrap();
    let changes = each(&all, 1);
    let order = order(&mut ledger, AUTHORITY, &changes);
    chunk(&mut ledger, &order, 0, &changes).unwrap();
    for (n, code) in (1..).zip(10..13) {
        let state = state(&ledger, code).unwrap();
        assert_eq!((state.sequence, &state.holder), (2, &holder(n).to_bytes()));
    }
    assert_ne!(holder(1), holder(2));
    assert_ne!(
        holder(1),
        holder_commitment(&[1; 32], b"110105194912310021")
    );
}
