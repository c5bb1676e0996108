//! Blocks and checkpoints as streams, for those who replay the chain or follow it.
//!
//! What holds here: a stream takes the newest view for each block, so that it never pins an old
//! one, and gives way to other calls between blocks.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use cairn_consensus::Core;
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::{apply, canonical};
use cairn_proto::v1;
use futures::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tonic::Status;

use super::errors::{self, not_found, reason};
use super::ledger::Restricted;
use super::reading::Reading;

/// Heights that are searched for certificates between two that a watcher is told of. Further ones
/// are left out; the newest certificate covers them.
const MAX_GAP: u64 = 1_000;

/// A certified block is missing from the view.
pub fn missing(height: u64) -> Status {
    let message = format!("block {height} is not under the newest certified checkpoint");
    not_found(reason::BLOCK_NOT_FOUND, message)
}

/// Takes the body away where its author restricted it.
pub fn withhold(signed: &mut v1::SignedEntry) -> Result<(), Status> {
    let envelope =
        canonical::decode::<v1::Envelope>(&signed.envelope).map_err(|e| errors::unreadable(&e))?;
    if envelope.visibility() != v1::Visibility::Public {
        signed.body = Bytes::new();
    }
    Ok(())
}

type Found = (v1::Block, Option<v1::Checkpoint>);

/// Blocks by height.
pub struct Blocks {
    core: Core,
    restricted: Restricted,
}

impl Blocks {
    /// From the newest view of `core`.
    pub fn new(core: Core, restricted: Restricted) -> Self {
        Self { core, restricted }
    }

    /// The block at `height`, with its certificate where it is a certified checkpoint.
    pub fn at(&self, height: u64) -> Result<Option<Found>, Status> {
        let reading = Reading::newest(&self.core)?;
        if height > reading.header.height {
            return Ok(None);
        }
        let block = apply::read_block(&*reading.view, height).map_err(errors::state)?;
        let Some(mut block) = block else {
            return Ok(None);
        };
        if let (Restricted::Withheld, Some(proposal)) = (self.restricted, &mut block.proposal) {
            proposal.entries.iter_mut().try_for_each(withhold)?;
        }
        let checkpoint = self.core.checkpoint_at(height).map_err(errors::state)?;
        Ok(Some((block, checkpoint)))
    }

    /// The blocks from `first` to `last`.
    pub fn stream(
        self,
        first: u64,
        last: u64,
    ) -> impl Stream<Item = Result<v1::StreamBlocksResponse, Status>> + Send {
        stream::iter(first..=last).then(move |height| {
            let found = self.at(height);
            async move {
                // Reading is synchronous: without this, one stream would hold up every call.
                tokio::task::yield_now().await;
                let (block, checkpoint) = found?.ok_or_else(|| missing(height))?;
                Ok(v1::StreamBlocksResponse {
                    block: Some(block),
                    checkpoint,
                })
            }
        })
    }
}

/// Where a watcher of certificates is.
struct Watcher {
    core: Core,
    certified: watch::Receiver<Option<Arc<CertifiedCheckpoint>>>,
    /// Heights that may still hold certificates.
    heights: RangeInclusive<u64>,
    told: Option<u64>,
}

/// Every certified checkpoint from now on, the newest first known one included.
pub fn checkpoints(
    core: Core,
) -> impl Stream<Item = Result<v1::WatchCheckpointsResponse, Status>> + Send {
    let mut certified = core.certified();
    certified.mark_changed();
    let watcher = Watcher {
        core,
        certified,
        heights: RangeInclusive::new(1, 0),
        told: None,
    };
    stream::unfold(watcher, |mut watcher| async move {
        let checkpoint = watcher.next().await?;
        let response = checkpoint.map(|checkpoint| v1::WatchCheckpointsResponse {
            checkpoint: Some(checkpoint),
        });
        Some((response, watcher))
    })
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<v1::Checkpoint, Status>> {
        loop {
            for height in self.heights.by_ref() {
                match self.core.checkpoint_at(height) {
                    Ok(Some(checkpoint)) => return Some(Ok(checkpoint)),
                    Ok(None) => {}
                    Err(error) => return Some(Err(errors::state(error))),
                }
            }
            // Ends with the node.
            self.certified.changed().await.ok()?;
            let newest = self.certified.borrow_and_update().clone();
            let Some(height) = newest.map(|newest| newest.header().height) else {
                continue;
            };
            if self.told.is_none_or(|told| told < height) {
                let first = self.told.map_or(height, |told| {
                    (told + 1).max(height.saturating_sub(MAX_GAP))
                });
                self.heights = first..=height;
                self.told = Some(height);
            }
        }
    }
}
