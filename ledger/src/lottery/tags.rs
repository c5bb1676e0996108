//! The tags of rosters that are being filled, so that nobody comes in twice.
//!
//! What holds here: a chunk's tags are looked up among all that its roster has, in memory; a node
//! keeps those from chunk to chunk under the roster's root, so what it keeps is true of every state
//! with that root, and whoever does not have it reads the records and decides alike. What stays out:
//! which chunk may follow which (`rules`).
//!
//! Records, big-endian, under the leaf of the lottery's opening (8): `segment (4)` → the first
//! [`KEPT`] bytes of the tags of [`SEGMENT`] rows, by serial; the last segment may have fewer and is
//! written again as it fills.

mod table;

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::hash::Hash;
use crate::rooms;
use crate::state::{Overlay, StateError, StateRead};
pub(super) use table::Tags;
use table::{Front, KEPT, Seeds, slots_for};

/// Rows in one segment. A roster that comes row by row writes half of that many tags again with each.
const SEGMENT: u64 = 128;
/// Segments in one read: half a megabyte.
const SEGMENTS_PER_READ: usize = 256;
/// Slots that are kept in memory, of all rosters' tables together: those of the largest roster that may
/// be, and with their tags about 86 MB.
const MOST_SLOTS: usize = slots_for(super::rules::MAX_LOTTERY_ROWS as usize);

/// What is kept in memory of rosters that are being filled.
#[derive(Debug)]
pub struct OpenRosters {
    seeds: Seeds,
    /// The one that was used last is the last one.
    rosters: Mutex<Vec<(Hash, Tags)>>,
}

impl OpenRosters {
    /// None yet. Registrars choose tags: `secret` is random, or else tags could be chosen that make
    /// looking others up slow. What is found does not depend on it.
    pub fn new(secret: &[u8; 32]) -> OpenRosters {
        OpenRosters {
            seeds: Seeds::new(secret),
            rosters: Mutex::default(),
        }
    }

    /// The tags of a roster: kept ones, or else those of the state's records.
    pub(super) fn take<S: StateRead + ?Sized>(
        &self,
        state: &S,
        roster: &Roster,
    ) -> Result<Tags, StateError> {
        let mut rosters = self.lock();
        let kept = rosters.iter().position(|(root, _)| *root == roster.root);
        if let Some(at) = kept {
            return Ok(rosters.remove(at).1);
        }
        drop(rosters);
        roster.read(state, &self.seeds)
    }

    /// Keeps the tags of the roster with the root `root`. Where that takes too much, those go that were
    /// not used for the longest time.
    pub(super) fn keep(&self, root: Hash, tags: Tags) {
        let mut rosters = self.lock();
        rosters.push((root, tags));
        let mut sum: usize = rosters.iter().map(|(_, tags)| tags.slots()).sum();
        while sum > MOST_SLOTS {
            sum -= rosters.remove(0).1.slots();
        }
    }

    /// The roster with the root `root` is full: nobody looks a tag up any more.
    pub(super) fn forget(&self, root: &Hash) {
        self.lock().retain(|(kept, _)| kept != root);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Hash, Tags)>> {
        self.rosters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A roster as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roster {
    /// The leaf of the lottery's opening.
    pub(super) open_leaf_index: u64,
    pub(super) rows: u64,
    /// Of its tree.
    pub(super) root: Hash,
}

impl Roster {
    fn key(&self, segment: &[u8]) -> Vec<u8> {
        let open = self.open_leaf_index.to_be_bytes();
        rooms::key(rooms::ROSTER_TAGS, &[&open, segment])
    }

    fn segment_key(&self, segment: u64) -> Vec<u8> {
        // Rows are far below 2^32.
        self.key(&(segment as u32).to_be_bytes())
    }

    fn read<S: StateRead + ?Sized>(&self, state: &S, seeds: &Seeds) -> Result<Tags, StateError> {
        let mut tags = Tags::with_room(*seeds, self.rows as usize);
        let mut rows = 0;
        let prefix = self.key(&[]);
        while rows < self.rows {
            let from = self.segment_key(rows / SEGMENT);
            let segments = state.scan(&prefix, &from, SEGMENTS_PER_READ)?;
            let expected = self.rows.min(rows + segments.len() as u64 * SEGMENT);
            for (_, segment) in &segments {
                let segment = tags_of(segment)?;
                if !tags.add(segment.iter().copied().map(Front), self.rows as usize) {
                    return Err(corrupt("a tag stands there twice"));
                }
                rows += segment.len() as u64;
            }
            if segments.is_empty() || rows != expected {
                return Err(corrupt("a segment is missing, too short or too long"));
            }
        }
        Ok(tags)
    }

    /// Writes the tags of the rows that come behind.
    pub(super) fn put<S: StateRead + ?Sized>(
        &self,
        state: &mut Overlay<'_, S>,
        tags: impl Iterator<Item = [u8; 32]>,
    ) -> Result<(), StateError> {
        let segment_bytes = SEGMENT as usize * KEPT;
        let mut segment = self.rows / SEGMENT;
        let mut bytes = match self.rows % SEGMENT {
            0 => Vec::with_capacity(segment_bytes),
            _ => {
                let begun = state.get(&self.segment_key(segment))?;
                begun
                    .map(Vec::from)
                    .ok_or_else(|| corrupt("the last segment is missing"))?
            }
        };
        for tag in tags {
            bytes.extend_from_slice(&Front::of(&tag).0);
            if bytes.len() >= segment_bytes {
                let full = mem::replace(&mut bytes, Vec::with_capacity(segment_bytes));
                state.put(self.segment_key(segment), full);
                segment += 1;
            }
        }
        if !bytes.is_empty() {
            state.put(self.segment_key(segment), bytes);
        }
        Ok(())
    }
}

fn tags_of(segment: &Bytes) -> Result<&[[u8; KEPT]], StateError> {
    match segment.as_chunks() {
        (tags, []) => Ok(tags),
        _ => Err(corrupt("not a list of tags")),
    }
}

fn corrupt(detail: &str) -> StateError {
    StateError::Corrupt {
        place: "a roster's tags".to_owned(),
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::rules::MAX_LOTTERY_ROWS;
    use super::*;
    use crate::state::MemoryState;

    fn tag(number: u64) -> [u8; 32] {
        crate::hash::plain(&number.to_be_bytes()).0
    }

    /// A roster in a state; its root is made up of its rows' number.
    struct Filling {
        state: MemoryState,
        roster: Roster,
    }

    impl Filling {
        fn new(open_leaf_index: u64) -> Filling {
            Filling {
                state: MemoryState::default(),
                roster: Roster {
                    open_leaf_index,
                    rows: 0,
                    root: Hash::ZERO,
                },
            }
        }

        /// Adds a chunk as a block of its own.
        fn add(&mut self, rosters: &OpenRosters, numbers: &[u64]) -> bool {
            let mut overlay = Overlay::new(&self.state);
            let mut tags = rosters.take(&overlay, &self.roster).unwrap();
            let chunk = numbers.iter().copied().map(tag);
            let new = tags.add_chunk(chunk.clone(), 20_000);
            if new {
                self.roster.put(&mut overlay, chunk).unwrap();
                self.roster.rows += numbers.len() as u64;
                let what = [self.roster.open_leaf_index, self.roster.rows];
                self.roster.root = crate::hash::plain(what.map(u64::to_be_bytes).as_flattened());
            }
            rosters.keep(self.roster.root, tags);
            let writes = overlay.into_writes();
            assert!(new || writes.is_empty(), "a refusal leaves nothing");
            self.state.commit(writes);
            new
        }
    }

    proptest! {
        #[test]
        fn a_chunk_is_refused_exactly_where_a_tag_stands_twice_whatever_is_kept(
            chunks in prop::collection::vec(
                (prop::collection::vec(0u64..1_000_000, 1..200), any::<bool>()), 1..120)
        ) {
            let (mut filling, mut seen) = (Filling::new(7), BTreeSet::new());
            let mut rosters = OpenRosters::new(&[1; 32]);
            for (chunk, restart) in chunks {
                if restart {
                    rosters = OpenRosters::new(&[3; 32]);
                }
                let once: BTreeSet<u64> = chunk.iter().copied().collect();
                let new = once.len() == chunk.len() && once.is_disjoint(&seen);
                prop_assert_eq!(filling.add(&rosters, &chunk), new);
                if new {
                    seen.extend(once);
                }
            }
        }
    }

    #[test]
    fn rosters_that_are_filled_in_turn_do_not_see_each_other() {
        let rosters = OpenRosters::new(&[1; 32]);
        let mut fillings = [Filling::new(7), Filling::new(8)];
        for number in 0..300 {
            for filling in &mut fillings {
                assert!(filling.add(&rosters, &[number]));
                assert!(!filling.add(&rosters, &[1_000 + number, number]));
            }
        }
        assert_eq!(rosters.lock().len(), 2, "one for each roster");
        rosters.forget(&fillings[0].roster.root);
        assert_eq!(rosters.lock().len(), 1);
        for filling in &mut fillings {
            assert!(!filling.add(&rosters, &[31]));
        }
    }

    #[test]
    fn a_record_that_is_damaged_or_missing_is_no_absence() {
        let mut filling = Filling::new(7);
        let rosters = OpenRosters::new(&[1; 32]);
        let numbers: Vec<u64> = (0..2 * SEGMENT + 5).collect();
        assert!(filling.add(&rosters, &numbers));
        let (roster, state) = (filling.roster, filling.state);
        let first = state.get(&roster.segment_key(0)).unwrap().unwrap();
        let twice = [&first[..], &first[..KEPT]].concat();
        let damages = [&b"short"[..], &first[KEPT..], &twice, &[]];
        for (segment, damage) in (0..3).flat_map(|at| damages.map(|damage| (at, damage))) {
            let mut damaged = state.clone();
            let damage = Bytes::copy_from_slice(damage);
            damaged.commit([(roster.segment_key(segment), damage)].into());
            let read = OpenRosters::new(&[1; 32]).take(&damaged, &roster);
            assert!(read.is_err(), "segment {segment}");
        }
        let longer = Roster {
            rows: roster.rows + SEGMENT,
            root: Hash([1; 32]),
            ..roster
        };
        assert!(rosters.take(&state, &longer).is_err());
        assert!(
            longer
                .put(&mut Overlay::new(&state), [tag(1)].into_iter())
                .is_err()
        );
    }

    #[test]
    fn no_more_memory_is_kept_than_one_large_roster_takes() {
        let rosters = OpenRosters::new(&[1; 32]);
        let of = |count: u32| {
            let mut tags = Tags::with_room(rosters.seeds, 0);
            assert!(tags.add_chunk((0..count).map(u64::from).map(tag), MAX_LOTTERY_ROWS));
            tags
        };
        let kept = || -> Vec<u8> {
            let rosters = rosters.lock();
            rosters.iter().map(|(root, _)| root.0[0]).collect()
        };
        let large = || of(MAX_LOTTERY_ROWS / 2);
        assert_eq!(large().slots() * 2, MOST_SLOTS);
        assert_eq!(of(4_096).slots() * 128, MOST_SLOTS, "a little ahead");
        assert_eq!(of(100_000).slots() * 8, MOST_SLOTS, "and no further");
        rosters.keep(Hash([1; 32]), of(10));
        rosters.keep(Hash([2; 32]), large());
        assert_eq!(kept(), [1, 2]);
        rosters.keep(Hash([3; 32]), large());
        assert_eq!(kept(), [2, 3], "the oldest goes first");
    }
}
