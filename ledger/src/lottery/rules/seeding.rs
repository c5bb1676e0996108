//! Dice, contributions, and what completes the seed: after a certified close the beacon's round, or
//! in the closed profile the last contributor.

use bytes::Bytes;
use cairn_proto::v1::{self, LotteryStage, RejectReason, SeedProfile};

use super::{
    Stop, approved_by, attempt, body, contributing, load, lottery_of, office, require, results,
    rules_of, save, save_contributing, stage,
};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::hash::Hash;
use crate::lottery::{beacon, recompute, seed};
use crate::state::{StateError, StateRead};

/// Dice of one roll: 32 give 82 bits, more than anybody throws.
pub const MAX_DICE: usize = 32;

pub(super) fn dice<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
) -> Result<(), Stop> {
    let roll: v1::DiceRoll = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &roll.lottery_id)?;
    office(entry, &rules_of(&lottery)?.notary)?;
    approved_by(entry, &[])?;
    // Frozen is a stage of lotteries with dice only: without, the freeze begins Contributing.
    stage(&lottery, LotteryStage::Frozen)?;
    attempt(&lottery, roll.attempt)?;
    let sound = (1..=MAX_DICE).contains(&roll.digits.len())
        && roll.digits.iter().all(|digit| (1..=6).contains(digit))
        && roll.evidence_hash.len() == 32;
    require(sound, RejectReason::FieldOutOfRange)?;

    lottery.dice = roll.digits;
    begin_contributing(ctx, &id, lottery)
}

/// From here on the close and the round are fixed by the block's time.
pub(super) fn begin_contributing<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    id: &Hash,
    mut lottery: v1::LotteryState,
) -> Result<(), Stop> {
    let rules = rules_of(&lottery)?;
    let close = ctx
        .timestamp_ms
        .saturating_add(rules.contribution_window_ms);
    let round = match rules.seed_profile() {
        // It waits for contributors, not for a certificate and a round.
        SeedProfile::Closed => None,
        SeedProfile::Beacon => {
            let chain = recompute::beacon_of(rules)?;
            Some(beacon::pinned_round(chain, close, rules.beacon_margin_ms))
        }
    };
    lottery.stage = LotteryStage::Contributing as i32;
    lottery.contributions_close_ms = close;
    lottery.beacon_round = round.unwrap_or_default();
    if round.is_none() {
        save(ctx, id, &lottery);
        return Ok(());
    }
    let list = contributing(ctx)?;
    let mut ids = list.lottery_ids;
    ids.push(id.to_bytes());
    save_contributing(ctx, ids, list.revision);
    save(ctx, id, &lottery);
    Ok(())
}

pub(super) fn contribution<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
) -> Result<(), Stop> {
    let given: v1::SeedContribution = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &given.lottery_id)?;
    approved_by(entry, &[])?;
    stage(&lottery, LotteryStage::Contributing)?;
    attempt(&lottery, given.attempt)?;
    let rules = rules_of(&lottery)?;
    let closed = rules.seed_profile() == SeedProfile::Closed;
    // The one place where a late contribution is refused. A closed lottery waits.
    require(
        closed || ctx.timestamp_ms <= lottery.contributions_close_ms,
        RejectReason::ContributionLate,
    )?;
    let known = rules.contributors.iter();
    require(
        known.clone().any(|c| c.seed_key == given.seed_key)
            && !lottery.dropped.contains(&given.seed_key),
        RejectReason::ContributorUnknown,
    )?;
    let before = &lottery.contributions;
    require(
        before.iter().all(|c| c.seed_key != given.seed_key),
        RejectReason::ContributionTwice,
    )?;
    let root = recompute::root_of(&lottery)?;
    let message =
        seed::contribution_message(&recompute::frozen(&ctx.chain.id, &id, &lottery, &root));
    seed::verify_contribution(&given.seed_key, &message, &given.signature)
        .map_err(|_| RejectReason::ContributionInvalid)?;

    lottery.contributions.push(v1::Contribution {
        seed_key: given.seed_key,
        signature: given.signature,
        timestamp_ms: ctx.timestamp_ms,
    });
    if closed && recompute::awaited(rules_of(&lottery)?, &lottery).is_empty() {
        let seed = recompute::seed_of(&ctx.chain.id, &id, &lottery, None)?;
        results::draw(ctx, &id, &mut lottery, &seed)?;
    }
    save(ctx, &id, &lottery);
    Ok(())
}

/// Takes note of a certificate that the chain carries and that was verified: a checkpoint stamped
/// `header_timestamp_ms`, and `cosigned_by_ms`, the time by which it was certified, which is the
/// latest `cosigned_at` of the cosignatures that were counted.
///
/// A lottery's close is certified once such a checkpoint is stamped after it and all counted
/// clocks lie before half of the margin to the pinned round: contributions were closed in public
/// before the round could be known, whatever the leader did with time.
pub fn note_certificate<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    header_timestamp_ms: u64,
    cosigned_by_ms: u64,
) -> Result<(), StateError> {
    let list = contributing(ctx)?;
    let mut waiting: Vec<Bytes> = Vec::new();
    for raw in &list.lottery_ids {
        let found = match Hash::from_slice(raw) {
            Some(id) => load(ctx, &id)?.map(|lottery| (id, lottery)),
            None => None,
        };
        let Some((id, mut lottery)) = found else {
            return Err(StateError::Corrupt {
                place: "the list of contributing lotteries".to_owned(),
                detail: format!("no lottery {}", hex::encode(raw)),
            });
        };
        let rules = rules_of(&lottery)?;
        let round_ms = beacon::round_time_ms(recompute::beacon_of(rules)?, lottery.beacon_round);
        let in_time = cosigned_by_ms < round_ms.saturating_sub(rules.beacon_margin_ms / 2);
        if header_timestamp_ms > lottery.contributions_close_ms && in_time {
            lottery.close_certified = true;
            save(ctx, &id, &lottery);
        } else if header_timestamp_ms < round_ms {
            waiting.push(raw.clone());
        }
        // Otherwise the round is public, and no later certificate can show the close in time.
    }
    if waiting.len() < list.lottery_ids.len() {
        save_contributing(ctx, waiting, list.revision);
    }
    Ok(())
}

pub(super) fn beacon_round<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
) -> Result<(), Stop> {
    let given: v1::BeaconRound = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &given.lottery_id)?;
    approved_by(entry, &[])?;
    stage(&lottery, LotteryStage::Contributing)?;
    attempt(&lottery, given.attempt)?;
    require(
        given.round == lottery.beacon_round,
        RejectReason::BeaconWrongRound,
    )?;
    require(
        lottery.close_certified && ctx.timestamp_ms > lottery.contributions_close_ms,
        RejectReason::BeaconCloseNotCertified,
    )?;
    // A closed lottery has no certified close, so there is a beacon here.
    let chain = recompute::beacon_of(rules_of(&lottery)?)?;
    let randomness = beacon::verify_round(chain, given.round, &given.signature)
        .map_err(|_| RejectReason::BeaconInvalid)?;
    let seed = recompute::seed_of(&ctx.chain.id, &id, &lottery, Some(&randomness))?;

    lottery.beacon_signature = given.signature;
    results::draw(ctx, &id, &mut lottery, &seed)?;
    save(ctx, &id, &lottery);
    Ok(())
}
