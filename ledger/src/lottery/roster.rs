//! Rosters: what a row is, how it is hashed, and how the offices blind identities.
//!
//! What holds here: a row's leaf data is `commitment (32) ‖ tag (32) ‖ tier (u32) ‖ weight (u32)`,
//! 72 bytes, big-endian, and every chunk has exactly one way to be written. No identity, nor a
//! bare hash of one, is in a row. What stays out: which chunk may follow which (`rules`).

use cairn_proto::v1;

use crate::hash::{Domain, Hash};
use crate::log;

/// Rows in one chunk: at 64 bytes a row, an entry of 256 KiB.
pub const MAX_CHUNK_ROWS: usize = 4_096;
/// Tickets of one row: enough for any point scheme, and it bounds the hashing of a draw.
pub const MAX_WEIGHT: u32 = 64;
/// Bytes of a row's leaf data.
pub const ROW_LEN: usize = 72;

static IDENTITY: Domain = Domain::new("cairn v1 identity");
static COMMITMENT: Domain = Domain::new("cairn v1 commitment");
static TAG_KEY: Domain = Domain::new("cairn v1 tag key");

/// One applicant's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Opens to the applicant with their salt.
    pub commitment: [u8; 32],
    /// Equal for equal identities.
    pub tag: [u8; 32],
    /// Index into the rules' tiers.
    pub tier: u32,
    /// How many tickets.
    pub weight: u32,
}

impl Row {
    /// What the roster's tree has as this row's leaf.
    pub fn leaf_data(&self) -> [u8; ROW_LEN] {
        let mut data = [0; ROW_LEN];
        data[..32].copy_from_slice(&self.commitment);
        data[32..64].copy_from_slice(&self.tag);
        data[64..68].copy_from_slice(&self.tier.to_be_bytes());
        data[68..].copy_from_slice(&self.weight.to_be_bytes());
        data
    }

    /// The hash of the leaf.
    pub fn leaf_hash(&self) -> Hash {
        log::leaf_hash(&self.leaf_data())
    }
}

/// Hides an applicant's identity behind a random salt that the applicant gets. Whoever redeems
/// shows this hash, which says nothing without the salt.
pub fn identity_hash(salt: &[u8; 32], identity: &[u8]) -> Hash {
    IDENTITY.hash_parts(&[salt, identity])
}

/// Binds a holder key, an Ed25519 key or empty, to an [`identity_hash`].
pub fn commitment_of(identity_hash: &Hash, holder_key: &[u8]) -> Hash {
    COMMITMENT.hash_parts(&[identity_hash.as_bytes(), holder_key])
}

/// What a row says of its applicant: opened by salt, identity and holder key together.
pub fn commitment(salt: &[u8; 32], identity: &[u8], holder_key: &[u8]) -> Hash {
    commitment_of(&identity_hash(salt, identity), holder_key)
}

/// The registrar's half of a tag: blinds the identity before the notary sees anything.
pub fn inner_tag(registrar_key: &[u8; 32], identity: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(registrar_key, identity).as_bytes()
}

/// The notary's half of a tag, over what [`inner_tag`] gave.
pub fn tag(notary_key: &[u8; 32], inner: &[u8; 32]) -> [u8; 32] {
    *blake3::keyed_hash(notary_key, inner).as_bytes()
}

/// Fixes a tag key in the rules without showing it.
pub fn tag_key_commitment(key: &[u8; 32]) -> Hash {
    TAG_KEY.hash(key)
}

/// Why a chunk's columns were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ColumnsError {
    /// Send 1 to 4,096 rows.
    #[error("a chunk has 1 to 4096 rows, this has {0}")]
    RowCount(usize),
    /// Columns must be of equal length, hashes of 32 bytes.
    #[error("the chunk's columns differ in length")]
    Ragged,
    /// The rules have no such tier.
    #[error("row {row}: no tier {tier}")]
    NoSuchTier {
        /// Which row of the chunk.
        row: usize,
        /// The tier it names.
        tier: u32,
    },
    /// Weights are 1 to 64.
    #[error("row {row}: weight {weight} is not between 1 and 64")]
    Weight {
        /// Which row of the chunk.
        row: usize,
        /// The weight it names.
        weight: u32,
    },
    /// A column of defaults is written by leaving it out.
    #[error("a column holds nothing but defaults: leave it out")]
    ExplicitDefaults,
}

/// A chunk whose columns are sound.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    chunk: &'a v1::RosterChunk,
    rows: usize,
}

impl<'a> Columns<'a> {
    /// Checks `chunk` against rules with `tiers` tiers.
    pub fn of(chunk: &'a v1::RosterChunk, tiers: usize) -> Result<Self, ColumnsError> {
        let rows = chunk.commitments.len() / 32;
        if rows == 0 || rows > MAX_CHUNK_ROWS {
            return Err(ColumnsError::RowCount(rows));
        }
        let fits = |column: &[u32]| column.is_empty() || column.len() == rows;
        if !chunk.commitments.len().is_multiple_of(32)
            || chunk.tags.len() != chunk.commitments.len()
            || !fits(&chunk.tiers)
            || !fits(&chunk.weights)
        {
            return Err(ColumnsError::Ragged);
        }
        let in_range = |&tier: &u32| usize::try_from(tier).is_ok_and(|t| t < tiers);
        if let Some(row) = chunk.tiers.iter().position(|t| !in_range(t)) {
            let tier = chunk.tiers[row];
            return Err(ColumnsError::NoSuchTier { row, tier });
        }
        let allowed = |weight: &u32| (1..=MAX_WEIGHT).contains(weight);
        if let Some(row) = chunk.weights.iter().position(|w| !allowed(w)) {
            let weight = chunk.weights[row];
            return Err(ColumnsError::Weight { row, weight });
        }
        let idle = |column: &[u32], default| {
            !column.is_empty() && column.iter().all(|&value| value == default)
        };
        if idle(&chunk.tiers, 0) || idle(&chunk.weights, 1) {
            return Err(ColumnsError::ExplicitDefaults);
        }
        Ok(Self { chunk, rows })
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Never: a chunk without rows is refused.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether every row is in tier 0 with weight 1.
    pub fn all_defaults(&self) -> bool {
        self.chunk.tiers.is_empty() && self.chunk.weights.is_empty()
    }

    /// The row at `index` of the chunk.
    pub fn row(&self, index: usize) -> Option<Row> {
        let hash = |column: &[u8]| -> Option<[u8; 32]> {
            column.get(index * 32..index * 32 + 32)?.try_into().ok()
        };
        Some(Row {
            commitment: hash(&self.chunk.commitments)?,
            tag: hash(&self.chunk.tags)?,
            tier: self.chunk.tiers.get(index).copied().unwrap_or(0),
            weight: self.chunk.weights.get(index).copied().unwrap_or(1),
        })
    }

    /// All rows' tags in their order.
    pub fn tags(&self) -> impl Iterator<Item = [u8; 32]> + Clone + use<'a> {
        self.chunk.tags.as_chunks().0.iter().copied()
    }

    /// All rows in their order.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (0..self.rows).filter_map(|index| self.row(index))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chunk(rows: usize) -> v1::RosterChunk {
        v1::RosterChunk {
            commitments: (0..rows * 32).map(|i| (i / 32) as u8).collect(),
            tags: (0..rows * 32).map(|i| (i / 32 + 100) as u8).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_row_is_hashed_as_72_bytes_big_endian() {
        let row = Row {
            commitment: [1; 32],
            tag: [2; 32],
            tier: 3,
            weight: 4,
        };
        let expected = [&[1; 32][..], &[2; 32], &[0, 0, 0, 3, 0, 0, 0, 4]].concat();
        assert_eq!(row.leaf_data().as_slice(), expected);
        assert_eq!(
            row.leaf_hash(),
            crate::hash::plain(&[&[0][..], &expected].concat())
        );
    }

    #[test]
    fn a_chunk_has_one_way_to_be_written() {
        let mut c = chunk(2);
        let rows: Vec<Row> = Columns::of(&c, 1).unwrap().rows().collect();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[1].tier, rows[1].weight), (0, 1));
        assert_eq!((rows[1].commitment, rows[1].tag), ([1; 32], [101; 32]));
        c.tiers = vec![0, 0];
        assert_eq!(
            Columns::of(&c, 1).unwrap_err(),
            ColumnsError::ExplicitDefaults
        );
        c.tiers = vec![0, 1];
        assert_eq!(
            Columns::of(&c, 1).unwrap_err(),
            ColumnsError::NoSuchTier { row: 1, tier: 1 }
        );
        assert!(!Columns::of(&c, 2).unwrap().all_defaults());
        c.weights = vec![1, 1];
        assert_eq!(
            Columns::of(&c, 2).unwrap_err(),
            ColumnsError::ExplicitDefaults
        );
        for weight in [0, 65] {
            c.weights = vec![1, weight];
            assert_eq!(
                Columns::of(&c, 2).unwrap_err(),
                ColumnsError::Weight { row: 1, weight }
            );
        }
        c.weights = vec![64, 1];
        assert_eq!(Columns::of(&c, 2).unwrap().row(0).unwrap().weight, 64);
        assert_eq!(Columns::of(&c, 2).unwrap().row(2), None);
    }

    #[test]
    fn ragged_empty_and_oversized_chunks_are_refused() {
        let counts = [(0, false), (1, true), (4_096, true), (4_097, false)];
        for (rows, allowed) in counts {
            assert_eq!(Columns::of(&chunk(rows), 1).is_ok(), allowed, "{rows}");
        }
        let good = chunk(3);
        let ragged = [
            v1::RosterChunk {
                tags: good.tags.slice(32..),
                ..good.clone()
            },
            v1::RosterChunk {
                commitments: good.commitments.slice(1..),
                ..good.clone()
            },
            v1::RosterChunk {
                tiers: vec![0, 1],
                ..good.clone()
            },
            v1::RosterChunk {
                weights: vec![2],
                ..good.clone()
            },
        ];
        for c in ragged {
            assert_eq!(Columns::of(&c, 2).unwrap_err(), ColumnsError::Ragged);
        }
    }

    #[test]
    fn a_tag_needs_both_offices_and_a_commitment_its_salt() {
        let inner = inner_tag(&[1; 32], b"id");
        assert_ne!(inner, inner_tag(&[2; 32], b"id"));
        assert_ne!(tag(&[1; 32], &inner), tag(&[2; 32], &inner));
        assert_ne!(
            commitment(&[1; 32], b"id", &[]),
            commitment(&[2; 32], b"id", &[])
        );
        assert_ne!(
            commitment(&[1; 32], b"id", &[3; 32]),
            commitment(&[1; 32], b"id", &[])
        );
        assert_ne!(tag_key_commitment(&[1; 32]), tag_key_commitment(&[2; 32]));
    }
}
