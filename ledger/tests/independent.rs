//! A second verifier, written from `docs/formats.md` alone: a protobuf reader by hand, BLAKE3 and
//! Ed25519 from their own crates, and nothing of `cairn_ledger`. It reads the golden vectors, and
//! then judges every flipped bit of them as the first verifier does.
//!
//! What stays out: the soundness of a genesis (its hash is pinned) and lotteries.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::Value;

type Hash = [u8; 32];
type Refused = &'static str;
/// Namespace, key and value; an empty value is a proven absence.
type Statement = (Vec<u8>, Vec<u8>, Vec<u8>);

fn refuse_unless(holds: bool, why: Refused) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(why) }
}

// Section 2: canonical bytes.

/// What a field holds; `R` for repeated.
#[derive(Clone, Copy)]
enum Type {
    Number(u64),
    Enum(&'static [u64]),
    Bytes,
    Text,
    Message(&'static [Type]),
    RBytes,
    RText,
    REnum(&'static [u64]),
    RMessage(&'static [Type]),
    /// No field has this number.
    None,
}
use Type::{Bytes, Enum, Message, Number, RBytes, REnum, RMessage, RText, Text};

const U64: Type = Number(u64::MAX);
const U32: Type = Number(u32::MAX as u64);
const BOOL: Type = Number(1);
const ROLE: Type = Enum(&[0, 1, 2, 3, 4, 5, 6, 7]);
const KIND: Type = Enum(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 20, 30, 31, 32, 40]);
const UP_TO_2: &[u64] = &[0, 1, 2];
const UP_TO_3: &[u64] = &[0, 1, 2, 3];

/// Messages by their fields, from number 1 on (section 19).
const ENVELOPE: &[Type] = &[
    Bytes,
    KIND,
    Bytes,
    Bytes,
    U64,
    Enum(UP_TO_2),
    Bytes,
    U64,
    Bytes,
];
const SIGNATURE: &[Type] = &[Bytes, Enum(UP_TO_2), Bytes];
const HEADER: &[Type] = &[
    Bytes, U64, U64, Bytes, U64, U64, U32, U64, Bytes, Bytes, Bytes, Bytes, Bytes, BOOL,
];
const COSIGNATURE: &[Type] = &[Bytes, U64, Bytes];
const CHECKPOINT: &[Type] = &[Bytes, RMessage(COSIGNATURE)];
const INCLUSION: &[Type] = &[U64, RBytes];
const RECEIPT: &[Type] = &[
    Bytes,
    RMessage(SIGNATURE),
    Message(INCLUSION),
    Message(CHECKPOINT),
    RMessage(EPOCH_CHANGE),
];
const EPOCH_CHANGE: &[Type] = &[Message(CHECKPOINT), Message(MEMBER_SET)];
const MAP_PROOF: &[Type] = &[Bytes, U32, RBytes, Bytes, Bytes, Bytes];
const MAP_RECEIPT: &[Type] = &[
    Text,
    Bytes,
    Message(MAP_PROOF),
    Message(CHECKPOINT),
    RMessage(EPOCH_CHANGE),
];
const MEMBER: &[Type] = &[U64, Text, ROLE, Bytes, Bytes, Bytes, Bytes, Bytes, Text];
const POLICY: &[Type] = &[U32, U32, BOOL];
const MEMBER_SET: &[Type] = &[U64, RMessage(MEMBER), Message(POLICY)];
const LIMITS: &[Type] = &[U32, U32, U32, U64, U32, U64];
const AUTHOR: &[Type] = &[Bytes, Text, ROLE];
const MANDATE: &[Type] = &[Bytes, Text, RText, REnum(UP_TO_3), U64, ROLE];
const MANDATE_POLICY: &[Type] = &[RBytes, U32];
const GENESIS: &[Type] = &[
    Text,
    U64,
    U32,
    Message(MEMBER_SET),
    Message(LIMITS),
    RMessage(AUTHOR),
    RMessage(MANDATE),
    Message(MANDATE_POLICY),
];

/// The fields of a message that was walked, in their order.
struct Fields<'a>(Vec<(u64, u64, &'a [u8])>);

impl<'a> Fields<'a> {
    fn number(&self, field: u64) -> u64 {
        self.0.iter().find(|f| f.0 == field).map_or(0, |f| f.1)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.0.iter().filter(move |f| f.0 == field).map(|f| f.2)
    }

    fn bytes(&self, field: u64) -> &'a [u8] {
        self.all(field).next().unwrap_or_default()
    }

    fn hash(&self, field: u64) -> Result<Hash, Refused> {
        self.bytes(field).try_into().map_err(|_| "not 32 bytes")
    }

    fn message(&self, field: u64, types: &[Type]) -> Result<Fields<'a>, Refused> {
        walk(types, self.all(field).next().ok_or("a part is missing")?)
    }
}

fn varint(input: &mut &[u8]) -> Result<u64, Refused> {
    let mut value: u128 = 0;
    for at in 0..10 {
        let (byte, rest) = input.split_first().ok_or("cut short")?;
        *input = rest;
        value |= u128::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            refuse_unless(*byte != 0 || at == 0, "a varint is not minimal")?;
            return u64::try_from(value).map_err(|_| "a varint above 2^64");
        }
    }
    Err("a varint is too long")
}

fn walk<'a>(types: &[Type], mut input: &'a [u8]) -> Result<Fields<'a>, Refused> {
    let (mut fields, mut last) = (Vec::new(), 0);
    while !input.is_empty() {
        let key = varint(&mut input)?;
        let (field, wire) = (key >> 3, key & 7);
        let at = usize::try_from(field).unwrap_or(0).checked_sub(1);
        let of = at
            .and_then(|at| types.get(at))
            .copied()
            .unwrap_or(Type::None);
        let repeats = matches!(of, RBytes | RText | RMessage(_));
        refuse_unless(
            field > last || (field == last && repeats),
            "fields do not ascend",
        )?;
        last = field;
        let (mut number, mut content) = (0, &input[..0]);
        if matches!(of, Number(_) | Enum(_)) {
            refuse_unless(wire == 0, "wire type")?;
            number = varint(&mut input)?;
            refuse_unless(number != 0, "an explicit default")?;
        } else {
            refuse_unless(wire == 2, "wire type")?;
            let len = usize::try_from(varint(&mut input)?).map_err(|_| "cut short")?;
            (content, input) = input.split_at_checked(len).ok_or("cut short")?;
        }
        match of {
            Number(most) => refuse_unless(number <= most, "a number is too large")?,
            Enum(known) => refuse_unless(known.contains(&number), "an unknown number")?,
            Bytes | Text => refuse_unless(!content.is_empty(), "an explicit default")?,
            REnum(known) => {
                refuse_unless(!content.is_empty(), "an explicit default")?;
                let mut packed = content;
                while !packed.is_empty() {
                    let number = varint(&mut packed)?;
                    refuse_unless(known.contains(&number), "an unknown number")?;
                }
            }
            Message(types) | RMessage(types) => drop(walk(types, content)?),
            RBytes | RText => {}
            Type::None => return Err("an unknown field"),
        }
        if matches!(of, Text | RText) {
            std::str::from_utf8(content).map_err(|_| "not UTF-8")?;
        }
        fields.push((field, number, content));
    }
    Ok(Fields(fields))
}

// Section 3: hashes.

fn plain(parts: &[&[u8]]) -> Hash {
    *blake3::hash(&parts.concat()).as_bytes()
}

fn domain(tag: &str, data: &[u8]) -> Hash {
    *blake3::keyed_hash(&plain(&[tag.as_bytes()]), data).as_bytes()
}

fn domain_parts(tag: &str, parts: &[&[u8]]) -> Hash {
    let framed = parts
        .iter()
        .map(|part| [&(part.len() as u64).to_be_bytes(), *part].concat());
    domain(tag, &framed.collect::<Vec<_>>().concat())
}

// Section 4: keys and signatures.

fn signed(key: &[u8], message: &[&[u8]], signature: &[u8]) -> Result<(), Refused> {
    let key: &Hash = key.try_into().map_err(|_| "a key has 32 bytes")?;
    let mut y = *key;
    y[31] &= 0x7f;
    let mut p = [0xff; 32];
    (p[0], p[31]) = (0xed, 0x7f);
    refuse_unless(y.iter().rev().lt(p.iter().rev()), "y is not below p")?;
    let point = VerifyingKey::from_bytes(key).map_err(|_| "the key is no point")?;
    refuse_unless(!point.is_weak(), "the key is of small order")?;
    let signature = Signature::from_slice(signature).map_err(|_| "no signature")?;
    let verdict = point.verify_strict(&message.concat(), &signature);
    verdict.map_err(|_| "the signature does not verify")
}

// Section 7: the log.

fn inclusion(leaf: Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> Result<(), Refused> {
    refuse_unless(index < size, "no such leaf")?;
    let (mut f, mut s, mut r) = (index, size - 1, leaf);
    for p in path {
        refuse_unless(s != 0, "the path is too long")?;
        if f % 2 == 1 || f == s {
            r = plain(&[&[1], p, &r]);
            while f % 2 == 0 && f != 0 {
                (f, s) = (f / 2, s / 2);
            }
        } else {
            r = plain(&[&[1], &r, p]);
        }
        (f, s) = (f / 2, s / 2);
    }
    refuse_unless(s == 0 && r == *root, "the path does not lead to the root")
}

// Section 8: the map.

fn map_leaf(key: &Hash, value_hash: &Hash) -> Hash {
    let mut hash = domain("cairn v1 map leaf", &[*key, *value_hash].concat());
    hash[0] |= 0x80;
    hash
}

fn bit(bytes: &[u8], at: usize) -> bool {
    bytes
        .get(at / 8)
        .is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
}

/// The value, empty where absence is proven.
fn map_proof(root: &Hash, key: &Hash, proof: &Fields<'_>) -> Result<Vec<u8>, Refused> {
    let (bitmap, depth) = (proof.bytes(1), proof.number(2) as usize);
    let (value, other) = (proof.bytes(4), (proof.bytes(5), proof.bytes(6)));
    refuse_unless(depth <= 256, "too deep")?;
    let mut h = match (value, other) {
        ([], ([], [])) => [0; 32],
        (value, ([], [])) => map_leaf(key, &domain("cairn v1 map value", value)),
        ([], _) => {
            let (other, value_hash) = (proof.hash(5)?, proof.hash(6)?);
            let shares = (0..depth).all(|at| bit(&other, at) == bit(key, at));
            refuse_unless(other != *key && shares, "the other leaf is not on the way")?;
            map_leaf(&other, &value_hash)
        }
        _ => return Err("a value and another leaf"),
    };
    let mut siblings: Vec<&[u8]> = proof.all(3).collect();
    let set = (0..8 * bitmap.len()).filter(|at| bit(bitmap, *at));
    refuse_unless(bitmap.len() == depth.div_ceil(8), "the bitmap's length")?;
    refuse_unless(set.clone().all(|at| at < depth), "bits behind the depth")?;
    refuse_unless(set.count() == siblings.len(), "as many siblings as bits")?;
    for level in (0..depth).rev() {
        let mut s = [0; 32];
        if bit(bitmap, level) {
            let sibling = siblings.pop().unwrap_or_default();
            s = sibling.try_into().map_err(|_| "a sibling has 32 bytes")?;
            refuse_unless(s != [0; 32], "an empty sibling in the list")?;
        }
        let lone = s == [0; 32] || (h == [0; 32] && s[0] & 0x80 != 0);
        refuse_unless(level + 1 != depth || !lone, "not compact")?;
        let pair = if bit(key, level) { [s, h] } else { [h, s] };
        h = domain("cairn v1 map node", &pair.concat());
        h[0] &= 0x7f;
    }
    refuse_unless(h == *root, "the proof does not lead to the root")?;
    Ok(value.to_vec())
}

// Sections 5 and 10: genesis and certificates.

struct Ledger {
    chain_id: Hash,
    genesis: Vec<u8>,
}

impl Ledger {
    fn new(pinned: Hash, genesis: &[u8]) -> Result<Ledger, Refused> {
        refuse_unless(
            domain("cairn v1 genesis", genesis) == pinned,
            "another ledger",
        )?;
        walk(GENESIS, genesis)?;
        Ok(Ledger {
            chain_id: pinned,
            genesis: genesis.to_vec(),
        })
    }

    /// The header of a proof's checkpoint, once its members follow from the genesis by the changes
    /// in the proof's field 5 and have certified it.
    fn certified_from_genesis<'a>(&self, proof: &Fields<'a>) -> Result<Fields<'a>, Refused> {
        let genesis = walk(GENESIS, &self.genesis)?;
        let mut members = genesis.bytes(4).to_vec();
        for bytes in proof.all(5) {
            let change = walk(EPOCH_CHANGE, bytes)?;
            let header = self.certified(&members, &change.message(1, CHECKPOINT)?)?;
            let next = change.bytes(2);
            let follows = header.bytes(13) == domain("cairn v1 members", next)
                && header.bytes(13) != header.bytes(12)
                && walk(MEMBER_SET, next)?.number(1) == header.number(2) + 1;
            refuse_unless(follows, "another set")?;
            members = next.to_vec();
        }
        self.certified(&members, &proof.message(4, CHECKPOINT)?)
    }

    /// The header, once these members have certified it.
    fn certified<'a>(
        &self,
        members_bytes: &[u8],
        checkpoint: &Fields<'a>,
    ) -> Result<Fields<'a>, Refused> {
        let members = walk(MEMBER_SET, members_bytes)?;
        let header = walk(HEADER, checkpoint.bytes(1))?;
        let header_hash = domain("cairn v1 header", checkpoint.bytes(1));
        let ours = header.bytes(1) == self.chain_id
            && header.number(2) == members.number(1)
            && header.bytes(12) == domain("cairn v1 members", members_bytes);
        refuse_unless(ours && header.number(14) == 1, "no checkpoint of this set")?;
        let (mut last, mut count, mut roles) = (&[][..], 0, BTreeSet::new());
        for bytes in checkpoint.all(2) {
            let cosignature = walk(COSIGNATURE, bytes)?;
            let key = cosignature.bytes(1);
            refuse_unless(last < key, "cosignatures do not ascend")?;
            last = key;
            let all = members.all(2).map(|bytes| walk(MEMBER, bytes));
            let all = all.collect::<Result<Vec<_>, _>>()?;
            let member = all.iter().find(|m| m.bytes(4) == key).ok_or("no member")?;
            let at = cosignature.number(2).to_be_bytes();
            let message: [&[u8]; 4] = [b"cairn v1 cosignature", &self.chain_id, &header_hash, &at];
            signed(key, &message, cosignature.bytes(3))?;
            count += 1;
            roles.insert(member.number(3));
        }
        let policy = members.message(3, POLICY)?;
        let enough = count >= policy.number(1) && roles.len() as u64 >= policy.number(2);
        refuse_unless(enough, "quorum not met")?;
        Ok(header)
    }

    /// Section 11. Entry id and leaf index.
    fn receipt(&self, bytes: &[u8]) -> Result<(Hash, u64), Refused> {
        let receipt = walk(RECEIPT, bytes)?;
        let header = self.certified_from_genesis(&receipt)?;
        let envelope_bytes = receipt.bytes(1);
        let envelope = walk(ENVELOPE, envelope_bytes)?;
        let lengths = [(1, 32), (3, 32), (4, 16), (7, 32)];
        let sound = lengths
            .iter()
            .all(|(field, len)| envelope.bytes(*field).len() == *len)
            && [2, 5, 6].iter().all(|field| envelope.number(*field) != 0)
            && matches!(envelope.bytes(9).len(), 0 | 32)
            && envelope.bytes(1) == self.chain_id;
        refuse_unless(sound, "the envelope")?;
        let id = plain(&[envelope_bytes]);
        let (mut last, mut authors) = ((&[][..], 0), 0);
        let mut leaf = (envelope_bytes.len() as u64).to_be_bytes().to_vec();
        leaf.extend_from_slice(envelope_bytes);
        let signatures: Vec<&[u8]> = receipt.all(2).collect();
        refuse_unless(signatures.len() <= 16, "too many signatures")?;
        leaf.extend_from_slice(&(signatures.len() as u32).to_be_bytes());
        for bytes in signatures {
            let signature = walk(SIGNATURE, bytes)?;
            let (key, purpose) = (signature.bytes(1), signature.number(2));
            refuse_unless(last < (key, purpose), "signatures do not ascend")?;
            last = (key, purpose);
            refuse_unless(purpose == 1 || purpose == 2, "no purpose")?;
            if purpose == 1 {
                authors += 1;
                refuse_unless(key == envelope.bytes(3), "another author")?;
            }
            let purpose = (purpose as u32).to_be_bytes();
            let message: [&[u8]; 4] = [b"cairn v1 entry signature", &self.chain_id, &purpose, &id];
            signed(key, &message, signature.bytes(3))?;
            leaf.extend([key, &purpose, signature.bytes(3)].concat());
        }
        refuse_unless(authors == 1, "one author")?;
        let proof = receipt.message(3, INCLUSION)?;
        let path = proof
            .all(2)
            .map(|p| p.try_into().map_err(|_| "a hash has 32 bytes"));
        let path: Vec<Hash> = path.collect::<Result<_, _>>()?;
        let (leaf, index) = (plain(&[&[0], &leaf]), proof.number(1));
        inclusion(leaf, index, header.number(8), &path, &header.hash(9)?)?;
        Ok((id, index))
    }

    /// Section 12.
    fn map_receipt(&self, bytes: &[u8]) -> Result<Statement, Refused> {
        let receipt = walk(MAP_RECEIPT, bytes)?;
        let header = self.certified_from_genesis(&receipt)?;
        let (namespace, raw) = (receipt.bytes(1), receipt.bytes(2));
        let key = domain_parts("cairn v1 map key", &[namespace, raw]);
        let value = map_proof(&header.hash(10)?, &key, &receipt.message(3, MAP_PROOF)?)?;
        Ok((namespace.to_vec(), raw.to_vec(), value))
    }
}

// The vectors, and the first verifier beside this one.

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/formats.json")).unwrap()
}

fn hex(v: &Value) -> Vec<u8> {
    hex::decode(v.as_str().unwrap()).unwrap()
}

fn ledger(json: &Value) -> Ledger {
    let pinned = hex(&json["genesis"]["chain_id"]).try_into().unwrap();
    Ledger::new(pinned, &hex(&json["genesis"]["bytes"])).unwrap()
}

mod first {
    //! The same questions to `cairn_ledger`.
    use cairn_ledger::canonical;
    use cairn_ledger::genesis::Chain;
    use cairn_ledger::verify;

    pub fn receipt(chain: &Chain, bytes: &[u8]) -> Option<([u8; 32], u64)> {
        let receipt = canonical::decode(bytes).ok()?;
        let found = verify::receipt(chain, &receipt, None).ok()?;
        Some((found.id.0, found.leaf_index))
    }

    pub fn map_receipt(chain: &Chain, bytes: &[u8]) -> Option<super::Statement> {
        let receipt = canonical::decode(bytes).ok()?;
        let found = verify::map_receipt(chain, &receipt).ok()?;
        let value = found.value.unwrap_or_default();
        Some((found.namespace.into(), found.key.into(), value.into()))
    }
}

fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..8 * bytes.len()).map(|at| {
        let mut flipped = bytes.to_vec();
        flipped[at / 8] ^= 1 << (at % 8);
        flipped
    })
}

#[test]
fn the_published_receipts_verify_from_the_document_alone() {
    let json = vectors();
    let ledger = ledger(&json);
    let v = &json["receipt"];
    let id: Hash = hex(&v["entry_id"]).try_into().unwrap();
    let index = v["leaf_index"].as_u64().unwrap();
    assert_eq!(ledger.receipt(&hex(&v["bytes"])), Ok((id, index)));
    let v = &json["epoch_change"];
    let id: Hash = hex(&v["entry_id"]).try_into().unwrap();
    let index = v["leaf_index"].as_u64().unwrap();
    assert_eq!(ledger.receipt(&hex(&v["receipt"])), Ok((id, index)));
    for v in json["map_receipt"].as_object().unwrap().values() {
        let namespace = v["namespace"].as_str().unwrap().as_bytes().to_vec();
        let found = ledger.map_receipt(&hex(&v["bytes"]));
        assert_eq!(found, Ok((namespace, hex(&v["key"]), hex(&v["value"]))));
    }
}

#[test]
fn the_published_certificates_are_judged_from_the_document_alone() {
    let json = vectors();
    let ledger = ledger(&json);
    let v = &json["certificate"];
    let judge = |bytes: &[u8]| {
        let checkpoint = walk(CHECKPOINT, bytes)?;
        let genesis = walk(GENESIS, &ledger.genesis)?;
        ledger.certified(genesis.bytes(4), &checkpoint).map(drop)
    };
    assert_eq!(judge(&hex(&v["checkpoint"])), Ok(()));
    assert_eq!(judge(&hex(&v["all_four"]["checkpoint"])), Ok(()));
    for v in v["refused"].as_array().unwrap() {
        assert!(judge(&hex(&v["checkpoint"])).is_err(), "{v}");
    }
}

#[test]
fn both_verifiers_refuse_every_flipped_bit_of_a_receipt() {
    let json = vectors();
    let ledger = ledger(&json);
    let chain = cairn_ledger::genesis::Chain::from_bytes(&ledger.genesis).unwrap();
    for bytes in [&json["receipt"]["bytes"], &json["epoch_change"]["receipt"]] {
        let bytes = hex(bytes);
        assert!(first::receipt(&chain, &bytes).is_some());
        for flipped in flipped(&bytes) {
            assert!(ledger.receipt(&flipped).is_err());
            assert_eq!(first::receipt(&chain, &flipped), None);
        }
    }
}

/// A flipped bit in the key asks about another key, which may be absent for the same reason.
#[test]
fn both_verifiers_agree_on_every_flipped_bit_of_a_map_receipt() {
    let json = vectors();
    let ledger = ledger(&json);
    let chain = cairn_ledger::genesis::Chain::from_bytes(&ledger.genesis).unwrap();
    for (name, v) in json["map_receipt"].as_object().unwrap() {
        let bytes = hex(&v["bytes"]);
        let untouched = ledger.map_receipt(&bytes).unwrap();
        for flipped in flipped(&bytes) {
            let found = ledger.map_receipt(&flipped).ok();
            assert_eq!(found, first::map_receipt(&chain, &flipped), "{name}");
            if let Some((namespace, key, value)) = found {
                assert!(value.is_empty(), "{name}");
                assert!((namespace, key) != (untouched.0.clone(), untouched.1.clone()));
            }
        }
    }
}
