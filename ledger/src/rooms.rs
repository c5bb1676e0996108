//! The rooms of the state: every key that is ever written, by its first byte.
//!
//! Integers in keys are big-endian, so that keys sort as numbers do. Only [`MAP_VALUE`] and
//! [`MAP_PAGE`] are under `map_root`, and [`TILE`] of the main log under `log_root`; [`HISTORY`]
//! follows from the codes in the map; the others are indexes that anyone rebuilds from the log.

/// Map values: namespace hash key (32) → value.
pub const MAP_VALUE: u8 = b'v';
/// Pages of the map's trie: see `map::page`.
pub const MAP_PAGE: u8 = b'p';
/// Tiles of Merkle logs: tree id (33) ‖ level (1) ‖ index (8) → up to 16 hashes.
pub const TILE: u8 = b't';
/// Entries: height (8) ‖ position (4) → SignedEntry.
pub const ENTRY: u8 = b'e';
/// Leaf index (8) → height (8) ‖ position (4).
pub const LEAF: u8 = b'l';
/// Entry id (32) → height (8) ‖ outcome code (4) ‖ leaf index (8).
pub const OUTCOME: u8 = b'o';
/// Height (8) → Block without its entries.
pub const BLOCK: u8 = b'h';
/// One record: height (8) and time (8) of the newest checkpoint ‖ the newest header.
pub const TIP: u8 = b'n';
/// Tags of a roster, leaf of the LotteryOpen (8) ‖ segment (4): see `lottery::tags`.
pub const ROSTER_TAGS: u8 = b'g';
/// Chunks of a roster: lottery id (32) ‖ first serial (8) → leaf index (8) ‖ row count (4), then tier
/// (1) ‖ weight (1) a row unless all rows are of tier 0 and weight 1.
pub const ROSTER_CHUNK: u8 = b'r';
/// Rankings: lottery id (32) ‖ attempt (4) ‖ tier (4) ‖ segment (4) → serials, 4 bytes each.
pub const RANKING: u8 = b'k';
/// Ranks: lottery id (32) ‖ attempt (4) ‖ segment (4) → rank by serial, 4 bytes each.
pub const RANK_OF: u8 = b'q';
/// Lotteries in order of opening: leaf index (8) → lottery id.
pub const LOTTERY_INDEX: u8 = b'y';
/// Acts of authorities: public key (32) ‖ place in the authority's log (8) → AuthorityAct.
pub const ACT: u8 = b'a';
/// States that codes had: the code's key in the map (32) ‖ sequence (8) → ReplacedState.
pub const HISTORY: u8 = b's';
/// Changes of members: the new epoch (8) → EpochChange, once the chain carries its certificate.
pub const EPOCH: u8 = b'm';

/// A key of `room` made of `parts`.
pub fn key(room: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|p| p.len()).sum::<usize>());
    key.push(room);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}
