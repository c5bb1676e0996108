//! `cairn lottery audit-roster`: the notary compares every row of the ledger's roster with the
//! registrations, off the ledger, before the freeze or after it.
//!
//! What holds here: the rows are those under the certified root; a person is found by tag, wherever
//! the row stands, so that what is missing, added, moved or changed is each named as such, by line.
//! What stays out: whether the people in the list are entitled. Caveat: with the registrar's file of
//! inner tags in place of the registrar's key, that each inner tag is of the identity in its line
//! cannot be told.

mod compare;
mod shown;

use std::fs::File;
use std::path::PathBuf;

use cairn_ledger::lottery::roster::{Columns, Row};
use clap::Args;
use zeroize::Zeroizing;

use super::cohort::{Cohort, ColumnNames};
use super::history::History;
use super::receipts::{Lines, Receipt};
use super::recompute::Source;
use super::record::Record;
use super::register::Applicants;
use super::state::Proven;
use super::tag::{self, Office};
use super::tag_files::{self, Of};
use crate::cli::Global;
use crate::commands::problems::Problems;
use crate::exit::Failure;
use crate::key_file::{self, Secret};
use crate::output;
use crate::system;
use compare::{Findings, compare};
use shown::Audited;

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
    /// The receipts that `cairn lottery register` wrote, or what `cairn lottery receipt --for-audit`
    /// makes of them: the notary needs no holder's secret
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
    let audited = Audited::of(args.inner.is_none(), lottery, cohort.len(), findings);
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
