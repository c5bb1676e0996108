//! A session: nodes to ask, and the one chain that is trusted.
//!
//! What holds here: the chain id is pinned by the user, never learned from a node; certificates and
//! map proofs are verified before they are returned. What stays out: which node answers (`nodes`),
//! submitting (`submit`), and what the verified answers mean (`commands`).

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cairn_ledger::checkpoint::{CertifiedCheckpoint, CertifyError};
use cairn_ledger::epochs::{EpochError, Epochs};
use cairn_ledger::equivocation::{self, EquivocationError, Proven};
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::verify::{self, VerifiedEntry, VerifiedValue, VerifyError};
use cairn_proto::v1;
use cairn_proto::v1::code_status_service_client::CodeStatusServiceClient;
use cairn_proto::v1::ledger_service_client::LedgerServiceClient;
use cairn_proto::v1::lottery_service_client::LotteryServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::cli::Global;
use crate::exit::Failure;
use crate::nodes::{Nodes, sentence};

pub use crate::nodes::{Patience, passes};
pub use crate::submit::sign_entry;

/// The largest answer that is taken: a full block and its certificates, with room to spare.
const MAX_ANSWER: usize = 16 << 20;

/// Nodes to ask about one chain.
#[derive(Debug)]
pub struct Session {
    /// The chain that the user pinned.
    pub chain: Arc<Chain>,
    /// Who certifies, as far as this session has had to know.
    epochs: Mutex<Epochs>,
    nodes: Nodes,
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
            epochs: Mutex::new(Epochs::of_genesis(&chain)),
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
        self.nodes.timeout()
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
        self.certify(&checkpoint.unwrap_or_default()).await
    }

    /// Verifies a checkpoint that a node gave. Where its members came in later than those that are
    /// known here, asks how they did.
    pub async fn certify(
        &self,
        checkpoint: &v1::Checkpoint,
    ) -> Result<CertifiedCheckpoint, Failure> {
        loop {
            let certified = self.epochs().certify(checkpoint);
            let known_epoch = match certified {
                Err(CertifyError::UnknownEpoch { known, .. }) => known,
                other => return other.map_err(|e| uncertified(e).during(self.node())),
            };
            if !self.learn(known_epoch).await? {
                let certified = self.epochs().certify(checkpoint);
                return certified.map_err(|e| uncertified(e).during(self.node()));
            }
        }
    }

    /// Verifies an equivocation that a node gave, like a checkpoint.
    pub async fn equivocation(&self, evidence: &v1::Equivocation) -> Result<Proven, Failure> {
        loop {
            let proven = equivocation::verify(&self.chain.id, &self.epochs(), evidence);
            if let Err(EquivocationError::UnknownEpoch { known, .. }) = proven
                && self.learn(known).await?
            {
                continue;
            }
            return proven.map_err(|e| Failure::InvalidProof(e.to_string()).during(self.node()));
        }
    }

    /// All changes of members that this session has had to know, from the genesis on.
    pub fn epoch_changes(&self) -> Vec<v1::EpochChange> {
        self.epochs().changes_after(0).to_vec()
    }

    /// Asks how the members changed after `known_epoch`. Whether anything was new.
    async fn learn(&self, known_epoch: u64) -> Result<bool, Failure> {
        let request = v1::GetEpochChangesRequest { known_epoch };
        let answer = self.retry("asking for changes of members", async |channel| {
            ledger_client(channel).get_epoch_changes(request).await
        });
        let changes = answer.await?.into_inner().epoch_changes;
        let learned = self.epochs().extend_all(&changes);
        learned.map_err(|e| unfollowed(&e).during(self.node()))
    }

    fn epochs(&self) -> MutexGuard<'_, Epochs> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The exit that a certificate's fault leads to.
pub fn uncertified(error: CertifyError) -> Failure {
    match error {
        CertifyError::QuorumNotMet { .. } => Failure::QuorumNotMet(error.to_string()),
        _ => Failure::InvalidProof(error.to_string()),
    }
}

/// The exit that a change of members leads to that cannot be followed.
fn unfollowed(error: &EpochError) -> Failure {
    if error.is_quorum_not_met() {
        Failure::QuorumNotMet(error.to_string())
    } else {
        Failure::InvalidProof(error.to_string())
    }
}

/// The exit that a proof's fault leads to.
pub fn refused(error: VerifyError) -> Failure {
    match error {
        VerifyError::Certificate(error) => uncertified(error),
        VerifyError::Members(error) => unfollowed(&error),
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
}
