//! `cairn lottery audit-roster`: the notary compares every row of the ledger's roster with the
//! registrations, off the ledger, before the freeze or after it.
//!
//! What holds here: the rows are those under the certified root; a person is found by tag, wherever
//! the row stands, so that what is missing, added, moved or changed is each named as such, by line.
//! What stays out: whether the people in the list are entitled. Caveat: with the registrar's file of
//! inner tags in place of the registrar's key, that each inner tag is of the identity in its line
//! cannot be told.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;

use cairn_ledger::lottery::roster::{self, Columns, Row};
use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::cohort::{Cohort, ColumnNames};
use super::history::History;
use super::receipts::{Lines, Receipt};
use super::recompute::Source;
use super::record::Record;
use super::register::Applicants;
use super::state::{Proven, stage_in_words};
use super::tag::{self, Office};
use super::tag_files::{self, Of};
use crate::certificate::Certificate;
use crate::cli::Global;
use crate::commands::problems::Problems;
use crate::exit::Failure;
use crate::key_file::{self, Secret};
use crate::output::{self, count, line};
use crate::system;

/// Findings that are listed; the others are counted.
const MAX_LISTED: usize = 1_000;
/// Findings in a table: as many as a person looks at before mending something.
const MAX_IN_TABLE: usize = 40;

/// What `audit-roster` takes.
#[derive(Debug, Args)]
pub struct AuditRoster {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    applicants: Applicants,
    /// The column with a tier's name or number; without, everybody is in the first tier
    #[arg(long, value_name = "NAME")]
    tier_column: Option<String>,
    /// The column with the number of tickets; without, everybody has one
    #[arg(long, value_name = "NAME")]
    weight_column: Option<String>,
    /// The receipts that `cairn lottery register` wrote
    #[arg(long, value_name = "FILE")]
    receipts: PathBuf,
    /// The notary's tag key
    #[arg(long, value_name = "FILE")]
    notary_tag_key: PathBuf,
    /// The registrar's tag key, where both offices audit together
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "inner",
        conflicts_with = "inner"
    )]
    registrar_tag_key: Option<PathBuf>,
    /// The inner tags that the registrar handed over: what `cairn lottery tag inner` wrote
    #[arg(long, value_name = "FILE")]
    inner: Option<PathBuf>,
}

/// Compares everything, and lists what differs.
pub async fn run(global: &Global, args: AuditRoster) -> Result<(), Failure> {
    let notary_key = key_file::tag(&args.notary_tag_key)?;
    let (chain, record, _) = args.source.read(global).await?;
    // The rows are those under the certified root.
    History::of(&chain, &record)?;
    let lottery = &record.lottery;
    tag::check_key(lottery, Office::Notary, &notary_key)?;
    let of = Of {
        chain_id: chain.id,
        lottery_id: lottery.id,
    };
    let mut findings = Findings::default();
    let (cohort, tags) = registered(&args, lottery, &of, &notary_key, &mut findings)?;
    let receipts = read_receipts(&args, lottery.state.rows, &mut findings)?;
    compare(&cohort, &tags, &receipts, &rows(&record)?, &mut findings);
    let audited = Audited::of(&args, lottery, cohort.len(), findings);
    output::print(global, &audited, Audited::table);
    audited.end()
}

/// The CSV file's people and the tags that their rows must have.
fn registered(
    args: &AuditRoster,
    lottery: &Proven,
    of: &Of,
    notary_key: &Secret,
    findings: &mut Findings,
) -> Result<(Cohort, Vec<[u8; 32]>), Failure> {
    let registrar_key = match &args.registrar_tag_key {
        Some(path) => {
            let key = key_file::tag(path)?;
            tag::check_key(lottery, Office::Registrar, &key)?;
            key
        }
        // Any key finds who is in the list twice.
        None => Secret::new(Zeroizing::new(system::random())),
    };
    let cohort = read_cohort(args, lottery, &registrar_key, findings)?;
    let tags = match &args.inner {
        None => tag_files::blind(notary_key, cohort.inner_tags()),
        Some(path) => {
            let inner = tag_files::read_inner(path, of);
            let inner = inner.map_err(|error| Failure::Failed(error.to_string()))?;
            if inner.len() != cohort.len() {
                let (tags, people) = (inner.len(), cohort.len());
                return Err(Failure::Failed(format!(
                    "{} is of {tags} applicants, and {} has {people}; pass the files that belong \
                     together",
                    path.display(),
                    args.applicants.csv.display()
                )));
            }
            tag_files::blind(notary_key, &inner)
        }
    };
    Ok((cohort, tags))
}

fn read_cohort(
    args: &AuditRoster,
    lottery: &Proven,
    registrar_key: &Secret,
    findings: &mut Findings,
) -> Result<Cohort, Failure> {
    let names = ColumnNames {
        tier: args.tier_column.clone(),
        weight: args.weight_column.clone(),
        ..args.applicants.names()
    };
    let tiers = &lottery.rules()?.tiers;
    let tiers: Vec<String> = tiers.iter().map(|tier| tier.name.clone()).collect();
    let path = args.applicants.csv.display();
    let wrong = |what: &dyn std::fmt::Display| Failure::Failed(format!("{path}: {what}"));
    let file = File::open(&args.applicants.csv).map_err(|error| wrong(&error))?;
    let mut problems = Problems::default();
    let cohort = Cohort::read(file, &names, &tiers, registrar_key, &mut problems)
        .map_err(|error| wrong(&error))?;
    for (line, what) in problems.shown() {
        findings.add(Some(*line), None, what.clone());
    }
    findings.count += problems.count() - problems.shown().len();
    Ok(cohort)
}

/// The receipts by serial.
fn read_receipts(
    args: &AuditRoster,
    rows: u64,
    findings: &mut Findings,
) -> Result<Vec<Option<Receipt>>, Failure> {
    let failed = |error: super::receipts::ReceiptsError| Failure::Failed(error.to_string());
    let mut receipts = Vec::new();
    receipts.resize_with(usize::try_from(rows).unwrap_or(0), || None);
    let mut lines = Lines::open(&args.receipts).map_err(failed)?;
    while let Some(receipt) = lines.next_receipt().map_err(failed)? {
        let serial = receipt.serial;
        let place = usize::try_from(serial).ok();
        match place.and_then(|place| receipts.get_mut(place)) {
            Some(place @ None) => *place = Some(receipt),
            Some(Some(_)) => findings.add(None, Some(serial), "it has two receipts"),
            None => findings.add(None, Some(serial), "a receipt for a row that is not there"),
        }
    }
    Ok(receipts)
}

fn rows(record: &Record) -> Result<Vec<Row>, Failure> {
    let tiers = record.lottery.rules()?.tiers.len();
    let mut rows = Vec::new();
    for chunk in record.chunks() {
        let columns =
            Columns::of(chunk, tiers).map_err(|error| Failure::InvalidProof(error.to_string()))?;
        rows.extend(columns.rows());
    }
    Ok(rows)
}

/// Finds each line's row by its tag, and compares the two.
fn compare(
    cohort: &Cohort,
    tags: &[[u8; 32]],
    receipts: &[Option<Receipt>],
    rows: &[Row],
    findings: &mut Findings,
) {
    let by_tag: HashMap<[u8; 32], usize> = rows
        .iter()
        .enumerate()
        .map(|(at, row)| (row.tag, at))
        .collect();
    let mut wanted = vec![false; rows.len()];
    let mut last: Option<(usize, u64)> = None;
    for (person, tag) in tags.iter().enumerate() {
        let line = cohort.line(person);
        let Some(serial) = by_tag.get(tag).copied() else {
            findings.add(
                Some(line),
                None,
                "missing: no row on the ledger has this person's tag",
            );
            continue;
        };
        // The list itself has this person twice, which is told already.
        if std::mem::replace(&mut wanted[serial], true) {
            continue;
        }
        match last {
            Some((before, at)) if serial < before => findings.add(
                Some(line),
                Some(serial as u64),
                format!("moved: on the ledger this row stands before that of line {at}"),
            ),
            _ => last = Some((serial, line)),
        }
        if let Some(what) = differs(cohort, person, receipts.get(serial), &rows[serial]) {
            findings.add(Some(line), Some(serial as u64), what);
        }
    }
    for (serial, _) in wanted.iter().enumerate().filter(|(_, wanted)| !**wanted) {
        let what = "extra: nobody in the list has this row's tag";
        findings.add(None, Some(serial as u64), what);
    }
}

/// What of a person's row is not as registered.
fn differs(
    cohort: &Cohort,
    person: usize,
    receipt: Option<&Option<Receipt>>,
    row: &Row,
) -> Option<String> {
    let (tier, weight) = cohort.cell(person);
    if (row.tier, row.weight) != (tier, weight) {
        let (has, of) = (row.tier, row.weight);
        return Some(format!(
            "changed: the row is in tier {has} with {of} ticket(s), the list says tier {tier} with \
             {weight}"
        ));
    }
    let Some(receipt) = receipt.and_then(Option::as_ref) else {
        return Some(
            "there is no receipt for this row, so that nobody can show whose it is".into(),
        );
    };
    let identity = cohort.identity(person);
    if receipt.identity != identity {
        return Some("the receipt of this row is another person's".into());
    }
    let opened = roster::commitment(&receipt.salt, identity, &receipt.holder_key);
    (opened.0 != row.commitment).then(|| {
        "the row's commitment does not open with the receipt's salt, identity and holder key".into()
    })
}

/// What is not as it should be.
#[derive(Debug, Default)]
struct Findings {
    listed: Vec<Finding>,
    count: usize,
}

/// One thing that is not as it should be.
#[derive(Debug, Serialize)]
struct Finding {
    /// Of the CSV file.
    line: Option<u64>,
    /// On the ledger.
    serial: Option<u64>,
    what: String,
}

impl Findings {
    fn add(&mut self, line: Option<u64>, serial: Option<u64>, what: impl Into<String>) {
        self.count += 1;
        if self.listed.len() < MAX_LISTED {
            let what = what.into();
            self.listed.push(Finding { line, serial, what });
        }
    }
}

impl Finding {
    fn told(&self) -> String {
        let place = match (self.line, self.serial) {
            (Some(line), Some(serial)) => format!("line {line}, serial {serial}"),
            (Some(line), None) => format!("line {line}"),
            (None, Some(serial)) => format!("serial {serial}"),
            (None, None) => "somewhere".to_owned(),
        };
        format!("{place}: {}", self.what)
    }
}

/// The result.
#[derive(Debug, Serialize)]
struct Audited {
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
    fn of(args: &AuditRoster, lottery: &Proven, people: usize, mut findings: Findings) -> Audited {
        findings
            .listed
            .sort_by_key(|f| (f.line.unwrap_or(u64::MAX), f.serial));
        let both = args.inner.is_none();
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

    fn table(&self) -> Vec<(String, String)> {
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

    fn end(&self) -> Result<(), Failure> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::cohort::tests::key;
    use super::*;

    const NOTARY: [u8; 32] = [2; 32];

    fn cohort(csv: &str) -> (Cohort, usize) {
        let names = ColumnNames {
            identity: "id".to_owned(),
            ..Default::default()
        };
        let mut problems = Problems::default();
        let cohort = Cohort::read(csv.as_bytes(), &names, &[], &key(), &mut problems).unwrap();
        (cohort, problems.count())
    }

    fn receipt(serial: u64, identity: &str) -> Receipt {
        Receipt {
            serial,
            identity: identity.as_bytes().to_vec(),
            salt: [serial as u8; 32],
            holder_key: Vec::new(),
            holder_secret: None,
        }
    }

    /// The ledger's roster of these people in this order.
    fn ledger(people: &[&str]) -> (Vec<Row>, Vec<Option<Receipt>>) {
        let receipts: Vec<Receipt> = (0..)
            .zip(people)
            .map(|(serial, id)| receipt(serial, id))
            .collect();
        let row = |receipt: &Receipt| Row {
            commitment: roster::commitment(&receipt.salt, &receipt.identity, &[]).0,
            tag: roster::tag(&NOTARY, &roster::inner_tag(&key(), &receipt.identity)),
            tier: 0,
            weight: 1,
        };
        let rows = receipts.iter().map(row).collect();
        (rows, receipts.into_iter().map(Some).collect())
    }

    fn audit(csv: &str, rows: &[Row], receipts: &[Option<Receipt>]) -> Vec<String> {
        let (cohort, _) = cohort(csv);
        let notary = Secret::new(Zeroizing::new(NOTARY));
        let tags = tag_files::blind(&notary, cohort.inner_tags());
        let mut findings = Findings::default();
        compare(&cohort, &tags, receipts, rows, &mut findings);
        findings.listed.iter().map(Finding::told).collect()
    }

    const LIST: &str = "id\na\nb\nc\nd\n";

    #[test]
    fn a_roster_as_registered_has_no_findings() {
        let (rows, receipts) = ledger(&["a", "b", "c", "d"]);
        assert!(audit(LIST, &rows, &receipts).is_empty());
    }

    #[test]
    fn a_row_that_is_missing_or_extra_is_named_and_the_others_are_not() {
        let (rows, receipts) = ledger(&["a", "c", "d"]);
        let found = audit(LIST, &rows, &receipts);
        assert_eq!(
            found,
            ["line 3: missing: no row on the ledger has this person's tag"]
        );
        let (rows, receipts) = ledger(&["a", "x", "b", "c", "d"]);
        let found = audit(LIST, &rows, &receipts);
        assert_eq!(
            found,
            ["serial 1: extra: nobody in the list has this row's tag"]
        );
    }

    #[test]
    fn a_row_that_was_moved_is_named_by_its_line() {
        let (rows, receipts) = ledger(&["a", "c", "b", "d"]);
        let found = audit(LIST, &rows, &receipts);
        let moved = "line 4, serial 1: moved: on the ledger this row stands before that of line 3";
        assert_eq!(found, [moved]);
    }

    #[test]
    fn a_person_who_is_twice_in_the_list_is_told_once() {
        let csv = "id\na\nb\na\n";
        assert_eq!(cohort(csv).1, 1);
        let (rows, receipts) = ledger(&["a", "b"]);
        assert!(
            audit(csv, &rows, &receipts).is_empty(),
            "told with the list"
        );
    }

    #[test]
    fn a_changed_row_and_a_wrong_receipt_are_named() {
        let (mut rows, mut receipts) = ledger(&["a", "b", "c", "d"]);
        rows[0].weight = 64;
        rows[1].commitment = [9; 32];
        receipts[2] = Some(receipt(2, "z"));
        receipts[3] = None;
        let found = audit(LIST, &rows, &receipts);
        let expected = [
            "line 2, serial 0: changed: the row is in tier 0 with 64 ticket(s)",
            "line 3, serial 1: the row's commitment does not open",
            "line 4, serial 2: the receipt of this row is another person's",
            "line 5, serial 3: there is no receipt for this row",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
