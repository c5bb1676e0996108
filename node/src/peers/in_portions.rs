//! A libp2p stream as tokio reads and writes one.
//!
//! What holds here: what comes in goes through a portion of memory of its own. tokio_util's adapter
//! instead clears, before each read, all the room that the reader offers, and for a frame of 4 MiB that
//! comes in pieces of 16 KiB that is half a gigabyte.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead as _, AsyncWrite as _};
use libp2p::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// More than a frame of Yamux brings at once.
const PORTION: usize = 32 << 10;

/// The stream.
#[derive(Debug)]
pub struct InPortions {
    stream: Stream,
    portion: Box<[u8]>,
}

impl InPortions {
    /// Of this stream.
    pub fn new(stream: Stream) -> InPortions {
        InPortions {
            stream,
            portion: vec![0; PORTION].into(),
        }
    }
}

impl AsyncRead for InPortions {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let most = buf.remaining().min(PORTION);
        let stream = Pin::new(&mut this.stream);
        let read = ready!(stream.poll_read(cx, &mut this.portion[..most]))?;
        buf.put_slice(&this.portion[..read]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for InPortions {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(cx)
    }
}
