//! Raft's types: what openraft is instantiated with, and how its messages become bytes.
//!
//! What holds here: one leader per term (so that a block's term names its proposer), node ids are
//! `raft_id`s and nothing else is known of a node here (addresses are looked up elsewhere), and
//! every message and record is postcard. What stays out: meaning. A payload is opaque bytes; only
//! the sequencer and apply know that it is a proposal.

use std::cell::RefCell;
use std::fmt;
use std::io;

use bytes::Bytes;
use cairn_storage::seal::Unsealed;
use openraft::impls::leader_id_std;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Tokio with openraft's seeded randomness. One runtime for the node and for the simulator: the
/// node enters it with a random seed, the simulator with its own.
#[allow(deprecated)] // The replacement is the same type in a crate that we would only add for its name.
pub type Runtime = openraft_rt::deterministic_rng::DeterministicRng<openraft::impls::TokioRuntime>;

openraft::declare_raft_types!(
    /// Cairn's Raft.
    pub Types:
        D = Payload,
        R = Applied,
        NodeId = u64,
        Node = openraft::EmptyNode,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

/// A vote.
pub type Vote = openraft::type_config::alias::VoteOf<Types>;
/// A log id: term and index.
pub type LogId = openraft::type_config::alias::LogIdOf<Types>;
/// A log entry.
pub type Entry = openraft::type_config::alias::EntryOf<Types>;
/// Who votes and who learns.
pub type Membership = openraft::Membership<u64, openraft::EmptyNode>;
/// The membership that a state machine has applied.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;

/// What a snapshot covers.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;

/// The bytes of one proposal.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // As bytes, not as a sequence: one copy instead of a call per byte.
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsBytes;
        impl Visitor<'_> for AsBytes {
            type Value = Payload;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(Payload(Source::part(bytes)))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Payload, E> {
                Ok(Payload(bytes.into()))
            }
        }
        deserializer
            .deserialize_byte_buf(AsBytes)
            .map_err(|error| D::Error::custom(format_args!("a payload: {error}")))
    }
}

/// What applying a log entry answers to its proposer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Applied {
    /// The block's height; 0 where the entry made no block.
    pub height: u64,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "height {}", self.height)
    }
}

/// The bytes of a record or a message.
pub fn to_bytes<T: Serialize>(value: &T) -> io::Result<Bytes> {
    encoded(value, Vec::with_capacity).map(Bytes::from)
}

/// The same, to be sealed.
pub fn to_record<T: Serialize>(value: &T) -> io::Result<Unsealed> {
    encoded(value, Unsealed::with_capacity)
}

/// Blocks are long: a buffer that grows is copied again and again.
fn encoded<T: Serialize, B: Extend<u8>>(
    value: &T,
    with_capacity: impl FnOnce(usize) -> B,
) -> io::Result<B> {
    postcard::experimental::serialized_size(value)
        .and_then(|size| postcard::to_extend(value, with_capacity(size)))
        .map_err(|error| invalid("could not be encoded", error))
}

/// A record or a message from its bytes, which must all be used.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let (value, rest) =
        postcard::take_from_bytes(bytes).map_err(|error| invalid("could not be decoded", error))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(invalid("has bytes behind its end", rest.len()))
    }
}

/// The same, of a message whose long payloads are to stay where they lie and keep all of it in memory.
pub fn from_shared<T: DeserializeOwned>(bytes: &Bytes) -> io::Result<T> {
    let _decoding = Source::of(bytes);
    from_bytes(bytes)
}

/// A shorter payload is copied, so that it does not keep a long message.
const LONG_PAYLOAD: usize = 64 << 10;

thread_local! {
    static DECODING: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// While it lives, [`DECODING`] holds the message that this thread decodes: serde shows a payload as a
/// slice and has no place for its owner.
struct Source;

impl Source {
    fn of(bytes: &Bytes) -> Source {
        DECODING.set(Some(bytes.clone()));
        Source
    }

    /// A payload, which lies in that message or, where there is none, anywhere.
    fn part(bytes: &[u8]) -> Bytes {
        DECODING.with_borrow(|message| {
            let around = message.as_ref().filter(|message| {
                let (outer, inner) = (message.as_ptr_range(), bytes.as_ptr_range());
                outer.start <= inner.start && inner.end <= outer.end
            });
            match around {
                Some(message) if bytes.len() >= LONG_PAYLOAD => message.slice_ref(bytes),
                _ => Bytes::copy_from_slice(bytes),
            }
        })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        DECODING.set(None);
    }
}

fn invalid(what: &str, detail: impl fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a Raft record {what}: {detail}"),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_travels_as_bytes() {
        let payload = Payload(Bytes::from_static(b"twelve bytes"));
        let bytes = to_bytes(&payload).unwrap();
        assert_eq!(bytes.len(), 13, "one length byte and the bytes");
        assert_eq!(from_bytes::<Payload>(&bytes).unwrap(), payload);
        let longer = [bytes.as_ref(), b"x"].concat();
        assert!(from_bytes::<Payload>(&longer).is_err());
    }

    #[test]
    fn only_a_long_payload_of_a_shared_message_stays_where_it_lies() {
        let payload = |len: usize| Payload(vec![7; len].into());
        for (len, shared, stays) in [
            (LONG_PAYLOAD, true, true),
            (LONG_PAYLOAD, false, false),
            (LONG_PAYLOAD - 1, true, false),
        ] {
            let bytes = to_bytes(&payload(len)).unwrap();
            let decoded: Payload = match shared {
                true => from_shared(&bytes).unwrap(),
                false => from_bytes(&bytes).unwrap(),
            };
            assert_eq!(decoded, payload(len));
            let within = bytes.as_ptr_range().contains(&decoded.0.as_ptr());
            assert_eq!(within, stays, "{len} bytes");
        }
    }
}
