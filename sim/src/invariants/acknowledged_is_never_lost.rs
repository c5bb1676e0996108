//! What a client was told is committed is there on every node, in the same place, with one answer,
//! and provable against the final checkpoint by a receipt that anybody can verify; and entries that
//! one client submitted one after the other stand in that order. (Day-one bugs 2 and 11.)

use bytes::Bytes;
use cairn_consensus::Core;
use cairn_ledger::hash::Hash;
use cairn_ledger::log::{self, TreeId};
use cairn_ledger::state::StateRead as _;
use cairn_ledger::{apply, canonical, members, rooms, verify};
use cairn_proto::v1;
use cairn_storage::View;
use prost::Message as _;

use super::Violation;
use crate::oracle::Acknowledged;
use crate::world::World;

const NAME: &str = "acknowledged_is_never_lost";

fn violation<T>(what: String) -> Result<T, Violation> {
    Err(Violation::of(NAME, what))
}

pub fn check(world: &World, acknowledged: &[Acknowledged]) -> Result<(), Violation> {
    in_order(acknowledged)?;
    let running = world.running();
    let nodes = running.len();
    for (place, (id, core)) in running.into_iter().enumerate() {
        if world.is_damaged(id) {
            says_nothing_wrong(id, &core, acknowledged)?;
            continue;
        }
        let Some(view) = core.view() else {
            return violation(format!("{id} has no view"));
        };
        for (number, told) in acknowledged.iter().enumerate() {
            let now = match core.entry_status(&told.id) {
                Ok(now) => now,
                Err(error) => return violation(format!("{id}: {told:?}: {error}")),
            };
            if now.state() != v1::EntryState::Certified
                || (now.height, now.leaf_index) != (told.height, told.leaf_index)
            {
                return violation(format!(
                    "{id} says {now:?} of what was acknowledged as {told:?}"
                ));
            }
            let index = told.leaf_index;
            let key = rooms::key(rooms::LEAF, &[&index.to_be_bytes()]);
            if !matches!(view.get(&key), Ok(Some(_))) {
                return violation(format!("{id}: leaf {index} is not indexed"));
            }
            // The paths of all are the same where the roots are: one node's receipt each.
            if number % nodes != place {
                continue;
            }
            let verified = receipt(&view, index).and_then(|receipt| {
                let read = canonical::decode::<v1::Receipt>(&receipt).map_err(|e| e.to_string())?;
                let chain = &world.ledger.chain;
                verify::receipt(chain, &read, None).map_err(|error| error.to_string())
            });
            match verified {
                Ok(verified) if verified.id == told.id && verified.leaf_index == index => {}
                Ok(other) => return violation(format!("{id} proves {other:?} for {told:?}")),
                Err(error) => return violation(format!("{id}: {told:?}: {error}")),
            }
        }
    }
    Ok(())
}

/// The receipt that a node hands out, as bytes.
pub fn receipt(view: &View, leaf_index: u64) -> Result<Bytes, String> {
    let header = view.checkpoint().header();
    let path = log::inclusion_proof(view, &TreeId::LEDGER, leaf_index, header.tree_size);
    let path = path.map_err(|error| error.to_string())?;
    let entry = apply::read_entry(view, leaf_index).map_err(|error| error.to_string())?;
    let entry = entry.and_then(|entry| entry.entry);
    let entry = entry.ok_or("there is no such entry")?;
    let changes = members::changes_up_to(view, header.epoch);
    let receipt = v1::Receipt {
        envelope: entry.envelope,
        signatures: entry.signatures,
        inclusion: Some(v1::InclusionProof {
            leaf_index,
            path: path.into_iter().map(Hash::to_bytes).collect(),
        }),
        checkpoint: Some(view.checkpoint().to_proto()),
        epoch_changes: changes.map_err(|error| error.to_string())?,
    };
    Ok(receipt.encode_to_vec().into())
}

/// A client waits for one entry before it submits the next.
fn in_order(acknowledged: &[Acknowledged]) -> Result<(), Violation> {
    let mut sorted: Vec<&Acknowledged> = acknowledged.iter().collect();
    sorted.sort_by_key(|told| told.by);
    for pair in sorted.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        let later = first.by.0 == second.by.0 && first.by.1 < second.by.1;
        if later && first.leaf_index >= second.leaf_index {
            return violation(format!("{second:?} stands before {first:?}"));
        }
    }
    Ok(())
}

/// A node with a damaged record may fail; it may not deny what it has.
fn says_nothing_wrong(
    id: u64,
    core: &Core,
    acknowledged: &[Acknowledged],
) -> Result<(), Violation> {
    let applied = core.status().applied_height;
    for told in acknowledged.iter().filter(|told| told.height <= applied) {
        if let Ok(now) = core.entry_status(&told.id)
            && (now.height, now.leaf_index) != (told.height, told.leaf_index)
        {
            return violation(format!("{id}, damaged, says {now:?} of {told:?}"));
        }
    }
    Ok(())
}
