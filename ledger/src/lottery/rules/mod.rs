//! What entries may do to a lottery: the only place where one is refused or changes a lottery.
//!
//! What holds here: a rule looks at everything before it writes anything, so a refused entry
//! leaves no trace but its outcome; a failed read is an error and never a refusal. The rules are
//! pure: block time comes with the block. What stays out: signatures, expiry and duplicates of
//! entries, which are settled before a rule sees one.

mod objections;
mod open;
mod places;
mod redemption;
mod results;
mod roster;
mod seeding;
mod void;

use bytes::Bytes;
use cairn_proto::v1::{self, EntryKind, LotteryStage, RejectReason, Role};

use super::recompute::Missing;
use super::{BRIEF_NAMESPACE, CONTRIBUTING_NAMESPACE, NAMESPACE, in_brief};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::hash::Hash;
use crate::rule::{Stop, body, decided, require};
use crate::state::{StateError, StateRead};

pub use objections::MAX_OBJECTION_ROWS;
pub use open::{
    MAX_BATCH_ROWS, MAX_CONTRIBUTORS, MAX_LOTTERY_ROWS, MAX_TICKETS, MAX_TIERS, check_rules,
};
pub use places::MAX_PROMOTED;
pub use redemption::{SIGNATURE_AHEAD_MS, SIGNATURE_LIFETIME_MS};
pub use seeding::{MAX_DICE, note_certificate};

/// Applies one entry of kinds 1 to 13. The outer error is fatal; the inner one is the outcome.
pub fn apply_entry<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<Result<(), RejectReason>, StateError> {
    decided(dispatch(ctx, entry, leaf_index))
}

fn dispatch<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let Some(author) = ctx.author(entry.author_key())? else {
        return Err(RejectReason::RoleNotAllowed.into());
    };
    match EntryKind::try_from(entry.envelope.kind) {
        Ok(EntryKind::LotteryOpen) => open::open(ctx, entry, &author, leaf_index),
        Ok(EntryKind::RosterChunk) => roster::chunk(ctx, entry, leaf_index),
        Ok(EntryKind::RosterFreeze) => roster::freeze(ctx, entry),
        Ok(EntryKind::DiceRoll) => seeding::dice(ctx, entry),
        Ok(EntryKind::SeedContribution) => seeding::contribution(ctx, entry),
        Ok(EntryKind::BeaconRound) => seeding::beacon_round(ctx, entry),
        Ok(EntryKind::BatchResult) => results::batch(ctx, entry),
        Ok(EntryKind::LotteryCertify) => results::certify(ctx, entry),
        Ok(EntryKind::LotteryVoid) => void::void(ctx, entry, leaf_index),
        Ok(EntryKind::Objection) => objections::object(ctx, entry, leaf_index),
        Ok(EntryKind::Ruling) => objections::rule(ctx, entry, leaf_index),
        Ok(EntryKind::Promotion) => places::promote(ctx, entry, leaf_index),
        Ok(EntryKind::Redemption) => redemption::redeem(ctx, entry, &author, leaf_index),
        _ => Err(RejectReason::BodyMalformed.into()),
    }
}

impl From<Missing> for Stop {
    fn from(missing: Missing) -> Self {
        Stop::Failed(missing.into())
    }
}

/// The lottery that an entry is about. The envelope's subject must name it too.
fn lottery_of<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    entry: &Admitted,
    lottery_id: &[u8],
) -> Result<(Hash, v1::LotteryState), Stop> {
    let id = Hash::from_slice(lottery_id).ok_or(RejectReason::FieldOutOfRange)?;
    require(
        entry.envelope.subject == lottery_id,
        RejectReason::SubjectMismatch,
    )?;
    let lottery = load(ctx, &id)?.ok_or(RejectReason::LotteryUnknown)?;
    Ok((id, lottery))
}

fn load<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    id: &Hash,
) -> Result<Option<v1::LotteryState>, StateError> {
    let value = ctx.map_get(NAMESPACE, id.as_bytes())?;
    value.as_deref().map(|v| decode_kept(v, id)).transpose()
}

/// Decodes what this node itself wrote.
fn decode_kept<M: prost::Message + Default>(value: &[u8], id: &Hash) -> Result<M, StateError> {
    M::decode(value).map_err(|error| StateError::Corrupt {
        place: format!("the map's value of lottery {id}"),
        detail: error.to_string(),
    })
}

fn save<S: StateRead + ?Sized>(ctx: &mut Ctx<'_, '_, S>, id: &Hash, lottery: &v1::LotteryState) {
    let brief = canonical::encode(&in_brief(lottery));
    ctx.map_put(NAMESPACE, id.as_bytes(), canonical::encode(lottery));
    ctx.map_put(BRIEF_NAMESPACE, id.as_bytes(), brief);
}

/// The lotteries whose close waits for a certificate.
fn contributing<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
) -> Result<v1::ContributingLotteries, StateError> {
    let value = ctx.map_get(CONTRIBUTING_NAMESPACE, &[])?;
    let kept = value.as_deref().map(|v| decode_kept(v, &Hash::ZERO));
    Ok(kept.transpose()?.unwrap_or_default())
}

fn save_contributing<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    mut ids: Vec<Bytes>,
    before: u64,
) {
    ids.sort();
    let list = v1::ContributingLotteries {
        revision: before + 1,
        lottery_ids: ids,
    };
    ctx.map_put(CONTRIBUTING_NAMESPACE, &[], canonical::encode(&list));
}

/// The close of this lottery waits for no certificate any more.
fn forget_contributing<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    id: &Hash,
) -> Result<(), StateError> {
    let list = contributing(ctx)?;
    let mut ids = list.lottery_ids;
    let before = ids.len();
    ids.retain(|listed| listed != &id.0[..]);
    if ids.len() < before {
        save_contributing(ctx, ids, list.revision);
    }
    Ok(())
}

/// The rules of a lottery, which its state always has.
fn rules_of(lottery: &v1::LotteryState) -> Result<&v1::LotteryOpen, StateError> {
    lottery.rules.as_ref().ok_or_else(|| StateError::Corrupt {
        place: format!("lottery opened at leaf {}", lottery.open_leaf_index),
        detail: "no rules".to_owned(),
    })
}

fn office(entry: &Admitted, key: &[u8]) -> Result<(), RejectReason> {
    require(entry.author_key() == key, RejectReason::LotteryWrongOffice)
}

/// Exactly these keys approved, each once.
fn approved_by(entry: &Admitted, keys: &[&[u8]]) -> Result<(), RejectReason> {
    let given: Vec<&[u8]> = entry.approvals().collect();
    let all_there = keys.iter().all(|key| given.contains(key));
    require(all_there, RejectReason::ApprovalMissing)?;
    require(given.len() == keys.len(), RejectReason::ApprovalUnexpected)
}

fn stage(lottery: &v1::LotteryState, wanted: LotteryStage) -> Result<(), RejectReason> {
    require(
        lottery.stage == wanted as i32,
        RejectReason::LotteryWrongStage,
    )
}

fn stage_is_one_of(
    lottery: &v1::LotteryState,
    wanted: &[LotteryStage],
) -> Result<(), RejectReason> {
    require(
        wanted.contains(&lottery.stage()),
        RejectReason::LotteryWrongStage,
    )
}

fn attempt(lottery: &v1::LotteryState, attempt: u32) -> Result<(), RejectReason> {
    require(
        lottery.attempt == attempt,
        RejectReason::LotteryWrongAttempt,
    )
}

fn has_role(author: &v1::Author, role: Role) -> bool {
    author.role == role as i32
}

#[cfg(test)]
mod tests;
