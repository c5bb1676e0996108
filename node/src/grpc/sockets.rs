//! Clients' connections: bounded in number, and dropped where nothing is ever said on them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::bodies::Connection;

/// Connections at once on one listener. Each costs a file descriptor and some tens of kilobytes;
/// further ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 2_048;
/// A connection on which no byte came for so long after it was made makes room for another.
pub const FIRST_BYTE: Duration = Duration::from_secs(10);
/// When accepting fails there are no file descriptors left, and trying at once would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One connection, and its place among [`MAX_CONNECTIONS`].
pub struct Socket {
    stream: TcpStream,
    /// Until the first byte.
    silence: Option<Pin<Box<Sleep>>>,
    connection: Connection,
    _place: OwnedSemaphorePermit,
}

/// The connections that `listener` accepts, with `first_byte` as their [`FIRST_BYTE`].
pub fn accept(
    listener: TcpListener,
    first_byte: Duration,
) -> impl Stream<Item = io::Result<Socket>> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    stream::unfold((listener, places), move |(listener, places)| async move {
        let place = places.clone().acquire_owned().await.ok()?;
        loop {
            let accepted = listener.accept().await;
            // Answers are small and awaited: none may wait to be joined with the next.
            let accepted = accepted.and_then(|(s, _)| s.set_nodelay(true).map(|()| s));
            match accepted {
                Ok(stream) => {
                    let socket = Socket {
                        stream,
                        silence: Some(Box::pin(tokio::time::sleep(first_byte))),
                        connection: Connection::default(),
                        _place: place,
                    };
                    return Some((Ok(socket), (listener, places)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

impl Connected for Socket {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        let read = Pin::new(&mut socket.stream).poll_read(cx, buf);
        if read.is_ready() {
            socket.silence = None;
        } else if let Some(silence) = &mut socket.silence
            && silence.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_dropped_and_one_that_did_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = Box::pin(accept(listener, SHORT));
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut silent = sockets.next().await.unwrap().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut spoken = sockets.next().await.unwrap().unwrap();
        client.write_all(b"x").await.unwrap();
        let mut byte = [0];
        spoken.read_exact(&mut byte).await.unwrap();

        let dropped = silent.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(dropped.kind(), io::ErrorKind::TimedOut);
        let kept = tokio::time::timeout(SHORT * 2, spoken.read_exact(&mut byte));
        assert!(kept.await.is_err(), "still waiting for the second byte");
    }
}
