//! Places: what becomes of a row's place once the draw has given it one.
//!
//! What holds here: the draw is never touched. A place moves only by entries: a ruling strikes a
//! row, a promotion takes places from rows and gives as many to the next ranks of the waiting list,
//! a redemption uses one up. So there are never more places than the tier's quota.

use cairn_proto::v1::{self, LotteryStage, PlaceStatus, RejectReason};

use super::{
    Stop, approved_by, attempt, body, lottery_of, office, require, rules_of, save, stage_is_one_of,
};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::hash::Hash;
use crate::lottery::{PLACE_NAMESPACE, index, place_key};
use crate::state::{StateError, StateRead};

/// Places that one promotion moves: each is two changes of the map, and a list that people can read.
pub const MAX_PROMOTED: usize = 1_000;
/// Ranks of the waiting list in one read.
const RANKS_PER_READ: u64 = 256;

/// What became of a row's place; the default where nothing has yet.
pub(super) fn place<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    id: &Hash,
    attempt: u32,
    serial: u64,
) -> Result<v1::PlaceState, StateError> {
    let kept = ctx.map_message(PLACE_NAMESPACE, &place_key(id, attempt, serial))?;
    Ok(kept.unwrap_or_default())
}

pub(super) fn put<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    id: &Hash,
    attempt: u32,
    serial: u64,
    place: &v1::PlaceState,
) {
    let key = place_key(id, attempt, serial);
    ctx.map_put(PLACE_NAMESPACE, &key, canonical::encode(place));
}

/// What this block's entry at `leaf_index` makes of a place.
pub(super) fn moved<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    status: PlaceStatus,
    leaf_index: u64,
) -> v1::PlaceState {
    v1::PlaceState {
        status: status as i32,
        since_ms: ctx.timestamp_ms,
        leaf_index,
        ..Default::default()
    }
}

/// The rank of `serial` if it stands in `tier`; a serial stands in one tier only.
pub(super) fn rank_in_tier<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    id: &Hash,
    attempt: u32,
    tier: u32,
    serial: u64,
) -> Result<Option<u64>, StateError> {
    let Some(rank) = index::rank_of(ctx.state, id, attempt, serial)? else {
        return Ok(None);
    };
    let rank = u64::from(rank);
    let there = index::ranking_slice(ctx.state, id, attempt, tier, rank, 1)?;
    Ok((there == [serial]).then_some(rank))
}

/// Ranks below this one were given a place, by the draw or by a promotion.
pub(super) fn reached(result: &v1::TierResult) -> u64 {
    result.winners.max(result.promoted_through)
}

pub(super) fn promote<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::Promotion = body(entry)?;
    let (id, mut lottery) = lottery_of(ctx, entry, &given.lottery_id)?;
    let rules = rules_of(&lottery)?;
    office(entry, &rules.notary)?;
    approved_by(entry, &[])?;
    stage_is_one_of(&lottery, &[LotteryStage::Complete, LotteryStage::Certified])?;
    attempt(&lottery, given.attempt)?;
    let tier = usize::try_from(given.tier).unwrap_or(usize::MAX);
    let (Some(terms), Some(result)) = (rules.tiers.get(tier), lottery.results.get(tier)) else {
        return Err(RejectReason::FieldOutOfRange.into());
    };
    let sound = (1..=MAX_PROMOTED).contains(&given.vacated.len())
        && given.vacated.is_sorted_by(|a, b| a < b)
        && given.document_hash.len() == 32;
    require(sound, RejectReason::FieldOutOfRange)?;
    for serial in &given.vacated {
        let rank = rank_in_tier(ctx, &id, lottery.attempt, given.tier, *serial)?;
        let held = match place(ctx, &id, lottery.attempt, *serial)?.status() {
            PlaceStatus::Unspecified | PlaceStatus::Promoted | PlaceStatus::Struck => true,
            PlaceStatus::Vacated | PlaceStatus::Redeemed => false,
        };
        require(
            held && rank.is_some_and(|rank| rank < reached(result)),
            RejectReason::PromotionNoPlace,
        )?;
    }
    let end = result
        .entrants
        .min(result.winners + u64::from(terms.waiting_list));
    let wanted = given.vacated.len();
    let line = next_in_line(ctx, &id, &lottery, given.tier, reached(result)..end, wanted)?;
    require(
        given.serials == line.promoted,
        RejectReason::PromotionMismatch,
    )?;

    let vacated = moved(ctx, PlaceStatus::Vacated, leaf_index);
    // Who was struck on the waiting list is passed over for good: no place is vacated there again.
    for serial in given.vacated.iter().chain(&line.passed_over) {
        put(ctx, &id, lottery.attempt, *serial, &vacated);
    }
    let promoted = moved(ctx, PlaceStatus::Promoted, leaf_index);
    for serial in &line.promoted {
        put(ctx, &id, lottery.attempt, *serial, &promoted);
    }
    if line.through > reached(result) {
        lottery.results[tier].promoted_through = line.through;
    }
    save(ctx, &id, &lottery);
    Ok(())
}

/// Whom a promotion reaches.
struct Line {
    promoted: Vec<u64>,
    passed_over: Vec<u64>,
    through: u64,
}

/// The next `wanted` rows of these ranks that were not struck; fewer at the end of the list.
fn next_in_line<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    id: &Hash,
    lottery: &v1::LotteryState,
    tier: u32,
    ranks: std::ops::Range<u64>,
    wanted: usize,
) -> Result<Line, StateError> {
    let mut line = Line {
        promoted: Vec::new(),
        passed_over: Vec::new(),
        through: ranks.start,
    };
    while line.through < ranks.end && line.promoted.len() < wanted {
        let most = (ranks.end - line.through).min(RANKS_PER_READ) as usize;
        let attempt = lottery.attempt;
        let page = index::ranking_slice(ctx.state, id, attempt, tier, line.through, most)?;
        if page.is_empty() {
            return Err(StateError::Corrupt {
                place: format!("ranking of lottery {id}, tier {tier}"),
                detail: format!("it ends at rank {}", line.through),
            });
        }
        for serial in page {
            if line.promoted.len() == wanted {
                break;
            }
            let place = place(ctx, id, attempt, serial)?;
            match place.status() {
                PlaceStatus::Unspecified => line.promoted.push(serial),
                _ => line.passed_over.push(serial),
            }
            line.through += 1;
        }
    }
    Ok(line)
}
