//! Reading: one certified view per answer, and what requests have in common.
//!
//! What holds here: everything in one answer comes from one view, and size and roots from its
//! certificate. Page tokens carry the tree size of the first page, so that a listing never changes
//! under a reader.

use std::sync::Arc;

use bytes::Bytes;
use cairn_consensus::Core;
use cairn_ledger::hash::Hash;
use cairn_ledger::{canonical, map, members};
use cairn_proto::v1;
use cairn_storage::View;
use tonic::{Code, Status};

use super::errors::{self, Failure, invalid, reason};

/// A view and its header.
pub struct Reading {
    /// The state to read.
    pub view: Arc<View>,
    /// The certified header.
    pub header: v1::Header,
}

impl Reading {
    /// The newest certified view.
    pub fn newest(core: &Core) -> Result<Reading, Status> {
        let view = core.view().ok_or_else(errors::no_view)?;
        let header = view.checkpoint().header().clone();
        Ok(Reading { view, header })
    }

    /// The certificate.
    pub fn checkpoint(&self) -> v1::Checkpoint {
        self.view.checkpoint().to_proto()
    }

    /// How the members who made it came in.
    pub fn epoch_changes(&self) -> Result<Vec<v1::EpochChange>, Status> {
        members::changes_up_to(&*self.view, self.header.epoch).map_err(|e| errors::unreadable(&e))
    }

    /// A key of the map with its proof.
    pub fn map_proof(&self, namespace: &str, key: &[u8]) -> Result<v1::MapProof, Status> {
        let proof = self.view.prove(&map::map_key(namespace, key));
        proof.map_err(|e| errors::unreadable(&e))
    }

    /// The same with everything that a stranger needs to check it.
    pub fn map_receipt(&self, namespace: &str, key: Bytes) -> Result<v1::MapReceipt, Status> {
        Ok(v1::MapReceipt {
            namespace: namespace.to_owned(),
            proof: Some(self.map_proof(namespace, &key)?),
            key,
            checkpoint: Some(self.checkpoint()),
            epoch_changes: self.epoch_changes()?,
        })
    }
}

/// The value in a proof, decoded; none where absence is proven.
pub fn proven<M>(proof: Option<&v1::MapProof>) -> Result<Option<M>, Status>
where
    M: prost::Message + Default + cairn_proto::schema::Described,
{
    match proof {
        Some(proof) if !proof.value.is_empty() => canonical::decode(&proof.value)
            .map(Some)
            .map_err(|e| errors::unreadable(&e)),
        _ => Ok(None),
    }
}

/// A field of 32 bytes.
pub fn hash(field: &str, bytes: &[u8]) -> Result<Hash, Status> {
    Hash::from_slice(bytes)
        .ok_or_else(|| invalid(field, format!("must be 32 bytes, has {}", bytes.len())))
}

/// A page's size: `asked`, or `default` for 0; above `most` is an error that says so.
pub fn page_size(asked: u32, default: u32, most: u32) -> Result<usize, Status> {
    let size = match asked {
        0 => default,
        asked if asked <= most => asked,
        _ => return Err(invalid("page_size", format!("is at most {most}"))),
    };
    usize::try_from(size).map_err(|_| invalid("page_size", "is too large for this machine"))
}

/// Where a listing goes on, and the tree size at which it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// The listing ends here.
    pub tree_size: u64,
    /// The next position.
    pub next: u64,
}

impl Page {
    /// From a request's token; empty: a listing that begins now.
    pub fn from_token(token: &str, tree_size: u64) -> Result<Page, Status> {
        if token.is_empty() {
            return Ok(Page { tree_size, next: 0 });
        }
        let bad = |message| -> Status {
            Failure::new(Code::InvalidArgument, reason::PAGE_TOKEN_INVALID, message).into()
        };
        let foreign = || bad("page_token is not one that this method gave out");
        let bytes = hex::decode(token).map_err(|_| foreign())?;
        let (size, next) = bytes.split_first_chunk::<8>().ok_or_else(foreign)?;
        let next: [u8; 8] = next.try_into().map_err(|_| foreign())?;
        let page = Page {
            tree_size: u64::from_be_bytes(*size),
            next: u64::from_be_bytes(next),
        };
        if page.tree_size > tree_size {
            // Another node gave it out, and this one is behind; or nobody did.
            let message = "page_token is of a tree larger than this node's certified view";
            return Err(
                Failure::new(Code::Unavailable, reason::SIZE_NOT_REACHED, message)
                    .retry_in(std::time::Duration::from_secs(1))
                    .into(),
            );
        }
        Ok(page)
    }

    /// The token of the next page of this listing, where there is one.
    pub fn token_if(&self, more: bool, next: u64) -> String {
        if more {
            Page::token(self.tree_size, next)
        } else {
            String::new()
        }
    }

    /// The token of the page that begins at `next`.
    pub fn token(tree_size: u64, next: u64) -> String {
        hex::encode([tree_size.to_be_bytes(), next.to_be_bytes()].concat())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn page_tokens_come_back_as_given_and_nothing_else_does() {
        let page = Page::from_token("", 9).unwrap();
        assert_eq!((page.tree_size, page.next), (9, 0));
        let token = Page::token(9, 4);
        let page = Page::from_token(&token, 30).unwrap();
        assert_eq!((page.tree_size, page.next), (9, 4));
        for bad in ["x", "00", &token[2..], &format!("{token}00")] {
            assert!(Page::from_token(bad, 30).is_err(), "{bad}");
        }
        let ahead = Page::from_token(&token, 8).unwrap_err();
        assert_eq!(ahead.code(), Code::Unavailable);
    }

    #[test]
    fn page_sizes_are_bounded() {
        assert_eq!(page_size(0, 100, 1000).unwrap(), 100);
        assert_eq!(page_size(1000, 100, 1000).unwrap(), 1000);
        assert!(page_size(1001, 100, 1000).is_err());
    }
}
