//! Passes, as a gate's scanner reads them, and trust files, as they are handed over.
//!
//! The truth is one small city whose keys nobody else has: a gate accepts nothing but its passes, and
//! believes no trust file but its own.

use std::collections::BTreeMap;

use anyhow::Context as _;
use bytes::Bytes;
use cairn_ledger::checkpoint::{cosign, header_hash};
use cairn_ledger::genesis::{self, Chain};
use cairn_ledger::hash::{self, Domain, Hash};
use cairn_ledger::map::Warm;
use cairn_ledger::pass::gate::{Gate, GatePolicy, Verdict};
use cairn_ledger::pass::{PREFIX, Pass};
use cairn_ledger::state::MemoryState;
use cairn_ledger::trust::Trust;
use cairn_ledger::{base45, canonical, code, map};
use cairn_proto::v1;
use ed25519_dalek::SigningKey;

use super::{Target, must, plain};

const NOW: u64 = 1_795_341_600_000;
const CODES: u8 = 40;
/// Bytes of the hash at the end of a pass, which says nothing about who made it.
const SEAL: usize = 4;

struct City {
    trust: Trust,
    passes: Vec<Pass>,
    states: BTreeMap<Hash, v1::CodeState>,
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(hash::plain(&[number]).as_bytes())
}

fn chain() -> anyhow::Result<Chain> {
    let member = |number: u8| v1::Member {
        raft_id: number.into(),
        institution: format!("institution {number}"),
        role: v1::Role::Government.into(),
        cosign_key: Bytes::copy_from_slice(key(number).verifying_key().as_bytes()),
        peer_id: vec![number].into(),
        ..v1::Member::default()
    };
    let genesis = v1::Genesis {
        name: "fuzz".to_owned(),
        created_at_ms: 1,
        rules_version: 1,
        members: Some(v1::MemberSet {
            members: (1..=3).map(member).collect(),
            policy: Some(v1::QuorumPolicy {
                threshold: 3,
                min_roles: 1,
                detect_only: false,
            }),
            ..v1::MemberSet::default()
        }),
        limits: Some(v1::Limits {
            max_entry_bytes: 1 << 20,
            max_block_entries: 1,
            max_block_bytes: 4 << 20,
            max_entry_lifetime_ms: 1,
            checkpoint_every_blocks: 1,
            checkpoint_every_ms: 1,
        }),
        ..v1::Genesis::default()
    };
    Ok(Chain::from_bytes(&canonical::encode(&genesis))?)
}

fn checkpoint(chain: &Chain, map_root: &Hash) -> v1::Checkpoint {
    let members_hash = genesis::members_hash(&chain.members).to_bytes();
    let other = hash::plain(b"another root").to_bytes();
    let header = canonical::encode(&v1::Header {
        chain_id: chain.id.to_bytes(),
        height: 9,
        parent_hash: other.clone(),
        timestamp_ms: NOW,
        term: 1,
        rules_version: 1,
        tree_size: 9,
        log_root: other.clone(),
        map_root: map_root.to_bytes(),
        outcomes_root: other,
        members_hash: members_hash.clone(),
        next_members_hash: members_hash,
        checkpoint: true,
        ..v1::Header::default()
    });
    let hash = header_hash(&header);
    let mut cosignatures: Vec<_> = (1..=3)
        .map(|number| cosign(&key(number), &chain.id, &hash, NOW))
        .collect();
    cosignatures.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    v1::Checkpoint {
        header,
        cosignatures,
    }
}

impl City {
    fn new() -> anyhow::Result<City> {
        let chain = chain()?;
        let state = |number: u8| v1::CodeState {
            status: v1::CodeStatus::Green.into(),
            sequence: number.into(),
            valid_from_ms: 1,
            valid_until_ms: NOW + 1,
            region: "fuzz".to_owned(),
            holder: code::holder_commitment(&[7; 32], &[number]).to_bytes(),
            ..v1::CodeState::default()
        };
        let states = (1..=CODES).map(|number| (hash::plain(&[number]), state(number)));
        let states: BTreeMap<Hash, v1::CodeState> = states.collect();
        let map_key = |code: &Hash| map::map_key(code::NAMESPACE, code.as_bytes());
        let pairs = states.iter();
        let pairs = pairs.map(|(code, state)| (map_key(code), canonical::encode(state)));
        let mut state = MemoryState::default();
        let (root, writes) = map::update(&state, &Warm::new(0), &Hash::ZERO, pairs.collect())?;
        state.commit(writes);
        let checkpoint = checkpoint(&chain, &root);
        let pass = |code: &Hash| {
            let receipt = v1::MapReceipt {
                namespace: code::NAMESPACE.to_owned(),
                key: code.to_bytes(),
                proof: Some(map::prove(&state, &root, &map_key(code))?),
                checkpoint: Some(checkpoint.clone()),
                epoch_changes: Vec::new(),
            };
            anyhow::Ok(Pass::of_receipt(&chain, &receipt)?)
        };
        let passes = states.keys().map(pass).collect::<Result<_, _>>()?;
        let ledger = v1::TrustedLedger {
            genesis: chain.bytes.clone(),
            epoch_changes: Vec::new(),
            checkpoint: Some(checkpoint),
        };
        let trust = Trust::of(v1::TrustFile {
            ledgers: vec![ledger],
            not_after_ms: NOW + 1_000,
            refusals: Vec::new(),
        })?;
        Ok(City {
            trust,
            passes,
            states,
        })
    }
}

/// All targets of gates.
pub fn all() -> anyhow::Result<Vec<Box<dyn Target>>> {
    let city = City::new()?;
    let first = city.passes.first().context("no pass")?;
    let variants = [
        first.clone(),
        first.clone().on_paper().with_salt([7; 32]),
        city.passes.last().context("no pass")?.clone(),
    ];
    let texts = variants.iter().map(|pass| pass.to_text().into_bytes());
    let unsealed = variants.iter().map(|pass| {
        let bytes = pass.to_bytes();
        bytes[..bytes.len() - SEAL].to_vec()
    });
    let trust = city.trust.clone();
    let gate = || Gate::new(trust.clone(), GatePolicy::default());
    Ok(vec![
        passes(
            "passes",
            texts.collect(),
            gate(),
            city.states.clone(),
            |input| String::from_utf8_lossy(input).into_owned(),
        ),
        // Mutations hardly ever hit the hash at the end; here it fits.
        passes(
            "sealed_passes",
            unsealed.collect(),
            gate(),
            city.states,
            |input| {
                let seal = Domain::new("cairn v1 pass").hash(input);
                let bytes = [input, &seal.0[..SEAL]].concat();
                format!("{PREFIX}{}", base45::encode(&bytes))
            },
        ),
        trust_files(trust),
    ])
}

fn passes(
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    mut gate: Gate,
    states: BTreeMap<Hash, v1::CodeState>,
    text_of: impl Fn(&[u8]) -> String + 'static,
) -> Box<dyn Target> {
    plain(name, seeds, move |input| {
        let text = text_of(input);
        if let Ok(pass) = Pass::from_text(&text) {
            must(pass.to_text() == text, "two texts of one pass")?;
        }
        match gate.judge(&text, NOW, None) {
            Verdict::Accepted(proven) => {
                let known = states.get(&proven.code);
                must(known == Some(&proven.state), "a forged pass lets through")?;
                Ok("accepted".to_owned())
            }
            Verdict::Refused { why, .. } => Ok(why.to_string()),
        }
    })
}

fn trust_files(own: Trust) -> Box<dyn Target> {
    let chain_id = own.own().chain().id;
    plain("trust_files", vec![own.write().to_vec()], move |input| {
        let read = match Trust::read(input) {
            Ok(read) => read,
            Err(error) => return Ok(error.to_string()),
        };
        must(read.write() == input, "two spellings of one trust file")?;
        let newest = read.own().newest().header_hash();
        let known = own.own().newest().header_hash();
        must(
            newest == known && read.own().chain().id == chain_id,
            "a forged trust file",
        )?;
        match own.updated(&read) {
            Ok(_) => Ok("a later end".to_owned()),
            Err(error) => Ok(error.to_string()),
        }
    })
}
