//! What is wrong with a file that a person made: every bad line in one run, not one a run.
//!
//! What holds here: the first lines are shown, in order, and the rest is counted; memory does not
//! grow with the number of bad lines.

use std::fmt::Display;
use std::path::Path;

use crate::exit::Failure;

/// Lines that are shown; the others are counted. A person mends the first twenty and runs again.
pub const MAX_SHOWN: usize = 20;

/// Bad lines of one file.
#[derive(Debug, Default)]
pub struct Problems {
    /// The first ones, ascending by line.
    shown: Vec<(u64, String)>,
    count: usize,
}

impl Problems {
    /// Notes what is wrong with `line`. Lines may come in any order.
    pub fn add(&mut self, line: u64, what: impl Display) {
        self.count += 1;
        let place = self.shown.partition_point(|(known, _)| *known <= line);
        if place < MAX_SHOWN {
            self.shown.insert(place, (line, what.to_string()));
            self.shown.truncate(MAX_SHOWN);
        }
    }

    /// Whether no line is bad.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first bad lines, ascending.
    pub fn shown(&self) -> &[(u64, String)] {
        &self.shown
    }

    /// How many lines are bad.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What the command ends with: the lines of `file`, and that nothing was done.
    pub fn into_failure(self, file: &Path) -> Failure {
        let lines = if self.count == 1 { "line" } else { "lines" };
        let mut text = format!(
            "{}: {} bad {lines}, nothing was submitted; mend the file and run the same again",
            file.display(),
            self.count
        );
        for (line, what) in &self.shown {
            text.push_str(&format!("\n  line {line}: {what}"));
        }
        if self.count > self.shown.len() {
            let more = self.count - self.shown.len();
            text.push_str(&format!("\n  and {more} more"));
        }
        Failure::Failed(text)
    }
}

/// A row that does not fit its header.
pub fn wrong_width(fields: usize, header: usize) -> String {
    let noun = if fields == 1 { "field" } else { "fields" };
    format!("{fields} {noun}, the header has {header}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_twenty_lines_are_shown_in_order_and_the_rest_is_counted() {
        let mut problems = Problems::default();
        assert!(problems.is_empty());
        for line in (2..52).rev() {
            problems.add(line, format_args!("bad {line}"));
        }
        let text = problems.into_failure(Path::new("a.csv")).to_string();
        assert!(text.contains("a.csv: 50 bad lines"), "{text}");
        let shown: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(shown.len(), MAX_SHOWN + 1);
        assert_eq!(shown[0], "  line 2: bad 2");
        assert_eq!(shown[19], "  line 21: bad 21");
        assert_eq!(shown[20], "  and 30 more");
    }
}
