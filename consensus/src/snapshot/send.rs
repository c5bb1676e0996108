//! Sending a copy to a member that is behind.
//!
//! What holds here: bounded frames on a lane of their own, a few under way at a time, each
//! acknowledged when it is on the receiver's disk; a transfer that broke off goes on where it was, as
//! long as the receiver still has it. The receiver decides alone whether to believe what it got.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt};
use openraft::errors::{ReplicationClosed, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{Copy, RaftSnapshot, SnapshotData};
use crate::network::Lane;
use crate::raft_network::Peer;
use crate::types::{Payload, SnapshotMeta, Types, Vote, from_bytes, to_bytes};

/// Bytes of a file in one frame: an eighth of what the lane takes, so that a slow link
/// acknowledges one in time.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Frames under way: enough that disk and wire work at once.
const CHUNKS_IN_FLIGHT: usize = 4;
/// While the receiver checks, it is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What the sender asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Will you have this copy, and from where on?
    Offer {
        vote: Vote,
        meta: SnapshotMeta,
        /// `cairn.v1.Checkpoint`
        certificate: Vec<u8>,
        /// Names and lengths.
        files: Vec<(String, u64)>,
    },
    /// Bytes of the `file`-th file.
    Chunk {
        transfer: u64,
        file: u32,
        offset: u64,
        bytes: Payload,
    },
    /// That was all: check it and install it.
    Finish { transfer: u64 },
}

/// What the receiver answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Send on from here.
    Go {
        transfer: u64,
        file: u32,
        offset: u64,
    },
    /// It is being checked.
    Checking,
    /// It is installed, or was not needed.
    Done(SnapshotResponse<Types>),
}

type Failure = StreamingError<Types>;

fn unreachable(detail: impl ToString) -> Failure {
    Unreachable::from_string(detail).into()
}

/// Sends `snapshot`, until it is installed or `cancel` is ready.
pub(crate) async fn send(
    peer: &Peer,
    vote: Vote,
    snapshot: RaftSnapshot,
    cancel: impl Future<Output = ReplicationClosed>,
) -> Result<SnapshotResponse<Types>, Failure> {
    let copy = match snapshot.snapshot {
        SnapshotData::Kept(copy) => copy,
        SnapshotData::Checked(_) | SnapshotData::Awaited => {
            return Err(unreachable("there is no certified copy yet"));
        }
    };
    // Perhaps a newer one than Raft knows of, which then sends the log behind its own: that one is
    // held until the end, and so is the log.
    let sent = async {
        let fresh = peer.copies().fresh(&copy, peer.io()).await;
        let copy = &fresh.map_err(unreachable)?;
        Sending { peer, copy }.run(vote).await
    };
    tokio::select! {
        sent = sent => {
            if let Err(error) = &sent {
                tracing::warn!(to = peer.target(), %error, "a copy of the state was not sent");
            }
            sent
        }
        closed = cancel => Err(closed.into()),
    }
}

struct Sending<'a> {
    peer: &'a Peer,
    copy: &'a Copy,
}

impl Sending<'_> {
    async fn ask(&self, request: &Request) -> Result<Answer, Failure> {
        let request = to_bytes(request).map_err(unreachable)?;
        self.call(request).await
    }

    async fn call(&self, request: Bytes) -> Result<Answer, Failure> {
        let (network, to) = (self.peer.network(), self.peer.target());
        let answer = network.call(to, Lane::Snapshot, request).await;
        from_bytes(&answer.map_err(unreachable)?).map_err(unreachable)
    }

    async fn run(&self, vote: Vote) -> Result<SnapshotResponse<Types>, Failure> {
        let generations = self.peer.copies().generations();
        let files = generations.files(self.copy.height).map_err(unreachable)?;
        let files: Vec<(String, u64)> = files.into_iter().map(|f| (f.name, f.bytes)).collect();
        let offer = Request::Offer {
            vote,
            meta: self.copy.meta.clone(),
            certificate: self.copy.certificate.encode_to_vec(),
            files: files.clone(),
        };
        let (transfer, file, offset) = match self.ask(&offer).await? {
            Answer::Go {
                transfer,
                file,
                offset,
            } => (transfer, file, offset),
            Answer::Done(response) => return Ok(response),
            Answer::Checking => return Err(unreachable("it checks what it was not sent")),
        };
        tracing::info!(
            to = self.peer.target(),
            height = self.copy.height,
            bytes = files.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            file,
            offset,
            "sending a copy of the state"
        );
        self.chunks(transfer, &files, file, offset).await?;
        loop {
            match self.ask(&Request::Finish { transfer }).await? {
                Answer::Done(response) => return Ok(response),
                Answer::Checking => tokio::time::sleep(ASK_AGAIN).await,
                Answer::Go { .. } => return Err(unreachable("it lost a part of the copy")),
            }
        }
    }

    async fn chunks(
        &self,
        transfer: u64,
        files: &[(String, u64)],
        first: u32,
        mut offset: u64,
    ) -> Result<(), Failure> {
        let mut waiting = FuturesOrdered::new();
        for (file, (name, bytes)) in (0u32..).zip(files).skip(first as usize) {
            while offset < *bytes {
                let chunk = self.read(name.clone(), offset).await?;
                if chunk.is_empty() {
                    return Err(unreachable(format!("{name} is shorter than it was")));
                }
                let request = to_bytes(&Request::Chunk {
                    transfer,
                    file,
                    offset,
                    bytes: Payload(chunk.clone()),
                });
                offset += chunk.len() as u64;
                waiting.push_back(self.call(request.map_err(unreachable)?));
                if waiting.len() >= CHUNKS_IN_FLIGHT {
                    acknowledged(waiting.next().await)?;
                }
            }
            offset = 0;
        }
        while let Some(answer) = waiting.next().await {
            acknowledged(Some(answer))?;
        }
        Ok(())
    }

    async fn read(&self, name: String, offset: u64) -> Result<Bytes, Failure> {
        let generations = self.peer.copies().generations().clone();
        let height = self.copy.height;
        super::off_thread(self.peer.io(), move || {
            generations
                .read_file(height, &name, offset, CHUNK_BYTES)
                .map_err(std::io::Error::other)
        })
        .await
        .map_err(unreachable)
    }
}

fn acknowledged(answer: Option<Result<Answer, Failure>>) -> Result<(), Failure> {
    match answer {
        None | Some(Ok(Answer::Go { .. })) => Ok(()),
        Some(Ok(_)) => Err(unreachable("it answered something else than was asked")),
        Some(Err(error)) => Err(error),
    }
}
