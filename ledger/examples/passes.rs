//! How many passes a gate verifies in a second on one core, and how large they are.
//!
//! ```sh
//! cargo run --release -p cairn-ledger --example passes
//! ```
//!
//! Warm: many passes under one certificate, which is verified once. Cold: a certificate each, of three
//! cosignatures. Raw: nothing but the hashes on the way up the map, from a map proof that was read
//! already. With a folder as its argument it also writes a trust file and the passes there, to try
//! the command with: `cairn pass verify --from … --trust … --now-ms 1700000000000`. Every pass is read
//! from its text. Sizes grow by one sibling a level, so those of larger
//! maps follow from the depth.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use cairn_ledger::checkpoint::{self, header_hash};
use cairn_ledger::genesis::{self, Chain};
use cairn_ledger::hash::{self, Hash};
use cairn_ledger::map::Warm;
use cairn_ledger::pass::Pass;
use cairn_ledger::pass::gate::{Gate, GatePolicy, Verdict};
use cairn_ledger::state::MemoryState;
use cairn_ledger::trust::Trust;
use cairn_ledger::{canonical, code, map};
use cairn_proto::v1;
use ed25519_dalek::SigningKey;

/// Codes of the city.
const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];
/// A city that had to show 13 million people's codes.
const LARGEST: f64 = 13e6;
/// Passes that are shown.
const SHOWN: u32 = 20_000;
/// Passes that are shown with a certificate each.
const COLD: u32 = 1_000;
/// Passes a second that are asked for.
const GOAL: f64 = 20_000.0;
const NOW: u64 = 1_700_000_000_000;
/// Bytes of a sibling.
const SIBLING: f64 = 32.0;

fn main() {
    println!(
        "{:>10} {:>9} {:>12} {:>12} {:>12} {:>12} {:>9} {:>11}",
        "codes", "siblings", "bytes", "largest", "characters", "warm/s", "raw/s", "cold/s"
    );
    let (mut worst, mut last) = (f64::MAX, (0.0, 0.0));
    for codes in SIZES {
        let city = City::new(codes);
        let checkpoint = city.checkpoint(0);
        let step = codes.div_ceil(SHOWN);
        let passes = (0..codes).step_by(step as usize);
        let passes: Vec<Pass> = passes.map(|n| city.pass(n, &checkpoint)).collect();
        let lengths: Vec<usize> = passes.iter().map(|pass| pass.to_bytes().len()).collect();
        let texts: Vec<String> = passes.iter().map(Pass::to_text).collect();
        let bytes = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
        let siblings = city.siblings(step);
        if let Some(folder) = std::env::args().nth(1) {
            let path = |name: &str| Path::new(&folder).join(name);
            fs::write(path("gate.trust"), city.trust().write()).unwrap();
            fs::write(path(&format!("passes-{codes}.txt")), texts.join("\n")).unwrap();
        }
        let warm = rate(&texts, city.gate());
        let cold: Vec<String> = (0..COLD)
            .map(|n| city.pass(n, &city.checkpoint(u64::from(n) + 1)).to_text())
            .collect();
        println!(
            "{codes:>10} {siblings:>9.1} {bytes:>12.0} {:>12} {:>12} {warm:>12.0} {:>9.0} {:>11.0}",
            lengths.iter().max().unwrap(),
            texts.iter().map(String::len).max().unwrap(),
            city.raw_rate(step),
            rate(&cold, city.gate()),
        );
        worst = worst.min(warm);
        last = (f64::from(codes), bytes);
    }
    let grown = last.1 + SIBLING * (LARGEST / last.0).log2();
    println!("{LARGEST:>10.0} codes, by one sibling for each doubling: {grown:.0} bytes");
    println!("slowest warm {worst:.0} passes/s, goal at least {GOAL}");
}

/// Passes a second.
fn rate(texts: &[String], mut gate: Gate) -> f64 {
    let start = Instant::now();
    for text in texts {
        let verdict = gate.judge(black_box(text), NOW, None);
        assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
    }
    texts.len() as f64 / start.elapsed().as_secs_f64()
}

struct City {
    chain: Chain,
    keys: Vec<SigningKey>,
    state: MemoryState,
    root: Hash,
}

fn code_of(n: u32) -> Hash {
    hash::plain(&n.to_be_bytes())
}

impl City {
    /// With so many green codes, each of an order, with a history and a holder.
    fn new(codes: u32) -> City {
        let keys: Vec<SigningKey> = (1..=4).map(|n| SigningKey::from_bytes(&[n; 32])).collect();
        let chain = chain(&keys);
        let mut city = City {
            chain,
            keys,
            state: MemoryState::default(),
            root: Hash::ZERO,
        };
        let state = canonical::encode(&v1::CodeState {
            status: v1::CodeStatus::Green.into(),
            sequence: 2,
            valid_from_ms: NOW - 1,
            valid_until_ms: NOW + 86_400_000,
            region: "610100".to_owned(),
            order_id: hash::plain(b"order").to_bytes(),
            previous: hash::plain(b"the state before").to_bytes(),
            holder: hash::plain(b"holder").to_bytes(),
            ..Default::default()
        });
        let pairs = (0..codes).map(|n| (key_of(n), state.clone()));
        let pairs: BTreeMap<Hash, Bytes> = pairs.collect();
        let writes;
        (city.root, writes) = map::update(&city.state, &Warm::new(0), &Hash::ZERO, pairs).unwrap();
        city.state.commit(writes);
        city
    }

    /// Cosigned by three members.
    fn checkpoint(&self, above: u64) -> v1::Checkpoint {
        let members_hash = genesis::members_hash(&self.chain.members).to_bytes();
        let other = hash::plain(b"some root").to_bytes();
        let header = canonical::encode(&v1::Header {
            chain_id: self.chain.id.to_bytes(),
            height: 1_000_000 + above,
            parent_hash: other.clone(),
            timestamp_ms: NOW,
            term: 7,
            rules_version: 1,
            tree_size: 10_000_000,
            log_root: other.clone(),
            map_root: self.root.to_bytes(),
            outcomes_root: other,
            members_hash: members_hash.clone(),
            next_members_hash: members_hash,
            checkpoint: true,
            ..Default::default()
        });
        let hash = header_hash(&header);
        let cosign = |key| checkpoint::cosign(key, &self.chain.id, &hash, NOW);
        let mut cosignatures: Vec<_> = self.keys.iter().take(3).map(cosign).collect();
        cosignatures.sort_by(|a, b| a.public_key.cmp(&b.public_key));
        v1::Checkpoint {
            header,
            cosignatures,
        }
    }

    fn pass(&self, n: u32, checkpoint: &v1::Checkpoint) -> Pass {
        let receipt = v1::MapReceipt {
            namespace: code::NAMESPACE.to_owned(),
            key: code_of(n).to_bytes(),
            proof: Some(map::prove(&self.state, &self.root, &key_of(n)).unwrap()),
            checkpoint: Some(checkpoint.clone()),
            epoch_changes: Vec::new(),
        };
        Pass::of_receipt(&self.chain, &receipt).unwrap()
    }

    fn proofs(&self, step: u32) -> Vec<(Hash, v1::MapProof)> {
        let keys = (0..SHOWN.min(1_000)).map(|n| key_of(n * step));
        keys.map(|key| (key, map::prove(&self.state, &self.root, &key).unwrap()))
            .collect()
    }

    /// On an average.
    fn siblings(&self, step: u32) -> f64 {
        let proofs = self.proofs(step);
        let all: usize = proofs.iter().map(|(_, proof)| proof.siblings.len()).sum();
        all as f64 / proofs.len() as f64
    }

    /// Map proofs a second.
    fn raw_rate(&self, step: u32) -> f64 {
        let proofs = self.proofs(step);
        let start = Instant::now();
        for (key, proof) in &proofs {
            map::verify(&self.root, key, black_box(proof)).unwrap();
        }
        proofs.len() as f64 / start.elapsed().as_secs_f64()
    }

    fn gate(&self) -> Gate {
        Gate::new(self.trust(), GatePolicy::default())
    }

    fn trust(&self) -> Trust {
        let ledger = v1::TrustedLedger {
            genesis: self.chain.bytes.clone(),
            epoch_changes: Vec::new(),
            checkpoint: Some(self.checkpoint(0)),
        };
        let trust = Trust::of(v1::TrustFile {
            ledgers: vec![ledger],
            not_after_ms: NOW + 86_400_000,
            refusals: Vec::new(),
        });
        trust.unwrap()
    }
}

fn key_of(n: u32) -> Hash {
    map::map_key(code::NAMESPACE, code_of(n).as_bytes())
}

fn chain(keys: &[SigningKey]) -> Chain {
    let roles = [v1::Role::Notary, v1::Role::Government, v1::Role::Institute];
    let members = (1u64..).zip(keys).map(|(raft_id, key)| v1::Member {
        raft_id,
        institution: format!("institution {raft_id}"),
        role: roles[raft_id as usize % 3].into(),
        cosign_key: Bytes::copy_from_slice(key.verifying_key().as_bytes()),
        peer_id: raft_id.to_be_bytes().to_vec().into(),
        ..Default::default()
    });
    let genesis = v1::Genesis {
        name: "passes".to_owned(),
        created_at_ms: NOW - 1,
        rules_version: 1,
        members: Some(v1::MemberSet {
            members: members.collect(),
            policy: Some(v1::QuorumPolicy {
                threshold: 3,
                min_roles: 2,
                detect_only: false,
            }),
            ..Default::default()
        }),
        limits: Some(v1::Limits {
            max_entry_bytes: 1 << 20,
            max_block_entries: 1_000,
            max_block_bytes: 8 << 20,
            max_entry_lifetime_ms: 1,
            checkpoint_every_blocks: 1,
            checkpoint_every_ms: 1,
        }),
        ..Default::default()
    };
    Chain::from_bytes(&canonical::encode(&genesis)).unwrap()
}
