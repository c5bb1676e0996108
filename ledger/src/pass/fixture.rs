//! Cities for tests: codes in a map, headers over it by hand, certified by whoever at whatever time.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_proto::v1::{self, CodeStatus};
use prost::Message as _;

use super::Pass;
use crate::genesis::{self, Chain};
use crate::hash::{self, Hash};
use crate::map::Warm;
use crate::state::MemoryState;
use crate::testing::{self, MEMBERS, START, certificate, public};
use crate::trust::Trust;
use crate::{canonical, code, map};

pub const HOUR: u64 = 3_600_000;
pub const DAY: u64 = 24 * HOUR;
/// When the passes of these tests are shown, unless said otherwise.
pub const NOW: u64 = START + 10 * DAY;
pub const SALT: [u8; 32] = [77; 32];
pub const ID_CARD: &[u8] = b"11010519491231002X";

/// A ledger.
#[derive(Debug, Clone)]
pub struct City {
    pub chain: Chain,
    pub changes: Vec<v1::EpochChange>,
    pub height: u64,
    /// The bytes that the keys of the members in force are made of.
    pub keys: Vec<u8>,
    members: v1::MemberSet,
    state: MemoryState,
    root: Hash,
}

pub fn code_of(n: u32) -> Hash {
    hash::plain(&n.to_be_bytes())
}

/// Green since the start, for 90 days, of an order, with a holder.
pub fn green() -> v1::CodeState {
    v1::CodeState {
        status: CodeStatus::Green.into(),
        sequence: 2,
        valid_from_ms: START,
        valid_until_ms: START + 90 * DAY,
        region: testing::REGION.to_owned(),
        order_id: hash::plain(b"order").to_bytes(),
        holder: code::holder_commitment(&SALT, ID_CARD).to_bytes(),
        previous: hash::plain(b"the state before").to_bytes(),
        ..Default::default()
    }
}

impl City {
    /// With the codes 0 to 999, all green.
    pub fn new(name: &str) -> City {
        let genesis = v1::Genesis {
            name: name.to_owned(),
            ..testing::genesis()
        };
        let chain = Chain::from_bytes(&canonical::encode(&genesis)).unwrap();
        let mut city = City {
            members: chain.members.clone(),
            chain,
            changes: Vec::new(),
            height: 100,
            keys: MEMBERS.to_vec(),
            state: MemoryState::default(),
            root: Hash::ZERO,
        };
        city.put((0..1_000).map(|n| (code_of(n), green())));
        city
    }

    pub fn put(&mut self, states: impl IntoIterator<Item = (Hash, v1::CodeState)>) {
        let pairs = states.into_iter().map(|(code, state)| {
            let key = map::map_key(code::NAMESPACE, code.as_bytes());
            (key, canonical::encode(&state))
        });
        self.put_pairs(pairs.collect());
    }

    /// `region` refuses to recognise an order of the ledger `chain_id`; the proof of that.
    pub fn refuse(
        &mut self,
        region: &str,
        chain_id: &Hash,
        order_id: &Hash,
        at_ms: u64,
    ) -> v1::MapReceipt {
        let key = code::order_refusal_key(&chain_id.0, &order_id.0, region);
        let refusal = v1::OrderRefusal {
            region: region.to_owned(),
            genesis_hash: chain_id.to_bytes(),
            order_id: order_id.to_bytes(),
            reason: "no ground".to_owned(),
        };
        let state = canonical::encode(&v1::OrderRefusalState {
            refusal: Some(refusal),
            ..Default::default()
        });
        let namespace = code::ORDER_REFUSAL_NAMESPACE;
        self.put_pairs([(map::map_key(namespace, &key), state)].into());
        let checkpoint = self.checkpoint(at_ms);
        v1::MapReceipt {
            epoch_changes: Vec::new(),
            ..self.map_receipt(namespace, &key, &checkpoint)
        }
    }

    fn put_pairs(&mut self, pairs: BTreeMap<Hash, Bytes>) {
        let writes;
        (self.root, writes) = map::update(&self.state, &Warm::new(0), &self.root, pairs).unwrap();
        self.state.commit(writes);
    }

    /// The header of the next block.
    pub fn header(&mut self, timestamp_ms: u64) -> v1::Header {
        self.height += 1;
        let members_hash = genesis::members_hash(&self.members).to_bytes();
        let at = |what: u64| hash::plain(&[what, self.height].map(u64::to_be_bytes).concat());
        v1::Header {
            chain_id: self.chain.id.to_bytes(),
            epoch: self.members.epoch,
            height: self.height,
            parent_hash: at(1).to_bytes(),
            timestamp_ms,
            term: 3,
            rules_version: 1,
            tree_size: 10 * self.height,
            log_root: at(2).to_bytes(),
            map_root: self.root.to_bytes(),
            outcomes_root: at(3).to_bytes(),
            next_members_hash: members_hash.clone(),
            members_hash,
            checkpoint: true,
        }
    }

    /// A header cosigned by these keys at these times.
    pub fn certify(&self, header: &v1::Header, signers: &[(u8, u64)]) -> v1::Checkpoint {
        let bytes = canonical::encode(header);
        certificate(&self.chain.id, bytes, signers.iter().copied())
    }

    /// The next checkpoint, cosigned by all at `at_ms`.
    pub fn checkpoint(&mut self, at_ms: u64) -> v1::Checkpoint {
        let header = self.header(at_ms);
        let signers: Vec<_> = self.keys.iter().map(|key| (*key, at_ms)).collect();
        self.certify(&header, &signers)
    }

    /// The member at `place` gets a new key.
    pub fn rotate(&mut self, place: usize, key: u8, at_ms: u64) {
        let mut next = self.members.clone();
        next.epoch += 1;
        next.members[place].cosign_key = public(key);
        let mut header = self.header(at_ms);
        header.next_members_hash = genesis::members_hash(&next).to_bytes();
        let signers: Vec<_> = self.keys.iter().map(|key| (*key, at_ms)).collect();
        self.changes.push(v1::EpochChange {
            checkpoint: Some(self.certify(&header, &signers)),
            next_members: Some(next.clone()),
        });
        self.keys[place] = key;
        self.members = next;
    }

    pub fn receipt(&self, code: &Hash, checkpoint: &v1::Checkpoint) -> v1::MapReceipt {
        self.map_receipt(code::NAMESPACE, code.as_bytes(), checkpoint)
    }

    fn map_receipt(
        &self,
        namespace: &str,
        key: &[u8],
        checkpoint: &v1::Checkpoint,
    ) -> v1::MapReceipt {
        let header = v1::Header::decode(&checkpoint.header[..]).unwrap();
        let root = Hash::from_slice(&header.map_root).unwrap();
        let epochs = usize::try_from(header.epoch).unwrap();
        let map_key = map::map_key(namespace, key);
        v1::MapReceipt {
            namespace: namespace.to_owned(),
            key: Bytes::copy_from_slice(key),
            proof: Some(map::prove(&self.state, &root, &map_key).unwrap()),
            checkpoint: Some(checkpoint.clone()),
            epoch_changes: self.changes[..epochs].to_vec(),
        }
    }

    pub fn pass(&self, code: &Hash, checkpoint: &v1::Checkpoint) -> Pass {
        Pass::of_receipt(&self.chain, &self.receipt(code, checkpoint)).unwrap()
    }

    /// The pass of a code with this state, the latest at `at_ms`.
    pub fn pass_of(&mut self, state: v1::CodeState, at_ms: u64) -> Pass {
        let code = code_of(0);
        self.put([(code, state)]);
        let checkpoint = self.checkpoint(at_ms);
        self.pass(&code, &checkpoint)
    }

    /// What a trust file says of this ledger.
    pub fn trusted(&self, checkpoint: &v1::Checkpoint) -> v1::TrustedLedger {
        v1::TrustedLedger {
            genesis: self.chain.bytes.clone(),
            epoch_changes: self.changes.clone(),
            checkpoint: Some(checkpoint.clone()),
        }
    }

    /// A trust file of this ledger alone, made at `at_ms`, for 30 days.
    pub fn trust(&mut self, at_ms: u64) -> Trust {
        let checkpoint = self.checkpoint(at_ms);
        Trust::of(file([self.trusted(&checkpoint)], at_ms + 30 * DAY)).unwrap()
    }
}

pub fn file(
    ledgers: impl IntoIterator<Item = v1::TrustedLedger>,
    not_after_ms: u64,
) -> v1::TrustFile {
    v1::TrustFile {
        ledgers: ledgers.into_iter().collect(),
        not_after_ms,
        refusals: Vec::new(),
    }
}
