//! Status orders and their chunks: accepted within a mandate, in effect with the last chunk.
//!
//! What holds here: an order that begins within its mandate also ends within it: whoever loses the
//! mandate, or lets the order's own time run out, completes nothing.

use bytes::Bytes;
use cairn_proto::v1::{self, ActKind, CodeStatus, OrderMode, RejectReason, Role};

use super::{
    Stop, about, body, codes_of, effects, hash_or_none, in_force, mandate, no_approvals, require,
    text,
};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::code::{ORDER_NAMESPACE, acts};
use crate::hash::Hash;
use crate::state::{StateError, StateRead};

/// Changes of one order: a city's district, and a block that still takes seconds to apply.
pub const MAX_ORDER_CODES: u32 = 1_000_000;

pub(super) fn order<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let order: v1::StatusOrder = body(entry)?;
    about(entry, &[])?;
    let mandate = mandate(ctx, entry, &order.region)?;
    check_order(&order)?;
    // Before anything that depends on time: a copy without its approval must not use up the id.
    approved(ctx, entry, &mandate)?;
    within_mandate(&order, &mandate, ctx.timestamp_ms)?;
    if !order.corrects.is_empty() {
        let found: Option<v1::OrderState> = ctx.map_message(ORDER_NAMESPACE, &order.corrects)?;
        let corrected = found.and_then(|state| state.order);
        require(
            corrected.is_some_and(|corrected| corrected.region == order.region),
            RejectReason::CorrectionUnknown,
        )?;
    }

    let authority = &entry.envelope.author;
    let act = v1::AuthorityAct {
        region: order.region.clone(),
        order_id: entry.id.to_bytes(),
        reason: order.reason.clone(),
        codes: order.count,
        ..acts::act(ctx, ActKind::Ordered, leaf_index)
    };
    acts::append(ctx, authority, &act)?;
    acts::count(ctx, authority, &act)?;
    let state = v1::OrderState {
        order: Some(order),
        authority: authority.clone(),
        leaf_index,
        ..Default::default()
    };
    let value = canonical::encode(&state);
    ctx.map_put(ORDER_NAMESPACE, entry.id.as_bytes(), value);
    Ok(())
}

fn check_order(order: &v1::StatusOrder) -> Result<(), RejectReason> {
    let lapse = (order.lapses_at_ms == 0) == (order.on_lapse() == CodeStatus::Unspecified);
    let sound = text(&order.legal_basis)
        && text(&order.appeal_contact)
        && text(&order.operator)
        && text(&order.rule_version)
        && order.status() != CodeStatus::Unspecified
        && order.mode() != OrderMode::Unspecified
        && lapse
        && order.evidence_commitment.len() == 32
        && (1..=MAX_ORDER_CODES).contains(&order.count)
        && order.changes_root.len() == 32
        && hash_or_none(&order.corrects);
    require(sound, RejectReason::FieldOutOfRange)
}

fn within_mandate(
    order: &v1::StatusOrder,
    mandate: &v1::Mandate,
    now_ms: u64,
) -> Result<(), RejectReason> {
    let longest = mandate.max_duration_ms;
    let unlimited = longest == 0 || order.status() == CodeStatus::Green;
    let lapses_in = order.lapses_at_ms.checked_sub(now_ms);
    let duration = match lapses_in {
        // Lapsed before it began, or never lapsing.
        None => order.lapses_at_ms == 0 && unlimited,
        Some(duration) => unlimited || duration <= longest,
    };
    // What holds after the lapse holds until the code ends: green, or what the mandate allows for
    // so long.
    let on_lapse = match order.on_lapse() {
        CodeStatus::Unspecified | CodeStatus::Green => true,
        status => longest == 0 && mandate.statuses.contains(&(status as i32)),
    };
    let within = mandate.reasons.contains(&order.reason)
        && mandate.statuses.contains(&order.status)
        && duration
        && on_lapse;
    require(within, RejectReason::OutsideMandate)
}

/// One author of the role that the mandate asks for approved, and nobody else; nobody where it asks
/// for none.
fn approved<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    entry: &Admitted,
    mandate: &v1::Mandate,
) -> Result<(), Stop> {
    if mandate.approver_role() == Role::Unspecified {
        return Ok(no_approvals(entry)?);
    }
    let (mut given, mut fitting) = (0, false);
    for key in entry.approvals() {
        let author = ctx.author(key)?;
        given += 1;
        fitting |= author.is_some_and(|author| author.role == mandate.approver_role);
    }
    require(fitting, RejectReason::ApprovalMissing)?;
    Ok(require(given == 1, RejectReason::ApprovalUnexpected)?)
}

pub(super) fn chunk<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let chunk: v1::StatusChunk = body(entry)?;
    about(entry, &chunk.order_id)?;
    let found = ctx.map_message(ORDER_NAMESPACE, &chunk.order_id)?;
    let mut state: v1::OrderState = found.ok_or(RejectReason::OrderUnknown)?;
    require(
        state.authority == entry.author_key(),
        RejectReason::OutsideMandate,
    )?;
    no_approvals(entry)?;
    require(!state.applied, RejectReason::OrderComplete)?;
    let codes = codes_of(&chunk.codes)?;
    require(
        codes.len() == chunk.expected_sequences.len() && chunk.blind.len() == 32,
        RejectReason::FieldOutOfRange,
    )?;
    require(
        chunk.first_change == state.received
            && state.last_code.as_ref() < codes.first().map_or(&[][..], |code| &code[..]),
        RejectReason::OrderChunkOutOfOrder,
    )?;
    let order = order_of(&state)?;
    still_within_mandate(ctx, &state, order)?;
    let received = u64::from(state.received) + codes.len() as u64;
    require(
        received <= u64::from(order.count),
        RejectReason::OrderMismatch,
    )?;
    let effects = if received == u64::from(order.count) {
        let read = |keys: &[Hash]| ctx.map_get_many(keys);
        let now = ctx.timestamp_ms;
        Some(effects::of_order(ctx.state, read, &state, &chunk, now)?)
    } else {
        None
    };

    if let Some(effects) = &effects {
        let act = v1::AuthorityAct {
            region: order.region.clone(),
            order_id: chunk.order_id.clone(),
            reason: order.reason.clone(),
            codes: effects.outcome.changed,
            refused: effects.outcome.refused,
            refused_root: effects.outcome.refused_root.clone(),
            ..acts::act(ctx, ActKind::TookEffect, leaf_index)
        };
        acts::append(ctx, &state.authority, &act)?;
        acts::count(ctx, &state.authority, &act)?;
    }
    state.received += codes.len() as u32;
    state.last_code = codes
        .last()
        .map_or_else(Bytes::new, |code| Bytes::copy_from_slice(code));
    state.chunk_leaves.push(leaf_index);
    state.applied = effects.is_some();
    let Some(effects) = effects else {
        ctx.map_put(ORDER_NAMESPACE, &chunk.order_id, canonical::encode(&state));
        return Ok(());
    };
    state.effect = Some(effects.outcome);
    ctx.map_put(ORDER_NAMESPACE, &chunk.order_id, canonical::encode(&state));
    ctx.state.extend(effects.replaced);
    ctx.map_put_many(effects.changed);
    Ok(())
}

/// The order itself, which its state always has.
pub(super) fn order_of(state: &v1::OrderState) -> Result<&v1::StatusOrder, StateError> {
    state.order.as_ref().ok_or_else(|| StateError::Corrupt {
        place: format!("the order at leaf {}", state.leaf_index),
        detail: "no order".to_owned(),
    })
}

/// The authority may still order this, and an order that is completed only after its own lapse would
/// begin with what follows it.
fn still_within_mandate<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    state: &v1::OrderState,
    order: &v1::StatusOrder,
) -> Result<(), Stop> {
    let mandate = in_force(ctx, &state.authority, &order.region)?;
    let mandate = mandate.ok_or(RejectReason::OutsideMandate)?;
    within_mandate(order, &mandate, ctx.timestamp_ms)?;
    let lapsed = order.lapses_at_ms != 0 && order.lapses_at_ms <= ctx.timestamp_ms;
    Ok(require(!lapsed, RejectReason::OutsideMandate)?)
}
