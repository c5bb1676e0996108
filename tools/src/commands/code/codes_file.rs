//! Files of codes: a CSV file with a column `code`, 64 hex digits a line.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::commands::problems::{Problems, wrong_width};
use crate::commands::quotes::Quotes;
use crate::exit::Failure;

/// The column that is read; others do not matter.
const COLUMN: &str = "code";

/// A code and the line that it stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The code.
    pub code: [u8; 32],
    /// Counted from 1.
    pub line: u64,
}

/// The codes of a file, in its order; bad lines and doubles fail, with line numbers.
pub fn read(path: &Path) -> Result<Vec<Listed>, Failure> {
    let wrong =
        |what: &dyn std::fmt::Display| Failure::Failed(format!("{}: {what}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    let mut problems = Problems::default();
    let listed = parse(file, &mut problems).map_err(|error| wrong(&error))?;
    if !problems.is_empty() {
        return Err(problems.into_failure(path));
    }
    if listed.is_empty() {
        return Err(wrong(&"there is no code in this file"));
    }
    Ok(listed)
}

fn parse(file: impl Read, problems: &mut Problems) -> Result<Vec<Listed>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(Quotes::new(file));
    let header = reader.byte_headers().map_err(|e| e.to_string())?.clone();
    reader.get_ref().closed().map_err(|e| e.to_string())?;
    if header.is_empty() {
        return Err("the file is empty; its first line has to name the column \"code\"".to_owned());
    }
    let width = header.len();
    let place = header.iter().position(|name| name == COLUMN.as_bytes());
    let place = place.ok_or("there is no column \"code\"; the first line must name it")?;
    let mut listed = Vec::new();
    let mut lines_of = BTreeMap::new();
    for record in reader.byte_records() {
        let record = record.map_err(|e| e.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != width {
            problems.add(line, wrong_width(record.len(), width));
            continue;
        }
        let mut code = [0; 32];
        if hex::decode_to_slice(&record[place], &mut code).is_err() {
            problems.add(line, "the code is not 64 hex digits");
        } else if let Some(before) = lines_of.insert(code, line) {
            problems.add(line, format_args!("the same code as in line {before}"));
        } else {
            listed.push(Listed { code, line });
        }
    }
    reader.get_ref().closed().map_err(|e| e.to_string())?;
    Ok(listed)
}

/// Writes a new file of codes that only its owner reads, and brings it to the disk.
pub fn create(path: &Path, codes: &[[u8; 32]]) -> Result<(), Failure> {
    write(path, codes).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}

fn write(path: &Path, codes: &[[u8; 32]]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut lines = BufWriter::new(file);
    writeln!(lines, "{COLUMN}")?;
    for code in codes {
        writeln!(lines, "{}", hex::encode(code))?;
    }
    lines.flush()?;
    lines.get_ref().sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("codes.csv");
        create(&path, &[[1; 32], [2; 32]]).unwrap();
        let expected = [([1; 32], 2), ([2; 32], 3)].map(|(code, line)| Listed { code, line });
        assert_eq!(read(&path).unwrap(), expected);
        assert!(
            create(&path, &[]).is_err(),
            "no file of codes is overwritten"
        );
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
}
