//! The states that codes had, against the codes of the map.
//!
//! What holds here: the room has exactly the states that lead to each code in the map. Codes are
//! told from other values by their bytes: nothing else in the map decodes as a code with a history.
//! The only other value with a field of that number is a lottery's, which always has its rules, too.

use bytes::Bytes;
use cairn_proto::v1;

use super::{Cursor, corrupt, ensure};
use crate::code::history;
use crate::state::{StateError, StateRead};
use crate::{canonical, rooms};

/// Checks the history of every code. The map itself is checked elsewhere.
pub(super) fn check<S: StateRead + ?Sized>(state: &S) -> Result<(), StateError> {
    let mut replaced = Cursor::new(state, rooms::HISTORY);
    let mut values = Cursor::new(state, rooms::MAP_VALUE);
    while let Some((key, value)) = values.next()? {
        if let Some(current) = with_history(&value) {
            check_code(&key[1..], &current, &mut replaced)?;
        }
    }
    match replaced.next()? {
        None => Ok(()),
        Some((key, _)) => Err(corrupt(hex::encode(key), "belongs to no code")),
    }
}

fn with_history(value: &Bytes) -> Option<v1::CodeState> {
    let state = canonical::decode::<v1::CodeState>(value).ok()?;
    (!state.previous.is_empty()).then_some(state)
}

/// Follows the states of one code from the first one up to the one in the map.
fn check_code<S: StateRead + ?Sized>(
    key: &[u8],
    current: &v1::CodeState,
    replaced: &mut Cursor<'_, S>,
) -> Result<(), StateError> {
    let place = || format!("the history of the code under {}", hex::encode(key));
    let mut link = Bytes::new();
    for sequence in 1..current.sequence {
        let record = replaced.expect(&[key, &sequence.to_be_bytes()].concat())?;
        let record = canonical::decode::<v1::ReplacedState>(&record)
            .map_err(|error| corrupt(place(), error))?;
        let state = canonical::decode::<v1::CodeState>(&record.state)
            .map_err(|error| corrupt(place(), error))?;
        ensure(
            state.sequence == sequence && state.previous == link,
            place,
            "its states do not follow each other",
        )?;
        link = history::link(&record).to_bytes();
    }
    ensure(
        current.previous == link,
        place,
        "does not lead to the state in the map",
    )
}
