//! The registrar's rows as entries: chunks of the cohort, and the root that all of them make.
//!
//! What holds here: each row is hashed once, before the first chunk is made, on all cores; a chunk that
//! has to be made again, because the ledger did not take it where it stood, gives the same rows under a
//! new nonce. What stays out: sending (`in_order`).

use bytes::Bytes;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::roster::{self, MAX_CHUNK_ROWS, Row};
use cairn_ledger::{canonical, log};
use cairn_proto::v1;

use super::cohort::Cohort;
use super::openings::Openings;
use crate::cores;

/// All rows that are to be registered.
pub struct Roster<'a> {
    cohort: &'a Cohort,
    tags: Vec<[u8; 32]>,
    commitments: Vec<[u8; 32]>,
    /// Of each [`ROOTED_ROWS`] rows; the last ones may be fewer.
    roots: Vec<Hash>,
}

/// Rows whose root is made at once: a power of two, so that the root over all such roots is the roster's.
const ROOTED_ROWS: usize = 1 << 12;

impl<'a> Roster<'a> {
    /// The rows of `cohort`; `tags` and `openings` are one a row.
    pub fn new(cohort: &'a Cohort, tags: Vec<[u8; 32]>, openings: &Openings) -> Roster<'a> {
        let mut commitments = vec![[0; 32]; cohort.len()];
        let roots = cores::portions(&mut commitments, ROOTED_ROWS, |first, portion| {
            let hash = |(serial, commitment): (usize, &mut [u8; 32])| {
                let (salt, holder_key) = (&openings.salts[serial], openings.holder_key(serial));
                *commitment = roster::commitment(salt, cohort.identity(serial), holder_key).0;
                row(cohort.cell(serial), *commitment, tags[serial]).leaf_hash()
            };
            let leaves: Vec<Hash> = (first..).zip(portion).map(hash).collect();
            log::root_of(&leaves)
        });
        Roster {
            cohort,
            tags,
            commitments,
            roots,
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.cohort.len()
    }

    /// The root over the first `rows` rows.
    pub fn root(&self, rows: usize) -> Hash {
        let mut roots = self.roots[..rows / ROOTED_ROWS].to_vec();
        let leaf = |serial: usize| {
            let (commitment, tag) = (self.commitments[serial], self.tags[serial]);
            row(self.cohort.cell(serial), commitment, tag).leaf_hash()
        };
        let rest: Vec<Hash> = (rows - rows % ROOTED_ROWS..rows).map(leaf).collect();
        if !rest.is_empty() {
            roots.push(log::root_of(&rest));
        }
        log::root_of(&roots)
    }

    /// The body of the chunk that begins with row `first`, and how many rows it has.
    pub fn chunk(&self, lottery_id: &Hash, first: usize) -> (Bytes, usize) {
        let rows = MAX_CHUNK_ROWS.min(self.len() - first);
        let serials = first..first + rows;
        let cells = serials.clone().map(|serial| self.cohort.cell(serial));
        let (tiers, weights) = cells.unzip();
        let mut chunk = v1::RosterChunk {
            lottery_id: lottery_id.to_bytes(),
            first_serial: first as u64,
            commitments: column(&self.commitments[serials.clone()]),
            tags: column(&self.tags[serials]),
            tiers,
            weights,
        };
        leave_out(&mut chunk.tiers, 0);
        leave_out(&mut chunk.weights, 1);
        (canonical::encode(&chunk), rows)
    }
}

fn row((tier, weight): (u32, u32), commitment: [u8; 32], tag: [u8; 32]) -> Row {
    Row {
        commitment,
        tag,
        tier,
        weight,
    }
}

fn column(hashes: &[[u8; 32]]) -> Bytes {
    Bytes::copy_from_slice(hashes.as_flattened())
}

/// A column of nothing but defaults is written by leaving it out.
fn leave_out(column: &mut Vec<u32>, default: u32) {
    if column.iter().all(|value| *value == default) {
        column.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_ledger::lottery::roster::Columns;

    use super::super::cohort::{ColumnNames, tests::key};
    use super::*;
    use crate::commands::problems::Problems;

    const ID: Hash = Hash([9; 32]);

    fn cohort(rows: usize, csv_line: impl Fn(usize) -> String) -> Cohort {
        let names = ColumnNames {
            identity: "id".to_owned(),
            tier: Some("tier".to_owned()),
            weight: Some("weight".to_owned()),
            ..Default::default()
        };
        let lines: String = (0..rows).map(csv_line).collect();
        let csv = format!("id,tier,weight\n{lines}");
        let tiers = ["a".to_owned(), "b".to_owned()];
        let mut problems = Problems::default();
        let cohort = Cohort::read(csv.as_bytes(), &names, &tiers, &key(), &mut problems).unwrap();
        assert!(problems.is_empty());
        cohort
    }

    fn roster(cohort: &Cohort) -> Roster<'_> {
        let openings = Openings {
            salts: vec![[3; 32]; cohort.len()],
            holder_keys: Vec::new(),
        };
        let tags = cohort.inner_tags().to_vec();
        Roster::new(cohort, tags, &openings)
    }

    fn chunks(roster: &Roster<'_>) -> Vec<v1::RosterChunk> {
        let mut first = 0;
        let mut chunks = Vec::new();
        while first < roster.len() {
            let (body, rows) = roster.chunk(&ID, first);
            let chunk: v1::RosterChunk = canonical::decode(&body).unwrap();
            assert_eq!(chunk.first_serial, first as u64);
            assert_eq!(Columns::of(&chunk, 2).unwrap().len(), rows);
            chunks.push(chunk);
            first += rows;
        }
        chunks
    }

    #[test]
    fn chunks_follow_each_other_and_make_the_root() {
        let rows = 2 * MAX_CHUNK_ROWS + 5;
        let people = cohort(rows, |n| format!("{n},0,1\n"));
        let all = roster(&people);
        let made = chunks(&all);
        let sizes: Vec<usize> = made.iter().map(|c| c.commitments.len() / 32).collect();
        assert_eq!(sizes, [MAX_CHUNK_ROWS, MAX_CHUNK_ROWS, 5]);
        let leaves: Vec<Hash> = made
            .iter()
            .flat_map(|c| Columns::of(c, 2).unwrap().rows().collect::<Vec<_>>())
            .map(|row| row.leaf_hash())
            .collect();
        assert_eq!(all.root(rows), log::root_of(&leaves));
        assert_eq!(all.root(7), log::root_of(&leaves[..7]));
        // A chunk that is made again is the same.
        assert_eq!(all.root(4_096), log::root_of(&leaves[..4_096]));
        let body = canonical::encode(&made[1]);
        assert_eq!(all.chunk(&ID, 4_096), (body, MAX_CHUNK_ROWS));
    }

    #[test]
    fn a_column_of_defaults_is_left_out() {
        let made = chunks(&roster(&cohort(3, |n| format!("{n},0,1\n"))));
        assert!(made[0].tiers.is_empty() && made[0].weights.is_empty());
        let made = chunks(&roster(&cohort(3, |n| format!("{n},b,{}\n", n + 1))));
        assert_eq!(made[0].tiers, [1, 1, 1]);
        assert_eq!(made[0].weights, [1, 2, 3]);
    }
}
