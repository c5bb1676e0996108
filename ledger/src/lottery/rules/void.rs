//! Ending an attempt in public: who may, on what ground, and what the next one begins with.
//!
//! What holds here: a void is an act of members who together satisfy the policy, never of those who
//! run the lottery; what was voided stays on the map, with seed and ranking where they were known;
//! between the close of contributions and the draw there is no void, so that nobody looks at a
//! round that is public already and then prefers another. What stays out: whether the ground is a
//! good one, which is for people.

use bytes::Bytes;
use cairn_proto::v1::{self, LotteryStage, RejectReason, SeedProfile};
use prost::Message;

use super::{
    Stop, attempt, body, contributing, forget_contributing, lottery_of, open, require, rules_of,
    save, seeding, stage_is_one_of,
};
use crate::admission::Admitted;
use crate::apply::{self, Ctx};
use crate::hash::Hash;
use crate::lottery::{ATTEMPT_NAMESPACE, attempt_key, beacon, recompute};
use crate::state::{StateError, StateRead};
use crate::{canonical, evidence, members};

/// Longest reason, in bytes: the document says the rest.
const MAX_REASON: usize = 500;
/// How long a void waits for a round that should be public. Beacons have caught up within a day
/// whenever they stopped; after a week without this one nobody can be said to have seen it.
pub(super) const ROUND_PATIENCE_MS: u64 = 7 * 86_400_000;

/// The stages in which there is an attempt to end.
pub(super) const UNDER_WAY: [LotteryStage; 4] = [
    LotteryStage::Frozen,
    LotteryStage::Contributing,
    LotteryStage::Drawing,
    LotteryStage::Complete,
];

pub(super) fn void<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::LotteryVoid = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &given.lottery_id)?;
    signed_by_members(ctx, entry)?;
    stage_is_one_of(&lottery, &UNDER_WAY)?;
    attempt(&lottery, given.attempt)?;
    let sound = (1..=MAX_REASON).contains(&given.reason.len())
        && matches!(given.evidence_hash.len(), 0 | 32)
        && given.absentees.is_sorted_by(|a, b| a < b);
    require(sound, RejectReason::FieldOutOfRange)?;
    let missed = close_was_missed(ctx, &id, &lottery)?;
    let documented = ctx.map_get(evidence::NAMESPACE, &given.evidence_hash)?;
    require(
        documented.is_some() || (given.evidence_hash.is_empty() && missed),
        RejectReason::VoidNoEvidence,
    )?;
    require(
        missed || !round_is_pending(&lottery, ctx.timestamp_ms)?,
        RejectReason::VoidRoundPending,
    )?;
    absent(&lottery, &given.absentees, ctx.timestamp_ms)?;

    forget_contributing(ctx, &id)?;
    lottery.voids.push(v1::AttemptVoid {
        attempt: lottery.attempt,
        reason: given.reason,
        evidence_hash: given.evidence_hash,
        leaf_index,
        drawn: !lottery.seed.is_empty(),
    });
    let ended = v1::LotteryState {
        stage: LotteryStage::Voided as i32,
        ..lottery
    };
    let key = attempt_key(&id, ended.attempt);
    ctx.map_put(ATTEMPT_NAMESPACE, &key, canonical::encode(&ended));
    next_attempt(ctx, &id, ended, given.absentees)
}

/// The author and all who approved are offices of members, who together satisfy the policy.
fn signed_by_members<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    entry: &Admitted,
) -> Result<(), Stop> {
    let epoch = members::in_force(ctx)?.epoch;
    let set = members::set_of(ctx, epoch)?;
    members::signed_by_members(entry, &set).map_err(|reason| match reason {
        RejectReason::MembershipWrongOffice => RejectReason::LotteryWrongOffice.into(),
        reason => reason.into(),
    })
}

/// Whether the chain itself shows that the close was not certified before the round could be known:
/// then the round is never taken, and no other document is needed.
fn close_was_missed<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    id: &Hash,
    lottery: &v1::LotteryState,
) -> Result<bool, StateError> {
    let waits_for_round = lottery.stage() == LotteryStage::Contributing
        && rules_of(lottery)?.seed_profile() == SeedProfile::Beacon
        && !lottery.close_certified;
    let list = contributing(ctx)?;
    Ok(waits_for_round && !list.lottery_ids.iter().any(|listed| listed == &id.0[..]))
}

/// From the close on the round may be out: whoever wants to void records it first.
fn round_is_pending(lottery: &v1::LotteryState, now_ms: u64) -> Result<bool, StateError> {
    let rules = rules_of(lottery)?;
    if lottery.stage() != LotteryStage::Contributing || rules.seed_profile() != SeedProfile::Beacon
    {
        return Ok(false);
    }
    let round_ms = beacon::round_time_ms(recompute::beacon_of(rules)?, lottery.beacon_round);
    Ok(now_ms > lottery.contributions_close_ms
        && now_ms < round_ms.saturating_add(ROUND_PATIENCE_MS))
}

/// Only a closed lottery waits for somebody, and only who let it wait past the window is dropped.
fn absent(lottery: &v1::LotteryState, named: &[Bytes], now_ms: u64) -> Result<(), Stop> {
    if named.is_empty() {
        return Ok(());
    }
    let rules = rules_of(lottery)?;
    let waited = rules.seed_profile() == SeedProfile::Closed
        && lottery.stage() == LotteryStage::Contributing
        && now_ms > lottery.contributions_close_ms;
    let missing = recompute::awaited(rules, lottery);
    let all_missing = named.iter().all(|key| missing.contains(&&key[..]));
    require(waited && all_missing, RejectReason::VoidNotAbsent)?;
    Ok(())
}

/// The next attempt on the same roster, unless this was the last, or nobody would contribute to
/// it but those who wrote the rules.
fn next_attempt<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    id: &Hash,
    ended: v1::LotteryState,
    absentees: Vec<Bytes>,
) -> Result<(), Stop> {
    let rules = rules_of(&ended)?;
    let mut dropped = ended.dropped.clone();
    dropped.extend(absentees);
    if ended.attempt >= rules.max_attempts || !others_contribute(ctx, &ended, &dropped)? {
        save(ctx, id, &ended);
        return Ok(());
    }
    let with_dice = rules.with_dice;
    let next = v1::LotteryState {
        stage: LotteryStage::Frozen as i32,
        attempt: ended.attempt + 1,
        open_leaf_index: ended.open_leaf_index,
        rows: ended.rows,
        roster_root: ended.roster_root,
        tickets: ended.tickets,
        rules: ended.rules,
        voids: ended.voids,
        dropped,
        ..Default::default()
    };
    if with_dice {
        save(ctx, id, &next);
        return Ok(());
    }
    seeding::begin_contributing(ctx, id, next)
}

/// Whether a member that wrote none of the rules still contributes.
fn others_contribute<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    lottery: &v1::LotteryState,
    dropped: &[Bytes],
) -> Result<bool, Stop> {
    if dropped.is_empty() {
        return Ok(true);
    }
    let rules = rules_of(lottery)?;
    let lost = |what: &str| StateError::Corrupt {
        place: format!("the lottery opened at leaf {}", lottery.open_leaf_index),
        detail: format!("no {what}"),
    };
    let opening = apply::signed_entry(ctx.state, lottery.open_leaf_index)?;
    let opening = opening.ok_or_else(|| lost("entry"))?;
    let opening = v1::Envelope::decode(opening.envelope).map_err(|_| lost("envelope"))?;
    let organiser = ctx.author(&opening.author)?;
    let organiser = organiser.ok_or_else(|| lost("organiser"))?;
    let notary = ctx.author(&rules.notary)?.ok_or_else(|| lost("notary"))?;
    let epoch = members::in_force(ctx)?.epoch;
    let set = members::set_of(ctx, epoch)?;
    let mut left = rules.clone();
    left.contributors
        .retain(|contributor| !dropped.contains(&contributor.seed_key));
    let signers = [&organiser.name, &notary.name];
    Ok(open::has_outside_member(&left, &set, &signers))
}
