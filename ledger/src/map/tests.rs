//! The map against a naive trie, against an independent crate, and against forged proofs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_proto::v1;
use nomt_core::{hasher::NodeHasher, trie};
use proptest::prelude::*;
use prost::Message;

use super::page::{MAX_LEAVES, Place};
use super::*;
use crate::state::{MemoryState, Overlay, StateError, Writes};

type Pairs = BTreeMap<Hash, Bytes>;

/// The map after these batches, and its root.
fn grown(batches: &[Pairs]) -> (MemoryState, Hash) {
    let mut state = MemoryState::default();
    let mut root = Hash::ZERO;
    for batch in batches {
        let writes;
        (root, writes) = update(&state, &Warm::new(0), &root, batch.clone()).unwrap();
        state.commit(writes);
    }
    (state, root)
}

/// The root by definition: of the sorted pairs that share the first `depth` bits.
fn naive_root(pairs: &[(Hash, Bytes)], depth: usize) -> Hash {
    match pairs {
        [] => Hash::ZERO,
        [(key, value)] => leaf_hash(key, &value_hash(value)),
        _ => {
            let (right, left): (Vec<_>, Vec<_>) =
                pairs.iter().cloned().partition(|(key, _)| bit(key, depth));
            node_hash(
                &naive_root(&left, depth + 1),
                &naive_root(&right, depth + 1),
            )
        }
    }
}

fn naive(pairs: &Pairs) -> Hash {
    naive_root(&pairs.clone().into_iter().collect::<Vec<_>>(), 0)
}

fn hashed(count: u32) -> Pairs {
    (0..count)
        .map(|i| {
            let raw = i.to_be_bytes();
            (map_key("test", &raw), Bytes::copy_from_slice(&raw))
        })
        .collect()
}

/// Keys that share long prefixes: few bytes, few values for each, at the front or at the very end.
fn keys() -> impl Strategy<Value = Hash> {
    let sparse = prop::collection::vec((0usize..32, 0u8..4), 0..3).prop_map(|bytes| {
        let mut key = Hash::ZERO;
        for (at, value) in bytes {
            key.0[at] = value;
        }
        key
    });
    let crowded = any::<u8>().prop_map(|last| {
        let mut key = Hash([0xa5; 32]);
        key.0[31] = last;
        key
    });
    prop_oneof![sparse, crowded, any::<[u8; 32]>().prop_map(Hash)]
}

fn pairs(max: usize) -> impl Strategy<Value = Pairs> {
    // Some about as long as the longest that are kept warm.
    let lengths = prop_oneof![9 => 1usize..4, 1 => 1_020usize..1_030];
    let value = (any::<u8>(), lengths).prop_map(|(byte, length)| vec![byte; length].into());
    prop::collection::btree_map(keys(), value, 0..max)
}

/// `key` with bit `depth` the other way.
fn flipped(key: &Hash, depth: usize) -> Hash {
    let mut other = *key;
    other.0[depth / 8] ^= 0x80 >> (depth % 8);
    other
}

fn proves(state: &MemoryState, root: &Hash, key: &Hash, expected: Option<&Bytes>) {
    let proof = prove(state, root, key).unwrap();
    assert_eq!(verify(root, key, &proof), Ok(expected.cloned()), "{key}");
    assert_eq!(get(state, key), Ok(expected.cloned()));
}

proptest! {
    #[test]
    fn the_root_depends_on_the_pairs_alone(batches in prop::collection::vec(pairs(80), 0..5)) {
        let all: Pairs = batches.iter().flatten().map(|(k, v)| (*k, v.clone())).collect();
        let (split, root) = grown(&batches);
        let (whole, root_of_whole) = grown(std::slice::from_ref(&all));
        prop_assert_eq!(root, naive(&all));
        prop_assert_eq!(root_of_whole, root);
        // The pages too, so that nodes which joined later hold the same bytes.
        prop_assert_eq!(split.pairs(), whole.pairs());
    }

    #[test]
    fn what_is_kept_warm_changes_no_root_and_no_page(
        batches in prop::collection::vec(pairs(80), 1..6),
        bytes in prop_oneof![Just(100_000usize), Just(16 << 20)],
        proofs in prop::collection::vec(keys(), 4),
    ) {
        let (warm, cold) = (Warm::new(bytes), Warm::new(0));
        let mut state = MemoryState::default();
        let mut root = Hash::ZERO;
        for batch in &batches {
            let asked: Vec<Hash> = batch.keys().chain(&proofs).copied().collect();
            let known = get_many(&state, &asked);
            prop_assert_eq!(warm.get_many(&state, &root, &asked), known.clone());
            // Some of the pages are kept by a proof.
            for key in batch.keys().take(4).chain(&proofs) {
                prop_assert_eq!(warm.prove(&state, &root, key), prove(&state, &root, key));
            }
            let updated = update(&state, &warm, &root, batch.clone()).unwrap();
            prop_assert_eq!(&updated, &update(&state, &cold, &root, batch.clone()).unwrap());
            // The state before is still read as it was.
            prop_assert_eq!(warm.get_many(&state, &root, &asked), known);
            // An update that is not taken spoils nothing.
            prop_assert_eq!(&updated, &update(&state, &warm, &root, batch.clone()).unwrap());
            state.commit(updated.1);
            root = updated.0;
            prop_assert_eq!(warm.get_many(&state, &root, &asked), get_many(&state, &asked));
        }
    }

    #[test]
    fn values_and_absences_verify(all in pairs(120), absent in prop::collection::vec(keys(), 20)) {
        let (state, root) = grown(std::slice::from_ref(&all));
        for (key, value) in &all {
            proves(&state, &root, key, Some(value));
        }
        let near = all.keys().flat_map(|key| [0, 1, 7, 100, 254, 255].map(|d| flipped(key, d)));
        for key in near.chain(absent).filter(|key| !all.contains_key(key)) {
            proves(&state, &root, &key, None);
        }
    }

    #[test]
    fn no_proof_serves_another_key_or_root(all in pairs(60), key in keys(), other in keys()) {
        let (state, root) = grown(std::slice::from_ref(&all));
        let proof = prove(&state, &root, &key).unwrap();
        // It may show the absence of a neighbour; it must never say what is not so.
        if let Ok(said) = verify(&root, &other, &proof) {
            prop_assert_eq!(said, all.get(&other).cloned());
        }
        if !all.is_empty() {
            prop_assert!(verify(&Hash::ZERO, &key, &proof).is_err());
            prop_assert!(verify(&flipped(&root, 9), &key, &proof).is_err());
        }
    }

    #[test]
    fn pages_that_are_garbage_are_corruption(
        form in 0u8..3,
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        hashes in prop::option::of(0usize..70),
    ) {
        let len = hashes.map_or(bytes.len(), |hashes| bytes.len().min(32 * hashes));
        let mut state = MemoryState::default();
        let stored = Bytes::from([&[form], &bytes[..len]].concat());
        state.commit([(Place::ROOT.state_key(), stored)].into());
        let root = node_hash(&Hash::ZERO, &Hash::ZERO);
        let key = map_key("test", &[form]);
        prop_assert!(prove(&state, &root, &key).is_err());
        prop_assert!(update(&state, &Warm::new(0), &root, hashed(3)).is_err());
    }

    #[test]
    fn arbitrary_proofs_prove_nothing_and_do_not_panic(
        bitmap in prop::collection::vec(any::<u8>(), 0..40),
        depth in 0u32..300,
        siblings in prop::collection::vec(prop::collection::vec(any::<u8>(), 31..34), 0..9),
    ) {
        let proof = v1::MapProof {
            sibling_bitmap: bitmap.into(),
            depth,
            siblings: siblings.into_iter().map(Bytes::from).collect(),
            ..Default::default()
        };
        prop_assert!(verify(&value_hash(b"x"), &Hash::ZERO, &proof).is_err());
    }
}

#[test]
fn a_thousand_hashed_keys_prove_and_are_overwritten() {
    let mut all = hashed(1000);
    let (mut state, old_root) = grown(std::slice::from_ref(&all));
    let changes: Pairs = all
        .keys()
        .step_by(7)
        .map(|k| (*k, Bytes::from_static(b"new")))
        .collect();
    let (root, writes) = update(&state, &Warm::new(0), &old_root, changes.clone()).unwrap();
    // Read through an overlay, before the block is committed.
    let mut overlay = Overlay::new(&state);
    overlay.extend(writes);
    for key in changes.keys() {
        let proof = prove(&overlay, &root, key).unwrap();
        assert_eq!(
            verify(&root, key, &proof),
            Ok(Some(Bytes::from_static(b"new")))
        );
    }
    state.commit(overlay.into_writes());
    all.extend(changes);
    assert_eq!(root, naive(&all));
    for (key, value) in &all {
        proves(&state, &root, key, Some(value));
    }
    for i in 1000u32..2000 {
        proves(&state, &root, &map_key("test", &i.to_be_bytes()), None);
    }
}

/// A hasher for nomt's trie with Cairn's hashes.
struct Nomt;

impl NodeHasher for Nomt {
    fn hash_leaf(data: &trie::LeafData) -> [u8; 32] {
        leaf_hash(&Hash(data.key_path), &Hash(data.value_hash)).0
    }

    fn hash_internal(data: &trie::InternalData) -> [u8; 32] {
        node_hash(&Hash(data.left), &Hash(data.right)).0
    }

    fn node_kind(node: &trie::Node) -> trie::NodeKind {
        nomt_core::hasher::node_kind_by_msb(node)
    }
}

#[test]
fn nomt_builds_the_same_roots() {
    for count in [0, 1, 2, 3, 31, 32, 33, 34, 500, 3000] {
        let all = hashed(count);
        let (_, root) = grown(std::slice::from_ref(&all));
        let ops = all.iter().map(|(key, value)| (key.0, value_hash(value).0));
        let theirs = nomt_core::update::build_trie::<Nomt>(0, ops, |_| {});
        assert_eq!(root.0, theirs, "{count} keys");
    }
}

#[test]
fn an_empty_map_proves_absence_with_nothing() {
    let (state, root) = grown(&[]);
    assert_eq!(root, Hash::ZERO);
    let key = map_key("test", b"x");
    let proof = prove(&state, &root, &key).unwrap();
    assert_eq!(proof, v1::MapProof::default());
    assert_eq!(verify(&root, &key, &proof), Ok(None));
    assert!(verify(&value_hash(b"x"), &key, &proof).is_err());
}

#[test]
fn every_single_bit_mutation_of_a_proof_is_refused() {
    let all = hashed(200);
    let (state, root) = grown(std::slice::from_ref(&all));
    let absent = (200u32..260).map(|i| map_key("test", &i.to_be_bytes()));
    let (mut empty, mut other_leaf) = (0, 0);
    for key in all.keys().copied().step_by(10).chain(absent) {
        let proof = prove(&state, &root, &key).unwrap();
        let said = verify(&root, &key, &proof).unwrap();
        match (&said, proof.other_key.is_empty()) {
            (None, true) => empty += 1,
            (None, false) => other_leaf += 1,
            _ => {}
        }
        let bytes = proof.encode_to_vec();
        for bit in 0..8 * bytes.len() {
            let mut mutated = bytes.clone();
            mutated[bit / 8] ^= 1 << (bit % 8);
            // What decodes to the same message is the canonical walk's to refuse.
            let Ok(mutated) = v1::MapProof::decode(mutated.as_slice()) else {
                continue;
            };
            if mutated != proof {
                assert!(verify(&root, &key, &mutated).is_err(), "bit {bit} of {key}");
            }
        }
    }
    assert!(
        empty > 0 && other_leaf > 0,
        "both kinds of absence were there"
    );
}

#[test]
fn parts_that_nothing_uses_are_refused() {
    let all = hashed(50);
    let (state, root) = grown(std::slice::from_ref(&all));
    for (key, value) in &all {
        let proof = prove(&state, &root, key).unwrap();
        let refuse = |change: &dyn Fn(&mut v1::MapProof)| {
            let mut changed = proof.clone();
            change(&mut changed);
            assert!(verify(&root, key, &changed).is_err());
        };
        let some = Bytes::from_static(&[1; 32]);
        refuse(&|p| p.siblings.push(some.clone()));
        refuse(&|p| p.siblings.insert(0, some.clone()));
        refuse(&|p| drop(p.siblings.pop()));
        refuse(&|p| p.other_key = some.clone());
        refuse(&|p| p.other_value_hash = some.clone());
        refuse(&|p| (p.other_key, p.other_value_hash) = (some.clone(), some.clone()));
        refuse(&|p| {
            // The key's own leaf shown as another's.
            p.value = Bytes::new();
            p.other_key = key.to_bytes();
            p.other_value_hash = value_hash(value).to_bytes();
        });
        refuse(&|p| p.value = Bytes::new());
        refuse(&|p| p.sibling_bitmap = [&p.sibling_bitmap[..], &[0]].concat().into());
        refuse(&|p| p.depth += 1);
        refuse(&|p| p.depth = u32::MAX);
        refuse(&|p| p.siblings.iter_mut().for_each(|s| *s = s.slice(..31)));
        refuse(&|p| p.siblings[0] = Hash::ZERO.to_bytes());
    }
}

/// A proof whose hashes are right but whose shape no compact trie has.
fn forged(depth: u32, bitmap: &[u8], siblings: &[Hash], value: &[u8]) -> v1::MapProof {
    v1::MapProof {
        sibling_bitmap: Bytes::copy_from_slice(bitmap),
        depth,
        siblings: siblings.iter().map(|hash| hash.to_bytes()).collect(),
        value: Bytes::copy_from_slice(value),
        ..Default::default()
    }
}

#[test]
fn terminals_that_would_stand_higher_are_refused() {
    let key = Hash::ZERO;
    let not_compact = |root: &Hash, proof: &v1::MapProof| {
        let refused = Err(ProofError::NotCompact { depth: proof.depth });
        assert_eq!(verify(root, &key, proof), refused);
    };
    let leaf = leaf_hash(&key, &value_hash(b"v"));
    // A leaf beside nothing.
    not_compact(&node_hash(&leaf, &Hash::ZERO), &forged(1, &[0], &[], b"v"));
    // Nothing beside a leaf: it hides a key that moved up, or invents an absence.
    not_compact(
        &node_hash(&Hash::ZERO, &leaf),
        &forged(1, &[0x80], &[leaf], b""),
    );
    // Nothing beside nothing.
    not_compact(
        &node_hash(&Hash::ZERO, &Hash::ZERO),
        &forged(1, &[0], &[], b""),
    );
    // The same below a node.
    let node = node_hash(&leaf, &leaf);
    let root = node_hash(&node_hash(&leaf, &Hash::ZERO), &node);
    not_compact(&root, &forged(2, &[0x80], &[node], b"v"));
    // Nothing beside a node is a shape that exists.
    let proof = forged(1, &[0x80], &[node], b"");
    assert_eq!(
        verify(&node_hash(&Hash::ZERO, &node), &key, &proof),
        Ok(None)
    );
}

#[test]
fn two_keys_that_differ_in_the_last_bit_prove_at_depth_256() {
    let keys = [Hash([0x5a; 32]), flipped(&Hash([0x5a; 32]), 255)];
    let all: Pairs = keys
        .iter()
        .map(|key| (*key, Bytes::from_static(b"v")))
        .collect();
    let (state, root) = grown(std::slice::from_ref(&all));
    assert_eq!(root, naive(&all));
    for key in &keys {
        let proof = prove(&state, &root, key).unwrap();
        assert_eq!((proof.depth, proof.siblings.len()), (256, 1));
        assert_eq!(proof.sibling_bitmap.len(), 32);
        proves(&state, &root, key, all.get(key));
    }
}

#[test]
fn a_crowd_below_one_long_prefix_is_only_deep() {
    // More than a bucket holds below 248 equal bits: a chain of branches with one child each.
    let all: Pairs = (0..=255u8)
        .map(|last| {
            let mut key = Hash([0xc3; 32]);
            key.0[31] = last;
            (key, Bytes::from(vec![last]))
        })
        .collect();
    assert!(all.len() > MAX_LEAVES);
    let batches: Vec<Pairs> = all
        .iter()
        .map(|(k, v)| Pairs::from([(*k, v.clone())]))
        .collect();
    let (state, root) = grown(&batches);
    assert_eq!(root, naive(&all));
    for (key, value) in &all {
        proves(&state, &root, key, Some(value));
        proves(&state, &root, &flipped(key, 247), None);
    }
}

#[test]
fn a_damaged_page_or_value_is_corruption_and_never_an_absence() {
    let all = hashed(300);
    let (whole, root) = grown(std::slice::from_ref(&all));
    for (damaged, bytes) in whole.pairs() {
        for with in [
            None,
            Some(bytes.slice(..bytes.len() - 1)),
            Some(flip_last_bit(bytes)),
        ] {
            let mut pairs = whole.pairs().clone();
            match with {
                None => pairs.remove(damaged),
                Some(with) => pairs.insert(damaged.clone(), with),
            };
            let mut state = MemoryState::default();
            state.commit(pairs.into_iter().collect());
            let mut noticed = 0;
            for (key, value) in &all {
                match prove(&state, &root, key) {
                    Ok(proof) => assert_eq!(verify(&root, key, &proof), Ok(Some(value.clone()))),
                    Err(error) => {
                        assert!(matches!(error, StateError::Corrupt { .. }));
                        noticed += 1;
                    }
                }
            }
            assert!(noticed > 0);
            // An update that passes every page notices every damaged one, and every damaged value.
            assert!(update(&state, &Warm::new(0), &root, all.clone()).is_err());
        }
    }
}

fn flip_last_bit(bytes: &Bytes) -> Bytes {
    let mut flipped = bytes.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    flipped.into()
}

#[test]
fn an_update_without_changes_reads_and_writes_nothing() {
    let state = MemoryState::default();
    let root = value_hash(b"a root whose pages are not there");
    let warm = Warm::new(0);
    let nothing = Ok((root, Writes::new()));
    assert_eq!(update(&state, &warm, &root, Pairs::new()), nothing);
    assert!(update(&state, &warm, &root, hashed(1)).is_err());
}
