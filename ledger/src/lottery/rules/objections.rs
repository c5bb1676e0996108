//! Objections and rulings: what stands between the last batch and the notary's certificate.
//!
//! What holds here: an objection is on the ledger before it is ruled on, and is ruled on once;
//! nothing is certified while one waits. A ruling never touches the draw: it strikes rows, so that
//! they hold no place, or it says of the whole attempt that only a void is left.

use cairn_proto::v1::{self, LotteryStage, PlaceStatus, RejectReason, RulingDecision};

use super::void::UNDER_WAY;
use super::{
    Stop, approved_by, attempt, body, lottery_of, office, places, require, rules_of, save,
    stage_is_one_of,
};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::lottery::OBJECTION_NAMESPACE;
use crate::state::StateRead;

/// Rows of one objection: each is a change of the map, and a list that people can read.
pub const MAX_OBJECTION_ROWS: usize = 1_000;

pub(super) fn object<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::Objection = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &given.lottery_id)?;
    let rules = rules_of(&lottery)?;
    office(entry, &rules.notary)?;
    approved_by(entry, &[])?;
    stage_is_one_of(&lottery, &UNDER_WAY)?;
    attempt(&lottery, given.attempt)?;
    let sound = given.serials.len() <= MAX_OBJECTION_ROWS
        && given.serials.is_sorted_by(|a, b| a < b)
        && given.serials.iter().all(|serial| *serial < lottery.rows)
        && given.document_hash.len() == 32;
    require(sound, RejectReason::FieldOutOfRange)?;
    let until = lottery
        .completed_at_ms
        .saturating_add(rules.objection_window_ms);
    require(
        lottery.stage() != LotteryStage::Complete || ctx.timestamp_ms <= until,
        RejectReason::ObjectionLate,
    )?;

    let state = v1::ObjectionState {
        lottery_id: given.lottery_id,
        attempt: given.attempt,
        serials: given.serials,
        leaf_index,
        ..Default::default()
    };
    let value = canonical::encode(&state);
    ctx.map_put(OBJECTION_NAMESPACE, entry.id.as_bytes(), value);
    lottery.objections += 1;
    lottery.objections_open += 1;
    save(ctx, &id, &lottery);
    Ok(())
}

pub(super) fn rule<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::Ruling = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &given.lottery_id)?;
    office(entry, &rules_of(&lottery)?.notary)?;
    approved_by(entry, &[])?;
    stage_is_one_of(&lottery, &UNDER_WAY)?;
    attempt(&lottery, given.attempt)?;
    require(
        given.decision() != RulingDecision::Unspecified && given.document_hash.len() == 32,
        RejectReason::FieldOutOfRange,
    )?;
    let found = ctx.map_message(OBJECTION_NAMESPACE, &given.objection)?;
    let mut objection: v1::ObjectionState = found.ok_or(RejectReason::ObjectionUnknown)?;
    require(
        objection.lottery_id == given.lottery_id && objection.attempt == given.attempt,
        RejectReason::ObjectionUnknown,
    )?;
    require(
        objection.decision() == RulingDecision::Unspecified,
        RejectReason::ObjectionRuled,
    )?;

    if given.decision() == RulingDecision::Upheld {
        lottery.tainted |= objection.serials.is_empty();
        for serial in &objection.serials {
            let place = places::place(ctx, &id, lottery.attempt, *serial)?;
            // Who gave the place up is not struck beside it.
            if place.status() != PlaceStatus::Vacated {
                let struck = places::moved(ctx, PlaceStatus::Struck, leaf_index);
                places::put(ctx, &id, lottery.attempt, *serial, &struck);
            }
        }
    }
    objection.decision = given.decision;
    objection.ruling_leaf_index = leaf_index;
    let value = canonical::encode(&objection);
    ctx.map_put(OBJECTION_NAMESPACE, &given.objection, value);
    // At least this one was open.
    lottery.objections_open -= 1;
    save(ctx, &id, &lottery);
    Ok(())
}
