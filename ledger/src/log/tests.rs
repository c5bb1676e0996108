//! The log against the recursive definitions of RFC 9162, and against an independent crate.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::digest::{FixedOutput, HashMarker, Output, OutputSizeUser, Update, consts::U32};

use super::*;
use crate::rooms;
use crate::state::{MemoryState, Overlay, StateError};

const TREE: TreeId = TreeId::LEDGER;

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

/// The leaves appended in batches of these sizes, and the root after the last.
fn grown(batches: &[usize]) -> (MemoryState, Hash) {
    let all = leaves(batches.iter().sum::<usize>() as u64);
    let mut state = MemoryState::default();
    let (mut root, mut size) = (empty_root(), 0);
    for batch in batches {
        let mut overlay = Overlay::new(&state);
        root = append(&mut overlay, &TREE, size as u64, &all[size..size + batch]).unwrap();
        state.commit(overlay.into_writes());
        size += batch;
    }
    (state, root)
}

/// MTH of RFC 9162 2.1.1.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => plain(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&mth(left), &mth(right))
        }
    }
}

/// PATH of RFC 9162 2.1.3.1.
fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut inner, beside) = match index < k {
        true => (path(index, left), mth(right)),
        false => (path(index - k, right), mth(left)),
    };
    inner.push(beside);
    inner
}

/// SUBPROOF of RFC 9162 2.1.4.1.
fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { vec![] } else { vec![mth(leaves)] };
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut inner, beside) = match old <= k {
        true => (subproof(old, left, whole), mth(right)),
        false => (subproof(old - k, right, false), mth(left)),
    };
    inner.push(beside);
    inner
}

fn split(len: usize) -> usize {
    len.next_power_of_two() / 2
}

#[test]
fn every_inclusion_proof_up_to_70_leaves_is_the_rfcs_and_verifies() {
    let all = leaves(70);
    // The state has all 70 leaves: older sizes are proven from longer tiles.
    let (state, _) = grown(&[70]);
    for size in 1..=70u64 {
        let known = &all[..size as usize];
        let root = mth(known);
        assert_eq!(super::root(&state, &TREE, size), Ok(root));
        for index in 0..size {
            let proof = inclusion_proof(&state, &TREE, index, size).unwrap();
            assert_eq!(proof, path(index as usize, known));
            let leaf = &all[index as usize];
            assert_eq!(verify_inclusion(leaf, index, size, &proof, &root), Ok(()));
        }
    }
}

#[test]
fn every_consistency_proof_up_to_70_leaves_is_the_rfcs_and_verifies() {
    let all = leaves(70);
    let (state, _) = grown(&[33, 37]);
    for new in 0..=70u64 {
        let new_root = mth(&all[..new as usize]);
        for old in 0..=new {
            let proof = consistency_proof(&state, &TREE, old, new).unwrap();
            if old > 0 {
                assert_eq!(proof, subproof(old as usize, &all[..new as usize], true));
            }
            let old_root = mth(&all[..old as usize]);
            let checked = verify_consistency(old, &old_root, new, &new_root, &proof);
            assert_eq!(checked, Ok(()), "from {old} to {new}");
        }
    }
}

/// BLAKE3 for crates that take any hash.
#[derive(Default)]
struct Blake3(blake3::Hasher);

impl HashMarker for Blake3 {}

impl OutputSizeUser for Blake3 {
    type OutputSize = U32;
}

impl Update for Blake3 {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

impl FixedOutput for Blake3 {
    fn finalize_into(self, out: &mut Output<Self>) {
        out.copy_from_slice(self.0.finalize().as_bytes());
    }
}

#[test]
fn ct_merkle_computes_the_same_roots_and_proofs() {
    let (state, _) = grown(&[40, 1, 29]);
    let mut oracle = MemoryBackedTree::<Blake3, Vec<u8>>::new();
    for size in 1..=70u64 {
        oracle.push((size - 1).to_be_bytes().to_vec());
        let root = super::root(&state, &TREE, size).unwrap();
        assert_eq!(
            root.as_bytes().as_slice(),
            oracle.root().as_bytes().as_slice()
        );
        for other in 0..size {
            let ours = inclusion_proof(&state, &TREE, other, size).unwrap();
            let theirs = oracle.prove_inclusion(other as usize);
            assert_eq!(joined(&ours), theirs.as_bytes());
        }
        for old in 1..=size {
            let ours = consistency_proof(&state, &TREE, old, size).unwrap();
            let theirs = oracle.prove_consistency((size - old) as usize);
            if old < size {
                assert_eq!(joined(&ours), theirs.as_bytes());
            }
        }
    }
}

fn joined(path: &[Hash]) -> Vec<u8> {
    path.iter().flat_map(|hash| hash.0).collect()
}

/// All that is one bit, one hash or one number away from a path.
fn mutations(path: &[Hash]) -> Vec<Vec<Hash>> {
    let mut mutated = Vec::new();
    for at in 0..path.len() {
        for bit in 0..256 {
            let mut other = path.to_vec();
            other[at].0[bit / 8] ^= 1 << (bit % 8);
            mutated.push(other);
        }
        mutated.push([&path[..at], &path[at + 1..]].concat());
        if at > 0 && path[at] != path[at - 1] {
            let mut other = path.to_vec();
            other.swap(at, at - 1);
            mutated.push(other);
        }
    }
    for at in 0..=path.len() {
        for extra in [
            Hash::ZERO,
            empty_root(),
            path.first().copied().unwrap_or_default(),
        ] {
            mutated.push([&path[..at], &[extra], &path[at..]].concat());
        }
    }
    mutated
}

#[test]
fn mutated_inclusion_proofs_are_refused() {
    let all = leaves(23);
    let (state, root) = grown(&[23]);
    for index in 0..23 {
        let leaf = &all[index as usize];
        let proof = inclusion_proof(&state, &TREE, index, 23).unwrap();
        for mutated in mutations(&proof) {
            assert!(verify_inclusion(leaf, index, 23, &mutated, &root).is_err());
        }
        for other in (0..40).filter(|other| *other != index) {
            assert!(verify_inclusion(leaf, other, 23, &proof, &root).is_err());
        }
        assert!(verify_inclusion(&node_hash(leaf, leaf), index, 23, &proof, &root).is_err());
    }
}

#[test]
fn mutated_consistency_proofs_are_refused() {
    let all = leaves(23);
    let (state, root) = grown(&[23]);
    for old in 1..23 {
        let old_root = mth(&all[..old as usize]);
        let proof = consistency_proof(&state, &TREE, old, 23).unwrap();
        for mutated in mutations(&proof) {
            assert!(verify_consistency(old, &old_root, 23, &root, &mutated).is_err());
        }
        for other in (1..=23).filter(|other| *other != old) {
            assert!(verify_consistency(other, &old_root, 23, &root, &proof).is_err());
        }
        assert!(verify_consistency(old, &Hash::ZERO, 23, &root, &proof).is_err());
        assert!(verify_consistency(old, &old_root, 23, &Hash::ZERO, &proof).is_err());
    }
}

#[test]
fn equal_and_empty_sizes_take_the_empty_path_and_the_right_roots() {
    let (root, other, empty) = (mth(&leaves(5)), mth(&leaves(6)), empty_root());
    assert_eq!(verify_consistency(5, &root, 5, &root, &[]), Ok(()));
    assert_eq!(verify_consistency(0, &empty, 5, &root, &[]), Ok(()));
    assert_eq!(verify_consistency(0, &empty, 0, &empty, &[]), Ok(()));
    assert!(verify_consistency(5, &root, 5, &other, &[]).is_err());
    assert!(verify_consistency(5, &root, 5, &root, &[root]).is_err());
    assert!(verify_consistency(0, &root, 5, &root, &[]).is_err());
    assert!(verify_consistency(0, &root, 0, &root, &[]).is_err());
    assert!(verify_consistency(0, &empty, 5, &root, &[root]).is_err());
    assert!(verify_consistency(6, &other, 5, &root, &[]).is_err());
    assert!(verify_inclusion(&root, 0, 0, &[], &root).is_err());
}

#[test]
fn extreme_sizes_in_a_proof_neither_panic_nor_pass() {
    let hash = leaf_hash(b"x");
    let long = vec![hash; MAX_PATH + 1];
    for size in [1 << 63, u64::MAX - 1, u64::MAX] {
        for index in [0, 1, size / 2, size - 1] {
            for len in 0..long.len() {
                assert!(verify_inclusion(&hash, index, size, &long[..len], &hash).is_err());
                let old = index.max(1);
                assert!(verify_consistency(old, &hash, size, &hash, &long[..len]).is_err());
            }
            let empty = MemoryState::default();
            let made = inclusion_proof(&empty, &TREE, index, size);
            assert!(matches!(made, Err(LogError::State(_))));
            let made = consistency_proof(&empty, &TREE, index.max(1), size);
            assert!(matches!(made, Err(LogError::State(_))) || index.max(1) == size);
        }
    }
    assert!(super::root(&MemoryState::default(), &TREE, u64::MAX).is_err());
}

#[test]
fn proofs_of_what_is_not_there_are_not_made() {
    let (state, _) = grown(&[5]);
    let made = inclusion_proof(&state, &TREE, 5, 5);
    assert_eq!(made, Err(LogError::NoSuchLeaf { index: 5, size: 5 }));
    let made = consistency_proof(&state, &TREE, 6, 5);
    assert_eq!(made, Err(LogError::Shrinks { old: 6, new: 5 }));
}

#[test]
fn a_missing_or_short_tile_is_corruption() {
    let (whole, root) = grown(&[300]);
    let is_corrupt = |error: &StateError| matches!(error, StateError::Corrupt { .. });
    let keys: Vec<Vec<u8>> = whole.pairs().keys().cloned().collect();
    assert!(
        keys.iter()
            .all(|key| key[0] == rooms::TILE && key.len() == 43)
    );
    for key in keys {
        let tile = whole.pairs()[&key].clone();
        for damaged in [
            None,
            Some(0),
            Some(31),
            Some(tile.len() - 32),
            Some(tile.len() - 1),
        ] {
            let mut pairs = whole.pairs().clone();
            match damaged {
                None => pairs.remove(&key),
                Some(len) => pairs.insert(key.clone(), tile.slice(..len)),
            };
            let mut state = MemoryState::default();
            state.commit(pairs.into_iter().collect());
            let mut failed = 0;
            for index in 0..300 {
                match inclusion_proof(&state, &TREE, index, 300) {
                    Ok(proof) => {
                        let leaf = leaf_hash(&index.to_be_bytes());
                        assert_eq!(verify_inclusion(&leaf, index, 300, &proof, &root), Ok(()));
                    }
                    Err(LogError::State(error)) => {
                        assert!(is_corrupt(&error));
                        failed += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(failed > 0);
        }
    }
    let mut overlay = Overlay::new(&whole);
    assert!(is_corrupt(
        &append(&mut overlay, &TREE, 299, &leaves(1)).unwrap_err()
    ));
    assert!(is_corrupt(
        &append(&mut overlay, &TREE, 301, &leaves(1)).unwrap_err()
    ));
    assert!(is_corrupt(
        &append(&mut overlay, &TREE, u64::MAX, &leaves(1)).unwrap_err()
    ));
}

#[test]
fn trees_do_not_touch_each_other() {
    let mut state = MemoryState::default();
    let ids = [
        TreeId::LEDGER,
        TreeId::roster(&Hash::ZERO),
        TreeId::acts_of(&[0; 32]),
        TreeId::ranking(&Hash::ZERO, 0, 1),
        TreeId::ranking(&Hash::ZERO, 1, 0),
    ];
    for (id, size) in ids.iter().zip(1..) {
        let mut overlay = Overlay::new(&state);
        append(&mut overlay, id, 0, &leaves(size)).unwrap();
        state.commit(overlay.into_writes());
    }
    for (id, size) in ids.iter().zip(1..) {
        assert_eq!(super::root(&state, id, size), Ok(mth(&leaves(size))));
    }
}

#[test]
fn paths_from_protobuf_are_bounded_and_made_of_hashes() {
    let hash = Bytes::from_static(&[7; 32]);
    assert_eq!(
        read_path(std::slice::from_ref(&hash)),
        Ok(vec![Hash([7; 32])])
    );
    assert_eq!(
        read_path(&[hash.clone(), hash.slice(..31)]),
        Err(ProofError::NotAHash { at: 1, len: 31 })
    );
    assert!(read_path(&vec![hash.clone(); MAX_PATH]).is_ok());
    assert!(read_path(&vec![hash; MAX_PATH + 1]).is_err());
}

proptest! {
    #[test]
    fn splitting_appends_changes_neither_root_nor_tiles(
        batches in prop::collection::vec(0usize..90, 0..8),
    ) {
        let total = batches.iter().sum::<usize>();
        let (split, root) = grown(&batches);
        let (whole, root_of_whole) = grown(&[total]);
        prop_assert_eq!(split.pairs(), whole.pairs());
        let all = leaves(total as u64);
        prop_assert_eq!(root, mth(&all));
        prop_assert_eq!(root_of_whole, root);
        prop_assert_eq!(root_of(&all), root);
        prop_assert_eq!(super::root(&split, &TREE, total as u64), Ok(root));
    }

    #[test]
    fn a_tree_without_the_tiles_that_one_append_fills_has_the_same_roots_and_proofs(
        batches in prop::collection::vec(1usize..90, 1..8),
    ) {
        let all = leaves(batches.iter().sum::<usize>() as u64);
        let (mut state, mut size) = (MemoryState::default(), 0);
        for batch in &batches {
            let mut overlay = Overlay::new(&state);
            let new = &all[size..size + batch];
            size += batch;
            let root = append_kept_leaves(&mut overlay, &TREE, size as u64 - *batch as u64, new);
            prop_assert_eq!(root, Ok(mth(&all[..size])));
            state.commit(overlay.into_writes());
        }
        let mut first = 0;
        for batch in &batches {
            let kept = first..first + batch;
            for index in kept.clone() {
                let of_batch = |leaf: u64| {
                    let leaf = usize::try_from(leaf).unwrap();
                    kept.contains(&leaf).then(|| all[leaf])
                };
                let (at, of) = (index as u64, size as u64);
                let proof = inclusion_proof_from(&state, &TREE, at, of, of_batch);
                prop_assert_eq!(proof, Ok(path(index, &all)));
                // What is left out is missed, and never taken for something else.
                let tile = index / 16 * 16..index / 16 * 16 + 16;
                let left_out = kept.start <= tile.start && tile.end <= kept.end;
                let proof = inclusion_proof(&state, &TREE, at, of);
                prop_assert_eq!(proof.is_err(), left_out);
            }
            first += batch;
        }
    }

    #[test]
    fn proofs_between_any_sizes_verify(
        size in 1u64..5000, index in any::<prop::sample::Index>(), old in any::<prop::sample::Index>(),
    ) {
        let all = leaves(size);
        let state = MemoryState::default();
        let mut overlay = Overlay::new(&state);
        let root = append(&mut overlay, &TREE, 0, &all).unwrap();
        let index = index.index(size as usize);
        let proof = inclusion_proof(&overlay, &TREE, index as u64, size).unwrap();
        prop_assert_eq!(&proof, &path(index, &all));
        prop_assert_eq!(verify_inclusion(&all[index], index as u64, size, &proof, &root), Ok(()));
        let old = old.index(size as usize) + 1;
        let proof = consistency_proof(&overlay, &TREE, old as u64, size).unwrap();
        prop_assert_eq!(&proof, &subproof(old, &all, true));
        let old_root = mth(&all[..old]);
        prop_assert_eq!(verify_consistency(old as u64, &old_root, size, &root, &proof), Ok(()));
    }
}
