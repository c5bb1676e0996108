//! A ledger for tests: four institutions, authors of each role, two mandates, blocks in memory.
//!
//! Keys come from fixed bytes, nonces from a counter: a test that fails fails again.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use cairn_proto::schema::Described;
use cairn_proto::v1::{self, CodeStatus, EntryKind, RejectReason, Role, Visibility};
use ed25519_dalek::SigningKey;
use prost::Message;

use crate::apply::{self, Applied, ApplyError, Kept, Proposal};
use crate::entry::{self, Draft};
use crate::genesis::Chain;
use crate::hash::{self, Hash};
use crate::log::{self, TreeId};
use crate::lottery::OpenRosters;
use crate::map::Warm;
use crate::state::MemoryState;
use crate::{canonical, checkpoint, evidence, map, members};

// Authors, by the byte that their keys are made of.
pub const ORGANISER: u8 = 1;
pub const NOTARY: u8 = 2;
pub const REGISTRAR: u8 = 3;
pub const INSTITUTE: u8 = 4;
pub const AUTHORITY: u8 = 5;
pub const OTHER_AUTHORITY: u8 = 6;
pub const HEALTH: u8 = 7;
pub const OTHER_HEALTH: u8 = 8;
pub const GOVERNMENT: u8 = 9;
/// Registered nowhere.
pub const STRANGER: u8 = 99;
/// Members, in the order of the set.
pub const MEMBERS: [u8; 4] = [101, 102, 103, 104];

/// Their offices, under [`with_offices`].
pub const OFFICES: [u8; 4] = [111, 112, 113, 114];

pub const START: u64 = 1_700_000_000_000;
/// How long the entries of [`Ledger::draft`] may wait.
pub const PATIENCE: u64 = 60_000;
pub const LIFETIME: u64 = 3_600_000;
pub const MAX_BLOCK_ENTRIES: u32 = 16;
pub const CHECKPOINT_EVERY_BLOCKS: u32 = 8;
pub const CHECKPOINT_EVERY_MS: u64 = 1_000;
pub const MAX_ENTRY_BYTES: u32 = 1 << 18;
/// So few that parts overflow.
const WARM_BYTES: usize = 1 << 20;

/// [`AUTHORITY`] orders here for a time, with the approval of a health office.
pub const REGION: &str = "440100";
/// [`AUTHORITY`] and [`OTHER_AUTHORITY`] order here, alone and without limit.
pub const FREE_REGION: &str = "440300";
pub const MAX_DURATION: u64 = 100_000;

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub fn public(n: u8) -> Bytes {
    Bytes::copy_from_slice(key(n).verifying_key().as_bytes())
}

pub fn genesis() -> v1::Genesis {
    let member = |(n, role): (u8, Role)| v1::Member {
        raft_id: u64::from(n),
        institution: format!("institution {n}"),
        role: role as i32,
        cosign_key: public(n),
        peer_id: vec![n; 38].into(),
        ..Default::default()
    };
    let author = |(n, role): (u8, Role)| v1::Author {
        public_key: public(n),
        name: format!("author {n}"),
        role: role as i32,
    };
    let free = |authority| v1::Mandate {
        authority: public(authority),
        region: FREE_REGION.to_owned(),
        reasons: vec!["contact".to_owned()],
        statuses: vec![1, 2, 3],
        max_duration_ms: 0,
        approver_role: 0,
    };
    let approved = v1::Mandate {
        region: REGION.to_owned(),
        reasons: vec!["contact".to_owned(), "travel".to_owned()],
        statuses: vec![CodeStatus::Green as i32, CodeStatus::Yellow as i32],
        max_duration_ms: MAX_DURATION,
        approver_role: Role::Health as i32,
        ..free(AUTHORITY)
    };
    let mut mandates = vec![approved, free(AUTHORITY), free(OTHER_AUTHORITY)];
    mandates.sort_by(|a, b| (&a.authority, &a.region).cmp(&(&b.authority, &b.region)));
    let roles = [
        Role::Notary,
        Role::Government,
        Role::Government,
        Role::Institute,
    ];
    let mut authors: Vec<v1::Author> = [
        (ORGANISER, Role::Organiser),
        (NOTARY, Role::Notary),
        (REGISTRAR, Role::Registrar),
        (INSTITUTE, Role::Institute),
        (AUTHORITY, Role::Authority),
        (OTHER_AUTHORITY, Role::Authority),
        (HEALTH, Role::Health),
        (OTHER_HEALTH, Role::Health),
        (GOVERNMENT, Role::Government),
    ]
    .map(author)
    .into();
    authors.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    let mut granters = vec![public(NOTARY), public(GOVERNMENT), public(INSTITUTE)];
    granters.sort();
    v1::Genesis {
        name: "test".to_owned(),
        created_at_ms: START,
        rules_version: 1,
        members: Some(v1::MemberSet {
            epoch: 0,
            members: MEMBERS.into_iter().zip(roles).map(member).collect(),
            policy: Some(v1::QuorumPolicy {
                threshold: 3,
                min_roles: 2,
                detect_only: false,
            }),
        }),
        limits: Some(v1::Limits {
            max_entry_bytes: MAX_ENTRY_BYTES,
            max_block_entries: MAX_BLOCK_ENTRIES,
            max_block_bytes: 8 << 20,
            max_entry_lifetime_ms: LIFETIME,
            checkpoint_every_blocks: CHECKPOINT_EVERY_BLOCKS,
            checkpoint_every_ms: CHECKPOINT_EVERY_MS,
        }),
        authors,
        mandates,
        mandate_policy: Some(v1::MandatePolicy {
            granters,
            required: 2,
        }),
    }
}

/// The same with an office for each member, so that members can change.
pub fn with_offices() -> Chain {
    let mut genesis = genesis();
    let set = genesis.members.as_mut().unwrap();
    for (member, n) in set.members.iter_mut().zip(OFFICES) {
        member.office_key = public(n);
        genesis.authors.push(v1::Author {
            public_key: public(n),
            name: member.institution.clone(),
            role: member.role,
        });
    }
    let authors = &mut genesis.authors;
    authors.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    Chain::from_bytes(&canonical::encode(&genesis)).unwrap()
}

pub fn chain() -> Chain {
    Chain::from_bytes(&canonical::encode(&genesis())).unwrap()
}

/// A ledger whose blocks come 10 ms apart.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub chain: Chain,
    pub state: MemoryState,
    /// As on a node, what one block leaves warm the next one does not read.
    pub warm: Arc<Warm>,
    pub rosters: Arc<OpenRosters>,
    pub now: u64,
    nonce: Cell<u64>,
}

impl Ledger {
    /// With its genesis block.
    pub fn new() -> Self {
        Self::of(chain())
    }

    /// The same of another chain.
    pub fn of(chain: Chain) -> Self {
        let mut ledger = Self {
            now: chain.genesis.created_at_ms,
            state: MemoryState::default(),
            warm: Arc::new(Warm::new(WARM_BYTES)),
            rosters: Arc::new(OpenRosters::new(&[5; 32])),
            nonce: Cell::new(0),
            chain,
        };
        ledger.commit(apply::genesis_block(&ledger.chain).unwrap());
        ledger
    }

    /// An entry that could be recorded, with a nonce of its own.
    pub fn draft(&self, kind: EntryKind, subject: &[u8], body: &impl Message) -> Draft {
        self.nonce.set(self.nonce.get() + 1);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.get().to_be_bytes());
        Draft {
            kind,
            visibility: Visibility::Public,
            subject: Bytes::copy_from_slice(subject),
            nonce,
            not_after_ms: self.now + PATIENCE,
            body: canonical::encode(body),
        }
    }

    pub fn compose(&self, draft: Draft, author: u8, approvers: &[u8]) -> v1::SignedEntry {
        let approvers: Vec<SigningKey> = approvers.iter().map(|n| key(*n)).collect();
        let approvers: Vec<&SigningKey> = approvers.iter().collect();
        entry::compose(&self.chain.id, draft, &key(author), &approvers)
    }

    /// Evidence of the document `n`, not signed yet.
    pub fn evidence_draft(&self, n: u64) -> Draft {
        let hash = document(n);
        let body = v1::Evidence {
            hash: hash.to_bytes(),
            media_type: "application/pdf".to_owned(),
            title: format!("document {n}"),
            custodian: String::new(),
        };
        self.draft(EntryKind::Evidence, hash.as_bytes(), &body)
    }

    /// Evidence of the document `n`.
    pub fn evidence(&self, n: u64) -> v1::SignedEntry {
        self.compose(self.evidence_draft(n), NOTARY, &[])
    }

    /// What a leader would propose next.
    pub fn proposal(&self, entries: Vec<v1::SignedEntry>) -> v1::Proposal {
        v1::Proposal {
            timestamp_ms: self.now + 10,
            checkpoint: false,
            certificate: None,
            entries,
        }
    }

    pub fn kept(&self) -> Kept<'_> {
        Kept {
            map: &self.warm,
            rosters: &self.rosters,
        }
    }

    /// The next block, not committed.
    pub fn apply(&self, proposal: &v1::Proposal) -> Result<Applied, ApplyError> {
        let proposal = Proposal::of(&self.chain, proposal.clone(), &|_| false);
        apply::apply(&self.chain, &self.state, self.kept(), &proposal, 1)
    }

    pub fn commit(&mut self, applied: Applied) {
        self.now = applied.header.timestamp_ms;
        self.state.commit(applied.writes);
    }

    /// Applies and commits.
    pub fn run(&mut self, proposal: &v1::Proposal) -> Applied {
        let applied = self.apply(proposal).unwrap();
        self.commit(applied.clone());
        applied
    }

    /// The next block, of these entries.
    pub fn block(&mut self, entries: Vec<v1::SignedEntry>) -> Applied {
        self.run(&self.proposal(entries))
    }

    /// A block of one entry: its leaf, or why it was refused. A refusal changes neither root.
    pub fn submit(&mut self, entry: v1::SignedEntry) -> Result<u64, RejectReason> {
        let before = self.tip().header;
        let applied = self.block(vec![entry]);
        let [outcome] = &applied.outcomes[..] else {
            panic!("{} outcomes", applied.outcomes.len());
        };
        if outcome.rejected == 0 {
            return Ok(outcome.leaf_index);
        }
        assert_eq!(applied.header.log_root, before.log_root);
        assert_eq!(applied.header.map_root, before.map_root);
        Err(outcome.rejected())
    }

    pub fn tip(&self) -> apply::Tip {
        apply::tip(&self.state).unwrap().unwrap()
    }

    pub fn map<M: Message + Default + Described>(&self, namespace: &str, raw: &[u8]) -> Option<M> {
        let value = map::get(&self.state, &map::map_key(namespace, raw)).unwrap();
        value.map(|value| canonical::decode(&value).unwrap())
    }

    /// A block that is a checkpoint, cosigned by these members (by their place in the set).
    pub fn checkpoint(&mut self, signers: &[usize]) -> v1::Checkpoint {
        let mut proposal = self.proposal(vec![]);
        proposal.checkpoint = true;
        let header = self.run(&proposal).header_bytes;
        self.certificate(header, signers)
    }

    /// A header cosigned by these members, each a millisecond after the one before.
    pub fn certificate(&self, header: Bytes, signers: &[usize]) -> v1::Checkpoint {
        let at = |index: &usize| (MEMBERS[*index], self.now + 1 + *index as u64);
        certificate(&self.chain.id, header, signers.iter().map(at))
    }

    pub fn receipt(&self, leaf_index: u64, checkpoint: v1::Checkpoint) -> v1::Receipt {
        let header = v1::Header::decode(&checkpoint.header[..]).unwrap();
        let size = header.tree_size;
        let path = log::inclusion_proof(&self.state, &TreeId::LEDGER, leaf_index, size).unwrap();
        let entry = apply::signed_entry(&self.state, leaf_index)
            .unwrap()
            .unwrap();
        v1::Receipt {
            envelope: entry.envelope,
            signatures: entry.signatures,
            inclusion: Some(v1::InclusionProof {
                leaf_index,
                path: path.into_iter().map(Hash::to_bytes).collect(),
            }),
            checkpoint: Some(checkpoint),
            epoch_changes: members::changes_up_to(&self.state, header.epoch).unwrap(),
        }
    }

    pub fn map_receipt(
        &self,
        namespace: &str,
        raw: &[u8],
        checkpoint: v1::Checkpoint,
    ) -> v1::MapReceipt {
        let header = v1::Header::decode(&checkpoint.header[..]).unwrap();
        let root = Hash::from_slice(&header.map_root).unwrap();
        let proof = map::prove(&self.state, &root, &map::map_key(namespace, raw)).unwrap();
        v1::MapReceipt {
            namespace: namespace.to_owned(),
            key: Bytes::copy_from_slice(raw),
            proof: Some(proof),
            checkpoint: Some(checkpoint),
            epoch_changes: members::changes_up_to(&self.state, header.epoch).unwrap(),
        }
    }
}

/// The hash of the document `n`.
pub fn document(n: u64) -> Hash {
    hash::plain(&n.to_be_bytes())
}

/// Whether the document `n` is on the ledger.
pub fn has_document(ledger: &Ledger, n: u64) -> bool {
    let state = ledger.map::<v1::EvidenceState>(evidence::NAMESPACE, document(n).as_bytes());
    state.is_some()
}

pub fn id(entry: &v1::SignedEntry) -> Hash {
    hash::plain(&entry.envelope)
}

/// A header cosigned by these keys at these times, in the order that a certificate asks for.
pub fn certificate(
    chain_id: &Hash,
    header: Bytes,
    signers: impl IntoIterator<Item = (u8, u64)>,
) -> v1::Checkpoint {
    let hash = checkpoint::header_hash(&header);
    let cosign = |(n, at)| checkpoint::cosign(&key(n), chain_id, &hash, at);
    let mut cosignatures: Vec<_> = signers.into_iter().map(cosign).collect();
    cosignatures.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    v1::Checkpoint {
        header,
        cosignatures,
    }
}
