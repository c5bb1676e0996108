//! `cairn code appeal` and `decide`: a holder objects to an order in effect, an office decides.
//!
//! What holds here: statement and reasons stay where they are, and their hashes go on the ledger. A
//! decision changes no code: that takes an order that cites the one appealed against.

use std::path::PathBuf;

use cairn_ledger::canonical;
use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, EntryKind, Visibility};
use clap::{ArgGroup, Args};

use super::{BodyShown, record};
use crate::cli::Global;
use crate::commands::lottery::document_hash;
use crate::exit::Failure;
use crate::key_file;
use crate::session::{Session, parse_hash};

/// What `appeal` takes.
#[derive(Debug, Args)]
pub struct Appeal {
    /// The author key of whoever hands it in for the holder: any registered author
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The order in effect
    #[arg(long, value_name = "ORDER", value_parser = parse_hash)]
    order: Hash,
    /// The holder's code
    #[arg(long, value_name = "CODE", value_parser = parse_hash)]
    code: Hash,
    /// The holder's statement; its hash goes on the ledger
    #[arg(long, value_name = "DOC")]
    statement: PathBuf,
    /// Who may read the entry's body; that there is an appeal for this code can be proven either way
    #[arg(long, value_enum, default_value = "restricted")]
    visibility: BodyShown,
}

/// What `decide` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("decision").required(true))]
pub struct Decide {
    /// The author key of an office that the region's rule names for appeals
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The appeal: the entry that made it
    #[arg(long, value_name = "APPEAL", value_parser = parse_hash)]
    appeal: Hash,
    /// The holder is right
    #[arg(long, group = "decision")]
    grant: bool,
    /// The order stays
    #[arg(long, group = "decision")]
    reject: bool,
    /// The reasons; their hash goes on the ledger
    #[arg(long, value_name = "DOC")]
    reasons: PathBuf,
    /// The order that corrects the one appealed against, where it was given already
    #[arg(long, value_name = "ORDER", value_parser = parse_hash, conflicts_with = "reject")]
    correcting_order: Option<Hash>,
}

/// Records an appeal.
pub async fn appeal(global: &Global, args: Appeal) -> Result<(), Failure> {
    let key = key_file::author(&args.key)?;
    let statement = document_hash(&args.statement)?;
    let session = Session::connect(global).await?;
    let body = canonical::encode(&v1::Appeal {
        order_id: args.order.to_bytes(),
        code: args.code.to_bytes(),
        statement_commitment: statement.to_bytes(),
    });
    let (kind, visibility) = (EntryKind::Appeal, args.visibility.into());
    record(&session, kind, visibility, &args.order, body, &key)
        .await?
        .with("order_id", args.order.to_string())
        .with("code", args.code.to_string())
        .with("statement_commitment", statement.to_string())
        .print(global);
    Ok(())
}

/// Records what an office decided.
pub async fn decide(global: &Global, args: Decide) -> Result<(), Failure> {
    let key = key_file::author(&args.key)?;
    let reasons = document_hash(&args.reasons)?;
    let session = Session::connect(global).await?;
    let correcting = args.correcting_order;
    let body = canonical::encode(&v1::Decision {
        appeal_id: args.appeal.to_bytes(),
        granted: args.grant,
        reasons_commitment: reasons.to_bytes(),
        correcting_order_id: correcting.map(Hash::to_bytes).unwrap_or_default(),
    });
    let (kind, visibility) = (EntryKind::Decision, Visibility::Public);
    record(&session, kind, visibility, &args.appeal, body, &key)
        .await?
        .with("appeal_id", args.appeal.to_string())
        .with("granted", args.grant)
        .with("reasons_commitment", reasons.to_string())
        .with(
            "correcting_order_id",
            correcting.map_or_else(String::new, |id| id.to_string()),
        )
        .print(global);
    Ok(())
}
