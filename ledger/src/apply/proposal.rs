//! A proposal as apply takes it: read, and its entries judged as far as that asks no state.
//!
//! What holds here: what is read depends on the chain and the payload alone, so a node may read ahead,
//! on another thread. An entry is recorded as the bytes that stand in the payload; that they are
//! canonical was checked there. What stays out: who is registered and what was recorded before.

use std::mem;

use bytes::Bytes;
use cairn_proto::v1;
use prost::Message as _;

use crate::admission::{self, Admitted};
use crate::canonical;
use crate::genesis::Chain;
use crate::hash::Hash;

/// The number of `Proposal.entries`.
const ENTRIES: u32 = 4;

/// A proposal that was read.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Its fields, but for the entries.
    pub(super) fields: v1::Proposal,
    /// Those that fit into a block.
    pub(super) entries: Vec<Judged>,
}

/// One of its entries, judged.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// The canonical bytes of the `SignedEntry`.
    pub(super) bytes: Bytes,
    /// The entry, if it is well-formed and its signatures verify.
    pub(super) admitted: Option<Admitted>,
}

impl Proposal {
    /// The proposal in a committed payload. What is no canonical `Proposal` is an empty one on every
    /// node: a leader that gets garbage committed stops nobody, and two readings of one payload cannot
    /// differ. `known` says of a leaf hash whether this node has verified that entry's signatures.
    pub fn read(chain: &Chain, payload: &Bytes, known: &dyn Fn(&Hash) -> bool) -> Proposal {
        let mut fields: v1::Proposal = canonical::decode_shared(payload).unwrap_or_default();
        let entries = mem::take(&mut fields.entries).into_iter();
        let entries = entries.zip(canonical::elements(payload, ENTRIES));
        // Certificates are kept for long, and the payload with them if they lay in it.
        let apart = |found: v1::Checkpoint| v1::Checkpoint::decode(canonical::encode(&found)).ok();
        fields.certificate = fields.certificate.and_then(apart);
        Proposal::new(chain, fields, entries, known)
    }

    /// The same of a proposal that a block holds.
    pub fn of(chain: &Chain, mut fields: v1::Proposal, known: &dyn Fn(&Hash) -> bool) -> Proposal {
        let entries = mem::take(&mut fields.entries).into_iter();
        let entries = entries.map(|signed| {
            let bytes = canonical::encode(&signed);
            (signed, bytes)
        });
        Proposal::new(chain, fields, entries, known)
    }

    /// The entries that fit into a block. A leader that proposes more only delays the rest.
    fn new(
        chain: &Chain,
        fields: v1::Proposal,
        entries: impl Iterator<Item = (v1::SignedEntry, Bytes)>,
        known: &dyn Fn(&Hash) -> bool,
    ) -> Proposal {
        let limits = chain.limits();
        let mut room = limits.max_block_bytes as usize;
        let judge = |(signed, bytes): (v1::SignedEntry, Bytes)| {
            debug_assert_eq!(signed.encoded_len(), bytes.len());
            room = room.checked_sub(bytes.len())?;
            let admitted = admitted(chain, signed, known);
            Some(Judged { bytes, admitted })
        };
        let entries = entries.take(limits.max_block_entries as usize);
        Proposal {
            fields,
            entries: entries.map_while(judge).collect(),
        }
    }

    /// How many entries stand in the canonical bytes of a proposal.
    pub fn count_entries(payload: &Bytes) -> usize {
        canonical::elements(payload, ENTRIES).count()
    }

    /// The newest certificate that its leader had.
    pub fn certificate(&self) -> Option<&v1::Checkpoint> {
        self.fields.certificate.as_ref()
    }
}

fn admitted(
    chain: &Chain,
    signed: v1::SignedEntry,
    known: &dyn Fn(&Hash) -> bool,
) -> Option<Admitted> {
    let entry = admission::parse(chain, signed).ok()?;
    let signed = &entry.signed;
    let verified = known(&entry.leaf_hash)
        || admission::verify_signatures(&chain.id, &signed.envelope, &signed.signatures).is_ok();
    verified.then_some(entry)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::Ledger;

    #[test]
    fn an_entrys_bytes_are_those_of_the_payload_and_what_its_message_encodes_to() {
        let ledger = Ledger::new();
        let mut garbled = ledger.evidence(3);
        garbled.body = Bytes::from_static(b"another body");
        let entries = vec![ledger.evidence(1), garbled, ledger.evidence(2)];
        let mut fields = ledger.proposal(entries.clone());
        let header = super::super::header_at(&ledger.state, 0).unwrap().unwrap();
        fields.certificate = Some(ledger.certificate(header, &[0, 1, 2]));
        fields.checkpoint = true;
        let payload = canonical::encode(&fields);
        assert_eq!(Proposal::count_entries(&payload), 3);
        let read = Proposal::read(&ledger.chain, &payload, &|_| false);
        let of = Proposal::of(&ledger.chain, fields.clone(), &|_| false);
        for (at, entry) in entries.iter().enumerate() {
            let bytes = &read.entries[at].bytes;
            assert_eq!(*bytes, canonical::encode(entry));
            assert_eq!(*bytes, of.entries[at].bytes);
            assert!(payload.as_ptr_range().contains(&bytes.as_ptr()), "a slice");
            assert_eq!(read.entries[at].admitted.is_some(), at != 1);
        }
        assert_eq!(read.certificate(), fields.certificate.as_ref());

        for garbage in [&payload[1..], &payload[..payload.len() - 1], b"garbage"] {
            let garbage = Bytes::copy_from_slice(garbage);
            let read = Proposal::read(&ledger.chain, &garbage, &|_| false);
            assert_eq!(read.fields, v1::Proposal::default());
            assert!(read.entries.is_empty());
        }
    }
}
