//! `gate.toml`: a gate's policy as whoever runs the gate writes it.
//!
//! What holds here: a key that is unknown, missing or malformed is named, with its line. What is
//! left out is as [`GatePolicy::default`] has it.

use std::path::Path;

use cairn_ledger::hash::Hash;
use cairn_ledger::pass::gate::{GatePolicy, PaperRule, Recognised};
use cairn_proto::v1::CodeStatus;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use toml::value::{Datetime, Offset};

use crate::exit::Failure;
use crate::session::parse_hash;

/// Longest age of a pass, in seconds: a year, as long as any trust file lasts.
const MAX_AGE_S: u64 = 366 * 86_400;
/// Clocks that lie further apart are wrong: a day.
const MAX_TOLERANCE_S: u64 = 86_400;

/// The policy in the file at `path`.
pub fn read(path: &Path) -> Result<GatePolicy, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Failed(format!("cannot read the policy {name}: {error}")))?;
    parse(&text).map_err(|error| {
        let help = "what a policy may hold is shown by: cairn pass verify --help";
        Failure::Usage(format!("the policy {name}: {error}{help}"))
    })
}

fn parse(text: &str) -> Result<GatePolicy, toml::de::Error> {
    let file: PolicyFile = toml::from_str(text)?;
    let usual = GatePolicy::default();
    let ms = |age: Option<Age>, usual: u64| age.map_or(usual, |age| age.0 * 1_000);
    Ok(GatePolicy {
        max_age_ms: ms(file.max_age_s, usual.max_age_ms),
        clock_tolerance_ms: file
            .clock_tolerance_s
            .map_or(usual.clock_tolerance_ms, |tolerance| tolerance.0 * 1_000),
        accept: file.accept.map_or(usual.accept, |accept| accept.0),
        regions: file.regions,
        recognised: file.recognised.into_iter().map(Recognised::from).collect(),
        id_card: file.id_card,
        paper: file.paper.map(|paper| PaperRule {
            max_age_ms: paper.max_age_s.0 * 1_000,
            id_card: paper.id_card,
        }),
        refusals_of: file.refusals_of,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    max_age_s: Option<Age>,
    clock_tolerance_s: Option<Tolerance>,
    accept: Option<Statuses>,
    #[serde(default)]
    regions: Vec<String>,
    #[serde(default)]
    id_card: bool,
    #[serde(default)]
    refusals_of: Vec<String>,
    paper: Option<PaperTable>,
    #[serde(default)]
    recognised: Vec<RecognisedTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PaperTable {
    max_age_s: Age,
    #[serde(default = "yes")]
    id_card: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecognisedTable {
    chain_id: ChainId,
    #[serde(default)]
    regions: Vec<String>,
    until: Until,
}

fn yes() -> bool {
    true
}

impl From<RecognisedTable> for Recognised {
    fn from(table: RecognisedTable) -> Recognised {
        Recognised {
            chain_id: table.chain_id.0,
            regions: table.regions,
            until_ms: table.until.0,
        }
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D, most: u64) -> Result<u64, D::Error> {
    let seconds = u64::deserialize(deserializer)?;
    match (1..=most).contains(&seconds) {
        true => Ok(seconds),
        false => Err(de::Error::custom(format_args!(
            "must be from 1 to {most} seconds"
        ))),
    }
}

#[derive(Debug)]
struct Age(u64);

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        seconds(deserializer, MAX_AGE_S).map(Age)
    }
}

#[derive(Debug)]
struct Tolerance(u64);

impl<'de> Deserialize<'de> for Tolerance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        seconds(deserializer, MAX_TOLERANCE_S).map(Tolerance)
    }
}

/// At least one.
#[derive(Debug)]
struct Statuses(Vec<CodeStatus>);

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let statuses = names.iter().map(|name| match name.as_str() {
            "green" => Ok(CodeStatus::Green),
            "yellow" => Ok(CodeStatus::Yellow),
            "red" => Ok(CodeStatus::Red),
            _ => Err(de::Error::unknown_variant(
                name,
                &["green", "yellow", "red"],
            )),
        });
        let statuses: Vec<CodeStatus> = statuses.collect::<Result<_, _>>()?;
        match statuses.is_empty() {
            true => Err(de::Error::custom("must have at least one status")),
            false => Ok(Statuses(statuses)),
        }
    }
}

#[derive(Debug)]
struct ChainId(Hash);

impl<'de> Deserialize<'de> for ChainId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_hash(&text).map(ChainId).map_err(de::Error::custom)
    }
}

/// A time with its offset, in milliseconds since 1970.
#[derive(Debug)]
struct Until(u64);

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Datetime::deserialize(deserializer)?;
        let ms = since_1970(&given).ok_or_else(|| {
            de::Error::custom(
                "must be a time behind 1970 with its offset, like 2027-01-31T00:00:00Z",
            )
        })?;
        Ok(Until(ms))
    }
}

fn since_1970(given: &Datetime) -> Option<u64> {
    let (day, hour) = (given.date?, given.time?);
    let offset = match given.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    let month = time::Month::try_from(day.month).ok()?;
    let date = time::Date::from_calendar_date(i32::from(day.year), month, day.day).ok()?;
    let midnight = date.midnight().assume_utc().unix_timestamp();
    let within = [
        i64::from(hour.hour) * 3_600,
        i64::from(hour.minute) * 60,
        i64::from(hour.second.unwrap_or(0)),
    ];
    let seconds = midnight + within.iter().sum::<i64>() - offset;
    u64::try_from(seconds).ok()?.checked_mul(1_000)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
max_age_s = 600
clock_tolerance_s = 30
accept = ["green", "yellow"]
regions = ["suzhou"]
id_card = true
refusals_of = ["suzhou"]
[paper]
max_age_s = 604800
id_card = false
[[recognised]]
chain_id = "0707070707070707070707070707070707070707070707070707070707070707"
regions = ["nanjing"]
until = 2027-01-31T08:00:00+08:00
"#;

    #[test]
    fn every_key_counts_and_every_one_may_be_left_out() {
        assert_eq!(parse("").unwrap(), GatePolicy::default());
        let policy = GatePolicy {
            max_age_ms: 600_000,
            clock_tolerance_ms: 30_000,
            accept: vec![CodeStatus::Green, CodeStatus::Yellow],
            regions: vec!["suzhou".to_owned()],
            recognised: vec![Recognised {
                chain_id: Hash([7; 32]),
                regions: vec!["nanjing".to_owned()],
                until_ms: 1_801_353_600_000,
            }],
            id_card: true,
            paper: Some(PaperRule {
                max_age_ms: 604_800_000,
                id_card: false,
            }),
            refusals_of: vec!["suzhou".to_owned()],
        };
        assert_eq!(parse(WHOLE).unwrap(), policy);
        // Paper asks for the ID card unless the policy says that it does not.
        let paper = parse("[paper]\nmax_age_s = 1").unwrap().paper.unwrap();
        assert!(paper.id_card);
    }

    #[test]
    fn a_wrong_key_or_value_is_named_with_its_line() {
        for (from, to, told) in [
            (
                "max_age_s = 600\n",
                "max_age = 600\n",
                "unknown field `max_age`",
            ),
            ("max_age_s = 600\n", "max_age_s = 0\n", "max_age_s = 0"),
            ("max_age_s = 600\n", "max_age_s = 1e9\n", "max_age_s = 1e9"),
            ("_s = 30", "_s = 90000", "clock_tolerance_s = 90000"),
            (
                "\"green\", \"yellow\"",
                "\"blue\"",
                "unknown variant `blue`",
            ),
            ("\"green\", \"yellow\"", "", "accept = []"),
            ("\"0707", "\"07", "chain_id = "),
            ("+08:00", "", "until = 2027"),
            (
                "until = 2027-01-31T08:00:00+08:00",
                "",
                "missing field `until`",
            ),
            (
                "2027-01-31T08:00:00+08:00",
                "1960-01-31T08:00:00Z",
                "until = 1960",
            ),
            (
                "[paper]\nmax_age_s = 604800",
                "[paper]",
                "missing field `max_age_s`",
            ),
        ] {
            assert!(WHOLE.contains(from), "{from}");
            let error = parse(&WHOLE.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(told), "{told}: {error}");
            assert!(error.contains("line "), "{error}");
        }
    }
}
