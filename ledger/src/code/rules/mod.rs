//! What entries may do to codes and to those who order about them: the only place where one is
//! refused or changes anything of it.
//!
//! What holds here: a rule looks at everything before it writes anything; nothing changes a code but
//! an order within a mandate in force, or a region's own rule; nothing that an authority did leaves
//! its log. What stays out: signatures, expiry and duplicates of entries, which are settled before a
//! rule sees one.

mod appeals;
mod check_ins;
mod effects;
mod erasure;
mod issue;
mod mandates;
mod orders;
mod recognition;
mod regions;

use cairn_proto::v1::{self, EntryKind, RejectReason, Role};

use super::{MANDATE_NAMESPACE, MAX_CHUNK_CODES, NAMESPACE, mandate_key};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::hash::Hash;
use crate::map;
use crate::rule::{Stop, body, decided, no_approvals, require};
use crate::state::{StateError, StateRead};

pub use effects::first_refused;
pub use erasure::MAX_ERASED;
pub(crate) use mandates::problem as mandate_problem;
pub use orders::MAX_ORDER_CODES;
pub use recognition::MAX_REGIONS;
pub use regions::MAX_STATIONS;

/// Longest text of an entry about codes, in bytes.
pub const MAX_TEXT: usize = 500;

/// Applies one entry of kinds 30 to 39 and 50 to 52. The outer error is fatal; the inner one is the
/// outcome.
pub fn apply_entry<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<Result<(), RejectReason>, StateError> {
    decided(match entry.envelope.kind() {
        EntryKind::CodeIssue => issue::issue(ctx, entry, leaf_index),
        EntryKind::StatusOrder => orders::order(ctx, entry, leaf_index),
        EntryKind::StatusChunk => orders::chunk(ctx, entry, leaf_index),
        EntryKind::MandateGrant => mandates::grant(ctx, entry, leaf_index),
        EntryKind::MandateRevoke => mandates::revoke(ctx, entry, leaf_index),
        EntryKind::RegionRule => regions::set(ctx, entry, leaf_index),
        EntryKind::CheckIn => check_ins::record(ctx, entry, leaf_index),
        EntryKind::Appeal => appeals::appeal(ctx, entry, leaf_index),
        EntryKind::Decision => appeals::decide(ctx, entry, leaf_index),
        EntryKind::BodyErasure => erasure::erase(ctx, entry, leaf_index),
        EntryKind::Recognition => recognition::recognise(ctx, entry, leaf_index),
        EntryKind::RecognitionRevoke => recognition::revoke(ctx, entry, leaf_index),
        EntryKind::OrderRefusal => recognition::refuse_order(ctx, entry, leaf_index),
        _ => Err(RejectReason::BodyMalformed.into()),
    })
}

/// The envelope names what the body is about; nothing where that is nothing.
fn about(entry: &Admitted, subject: &[u8]) -> Result<(), RejectReason> {
    require(
        entry.envelope.subject == subject,
        RejectReason::SubjectMismatch,
    )
}

/// The mandate of `authority` for `region`, if one is in force.
fn in_force<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    authority: &[u8],
    region: &str,
) -> Result<Option<v1::Mandate>, StateError> {
    let key = mandate_key(authority, region);
    let state: Option<v1::MandateState> = ctx.map_message(MANDATE_NAMESPACE, &key)?;
    let state = state.filter(|state| !state.revoked);
    Ok(state.and_then(|state| state.mandate))
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
    let mandate = in_force(ctx, entry.author_key(), region)?;
    Ok(mandate.ok_or(RejectReason::OutsideMandate)?)
}

/// The codes of an entry: 32 bytes each, strictly ascending, as many as one entry may have.
fn codes_of(bytes: &[u8]) -> Result<&[[u8; 32]], RejectReason> {
    let (codes, rest) = bytes.as_chunks::<32>();
    let sound = rest.is_empty()
        && (1..=MAX_CHUNK_CODES).contains(&codes.len())
        && codes.is_sorted_by(|a, b| a < b);
    require(sound, RejectReason::FieldOutOfRange)?;
    Ok(codes)
}

/// The keys in the map of some codes.
fn keys_of(codes: &[[u8; 32]]) -> Vec<Hash> {
    let key = |code: &[u8; 32]| map::map_key(NAMESPACE, code);
    codes.iter().map(key).collect()
}

fn text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len())
}

/// Absent, or a hash.
fn hash_or_none(bytes: &[u8]) -> bool {
    matches!(bytes.len(), 0 | 32)
}
