//! The tags of one roster in memory: in their order, and a table that finds them.
//!
//! What holds here: a chunk comes in whole or not at all. Looking up reads few bytes at places that
//! nothing foretells, so memory is asked for many of them at once; a hash set took twice as long. What
//! stays out: records, and which roster's tags are kept (`tags`).

use std::hint::black_box;

use crate::lottery::rules::MAX_LOTTERY_ROWS;

/// Bytes of a tag that are kept and compared, which is a rule. By chance two of the largest roster's agree
/// in these once in 10^11 rosters; a registrar who makes two agree gains the refusal of his own chunk.
pub(super) const KEPT: usize = 10;
/// Tags whose places are asked for together.
const AT_ONCE: usize = 64;
/// A table that is full becomes so many times larger than it must, because each time all its tags are put
/// in again. It stays within what the whole roster needs, and within [`SLOTS_AHEAD`].
const GROWTH: usize = 8;
/// Slots, 4 MiB of them, beyond which a table has no more than its tags need.
const SLOTS_AHEAD: usize = slots_for(MAX_LOTTERY_ROWS as usize) / 8;

/// What is kept of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Front(pub(super) [u8; KEPT]);

impl Front {
    pub(super) fn of(tag: &[u8; 32]) -> Front {
        Front(*tag.first_chunk().expect("a tag is longer"))
    }
}

/// The tags of one roster.
#[derive(Debug)]
pub(in crate::lottery) struct Tags {
    fronts: Vec<Front>,
    /// Open addressing with steps of one; a power of two of slots, at least three eighths of them empty.
    slots: Vec<Slot>,
    seeds: Seeds,
}

impl Tags {
    /// None yet, with room for so many.
    pub(super) fn with_room(seeds: Seeds, rows: usize) -> Tags {
        let mut tags = Tags {
            fronts: Vec::new(),
            slots: Vec::new(),
            seeds,
        };
        tags.make_room(rows, rows);
        tags
    }

    fn len(&self) -> usize {
        self.fronts.len()
    }

    /// Slots of the table, to which all its memory is in proportion.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Adds a chunk's tags to those of a roster that may have `most` rows; `false`, and nothing added,
    /// where one stands in it twice or was there before.
    pub(in crate::lottery) fn add_chunk(
        &mut self,
        tags: impl Iterator<Item = [u8; 32]>,
        most: u32,
    ) -> bool {
        self.add(tags.map(|tag| Front::of(&tag)), most as usize)
    }

    pub(super) fn add(&mut self, fronts: impl Iterator<Item = Front>, most: usize) -> bool {
        let held = self.len();
        let fronts: Vec<Front> = fronts.collect();
        self.make_room(fronts.len(), most);
        for fronts in fronts.chunks(AT_ONCE) {
            let mut hashes = [0; AT_ONCE];
            let mut touched = 0;
            for (hash, front) in hashes.iter_mut().zip(fronts) {
                *hash = self.seeds.hash(front);
                touched |= self.slots[self.place(*hash)].0;
            }
            // Nothing waits for one of them before all are asked for.
            black_box(touched);
            for (hash, front) in hashes.iter().zip(fronts) {
                let Some(place) = self.empty_place(*hash, front) else {
                    self.take_back(held);
                    return false;
                };
                self.fronts.push(*front);
                self.slots[place] = Slot::new(*hash, self.fronts.len());
            }
        }
        true
    }

    /// Where `front` goes; none where it is there already.
    fn empty_place(&self, hash: u64, front: &Front) -> Option<usize> {
        let holds =
            |slot: Slot, at: usize| slot == Slot::new(hash, at) && self.fronts[at - 1] == *front;
        let place = self.find(hash, |slot| slot.tag().is_none_or(|at| holds(slot, at)));
        (self.slots[place] == Slot::EMPTY).then_some(place)
    }

    /// Takes those back that were added behind the first `held`, the last one first: nobody had to step
    /// past it, so its slot is empty again.
    fn take_back(&mut self, held: usize) {
        for at in (held + 1..=self.len()).rev() {
            let hash = self.seeds.hash(&self.fronts[at - 1]);
            let place = self.find(hash, |slot| slot == Slot::new(hash, at));
            self.slots[place] = Slot::EMPTY;
        }
        self.fronts.truncate(held);
    }

    /// Room for so many more, of `most` that there may be.
    fn make_room(&mut self, more: usize, most: usize) {
        let tags = self.len() + more;
        if tags * 8 <= self.slots.len() * 5 && !self.slots.is_empty() {
            return;
        }
        let ahead = (slots_for(tags) * GROWTH).min(SLOTS_AHEAD);
        let slots = ahead.min(slots_for(most)).max(slots_for(tags));
        self.slots = vec![Slot::EMPTY; slots];
        self.fronts.reserve_exact(slots / 8 * 5 - self.fronts.len());
        for at in 1..=self.fronts.len() {
            let hash = self.seeds.hash(&self.fronts[at - 1]);
            let place = self.find(hash, |slot| slot == Slot::EMPTY);
            self.slots[place] = Slot::new(hash, at);
        }
    }

    /// The first slot that `is` the one looked for, from the place of `hash` on.
    fn find(&self, hash: u64, is: impl Fn(Slot) -> bool) -> usize {
        let mut place = self.place(hash);
        while !is(self.slots[place]) {
            place = self.place(place as u64 + 1);
        }
        place
    }

    fn place(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }
}

/// The slots of a table with room for so many tags.
pub(super) const fn slots_for(tags: usize) -> usize {
    (tags * 8 / 5 + AT_ONCE).next_power_of_two()
}

/// Which tag is here, from 1, and the upper bits of its hash; 0 where none is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(u32);

/// Enough for the largest roster.
const TAG_BITS: u32 = 22;
const _: () = assert!(MAX_LOTTERY_ROWS < 1 << TAG_BITS);

impl Slot {
    const EMPTY: Slot = Slot(0);

    fn new(hash: u64, at: usize) -> Slot {
        let mark = (hash >> (u64::BITS - (u32::BITS - TAG_BITS))) as u32;
        Slot(mark << TAG_BITS | at as u32)
    }

    fn tag(self) -> Option<usize> {
        let at = self.0 & ((1 << TAG_BITS) - 1);
        (at > 0).then_some(at as usize)
    }
}

/// Hashes of tags for looking them up: a product with both halves of its 128 bits folded together, as
/// wyhash does it. Without the seeds nobody can choose tags whose hashes are alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeds([u64; 2]);

impl Seeds {
    pub(super) fn new(secret: &[u8; 32]) -> Seeds {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| secret[at + byte]));
        Seeds([word(0), word(8)])
    }

    fn hash(&self, front: &Front) -> u64 {
        let mut bytes = [0; 16];
        bytes[..KEPT].copy_from_slice(&front.0);
        let number = u128::from_le_bytes(bytes);
        let high = (number >> u64::BITS) as u64 ^ self.0[0];
        let low = number as u64 ^ self.0[1];
        let product = u128::from(high) * u128::from(low);
        (product >> u64::BITS) as u64 ^ product as u64
    }
}
