//! `cairn lottery recompute`: the whole lottery again, from what the ledger holds or from a file.
//!
//! What holds here: a record from a node and one from a file are judged alike (`record`, `history`);
//! with a file no node is asked. What stays out: whether the roster names the people it should.

use std::path::PathBuf;
use std::time::Instant;

use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use clap::Args;
use serde::Serialize;

use super::fetch::fetch;
use super::history::History;
use super::record::{self, Record};
use super::state::stage_in_words;
use crate::certificate::Certificate;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line};
use crate::session::{Session, parse_hash, pinned_chain_id};

/// Where a lottery's record comes from.
#[derive(Debug, Args)]
pub struct Source {
    /// The lottery's id
    #[arg(value_parser = parse_hash, required_unless_present = "from")]
    id: Option<Hash>,
    /// Take the record from this file, which `cairn lottery export` wrote, and ask no node
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

impl Source {
    /// The record, verified entry by entry; and since when that is computed, without the fetching.
    pub async fn read(&self, global: &Global) -> Result<(Chain, Record, Instant), Failure> {
        let (chain, record, began) = match (&self.from, &self.id) {
            (Some(path), _) => {
                let began = Instant::now();
                let (chain, record) = record::read(&pinned_chain_id(global)?, path)?;
                (chain, record, began)
            }
            (None, Some(id)) => {
                let session = Session::connect(global).await?;
                let file = fetch(global, &session, id).await?;
                let began = Instant::now();
                let record = Record::of(&session.chain, file)
                    .map_err(|failure| failure.during(session.node()))?;
                (Chain::clone(&session.chain), record, began)
            }
            (None, None) => {
                return Err(Failure::Usage("give the lottery's ID or --from".to_owned()));
            }
        };
        match self.id {
            Some(id) if id != record.lottery.id => Err(Failure::Failed(format!(
                "the record is of lottery {}, not {id}",
                record.lottery.id
            ))),
            _ => Ok((chain, record, began)),
        }
    }
}

/// What `recompute` takes.
#[derive(Debug, Args)]
pub struct Recompute {
    #[command(flatten)]
    source: Source,
}

/// Draws again and compares.
pub async fn run(global: &Global, args: Recompute) -> Result<(), Failure> {
    let started = Instant::now();
    let (chain, record, computing) = args.source.read(global).await?;
    let history = History::of(&chain, &record)?;
    if !history.is_drawn() {
        let (id, stage) = (
            record.lottery.id,
            stage_in_words(record.lottery.state.stage()),
        );
        return Err(Failure::Failed(format!(
            "lottery {id} is {stage}, and no attempt was drawn yet; see: cairn lottery show {id}"
        )));
    }
    let mut recomputed = Recomputed::of(&record, &history);
    recomputed.compute_seconds = computing.elapsed().as_secs_f64();
    recomputed.seconds = started.elapsed().as_secs_f64();
    output::print(global, &recomputed, Recomputed::table);
    Ok(())
}

/// What was computed, and how long it took.
#[derive(Debug, Serialize)]
struct Recomputed {
    ok: bool,
    lottery_id: String,
    stage: &'static str,
    rows: u64,
    chunks: usize,
    tiers: usize,
    winners: u64,
    batches: usize,
    /// The last attempt, counted from 1.
    attempt: u32,
    /// Attempts whose seed is known, voided ones too: all of them were drawn again.
    attempts_drawn: usize,
    attempts_voided: usize,
    objections: usize,
    promotions: usize,
    /// Of the last attempt; empty where it is not drawn.
    seed: String,
    /// Contributions, beacon, seed, tickets, sort and the rankings' roots.
    draw_ms: f64,
    /// The same, the roster's root, every signature and every inclusion proof.
    compute_seconds: f64,
    /// With fetching.
    seconds: f64,
    certificate: Certificate,
}

impl Recomputed {
    fn of(record: &Record, history: &History<'_>) -> Recomputed {
        let state = &record.lottery.state;
        let attempts = &history.attempts;
        let drawn = attempts.iter().filter(|a| !a.state.seed.is_empty());
        Recomputed {
            ok: true,
            lottery_id: record.lottery.id.to_string(),
            stage: stage_in_words(state.stage()),
            rows: state.rows,
            chunks: record.chunks().count(),
            tiers: state.rules.as_ref().map_or(0, |rules| rules.tiers.len()),
            winners: state.results.iter().map(|result| result.winners).sum(),
            batches: attempts.iter().map(|a| a.batches.len()).sum(),
            attempt: state.attempt,
            attempts_drawn: drawn.count(),
            attempts_voided: state.voids.len(),
            objections: attempts.iter().map(|a| a.objections.len()).sum(),
            promotions: attempts.iter().map(|a| a.promotions.len()).sum(),
            seed: hex::encode(&state.seed),
            draw_ms: history.draw_took.as_secs_f64() * 1_000.0,
            compute_seconds: 0.0,
            seconds: 0.0,
            certificate: Certificate::of(&record.lottery.checkpoint),
        }
    }

    fn table(&self) -> Vec<(String, String)> {
        let (chunks, batches) = (self.chunks as u64, self.batches as u64);
        let mut lines = vec![
            line("lottery", &self.lottery_id),
            line("stage", format!("{}, attempt {}", self.stage, self.attempt)),
            line(
                "rows",
                format!("{} in {} proven entries", count(self.rows), count(chunks)),
            ),
            line(
                "seed",
                if self.seed.is_empty() {
                    "not known"
                } else {
                    &self.seed
                },
            ),
            line(
                "winners",
                format!("{} in {} tier(s)", count(self.winners), self.tiers),
            ),
            line(
                "batches",
                format!("{} published, each as drawn", count(batches)),
            ),
        ];
        if self.attempts_voided > 0 {
            let (drawn, voided) = (self.attempts_drawn, self.attempts_voided);
            lines.push(line(
                "attempts",
                format!("{voided} voided; {drawn} drawn, each of them drawn again here"),
            ));
        }
        if self.objections + self.promotions > 0 {
            let (objections, promotions) = (self.objections, self.promotions);
            lines.push(line(
                "afterwards",
                format!(
                    "{objections} objection(s), {promotions} promotion(s), each as the rules say"
                ),
            ));
        }
        lines.extend([
            line(
                "result",
                "the same: roster, dice, contributions, beacon, seed, ranking, cut-offs, batches\n\
                 and promotions are what the certified states say",
            ),
            line("not proven", "that the roster names the people it should"),
            line(
                "time",
                format!(
                    "{:.0} ms to draw, {:.2} s to compute, {:.2} s in all",
                    self.draw_ms, self.compute_seconds, self.seconds
                ),
            ),
        ]);
        lines.extend(self.certificate.summary());
        lines
    }
}
