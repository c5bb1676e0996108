//! Files of codes: CSV files with a column `code`, 64 hex digits a line, and a column `salt` where
//! the codes are bound to their holders' documents.
//!
//! What holds here: every bad line is named, and what is twice; a file of new codes has its name only
//! when it is whole and on the disk. What stays out: numbers of documents, which are read from a file
//! of the caller and written nowhere.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;

use crate::commands::problems::{Problems, wrong_width};
use crate::commands::quotes::Quotes;
use crate::exit::Failure;
use crate::private_file;

/// The column that is read; others do not matter.
const CODE: &str = "code";
/// What opens the commitment to the holder's document; for the holder alone.
const SALT: &str = "salt";
/// The number of a holder's identity document.
const ID_CARD: &str = "id_card";
/// Longest number of a document, in bytes: what is longer is another column's.
const MAX_ID_CARD: usize = 100;

/// A code and the line that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The code.
    pub code: [u8; 32],
    /// Counted from 1.
    pub line: u64,
}

/// A code that is issued, or is about to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewCode {
    /// The code.
    pub code: [u8; 32],
    /// Where it is bound to a document.
    pub salt: Option<[u8; 32]>,
}

/// The codes of a file, in its order; bad lines and doubles fail, with line numbers.
pub fn read(path: &Path) -> Result<Vec<Listed>, Failure> {
    sound(path, |problems| read_noting(path, problems))
}

/// The codes of a file whose lines are good; the others are noted.
pub fn read_noting(path: &Path, problems: &mut Problems) -> Result<Vec<Listed>, Failure> {
    let listed = unique(path, CODE, problems, code)?;
    let listed = listed.into_iter().map(|(line, code)| Listed { code, line });
    Ok(listed.collect())
}

/// Codes that an earlier run wrote, in the file's order, with their salts where it has any.
pub fn read_new(path: &Path) -> Result<Vec<NewCode>, Failure> {
    let codes = read(path)?;
    let salts = match has_column(path, SALT)? {
        false => vec![None; codes.len()],
        true => sound(path, |problems| {
            let salt = |field: &[u8], problems: &mut Noted<'_>| hex_32(SALT, field, problems);
            unique(path, SALT, problems, salt)
        })?
        .into_iter()
        .map(|(_, salt)| Some(salt))
        .collect(),
    };
    let codes = codes.into_iter().zip(salts);
    let codes = codes.map(|(Listed { code, .. }, salt)| NewCode { code, salt });
    Ok(codes.collect())
}

/// The numbers of the holders' documents, in the file's order.
pub fn read_id_cards(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let numbers = sound(path, |problems| {
        unique(path, ID_CARD, problems, |number, problems| {
            let whole = !number.is_empty() && number.len() <= MAX_ID_CARD;
            if !whole || number.trim_ascii() != number {
                let most = MAX_ID_CARD;
                problems.note(format_args!(
                    "the id_card is not 1 to {most} bytes without blanks around them"
                ));
                return None;
            }
            Some(number.to_vec())
        })
    })?;
    Ok(numbers.into_iter().map(|(_, number)| number).collect())
}

/// Writes a new file of codes that only its owner reads, and brings it to the disk.
pub fn create(path: &Path, codes: &[NewCode]) -> Result<(), Failure> {
    if path.exists() {
        return Err(wrong(path, "there is a file of this name already"));
    }
    let salted = codes.iter().any(|code| code.salt.is_some());
    let written = private_file::write(path, |lines| {
        match salted {
            true => writeln!(lines, "{CODE},{SALT}")?,
            false => writeln!(lines, "{CODE}")?,
        }
        for NewCode { code, salt } in codes {
            match salt {
                Some(salt) => writeln!(lines, "{},{}", hex::encode(code), hex::encode(salt))?,
                None => writeln!(lines, "{}", hex::encode(code))?,
            }
        }
        Ok(())
    });
    written.map_err(|error| wrong(path, error))
}

fn wrong(path: &Path, what: impl Display) -> Failure {
    Failure::Failed(format!("{}: {what}", path.display()))
}

fn has_column(path: &Path, column: &str) -> Result<bool, Failure> {
    let file = File::open(path).map_err(|error| wrong(path, error))?;
    let mut reader = csv::Reader::from_reader(file);
    let header = reader.byte_headers().map_err(|error| wrong(path, error))?;
    Ok(header.iter().any(|name| name == column.as_bytes()))
}

/// What `read` gives, where it noted no bad line.
fn sound<T>(
    path: &Path,
    read: impl FnOnce(&mut Problems) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut problems = Problems::default();
    let found = read(&mut problems)?;
    match problems.is_empty() {
        true => Ok(found),
        false => Err(problems.into_failure(path)),
    }
}

/// The problems, and the line that is looked at.
struct Noted<'a> {
    problems: &'a mut Problems,
    line: u64,
}

impl Noted<'_> {
    fn note(&mut self, what: impl Display) {
        self.problems.add(self.line, what);
    }
}

fn code(field: &[u8], problems: &mut Noted<'_>) -> Option<[u8; 32]> {
    hex_32(CODE, field, problems)
}

fn hex_32(name: &str, field: &[u8], problems: &mut Noted<'_>) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex::decode_to_slice(field, &mut bytes).is_err() {
        problems.note(format_args!("the {name} is not 64 hex digits"));
        return None;
    }
    Some(bytes)
}

/// The values of one column with their lines, each once.
fn unique<T: Ord + Clone>(
    path: &Path,
    column: &str,
    problems: &mut Problems,
    value: impl Fn(&[u8], &mut Noted<'_>) -> Option<T>,
) -> Result<Vec<(u64, T)>, Failure> {
    let file = File::open(path).map_err(|error| wrong(path, error))?;
    let before = problems.count();
    let found = parse(file, column, problems, value).map_err(|error| wrong(path, error))?;
    if found.is_empty() && problems.count() == before {
        return Err(wrong(
            path,
            format_args!("there is no {column} in this file"),
        ));
    }
    Ok(found)
}

fn parse<T: Ord + Clone>(
    file: impl Read,
    column: &str,
    problems: &mut Problems,
    value: impl Fn(&[u8], &mut Noted<'_>) -> Option<T>,
) -> Result<Vec<(u64, T)>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(Quotes::new(file));
    let header = reader.byte_headers().map_err(|e| e.to_string())?.clone();
    reader.get_ref().closed().map_err(|e| e.to_string())?;
    if header.is_empty() {
        return Err(format!(
            "the file is empty; its first line has to name the column \"{column}\""
        ));
    }
    let width = header.len();
    let place = header.iter().position(|name| name == column.as_bytes());
    let place = place
        .ok_or_else(|| format!("there is no column \"{column}\"; the first line must name it"))?;
    let mut found = Vec::new();
    let mut lines_of = BTreeMap::new();
    for record in reader.byte_records() {
        let record = record.map_err(|e| e.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let mut problems = Noted {
            problems: &mut *problems,
            line,
        };
        if record.len() != width {
            problems.note(wrong_width(record.len(), width));
            continue;
        }
        let Some(value) = value(&record[place], &mut problems) else {
            continue;
        };
        match lines_of.insert(value.clone(), line) {
            Some(before) => {
                problems.note(format_args!("the same {column} as in line {before}"));
            }
            None => found.push((line, value)),
        }
    }
    reader.get_ref().closed().map_err(|e| e.to_string())?;
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("codes.csv");
        let codes = |salt: Option<[u8; 32]>| {
            [1, 2].map(|n| NewCode {
                code: [n; 32],
                salt,
            })
        };
        create(&path, &codes(None)).unwrap();
        let expected = [([1; 32], 2), ([2; 32], 3)].map(|(code, line)| Listed { code, line });
        assert_eq!(read(&path).unwrap(), expected);
        assert_eq!(read_new(&path).unwrap(), codes(None));
        assert!(
            create(&path, &[]).is_err(),
            "no file of codes is overwritten"
        );
        let path = folder.path().join("salted.csv");
        let salted = [(1, 9), (2, 8)].map(|(code, salt)| NewCode {
            code: [code; 32],
            salt: Some([salt; 32]),
        });
        create(&path, &salted).unwrap();
        assert_eq!(read_new(&path).unwrap(), salted);
        assert_eq!(read(&path).unwrap(), expected);
    }

    #[test]
    fn bad_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("codes.csv");
        let code = |n: u8| hex::encode([n; 32]);
        let text = format!(
            "name,code\na,{}\nb,{}\nc\nd,12\ne,{}\n",
            code(1),
            code(2),
            code(1).to_uppercase()
        );
        std::fs::write(&path, text).unwrap();
        let text = read(&path).unwrap_err().to_string();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let expected = [
            "  line 4: 1 field, the header has 2",
            "  line 5: the code is not 64 hex digits",
            "  line 6: the same code as in line 2",
        ];
        assert_eq!(lines, expected);
        std::fs::write(&path, "kode\n00\n").unwrap();
        assert!(
            read(&path)
                .unwrap_err()
                .to_string()
                .contains("no column \"code\"")
        );
        std::fs::write(&path, "code\n").unwrap();
        assert!(
            read(&path)
                .unwrap_err()
                .to_string()
                .contains("no code in this file")
        );
    }

    #[test]
    fn numbers_of_documents_are_there_once_and_bare() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("people.csv");
        std::fs::write(&path, "id_card,desk\n11X,1\n12X,1\n").unwrap();
        assert_eq!(read_id_cards(&path).unwrap(), [b"11X", b"12X"]);
        std::fs::write(&path, "id_card\n11X\n 12X\n\"\"\n11X\n").unwrap();
        let text = read_id_cards(&path).unwrap_err().to_string();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let blank = "the id_card is not 1 to 100 bytes without blanks around them";
        let expected = [
            format!("  line 3: {blank}"),
            format!("  line 4: {blank}"),
            "  line 5: the same id_card as in line 2".to_owned(),
        ];
        assert_eq!(lines, expected);
        assert!(!text.contains("11X"), "no number is printed");
    }
}
