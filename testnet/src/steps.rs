//! What a person sees while the demo runs: a numbered line for each step that is done, and a
//! spinner for the one under way.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// A step that is done.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub title: String,
    pub detail: String,
    pub seconds: f64,
}

/// The steps so far.
#[derive(Debug)]
pub struct Steps {
    done: Vec<Step>,
    spinner: Option<ProgressBar>,
    people: bool,
}

impl Steps {
    pub fn new() -> Steps {
        Steps {
            done: Vec::new(),
            spinner: None,
            people: std::io::stderr().is_terminal(),
        }
    }

    /// Says what is under way. `own_progress`: its command draws bars of its own.
    pub fn busy(&mut self, what: &str, own_progress: bool) {
        self.calm();
        let number = self.done.len() + 1;
        if !self.people || own_progress {
            eprintln!("  {number:>2}  … {what}");
            return;
        }
        let spinner = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("  {prefix:>2}  {spinner} {msg} {elapsed}");
        if let Ok(style) = style {
            spinner.set_style(style);
        }
        spinner.set_prefix(number.to_string());
        spinner.set_message(what.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(100));
        self.spinner = Some(spinner);
    }

    /// Takes the spinner away.
    pub fn calm(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }

    /// A step is done.
    pub fn done(&mut self, title: &str, detail: impl Into<String>, took: Duration) {
        self.calm();
        let step = Step {
            title: title.to_owned(),
            detail: detail.into(),
            seconds: rounded(took),
        };
        let number = self.done.len() + 1;
        let mut lines = wrap(&step.detail, 62).into_iter();
        let first = lines.next().unwrap_or_default();
        println!(
            "  {number:>2}  {title:<22} {first:<62} {:>7.2} s",
            step.seconds
        );
        for line in lines {
            println!("      {:<22} {line}", "");
        }
        self.done.push(step);
    }

    /// A step that began at `began` is done now.
    pub fn done_since(&mut self, title: &str, detail: impl Into<String>, began: Instant) {
        self.done(title, detail, began.elapsed());
    }

    pub fn all(&self) -> &[Step] {
        &self.done
    }
}

/// Seconds to the millisecond.
pub fn rounded(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000.0).round() / 1_000.0
}

/// Lines of at most `width` characters, broken between words.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A number with commas between thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One thing, or several.
pub fn count(number: u64, one: &str, many: &str) -> String {
    let name = if number == 1 { one } else { many };
    format!("{} {name}", thousands(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lines_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(543_384), "543,384");
        assert_eq!(thousands(1_000_000), "1,000,000");
        assert_eq!(count(1, "entry", "entries"), "1 entry");
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("toolongword x", 4), ["toolongword", "x"]);
    }
}
