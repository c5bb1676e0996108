//! One lane to one peer: a long-lived stream of frames, requests one way and answers the other.
//!
//! What holds here: a frame is u32 length ‖ u64 id ‖ u8 mark ‖ payload, big-endian, and the length
//! is checked against the lane's bound before a byte is allocated for it. Requests are begun in
//! the order in which they were sent, and answered in that order; many may be outstanding. An
//! answer out of order ends the stream. What is queued is bounded in bytes and in number. A stream
//! that fails is opened anew; what was outstanding on it is told so, never sent twice.
//!
//! What stays out: connections (`transport`), and what the payloads mean (`cairn_consensus`).

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cairn_consensus::network::{Inbound, Lane, MAX_FRAME_BYTES, NetworkError};
use futures::future::{BoxFuture, Either};
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use libp2p::{Stream, StreamProtocol};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::codec::{Decoder, FramedRead};

use super::in_portions::InPortions;

/// The length, which does not count itself.
const LENGTH: usize = 4;
/// Id and mark.
const FRAME_HEAD: usize = 9;

/// How much of a refusal travels: enough for a reason and a number.
const MAX_REFUSAL: usize = 1024;

/// What a lane may use.
#[derive(Debug, Clone, Copy)]
pub struct LaneRules {
    /// The last part of its protocol name.
    pub name: &'static str,
    /// The longest payload.
    pub max_payload: usize,
    /// Payload bytes that wait or are outstanding, per peer and direction.
    pub max_queued_bytes: usize,
    /// Requests that wait or are outstanding, per peer and direction.
    pub max_outstanding: usize,
    /// When a call gives up.
    pub deadline: Duration,
}

/// The lanes, so that none blocks another.
pub const LANES: [Lane; 4] = [Lane::Control, Lane::Append, Lane::Forward, Lane::Snapshot];

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The rules of `lane`.
pub const fn rules(lane: Lane) -> LaneRules {
    match lane {
        // Votes, heartbeats, cosignatures: hundreds of bytes. The deadline lies below an election
        // timeout's double, so that a stuck heartbeat is noticed by a vote, not by this.
        Lane::Control => LaneRules {
            name: "control",
            max_payload: 256 * KIB,
            max_queued_bytes: 4 * MIB,
            max_outstanding: 256,
            deadline: Duration::from_millis(1_000),
        },
        // Blocks; an answer waits for the follower's disk.
        Lane::Append => LaneRules {
            name: "append",
            max_payload: MAX_FRAME_BYTES,
            max_queued_bytes: 64 * MIB,
            max_outstanding: 64,
            deadline: Duration::from_millis(4_000),
        },
        // Entries that clients handed in elsewhere; two of the largest batches may wait.
        Lane::Forward => LaneRules {
            name: "forward",
            max_payload: MAX_FRAME_BYTES,
            max_queued_bytes: 2 * MAX_FRAME_BYTES,
            max_outstanding: 256,
            deadline: Duration::from_millis(5_000),
        },
        // Chunks of a snapshot; an answer waits until one is on disk.
        Lane::Snapshot => LaneRules {
            name: "snapshot",
            max_payload: 8 * MIB,
            max_queued_bytes: 16 * MIB,
            max_outstanding: 8,
            deadline: Duration::from_secs(15),
        },
    }
}

/// The protocol of `lane` on the chain whose id begins with `chain_prefix`: nodes of another chain
/// do not even share a protocol.
pub fn protocol(chain_prefix: &str, lane: Lane) -> StreamProtocol {
    let name = format!("/cairn/1/{chain_prefix}/{}", rules(lane).name);
    match StreamProtocol::try_from_owned(name) {
        Ok(protocol) => protocol,
        Err(_) => StreamProtocol::new("/cairn/1/unnamed"),
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mark {
    Request = 0,
    Answer = 1,
    Refusal = 2,
}

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    id: u64,
    mark: Mark,
    payload: Bytes,
}

/// Frames on bytes, with the lane's bound.
#[derive(Debug)]
pub struct Frames {
    /// The longest payload.
    pub max_payload: usize,
}

fn malformed(detail: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail)
}

impl Decoder for Frames {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Frame>> {
        let Some(length) = src.first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length < FRAME_HEAD || length - FRAME_HEAD > self.max_payload {
            return Err(malformed(format!(
                "a frame of {length} bytes where {} are the most",
                self.max_payload + FRAME_HEAD
            )));
        }
        if src.len() < LENGTH + length {
            src.reserve(LENGTH + length - src.len());
            return Ok(None);
        }
        src.advance(LENGTH);
        let mut frame = src.split_to(length).freeze();
        let id = frame.get_u64();
        let mark = match frame.get_u8() {
            0 => Mark::Request,
            1 => Mark::Answer,
            2 => Mark::Refusal,
            other => return Err(malformed(format!("unknown mark {other}"))),
        };
        Ok(Some(Frame {
            id,
            mark,
            payload: frame,
        }))
    }
}

impl Frame {
    /// What stands before the payload.
    fn head(&self) -> io::Result<[u8; LENGTH + FRAME_HEAD]> {
        let length = u32::try_from(self.payload.len() + FRAME_HEAD)
            .map_err(|_| malformed("a frame above 4 GiB".to_owned()))?;
        let mut head = [0; LENGTH + FRAME_HEAD];
        let mut rest = &mut head[..];
        rest.put_u32(length);
        rest.put_u64(self.id);
        rest.put_u8(self.mark as u8);
        Ok(head)
    }

    /// Writes it. Short frames gather in the buffer; a long payload passes it by and is not copied.
    pub async fn write_to<W: AsyncWrite + Unpin>(
        &self,
        stream: &mut BufWriter<W>,
    ) -> io::Result<()> {
        stream.write_all(&self.head()?).await?;
        stream.write_all(&self.payload).await
    }
}

/// The two directions of a stream.
type Reading = FramedRead<ReadHalf<InPortions>, Frames>;
type Writing = BufWriter<WriteHalf<InPortions>>;

fn framed(stream: Stream, lane: Lane) -> (Reading, Writing) {
    let max_payload = rules(lane).max_payload;
    let (reading, writing) = tokio::io::split(InPortions::new(stream));
    let frames = FramedRead::new(reading, Frames { max_payload });
    (frames, BufWriter::new(writing))
}

/// A request on its way, and what it holds of the lane's bounds until it is answered.
#[derive(Debug)]
pub struct Outgoing {
    request: Bytes,
    reply: oneshot::Sender<Result<Bytes, NetworkError>>,
    _bytes: OwnedSemaphorePermit,
    _slot: OwnedSemaphorePermit,
}

impl Outgoing {
    /// Tells the caller that it was not answered.
    pub fn fail(self, error: NetworkError) {
        let _ = self.reply.send(Err(error));
    }
}

/// The near end of a lane to one peer.
#[derive(Debug, Clone)]
pub struct LaneQueue {
    queue: mpsc::Sender<Outgoing>,
    bytes: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    max_payload: usize,
    peer: u64,
}

impl LaneQueue {
    /// An empty queue, and the end that [`exchange`] drains.
    pub fn new(lane: Lane, peer: u64) -> (LaneQueue, mpsc::Receiver<Outgoing>) {
        let rules = rules(lane);
        let (queue, drain) = mpsc::channel(rules.max_outstanding);
        let queue = LaneQueue {
            queue,
            bytes: Arc::new(Semaphore::new(rules.max_queued_bytes)),
            slots: Arc::new(Semaphore::new(rules.max_outstanding)),
            max_payload: rules.max_payload,
            peer,
        };
        (queue, drain)
    }

    /// Sends one request and awaits its answer. The caller brings the deadline. It takes its place
    /// in the order in its first poll, without awaiting anything before: whatever awaits may be
    /// made to wait by tokio's budget, and later requests would overtake it. So a lane that is full
    /// turns requests away.
    pub async fn call(&self, request: Bytes) -> Result<Bytes, NetworkError> {
        let answer = self.enqueue(request)?;
        let ended = "the stream ended before the answer";
        answer
            .await
            .unwrap_or_else(|_| Err(self.unreachable(ended)))
    }

    fn enqueue(&self, request: Bytes) -> Result<Answer, NetworkError> {
        if request.len() > self.max_payload {
            return Err(NetworkError::TooLarge {
                bytes: request.len(),
                limit: self.max_payload,
            });
        }
        let full = |_| self.unreachable("too many requests wait for this peer");
        // At most `max_payload`, which fits.
        let weight = u32::try_from(request.len()).unwrap_or(u32::MAX);
        let slot = self.slots.clone().try_acquire_owned().map_err(full)?;
        let bytes = self.bytes.clone().try_acquire_many_owned(weight);
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing {
            request,
            reply,
            _bytes: bytes.map_err(full)?,
            _slot: slot,
        };
        // There are as many places as slots, so only a closed queue refuses.
        let closed = |_| self.unreachable("this node is shutting down");
        self.queue.try_send(outgoing).map_err(closed)?;
        Ok(answer)
    }

    fn unreachable(&self, detail: &str) -> NetworkError {
        NetworkError::Unreachable {
            peer: self.peer,
            detail: detail.to_owned(),
        }
    }
}

type Answer = oneshot::Receiver<Result<Bytes, NetworkError>>;

/// Requests that were written and not yet answered, oldest first.
type Outstanding = Mutex<VecDeque<(u64, Instant, Outgoing)>>;

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends what `queue` brings over `stream` and hands answers back, until the stream fails. `heard`
/// is called for every frame that comes in. Returns why it ended; `None`: the queue was closed.
pub async fn exchange(
    stream: Stream,
    (peer, lane): (u64, Lane),
    queue: &mut mpsc::Receiver<Outgoing>,
    heard: impl Fn(),
) -> Option<String> {
    let outstanding = Outstanding::default();
    let (mut answers, mut requests) = framed(stream, lane);

    let write = async {
        let mut id = 0_u64;
        while let Some(first) = queue.recv().await {
            let mut next = Some(first);
            while let Some(outgoing) = next {
                // Nobody waits any more: its deadline passed in the queue.
                if !outgoing.reply.is_closed() {
                    let payload = outgoing.request.clone();
                    locked(&outstanding).push_back((id, Instant::now(), outgoing));
                    let mark = Mark::Request;
                    let request = Frame { id, mark, payload };
                    if let Err(e) = request.write_to(&mut requests).await {
                        return Some(e.to_string());
                    }
                    id += 1;
                }
                next = queue.try_recv().ok();
            }
            if let Err(e) = requests.flush().await {
                return Some(e.to_string());
            }
        }
        None
    };
    let read = async {
        loop {
            let frame = match answers.next().await {
                Some(Ok(frame)) => frame,
                Some(Err(e)) => return Some(e.to_string()),
                None => return Some("the peer closed the stream".to_owned()),
            };
            heard();
            let oldest = locked(&outstanding).pop_front();
            let Some((id, _, outgoing)) = oldest else {
                return Some("an answer to no request".to_owned());
            };
            if id != frame.id || frame.mark == Mark::Request {
                return Some(format!("answer {} where {id} was due", frame.id));
            }
            let answer = if frame.mark == Mark::Answer {
                Ok(frame.payload)
            } else {
                Err(String::from_utf8_lossy(&frame.payload).into_owned())
            };
            let refused = |detail| NetworkError::Refused { peer, detail };
            let _ = outgoing.reply.send(answer.map_err(refused));
        }
    };
    // Callers give up after the deadline; a stream on which nothing moved for twice that is dead.
    let stalled = async {
        let patience = rules(lane).deadline * 2;
        loop {
            tokio::time::sleep(patience / 4).await;
            let oldest = locked(&outstanding).front().map(|(_, sent, _)| *sent);
            if oldest.is_some_and(|sent| sent.elapsed() > patience) {
                return Some(format!("no answer for {patience:?}"));
            }
        }
    };
    tokio::select! {
        ended = write => ended,
        ended = read => ended,
        ended = stalled => ended,
    }
}

/// An answer to come, and how long its request was.
type Answering = Either<Ready<(Frame, usize)>, BoxFuture<'static, (Frame, usize)>>;

/// Answers what `from` asks over `stream`, until it ends. Each request is begun (polled once)
/// before the next is read, and answers leave in the order of requests.
pub async fn serve(
    stream: Stream,
    lane: Lane,
    from: u64,
    inbound: Arc<dyn Inbound>,
    heard: impl Fn(),
) -> io::Result<()> {
    let rules = rules(lane);
    let (mut frames, mut answers) = framed(stream, lane);
    let mut running = FuturesOrdered::<Answering>::new();
    // Bytes of requests under way.
    let mut held = 0;
    loop {
        let room = running.len() < rules.max_outstanding && held < rules.max_queued_bytes;
        tokio::select! {
            biased;
            Some((answer, bytes)) = running.next() => {
                held -= bytes;
                answer.write_to(&mut answers).await?;
                while let Some(Some((answer, bytes))) = running.next().now_or_never() {
                    held -= bytes;
                    answer.write_to(&mut answers).await?;
                }
                answers.flush().await?;
            }
            frame = frames.next(), if room => {
                let Some(frame) = frame else { return Ok(()) };
                let Frame { id, mark, payload } = frame?;
                if mark != Mark::Request {
                    return Err(malformed("an answer where a request was due".to_owned()));
                }
                heard();
                let bytes = payload.len();
                held += bytes;
                let inbound = inbound.clone();
                // Unconstrained: with tokio's budget spent, a first poll would begin nothing, and
                // the next request could overtake this one.
                let work = tokio::task::unconstrained(async move {
                    let answer = inbound.handle(from, lane, payload).await;
                    (answer_frame(id, answer, rules.max_payload), bytes)
                });
                let mut work: BoxFuture<'static, (Frame, usize)> = Box::pin(work);
                running.push_back(match futures::poll!(&mut work) {
                    std::task::Poll::Ready(answer) => Either::Left(ready(answer)),
                    std::task::Poll::Pending => Either::Right(work),
                });
            }
        }
    }
}

fn answer_frame(id: u64, answer: Result<Bytes, String>, limit: usize) -> Frame {
    let refusal = |detail: String| {
        let mut payload = Bytes::from(detail.into_bytes());
        payload.truncate(MAX_REFUSAL);
        Frame {
            id,
            mark: Mark::Refusal,
            payload,
        }
    };
    match answer {
        Ok(payload) if payload.len() <= limit => Frame {
            id,
            mark: Mark::Answer,
            payload,
        },
        Ok(payload) => refusal(format!(
            "an answer of {} bytes where {limit} are the most",
            payload.len()
        )),
        Err(detail) => refusal(detail),
    }
}
