//! What entries may do to codes: issue them, order changes, carry the changes out.

use bytes::Bytes;
use cairn_proto::v1::{self, CodeStatus, EntryKind, RejectReason, Role};
use prost::Message;

use super::{
    MANDATE_NAMESPACE, MAX_CHUNK_CODES, NAMESPACE, ORDER_NAMESPACE, ORDERS_OF_NAMESPACE,
    changes_root, mandate_key,
};
use crate::admission::Admitted;
use crate::apply::{self, Ctx};
use crate::canonical;
use crate::log::{self, TreeId};
use crate::rule::{Stop, body, decided, no_approvals, require};
use crate::state::{StateError, StateRead};

/// Changes of one order: a city's district, and a block that still takes seconds to apply.
pub const MAX_ORDER_CODES: u32 = 1_000_000;
/// Longest region, reason, legal basis and contact, in bytes.
const MAX_TEXT: usize = 500;

/// Applies one entry of kinds 30 to 32. The outer error is fatal; the inner one is the outcome.
pub fn apply_entry<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<Result<(), RejectReason>, StateError> {
    decided(match entry.envelope.kind() {
        EntryKind::CodeIssue => issue(ctx, entry),
        EntryKind::StatusOrder => order(ctx, entry, leaf_index),
        EntryKind::StatusChunk => chunk(ctx, entry, leaf_index),
        _ => Err(RejectReason::BodyMalformed.into()),
    })
}

/// The author's mandate for `region`.
fn mandate<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    entry: &Admitted,
    region: &str,
) -> Result<v1::Mandate, Stop> {
    let author = ctx.author(entry.author_key())?;
    let authority = author.is_some_and(|author| author.role() == Role::Authority);
    require(authority, RejectReason::RoleNotAllowed)?;
    let key = mandate_key(entry.author_key(), region);
    let mandate = ctx.map_message(MANDATE_NAMESPACE, &key)?;
    Ok(mandate.ok_or(RejectReason::OutsideMandate)?)
}

/// The codes of an entry: 32 bytes each, strictly ascending, as many as one entry may have.
fn codes_of(bytes: &[u8]) -> Result<Vec<[u8; 32]>, RejectReason> {
    let (codes, rest) = bytes.as_chunks::<32>();
    let sound = rest.is_empty()
        && (1..=MAX_CHUNK_CODES).contains(&codes.len())
        && codes.is_sorted_by(|a, b| a < b);
    require(sound, RejectReason::FieldOutOfRange)?;
    Ok(codes.to_vec())
}

fn issue<S: StateRead + ?Sized>(ctx: &mut Ctx<'_, '_, S>, entry: &Admitted) -> Result<(), Stop> {
    let issue: v1::CodeIssue = body(entry)?;
    require(
        entry.envelope.subject.is_empty(),
        RejectReason::SubjectMismatch,
    )?;
    mandate(ctx, entry, &issue.region)?;
    no_approvals(entry)?;
    let codes = codes_of(&issue.codes)?;
    require(
        issue.valid_until_ms > ctx.timestamp_ms,
        RejectReason::FieldOutOfRange,
    )?;
    for code in &codes {
        require(
            ctx.map_get(NAMESPACE, code)?.is_none(),
            RejectReason::CodeExists,
        )?;
    }

    let state = canonical::encode(&v1::CodeState {
        status: CodeStatus::Green as i32,
        sequence: 1,
        valid_from_ms: ctx.timestamp_ms,
        valid_until_ms: issue.valid_until_ms,
        region: issue.region,
        ..Default::default()
    });
    for code in &codes {
        ctx.map_put(NAMESPACE, code, state.clone());
    }
    Ok(())
}

fn order<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let order: v1::StatusOrder = body(entry)?;
    require(
        entry.envelope.subject.is_empty(),
        RejectReason::SubjectMismatch,
    )?;
    let mandate = mandate(ctx, entry, &order.region)?;
    check_order(&order)?;
    // Before anything that depends on time: a copy without its approval must not use up the id.
    approved(entry, &mandate)?;
    within_mandate(&order, &mandate, ctx.timestamp_ms)?;
    let authority = entry.author_key().to_vec();
    let past: v1::AuthorityLog = ctx
        .map_message(ORDERS_OF_NAMESPACE, &authority)?
        .unwrap_or_default();

    append_to_authority_log(ctx, &authority, past.size, leaf_index)?;
    let state = v1::OrderState {
        order: Some(order),
        authority: authority.into(),
        leaf_index,
        ..Default::default()
    };
    let value = canonical::encode(&state);
    ctx.map_put(ORDER_NAMESPACE, entry.id.as_bytes(), value);
    Ok(())
}

fn append_to_authority_log<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    authority: &[u8],
    size: u64,
    leaf_index: u64,
) -> Result<(), StateError> {
    let key: &[u8; 32] = authority.try_into().map_err(|_| StateError::Corrupt {
        place: "an author".to_owned(),
        detail: "the public key is not 32 bytes".to_owned(),
    })?;
    let leaf = log::leaf_hash(&leaf_index.to_be_bytes());
    let root = log::append(ctx.state, &TreeId::orders_of(key), size, &[leaf])?;
    let log = v1::AuthorityLog {
        size: size + 1,
        root: root.to_bytes(),
    };
    ctx.map_put(ORDERS_OF_NAMESPACE, authority, canonical::encode(&log));
    Ok(())
}

fn check_order(order: &v1::StatusOrder) -> Result<(), RejectReason> {
    let text = |text: &str| (1..=MAX_TEXT).contains(&text.len());
    let lapse = (order.lapses_at_ms == 0) == (order.on_lapse() == CodeStatus::Unspecified);
    let sound = text(&order.legal_basis)
        && text(&order.appeal_contact)
        && order.status() != CodeStatus::Unspecified
        && lapse
        && order.evidence_commitment.len() == 32
        && (1..=MAX_ORDER_CODES).contains(&order.count)
        && order.changes_root.len() == 32;
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

/// One of the mandate's approvers signed, and nobody else; nobody where it names none.
fn approved(entry: &Admitted, mandate: &v1::Mandate) -> Result<(), RejectReason> {
    if mandate.approvers.is_empty() {
        return no_approvals(entry);
    }
    let given: Vec<&[u8]> = entry.approvals().collect();
    let one = given
        .iter()
        .any(|key| mandate.approvers.iter().any(|approver| approver == key));
    require(one, RejectReason::ApprovalMissing)?;
    require(given.len() == 1, RejectReason::ApprovalUnexpected)
}

fn chunk<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let chunk: v1::StatusChunk = body(entry)?;
    require(
        entry.envelope.subject == chunk.order_id,
        RejectReason::SubjectMismatch,
    )?;
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
        codes.len() == chunk.expected_sequences.len(),
        RejectReason::FieldOutOfRange,
    )?;
    require(
        chunk.first_change == state.received
            && state.last_code.as_ref() < codes.first().map_or(&[][..], |code| &code[..]),
        RejectReason::OrderChunkOutOfOrder,
    )?;
    let order = state.order.clone().unwrap_or_default();
    // An order that was completed only after its own lapse would begin with what follows it.
    require(
        order.lapses_at_ms == 0 || order.lapses_at_ms > ctx.timestamp_ms,
        RejectReason::OutsideMandate,
    )?;
    let received = u64::from(state.received) + codes.len() as u64;
    require(
        received <= u64::from(order.count),
        RejectReason::OrderMismatch,
    )?;
    let effects = if received == u64::from(order.count) {
        Some(effects(ctx, &state, &order, &chunk)?)
    } else {
        None
    };

    state.received += codes.len() as u32;
    state.last_code = codes
        .last()
        .map_or_else(Bytes::new, |code| code.to_vec().into());
    state.chunk_leaves.push(leaf_index);
    state.applied = effects.is_some();
    ctx.map_put(ORDER_NAMESPACE, &chunk.order_id, canonical::encode(&state));
    for (code, value) in effects.into_iter().flatten() {
        ctx.map_put(NAMESPACE, &code, canonical::encode(&value));
    }
    Ok(())
}

type Effects = Vec<([u8; 32], v1::CodeState)>;

/// What the complete order does to each of its codes; all of it holds, or nothing does.
fn effects<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    state: &v1::OrderState,
    order: &v1::StatusOrder,
    last: &v1::StatusChunk,
) -> Result<Effects, Stop> {
    let mut changes = Vec::with_capacity(order.count as usize);
    for leaf in &state.chunk_leaves {
        changes.extend(changes_of(&chunk_at(ctx, *leaf)?));
    }
    changes.extend(changes_of(last));
    require(
        order.changes_root == changes_root(changes.iter().copied()).0[..],
        RejectReason::OrderMismatch,
    )?;
    let mut effects = Vec::with_capacity(changes.len());
    for (code, expected) in changes {
        let found = ctx.map_message(NAMESPACE, &code)?;
        let before: v1::CodeState = found.ok_or(RejectReason::CodeUnknown)?;
        require(before.region == order.region, RejectReason::OutsideMandate)?;
        require(before.sequence == expected, RejectReason::CodeStaleSequence)?;
        let after = v1::CodeState {
            status: order.status,
            sequence: before.sequence + 1,
            valid_from_ms: ctx.timestamp_ms,
            lapses_at_ms: order.lapses_at_ms,
            on_lapse: order.on_lapse,
            order_id: last.order_id.clone(),
            ..before
        };
        effects.push((code, after));
    }
    Ok(effects)
}

fn changes_of(chunk: &v1::StatusChunk) -> impl Iterator<Item = ([u8; 32], u64)> {
    let codes = chunk.codes.as_chunks::<32>().0.iter().copied();
    codes.zip(chunk.expected_sequences.iter().copied())
}

/// The body of a chunk that was accepted before.
fn chunk_at<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    leaf_index: u64,
) -> Result<v1::StatusChunk, StateError> {
    let lost = |detail: String| StateError::Corrupt {
        place: format!("the status chunk at leaf {leaf_index}"),
        detail,
    };
    let signed = apply::signed_entry(ctx.state, leaf_index)?;
    let signed = signed.ok_or_else(|| lost("no entry".to_owned()))?;
    v1::StatusChunk::decode(signed.body).map_err(|error| lost(error.to_string()))
}
