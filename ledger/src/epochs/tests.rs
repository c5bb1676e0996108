//! Three epochs followed from the genesis, and no bit of the way that could be another.
#![allow(clippy::unwrap_used)]

use cairn_proto::v1::EntryKind;
use prost::Message;

use super::*;
use crate::testing::{Ledger, MEMBERS, OFFICES, certificate, public, with_offices};
use crate::{members, verify};

/// The keys that cosign, by epoch: the first member's key is rotated twice, then a member leaves.
const KEYS: [[u8; 3]; 4] = [
    [MEMBERS[0], MEMBERS[1], MEMBERS[3]],
    [120, MEMBERS[1], MEMBERS[3]],
    [121, MEMBERS[1], MEMBERS[3]],
    [121, MEMBERS[1], MEMBERS[3]],
];

struct Followed {
    ledger: Ledger,
    /// A receipt of each epoch, for the entry that was recorded in it.
    receipts: Vec<v1::Receipt>,
}

fn certified(ledger: &mut Ledger, header: bytes::Bytes, epoch: usize) -> v1::Checkpoint {
    let at = ledger.now + 1;
    certificate(&ledger.chain.id, header, KEYS[epoch].map(|n| (n, at)))
}

fn followed() -> Followed {
    let mut ledger = Ledger::of(with_offices());
    let mut receipts = Vec::new();
    for epoch in 0..4 {
        let entry = ledger.evidence(epoch as u64);
        let leaf = ledger.submit(entry).unwrap();
        let mut asks = ledger.proposal(vec![]);
        asks.checkpoint = true;
        let header = ledger.run(&asks).header;
        assert_eq!((header.epoch, header.checkpoint), (epoch as u64, true));
        let bytes = canonical::encode(&header);
        let checkpoint = certified(&mut ledger, bytes, epoch);
        receipts.push(ledger.receipt(leaf, checkpoint));
        if epoch == 3 {
            break;
        }
        let mut next = members::recorded(&ledger.state, epoch as u64)
            .unwrap()
            .unwrap();
        next.epoch += 1;
        if epoch == 2 {
            next.members.remove(2);
        } else {
            next.members[0].cosign_key = public(KEYS[epoch + 1][0]);
        }
        let body = v1::MembershipChange {
            next_members: Some(next),
        };
        let draft = ledger.draft(EntryKind::MembershipChange, &[], &body);
        let entry = ledger.compose(draft, OFFICES[0], &[OFFICES[1], OFFICES[3]]);
        let block = ledger.block(vec![entry]);
        assert_eq!(block.outcomes[0].rejected, 0);
        let certificate = certified(&mut ledger, block.header_bytes, epoch);
        let mut carries = ledger.proposal(vec![]);
        carries.certificate = Some(certificate);
        ledger.run(&carries);
    }
    Followed { ledger, receipts }
}

#[test]
fn receipts_of_every_epoch_verify_from_the_genesis_alone_and_old_ones_stay_valid() {
    let Followed { ledger, receipts } = followed();
    for (epoch, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.epoch_changes.len(), epoch);
        let entry = verify::receipt(&ledger.chain, receipt, None).unwrap();
        assert_eq!(entry.checkpoint.header().epoch, epoch as u64);
        let signers: Vec<_> = entry.checkpoint.signers().map(|m| &m.cosign_key).collect();
        assert!(KEYS[epoch].iter().all(|n| signers.contains(&&public(*n))));
    }
    let newest = members::recorded(&ledger.state, 3).unwrap().unwrap();
    let changes = members::changes_up_to(&ledger.state, 3).unwrap();
    let epochs = Epochs::follow(&ledger.chain, &changes).unwrap();
    assert_eq!(epochs.newest(), &newest);
    assert_eq!(epochs.changes_after(1), &changes[1..]);
    assert_eq!(epochs.changes_after(9), &[]);
    for receipt in &receipts {
        assert!(epochs.certify(receipt.checkpoint.as_ref().unwrap()).is_ok());
    }
}

#[test]
fn an_epoch_is_certified_by_its_own_members_only() {
    let Followed { ledger, receipts } = followed();
    let header = receipts[3].checkpoint.as_ref().unwrap().header.clone();
    for signers in [
        // The key before the rotation, and the member that left.
        [MEMBERS[0], MEMBERS[1], MEMBERS[3]],
        [121, MEMBERS[1], MEMBERS[2]],
    ] {
        let at = ledger.now;
        let mut receipt = receipts[3].clone();
        let forged = certificate(&ledger.chain.id, header.clone(), signers.map(|n| (n, at)));
        receipt.checkpoint = Some(forged);
        assert!(verify::receipt(&ledger.chain, &receipt, None).is_err());
    }
}

#[test]
fn no_epoch_can_be_left_out_repeated_or_exchanged() {
    let Followed { ledger, receipts } = followed();
    let good = &receipts[3].epoch_changes;
    for at in 0..good.len() {
        let (mut without, mut twice) = (good.clone(), good.clone());
        without.remove(at);
        twice.insert(at, good[at].clone());
        for changes in [without, twice] {
            let receipt = v1::Receipt {
                epoch_changes: changes,
                ..receipts[3].clone()
            };
            assert!(verify::receipt(&ledger.chain, &receipt, None).is_err());
        }
    }
    let mut exchanged = good.clone();
    exchanged[1].next_members = good[0].next_members.clone();
    let error = Epochs::follow(&ledger.chain, &exchanged).unwrap_err();
    assert_eq!(error, EpochError::OtherMembers { next: 2 });
    // A checkpoint that changes nothing brings nobody in.
    let changes_nothing = v1::EpochChange {
        checkpoint: receipts[0].checkpoint.clone(),
        next_members: Some(ledger.chain.members.clone()),
    };
    let error = Epochs::follow(&ledger.chain, &[changes_nothing]).unwrap_err();
    assert_eq!(error, EpochError::OtherMembers { next: 1 });
}

#[test]
fn no_bit_of_a_change_of_members_can_change() {
    let Followed { ledger, receipts } = followed();
    let good = &receipts[1].epoch_changes[0];
    let bytes = canonical::encode(good);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(change) = v1::EpochChange::decode(&flipped[..]) else {
            continue;
        };
        let followed = Epochs::follow(&ledger.chain, std::slice::from_ref(&change));
        assert!(followed.is_err() || change == *good, "bit {bit}");
    }
    for len in 0..bytes.len() {
        if let Ok(change) = v1::EpochChange::decode(&bytes[..len]) {
            assert!(
                Epochs::follow(&ledger.chain, &[change]).is_err(),
                "cut at {len}"
            );
        }
    }
}
