//! Evidence: the hash of a document or recording, so that nobody can say later that it did not
//! exist, or that it was another one.
//!
//! What this does not show: who made the document, or that what it says is true.

use bytes::Bytes;
use cairn_proto::v1::{self, RejectReason};

use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::state::{StateError, StateRead};

/// The map's namespace of evidence; the key is the document's hash.
pub const NAMESPACE: &str = "evidence";
/// Longest media type, title and custodian, in bytes.
const MAX_TEXT: usize = 200;

/// Applies one entry of kind 20. The inner error is the outcome.
pub fn apply_entry<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<Result<(), RejectReason>, StateError> {
    let evidence = match check(entry) {
        Ok(evidence) => evidence,
        Err(reason) => return Ok(Err(reason)),
    };
    if ctx.map_get(NAMESPACE, &evidence.hash)?.is_some() {
        return Ok(Err(RejectReason::EvidenceExists));
    }
    let state = v1::EvidenceState {
        leaf_index,
        timestamp_ms: ctx.timestamp_ms,
        author: Bytes::copy_from_slice(entry.author_key()),
    };
    ctx.map_put(NAMESPACE, &evidence.hash, canonical::encode(&state));
    Ok(Ok(()))
}

fn check(entry: &Admitted) -> Result<v1::Evidence, RejectReason> {
    let evidence: v1::Evidence =
        canonical::decode(entry.body()).map_err(|_| RejectReason::BodyMalformed)?;
    let texts = [&evidence.media_type, &evidence.title, &evidence.custodian];
    if evidence.hash.len() != 32 || texts.iter().any(|text| text.len() > MAX_TEXT) {
        return Err(RejectReason::FieldOutOfRange);
    }
    if entry.envelope.subject != evidence.hash {
        return Err(RejectReason::SubjectMismatch);
    }
    if entry.approvals().next().is_some() {
        return Err(RejectReason::ApprovalUnexpected);
    }
    Ok(evidence)
}
