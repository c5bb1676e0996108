//! A whole state is taken as it is, and with any one record that blocks commit to changed, missing
//! or added it is refused.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::*;

const SECRET: [u8; 32] = [7; 32];

/// A ledger with accepted and refused entries, and the certificate of its last block.
fn grown() -> (Ledger, CertifiedCheckpoint) {
    let mut ledger = Ledger::new();
    for block in 0..20u64 {
        // Blocks share a document with the one before, so that one entry of each is refused.
        let entries = (0..7).map(|n| ledger.evidence(6 * block + n)).collect();
        ledger.block(entries);
    }
    let proto = ledger.checkpoint(&[0, 1, 3]);
    let certified = checkpoint::certify(&ledger.chain.id, &ledger.chain.members, &proto).unwrap();
    (ledger, certified)
}

fn with(pairs: &BTreeMap<Vec<u8>, Bytes>) -> MemoryState {
    let mut state = MemoryState::default();
    state.commit(pairs.clone().into_iter().collect());
    state
}

#[test]
fn a_whole_state_is_taken_and_any_changed_missing_or_added_record_is_refused() {
    let (ledger, certified) = grown();
    let check = |state: &MemoryState| check(&ledger.chain, state, &certified, &SECRET);
    let checked = check(&ledger.state).unwrap();
    assert_eq!((checked.blocks, checked.entries), (22, 140));
    assert!(checked.leaves > 100 && checked.keys > 100, "{checked:?}");

    let bound = [
        rooms::MAP_VALUE,
        rooms::MAP_PAGE,
        rooms::TILE,
        rooms::ENTRY,
        rooms::LEAF,
        rooms::OUTCOME,
        rooms::TIP,
    ];
    let whole = ledger.state.pairs();
    for (key, value) in whole.iter().filter(|(key, _)| bound.contains(&key[0])) {
        let mut changed = whole.clone();
        let mut bytes = value.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        changed.insert(key.clone(), bytes.into());
        assert!(check(&with(&changed)).is_err(), "changed {key:02x?}");
        changed.remove(key);
        assert!(check(&with(&changed)).is_err(), "without {key:02x?}");
    }
    // A block's own record also keeps the proposal, which only a replay can judge; its header and
    // outcomes are bound.
    for height in 0..22u64 {
        let key = rooms::key(rooms::BLOCK, &[&height.to_be_bytes()]);
        let mut block = v1::Block::decode(whole[&key].clone()).unwrap();
        let mut header = block.header.to_vec();
        let last = header.len() - 1;
        header[last] ^= 1;
        let mut changed = whole.clone();
        let other = v1::Block {
            header: header.into(),
            ..block.clone()
        };
        changed.insert(key.clone(), canonical::encode(&other));
        assert!(check(&with(&changed)).is_err(), "header {height}");
        if block.outcomes.pop().is_some() {
            changed.insert(key, canonical::encode(&block));
            assert!(check(&with(&changed)).is_err(), "outcome of {height}");
        }
    }
    for (room, raw) in [
        (rooms::MAP_VALUE, vec![0xff; 32]),
        (rooms::ENTRY, vec![0xff; 12]),
        (rooms::LEAF, vec![0xff; 8]),
        (rooms::OUTCOME, vec![0xff; 32]),
        (rooms::BLOCK, vec![0xff; 8]),
    ] {
        let mut more = whole.clone();
        more.insert(rooms::key(room, &[&raw]), Bytes::from_static(b"more"));
        assert!(check(&with(&more)).is_err(), "more in {}", char::from(room));
    }
}

#[test]
fn a_state_of_another_height_or_genesis_is_refused() {
    let (mut ledger, certified) = grown();
    let other = Chain::from_bytes(&canonical::encode(&v1::Genesis {
        name: "another".to_owned(),
        ..genesis()
    }))
    .unwrap();
    assert!(check(&other, &ledger.state, &certified, &SECRET).is_err());
    ledger.checkpoint(&[]);
    assert!(check(&ledger.chain, &ledger.state, &certified, &SECRET).is_err());
}
