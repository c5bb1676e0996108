//! `cairn lottery publish`: the winners, batch by batch, in order of rank.
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

use super::report::Facts;
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
    let mut bar = progress::bar(global, batches.total(), "winners");
    let entries = in_order::submit(&session, &mut batches, &mut bar).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    let published = batches.published(&lottery.state);
    let winners: u64 = batches.plan.iter().map(Batch::units).sum();
    Facts::default()
        .with("lottery_id", args.id.to_string())
        .with("stage", stage_in_words(lottery.state.stage()))
        .with("batches", entries)
        .with("winners_published", published.winners)
        .with("winners", winners)
        .with("complete", published.winners == winners)
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
        let rows_per_batch = lottery.rules()?.rows_per_batch;
        let size = usize::try_from(rows_per_batch.max(1)).unwrap_or(usize::MAX);
        let mut plan = Vec::new();
        for (tier, result) in (0u32..).zip(&lottery.state.results) {
            let winners = ranking(session, &lottery.id, tier, result.winners).await?;
            for (number, serials) in (0u32..).zip(winners.chunks(size)) {
                let serials = serials.to_vec();
                plan.push(Batch {
                    tier,
                    number,
                    serials,
                });
            }
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
                winners: 0,
            },
            |sum, batch| Published {
                batches: sum.batches + 1,
                winners: sum.winners + batch.units(),
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

/// The first `winners` serials of a tier, as a node lists them.
async fn ranking(
    session: &Session,
    lottery_id: &Hash,
    tier: u32,
    winners: u64,
) -> Result<Vec<u64>, Failure> {
    let mut serials = Vec::new();
    let mut page_token = String::new();
    while (serials.len() as u64) < winners {
        let request = v1::ListResultsRequest {
            lottery_id: lottery_id.to_bytes(),
            tier,
            page_size: PAGE,
            page_token,
        };
        let page = session.retry("listing the ranking", async |channel| {
            let mut client = lottery_client(channel);
            client.list_results(request.clone()).await
        });
        let page = page.await?.into_inner();
        let follows = page.first_rank == serials.len() as u64;
        serials.extend(page.serials);
        page_token = page.next_page_token;
        let ended = page_token.is_empty() && (serials.len() as u64) < winners;
        if ended || !follows {
            let node = session.node();
            let message = format!("{node} lists fewer than the {winners} winners of tier {tier}");
            return Err(Failure::InvalidProof(message));
        }
    }
    serials.truncate(usize::try_from(winners).unwrap_or(usize::MAX));
    Ok(serials)
}
