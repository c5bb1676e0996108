//! Nodes: whom to ask, and for how long.
//!
//! What holds here: a node that does not answer is passed over for the next, with growing pauses,
//! until the time is up; an answer that no other node would change ends the call. What stays out:
//! whether an answer is true (`session`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::cli::Global;
use crate::exit::Failure;

/// A node that does not take the connection within this time is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A node that took the call and does not answer within this time is passed over, where there is
/// another one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream on which nothing comes for so long is given up. A node waits 10 s for an entry.
const SILENCE: Duration = Duration::from_secs(15);
/// What may be on its way from a node before it must wait for this side, in bytes.
const WINDOW: u32 = 8 << 20;
/// The first pause before an answer is asked for again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Pauses grow up to this one.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Nodes, one of which is asked until it fails.
#[derive(Debug)]
pub struct Nodes {
    all: Vec<(String, Channel)>,
    asked: AtomicUsize,
    timeout: Duration,
}

impl Nodes {
    /// The nodes that the command line names; connected when they are asked.
    pub fn new(global: &Global) -> Result<Nodes, Failure> {
        let all = global.nodes.iter().map(|url| {
            let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| {
                Failure::Usage(format!("--node {url} is no URL; write http://HOST:PORT"))
            })?;
            let channel = endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .tcp_nodelay(true)
                .connect_lazy();
            Ok((url.clone(), channel))
        });
        let all: Vec<_> = all.collect::<Result<_, Failure>>()?;
        if all.is_empty() {
            return Err(Failure::Usage("--node names no node".to_owned()));
        }
        Ok(Nodes {
            all,
            asked: AtomicUsize::new(0),
            timeout: global.timeout,
        })
    }

    /// The node that is asked at present: its URL, and the way to it.
    pub fn asked(&self) -> &(String, Channel) {
        &self.all[self.asked.load(Ordering::Relaxed) % self.all.len()]
    }

    /// How long things are tried.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Calls a node; where it does not answer the next one, until the time is up.
    pub async fn retry<T>(
        &self,
        what: &str,
        mut call: impl AsyncFnMut(Channel) -> Result<T, Status>,
    ) -> Result<T, Failure> {
        let mut patience = Patience::new(self.timeout);
        loop {
            let (url, channel) = self.asked();
            let answer = timeout(self.answer_timeout(&patience), call(channel.clone()));
            let status = match answer.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) if !passes(&status) => {
                    return Err(Failure::from(status).during(what));
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            let last = format!("{url}: {}", sentence(&status));
            self.pass_over(what, &last, &mut patience).await?;
        }
    }

    fn answer_timeout(&self, patience: &Patience) -> Duration {
        match self.all.len() {
            1 => patience.left(),
            _ => patience.left().min(ANSWER_TIMEOUT),
        }
    }

    /// Turns to the next node, after a pause; fails when the time is up.
    pub async fn pass_over(
        &self,
        what: &str,
        last: &str,
        patience: &mut Patience,
    ) -> Result<(), Failure> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if patience.pause().await {
            return Ok(());
        }
        let (nodes, seconds) = (self.all.len(), self.timeout.as_secs());
        Err(Failure::Failed(format!(
            "{what}: none of {nodes} node(s) answered within {seconds} s; last, {last}; name other \
             nodes with --node or wait longer with --timeout"
        )))
    }
}

/// How long and how often something is tried again.
#[derive(Debug)]
pub struct Patience {
    /// When it ends.
    pub deadline: Instant,
    pause: Duration,
}

impl Patience {
    /// From now on.
    pub fn new(timeout: Duration) -> Patience {
        Patience {
            deadline: Instant::now() + timeout,
            pause: FIRST_PAUSE,
        }
    }

    /// Waits a moment, each time a longer one; false where the time is up.
    pub async fn pause(&mut self) -> bool {
        if Instant::now() + self.pause >= self.deadline {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        true
    }

    /// What is left.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The next message of a stream on which a node sends without being asked again.
pub async fn next_message<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    let message = timeout(SILENCE, stream.message()).await;
    message.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
}

/// Whether another node, or the same a moment later, may answer.
pub fn passes(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::Aborted | Code::DeadlineExceeded => true,
        Code::ResourceExhausted => status.get_details_retry_info().is_some(),
        // Connections that broke arrive so.
        Code::Unknown | Code::Internal => std::error::Error::source(status).is_some(),
        _ => false,
    }
}

/// What a node or the connection to it said.
pub fn sentence(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(passes(&Status::unavailable("down")));
        assert!(!passes(&Status::invalid_argument("bad")));
        assert!(!passes(&Status::resource_exhausted("too large")));
        assert!(!passes(&Status::internal("broken")));
    }
}
