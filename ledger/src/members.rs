//! Members: who certifies the next block, and how that set changes.
//!
//! What holds here: a change is an entry that members who satisfy the policy in force signed with
//! their office keys; the next set passes every check of a genesis; a `raft_id` is handed out once,
//! and a cosigning key names one node for ever; the change's block is the last of its epoch, and no
//! later block is a checkpoint before the chain carries that block's certificate under the *old*
//! set. So no certificate of an epoch exists without that of the epoch's beginning, and whoever
//! holds a certificate can be shown how its members came in ([`crate::epochs`]). What stays out:
//! Raft's own configuration, which follows when the change is certified.

use bytes::Bytes;
use cairn_proto::v1::{self, RejectReason};
use prost::Message;

use crate::admission::Admitted;
use crate::apply::{AUTHOR_NAMESPACE, Ctx};
use crate::checkpoint::CertifiedCheckpoint;
use crate::genesis;
use crate::policy;
use crate::rule::{Stop, body, decided, require};
use crate::state::{StateError, StateRead};
use crate::{canonical, map, rooms};

/// The map's namespace of membership: under the empty key the `MembershipState`, under an epoch
/// (8 bytes, big-endian) its `MemberSet`.
pub const NAMESPACE: &str = "members";
/// The map's namespace of cosigning keys: key → the `raft_id` (8, big-endian) of the one node that
/// it ever names.
pub const COSIGN_KEY_NAMESPACE: &str = "cosign key";

fn corrupt(detail: &str) -> StateError {
    StateError::Corrupt {
        place: "the map's membership".to_owned(),
        detail: detail.to_owned(),
    }
}

/// Writes the genesis' set.
pub(crate) fn found<S: StateRead + ?Sized>(ctx: &mut Ctx<'_, '_, S>) {
    let set = ctx.chain.members.clone();
    let highest = set.members.last().map_or(0, |member| member.raft_id);
    let state = v1::MembershipState {
        epoch: 0,
        next_raft_id: highest.saturating_add(1),
        changed_at_height: 0,
        pending: false,
    };
    put(ctx, &state, &set);
}

fn put<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    state: &v1::MembershipState,
    set: &v1::MemberSet,
) {
    ctx.map_put(NAMESPACE, &[], canonical::encode(state));
    let epoch = set.epoch.to_be_bytes();
    ctx.map_put(NAMESPACE, &epoch, canonical::encode(set));
    for member in &set.members {
        let raft_id = Bytes::copy_from_slice(&member.raft_id.to_be_bytes());
        ctx.map_put(COSIGN_KEY_NAMESPACE, &member.cosign_key, raft_id);
    }
}

/// Where membership stands, with what this block has changed so far.
pub(crate) fn in_force<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
) -> Result<v1::MembershipState, StateError> {
    let state = ctx.map_message(NAMESPACE, &[])?;
    state.ok_or_else(|| corrupt("it is not there"))
}

/// The set of an epoch that this chain has had.
pub(crate) fn set_of<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    epoch: u64,
) -> Result<v1::MemberSet, StateError> {
    let set = ctx.map_message(NAMESPACE, &epoch.to_be_bytes())?;
    set.ok_or_else(|| corrupt("an epoch has no set"))
}

/// Whether this block has a change of members.
pub(crate) fn changed_here<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
) -> Result<bool, StateError> {
    Ok(in_force(ctx)?.changed_at_height == ctx.height)
}

fn message<M: Message + Default, S: StateRead + ?Sized>(
    state: &S,
    raw: &[u8],
) -> Result<Option<M>, StateError> {
    let value = map::get(state, &map::map_key(NAMESPACE, raw))?;
    let decoded = value.map(M::decode).transpose();
    decoded.map_err(|error| corrupt(&error.to_string()))
}

/// Where membership stands in `state`; none before the genesis block.
pub fn state_of<S: StateRead + ?Sized>(
    state: &S,
) -> Result<Option<v1::MembershipState>, StateError> {
    message(state, &[])
}

/// The set of `epoch`, once its change is part of `state`, certified or not.
pub fn recorded<S: StateRead + ?Sized>(
    state: &S,
    epoch: u64,
) -> Result<Option<v1::MemberSet>, StateError> {
    message(state, &epoch.to_be_bytes())
}

/// The changes from `known_epoch` on whose certificates the chain carries, in order, at most `most`.
pub fn changes_after<S: StateRead + ?Sized>(
    state: &S,
    known_epoch: u64,
    most: usize,
) -> Result<Vec<v1::EpochChange>, StateError> {
    let prefix = vec![rooms::EPOCH];
    let from = rooms::key(
        rooms::EPOCH,
        &[&known_epoch.saturating_add(1).to_be_bytes()],
    );
    let found = state.scan(&prefix, &from, most)?;
    found
        .into_iter()
        .map(|(_, value)| {
            v1::EpochChange::decode(value).map_err(|error| corrupt(&error.to_string()))
        })
        .collect()
}

/// Every change up to `epoch`, as a proof against a checkpoint of that epoch carries them.
pub fn changes_up_to<S: StateRead + ?Sized>(
    state: &S,
    epoch: u64,
) -> Result<Vec<v1::EpochChange>, StateError> {
    let most = usize::try_from(epoch).unwrap_or(usize::MAX);
    let changes = changes_after(state, 0, most)?;
    if changes.len() == most {
        Ok(changes)
    } else {
        Err(corrupt("a change's certificate is missing"))
    }
}

/// The proposal carries a certificate: where it is that of the pending change, the epoch begins to
/// be certified.
pub(crate) fn note_certificate<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    known: &CertifiedCheckpoint,
) -> Result<(), StateError> {
    let mut state = in_force(ctx)?;
    if !state.pending || known.header().height != state.changed_at_height {
        return Ok(());
    }
    state.pending = false;
    ctx.map_put(NAMESPACE, &[], canonical::encode(&state));
    let change = v1::EpochChange {
        checkpoint: Some(known.to_proto()),
        next_members: Some(set_of(ctx, state.epoch)?),
    };
    let key = rooms::key(rooms::EPOCH, &[&state.epoch.to_be_bytes()]);
    ctx.state.put(key, canonical::encode(&change));
    Ok(())
}

pub(crate) fn apply_entry<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
) -> Result<Result<(), RejectReason>, StateError> {
    decided(change(ctx, entry))
}

fn change<S: StateRead + ?Sized>(ctx: &mut Ctx<'_, '_, S>, entry: &Admitted) -> Result<(), Stop> {
    let change: v1::MembershipChange = body(entry)?;
    require(
        entry.envelope.subject.is_empty(),
        RejectReason::SubjectMismatch,
    )?;
    let mut state = in_force(ctx)?;
    let old = set_of(ctx, state.epoch)?;
    signed_by_members(entry, &old)?;
    require(!state.pending, RejectReason::MembershipPending)?;
    let mut next = change.next_members.unwrap_or_default();
    require(
        Some(next.epoch) == old.epoch.checked_add(1),
        RejectReason::MembershipStaleEpoch,
    )?;
    hand_out_ids(&mut state, &old, &mut next)?;
    require(
        (&next.members, &next.policy) != (&old.members, &old.policy),
        RejectReason::MembershipUnchanged,
    )?;
    let sound = !next.members.is_empty() && next.members.len() <= policy::MAX_MEMBERS;
    require(sound, RejectReason::MembershipUnsound)?;
    genesis::check_member_fields(&next).map_err(|_| RejectReason::MembershipUnsound)?;
    policy::check(&next).map_err(|_| RejectReason::MembershipPolicy)?;
    for member in &next.members {
        let known = ctx.map_get(COSIGN_KEY_NAMESPACE, &member.cosign_key)?;
        let free = match known {
            Some(known) => known[..] == member.raft_id.to_be_bytes(),
            // One key, one purpose: what comes in to cosign has signed no entries.
            None => ctx.author(&member.cosign_key)?.is_none(),
        };
        let cosigned = ctx.map_get(COSIGN_KEY_NAMESPACE, &member.office_key)?;
        require(free && cosigned.is_none(), RejectReason::MembershipKeyTaken)?;
    }

    for member in &next.members {
        if !member.office_key.is_empty() && ctx.author(&member.office_key)?.is_none() {
            let author = v1::Author {
                public_key: member.office_key.clone(),
                name: member.institution.clone(),
                role: member.role,
            };
            ctx.map_put(
                AUTHOR_NAMESPACE,
                &author.public_key,
                canonical::encode(&author),
            );
        }
    }
    state.epoch = next.epoch;
    state.changed_at_height = ctx.height;
    state.pending = true;
    put(ctx, &state, &next);
    Ok(())
}

/// The author and all who approved are offices of different members, who together satisfy the
/// policy in force. More than that are welcome.
pub(crate) fn signed_by_members(entry: &Admitted, old: &v1::MemberSet) -> Result<(), RejectReason> {
    let office = |key: &[u8]| {
        let mut members = old.members.iter();
        members.find(|member| !key.is_empty() && member.office_key == key)
    };
    let author = office(entry.author_key()).ok_or(RejectReason::MembershipWrongOffice)?;
    let mut signers = vec![author];
    for key in entry.approvals() {
        signers.push(office(key).ok_or(RejectReason::ApprovalUnexpected)?);
    }
    require(
        policy::satisfies(old, &signers),
        RejectReason::ApprovalMissing,
    )
}

/// Members that stay stand first, in their order, each of its institution; new ones stand last and
/// get the next numbers.
fn hand_out_ids(
    state: &mut v1::MembershipState,
    old: &v1::MemberSet,
    next: &mut v1::MemberSet,
) -> Result<(), RejectReason> {
    let mut before = 0;
    for member in &mut next.members {
        if member.raft_id == 0 {
            member.raft_id = state.next_raft_id;
            let following = state.next_raft_id.checked_add(1);
            state.next_raft_id = following.ok_or(RejectReason::MembershipRaftId)?;
        } else {
            let known = old.members.iter().find(|m| m.raft_id == member.raft_id);
            let stays = known.is_some_and(|known| known.institution == member.institution);
            require(stays, RejectReason::MembershipRaftId)?;
        }
        require(member.raft_id > before, RejectReason::MembershipRaftId)?;
        before = member.raft_id;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
