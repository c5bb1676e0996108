//! `cairn lottery register`: a CSV file becomes a roster.
//!
//! What holds here: the whole file is checked, and every receipt is on disk, before the first row
//! leaves; a run that was cut short goes on where the certified roster ends, with the same salts;
//! at the end the root over all rows is the one that the nodes certified.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::rules::MAX_TICKETS;
use cairn_proto::v1::{self, EntryKind, LotteryStage, Visibility};
use clap::{ArgGroup, Args};
use ed25519_dalek::SigningKey;

use super::cohort::{Cohort, ColumnNames};
use super::facts::Facts;
use super::openings::{self, Openings, SaltSource};
use super::roster::Roster;
use super::state::Proven;
use super::tag::{self, Office};
use super::tag_files::{self, Of};
use crate::cli::Global;
use crate::commands::in_order::{self, Sequence};
use crate::commands::problems::Problems;
use crate::exit::Failure;
use crate::key_file::{self, Secret};
use crate::output::count;
use crate::progress;
use crate::session::{Session, parse_hash, sign_entry};

/// The applicants as a file.
#[derive(Debug, Args)]
pub struct Applicants {
    /// The applicants: a CSV file with a header
    #[arg(long, value_name = "FILE")]
    pub csv: PathBuf,
    /// The column whose value is hashed, written as the rules say
    #[arg(long, value_name = "NAME")]
    identity_column: String,
    /// Identities are Chinese resident-ID numbers (GB 11643): check date and check character
    #[arg(long)]
    resident_id: bool,
}

/// What `register` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("blinded").required(true))]
pub struct Register {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    #[command(flatten)]
    applicants: Applicants,
    /// The column with a tier's name or number; without, everybody is in the first tier
    #[arg(long, value_name = "NAME")]
    tier_column: Option<String>,
    /// The column with the number of tickets; without, everybody has one
    #[arg(long, value_name = "NAME")]
    weight_column: Option<String>,
    /// The column with the applicant's own Ed25519 public key in hex, or nothing
    #[arg(long, value_name = "NAME")]
    holder_key_column: Option<String>,
    /// Make a holder key for whoever brought none; its secret is in the receipt
    #[arg(long)]
    with_holder_keys: bool,
    /// The registrar's author key
    #[arg(long, value_name = "FILE")]
    registrar_key: PathBuf,
    /// The registrar's tag key
    #[arg(long, value_name = "FILE")]
    registrar_tag_key: PathBuf,
    /// The tags that the notary handed back: what `cairn lottery tag outer` wrote
    #[arg(long, value_name = "FILE", group = "blinded")]
    tags: Option<PathBuf>,
    /// Rehearsals, with both offices on one machine: the notary's tag key
    #[arg(long, value_name = "FILE", group = "blinded")]
    notary_tag_key: Option<PathBuf>,
    /// Where the applicants' receipts go; to go on after an interruption, the file of that run
    #[arg(long, value_name = "FILE")]
    receipts: PathBuf,
    /// Derive salts and holder keys from the secret in this file, 64 hex digits, and the serials, so
    /// that test lotteries come out alike
    #[arg(long, value_name = "FILE")]
    salt_seed_file: Option<PathBuf>,
}

/// Registers everybody in the file.
pub async fn run(global: &Global, args: Register) -> Result<(), Failure> {
    let started = Instant::now();
    let registrar = key_file::author(&args.registrar_key)?;
    let tag_key = key_file::tag(&args.registrar_tag_key)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read_in(&session, &args.id, LotteryStage::Open).await?;
    tag::check_key(&lottery, Office::Registrar, &tag_key)?;
    let names = ColumnNames {
        tier: args.tier_column.clone(),
        weight: args.weight_column.clone(),
        holder_key: args.holder_key_column.clone(),
        ..args.applicants.names()
    };
    let cohort = args.applicants.read_columns(&lottery, &names, &tag_key)?;
    let tags = Tags::of(&args, &session, &lottery, &cohort)?;
    let (holder_keys, roster) = roster(&args, &cohort, tags, &lottery)?;
    warn_of_missing_keys(&lottery, cohort.len(), holder_keys)?;
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
        .with("holder_keys", holder_keys)
        .with("roster_root", hex::encode(&lottery.state.roster_root))
        .with("receipts", args.receipts.display().to_string())
        .with("seconds", started.elapsed().as_secs_f64())
        .print(global);
    Ok(())
}

impl Applicants {
    /// Everybody in the file, where only identities matter.
    pub fn read(&self, lottery: &Proven, registrar_tag_key: &Secret) -> Result<Cohort, Failure> {
        self.read_columns(lottery, &self.names(), registrar_tag_key)
    }

    /// The columns that matter to everybody.
    pub fn names(&self) -> ColumnNames {
        ColumnNames {
            identity: self.identity_column.clone(),
            resident_ids: self.resident_id,
            ..Default::default()
        }
    }

    fn read_columns(
        &self,
        lottery: &Proven,
        names: &ColumnNames,
        registrar_tag_key: &Secret,
    ) -> Result<Cohort, Failure> {
        let rules = lottery.rules()?;
        let tiers: Vec<String> = rules.tiers.iter().map(|tier| tier.name.clone()).collect();
        let path = self.csv.display();
        let wrong = |what: &dyn std::fmt::Display| Failure::Failed(format!("{path}: {what}"));
        let file = File::open(&self.csv).map_err(|error| wrong(&error))?;
        let mut problems = Problems::default();
        let cohort = Cohort::read(file, names, &tiers, registrar_tag_key, &mut problems)
            .map_err(|error| wrong(&error))?;
        if !problems.is_empty() {
            return Err(problems.into_failure(&self.csv));
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
}

/// Where the rows' tags come from.
enum Tags {
    /// The notary handed them back.
    Read(Vec<[u8; 32]>),
    /// They are made here, with the notary's key.
    Made(Secret),
}

impl Tags {
    fn of(
        args: &Register,
        session: &Session,
        lottery: &Proven,
        cohort: &Cohort,
    ) -> Result<Tags, Failure> {
        if let Some(path) = &args.tags {
            let of = Of {
                chain_id: session.chain.id,
                lottery_id: args.id,
            };
            let tags = tag_files::read_outer(path, &of, cohort.inner_tags());
            let tags = tags.map_err(|error| Failure::Failed(error.to_string()))?;
            return Ok(Tags::Read(tags));
        }
        // The command line demands one of the two.
        let path = args.notary_tag_key.as_deref().unwrap_or(Path::new(""));
        let notary = key_file::tag(path)?;
        tag::check_key(lottery, Office::Notary, &notary)?;
        Ok(Tags::Made(notary))
    }

    fn all(self, cohort: &Cohort) -> Vec<[u8; 32]> {
        match self {
            Tags::Read(tags) => tags,
            Tags::Made(notary) => tag_files::blind(&notary, cohort.inner_tags()),
        }
    }
}

/// How many have a holder key, and the rows, whose receipts are on disk.
fn roster<'a>(
    args: &Register,
    cohort: &'a Cohort,
    tags: Tags,
    lottery: &Proven,
) -> Result<(usize, Roster<'a>), Failure> {
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
    let hash = |openings: &Openings| Roster::new(cohort, tags.all(cohort), openings);
    openings::openings(&args.receipts, cohort, &source, args.with_holder_keys, hash)
        .map(|(openings, roster)| (openings.keys(), roster))
        .map_err(|error| Failure::Failed(error.to_string()))
}

/// Without a key in the row nobody can ever redeem for it, and rows do not change.
fn warn_of_missing_keys(lottery: &Proven, rows: usize, keys: usize) -> Result<(), Failure> {
    let missing = rows - keys;
    if lottery.rules()?.redemption_window_ms > 0 && missing > 0 {
        let who = match keys {
            0 => "nobody has one".to_owned(),
            _ => format!(
                "{} of {} have none",
                count(missing as u64),
                count(rows as u64)
            ),
        };
        eprintln!(
            "warning: in this lottery winners redeem with their holder key, and {who}: whoever wins \
             without cannot redeem, and no row can be changed later; register with \
             --with-holder-keys, or with --holder-key-column NAME, and with other --receipts"
        );
    }
    Ok(())
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
    roster: Roster<'a>,
    /// The first row of the next chunk.
    next: usize,
}

impl Chunks<'_> {
    /// What is registered must be the beginning of this roster, and all of it at the end.
    fn check_registered(&self, state: &v1::LotteryState) -> Result<(), Failure> {
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
