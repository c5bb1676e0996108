//! Issuing codes: new pseudonyms, all green, with commitments to their holders where wanted.

use bytes::Bytes;
use cairn_proto::v1::{self, ActKind, CodeStatus, RejectReason};

use super::{Stop, about, body, codes_of, keys_of, mandate, no_approvals, require};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::code::acts;
use crate::state::StateRead;

pub(super) fn issue<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let issue: v1::CodeIssue = body(entry)?;
    about(entry, &[])?;
    mandate(ctx, entry, &issue.region)?;
    no_approvals(entry)?;
    let codes = codes_of(&issue.codes)?;
    let holders = issue.holders.len();
    require(
        issue.valid_until_ms > ctx.timestamp_ms && (holders == 0 || holders == issue.codes.len()),
        RejectReason::FieldOutOfRange,
    )?;
    let keys = keys_of(codes);
    let known = ctx.map_get_many(&keys)?;
    require(known.iter().all(Option::is_none), RejectReason::CodeExists)?;

    let mut state = v1::CodeState {
        status: CodeStatus::Green as i32,
        sequence: 1,
        valid_from_ms: ctx.timestamp_ms,
        valid_until_ms: issue.valid_until_ms,
        region: issue.region,
        ..Default::default()
    };
    let act = v1::AuthorityAct {
        region: state.region.clone(),
        codes: codes.len() as u32,
        ..acts::act(ctx, ActKind::CodesIssued, leaf_index)
    };
    acts::append(ctx, entry.author_key(), &act)?;
    let shared = canonical::encode(&state);
    let mut values = Vec::with_capacity(keys.len());
    for (at, key) in keys.into_iter().enumerate() {
        let value = if holders == 0 {
            shared.clone()
        } else {
            state.holder = Bytes::copy_from_slice(&issue.holders[32 * at..32 * (at + 1)]);
            canonical::encode(&state)
        };
        values.push((key, value));
    }
    ctx.map_put_many(values);
    Ok(())
}
