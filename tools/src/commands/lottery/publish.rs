//! `cairn lottery publish`: the winners, batch by batch, in order of rank; or every rank, where the
//! rules ask for a full ranking.
//!
//! What holds here: nothing is taken on trust from the node that lists the ranking, for every node
//! refuses a batch that is not what it drew itself. A run that was cut short goes on with the
//! first batch that is not certified. Safe to repeat.

use std::path::PathBuf;
use std::time::Instant;

use cairn_ledger::canonical;
use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, EntryKind, LotteryStage, Visibility};
use clap::Args;
use ed25519_dalek::SigningKey;

use super::facts::Facts;
use super::state::{Proven, stage_in_words};
use crate::cli::Global;
use crate::commands::in_order::{self, Sequence};
use crate::exit::Failure;
use crate::key_file;
use crate::progress;
use crate::session::{Session, lottery_client, parse_hash, sign_entry};

/// Serials in one answer: the most that a node gives.
const PAGE: u32 = 10_000;

/// What `publish` takes.
#[derive(Debug, Args)]
pub struct Publish {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The author key of the institute that the rules name
    #[arg(long, value_name = "FILE")]
    institute_key: PathBuf,
    /// Stop after so many batches; running it again goes on
    #[arg(long, value_name = "BATCHES")]
    pause_after: Option<u64>,
}

/// Publishes what is not published yet.
pub async fn run(global: &Global, args: Publish) -> Result<(), Failure> {
    let started = Instant::now();
    let institute = key_file::author(&args.institute_key)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read_from(&session, &args.id, LotteryStage::Drawing).await?;
    let mut batches = Batches::new(&session, &lottery, institute).await?;
    let before = batches.published(&lottery.state);
    batches.last = batches.end(before, args.pause_after);
    let mut bar = progress::bar(global, batches.total(), "ranks");
    let entries = in_order::submit(&session, &mut batches, &mut bar).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    let published = batches.published(&lottery.state);
    let ranks: u64 = batches.plan.iter().map(|batch| batch.units()).sum();
    let winners: u64 = lottery.state.results.iter().map(|r| r.winners).sum();
    Facts::default()
        .with("lottery_id", args.id.to_string())
        .with("stage", stage_in_words(lottery.state.stage()))
        .with("attempt", batches.attempt)
        .with("batches", entries)
        .with("winners_published", published.winners)
        .with("winners", winners)
        .with("ranks_published", published.ranks)
        .with("ranks", ranks)
        .with("complete", published.ranks == ranks)
        .with("seconds", started.elapsed().as_secs_f64())
        .print(global);
    Ok(())
}

/// One batch to publish.
#[derive(Debug)]
struct Batch {
    tier: u32,
    number: u32,
    serials: Vec<u64>,
    /// How many of them won.
    winners: u64,
}

impl Batch {
    fn units(&self) -> u64 {
        self.serials.len() as u64
    }
}

/// How much of the plan is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Published {
    batches: usize,
    ranks: u64,
    winners: u64,
}

/// All batches of all tiers, in order.
struct Batches<'a> {
    session: &'a Session,
    lottery_id: Hash,
    attempt: u32,
    institute: SigningKey,
    plan: Vec<Batch>,
    /// How many batches of the plan are to be published in the end.
    last: usize,
    /// What is still to be handed in, as places in the plan.
    missing: std::vec::IntoIter<usize>,
}

impl<'a> Batches<'a> {
    async fn new(
        session: &'a Session,
        lottery: &Proven,
        institute: SigningKey,
    ) -> Result<Batches<'a>, Failure> {
        let rules = lottery.rules()?;
        let mut plan = Vec::new();
        for (tier, result) in (0u32..).zip(&lottery.state.results) {
            let ranks = ranks_in_public(rules, result);
            let ranking = ranking(session, lottery, tier, ranks).await?;
            plan.extend(batches_of(
                tier,
                &ranking,
                result.winners,
                rules.rows_per_batch,
            ));
        }
        Ok(Batches {
            session,
            lottery_id: lottery.id,
            attempt: lottery.state.attempt,
            institute,
            last: plan.len(),
            plan,
            missing: Vec::new().into_iter(),
        })
    }

    fn is_published(&self, batch: &Batch, state: &v1::LotteryState) -> bool {
        let result = state.results.get(batch.tier as usize);
        result.is_some_and(|result| batch.number < result.batches_published)
    }

    fn published(&self, state: &v1::LotteryState) -> Published {
        let done = self.plan.iter().filter(|b| self.is_published(b, state));
        done.fold(
            Published {
                batches: 0,
                ranks: 0,
                winners: 0,
            },
            |sum, batch| Published {
                batches: sum.batches + 1,
                ranks: sum.ranks + batch.units(),
                winners: sum.winners + batch.winners,
            },
        )
    }

    /// Where in the plan to stop.
    fn end(&self, before: Published, pause_after: Option<u64>) -> usize {
        let all = self.plan.len();
        let pause = pause_after.and_then(|batches| usize::try_from(batches).ok());
        pause.map_or(all, |more| all.min(before.batches.saturating_add(more)))
    }
}

impl Sequence for Batches<'_> {
    fn total(&self) -> u64 {
        self.plan[..self.last].iter().map(Batch::units).sum()
    }

    async fn resume(&mut self, session: &Session) -> Result<u64, Failure> {
        let state = Proven::read(session, &self.lottery_id).await?.state;
        if state.attempt != self.attempt || state.stage() == LotteryStage::Voided {
            let (id, attempt) = (self.lottery_id, self.attempt);
            return Err(Failure::Failed(format!(
                "attempt {attempt} of lottery {id} was voided, and is not published further; see: \
                 cairn lottery show {id}"
            )));
        }
        let missing = |place: &usize| !self.is_published(&self.plan[*place], &state);
        let missing: Vec<usize> = (0..self.last).filter(missing).collect();
        self.missing = missing.into_iter();
        let left = self.missing.clone().map(|place| self.plan[place].units());
        Ok(self.total() - left.sum::<u64>())
    }

    fn next_entry(&mut self) -> Option<(v1::SignedEntry, u64)> {
        let batch = &self.plan[self.missing.next()?];
        let body = canonical::encode(&v1::BatchResult {
            lottery_id: self.lottery_id.to_bytes(),
            attempt: self.attempt,
            tier: batch.tier,
            batch: batch.number,
            serials: batch.serials.clone(),
        });
        let entry = sign_entry(
            &self.session.chain,
            EntryKind::BatchResult,
            Visibility::Public,
            self.lottery_id.to_bytes(),
            body,
            &self.institute,
            &[],
        );
        Some((entry, batch.units()))
    }
}

/// How many ranks of a tier the batches publish.
pub fn ranks_in_public(rules: &v1::LotteryOpen, result: &v1::TierResult) -> u64 {
    match rules.full_ranking {
        true => result.entrants,
        false => result.winners,
    }
}

fn batches_of(
    tier: u32,
    ranking: &[u64],
    winners: u64,
    rows_per_batch: u32,
) -> impl Iterator<Item = Batch> {
    let size = usize::try_from(rows_per_batch.max(1)).unwrap_or(usize::MAX);
    let batch = move |(number, serials): (u32, &[u64])| {
        let before = u64::from(number) * u64::from(rows_per_batch);
        Batch {
            tier,
            number,
            serials: serials.to_vec(),
            winners: winners.saturating_sub(before).min(serials.len() as u64),
        }
    };
    (0u32..).zip(ranking.chunks(size)).map(batch)
}

/// The serials at the first `ranks` of a tier, as a node lists them.
pub async fn ranking(
    session: &Session,
    lottery: &Proven,
    tier: u32,
    ranks: u64,
) -> Result<Vec<u64>, Failure> {
    let mut serials = Vec::new();
    let mut page_token = String::new();
    while (serials.len() as u64) < ranks {
        let request = v1::ListResultsRequest {
            lottery_id: lottery.id.to_bytes(),
            tier,
            page_size: PAGE,
            page_token,
            attempt: lottery.state.attempt,
        };
        let page = session.retry("listing the ranking", async |channel| {
            let mut client = lottery_client(channel);
            client.list_results(request.clone()).await
        });
        let page = page.await?.into_inner();
        let follows = page.first_rank == serials.len() as u64;
        serials.extend(page.serials);
        page_token = page.next_page_token;
        let ended = page_token.is_empty() && (serials.len() as u64) < ranks;
        if ended || !follows {
            let node = session.node();
            let message = format!("{node} lists fewer than {ranks} ranks of tier {tier}");
            return Err(Failure::InvalidProof(message));
        }
    }
    serials.truncate(usize::try_from(ranks).unwrap_or(usize::MAX));
    Ok(serials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_slices_of_rank_and_count_winners_once() {
        let ranking: Vec<u64> = (10..20).collect();
        let batches: Vec<Batch> = batches_of(1, &ranking, 5, 4).collect();
        let shown = batches.iter().map(|b| (b.number, b.units(), b.winners));
        assert_eq!(shown.collect::<Vec<_>>(), [(0, 4, 4), (1, 4, 1), (2, 2, 0)]);
        assert_eq!(batches[2].serials, [18, 19]);
    }
}
