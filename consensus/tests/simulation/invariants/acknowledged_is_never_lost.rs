//! What a client was told is committed is there on every node, in the same place, with one answer,
//! and provable against the final checkpoint.

use cairn_ledger::hash::Hash;
use cairn_ledger::log::{self, TreeId};
use cairn_ledger::rooms;
use cairn_ledger::state::StateRead as _;
use cairn_proto::v1;

use super::Violation;
use crate::oracle::Acknowledged;
use crate::world::World;

pub fn check(world: &World, acknowledged: &[Acknowledged]) -> Result<(), Violation> {
    for (id, core) in world.running() {
        let Some(view) = core.view() else {
            return Err(Violation(format!("{id} has no view")));
        };
        let header = view.checkpoint().header();
        let root = Hash::from_slice(&header.log_root).unwrap();
        for told in acknowledged {
            let now = core.entry_status(&told.id).unwrap();
            if now.state() != v1::EntryState::Certified
                || (now.height, now.leaf_index) != (told.height, told.leaf_index)
            {
                let what = format!("{id} says {now:?} of what was acknowledged as {told:?}");
                return Err(Violation(what));
            }
            let path =
                log::inclusion_proof(&*view, &TreeId::LEDGER, told.leaf_index, header.tree_size);
            let path = path.map_err(|error| Violation(format!("{id}: no proof: {error}")))?;
            let (index, size) = (told.leaf_index, header.tree_size);
            log::verify_inclusion(&told.leaf_hash, index, size, &path, &root)
                .map_err(|error| Violation(format!("{id}: {told:?}: {error}")))?;
            let key = rooms::key(rooms::LEAF, &[&index.to_be_bytes()]);
            if view.get(&key).unwrap().is_none() {
                return Err(Violation(format!("{id}: leaf {index} is not indexed")));
            }
        }
    }
    Ok(())
}
