//! Check-ins: a station saw the holders, and a region's rule counts the days.
//!
//! What holds here: a code counts once a day, from the day on which its status was set; when the
//! rule is met it is released in the same block, and nobody decides about it. A code that the rule
//! does not release, or that was counted on that day, stays as it is.

use bytes::Bytes;
use cairn_proto::v1::{self, RejectReason};
use prost::Message;

use super::regions::rule_of;
use super::{Stop, about, body, codes_of, keys_of, no_approvals, require};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::code::{DAY_MS, effective_status, history};
use crate::state::{StateError, StateRead, Writes};

const MINUTE_MS: u64 = 60_000;

pub(super) fn record<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let given: v1::CheckIn = body(entry)?;
    about(entry, &[])?;
    no_approvals(entry)?;
    let rule = rule_of(ctx, &given.region)?;
    require(rule.check_ins > 0, RejectReason::RegionRuleMissing)?;
    require(
        rule.stations.iter().any(|key| key == entry.author_key()),
        RejectReason::CheckInWrongStation,
    )?;
    let codes = codes_of(&given.codes)?;
    let waited = ctx.timestamp_ms.checked_sub(given.observed_at_ms);
    require(
        waited.is_some_and(|waited| waited <= rule.check_in_delay_ms),
        RejectReason::CheckInTime,
    )?;
    let keys = keys_of(codes);
    let found = ctx.map_get_many(&keys)?;
    let (mut counted, mut past) = (Vec::new(), Writes::new());
    for ((code, key), value) in codes.iter().zip(keys).zip(found) {
        let value = value.ok_or(RejectReason::CodeUnknown)?;
        let state = decode(code, &value)?;
        require(state.region == given.region, RejectReason::CodeOtherRegion)?;
        let now = ctx.timestamp_ms;
        let sequence = state.sequence;
        if let Some(mut after) = count(state, &rule, given.observed_at_ms, now, leaf_index) {
            // What a released code was before is no secret: it names the order, and the rule.
            let replaced = (after.sequence > sequence).then(|| v1::ReplacedState {
                state: value,
                ..Default::default()
            });
            if let Some(replaced) = &replaced {
                after.previous = history::link(replaced).to_bytes();
                past.push(history::record(&key, sequence, replaced));
            }
            counted.push((key, canonical::encode(&after)));
        }
    }

    ctx.state.extend(past);
    ctx.map_put_many(counted);
    Ok(())
}

/// Decodes what this node itself wrote.
pub(super) fn decode(code: &[u8; 32], value: &Bytes) -> Result<v1::CodeState, StateError> {
    v1::CodeState::decode(value.clone()).map_err(|error| StateError::Corrupt {
        place: format!("the map's value of code {}", hex::encode(code)),
        detail: error.to_string(),
    })
}

/// What a check-in makes of a code; nothing where it does not count.
fn count(
    before: v1::CodeState,
    rule: &v1::RegionRule,
    observed_at_ms: u64,
    now_ms: u64,
    leaf_index: u64,
) -> Option<v1::CodeState> {
    let shown = effective_status(&before, now_ms)?;
    if !rule.release_from.contains(&(shown as i32)) || observed_at_ms < before.valid_from_ms {
        return None;
    }
    let offset = u64::from(rule.day_offset_minutes) * MINUTE_MS;
    let day = observed_at_ms.saturating_add(offset) / DAY_MS;
    let last = before.last_check_in_day;
    if before.check_ins > 0 && day <= last {
        return None;
    }
    let missed = rule.consecutive && day != last.saturating_add(1);
    let check_ins = if missed { 1 } else { before.check_ins + 1 };
    if check_ins < rule.check_ins {
        return Some(v1::CodeState {
            check_ins,
            last_check_in_day: day,
            ..before
        });
    }
    Some(v1::CodeState {
        status: rule.release_to,
        sequence: before.sequence + 1,
        valid_from_ms: now_ms,
        lapses_at_ms: 0,
        on_lapse: 0,
        check_ins: 0,
        last_check_in_day: 0,
        released_at_leaf: leaf_index,
        ..before
    })
}
