//! What codes cost a node on RocksDB, as they grow: an order of 100,000 changes, a proof, the disk.
//!
//! ```sh
//! cargo run --release -p cairn-storage --example orders              # 10^4, 10^5 and 10^6 codes
//! cargo run --release -p cairn-storage --example orders 10000000     # so many; takes minutes
//! ```
//!
//! Codes are issued block by block. Then each round applies one block of the order and all of its
//! chunks, as every node does, and commits it. Beside that, the update of the map alone is timed on the
//! same state: reading the codes, as a node does, then bringing as many new values in, once with every
//! page read from the disk and once with what the node keeps of them; that is what grows with the number
//! of codes. CPU seconds of the thread that applies; for the whole block also those of the process,
//! RocksDB's own threads included. Of the rounds the median counts. Signatures are left out: a node has
//! verified them at admission. At last proofs of codes picked all over are made, once unmeasured and
//! then some times, of which the median counts; of a map of 13 million codes a proof has as many siblings
//! more as it is deeper.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs};

use bytes::Bytes;
use cairn_ledger::apply::Kept;
use cairn_ledger::code::{self, MAX_CHUNK_CODES};
use cairn_ledger::entry::{self, Draft};
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::{self, Hash};
use cairn_ledger::lottery::OpenRosters;
use cairn_ledger::map::Warm;
use cairn_ledger::state::Overlay;
use cairn_ledger::{apply, canonical, map};
use cairn_proto::v1::{self, CodeStatus, EntryKind, OrderMode, Role, Visibility};
use cairn_storage::{Disk as _, Memory, Purpose, RocksDisk, StateStore};
use ed25519_dalek::SigningKey;

/// As in a node.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Codes, unless arguments say otherwise.
const CODES: [u32; 3] = [10_000, 100_000, 1_000_000];
/// Changes of one order, at most.
const CHANGES: usize = 100_000;
/// Orders that are timed.
const ROUNDS: u32 = 5;
/// Proofs that are timed,
const PROOFS: usize = 5_000;
/// and how often; the median counts.
const PASSES: usize = 99;
/// What a node keeps of the map.
const WARM_BYTES: usize = 320 << 20;
/// CPU seconds that the update of the map may take, of 100,000 changes on a million codes.
const GOAL: f64 = 0.5;
/// Microseconds that a proof may take, and its bytes.
const PROOF_GOAL: (f64, f64) = (5.0, 1_000.0);
/// A city that had to show 13 million people's codes.
const LARGEST: f64 = 13e6;
/// Bytes of a sibling in a proof, with its field's tag and length.
const SIBLING: f64 = 34.0;
const REGION: &str = "suzhou";
const START_MS: u64 = 1_700_000_000_000;
/// Entries of a block of issues: below its bytes.
const ISSUES: usize = 24;

fn main() {
    let sizes: Vec<u32> = env::args().skip(1).map(|n| n.parse().unwrap()).collect();
    println!(
        "{:>9} {:>7} {:>8} {:>8} {:>6} {:>6} {:>7} {:>6} {:>7} {:>8} {:>9} {:>9} {:>8}",
        "codes",
        "issue",
        "bytes/c",
        "changes",
        "read",
        "cold",
        "update",
        "apply",
        "commit",
        "process",
        "proof us",
        "siblings",
        "bytes"
    );
    for codes in if sizes.is_empty() {
        CODES.to_vec()
    } else {
        sizes
    } {
        measure(codes);
    }
    let (us, bytes) = PROOF_GOAL;
    println!(
        "issue: seconds for all; read to process: CPU seconds, medians of {ROUNDS} orders\n\
         cold: the update with every page read from the disk\n\
         goals at 1000000 codes: update {GOAL}; proof {us} us, and {bytes} bytes at {LARGEST}"
    );
}

fn measure(codes: u32) {
    let folder = tempfile::tempdir().unwrap();
    let disk = RocksDisk::open(folder.path(), Purpose::Ledger, &Memory::new()).unwrap();
    let disk = Arc::new(disk);
    let mut node = Node::new(disk.clone());
    let mut all: Vec<[u8; 32]> = (0..codes)
        .map(|n| hash::plain(&n.to_be_bytes()).0)
        .collect();
    all.sort_unstable();
    let began = Instant::now();
    node.issue(&all);
    let issuing = began.elapsed().as_secs_f64();
    let stored = disk.approximate_bytes().unwrap() as f64 / f64::from(codes);
    let mut sequences: BTreeMap<[u8; 32], u64> = all.iter().map(|code| (*code, 1)).collect();
    let mut rounds = Vec::new();
    let count = CHANGES.min(all.len());
    for round in 0..ROUNDS {
        // Another part of the codes each time, spread over all of them.
        let step = all.len() / count;
        let picked = all.iter().skip(round as usize % step).step_by(step);
        let changes: Vec<_> = picked
            .take(count)
            .map(|code| (*code, sequences[code]))
            .collect();
        let entries = node.order(&changes);
        let [read, cold, update] = node.update(&changes);
        let before = process_seconds();
        let (apply, commit) = node.block(entries);
        let process = process_seconds() - before;
        for (code, _) in &changes {
            *sequences.get_mut(code).unwrap() += 1;
        }
        rounds.push([read, cold, update, apply, commit, process]);
    }
    let median = |of: usize| {
        let mut all: Vec<f64> = rounds.iter().map(|round| round[of]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (us, siblings, bytes) = node.prove(&all);
    println!(
        "{codes:>9} {issuing:>7.1} {stored:>8.0} {count:>8} {:>6.2} {:>6.2} {:>7.2} {:>6.2} {:>7.2} {:>8.2} {us:>9.1} \
         {siblings:>9.1} {bytes:>8.0}",
        median(0),
        median(1),
        median(2),
        median(3),
        median(4),
        median(5),
    );
    let deeper = (LARGEST / f64::from(codes)).log2();
    if deeper > 0.0 && deeper < 4.0 {
        println!(
            "{LARGEST:>9} by one sibling for each doubling: {:.0} bytes",
            bytes + SIBLING * deeper
        );
    }
}

struct Node {
    chain: Chain,
    store: StateStore,
    warm: Warm,
    key: SigningKey,
    now_ms: u64,
    nonce: u64,
}

impl Node {
    fn new(disk: Arc<RocksDisk>) -> Self {
        let key = SigningKey::from_bytes(&[5; 32]);
        let chain = chain(&key);
        let store = StateStore::open(disk, &chain.id).unwrap();
        let genesis = apply::genesis_block(&chain).unwrap();
        store.commit_block(&genesis.writes, &[]).unwrap();
        Self {
            chain,
            store,
            warm: Warm::new(WARM_BYTES),
            key,
            now_ms: START_MS,
            nonce: 0,
        }
    }

    fn entry(&mut self, kind: EntryKind, subject: Bytes, body: Bytes) -> v1::SignedEntry {
        self.nonce += 1;
        let draft = Draft {
            kind,
            visibility: Visibility::Restricted,
            subject,
            nonce: u128::from(self.nonce).to_be_bytes(),
            not_after_ms: self.now_ms + 1_000_000,
            body,
        };
        entry::compose(&self.chain.id, draft, &self.key, &[])
    }

    /// Applies and commits; the CPU seconds of both.
    fn block(&mut self, entries: Vec<v1::SignedEntry>) -> (f64, f64) {
        self.now_ms += 10;
        let proposal = v1::Proposal {
            timestamp_ms: self.now_ms,
            checkpoint: true,
            certificate: None,
            entries,
        };
        let payload = canonical::encode(&proposal);
        let began = thread_seconds();
        let kept = Kept {
            map: &self.warm,
            rosters: &OpenRosters::new(&[0; 32]),
        };
        let proposal = apply::Proposal::read(&self.chain, &payload, &|_| true);
        let applied = apply::apply(&self.chain, &self.store, kept, &proposal, 1).unwrap();
        let done = thread_seconds();
        self.store.commit_block(&applied.writes, &[]).unwrap();
        let committed = thread_seconds();
        assert!(applied.outcomes.iter().all(|outcome| outcome.rejected == 0));
        (done - began, committed - done)
    }

    fn issue(&mut self, codes: &[[u8; 32]]) {
        for part in codes.chunks(ISSUES * MAX_CHUNK_CODES) {
            let issue = |codes: &[[u8; 32]]| v1::CodeIssue {
                region: REGION.to_owned(),
                codes: Bytes::copy_from_slice(codes.as_flattened()),
                valid_until_ms: START_MS + 1_000_000_000,
                holders: Bytes::new(),
            };
            let bodies = part.chunks(MAX_CHUNK_CODES).map(issue);
            let entries = bodies
                .map(|body| {
                    self.entry(EntryKind::CodeIssue, Bytes::new(), canonical::encode(&body))
                })
                .collect();
            self.block(entries);
        }
    }

    /// An order with its chunks.
    fn order(&mut self, changes: &[([u8; 32], u64)]) -> Vec<v1::SignedEntry> {
        let order = canonical::encode(&v1::StatusOrder {
            region: REGION.to_owned(),
            reason: "exposure".to_owned(),
            legal_basis: "article 12".to_owned(),
            status: CodeStatus::Yellow as i32,
            evidence_commitment: hash::plain(&[]).to_bytes(),
            appeal_contact: "12345".to_owned(),
            count: changes.len() as u32,
            changes_root: code::changes_root(changes.iter().copied()).to_bytes(),
            mode: OrderMode::AllOrNothing as i32,
            operator: "desk 7".to_owned(),
            rule_version: "1".to_owned(),
            ..Default::default()
        });
        let order = self.entry(EntryKind::StatusOrder, Bytes::new(), order);
        let order_id = hash::plain(&order.envelope).to_bytes();
        let mut entries = vec![order];
        for (at, part) in changes.chunks(MAX_CHUNK_CODES).enumerate() {
            let (codes, sequences): (Vec<_>, Vec<_>) = part.iter().copied().unzip();
            let chunk = canonical::encode(&v1::StatusChunk {
                order_id: order_id.clone(),
                first_change: (at * MAX_CHUNK_CODES) as u32,
                codes: codes.concat().into(),
                expected_sequences: sequences,
                blind: vec![9; 32].into(),
            });
            entries.push(self.entry(EntryKind::StatusChunk, order_id.clone(), chunk));
        }
        entries
    }

    /// Microseconds, siblings and bytes of a proof, on an average.
    fn prove(&self, codes: &[[u8; 32]]) -> (f64, f64, f64) {
        let snapshot = self.store.snapshot().unwrap();
        let header = apply::tip(&snapshot).unwrap().unwrap().header;
        let root = Hash::from_slice(&header.map_root).unwrap();
        let step = (codes.len() / PROOFS).max(1);
        let keys = codes.iter().step_by(step);
        let keys: Vec<Hash> = keys
            .map(|code| map::map_key(code::NAMESPACE, code))
            .collect();
        let prove = |key: &Hash| self.warm.prove(&snapshot, &root, key).unwrap();
        let proofs: Vec<v1::MapProof> = keys.iter().map(prove).collect();
        let mut passes: Vec<f64> = (0..PASSES)
            .map(|_| {
                let began = Instant::now();
                for key in &keys {
                    black_box(prove(key));
                }
                began.elapsed().as_secs_f64() * 1e6 / keys.len() as f64
            })
            .collect();
        passes.sort_by(f64::total_cmp);
        let us = passes[PASSES / 2];
        let mean = |of: fn(&v1::MapProof) -> usize| {
            proofs.iter().map(of).sum::<usize>() as f64 / proofs.len() as f64
        };
        let bytes = mean(|proof| canonical::encode(proof).len());
        (us, mean(|proof| proof.siblings.len()), bytes)
    }

    /// CPU seconds to read the codes, and to bring as many new values into the map: with every page
    /// read from the disk, and as a node does it. Nothing of it stays.
    fn update(&self, changes: &[([u8; 32], u64)]) -> [f64; 3] {
        let header = apply::tip(&self.store).unwrap().unwrap().header;
        let root = Hash::from_slice(&header.map_root).unwrap();
        let began = thread_seconds();
        let keys: Vec<Hash> = changes
            .iter()
            .map(|(code, _)| map::map_key(code::NAMESPACE, code))
            .collect();
        let values = self.warm.get_many(&self.store, &root, &keys).unwrap();
        let read = thread_seconds() - began;
        let before: BTreeMap<Hash, Bytes> =
            keys.into_iter().zip(values.into_iter().flatten()).collect();
        let longer = |value: &Bytes| Bytes::from([&value[..], &[0]].concat());
        let after = before.iter().map(|(key, value)| (*key, longer(value)));
        let after: BTreeMap<Hash, Bytes> = after.collect();
        let timed = |warm: &Warm| {
            let after = after.clone();
            let began = thread_seconds();
            let updated = map::update(&self.store, warm, &root, after).unwrap();
            (thread_seconds() - began, updated)
        };
        let (cold, _) = timed(&Warm::new(0));
        let (update, (changed, writes)) = timed(&self.warm);
        // And back, for what is kept to be as it was.
        let mut overlay = Overlay::new(&self.store);
        overlay.extend(writes);
        let (restored, _) = map::update(&overlay, &self.warm, &changed, before).unwrap();
        assert_eq!(restored, root);
        [read, cold, update]
    }
}

fn chain(key: &SigningKey) -> Chain {
    let public_key = Bytes::copy_from_slice(key.verifying_key().as_bytes());
    let cosign = SigningKey::from_bytes(&[6; 32]).verifying_key();
    let genesis = v1::Genesis {
        name: "orders".to_owned(),
        created_at_ms: START_MS,
        rules_version: 1,
        members: Some(v1::MemberSet {
            epoch: 0,
            members: vec![v1::Member {
                raft_id: 1,
                institution: "alone".to_owned(),
                role: Role::Institute as i32,
                cosign_key: Bytes::copy_from_slice(cosign.as_bytes()),
                peer_id: vec![1; 38].into(),
                ..Default::default()
            }],
            policy: Some(v1::QuorumPolicy {
                threshold: 1,
                min_roles: 1,
                detect_only: true,
            }),
        }),
        limits: Some(v1::Limits {
            max_entry_bytes: 1 << 20,
            max_block_entries: 4096,
            max_block_bytes: 4 << 20,
            max_entry_lifetime_ms: 86_400_000,
            checkpoint_every_blocks: 64,
            checkpoint_every_ms: 1000,
        }),
        authors: vec![v1::Author {
            public_key: public_key.clone(),
            name: "authority".to_owned(),
            role: Role::Authority as i32,
        }],
        mandates: vec![v1::Mandate {
            authority: public_key,
            region: REGION.to_owned(),
            reasons: vec!["exposure".to_owned()],
            statuses: vec![1, 2, 3],
            max_duration_ms: 0,
            approver_role: 0,
        }],
        mandate_policy: None,
    };
    Chain::from_bytes(&canonical::encode(&genesis)).unwrap()
}

/// CPU time of this thread, as schedstat of proc(5) has it.
fn thread_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split(' ').next().and_then(|f| f.parse::<u64>().ok());
    nanoseconds.unwrap_or(0) as f64 / 1e9
}

/// CPU time of this process, all threads: user and system, in ticks of 10 ms.
fn process_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split(' ');
    // Fields 14 and 15 of proc(5); behind the name the state is field 3.
    let ticks: u64 = fields
        .skip(12)
        .take(2)
        .filter_map(|f| f.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}
