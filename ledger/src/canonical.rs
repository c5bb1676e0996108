//! Canonical bytes: the one encoding of a message that may be hashed or signed.
//!
//! What holds here: whatever [`decode`] accepts, [`encode`] gives back byte for byte, so bytes and
//! meaning cannot part. The walk is driven by the field tables of `proto`: tags ascend, varints
//! are minimal and in range, scalars that repeat are packed, a default value is left out, enum
//! values are known, strings are UTF-8, nothing is unknown. What does not conform is refused, never
//! repaired. `docs/formats.md`, "Canonical bytes", states the same in words.

use bytes::{Buf, Bytes};
use cairn_proto::schema::{Described, Field, Kind, Schema};
use prost::Message;

/// Wire types of the protobuf encoding; signed messages use no others.
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;
/// A 64-bit varint takes no more bytes.
const MAX_VARINT_LEN: usize = 10;

/// Why bytes are not the canonical form of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of {message}: {problem}")]
pub struct CanonicalError {
    /// The message within `cairn.v1`, innermost.
    pub message: &'static str,
    /// Where, counted from the start of that message.
    pub offset: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What the walk refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The bytes end inside of a field.
    #[error("the bytes end too early")]
    Truncated,
    /// A varint has superfluous bytes, or more than 64 bits.
    #[error("a varint is not minimal")]
    Varint,
    /// Tags must ascend, and only repeated bytes, strings and messages may repeat.
    #[error("field {0} is out of order or repeated")]
    Order(u64),
    /// The message has no such field.
    #[error("field {0} is unknown")]
    UnknownField(u64),
    /// The field's type is written otherwise.
    #[error("field {0} has the wrong wire type")]
    WireType(u32),
    /// A default value must be left out.
    #[error("field {0} states its default value")]
    Default(u32),
    /// A number is too large for its field, or the enum has no such value.
    #[error("field {0} has a value that does not exist")]
    Value(u32),
    /// A string that is not UTF-8.
    #[error("field {0} is not UTF-8")]
    Utf8(u32),
    /// The generated decoder disagrees with the walk: a fault of this program.
    #[error("the decoder refuses it")]
    Decoder,
}

/// The canonical bytes of `message`.
pub fn encode<M: Message>(message: &M) -> Bytes {
    message.encode_to_vec().into()
}

/// The message whose canonical bytes are `bytes`.
pub fn decode<M: Message + Default + Described>(bytes: &[u8]) -> Result<M, CanonicalError> {
    decoded(bytes, bytes)
}

/// The same, without a copy of the fields that are bytes: they keep all of `bytes` in memory.
pub fn decode_shared<M: Message + Default + Described>(bytes: &Bytes) -> Result<M, CanonicalError> {
    decoded(bytes, bytes.clone())
}

fn decoded<M: Message + Default + Described>(
    bytes: &[u8],
    source: impl Buf,
) -> Result<M, CanonicalError> {
    let schema = M::schema();
    walk(schema, bytes)?;
    M::decode(source).map_err(|_| CanonicalError {
        message: schema.name,
        offset: 0,
        problem: Problem::Decoder,
    })
}

/// Whether `bytes` are the canonical form of an `M`, without making one.
pub fn check<M: Described>(bytes: &[u8]) -> Result<(), CanonicalError> {
    walk(M::schema(), bytes)
}

/// What stands under the repeated `field` of the message whose canonical bytes are `bytes`, in its order
/// and without a copy. Where they are not canonical, what stands before the fault.
pub(crate) fn elements(bytes: &Bytes, field: u32) -> impl Iterator<Item = Bytes> {
    let mut reader = Reader { bytes, at: 0 };
    std::iter::from_fn(move || {
        loop {
            let key = reader.varint().ok()?;
            if key & 7 == VARINT {
                reader.varint().ok()?;
                continue;
            }
            let element = reader.delimited().ok()?;
            if key >> 3 == u64::from(field) {
                return Some(bytes.slice_ref(element));
            }
        }
    })
}

fn walk(schema: &'static Schema, bytes: &[u8]) -> Result<(), CanonicalError> {
    let mut reader = Reader { bytes, at: 0 };
    let mut last = 0;
    while reader.at < bytes.len() {
        let offset = reader.at;
        field(schema, &mut reader, &mut last).map_err(|stop| match stop {
            Stop::Here(problem) => CanonicalError {
                message: schema.name,
                offset,
                problem,
            },
            Stop::Inside(error) => error,
        })?;
    }
    Ok(())
}

enum Stop {
    Here(Problem),
    Inside(CanonicalError),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Stop::Here(problem)
    }
}

/// One field with its tag; `last` is the tag before.
fn field(schema: &Schema, reader: &mut Reader<'_>, last: &mut u32) -> Result<(), Stop> {
    let key = reader.varint()?;
    let (number, wire_type) = (key >> 3, key & 7);
    let known = schema.fields.iter();
    let field = known
        .clone()
        .find(|field| u64::from(field.tag) == number)
        .ok_or(Problem::UnknownField(number))?;
    let may_repeat = field.repeated && !is_scalar(&field.kind);
    if field.tag < *last || (field.tag == *last && !may_repeat) {
        return Err(Problem::Order(number).into());
    }
    *last = field.tag;
    let expected = if is_scalar(&field.kind) && !field.repeated {
        VARINT
    } else {
        LENGTH_DELIMITED
    };
    if wire_type != expected {
        return Err(Problem::WireType(field.tag).into());
    }
    value(field, reader)
}

fn value(field: &Field, reader: &mut Reader<'_>) -> Result<(), Stop> {
    if is_scalar(&field.kind) {
        return Ok(scalars(field, reader)?);
    }
    let content = reader.delimited()?;
    if content.is_empty() && !field.repeated && !matches!(field.kind, Kind::Message(_)) {
        return Err(Problem::Default(field.tag).into());
    }
    match field.kind {
        Kind::String if std::str::from_utf8(content).is_err() => {
            Err(Problem::Utf8(field.tag).into())
        }
        Kind::Message(schema) => walk(schema, content).map_err(Stop::Inside),
        _ => Ok(()),
    }
}

fn scalars(field: &Field, reader: &mut Reader<'_>) -> Result<(), Problem> {
    if !field.repeated {
        let number = reader.varint()?;
        if number == 0 {
            return Err(Problem::Default(field.tag));
        }
        return in_range(field, number);
    }
    let bytes = reader.delimited()?;
    if bytes.is_empty() {
        return Err(Problem::Default(field.tag));
    }
    let mut packed = Reader { bytes, at: 0 };
    while packed.at < bytes.len() {
        let number = packed.varint()?;
        in_range(field, number)?;
    }
    Ok(())
}

fn is_scalar(kind: &Kind) -> bool {
    !matches!(kind, Kind::Bytes | Kind::String | Kind::Message(_))
}

fn in_range(field: &Field, number: u64) -> Result<(), Problem> {
    let fits = match field.kind {
        Kind::Uint32 => number <= u64::from(u32::MAX),
        Kind::Bool => number <= 1,
        Kind::Enum(known) => i32::try_from(number).is_ok_and(|n| known.contains(&n)),
        _ => true,
    };
    if fits {
        Ok(())
    } else {
        Err(Problem::Value(field.tag))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, Problem> {
        let mut number = 0u64;
        for index in 0..MAX_VARINT_LEN {
            let byte = *self.bytes.get(self.at).ok_or(Problem::Truncated)?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * index);
            if shifted >> (7 * index) != bits {
                return Err(Problem::Varint);
            }
            number |= shifted;
            if byte & 0x80 == 0 {
                // A last byte of zero carries nothing.
                return if byte == 0 && index > 0 {
                    Err(Problem::Varint)
                } else {
                    Ok(number)
                };
            }
        }
        Err(Problem::Varint)
    }

    fn delimited(&mut self) -> Result<&'a [u8], Problem> {
        let len = usize::try_from(self.varint()?).map_err(|_| Problem::Truncated)?;
        let end = self.at.checked_add(len).ok_or(Problem::Truncated)?;
        let content = self.bytes.get(self.at..end).ok_or(Problem::Truncated)?;
        self.at = end;
        Ok(content)
    }
}

#[cfg(test)]
mod tests;
