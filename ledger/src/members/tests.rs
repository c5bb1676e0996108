//! Every refusal of a change of members, and what an accepted one does to the blocks behind it.
#![allow(clippy::unwrap_used)]

use cairn_proto::v1::{EntryKind, Role};
use proptest::prelude::*;

use super::*;
use crate::apply::Applied;
use crate::checkpoint;
use crate::epochs::{EpochError, Epochs};
use crate::testing::{
    CHECKPOINT_EVERY_BLOCKS, Ledger, MEMBERS, NOTARY, OFFICES, certificate, has_document, id,
    public, with_offices,
};
use crate::verify;

fn ledger() -> Ledger {
    Ledger::of(with_offices())
}

fn state(ledger: &Ledger) -> v1::MembershipState {
    state_of(&ledger.state).unwrap().unwrap()
}

/// The set in force, one epoch on: what a plan starts from.
fn next(ledger: &Ledger) -> v1::MemberSet {
    let epoch = state(ledger).epoch;
    let mut set = recorded(&ledger.state, epoch).unwrap().unwrap();
    set.epoch += 1;
    set
}

/// One more, and a policy that stays safe.
fn join(set: &mut v1::MemberSet, n: u8) {
    set.members.push(newcomer(n));
    set.policy.as_mut().unwrap().threshold = 4;
}

fn newcomer(n: u8) -> v1::Member {
    v1::Member {
        raft_id: 0,
        institution: format!("institution {n}"),
        role: Role::Institute as i32,
        cosign_key: public(n),
        peer_id: vec![n; 38].into(),
        office_key: public(n + 50),
        address: "10.0.0.5:7000".to_owned(),
        ..Default::default()
    }
}

fn entry(ledger: &Ledger, set: &v1::MemberSet, author: u8, approvers: &[u8]) -> v1::SignedEntry {
    let body = v1::MembershipChange {
        next_members: Some(set.clone()),
    };
    let draft = ledger.draft(EntryKind::MembershipChange, &[], &body);
    ledger.compose(draft, author, approvers)
}

/// Signed by just enough.
fn signed(ledger: &Ledger, set: &v1::MemberSet) -> v1::SignedEntry {
    entry(ledger, set, OFFICES[0], &[OFFICES[1], OFFICES[3]])
}

fn refused(ledger: &mut Ledger, set: &v1::MemberSet) -> RejectReason {
    let entry = signed(ledger, set);
    ledger.submit(entry).unwrap_err()
}

fn change(ledger: &mut Ledger, set: &v1::MemberSet) -> Applied {
    let entry = signed(ledger, set);
    let block = ledger.block(vec![entry]);
    assert_eq!(block.outcomes[0].rejected, 0);
    block
}

/// Puts the certificate of `block`, signed by these keys, onto the chain.
fn carry(ledger: &mut Ledger, block: &Applied, signers: &[u8]) -> Applied {
    let at = ledger.now + 1;
    let signers = signers.iter().map(|n| (*n, at));
    let certificate = certificate(&ledger.chain.id, block.header_bytes.clone(), signers);
    let mut proposal = ledger.proposal(vec![]);
    proposal.certificate = Some(certificate);
    proposal.checkpoint = true;
    ledger.run(&proposal)
}

/// Changes to `set` and carries the certificate of the first three members.
fn change_and_carry(ledger: &mut Ledger, set: &v1::MemberSet) -> Applied {
    let block = change(ledger, set);
    carry(ledger, &block, &[MEMBERS[0], MEMBERS[1], MEMBERS[2]])
}

#[test]
fn a_change_ends_its_block_its_epoch_and_leaves_no_trace_of_what_stands_behind() {
    let mut ledger = ledger();
    let mut set = next(&ledger);
    join(&mut set, 105);
    let before = ledger.tip().header;
    let entries = vec![
        ledger.evidence(1),
        signed(&ledger, &set),
        ledger.evidence(2),
    ];
    let behind = entries[2].clone();
    let block = ledger.block(entries);
    assert_eq!(block.outcomes.len(), 2);
    assert!(has_document(&ledger, 1) && !has_document(&ledger, 2));

    let header = &block.header;
    assert!(header.checkpoint, "whatever the leader wants");
    assert_eq!(
        (header.epoch, &header.members_hash),
        (0, &before.members_hash)
    );
    set.members[4].raft_id = u64::from(MEMBERS[3]) + 1;
    let recorded = recorded(&ledger.state, 1).unwrap().unwrap();
    assert_eq!(recorded, set);
    let hash = genesis::members_hash(&set).to_bytes();
    assert_eq!(header.next_members_hash, hash);
    let author: v1::Author = ledger.map(AUTHOR_NAMESPACE, &public(155)).unwrap();
    assert_eq!(author.name, "institution 105");

    let later = ledger.block(vec![behind]);
    assert_eq!(later.outcomes[0].rejected, 0, "handed in again");
    assert_eq!(later.header.epoch, 1);
    assert_eq!(later.header.members_hash, hash);
    assert_eq!(later.header.next_members_hash, hash);
}

#[test]
fn nothing_is_a_checkpoint_before_the_chain_carries_the_changes_certificate() {
    let mut ledger = ledger();
    let mut set = next(&ledger);
    join(&mut set, 105);
    let block = change(&mut ledger, &set);
    for _ in 0..=CHECKPOINT_EVERY_BLOCKS {
        let mut wanted = ledger.proposal(vec![]);
        wanted.checkpoint = true;
        assert!(!ledger.run(&wanted).header.checkpoint);
    }
    let mut late = ledger.proposal(vec![]);
    late.timestamp_ms += 1_000_000;
    assert!(!ledger.run(&late).header.checkpoint);
    assert!(state(&ledger).pending);
    assert_eq!(refused_again(&mut ledger), RejectReason::MembershipPending);

    // Too few, or the new ones, certify nothing.
    carry(&mut ledger, &block, &[MEMBERS[0], MEMBERS[1]]);
    carry(&mut ledger, &block, &[MEMBERS[0], MEMBERS[1], 105]);
    assert!(state(&ledger).pending);
    assert_eq!(changes_after(&ledger.state, 0, 9).unwrap(), []);

    let first = carry(&mut ledger, &block, &[MEMBERS[0], MEMBERS[1], MEMBERS[2]]);
    assert!(first.header.checkpoint && first.header.epoch == 1);
    assert!(!state(&ledger).pending);
    let changes = changes_up_to(&ledger.state, 1).unwrap();
    assert_eq!(changes[0].next_members, recorded(&ledger.state, 1).unwrap());
}

fn refused_again(ledger: &mut Ledger) -> RejectReason {
    let mut set = next(ledger);
    set.members.pop();
    let all = [OFFICES[1], OFFICES[2], OFFICES[3]];
    let entry = entry(ledger, &set, OFFICES[0], &all);
    ledger.submit(entry).unwrap_err()
}

#[test]
fn who_may_sign_is_the_policy_in_force() {
    let mut ledger = ledger();
    let mut set = next(&ledger);
    join(&mut set, 105);
    let by = |ledger: &Ledger, author, approvers: &[u8]| entry(ledger, &set, author, approvers);
    let stranger = by(&ledger, NOTARY, &[OFFICES[0], OFFICES[1], OFFICES[3]]);
    let reason = ledger.submit(stranger).unwrap_err();
    assert_eq!(reason, RejectReason::MembershipWrongOffice);
    let untraced = [
        by(&ledger, OFFICES[0], &[]),
        by(&ledger, OFFICES[0], &[OFFICES[1]]),
        by(&ledger, OFFICES[0], &[OFFICES[0], OFFICES[1]]),
        by(&ledger, OFFICES[0], &[OFFICES[1], OFFICES[3], NOTARY]),
        // The newcomer has no say in coming in, and is no author yet.
        by(&ledger, OFFICES[0], &[OFFICES[1], 155]),
    ];
    for entry in untraced {
        assert_eq!(ledger.block(vec![entry]).outcomes, []);
    }
    let all = by(&ledger, OFFICES[2], &[OFFICES[0], OFFICES[1], OFFICES[3]]);
    let fewer = entry_without_one_approval(&all);
    assert_eq!(id(&fewer), id(&all));
    assert!(ledger.submit(all).is_ok(), "more than enough is welcome");
}

fn entry_without_one_approval(entry: &v1::SignedEntry) -> v1::SignedEntry {
    let mut fewer = entry.clone();
    let approval = v1::SignaturePurpose::Approval as i32;
    let at = fewer.signatures.iter().position(|s| s.purpose == approval);
    fewer.signatures.remove(at.unwrap());
    fewer
}

#[test]
fn every_set_that_cannot_work_is_refused_with_its_reason() {
    use RejectReason as R;
    type Change = fn(&mut v1::MemberSet);
    let cases: [(Change, R); 22] = [
        (|s| s.epoch = 0, R::MembershipStaleEpoch),
        (|s| s.epoch = 2, R::MembershipStaleEpoch),
        (|_| {}, R::MembershipUnchanged),
        (|s| s.members.clear(), R::MembershipUnsound),
        (|s| s.members[0].raft_id = 99, R::MembershipRaftId),
        (|s| s.members[0].raft_id = 0, R::MembershipRaftId),
        (|s| s.members.swap(0, 1), R::MembershipRaftId),
        (
            |s| s.members[0].institution = "x".into(),
            R::MembershipRaftId,
        ),
        (|s| s.members.insert(0, newcomer(105)), R::MembershipRaftId),
        (|s| s.members[0].role = 0, R::MembershipUnsound),
        (
            |s| s.members[0].cosign_key = vec![1; 31].into(),
            R::MembershipUnsound,
        ),
        (
            |s| s.members[0].peer_id = Bytes::new(),
            R::MembershipUnsound,
        ),
        (
            |s| s.members[0].seed_key = vec![1; 96].into(),
            R::MembershipUnsound,
        ),
        (
            |s| s.members[0].office_key = vec![1; 31].into(),
            R::MembershipUnsound,
        ),
        (
            |s| s.members[0].address = "x".repeat(300),
            R::MembershipUnsound,
        ),
        (
            |s| s.members[0].office_key = s.members[1].office_key.clone(),
            R::MembershipUnsound,
        ),
        (
            |s| s.members[0].cosign_key = s.members[0].office_key.clone(),
            R::MembershipUnsound,
        ),
        (|s| s.policy = None, R::MembershipPolicy),
        (
            |s| s.policy.as_mut().unwrap().threshold = 2,
            R::MembershipPolicy,
        ),
        (|s| s.members.truncate(2), R::MembershipPolicy),
        (
            |s| s.members[0].cosign_key = public(NOTARY),
            R::MembershipKeyTaken,
        ),
        (
            |s| (5..18).for_each(|n| s.members.push(newcomer(100 + n))),
            R::MembershipUnsound,
        ),
    ];
    let mut ledger = ledger();
    for (at, (change, expected)) in cases.into_iter().enumerate() {
        let mut set = next(&ledger);
        change(&mut set);
        assert_eq!(refused(&mut ledger, &set), expected, "case {at}");
    }
    let body = v1::MembershipChange { next_members: None };
    let none = ledger.draft(EntryKind::MembershipChange, &[], &body);
    let none = ledger.compose(none, OFFICES[0], &[OFFICES[1], OFFICES[2]]);
    assert_eq!(ledger.submit(none), Err(R::MembershipStaleEpoch));
    let set = next(&ledger);
    let about = v1::MembershipChange {
        next_members: Some(set),
    };
    let draft = ledger.draft(EntryKind::MembershipChange, &[1; 32], &about);
    let entry = ledger.compose(draft, OFFICES[0], &[OFFICES[1], OFFICES[2]]);
    assert_eq!(ledger.submit(entry), Err(R::SubjectMismatch));
    assert_eq!(state(&ledger).epoch, 0);
}

#[test]
fn a_lost_node_is_replaced_under_a_fresh_number_and_its_keys_never_name_another() {
    let mut ledger = ledger();
    let lost = u64::from(MEMBERS[3]);
    let mut set = next(&ledger);
    let mut again = v1::Member {
        raft_id: 0,
        ..set.members[3].clone()
    };
    set.members[3] = again.clone();
    assert_eq!(refused(&mut ledger, &set), RejectReason::MembershipKeyTaken);
    again.cosign_key = public(105);
    set.members[3] = again;
    change_and_carry(&mut ledger, &set);
    let now = recorded(&ledger.state, 1).unwrap().unwrap();
    assert_eq!(now.members[3].raft_id, lost + 1);
    assert_eq!(state(&ledger).next_raft_id, lost + 2);

    // Removed and back: the old number is gone for good, and so is the old key.
    let mut back = next(&ledger);
    back.members[3].raft_id = lost;
    assert_eq!(refused(&mut ledger, &back), RejectReason::MembershipRaftId);
    let mut back = next(&ledger);
    back.members[0].cosign_key = public(MEMBERS[3]);
    assert_eq!(
        refused(&mut ledger, &back),
        RejectReason::MembershipKeyTaken
    );
    let mut office = next(&ledger);
    office.members[0].office_key = public(MEMBERS[3]);
    assert_eq!(
        refused(&mut ledger, &office),
        RejectReason::MembershipKeyTaken
    );
}

#[test]
fn a_removed_members_office_has_no_say_and_its_old_entries_stand() {
    let mut ledger = ledger();
    let entry = ledger.evidence_draft(1);
    let entry = ledger.compose(entry, OFFICES[3], &[]);
    let leaf = ledger.submit(entry).unwrap();
    let mut set = next(&ledger);
    set.members.pop();
    let first = change_and_carry(&mut ledger, &set);

    let mut again = next(&ledger);
    join(&mut again, 105);
    let by =
        |ledger: &Ledger, author, approvers: &[u8]| entry_of(ledger, &again, author, approvers);
    let alone = by(&ledger, OFFICES[3], &[OFFICES[0], OFFICES[1], OFFICES[2]]);
    let reason = ledger.submit(alone).unwrap_err();
    assert_eq!(reason, RejectReason::MembershipWrongOffice);
    let approved = by(&ledger, OFFICES[0], &[OFFICES[1], OFFICES[2], OFFICES[3]]);
    assert_eq!(ledger.block(vec![approved]).outcomes, []);

    // What it signed as an author stays provable, and it may go on as one.
    let signers = [MEMBERS[0], MEMBERS[1], MEMBERS[2]].map(|n| (n, ledger.now + 1));
    let certified = certificate(&ledger.chain.id, first.header_bytes, signers);
    let receipt = ledger.receipt(leaf, certified);
    assert!(verify::receipt(&ledger.chain, &receipt, None).is_ok());
    let more = ledger.evidence_draft(2);
    let more = ledger.compose(more, OFFICES[3], &[]);
    assert!(ledger.submit(more).is_ok());
}

fn entry_of(ledger: &Ledger, set: &v1::MemberSet, by: u8, approvers: &[u8]) -> v1::SignedEntry {
    entry(ledger, set, by, approvers)
}

#[test]
fn replaying_the_blocks_of_a_change_gives_them_again() {
    let mut ledger = ledger();
    let mut set = next(&ledger);
    join(&mut set, 105);
    let entries = vec![
        ledger.evidence(1),
        signed(&ledger, &set),
        ledger.evidence(2),
    ];
    let block = ledger.block(entries);
    ledger.block(vec![ledger.evidence(3)]);
    carry(&mut ledger, &block, &[MEMBERS[0], MEMBERS[1], MEMBERS[2]]);
    let mut other = Ledger::of(ledger.chain.clone());
    for height in 1..=ledger.tip().header.height {
        let kept = crate::apply::read_block(&ledger.state, height)
            .unwrap()
            .unwrap();
        let replayed = other.run(&kept.proposal.unwrap());
        assert_eq!(replayed.header_bytes, kept.header);
    }
    let kept = changes_up_to(&ledger.state, 1).unwrap();
    assert_eq!(changes_up_to(&other.state, 1).unwrap(), kept);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Two histories that part at or before a change of members. One institution signs both, every
    /// other member signs in at most one of them, because its guard permits only descendants of
    /// what it signed. Then at most one history has certificates behind the parting, whatever sets
    /// the two change to and whoever cosigns.
    #[test]
    fn no_single_institution_gets_two_histories_certified_across_a_change(
        bad in 0usize..4,
        sides in proptest::collection::vec(any::<bool>(), 4),
        changes in proptest::collection::vec((any::<bool>(), 0usize..4, any::<bool>()), 2),
    ) {
        let base = ledger();
        let mut certified = 0;
        for (side, (adds, gone, raises)) in [false, true].into_iter().zip(changes) {
            let mut ledger = base.clone();
            // The parting: the two first blocks differ.
            ledger.block(vec![ledger.evidence(u64::from(side))]);
            let mut set = next(&ledger);
            if adds {
                join(&mut set, 105);
                let policy = set.policy.as_mut().unwrap();
                policy.threshold = if raises { 5 } else { 4 };
            } else {
                set.members.remove(gone);
                let policy = set.policy.as_mut().unwrap();
                policy.min_roles = if raises { 1 } else { 2 };
            }
            let entry = entry(&ledger, &set, OFFICES[0], &[OFFICES[1], OFFICES[2], OFFICES[3]]);
            let block = ledger.block(vec![entry]);
            prop_assert_eq!(block.outcomes[0].rejected, 0);
            let signers: Vec<u8> = MEMBERS
                .iter()
                .enumerate()
                .filter(|(at, _)| *at == bad || sides[*at] == side)
                .map(|(_, n)| *n)
                .collect();
            let old = ledger.chain.members.clone();
            let signed = signers.iter().map(|n| (*n, ledger.now + 1));
            let certificate = certificate(&ledger.chain.id, block.header_bytes.clone(), signed);
            let first = checkpoint::certify(&ledger.chain.id, &old, &certificate).is_ok();
            let recorded = recorded(&ledger.state, 1).unwrap().unwrap();
            let extended = Epochs::of_genesis(&ledger.chain).extend(&v1::EpochChange {
                checkpoint: Some(certificate.clone()),
                next_members: Some(recorded.clone()),
            });
            prop_assert_eq!(extended.is_ok(), first);
            let mut proposal = ledger.proposal(vec![]);
            proposal.certificate = Some(certificate);
            proposal.checkpoint = true;
            let behind = ledger.run(&proposal);
            // Without the change's certificate there is no checkpoint to sign in the new epoch.
            prop_assert_eq!(behind.header.checkpoint, first);
            certified += u32::from(first);
        }
        prop_assert!(certified <= 1);
    }
}

#[test]
fn an_epoch_that_was_not_followed_is_named() {
    let mut ledger = ledger();
    let mut set = next(&ledger);
    join(&mut set, 105);
    let behind = change_and_carry(&mut ledger, &set);
    let signers = [MEMBERS[0], MEMBERS[1], MEMBERS[2], 105].map(|n| (n, ledger.now + 1));
    let certified = certificate(&ledger.chain.id, behind.header_bytes, signers);
    let epochs = Epochs::of_genesis(&ledger.chain);
    let error = epochs.certify(&certified).unwrap_err();
    let unknown = checkpoint::CertifyError::UnknownEpoch { epoch: 1, known: 0 };
    assert_eq!(error, unknown);
    let mut receipt = ledger.map_receipt(NAMESPACE, &[], certified);
    assert!(verify::map_receipt(&ledger.chain, &receipt).is_ok());
    let change = receipt.epoch_changes.pop().unwrap();
    let error = verify::map_receipt(&ledger.chain, &receipt).unwrap_err();
    assert_eq!(error, verify::VerifyError::Certificate(unknown));
    // More than the checkpoint needs is no proof either.
    let genesis = ledger.chain.members.clone();
    let old = Ledger::of(ledger.chain.clone()).checkpoint(&[0, 1, 2]);
    assert!(checkpoint::certify(&ledger.chain.id, &genesis, &old).is_ok());
    receipt.epoch_changes = vec![change];
    receipt.checkpoint = Some(old);
    let error = verify::map_receipt(&ledger.chain, &receipt).unwrap_err();
    let end = EpochError::WrongEnd { found: 1, epoch: 0 };
    assert_eq!(error, verify::VerifyError::Members(end));
}
