//! The lotteries' indexes: where a roster's rows are, and what every node computed of the draw.
//!
//! What holds here: all of it is rebuilt from the log. A chunk's record repeats tiers and weights,
//! so that the draw never needs a body, which may be withheld or erased. Formats, big-endian:
//! chunk = `leaf index (8) ‖ rows (4)`, then, unless all rows are in tier 0 with weight 1,
//! `tier (1) ‖ weight (1)` a row; rankings and ranks in segments of 4,096 numbers of 4 bytes.
//! A serial stands in one tier only, so ranks are kept once per attempt, without the tier.

use bytes::Bytes;

use super::draw::Ranking;
use super::roster::{Columns, MAX_CHUNK_ROWS};
use crate::hash::Hash;
use crate::rooms;
use crate::state::{Overlay, StateError, StateRead};

/// Numbers in one segment of a ranking: 16 KiB a record.
pub const SEGMENT: u32 = 4_096;
/// Chunk records in one read: a roster of a million rows has 245.
const CHUNKS_PER_READ: usize = 256;
/// A serial without a rank. No roster is that long.
const NO_RANK: u32 = u32::MAX;

/// Where one chunk's rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRecord {
    /// The serial of its first row.
    pub first_serial: u64,
    /// The leaf of its entry.
    pub leaf_index: u64,
    /// How many rows.
    pub rows: u32,
    /// Tier and weight a row; empty where all are defaults.
    cells: Bytes,
}

impl ChunkRecord {
    fn parse(key: &[u8], value: &Bytes) -> Result<Self, StateError> {
        let corrupt = || StateError::Corrupt {
            place: format!("roster chunk {}", hex::encode(key)),
            detail: "not a chunk record".to_owned(),
        };
        let first_serial = key.get(33..).and_then(be64).ok_or_else(corrupt)?;
        let leaf_index = value.get(..8).and_then(be64).ok_or_else(corrupt)?;
        let rows = value.get(8..12).and_then(be32).ok_or_else(corrupt)?;
        let cells = value.slice(12..);
        if !cells.is_empty() && cells.len() as u64 != 2 * u64::from(rows) {
            return Err(corrupt());
        }
        Ok(Self {
            first_serial,
            leaf_index,
            rows,
            cells,
        })
    }
}

fn be64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn chunk_key(lottery_id: &Hash, first_serial: u64) -> Vec<u8> {
    let serial = first_serial.to_be_bytes();
    rooms::key(rooms::ROSTER_CHUNK, &[&lottery_id.0, &serial])
}

pub(super) fn put_chunk<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    lottery_id: &Hash,
    first_serial: u64,
    leaf_index: u64,
    columns: &Columns<'_>,
) {
    let mut value = leaf_index.to_be_bytes().to_vec();
    value.extend_from_slice(&(columns.len() as u32).to_be_bytes());
    if !columns.all_defaults() {
        // At most 16 tiers and weight 64: both fit a byte.
        value.extend(columns.rows().flat_map(|r| [r.tier as u8, r.weight as u8]));
    }
    state.put(chunk_key(lottery_id, first_serial), value);
}

/// The chunk that holds `serial`.
pub fn chunk_of<S: StateRead + ?Sized>(
    state: &S,
    lottery_id: &Hash,
    serial: u64,
) -> Result<Option<ChunkRecord>, StateError> {
    // A chunk that holds the serial starts at most 4,095 before it.
    let from = chunk_key(lottery_id, serial.saturating_sub(MAX_CHUNK_ROWS as u64 - 1));
    let holds = |c: &ChunkRecord| {
        (c.first_serial..c.first_serial.saturating_add(u64::from(c.rows))).contains(&serial)
    };
    each_chunk(state, lottery_id, from, 2, |chunk| {
        if holds(&chunk) {
            Some(Some(chunk))
        } else if chunk.first_serial > serial {
            Some(None)
        } else {
            None
        }
    })
    .map(Option::flatten)
}

/// Visits chunks ascending from `from`, `per_read` at a time, until `visit` answers.
fn each_chunk<S: StateRead + ?Sized, T>(
    state: &S,
    lottery_id: &Hash,
    mut from: Vec<u8>,
    per_read: usize,
    mut visit: impl FnMut(ChunkRecord) -> Option<T>,
) -> Result<Option<T>, StateError> {
    let prefix = rooms::key(rooms::ROSTER_CHUNK, &[&lottery_id.0]);
    loop {
        let page = state.scan(&prefix, &from, per_read)?;
        for (key, value) in &page {
            if let Some(answer) = visit(ChunkRecord::parse(key, value)?) {
                return Ok(Some(answer));
            }
        }
        match page.last() {
            Some((key, _)) if page.len() == per_read => {
                from = key.to_vec();
                from.push(0);
            }
            _ => return Ok(None),
        }
    }
}

/// Every row's tier and weight: all that a draw needs of a roster.
#[derive(Debug, Clone, Default)]
pub struct Entrants {
    rows: u32,
    /// Tier and weight a row, from the first row that is not in tier 0 with weight 1.
    cells: Option<Vec<[u8; 2]>>,
}

impl Entrants {
    /// Adds a row. Tier and weight are within the rules' bounds and so fit a byte.
    pub fn push(&mut self, tier: u32, weight: u32) {
        if (tier, weight) != (0, 1) && self.cells.is_none() {
            self.cells = Some(vec![[0, 1]; self.rows as usize]);
        }
        if let Some(cells) = &mut self.cells {
            cells.push([tier as u8, weight as u8]);
        }
        self.rows += 1;
    }

    /// How many rows.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Serial and weight of the rows in `tier`.
    pub fn of_tier(&self, tier: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let cell = move |serial: u32| match &self.cells {
            Some(cells) => cells[serial as usize],
            None => [0, 1],
        };
        (0..self.rows).filter_map(move |serial| {
            let [of, weight] = cell(serial);
            (u32::from(of) == tier).then_some((serial, u32::from(weight)))
        })
    }
}

/// Reads the `rows` rows of a frozen roster.
pub(super) fn entrants<S: StateRead + ?Sized>(
    state: &S,
    lottery_id: &Hash,
    rows: u64,
) -> Result<Entrants, StateError> {
    let mut entrants = Entrants::default();
    let from = chunk_key(lottery_id, 0);
    let gap = each_chunk(state, lottery_id, from, CHUNKS_PER_READ, |chunk| {
        if chunk.first_serial != u64::from(entrants.rows) {
            return Some(());
        }
        if chunk.cells.is_empty() {
            (0..chunk.rows).for_each(|_| entrants.push(0, 1));
        } else {
            let (cells, _) = chunk.cells.as_chunks::<2>();
            for [tier, weight] in cells {
                entrants.push(u32::from(*tier), u32::from(*weight));
            }
        }
        None
    })?;
    if gap.is_some() || u64::from(entrants.rows) != rows {
        return Err(StateError::Corrupt {
            place: format!("roster chunks of lottery {lottery_id}"),
            detail: format!("{} rows in line, {rows} expected", entrants.rows),
        });
    }
    Ok(entrants)
}

fn ranking_key(lottery_id: &Hash, attempt: u32, tier: u32, segment: u32) -> Vec<u8> {
    let numbers = [attempt, tier, segment].map(u32::to_be_bytes);
    rooms::key(rooms::RANKING, &[&lottery_id.0, numbers.as_flattened()])
}

fn rank_key(lottery_id: &Hash, attempt: u32, segment: u32) -> Vec<u8> {
    let numbers = [attempt, segment].map(u32::to_be_bytes);
    rooms::key(rooms::RANK_OF, &[&lottery_id.0, numbers.as_flattened()])
}

fn segment_bytes(numbers: &[u32]) -> Bytes {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

pub(super) fn put_ranking<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    lottery_id: &Hash,
    attempt: u32,
    tier: u32,
    ranking: &Ranking,
) {
    let serials: Vec<u32> = ranking.serials().collect();
    for (segment, numbers) in (0u32..).zip(serials.chunks(SEGMENT as usize)) {
        let key = ranking_key(lottery_id, attempt, tier, segment);
        state.put(key, segment_bytes(numbers));
    }
}

/// Keeps every row's rank within its tier.
pub(super) fn put_ranks<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    lottery_id: &Hash,
    attempt: u32,
    rows: u32,
    rankings: &[Ranking],
) {
    let mut ranks = vec![NO_RANK; rows as usize];
    for ranking in rankings {
        for (rank, serial) in (0u32..).zip(ranking.serials()) {
            ranks[serial as usize] = rank;
        }
    }
    for (segment, numbers) in (0u32..).zip(ranks.chunks(SEGMENT as usize)) {
        state.put(
            rank_key(lottery_id, attempt, segment),
            segment_bytes(numbers),
        );
    }
}

/// The rank of `serial` within its tier, from 0; none before the draw.
pub fn rank_of<S: StateRead + ?Sized>(
    state: &S,
    lottery_id: &Hash,
    attempt: u32,
    serial: u64,
) -> Result<Option<u32>, StateError> {
    let Ok(serial) = u32::try_from(serial) else {
        return Ok(None);
    };
    let Some(segment) = state.get(&rank_key(lottery_id, attempt, serial / SEGMENT))? else {
        return Ok(None);
    };
    let at = (serial % SEGMENT) as usize * 4;
    let rank = segment.get(at..at + 4).and_then(be32);
    Ok(rank.filter(|&rank| rank != NO_RANK))
}

/// At most `count` serials of a tier's ranking from rank `first` on; fewer at its end.
pub fn ranking_slice<S: StateRead + ?Sized>(
    state: &S,
    lottery_id: &Hash,
    attempt: u32,
    tier: u32,
    first: u64,
    count: usize,
) -> Result<Vec<u64>, StateError> {
    let mut serials = Vec::new();
    let Ok(first) = u32::try_from(first) else {
        return Ok(serials);
    };
    let mut skip = (first % SEGMENT) as usize;
    for segment in first / SEGMENT.. {
        if serials.len() >= count {
            break;
        }
        let key = ranking_key(lottery_id, attempt, tier, segment);
        let Some(bytes) = state.get(&key)? else {
            break;
        };
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(StateError::Corrupt {
                place: format!("ranking of lottery {lottery_id}, tier {tier}"),
                detail: format!("segment {segment} has {} bytes", bytes.len()),
            });
        }
        let wanted = numbers.iter().skip(skip).take(count - serials.len());
        serials.extend(wanted.map(|n| u64::from(u32::from_be_bytes(*n))));
        skip = 0;
    }
    Ok(serials)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::lottery::draw;
    use crate::state::MemoryState;
    use cairn_proto::v1;

    const ID: Hash = Hash([7; 32]);

    fn state_with(chunks: &[(usize, Option<u32>)]) -> (MemoryState, u64) {
        let base = MemoryState::default();
        let mut overlay = Overlay::new(&base);
        let mut first = 0;
        for (leaf, &(rows, weight)) in (0u64..).zip(chunks) {
            let chunk = v1::RosterChunk {
                commitments: vec![0; rows * 32].into(),
                tags: vec![0; rows * 32].into(),
                weights: weight.map(|w| vec![w; rows]).unwrap_or_default(),
                ..Default::default()
            };
            put_chunk(
                &mut overlay,
                &ID,
                first,
                leaf,
                &Columns::of(&chunk, 1).unwrap(),
            );
            first += rows as u64;
        }
        let writes = overlay.into_writes();
        let mut state = MemoryState::default();
        state.commit(writes);
        (state, first)
    }

    #[test]
    fn every_serial_is_found_in_its_chunk() {
        let sizes = [1usize, 4_096, 3, 1, 1, 4_095, 2];
        let chunks: Vec<_> = sizes.iter().map(|&n| (n, None)).collect();
        let (state, rows) = state_with(&chunks);
        let mut serial = 0;
        for (leaf, &size) in (0u64..).zip(&sizes) {
            for _ in 0..size {
                let found = chunk_of(&state, &ID, serial).unwrap().unwrap();
                assert_eq!(found.leaf_index, leaf, "{serial}");
                serial += 1;
            }
        }
        assert_eq!(serial, rows);
        for outside in [rows, rows + 5_000, u64::MAX] {
            assert_eq!(chunk_of(&state, &ID, outside).unwrap(), None);
        }
    }

    #[test]
    fn entrants_keep_the_weights_of_every_chunk() {
        let (state, rows) = state_with(&[(2, None), (1, Some(5)), (2, None)]);
        let read = entrants(&state, &ID, rows).unwrap();
        let all: Vec<_> = read.of_tier(0).collect();
        assert_eq!(all, vec![(0, 1), (1, 1), (2, 5), (3, 1), (4, 1)]);
        assert_eq!(read.of_tier(1).count(), 0);
        assert!(entrants(&state, &ID, rows + 1).is_err());
    }

    #[test]
    fn slices_and_ranks_agree_with_the_ranking_across_segments() {
        let rows = 9_000u32;
        let tiers = |tier: u32| (0..rows).filter(move |s| s % 2 == tier).map(|s| (s, 1));
        let seed = Hash([1; 32]);
        let rankings = [
            draw::rank(&seed, 0, tiers(0)),
            draw::rank(&seed, 1, tiers(1)),
        ];
        let base = MemoryState::default();
        let mut overlay = Overlay::new(&base);
        for (tier, ranking) in (0u32..).zip(&rankings) {
            put_ranking(&mut overlay, &ID, 1, tier, ranking);
        }
        put_ranks(&mut overlay, &ID, 1, rows, &rankings);
        for (tier, ranking) in (0u32..).zip(&rankings) {
            let all: Vec<u64> = ranking.serials().map(u64::from).collect();
            for (first, count) in [
                (0usize, 10),
                (4_090, 20),
                (4_499, 9),
                (0, 9_000),
                (4_500, 1),
            ] {
                let slice = ranking_slice(&overlay, &ID, 1, tier, first as u64, count).unwrap();
                let end = (first + count).min(all.len());
                assert_eq!(slice, all[first..end], "{first} {count}");
            }
            for (rank, &serial) in (0u32..).zip(&all) {
                assert_eq!(rank_of(&overlay, &ID, 1, serial).unwrap(), Some(rank));
            }
        }
        assert_eq!(rank_of(&overlay, &ID, 2, 0).unwrap(), None);
        assert_eq!(rank_of(&overlay, &ID, 1, u64::from(rows)).unwrap(), None);
        assert!(ranking_slice(&overlay, &ID, 1, 2, 0, 5).unwrap().is_empty());
    }
}
