//! Opening a lottery: after this entry nothing in its rules changes.

use std::collections::BTreeSet;

use cairn_proto::v1::{self, LotteryStage, RejectReason, Role, SeedProfile};

use super::{Stop, approved_by, body, has_role, load, require, save};
use crate::admission::Admitted;
use crate::apply::Ctx;
use crate::lottery::{bls, seed};
use crate::state::StateRead;
use crate::{log, members, rooms};

/// Tiers of one lottery: a row's tier fits a byte, and a draw stays one pass over each.
pub const MAX_TIERS: usize = 16;
/// Contributors of one lottery: each costs every node a pairing.
pub const MAX_CONTRIBUTORS: usize = 16;
/// Rows of one lottery: four times the largest draw ever asked for; serials fit 4 bytes.
pub const MAX_LOTTERY_ROWS: u32 = 4_000_000;
/// Tickets of one lottery: about a second of hashing inside one block.
pub const MAX_TICKETS: u64 = 8_000_000;
/// Winners in one batch: 80 KiB an entry.
pub const MAX_BATCH_ROWS: u32 = 10_000;

const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 86_400_000;
const MAX_TITLE: usize = 200;
const MAX_NAME: usize = 100;
const MAX_IDENTITY_RULE: usize = 1_000;
const MAX_ATTEMPTS: u32 = 16;
/// The longest window for objections or redemption: a year and a day.
const MAX_WINDOW_MS: u64 = 366 * DAY_MS;
const MAX_PERIOD_S: u32 = 86_400;
/// The year 9999: later starts only invite overflow.
const MAX_GENESIS_S: u64 = 253_402_300_799;

pub(super) fn open<S: StateRead + ?Sized>(
    ctx: &mut Ctx<'_, '_, S>,
    entry: &Admitted,
    author: &v1::Author,
    leaf_index: u64,
) -> Result<(), Stop> {
    let rules: v1::LotteryOpen = body(entry)?;
    require(
        entry.envelope.subject.is_empty(),
        RejectReason::SubjectMismatch,
    )?;
    require(
        has_role(author, Role::Organiser),
        RejectReason::RoleNotAllowed,
    )?;
    check_fields(&rules)?;
    let notary = registered(ctx, &rules.notary, Role::Notary)?;
    registered(ctx, &rules.registrar, Role::Registrar)?;
    registered(ctx, &rules.institute, Role::Institute)?;
    approved_by(entry, &[&rules.notary])?;
    let epoch = members::in_force(ctx)?.epoch;
    let set = members::set_of(ctx, epoch)?;
    require(
        has_outside_member(&rules, &set, &[&author.name, &notary.name]),
        RejectReason::FieldOutOfRange,
    )?;
    require(load(ctx, &entry.id)?.is_none(), RejectReason::LotteryExists)?;
    check_keys(&rules)?;

    let lottery = v1::LotteryState {
        stage: LotteryStage::Open as i32,
        attempt: 1,
        open_leaf_index: leaf_index,
        roster_root: log::empty_root().to_bytes(),
        rules: Some(rules),
        ..Default::default()
    };
    save(ctx, &entry.id, &lottery);
    let key = rooms::key(rooms::LOTTERY_INDEX, &[&leaf_index.to_be_bytes()]);
    ctx.state.put(key, entry.id.to_bytes());
    Ok(())
}

/// What can be checked of rules without the ledger: fields, and the keys' proofs of possession.
pub fn check_rules(rules: &v1::LotteryOpen) -> Result<(), RejectReason> {
    check_fields(rules)?;
    check_keys(rules)
}

fn check_fields(rules: &v1::LotteryOpen) -> Result<(), RejectReason> {
    let text = |text: &str, max: usize| (1..=max).contains(&text.len());
    let key = |key: &[u8]| key.len() == 32;
    let tiers = (1..=MAX_TIERS).contains(&rules.tiers.len())
        && rules
            .tiers
            .iter()
            .all(|t| text(&t.name, MAX_NAME) && t.quota > 0)
        && distinct(rules.tiers.iter().map(|t| t.name.as_bytes()));
    let contributors = (1..=MAX_CONTRIBUTORS).contains(&rules.contributors.len())
        && rules
            .contributors
            .iter()
            .all(|c| text(&c.institution, MAX_NAME))
        && distinct(rules.contributors.iter().map(|c| &c.seed_key[..]));
    let sound = tiers
        && contributors
        && text(&rules.title, MAX_TITLE)
        && text(&rules.identity_rule, MAX_IDENTITY_RULE)
        && (1..=MAX_BATCH_ROWS).contains(&rules.rows_per_batch)
        && (1..=MAX_LOTTERY_ROWS).contains(&rules.max_rows)
        && (1..=MAX_ATTEMPTS).contains(&rules.max_attempts)
        && (SECOND_MS..=30 * DAY_MS).contains(&rules.contribution_window_ms)
        && rules.objection_window_ms <= MAX_WINDOW_MS
        && rules.redemption_window_ms <= MAX_WINDOW_MS
        && key(&rules.notary)
        && key(&rules.registrar)
        && key(&rules.institute)
        && key(&rules.registrar_tag_key_commitment)
        && key(&rules.notary_tag_key_commitment)
        && check_beacon(rules);
    require(sound, RejectReason::FieldOutOfRange)
}

fn check_beacon(rules: &v1::LotteryOpen) -> bool {
    match (rules.seed_profile(), &rules.beacon) {
        (SeedProfile::Beacon, Some(beacon)) => {
            (SECOND_MS..=DAY_MS).contains(&rules.beacon_margin_ms)
                && beacon.chain_hash.len() == 32
                && (1..=MAX_PERIOD_S).contains(&beacon.period_s)
                && beacon.genesis_time_s <= MAX_GENESIS_S
        }
        (SeedProfile::Closed, None) => rules.beacon_margin_ms == 0,
        _ => false,
    }
}

/// The curve arithmetic, apart from the other checks because it is a thousand times dearer.
fn check_keys(rules: &v1::LotteryOpen) -> Result<(), RejectReason> {
    let beacon = rules.beacon.as_ref();
    // Absent in the closed profile only.
    let sound = beacon.is_none_or(|b| bls::check_public_key(&b.public_key).is_ok())
        && rules
            .contributors
            .iter()
            .all(|c| seed::verify_possession(&c.seed_key, &c.seed_key_proof).is_ok());
    require(sound, RejectReason::FieldOutOfRange)
}

fn distinct<'a>(mut items: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut seen = BTreeSet::new();
    items.all(|item| seen.insert(item))
}

/// The author `key`, which must hold `role`.
fn registered<S: StateRead + ?Sized>(
    ctx: &Ctx<'_, '_, S>,
    key: &[u8],
    role: Role,
) -> Result<v1::Author, Stop> {
    match ctx.author(key)? {
        Some(author) if has_role(&author, role) => Ok(author),
        _ => Err(RejectReason::RoleNotAllowed.into()),
    }
}

/// A member of the ledger that is none of the `signers` contributes, so that those who wrote the
/// rules cannot make the seed among themselves.
pub(super) fn has_outside_member(
    rules: &v1::LotteryOpen,
    members: &v1::MemberSet,
    signers: &[&String],
) -> bool {
    rules.contributors.iter().any(|contributor| {
        members.members.iter().any(|member| {
            member.seed_key == contributor.seed_key
                && member.institution == contributor.institution
                && !signers.contains(&&member.institution)
        })
    })
}
