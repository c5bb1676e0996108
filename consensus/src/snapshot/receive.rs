//! Receiving a copy from the leader.
//!
//! What holds here: one transfer at a time, into a generation of its own; frames come in order, and
//! what is on disk is acknowledged. Nothing is believed before [`install::check`] has read all of it
//! against the certificate. A transfer of the same copy goes on where it broke off; any other one
//! starts afresh. What is left of one at a restart is swept.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_ledger::checkpoint::{CertifiedCheckpoint, CertifyError};
use cairn_ledger::genesis::Chain;
use cairn_proto::v1;
use cairn_storage::{CopyFile, Generations, StateStore};
use openraft::storage::Snapshot;
use prost::Message as _;
use tokio::task::JoinHandle;

use super::send::{Answer, Request};
use super::{Checked, RaftSnapshot, SnapshotData, install};
use crate::applier::Applier;
use crate::config::Io;
use crate::cosign::Cosigner;
use crate::raft::RaftHandle;
use crate::types::{SnapshotMeta, Vote, from_bytes, to_bytes};

/// Files of a copy: at 64 MiB each, some terabytes.
const MAX_FILES: usize = 65_536;
/// How long one question is kept waiting for the check: less than the lane's deadline.
const PATIENCE: Duration = Duration::from_secs(5);

/// The receiving end.
pub(crate) struct Receiver {
    pub(crate) chain: Arc<Chain>,
    pub(crate) store: Arc<StateStore>,
    pub(crate) generations: Arc<dyn Generations>,
    pub(crate) applier: Arc<Applier>,
    pub(crate) cosigner: Arc<Cosigner>,
    pub(crate) raft: RaftHandle,
    pub(crate) io: Io,
    /// First come, first served, so that frames keep their order.
    pub(crate) transfers: Arc<tokio::sync::Mutex<Transfers>>,
}

/// The transfer that is under way, if any.
#[derive(Default)]
pub(crate) struct Transfers {
    last: u64,
    now: Option<Incoming>,
}

struct Incoming {
    transfer: u64,
    from: u64,
    vote: Vote,
    meta: SnapshotMeta,
    certificate: v1::Checkpoint,
    files: Vec<CopyFile>,
    /// The next byte.
    file: usize,
    offset: u64,
    checking: Option<JoinHandle<io::Result<()>>>,
}

impl Incoming {
    /// Past files that are full.
    fn settle(&mut self) {
        while self
            .files
            .get(self.file)
            .is_some_and(|file| file.bytes == self.offset)
        {
            self.file += 1;
            self.offset = 0;
        }
    }

    fn go(&self) -> Answer {
        Answer::Go {
            transfer: self.transfer,
            file: u32::try_from(self.file).unwrap_or(u32::MAX),
            offset: self.offset,
        }
    }
}

impl Receiver {
    /// Answers one request of the snapshot lane.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        from: u64,
        request: Bytes,
    ) -> Result<Bytes, String> {
        // Before anything else awaits: the lock is what keeps frames in order.
        let mut transfers = self.transfers.clone().lock_owned().await;
        let receiver = self.clone();
        // A task of its own, with the lock: the stream may break at any moment, and what was begun,
        // an install above all, must end before the next request is looked at.
        let work = tokio::spawn(async move {
            let request = from_bytes(&request).map_err(text)?;
            receiver.answer(&mut transfers, from, request).await
        });
        to_bytes(&work.await.map_err(text)??).map_err(text)
    }

    async fn answer(
        &self,
        transfers: &mut Transfers,
        from: u64,
        request: Request,
    ) -> Result<Answer, String> {
        match request {
            Request::Offer {
                vote,
                meta,
                certificate,
                files,
            } => {
                if vote.leader_id.voted_for != from {
                    return Err(format!("{from} speaks for {}", vote.leader_id.voted_for));
                }
                self.offered(transfers, (from, vote), meta, &certificate, files)
                    .await
            }
            Request::Chunk {
                transfer,
                file,
                offset,
                bytes,
            } => {
                let now = current(transfers, from, transfer)?;
                let answer = self.chunk(now, file, offset, bytes.0).await;
                if answer.is_err() {
                    transfers.now = None;
                }
                answer
            }
            Request::Finish { transfer } => {
                current(transfers, from, transfer)?;
                self.finish(transfers).await
            }
        }
    }

    async fn offered(
        &self,
        transfers: &mut Transfers,
        (from, vote): (u64, Vote),
        meta: SnapshotMeta,
        certificate: &[u8],
        files: Vec<(String, u64)>,
    ) -> Result<Answer, String> {
        let last = meta.last_log_id.ok_or("a copy of nothing")?;
        if *last.leader_id > vote.leader_id.term {
            return Err("a copy beyond its leader's term".to_owned());
        }
        let applied = self.applier.position().last_applied;
        if applied.is_some_and(|applied| applied.index >= last.index) {
            return self.install(vote, meta, SnapshotData::Awaited).await;
        }
        let certificate = v1::Checkpoint::decode(certificate).map_err(text)?;
        let certified = self.certify(from, &certificate)?;
        if certified.header().term != *last.leader_id {
            return Err("the copy's place in the log is of another term than its block".to_owned());
        }
        let files: Vec<CopyFile> = files
            .into_iter()
            .map(|(name, bytes)| CopyFile { name, bytes })
            .collect();
        if files.len() > MAX_FILES || !files.iter().all(CopyFile::is_plain) {
            return Err("a copy with too many files or other names than a database has".to_owned());
        }
        if let Some(now) = &mut transfers.now
            && now.from == from
            && now.meta == meta
            && now.files == files
            && now.certificate.header == certificate.header
        {
            now.vote = vote;
            return Ok(now.go());
        }
        tracing::info!(
            from,
            height = certified.header().height,
            bytes = files.iter().map(|file| file.bytes).sum::<u64>(),
            "receiving a copy of the state"
        );
        transfers.now = None;
        self.generations.receive(&files).map_err(text)?;
        transfers.last += 1;
        let mut incoming = Incoming {
            transfer: transfers.last,
            from,
            vote,
            meta,
            certificate,
            files,
            file: 0,
            offset: 0,
            checking: None,
        };
        incoming.settle();
        Ok(transfers.now.insert(incoming).go())
    }

    /// Under the members that are known here; of an epoch that is not, `from` is asked for what led
    /// to it, and offers the copy again.
    fn certify(
        &self,
        from: u64,
        certificate: &v1::Checkpoint,
    ) -> Result<CertifiedCheckpoint, String> {
        let certified = self.cosigner.epochs().borrow().certify(certificate);
        if let Err(CertifyError::UnknownEpoch { .. }) = certified {
            self.cosigner.hear_of_epochs_from(from);
        }
        certified.map_err(text)
    }

    async fn chunk(
        &self,
        now: &mut Incoming,
        file: u32,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Answer, String> {
        let target = now.files.get(now.file);
        let (Some(target), true) = (target, file as usize == now.file && offset == now.offset)
        else {
            return Err(format!("byte {offset} of file {file} is not the next one"));
        };
        let end = offset + bytes.len() as u64;
        if bytes.is_empty() || end > target.bytes {
            return Err(format!("a chunk that does not fit into file {file}"));
        }
        let (generations, name) = (self.generations.clone(), target.name.clone());
        super::off_thread(self.io, move || {
            generations
                .write_file(&name, offset, &bytes)
                .map_err(io::Error::other)
        })
        .await
        .map_err(text)?;
        now.offset = end;
        now.settle();
        Ok(now.go())
    }

    async fn finish(&self, transfers: &mut Transfers) -> Result<Answer, String> {
        let Some(mut now) = transfers.now.take() else {
            return Err("there is no such transfer".to_owned());
        };
        if now.file < now.files.len() {
            return Err("the copy is not whole".to_owned());
        }
        let mut checking = match now.checking.take() {
            Some(checking) => checking,
            None => self.check(&now)?,
        };
        match tokio::time::timeout(PATIENCE, &mut checking).await {
            Err(_) => {
                now.checking = Some(checking);
                transfers.now = Some(now);
                return Ok(Answer::Checking);
            }
            Ok(ended) => ended.map_err(text)?.map_err(|error| {
                tracing::error!(from = now.from, %error, "a copy of the state was not believed");
                error.to_string()
            })?,
        }
        let checked = Checked {
            certificate: now.certificate,
        };
        self.install(now.vote, now.meta, SnapshotData::Checked(checked))
            .await
    }

    fn check(&self, now: &Incoming) -> Result<JoinHandle<io::Result<()>>, String> {
        let certified = self.certify(now.from, &now.certificate)?;
        let (generations, chain) = (self.generations.clone(), self.chain.clone());
        let (store, meta) = (self.store.clone(), now.meta.clone());
        let work = move || {
            let disk = generations.received().map_err(io::Error::other)?;
            install::check(&chain, &disk, &certified, &meta, &store)
        };
        Ok(match self.io {
            Io::Threads => tokio::task::spawn_blocking(work),
            Io::Simulated { .. } => {
                let done = work();
                tokio::spawn(async move { done })
            }
        })
    }

    async fn install(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<Answer, String> {
        let snapshot: RaftSnapshot = Snapshot { meta, snapshot };
        let answer = self.raft.install_full_snapshot(vote, snapshot).await;
        Ok(Answer::Done(answer.map_err(text)?))
    }
}

fn current(transfers: &mut Transfers, from: u64, transfer: u64) -> Result<&mut Incoming, String> {
    let now = transfers.now.as_mut();
    now.filter(|now| now.from == from && now.transfer == transfer)
        .ok_or_else(|| format!("there is no transfer {transfer} from {from}"))
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
