//! Checking a whole state that came from elsewhere, before anything is answered or built on it.
//!
//! What holds here: when [`check`] returns, the chain of headers leads from the pinned genesis to the
//! certified one; each block's outcomes, entries and leaves are those that its header commits to; the
//! tiles of the log and the pages of the map have the certified roots; the records by which entries
//! are found and repetitions refused are exactly the ones that the blocks make; and the states that
//! codes had are those that lead to the codes in the map. Everything is read in the order of its
//! keys and a portion at a time, so memory does not grow with the ledger.
//!
//! What stays out: indexes of lotteries and the trees of rosters, rankings and acts, whose roots
//! are in the map but which only a replay of the rules can compute (`cairn audit replay`). A lie in
//! one of them makes this node compute another header than the others, which is noticed at the next
//! certificate.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_proto::v1;
use prost::Message;

use crate::apply::{self, outcomes_root, tip};
use crate::checkpoint::{self, CertifiedCheckpoint};
use crate::epochs::Epochs;
use crate::genesis::Chain;
use crate::hash::{self, Hash};
use crate::log::{self, TreeId};
use crate::state::{MemoryState, Overlay, StateError, StateRead};
use crate::{canonical, code, entry, map, members, rooms};

/// Pairs read at a time: below some megabytes, as entries with bodies are.
const PORTION: usize = 256;
/// Leaves that are put into the tree at a time.
const LEAVES: usize = 4096;
/// A full tile: 16 hashes.
const FULL_TILE: usize = 16 * 32;

/// What was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Blocks, the genesis block included.
    pub blocks: u64,
    /// Entries, refused ones included.
    pub entries: u64,
    /// Leaves of the log.
    pub leaves: u64,
    /// Keys of the map.
    pub keys: u64,
    /// The members from the genesis on, as the state's changes lead to them.
    pub epochs: Epochs,
}

fn corrupt(place: impl ToString, detail: impl ToString) -> StateError {
    StateError::Corrupt {
        place: place.to_string(),
        detail: detail.to_string(),
    }
}

fn ensure(holds: bool, place: impl FnOnce() -> String, detail: &str) -> Result<(), StateError> {
    match holds {
        true => Ok(()),
        false => Err(corrupt(place(), detail)),
    }
}

/// Checks that `state` is the one after the block that `certified` names. `secret` is random and
/// known to nobody else: sums over records are keyed by it.
pub fn check<S: StateRead + ?Sized>(
    chain: &Chain,
    state: &S,
    certified: &CertifiedCheckpoint,
    secret: &[u8; 32],
) -> Result<Checked, StateError> {
    let tip = tip(state)?.ok_or_else(|| corrupt("the tip", "missing"))?;
    let is_checkpoint = tip.last_checkpoint_height == tip.header.height
        && tip.last_checkpoint_ms == tip.header.timestamp_ms;
    ensure(
        tip.header_hash == certified.header_hash() && is_checkpoint,
        || "the tip".to_owned(),
        "not the certified block",
    )?;
    let genesis = apply::genesis_block(chain).map_err(|error| corrupt("the genesis", error))?;

    let mut rooms = Rooms::new(state, secret);
    let mut parent = Hash::ZERO;
    for height in 0..=tip.header.height {
        parent = rooms.block(height, &parent)?;
        let first = height != 0 || parent == genesis.header_hash;
        ensure(first, || "block 0".to_owned(), "of another genesis")?;
    }
    ensure(
        parent == tip.header_hash,
        || "the tip".to_owned(),
        "not the last block",
    )?;
    let (entries, leaves) = (rooms.count, rooms.log.size);
    ensure(
        leaves == tip.header.tree_size,
        || "the log".to_owned(),
        "another number of leaves than the certified one",
    )?;
    rooms.finish(certified.log_root())?;
    let keys = map::check(state, certified.map_root())?;
    history::check(state)?;
    let changes = members::changes_after(state, 0, usize::MAX)?;
    ensure(
        changes.len() as u64 == tip.header.epoch,
        || "the changes of members".to_owned(),
        "not one for each epoch",
    )?;
    let epochs = Epochs::follow(chain, &changes)
        .map_err(|error| corrupt("the changes of members", error))?;
    Ok(Checked {
        epochs,
        blocks: tip.header.height + 1,
        entries,
        leaves,
        keys,
    })
}

/// The rooms that blocks fill in order, read side by side.
struct Rooms<'a, S: ?Sized> {
    state: &'a S,
    blocks: Cursor<'a, S>,
    entries: Cursor<'a, S>,
    leaves: Cursor<'a, S>,
    log: Log<'a, S>,
    outcomes: Sum,
    count: u64,
}

impl<'a, S: StateRead + ?Sized> Rooms<'a, S> {
    fn new(state: &'a S, secret: &[u8; 32]) -> Self {
        Self {
            state,
            blocks: Cursor::new(state, rooms::BLOCK),
            entries: Cursor::new(state, rooms::ENTRY),
            leaves: Cursor::new(state, rooms::LEAF),
            log: Log::new(state),
            outcomes: Sum::new(secret),
            count: 0,
        }
    }

    /// Checks the next block, which must follow `parent`; gives its header's hash.
    fn block(&mut self, height: u64, parent: &Hash) -> Result<Hash, StateError> {
        let place = || format!("block {height}");
        let record = self.blocks.expect(&height.to_be_bytes())?;
        let block = v1::Block::decode(record).map_err(|error| corrupt(place(), error))?;
        let header = canonical::decode::<v1::Header>(&block.header)
            .map_err(|error| corrupt(place(), error))?;
        let follows = header.height == height && header.parent_hash == parent.to_bytes();
        ensure(follows, place, "does not follow the block before")?;
        ensure(
            header.outcomes_root == outcomes_root(&block.outcomes).to_bytes(),
            place,
            "its outcomes are not those of its header",
        )?;
        for (position, outcome) in (0u32..).zip(&block.outcomes) {
            self.entry(height, position, outcome)?;
        }
        ensure(
            header.tree_size == self.log.size,
            place,
            "its log has another size",
        )?;
        Ok(checkpoint::header_hash(&block.header))
    }

    fn entry(
        &mut self,
        height: u64,
        position: u32,
        outcome: &v1::Outcome,
    ) -> Result<(), StateError> {
        let place = [&height.to_be_bytes()[..], &position.to_be_bytes()].concat();
        let name = || format!("entry {position} of block {height}");
        let record = self.entries.expect(&place)?;
        let signed = v1::SignedEntry::decode(record).map_err(|error| corrupt(name(), error))?;
        let envelope = v1::Envelope::decode(signed.envelope.clone())
            .map_err(|error| corrupt(name(), error))?;
        let id = hash::plain(&signed.envelope);
        ensure(id.to_bytes() == outcome.entry_id, name, "another entry")?;
        // An erased body is gone on every node; the map, which is checked too, says that it is.
        if code::is_erased(self.state, &id)? {
            ensure(signed.body.is_empty(), name, "its erased body is there")?;
        } else {
            let own = hash::plain(&signed.body).to_bytes() == envelope.body_hash;
            ensure(own, name, "another body")?;
        }
        self.count += 1;
        let record = [
            &height.to_be_bytes()[..],
            &outcome.rejected.to_be_bytes(),
            &outcome.leaf_index.to_be_bytes(),
        ]
        .concat();
        self.outcomes.add(id.as_bytes(), &record);
        if outcome.rejected == 0 {
            ensure(outcome.leaf_index == self.log.size, name, "another leaf")?;
            let at = self.leaves.expect(&outcome.leaf_index.to_be_bytes())?;
            ensure(at[..] == place[..], name, "its leaf leads elsewhere")?;
            self.log
                .push(entry::leaf_hash(&signed.envelope, &signed.signatures))?;
        }
        Ok(())
    }

    /// Nothing is left over, and the log has its root.
    fn finish(mut self, log_root: &Hash) -> Result<(), StateError> {
        for cursor in [&mut self.blocks, &mut self.entries, &mut self.leaves] {
            if let Some((key, _)) = cursor.next()? {
                return Err(corrupt(hex::encode(key), "belongs to no block"));
            }
        }
        let mut found = self.outcomes.empty();
        let mut outcomes = Cursor::new(self.state, rooms::OUTCOME);
        while let Some((key, record)) = outcomes.next()? {
            found.add(&key[1..], &record);
        }
        ensure(
            found.sum == self.outcomes.sum,
            || "the outcomes by entry".to_owned(),
            "not those of the blocks",
        )?;
        let root = self.log.finish()?;
        ensure(
            root == *log_root,
            || "the log".to_owned(),
            "its root is not the certified one",
        )
    }
}

/// One room in the order of its keys.
struct Cursor<'a, S: ?Sized> {
    state: &'a S,
    room: u8,
    from: Option<Vec<u8>>,
    portion: std::vec::IntoIter<(Bytes, Bytes)>,
}

impl<'a, S: StateRead + ?Sized> Cursor<'a, S> {
    fn new(state: &'a S, room: u8) -> Self {
        Self {
            state,
            room,
            from: Some(vec![room]),
            portion: Vec::new().into_iter(),
        }
    }

    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, StateError> {
        if self.portion.len() == 0
            && let Some(from) = self.from.take()
        {
            let portion = self.state.scan(&[self.room], &from, PORTION)?;
            if portion.len() == PORTION
                && let Some((last, _)) = portion.last()
            {
                self.from = Some([last, &[0][..]].concat());
            }
            self.portion = portion.into_iter();
        }
        Ok(self.portion.next())
    }

    /// The next record, whose key must be this one.
    fn expect(&mut self, key: &[u8]) -> Result<Bytes, StateError> {
        match self.next()? {
            Some((found, record)) if &found[1..] == key => Ok(record),
            _ => Err(corrupt(
                hex::encode(rooms::key(self.room, &[key])),
                "missing",
            )),
        }
    }
}

/// The log's tree, built again beside the tiles that the state has.
struct Log<'a, S: ?Sized> {
    state: &'a S,
    /// Leaves, those not yet in the tree included.
    size: u64,
    waiting: Vec<Hash>,
    /// By level: the last tile.
    edge: BTreeMap<Vec<u8>, (Vec<u8>, Bytes)>,
    root: Hash,
}

/// Room, tree and level of a tile's key; its index follows.
const TILE_LEVEL: usize = 1 + 33 + 1;

impl<'a, S: StateRead + ?Sized> Log<'a, S> {
    fn new(state: &'a S) -> Self {
        Self {
            state,
            size: 0,
            waiting: Vec::with_capacity(LEAVES),
            edge: BTreeMap::new(),
            root: log::empty_root(),
        }
    }

    fn push(&mut self, leaf: Hash) -> Result<(), StateError> {
        self.size += 1;
        self.waiting.push(leaf);
        match self.waiting.len() {
            LEAVES => self.append(),
            _ => Ok(()),
        }
    }

    fn append(&mut self) -> Result<(), StateError> {
        let leaves = std::mem::take(&mut self.waiting);
        let mut base = MemoryState::default();
        base.commit(self.edge.values().cloned().collect());
        let mut overlay = Overlay::new(&base);
        let before = self.size - leaves.len() as u64;
        self.root = log::append(&mut overlay, &TreeId::LEDGER, before, &leaves)?;
        let written = overlay.into_writes();
        let full = written.iter().filter(|(_, tile)| tile.len() == FULL_TILE);
        let (keys, tiles): (Vec<Vec<u8>>, Vec<&Bytes>) =
            full.map(|(key, tile)| (key.clone(), tile)).unzip();
        let stored = self.state.multi_get(&keys)?;
        for ((key, tile), stored) in keys.iter().zip(tiles).zip(stored) {
            expect_tile(key, tile, stored)?;
        }
        for (key, tile) in written {
            // Ascending: the last one of a level stays.
            self.edge.insert(key[..TILE_LEVEL].to_vec(), (key, tile));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Hash, StateError> {
        self.append()?;
        for (key, tile) in self.edge.values() {
            expect_tile(key, tile, self.state.get(key)?)?;
        }
        Ok(self.root)
    }
}

fn expect_tile(key: &[u8], tile: &Bytes, stored: Option<Bytes>) -> Result<(), StateError> {
    ensure(
        stored.is_some_and(|stored| stored == tile),
        || format!("tile {}", hex::encode(key)),
        "not the tile of these leaves",
    )
}

/// A sum over records in any order: equal sums are equal sets, unless somebody knows the key.
struct Sum {
    secret: [u8; 32],
    sum: (u128, u128),
}

impl Sum {
    fn new(secret: &[u8; 32]) -> Self {
        Self {
            secret: *secret,
            sum: (0, 0),
        }
    }

    fn empty(&self) -> Self {
        Self::new(&self.secret)
    }

    fn add(&mut self, key: &[u8], record: &[u8]) {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&(key.len() as u64).to_be_bytes());
        hasher.update(key);
        hasher.update(record);
        let hash = hasher.finalize();
        let (halves, _) = hash.as_bytes().as_chunks::<16>();
        for (half, sum) in halves.iter().zip([&mut self.sum.0, &mut self.sum.1]) {
            *sum = sum.wrapping_add(u128::from_be_bytes(*half));
        }
    }
}

mod history;
#[cfg(test)]
mod tests;
