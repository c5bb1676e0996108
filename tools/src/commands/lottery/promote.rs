//! `cairn lottery promote`: places that came free go to the next of the waiting list.
//!
//! What holds here: who comes up is not chosen. It is read off the ranking and the proven state of
//! each place on the way, just as every node does, and a node refuses anything else. What would be
//! refused is said first.

use std::path::PathBuf;

use cairn_ledger::canonical;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::rules::MAX_PROMOTED;
use cairn_ledger::lottery::{PLACE_NAMESPACE, place_key};
use cairn_proto::v1::{self, EntryKind, LotteryStage, PlaceStatus};
use clap::Args;

use super::facts::recorded;
use super::publish::ranking;
use super::state::Proven;
use super::steps::{self, document_hash};
use crate::cli::Global;
use crate::exit::Failure;
use crate::key_file;
use crate::session::{Patience, Session, parse_hash};

/// What `promote` takes.
#[derive(Debug, Args)]
pub struct Promote {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The notary's author key
    #[arg(long, value_name = "FILE")]
    notary_key: PathBuf,
    /// The serials whose places came free, with commas: they renounced, were struck or did not come
    #[arg(long, value_name = "N,N", value_delimiter = ',', required = true)]
    vacate: Vec<u64>,
    /// The document that gives the ground; its hash goes on the ledger
    #[arg(long, value_name = "FILE")]
    document: PathBuf,
    /// The tier, by name or number; needed where the rules have several
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
}

/// Moves the waiting list.
pub async fn run(global: &Global, args: Promote) -> Result<(), Failure> {
    let notary = key_file::author(&args.notary_key)?;
    let document_hash = document_hash(&args.document)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read_from(&session, &args.id, LotteryStage::Complete).await?;
    let stages = [LotteryStage::Complete, LotteryStage::Certified];
    lottery.expect_one_of(&stages, "places move once all winners are published")?;
    let tier = Tier::of(&lottery, args.tier.as_deref())?;
    let vacated = expect_few(args.vacate)?;
    let ranks = ranking(&session, &lottery, tier.number, tier.end).await?;
    let (held, line) = ranks.split_at(usize::try_from(tier.reached).unwrap_or(0).min(ranks.len()));
    for serial in &vacated {
        expect_held(&session, &lottery, &tier, held, *serial).await?;
    }
    let promoted = next_in_line(&session, &lottery, line, vacated.len()).await?;
    let attempt = lottery.state.attempt;
    let body = canonical::encode(&v1::Promotion {
        lottery_id: args.id.to_bytes(),
        attempt,
        tier: tier.number,
        vacated: vacated.clone(),
        serials: promoted.clone(),
        document_hash: document_hash.to_bytes(),
    });
    let kind = EntryKind::Promotion;
    let status = steps::submit(&session, &args.id, kind, body, &notary, &[]).await?;
    wait_for(&session, &lottery, vacated[0]).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    let facts = recorded(&session, &lottery, &status).await?;
    let left = vacated.len() - promoted.len();
    facts
        .with("attempt", attempt)
        .with("tier", tier.name)
        .with("vacated", vacated)
        .with("promoted", promoted)
        .with("places_left_empty", left)
        .with("document_hash", document_hash.to_string())
        .print(global);
    Ok(())
}

/// The tier that a promotion is about.
#[derive(Debug)]
struct Tier {
    number: u32,
    name: String,
    /// Ranks below this one were given a place.
    reached: u64,
    /// Where the waiting list ends.
    end: u64,
}

impl Tier {
    fn of(lottery: &Proven, wanted: Option<&str>) -> Result<Tier, Failure> {
        let tiers = &lottery.rules()?.tiers;
        let names = || {
            let names = tiers.iter().map(|tier| tier.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let at = match wanted {
            None if tiers.len() == 1 => Some(0),
            None => {
                return Err(Failure::Usage(format!(
                    "which tier? Name it with --tier; the rules have: {}",
                    names()
                )));
            }
            Some(wanted) => {
                let by_name = tiers.iter().position(|tier| tier.name == wanted);
                by_name.or_else(|| wanted.parse().ok())
            }
        };
        let terms = at.and_then(|at| tiers.get(at));
        let result = at.and_then(|at| lottery.state.results.get(at));
        let (Some(at), Some(terms), Some(result)) = (at, terms, result) else {
            let wanted = wanted.unwrap_or_default();
            return Err(Failure::Failed(format!(
                "there is no tier \"{wanted}\"; the rules have: {}",
                names()
            )));
        };
        let listed = result.winners + u64::from(terms.waiting_list);
        Ok(Tier {
            number: u32::try_from(at).unwrap_or(u32::MAX),
            name: terms.name.clone(),
            reached: result.winners.max(result.promoted_through),
            end: result.entrants.min(listed),
        })
    }
}

/// Ascending, each once, and no more than one promotion takes.
fn expect_few(mut serials: Vec<u64>) -> Result<Vec<u64>, Failure> {
    serials.sort_unstable();
    serials.dedup();
    if serials.len() > MAX_PROMOTED {
        let many = serials.len();
        return Err(Failure::Failed(format!(
            "{many} places, and one promotion moves at most {MAX_PROMOTED}; record several"
        )));
    }
    Ok(serials)
}

async fn expect_held(
    session: &Session,
    lottery: &Proven,
    tier: &Tier,
    held: &[u64],
    serial: u64,
) -> Result<(), Failure> {
    let name = &tier.name;
    if !held.contains(&serial) {
        return Err(Failure::Failed(format!(
            "serial {serial} has no place in tier {name} that could come free: it is not among the \
             first {} ranks; see: cairn lottery check",
            tier.reached
        )));
    }
    match status_of(session, lottery, serial).await? {
        PlaceStatus::Unspecified | PlaceStatus::Promoted | PlaceStatus::Struck => Ok(()),
        PlaceStatus::Vacated => Err(Failure::Failed(format!(
            "serial {serial} has given its place up already"
        ))),
        PlaceStatus::Redeemed => Err(Failure::Failed(format!(
            "serial {serial} has redeemed its place"
        ))),
    }
}

/// The next `wanted` rows of the waiting list that hold no place and were not struck.
async fn next_in_line(
    session: &Session,
    lottery: &Proven,
    line: &[u64],
    wanted: usize,
) -> Result<Vec<u64>, Failure> {
    let mut promoted = Vec::new();
    for serial in line {
        if promoted.len() == wanted {
            break;
        }
        let free = status_of(session, lottery, *serial).await? == PlaceStatus::Unspecified;
        if free {
            promoted.push(*serial);
        }
    }
    Ok(promoted)
}

/// Waits until the place is vacated: another node may be a moment behind.
async fn wait_for(session: &Session, lottery: &Proven, serial: u64) -> Result<(), Failure> {
    let mut patience = Patience::new(session.timeout());
    while status_of(session, lottery, serial).await? != PlaceStatus::Vacated {
        if !patience.pause().await {
            let message = "the promotion is recorded and not certified yet, and the time is up";
            return Err(Failure::NotFound(message.to_owned()));
        }
    }
    Ok(())
}

/// What became of a row's place, proven.
async fn status_of(
    session: &Session,
    lottery: &Proven,
    serial: u64,
) -> Result<PlaceStatus, Failure> {
    let key = place_key(&lottery.id, lottery.state.attempt, serial);
    let value = session.map_value(PLACE_NAMESPACE, &key).await?;
    let Some(bytes) = value.value else {
        return Ok(PlaceStatus::Unspecified);
    };
    let place: v1::PlaceState = canonical::decode(&bytes).map_err(|error| {
        Failure::InvalidProof(format!(
            "the place of serial {serial} is malformed: {error}"
        ))
    })?;
    Ok(place.status())
}
