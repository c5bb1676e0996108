//! A session: nodes to ask, and the one chain that is trusted.
//!
//! What holds here: the chain id is pinned by the user, never learned from a node; certificates and
//! map proofs are verified before they are returned; a node that does not answer is passed over for
//! the next, until the time is up. What stays out: submitting (`submit`), and what the verified
//! answers mean (`commands`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_ledger::checkpoint::{self, CertifiedCheckpoint, CertifyError};
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::verify::{self, VerifiedEntry, VerifiedValue, VerifyError};
use cairn_proto::v1;
use cairn_proto::v1::code_status_service_client::CodeStatusServiceClient;
use cairn_proto::v1::ledger_service_client::LedgerServiceClient;
use cairn_proto::v1::lottery_service_client::LotteryServiceClient;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::cli::Global;
use crate::exit::Failure;

pub use crate::submit::sign_entry;

/// The largest answer that is taken: a full block and its certificates, with room to spare.
const MAX_ANSWER: usize = 16 << 20;
/// A node that does not take the connection within this time is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// What may be on its way from a node before it must wait for this side, in bytes.
const WINDOW: u32 = 8 << 20;
/// The first pause before an answer is asked for again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Pauses grow up to this one.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Nodes to ask about one chain.
#[derive(Debug)]
pub struct Session {
    /// The chain that the user pinned.
    pub chain: Arc<Chain>,
    nodes: Nodes,
}

/// Nodes, one of which is asked until it fails.
#[derive(Debug)]
struct Nodes {
    all: Vec<(String, Channel)>,
    asked: AtomicUsize,
    timeout: Duration,
}

/// How an entry is named by users: by its id, or by its place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKey {
    /// 64 hex digits.
    Id(Hash),
    /// A number.
    Leaf(u64),
}

impl std::str::FromStr for EntryKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // No leaf index has 64 digits.
        if text.len() == 64 {
            return parse_hash(text).map(EntryKey::Id);
        }
        let leaf = text.parse::<u64>();
        leaf.map(EntryKey::Leaf)
            .map_err(|_| "must be an entry id (64 hex digits) or a leaf index".to_owned())
    }
}

impl std::fmt::Display for EntryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EntryKey::Id(id) => write!(f, "entry {id}"),
            EntryKey::Leaf(leaf) => write!(f, "leaf {leaf}"),
        }
    }
}

/// 32 bytes from 64 hex digits, for arguments.
pub fn parse_hash(text: &str) -> Result<Hash, String> {
    let bytes = hex::decode(text).ok();
    let hash = bytes.and_then(|bytes| Hash::from_slice(&bytes));
    hash.ok_or_else(|| "must be 64 hex digits".to_owned())
}

/// The chain id that the user pinned, by itself or by the genesis file.
pub fn pinned_chain_id(global: &Global) -> Result<Hash, Failure> {
    let given = global.chain_id.as_deref().map(|text| {
        let hash = parse_hash(text);
        hash.map_err(|what| Failure::Usage(format!("--chain-id {what}")))
    });
    let file = global.genesis.as_deref().map(read_genesis);
    let file = file.map(|chain| chain.map(|chain| chain.id));
    match (given.transpose()?, file.transpose()?) {
        (Some(given), Some(file)) if given != file => Err(Failure::Usage(format!(
            "--chain-id is {given}, but the genesis file is that of {file}; give one of the two"
        ))),
        (Some(id), _) | (None, Some(id)) => Ok(id),
        (None, None) => Err(Failure::Usage(
            "which ledger do you trust? Add --chain-id HEX, the chain id that the institutions \
             published, or --genesis FILE (or set CAIRN_CHAIN_ID or CAIRN_GENESIS)"
                .to_owned(),
        )),
    }
}

/// The chain that starts from the genesis in `path`.
pub fn read_genesis(path: &Path) -> Result<Chain, Failure> {
    let name = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Failed(format!("cannot read the genesis {name}: {error}")))?;
    Chain::from_bytes(&bytes)
        .map_err(|error| Failure::Failed(format!("{name} is no genesis: {error}")))
}

impl Nodes {
    fn new(global: &Global) -> Result<Nodes, Failure> {
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

    fn asked(&self) -> &(String, Channel) {
        &self.all[self.asked.load(Ordering::Relaxed) % self.all.len()]
    }

    async fn retry<T>(
        &self,
        what: &str,
        mut call: impl AsyncFnMut(Channel) -> Result<T, Status>,
    ) -> Result<T, Failure> {
        let mut patience = Patience::new(self.timeout);
        loop {
            let (url, channel) = self.asked();
            let status = match timeout_at(patience.deadline, call(channel.clone())).await {
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

    /// Turns to the next node, after a pause; fails when the time is up.
    async fn pass_over(
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

impl Session {
    /// Asks for the genesis and compares it with what the user pinned.
    pub async fn connect(global: &Global) -> Result<Session, Failure> {
        let pinned = pinned_chain_id(global)?;
        let nodes = Nodes::new(global)?;
        let answer = nodes.retry("asking for the genesis", async |channel| {
            let mut client = ledger_client(channel);
            client.get_genesis(v1::GetGenesisRequest {}).await
        });
        let genesis = answer.await?.into_inner().genesis;
        let url = &nodes.asked().0;
        let chain = Chain::from_bytes(&genesis).map_err(|error| {
            Failure::InvalidProof(format!("{url} answered with a bad genesis: {error}"))
        })?;
        if chain.id != pinned {
            let id = chain.id;
            return Err(Failure::InvalidProof(format!(
                "{url} keeps the ledger {id}, and you pinned {pinned}; ask a node of yours with \
                 --node URL"
            )));
        }
        Ok(Session {
            chain: Arc::new(chain),
            nodes,
        })
    }

    /// The node that is asked at present.
    pub fn node(&self) -> &str {
        &self.nodes.asked().0
    }

    /// The channel to the node that is asked at present.
    pub(crate) fn channel(&self) -> Channel {
        self.nodes.asked().1.clone()
    }

    /// How long things are tried.
    pub(crate) fn timeout(&self) -> Duration {
        self.nodes.timeout
    }

    /// Calls a node; where it does not answer the next one, until the time is up.
    pub async fn retry<T>(
        &self,
        what: &str,
        call: impl AsyncFnMut(Channel) -> Result<T, Status>,
    ) -> Result<T, Failure> {
        self.nodes.retry(what, call).await
    }

    /// Turns to the next node, after a pause; fails when the time is up.
    pub(crate) async fn pass_over(
        &self,
        what: &str,
        status: &Status,
        patience: &mut Patience,
    ) -> Result<(), Failure> {
        let last = format!("{}: {}", self.node(), sentence(status));
        self.nodes.pass_over(what, &last, patience).await
    }

    /// The newest certified checkpoint of the node that answers, verified.
    pub async fn checkpoint(&self) -> Result<CertifiedCheckpoint, Failure> {
        let answer = self.retry("asking for the newest checkpoint", async |channel| {
            let request = v1::GetCheckpointRequest { old_size: 0 };
            ledger_client(channel).get_checkpoint(request).await
        });
        let checkpoint = answer.await?.into_inner().checkpoint;
        self.certify(&checkpoint.unwrap_or_default())
    }

    /// Verifies a checkpoint that a node gave.
    pub fn certify(&self, checkpoint: &v1::Checkpoint) -> Result<CertifiedCheckpoint, Failure> {
        certify(&self.chain, checkpoint).map_err(|failure| failure.during(self.node()))
    }

    /// What the map holds under a key, or that it holds nothing: verified, and as fresh as the node
    /// that answers.
    pub async fn map_value(&self, namespace: &str, key: &[u8]) -> Result<VerifiedValue, Failure> {
        let (_, value) = self.map_receipt(namespace, key).await?;
        Ok(value)
    }

    /// The same, with the receipt that proves it.
    pub async fn map_receipt(
        &self,
        namespace: &str,
        key: &[u8],
    ) -> Result<(v1::MapReceipt, VerifiedValue), Failure> {
        let request = v1::GetMapProofRequest {
            namespace: namespace.to_owned(),
            key: Bytes::copy_from_slice(key),
        };
        let answer = self.retry("asking the map", async |channel| {
            ledger_client(channel).get_map_proof(request.clone()).await
        });
        let receipt = answer.await?.into_inner().receipt.unwrap_or_default();
        let value = verify::map_receipt(&self.chain, &receipt).map_err(refused)?;
        if value.namespace != namespace || value.key != key {
            let node = self.node();
            let message = format!("{node} proved another key than the one that was asked for");
            return Err(Failure::InvalidProof(message));
        }
        Ok((receipt, value))
    }

    /// An entry's receipt, verified: it is in the log, under a certified checkpoint.
    pub async fn receipt(&self, key: EntryKey) -> Result<(v1::Receipt, VerifiedEntry), Failure> {
        use v1::get_receipt_request::Key;
        let request = v1::GetReceiptRequest {
            key: Some(match key {
                EntryKey::Id(id) => Key::EntryId(id.to_bytes()),
                EntryKey::Leaf(leaf) => Key::LeafIndex(leaf),
            }),
        };
        let answer = self.retry("asking for a receipt", async |channel| {
            ledger_client(channel).get_receipt(request.clone()).await
        });
        let receipt = answer.await?.into_inner().receipt.unwrap_or_default();
        let entry = verify::receipt(&self.chain, &receipt, None).map_err(refused)?;
        let asked = match key {
            EntryKey::Id(id) => entry.id == id,
            EntryKey::Leaf(leaf) => entry.leaf_index == leaf,
        };
        if !asked {
            let node = self.node();
            return Err(Failure::InvalidProof(format!(
                "{node} proved another entry than {key}"
            )));
        }
        Ok((receipt, entry))
    }
}

/// A client of the ledger's service.
pub fn ledger_client(channel: Channel) -> LedgerServiceClient<Channel> {
    LedgerServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

/// A client of the lotteries' service.
pub fn lottery_client(channel: Channel) -> LotteryServiceClient<Channel> {
    LotteryServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

/// A client of the codes' service.
pub fn code_client(channel: Channel) -> CodeStatusServiceClient<Channel> {
    CodeStatusServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER)
}

/// Verifies a checkpoint against a chain.
pub fn certify(chain: &Chain, checkpoint: &v1::Checkpoint) -> Result<CertifiedCheckpoint, Failure> {
    checkpoint::certify(&chain.id, &chain.members, checkpoint).map_err(uncertified)
}

/// The exit that a certificate's fault leads to.
pub fn uncertified(error: CertifyError) -> Failure {
    match error {
        CertifyError::QuorumNotMet { .. } => Failure::QuorumNotMet(error.to_string()),
        _ => Failure::InvalidProof(error.to_string()),
    }
}

/// The exit that a proof's fault leads to.
pub fn refused(error: VerifyError) -> Failure {
    match error {
        VerifyError::Certificate(error) => uncertified(error),
        error => Failure::InvalidProof(error.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_named_by_id_or_by_leaf() {
        let id = "5c".repeat(32);
        let parsed = id.parse::<EntryKey>();
        assert_eq!(parsed, Ok(EntryKey::Id(Hash([0x5c; 32]))));
        assert_eq!("0".parse::<EntryKey>(), Ok(EntryKey::Leaf(0)));
        for bad in ["", "-1", "5c5c", &"z".repeat(64)] {
            assert!(bad.parse::<EntryKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(passes(&Status::unavailable("down")));
        assert!(!passes(&Status::invalid_argument("bad")));
        assert!(!passes(&Status::resource_exhausted("too large")));
        assert!(!passes(&Status::internal("broken")));
    }
}
