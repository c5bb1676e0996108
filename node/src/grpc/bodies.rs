//! Request bodies while they arrive: bounded in bytes and in time.
//!
//! What holds here: the bytes of messages that are not complete come out of one budget a listener,
//! of which one connection has a share; who sends slowly, or nothing, is answered and let go. So
//! strangers can hold little memory, and not for long. What stays out: how large one message may be
//! (tonic asks the service), and what is in it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use super::errors::{Failure, overloaded, reason};

/// Bytes of incomplete requests on one listener: what a node can spare, and enough for 15 entries
/// of the largest size that a genesis allows, or some ten thousand small ones, at the same moment.
const LISTENER_BYTES: usize = 64 << 20;
/// Of these, what one connection may have: three of the largest entries.
const CONNECTION_BYTES: usize = 16 << 20;
/// Long-lived streams of one connection; clients open one, or a few.
const CONNECTION_STREAMS: usize = 16;
/// A message has to arrive whole within this time: the largest at 3.5 MBit/s.
const MESSAGE_TIME: Duration = Duration::from_secs(10);
/// A stream of requests on which nothing comes for so long is ended; its client opens another. It
/// is longer than any outcome is waited for.
pub const IDLE_TIME: Duration = Duration::from_secs(60);

/// What all calls on one connection share.
#[derive(Debug, Clone)]
pub struct Connection {
    bytes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(CONNECTION_BYTES)),
            streams: Arc::new(Semaphore::new(CONNECTION_STREAMS)),
        }
    }
}

impl Connection {
    /// A place for a long-lived stream.
    pub fn stream(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = self.streams.clone().try_acquire_owned();
        place.map_err(|_| overloaded("this connection has too many streams open; end one first"))
    }
}

/// The budget of one listener.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LISTENER_BYTES)))
    }
}

impl Budget {
    /// `body`, bounded.
    pub fn bound(&self, body: Body, connection: Connection, calls: Messages) -> Bounded {
        Bounded {
            body,
            held: Held {
                connection: (connection.bytes, None),
                listener: (self.0.clone(), None),
            },
            messages: calls,
            frames: Frames::default(),
            due: Instant::now() + MESSAGE_TIME,
            timer: None,
        }
    }
}

/// What a body is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Messages {
    /// One message; the call begins when the body has ended.
    One,
    /// A stream of them, each taken up as it is complete.
    Many,
}

/// A body within its budget and its time.
#[derive(Debug)]
pub struct Bounded {
    body: Body,
    held: Held,
    messages: Messages,
    frames: Frames,
    due: Instant,
    /// Only where the body has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    /// Takes the bytes into account, and gives back those of messages that are complete.
    fn count(&mut self, data: &Bytes) -> Result<(), Status> {
        self.held.take(data.len())?;
        let Some(open) = self.frames.read(data) else {
            return Ok(());
        };
        if self.messages == Messages::Many {
            self.held.keep(open);
            let idle = open == 0;
            self.due = Instant::now() + if idle { IDLE_TIME } else { MESSAGE_TIME };
            self.timer = None;
        }
        Ok(())
    }

    fn late(&self) -> Status {
        if self.messages == Messages::Many && self.frames.between() {
            let message = "nothing was handed in on this stream for a minute; open another";
            let failure = Failure::new(Code::Unavailable, reason::STREAM_IDLE, message);
            return failure.retry_in(Duration::from_secs(1)).into();
        }
        let message = format!("the request did not arrive within {MESSAGE_TIME:?}");
        Failure::new(Code::DeadlineExceeded, reason::REQUEST_TOO_SLOW, message).into()
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let body = &mut *self;
        match Pin::new(&mut body.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let counted = frame.data_ref().map_or(Ok(()), |data| body.count(data));
                Poll::Ready(Some(counted.map(|()| frame)))
            }
            Poll::Ready(end) => Poll::Ready(end),
            Poll::Pending => {
                let due = body.due;
                let sleep = || Box::pin(tokio::time::sleep_until(due));
                let timer = body.timer.get_or_insert_with(sleep);
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(body.late()))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

type Share = (Arc<Semaphore>, Option<OwnedSemaphorePermit>);

/// Bytes taken from both budgets, given back when this is dropped.
#[derive(Debug)]
struct Held {
    connection: Share,
    listener: Share,
}

impl Held {
    fn take(&mut self, bytes: usize) -> Result<(), Status> {
        take(&mut self.connection, bytes).ok_or_else(|| {
            overloaded("this connection has too many bytes of requests under way")
        })?;
        take(&mut self.listener, bytes)
            .ok_or_else(|| overloaded("this node has too many bytes of requests under way"))
    }

    /// Gives back all but `bytes`.
    fn keep(&mut self, bytes: usize) {
        for (_, held) in [&mut self.connection, &mut self.listener] {
            if let Some(permit) = held {
                drop(permit.split(permit.num_permits().saturating_sub(bytes)));
            }
        }
    }
}

fn take((budget, held): &mut Share, bytes: usize) -> Option<()> {
    let bytes = u32::try_from(bytes).ok()?;
    let permit = budget.clone().try_acquire_many_owned(bytes).ok()?;
    match held {
        Some(held) => held.merge(permit),
        None => *held = Some(permit),
    }
    Some(())
}

/// A flag for compression and four bytes of length stand before each message.
const HEAD: usize = 5;

/// Where messages begin and end among the bytes.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD],
    head_len: usize,
    /// Bytes of the message that are still to come.
    left: usize,
}

impl Frames {
    /// Reads on. Where a message ended or began: how many bytes there are of one that is not
    /// complete.
    fn read(&mut self, data: &[u8]) -> Option<usize> {
        let mut rest = data;
        let mut began = None;
        while !rest.is_empty() {
            if self.between() {
                began = Some(rest.len());
            }
            if self.head_len < HEAD {
                let (&byte, behind) = rest.split_first()?;
                self.head[self.head_len] = byte;
                self.head_len += 1;
                rest = behind;
                if self.head_len == HEAD {
                    let [_, length @ ..] = self.head;
                    self.left = u32::from_be_bytes(length) as usize;
                }
            } else {
                let part = self.left.min(rest.len());
                self.left -= part;
                rest = &rest[part..];
            }
            if self.head_len == HEAD && self.left == 0 {
                self.head_len = 0;
                began = Some(0);
            }
        }
        began
    }

    /// Whether no message is under way.
    fn between(&self) -> bool {
        self.head_len == 0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
