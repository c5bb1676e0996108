//! `cairn code recognise` and `refuse-order`: what a region holds of others: a ledger that it
//! recognises, an order that it does not.
//!
//! What holds here: both are statements of an authority with a mandate for the region; neither
//! changes a code or an order. What stays out: what a gate makes of it, which its policy says.

use std::path::PathBuf;

use cairn_ledger::canonical;
use cairn_ledger::code::rules::MAX_REGIONS;
use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, CodeStatus, EntryKind, Visibility};
use clap::Args;
use ed25519_dalek::SigningKey;

use super::{Colour, in_words, parse_text, record, states};
use crate::cli::Global;
use crate::commands::audit::parse_time;
use crate::commands::lottery::facts::Facts;
use crate::exit::Failure;
use crate::output::timestamp;
use crate::session::{Session, parse_hash};
use crate::{key_file, system};

/// What `recognise` takes.
#[derive(Debug, Args)]
pub struct Recognise {
    /// The author key of an authority with a mandate for the region
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The region that recognises
    #[arg(long, value_name = "NAME", value_parser = parse_text)]
    region: String,
    /// The other ledger: its chain id, as its institutions published it
    #[arg(long, value_name = "CHAIN_ID", value_parser = parse_hash)]
    ledger: Hash,
    /// What the other ledger is called here
    #[arg(
        long,
        value_name = "TEXT",
        value_parser = parse_text,
        required_unless_present = "revoke"
    )]
    name: Option<String>,
    /// Regions of the other ledger, with commas
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = parse_text,
        required_unless_present = "revoke"
    )]
    regions: Vec<String>,
    /// Which of its statuses count here, with commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        required_unless_present = "revoke"
    )]
    statuses: Vec<Colour>,
    /// Until when, in UTC: 2027-06-01
    #[arg(
        long,
        value_name = "TIME",
        value_parser = parse_time,
        required_unless_present = "revoke"
    )]
    until: Option<u64>,
    /// End the recognition instead
    #[arg(long, conflicts_with_all = ["name", "regions", "statuses", "until"])]
    revoke: bool,
}

/// What `refuse-order` takes.
#[derive(Debug, Args)]
pub struct RefuseOrder {
    /// The author key of an authority with a mandate for the region
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The region that does not recognise the order
    #[arg(long, value_name = "NAME", value_parser = parse_text)]
    region: String,
    /// The order, of another region or of another ledger
    #[arg(long, value_name = "ORDER", value_parser = parse_hash)]
    order: Hash,
    /// The chain id of the order's ledger. Without: this one
    #[arg(long, value_name = "CHAIN_ID", value_parser = parse_hash)]
    ledger: Option<Hash>,
    /// Why; everybody can read this
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    reason: String,
}

/// Records that a region recognises a ledger, or no longer.
pub async fn recognise(global: &Global, args: Recognise) -> Result<(), Failure> {
    let key = key_file::author(&args.key)?;
    let until_ms = args.until.unwrap_or(0);
    if !args.revoke && until_ms <= system::now_ms() {
        let until = timestamp(until_ms);
        return Err(Failure::Usage(format!("--until {until} is over already")));
    }
    let session = Session::connect(global).await?;
    let facts = match args.revoke {
        true => revoke(&session, &args, &key).await?,
        false => begin(&session, &args, &key, until_ms).await?,
    };
    facts.print(global);
    Ok(())
}

async fn begin(
    session: &Session,
    args: &Recognise,
    key: &SigningKey,
    not_after_ms: u64,
) -> Result<Facts, Failure> {
    if args.ledger == session.chain.id {
        let message = "--ledger is this ledger itself, which needs no recognition";
        return Err(Failure::Usage(message.to_owned()));
    }
    let regions = ascending(args.regions.clone());
    if regions.len() > MAX_REGIONS {
        return Err(Failure::Usage(format!(
            "--regions names {}, and a recognition has at most {MAX_REGIONS}",
            regions.len()
        )));
    }
    let statuses = args.statuses.iter().map(|colour| CodeStatus::from(*colour));
    let statuses = ascending(statuses.map(i32::from).collect());
    let recognition = v1::Recognition {
        region: args.region.clone(),
        genesis_hash: args.ledger.to_bytes(),
        name: args.name.clone().unwrap_or_default(),
        regions,
        statuses,
        not_after_ms,
    };
    let (kind, body) = (EntryKind::Recognition, canonical::encode(&recognition));
    let recorded = record(session, kind, Visibility::Public, &args.ledger, body, key).await?;
    let statuses: Vec<&str> = recognition.statuses().map(in_words).collect();
    Ok(recorded
        .with("region", recognition.region)
        .with("ledger", args.ledger.to_string())
        .with("name", recognition.name)
        .with("regions", recognition.regions)
        .with("statuses", statuses)
        .with("not_after_ms", not_after_ms)
        .with("not_after", timestamp(not_after_ms))
        .with("revoked", false))
}

async fn revoke(session: &Session, args: &Recognise, key: &SigningKey) -> Result<Facts, Failure> {
    let body = canonical::encode(&v1::RecognitionRevoke {
        region: args.region.clone(),
        genesis_hash: args.ledger.to_bytes(),
    });
    let kind = EntryKind::RecognitionRevoke;
    let recorded = record(session, kind, Visibility::Public, &args.ledger, body, key).await?;
    Ok(recorded
        .with("region", args.region.clone())
        .with("ledger", args.ledger.to_string())
        .with("revoked", true))
}

fn ascending<T: Ord>(mut names: Vec<T>) -> Vec<T> {
    names.sort_unstable();
    names.dedup();
    names
}

/// Records that a region does not recognise an order.
pub async fn refuse_order(global: &Global, args: RefuseOrder) -> Result<(), Failure> {
    let key = key_file::author(&args.key)?;
    let session = Session::connect(global).await?;
    let ledger = args.ledger.unwrap_or(session.chain.id);
    if ledger == session.chain.id {
        expect_other_region(&session, &args).await?;
    }
    let body = canonical::encode(&v1::OrderRefusal {
        region: args.region.clone(),
        genesis_hash: ledger.to_bytes(),
        order_id: args.order.to_bytes(),
        reason: args.reason.clone(),
    });
    let (kind, visibility) = (EntryKind::OrderRefusal, Visibility::Public);
    record(&session, kind, visibility, &args.order, body, &key)
        .await?
        .with("region", args.region)
        .with("ledger", ledger.to_string())
        .with("order_id", args.order.to_string())
        .with("reason", args.reason)
        .print(global);
    Ok(())
}

/// The rules would refuse it for a field out of range, which says little.
async fn expect_other_region(session: &Session, args: &RefuseOrder) -> Result<(), Failure> {
    let (state, checkpoint) = states::order(session, &args.order).await?;
    let order = state.and_then(|state| state.order).ok_or_else(|| {
        Failure::NotFound(format!(
            "{} is no order on this ledger, which is proven as of {}; name the ledger of another \
             one's with --ledger",
            args.order,
            timestamp(checkpoint.latest_as_of_ms())
        ))
    })?;
    if order.region != args.region {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the order {} is of {} itself: what is wrong at home is corrected, with cairn code order \
         --corrects, or appealed against",
        args.order, args.region
    )))
}
