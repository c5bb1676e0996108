//! The history of a code: every state names the one that it replaced.
//!
//! What holds here: from the certified state of a code its earlier ones follow, one by one down to
//! the one that it was issued with, so nobody can leave out, alter or add a change. What stays out:
//! who is shown them. A state alone says nothing about the ones before it: their hashes are blinded
//! with what only the bodies of the entries have.

use bytes::Bytes;
use cairn_proto::v1;
use prost::Message;

use super::NAMESPACE;
use crate::canonical::{self, CanonicalError};
use crate::hash::{Domain, Hash};
use crate::state::{StateError, StateRead};
use crate::{map, rooms};

static STATE: Domain = Domain::new("cairn v1 code state");

/// What [`v1::CodeState::previous`] is behind this state.
pub fn link(replaced: &v1::ReplacedState) -> Hash {
    STATE.hash_parts(&[&replaced.blind, &replaced.state])
}

/// The blind of one code, from that of its chunk: whoever is shown it learns nothing about others.
pub fn blind(of_chunk: &[u8; 32], code: &[u8; 32]) -> Hash {
    Hash(*blake3::keyed_hash(of_chunk, code).as_bytes())
}

fn key(of_map: &Hash, sequence: u64) -> Vec<u8> {
    rooms::key(
        rooms::HISTORY,
        &[of_map.as_bytes(), &sequence.to_be_bytes()],
    )
}

/// What keeps the state that a code had under `sequence` and has no more; `of_map` is the code's key in
/// the map.
pub(super) fn record(
    of_map: &Hash,
    sequence: u64,
    replaced: &v1::ReplacedState,
) -> (Vec<u8>, Bytes) {
    (key(of_map, sequence), canonical::encode(replaced))
}

/// At most `limit` states that `code` had before the one with the sequence `below`, which it has or
/// had: newest first.
pub fn read<S: StateRead + ?Sized>(
    state: &S,
    code: &[u8],
    below: u64,
    limit: usize,
) -> Result<Vec<v1::ReplacedState>, StateError> {
    let of_map = map::map_key(NAMESPACE, code);
    let keys: Vec<Vec<u8>> = (1..below)
        .rev()
        .take(limit)
        .map(|sequence| key(&of_map, sequence))
        .collect();
    let records = state.multi_get(&keys)?;
    let corrupt = |detail: String| StateError::Corrupt {
        place: format!("the history of code {}", hex::encode(code)),
        detail,
    };
    let decode = |record: Option<Bytes>| {
        let record = record.ok_or_else(|| corrupt("a state is missing".to_owned()))?;
        v1::ReplacedState::decode(record).map_err(|error| corrupt(error.to_string()))
    };
    records.into_iter().map(decode).collect()
}

/// Why states are not the history of a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The states end before the one that the code was issued with.
    #[error("{0} earlier states are not shown: ask for them")]
    Missing(u64),
    /// A state is left out, altered, of another place or of another code.
    #[error("the state shown as number {0} is not the one that the next one replaced")]
    Unlinked(u64),
    /// A state is not what nodes write.
    #[error("state number {sequence} is malformed: {error}")]
    Malformed {
        /// The number that it is shown as.
        sequence: u64,
        /// What is wrong with its bytes.
        error: CanonicalError,
    },
    /// The states are linked, but their numbers do not count down to 1, where the first one stands
    /// alone. No node writes that.
    #[error("state number {0} breaks the rule by which states are numbered")]
    Misnumbered(u64),
    /// There are states before the one that the code was issued with.
    #[error("{0} states are shown before the one that the code was issued with")]
    TooMany(usize),
}

/// All states of a code, oldest first, if `earlier`, newest first, is all that it had before
/// `current`, its state in the map under a verified checkpoint.
pub fn verify(
    current: &v1::CodeState,
    earlier: &[v1::ReplacedState],
) -> Result<Vec<v1::CodeState>, HistoryError> {
    let mut states = vec![current.clone()];
    let mut earlier = earlier.iter();
    let mut after = current.clone();
    loop {
        let issued = after.sequence == 1;
        if after.sequence == 0 || issued != after.previous.is_empty() {
            return Err(HistoryError::Misnumbered(after.sequence));
        }
        if issued {
            break;
        }
        let sequence = after.sequence - 1;
        let replaced = earlier.next().ok_or(HistoryError::Missing(sequence))?;
        if after.previous != link(replaced).0[..] {
            return Err(HistoryError::Unlinked(sequence));
        }
        let state = canonical::decode::<v1::CodeState>(&replaced.state);
        let state = state.map_err(|error| HistoryError::Malformed { sequence, error })?;
        if state.sequence != sequence {
            return Err(HistoryError::Misnumbered(sequence));
        }
        states.push(state.clone());
        after = state;
    }
    match earlier.len() {
        0 => {
            states.reverse();
            Ok(states)
        }
        more => Err(HistoryError::TooMany(more)),
    }
}
