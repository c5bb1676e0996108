//! Progress on stderr: a bar on a terminal, a line per quarter elsewhere, nothing with `--quiet`.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Global;
use crate::output;

const TEMPLATE: &str = "{msg} {bar:30} {human_pos}/{human_len}  {per_sec}  {eta}";

/// What takes no longer is told by its result.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// How far a long job is.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    /// The quarters that were told in lines; `None` where no lines are wanted.
    quarters: Option<Cell<u64>>,
    what: &'static str,
}

/// Progress of `what` over `len` steps.
pub fn bar(global: &Global, len: u64, what: &'static str) -> Bar {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal && !global.quiet {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(TEMPLATE);
    let bar = ProgressBar::with_draw_target(Some(len), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what);
    Bar {
        bar,
        quarters: (!terminal && !global.quiet).then(Cell::default),
        what,
    }
}

impl Bar {
    /// So many steps are done.
    pub fn set_position(&self, steps: u64) {
        self.bar.set_position(steps);
        self.tell();
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A line for each quarter that was passed.
    fn tell(&self) {
        let Some(told) = &self.quarters else { return };
        if self.bar.elapsed() < WORTH_TELLING {
            return;
        }
        let (position, len) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let quarter = quarter(position, len);
        if quarter > told.get() {
            told.set(quarter);
            let (position, len) = (output::count(position), output::count(len));
            eprintln!("{}: {} %, {position} of {len}", self.what, quarter * 25);
        }
    }
}

fn quarter(position: u64, len: u64) -> u64 {
    let quarters = u128::from(position) * 4 / u128::from(len.max(1));
    u64::try_from(quarters).unwrap_or(4).min(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_are_whole() {
        let at = [0, 24, 25, 74, 75, 99, 100, 200].map(|position| quarter(position, 100));
        assert_eq!(at, [0, 0, 1, 2, 3, 3, 4, 4]);
        assert_eq!(quarter(0, 0), 0);
        assert_eq!(quarter(u64::MAX, u64::MAX), 4);
    }
}
