//! Raft's messages over the [`Network`] seam.
//!
//! What holds here: appends are pipelined in order on their own lane, bounded by count and bytes,
//! with a deadline for progress; heartbeats, votes, pre-votes and leader transfers go on the
//! control lane, where no append delays them; copies of the state have a lane of their own
//! (`snapshot::send`).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use futures::future::Either;
use futures::stream::{FuturesOrdered, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{
    NetworkError as RaftNetworkError, RPCError, ReplicationClosed, StreamingError, Timeout,
    Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest,
    VoteResponse,
};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use openraft::{EmptyNode, OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Io;
use crate::network::{Lane, Network, NetworkError};
use crate::snapshot::{Copies, SnapshotData, send};
use crate::types::{Entry, LogId, Types, Vote, from_bytes, to_bytes};

/// Entries of one append hold at most so many bytes (and at least one entry): a few blocks, so
/// that a slow link sees progress before [`PROGRESS_DEADLINE`].
pub const MAX_APPEND_BYTES: usize = 4 << 20;

/// Appends to one peer that wait for their answers: enough to keep a wire busy across one disk
/// sync, few enough that a peer that falls behind holds little memory here.
pub const MAX_APPENDS_IN_FLIGHT: usize = 8;

/// An append stream whose oldest request has no answer for so long is given up and started again.
pub const PROGRESS_DEADLINE: Duration = Duration::from_secs(5);

/// The first byte of a request on the control and append lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Vote = 1,
    PreVote = 2,
    Append = 3,
    TransferLeader = 4,
    Cosignature = 5,
    Epochs = 6,
    Recall = 7,
}

impl Kind {
    pub(crate) fn split(request: &Bytes) -> Option<(Kind, Bytes)> {
        let kind = match request.first()? {
            1 => Kind::Vote,
            2 => Kind::PreVote,
            3 => Kind::Append,
            4 => Kind::TransferLeader,
            5 => Kind::Cosignature,
            6 => Kind::Epochs,
            7 => Kind::Recall,
            _ => return None,
        };
        Some((kind, request.slice(1..)))
    }

    pub(crate) fn frame(self, body: &[u8]) -> Bytes {
        let mut frame = BytesMut::with_capacity(1 + body.len());
        frame.put_u8(self as u8);
        frame.put_slice(body);
        frame.freeze()
    }
}

/// Makes a client per peer.
pub struct RaftNetworks {
    me: u64,
    network: Arc<dyn Network>,
    copies: Arc<Copies>,
    io: Io,
}

impl RaftNetworks {
    /// For the node `me`.
    pub(crate) fn new(me: u64, network: Arc<dyn Network>, copies: Arc<Copies>, io: Io) -> Self {
        Self {
            me,
            network,
            copies,
            io,
        }
    }

    fn peer(&self, target: u64, appends: Lane) -> Peer {
        Peer {
            me: self.me,
            target,
            network: self.network.clone(),
            copies: self.copies.clone(),
            io: self.io,
            appends,
        }
    }
}

impl RaftNetworkFactory<Types> for RaftNetworks {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Peer {
        self.peer(target, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &EmptyNode) -> Peer {
        self.peer(target, Lane::Control)
    }
}

/// One peer, as Raft sees it.
#[derive(Clone)]
pub struct Peer {
    me: u64,
    target: u64,
    network: Arc<dyn Network>,
    copies: Arc<Copies>,
    io: Io,
    /// Where appends go. Never two lanes for one stream: the wire would reorder it.
    appends: Lane,
}

type Failure = RPCError<Types>;
type Answer = Result<AppendEntriesResponse<Types>, Failure>;

impl Peer {
    pub(crate) fn target(&self) -> u64 {
        self.target
    }

    pub(crate) fn network(&self) -> &Arc<dyn Network> {
        &self.network
    }

    pub(crate) fn copies(&self) -> &Arc<Copies> {
        &self.copies
    }

    pub(crate) fn io(&self) -> Io {
        self.io
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        lane: Lane,
        kind: Kind,
        action: RPCTypes,
        request: &Q,
        deadline: Duration,
    ) -> Result<A, Failure> {
        // As `Kind::frame` makes it; blocks are long, and copied once less.
        let frame =
            to_bytes(&(kind as u8, request)).map_err(|error| RaftNetworkError::new(&error))?;
        let call = self.network.call(self.target, lane, frame);
        let timed_out = || Timeout {
            action,
            id: self.me,
            target: self.target,
            timeout: deadline,
        };
        match tokio::time::timeout(deadline, call).await {
            Err(_) => Err(timed_out().into()),
            Ok(Err(NetworkError::TimedOut { .. })) => Err(timed_out().into()),
            Ok(Err(error)) => Err(Unreachable::new(&error).into()),
            Ok(Ok(answer)) => {
                from_bytes(&answer).map_err(|error| RaftNetworkError::new(&error).into())
            }
        }
    }

    fn append(
        &self,
        request: AppendEntriesRequest<Types>,
        deadline: Duration,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let peer = self.clone();
        async move {
            let (lane, kind) = (peer.appends, Kind::Append);
            peer.call(lane, kind, RPCTypes::AppendEntries, &request, deadline)
                .await
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Answer {
        self.append(request, option.hard_ttl()).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, Failure>>, Failure>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let pipeline = Pipeline {
            peer: self,
            input: Some(input),
            waiting: FuturesOrdered::new(),
            ranges: VecDeque::new(),
        };
        let answers = futures::stream::unfold(Some(pipeline), |pipeline| async move {
            let mut pipeline = pipeline?;
            let (answer, go_on) = pipeline.next().await?;
            Some((answer, go_on.then_some(pipeline)))
        });
        let answers: BoxStream<'s, _> = Box::pin(answers);
        Box::pin(async move { Ok(answers) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Failure> {
        self.call(
            Lane::Control,
            Kind::Vote,
            RPCTypes::Vote,
            &request,
            option.hard_ttl(),
        )
        .await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Failure> {
        self.call(
            Lane::Control,
            Kind::PreVote,
            RPCTypes::Vote,
            &request,
            option.hard_ttl(),
        )
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        send::send(self, vote, snapshot, cancel).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, Failure> {
        self.call(
            Lane::Control,
            Kind::TransferLeader,
            RPCTypes::TransferLeader,
            &request,
            option.hard_ttl(),
        )
        .await
    }
}

/// The log ids around one append: what it follows, and its last.
type Range = (Option<LogId>, Option<LogId>);

/// Requests on their way to one peer, and the answers awaited, in one order.
struct Pipeline<'s, S> {
    peer: &'s Peer,
    /// `None` when it ended.
    input: Option<S>,
    waiting: FuturesOrdered<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    ranges: VecDeque<Range>,
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Pipeline<'_, S> {
    /// The next answer, and whether more may follow. `None` when all is sent and answered.
    async fn next(&mut self) -> Option<(Result<StreamAppendResult<Types>, Failure>, bool)> {
        loop {
            let room = self.waiting.len() < MAX_APPENDS_IN_FLIGHT;
            let request = match &mut self.input {
                Some(input) if room => {
                    if self.waiting.is_empty() {
                        input.next().await
                    } else {
                        let answer = self.waiting.next();
                        match futures::future::select(input.next(), answer).await {
                            Either::Left((request, _)) => request,
                            Either::Right((answer, _)) => return self.answered(answer?),
                        }
                    }
                }
                _ => {
                    let answer = self.waiting.next().await?;
                    return self.answered(answer);
                }
            };
            match request {
                Some(request) => self.send(request),
                None => self.input = None,
            }
        }
    }

    fn send(&mut self, request: AppendEntriesRequest<Types>) {
        let last = request.entries.last().map(|entry: &Entry| entry.log_id);
        let last = last.or(request.prev_log_id);
        self.ranges.push_back((request.prev_log_id, last));
        // The deadline runs from sending, and answers come in order: the oldest request's is the
        // stream's.
        let call = self.peer.append(request, PROGRESS_DEADLINE);
        self.waiting.push_back(Box::pin(call));
    }

    fn answered(
        &mut self,
        answer: Answer,
    ) -> Option<(Result<StreamAppendResult<Types>, Failure>, bool)> {
        let (prev, last) = self.ranges.pop_front()?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Some((Err(error), false)),
        };
        let whole = match &answer {
            AppendEntriesResponse::PartialSuccess(upto) => *upto == last,
            AppendEntriesResponse::Success => true,
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => false,
        };
        if matches!(answer, AppendEntriesResponse::Conflict) && prev.is_none() {
            // Nothing before the first entry can conflict: the peer is broken.
            let error = RaftNetworkError::from_string("a conflict before the first entry");
            return Some((Err(error.into()), false));
        }
        Some((Ok(answer.into_stream_result(prev, last)), whole))
    }
}
