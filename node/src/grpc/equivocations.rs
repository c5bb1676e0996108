//! Proofs that members cosigned two headers of one height, as this node keeps them.
//!
//! What holds here: pages are bounded, and in the order of the records' hashes, so that a listing
//! goes on where it ended though records come in between.

use cairn_consensus::Core;
use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use tonic::{Code, Status};

use super::errors::{self, Failure, reason};
use super::reading::page_size;

/// Records of one page: about a kilobyte each.
const MAX_PAGE: u32 = 100;

/// One page.
pub fn list(
    core: &Core,
    request: &v1::ListEquivocationsRequest,
) -> Result<v1::ListEquivocationsResponse, Status> {
    let size = page_size(request.page_size, MAX_PAGE, MAX_PAGE)?;
    let after = after(&request.page_token)?;
    // One more than the page tells whether there is another.
    let found = core.equivocations_after(after.as_ref(), size + 1);
    let mut found = found.map_err(errors::state)?;
    let more = found.len() > size;
    found.truncate(size);
    let last = found.last().filter(|_| more);
    Ok(v1::ListEquivocationsResponse {
        next_page_token: last.map_or_else(String::new, |(hash, _)| hash.to_string()),
        equivocations: found.into_iter().map(|(_, record)| record).collect(),
    })
}

fn after(token: &str) -> Result<Option<Hash>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let hash = hex::decode(token).ok();
    let hash = hash.and_then(|bytes| Hash::from_slice(&bytes));
    hash.map(Some).ok_or_else(|| {
        let message = "page_token is not one that this method gave out";
        Failure::new(Code::InvalidArgument, reason::PAGE_TOKEN_INVALID, message).into()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_hash_or_nothing() {
        assert_eq!(after("").unwrap(), None);
        let hash = Hash([7; 32]);
        assert_eq!(after(&hash.to_string()).unwrap(), Some(hash));
        for bad in ["x", "00", "7"] {
            assert!(after(bad).is_err(), "{bad}");
        }
    }
}
