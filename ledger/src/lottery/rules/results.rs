//! The draw itself, its publication batch by batch, and the notary's last word.

use cairn_proto::v1::{self, LotteryStage, RejectReason};

use super::{Stop, approved_by, attempt, body, lottery_of, office, require, rules_of, save, stage};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::hash::Hash;
use crate::log::{self, TreeId};
use crate::lottery::draw::{self, Ranking};
use crate::lottery::{index, recompute};
use crate::state::{StateError, StateRead};

/// The seed is known: ranks every tier and keeps rankings, ranks, trees and results.
pub(super) fn draw<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    id: &Hash,
    lottery: &mut v1::LotteryState,
    seed: &Hash,
) -> Result<(), StateError> {
    let entrants = index::entrants(ctx.state, id, lottery.rows)?;
    let mut rankings: Vec<Ranking> = Vec::new();
    let mut results = Vec::new();
    for (tier, rules) in (0u32..).zip(&rules_of(lottery)?.tiers) {
        let ranking = draw::rank(seed, tier, entrants.of_tier(tier));
        index::put_ranking(ctx.state, id, lottery.attempt, tier, &ranking);
        let tree = TreeId::ranking(id, lottery.attempt, tier);
        let leaves = recompute::ranking_leaves(&ranking);
        let root = log::append_kept_leaves(ctx.state, &tree, 0, &leaves)?;
        results.push(recompute::tier_result(rules.quota, &ranking, &root));
        rankings.push(ranking);
    }
    index::put_ranks(ctx.state, id, lottery.attempt, entrants.rows(), &rankings);
    lottery.seed = seed.to_bytes();
    lottery.stage = LotteryStage::Drawing as i32;
    lottery.results = results;
    Ok(())
}

pub(super) fn batch<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
) -> Result<(), Stop> {
    let given: v1::BatchResult = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &given.lottery_id)?;
    let rules = rules_of(&lottery)?;
    office(entry, &rules.institute)?;
    approved_by(entry, &[])?;
    stage(&lottery, LotteryStage::Drawing)?;
    attempt(&lottery, given.attempt)?;
    let per_batch = u64::from(rules.rows_per_batch);
    let full_ranking = rules.full_ranking;
    // How many ranks the batches publish.
    let in_public = |r: &v1::TierResult| if full_ranking { r.entrants } else { r.winners };
    let tier = usize::try_from(given.tier).unwrap_or(usize::MAX);
    let result = lottery.results.get(tier);
    let result = result.ok_or(RejectReason::FieldOutOfRange)?;
    let ranks = in_public(result);
    let first = u64::from(given.batch) * per_batch;
    require(
        given.batch == result.batches_published && first < ranks,
        RejectReason::BatchOutOfOrder,
    )?;
    let count = per_batch.min(ranks - first);
    // Lengths first, so that no more is read than a batch may have.
    require(
        given.serials.len() as u64 == count,
        RejectReason::BatchMismatch,
    )?;
    let drawn = index::ranking_slice(
        ctx.state,
        &id,
        lottery.attempt,
        given.tier,
        first,
        given.serials.len(),
    )?;
    require(given.serials == drawn, RejectReason::BatchMismatch)?;

    lottery.results[tier].batches_published += 1;
    let published = |r: &v1::TierResult| u64::from(r.batches_published) * per_batch >= in_public(r);
    if lottery.results.iter().all(published) {
        lottery.stage = LotteryStage::Complete as i32;
        lottery.completed_at_ms = ctx.timestamp_ms;
    }
    save(ctx, &id, &lottery);
    Ok(())
}

pub(super) fn certify<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
) -> Result<(), Stop> {
    let given: v1::LotteryCertify = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &given.lottery_id)?;
    office(entry, &rules_of(&lottery)?.notary)?;
    approved_by(entry, &[])?;
    stage(&lottery, LotteryStage::Complete)?;
    attempt(&lottery, given.attempt)?;
    require(
        given.document_hash.len() == 32,
        RejectReason::FieldOutOfRange,
    )?;

    require(!lottery.tainted, RejectReason::AttemptTainted)?;
    let window = rules_of(&lottery)?.objection_window_ms;
    let heard = window == 0 || ctx.timestamp_ms > lottery.completed_at_ms.saturating_add(window);
    require(
        heard && lottery.objections_open == 0,
        RejectReason::ObjectionsOpen,
    )?;

    lottery.certified_at_ms = ctx.timestamp_ms;
    lottery.document_hash = given.document_hash;
    lottery.stage = LotteryStage::Certified as i32;
    save(ctx, &id, &lottery);
    Ok(())
}
