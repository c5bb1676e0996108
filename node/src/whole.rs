//! Whether the ledger's database has its blocks, looked at before anything is served.
//!
//! RocksDB notices damage in every file but one: a manifest that is cut where a record ends looks
//! like an older, whole one, and the tables that it no longer names are deleted. What is left has
//! a hole: blocks in the middle, with all that they wrote, are gone. Whoever asked for one of those
//! entries would be told that it is not there (a proof of that cannot be made). A table holds
//! many blocks in a row, so a sample of fixed size finds the hole, however long the ledger is.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::bail;
use cairn_ledger::apply;
use cairn_ledger::hash::Hash;
use cairn_ledger::state::StateRead;
use cairn_storage::{Disk, StateStore};

/// Blocks that are looked for, evenly spread; all of them where there are no more.
const SPREAD: u64 = 512;

/// Fails where a block is missing.
pub fn check(disk: Arc<dyn Disk>, chain_id: &Hash) -> anyhow::Result<()> {
    has_its_blocks(&StateStore::open(disk, chain_id)?)
}

fn has_its_blocks(state: &impl StateRead) -> anyhow::Result<()> {
    let Some(tip) = apply::tip(state)? else {
        return Ok(());
    };
    let newest = tip.header.height;
    for height in sample(newest) {
        if apply::header_at(state, height)?.is_none() {
            bail!(
                "the ledger's state is damaged: block {height} of {newest} is missing. Delete \
                 everything but kept/ in the folder ledger/ of the data folder and start again: \
                 the state is made again from its newest copy and raft/"
            );
        }
    }
    Ok(())
}

/// Heights from 0 to `newest`: evenly spread, and denser towards the end, where tables are small.
fn sample(newest: u64) -> BTreeSet<u64> {
    let step = (newest / SPREAD).max(1);
    let even = (0..=newest).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    let back = (0..64).map_while(|power| newest.checked_sub(1 << power));
    even.chain(back).chain([newest]).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_short_ledger_is_looked_at_in_full_and_a_long_one_in_bounded_time() {
        assert_eq!(sample(0).len(), 1);
        assert_eq!(sample(300), (0..=300).collect());
        for newest in [512, 5_000, 10_000_000] {
            let all = sample(newest);
            assert!(all.len() <= 2 * 512 + 64, "{newest}: {}", all.len());
            assert!(all.contains(&0) && all.contains(&newest) && all.contains(&(newest - 1)));
        }
    }
}
