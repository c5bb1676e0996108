//! What updates and proofs have read and made of a map, kept for those after them.
//!
//! What holds here: pages are kept by the hash of their subtree, buckets with their values, so what is
//! kept is true of every state that has that hash, and never has to be thrown away because a block
//! came; nothing is kept, or given away, before it was found to have that hash. A page that an update
//! replaces goes, so that what is kept does not grow with the blocks. What stays out: the way through
//! the pages (`proof`, `read`, `trie`).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::bucket::Bucket;
use super::page::{Branch, Place};
use crate::hash::Hash;
use crate::state::{StateError, StateRead};

/// Parts, each with a lock of its own and its share of the bytes.
const PARTS: usize = 64;
/// About what a kept page takes beside its bytes.
const BESIDE: usize = 128;

/// Pages, up to a number of bytes.
#[derive(Debug)]
pub struct Warm {
    /// Bytes that a part may keep.
    share: usize,
    parts: [Mutex<Part>; PARTS],
}

#[derive(Debug, Default)]
struct Part {
    pages: ByHash,
    bytes: usize,
}

impl Part {
    fn find(&self, hash: &Hash) -> Option<&Page> {
        self.pages
            .get(&first(hash))
            .filter(|page| page.hash() == hash)
    }

    fn remove(&mut self, hash: &Hash) -> Option<Page> {
        let page = self.pages.remove(&first(hash))?;
        self.bytes -= page.bytes();
        (page.hash() == hash).then_some(page)
    }

    /// When there is too much, every second goes, whichever it is: batches go over all pages in
    /// turn, so what was used last is not what is used next.
    fn insert(&mut self, hash: Hash, page: Page, share: usize) {
        self.remove(&hash);
        if page.bytes() > share {
            return;
        }
        self.bytes += page.bytes();
        self.pages.insert(first(&hash), page);
        while self.bytes > share {
            let mut stays = true;
            self.pages.retain(|_, _| {
                stays = !stays;
                stays
            });
            self.bytes = self.pages.values().map(Page::bytes).sum();
        }
    }
}

/// By the first bytes of a hash. What is found is compared as a whole; of two hashes that begin alike, for
/// which somebody would have to search long, one is kept.
type ByHash = HashMap<u64, Page, BuildHasherDefault<First>>;

fn first(hash: &Hash) -> u64 {
    hash.0
        .first_chunk()
        .map_or(0, |first| u64::from_le_bytes(*first))
}

/// Hashes are spread evenly as they are.
#[derive(Debug, Default)]
struct First(u64);

impl Hasher for First {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.write_u64(u64::from_le_bytes(*first));
        }
    }

    fn write_u64(&mut self, first: u64) {
        self.0 = first;
    }
}

/// A page.
#[derive(Debug)]
pub(super) enum Page {
    Branch(Box<Branch>),
    Bucket(Box<Bucket>),
}

impl Page {
    fn hash(&self) -> &Hash {
        match self {
            Page::Branch(branch) => branch.root(),
            Page::Bucket(bucket) => bucket.hash(),
        }
    }

    fn bytes(&self) -> usize {
        BESIDE
            + match self {
                Page::Branch(_) => mem::size_of::<Branch>(),
                Page::Bucket(bucket) => bucket.len(),
            }
    }
}

impl Warm {
    /// Keeps about so many bytes at most; with 0, nothing.
    pub fn new(bytes: usize) -> Warm {
        Warm {
            share: bytes / PARTS,
            parts: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Looks at the page whose subtree has the hash `hash`, if it is kept. It is not lent: counting who
    /// has it would write to memory that is mostly in no cache, and everything behind waits for that.
    pub(super) fn find<T>(&self, hash: &Hash, look: impl FnOnce(&Page) -> T) -> Option<T> {
        self.part(hash).find(hash).map(look)
    }

    /// The same of the page at `place`, which is read and kept if it was not.
    pub(super) fn look<S: StateRead + ?Sized, T>(
        &self,
        state: &S,
        place: &Place,
        hash: &Hash,
        mut look: impl FnMut(&Page) -> T,
    ) -> Result<T, StateError> {
        if let Some(seen) = self.find(hash, &mut look) {
            return Ok(seen);
        }
        let kept = read(state, place, hash, state.get(&place.state_key())?)?;
        let seen = look(&kept);
        self.keep(*hash, kept);
        Ok(seen)
    }

    /// The pages at some places, whose subtrees have these hashes; none where a subtree is empty. They
    /// are about to be replaced, and are kept no more.
    pub(super) fn take<S: StateRead + ?Sized>(
        &self,
        state: &S,
        places: &[(Place, Hash)],
    ) -> Result<Vec<Option<Page>>, StateError> {
        let take = |(_, hash): &(Place, Hash)| self.part(hash).remove(hash);
        let found: Vec<Option<Page>> = places.iter().map(take).collect();
        let missing = found.iter().zip(places);
        let missing = missing.filter(|(kept, (_, hash))| kept.is_none() && *hash != Hash::ZERO);
        let keys: Vec<Vec<u8>> = missing.map(|(_, (place, _))| place.state_key()).collect();
        let mut stored = state.multi_get(&keys)?.into_iter();
        let pages = found.into_iter().zip(places);
        pages
            .map(|(kept, (place, hash))| match kept {
                None if *hash != Hash::ZERO => {
                    read(state, place, hash, stored.next().flatten()).map(Some)
                }
                kept => Ok(kept),
            })
            .collect()
    }

    /// Keeps a page whose subtree has the hash `hash`.
    pub(super) fn keep(&self, hash: Hash, page: Page) {
        if self.share > 0 {
            self.part(&hash).insert(hash, page, self.share);
        }
    }

    fn part(&self, hash: &Hash) -> MutexGuard<'_, Part> {
        let part = &self.parts[usize::from(hash.0[31]) % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The page at `place`, whose subtree has the hash `hash`; `stored` is what the state has there.
fn read<S: StateRead + ?Sized>(
    state: &S,
    place: &Place,
    hash: &Hash,
    stored: Option<Bytes>,
) -> Result<Page, StateError> {
    if let Some(stored) = stored {
        let branch = Branch::read(place, &stored, hash)?;
        return Ok(Page::Branch(branch.into()));
    }
    let values = place.values(state)?;
    let bucket = Bucket::new(&place.leaves(&values)?, place.depth);
    place.expect(hash, bucket.hash())?;
    Ok(Page::Bucket(bucket.into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use super::super::{prove, update, verify};
    use super::*;
    use crate::hash;
    use crate::state::MemoryState;

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
        let (root, writes) = update(&*state, &Warm::new(0), root, pairs).unwrap();
        state.commit(writes);
        root
    }

    #[test]
    fn a_warm_proof_is_the_cold_one_on_every_state_and_reads_nothing_twice() {
        for bytes in [0, 200_000, 4 << 20] {
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
            warm.get_many(&counted, &root, &[key(7)]).unwrap();
            let reads = counted.1.get();
            match bytes {
                0 => assert!(reads >= 6, "{reads}"),
                200_000 => {}
                _ => assert_eq!(reads, 0),
            }
            let kept = |part: &Mutex<Part>| {
                let part = part.lock().unwrap();
                let sum = part.pages.values().map(Page::bytes).sum::<usize>();
                assert_eq!(part.bytes, sum);
                sum
            };
            assert!(warm.parts.iter().map(kept).sum::<usize>() <= bytes);
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
            state.commit([(place.clone(), page)].into());
        };
        let warm = Warm::new(1 << 20);
        put(&mut state, damaged.into());
        assert!(warm.prove(&state, &root, &key(7)).is_err());
        put(&mut state, page);
        assert_eq!(warm.prove(&state, &root, &key(7)).unwrap(), sound);
    }
}
