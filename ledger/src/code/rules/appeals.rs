//! Appeals and decisions: a holder objects to an order in effect, an office of another role decides.
//!
//! What holds here: for one code and one order one appeal is open at a time, and is decided once.
//! A decision changes no code: that takes an order that cites the one appealed against, which may
//! come before the decision or after it.

use cairn_proto::v1::{self, RejectReason};

use super::check_ins::decode;
use super::regions::rule_of;
use super::{Stop, about, body, hash_or_none, no_approvals, require};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::code::{APPEAL_NAMESPACE, APPEAL_OF_NAMESPACE, NAMESPACE, ORDER_NAMESPACE};
use crate::state::StateRead;

pub(super) fn appeal<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::Appeal = body(entry)?;
    about(entry, &given.order_id)?;
    no_approvals(entry)?;
    let code = given.code.as_ref().try_into();
    let code: [u8; 32] = code.map_err(|_| RejectReason::FieldOutOfRange)?;
    require(
        given.statement_commitment.len() == 32,
        RejectReason::FieldOutOfRange,
    )?;
    let order = ctx.map_message(ORDER_NAMESPACE, &given.order_id)?;
    let order: v1::OrderState = order.ok_or(RejectReason::OrderUnknown)?;
    require(order.applied, RejectReason::OrderNotInEffect)?;
    let region = order.order.unwrap_or_default().region;
    let state = ctx.map_get(NAMESPACE, &code)?;
    let state = decode(&code, &state.ok_or(RejectReason::CodeUnknown)?)?;
    require(state.region == region, RejectReason::CodeOtherRegion)?;
    require(
        rule_of(ctx, &region)?.appeals_role != 0,
        RejectReason::RegionRuleMissing,
    )?;
    let pair = [&given.order_id[..], &code].concat();
    if let Some(newest) = ctx.map_get(APPEAL_OF_NAMESPACE, &pair)? {
        let newest: Option<v1::AppealState> = ctx.map_message(APPEAL_NAMESPACE, &newest)?;
        let open = newest.is_some_and(|state| state.decision.is_none());
        require(!open, RejectReason::AppealOpen)?;
    }

    let state = v1::AppealState {
        appeal: Some(given),
        leaf_index,
        ..Default::default()
    };
    let id = entry.id.as_bytes();
    ctx.map_put(APPEAL_NAMESPACE, id, canonical::encode(&state));
    ctx.map_put(APPEAL_OF_NAMESPACE, &pair, entry.id.to_bytes());
    Ok(())
}

pub(super) fn decide<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::Decision = body(entry)?;
    about(entry, &given.appeal_id)?;
    no_approvals(entry)?;
    let correcting = &given.correcting_order_id;
    let sound = given.reasons_commitment.len() == 32
        && hash_or_none(correcting)
        && (given.granted || correcting.is_empty());
    require(sound, RejectReason::FieldOutOfRange)?;
    let found = ctx.map_message(APPEAL_NAMESPACE, &given.appeal_id)?;
    let mut state: v1::AppealState = found.ok_or(RejectReason::AppealUnknown)?;
    let against = state.appeal.clone().unwrap_or_default().order_id;
    let order: Option<v1::OrderState> = ctx.map_message(ORDER_NAMESPACE, &against)?;
    let region = order
        .and_then(|state| state.order)
        .unwrap_or_default()
        .region;
    let role = rule_of(ctx, &region)?.appeals_role;
    require(role != 0, RejectReason::RegionRuleMissing)?;
    let author = ctx.author(entry.author_key())?;
    require(
        author.is_some_and(|author| author.role == role),
        RejectReason::DecisionWrongOffice,
    )?;
    require(state.decision.is_none(), RejectReason::AppealDecided)?;
    if !correcting.is_empty() {
        let order: Option<v1::OrderState> = ctx.map_message(ORDER_NAMESPACE, correcting)?;
        let cites = order
            .and_then(|state| state.order)
            .is_some_and(|order| order.corrects == against);
        require(cites, RejectReason::CorrectionUnknown)?;
    }

    let id = given.appeal_id.clone();
    state.decision = Some(given);
    state.decision_leaf_index = leaf_index;
    ctx.map_put(APPEAL_NAMESPACE, &id, canonical::encode(&state));
    Ok(())
}
