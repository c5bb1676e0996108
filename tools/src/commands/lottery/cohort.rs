//! Applicants as the registrar's CSV file names them, read and checked before anything is sent.
//!
//! What holds here: the file is read once, from front to back; each identity is blinded into its
//! tag as it is read, and two rows with one tag are one person. Identities stay in this process
//! and in the receipts; only tags and commitments leave. What stays out: how identities are
//! normalised. The rules say that in words, and the file has it done.

use std::io::Read;

use cairn_ledger::lottery::roster::{MAX_WEIGHT, inner_tag, tag};
use csv::ByteRecord;

use crate::commands::problems::{Problems, wrong_width};
use crate::commands::quotes::{NotClosed, Quotes};
use crate::key_file::Secret;

/// One read from the disk: a thousand rows or more.
const BUFFER: usize = 1 << 18;

/// Which columns of the file matter. It may have tens of others.
#[derive(Debug, Clone, Default)]
pub struct ColumnNames {
    /// Whose value is hashed.
    pub identity: String,
    /// A tier's name or number; without, everybody is in tier 0.
    pub tier: Option<String>,
    /// How many tickets; without, everybody has one.
    pub weight: Option<String>,
}

/// Both offices' secrets that blind identities.
pub struct TagKeys {
    /// The registrar's.
    pub registrar: Secret,
    /// The notary's.
    pub notary: Secret,
}

/// Why a file could not be read to its end. Bad rows are not among these.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The header lacks a column that was asked for.
    #[error("there is no column \"{wanted}\"; the file has: {present}")]
    ColumnMissing {
        /// What was asked for.
        wanted: String,
        /// The header's names.
        present: String,
    },
    /// The header has a column twice, and nobody can tell which is meant.
    #[error("the column \"{0}\" is there twice; rename one of them")]
    ColumnTwice(String),
    /// There is not even a header.
    #[error("the file is empty; its first line has to name the columns")]
    Empty,
    /// What follows the mark is no longer told apart.
    #[error(transparent)]
    NotClosed(#[from] NotClosed),
    /// The file is no CSV, or the disk failed.
    #[error(transparent)]
    Csv(#[from] csv::Error),
}

/// Everybody who is to be registered, by serial.
#[derive(Debug, Default)]
pub struct Cohort {
    identities: Vec<u8>,
    /// Where each identity ends.
    ends: Vec<usize>,
    tags: Vec<[u8; 32]>,
    /// Tier and weight a row, from the first row that is not in tier 0 with weight 1.
    cells: Option<Vec<(u32, u32)>>,
}

impl Cohort {
    /// Reads a file. Bad rows and duplicate persons are added to `problems`, with line numbers.
    pub fn read(
        file: impl Read,
        names: &ColumnNames,
        tiers: &[String],
        keys: &TagKeys,
        problems: &mut Problems,
    ) -> Result<Cohort, ReadError> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .buffer_capacity(BUFFER)
            .from_reader(Quotes::new(file));
        let header = reader.byte_headers()?.clone();
        reader.get_ref().closed()?;
        let columns = Columns::find(&header, names)?;
        let mut cohort = Cohort::default();
        let mut lines = Vec::new();
        let mut record = ByteRecord::new();
        while reader.read_byte_record(&mut record)? {
            let line = record.position().map_or(0, csv::Position::line);
            match columns.row(&record, tiers) {
                Ok(row) => {
                    cohort.push(&row, keys);
                    lines.push(line);
                }
                Err(what) => problems.add(line, what),
            }
        }
        reader.get_ref().closed()?;
        cohort.note_duplicates(&lines, problems);
        Ok(cohort)
    }

    /// How many applicants.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The identity of `serial`, which is below [`Cohort::len`].
    pub fn identity(&self, serial: usize) -> &[u8] {
        let start = match serial {
            0 => 0,
            _ => self.ends[serial - 1],
        };
        &self.identities[start..self.ends[serial]]
    }

    /// The tag of `serial`, which is below [`Cohort::len`].
    pub fn tag(&self, serial: usize) -> &[u8; 32] {
        &self.tags[serial]
    }

    /// Tier and weight of `serial`.
    pub fn cell(&self, serial: usize) -> (u32, u32) {
        self.cells.as_ref().map_or((0, 1), |cells| cells[serial])
    }

    /// How many tickets all have together.
    pub fn tickets(&self) -> u64 {
        match &self.cells {
            Some(cells) => cells.iter().map(|(_, weight)| u64::from(*weight)).sum(),
            None => self.len() as u64,
        }
    }

    fn push(&mut self, row: &Row<'_>, keys: &TagKeys) {
        if row.cell != (0, 1) && self.cells.is_none() {
            self.cells = Some(vec![(0, 1); self.len()]);
        }
        if let Some(cells) = &mut self.cells {
            cells.push(row.cell);
        }
        self.identities.extend_from_slice(row.identity);
        self.ends.push(self.identities.len());
        let inner = inner_tag(&keys.registrar, row.identity);
        self.tags.push(tag(&keys.notary, &inner));
    }

    /// Sorting rows by the front of their tags keeps this to sixteen bytes a row.
    fn note_duplicates(&self, lines: &[u64], problems: &mut Problems) {
        let front = |tag: &[u8; 32]| u64::from_be_bytes(std::array::from_fn(|at| tag[at]));
        let mut order: Vec<(u64, usize)> = self.tags.iter().map(front).zip(0..).collect();
        order.sort_unstable();
        for run in order
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|run| run.len() > 1)
        {
            for (at, (_, row)) in run.iter().enumerate() {
                let same = |(_, other): &&(u64, usize)| self.tags[*other] == self.tags[*row];
                if let Some((_, first)) = run[..at].iter().find(same) {
                    let before = lines[*first];
                    problems.add(
                        lines[*row],
                        format_args!("the same person as in line {before}"),
                    );
                }
            }
        }
    }
}

/// Where the columns stand.
struct Columns {
    count: usize,
    identity: usize,
    tier: Option<usize>,
    weight: Option<usize>,
}

/// One good row.
struct Row<'a> {
    identity: &'a [u8],
    cell: (u32, u32),
}

impl Columns {
    fn find(header: &ByteRecord, names: &ColumnNames) -> Result<Columns, ReadError> {
        if header.is_empty() {
            return Err(ReadError::Empty);
        }
        let place = |wanted: &String| place_of(header, wanted);
        Ok(Columns {
            count: header.len(),
            identity: place(&names.identity)?,
            tier: names.tier.as_ref().map(place).transpose()?,
            weight: names.weight.as_ref().map(place).transpose()?,
        })
    }

    fn row<'a>(&self, record: &'a ByteRecord, tiers: &[String]) -> Result<Row<'a>, String> {
        if record.len() != self.count {
            return Err(wrong_width(record.len(), self.count));
        }
        let identity = &record[self.identity];
        if identity.is_empty() {
            return Err("the identity is empty".to_owned());
        }
        if identity.trim_ascii().len() != identity.len() {
            return Err("the identity begins or ends with a space".to_owned());
        }
        let tier = self.tier.map_or(Ok(0), |at| tier_of(&record[at], tiers))?;
        let weight = self.weight.map_or(Ok(1), |at| weight_of(&record[at]))?;
        Ok(Row {
            identity,
            cell: (tier, weight),
        })
    }
}

fn place_of(header: &ByteRecord, wanted: &str) -> Result<usize, ReadError> {
    let mut places = (0..header.len()).filter(|at| header[*at] == *wanted.as_bytes());
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (Some(_), Some(_)) => Err(ReadError::ColumnTwice(wanted.to_owned())),
        (None, _) => {
            let names = header.iter().map(|name| String::from_utf8_lossy(name));
            Err(ReadError::ColumnMissing {
                wanted: wanted.to_owned(),
                present: names.collect::<Vec<_>>().join(", "),
            })
        }
    }
}

fn tier_of(field: &[u8], tiers: &[String]) -> Result<u32, String> {
    let by_name = tiers.iter().position(|name| name.as_bytes() == field);
    let by_number = || number(field).filter(|tier| *tier < tiers.len());
    let tier = by_name
        .or_else(by_number)
        .and_then(|t| u32::try_from(t).ok());
    tier.ok_or_else(|| {
        let shown = String::from_utf8_lossy(field);
        format!("no tier \"{shown}\"; the rules have: {}", tiers.join(", "))
    })
}

fn weight_of(field: &[u8]) -> Result<u32, String> {
    let weight = number(field).and_then(|w| u32::try_from(w).ok());
    let allowed = weight.filter(|w| (1..=MAX_WEIGHT).contains(w));
    allowed.ok_or_else(|| {
        let shown = String::from_utf8_lossy(field);
        format!("the weight \"{shown}\" is not a number from 1 to {MAX_WEIGHT}")
    })
}

fn number(field: &[u8]) -> Option<usize> {
    // `parse` would take a plus sign too.
    let digits = field.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(field).ok().filter(|_| digits)?;
    text.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::path::Path;

    use zeroize::Zeroizing;

    use super::*;

    pub(crate) fn keys() -> TagKeys {
        TagKeys {
            registrar: Secret::new(Zeroizing::new([1; 32])),
            notary: Secret::new(Zeroizing::new([2; 32])),
        }
    }

    fn names() -> ColumnNames {
        ColumnNames {
            identity: "id".to_owned(),
            tier: Some("tier".to_owned()),
            weight: Some("weight".to_owned()),
        }
    }

    fn tiers() -> Vec<String> {
        vec!["north".to_owned(), "south".to_owned()]
    }

    fn read(csv: &str, names: &ColumnNames) -> (Cohort, String) {
        let mut problems = Problems::default();
        let cohort = Cohort::read(csv.as_bytes(), names, &tiers(), &keys(), &mut problems).unwrap();
        let text = problems.into_failure(Path::new("a.csv")).to_string();
        (cohort, text)
    }

    #[test]
    fn only_the_named_columns_matter() {
        let csv = "\u{feff}name,id,tier,weight\nA,7,south,2\nB,8,0,1\n\"C\nD\",9,1,64\n";
        let (cohort, problems) = read(csv, &names());
        assert!(problems.starts_with("a.csv: 0 bad"), "{problems}");
        assert_eq!(cohort.len(), 3);
        assert_eq!(cohort.identity(0), b"7");
        assert_eq!(cohort.identity(2), b"9");
        let cells: Vec<_> = (0..3).map(|serial| cohort.cell(serial)).collect();
        assert_eq!(cells, [(1, 2), (0, 1), (1, 64)]);
        assert_eq!(cohort.tickets(), 67);
        assert_eq!(*cohort.tag(1), tag(&[2; 32], &inner_tag(&[1; 32], b"8")));

        let plain = ColumnNames {
            identity: "id".to_owned(),
            ..Default::default()
        };
        let (cohort, _) = read(csv, &plain);
        assert_eq!((cohort.cell(0), cohort.tickets()), ((0, 1), 3));
    }

    #[test]
    fn a_missing_or_doubled_column_ends_the_run_and_says_what_is_there() {
        for (header, expected) in [
            (
                "name,tier,weight",
                "no column \"id\"; the file has: name, tier, weight",
            ),
            ("id,tier,name", "no column \"weight\""),
            ("id,tier,weight,id", "the column \"id\" is there twice"),
        ] {
            let mut problems = Problems::default();
            let csv = format!("{header}\n1,2,3\n");
            let error = Cohort::read(csv.as_bytes(), &names(), &tiers(), &keys(), &mut problems);
            let text = error.unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_file_without_end_or_beginning_says_so() {
        for (csv, expected) in [
            ("", "the file is empty"),
            (
                "id,tier,weight\n1,0,1\n\"2,0,1\n3,0,1\n",
                "a quotation mark opens in line 3 and is not closed",
            ),
            ("id,\"tier,weight\n1,0,1\n", "opens in line 1"),
        ] {
            let mut problems = Problems::default();
            let error = Cohort::read(csv.as_bytes(), &names(), &tiers(), &keys(), &mut problems);
            let text = error.unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn every_bad_row_is_named_by_its_line() {
        let csv = "id,tier,weight\n1,0,1\n2,0\n,0,1\n 4,0,1\n5,west,1\n6,2,1\n7,0,0\n8,0,65\n\
                   9,0,+1\n1,1,1\n2\n";
        let (_, text) = read(csv, &names());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("a.csv: 10 bad lines, nothing was submitted"));
        let expected = [
            "  line 3: 2 fields, the header has 3",
            "  line 4: the identity is empty",
            "  line 5: the identity begins or ends with a space",
            "  line 6: no tier \"west\"; the rules have: north, south",
            "  line 7: no tier \"2\"; the rules have: north, south",
            "  line 8: the weight \"0\" is not a number from 1 to 64",
            "  line 9: the weight \"65\" is not a number from 1 to 64",
            "  line 10: the weight \"+1\" is not a number from 1 to 64",
            "  line 11: the same person as in line 2",
            "  line 12: 1 field, the header has 3",
        ];
        assert_eq!(lines[1..], expected);
    }
}
