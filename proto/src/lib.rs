//! Cairn's formats: the messages that are signed, hashed and sent, generated from
//! `proto/cairn/v1/*.proto`, which documents every field.
//!
//! What stays out: rules, hashing and verification (`ledger`), and any transport but tonic's
//! generated clients and servers, which the `grpc` feature adds.

pub mod schema;

/// Package `cairn.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/cairn.v1.rs"));
}

/// The encoded `FileDescriptorSet` of package `cairn.v1`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
