//! The result of an audit, as it is printed and as the command ends.

use serde::Serialize;

use super::compare::{Finding, Findings, MAX_LISTED};
use crate::certificate::Certificate;
use crate::commands::lottery::state::{Proven, stage_in_words};
use crate::exit::Failure;
use crate::output::{count, line};

/// Findings in a table: as many as a person looks at before mending something.
const MAX_IN_TABLE: usize = 40;

/// The result.
#[derive(Debug, Serialize)]
pub struct Audited {
    ok: bool,
    lottery_id: String,
    stage: &'static str,
    rows: u64,
    roster_root: String,
    people: usize,
    /// Whether the registrar's key was there, or only what it had made.
    tags_from_identities: bool,
    findings: usize,
    listed: Vec<Finding>,
    not_shown: &'static str,
    certificate: Certificate,
}

impl Audited {
    /// Of a comparison; `both` where both offices' keys were there.
    pub fn of(both: bool, lottery: &Proven, people: usize, mut findings: Findings) -> Audited {
        findings
            .listed
            .sort_by_key(|f| (f.line.unwrap_or(u64::MAX), f.serial));
        Audited {
            ok: findings.count == 0,
            lottery_id: lottery.id.to_string(),
            stage: stage_in_words(lottery.state.stage()),
            rows: lottery.state.rows,
            roster_root: hex::encode(&lottery.state.roster_root),
            people,
            tags_from_identities: both,
            findings: findings.count,
            listed: findings.listed,
            not_shown: match both {
                true => "that the people in the list are entitled, and that nobody was left out",
                false => {
                    "that the inner tags are those of the identities in their lines; that the \
                     people in the list are entitled, and that nobody was left out"
                }
            },
            certificate: Certificate::of(&lottery.checkpoint),
        }
    }

    /// As lines of a table.
    pub fn table(&self) -> Vec<(String, String)> {
        let tags = match self.tags_from_identities {
            true => "made again from the identities, with both offices' keys",
            false => "made again from the registrar's inner tags, with the notary's key",
        };
        let mut lines = vec![
            line("lottery", &self.lottery_id),
            line("stage", self.stage),
            line("roster", format!("{} rows, each proven", count(self.rows))),
            line("roster root", &self.roster_root),
            line("list", format!("{} people", count(self.people as u64))),
            line("tags", tags),
        ];
        let result = match self.ok {
            true => "the same: every row is of the person in its line, and opens with the receipt",
            false => "NOT the same",
        };
        lines.push(line("result", result));
        if !self.ok {
            let mut told: Vec<String> = self
                .listed
                .iter()
                .take(MAX_IN_TABLE)
                .map(Finding::told)
                .collect();
            if told.len() < self.findings {
                let more = (self.findings - told.len()) as u64;
                told.push(format!(
                    "and {} more; -o json lists {MAX_LISTED}",
                    count(more)
                ));
            }
            lines.push(line("findings", told.join("\n")));
        }
        lines.push(line("not shown", self.not_shown));
        lines.extend(self.certificate.summary());
        lines
    }

    /// How the command ends.
    pub fn end(&self) -> Result<(), Failure> {
        if self.ok {
            return Ok(());
        }
        let (id, found) = (&self.lottery_id, count(self.findings as u64));
        let next = match self.stage {
            "open" => "do not approve the freeze; rows cannot be taken back, so open a new lottery",
            _ => "record an objection with: cairn lottery object, or have members void the attempt",
        };
        Err(Failure::Failed(format!(
            "the roster of lottery {id} is not the one that the list gives: {found} finding(s); \
             {next}"
        )))
    }
}
