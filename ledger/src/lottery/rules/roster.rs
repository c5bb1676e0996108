//! Filling and freezing a roster.

use cairn_proto::v1::{self, LotteryStage, RejectReason};

use super::{Stop, approved_by, body, lottery_of, office, require, rules_of, save, seeding, stage};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::hash::Hash;
use crate::log::{self, TreeId};
use crate::lottery::index;
use crate::lottery::roster::{Columns, Row};
use crate::lottery::rules::open::MAX_TICKETS;
use crate::rooms;
use crate::state::StateRead;

pub(super) fn chunk<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let chunk: v1::RosterChunk = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &chunk.lottery_id)?;
    let rules = rules_of(&lottery)?;
    office(entry, &rules.registrar)?;
    approved_by(entry, &[])?;
    stage(&lottery, LotteryStage::Open)?;
    let columns =
        Columns::of(&chunk, rules.tiers.len()).map_err(|_| RejectReason::FieldOutOfRange)?;
    let first = lottery.rows;
    require(chunk.first_serial == first, RejectReason::RosterSerialGap)?;
    let rows = first + columns.len() as u64;
    let weights: u64 = columns.rows().map(|row| u64::from(row.weight)).sum();
    let tickets = lottery.tickets + weights;
    require(
        rows <= u64::from(rules.max_rows) && tickets <= MAX_TICKETS,
        RejectReason::RosterFull,
    )?;
    let tags = new_tags(ctx.state, lottery.open_leaf_index, first, columns.rows())?;

    for (key, serial) in tags {
        // MAX_LOTTERY_ROWS fits.
        ctx.state.put(key, (serial as u32).to_be_bytes().to_vec());
    }
    let leaves: Vec<Hash> = columns.rows().map(|row| row.leaf_hash()).collect();
    let root = log::append(ctx.state, &TreeId::roster(&id), first, &leaves)?;
    index::put_chunk(ctx.state, &id, first, leaf_index, &columns);
    lottery.rows = rows;
    lottery.tickets = tickets;
    lottery.roster_root = root.to_bytes();
    save(ctx, &id, &lottery);
    Ok(())
}

/// The keys under which the rows' tags are to be kept, each with its serial. Refused where a tag
/// stands twice in the chunk or was seen before in this lottery, which its opening's leaf names in
/// fewer bytes than its id: there are as many of these keys as rows.
fn new_tags<S: StateRead + ?Sized>(
    state: &S,
    open_leaf_index: u64,
    first_serial: u64,
    rows: impl Iterator<Item = Row>,
) -> Result<Vec<(Vec<u8>, u64)>, Stop> {
    let mut tags: Vec<([u8; 32], u64)> = rows.map(|row| row.tag).zip(first_serial..).collect();
    tags.sort_unstable();
    require(
        tags.windows(2).all(|pair| pair[0].0 != pair[1].0),
        RejectReason::RosterDuplicateTag,
    )?;
    let keys: Vec<Vec<u8>> = tags
        .iter()
        .map(|(tag, _)| rooms::key(rooms::ROSTER_TAG, &[&open_leaf_index.to_be_bytes(), tag]))
        .collect();
    let seen = state.multi_get(&keys)?;
    require(
        seen.iter().all(Option::is_none),
        RejectReason::RosterDuplicateTag,
    )?;
    Ok(keys.into_iter().zip(tags.iter().map(|t| t.1)).collect())
}

pub(super) fn freeze<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
) -> Result<(), Stop> {
    let freeze: v1::RosterFreeze = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &freeze.lottery_id)?;
    let rules = rules_of(&lottery)?;
    office(entry, &rules.registrar)?;
    approved_by(entry, &[&rules.notary])?;
    stage(&lottery, LotteryStage::Open)?;
    // Nobody wins a draw without entrants, and it would never complete.
    require(freeze.count > 0, RejectReason::FieldOutOfRange)?;
    require(
        freeze.count == lottery.rows && freeze.roster_root == lottery.roster_root,
        RejectReason::RosterMismatch,
    )?;

    if rules.with_dice {
        lottery.stage = LotteryStage::Frozen as i32;
        save(ctx, &id, &lottery);
        Ok(())
    } else {
        seeding::begin_contributing(ctx, &id, lottery)
    }
}
