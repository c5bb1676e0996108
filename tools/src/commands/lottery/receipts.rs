//! The applicants' receipts: serial, identity, salt and holder key, one line each; and the key's
//! secret, where the office made the keys.
//!
//! What holds here: a file is read line by line, or refused by the line; whoever audits the roster
//! gets it without the secrets, which would let them redeem for everybody. What stays out: where
//! salts and keys come from (`openings`).

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use csv::ByteRecord;

use crate::private_file;

/// The header of the file; the last column is there where the office made keys.
const HEADER: [&str; 5] = ["serial", "identity", "salt", "holder_key", "holder_secret"];
/// Columns without the secrets.
const OPEN_COLUMNS: usize = 4;
/// One read from the disk: a thousand lines or more.
const BUFFER: usize = 1 << 18;

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
    /// The receipts of an earlier run were written without the keys that are asked for now.
    #[error(
        "{path} was written without office-made holder keys; leave --with-holder-keys out to go on \
         with it, or, where nothing is registered yet, name another --receipts"
    )]
    WithoutKeys {
        /// Which file.
        path: String,
    },
}

/// One applicant's line; what has no fixed length is read into `B`s, and written from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt<B = Vec<u8>> {
    /// Which row of the roster.
    pub serial: u64,
    /// As it was hashed.
    pub identity: B,
    /// Opens the commitment.
    pub salt: [u8; 32],
    /// The applicant's Ed25519 key, or empty.
    pub holder_key: B,
    /// The key's secret, where the office made it.
    pub holder_secret: Option<[u8; 32]>,
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

pub(super) fn io(path: &Path, cause: std::io::Error) -> ReceiptsError {
    let path = path.display().to_string();
    ReceiptsError::Io { path, cause }
}

/// Copies the receipts in `from` to a new file `to` without the secrets, and says how many.
pub fn without_secrets(from: &Path, to: &Path) -> Result<u64, ReceiptsError> {
    let mut lines = Lines::open(from)?;
    let mut copied = 0;
    // What is wrong with a line goes around the disk's errors.
    let mut wrong = None;
    let written = private_file::write(to, |file| {
        let mut out = Writer::new(file, false)?;
        loop {
            match lines.next_receipt() {
                Ok(Some(receipt)) => out.line(&Receipt {
                    holder_secret: None,
                    ..receipt
                })?,
                Ok(None) => return out.finish(),
                Err(error) => {
                    let what = std::io::Error::other(error.to_string());
                    wrong = Some(error);
                    return Err(what);
                }
            }
            copied += 1;
        }
    });
    match wrong {
        Some(error) => Err(error),
        None => written.map(|()| copied).map_err(|cause| io(to, cause)),
    }
}

/// A receipts file that is written.
pub struct Writer<W: Write> {
    lines: csv::Writer<W>,
    with_secrets: bool,
    /// The last line, and its serial in digits: kept for their memory.
    record: ByteRecord,
    serial: String,
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    pub fn new(file: W, with_secrets: bool) -> std::io::Result<Writer<W>> {
        let columns = if with_secrets {
            HEADER.len()
        } else {
            OPEN_COLUMNS
        };
        let mut lines = csv::WriterBuilder::new()
            .buffer_capacity(BUFFER)
            .from_writer(file);
        lines.write_record(&HEADER[..columns])?;
        Ok(Writer {
            lines,
            with_secrets,
            record: ByteRecord::new(),
            serial: String::new(),
        })
    }

    /// One line more.
    pub fn line<B: AsRef<[u8]>>(&mut self, receipt: &Receipt<B>) -> std::io::Result<()> {
        self.serial.clear();
        write!(self.serial, "{}", receipt.serial).map_err(std::io::Error::other)?;
        let record = &mut self.record;
        record.clear();
        record.push_field(self.serial.as_bytes());
        record.push_field(receipt.identity.as_ref());
        push_hex(record, &receipt.salt)?;
        push_hex(record, receipt.holder_key.as_ref())?;
        if self.with_secrets {
            let secret = receipt.holder_secret.as_ref();
            push_hex(record, secret.map_or(&[], |secret| &secret[..]))?;
        }
        Ok(self.lines.write_byte_record(record)?)
    }

    /// Hands everything on.
    pub fn finish(mut self) -> std::io::Result<()> {
        self.lines.flush()
    }
}

/// A hash, a key or nothing.
fn push_hex(record: &mut ByteRecord, bytes: &[u8]) -> std::io::Result<()> {
    let mut digits = [0; 64];
    let digits = digits.get_mut(..2 * bytes.len()).unwrap_or_default();
    hex::encode_to_slice(bytes, digits).map_err(std::io::Error::other)?;
    record.push_field(digits);
    Ok(())
}

/// A receipts file, line by line.
pub struct Lines<R> {
    path: String,
    columns: usize,
    reader: csv::Reader<R>,
    record: ByteRecord,
}

impl Lines<File> {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, ReceiptsError> {
        let file = File::open(path).map_err(|cause| io(path, cause))?;
        let mut lines = Lines {
            path: path.display().to_string(),
            columns: OPEN_COLUMNS,
            reader: csv::ReaderBuilder::new()
                .flexible(true)
                .buffer_capacity(BUFFER)
                .from_reader(file),
            record: ByteRecord::new(),
        };
        let header = lines.reader.byte_headers().cloned();
        let header = header.map_err(|error| lines.malformed(1, error))?;
        lines.columns = header.len();
        let known = (OPEN_COLUMNS..=HEADER.len()).contains(&header.len())
            && header
                .iter()
                .zip(HEADER)
                .all(|(is, name)| is == name.as_bytes());
        if known {
            Ok(lines)
        } else {
            Err(lines.malformed(1, "the header is not serial,identity,salt,holder_key"))
        }
    }
}

impl<R: Read> Lines<R> {
    /// The next line; none at the end.
    pub fn next_receipt(&mut self) -> Result<Option<Receipt>, ReceiptsError> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let line = self.record.position().map_or(0, csv::Position::line);
                let receipt = parse(&self.record, self.columns);
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

fn parse(record: &ByteRecord, columns: usize) -> Result<Receipt, String> {
    if record.len() != columns {
        return Err(format!("{} fields instead of {columns}", record.len()));
    }
    let serial = std::str::from_utf8(&record[0]).ok();
    let serial = serial.and_then(|text| text.parse().ok());
    let holder_key = match &record[3] {
        b"" => Vec::new(),
        key => digits(key, "holder key")?.to_vec(),
    };
    let secret = record.get(OPEN_COLUMNS).filter(|field| !field.is_empty());
    Ok(Receipt {
        serial: serial.ok_or("the serial is not a number")?,
        identity: record[1].to_vec(),
        salt: digits(&record[2], "salt")?,
        holder_key,
        holder_secret: secret.map(|s| digits(s, "holder secret")).transpose()?,
    })
}

fn digits(field: &[u8], what: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(field, &mut bytes)
        .map_err(|_| format!("the {what} is not 64 hex digits"))?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn auditors_get_the_receipts_without_the_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["all.csv", "open.csv"].map(|name| folder.path().join(name));
        let receipt = |serial: u64, holder_secret| Receipt {
            serial,
            identity: b"with, comma".to_vec(),
            salt: [3; 32],
            holder_key: vec![4; 32],
            holder_secret,
        };
        let mut file = Writer::new(File::create(&from).unwrap(), true).unwrap();
        file.line(&receipt(0, Some([5; 32]))).unwrap();
        file.line(&receipt(1, None)).unwrap();
        file.finish().unwrap();
        assert_eq!(without_secrets(&from, &to).unwrap(), 2);
        assert_eq!(find(&from, 0).unwrap(), Some(receipt(0, Some([5; 32]))));
        assert_eq!(find(&to, 0).unwrap(), Some(receipt(0, None)));
        let text = fs::read_to_string(&to).unwrap();
        assert!(!text.contains("05") && text.starts_with("serial,identity,salt,holder_key\n"));

        fs::write(&from, text.replace("1,\"", "x,\"")).unwrap();
        let error = without_secrets(&from, &folder.path().join("third.csv")).unwrap_err();
        assert!(matches!(error, ReceiptsError::Malformed { line: 3, .. }));
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
            (format!("{good}1,b,{salt},,\n"), 3),
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
