//! `cairn audit spikes`: days that stand out.
//!
//! What holds here: the numbers are counted from acts that are proven to be all there are. That a day
//! stands out says nothing about why.

use std::collections::BTreeMap;

use cairn_ledger::code::DAY_MS;
use cairn_ledger::code::acts::tally;
use clap::Args;
use serde::Serialize;

use super::acts::{Asked, date};
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, timestamp};
use crate::session::Session;

/// `cairn audit spikes`
#[derive(Debug, Args)]
pub struct Spikes {
    #[command(flatten)]
    asked: Asked,
    /// Show days with so many times the changes of the middle day
    #[arg(
        long,
        value_name = "N",
        default_value = "5",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000)
    )]
    times: u64,
    /// and with so many changes at least
    #[arg(long, value_name = "N", default_value = "100")]
    least: u64,
}

/// A day that stands out.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Spike {
    day: String,
    reason: String,
    orders: u64,
    changed: u64,
    refused: u64,
    /// Changes on the middle one of the window's days, those without any included.
    middle: u64,
}

type Counters = BTreeMap<(u64, String), cairn_proto::v1::OrderCounter>;

/// The days of each reason that stand out of `days` days.
fn spikes(counters: &Counters, days: u64, times: u64, least: u64) -> Vec<Spike> {
    let mut by_reason: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for ((_, reason), counter) in counters {
        by_reason.entry(reason).or_default().push(counter.changed);
    }
    let middle = |reason: &str| {
        let mut changed = by_reason.get(reason).cloned().unwrap_or_default();
        changed.resize(changed.len().max(usize::try_from(days).unwrap_or(0)), 0);
        changed.sort_unstable();
        changed.get(changed.len() / 2).copied().unwrap_or(0)
    };
    let all = counters.iter().map(|((day, reason), counter)| Spike {
        day: date(*day),
        reason: reason.clone(),
        orders: counter.orders,
        changed: counter.changed,
        refused: counter.refused,
        middle: middle(reason),
    });
    let stands_out =
        |spike: &Spike| spike.changed >= least && spike.changed >= times * spike.middle.max(1);
    all.filter(stands_out).collect()
}

impl Spikes {
    /// Shows the days that stand out.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let session = Session::connect(global).await?;
        let shown = self.asked.all(&session).await?;
        let counters = tally(&shown.acts);
        // Days before the first act count where they are asked for.
        let first_act = shown
            .acts
            .first()
            .map_or(shown.to_ms, |act| act.timestamp_ms);
        let first = match self.asked.from {
            0 => first_act,
            from => from,
        } / DAY_MS;
        let days = (shown.to_ms / DAY_MS).saturating_sub(first) + 1;
        let found = spikes(&counters, days, self.times, self.least);
        let header = [
            "day",
            "reason",
            "orders",
            "changed",
            "refused",
            "middle day",
        ];
        output::rows(global, &found, &header, |spike| {
            vec![
                spike.day.clone(),
                spike.reason.clone(),
                count(spike.orders),
                count(spike.changed),
                count(spike.refused),
                count(spike.middle),
            ]
        });
        eprintln!(
            "{} of {} days stand out, of {} acts up to {}: all of them are counted",
            count(found.len() as u64),
            count(days),
            count(shown.acts.len() as u64),
            timestamp(shown.to_ms)
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cairn_proto::v1::OrderCounter;

    use super::*;

    fn counters(changed: &[u64]) -> Counters {
        let day = |(day, changed): (usize, &u64)| {
            let counter = OrderCounter {
                orders: 1,
                changed: *changed,
                refused: 0,
            };
            ((day as u64, "contact".to_owned()), counter)
        };
        changed.iter().enumerate().map(day).collect()
    }

    #[test]
    fn a_day_stands_out_of_the_others_and_not_of_itself() {
        let found = |changed: &[u64]| spikes(&counters(changed), changed.len() as u64, 5, 100);
        assert!(found(&[100, 110, 90, 120, 130]).is_empty());
        let spikes = found(&[100, 110, 1_317, 120, 130]);
        assert_eq!(spikes.len(), 1);
        assert_eq!((spikes[0].changed, spikes[0].middle), (1_317, 120));
        assert!(found(&[1, 2, 50, 2, 1]).is_empty(), "few are no spike");
    }

    #[test]
    fn days_without_changes_count() {
        assert_eq!(spikes(&counters(&[1_317]), 30, 5, 100).len(), 1);
        assert!(spikes(&counters(&[1_317]), 1, 5, 100).is_empty());
    }
}
