//! `LedgerService`: submitting, and everything that is read of the log, the chain and the map.
//!
//! What holds here: a body that its author restricted is not shown by the public service; its
//! envelope, its place and every proof are.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use cairn_consensus::Core;
use cairn_ledger::apply;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::log::{self, TreeId};
use cairn_proto::v1;
use cairn_proto::v1::ledger_service_server::LedgerService;
use futures::{Stream, StreamExt};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::blocks::{self, Blocks};
use super::bodies::Connection;
use super::equivocations;
use super::errors::{self, Failure, invalid, not_found, reason};
use super::reading::{Page, Reading, hash, page_size};
use super::submit::{Submission, answers};

/// Leaf indexes in one batch of proofs: about 700 bytes each.
const MAX_PROOFS: usize = 1_000;
/// Changes of members in one answer: a few kilobytes each.
const MAX_CHANGES: usize = 100;
/// A page of entries ends behind this many bytes, read or given, so that clients with the usual
/// limit of 4 MiB can take it. One entry is always given.
const MAX_PAGE_BYTES: usize = 3 << 20;
/// Long-lived streams at once; each holds a few kilobytes.
const MAX_STREAMS: usize = 512;
/// Answers of a stream that wait for the client.
const STREAM_BUFFER: usize = 64;
/// The longest name of a namespace is "lotteries contributing".
const MAX_NAMESPACE: usize = 32;
/// The longest raw key in the map is two hashes and a region.
const MAX_KEY: usize = 1024;

/// The service.
pub struct LedgerApi {
    submission: Submission,
    streams: Arc<Semaphore>,
    stop: CancellationToken,
    restricted: Restricted,
}

/// Whether restricted bodies, and histories of codes, are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restricted {
    /// To the public.
    Withheld,
    /// To the operator, who has them on disk.
    Shown,
}

type StreamPlace = [OwnedSemaphorePermit; 2];

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl LedgerApi {
    /// Answers from `core`; its streams end with `stop`.
    pub fn new(core: Core, chain: Arc<Chain>, stop: CancellationToken, show: Restricted) -> Self {
        Self {
            submission: Submission { core, chain },
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            stop,
            restricted: show,
        }
    }

    fn core(&self) -> &Core {
        &self.submission.core
    }

    /// A place for a long-lived stream, on this node and on the request's connection.
    fn stream_place<T>(&self, request: &Request<T>) -> Result<StreamPlace, Status> {
        let connection = request.extensions().get::<Connection>();
        let connection = connection.cloned().unwrap_or_default().stream()?;
        let node = self.streams.clone().try_acquire_owned();
        let full = |_| errors::overloaded("too many streams are open; try again later");
        Ok([connection, node.map_err(full)?])
    }

    /// The leaf that a request names, if the view covers it.
    fn leaf(&self, reading: &Reading, key: Option<Key>) -> Result<u64, Status> {
        let size = reading.header.tree_size;
        let covered = |leaf: u64, what: String| {
            if leaf < size {
                return Ok(leaf);
            }
            let message = format!("{what} is not under the newest certified checkpoint");
            Err(not_found(reason::ENTRY_NOT_FOUND, message))
        };
        match key.ok_or_else(|| invalid("key", "entry_id or leaf_index is missing"))? {
            Key::Leaf(leaf) => covered(leaf, format!("leaf {leaf}")),
            Key::Id(id) => {
                let id = hash("entry_id", &id)?;
                let status = self.core().entry_status(&id).map_err(errors::state)?;
                match status.state() {
                    v1::EntryState::Committed | v1::EntryState::Certified => {
                        covered(status.leaf_index, format!("entry {id}"))
                    }
                    _ => covered(u64::MAX, format!("entry {id}")),
                }
            }
        }
    }

    fn entry(&self, reading: &Reading, leaf: u64) -> Result<v1::Entry, Status> {
        let entry = apply::read_entry(&*reading.view, leaf).map_err(errors::state)?;
        let lost = || errors::unreadable(&format!("leaf {leaf} is certified but not there"));
        let mut entry = entry.ok_or_else(lost)?;
        if let (Restricted::Withheld, Some(signed)) = (self.restricted, &mut entry.entry) {
            blocks::withhold(signed)?;
        }
        Ok(entry)
    }
}

/// How a request names an entry.
enum Key {
    Id(Bytes),
    Leaf(u64),
}

impl From<v1::get_entry_request::Key> for Key {
    fn from(key: v1::get_entry_request::Key) -> Key {
        match key {
            v1::get_entry_request::Key::EntryId(id) => Key::Id(id),
            v1::get_entry_request::Key::LeafIndex(leaf) => Key::Leaf(leaf),
        }
    }
}

impl From<v1::get_inclusion_proof_request::Key> for Key {
    fn from(key: v1::get_inclusion_proof_request::Key) -> Key {
        match key {
            v1::get_inclusion_proof_request::Key::EntryId(id) => Key::Id(id),
            v1::get_inclusion_proof_request::Key::LeafIndex(leaf) => Key::Leaf(leaf),
        }
    }
}

impl From<v1::get_receipt_request::Key> for Key {
    fn from(key: v1::get_receipt_request::Key) -> Key {
        match key {
            v1::get_receipt_request::Key::EntryId(id) => Key::Id(id),
            v1::get_receipt_request::Key::LeafIndex(leaf) => Key::Leaf(leaf),
        }
    }
}

fn path(hashes: Vec<Hash>) -> Vec<Bytes> {
    hashes.into_iter().map(Hash::to_bytes).collect()
}

fn inclusion(reading: &Reading, leaf: u64) -> Result<v1::InclusionProof, Status> {
    let size = reading.header.tree_size;
    let proof = log::inclusion_proof(&*reading.view, &TreeId::LEDGER, leaf, size);
    Ok(v1::InclusionProof {
        leaf_index: leaf,
        path: path(proof.map_err(|e| errors::unreadable(&e))?),
    })
}

fn consistency(reading: &Reading, old: u64, new: u64) -> Result<v1::ConsistencyProof, Status> {
    if old > new {
        return Err(invalid(
            "old_size",
            format!("{old} is above the new size {new}"),
        ));
    }
    let proof = log::consistency_proof(&*reading.view, &TreeId::LEDGER, old, new);
    Ok(v1::ConsistencyProof {
        path: path(proof.map_err(|e| errors::unreadable(&e))?),
    })
}

/// An error where the client knows a larger tree than this node's view: it asks too early.
fn reached(reading: &Reading, size: u64) -> Result<(), Status> {
    if size <= reading.header.tree_size {
        return Ok(());
    }
    let have = reading.header.tree_size;
    let message = format!("size {size} is beyond this node's certified view of {have}");
    Err(
        Failure::new(Code::Unavailable, reason::SIZE_NOT_REACHED, message)
            .with("tree_size", have.to_string())
            .retry_in(std::time::Duration::from_secs(1))
            .into(),
    )
}

#[tonic::async_trait]
impl LedgerService for LedgerApi {
    type SubmitEntriesStream = Answers<v1::SubmitEntriesResponse>;
    type WatchCheckpointsStream = Answers<v1::WatchCheckpointsResponse>;
    type StreamBlocksStream = Answers<v1::StreamBlocksResponse>;

    async fn submit_entry(
        &self,
        request: Request<v1::SubmitEntryRequest>,
    ) -> Result<Response<v1::SubmitEntryResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let wait_for = request.wait_for();
        let status = self
            .submission
            .one(request.entry, wait_for, &metadata)
            .await?;
        Ok(Response::new(v1::SubmitEntryResponse {
            status: Some(status),
        }))
    }

    async fn submit_entries(
        &self,
        request: Request<Streaming<v1::SubmitEntriesRequest>>,
    ) -> Result<Response<Self::SubmitEntriesStream>, Status> {
        let place = self.stream_place(&request)?;
        let (out, answered) = mpsc::channel(STREAM_BUFFER);
        let work = self.submission.clone().many(request.into_inner(), out);
        tokio::spawn(async move {
            work.await;
            drop(place);
        });
        let answers = answers(answered, self.stop.clone());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_entry_status(
        &self,
        request: Request<v1::GetEntryStatusRequest>,
    ) -> Result<Response<v1::GetEntryStatusResponse>, Status> {
        let id = hash("entry_id", &request.into_inner().entry_id)?;
        let status = self.core().entry_status(&id).map_err(errors::state)?;
        Ok(Response::new(v1::GetEntryStatusResponse {
            status: Some(status),
        }))
    }

    async fn get_genesis(
        &self,
        _: Request<v1::GetGenesisRequest>,
    ) -> Result<Response<v1::GetGenesisResponse>, Status> {
        let chain = &self.submission.chain;
        Ok(Response::new(v1::GetGenesisResponse {
            genesis: chain.bytes.clone(),
            chain_id: chain.id.to_bytes(),
        }))
    }

    async fn get_epoch_changes(
        &self,
        request: Request<v1::GetEpochChangesRequest>,
    ) -> Result<Response<v1::GetEpochChangesResponse>, Status> {
        let known = request.into_inner().known_epoch;
        let epochs = self.core().epochs().borrow().clone();
        let changes = epochs.changes_after(known).iter();
        Ok(Response::new(v1::GetEpochChangesResponse {
            epoch_changes: changes.take(MAX_CHANGES).cloned().collect(),
        }))
    }

    async fn list_equivocations(
        &self,
        request: Request<v1::ListEquivocationsRequest>,
    ) -> Result<Response<v1::ListEquivocationsResponse>, Status> {
        let page = equivocations::list(self.core(), request.get_ref())?;
        Ok(Response::new(page))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        let old = request.into_inner().old_size;
        let reading = Reading::newest(self.core())?;
        reached(&reading, old)?;
        let proof = (old > 0).then(|| consistency(&reading, old, reading.header.tree_size));
        Ok(Response::new(v1::GetCheckpointResponse {
            checkpoint: Some(reading.checkpoint()),
            consistency: proof.transpose()?,
        }))
    }

    async fn watch_checkpoints(
        &self,
        request: Request<v1::WatchCheckpointsRequest>,
    ) -> Result<Response<Self::WatchCheckpointsStream>, Status> {
        let place = self.stream_place(&request)?;
        let checkpoints = blocks::checkpoints(self.core().clone())
            .take_until(self.stop.clone().cancelled_owned())
            .inspect(move |_| {
                let _ = &place;
            });
        Ok(Response::new(Box::pin(checkpoints)))
    }

    async fn get_entry(
        &self,
        request: Request<v1::GetEntryRequest>,
    ) -> Result<Response<v1::GetEntryResponse>, Status> {
        let reading = Reading::newest(self.core())?;
        let leaf = self.leaf(&reading, request.into_inner().key.map(Key::from))?;
        Ok(Response::new(v1::GetEntryResponse {
            entry: Some(self.entry(&reading, leaf)?),
        }))
    }

    async fn list_entries(
        &self,
        request: Request<v1::ListEntriesRequest>,
    ) -> Result<Response<v1::ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size, 100, 1_000)?;
        let reading = Reading::newest(self.core())?;
        let page = Page::from_token(&request.page_token, reading.header.tree_size)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = page.next;
        while next < page.tree_size && entries.len() < size {
            let mut entry = self.entry(&reading, next)?;
            // Bodies that are left out were read all the same.
            bytes += entry.encoded_len();
            if bytes > MAX_PAGE_BYTES && !entries.is_empty() {
                break;
            }
            if let (true, Some(signed)) = (request.without_bodies, &mut entry.entry) {
                signed.body = Bytes::new();
            }
            entries.push(entry);
            next += 1;
            // Reading is synchronous: without this, one page would hold up every call.
            tokio::task::yield_now().await;
        }
        let more = next < page.tree_size;
        Ok(Response::new(v1::ListEntriesResponse {
            entries,
            next_page_token: page.token_if(more, next),
        }))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<v1::GetInclusionProofRequest>,
    ) -> Result<Response<v1::GetInclusionProofResponse>, Status> {
        let reading = Reading::newest(self.core())?;
        let leaf = self.leaf(&reading, request.into_inner().key.map(Key::from))?;
        Ok(Response::new(v1::GetInclusionProofResponse {
            proof: Some(inclusion(&reading, leaf)?),
            checkpoint: Some(reading.checkpoint()),
        }))
    }

    async fn batch_get_inclusion_proofs(
        &self,
        request: Request<v1::BatchGetInclusionProofsRequest>,
    ) -> Result<Response<v1::BatchGetInclusionProofsResponse>, Status> {
        let leaves = request.into_inner().leaf_indexes;
        if leaves.len() > MAX_PROOFS {
            return Err(invalid("leaf_indexes", format!("are at most {MAX_PROOFS}")));
        }
        let reading = Reading::newest(self.core())?;
        let prove = |leaf: u64| inclusion(&reading, self.leaf(&reading, Some(Key::Leaf(leaf)))?);
        Ok(Response::new(v1::BatchGetInclusionProofsResponse {
            proofs: leaves.into_iter().map(prove).collect::<Result<_, _>>()?,
            checkpoint: Some(reading.checkpoint()),
        }))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        let request = request.into_inner();
        let reading = Reading::newest(self.core())?;
        let new = match request.new_size {
            0 => reading.header.tree_size,
            new => new,
        };
        reached(&reading, new.max(request.old_size))?;
        Ok(Response::new(v1::GetConsistencyProofResponse {
            proof: Some(consistency(&reading, request.old_size, new)?),
        }))
    }

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        let reading = Reading::newest(self.core())?;
        let leaf = self.leaf(&reading, request.into_inner().key.map(Key::from))?;
        let entry = self.entry(&reading, leaf)?.entry.unwrap_or_default();
        Ok(Response::new(v1::GetReceiptResponse {
            receipt: Some(v1::Receipt {
                envelope: entry.envelope,
                signatures: entry.signatures,
                inclusion: Some(inclusion(&reading, leaf)?),
                checkpoint: Some(reading.checkpoint()),
                epoch_changes: reading.epoch_changes()?,
            }),
        }))
    }

    async fn get_block(
        &self,
        request: Request<v1::GetBlockRequest>,
    ) -> Result<Response<v1::GetBlockResponse>, Status> {
        let height = request.into_inner().height;
        let blocks = Blocks::new(self.core().clone(), self.restricted);
        let found = blocks.at(height)?;
        let (block, checkpoint) = found.ok_or_else(|| blocks::missing(height))?;
        Ok(Response::new(v1::GetBlockResponse {
            block: Some(block),
            checkpoint,
        }))
    }

    async fn stream_blocks(
        &self,
        request: Request<v1::StreamBlocksRequest>,
    ) -> Result<Response<Self::StreamBlocksStream>, Status> {
        let place = self.stream_place(&request)?;
        let request = request.into_inner();
        let newest = Reading::newest(self.core())?.header.height;
        let last = match request.last_height {
            0 => newest,
            last if last <= newest => last,
            last => return Err(blocks::missing(last)),
        };
        let blocks = Blocks::new(self.core().clone(), self.restricted)
            .stream(request.first_height, last)
            .take_until(self.stop.clone().cancelled_owned())
            .inspect(move |_| {
                let _ = &place;
            });
        Ok(Response::new(Box::pin(blocks)))
    }

    async fn get_map_proof(
        &self,
        request: Request<v1::GetMapProofRequest>,
    ) -> Result<Response<v1::GetMapProofResponse>, Status> {
        let request = request.into_inner();
        if request.namespace.is_empty() || request.namespace.len() > MAX_NAMESPACE {
            return Err(invalid(
                "namespace",
                "is none of those in the documentation",
            ));
        }
        if request.key.len() > MAX_KEY {
            return Err(invalid("key", format!("has more than {MAX_KEY} bytes")));
        }
        let reading = Reading::newest(self.core())?;
        Ok(Response::new(v1::GetMapProofResponse {
            receipt: Some(reading.map_receipt(&request.namespace, request.key)?),
        }))
    }
}
