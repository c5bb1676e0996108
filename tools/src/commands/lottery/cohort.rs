//! Applicants as the registrar's CSV file names them, read and checked before anything is sent.
//!
//! What holds here: the file is read once, from front to back; each identity is blinded into its
//! inner tag, and two rows with one inner tag are one person. Identities stay in this
//! process and in the receipts; only tags and commitments leave. What stays out: how identities are
//! normalised, which the rules say in words and the file has done; and the notary's half of a tag
//! (`tag_files`).

use std::io::Read;

use cairn_ledger::entry;
use cairn_ledger::lottery::roster::{MAX_WEIGHT, inner_tag};
use csv::ByteRecord;

use super::resident_id;
use crate::commands::problems::{Problems, wrong_width};
use crate::commands::quotes::{NotClosed, Quotes};
use crate::cores;
use crate::key_file::Secret;

/// One read from the disk: a thousand rows or more.
const BUFFER: usize = 1 << 18;
/// Rows whose inner tags are made together, while others are read.
const PORTION: usize = 1 << 12;

/// Which columns of the file matter. It may have tens of others.
#[derive(Debug, Clone, Default)]
pub struct ColumnNames {
    /// Whose value is hashed.
    pub identity: String,
    /// A tier's name or number; without, everybody is in tier 0.
    pub tier: Option<String>,
    /// How many tickets; without, everybody has one.
    pub weight: Option<String>,
    /// The applicant's own Ed25519 key in hex; without, nobody brought one.
    pub holder_key: Option<String>,
    /// Whether identities must be resident-ID numbers.
    pub resident_ids: bool,
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
    identities: Identities,
    /// Where each row stands in the file.
    lines: Vec<u64>,
    inner_tags: Vec<[u8; 32]>,
    /// Tier and weight a row, from the first row that is not in tier 0 with weight 1.
    cells: Option<Vec<(u32, u32)>>,
    /// The applicants' own keys, where the file has a column of them.
    holder_keys: Option<Vec<Option<[u8; 32]>>>,
}

/// Identities, one behind the other.
#[derive(Debug, Default)]
struct Identities {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Identities {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at]]
    }

    fn push(&mut self, identity: &[u8]) {
        self.bytes.extend_from_slice(identity);
        self.ends.push(self.bytes.len());
    }

    /// A copy of those from `first` on.
    fn from(&self, first: usize) -> Identities {
        let start = self.start(first);
        Identities {
            bytes: self.bytes[start..].to_vec(),
            ends: self.ends[first..].iter().map(|end| end - start).collect(),
        }
    }
}

impl Cohort {
    /// Reads a file. Bad rows and duplicate persons are added to `problems`, with line numbers.
    pub fn read(
        file: impl Read,
        names: &ColumnNames,
        tiers: &[String],
        registrar_tag_key: &Secret,
        problems: &mut Problems,
    ) -> Result<Cohort, ReadError> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .buffer_capacity(BUFFER)
            .from_reader(Quotes::new(file));
        let header = reader.byte_headers()?.clone();
        reader.get_ref().closed()?;
        let columns = Columns::find(&header, names)?;
        let mut cohort = Cohort {
            holder_keys: columns.holder_key.map(|_| Vec::new()),
            ..Cohort::default()
        };
        let mut record = ByteRecord::new();
        let tags = |identities: Identities| -> Vec<[u8; 32]> {
            let all = (0..identities.len()).map(|at| identities.get(at));
            all.map(|identity| inner_tag(registrar_tag_key, identity))
                .collect()
        };
        let read = |hand_out: &mut dyn FnMut(Identities)| -> Result<(), ReadError> {
            let mut handed_out = 0;
            while reader.read_byte_record(&mut record)? {
                let line = record.position().map_or(0, csv::Position::line);
                match columns.row(&record, tiers) {
                    Ok(row) => {
                        cohort.push(&row);
                        cohort.lines.push(line);
                    }
                    Err(what) => problems.add(line, what),
                }
                if cohort.len() - handed_out >= PORTION {
                    hand_out(cohort.identities.from(handed_out));
                    handed_out = cohort.len();
                }
            }
            hand_out(cohort.identities.from(handed_out));
            Ok(reader.get_ref().closed()?)
        };
        let (read, tags) = cores::behind(tags, read);
        read?;
        cohort.inner_tags = tags.concat();
        cohort.note_duplicates(problems);
        Ok(cohort)
    }

    /// How many applicants.
    pub fn len(&self) -> usize {
        self.identities.len()
    }

    /// The identity of `serial`, which is below [`Cohort::len`].
    pub fn identity(&self, serial: usize) -> &[u8] {
        self.identities.get(serial)
    }

    /// The line of the file that `serial` stands in.
    pub fn line(&self, serial: usize) -> u64 {
        self.lines[serial]
    }

    /// Everybody's tag under the registrar's key alone, by serial.
    pub fn inner_tags(&self) -> &[[u8; 32]] {
        &self.inner_tags
    }

    /// Whether the file has a column of keys.
    pub fn has_holder_keys(&self) -> bool {
        self.holder_keys.is_some()
    }

    /// The key that `serial` brought.
    pub fn holder_key(&self, serial: usize) -> Option<[u8; 32]> {
        self.holder_keys.as_ref().and_then(|keys| keys[serial])
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

    fn push(&mut self, row: &Row<'_>) {
        if row.cell != (0, 1) && self.cells.is_none() {
            self.cells = Some(vec![(0, 1); self.len()]);
        }
        if let Some(cells) = &mut self.cells {
            cells.push(row.cell);
        }
        self.identities.push(row.identity);
        if let Some(keys) = &mut self.holder_keys {
            keys.push(row.holder_key);
        }
    }

    fn note_duplicates(&self, problems: &mut Problems) {
        for (first, again) in repeats(&self.inner_tags) {
            let before = self.lines[first];
            let what = format_args!("the same person as in line {before}");
            problems.add(self.lines[again], what);
        }
    }
}

/// Places of tags that stand a second time, each with the first place of the same tag. Sorting rows
/// by the front of their tags keeps this to sixteen bytes a row.
pub fn repeats(tags: &[[u8; 32]]) -> Vec<(usize, usize)> {
    // Tags are spread evenly: those that begin alike are a quarter of them, which one core sorts.
    const ALIKE: u32 = 2;
    let mut parts = [(); 1 << ALIKE];
    let front = |tag: &[u8; 32]| u64::from_be_bytes(std::array::from_fn(|at| tag[at]));
    let repeats_in = |part: usize, _: &mut [()]| {
        let fronts = tags.iter().map(front).zip(0..);
        let mut order: Vec<(u64, usize)> = fronts
            .filter(|(front, _)| front >> (u64::BITS - ALIKE) == part as u64)
            .collect();
        order.sort_unstable();
        let mut found = Vec::new();
        for run in order.chunk_by(|a, b| a.0 == b.0) {
            for (at, (_, row)) in run.iter().enumerate().skip(1) {
                let same = |(_, other): &&(u64, usize)| tags[*other] == tags[*row];
                let first = run[..at].iter().find(same);
                found.extend(first.map(|(_, first)| (*first, *row)));
            }
        }
        found
    };
    cores::portions(&mut parts, 1, repeats_in).concat()
}

/// Where the columns stand.
struct Columns {
    count: usize,
    identity: usize,
    tier: Option<usize>,
    weight: Option<usize>,
    holder_key: Option<usize>,
    resident_ids: bool,
}

/// One good row.
struct Row<'a> {
    identity: &'a [u8],
    cell: (u32, u32),
    holder_key: Option<[u8; 32]>,
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
            holder_key: names.holder_key.as_ref().map(place).transpose()?,
            resident_ids: names.resident_ids,
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
        if self.resident_ids {
            resident_id::check(identity).map_err(|error| error.to_string())?;
        }
        let tier = self.tier.map_or(Ok(0), |at| tier_of(&record[at], tiers))?;
        let weight = self.weight.map_or(Ok(1), |at| weight_of(&record[at]))?;
        let holder_key = self.holder_key.map(|at| holder_key_of(&record[at]));
        Ok(Row {
            identity,
            cell: (tier, weight),
            holder_key: holder_key.transpose()?.flatten(),
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

/// An empty field: this applicant brought no key.
fn holder_key_of(field: &[u8]) -> Result<Option<[u8; 32]>, String> {
    if field.is_empty() {
        return Ok(None);
    }
    let mut key = [0; 32];
    let read = hex::decode_to_slice(field, &mut key);
    read.map_err(|_| "the holder key is not 64 hex digits".to_owned())?;
    match entry::public_key(&key) {
        Some(_) => Ok(Some(key)),
        None => Err("the holder key is no Ed25519 public key".to_owned()),
    }
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

    use ed25519_dalek::SigningKey;
    use zeroize::Zeroizing;

    use super::*;

    pub(crate) fn key() -> Secret {
        Secret::new(Zeroizing::new([1; 32]))
    }

    fn names() -> ColumnNames {
        ColumnNames {
            identity: "id".to_owned(),
            tier: Some("tier".to_owned()),
            weight: Some("weight".to_owned()),
            ..Default::default()
        }
    }

    fn tiers() -> Vec<String> {
        vec!["north".to_owned(), "south".to_owned()]
    }

    fn read(csv: &str, names: &ColumnNames) -> (Cohort, String) {
        let mut problems = Problems::default();
        let cohort = Cohort::read(csv.as_bytes(), names, &tiers(), &key(), &mut problems).unwrap();
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
        assert_eq!(cohort.inner_tags()[1], inner_tag(&[1; 32], b"8"));

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
            let error = Cohort::read(csv.as_bytes(), &names(), &tiers(), &key(), &mut problems);
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
            let error = Cohort::read(csv.as_bytes(), &names(), &tiers(), &key(), &mut problems);
            let text = error.unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn applicants_may_bring_a_key_and_resident_ids_are_checked_when_asked() {
        let names = ColumnNames {
            identity: "id".to_owned(),
            holder_key: Some("key".to_owned()),
            resident_ids: true,
            ..Default::default()
        };
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        let (weak, good) = ("00".repeat(32), hex::encode(key));
        let csv = format!(
            "id,key\n11010519491231002X,{good}\n110105194912310038,\n\
             110105194912310054,{weak}\n110105194912310070,zz\n11010519491231002x,\n"
        );
        let (cohort, text) = read(&csv, &names);
        let shown: Vec<_> = (0..2).map(|serial| cohort.holder_key(serial)).collect();
        assert_eq!(shown, [Some(key), None]);
        let expected = [
            "  line 4: the holder key is no Ed25519 public key",
            "  line 5: the holder key is not 64 hex digits",
            "  line 6: the resident-ID number ends with a small x; write it as X",
        ];
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), expected);
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
