//! Erasing restricted bodies by an order that is itself on the ledger.
//!
//! What holds here: envelope, signatures, leaf and outcome of an erased entry stay, and so does every
//! proof; its body leaves the state of every node in the block of the order. What stays out: copies
//! that others hold, and Raft's log until it is purged.

use cairn_proto::v1::{self, EntryKind, RejectReason, Visibility};
use prost::Message;

use super::mandates::signed_by_granters;
use super::{Stop, about, body, require, text};
use crate::admission::Admitted;
use crate::apply::{self, Ctx};
use crate::canonical;
use crate::code::{ERASED_NAMESPACE, ORDER_NAMESPACE};
use crate::hash::Hash;
use crate::state::{StateError, StateRead};

/// Entries of one erasure: each is read and written again within its block.
pub const MAX_ERASED: usize = 1_024;

/// Kinds whose bodies nothing reads again: the map holds what follows from them, and no more of
/// what they say than that.
const ERASABLE: [EntryKind; 4] = [
    EntryKind::CodeIssue,
    EntryKind::StatusChunk,
    EntryKind::CheckIn,
    EntryKind::Evidence,
];

pub(super) fn erase<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::BodyErasure = body(entry)?;
    signed_by_granters(ctx, entry)?;
    about(entry, &[])?;
    let (ids, rest) = given.entry_ids.as_chunks::<32>();
    let sound = rest.is_empty()
        && (1..=MAX_ERASED).contains(&ids.len())
        && ids.is_sorted_by(|a, b| a < b)
        && text(&given.legal_basis);
    require(sound, RejectReason::FieldOutOfRange)?;
    let mut erased = Vec::with_capacity(ids.len());
    for id in ids {
        let found = apply::recorded(ctx.state, &Hash(*id), ctx.height)?;
        let mut found = found.ok_or(RejectReason::ErasureUnknown)?;
        let taken = ctx.map_get(ERASED_NAMESPACE, id)?.is_some();
        require(!taken, RejectReason::ErasureTwice)?;
        may_erase(ctx, &found)?;
        found.signed.body.clear();
        erased.push(found);
    }

    let state = canonical::encode(&v1::ErasedState { leaf_index });
    for (id, found) in ids.iter().zip(erased) {
        ctx.map_put(ERASED_NAMESPACE, id, state.clone());
        ctx.state.put(found.key, canonical::encode(&found.signed));
    }
    Ok(())
}

/// Whether nothing needs the body of `found` any more, and nobody was promised to see it.
fn may_erase<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    found: &apply::Recorded,
) -> Result<(), Stop> {
    let envelope = v1::Envelope::decode(&found.signed.envelope[..]);
    let envelope = envelope.map_err(|error| StateError::Corrupt {
        place: "a recorded envelope".to_owned(),
        detail: error.to_string(),
    })?;
    let allowed =
        envelope.visibility() == Visibility::Restricted && ERASABLE.contains(&envelope.kind());
    require(allowed, RejectReason::ErasureNotAllowed)?;
    if envelope.kind() == EntryKind::StatusChunk && found.accepted {
        let order: Option<v1::OrderState> = ctx.map_message(ORDER_NAMESPACE, &envelope.subject)?;
        let applied = order.is_some_and(|order| order.applied);
        require(applied, RejectReason::ErasureTooEarly)?;
    }
    Ok(())
}
