//! Redemption: a winner's place is used up, once, inside its window, with the winner's own signature.
//!
//! What holds here: the row is proven against the frozen roster, since bodies of chunks may be
//! withheld; whoever has no place, or lost it, redeems nothing; a signature that was made for
//! another shop, lottery or hour is none. What stays out: who stands at the counter, and whether
//! the goods were handed out; a shop hands them out only once this entry is committed.

use cairn_proto::v1::{self, LotteryStage, PlaceStatus, RejectReason, Role};

use super::{
    Stop, approved_by, attempt, body, has_role, lottery_of, places, require, rules_of, stage,
};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::hash::Hash;
use crate::log;
use crate::lottery::{holder, recompute};
use crate::state::StateRead;

/// How long a holder's signature may be shown: long enough to be scanned and certified across a
/// change of leader, and a photograph of somebody's screen is worthless a minute later.
pub const SIGNATURE_LIFETIME_MS: u64 = 60_000;
/// How far a holder's clock may be ahead of the ledger's time, which is that of a block that was
/// proposed before. A code lives longer by as much as its holder's clock is ahead.
pub const SIGNATURE_AHEAD_MS: u64 = 15_000;

pub(super) fn redeem<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    author: &v1::Author,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::Redemption = body(entry)?;
    let (id, lottery) = lottery_of(ctx, entry, &given.lottery_id)?;
    require(
        has_role(author, Role::PointOfSale),
        RejectReason::RoleNotAllowed,
    )?;
    approved_by(entry, &[])?;
    stage(&lottery, LotteryStage::Certified)?;
    attempt(&lottery, given.attempt)?;
    check_row(&given, &lottery)?;
    let since = place_since(ctx, &id, &lottery, &given)?;
    let window = rules_of(&lottery)?.redemption_window_ms;
    require(
        window > 0 && ctx.timestamp_ms <= since.saturating_add(window),
        RejectReason::RedemptionWindow,
    )?;
    let presented = holder::Presented {
        chain_id: &ctx.chain.id,
        lottery_id: &id,
        attempt: given.attempt,
        serial: given.serial,
        shop: entry.author_key(),
        signed_at_ms: given.signed_at_ms,
    };
    require(
        presented.is_signed_by(&given.holder_key, &given.holder_signature),
        RejectReason::RedemptionHolderInvalid,
    )?;
    let fresh = given.signed_at_ms <= ctx.timestamp_ms.saturating_add(SIGNATURE_AHEAD_MS)
        && ctx.timestamp_ms <= given.signed_at_ms.saturating_add(SIGNATURE_LIFETIME_MS);
    require(fresh, RejectReason::RedemptionCodeExpired)?;

    let mut redeemed = places::moved(ctx, PlaceStatus::Redeemed, leaf_index);
    redeemed.shop = entry.envelope.author.clone();
    places::put(ctx, &id, lottery.attempt, given.serial, &redeemed);
    Ok(())
}

/// The row, with this holder key in it, is in the frozen roster.
fn check_row(given: &v1::Redemption, lottery: &v1::LotteryState) -> Result<(), Stop> {
    let row = holder::row_of(given).ok_or(RejectReason::FieldOutOfRange)?;
    let path = log::read_path(&given.path).map_err(|_| RejectReason::FieldOutOfRange)?;
    let root = recompute::root_of(lottery)?;
    log::verify_inclusion(&row.leaf_hash(), given.serial, lottery.rows, &path, &root)
        .map_err(|_| RejectReason::RedemptionWrongRow)?;
    Ok(())
}

/// Since when the row has its place, which nobody has used up or taken away.
fn place_since<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    id: &Hash,
    lottery: &v1::LotteryState,
    given: &v1::Redemption,
) -> Result<u64, Stop> {
    let place = places::place(ctx, id, lottery.attempt, given.serial)?;
    match place.status() {
        PlaceStatus::Redeemed => Err(RejectReason::RedemptionTwice.into()),
        PlaceStatus::Struck | PlaceStatus::Vacated => {
            Err(RejectReason::RedemptionNotAWinner.into())
        }
        PlaceStatus::Promoted => Ok(place.since_ms.max(lottery.certified_at_ms)),
        PlaceStatus::Unspecified => {
            let tier = usize::try_from(given.tier).unwrap_or(usize::MAX);
            let winners = lottery.results.get(tier).map_or(0, |result| result.winners);
            let rank = places::rank_in_tier(ctx, id, lottery.attempt, given.tier, given.serial)?;
            require(
                rank.is_some_and(|rank| rank < winners),
                RejectReason::RedemptionNotAWinner,
            )?;
            Ok(lottery.certified_at_ms)
        }
    }
}
