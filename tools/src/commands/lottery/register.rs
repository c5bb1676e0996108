//! `cairn lottery register`: a CSV file becomes a roster.
//!
//! What holds here: the whole file is checked, and every receipt is on disk, before the first row
//! leaves; a run that was cut short goes on where the certified roster ends, with the same salts;
//! at the end the root over all rows is the one that the nodes certified.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::roster::tag_key_commitment;
use cairn_ledger::lottery::rules::MAX_TICKETS;
use cairn_proto::v1::{self, EntryKind, LotteryStage, Visibility};
use clap::Args;
use ed25519_dalek::SigningKey;

use super::cohort::{Cohort, ColumnNames, TagKeys};
use super::receipts::{self, SaltSource};
use super::report::Facts;
use super::roster::Roster;
use super::state::Proven;
use crate::cli::Global;
use crate::commands::in_order::{self, Sequence};
use crate::commands::problems::Problems;
use crate::exit::Failure;
use crate::key_file;
use crate::progress;
use crate::session::{Session, parse_hash, sign_entry};

/// What `register` takes.
#[derive(Debug, Args)]
pub struct Register {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The applicants: a CSV file with a header
    #[arg(long, value_name = "FILE")]
    csv: PathBuf,
    /// The column whose value is hashed, written as the rules say
    #[arg(long, value_name = "NAME")]
    identity_column: String,
    /// The column with a tier's name or number; without, everybody is in the first tier
    #[arg(long, value_name = "NAME")]
    tier_column: Option<String>,
    /// The column with the number of tickets; without, everybody has one
    #[arg(long, value_name = "NAME")]
    weight_column: Option<String>,
    /// The registrar's author key
    #[arg(long, value_name = "FILE")]
    registrar_key: PathBuf,
    /// The registrar's tag key
    #[arg(long, value_name = "FILE")]
    registrar_tag_key: PathBuf,
    /// The notary's tag key
    #[arg(long, value_name = "FILE")]
    notary_tag_key: PathBuf,
    /// Where the applicants' receipts go; to go on after an interruption, the file of that run
    #[arg(long, value_name = "FILE")]
    receipts: PathBuf,
    /// Derive the salts from the secret in this file, 64 hex digits, and the serials, so that test
    /// lotteries come out alike
    #[arg(long, value_name = "FILE")]
    salt_seed_file: Option<PathBuf>,
}

/// Registers everybody in the file.
pub async fn run(global: &Global, args: Register) -> Result<(), Failure> {
    let started = Instant::now();
    let registrar = key_file::author(&args.registrar_key)?;
    let keys = TagKeys {
        registrar: key_file::tag(&args.registrar_tag_key)?,
        notary: key_file::tag(&args.notary_tag_key)?,
    };
    let session = Session::connect(global).await?;
    let lottery = Proven::read_in(&session, &args.id, LotteryStage::Open).await?;
    check_tag_keys(&lottery, &keys)?;
    let cohort = read_cohort(&args, &lottery, &keys)?;
    let roster = prepare(&args, cohort, &lottery)?;
    let mut chunks = Chunks {
        session: &session,
        lottery_id: args.id,
        registrar,
        roster,
        next: 0,
    };
    chunks.check_registered(&lottery.state)?;
    let mut bar = progress::bar(global, chunks.total(), "rows");
    let entries = in_order::submit(&session, &mut chunks, &mut bar).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    chunks.check_registered(&lottery.state)?;
    Facts::default()
        .with("lottery_id", args.id.to_string())
        .with("rows", lottery.state.rows)
        .with("tickets", lottery.state.tickets)
        .with("chunks", entries)
        .with("roster_root", hex::encode(&lottery.state.roster_root))
        .with("receipts", args.receipts.display().to_string())
        .with("seconds", started.elapsed().as_secs_f64())
        .print(global);
    Ok(())
}

/// Tags under other keys than the rules commit to would find no duplicates later.
fn check_tag_keys(lottery: &Proven, keys: &TagKeys) -> Result<(), Failure> {
    let rules = lottery.rules()?;
    let offices = [
        (
            "registrar",
            &keys.registrar,
            &rules.registrar_tag_key_commitment,
        ),
        ("notary", &keys.notary, &rules.notary_tag_key_commitment),
    ];
    for (office, key, committed) in offices {
        if tag_key_commitment(key).as_bytes().as_slice() != committed {
            return Err(Failure::Failed(format!(
                "this is not the {office}'s tag key that the rules of lottery {} commit to; pass \
                 the right file with --{office}-tag-key",
                lottery.id
            )));
        }
    }
    Ok(())
}

fn read_cohort(args: &Register, lottery: &Proven, keys: &TagKeys) -> Result<Cohort, Failure> {
    let rules = lottery.rules()?;
    let names = ColumnNames {
        identity: args.identity_column.clone(),
        tier: args.tier_column.clone(),
        weight: args.weight_column.clone(),
    };
    let tiers: Vec<String> = rules.tiers.iter().map(|tier| tier.name.clone()).collect();
    let path = args.csv.display();
    let wrong = |what: &dyn std::fmt::Display| Failure::Failed(format!("{path}: {what}"));
    let file = File::open(&args.csv).map_err(|error| wrong(&error))?;
    let mut problems = Problems::default();
    let cohort =
        Cohort::read(file, &names, &tiers, keys, &mut problems).map_err(|error| wrong(&error))?;
    if !problems.is_empty() {
        return Err(problems.into_failure(&args.csv));
    }
    let (rows, most) = (cohort.len(), rules.max_rows);
    if rows == 0 {
        return Err(wrong(&"nobody is in this file"));
    }
    if rows as u64 > u64::from(most) {
        return Err(wrong(&format!("{rows} rows, and the rules allow {most}")));
    }
    let tickets = cohort.tickets();
    if tickets > MAX_TICKETS {
        return Err(wrong(&format!(
            "{tickets} tickets, and a lottery has at most {MAX_TICKETS}"
        )));
    }
    Ok(cohort)
}

fn prepare(args: &Register, cohort: Cohort, lottery: &Proven) -> Result<Roster, Failure> {
    let source = match &args.salt_seed_file {
        Some(path) => SaltSource::Derived(read_salt_seed(path)?),
        None => SaltSource::Random,
    };
    let rows = lottery.state.rows;
    let lost = rows > 0 && !args.receipts.exists() && args.salt_seed_file.is_none();
    if lost {
        let (id, path) = (lottery.id, args.receipts.display());
        return Err(Failure::Failed(format!(
            "{rows} rows of lottery {id} are registered already, and {path} is not there; pass \
             --receipts with the file of that run, which has their salts"
        )));
    }
    let salts = receipts::salts(&args.receipts, &cohort, &source)
        .map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(Roster::new(cohort, salts))
}

fn read_salt_seed(path: &Path) -> Result<[u8; 32], Failure> {
    let wrong =
        |what: &dyn std::fmt::Display| Failure::Failed(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let seed =
        parse_hash(text.trim_end()).map_err(|what| wrong(&format!("the salts' seed {what}")))?;
    Ok(seed.0)
}

/// The roster on its way.
struct Chunks<'a> {
    session: &'a Session,
    lottery_id: Hash,
    registrar: SigningKey,
    roster: Roster,
    /// The first row of the next chunk.
    next: usize,
}

impl Chunks<'_> {
    /// What is registered must be the beginning of this roster, and all of it at the end.
    fn check_registered(&mut self, state: &v1::LotteryState) -> Result<(), Failure> {
        let id = self.lottery_id;
        let have = usize::try_from(state.rows).ok();
        let have = have.filter(|rows| *rows <= self.roster.len());
        match have {
            Some(rows) if self.roster.root(rows).as_bytes().as_slice() == state.roster_root => {
                Ok(())
            }
            _ => Err(Failure::Failed(format!(
                "the {} rows registered in lottery {id} are not the first ones of this file with \
                 these receipts; pass the CSV file and the receipts that the first run had",
                state.rows
            ))),
        }
    }
}

impl Sequence for Chunks<'_> {
    fn total(&self) -> u64 {
        self.roster.len() as u64
    }

    async fn resume(&mut self, session: &Session) -> Result<u64, Failure> {
        let lottery = Proven::read(session, &self.lottery_id).await?;
        let rows = lottery.state.rows;
        self.next = usize::try_from(rows).unwrap_or(usize::MAX);
        Ok(rows)
    }

    fn next_entry(&mut self) -> Option<(v1::SignedEntry, u64)> {
        if self.next >= self.roster.len() {
            return None;
        }
        let (body, rows) = self.roster.chunk(&self.lottery_id, self.next);
        self.next += rows;
        let entry = sign_entry(
            &self.session.chain,
            EntryKind::RosterChunk,
            Visibility::Public,
            self.lottery_id.to_bytes(),
            body,
            &self.registrar,
            &[],
        );
        Some((entry, rows as u64))
    }
}
