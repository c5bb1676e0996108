//! `cairn lottery recompute`: the whole draw again, from what the ledger holds.
//!
//! What holds here: rows and batches come from the log with proofs, the state from the certified
//! map, and everything between is computed: the roster's root, every contribution, the beacon's
//! round, the seed, each row's ticket, the ranking, the cut-offs, and what was published.

use std::time::Instant;

use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::draw::Ranking;
use cairn_ledger::lottery::recompute::{RecomputeError, recompute_roster, redraw};
use cairn_proto::v1::{self, LotteryStage};
use clap::Args;
use serde::Serialize;

use super::record::Record;
use super::state::Proven;
use crate::certificate::Certificate;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line};
use crate::progress;
use crate::session::{Session, parse_hash};

/// What `recompute` takes.
#[derive(Debug, Args)]
pub struct Recompute {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
}

/// Draws again and compares.
pub async fn run(global: &Global, args: Recompute) -> Result<(), Failure> {
    let started = Instant::now();
    let session = Session::connect(global).await?;
    let lottery = Proven::read_from(&session, &args.id, LotteryStage::Drawing).await?;
    let mut bar = progress::bar(global, lottery.state.rows, "rows");
    let record = Record::fetch(&session, &lottery, &mut bar).await?;

    let computing = Instant::now();
    let state = &lottery.state;
    let differs = |error: RecomputeError| Failure::InvalidProof(format!("{}: {error}", args.id));
    let entrants = recompute_roster(state, record.rows(&lottery)?).map_err(differs)?;
    let drawing = Instant::now();
    let rankings = redraw(&session.chain.id, &args.id, state, &entrants).map_err(differs)?;
    let draw_ms = drawing.elapsed().as_secs_f64() * 1_000.0;
    check_batches(&record.batches, &rankings, lottery.rules()?.rows_per_batch)?;

    let recomputed = Recomputed {
        ok: true,
        lottery_id: args.id.to_string(),
        rows: state.rows,
        chunks: record.chunks.len(),
        tiers: rankings.len(),
        winners: state.results.iter().map(|result| result.winners).sum(),
        batches: record.batches.len(),
        seed: hex::encode(&state.seed),
        draw_ms,
        compute_seconds: computing.elapsed().as_secs_f64(),
        seconds: started.elapsed().as_secs_f64(),
        certificate: Certificate::of(&lottery.checkpoint),
    };
    output::print(global, &recomputed, Recomputed::table);
    Ok(())
}

/// Every published batch is the slice of the ranking that its number names.
fn check_batches(
    batches: &[v1::BatchResult],
    rankings: &[Ranking],
    rows_per_batch: u32,
) -> Result<(), Failure> {
    let size = usize::try_from(rows_per_batch).unwrap_or(usize::MAX);
    for batch in batches {
        let place = usize::try_from(batch.tier).ok();
        let ranking = place.and_then(|tier| rankings.get(tier));
        let first = usize::try_from(batch.batch).unwrap_or(usize::MAX);
        let first = first.saturating_mul(size);
        let drawn = ranking
            .into_iter()
            .flat_map(|ranking| ranking.serials().skip(first));
        let equal = batch.serials.len() <= size
            && drawn
                .take(batch.serials.len())
                .map(u64::from)
                .eq(batch.serials.iter().copied());
        if !equal {
            let (tier, number) = (batch.tier, batch.batch);
            return Err(Failure::InvalidProof(format!(
                "batch {number} of tier {tier} as published is not what the seed and the roster give"
            )));
        }
    }
    Ok(())
}

/// What was computed, and how long it took.
#[derive(Debug, Serialize)]
struct Recomputed {
    ok: bool,
    lottery_id: String,
    rows: u64,
    chunks: usize,
    tiers: usize,
    winners: u64,
    batches: usize,
    seed: String,
    /// Contributions, beacon, seed, tickets, sort and the rankings' roots.
    draw_ms: f64,
    /// The same and the roster's root.
    compute_seconds: f64,
    /// With fetching and proving.
    seconds: f64,
    certificate: Certificate,
}

impl Recomputed {
    fn table(&self) -> Vec<(String, String)> {
        let (chunks, batches) = (self.chunks as u64, self.batches as u64);
        let mut lines = vec![
            line("lottery", &self.lottery_id),
            line(
                "rows",
                format!("{} in {} proven entries", count(self.rows), count(chunks)),
            ),
            line("seed", &self.seed),
            line(
                "winners",
                format!("{} in {} tier(s)", count(self.winners), self.tiers),
            ),
            line(
                "batches",
                format!("{} published, each as drawn", count(batches)),
            ),
            line(
                "result",
                "the same: roster, contributions, beacon, seed, ranking, cut-offs and batches\n\
                 are what the certified state says",
            ),
            line("not proven", "that the roster names the people it should"),
            line(
                "time",
                format!(
                    "{:.0} ms to draw, {:.2} s to compute, {:.2} s in all",
                    self.draw_ms, self.compute_seconds, self.seconds
                ),
            ),
        ];
        lines.extend(self.certificate.summary());
        lines
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_ledger::lottery::draw;

    use super::*;

    fn batch(tier: u32, number: u32, serials: &[u64]) -> v1::BatchResult {
        v1::BatchResult {
            tier,
            batch: number,
            serials: serials.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn a_published_batch_must_be_its_slice_of_the_ranking() {
        let ranking = draw::rank(&Hash([1; 32]), 0, (0..10).map(|serial| (serial, 1)));
        let drawn: Vec<u64> = ranking.serials().map(u64::from).collect();
        let rankings = [ranking];
        let check = |batch| check_batches(&[batch], &rankings, 4);
        check(batch(0, 0, &drawn[..4])).unwrap();
        check(batch(0, 1, &drawn[4..8])).unwrap();
        check(batch(0, 1, &drawn[4..6])).unwrap();
        for bad in [
            batch(0, 0, &drawn[1..5]),
            batch(0, 1, &drawn[..4]),
            batch(0, 0, &drawn[..5]),
            batch(1, 0, &drawn[..4]),
            batch(0, 9, &drawn[..4]),
        ] {
            let failure = check(bad.clone()).unwrap_err();
            assert_eq!(failure.exit_code(), 10, "{bad:?}");
        }
    }
}
