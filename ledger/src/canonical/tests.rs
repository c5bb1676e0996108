#![allow(clippy::unwrap_used)]

use cairn_proto::v1;
use proptest::prelude::*;

use super::*;

/// prost's decoder and encoder as the oracle: canonical is what survives the round trip, but for
/// what prost lets pass in silence (unknown enum values, a packed list of nothing).
fn survives_prost(bytes: &[u8]) -> bool {
    v1::StatusOrder::decode(bytes).is_ok_and(|m| {
        let known = |n: i32| v1::CodeStatus::try_from(n).is_ok();
        let mode = v1::OrderMode::try_from(m.mode).is_ok();
        m.encode_to_vec() == bytes && known(m.status) && known(m.on_lapse) && mode
    })
}

fn order() -> v1::StatusOrder {
    v1::StatusOrder {
        region: "440100".to_owned(),
        reason: "contact".to_owned(),
        legal_basis: "article 12".to_owned(),
        status: v1::CodeStatus::Yellow as i32,
        lapses_at_ms: 1 << 40,
        on_lapse: v1::CodeStatus::Green as i32,
        evidence_commitment: vec![7; 32].into(),
        appeal_contact: "12345".to_owned(),
        count: 300,
        changes_root: vec![9; 32].into(),
        ..Default::default()
    }
}

fn problem<M: Message + Default + Described + std::fmt::Debug>(bytes: &[u8]) -> Problem {
    decode::<M>(bytes).unwrap_err().problem
}

#[test]
fn what_is_encoded_is_canonical() {
    let bytes = encode(&order());
    assert_eq!(decode::<v1::StatusOrder>(&bytes).unwrap(), order());
    assert_eq!(
        decode::<v1::StatusOrder>(&[]).unwrap(),
        v1::StatusOrder::default()
    );
}

#[test]
fn every_way_to_write_the_same_twice_is_refused() {
    // StatusOrder: 1 region (string), 4 status (enum), 5 lapses_at_ms (uint64), 9 count (uint32).
    type Order = v1::StatusOrder;
    assert_eq!(problem::<Order>(&[0x28, 0]), Problem::Default(5));
    assert_eq!(problem::<Order>(&[0x0a, 0]), Problem::Default(1));
    assert_eq!(problem::<Order>(&[0x28, 0x81, 0x00]), Problem::Varint);
    assert_eq!(problem::<Order>(&[0xa8, 0x00, 1]), Problem::Varint);
    assert_eq!(problem::<Order>(&[0x28, 1, 0x20, 1]), Problem::Order(4));
    assert_eq!(problem::<Order>(&[0x28, 1, 0x28, 1]), Problem::Order(5));
    assert_eq!(problem::<Order>(&[0x20, 9]), Problem::Value(4));
    assert_eq!(
        problem::<Order>(&[0x48, 0x80, 0x80, 0x80, 0x80, 0x10]),
        Problem::Value(9)
    );
    assert_eq!(problem::<Order>(&[0x0a, 1, 0xff]), Problem::Utf8(1));
    assert_eq!(problem::<Order>(&[0x78, 1]), Problem::UnknownField(15));
    assert_eq!(problem::<Order>(&[0x2a, 1, 1]), Problem::WireType(5));
    assert_eq!(problem::<Order>(&[0x0a, 5, b'x']), Problem::Truncated);
    // StatusChunk 4: expected_sequences, packed.
    assert_eq!(problem::<v1::StatusChunk>(&[0x20, 1]), Problem::WireType(4));
    assert_eq!(problem::<v1::StatusChunk>(&[0x22, 0]), Problem::Default(4));
}

#[test]
fn an_error_names_the_innermost_message() {
    let mut genesis = encode(&v1::Genesis {
        limits: Some(v1::Limits {
            max_entry_bytes: 1,
            ..Default::default()
        }),
        ..Default::default()
    })
    .to_vec();
    *genesis.last_mut().unwrap() = 0;
    let error = decode::<v1::Genesis>(&genesis).unwrap_err();
    assert_eq!((error.message, error.offset), ("Limits", 0));
}

proptest! {
    #[test]
    fn the_walk_agrees_with_decoding_and_encoding_again(
        at in 0usize..200, byte: u8, cut in 0usize..200, insert: bool,
    ) {
        let mut bytes = encode(&order()).to_vec();
        let at = at % bytes.len();
        if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
        bytes.truncate(cut.max(1));
        prop_assert_eq!(decode::<v1::StatusOrder>(&bytes).is_ok(), survives_prost(&bytes));
    }

    #[test]
    fn random_bytes_are_judged_as_prost_judges_them(
        bytes in proptest::collection::vec(prop_oneof![Just(0x28u8), Just(0x20), Just(0x0a), 0u8..4, any::<u8>()], 0..24),
    ) {
        prop_assert_eq!(decode::<v1::StatusOrder>(&bytes).is_ok(), survives_prost(&bytes));
    }

    #[test]
    fn packed_numbers_come_back(first in any::<u32>(), sequences in proptest::collection::vec(any::<u64>(), 0..20)) {
        let chunk = v1::StatusChunk { first_change: first, expected_sequences: sequences, ..Default::default() };
        prop_assert_eq!(decode::<v1::StatusChunk>(&encode(&chunk)).unwrap(), chunk);
    }
}
