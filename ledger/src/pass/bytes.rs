//! The bytes of a pass, version 1. Numbers are varints without superfluous bytes unless a width is
//! given; those are big-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1 |
//! | 1 | marks: 1 paper, 2 the block changes the members, 4 with a salt |
//! | 4 | the first bytes of the chain id |
//! | 32 | the code |
//! | 32 | the salt of the commitment to the holder's ID card, where marked |
//! | 1 | depth of the map proof |
//! | ⌈depth / 8⌉ | which siblings are not empty |
//! | 32 each | those siblings, from the root down |
//! | varint, so many | the length of the code's state, and its canonical bytes |
//! | varints | epoch, height, time, term, rules version, tree size of the header |
//! | 32 each | parent hash, log root, outcomes root; next members hash where marked |
//! | 2 | which members cosigned: bit i, from the least, is the i-th of the epoch's set |
//! | varint, 64 each | when, and the signature, in the order of the set |
//! | 4 | the first bytes of the keyed hash of all before |
//!
//! What holds here: a pass has one spelling, and what is read encodes to the same bytes again. The
//! hash at the end shows what a scanner or a crease got wrong; it protects from nobody.

use bytes::{BufMut, Bytes};
use cairn_proto::v1;

use super::{Cosigned, Head, Pass};
use crate::hash::{Domain, Hash};
use crate::policy::MAX_MEMBERS;

static CHECK: Domain = Domain::new("cairn v1 pass");

/// The first byte. Another layout gets another.
pub const VERSION: u8 = 1;
/// The longest pass: its text fills the largest QR code of level L, 4,296 characters.
pub const MAX_LEN: usize = 2_856;
/// Bytes of the hash at the end: four thousand million to one that a damaged pass is noticed.
const CHECK_LEN: usize = 4;

const PAPER: u8 = 1;
const CHANGES_MEMBERS: u8 = 2;
const WITH_SALT: u8 = 4;

/// Why bytes are no pass. Scan once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Something else was scanned.
    #[error("this is no pass: it does not begin with {}", super::PREFIX)]
    NotAPass,
    /// A character was lost or changed.
    #[error("the pass was not read whole: these characters are not Base45")]
    Base45,
    /// Longer than any pass.
    #[error("{0} bytes are more than a pass has")]
    TooLong(usize),
    /// From a newer program.
    #[error("the pass has version {0}, and version {VERSION} is known here: upgrade this program")]
    Version(u8),
    /// Not as it was made.
    #[error("the pass was not read as it was made, or was edited: scan it once more")]
    Damaged,
    /// Made by no program that keeps to the format.
    #[error("the pass is malformed: {0}")]
    Malformed(&'static str),
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_LEN] {
    let [a, b, c, d, ..] = CHECK.hash(bytes).0;
    [a, b, c, d]
}

impl Pass {
    /// Its bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(MAX_LEN);
        let marks = [
            (self.paper, PAPER),
            (self.head.next_members_hash.is_some(), CHANGES_MEMBERS),
            (self.salt.is_some(), WITH_SALT),
        ];
        out.put_u8(VERSION);
        out.put_u8(
            marks
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, mark)| mark)
                .sum(),
        );
        out.put_slice(&self.chain_tag);
        out.put_slice(self.code.as_bytes());
        self.salt.iter().for_each(|salt| out.put_slice(salt));
        let proof = &self.proof;
        // Deeper ones do not read again, which whoever makes a pass checks.
        out.put_u8(u8::try_from(proof.depth).unwrap_or(u8::MAX));
        out.put_slice(&proof.sibling_bitmap);
        proof.siblings.iter().for_each(|s| out.put_slice(s));
        put_varint(&mut out, proof.value.len() as u64);
        out.put_slice(&proof.value);
        self.put_certificate(&mut out);
        let check = check_of(&out);
        out.put_slice(&check);
        out.into()
    }

    /// Header and cosignatures, without the map's root.
    pub(super) fn put_certificate(&self, out: &mut Vec<u8>) {
        let head = &self.head;
        for number in [
            head.epoch,
            head.height,
            head.timestamp_ms,
            head.term,
            u64::from(head.rules_version),
            head.tree_size,
        ] {
            put_varint(out, number);
        }
        for hash in [&head.parent_hash, &head.log_root, &head.outcomes_root] {
            out.put_slice(hash.as_bytes());
        }
        if let Some(next) = &head.next_members_hash {
            out.put_slice(next.as_bytes());
        }
        let places = self.cosigned.iter();
        out.put_u16(places.fold(0, |bits, cosigned| bits | 1 << cosigned.place));
        for cosigned in &self.cosigned {
            put_varint(out, cosigned.at_ms);
            out.put_slice(&cosigned.signature);
        }
    }

    /// The pass that has these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Pass, DecodeError> {
        if bytes.len() > MAX_LEN {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        // Said before anything else: a newer pass is not a damaged one.
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&other) if other > VERSION => return Err(DecodeError::Version(other)),
            _ => return Err(DecodeError::Damaged),
        }
        let (bytes, check) = bytes
            .split_last_chunk::<CHECK_LEN>()
            .ok_or(DecodeError::Damaged)?;
        if check_of(bytes) != *check {
            return Err(DecodeError::Damaged);
        }
        let mut reader = Reader {
            bytes: Bytes::copy_from_slice(&bytes[1..]),
        };
        let pass = read(&mut reader)?;
        match reader.bytes.is_empty() {
            true => Ok(pass),
            false => Err(DecodeError::Malformed("something follows behind its end")),
        }
    }
}

fn read(reader: &mut Reader) -> Result<Pass, DecodeError> {
    let [marks] = reader.array()?;
    if marks & !(PAPER | CHANGES_MEMBERS | WITH_SALT) != 0 {
        return Err(DecodeError::Malformed("an unknown mark"));
    }
    Ok(Pass {
        paper: marks & PAPER != 0,
        chain_tag: reader.array()?,
        code: reader.hash()?,
        salt: match marks & WITH_SALT != 0 {
            true => Some(reader.array()?),
            false => None,
        },
        proof: read_proof(reader)?,
        head: read_head(reader, marks & CHANGES_MEMBERS != 0)?,
        cosigned: read_cosigned(reader)?,
    })
}

fn read_proof(reader: &mut Reader) -> Result<v1::MapProof, DecodeError> {
    let [depth] = reader.array()?;
    let bitmap = reader.take(usize::from(depth).div_ceil(8))?;
    // The last byte's bits behind the depth.
    let beyond = (8 - depth % 8) % 8;
    if bitmap
        .last()
        .is_some_and(|last| last & !(0xff << beyond) != 0)
    {
        return Err(DecodeError::Malformed("siblings below the code"));
    }
    let held = bitmap.iter().map(|byte| byte.count_ones()).sum::<u32>();
    let siblings = (0..held).map(|_| reader.take(32));
    let siblings = siblings.collect::<Result<_, _>>()?;
    let len = usize::try_from(reader.varint()?).map_err(|_| TRUNCATED)?;
    if len == 0 {
        return Err(DecodeError::Malformed("no state"));
    }
    Ok(v1::MapProof {
        sibling_bitmap: bitmap,
        depth: depth.into(),
        siblings,
        value: reader.take(len)?,
        ..Default::default()
    })
}

fn read_head(reader: &mut Reader, changes_members: bool) -> Result<Head, DecodeError> {
    let too_large = |_| DecodeError::Malformed("a rules version beyond 32 bits");
    Ok(Head {
        epoch: reader.varint()?,
        height: reader.varint()?,
        timestamp_ms: reader.varint()?,
        term: reader.varint()?,
        rules_version: u32::try_from(reader.varint()?).map_err(too_large)?,
        tree_size: reader.varint()?,
        parent_hash: reader.hash()?,
        log_root: reader.hash()?,
        outcomes_root: reader.hash()?,
        next_members_hash: match changes_members {
            true => Some(reader.hash()?),
            false => None,
        },
    })
}

fn read_cosigned(reader: &mut Reader) -> Result<Vec<Cosigned>, DecodeError> {
    let places = u16::from_be_bytes(reader.array()?);
    let mut cosigned = Vec::with_capacity(MAX_MEMBERS);
    for place in (0..u16::BITS as u8).filter(|place| places >> place & 1 == 1) {
        cosigned.push(Cosigned {
            place,
            at_ms: reader.varint()?,
            signature: reader.array()?,
        });
    }
    match cosigned.is_empty() {
        true => Err(DecodeError::Malformed("nobody cosigned")),
        false => Ok(cosigned),
    }
}

const TRUNCATED: DecodeError = DecodeError::Malformed("it ends too early");
/// Bits of a varint's byte that count.
const GROUP: u32 = 7;

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >> GROUP != 0 {
        out.put_u8(number as u8 | 1 << GROUP);
        number >>= GROUP;
    }
    out.put_u8(number as u8);
}

/// What is left to read; parts share its memory.
struct Reader {
    bytes: Bytes,
}

impl Reader {
    fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.bytes.len() {
            return Err(TRUNCATED);
        }
        Ok(self.bytes.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let array = *self.bytes.first_chunk().ok_or(TRUNCATED)?;
        let _ = self.bytes.split_to(N);
        Ok(array)
    }

    fn hash(&mut self) -> Result<Hash, DecodeError> {
        self.array().map(Hash)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0u64;
        for shift in (0..u64::BITS).step_by(GROUP as usize) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & !(1 << GROUP));
            let shifted = bits << shift;
            if shifted >> shift != bits || (byte == 0 && shift > 0) {
                break;
            }
            number |= shifted;
            if byte >> GROUP == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::Malformed("a number is not in its least form"))
    }
}
