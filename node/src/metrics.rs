//! Metrics for Prometheus, on an address of their own if one is set.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cairn_consensus::Core;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Scrapes at once; one or two collectors ask every few seconds.
const MAX_SCRAPES: usize = 8;
/// A scrape that takes longer is dropped.
const SCRAPE_DEADLINE: Duration = Duration::from_secs(5);
/// The request line and headers of a scrape.
const MAX_REQUEST: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: String,
    code: String,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {
    calls: Family<Call, Counter>,
    applied: Gauge,
    certified: Gauge,
    queued: Gauge,
    pending: Gauge,
    uncertified: Gauge,
    peers: Gauge,
    equivocations: Gauge,
    leader: Gauge,
    stopped: Gauge,
}

impl Metrics {
    /// One call was answered.
    pub fn call(&self, method: &str, code: tonic::Code) {
        let call = Call {
            method: method.to_owned(),
            code: format!("{code:?}"),
        };
        self.calls.get_or_create(&call).inc();
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("cairn");
        let mut gauge = |name, help, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("applied_height", "Blocks applied here", &self.applied);
        gauge(
            "certified_height",
            "Highest certified checkpoint",
            &self.certified,
        );
        gauge(
            "queued_entries",
            "Entries in the leader's queue here",
            &self.queued,
        );
        gauge(
            "pending_entries",
            "Entries handed in here without outcome",
            &self.pending,
        );
        gauge(
            "uncertified_bytes",
            "Bytes of proposals above the last certificate",
            &self.uncertified,
        );
        gauge("connected_peers", "Members connected", &self.peers);
        gauge(
            "equivocations",
            "Contradicting cosignatures held; above 0, raise the alarm",
            &self.equivocations,
        );
        gauge("is_leader", "1 on the leader", &self.leader);
        gauge(
            "stopped",
            "1 where this node stopped taking part; its log says why",
            &self.stopped,
        );
        let help = "Calls answered, by method and gRPC code";
        registry.register("rpc_calls", help, self.calls.clone());
        registry
    }

    fn observe(&self, core: &Core) {
        let status = core.status();
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.applied, status.applied_height);
        set(&self.certified, status.certified_height.unwrap_or(0));
        set(&self.queued, status.queued_entries);
        set(&self.pending, status.pending_entries);
        set(&self.uncertified, status.uncertified_bytes);
        let connected = status.peers.iter().filter(|peer| peer.connected).count();
        set(&self.peers, connected as u64);
        set(&self.equivocations, status.equivocations);
        set(&self.leader, u64::from(status.raft_state == "leader"));
        set(&self.stopped, u64::from(status.stopped.is_some()));
    }
}

/// Answers scrapes on `listener` for ever. Any request gets the metrics.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, core: Core) {
    let registry = Arc::new(metrics.registry());
    let places = Arc::new(Semaphore::new(MAX_SCRAPES));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: not worth a busy loop.
                tracing::warn!(%error, "metrics: accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        metrics.observe(&core);
        let registry = registry.clone();
        tokio::spawn(async move {
            let scrape = tokio::time::timeout(SCRAPE_DEADLINE, answer(stream, &registry));
            if let Ok(Err(error)) = scrape.await {
                tracing::debug!(%error, "metrics: scrape");
            }
            drop(place);
        });
    }
}

async fn answer(mut stream: TcpStream, registry: &Registry) -> anyhow::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut part = [0; 512];
        let read = stream.read(&mut part).await?;
        anyhow::ensure!(read > 0, "the request ended early");
        request.extend_from_slice(&part[..read]);
        anyhow::ensure!(request.len() <= MAX_REQUEST, "the request is too long");
    }
    let mut body = String::new();
    encode(&mut body, registry).context("encoding")?;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/openmetrics-text; version=1.0.0; \
         charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}
