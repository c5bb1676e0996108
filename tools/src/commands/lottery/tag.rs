//! `cairn lottery tag`: two offices blind the applicants' identities, each with its own key.
//!
//! What holds here: each key is compared with what the rules commit to before it is used, and
//! neither leaves its office: the registrar hands over inner tags, the notary hands back tags.
//! What stays out: the files themselves (`tag_files`).

use std::path::PathBuf;

use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::roster::tag_key_commitment;
use cairn_proto::v1::LotteryStage;
use clap::{Args, Subcommand};

use super::facts::Facts;
use super::register::Applicants;
use super::state::Proven;
use super::tag_files::{self, Of};
use crate::cli::Global;
use crate::exit::Failure;
use crate::key_file::{self, Secret};
use crate::session::{Session, parse_hash};

/// `cairn lottery tag …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The registrar's step: blind the identities of a CSV file for the notary
    #[command(after_help = "\
Example:
  cairn lottery tag inner ID --csv applicants.csv --identity-column id \\
    --registrar-tag-key registrar-tag.key --out inner.tags

Hand inner.tags to the notary. No identity is in it.")]
    Inner(Inner),
    /// The notary's step: turn the registrar's file into the tags of the roster
    #[command(after_help = "\
Example:
  cairn lottery tag outer ID --inner inner.tags --notary-tag-key notary-tag.key --out outer.tags

Hand outer.tags back to the registrar, who goes on with:
  cairn lottery register ID --tags outer.tags …")]
    Outer(Outer),
}

/// What `tag inner` takes.
#[derive(Debug, Args)]
pub struct Inner {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    #[command(flatten)]
    applicants: Applicants,
    /// The registrar's tag key
    #[arg(long, value_name = "FILE")]
    registrar_tag_key: PathBuf,
    /// The file for the notary
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What `tag outer` takes.
#[derive(Debug, Args)]
pub struct Outer {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The file that the registrar handed over
    #[arg(long, value_name = "FILE")]
    inner: PathBuf,
    /// The notary's tag key
    #[arg(long, value_name = "FILE")]
    notary_tag_key: PathBuf,
    /// The file for the registrar
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Does one office's step.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Inner(args) => inner(global, args).await,
        Command::Outer(args) => outer(global, args).await,
    }
}

async fn inner(global: &Global, args: Inner) -> Result<(), Failure> {
    let key = key_file::tag(&args.registrar_tag_key)?;
    let (of, lottery) = open_lottery(global, &args.id).await?;
    check_key(&lottery, Office::Registrar, &key)?;
    let cohort = args.applicants.read(&lottery, &key)?;
    let written = tag_files::write_inner(&args.out, &of, cohort.inner_tags());
    written.map_err(|error| Failure::Failed(error.to_string()))?;
    let next = format!("hand {} to the notary", args.out.display());
    print(global, &args.id, cohort.len(), &args.out, next);
    Ok(())
}

async fn outer(global: &Global, args: Outer) -> Result<(), Failure> {
    let failed = |error: tag_files::TagFileError| Failure::Failed(error.to_string());
    let key = key_file::tag(&args.notary_tag_key)?;
    let (of, lottery) = open_lottery(global, &args.id).await?;
    check_key(&lottery, Office::Notary, &key)?;
    let inner_tags = tag_files::read_inner(&args.inner, &of).map_err(failed)?;
    let tags = tag_files::blind(&key, &inner_tags);
    tag_files::write_outer(&args.out, &of, &inner_tags, &tags).map_err(failed)?;
    let next = format!("hand {} back to the registrar", args.out.display());
    print(global, &args.id, tags.len(), &args.out, next);
    Ok(())
}

async fn open_lottery(global: &Global, id: &Hash) -> Result<(Of, Proven), Failure> {
    let session = Session::connect(global).await?;
    let lottery = Proven::read_in(&session, id, LotteryStage::Open).await?;
    let of = Of {
        chain_id: session.chain.id,
        lottery_id: *id,
    };
    Ok((of, lottery))
}

fn print(global: &Global, id: &Hash, rows: usize, file: &std::path::Path, next: String) {
    Facts::default()
        .with("lottery_id", id.to_string())
        .with("rows", rows)
        .with("file", file.display().to_string())
        .with("what_comes_next", next)
        .print(global);
}

/// Whose tag key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Office {
    /// The registrar's, over identities.
    Registrar,
    /// The notary's, over what the registrar's gave.
    Notary,
}

/// Tags under other keys than the rules commit to would find no duplicates later.
pub fn check_key(lottery: &Proven, office: Office, key: &Secret) -> Result<(), Failure> {
    let rules = lottery.rules()?;
    let (name, committed) = match office {
        Office::Registrar => ("registrar", &rules.registrar_tag_key_commitment),
        Office::Notary => ("notary", &rules.notary_tag_key_commitment),
    };
    if tag_key_commitment(key).as_bytes().as_slice() == committed {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "this is not the {name}'s tag key that the rules of lottery {} commit to; pass the right \
         file with --{name}-tag-key",
        lottery.id
    )))
}
