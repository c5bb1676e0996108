//! Places: what becomes of a row's place once the draw has given it one.
//!
//! What holds here: the draw is never touched. A place moves only by entries: a ruling strikes a
//! row, a promotion takes places from rows and gives as many to the next ranks of the waiting list,
//! a redemption uses one up. So there are never more places than the tier's quota.

use cairn_proto::v1::{self, PlaceStatus};

use crate::apply::Ctx;
use crate::canonical;
use crate::hash::Hash;
use crate::lottery::{PLACE_NAMESPACE, place_key};
use crate::state::{StateError, StateRead};

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
