//! One small ledger for tests: its genesis, its members' keys, and entries to record.

use std::sync::Arc;

use bytes::Bytes;
use cairn_ledger::admission::{self, Admitted};
use cairn_ledger::canonical;
use cairn_ledger::entry::{self, Draft};
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash;
use cairn_proto::v1;
use ed25519_dalek::SigningKey;

/// 2026-01-01: when the ledger and every simulation begin.
pub const EPOCH_MS: u64 = 1_767_225_600_000;
/// Ten years: the fixture's entries outlive every clock that a test may have.
const LIFETIME_MS: u64 = 10 * 366 * 86_400_000;

/// A checkpoint is forced after so many blocks, and so many milliseconds.
pub const CHECKPOINT_EVERY: (u32, u64) = (100, 10_000);

/// The ledger.
pub struct Ledger {
    pub chain: Arc<Chain>,
}

/// A key for each number.
fn key(number: u64) -> SigningKey {
    SigningKey::from_bytes(hash::plain(&number.to_be_bytes()).as_bytes())
}

fn public(key: &SigningKey) -> Bytes {
    Bytes::copy_from_slice(key.verifying_key().as_bytes())
}

const AUTHOR: u64 = 1_000;
/// Above these, a member's office by its number.
const OFFICES: u64 = 2_000;

impl Ledger {
    /// With so many members; `threshold` cosignatures certify, by default as many as are safe.
    pub fn new(members: u64, threshold: Option<u32>) -> Self {
        Self::with_checkpoints(members, threshold, CHECKPOINT_EVERY)
    }

    /// With checkpoints forced after so many blocks, and so many milliseconds.
    pub fn with_checkpoints(members: u64, threshold: Option<u32>, every: (u32, u64)) -> Self {
        let roles = [v1::Role::Notary, v1::Role::Government, v1::Role::Institute];
        let member = |raft_id: u64| v1::Member {
            raft_id,
            institution: format!("institution {raft_id}"),
            role: roles[usize::try_from(raft_id % 3).unwrap()] as i32,
            cosign_key: public(&key(raft_id)),
            peer_id: Bytes::copy_from_slice(&raft_id.to_be_bytes()),
            office_key: public(&key(OFFICES + raft_id)),
            ..v1::Member::default()
        };
        let office = |raft_id: u64| v1::Author {
            public_key: public(&key(OFFICES + raft_id)),
            name: format!("institution {raft_id}"),
            role: roles[usize::try_from(raft_id % 3).unwrap()] as i32,
        };
        let mut authors: Vec<v1::Author> = (1..=members).map(office).collect();
        authors.push(v1::Author {
            public_key: public(&key(AUTHOR)),
            name: "client".to_owned(),
            role: v1::Role::Organiser as i32,
        });
        authors.sort_by(|a, b| a.public_key.cmp(&b.public_key));
        let safe = u32::try_from(members.div_ceil(2) + 1).unwrap();
        let genesis = v1::Genesis {
            name: "simulation".to_owned(),
            created_at_ms: EPOCH_MS,
            rules_version: 1,
            members: Some(v1::MemberSet {
                epoch: 0,
                members: (1..=members).map(member).collect(),
                policy: Some(v1::QuorumPolicy {
                    threshold: threshold.unwrap_or(safe),
                    min_roles: 1,
                    detect_only: threshold.is_some(),
                }),
            }),
            limits: Some(v1::Limits {
                max_entry_bytes: 1 << 20,
                max_block_entries: 1_000,
                max_block_bytes: 4 << 20,
                max_entry_lifetime_ms: LIFETIME_MS,
                checkpoint_every_blocks: every.0,
                checkpoint_every_ms: every.1,
            }),
            authors,
            mandates: Vec::new(),
            mandate_policy: None,
        };
        let chain = Chain::from_bytes(&canonical::encode(&genesis)).unwrap();
        Self {
            chain: Arc::new(chain),
        }
    }

    /// A member's cosigning key.
    pub fn cosign_key(&self, raft_id: u64) -> SigningKey {
        key(raft_id)
    }

    /// A member that is to get this number.
    #[allow(dead_code)] // Not every test that uses this fixture changes members.
    pub fn newcomer(&self, raft_id: u64) -> v1::Member {
        v1::Member {
            raft_id: 0,
            institution: format!("institution {raft_id}"),
            role: v1::Role::Institute as i32,
            cosign_key: public(&key(raft_id)),
            peer_id: Bytes::copy_from_slice(&raft_id.to_be_bytes()),
            office_key: public(&key(OFFICES + raft_id)),
            ..v1::Member::default()
        }
    }

    /// A change of members, signed by the offices of these.
    #[allow(dead_code)] // Not every test that uses this fixture changes members.
    pub fn change(&self, next: &v1::MemberSet, signers: &[u64]) -> Admitted {
        let body = canonical::encode(&v1::MembershipChange {
            next_members: Some(next.clone()),
        });
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&next.epoch.to_be_bytes());
        let draft = Draft {
            kind: v1::EntryKind::MembershipChange,
            visibility: v1::Visibility::Public,
            subject: Bytes::new(),
            nonce,
            not_after_ms: EPOCH_MS + LIFETIME_MS / 2,
            body,
        };
        let keys: Vec<SigningKey> = signers.iter().map(|id| key(OFFICES + id)).collect();
        let approvers: Vec<&SigningKey> = keys[1..].iter().collect();
        let signed = entry::compose(&self.chain.id, draft, &keys[0], &approvers);
        admission::admit(&self.chain, signed).unwrap()
    }

    /// A document of its own for each pair of numbers; all have the same length.
    pub fn evidence(&self, client: u64, number: u64) -> Admitted {
        let nonce = [client.to_be_bytes(), number.to_be_bytes()].concat();
        let document = hash::plain(&nonce);
        let body = canonical::encode(&v1::Evidence {
            hash: document.to_bytes(),
            media_type: "text/plain".to_owned(),
            title: "a document".to_owned(),
            custodian: "a client".to_owned(),
        });
        let draft = Draft {
            kind: v1::EntryKind::Evidence,
            visibility: v1::Visibility::Public,
            subject: document.to_bytes(),
            nonce: nonce.try_into().unwrap(),
            not_after_ms: EPOCH_MS + LIFETIME_MS / 2,
            body,
        };
        let signed = entry::compose(&self.chain.id, draft, &key(AUTHOR), &[]);
        admission::admit(&self.chain, signed).unwrap()
    }
}
