//! A ledger in a folder: keys and a genesis made by the command itself, and one block with one
//! entry, certified by its members, without any node.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use bytes::Bytes;
use cairn_ledger::apply::{self, Applied};
use cairn_ledger::canonical;
use cairn_ledger::checkpoint::cosign;
use cairn_ledger::entry::{Draft, compose};
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::{self, Hash};
use cairn_ledger::log::{self, TreeId};
use cairn_ledger::map;
use cairn_ledger::state::MemoryState;
use cairn_ledger::verify;
use cairn_proto::v1;
use ed25519_dalek::SigningKey;
use serde_json::Value;

/// The command with its output in JSON, and with nothing of the caller's environment.
pub fn cairn(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("cairn").unwrap();
    for variable in ["CAIRN_NODE", "CAIRN_CHAIN_ID", "CAIRN_GENESIS"] {
        command.env_remove(variable);
    }
    command.args(args);
    command
}

/// Fails with `code`; what it said.
pub fn fails(args: &[&str], code: i32) -> String {
    let assert = cairn(args).assert().code(code);
    let output = assert.get_output();
    assert!(output.stdout.is_empty(), "results of a failed command");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a successful command printed.
pub fn json(args: &[&str]) -> Value {
    let output = cairn(args).args(["-o", "json"]).assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

/// Makes a key and returns its public part.
pub fn key(folder: &Path, purpose: &str, name: &str) -> Value {
    let file = folder.join(format!("{name}.key"));
    json(&[
        "key",
        "new",
        "--purpose",
        purpose,
        "--out",
        file.to_str().unwrap(),
    ])
}

/// A plan of four members and one author; `policy` is put into its table.
pub fn plan(folder: &Path, policy: &str) -> String {
    let roles = ["notary", "government", "government", "institute"];
    let members = (1..).zip(roles).map(|(raft_id, role)| {
        let [cosign, network, seed] = ["cosign", "network", "seed"]
            .map(|purpose| key(folder, purpose, &format!("{purpose}-{raft_id}")));
        format!(
            "[[member]]\nraft_id = {raft_id}\ninstitution = \"Institution {raft_id}\"\n\
             role = \"{role}\"\ncosign_key = {}\npeer_id = {}\nseed_key = {}\n\
             seed_key_proof = {}\n",
            cosign["public_key"],
            network["peer_id"],
            seed["public_key"],
            seed["proof_of_possession"]
        )
    });
    let members: String = members.collect();
    let author = &key(folder, "author", "author")["public_key"];
    format!(
        "name = \"test\"\n[policy]\n{policy}\n{members}\
         [[author]]\npublic_key = {author}\nname = \"Notary\"\nrole = \"notary\"\n"
    )
}

/// A ledger of one block after its genesis.
pub struct Ledger {
    folder: tempfile::TempDir,
    pub chain: Chain,
    state: MemoryState,
    block: Applied,
    /// Records a document.
    pub entry: v1::SignedEntry,
    /// The hash of the document that the entry records.
    pub document: Hash,
}

impl Ledger {
    pub fn new() -> Ledger {
        let folder = tempfile::tempdir().unwrap();
        let chain = genesis(folder.path());
        let document = hash::plain(b"a document");
        let author = secret(&folder.path().join("author.key"));
        let entry = evidence(&chain, &author, &document, 7);
        let mut state = MemoryState::default();
        state.commit(apply::genesis_block(&chain).unwrap().writes);
        let block = block(&chain, &state, vec![entry.clone()]);
        assert_eq!(block.header.tree_size, 1, "the entry was accepted");
        state.commit(block.writes.clone());
        Ledger {
            folder,
            chain,
            state,
            block,
            entry,
            document,
        }
    }

    /// An entry like the recorded one.
    pub fn evidence(&self, nonce: u8) -> v1::SignedEntry {
        let author = secret(&self.folder.path().join("author.key"));
        evidence(&self.chain, &author, &self.document, nonce)
    }

    /// The block's certificate, by so many members.
    pub fn checkpoint(&self, cosigners: u32) -> v1::Checkpoint {
        self.certificate(&self.block, cosigners)
    }

    /// The certificate of another block at the same height: all members are misbehaving.
    pub fn other_block(&self) -> v1::Checkpoint {
        let mut state = MemoryState::default();
        state.commit(apply::genesis_block(&self.chain).unwrap().writes);
        self.certificate(&block(&self.chain, &state, Vec::new()), 4)
    }

    fn certificate(&self, block: &Applied, cosigners: u32) -> v1::Checkpoint {
        let at = block.header.timestamp_ms;
        let cosignatures = (1..=cosigners).map(|raft_id| {
            cosign(
                &self.cosign_key(raft_id),
                &self.chain.id,
                &block.header_hash,
                at + u64::from(raft_id),
            )
        });
        let mut cosignatures: Vec<_> = cosignatures.collect();
        cosignatures.sort_by(|a, b| a.public_key.cmp(&b.public_key));
        v1::Checkpoint {
            header: block.header_bytes.clone(),
            cosignatures,
        }
    }

    fn file(&self, proof: v1::ProofFile) -> Vec<u8> {
        let file = v1::ProofFile {
            genesis: self.chain.bytes.clone(),
            ..proof
        };
        verify::write_file(&file).to_vec()
    }

    /// A file that proves the entry, with its body.
    pub fn entry_proof(&self, cosigners: u32) -> Vec<u8> {
        let path = log::inclusion_proof(&self.state, &TreeId::LEDGER, 0, 1).unwrap();
        self.file(v1::ProofFile {
            receipt: Some(v1::Receipt {
                envelope: self.entry.envelope.clone(),
                signatures: self.entry.signatures.clone(),
                inclusion: Some(v1::InclusionProof {
                    leaf_index: 0,
                    path: path.into_iter().map(Hash::to_bytes).collect(),
                }),
                checkpoint: Some(self.checkpoint(cosigners)),
                epoch_changes: vec![],
            }),
            body: self.entry.body.clone(),
            ..v1::ProofFile::default()
        })
    }

    /// What the map holds under a key, certified.
    pub fn map_receipt(&self, namespace: &str, key: &[u8]) -> v1::MapReceipt {
        let root = Hash::from_slice(&self.block.header.map_root).unwrap();
        let proof = map::prove(&self.state, &root, &map::map_key(namespace, key)).unwrap();
        v1::MapReceipt {
            namespace: namespace.to_owned(),
            key: Bytes::copy_from_slice(key),
            proof: Some(proof),
            checkpoint: Some(self.checkpoint(4)),
            epoch_changes: vec![],
        }
    }

    /// A file that proves what the map holds under a key.
    pub fn map_proof(&self, namespace: &str, key: &[u8]) -> Vec<u8> {
        self.file(v1::ProofFile {
            map_receipt: Some(self.map_receipt(namespace, key)),
            ..v1::ProofFile::default()
        })
    }

    /// The key that a member cosigns with.
    pub fn cosign_key(&self, raft_id: u32) -> SigningKey {
        secret(&self.folder.path().join(format!("cosign-{raft_id}.key")))
    }

    /// A path in the ledger's folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file into the ledger's folder.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn genesis(folder: &Path) -> Chain {
    let (plan_file, out) = (folder.join("plan.toml"), folder.join("genesis.bin"));
    std::fs::write(&plan_file, plan(folder, "")).unwrap();
    let [plan_file, out] = [&plan_file, &out].map(|path| path.to_str().unwrap());
    json(&["genesis", "new", "--plan", plan_file, "--out", out]);
    Chain::from_bytes(&std::fs::read(out).unwrap()).unwrap()
}

fn block(chain: &Chain, state: &MemoryState, entries: Vec<v1::SignedEntry>) -> Applied {
    let proposal = v1::Proposal {
        timestamp_ms: chain.genesis.created_at_ms + 1,
        checkpoint: true,
        certificate: None,
        entries,
    };
    apply::replay(chain, state, &proposal, 1).unwrap()
}

fn evidence(chain: &Chain, author: &SigningKey, document: &Hash, nonce: u8) -> v1::SignedEntry {
    let draft = Draft {
        kind: v1::EntryKind::Evidence,
        visibility: v1::Visibility::Public,
        subject: document.to_bytes(),
        nonce: [nonce; 16],
        not_after_ms: chain.genesis.created_at_ms + 60_000,
        body: canonical::encode(&v1::Evidence {
            hash: document.to_bytes(),
            title: "A document".to_owned(),
            ..v1::Evidence::default()
        }),
    };
    compose(&chain.id, draft, author, &[])
}

/// The secret in a key file.
fn secret(path: &Path) -> SigningKey {
    let line = std::fs::read_to_string(path).unwrap();
    let digits = line.split_whitespace().nth(1).unwrap();
    let bytes: [u8; 32] = hex::decode(digits).unwrap().try_into().unwrap();
    SigningKey::from_bytes(&bytes)
}
