//! A city in a folder: codes in a map, headers over it by hand, a node that proves one of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_ledger::checkpoint::{cosign, header_hash};
use cairn_ledger::hash::{self, Hash};
use cairn_ledger::map::Warm;
use cairn_ledger::pass::Pass;
use cairn_ledger::state::MemoryState;
use cairn_ledger::trust::Trust;
use cairn_ledger::{canonical, code, genesis, map};
use cairn_proto::v1;

use crate::ledger::Ledger;
use crate::node::{Answers, Node};

pub const HOUR: u64 = 3_600_000;
pub const DAY: u64 = 24 * HOUR;
pub const SALT: [u8; 32] = [5; 32];
pub const ID_CARD: &str = "11010519491231002X";

pub struct City {
    pub ledger: Ledger,
    state: MemoryState,
    root: Hash,
    /// When the city began.
    pub start: u64,
}

pub fn code_of(n: u32) -> Hash {
    hash::plain(&n.to_be_bytes())
}

impl City {
    /// The codes 0 to 99, all green but for code 1, which is red.
    pub fn new() -> City {
        let ledger = Ledger::new();
        let start = ledger.chain.genesis.created_at_ms;
        let pair = |n: u32| {
            let status = match n {
                1 => v1::CodeStatus::Red,
                _ => v1::CodeStatus::Green,
            };
            let state = v1::CodeState {
                status: status.into(),
                sequence: 1,
                valid_from_ms: start,
                valid_until_ms: start + 300 * DAY,
                region: "suzhou".to_owned(),
                holder: code::holder_commitment(&SALT, ID_CARD.as_bytes()).to_bytes(),
                ..Default::default()
            };
            let key = map::map_key(code::NAMESPACE, code_of(n).as_bytes());
            (key, canonical::encode(&state))
        };
        let pairs: BTreeMap<Hash, Bytes> = (0..100).map(pair).collect();
        let mut state = MemoryState::default();
        let (root, writes) = map::update(&state, &Warm::new(0), &Hash::ZERO, pairs).unwrap();
        state.commit(writes);
        City {
            ledger,
            state,
            root,
            start,
        }
    }

    /// The map holds this, too, from the next block on.
    pub fn put(&mut self, namespace: &str, key: &[u8], value: Bytes) {
        let pairs = BTreeMap::from([(map::map_key(namespace, key), value)]);
        let writes;
        (self.root, writes) = map::update(&self.state, &Warm::new(0), &self.root, pairs).unwrap();
        self.state.commit(writes);
    }

    /// A block, cosigned by all members at its time.
    pub fn checkpoint(&self, height: u64, at_ms: u64) -> v1::Checkpoint {
        let chain = &self.ledger.chain;
        let members_hash = genesis::members_hash(&chain.members).to_bytes();
        let other = hash::plain(&at_ms.to_be_bytes()).to_bytes();
        let header = canonical::encode(&v1::Header {
            chain_id: chain.id.to_bytes(),
            height,
            parent_hash: other.clone(),
            timestamp_ms: at_ms,
            rules_version: 1,
            tree_size: height,
            log_root: other.clone(),
            map_root: self.root.to_bytes(),
            outcomes_root: other,
            members_hash: members_hash.clone(),
            next_members_hash: members_hash,
            checkpoint: true,
            ..Default::default()
        });
        let hash = header_hash(&header);
        let keys = (1..=4).map(|raft_id| self.ledger.cosign_key(raft_id));
        let cosignatures = keys.map(|key| cosign(&key, &chain.id, &hash, at_ms));
        let mut cosignatures: Vec<_> = cosignatures.collect();
        cosignatures.sort_by(|a, b| a.public_key.cmp(&b.public_key));
        v1::Checkpoint {
            header,
            cosignatures,
        }
    }

    fn receipt(&self, namespace: &str, key: &[u8], checkpoint: v1::Checkpoint) -> v1::MapReceipt {
        let map_key = map::map_key(namespace, key);
        v1::MapReceipt {
            namespace: namespace.to_owned(),
            key: Bytes::copy_from_slice(key),
            proof: Some(map::prove(&self.state, &self.root, &map_key).unwrap()),
            checkpoint: Some(checkpoint),
            epoch_changes: Vec::new(),
        }
    }

    /// A pass of the second block, an hour after the start.
    pub fn pass(&self, n: u32) -> Pass {
        let checkpoint = self.checkpoint(2, self.start + HOUR);
        let receipt = self.receipt(code::NAMESPACE, &code_of(n).0, checkpoint);
        Pass::of_receipt(&self.ledger.chain, &receipt).unwrap()
    }

    /// A trust file of this block, for 30 days.
    pub fn trust_of(&self, height: u64, at_ms: u64) -> Vec<u8> {
        let ledger = v1::TrustedLedger {
            genesis: self.ledger.chain.bytes.clone(),
            epoch_changes: Vec::new(),
            checkpoint: Some(self.checkpoint(height, at_ms)),
        };
        let trust = Trust::of(v1::TrustFile {
            ledgers: vec![ledger],
            not_after_ms: at_ms + 30 * DAY,
            refusals: Vec::new(),
        });
        trust.unwrap().write().to_vec()
    }

    /// The path of a file of the first block.
    pub fn trust(&self) -> String {
        let bytes = self.trust_of(1, self.start);
        let path = self.ledger.write("gate.trust", &bytes);
        path.to_str().unwrap().to_owned()
    }

    /// A node that proves one code.
    pub fn node(&self, code: &Hash) -> Node {
        self.node_of(code::NAMESPACE, &code.0)
    }

    /// A node that proves what the map holds under one key.
    pub fn node_of(&self, namespace: &str, key: &[u8]) -> Node {
        let checkpoint = self.checkpoint(2, self.start + 1);
        Node::start(Answers {
            genesis: self.ledger.chain.bytes.to_vec(),
            map_receipt: self.receipt(namespace, key, checkpoint.clone()),
            checkpoint,
            ..Answers::default()
        })
    }

    /// A node that proves what the map holds under these keys, so long after the start, and says so
    /// of entries.
    pub fn node_of_all(
        &self,
        keys: &[(&str, Vec<u8>)],
        after_ms: u64,
        states: &[v1::EntryState],
    ) -> Node {
        let checkpoint = self.checkpoint(2, self.start + after_ms);
        let receipts = keys.iter();
        let receipts =
            receipts.map(|(namespace, key)| self.receipt(namespace, key, checkpoint.clone()));
        Node::start(Answers {
            genesis: self.ledger.chain.bytes.to_vec(),
            map_receipts: receipts.collect(),
            states: states.to_vec(),
            checkpoint: checkpoint.clone(),
            ..Answers::default()
        })
    }

    pub fn id(&self) -> String {
        self.ledger.chain.id.to_string()
    }
}
