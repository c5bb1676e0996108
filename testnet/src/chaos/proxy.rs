//! Slow lines between nodes, for kernels without `netem`: every line is a proxy in this process.
//!
//! What holds here: bytes arrive in order and none is lost, each a while after it was sent. What a
//! lost packet looks like to a program, a stall, comes from the rules in `net`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::dice::Dice;

/// Bytes that are read at once, and how many such portions may be under way on a line.
const PORTION: usize = 16 << 10;
const UNDER_WAY: usize = 256;

/// All lines; they end with this.
#[derive(Debug, Default)]
pub struct Proxies {
    millis: Arc<AtomicU64>,
    jitter: Arc<AtomicU64>,
    lines: JoinSet<()>,
}

impl Proxies {
    /// Listens at `at` for connections that belong to `to`.
    pub async fn line(&mut self, at: SocketAddr, to: SocketAddr, dice: Dice) -> anyhow::Result<()> {
        let listener = TcpListener::bind(at).await;
        let listener = listener.with_context(|| format!("the proxy at {at}"))?;
        let (millis, jitter) = (self.millis.clone(), self.jitter.clone());
        self.lines.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let there = Pump::new(&millis, &jitter, &dice);
                let back = Pump::new(&millis, &jitter, &dice);
                connections.spawn(async move {
                    let Ok(far) = TcpStream::connect(to).await else {
                        return;
                    };
                    let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    // Either end that closes closes both.
                    tokio::select! {
                        () = there.run(near_in, far_out) => {}
                        () = back.run(far_in, near_out) => {}
                    }
                });
            }
        });
        Ok(())
    }

    /// How long every portion is under way from now on.
    pub fn delay(&self, millis: u64, jitter: u64) {
        self.millis.store(millis, Ordering::Relaxed);
        self.jitter.store(jitter, Ordering::Relaxed);
    }
}

/// One direction of one connection.
struct Pump {
    millis: Arc<AtomicU64>,
    jitter: Arc<AtomicU64>,
    dice: Dice,
}

impl Pump {
    fn new(millis: &Arc<AtomicU64>, jitter: &Arc<AtomicU64>, dice: &Dice) -> Pump {
        Pump {
            millis: millis.clone(),
            jitter: jitter.clone(),
            dice: dice.fork(),
        }
    }

    async fn run(self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let (sender, mut portions) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
        let read = async move {
            let mut arrives = Instant::now();
            loop {
                let mut portion = vec![0; PORTION];
                let Ok(length @ 1..) = from.read(&mut portion).await else {
                    return;
                };
                portion.truncate(length);
                let jitter = self.dice.below(self.jitter.load(Ordering::Relaxed) + 1);
                let wait = self.millis.load(Ordering::Relaxed) + jitter;
                // Nothing overtakes.
                arrives = arrives.max(Instant::now() + Duration::from_millis(wait));
                if sender.send((arrives, portion)).await.is_err() {
                    return;
                }
            }
        };
        let write = async {
            while let Some((arrives, portion)) = portions.recv().await {
                sleep_until(arrives).await;
                if to.write_all(&portion).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(read, write);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_line_keeps_order_and_takes_its_time() {
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let mut proxies = Proxies::default();
        let to = far.local_addr().unwrap();
        proxies.line(at, to, Dice::new(1)).await.unwrap();
        proxies.delay(60, 20);
        let mut near = TcpStream::connect(at).await.unwrap();
        let began = Instant::now();
        for byte in 0..100_u8 {
            near.write_all(&[byte]).await.unwrap();
        }
        let (mut end, _) = far.accept().await.unwrap();
        let mut all = [0; 100];
        end.read_exact(&mut all).await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(60));
        assert!(all.iter().copied().eq(0..100));
    }
}
