//! Entries, proofs, certificates, the genesis, canonical bytes.
//!
//! The truth is that of the golden vectors. Nobody here has a key: what is accepted must be what
//! was signed there.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anyhow::Context as _;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::redemption_code::RedemptionCode;
use cairn_ledger::{admission, canonical, checkpoint, log, map, verify};
use cairn_proto::schema::Described;
use cairn_proto::v1;
use prost::Message;
use serde_json::Value;

use super::{Target, must, plain};

const VECTORS: &str = include_str!("../../../ledger/vectors/formats.json");

/// What is true.
struct Truth {
    chain: Chain,
    genesis: Vec<u8>,
    entries: Vec<Vec<u8>>,
    receipt: Vec<u8>,
    body: Vec<u8>,
    map_receipts: Vec<Vec<u8>>,
    certificates: Vec<Vec<u8>>,
    canonical: Vec<Vec<u8>>,
    leaves: Vec<Hash>,
    roots: Vec<Hash>,
    inclusion: Vec<(u64, u64, Vec<Hash>)>,
    consistency: Vec<(u64, u64, Vec<Hash>)>,
    map_root: Hash,
    map: BTreeMap<Hash, Vec<u8>>,
    map_proofs: Vec<(Hash, v1::MapProof)>,
}

fn bytes(value: &Value) -> anyhow::Result<Vec<u8>> {
    Ok(hex::decode(
        value.as_str().context("no hex in the vectors")?,
    )?)
}

fn hash(value: &Value) -> anyhow::Result<Hash> {
    Hash::from_slice(&bytes(value)?).context("no hash in the vectors")
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
    let items = value.as_array().context("no list in the vectors")?;
    items.iter().map(read).collect()
}

fn number(value: &Value) -> anyhow::Result<u64> {
    value.as_u64().context("no number in the vectors")
}

impl Truth {
    fn load() -> anyhow::Result<Truth> {
        let all: Value = serde_json::from_str(VECTORS)?;
        let genesis = bytes(&all["genesis"]["bytes"])?;
        let path = |from: &'static str, to: &'static str| {
            move |v: &Value| {
                let path = list(&v["path"], hash)?;
                Ok((number(&v[from])?, number(&v[to])?, path))
            }
        };
        let namespace = all["map"]["namespace"].as_str().context("namespace")?;
        let pairs = list(&all["map"]["pairs"], |v| {
            Ok((hash(&v["key"])?, bytes(&v["value"])?))
        })?;
        let map_proofs = list(&all["map"]["proofs"], |v| {
            let proof = &v["proof"];
            let depth = u32::try_from(number(&proof["depth"])?)?;
            let read = v1::MapProof {
                sibling_bitmap: bytes(&proof["sibling_bitmap"])?.into(),
                depth,
                siblings: list(&proof["siblings"], |s| Ok(bytes(s)?.into()))?,
                value: bytes(&proof["value"])?.into(),
                other_key: bytes(&proof["other_key"])?.into(),
                other_value_hash: bytes(&proof["other_value_hash"])?.into(),
            };
            Ok((map::map_key(namespace, &bytes(&v["raw"])?), read))
        })?;
        let map_receipts = ["present", "absent_by_other_leaf", "absent_by_empty_subtree"];
        let map_receipts = map_receipts.map(|name| bytes(&all["map_receipt"][name]["bytes"]));
        Ok(Truth {
            chain: Chain::from_bytes(&genesis)?,
            genesis,
            entries: list(&all["header"]["proposal"]["entries"], bytes)?,
            receipt: bytes(&all["receipt"]["bytes"])?,
            body: bytes(&all["receipt"]["body"])?,
            map_receipts: map_receipts.into_iter().collect::<anyhow::Result<_>>()?,
            certificates: vec![
                bytes(&all["certificate"]["checkpoint"])?,
                bytes(&all["certificate"]["all_four"]["checkpoint"])?,
            ],
            canonical: list(&all["canonical"]["accepted"], |v| bytes(&v["bytes"]))?,
            leaves: list(&all["log"]["leaf_hashes"], hash)?,
            roots: list(&all["log"]["roots"], hash)?,
            inclusion: list(&all["log"]["inclusion"], path("leaf_index", "tree_size"))?,
            consistency: list(&all["log"]["consistency"], path("old_size", "new_size"))?,
            map_root: hash(&all["map"]["root"])?,
            map: pairs.into_iter().collect(),
            map_proofs,
        })
    }
}

/// All targets of the ledger.
pub fn all() -> anyhow::Result<Vec<Box<dyn Target>>> {
    let truth = Rc::new(Truth::load()?);
    Ok(vec![
        entries(truth.clone()),
        proof_files(truth.clone())?,
        certificates(truth.clone()),
        log_proofs(truth.clone()),
        map_proofs(truth.clone()),
        genesis(truth.clone()),
        canonical(truth),
        redemption_codes(),
    ])
}

/// As a counter's scanner reads them.
fn redemption_codes() -> Box<dyn Target> {
    let code = RedemptionCode {
        serial: 543_383,
        signed_at_ms: 1_795_341_600_000,
        identity_hash: Hash([7; 32]),
        holder_key: [8; 32],
        signature: [9; 64],
    };
    plain("redemption_codes", vec![code.to_text().into()], |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return Ok("not UTF-8".to_owned());
        };
        match RedemptionCode::from_text(text) {
            Ok(code) => {
                must(code.to_text() == text, "two texts of one code")?;
                Ok("read".to_owned())
            }
            Err(error) => Ok(error.to_string()),
        }
    })
}

fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// As `SubmitEntry` takes them.
fn entries(truth: Rc<Truth>) -> Box<dyn Target> {
    let seeds = truth.entries.clone();
    let signed = |bytes: &Vec<u8>| v1::SignedEntry::decode(&bytes[..]).unwrap_or_default();
    let known: BTreeSet<_> = seeds.iter().map(|e| signed(e).envelope).collect();
    plain("entries", seeds, move |input| {
        let entry = match v1::SignedEntry::decode(input) {
            Ok(entry) => entry,
            Err(error) => return Ok(error.to_string()),
        };
        match admission::admit(&truth.chain, entry) {
            Ok(admitted) => {
                let signed = &admitted.signed.envelope;
                must(
                    known.contains(signed),
                    "an entry that nobody signed is admitted",
                )?;
                Ok("admitted".to_owned())
            }
            Err(error) => Ok(error.to_string()),
        }
    })
}

fn proof_files(truth: Rc<Truth>) -> anyhow::Result<Box<dyn Target>> {
    let file = |f: v1::ProofFile| {
        let genesis = truth.genesis.clone().into();
        verify::write_file(&v1::ProofFile { genesis, ..f }).to_vec()
    };
    let receipt = v1::Receipt::decode(&truth.receipt[..])?;
    let mut seeds = vec![
        file(v1::ProofFile {
            receipt: Some(receipt.clone()),
            body: truth.body.clone().into(),
            ..v1::ProofFile::default()
        }),
        file(v1::ProofFile {
            applicant: Some(v1::ApplicantProof {
                lottery_id: vec![1; 32].into(),
                serial: 3,
                commitment: vec![2; 32].into(),
                tag: vec![3; 32].into(),
                weight: 1,
                roster_inclusion: receipt.inclusion.clone(),
                lottery: truth.map_proofs.first().map(|(_, proof)| proof.clone()),
                checkpoint: receipt.checkpoint.clone(),
                ..v1::ApplicantProof::default()
            }),
            ..v1::ProofFile::default()
        }),
    ];
    let mut values = BTreeMap::new();
    for bytes in &truth.map_receipts {
        let receipt = v1::MapReceipt::decode(&bytes[..])?;
        let proof = receipt.proof.clone().unwrap_or_default();
        let key = (receipt.namespace.clone(), receipt.key.clone());
        values.insert(key, (!proof.value.is_empty()).then_some(proof.value));
        seeds.push(file(v1::ProofFile {
            map_receipt: Some(receipt),
            ..v1::ProofFile::default()
        }));
    }
    let feed = move |input: &[u8]| {
        let (chain, file) = match verify::read_file(&truth.chain.id, input) {
            Ok(read) => read,
            Err(error) => return Ok(error.to_string()),
        };
        if let Some(shown) = &file.receipt {
            let body = (!file.body.is_empty()).then_some(&file.body[..]);
            return match verify::receipt(&chain, shown, body) {
                Ok(_) => must(
                    *shown == receipt || same_entry(shown, &receipt),
                    "a forged receipt",
                )
                .map(|()| "a receipt".to_owned()),
                Err(error) => Ok(error.to_string()),
            };
        }
        if let Some(shown) = &file.map_receipt {
            return match verify::map_receipt(&chain, shown) {
                Ok(found) => {
                    let known = values.get(&(found.namespace, found.key)).cloned().flatten();
                    must(found.value == known, "a forged value or absence")?;
                    Ok("a value or absence".to_owned())
                }
                Err(error) => Ok(error.to_string()),
            };
        }
        let shown = file.applicant.unwrap_or_default();
        match verify::applicant(&chain, &shown, None) {
            Ok(_) => Err("a forged applicant's proof".to_owned()),
            Err(error) => Ok(error.to_string()),
        }
    };
    Ok(plain("proof_files", seeds, feed))
}

/// Only cosignatures may differ: each counts alone, and fewer may do.
fn same_entry(a: &v1::Receipt, b: &v1::Receipt) -> bool {
    let header = |r: &v1::Receipt| r.checkpoint.as_ref().map(|c| c.header.clone());
    a.envelope == b.envelope
        && a.signatures == b.signatures
        && a.inclusion == b.inclusion
        && header(a) == header(b)
}

fn certificates(truth: Rc<Truth>) -> Box<dyn Target> {
    let seeds = truth.certificates.clone();
    let decoded = |bytes: &Vec<u8>| v1::Checkpoint::decode(&bytes[..]).unwrap_or_default();
    let known: BTreeSet<_> = seeds.iter().map(|c| decoded(c).header).collect();
    plain("certificates", seeds, move |input| {
        let shown = match v1::Checkpoint::decode(input) {
            Ok(shown) => shown,
            Err(error) => return Ok(error.to_string()),
        };
        match checkpoint::certify(&truth.chain.id, &truth.chain.members, &shown) {
            Ok(_) => must(known.contains(&shown.header), "a forged certificate")
                .map(|()| "certified".to_owned()),
            Err(error) => Ok(error.to_string()),
        }
    })
}

/// Two sizes, and the path.
fn log_input(kind: u8, a: u64, b: u64, path: &[Hash]) -> Vec<u8> {
    let mut input = vec![kind];
    input.extend_from_slice(&a.to_be_bytes());
    input.extend_from_slice(&b.to_be_bytes());
    for hash in path {
        input.extend_from_slice(hash.as_bytes());
    }
    input
}

fn log_proofs(truth: Rc<Truth>) -> Box<dyn Target> {
    let mut seeds = Vec::new();
    for (index, size, path) in &truth.inclusion {
        seeds.push(log_input(0, *index, *size, path));
    }
    for (old, new, path) in &truth.consistency {
        seeds.push(log_input(1, *old, *new, path));
    }
    plain("log_proofs", seeds, move |input| {
        let Some((head, path)) = input.split_at_checked(17) else {
            return Ok("short".to_owned());
        };
        let number = |at: usize| {
            head[at..at + 8]
                .iter()
                .fold(0, |n, b| n << 8 | u64::from(*b))
        };
        let (a, b) = (number(1), number(9));
        let path: Vec<bytes::Bytes> = path.chunks(32).map(bytes::Bytes::copy_from_slice).collect();
        let path = match log::read_path(&path) {
            Ok(path) => path,
            Err(error) => return Ok(error.to_string()),
        };
        let root = |size: u64| {
            let known = usize::try_from(size).ok().and_then(|s| truth.roots.get(s));
            (known.copied().unwrap_or(Hash::ZERO), known.is_some())
        };
        if head[0] & 1 == 0 {
            let (root, known) = root(b);
            for (at, leaf) in (0..).zip(&truth.leaves) {
                if log::verify_inclusion(leaf, a, b, &path, &root).is_ok() {
                    must(at == a && known, "a leaf is proven where it is not")?;
                    return Ok("included".to_owned());
                }
            }
            let leaf = truth.leaves.first().copied().unwrap_or(Hash::ZERO);
            return match log::verify_inclusion(&leaf, a, b, &path, &root) {
                Ok(()) => Ok("included".to_owned()),
                Err(error) => Ok(error.to_string()),
            };
        }
        let ((old, _), (new, _)) = (root(a), root(b));
        Ok(
            match said(log::verify_consistency(a, &old, b, &new, &path)) {
                Ok(()) => "consistent".to_owned(),
                Err(error) => error,
            },
        )
    })
}

fn map_proofs(truth: Rc<Truth>) -> Box<dyn Target> {
    let seeds = truth.map_proofs.iter();
    let seeds = seeds.map(|(key, proof)| [key.as_bytes(), &proof.encode_to_vec()[..]].concat());
    plain("map_proofs", seeds.collect(), move |input| {
        let Some((key, proof)) = input.split_at_checked(32) else {
            return Ok("short".to_owned());
        };
        let key = Hash::from_slice(key).unwrap_or(Hash::ZERO);
        let proof = match v1::MapProof::decode(proof) {
            Ok(proof) => proof,
            Err(error) => return Ok(error.to_string()),
        };
        match map::verify(&truth.map_root, &key, &proof) {
            Ok(found) => {
                let known = truth.map.get(&key);
                must(
                    found.as_deref() == known.map(|value| &value[..]),
                    "a value or an absence is proven that is none",
                )?;
                Ok(format!("proven {}", known.is_some()))
            }
            Err(error) => Ok(error.to_string()),
        }
    })
}

fn genesis(truth: Rc<Truth>) -> Box<dyn Target> {
    plain(
        "genesis",
        vec![truth.genesis.clone()],
        |input| match Chain::from_bytes(input) {
            Ok(chain) => {
                let again = canonical::encode(&chain.genesis);
                must(again == input, "a genesis with two encodings")?;
                Ok("a chain".to_owned())
            }
            Err(error) => Ok(error.to_string()),
        },
    )
}

fn one<M: Message + Default + Described>(input: &[u8]) -> Result<String, String> {
    match canonical::decode::<M>(input) {
        Ok(message) => {
            let again = canonical::encode(&message);
            must(again == input, "canonical bytes that encode otherwise")?;
            Ok("canonical".to_owned())
        }
        Err(error) => Ok(error.to_string()),
    }
}

type Decode = fn(&[u8]) -> Result<String, String>;

/// Messages that are hashed or signed; the first byte of an input chooses.
const MESSAGES: [Decode; 10] = [
    one::<v1::StatusOrder>,
    one::<v1::StatusChunk>,
    one::<v1::Envelope>,
    one::<v1::Header>,
    one::<v1::Genesis>,
    one::<v1::ProofFile>,
    one::<v1::Receipt>,
    one::<v1::MapReceipt>,
    one::<v1::LotteryState>,
    one::<v1::Evidence>,
];

fn canonical(truth: Rc<Truth>) -> Box<dyn Target> {
    let known = [&truth.genesis, &truth.receipt, &truth.body];
    let known = known.into_iter().chain(&truth.map_receipts);
    let all = known.chain(&truth.canonical).flat_map(|bytes| {
        let choices = 0..u8::try_from(MESSAGES.len()).unwrap_or(u8::MAX);
        choices.map(move |choice| [&[choice], &bytes[..]].concat())
    });
    plain("canonical", all.collect(), |input| {
        let (choice, bytes) = input.split_first().unwrap_or((&0, &[]));
        let decode = MESSAGES[usize::from(*choice) % MESSAGES.len()];
        decode(bytes).map(|answer| format!("{}: {answer}", char::from(b'a' + choice % 10)))
    })
}
