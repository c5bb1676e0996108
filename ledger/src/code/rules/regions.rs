//! A region's rule: how check-ins release, who records them, who decides appeals.

use cairn_proto::v1::{self, CodeStatus, RejectReason, Role};

use super::mandates::signed_by_granters;
use super::{Stop, about, body, require, text};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::canonical;
use crate::code::REGION_RULE_NAMESPACE;
use crate::state::StateRead;

/// Stations of a region: the rule is one value of the map, which every check-in reads.
pub const MAX_STATIONS: usize = 4_096;
/// Check-ins that a rule may ask for: a year of days.
const MAX_CHECK_INS: u32 = 366;
const DAY_MINUTES: u32 = 1_440;

pub(super) fn set<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    leaf_index: u64,
) -> Result<(), Stop> {
    let rule: v1::RegionRule = body(entry)?;
    signed_by_granters(ctx, entry)?;
    about(entry, &[])?;
    require(is_sound(&rule), RejectReason::FieldOutOfRange)?;
    let region = rule.region.clone();
    let state = v1::RegionRuleState {
        rule: Some(rule),
        leaf_index,
    };
    let value = canonical::encode(&state);
    ctx.map_put(REGION_RULE_NAMESPACE, region.as_bytes(), value);
    Ok(())
}

fn is_sound(rule: &v1::RegionRule) -> bool {
    let common = text(&rule.region) && rule.appeals_role() != Role::Authority;
    let stations = (1..=MAX_STATIONS).contains(&rule.stations.len())
        && rule.stations.iter().all(|station| station.len() == 32)
        && rule.stations.is_sorted_by(|a, b| a < b);
    let statuses = !rule.release_from.is_empty()
        && rule.release_from.is_sorted_by(|a, b| a < b)
        && !rule
            .release_from
            .contains(&(CodeStatus::Unspecified as i32))
        && !rule.release_from.contains(&rule.release_to)
        && rule.release_to() != CodeStatus::Unspecified;
    let releases = (1..=MAX_CHECK_INS).contains(&rule.check_ins)
        && rule.day_offset_minutes < DAY_MINUTES
        && stations
        && statuses;
    let silent = v1::RegionRule {
        region: rule.region.clone(),
        paper_validity_ms: rule.paper_validity_ms,
        appeals_role: rule.appeals_role,
        ..Default::default()
    };
    common && (releases || *rule == silent)
}

/// The rule of `region`.
pub(super) fn rule_of<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    region: &str,
) -> Result<v1::RegionRule, Stop> {
    let found = ctx.map_message(REGION_RULE_NAMESPACE, region.as_bytes())?;
    let rule = found.and_then(|state: v1::RegionRuleState| state.rule);
    Ok(rule.ok_or(RejectReason::RegionRuleMissing)?)
}
