//! Clients in this process: they sign entries, hand them in over the public gRPC, and note what
//! they are told.
//!
//! Everything else in `cairn-testnet` runs the command `cairn` instead. Here some hundred entries a
//! second are wanted, and proofs of all of them, so this module links the ledger.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use cairn_ledger::entry::{self, Draft};
use cairn_ledger::genesis::Chain;
use cairn_ledger::{canonical, hash};
use cairn_proto::v1;
use cairn_proto::v1::ledger_service_client::LedgerServiceClient;
use ed25519_dalek::SigningKey;
use tokio::time::sleep;
use tonic::Status;
use tonic::codegen::tokio_stream;
use tonic::transport::{Channel, Endpoint};

use super::dice::Dice;
use super::oracle::{Oracle, Told};

/// One node's public face.
pub type Ledger = LedgerServiceClient<Channel>;

/// A block of the largest size, with its frame.
const MAX_MESSAGE: usize = 32 << 20;
const CONNECT: Duration = Duration::from_secs(1);
/// A node that is stopped does not answer; another one may.
const CALL: Duration = Duration::from_secs(4);
/// Between two answers on a stream.
const STREAM: Duration = Duration::from_secs(20);
/// So long an entry may be handed in again.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// Until a node is tried again that did not take an entry.
const PAUSE: Duration = Duration::from_millis(10);

/// Who hands in, and to whom.
#[derive(Debug, Clone)]
pub struct Client {
    pub chain: Chain,
    author: SigningKey,
    nodes: Vec<(u64, SocketAddr, Ledger)>,
}

fn connect(at: SocketAddr) -> anyhow::Result<Ledger> {
    let endpoint = Endpoint::from_shared(format!("http://{at}"))?;
    let channel = endpoint.connect_timeout(CONNECT).connect_lazy();
    Ok(LedgerServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}

impl Client {
    pub fn new(genesis: &Path, key: &Path, nodes: &[(u64, SocketAddr)]) -> anyhow::Result<Client> {
        let nodes = nodes.iter().map(|(id, at)| Ok((*id, *at, connect(*at)?)));
        Ok(Client {
            chain: Chain::from_bytes(&std::fs::read(genesis)?)?,
            author: read_key(key)?,
            nodes: nodes.collect::<anyhow::Result<_>>()?,
        })
    }

    /// The connection to one node.
    pub fn ledger(&self, raft_id: u64) -> anyhow::Result<Ledger> {
        Ok(self.node(raft_id)?.2.clone())
    }

    /// A new connection to one node.
    pub fn connect(&self, raft_id: u64) -> anyhow::Result<Ledger> {
        connect(self.node(raft_id)?.1)
    }

    fn node(&self, raft_id: u64) -> anyhow::Result<&(u64, SocketAddr, Ledger)> {
        let found = self.nodes.iter().find(|(id, _, _)| *id == raft_id);
        found.with_context(|| format!("no node {raft_id}"))
    }

    /// A new entry, and what will be promised of it: the place is not known yet.
    pub fn entry(&self, dice: &Dice) -> (v1::SignedEntry, Told) {
        self.entry_with(dice, "chaos")
    }

    /// The same, with this text in all its fields that take one.
    pub fn entry_with(&self, dice: &Dice, text: &str) -> (v1::SignedEntry, Told) {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&dice.next().to_be_bytes());
        nonce[8..].copy_from_slice(&dice.next().to_be_bytes());
        let document = hash::plain(&nonce);
        let body = v1::Evidence {
            hash: document.to_bytes(),
            media_type: "text/plain".to_owned(),
            title: text.to_owned(),
            custodian: text.to_owned(),
        };
        let draft = Draft {
            kind: v1::EntryKind::Evidence,
            visibility: v1::Visibility::Public,
            subject: document.to_bytes(),
            nonce,
            not_after_ms: after(LIFETIME),
            body: canonical::encode(&body),
        };
        let signed = entry::compose(&self.chain.id, draft, &self.author, &[]);
        let told = Told {
            id: hash::plain(&signed.envelope),
            leaf_hash: entry::leaf_hash(&signed.envelope, &signed.signatures),
            document,
            leaf_index: 0,
            height: 0,
        };
        (signed, told)
    }

    /// Hands one entry in at `raft_id`. `Err`: no promise was made, and why.
    pub async fn hand_in(
        &self,
        raft_id: u64,
        signed: &v1::SignedEntry,
        told: Told,
        wait_for: v1::WaitFor,
        oracle: &Oracle,
    ) -> anyhow::Result<Result<Told, String>> {
        let mut request = tonic::Request::new(v1::SubmitEntryRequest {
            entry: Some(signed.clone()),
            wait_for: wait_for.into(),
        });
        request.set_timeout(CALL);
        let mut ledger = self.ledger(raft_id)?;
        let status = match tokio::time::timeout(CALL, ledger.submit_entry(request)).await {
            Ok(Ok(answer)) => answer.into_inner().status.unwrap_or_default(),
            Ok(Err(refused)) => return Ok(Err(said(&refused))),
            Err(_) => return Ok(Err(format!("no answer in {CALL:?}"))),
        };
        let told = promised(raft_id, &status, told, oracle);
        let enough =
            wait_for != v1::WaitFor::Certified || status.state() == v1::EntryState::Certified;
        Ok(match told {
            Some(told) if enough => Ok(told),
            _ => Err(format!("it is {:?}", status.state())),
        })
    }

    /// Hands many entries in over one stream; how many were promised, from the first on, and why
    /// it ended before all were.
    pub async fn stream(
        &self,
        raft_id: u64,
        entries: &[(v1::SignedEntry, Told)],
        oracle: Option<&Oracle>,
    ) -> anyhow::Result<(usize, Option<String>)> {
        let requests: Vec<_> = entries
            .iter()
            .map(|(signed, _)| v1::SubmitEntriesRequest {
                entry: Some(signed.clone()),
                wait_for: v1::WaitFor::Committed.into(),
            })
            .collect();
        let mut ledger = self.ledger(raft_id)?;
        let mut done = 0;
        let call = ledger.submit_entries(tokio_stream::iter(requests));
        let mut answers = match tokio::time::timeout(STREAM, call).await {
            Ok(Ok(answers)) => answers.into_inner(),
            Ok(Err(refused)) => return Ok((done, Some(said(&refused)))),
            Err(_) => return Ok((done, Some(format!("no answer in {STREAM:?}")))),
        };
        while done < entries.len() {
            let status = match tokio::time::timeout(STREAM, answers.message()).await {
                Ok(Ok(Some(answer))) => answer.status.unwrap_or_default(),
                Ok(Ok(None)) => return Ok((done, Some("the stream ended".to_owned()))),
                Ok(Err(refused)) => return Ok((done, Some(said(&refused)))),
                Err(_) => return Ok((done, Some(format!("no answer in {STREAM:?}")))),
            };
            let told = entries[done].1;
            let kept = match oracle {
                Some(oracle) => promised(raft_id, &status, told, oracle).is_some(),
                None => promise(&status),
            };
            if !kept {
                return Ok((done, Some(format!("it is {:?}", status.state()))));
            }
            done += 1;
        }
        Ok((done, None))
    }

    /// Hands entries in, one after another, each at one node after another until it is promised.
    /// Ends when dropped.
    pub async fn write(self, dice: Dice, oracle: Oracle, pause: u64) -> anyhow::Result<()> {
        let ids: Vec<u64> = self.nodes.iter().map(|(id, _, _)| *id).collect();
        let mut last: Option<Told> = None;
        loop {
            let (signed, told) = self.entry(&dice);
            let wait_for = match dice.below(3) {
                0 => v1::WaitFor::Certified,
                _ => v1::WaitFor::Committed,
            };
            let told = loop {
                let id = *dice.pick(&ids).context("no nodes")?;
                match self.hand_in(id, &signed, told, wait_for, &oracle).await? {
                    // One in eight is asked again elsewhere: one place, one answer.
                    Ok(told) if dice.below(8) > 0 => break told,
                    Ok(_) => {}
                    Err(_) => sleep(PAUSE).await,
                }
            };
            if let Some(before) = last.replace(told)
                && before.leaf_index >= told.leaf_index
            {
                oracle.contradict(format!("{before:?} was promised before {told:?}"));
            }
            sleep(dice.millis(pause)).await;
        }
    }

    /// Hands in one new entry at `ids` in turn until it is certified; how long that took.
    pub async fn certified(
        &self,
        ids: &[u64],
        dice: &Dice,
        oracle: &Oracle,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let (signed, told) = self.entry(dice);
        for id in ids.iter().cycle() {
            let wait_for = v1::WaitFor::Certified;
            match self.hand_in(*id, &signed, told, wait_for, oracle).await? {
                Ok(_) => return Ok(began.elapsed()),
                Err(reason) if began.elapsed() > patience => bail!(
                    "nothing was certified at the nodes {ids:?} in {patience:?}; \
                     last, node {id}: {reason}"
                ),
                Err(_) => sleep(PAUSE).await,
            }
        }
        bail!("no node to write at")
    }
}

/// What a client may build on from now on, if the answer says so.
fn promised(raft_id: u64, status: &v1::EntryStatus, told: Told, oracle: &Oracle) -> Option<Told> {
    let told = Told {
        leaf_index: status.leaf_index,
        height: status.height,
        ..told
    };
    if status.state() == v1::EntryState::Rejected {
        let reason = status.reason();
        oracle.contradict(format!("node {raft_id} refused a valid entry: {reason:?}"));
    }
    promise(status).then(|| {
        oracle.tell(told, status.state() == v1::EntryState::Certified);
        told
    })
}

fn promise(status: &v1::EntryStatus) -> bool {
    let state = status.state();
    matches!(state, v1::EntryState::Committed | v1::EntryState::Certified)
}

fn said(refused: &Status) -> String {
    format!("{:?}: {}", refused.code(), refused.message())
}

fn after(time: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let then = now.unwrap_or_default() + time;
    u64::try_from(then.as_millis()).unwrap_or(u64::MAX)
}

fn read_key(path: &Path) -> anyhow::Result<SigningKey> {
    let line = std::fs::read_to_string(path)?;
    let digits = line.trim_end().strip_prefix("cairn-author-key-v1 ");
    let secret = digits.and_then(|digits| hex::decode(digits).ok());
    let secret = secret.and_then(|secret| <[u8; 32]>::try_from(secret).ok());
    let secret = secret.with_context(|| format!("{} is no author key", path.display()))?;
    Ok(SigningKey::from_bytes(&secret))
}
