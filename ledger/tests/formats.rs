//! The golden vectors in `ledger/vectors/formats.json`, recomputed from their inputs through the
//! public API. They are readable from any language, and `docs/formats.md` explains them; a value
//! that changes here needs another `rules_version`.
#![allow(clippy::unwrap_used)]

#[path = "formats/generate.rs"]
mod generate;

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_ledger::canonical::{self, CanonicalError, Problem};
use cairn_ledger::checkpoint::{self, CertifyError};
use cairn_ledger::code::{acts, history};
use cairn_ledger::entry::{self, Draft};
use cairn_ledger::epochs::Epochs;
use cairn_ledger::genesis::{self, Chain};
use cairn_ledger::hash::{self, Domain, Hash};
use cairn_ledger::log::{self, TreeId};
use cairn_ledger::lottery::{beacon, draw};
use cairn_ledger::map::Warm;
use cairn_ledger::state::{MemoryState, Overlay};
use cairn_ledger::{admission, apply, code, map, verify};
use cairn_proto::schema::Described;
use cairn_proto::v1::{self, EntryKind, SignaturePurpose, Visibility};
use ed25519_dalek::SigningKey;
use prost::Message;
use serde_json::{Value, json};

/// Every domain.
const TAGS: [&str; 15] = [
    "cairn v1 genesis",
    "cairn v1 members",
    "cairn v1 header",
    "cairn v1 map key",
    "cairn v1 map value",
    "cairn v1 map leaf",
    "cairn v1 map node",
    "cairn v1 identity",
    "cairn v1 commitment",
    "cairn v1 tag key",
    "cairn v1 seed contribution",
    "cairn v1 lottery seed",
    "cairn v1 ranking tree",
    "cairn v1 code holder",
    "cairn v1 code state",
];

/// Message, bytes, and why they are not canonical. In StatusOrder, 1 is a string, 4 an enum, 5 a
/// uint64, 9 a uint32, 10 bytes; in StatusChunk, 4 is a packed list; in Header, 14 is a bool; in
/// Genesis, 5 is a message.
const CANONICAL_REFUSED: [(&str, &str, &str); 24] = [
    ("StatusOrder", "2800", "default"),
    ("StatusOrder", "0a00", "default"),
    ("StatusOrder", "5200", "default"),
    ("StatusOrder", "288100", "varint"),
    ("StatusOrder", "a80001", "varint"),
    ("StatusOrder", "0a810078", "varint"),
    ("StatusOrder", "28ffffffffffffffffff02", "varint"),
    ("StatusOrder", "28ffffffffffffffffffff01", "varint"),
    ("StatusOrder", "28012001", "order"),
    ("StatusOrder", "28012801", "order"),
    ("StatusOrder", "0a01780a0178", "order"),
    ("StatusOrder", "2009", "value"),
    ("StatusOrder", "488080808010", "value"),
    ("StatusOrder", "0a01ff", "utf8"),
    ("StatusOrder", "0a03eda080", "utf8"),
    ("StatusOrder", "7801", "unknown field"),
    ("StatusOrder", "2a0101", "wire type"),
    ("StatusOrder", "290000000000000000", "wire type"),
    ("StatusOrder", "0a0578", "truncated"),
    ("StatusOrder", "28", "truncated"),
    ("StatusChunk", "2001", "wire type"),
    ("StatusChunk", "2200", "default"),
    ("Header", "7002", "value"),
    ("Genesis", "2a020800", "default"),
];

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/formats.json")).unwrap()
}

fn bytes(v: &Value) -> Vec<u8> {
    hex::decode(v.as_str().unwrap()).unwrap()
}

fn hash(v: &Value) -> Hash {
    Hash::from_slice(&bytes(v)).unwrap()
}

fn hashes(v: &Value) -> Vec<Hash> {
    v.as_array().unwrap().iter().map(hash).collect()
}

fn number(v: &Value) -> u64 {
    v.as_u64().unwrap()
}

fn list(v: &Value) -> &[Value] {
    let list = v.as_array().unwrap();
    assert!(!list.is_empty());
    list
}

fn message<M: Message + Default>(v: &Value) -> M {
    M::decode(&bytes(v)[..]).unwrap()
}

fn chain(json: &Value) -> Chain {
    Chain::from_bytes(&bytes(&json["genesis"]["bytes"])).unwrap()
}

fn secret(v: &Value) -> SigningKey {
    SigningKey::from_bytes(&hash(v).0)
}

fn draft_of(v: &Value) -> Draft {
    Draft {
        kind: EntryKind::try_from(number(&v["kind"]) as i32).unwrap(),
        visibility: Visibility::try_from(number(&v["visibility"]) as i32).unwrap(),
        subject: bytes(&v["subject"]).into(),
        nonce: bytes(&v["nonce"]).try_into().unwrap(),
        not_after_ms: number(&v["not_after_ms"]),
        body: bytes(&v["body"]).into(),
    }
}

fn map_proof_json(proof: &v1::MapProof) -> Value {
    let siblings: Vec<String> = proof.siblings.iter().map(hex::encode).collect();
    json!({
        "sibling_bitmap": hex::encode(&proof.sibling_bitmap), "depth": proof.depth,
        "siblings": siblings, "value": hex::encode(&proof.value),
        "other_key": hex::encode(&proof.other_key),
        "other_value_hash": hex::encode(&proof.other_value_hash),
    })
}

fn map_proof_of(v: &Value) -> v1::MapProof {
    let siblings = v["siblings"].as_array().unwrap().iter();
    v1::MapProof {
        sibling_bitmap: bytes(&v["sibling_bitmap"]).into(),
        depth: number(&v["depth"]) as u32,
        siblings: siblings.map(|s| bytes(s).into()).collect(),
        value: bytes(&v["value"]).into(),
        other_key: bytes(&v["other_key"]).into(),
        other_value_hash: bytes(&v["other_value_hash"]).into(),
    }
}

#[test]
#[ignore = "prints the vectors; run by hand when a format changes on purpose"]
fn print_the_vectors() {
    println!("{:#}", generate::vectors());
}

#[test]
fn domains_and_their_framing_are_the_published_ones() {
    let json = &vectors()["domains"];
    let tags: Vec<&str> = list(&json["tags"])
        .iter()
        .map(|v| v["tag"].as_str().unwrap())
        .collect();
    assert_eq!(tags, TAGS);
    for v in list(&json["tags"]) {
        let tag: &'static str = TAGS.iter().find(|tag| v["tag"] == **tag).unwrap();
        assert_eq!(Hash(*Domain::new(tag).key()), hash(&v["key"]), "{tag}");
    }
    for v in list(&json["plain"]) {
        assert_eq!(hash::plain(&bytes(&v["data"])), hash(&v["hash"]));
    }
    let header = Domain::new("cairn v1 header");
    assert_eq!(json["hash"]["tag"], header.tag());
    let data = bytes(&json["hash"]["data"]);
    assert_eq!(header.hash(&data), hash(&json["hash"]["hash"]));
    let parts: Vec<Vec<u8>> = list(&json["parts"]["parts"]).iter().map(bytes).collect();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    assert_eq!(header.hash_parts(&parts), hash(&json["parts"]["hash"]));
}

fn judge(name: &str, bytes: &[u8]) -> Result<Bytes, CanonicalError> {
    fn again<M: Message + Default + Described>(bytes: &[u8]) -> Result<Bytes, CanonicalError> {
        canonical::decode::<M>(bytes).map(|message| canonical::encode(&message))
    }
    match name {
        "StatusOrder" => again::<v1::StatusOrder>(bytes),
        "StatusChunk" => again::<v1::StatusChunk>(bytes),
        "Envelope" => again::<v1::Envelope>(bytes),
        "Header" => again::<v1::Header>(bytes),
        "Genesis" => again::<v1::Genesis>(bytes),
        other => panic!("{other}"),
    }
}

#[test]
fn canonical_bytes_are_taken_and_others_refused_for_the_reason_stated() {
    let json = &vectors()["canonical"];
    for v in list(&json["accepted"]) {
        let bytes = bytes(&v["bytes"]);
        assert_eq!(
            judge(v["message"].as_str().unwrap(), &bytes),
            Ok(bytes.into())
        );
    }
    for v in list(&json["refused"]) {
        let error = judge(v["message"].as_str().unwrap(), &bytes(&v["bytes"])).unwrap_err();
        let reason = match error.problem {
            Problem::Truncated => "truncated",
            Problem::Varint => "varint",
            Problem::Order(_) => "order",
            Problem::UnknownField(_) => "unknown field",
            Problem::WireType(_) => "wire type",
            Problem::Default(_) => "default",
            Problem::Value(_) => "value",
            Problem::Utf8(_) => "utf8",
            Problem::Decoder => "decoder",
        };
        assert_eq!(v["reason"], reason, "{v}");
    }
    assert_eq!(list(&json["refused"]).len(), CANONICAL_REFUSED.len());
}

#[test]
fn keys_are_judged_as_stated() {
    for v in list(&vectors()["ed25519"]["keys"]) {
        let valid = entry::public_key(&bytes(&v["key"])).is_some();
        assert_eq!(v["valid"], valid, "{v}");
    }
}

#[test]
fn the_chain_id_is_the_hash_of_the_genesis() {
    let json = vectors();
    let v = &json["genesis"];
    let chain = chain(&json);
    assert_eq!(chain.id, hash(&v["chain_id"]));
    assert_eq!(genesis::chain_id(&bytes(&v["bytes"])), chain.id);
    let members = genesis::members_hash(&chain.members);
    assert_eq!(members, hash(&v["members_hash"]));
    for (public, secret) in v["secrets_by_public_key"].as_object().unwrap() {
        let made = SigningKey::from_bytes(&hash(secret).0).verifying_key();
        assert_eq!(hex::encode(made.as_bytes()), *public);
    }
}

#[test]
fn an_entry_is_composed_signed_and_hashed_as_stated() {
    let json = vectors();
    let (v, chain) = (&json["entry"], chain(&json));
    let [author, approver] = list(&v["signed"]) else {
        panic!("two signatures");
    };
    let approvers = [&secret(&approver["secret"])];
    let author_key = secret(&author["secret"]);
    let signed = entry::compose(&chain.id, draft_of(&v["draft"]), &author_key, &approvers);
    assert_eq!(signed.envelope, bytes(&v["envelope"]));
    assert_eq!(hash::plain(&signed.envelope), hash(&v["entry_id"]));
    assert_eq!(hash::plain(&signed.body), hash(&v["body_hash"]));
    for made in [author, approver] {
        let key = secret(&made["secret"]);
        let purpose = SignaturePurpose::try_from(number(&made["purpose"]) as i32).unwrap();
        let signature = entry::sign(&key, &chain.id, purpose, &signed.envelope);
        assert_eq!(signature.public_key, bytes(&made["public_key"]));
        assert_eq!(signature.signature, bytes(&made["signature"]));
        assert!(signed.signatures.contains(&signature));
        let strict = key.verifying_key().verify_strict(
            &bytes(&made["message"]),
            &ed25519_dalek::Signature::from_slice(&signature.signature).unwrap(),
        );
        assert!(strict.is_ok(), "the message is what is signed");
    }
    let admitted = admission::admit(&chain, signed).unwrap();
    assert_eq!(admitted.leaf_hash, hash(&v["leaf_hash"]));
}

#[test]
fn trees_have_the_stated_roots_and_proofs() {
    let json = &vectors()["log"];
    let leaves: Vec<Hash> = list(&json["leaf_data"])
        .iter()
        .map(|v| log::leaf_hash(&bytes(v)))
        .collect();
    assert_eq!(leaves, hashes(&json["leaf_hashes"]));
    let roots = hashes(&json["roots"]);
    assert_eq!(roots.len(), leaves.len() + 1);
    for (size, root) in roots.iter().enumerate() {
        assert_eq!(log::root_of(&leaves[..size]), *root);
    }
    let state = MemoryState::default();
    let mut overlay = Overlay::new(&state);
    log::append(&mut overlay, &TreeId::LEDGER, 0, &leaves).unwrap();
    for v in list(&json["inclusion"]) {
        let (index, size) = (number(&v["leaf_index"]), number(&v["tree_size"]));
        let path = hashes(&v["path"]);
        let made = log::inclusion_proof(&overlay, &TreeId::LEDGER, index, size);
        assert_eq!(made.as_ref(), Ok(&path));
        let (leaf, root) = (&leaves[index as usize], &roots[size as usize]);
        assert_eq!(
            log::verify_inclusion(leaf, index, size, &path, root),
            Ok(())
        );
    }
    for v in list(&json["consistency"]) {
        let (old, new) = (number(&v["old_size"]), number(&v["new_size"]));
        let path = hashes(&v["path"]);
        let made = log::consistency_proof(&overlay, &TreeId::LEDGER, old, new);
        assert_eq!(made.as_ref(), Ok(&path));
        let (before, after) = (&roots[old as usize], &roots[new as usize]);
        let verified = log::verify_consistency(old, before, new, after, &path);
        assert_eq!(verified, Ok(()));
    }
}

#[test]
fn the_map_has_the_stated_root_and_proofs() {
    let json = &vectors()["map"];
    let namespace = json["namespace"].as_str().unwrap();
    let mut pairs = BTreeMap::new();
    for v in list(&json["pairs"]) {
        let (key, value) = (
            map::map_key(namespace, &bytes(&v["raw"])),
            bytes(&v["value"]),
        );
        assert_eq!(key, hash(&v["key"]));
        assert_eq!(map::value_hash(&value), hash(&v["value_hash"]));
        pairs.insert(key, Bytes::from(value));
    }
    let mut state = MemoryState::default();
    let (root, writes) = map::update(&state, &Warm::new(0), &Hash::ZERO, pairs.clone()).unwrap();
    state.commit(writes);
    assert_eq!(root, hash(&json["root"]));
    let mut kinds = [0; 3];
    for v in list(&json["proofs"]) {
        let key = map::map_key(namespace, &bytes(&v["raw"]));
        let proof = map_proof_of(&v["proof"]);
        assert_eq!(map::prove(&state, &root, &key).unwrap(), proof);
        let value = map::verify(&root, &key, &proof).unwrap();
        assert_eq!(value.as_ref(), pairs.get(&key));
        let kind = match (value, proof.other_key.is_empty()) {
            (Some(_), _) => 0,
            (None, false) => 1,
            (None, true) => 2,
        };
        kinds[kind] += 1;
    }
    assert_eq!(kinds, [3, 1, 1], "value, other leaf, empty");
}

#[test]
fn applying_the_proposal_gives_the_stated_header() {
    let json = vectors();
    let (v, chain) = (&json["header"], chain(&json));
    let mut state = MemoryState::default();
    state.commit(apply::genesis_block(&chain).unwrap().writes);
    let proposal = v1::Proposal {
        timestamp_ms: number(&v["proposal"]["timestamp_ms"]),
        checkpoint: v["proposal"]["checkpoint"].as_bool().unwrap(),
        certificate: None,
        entries: list(&v["proposal"]["entries"])
            .iter()
            .map(message)
            .collect(),
    };
    let term = number(&v["proposal"]["term"]);
    let block = apply::replay(&chain, &state, &proposal, term).unwrap();
    assert_eq!(block.header_bytes, bytes(&v["bytes"]));
    assert_eq!(block.header_hash, hash(&v["hash"]));
    assert_eq!(
        checkpoint::header_hash(&block.header_bytes),
        hash(&v["hash"])
    );

    let f = &v["fields"];
    let field = |name: &str| Bytes::from(bytes(&f[name]));
    let stated = v1::Header {
        chain_id: field("chain_id"),
        epoch: number(&f["epoch"]),
        height: number(&f["height"]),
        parent_hash: field("parent_hash"),
        timestamp_ms: number(&f["timestamp_ms"]),
        term: number(&f["term"]),
        rules_version: number(&f["rules_version"]) as u32,
        tree_size: number(&f["tree_size"]),
        log_root: field("log_root"),
        map_root: field("map_root"),
        outcomes_root: field("outcomes_root"),
        members_hash: field("members_hash"),
        next_members_hash: field("next_members_hash"),
        checkpoint: f["checkpoint"].as_bool().unwrap(),
    };
    assert_eq!(block.header, stated);
    let leaves: Vec<Hash> = list(&v["outcomes"])
        .iter()
        .map(|v| {
            let reason = (number(&v["reason"]) as u32).to_be_bytes();
            let index = number(&v["leaf_index"]).to_be_bytes();
            log::leaf_hash(&[&bytes(&v["entry_id"])[..], &reason, &index].concat())
        })
        .collect();
    assert_eq!(log::root_of(&leaves), hash(&f["outcomes_root"]));
}

#[test]
fn certificates_are_judged_as_stated() {
    let json = vectors();
    let (v, chain) = (&json["certificate"], chain(&json));
    let header_hash = hash(&json["header"]["hash"]);
    for v in list(&v["cosignatures"]) {
        let (key, at) = (secret(&v["secret"]), number(&v["cosigned_at_ms"]));
        let made = checkpoint::cosign(&key, &chain.id, &header_hash, at);
        assert_eq!(made.public_key, bytes(&v["public_key"]));
        assert_eq!(made.signature, bytes(&v["signature"]));
        let strict = key.verifying_key().verify_strict(
            &bytes(&v["message"]),
            &ed25519_dalek::Signature::from_slice(&made.signature).unwrap(),
        );
        assert!(strict.is_ok(), "the message is what is signed");
    }
    for v in [v, &v["all_four"]] {
        let proto: v1::Checkpoint = message(&v["checkpoint"]);
        let certified = checkpoint::certify(&chain.id, &chain.members, &proto).unwrap();
        assert_eq!(certified.header_hash(), header_hash);
        assert_eq!(certified.latest_as_of_ms(), number(&v["latest_as_of_ms"]));
        assert_eq!(certified.certified_by_ms(), number(&v["certified_by_ms"]));
    }
    for v in list(&v["refused"]) {
        let proto: v1::Checkpoint = message(&v["checkpoint"]);
        let reason = match checkpoint::certify(&chain.id, &chain.members, &proto).unwrap_err() {
            CertifyError::Order => "order",
            CertifyError::Cosignature(_) => "cosignature",
            CertifyError::QuorumNotMet { .. } => "quorum not met",
            other => panic!("{other}"),
        };
        assert_eq!(v["reason"], reason);
    }
}

#[test]
fn receipts_prove_what_is_stated() {
    let json = vectors();
    let (v, chain) = (&json["receipt"], chain(&json));
    let found = verify::receipt(&chain, &message(&v["bytes"]), Some(&bytes(&v["body"]))).unwrap();
    assert_eq!(found.id, hash(&v["entry_id"]));
    assert_eq!(found.leaf_index, number(&v["leaf_index"]));
    let v = &json["epoch_change"];
    let change: v1::EpochChange = message(&v["bytes"]);
    let epochs = Epochs::follow(&chain, std::slice::from_ref(&change)).unwrap();
    let members = genesis::members_hash(epochs.newest());
    assert_eq!(members, hash(&v["members_hash"]));
    let receipt: v1::Receipt = message(&v["receipt"]);
    assert_eq!(receipt.epoch_changes, [change]);
    let signed: v1::SignedEntry = message(&v["entry"]);
    let found = verify::receipt(&chain, &receipt, Some(&signed.body)).unwrap();
    assert_eq!(found.id, hash(&v["entry_id"]));
    assert_eq!(found.leaf_index, number(&v["leaf_index"]));
    assert_eq!(found.checkpoint.header().epoch, 1);
    let receipts = json["map_receipt"].as_object().unwrap();
    assert_eq!(receipts.len(), 3);
    for (name, v) in receipts {
        let found = verify::map_receipt(&chain, &message(&v["bytes"])).unwrap();
        assert_eq!(v["namespace"], found.namespace);
        assert_eq!(found.key, bytes(&v["key"]));
        let value = found.value.unwrap_or_default();
        assert_eq!(value, bytes(&v["value"]));
        assert_eq!(value.is_empty(), name != "present");
    }
}

#[test]
fn closes_pin_the_stated_rounds() {
    let json = &vectors()["beacon"];
    let chain = v1::BeaconChain {
        genesis_time_s: number(&json["genesis_time_s"]),
        period_s: number(&json["period_s"]) as u32,
        ..Default::default()
    };
    for v in list(&json["rounds"]) {
        let (close, margin) = (number(&v["close_ms"]), number(&v["margin_ms"]));
        let round = beacon::pinned_round(&chain, close, margin);
        assert_eq!(round, number(&v["round"]));
        let time = beacon::round_time_ms(&chain, round);
        assert_eq!(time, number(&v["round_time_ms"]));
        assert!(time >= close + margin);
    }
}

#[test]
fn rows_are_ranked_as_stated() {
    let json = &vectors()["ranking"];
    let small = |v: &Value| number(v) as u32;
    let rows = list(&json["rows"])
        .iter()
        .map(|row| (small(&row[0]), small(&row[1])));
    let ranking = draw::rank(&hash(&json["seed"]), small(&json["tier"]), rows);
    let serials: Vec<u32> = list(&json["serials"]).iter().map(small).collect();
    assert_eq!(ranking.serials().collect::<Vec<_>>(), serials);
    let leaves: Vec<Hash> = serials
        .iter()
        .map(|serial| log::leaf_hash(&u64::from(*serial).to_be_bytes()))
        .collect();
    assert_eq!(log::root_of(&leaves), hash(&json["ranking_root"]));
    let winners = number(&json["winners"]) as usize;
    assert_eq!(winners, ranking.len().min(number(&json["quota"]) as usize));
    let cutoff = (
        small(&json["cutoff_serial"]),
        hash(&json["cutoff_ticket"]).0,
    );
    assert_eq!(ranking.at(winners - 1), Some(cutoff));
}

#[test]
fn codes_are_hashed_and_lapse_as_stated() {
    let json = &vectors()["code"];
    let changes = list(&json["changes"])
        .iter()
        .map(|v| (hash(&v["code"]).0, number(&v["expected_sequence"])));
    assert_eq!(code::changes_root(changes), hash(&json["changes_root"]));
    let state = canonical::decode::<v1::CodeState>(&bytes(&json["state"])).unwrap();
    for v in list(&json["effective"]) {
        let status = code::effective_status(&state, number(&v["at_ms"]));
        assert_eq!(v["status"], status.map_or(0, |status| status as i32));
    }
}

#[test]
fn the_states_of_a_code_are_linked_as_stated() {
    let json = &vectors()["code"]["history"];
    let current = canonical::decode::<v1::CodeState>(&bytes(&json["state"])).unwrap();
    let code = hash(&json["code"]).0;
    let mut earlier = Vec::new();
    for v in list(&json["earlier"]) {
        let replaced = v1::ReplacedState {
            state: bytes(&v["state"]).into(),
            blind: bytes(&v["blind"]).into(),
        };
        assert_eq!(history::link(&replaced), hash(&v["hash"]));
        if !replaced.blind.is_empty() {
            let blind = history::blind(&hash(&v["blind_of_chunk"]).0, &code);
            assert_eq!(replaced.blind, blind.0[..]);
        }
        earlier.push(replaced);
    }
    let states = history::verify(&current, &earlier).unwrap();
    assert_eq!(states.len(), 3);
    assert!(history::verify(&current, &earlier[..1]).is_err());
}

#[test]
fn refused_changes_holders_and_acts_are_hashed_as_stated() {
    let json = &vectors()["code"];
    let refused: Vec<code::Refused> = list(&json["refused"])
        .iter()
        .map(|v| code::Refused {
            code: hash(&v["code"]).0,
            expected: number(&v["expected_sequence"]),
            found: None,
            reason: v1::RejectReason::try_from(number(&v["reason"]) as i32).unwrap(),
        })
        .collect();
    assert_eq!(code::refused_root(&refused), hash(&json["refused_root"]));
    let holder = &json["holder"];
    let document = bytes(&holder["document_number"]);
    let commitment = code::holder_commitment(&hash(&holder["salt"]).0, &document);
    assert_eq!(commitment, hash(&holder["commitment"]));

    let json = &json["acts"];
    let shown: v1::ActRange = canonical::decode(&bytes(&json["shown"])).unwrap();
    let log: v1::AuthorityLog = canonical::decode(&bytes(&json["log"])).unwrap();
    let leaves: Vec<Hash> = list(&json["leaves"])
        .iter()
        .map(|leaf| log::leaf_hash(&bytes(leaf)))
        .collect();
    assert_eq!(log::root_of(&leaves), hash(&json["root"]));
    assert_eq!(log.root, hash(&json["root"]).0[..]);
    let at = |name: &str| number(&json[name]);
    let window = (at("as_of_ms"), at("from_ms"), at("to_ms"));
    let acts = acts::verify_window(&log, window.0, window.1, window.2, &shown).unwrap();
    let indexes: Vec<u64> = acts.iter().map(|act| act.leaf_index).collect();
    let expected: Vec<u64> = list(&json["inside"]).iter().map(number).collect();
    assert_eq!(indexes, expected);
    let mut without = shown.clone();
    without.acts.remove(1);
    assert!(acts::verify_window(&log, window.0, window.1, window.2, &without).is_err());
}
