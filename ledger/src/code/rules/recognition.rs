//! What a region holds of others: ledgers that it recognises, and orders that it does not.
//!
//! What holds here: both are statements of an authority with a mandate for the region; neither
//! changes a code or rewrites an order.

use cairn_proto::v1::{self, CodeStatus, RejectReason};

use super::{Stop, about, body, mandate, no_approvals, require, text};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::code::{
    ORDER_NAMESPACE, ORDER_REFUSAL_NAMESPACE, RECOGNITION_NAMESPACE, order_refusal_key,
    recognition_key,
};
use crate::state::StateRead;

/// Regions of another ledger in one recognition: it is one value of the map.
pub const MAX_REGIONS: usize = 1_000;

pub(super) fn recognise<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::Recognition = body(entry)?;
    about(entry, &given.genesis_hash)?;
    mandate(ctx, entry, &given.region)?;
    no_approvals(entry)?;
    let regions = (1..=MAX_REGIONS).contains(&given.regions.len())
        && given.regions.iter().all(|region| text(region))
        && given.regions.is_sorted_by(|a, b| a < b);
    let statuses = !given.statuses.is_empty()
        && given.statuses.is_sorted_by(|a, b| a < b)
        && !given.statuses.contains(&(CodeStatus::Unspecified as i32));
    let sound = regions
        && statuses
        && text(&given.name)
        && given.genesis_hash.len() == 32
        && given.genesis_hash != ctx.chain.id.0[..]
        && given.not_after_ms > ctx.timestamp_ms;
    require(sound, RejectReason::FieldOutOfRange)?;
    put(ctx, entry, given, false, leaf_index);
    Ok(())
}

pub(super) fn revoke<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::RecognitionRevoke = body(entry)?;
    about(entry, &given.genesis_hash)?;
    mandate(ctx, entry, &given.region)?;
    no_approvals(entry)?;
    let key = recognition_key(&given.genesis_hash, &given.region);
    let found: Option<v1::RecognitionState> = ctx.map_message(RECOGNITION_NAMESPACE, &key)?;
    let found = found.filter(|state| !state.revoked);
    let found = found.ok_or(RejectReason::RecognitionUnknown)?;
    let recognition = found.recognition.unwrap_or_default();
    put(ctx, entry, recognition, true, leaf_index);
    Ok(())
}

fn put<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    recognition: v1::Recognition,
    revoked: bool,
    leaf_index: u64,
) {
    let key = recognition_key(&recognition.genesis_hash, &recognition.region);
    let state = v1::RecognitionState {
        recognition: Some(recognition),
        authority: entry.envelope.author.clone(),
        revoked,
        leaf_index,
    };
    ctx.map_put(RECOGNITION_NAMESPACE, &key, canonical::encode(&state));
}

pub(super) fn refuse_order<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::OrderRefusal = body(entry)?;
    about(entry, &given.order_id)?;
    mandate(ctx, entry, &given.region)?;
    no_approvals(entry)?;
    let sound = given.genesis_hash.len() == 32 && given.order_id.len() == 32 && text(&given.reason);
    require(sound, RejectReason::FieldOutOfRange)?;
    if given.genesis_hash == ctx.chain.id.0[..] {
        let order: Option<v1::OrderState> = ctx.map_message(ORDER_NAMESPACE, &given.order_id)?;
        let order = order.and_then(|state| state.order);
        let order = order.ok_or(RejectReason::OrderUnknown)?;
        // What is wrong at home is corrected, or appealed against.
        require(order.region != given.region, RejectReason::FieldOutOfRange)?;
    }
    let key = order_refusal_key(&given.genesis_hash, &given.order_id, &given.region);
    require(
        ctx.map_get(ORDER_REFUSAL_NAMESPACE, &key)?.is_none(),
        RejectReason::OrderRefusalExists,
    )?;

    let state = v1::OrderRefusalState {
        refusal: Some(given),
        authority: entry.envelope.author.clone(),
        leaf_index,
    };
    ctx.map_put(ORDER_REFUSAL_NAMESPACE, &key, canonical::encode(&state));
    Ok(())
}
