//! The tags that a lottery's roster has, so that nobody comes in twice.
//!
//! What holds here: tags are kept as sorted runs, as many as the binary number of batches has ones.
//! A new batch is looked up in every run, and merged with those below its place, as one carries in
//! an addition: each tag is written a logarithm of times, in long records, instead of once in a
//! record of its own, which costs a database several times as much as the tag is long. A run at
//! level l is cut by the tags' first bits, so that a batch of one row reads little.
//!
//! Records, big-endian, under the leaf of the lottery's opening (8): nothing → number of batches (4);
//! `level (1) ‖ page (4)` → tags, ascending, [`KEPT`] bytes each.

use bytes::Bytes;

use crate::rooms;
use crate::state::{Overlay, StateError, StateRead};

/// Bytes of a tag that are kept and compared: what whoever holds both keys would have to search for
/// 2^64 rows to find twice, and gain nothing but a refusal.
const KEPT: usize = 16;
/// Runs up to this level are one page: below it a page would be shorter than a record's overhead.
const WHOLE_LEVELS: u32 = 6;

type Tag = [u8; KEPT];

/// Adds a batch of tags; `false`, and nothing written, where one stands in it twice or was there
/// before.
pub(super) fn add<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    open_leaf_index: u64,
    tags: impl IntoIterator<Item = [u8; 32]>,
) -> Result<bool, StateError> {
    let kept = |tag: [u8; 32]| *tag.first_chunk::<KEPT>().expect("a tag is longer");
    let mut batch: Vec<Tag> = tags.into_iter().map(kept).collect();
    batch.sort_unstable_by_key(|tag| u128::from_be_bytes(*tag));
    if batch.array_windows().any(|[a, b]| a == b) {
        return Ok(false);
    }
    let runs = Runs { open_leaf_index };
    let batches = runs.batches(state)?;
    // Below this level the new run is merged with those that are there, and takes their place.
    let free = batches.trailing_ones();
    let mut run = batch.clone();
    for level in (0..u32::BITS).filter(|level| batches >> level & 1 == 1) {
        let wanted = match level < free {
            true => (0..1 << cut(level)).collect(),
            false => touched(&batch, level),
        };
        let pages = runs.pages(state, level, &wanted)?;
        let mut old: Vec<Tag> = Vec::new();
        for (page, bytes) in wanted.iter().zip(&pages) {
            let there = tags_of(bytes)?;
            if any_in(of_page(&batch, level, *page), there) {
                return Ok(false);
            }
            if level < free {
                old.extend_from_slice(there);
            }
        }
        if level < free {
            run = merged(&old, &run);
        }
    }
    runs.put(state, free, &run);
    state.put(runs.key(&[]), (batches + 1).to_be_bytes().to_vec());
    Ok(true)
}

/// So many of a tag's first bits choose its page.
fn cut(level: u32) -> u32 {
    level.saturating_sub(WHOLE_LEVELS)
}

fn page_of(tag: &Tag, level: u32) -> u32 {
    let [a, b, c, d, ..] = *tag;
    let first = u64::from(u32::from_be_bytes([a, b, c, d]));
    (first >> (u32::BITS - cut(level))) as u32
}

/// The pages that tags of `run` fall into, ascending.
fn touched(run: &[Tag], level: u32) -> Vec<u32> {
    let mut pages: Vec<u32> = run.iter().map(|tag| page_of(tag, level)).collect();
    pages.dedup();
    pages
}

fn of_page(run: &[Tag], level: u32, page: u32) -> &[Tag] {
    let from = run.partition_point(|tag| page_of(tag, level) < page);
    let to = run.partition_point(|tag| page_of(tag, level) <= page);
    &run[from..to]
}

/// Whether two ascending lists have a tag in common. The second is the longer one: from each tag of
/// the first on it is searched in steps that double, so that what is near is found near.
fn any_in(few: &[Tag], mut many: &[Tag]) -> bool {
    for tag in few {
        let mut step = 1;
        while many.get(step).is_some_and(|other| before(other, tag)) {
            many = &many[step..];
            step *= 2;
        }
        let near = &many[..many.len().min(step + 1)];
        many = &many[near.partition_point(|other| before(other, tag))..];
        if many.first() == Some(tag) {
            return true;
        }
    }
    false
}

/// As numbers: quicker than byte by byte.
fn before(a: &Tag, b: &Tag) -> bool {
    u128::from_be_bytes(*a) < u128::from_be_bytes(*b)
}

fn merged(a: &[Tag], b: &[Tag]) -> Vec<Tag> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut all = Vec::with_capacity(a.len() + b.len());
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        let next = if before(x, y) { a.next() } else { b.next() };
        all.extend(next.copied());
    }
    all.extend(a.chain(b).copied());
    all
}

fn tags_of(bytes: &Bytes) -> Result<&[Tag], StateError> {
    match bytes.as_chunks::<KEPT>() {
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

/// The records of one lottery.
struct Runs {
    open_leaf_index: u64,
}

impl Runs {
    fn key(&self, rest: &[&[u8]]) -> Vec<u8> {
        let open = self.open_leaf_index.to_be_bytes();
        rooms::key(rooms::ROSTER_TAGS, &[&[&open[..]], rest].concat())
    }

    fn page_key(&self, level: u32, page: u32) -> Vec<u8> {
        self.key(&[&[level as u8], &page.to_be_bytes()])
    }

    fn batches<S: StateRead + ?Sized>(&self, state: &S) -> Result<u32, StateError> {
        let Some(value) = state.get(&self.key(&[]))? else {
            return Ok(0);
        };
        let number = value.as_ref().try_into().map(u32::from_be_bytes);
        number.map_err(|_| corrupt("not a number of batches"))
    }

    fn pages<S: StateRead + ?Sized>(
        &self,
        state: &S,
        level: u32,
        pages: &[u32],
    ) -> Result<Vec<Bytes>, StateError> {
        let keys = pages.iter().map(|page| self.page_key(level, *page));
        let found = state.multi_get(&keys.collect::<Vec<_>>())?;
        let there = |page: Option<Bytes>| page.ok_or_else(|| corrupt("a page is missing"));
        found.into_iter().map(there).collect()
    }

    fn put<S: StateRead + ?Sized>(&self, state: &mut Overlay<'_, S>, level: u32, run: &[Tag]) {
        let mut rest = run;
        for page in 0..1 << cut(level) {
            let end = rest.partition_point(|tag| page_of(tag, level) <= page);
            let (tags, after) = rest.split_at(end);
            state.put(self.page_key(level, page), tags.as_flattened().to_vec());
            rest = after;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::state::MemoryState;

    const OPEN: u64 = 7;

    fn tag(number: u64) -> [u8; 32] {
        crate::hash::plain(&number.to_be_bytes()).0
    }

    /// Adds a batch as a block of its own.
    fn add_to(state: &mut MemoryState, numbers: &[u64]) -> bool {
        let mut overlay = Overlay::new(&*state);
        let new = add(&mut overlay, OPEN, numbers.iter().copied().map(tag)).unwrap();
        let writes = overlay.into_writes();
        assert!(new || writes.is_empty(), "a refusal leaves nothing");
        state.commit(writes);
        new
    }

    proptest! {
        #[test]
        fn a_batch_is_refused_exactly_where_a_tag_stands_twice(
            batches in prop::collection::vec(prop::collection::vec(0u64..400, 1..6), 1..120)
        ) {
            let (mut state, mut seen) = (MemoryState::default(), BTreeSet::new());
            for batch in batches {
                let once: BTreeSet<u64> = batch.iter().copied().collect();
                let new = once.len() == batch.len() && once.is_disjoint(&seen);
                prop_assert_eq!(add_to(&mut state, &batch), new);
                if new {
                    seen.extend(once);
                }
            }
        }
    }

    #[test]
    fn single_rows_find_each_other_across_pages_and_levels() {
        let mut state = MemoryState::default();
        // Past level 9, where a run has eight pages.
        for number in 0..700 {
            assert!(add_to(&mut state, &[number]));
        }
        assert!(
            state
                .pairs()
                .keys()
                .any(|key| key.len() == 1 + 8 + 5 && key[9] == 9)
        );
        for number in (0..700).rev() {
            assert!(!add_to(&mut state, &[number]), "{number}");
        }
        assert!(!add_to(&mut state, &[5_000, 31]));
        assert!(!add_to(&mut state, &[5_000, 5_000]));
        assert!(add_to(&mut state, &[5_000]));
    }

    #[test]
    fn batches_of_one_block_see_each_other() {
        let state = MemoryState::default();
        let mut overlay = Overlay::new(&state);
        assert_eq!(add(&mut overlay, OPEN, [tag(1), tag(2)]), Ok(true));
        assert_eq!(add(&mut overlay, OPEN, [tag(3)]), Ok(true));
        assert_eq!(add(&mut overlay, OPEN, [tag(2)]), Ok(false));
        assert_eq!(
            add(&mut overlay, OPEN + 1, [tag(2)]),
            Ok(true),
            "another lottery"
        );
    }

    #[test]
    fn a_damaged_record_is_no_absence() {
        let mut state = MemoryState::default();
        assert!(add_to(&mut state, &[1, 2]));
        let runs = Runs {
            open_leaf_index: OPEN,
        };
        for (key, value) in [(runs.page_key(0, 0), &b"short"[..]), (runs.key(&[]), b"x")] {
            let mut damaged = state.clone();
            damaged.commit([(key, Bytes::copy_from_slice(value))].into());
            let mut overlay = Overlay::new(&damaged);
            assert!(add(&mut overlay, OPEN, [tag(9)]).is_err());
        }
    }
}
