//! What blocks leave in the state, and how it is read back: tip, blocks, entries, outcomes.

use bytes::Bytes;
use cairn_proto::v1;
use prost::Message;

use crate::genesis::Chain;
use crate::hash::Hash;
use crate::state::{Overlay, StateError, StateRead};
use crate::{checkpoint, rooms};

/// The newest block, and the newest checkpoint before or at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tip {
    /// The newest block's header.
    pub header: v1::Header,
    /// The hash of its canonical bytes.
    pub header_hash: Hash,
    /// Height of the newest checkpoint, certified or not.
    pub last_checkpoint_height: u64,
    /// Its timestamp, milliseconds since 1970.
    pub last_checkpoint_ms: u64,
}

impl Tip {
    /// The root of the map.
    pub(super) fn map_root(&self) -> Result<Hash, StateError> {
        Hash::from_slice(&self.header.map_root)
            .ok_or_else(|| corrupt("the tip", "the map root is not 32 bytes"))
    }

    /// The set that certifies the next block.
    pub(super) fn next_members_hash(&self) -> Result<Hash, StateError> {
        Hash::from_slice(&self.header.next_members_hash)
            .ok_or_else(|| corrupt("the tip", "the members hash is not 32 bytes"))
    }

    /// Whether a block at `height` stamped `timestamp_ms` must be a checkpoint, whatever its leader
    /// wants: so no leader can hide changes behind an old one.
    pub(super) fn checkpoint_is_due(&self, chain: &Chain, height: u64, timestamp_ms: u64) -> bool {
        let limits = chain.limits();
        height - self.last_checkpoint_height >= u64::from(limits.checkpoint_every_blocks)
            || timestamp_ms - self.last_checkpoint_ms >= limits.checkpoint_every_ms
    }
}

fn corrupt(place: &str, detail: impl ToString) -> StateError {
    StateError::Corrupt {
        place: place.to_owned(),
        detail: detail.to_string(),
    }
}

fn tip_key() -> Vec<u8> {
    vec![rooms::TIP]
}

/// The newest block; none before the genesis block was written.
pub fn tip<S: StateRead + ?Sized>(state: &S) -> Result<Option<Tip>, StateError> {
    let Some(record) = state.get(&tip_key())? else {
        return Ok(None);
    };
    let parse = || {
        let (height, rest) = record.split_first_chunk::<8>()?;
        let (ms, header) = rest.split_first_chunk::<8>()?;
        Some((u64::from_be_bytes(*height), u64::from_be_bytes(*ms), header))
    };
    let (height, ms, bytes) = parse().ok_or_else(|| corrupt("the tip", "too short"))?;
    Ok(Some(Tip {
        header: v1::Header::decode(bytes).map_err(|e| corrupt("the tip", e))?,
        header_hash: checkpoint::header_hash(bytes),
        last_checkpoint_height: height,
        last_checkpoint_ms: ms,
    }))
}

pub(super) fn put_tip<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    parent: Option<&Tip>,
    header: &v1::Header,
    header_bytes: &[u8],
) {
    let (height, ms) = match parent {
        Some(parent) if !header.checkpoint => {
            (parent.last_checkpoint_height, parent.last_checkpoint_ms)
        }
        _ => (header.height, header.timestamp_ms),
    };
    let record = [&height.to_be_bytes()[..], &ms.to_be_bytes(), header_bytes].concat();
    state.put(tip_key(), record);
}

/// Height ‖ position among the recorded entries of the block: what entries are kept under.
pub(super) fn place(height: u64, position: u32) -> [u8; 12] {
    let mut place = [0; 12];
    place[..8].copy_from_slice(&height.to_be_bytes());
    place[8..].copy_from_slice(&position.to_be_bytes());
    place
}

/// The block at `height` without its entries.
fn bare_block<S: StateRead + ?Sized>(
    state: &S,
    height: u64,
) -> Result<Option<v1::Block>, StateError> {
    let key = rooms::key(rooms::BLOCK, &[&height.to_be_bytes()]);
    let decoded = state.get(&key)?.map(v1::Block::decode).transpose();
    decoded.map_err(|error| corrupt(&format!("block {height}"), error))
}

/// The canonical bytes of the header at `height`.
pub fn header_at<S: StateRead + ?Sized>(
    state: &S,
    height: u64,
) -> Result<Option<Bytes>, StateError> {
    Ok(bare_block(state, height)?.map(|block| block.header))
}

/// The block at `height`, with the entries that were recorded. Applying its proposal again gives
/// the same block.
pub fn read_block<S: StateRead + ?Sized>(
    state: &S,
    height: u64,
) -> Result<Option<v1::Block>, StateError> {
    let Some(mut block) = bare_block(state, height)? else {
        return Ok(None);
    };
    let Some(proposal) = &mut block.proposal else {
        return Ok(Some(block));
    };
    let prefix = rooms::key(rooms::ENTRY, &[&height.to_be_bytes()]);
    let recorded = state.scan(&prefix, &prefix, block.outcomes.len())?;
    let lost = |what: String| corrupt(&format!("block {height}"), what);
    if recorded.len() != block.outcomes.len() {
        let (found, expected) = (recorded.len(), block.outcomes.len());
        return Err(lost(format!("{found} entries of {expected}")));
    }
    for (_, entry) in recorded {
        let entry = v1::SignedEntry::decode(entry).map_err(|e| lost(e.to_string()))?;
        proposal.entries.push(entry);
    }
    Ok(Some(block))
}

/// The entry at a leaf of the log, and the height of its block.
fn entry_and_height<S: StateRead + ?Sized>(
    state: &S,
    leaf_index: u64,
) -> Result<Option<(v1::SignedEntry, u64)>, StateError> {
    let key = rooms::key(rooms::LEAF, &[&leaf_index.to_be_bytes()]);
    let Some(place) = state.get(&key)? else {
        return Ok(None);
    };
    let lost = |what: &str| corrupt(&format!("leaf {leaf_index}"), what);
    let height = place.first_chunk::<8>().map(|h| u64::from_be_bytes(*h));
    let height = height.ok_or_else(|| lost("its place is too short"))?;
    let entry = state.get(&rooms::key(rooms::ENTRY, &[&place]))?;
    let entry = entry.ok_or_else(|| lost("no entry"))?;
    let entry = v1::SignedEntry::decode(entry).map_err(|e| lost(&e.to_string()))?;
    Ok(Some((entry, height)))
}

/// The entry at a leaf of the log, in a block before or in the one that is being applied.
pub(crate) fn signed_entry<S: StateRead + ?Sized>(
    state: &S,
    leaf_index: u64,
) -> Result<Option<v1::SignedEntry>, StateError> {
    Ok(entry_and_height(state, leaf_index)?.map(|(entry, _)| entry))
}

/// The entry at a leaf of the log, with its place on the chain.
pub fn read_entry<S: StateRead + ?Sized>(
    state: &S,
    leaf_index: u64,
) -> Result<Option<v1::Entry>, StateError> {
    let Some((entry, height)) = entry_and_height(state, leaf_index)? else {
        return Ok(None);
    };
    let lost = |what: &str| corrupt(&format!("block {height}"), what);
    let header = header_at(state, height)?.ok_or_else(|| lost("missing"))?;
    let header = v1::Header::decode(header).map_err(|e| lost(&e.to_string()))?;
    Ok(Some(v1::Entry {
        entry: Some(entry),
        leaf_index,
        height,
        timestamp_ms: header.timestamp_ms,
    }))
}

/// An entry that an earlier block recorded, and where the state keeps it.
pub(crate) struct Recorded {
    /// Its record's key.
    pub key: Vec<u8>,
    /// The entry.
    pub signed: v1::SignedEntry,
    /// Whether it has a leaf of the log.
    pub accepted: bool,
}

/// The entry `id`, accepted or refused, of a block below `height`.
pub(crate) fn recorded<S: StateRead + ?Sized>(
    state: &S,
    id: &Hash,
    height: u64,
) -> Result<Option<Recorded>, StateError> {
    let outcome = entry_outcome(state, id)?.filter(|outcome| outcome.height < height);
    let Some(outcome) = outcome else {
        return Ok(None);
    };
    let lost = |what: &str| corrupt(&format!("entry {id}"), what);
    let block = bare_block(state, outcome.height)?.ok_or_else(|| lost("no block"))?;
    let mut outcomes = (0u32..).zip(&block.outcomes);
    let position = outcomes.find(|(_, outcome)| outcome.entry_id == id.0[..]);
    let (position, _) = position.ok_or_else(|| lost("not in its block"))?;
    let key = rooms::key(rooms::ENTRY, &[&place(outcome.height, position)]);
    let signed = state.get(&key)?.ok_or_else(|| lost("no record"))?;
    let signed = v1::SignedEntry::decode(signed).map_err(|e| lost(&e.to_string()))?;
    Ok(Some(Recorded {
        key,
        signed,
        accepted: outcome.rejected == 0,
    }))
}

/// What a block decided about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryOutcome {
    /// The block.
    pub height: u64,
    /// A `RejectReason`; 0: accepted.
    pub rejected: i32,
    /// The leaf of the log, where accepted.
    pub leaf_index: u64,
}

/// The outcome of the entry `id`; none where it was never recorded.
pub fn entry_outcome<S: StateRead + ?Sized>(
    state: &S,
    id: &Hash,
) -> Result<Option<EntryOutcome>, StateError> {
    let Some(record) = state.get(&rooms::key(rooms::OUTCOME, &[id.as_bytes()]))? else {
        return Ok(None);
    };
    let parse = || {
        let (height, rest) = record.split_first_chunk::<8>()?;
        let (rejected, rest) = rest.split_first_chunk::<4>()?;
        Some(EntryOutcome {
            height: u64::from_be_bytes(*height),
            rejected: i32::from_be_bytes(*rejected),
            leaf_index: u64::from_be_bytes(rest.try_into().ok()?),
        })
    };
    let outcome = parse().ok_or_else(|| corrupt(&format!("outcome of entry {id}"), "wrong length"));
    outcome.map(Some)
}

pub(super) fn put_outcome<S: StateRead + ?Sized>(
    state: &mut Overlay<'_, S>,
    id: &Hash,
    height: u64,
    outcome: &v1::Outcome,
) {
    let record = [
        &height.to_be_bytes()[..],
        &outcome.rejected.to_be_bytes(),
        &outcome.leaf_index.to_be_bytes(),
    ]
    .concat();
    state.put(rooms::key(rooms::OUTCOME, &[id.as_bytes()]), record);
}
