//! On every node: each header names the one before, heights follow each other, and neither the
//! number of entries nor the time ever falls. (Day-one bugs 10 and 20.)

use cairn_ledger::{apply, checkpoint};
use cairn_proto::v1;
use prost::Message as _;

use super::Violation;
use crate::world::World;

const NAME: &str = "a_chain_only_grows";

pub fn check(world: &World) -> Result<(), Violation> {
    for id in world.ids() {
        let Some(store) = world.readable_store(id) else {
            continue;
        };
        let mut before: Option<(v1::Header, cairn_ledger::hash::Hash)> = None;
        for height in 0.. {
            let Some(bytes) = apply::header_at(&store, height).unwrap_or(None) else {
                break;
            };
            let hash = checkpoint::header_hash(&bytes);
            let header = v1::Header::decode(bytes).unwrap();
            if let Some((last, last_hash)) = &before
                && (header.height != last.height + 1
                    || header.parent_hash[..] != last_hash.as_bytes()[..]
                    || header.tree_size < last.tree_size
                    || header.timestamp_ms < last.timestamp_ms)
            {
                let what = format!("at {id}, {header:?} stands behind {last:?}");
                return Err(Violation::of(NAME, what));
            }
            before = Some((header, hash));
        }
    }
    Ok(())
}
