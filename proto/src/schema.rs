//! Field tables of the messages, for the canonical walk in `ledger` (`docs/formats.md`).
//!
//! Generated from the same descriptors as the messages, so the two cannot drift apart.

/// A message's fields.
#[derive(Debug)]
pub struct Schema {
    /// The message's name within `cairn.v1`.
    pub name: &'static str,
    /// Ascending by tag.
    pub fields: &'static [Field],
}

/// One field of a message.
#[derive(Debug)]
pub struct Field {
    /// The field number.
    pub tag: u32,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may occur more than once; scalars are then packed.
    pub repeated: bool,
}

/// The types that signed messages may use.
#[derive(Debug)]
pub enum Kind {
    /// A varint below 2^32.
    Uint32,
    /// A varint below 2^64.
    Uint64,
    /// A varint that is 1 (0 is the default and left out).
    Bool,
    /// Any bytes.
    Bytes,
    /// Valid UTF-8.
    String,
    /// One of these numbers.
    Enum(&'static [i32]),
    /// A nested message.
    Message(&'static Schema),
}

/// A message that has a field table.
pub trait Described {
    /// The table.
    fn schema() -> &'static Schema;
}

include!(concat!(env!("OUT_DIR"), "/schema.rs"));
