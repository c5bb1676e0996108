//! What proofs have read of a map, kept for the proofs after them.
//!
//! What holds here: pages are kept by the hash of their subtree and values by their own hash, so what
//! is kept is true of every state that has that hash, and never has to be thrown away because a block
//! came; nothing is kept, or given away, before it was found to have that hash. What stays out: the
//! way through the pages (`proof`).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::page::{Leaf, Page, Place, StoredBranch, split_at_bit};
use super::{get, node_hash, value_hash};
use crate::hash::Hash;
use crate::state::{StateError, StateRead};

/// Longer values are read anew each time.
const MAX_VALUE: usize = 1 << 10;
/// About what a kept page or value takes beside its bytes.
const BESIDE: usize = 128;

/// Pages and values, up to a number of bytes.
#[derive(Debug)]
pub struct Warm {
    /// Half of the bytes that may be kept.
    half: usize,
    kept: Mutex<Generations>,
}

/// What was used since the last turn, and what before: at each turn the older is forgotten.
#[derive(Debug, Default)]
struct Generations {
    newer: ByHash,
    older: ByHash,
    /// Of the newer.
    bytes: usize,
}

type ByHash = HashMap<Hash, Item, BuildHasherDefault<First>>;

/// Hashes are spread evenly as they are: nobody chooses one that fits another's place but by trying,
/// and what is found is compared as a whole.
#[derive(Debug, Default)]
struct First(u64);

impl Hasher for First {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
}

/// A page.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    Branch(StoredBranch),
    Bucket(Arc<Bucket>),
}

#[derive(Debug, Clone)]
enum Item {
    Page(Kept),
    Value(Bytes),
}

impl Item {
    fn bytes(&self) -> usize {
        BESIDE
            + match self {
                Item::Page(Kept::Branch(branch)) => branch.len(),
                Item::Page(Kept::Bucket(bucket)) => bucket.len(),
                Item::Value(value) => value.len(),
            }
    }
}

impl Warm {
    /// Keeps about so many bytes at most; with 0, nothing.
    pub fn new(bytes: usize) -> Warm {
        Warm {
            half: bytes / 2,
            kept: Mutex::default(),
        }
    }

    /// The page at `place`, whose subtree has the hash `hash`.
    pub(super) fn page<S: StateRead + ?Sized>(
        &self,
        state: &S,
        place: &Place,
        hash: &Hash,
    ) -> Result<Kept, StateError> {
        if let Some(Item::Page(kept)) = self.find(hash) {
            return Ok(kept);
        }
        let kept = match Page::read(place, state.get(&place.state_key())?)? {
            Page::Branch(stored) => {
                let branch = stored.open();
                place.expect(hash, &branch.root())?;
                branch.check(place)?;
                Kept::Branch(stored)
            }
            Page::Bucket(leaves) => {
                let bucket = Bucket::new(leaves, place.depth);
                place.expect(hash, &bucket.hash(bucket.root()))?;
                Kept::Bucket(Arc::new(bucket))
            }
        };
        self.keep(*hash, Item::Page(kept.clone()));
        Ok(kept)
    }

    /// The value of a leaf.
    pub(super) fn value<S: StateRead + ?Sized>(
        &self,
        state: &S,
        leaf: &Leaf,
    ) -> Result<Bytes, StateError> {
        if let Some(Item::Value(value)) = self.find(&leaf.value_hash) {
            return Ok(value);
        }
        let value = get(state, &leaf.key)?.unwrap_or_default();
        if value_hash(&value) != leaf.value_hash {
            return Err(StateError::Corrupt {
                place: format!("map value of {}", leaf.key),
                detail: "it is not the one that its leaf has the hash of".to_owned(),
            });
        }
        if value.len() <= MAX_VALUE {
            self.keep(leaf.value_hash, Item::Value(value.clone()));
        }
        Ok(value)
    }

    fn find(&self, hash: &Hash) -> Option<Item> {
        if self.half == 0 {
            return None;
        }
        let mut kept = self.lock();
        if let Some(item) = kept.newer.get(hash) {
            return Some(item.clone());
        }
        let item = kept.older.remove(hash)?;
        self.put(&mut kept, *hash, item.clone());
        Some(item)
    }

    fn keep(&self, hash: Hash, item: Item) {
        if self.half > 0 {
            self.put(&mut self.lock(), hash, item);
        }
    }

    fn put(&self, kept: &mut Generations, hash: Hash, item: Item) {
        kept.bytes += item.bytes();
        kept.newer.insert(hash, item);
        if kept.bytes > self.half {
            kept.older = mem::take(&mut kept.newer);
            kept.bytes = 0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bucket with the hashes of all subtrees in it.
#[derive(Debug)]
pub(super) struct Bucket {
    leaves: Vec<Leaf>,
    /// The first is the empty subtree; halves stand before what they are halves of. There are at
    /// most 32 leaves and 256 levels, so places fit.
    twigs: Vec<Twig>,
}

#[derive(Debug)]
struct Twig {
    hash: Hash,
    holds: Holds,
}

/// What a subtree of a bucket holds.
#[derive(Debug, Clone, Copy)]
enum Holds {
    Nothing,
    /// Which one.
    Leaf(u16),
    /// More than one leaf: where the subtrees one level down stand.
    Halves([u16; 2]),
}

impl Bucket {
    fn new(leaves: Vec<Leaf>, depth: usize) -> Bucket {
        let mut bucket = Bucket {
            leaves: Vec::new(),
            twigs: vec![Twig {
                hash: Hash::ZERO,
                holds: Holds::Nothing,
            }],
        };
        bucket.grow(&leaves, 0, depth);
        bucket.leaves = leaves;
        bucket
    }

    /// Adds the subtree at `depth` of some leaves, before which there are `before`; where it stands.
    fn grow(&mut self, leaves: &[Leaf], before: usize, depth: usize) -> u16 {
        let (hash, holds) = match leaves {
            [] => return 0,
            [leaf] => (leaf.hash(), Holds::Leaf(before as u16)),
            _ => {
                let (left, right) = split_at_bit(leaves, depth);
                let behind = before + left.len();
                let left = self.grow(left, before, depth + 1);
                let right = self.grow(right, behind, depth + 1);
                let hash = node_hash(&self.hash(left), &self.hash(right));
                (hash, Holds::Halves([left, right]))
            }
        };
        self.twigs.push(Twig { hash, holds });
        self.root()
    }

    /// The whole.
    pub(super) fn root(&self) -> u16 {
        (self.twigs.len() - 1) as u16
    }

    /// The subtrees one level down; none where there is one leaf at most.
    pub(super) fn halves(&self, at: u16) -> Option<[u16; 2]> {
        match self.twigs[usize::from(at)].holds {
            Holds::Halves(halves) => Some(halves),
            Holds::Leaf(_) | Holds::Nothing => None,
        }
    }

    pub(super) fn hash(&self, at: u16) -> Hash {
        self.twigs[usize::from(at)].hash
    }

    pub(super) fn leaf(&self, at: u16) -> Option<Leaf> {
        match self.twigs[usize::from(at)].holds {
            Holds::Leaf(leaf) => self.leaves.get(usize::from(leaf)).copied(),
            Holds::Halves(_) | Holds::Nothing => None,
        }
    }

    fn len(&self) -> usize {
        mem::size_of_val(&self.twigs[..]) + mem::size_of_val(&self.leaves[..])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use super::super::{prove, update, verify};
    use super::*;
    use crate::hash;
    use crate::state::{MemoryState, Overlay};

    /// A state that counts what is read of it.
    struct Counted<'a>(&'a MemoryState, Cell<usize>);

    impl StateRead for Counted<'_> {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
            self.1.set(self.1.get() + 1);
            self.0.get(key)
        }

        fn scan(
            &self,
            prefix: &[u8],
            from: &[u8],
            limit: usize,
        ) -> Result<Vec<(Bytes, Bytes)>, StateError> {
            self.0.scan(prefix, from, limit)
        }
    }

    fn key(number: u32) -> Hash {
        hash::plain(&number.to_be_bytes())
    }

    /// Brings values into a map; its new root.
    fn changed(
        state: &mut MemoryState,
        root: &Hash,
        numbers: std::ops::Range<u32>,
        value: u8,
    ) -> Hash {
        let pairs = numbers.map(|number| (key(number), Bytes::from(vec![value; 9])));
        let pairs: BTreeMap<Hash, Bytes> = pairs.collect();
        let mut overlay = Overlay::new(&*state);
        let root = update(&mut overlay, root, &pairs).unwrap();
        let writes = overlay.into_writes();
        state.commit(writes);
        root
    }

    #[test]
    fn a_warm_proof_is_the_cold_one_on_every_state_and_reads_nothing_twice() {
        for bytes in [0, 4_000, 1 << 20] {
            let warm = Warm::new(bytes);
            let mut state = MemoryState::default();
            let mut root = Hash::ZERO;
            for (round, count) in [1, 20, 900, 2_000].into_iter().enumerate() {
                root = changed(&mut state, &root, 0..count, round as u8 + 1);
                for number in 0..count + 20 {
                    let cold = prove(&state, &root, &key(number)).unwrap();
                    for _ in 0..2 {
                        assert_eq!(warm.prove(&state, &root, &key(number)).unwrap(), cold);
                    }
                    assert_eq!(
                        verify(&root, &key(number), &cold).unwrap().is_some(),
                        number < count
                    );
                }
            }
            let counted = Counted(&state, Cell::new(0));
            for _ in 0..2 {
                warm.prove(&counted, &root, &key(7)).unwrap();
            }
            let reads = counted.1.get();
            match bytes {
                0 => assert!(reads >= 6, "{reads}"),
                4_000 => {}
                _ => assert_eq!(reads, 0),
            }
            let kept = warm.lock();
            let all = kept.newer.values().chain(kept.older.values());
            assert!(all.map(Item::bytes).sum::<usize>() <= bytes + 8_192);
        }
    }

    #[test]
    fn what_is_damaged_when_it_is_read_is_not_kept() {
        let mut state = MemoryState::default();
        let root = changed(&mut state, &Hash::ZERO, 0..2_000, 1);
        let sound = prove(&state, &root, &key(7)).unwrap();
        let place = Place::ROOT.state_key();
        let page = state.get(&place).unwrap().unwrap();
        let mut damaged = page.to_vec();
        for byte in &mut damaged[5..] {
            *byte ^= 1;
        }
        let put = |state: &mut MemoryState, page: Bytes| {
            let mut overlay = Overlay::new(&*state);
            overlay.put(place.clone(), page);
            let writes = overlay.into_writes();
            state.commit(writes);
        };
        let warm = Warm::new(1 << 20);
        put(&mut state, damaged.into());
        assert!(warm.prove(&state, &root, &key(7)).is_err());
        put(&mut state, page);
        assert_eq!(warm.prove(&state, &root, &key(7)).unwrap(), sound);
    }
}
