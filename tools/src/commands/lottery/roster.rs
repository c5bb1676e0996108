//! The registrar's rows as entries: chunks of the cohort, and the root that all of them make.
//!
//! What holds here: each row is hashed once, when its chunk is made; a chunk that has to be made
//! again, because the ledger did not take it where it stood, gives the same rows under a new
//! nonce. What stays out: sending (`in_order`).

use bytes::Bytes;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::roster::{self, MAX_CHUNK_ROWS, Row};
use cairn_ledger::{canonical, log};
use cairn_proto::v1;

use super::cohort::Cohort;
use super::openings::Openings;

/// All rows that are to be registered.
pub struct Roster {
    cohort: Cohort,
    tags: Vec<[u8; 32]>,
    openings: Openings,
    /// The leaves of the rows that were hashed so far.
    leaves: Vec<Hash>,
}

impl Roster {
    /// The rows of `cohort`; `tags` and `openings` are one a row.
    pub fn new(cohort: Cohort, tags: Vec<[u8; 32]>, openings: Openings) -> Roster {
        let leaves = Vec::with_capacity(cohort.len());
        Roster {
            cohort,
            tags,
            openings,
            leaves,
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.cohort.len()
    }

    /// The root over the first `rows` rows, which hashes those that were not yet.
    pub fn root(&mut self, rows: usize) -> Hash {
        for serial in self.leaves.len()..rows {
            let leaf = self.row(serial).leaf_hash();
            self.leaves.push(leaf);
        }
        log::root_of(&self.leaves[..rows])
    }

    /// The body of the chunk that begins with row `first`, and how many rows it has.
    pub fn chunk(&mut self, lottery_id: &Hash, first: usize) -> (Bytes, usize) {
        let rows = MAX_CHUNK_ROWS.min(self.len() - first);
        let mut chunk = v1::RosterChunk {
            lottery_id: lottery_id.to_bytes(),
            first_serial: first as u64,
            ..Default::default()
        };
        let mut commitments = Vec::with_capacity(rows * 32);
        let mut tags = Vec::with_capacity(rows * 32);
        for serial in first..first + rows {
            let row = self.row(serial);
            if self.leaves.len() == serial {
                self.leaves.push(row.leaf_hash());
            }
            commitments.extend_from_slice(&row.commitment);
            tags.extend_from_slice(&row.tag);
            chunk.tiers.push(row.tier);
            chunk.weights.push(row.weight);
        }
        chunk.commitments = commitments.into();
        chunk.tags = tags.into();
        leave_out(&mut chunk.tiers, 0);
        leave_out(&mut chunk.weights, 1);
        (canonical::encode(&chunk), rows)
    }

    fn row(&self, serial: usize) -> Row {
        let identity = self.cohort.identity(serial);
        let (tier, weight) = self.cohort.cell(serial);
        let (salt, holder_key) = (
            &self.openings.salts[serial],
            self.openings.holder_key(serial),
        );
        Row {
            commitment: roster::commitment(salt, identity, holder_key).0,
            tag: self.tags[serial],
            tier,
            weight,
        }
    }
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

    fn roster(rows: usize, csv_line: impl Fn(usize) -> String) -> Roster {
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
        let openings = Openings {
            salts: vec![[3; 32]; rows],
            holder_keys: Vec::new(),
        };
        let tags = cohort.inner_tags().to_vec();
        Roster::new(cohort, tags, openings)
    }

    fn chunks(roster: &mut Roster) -> Vec<v1::RosterChunk> {
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
        let mut all = roster(rows, |n| format!("{n},0,1\n"));
        let made = chunks(&mut all);
        let sizes: Vec<usize> = made.iter().map(|c| c.commitments.len() / 32).collect();
        assert_eq!(sizes, [MAX_CHUNK_ROWS, MAX_CHUNK_ROWS, 5]);
        let leaves: Vec<Hash> = made
            .iter()
            .flat_map(|c| Columns::of(c, 2).unwrap().rows().collect::<Vec<_>>())
            .map(|row| row.leaf_hash())
            .collect();
        assert_eq!(all.root(rows), log::root_of(&leaves));
        assert_eq!(all.root(7), log::root_of(&leaves[..7]));
        // A resumed run hashes what is registered already, then goes on.
        let mut resumed = roster(rows, |n| format!("{n},0,1\n"));
        assert_eq!(resumed.root(4_096), log::root_of(&leaves[..4_096]));
        let body = canonical::encode(&made[1]);
        assert_eq!(resumed.chunk(&ID, 4_096), (body, MAX_CHUNK_ROWS));
    }

    #[test]
    fn a_column_of_defaults_is_left_out() {
        let made = chunks(&mut roster(3, |n| format!("{n},0,1\n")));
        assert!(made[0].tiers.is_empty() && made[0].weights.is_empty());
        let made = chunks(&mut roster(3, |n| format!("{n},b,{}\n", n + 1)));
        assert_eq!(made[0].tiers, [1, 1, 1]);
        assert_eq!(made[0].weights, [1, 2, 3]);
    }
}
