//! `cairn lottery watch`: a running lottery, live.
//!
//! What holds here: each checkpoint that a node announces is only a reason to look; what is shown is
//! the lottery's state as the certified map proves it. On a terminal one line below the events
//! counts down; elsewhere there is a line for each change and nothing else. It ends when nothing
//! more can come: certified, or voided for good.

use std::io::IsTerminal as _;
use std::time::Duration;

use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, LotteryStage};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tonic::{Status, Streaming};

use super::publish::ranks_in_public;
use super::show::what_comes_next;
use super::state::{Proven, stage_in_words};
use crate::cli::{Format, Global};
use crate::exit::Failure;
use crate::output::{self, count, timestamp};
use crate::session::{Patience, Session, ledger_client, parse_hash, passes};
use crate::system;

/// How often the countdown moves.
const TICK: Duration = Duration::from_secs(1);
/// Between two looks at the state: a busy ledger has many checkpoints in this time.
const LOOK: Duration = Duration::from_millis(250);
/// Announcements may stop with a node that stops; then another one is asked.
const SILENCE: Duration = Duration::from_secs(30);

/// What `watch` takes.
#[derive(Debug, Args)]
pub struct Watch {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
}

/// Shows every change until the lottery is over.
pub async fn run(global: &Global, args: Watch) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let mut screen = Screen::new(global);
    let mut last: Option<Seen> = None;
    loop {
        let answer = session.retry("following checkpoints", async |channel| {
            let request = v1::WatchCheckpointsRequest {};
            ledger_client(channel).watch_checkpoints(request).await
        });
        let mut stream = answer.await?.into_inner();
        let ended = loop {
            let lottery = Proven::read(&session, &args.id).await?;
            let seen = Seen::of(&lottery)?;
            // Another node may be behind.
            if last.as_ref().is_none_or(|last| last.height <= seen.height) {
                screen.show(last.as_ref(), &seen);
                last = Some(seen);
            }
            if is_over(&lottery.state) {
                return Ok(());
            }
            match next(&mut stream, &screen, last.as_ref()).await {
                Ok(()) => {}
                Err(status) if passes(&status) => break status,
                Err(status) => return Err(status.into()),
            }
        };
        let what = "following checkpoints";
        let mut patience = Patience::new(session.timeout());
        session.pass_over(what, &ended, &mut patience).await?;
    }
}

/// Nothing more can come of it.
fn is_over(state: &v1::LotteryState) -> bool {
    matches!(
        state.stage(),
        LotteryStage::Certified | LotteryStage::Voided
    )
}

/// Waits for the next announcement, and for those that follow at once; the countdown goes on.
async fn next(
    stream: &mut Streaming<v1::WatchCheckpointsResponse>,
    screen: &Screen<'_>,
    seen: Option<&Seen>,
) -> Result<(), Status> {
    let mut silence = tokio::time::interval(TICK);
    let mut waited = Duration::ZERO;
    loop {
        tokio::select! {
            announced = stream.message() => {
                announced?.ok_or_else(|| Status::unavailable("the node ended the stream"))?;
                tokio::time::sleep(LOOK).await;
                // Those that came meanwhile are told by the same look.
                while let Ok(more) = tokio::time::timeout(Duration::ZERO, stream.message()).await {
                    more?.ok_or_else(|| Status::unavailable("the node ended the stream"))?;
                }
                return Ok(());
            }
            _ = silence.tick() => {
                screen.tick(seen);
                waited += TICK;
                // An idle ledger has no checkpoints: the state is looked at all the same.
                if waited > SILENCE {
                    return Ok(());
                }
            }
        }
    }
}

/// A moment that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Wait {
    /// Milliseconds since 1970.
    until_ms: u64,
    what: &'static str,
}

/// What is seen of a lottery at one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Seen {
    lottery_id: String,
    /// Of the certified block.
    height: u64,
    /// Of that block.
    timestamp_ms: u64,
    stage: &'static str,
    attempt: u32,
    rows: u64,
    contributions: usize,
    contributors: usize,
    close_certified: bool,
    batches_published: u64,
    batches: u64,
    objections: u32,
    objections_open: u32,
    /// Ranks that promotions reached, over all tiers.
    promoted_through: u64,
    voids: usize,
    /// What the countdown runs to, one after the other.
    waits_for: Vec<Wait>,
    #[serde(skip)]
    next: &'static str,
}

impl Seen {
    fn of(lottery: &Proven) -> Result<Seen, Failure> {
        let (rules, state) = (lottery.rules()?, &lottery.state);
        let per_batch = u64::from(rules.rows_per_batch.max(1));
        let results = state.results.iter();
        let header = lottery.checkpoint.header();
        Ok(Seen {
            lottery_id: lottery.id.to_string(),
            height: header.height,
            timestamp_ms: header.timestamp_ms,
            stage: stage_in_words(state.stage()),
            attempt: state.attempt,
            rows: state.rows,
            contributions: state.contributions.len(),
            contributors: rules.contributors.len().saturating_sub(state.dropped.len()),
            close_certified: state.close_certified,
            batches_published: results
                .clone()
                .map(|r| u64::from(r.batches_published))
                .sum(),
            batches: results
                .clone()
                .map(|r| ranks_in_public(rules, r).div_ceil(per_batch))
                .sum(),
            objections: state.objections,
            objections_open: state.objections_open,
            promoted_through: results.map(|r| r.promoted_through).sum(),
            voids: state.voids.len(),
            waits_for: awaited(lottery)?,
            next: what_comes_next(state.stage(), rules.seed_profile()),
        })
    }

    /// The same but for the checkpoint.
    fn is_like(&self, other: &Seen) -> bool {
        let at = |seen: &Seen| Seen {
            height: 0,
            timestamp_ms: 0,
            ..seen.clone()
        };
        at(self) == at(other)
    }

    /// What is new since `before`, in words.
    fn told(&self, before: Option<&Seen>) -> String {
        let mut told = Vec::new();
        let changed = |of: fn(&Seen) -> u64| before.is_none_or(|before| of(before) != of(self));
        let new_stage = before.is_none_or(|before| before.stage != self.stage);
        let new_attempt = before.is_some_and(|before| before.attempt != self.attempt);
        if before.is_some_and(|before| before.voids != self.voids) {
            told.push("an attempt was voided".to_owned());
        }
        if new_attempt {
            told.push(format!("attempt {} begins", self.attempt));
        }
        if new_stage || new_attempt {
            told.push(format!("{}: {}", self.stage, self.next));
        }
        if changed(|seen| seen.rows) && self.rows > 0 {
            told.push(format!("{} rows", count(self.rows)));
        }
        if changed(|seen| seen.contributions as u64) && self.contributions > 0 {
            let (given, of) = (self.contributions, self.contributors);
            told.push(format!("{given} of {of} contributions"));
        }
        if changed(|seen| seen.close_certified.into()) && self.close_certified {
            told.push("the close is certified in time".to_owned());
        }
        if changed(|seen| seen.batches_published) && self.batches > 0 {
            let (published, of) = (count(self.batches_published), count(self.batches));
            told.push(format!("{published} of {of} batches"));
        }
        let objected = changed(|seen| seen.objections.into());
        if (objected || changed(|seen| seen.objections_open.into())) && self.objections > 0 {
            let (all, open) = (self.objections, self.objections_open);
            told.push(format!("{all} objection(s), {open} without a ruling"));
        }
        if changed(|seen| seen.promoted_through) && self.promoted_through > 0 {
            told.push("the waiting list moved".to_owned());
        }
        let (height, at) = (count(self.height), timestamp(self.timestamp_ms));
        let told = match told.is_empty() {
            true => self.stage.to_owned(),
            false => told.join("; "),
        };
        format!("{at}  block {height}  {told}")
    }

    fn countdown(&self, now_ms: u64) -> String {
        let mut waits = self.waits_for.iter();
        match waits.find(|wait| wait.until_ms > now_ms) {
            None => format!("{}: {}", self.stage, self.next),
            Some(Wait { until_ms, what }) => {
                let left = clock((until_ms - now_ms).div_ceil(1_000));
                format!("{}: {what} in {left}", self.stage)
            }
        }
    }
}

/// What the lottery waits for, in order of time.
fn awaited(lottery: &Proven) -> Result<Vec<Wait>, Failure> {
    let (rules, state) = (lottery.rules()?, &lottery.state);
    let wait = |until_ms, what| Wait { until_ms, what };
    Ok(match state.stage() {
        LotteryStage::Contributing => {
            let mut waits = vec![wait(state.contributions_close_ms, "contributions close")];
            if lottery.with_beacon()? {
                waits.push(wait(lottery.round_time_ms()?, "the beacon's round"));
            }
            waits
        }
        LotteryStage::Complete if rules.objection_window_ms > 0 => {
            let until = state
                .completed_at_ms
                .saturating_add(rules.objection_window_ms);
            vec![wait(until, "the window for objections closes")]
        }
        _ => Vec::new(),
    })
}

fn clock(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match days {
        0 => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{days} d {hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// Where changes and the countdown go.
struct Screen<'a> {
    global: &'a Global,
    /// The last line of a terminal; none elsewhere.
    line: Option<ProgressBar>,
}

impl<'a> Screen<'a> {
    fn new(global: &'a Global) -> Screen<'a> {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let live = terminal && !global.quiet && global.output == Format::Table;
        let line = live.then(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        Screen { global, line }
    }

    fn show(&mut self, before: Option<&Seen>, seen: &Seen) {
        if before.is_some_and(|before| before.is_like(seen)) {
            return;
        }
        let print = || output::event(self.global, seen, |seen| seen.told(before));
        match &self.line {
            Some(line) => line.suspend(print),
            None => print(),
        }
    }

    fn tick(&self, seen: Option<&Seen>) {
        if let (Some(line), Some(seen)) = (&self.line, seen) {
            line.set_message(seen.countdown(system::now_ms()));
            line.tick();
        }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen {
            lottery_id: "5c".repeat(32),
            height: 7,
            timestamp_ms: 0,
            stage: "contributing",
            attempt: 1,
            rows: 2_000,
            contributions: 1,
            contributors: 4,
            close_certified: false,
            batches_published: 0,
            batches: 0,
            objections: 0,
            objections_open: 0,
            promoted_through: 0,
            voids: 0,
            waits_for: vec![
                Wait {
                    until_ms: 90_000,
                    what: "contributions close",
                },
                Wait {
                    until_ms: 100_000,
                    what: "the beacon's round",
                },
            ],
            next: "they contribute",
        }
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = seen();
        let all = before.told(None);
        assert!(all.contains("2,000 rows; 1 of 4 contributions"), "{all}");
        let later = Seen {
            height: 9,
            ..seen()
        };
        assert!(later.is_like(&before));
        let more = Seen {
            contributions: 2,
            close_certified: true,
            ..later
        };
        let told = more.told(Some(&before));
        let words = "block 9  2 of 4 contributions; the close is certified in time";
        assert!(told.ends_with(words), "{told}");
    }

    #[test]
    fn a_void_and_the_next_attempt_are_told() {
        let next = Seen {
            attempt: 2,
            voids: 1,
            contributions: 0,
            ..seen()
        };
        let told = next.told(Some(&seen()));
        let words = "an attempt was voided; attempt 2 begins; contributing: they contribute";
        assert!(told.ends_with(words), "{told}");
    }

    #[test]
    fn the_countdown_goes_from_one_moment_to_the_next() {
        let seen = seen();
        let at = |now_ms| seen.countdown(now_ms);
        assert_eq!(at(30_000), "contributing: contributions close in 00:01:00");
        assert_eq!(at(91_000), "contributing: the beacon's round in 00:00:09");
        assert_eq!(at(100_000), "contributing: they contribute");
        assert_eq!(clock(90_061), "1 d 01:01:01");
    }
}
