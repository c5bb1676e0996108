//! `cairn pass verify`: the gate. Nothing but a trust file, a policy and a clock.
//!
//! What holds here: a verdict leaves as soon as no further pass waits to be read, so that it works
//! behind a scanner as well as on a file of a million. What stays out: when a pass lets through
//! (`cairn_ledger::pass::gate`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use cairn_ledger::pass::gate::{Gate, GatePolicy, Proven, Verdict};
use cairn_ledger::pass::refusal::{Refusal, duration, name};
use clap::Args;
use serde::Serialize;

use super::policy_file;
use crate::cli::Global;
use crate::commands::trust;
use crate::exit::Failure;
use crate::output::{self, Lines, count, line, timestamp};
use crate::system;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;
/// What stands between a pass and the number of an ID card: in no pass, and on no card.
const BETWEEN: u8 = b'\t';

/// What `verify` takes.
#[derive(Debug, Args)]
pub struct Verify {
    /// The text that the QR code shows; without it, passes come from --from or standard input
    #[arg(value_name = "PASS")]
    pass: Option<String>,
    /// A file of passes, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "pass")]
    from: Option<PathBuf>,
    /// The gate's trust file, as `cairn trust export` made it
    #[arg(long, value_name = "FILE", env = "CAIRN_TRUST")]
    trust: PathBuf,
    /// The gate's policy; without: green passes, at most an hour old, of the own ledger
    #[arg(long, value_name = "TOML")]
    policy: Option<PathBuf>,
    /// The number of the ID card that is shown with the pass
    #[arg(long, value_name = "NUMBER", requires = "pass")]
    id_card: Option<String>,
    /// Rehearsals: as if shown at this time, milliseconds since 1970
    #[arg(long, value_name = "MS")]
    now_ms: Option<u64>,
}

/// Verifies one pass, or all that come.
pub fn run(global: &Global, args: &Verify) -> Result<(), Failure> {
    let trust = trust::read(global, &args.trust)?;
    let policy = match &args.policy {
        Some(path) => policy_file::read(path)?,
        None => GatePolicy::default(),
    };
    let mut gate = Gate::new(trust, policy);
    let now_ms = || args.now_ms.unwrap_or_else(system::now_ms);
    if let Some(text) = &args.pass {
        let id_card = args.id_card.as_ref().map(|number| number.as_bytes());
        return one(global, &mut gate, text, now_ms(), id_card);
    }
    let tally = match &args.from {
        None => many(global, &mut gate, io::stdin().lock(), now_ms),
        Some(path) => {
            let name = path.display();
            let file = File::open(path)
                .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
            many(global, &mut gate, file, now_ms)
        }
    };
    let (all, refused) =
        tally.map_err(|error| Failure::Failed(format!("cannot read the passes: {error}")))?;
    match refused {
        0 => Ok(()),
        _ => Err(Failure::Refused(format!(
            "{} of {} passes do not let through",
            count(refused),
            count(all)
        ))),
    }
}

fn one(
    global: &Global,
    gate: &mut Gate,
    text: &str,
    now_ms: u64,
    id_card: Option<&[u8]>,
) -> Result<(), Failure> {
    let verdict = gate.judge(text.trim(), now_ms, id_card);
    output::print(global, &Judged::of(&verdict), Judged::table);
    match verdict {
        Verdict::Accepted(_) => Ok(()),
        Verdict::Refused { why, .. } => Err(Failure::Refused(why.to_string())),
    }
}

/// How many passes there were, and how many do not let through.
fn many(
    global: &Global,
    gate: &mut Gate,
    passes: impl io::Read,
    now_ms: impl Fn() -> u64,
) -> io::Result<(u64, u64)> {
    let mut passes = BufReader::with_capacity(BUFFER, passes);
    let mut lines = Lines::new(global);
    let (mut all, mut refused) = (0, 0);
    let mut read = Vec::new();
    while passes.read_until(b'\n', &mut read)? > 0 {
        let text = read.trim_ascii();
        if !text.is_empty() {
            let (text, id_card) = match text.iter().position(|byte| *byte == BETWEEN) {
                Some(at) => (&text[..at], Some(text[at..].trim_ascii())),
                None => (text, None),
            };
            // What is no UTF-8 is no pass, and is told as such.
            let text = String::from_utf8_lossy(text);
            let verdict = gate.judge(text.trim(), now_ms(), id_card);
            all += 1;
            refused += u64::from(matches!(verdict, Verdict::Refused { .. }));
            lines.event(&Judged::of(&verdict), Judged::line);
        }
        read.clear();
        // Somebody may wait at the gate.
        if passes.buffer().is_empty() {
            lines.flush();
        }
    }
    lines.flush();
    Ok((all, refused))
}

/// A verdict as it is printed.
#[derive(Debug, Serialize)]
struct Judged<'a> {
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    proven: Option<Facts<'a>>,
}

/// What the pass proves all the same.
#[derive(Debug, Serialize)]
struct Facts<'a> {
    code: String,
    /// What it shows now; empty before and after its validity.
    status: &'static str,
    region: &'a str,
    age_ms: u64,
    latest_as_of_ms: u64,
    valid_until_ms: u64,
    paper: bool,
    height: u64,
    chain_id: String,
    detect_only: bool,
    /// Regions that do not recognise the order that set the status.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    refused_by: &'a BTreeSet<String>,
}

impl Facts<'_> {
    fn of(proven: &Proven) -> Facts<'_> {
        Facts {
            code: proven.code.to_string(),
            status: proven.effective.map_or("", name),
            region: &proven.state.region,
            age_ms: proven.age_ms,
            latest_as_of_ms: proven.certified.latest_as_of_ms,
            valid_until_ms: proven.state.valid_until_ms,
            paper: proven.paper,
            height: proven.certified.height(),
            chain_id: proven.chain_id.to_string(),
            detect_only: proven.certified.detect_only,
            refused_by: &proven.refused_by,
        }
    }
}

impl Judged<'_> {
    fn of(verdict: &Verdict) -> Judged<'_> {
        let (why, proven) = match verdict {
            Verdict::Accepted(proven) => (None, Some(proven)),
            Verdict::Refused { why, proven } => (Some(why), proven.as_ref()),
        };
        Judged {
            verdict: if why.is_none() { "accepted" } else { "refused" },
            reason: why.map(Refusal::reason),
            message: why.map(Refusal::to_string),
            proven: proven.map(|proven| Facts::of(proven)),
        }
    }

    fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![line("verdict", self.verdict)];
        lines.extend(self.message.iter().map(|message| line("why", message)));
        let Some(facts) = &self.proven else {
            return lines;
        };
        let as_of = timestamp(facts.latest_as_of_ms);
        let height = count(facts.height);
        lines.extend([
            line("shows", facts.status),
            line("region", facts.region),
            line("how old", duration(facts.age_ms)),
            line("latest as of", as_of),
            line("valid until", timestamp(facts.valid_until_ms)),
            line("shown on", if facts.paper { "paper" } else { "a screen" }),
            line("code", &facts.code),
            line(
                "proven",
                format!("under the certified map of block {height}"),
            ),
            line("ledger", &facts.chain_id),
        ]);
        lines.extend(facts.refused_by.iter().map(|region| {
            line(
                "not recognised",
                format!("the order behind it, by the region {region}"),
            )
        }));
        if facts.detect_only {
            lines.push(line("detect only", crate::certificate::DETECT_ONLY));
        }
        lines
    }

    fn line(&self) -> String {
        match (&self.proven, self.reason, &self.message) {
            (Some(facts), None, _) => {
                let (status, age) = (facts.status, duration(facts.age_ms));
                format!("accepted  {status}, {age} old, code {}", facts.code)
            }
            (_, reason, message) => {
                let message = message.as_deref().unwrap_or_default();
                format!("refused   {}: {message}", reason.unwrap_or_default())
            }
        }
    }
}
