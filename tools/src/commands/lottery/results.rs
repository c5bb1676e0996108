//! `cairn lottery results`: who drew which rank, in any attempt.
//!
//! What holds here: the whole ranking is read, however little of it is shown, and its root must be
//! the one in the certified state; so neither a name can be left out nor one moved. What stays out:
//! whether the ranking is the draw's (`recompute`).

use cairn_ledger::hash::Hash;
use cairn_ledger::log;
use cairn_ledger::lottery::recompute::ranking_leaf;
use cairn_ledger::lottery::{ATTEMPT_NAMESPACE, attempt_key};
use cairn_proto::v1;
use clap::Args;
use serde::Serialize;

use super::publish;
use super::state::Proven;
use crate::certificate::Certificate;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line};
use crate::session::{Session, parse_hash};

/// What `results` takes.
#[derive(Debug, Args)]
pub struct Results {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// Which attempt; without, the last one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Which tier, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    tier: u32,
    /// How many ranks are shown; without, the winners
    #[arg(long, value_name = "N")]
    ranks: Option<u64>,
}

/// Shows a ranking.
pub async fn run(global: &Global, args: Results) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    let lottery = match args.attempt {
        Some(attempt) if attempt != lottery.state.attempt => {
            voided(&session, &lottery, attempt).await?
        }
        _ => lottery,
    };
    let attempt = lottery.state.attempt;
    if lottery.state.seed.is_empty() {
        return Err(Failure::NotFound(format!(
            "attempt {attempt} of lottery {} was not drawn",
            args.id
        )));
    }
    let tier = usize::try_from(args.tier).ok();
    let result = tier.and_then(|tier| lottery.state.results.get(tier));
    let result = result.ok_or_else(|| {
        let (id, tier) = (args.id, args.tier);
        let tiers = lottery.state.results.len();
        Failure::NotFound(format!(
            "lottery {id} has no tier {tier}, but {tiers}, from 0"
        ))
    })?;
    let mut serials = publish::ranking(&session, &lottery, args.tier, result.entrants).await?;
    expect_certified(&session, &serials, result)?;
    let shown = args.ranks.unwrap_or(result.winners);
    serials.truncate(usize::try_from(shown).unwrap_or(usize::MAX));
    let ranking = Ranking {
        lottery_id: args.id.to_string(),
        attempt,
        tier: args.tier,
        entrants: result.entrants,
        winners: result.winners,
        serials,
        certificate: Certificate::of(&lottery.checkpoint),
    };
    output::print(global, &ranking, Ranking::table);
    Ok(())
}

/// A voided attempt as it ended.
async fn voided(session: &Session, lottery: &Proven, attempt: u32) -> Result<Proven, Failure> {
    let id = lottery.id;
    let key = attempt_key(&id, attempt);
    let (receipt, value) = session.map_receipt(ATTEMPT_NAMESPACE, &key).await?;
    if value.value.is_none() {
        let last = lottery.state.attempt;
        return Err(Failure::NotFound(format!(
            "lottery {id} has no attempt {attempt}; its last one is {last}"
        )));
    }
    Proven::of(id, receipt, value)
}

fn expect_certified(
    session: &Session,
    serials: &[u64],
    result: &v1::TierResult,
) -> Result<(), Failure> {
    let leaves: Vec<Hash> = serials.iter().map(|serial| ranking_leaf(*serial)).collect();
    if log::root_of(&leaves).as_bytes().as_slice() == result.ranking_root {
        return Ok(());
    }
    let node = session.node();
    Err(Failure::InvalidProof(format!(
        "{node} lists another ranking than the certified one; ask another node with --node"
    )))
}

/// A ranking as it is printed.
#[derive(Debug, Serialize)]
struct Ranking {
    lottery_id: String,
    attempt: u32,
    tier: u32,
    entrants: u64,
    winners: u64,
    /// In order of rank.
    serials: Vec<u64>,
    certificate: Certificate,
}

impl Ranking {
    fn table(&self) -> Vec<(String, String)> {
        let (winners, entrants) = (count(self.winners), count(self.entrants));
        let mut lines = vec![
            line("lottery", &self.lottery_id),
            line("attempt", self.attempt),
            line(
                "winners",
                format!("{winners} of {entrants} in tier {}", self.tier),
            ),
        ];
        for (rank, serial) in (1..).zip(&self.serials) {
            lines.push(line(&format!("rank {rank}"), format!("serial {serial}")));
        }
        lines.push(line("proven", "all ranks together have the certified root"));
        lines.extend(self.certificate.summary());
        lines
    }
}
