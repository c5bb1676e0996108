//! An authority's acts of a time: fetched in parts, each proven to be all of its part.

use cairn_ledger::code::acts::{self, WindowError};
use cairn_ledger::code::{ACTS_OF_NAMESPACE, DAY_MS};
use cairn_ledger::hash::Hash;
use cairn_ledger::{canonical, verify};
use cairn_proto::v1;
use clap::Args;

use crate::exit::Failure;
use crate::output::timestamp;
use crate::session::{Session, code_client, parse_hash, refused};

/// Whose acts, and of when.
#[derive(Debug, Args)]
pub struct Asked {
    /// The authority's author key, 64 hex digits
    #[arg(value_name = "KEY", value_parser = parse_hash)]
    pub authority: Hash,
    /// From this moment on: 2026-06-01, or 2026-06-01T08:30:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1970-01-01")]
    pub from: u64,
    /// Before this moment; without: all that the newest checkpoint has
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub to: Option<u64>,
}

/// What was shown, and of which checkpoint.
pub struct Shown {
    /// Oldest first.
    pub acts: Vec<v1::AuthorityAct>,
    /// Milliseconds since 1970.
    pub to_ms: u64,
    /// The newest checkpoint that was relied on.
    pub height: u64,
    /// Its time.
    pub as_of_ms: u64,
}

/// Milliseconds since 1970 of a day or a moment in UTC.
pub fn parse_time(text: &str) -> Result<u64, String> {
    let wrong = || "a day, 2026-06-01, or a moment in UTC, 2026-06-01T08:30:00Z".to_owned();
    let (day, moment) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let numbers = |text: &str, by: char| -> Option<[u32; 3]> {
        let parts: Vec<u32> = text
            .split(by)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        parts.try_into().ok()
    };
    let [year, month, day] = numbers(day, '-').ok_or_else(wrong)?;
    let moment = moment.strip_suffix('Z').ok_or_else(wrong)?;
    let [hour, minute, second] = numbers(moment, ':').ok_or_else(wrong)?;
    let time = || {
        let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
        let year = i32::try_from(year).ok()?;
        let date = time::Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
        let part = |number: u32| u8::try_from(number).ok();
        let moment = date
            .with_hms(part(hour)?, part(minute)?, part(second)?)
            .ok()?;
        u64::try_from(moment.assume_utc().unix_timestamp()).ok()
    };
    time().map(|seconds| seconds * 1_000).ok_or_else(wrong)
}

impl Asked {
    /// All acts of the window.
    pub async fn all(&self, session: &Session) -> Result<Shown, Failure> {
        let mut shown = Shown {
            acts: Vec::new(),
            to_ms: self.from,
            height: 0,
            as_of_ms: 0,
        };
        while self.part(session, &mut shown).await? {}
        Ok(shown)
    }

    /// Adds what one answer shows whole; whether there is more.
    async fn part(&self, session: &Session, shown: &mut Shown) -> Result<bool, Failure> {
        let from_ms = shown.to_ms;
        let request = v1::ListOrdersRequest {
            authority: self.authority.to_bytes(),
            from_ms,
            to_ms: self.to.unwrap_or(0),
        };
        let answer = session.retry("asking for an authority's acts", async |channel| {
            code_client(channel).list_orders(request.clone()).await
        });
        let answer = answer.await?.into_inner();
        let receipt = answer.log.unwrap_or_default();
        let value = verify::map_receipt(&session.chain, &receipt).map_err(refused)?;
        if value.namespace != ACTS_OF_NAMESPACE || value.key != self.authority.0[..] {
            let node = session.node();
            let message = format!("{node} proved the log of another authority");
            return Err(Failure::InvalidProof(message));
        }
        let log = match value.value {
            Some(bytes) => canonical::decode(&bytes)
                .map_err(|error| Failure::InvalidProof(format!("an authority's log: {error}")))?,
            None => acts::nothing(),
        };
        let header = value.checkpoint.header();
        (shown.height, shown.as_of_ms) = (header.height, header.timestamp_ms);
        // All that is in this checkpoint, its own block included.
        let whole_ms = header.timestamp_ms.saturating_add(1);
        let asked_ms = self.to.unwrap_or(whole_ms);
        if asked_ms > whole_ms {
            return Err(Failure::NotFound(format!(
                "the newest certified block of {} is of {}: it cannot show yet what is done until \
                 {}; say an earlier --to",
                session.node(),
                timestamp(header.timestamp_ms),
                timestamp(asked_ms)
            )));
        }
        let range = answer.range.unwrap_or_default();
        // Where the answer ends within the window, it is whole up to the last act's time.
        let end = range.first_index + range.acts.len() as u64;
        let to_ms = match range.acts.last() {
            Some(last) if end < log.size => asked_ms.min(last.timestamp_ms),
            _ => asked_ms,
        };
        if to_ms <= from_ms && from_ms < asked_ms {
            return Err(Failure::Failed(format!(
                "{} shows no more than the first acts of one block; ask another node with --node",
                session.node()
            )));
        }
        let whole = acts::verify_window(&log, shown.as_of_ms, from_ms, to_ms, &range);
        let whole = whole.map_err(|error: WindowError| Failure::InvalidProof(error.to_string()))?;
        shown.acts.extend_from_slice(whole);
        shown.to_ms = to_ms.max(from_ms);
        Ok(shown.to_ms < asked_ms)
    }
}

/// The UTC day of a time, as a date.
pub fn date(day: u64) -> String {
    let moment = timestamp(day * DAY_MS);
    moment.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn days_and_moments_are_read_and_others_explained() {
        assert_eq!(parse_time("1970-01-02"), Ok(DAY_MS));
        assert_eq!(parse_time("1970-01-01T01:00:05Z"), Ok(3_605_000));
        assert_eq!(
            date(parse_time("2026-06-01").unwrap() / DAY_MS),
            "2026-06-01"
        );
        for bad in [
            "",
            "2026",
            "2026-13-01",
            "2026-06-01T25:00:00Z",
            "2026-06-01T01:00:00",
            "1-1",
        ] {
            assert!(parse_time(bad).unwrap_err().contains("2026-06-01"), "{bad}");
        }
    }
}
