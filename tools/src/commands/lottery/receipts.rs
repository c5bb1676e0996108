//! The applicants' receipts: serial, identity, salt and holder key, one line each.
//!
//! What holds here: the file is whole and on disk before the first row is submitted, under its
//! final name only when it is complete, and nobody but its owner reads it. A salt that is lost can
//! never be found again, and with it nobody could show that a row is theirs. Registering once more
//! takes the salts from this file, so a run that was cut short goes on as it began.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use csv::ByteRecord;

use super::cohort::Cohort;
use crate::system;

/// The header of the file.
const HEADER: [&str; 4] = ["serial", "identity", "salt", "holder_key"];
/// One write to the disk: lines are about a hundred bytes.
const BUFFER: usize = 1 << 20;

/// Where salts come from when there is no receipt yet.
#[derive(Debug, Clone)]
pub enum SaltSource {
    /// The operating system.
    Random,
    /// Keyed BLAKE3 of the serial (u64, big-endian) under this secret: for lotteries in tests that
    /// are to come out alike.
    Derived([u8; 32]),
}

/// Why receipts could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptsError {
    /// The disk failed, or the folder is not there.
    #[error("{path}: {cause}")]
    Io {
        /// Which file.
        path: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not one that `cairn lottery register` wrote.
    #[error("{path}, line {line}: {what}; pass the file that `cairn lottery register` wrote")]
    Malformed {
        /// Which file.
        path: String,
        /// Where.
        line: u64,
        /// What is wrong there.
        what: String,
    },
    /// The receipts are of other people, or in another order.
    #[error(
        "{path} is of another list: serial {serial} has another identity there; pass another \
         --receipts, or the CSV file that belongs to it"
    )]
    OtherList {
        /// Which file.
        path: String,
        /// The first serial that differs.
        serial: u64,
    },
}

/// One applicant's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which row of the roster.
    pub serial: u64,
    /// As it was hashed.
    pub identity: Vec<u8>,
    /// Opens the commitment.
    pub salt: [u8; 32],
    /// The applicant's Ed25519 key, or empty.
    pub holder_key: Vec<u8>,
}

/// The salts of a whole cohort, by serial, and the file that keeps them: read if it is there,
/// otherwise made and written.
pub fn salts(
    path: &Path,
    cohort: &Cohort,
    source: &SaltSource,
) -> Result<Vec<[u8; 32]>, ReceiptsError> {
    if path.exists() {
        read_salts(path, cohort)
    } else {
        let salts = make_salts(cohort.len(), source);
        write(path, cohort, &salts).map_err(|cause| io(path, cause))?;
        Ok(salts)
    }
}

/// The receipt of one serial, if the file has it.
pub fn find(path: &Path, serial: u64) -> Result<Option<Receipt>, ReceiptsError> {
    let mut lines = Lines::open(path)?;
    while let Some(receipt) = lines.next_receipt()? {
        if receipt.serial == serial {
            return Ok(Some(receipt));
        }
    }
    Ok(None)
}

fn make_salts(rows: usize, source: &SaltSource) -> Vec<[u8; 32]> {
    match source {
        SaltSource::Random => random_salts(rows),
        SaltSource::Derived(key) => (0u64..)
            .take(rows)
            .map(|serial| *blake3::keyed_hash(key, &serial.to_be_bytes()).as_bytes())
            .collect(),
    }
}

/// A page of randomness at a time: one call a salt would cost as much as all the hashing.
fn random_salts(rows: usize) -> Vec<[u8; 32]> {
    let mut salts = Vec::with_capacity(rows);
    while salts.len() < rows {
        let page: [u8; 4096] = system::random();
        let (page, _) = page.as_chunks::<32>();
        salts.extend_from_slice(&page[..page.len().min(rows - salts.len())]);
    }
    salts
}

fn write(path: &Path, cohort: &Cohort, salts: &[[u8; 32]]) -> std::io::Result<()> {
    let partial = partial_name(path);
    // What an earlier run left behind was never used: only whole files get the final name.
    if partial.exists() {
        fs::remove_file(&partial)?;
    }
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    let mut lines = csv::Writer::from_writer(BufWriter::with_capacity(BUFFER, file));
    lines.write_record(HEADER)?;
    let mut hex_salt = [0; 64];
    for (serial, salt) in salts.iter().enumerate() {
        hex::encode_to_slice(salt, &mut hex_salt).map_err(std::io::Error::other)?;
        lines.write_field(serial.to_string())?;
        lines.write_field(cohort.identity(serial))?;
        lines.write_field(hex_salt)?;
        lines.write_field("")?;
        lines.write_record(None::<&[u8]>)?;
    }
    let mut buffer = lines
        .into_inner()
        .map_err(|e| std::io::Error::other(e.to_string()))?;
    buffer.flush()?;
    buffer.get_ref().sync_all()?;
    fs::rename(&partial, path)?;
    sync_folder(path)
}

fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// A rename is on disk only once its folder is.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn read_salts(path: &Path, cohort: &Cohort) -> Result<Vec<[u8; 32]>, ReceiptsError> {
    let mut lines = Lines::open(path)?;
    let mut salts = Vec::with_capacity(cohort.len());
    while let Some(receipt) = lines.next_receipt()? {
        let serial = salts.len();
        let same = receipt.serial == serial as u64
            && serial < cohort.len()
            && receipt.identity == cohort.identity(serial)
            && receipt.holder_key.is_empty();
        if !same {
            return Err(other_list(path, serial));
        }
        salts.push(receipt.salt);
    }
    if salts.len() == cohort.len() {
        Ok(salts)
    } else {
        Err(other_list(path, salts.len()))
    }
}

fn other_list(path: &Path, serial: usize) -> ReceiptsError {
    ReceiptsError::OtherList {
        path: path.display().to_string(),
        serial: serial as u64,
    }
}

fn io(path: &Path, cause: std::io::Error) -> ReceiptsError {
    let path = path.display().to_string();
    ReceiptsError::Io { path, cause }
}

/// A receipts file, line by line.
struct Lines<R> {
    path: String,
    reader: csv::Reader<R>,
    record: ByteRecord,
}

impl Lines<File> {
    fn open(path: &Path) -> Result<Self, ReceiptsError> {
        let file = File::open(path).map_err(|cause| io(path, cause))?;
        let mut lines = Lines {
            path: path.display().to_string(),
            reader: csv::ReaderBuilder::new().flexible(true).from_reader(file),
            record: ByteRecord::new(),
        };
        let header = lines.reader.byte_headers().cloned();
        match header {
            Ok(header) if header.iter().eq(HEADER.map(str::as_bytes)) => Ok(lines),
            Ok(_) => Err(lines.malformed(1, "the header is not serial,identity,salt,holder_key")),
            Err(error) => Err(lines.malformed(1, error)),
        }
    }
}

impl<R: Read> Lines<R> {
    fn next_receipt(&mut self) -> Result<Option<Receipt>, ReceiptsError> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let line = self.record.position().map_or(0, csv::Position::line);
                let receipt = parse(&self.record);
                receipt.map(Some).map_err(|what| self.malformed(line, what))
            }
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                Err(self.malformed(line, error))
            }
        }
    }

    fn malformed(&self, line: u64, what: impl std::fmt::Display) -> ReceiptsError {
        ReceiptsError::Malformed {
            path: self.path.clone(),
            line,
            what: what.to_string(),
        }
    }
}

fn parse(record: &ByteRecord) -> Result<Receipt, String> {
    if record.len() != HEADER.len() {
        return Err(format!("{} fields instead of 4", record.len()));
    }
    let serial = std::str::from_utf8(&record[0]).ok();
    let serial = serial.and_then(|text| text.parse().ok());
    let mut salt = [0; 32];
    hex::decode_to_slice(&record[2], &mut salt).map_err(|_| "the salt is not 64 hex digits")?;
    Ok(Receipt {
        serial: serial.ok_or("the serial is not a number")?,
        identity: record[1].to_vec(),
        salt,
        holder_key: hex::decode(&record[3]).map_err(|_| "the holder key is not hex")?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::cohort::{ColumnNames, tests::keys};
    use super::*;
    use crate::commands::problems::Problems;

    fn cohort(csv: &str) -> Cohort {
        let names = ColumnNames {
            identity: "id".to_owned(),
            ..Default::default()
        };
        let mut problems = Problems::default();
        let cohort = Cohort::read(csv.as_bytes(), &names, &[], &keys(), &mut problems).unwrap();
        assert!(problems.is_empty());
        cohort
    }

    #[test]
    fn receipts_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipts.csv");
        let people =
            cohort("id\nplain\n\"with, comma\"\n\"with \"\"quotes\"\"\"\n\"two\nlines\"\n");
        let made = salts(&path, &people, &SaltSource::Random).unwrap();
        assert_eq!(made.len(), 4);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!partial_name(&path).exists());

        assert_eq!(salts(&path, &people, &SaltSource::Random).unwrap(), made);
        let receipt = find(&path, 3).unwrap().unwrap();
        assert_eq!(receipt.identity, b"two\nlines");
        assert_eq!((receipt.serial, receipt.salt), (3, made[3]));
        assert_eq!(find(&path, 4).unwrap(), None);
    }

    #[test]
    fn a_run_that_was_cut_short_leaves_nothing_that_is_taken_for_receipts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipts.csv");
        fs::write(partial_name(&path), "serial,identity").unwrap();
        let people = cohort("id\na\nb\n");
        let made = salts(&path, &people, &SaltSource::Derived([5; 32])).unwrap();
        assert_eq!(
            made[1],
            *blake3::keyed_hash(&[5; 32], &1u64.to_be_bytes()).as_bytes()
        );
        assert!(!partial_name(&path).exists());
    }

    #[test]
    fn receipts_of_another_list_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipts.csv");
        salts(&path, &cohort("id\na\nb\n"), &SaltSource::Random).unwrap();
        for (csv, first) in [("id\na\nc\n", 1), ("id\na\nb\nc\n", 2), ("id\na\n", 1)] {
            let error = salts(&path, &cohort(csv), &SaltSource::Random).unwrap_err();
            assert!(matches!(error, ReceiptsError::OtherList { serial, .. } if serial == first));
        }
    }

    #[test]
    fn a_damaged_file_is_refused_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipts.csv");
        let salt = "00".repeat(32);
        let good = format!("serial,identity,salt,holder_key\n0,a,{salt},\n");
        for (text, at) in [
            ("serial,identity,salt\n".to_owned(), 1),
            (good.replace(&salt, "00"), 2),
            (format!("{good}x,b,{salt},\n"), 3),
            (format!("{good}1,b,{salt}\n"), 3),
            (format!("{good}1,b,{salt},zz\n"), 3),
        ] {
            fs::write(&path, text).unwrap();
            let error = find(&path, 7).unwrap_err();
            assert!(
                matches!(error, ReceiptsError::Malformed { line, .. } if line == at),
                "{error}"
            );
        }
    }
}
