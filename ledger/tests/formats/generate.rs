//! Makes the vectors from fixed inputs. Run by hand, when a format changes on purpose:
//!
//! ```text
//! cargo test --release -p cairn-ledger --test formats -- --ignored --nocapture print_the_vectors
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_ledger::apply::{self, Applied};
use cairn_ledger::canonical;
use cairn_ledger::checkpoint;
use cairn_ledger::code::{self, history};
use cairn_ledger::entry::{self, Draft};
use cairn_ledger::genesis::{self, Chain};
use cairn_ledger::hash::{self, Domain, Hash};
use cairn_ledger::log::{self, TreeId};
use cairn_ledger::lottery::bls::SeedSecret;
use cairn_ledger::lottery::{beacon, draw, seed};
use cairn_ledger::map::Warm;
use cairn_ledger::state::{MemoryState, Overlay};
use cairn_ledger::{map, members};
use cairn_proto::v1::{
    self, CodeStatus, EntryKind, RejectReason, Role, SignaturePurpose, Visibility,
};
use ed25519_dalek::SigningKey;
use prost::Message as _;
use serde_json::{Value, json};

use crate::{CANONICAL_REFUSED, TAGS, map_proof_json};

const NOW_MS: u64 = 1_763_800_000_000;
const LIFETIME_MS: u64 = 86_400_000;

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn public(number: u8) -> Bytes {
    Bytes::copy_from_slice(key(number).verifying_key().as_bytes())
}

fn hexed(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(bytes)
}

fn all_hexed(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(Hash::to_string).collect()
}

/// Four members as in a default testnet, with offices 0x21 to 0x24; authors 0x11 to 0x13, one mandate.
fn genesis() -> v1::Genesis {
    let institutions = [
        ("Notary office", Role::Notary),
        ("Health department", Role::Government),
        ("Commerce department", Role::Government),
        ("Institute", Role::Institute),
    ];
    let member = |(number, (institution, role)): (u8, &(&str, Role))| {
        let secret = SeedSecret::from_key_material(&[number; 32]).unwrap();
        v1::Member {
            raft_id: number.into(),
            institution: (*institution).to_owned(),
            role: *role as i32,
            cosign_key: public(number),
            peer_id: vec![number; 38].into(),
            seed_key: seed::seed_key_public(&secret).to_vec().into(),
            seed_key_proof: seed::prove_possession(&secret).to_vec().into(),
            office_key: public(0x20 + number),
            address: String::new(),
        }
    };
    let author = |(number, name, role): (u8, &str, Role)| v1::Author {
        public_key: public(number),
        name: name.to_owned(),
        role: role as i32,
    };
    let mut authors: Vec<v1::Author> = [
        (0x11, "Notary office", Role::Notary),
        (0x12, "Disease control", Role::Authority),
        (0x13, "Health commission", Role::Health),
    ]
    .map(author)
    .into();
    let office = |(n, (name, role)): (u8, &(&str, Role))| author((0x20 + n, name, *role));
    authors.extend((1u8..).zip(&institutions).map(office));
    authors.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    v1::Genesis {
        name: "vectors".to_owned(),
        created_at_ms: NOW_MS,
        rules_version: 1,
        members: Some(v1::MemberSet {
            epoch: 0,
            members: (1u8..).zip(&institutions).map(member).collect(),
            policy: Some(v1::QuorumPolicy {
                threshold: 3,
                min_roles: 2,
                detect_only: false,
            }),
        }),
        limits: Some(v1::Limits {
            max_entry_bytes: 1 << 20,
            max_block_entries: 4096,
            max_block_bytes: 4 << 20,
            max_entry_lifetime_ms: LIFETIME_MS,
            checkpoint_every_blocks: 64,
            checkpoint_every_ms: 1000,
        }),
        authors,
        mandates: vec![v1::Mandate {
            authority: public(0x12),
            region: "suzhou".to_owned(),
            reasons: vec!["exposure".to_owned()],
            statuses: vec![CodeStatus::Yellow as i32, CodeStatus::Red as i32],
            max_duration_ms: 14 * LIFETIME_MS,
            approver_role: Role::Health as i32,
        }],
        mandate_policy: Some(v1::MandatePolicy {
            granters: vec![public(0x13)],
            required: 1,
        }),
    }
}

fn evidence(document: &[u8]) -> Draft {
    let hash = hash::plain(document).to_bytes();
    Draft {
        kind: EntryKind::Evidence,
        visibility: Visibility::Public,
        subject: hash.clone(),
        nonce: [7; 16],
        not_after_ms: NOW_MS + 60_000,
        body: canonical::encode(&v1::Evidence {
            hash,
            media_type: "text/plain".to_owned(),
            title: "Minutes of the draw".to_owned(),
            custodian: "Notary office".to_owned(),
        }),
    }
}

fn codes() -> Draft {
    Draft {
        kind: EntryKind::CodeIssue,
        visibility: Visibility::Restricted,
        subject: Bytes::new(),
        nonce: [8; 16],
        not_after_ms: NOW_MS + 60_000,
        body: canonical::encode(&v1::CodeIssue {
            region: "suzhou".to_owned(),
            codes: [[0x21; 32], [0x22; 32]].concat().into(),
            valid_until_ms: NOW_MS + 30 * LIFETIME_MS,
            holders: Bytes::new(),
        }),
    }
}

/// Approved, so that there are two signatures; too late, so that it is refused.
fn late_order() -> Draft {
    let root = code::changes_root([([0x21; 32], 1)]);
    Draft {
        kind: EntryKind::StatusOrder,
        visibility: Visibility::Public,
        subject: Bytes::new(),
        nonce: [9; 16],
        not_after_ms: NOW_MS + 1,
        body: canonical::encode(&v1::StatusOrder {
            region: "suzhou".to_owned(),
            reason: "exposure".to_owned(),
            legal_basis: "article 12".to_owned(),
            status: CodeStatus::Yellow as i32,
            lapses_at_ms: NOW_MS + LIFETIME_MS,
            on_lapse: CodeStatus::Green as i32,
            evidence_commitment: vec![0x31; 32].into(),
            appeal_contact: "12345".to_owned(),
            count: 1,
            changes_root: root.to_bytes(),
            mode: v1::OrderMode::AllOrNothing as i32,
            operator: "desk 7".to_owned(),
            rule_version: "2022-06".to_owned(),
            corrects: Bytes::new(),
        }),
    }
}

/// The state after one block with three entries, the last of them refused.
struct Ledger {
    chain: Chain,
    state: MemoryState,
    block: Applied,
    entries: Vec<v1::SignedEntry>,
}

impl Ledger {
    fn new(genesis: &v1::Genesis) -> Ledger {
        let chain = Chain::from_bytes(&canonical::encode(genesis)).unwrap();
        let mut state = MemoryState::default();
        state.commit(apply::genesis_block(&chain).unwrap().writes);
        let entries = vec![
            entry::compose(&chain.id, evidence(b"minutes"), &key(0x11), &[]),
            entry::compose(&chain.id, codes(), &key(0x12), &[]),
            entry::compose(&chain.id, late_order(), &key(0x12), &[&key(0x13)]),
        ];
        let proposal = v1::Proposal {
            timestamp_ms: NOW_MS + 5_000,
            checkpoint: true,
            certificate: None,
            entries: entries.clone(),
        };
        let block = apply::replay(&chain, &state, &proposal, 3).unwrap();
        assert_eq!(block.outcomes.len(), 3);
        state.commit(block.writes.clone());
        Ledger {
            chain,
            state,
            block,
            entries,
        }
    }

    fn certificate(&self, members: &[u8]) -> v1::Checkpoint {
        let cosign = |number: &u8| {
            let at = NOW_MS + 5_000 + 100 * u64::from(*number);
            checkpoint::cosign(&key(*number), &self.chain.id, &self.block.header_hash, at)
        };
        let mut cosignatures: Vec<_> = members.iter().map(cosign).collect();
        cosignatures.sort_by(|a, b| a.public_key.cmp(&b.public_key));
        v1::Checkpoint {
            header: self.block.header_bytes.clone(),
            cosignatures,
        }
    }

    fn receipt(&self, leaf_index: u64) -> v1::Receipt {
        let size = self.block.header.tree_size;
        let path = log::inclusion_proof(&self.state, &TreeId::LEDGER, leaf_index, size).unwrap();
        let signed = &self.entries[leaf_index as usize];
        v1::Receipt {
            envelope: signed.envelope.clone(),
            signatures: signed.signatures.clone(),
            inclusion: Some(v1::InclusionProof {
                leaf_index,
                path: path.iter().map(|hash| hash.to_bytes()).collect(),
            }),
            checkpoint: Some(self.certificate(&[1, 2, 4])),
            epoch_changes: vec![],
        }
    }

    fn map_receipt(&self, namespace: &str, raw: &[u8]) -> v1::MapReceipt {
        let root = Hash::from_slice(&self.block.header.map_root).unwrap();
        let proof = map::prove(&self.state, &root, &map::map_key(namespace, raw)).unwrap();
        v1::MapReceipt {
            namespace: namespace.to_owned(),
            key: Bytes::copy_from_slice(raw),
            proof: Some(proof),
            checkpoint: Some(self.certificate(&[1, 2, 4])),
            epoch_changes: vec![],
        }
    }

    /// The notary office's cosigning key becomes 5, by an entry of three offices; the change, and a
    /// receipt for the entry itself under a checkpoint of the next epoch.
    fn changed(&self) -> (v1::SignedEntry, v1::EpochChange, v1::Receipt) {
        let mut next = self.chain.members.clone();
        next.epoch = 1;
        next.members[0].cosign_key = public(5);
        let draft = Draft {
            kind: EntryKind::MembershipChange,
            subject: Bytes::new(),
            body: canonical::encode(&v1::MembershipChange {
                next_members: Some(next),
            }),
            ..evidence(b"")
        };
        let offices = [&key(0x22), &key(0x24)];
        let entry = entry::compose(&self.chain.id, draft, &key(0x21), &offices);
        let mut after = Ledger {
            chain: self.chain.clone(),
            state: self.state.clone(),
            block: self.block.clone(),
            entries: self.entries.clone(),
        };
        after.run(None, vec![entry.clone()]);
        assert_eq!(after.block.outcomes[0].rejected, 0);
        let certificate = after.certificate(&[1, 2, 4]);
        after.run(Some(certificate), Vec::new());
        let leaf = after.block.header.tree_size - 1;
        after.entries[leaf as usize] = entry.clone();
        let changes = members::changes_up_to(&after.state, 1).unwrap();
        let receipt = v1::Receipt {
            checkpoint: Some(after.certificate(&[5, 2, 4])),
            epoch_changes: changes.clone(),
            ..after.receipt(leaf)
        };
        (entry, changes[0].clone(), receipt)
    }

    fn run(&mut self, certificate: Option<v1::Checkpoint>, entries: Vec<v1::SignedEntry>) {
        let proposal = v1::Proposal {
            timestamp_ms: self.block.header.timestamp_ms + 1_000,
            checkpoint: true,
            certificate,
            entries,
        };
        self.block = apply::replay(&self.chain, &self.state, &proposal, 3).unwrap();
        self.state.commit(self.block.writes.clone());
    }

    /// Keys that were never written, proven absent by another leaf and by an empty subtree.
    fn absent(&self) -> [v1::MapReceipt; 2] {
        let by = |empty: bool| {
            let mut receipts = (0u8..=255).map(|n| self.map_receipt("code", &[n; 32]));
            let fits = |receipt: &v1::MapReceipt| {
                let proof = receipt.proof.as_ref().unwrap();
                proof.value.is_empty() && proof.other_key.is_empty() == empty
            };
            receipts.find(fits).unwrap()
        };
        [by(false), by(true)]
    }
}

fn domains() -> Value {
    let example: &'static Domain = Box::leak(Box::new(Domain::new("cairn v1 header")));
    let tags: Vec<Value> = TAGS
        .iter()
        .map(|tag| json!({"tag": tag, "key": hash::plain(tag.as_bytes()).to_string()}))
        .collect();
    json!({
        "tags": tags,
        "plain": [
            {"data": "", "hash": hash::plain(b"").to_string()},
            {"data": hexed(b"cairn"), "hash": hash::plain(b"cairn").to_string()},
        ],
        "hash": {
            "tag": example.tag(), "data": hexed([1, 2, 3]),
            "hash": example.hash(&[1, 2, 3]).to_string(),
        },
        "parts": {
            "tag": example.tag(), "parts": ["", hexed([1]), hexed([2, 3])],
            "hash": example.hash_parts(&[&[], &[1], &[2, 3]]).to_string(),
        },
    })
}

fn canonical_examples(ledger: &Ledger) -> Value {
    let order = late_order().body;
    let chunk = canonical::encode(&v1::StatusChunk {
        order_id: vec![1; 32].into(),
        codes: vec![2; 64].into(),
        expected_sequences: vec![0, 300],
        ..Default::default()
    });
    let accepted: Vec<Value> = [
        ("StatusOrder", Bytes::new()),
        ("StatusOrder", order),
        ("StatusChunk", chunk),
        ("Envelope", ledger.entries[0].envelope.clone()),
        ("Header", ledger.block.header_bytes.clone()),
    ]
    .iter()
    .map(|(message, bytes)| json!({"message": message, "bytes": hexed(bytes)}))
    .collect();
    let refused: Vec<Value> = CANONICAL_REFUSED
        .iter()
        .map(|(message, bytes, reason)| {
            json!({"message": message, "bytes": bytes, "reason": reason})
        })
        .collect();
    json!({"accepted": accepted, "refused": refused})
}

/// What is judged about keys and signatures, and why.
fn ed25519() -> Value {
    let mut least = [0; 32];
    least[0] = 1;
    let mut p = [0xff; 32];
    (p[0], p[31]) = (0xed, 0x7f);
    let mut above_p = p;
    above_p[0] = 0xf0; // 3 above p: the y coordinate of a point, written a second time
    let keys = [
        (hexed(public(1)), "valid"),
        (hexed(least), "small order: the identity"),
        (hexed([0; 32]), "small order: order 4"),
        (hexed(p), "y is p, which is 0 written again"),
        (hexed(above_p), "y is above p"),
        (hexed([2; 31]), "31 bytes"),
        (format!("02{}", "00".repeat(31)), "no point has this y"),
    ];
    let keys: Vec<Value> = keys
        .iter()
        .map(|(key, why)| json!({"key": key, "valid": *why == "valid", "why": why}))
        .collect();
    json!({"keys": keys})
}

/// S and the group order: the same signature by the equation, and never canonical.
fn plus_order(signature: &[u8]) -> Vec<u8> {
    let order =
        hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut out = signature.to_vec();
    let mut carry = 0u16;
    for (at, digit) in order.iter().enumerate() {
        let sum = u16::from(out[32 + at]) + u16::from(*digit) + carry;
        out[32 + at] = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    out
}

fn entry_json(ledger: &Ledger) -> Value {
    let draft = late_order();
    let signed = &ledger.entries[2];
    let purposes = [
        (SignaturePurpose::Author, 0x12),
        (SignaturePurpose::Approval, 0x13),
    ];
    let messages: Vec<Value> = purposes
        .iter()
        .map(|(purpose, signer)| {
            let message = [
                &b"cairn v1 entry signature"[..],
                ledger.chain.id.as_bytes(),
                &(*purpose as u32).to_be_bytes(),
                hash::plain(&signed.envelope).as_bytes(),
            ]
            .concat();
            let made = entry::sign(&key(*signer), &ledger.chain.id, *purpose, &signed.envelope);
            json!({
                "secret": hexed([*signer; 32]), "purpose": *purpose as i32,
                "public_key": hexed(&made.public_key), "message": hexed(message),
                "signature": hexed(&made.signature),
            })
        })
        .collect();
    json!({
        "draft": {
            "kind": draft.kind as i32, "visibility": draft.visibility as i32,
            "subject": hexed(&draft.subject), "nonce": hexed(draft.nonce),
            "not_after_ms": draft.not_after_ms, "body": hexed(&draft.body),
        },
        "envelope": hexed(&signed.envelope),
        "entry_id": hash::plain(&signed.envelope).to_string(),
        "body_hash": hash::plain(&signed.body).to_string(),
        "signed": messages,
        "leaf_hash": entry::leaf_hash(&signed.envelope, &signed.signatures).to_string(),
    })
}

fn log_json() -> Value {
    let data: Vec<Vec<u8>> = (0u8..8).map(|n| vec![n; n.into()]).collect();
    let leaves: Vec<Hash> = data.iter().map(|data| log::leaf_hash(data)).collect();
    let state = MemoryState::default();
    let mut overlay = Overlay::new(&state);
    log::append(&mut overlay, &TreeId::LEDGER, 0, &leaves).unwrap();
    let roots: Vec<Hash> = (0..=8).map(|size| log::root_of(&leaves[..size])).collect();
    let inclusion: Vec<Value> = [(0, 1), (0, 7), (3, 7), (6, 7), (5, 8), (4, 5)]
        .map(|(index, size)| {
            let path = log::inclusion_proof(&overlay, &TreeId::LEDGER, index, size).unwrap();
            json!({"leaf_index": index, "tree_size": size, "path": all_hexed(&path)})
        })
        .into();
    let consistency: Vec<Value> = [(0, 5), (5, 5), (3, 7), (4, 7), (6, 8), (4, 8), (1, 2)]
        .map(|(old, new)| {
            let path = log::consistency_proof(&overlay, &TreeId::LEDGER, old, new).unwrap();
            json!({"old_size": old, "new_size": new, "path": all_hexed(&path)})
        })
        .into();
    json!({
        "leaf_data": data.iter().map(hexed).collect::<Vec<_>>(),
        "leaf_hashes": all_hexed(&leaves),
        "roots": all_hexed(&roots),
        "inclusion": inclusion,
        "consistency": consistency,
    })
}

fn map_json() -> Value {
    // Two of the three keys share their first bits, so that nodes have empty halves.
    let raws = |shared: usize| {
        let first = map::map_key("test", &[0]);
        (1u8..=255).find(|n| {
            let key = map::map_key("test", &[*n]);
            let differing = u32::from_be_bytes([first.0[0] ^ key.0[0], 0, 0, 0]).leading_zeros();
            differing as usize == shared
        })
    };
    let raws = [0, raws(3).unwrap(), raws(0).unwrap()];
    let pairs: BTreeMap<Hash, Bytes> = raws
        .iter()
        .map(|n| {
            let value = Bytes::from(vec![*n; 3]);
            (map::map_key("test", &[*n]), value)
        })
        .collect();
    let mut state = MemoryState::default();
    let (root, writes) = map::update(&state, &Warm::new(0), &Hash::ZERO, pairs).unwrap();
    state.commit(writes);
    let proof = |n: u8| {
        let proof = map::prove(&state, &root, &map::map_key("test", &[n])).unwrap();
        (n, proof)
    };
    let absent = |empty: bool| {
        (0u8..=255).map(proof).find(|(_, proof)| {
            let no_other = proof.other_key.is_empty();
            proof.value.is_empty() && no_other == empty && proof.depth > 1
        })
    };
    let mut proofs: Vec<_> = raws.iter().map(|n| proof(*n)).collect();
    proofs.extend([absent(false).unwrap(), absent(true).unwrap()]);
    let proofs: Vec<Value> = proofs
        .iter()
        .map(|(raw, proof)| json!({"raw": hexed([*raw]), "proof": map_proof_json(proof)}))
        .collect();
    let pairs: Vec<Value> = raws
        .iter()
        .map(|n| {
            let (key, value) = (map::map_key("test", &[*n]), vec![*n; 3]);
            json!({
                "raw": hexed([*n]), "key": key.to_string(), "value": hexed(&value),
                "value_hash": map::value_hash(&value).to_string(),
            })
        })
        .collect();
    json!({"namespace": "test", "pairs": pairs, "root": root.to_string(), "proofs": proofs})
}

fn certificate_json(ledger: &Ledger) -> Value {
    let good = ledger.certificate(&[1, 2, 4]);
    let certified = checkpoint::certify(&ledger.chain.id, &ledger.chain.members, &good).unwrap();
    let mut reversed = good.clone();
    reversed.cosignatures.reverse();
    let mut twice = ledger.certificate(&[1, 2]);
    twice.cosignatures.insert(0, twice.cosignatures[0].clone());
    let mut flipped = good.clone();
    let mut bytes = flipped.cosignatures[1].signature.to_vec();
    bytes[5] ^= 1;
    flipped.cosignatures[1].signature = bytes.into();
    let mut malleable = good.clone();
    let signature = plus_order(&malleable.cosignatures[0].signature);
    malleable.cosignatures[0].signature = signature.into();
    let mut later = good.clone();
    later.cosignatures[2].cosigned_at_ms += 1;
    let refused: Vec<Value> = [
        ("order", reversed),
        ("order", twice),
        ("quorum not met", ledger.certificate(&[1, 2])),
        ("cosignature", ledger.certificate(&[1, 2, 4, 5])),
        ("cosignature", flipped),
        ("cosignature", malleable),
        ("cosignature", later),
    ]
    .iter()
    .map(|(reason, proto)| json!({"reason": reason, "checkpoint": hexed(proto.encode_to_vec())}))
    .collect();
    let signed: Vec<Value> = [1u8, 2, 4]
        .iter()
        .map(|number| {
            let at = NOW_MS + 5_000 + 100 * u64::from(*number);
            let made = checkpoint::cosign(
                &key(*number),
                &ledger.chain.id,
                &ledger.block.header_hash,
                at,
            );
            let message = [
                &b"cairn v1 cosignature"[..],
                ledger.chain.id.as_bytes(),
                ledger.block.header_hash.as_bytes(),
                &at.to_be_bytes(),
            ]
            .concat();
            json!({
                "secret": hexed([*number; 32]), "public_key": hexed(&made.public_key),
                "cosigned_at_ms": at, "message": hexed(message),
                "signature": hexed(&made.signature),
            })
        })
        .collect();
    json!({
        "cosignatures": signed,
        "checkpoint": hexed(good.encode_to_vec()),
        "latest_as_of_ms": certified.latest_as_of_ms(),
        "certified_by_ms": certified.certified_by_ms(),
        "all_four": {
            "checkpoint": hexed(ledger.certificate(&[1, 2, 3, 4]).encode_to_vec()),
            "latest_as_of_ms": NOW_MS + 5_200,
            "certified_by_ms": NOW_MS + 5_300,
        },
        "refused": refused,
    })
}

fn header_json(ledger: &Ledger) -> Value {
    let header = &ledger.block.header;
    let outcomes: Vec<Value> = ledger
        .block
        .outcomes
        .iter()
        .map(|outcome| {
            json!({
                "entry_id": hexed(&outcome.entry_id), "reason": outcome.rejected,
                "leaf_index": outcome.leaf_index,
            })
        })
        .collect();
    json!({
        "fields": {
            "chain_id": hexed(&header.chain_id), "epoch": header.epoch, "height": header.height,
            "parent_hash": hexed(&header.parent_hash), "timestamp_ms": header.timestamp_ms,
            "term": header.term, "rules_version": header.rules_version,
            "tree_size": header.tree_size, "log_root": hexed(&header.log_root),
            "map_root": hexed(&header.map_root), "outcomes_root": hexed(&header.outcomes_root),
            "members_hash": hexed(&header.members_hash),
            "next_members_hash": hexed(&header.next_members_hash),
            "checkpoint": header.checkpoint,
        },
        "bytes": hexed(&ledger.block.header_bytes),
        "hash": ledger.block.header_hash.to_string(),
        "outcomes": outcomes,
        "proposal": {
            "timestamp_ms": NOW_MS + 5_000, "term": 3, "checkpoint": true,
            "entries": ledger.entries.iter().map(|e| hexed(e.encode_to_vec())).collect::<Vec<_>>(),
        },
    })
}

fn code_json() -> Value {
    let changes = [([0x21; 32], 1), ([0x22; 32], 300)];
    let state = v1::CodeState {
        status: CodeStatus::Red as i32,
        sequence: 2,
        valid_from_ms: 1_000,
        valid_until_ms: 9_000,
        lapses_at_ms: 5_000,
        on_lapse: CodeStatus::Green as i32,
        region: "suzhou".to_owned(),
        order_id: vec![0x41; 32].into(),
        ..Default::default()
    };
    let at = |now: u64| {
        let status = code::effective_status(&state, now).map_or(0, |status| status as i32);
        json!({"at_ms": now, "status": status})
    };
    let refused = [
        ([0x21; 32], 1, RejectReason::CodeStaleSequence),
        ([0x22; 32], 300, RejectReason::CodeUnknown),
    ];
    let told = |(code, sequence): ([u8; 32], u64)| json!({"code": hexed(code), "expected_sequence": sequence});
    let told: Vec<Value> = changes.map(told).into();
    let effective: Vec<Value> = [999, 1_000, 4_999, 5_000, 8_999, 9_000].map(at).into();
    json!({
        "changes": told,
        "changes_root": code::changes_root(changes).to_string(),
        "state": hexed(canonical::encode(&state)),
        "effective": effective,
        "refused": refused.map(|(code, sequence, reason)| json!({
            "code": hexed(code), "expected_sequence": sequence, "reason": reason as i32,
        })),
        "refused_root": code::refused_root(&refused.map(|(code, expected, reason)| code::Refused {
            code, expected, found: None, reason,
        })).to_string(),
        "holder": {
            "salt": hexed([0x51; 32]), "document_number": hexed(b"11010519491231002X"),
            "commitment": code::holder_commitment(&[0x51; 32], b"11010519491231002X").to_string(),
        },
        "acts": acts_json(),
        "history": history_json(),
    })
}

/// A code that was issued, ordered red and released, with what shows all of it.
fn history_json() -> Value {
    let (code, of_chunk) = ([0x21; 32], [0x61; 32]);
    let issued = v1::CodeState {
        status: CodeStatus::Green as i32,
        sequence: 1,
        valid_from_ms: 1_000,
        valid_until_ms: 9_000,
        region: "suzhou".to_owned(),
        ..Default::default()
    };
    let first = v1::ReplacedState {
        state: canonical::encode(&issued),
        blind: history::blind(&of_chunk, &code).to_bytes(),
    };
    let ordered = v1::CodeState {
        status: CodeStatus::Red as i32,
        sequence: 2,
        valid_from_ms: 2_000,
        order_id: vec![0x41; 32].into(),
        check_ins: 6,
        last_check_in_day: 19_000,
        previous: history::link(&first).to_bytes(),
        ..issued.clone()
    };
    let second = v1::ReplacedState {
        state: canonical::encode(&ordered),
        blind: Bytes::new(),
    };
    let released = v1::CodeState {
        status: CodeStatus::Green as i32,
        sequence: 3,
        valid_from_ms: 3_000,
        check_ins: 0,
        last_check_in_day: 0,
        released_at_leaf: 77,
        previous: history::link(&second).to_bytes(),
        ..ordered
    };
    let told = |replaced: &v1::ReplacedState, of_chunk: &[u8]| {
        json!({
            "state": hexed(&replaced.state), "blind": hexed(&replaced.blind),
            "blind_of_chunk": hexed(of_chunk), "hash": history::link(replaced).to_string(),
        })
    };
    json!({
        "code": hexed(code), "state": hexed(canonical::encode(&released)),
        "earlier": [told(&second, &[]), told(&first, &of_chunk)],
    })
}

/// Five acts of an authority, and the proof for the two in the middle with their neighbours.
fn acts_json() -> Value {
    let act = |n: u64| v1::AuthorityAct {
        kind: v1::ActKind::Ordered as i32,
        leaf_index: 10 + n,
        height: 5 + n,
        timestamp_ms: NOW_MS + 1_000 * n,
        region: "suzhou".to_owned(),
        order_id: vec![n as u8; 32].into(),
        reason: "exposure".to_owned(),
        codes: 1,
        ..Default::default()
    };
    let acts: Vec<v1::AuthorityAct> = (1..6).map(act).collect();
    let leaves: Vec<Bytes> = acts.iter().map(canonical::encode).collect();
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| log::leaf_hash(leaf)).collect();
    let tree = TreeId::acts_of(&[0x12; 32]);
    let nothing = MemoryState::default();
    let mut state = Overlay::new(&nothing);
    let root = log::append(&mut state, &tree, 0, &hashes).unwrap();
    let (before, after) = log::prove_range(&state, &tree, 1..5, 5).unwrap();
    let hashed = |hashes: Vec<Hash>| hashes.into_iter().map(Hash::to_bytes).collect();
    let shown = v1::ActRange {
        first_index: 1,
        acts: acts[1..5].to_vec(),
        before: hashed(before),
        after: hashed(after),
    };
    json!({
        "leaves": leaves.iter().map(hexed).collect::<Vec<_>>(),
        "root": root.to_string(),
        "log": hexed(canonical::encode(&v1::AuthorityLog { size: 5, root: root.to_bytes() })),
        "shown": hexed(canonical::encode(&shown)),
        "as_of_ms": NOW_MS + 9_000, "from_ms": NOW_MS + 3_000, "to_ms": NOW_MS + 5_000,
        "inside": [13, 14],
    })
}

/// Rounds that closes pin: in the middle of a period, on its edge, and before the chain starts.
fn beacon_json() -> Value {
    let chain = v1::BeaconChain {
        genesis_time_s: 1_692_803_367,
        period_s: 3,
        ..Default::default()
    };
    let genesis_ms = 1_692_803_367_000;
    let cases = [
        (genesis_ms + 10_000, 600_000),
        (genesis_ms + 11_000, 1_000),
        (genesis_ms + 11_001, 1_000),
        (genesis_ms - 5_000, 4_999),
        (genesis_ms, 1_000),
    ];
    let rounds = cases.map(|(close_ms, margin_ms)| {
        let round = beacon::pinned_round(&chain, close_ms, margin_ms);
        json!({
            "close_ms": close_ms, "margin_ms": margin_ms, "round": round,
            "round_time_ms": beacon::round_time_ms(&chain, round),
        })
    });
    json!({"genesis_time_s": 1_692_803_367, "period_s": 3, "rounds": Vec::from(rounds)})
}

fn ranking_json() -> Value {
    let (seed, tier, quota) = (Hash([0x51; 32]), 1, 3);
    let rows: Vec<(u32, u32)> = (0..8).map(|n| (3 * n, 1 + n % 3)).collect();
    let ranking = draw::rank(&seed, tier, rows.iter().copied());
    let serials: Vec<u32> = ranking.serials().collect();
    let leaves = serials
        .iter()
        .map(|serial| log::leaf_hash(&u64::from(*serial).to_be_bytes()));
    let (cutoff_serial, cutoff_ticket) = ranking.at(quota - 1).unwrap();
    json!({
        "seed": seed.to_string(), "tier": tier, "quota": quota, "rows": rows,
        "serials": serials, "winners": quota,
        "ranking_root": log::root_of(&leaves.collect::<Vec<_>>()).to_string(),
        "cutoff_serial": cutoff_serial, "cutoff_ticket": hexed(cutoff_ticket),
    })
}

/// All vectors.
pub fn vectors() -> Value {
    let genesis = genesis();
    let ledger = Ledger::new(&genesis);
    let secrets: BTreeMap<String, String> =
        [1u8, 2, 3, 4, 5, 0x11, 0x12, 0x13, 0x21, 0x22, 0x23, 0x24]
            .map(|number| (hexed(public(number)), hexed([number; 32])))
            .into();
    let map_receipt = |receipt: v1::MapReceipt| {
        let value = receipt.proof.as_ref().map(|proof| hexed(&proof.value));
        json!({
            "namespace": receipt.namespace, "key": hexed(&receipt.key), "value": value,
            "bytes": hexed(receipt.encode_to_vec()),
        })
    };
    let [by_other, by_empty] = ledger.absent();
    let receipt = ledger.receipt(0);
    let (change, epoch_change, later) = ledger.changed();
    json!({
        "source": "Made by ledger/tests/formats/generate.rs and explained in docs/formats.md. Bytes \
                   are hexadecimal. The secret keys are public: never use them.",
        "domains": domains(),
        "canonical": canonical_examples(&ledger),
        "ed25519": ed25519(),
        "genesis": {
            "bytes": hexed(&ledger.chain.bytes),
            "chain_id": ledger.chain.id.to_string(),
            "members_hash": genesis::members_hash(&ledger.chain.members).to_string(),
            "secrets_by_public_key": secrets,
        },
        "entry": entry_json(&ledger),
        "log": log_json(),
        "map": map_json(),
        "header": header_json(&ledger),
        "certificate": certificate_json(&ledger),
        "receipt": {
            "bytes": hexed(receipt.encode_to_vec()),
            "body": hexed(&ledger.entries[0].body),
            "entry_id": hash::plain(&receipt.envelope).to_string(),
            "leaf_index": 0,
        },
        "epoch_change": {
            "bytes": hexed(epoch_change.encode_to_vec()),
            "members_hash": genesis::members_hash(&epoch_change.next_members.unwrap()).to_string(),
            "entry": hexed(change.encode_to_vec()),
            "receipt": hexed(later.encode_to_vec()),
            "entry_id": hash::plain(&later.envelope).to_string(),
            "leaf_index": later.inclusion.unwrap().leaf_index,
        },
        "map_receipt": {
            "present": map_receipt(ledger.map_receipt("code", &[0x21; 32])),
            "absent_by_other_leaf": map_receipt(by_other),
            "absent_by_empty_subtree": map_receipt(by_empty),
        },
        "beacon": beacon_json(),
        "ranking": ranking_json(),
        "code": code_json(),
    })
}
