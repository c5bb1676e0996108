//! Filling and freezing a roster.

use cairn_proto::v1::{self, LotteryStage, RejectReason};

use super::{Stop, approved_by, body, lottery_of, office, require, rules_of, save, seeding, stage};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::hash::Hash;
use crate::log::{self, TreeId};
use crate::lottery::index;
use crate::lottery::roster::Columns;
use crate::lottery::rules::open::MAX_TICKETS;
use crate::lottery::tags::Roster;
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
    let roster = roster_of(&lottery);
    let mut tags = ctx.rosters.take(ctx.state, &roster)?;
    if !tags.add_chunk(columns.tags(), rules.max_rows) {
        ctx.rosters.keep(roster.root, tags);
        return Err(RejectReason::RosterDuplicateTag.into());
    }

    roster.put(ctx.state, columns.tags())?;
    let leaves: Vec<Hash> = columns.rows().map(|row| row.leaf_hash()).collect();
    // Whoever proves a row reads its chunk, and has the rows beside it.
    let root = log::append_kept_leaves(ctx.state, &TreeId::roster(&id), first, &leaves)?;
    ctx.rosters.keep(root, tags);
    index::put_chunk(ctx.state, &id, first, leaf_index, &columns);
    lottery.rows = rows;
    lottery.tickets = tickets;
    lottery.roster_root = root.to_bytes();
    save(ctx, &id, &lottery);
    Ok(())
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
    ctx.rosters.forget(&roster_of(&lottery).root);

    if rules.with_dice {
        lottery.stage = LotteryStage::Frozen as i32;
        save(ctx, &id, &lottery);
        Ok(())
    } else {
        seeding::begin_contributing(ctx, &id, lottery)
    }
}

fn roster_of(lottery: &v1::LotteryState) -> Roster {
    Roster {
        open_leaf_index: lottery.open_leaf_index,
        rows: lottery.rows,
        // Always there: opening the lottery writes that of no rows.
        root: Hash::from_slice(&lottery.roster_root).unwrap_or_default(),
    }
}
