//! Evidence: the hash of a document or recording, so that nobody can say later that it did not
//! exist, or that it was another one.
//!
//! What this does not show: who made the document, or that what it says is true.

use bytes::Bytes;
use cairn_proto::v1::{self, RejectReason};

use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::rule::{Stop, body, decided, no_approvals, require};
use crate::state::{StateError, StateRead};

/// The map's namespace of evidence; the key is the document's hash.
pub const NAMESPACE: &str = "evidence";
/// Longest media type, title and custodian, in bytes.
const MAX_TEXT: usize = 200;

/// Applies one entry of kind 20. The outer error is fatal; the inner one is the outcome.
pub fn apply_entry<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<Result<(), RejectReason>, StateError> {
    decided(record(ctx, entry, leaf_index))
}

fn record<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let evidence: v1::Evidence = body(entry)?;
    let texts = [&evidence.media_type, &evidence.title, &evidence.custodian];
    require(
        evidence.hash.len() == 32 && texts.iter().all(|text| text.len() <= MAX_TEXT),
        RejectReason::FieldOutOfRange,
    )?;
    require(
        entry.envelope.subject == evidence.hash,
        RejectReason::SubjectMismatch,
    )?;
    no_approvals(entry)?;
    require(
        ctx.map_get(NAMESPACE, &evidence.hash)?.is_none(),
        RejectReason::EvidenceExists,
    )?;

    let state = v1::EvidenceState {
        leaf_index,
        timestamp_ms: ctx.timestamp_ms,
        author: Bytes::copy_from_slice(entry.author_key()),
    };
    ctx.map_put(NAMESPACE, &evidence.hash, canonical::encode(&state));
    Ok(())
}

#[cfg(test)]
mod tests;
