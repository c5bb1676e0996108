//! Granting, changing and revoking mandates: by those whom the genesis names, together.

use cairn_proto::v1::{self, ActKind, CodeStatus, RejectReason, Role};

use super::{Stop, about, body, in_force, require};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::code::{MANDATE_NAMESPACE, acts, mandate_key};
use crate::state::StateRead;

/// Longest region and reason of a mandate, in bytes.
const MAX_NAME: usize = 200;

/// What is wrong with a mandate, whoever holds it: the field, and why it cannot work.
pub(crate) fn problem(mandate: &v1::Mandate) -> Option<(&'static str, &'static str)> {
    let name = |text: &String| (1..=MAX_NAME).contains(&text.len());
    let ascending = "must ascend, each once";
    if !name(&mandate.region) {
        return Some(("region", "must be set"));
    }
    if !mandate.reasons.iter().all(name) || !mandate.reasons.is_sorted_by(|a, b| a < b) {
        return Some(("reasons", ascending));
    }
    let unspecified = CodeStatus::Unspecified as i32;
    if mandate.statuses.contains(&unspecified) || !mandate.statuses.is_sorted_by(|a, b| a < b) {
        return Some(("statuses", ascending));
    }
    if mandate.approver_role() == Role::Authority {
        return Some(("approver_role", "must be another role than authority"));
    }
    None
}

/// The author and all who approved are granters of the genesis' policy, and as many as it asks for.
/// More than that are welcome.
pub(super) fn signed_by_granters<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    entry: &Admitted,
) -> Result<(), RejectReason> {
    let policy = ctx.chain.genesis.mandate_policy.as_ref();
    let policy = policy.ok_or(RejectReason::MandateWrongGranter)?;
    let granter = |key: &[u8]| policy.granters.iter().any(|granter| granter == key);
    require(
        granter(entry.author_key()),
        RejectReason::MandateWrongGranter,
    )?;
    let mut signers = vec![entry.author_key()];
    for key in entry.approvals() {
        let another = granter(key) && key != entry.author_key();
        require(another, RejectReason::ApprovalUnexpected)?;
        signers.push(key);
    }
    require(
        signers.len() as u64 >= u64::from(policy.required),
        RejectReason::ApprovalMissing,
    )
}

pub(super) fn grant<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let mandate: v1::Mandate = body(entry)?;
    signed_by_granters(ctx, entry)?;
    about(entry, &mandate.authority)?;
    let holder = ctx.author(&mandate.authority)?;
    let sound = holder.is_some_and(|author| author.role() == Role::Authority)
        && problem(&mandate).is_none();
    require(sound, RejectReason::FieldOutOfRange)?;
    put(ctx, mandate, false, leaf_index)
}

pub(super) fn revoke<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::MandateRevoke = body(entry)?;
    signed_by_granters(ctx, entry)?;
    about(entry, &given.authority)?;
    let mandate = in_force(ctx, &given.authority, &given.region)?;
    let mandate = mandate.ok_or(RejectReason::MandateUnknown)?;
    put(ctx, mandate, true, leaf_index)
}

fn put<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    mandate: v1::Mandate,
    revoked: bool,
    leaf_index: u64,
) -> Result<(), Stop> {
    let kind = if revoked {
        ActKind::MandateRevoked
    } else {
        ActKind::MandateGranted
    };
    let act = v1::AuthorityAct {
        region: mandate.region.clone(),
        ..acts::act(ctx, kind, leaf_index)
    };
    acts::append(ctx, &mandate.authority, &act)?;
    let key = mandate_key(&mandate.authority, &mandate.region);
    let state = v1::MandateState {
        mandate: Some(mandate),
        revoked,
        leaf_index,
    };
    ctx.map_put(MANDATE_NAMESPACE, &key, canonical::encode(&state));
    Ok(())
}
