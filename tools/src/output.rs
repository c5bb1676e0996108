//! What is printed: results on stdout as a table or as one line of JSON, failures on stderr.
//!
//! What holds here: the same value is behind both forms; times are RFC 3339 in UTC. A reader that
//! closes the pipe (`| head`) ends the command quietly.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::cli::{Format, Global};
use crate::exit::Failure;

/// The exit code of a command whose reader closed the pipe, as shells know it: 128 + SIGPIPE. Never
/// 0, for what was to be checked was not checked to its end.
const READER_GONE: i32 = 141;

/// Bytes that lines wait in until they leave.
const LINES_BUFFER: usize = 1 << 16;

/// Prints one result: as JSON, or as the lines that `table` makes of it.
pub fn print<T: Serialize>(
    global: &Global,
    value: &T,
    table: impl FnOnce(&T) -> Vec<(String, String)>,
) {
    match global.output {
        Format::Json => json(value),
        Format::Table => emit(&pairs(&table(value))),
    }
}

/// Prints a list: as a JSON array, or as columns under `header`.
pub fn rows<T: Serialize>(
    global: &Global,
    values: &[T],
    header: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) {
    match global.output {
        Format::Json => json(values),
        Format::Table => {
            let header = header.iter().map(|&name| name.to_owned()).collect();
            let lines = std::iter::once(header).chain(values.iter().map(row));
            emit(&columns(&lines.collect::<Vec<_>>()));
        }
    }
}

/// Prints one of many results that come one after the other: as JSON, or as the line `text`.
pub fn event<T: Serialize>(global: &Global, value: &T, text: impl FnOnce(&T) -> String) {
    match global.output {
        Format::Json => json(value),
        Format::Table => emit(&text(value)),
    }
}

/// Such results by the hundred thousand: what is printed leaves when `flush` is called.
#[derive(Debug)]
pub struct Lines {
    format: Format,
    out: io::BufWriter<io::StdoutLock<'static>>,
}

impl Lines {
    /// None yet.
    pub fn new(global: &Global) -> Lines {
        Lines {
            format: global.output,
            out: io::BufWriter::with_capacity(LINES_BUFFER, io::stdout().lock()),
        }
    }

    /// One more.
    pub fn event<T: Serialize>(&mut self, value: &T, text: impl FnOnce(&T) -> String) {
        let line = match self.format {
            Format::Json => json_text(value),
            Format::Table => text(value),
        };
        finish(writeln!(self.out, "{line}"));
    }

    /// Whoever waits for them sees them.
    pub fn flush(&mut self) {
        finish(self.out.flush());
    }
}

/// One line of a table: a name and what is shown beside it.
pub fn line(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// Prints a failure on stderr.
pub fn failure(global: &Global, failure: &Failure) {
    match global.output {
        Format::Table => eprintln!("error: {failure}"),
        Format::Json => {
            let (reason, message) = (failure.reason(), failure.to_string());
            let error = serde_json::json!({"error": {"reason": reason, "message": message}});
            eprintln!("{error}");
        }
    }
}

/// A time in milliseconds since 1970, as `2026-11-22T07:03:00.250Z`.
pub fn timestamp(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let Ok(t) = time::OffsetDateTime::from_unix_timestamp(seconds) else {
        return format!("{ms} ms since 1970");
    };
    let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
    let (hour, minute, second) = t.to_hms();
    let ms = ms % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// A number with commas: `543,384`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of entries: `1 entry`, `2 entries`.
pub fn entries(number: u64) -> String {
    match number {
        1 => "1 entry".to_owned(),
        _ => format!("{} entries", count(number)),
    }
}

fn json<T: Serialize + ?Sized>(value: &T) {
    emit(&json_text(value));
}

fn json_text<T: Serialize + ?Sized>(value: &T) -> String {
    let text = serde_json::to_string(value);
    text.unwrap_or_else(|error| format!(r#"{{"unprintable":"{error}"}}"#))
}

/// Names padded to one width; further lines of a value stand under its first.
fn pairs(lines: &[(String, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut text = Vec::new();
    for (name, value) in lines {
        let mut values = value.lines();
        text.push(format!("{name:width$}  {}", values.next().unwrap_or("")));
        text.extend(values.map(|more| format!("{:width$}  {more}", "")));
    }
    let trimmed = text.iter().map(|line| line.trim_end());
    trimmed.collect::<Vec<_>>().join("\n")
}

/// Columns padded to the width of their widest cell.
fn columns(lines: &[Vec<String>]) -> String {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(widest).collect();
    let text = lines.iter().map(|line| {
        let cells = line.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        let text = cells.collect::<Vec<_>>().join("  ");
        text.trim_end().to_owned()
    });
    text.collect::<Vec<_>>().join("\n")
}

fn emit(text: &str) {
    let mut out = io::stdout().lock();
    finish(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// Ends the command where nobody reads its results.
fn finish(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(READER_GONE),
        Err(error) => {
            eprintln!("error: cannot write the result: {error}");
            std::process::exit(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(1_580_515_199_999), "2020-01-31T23:59:59.999Z");
        assert_eq!(timestamp(1_582_934_400_007), "2020-02-29T00:00:00.007Z");
        assert!(timestamp(u64::MAX).ends_with("ms since 1970"));
    }

    #[test]
    fn numbers_have_commas() {
        let shown = [0, 999, 1_000, 543_384, 1_000_000].map(count);
        assert_eq!(shown, ["0", "999", "1,000", "543,384", "1,000,000"]);
    }

    #[test]
    fn tables_are_aligned_and_have_no_trailing_blanks() {
        let lines = [line("a", "1\n2"), line("long", "")];
        assert_eq!(pairs(&lines), "a     1\n      2\nlong");
        let cells = [vec!["a".into(), "b".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(columns(&cells), "a    b\nccc  d");
    }
}
