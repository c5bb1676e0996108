//! Public lotteries: from the rules that nobody can change to a rank that anybody can check.
//!
//! A lottery walks one way: `Open → Frozen → Contributing → Drawing → Complete → Certified`, or an
//! attempt is voided in public and the next one begins on the same roster, with the old one still
//! on the map. Humans come first (the notary's dice), institutions second (BLS contributions that nobody can
//! choose), a public beacon last (the round was pinned before anyone could know it). Then the seed
//! is fixed, every row's ticket with it, and each node computes the whole ranking by itself.
//!
//! What holds here: T1, the close of contributions, is the timestamp of the block that begins
//! Contributing plus the rules' window; only contributions in blocks stamped at or before T1
//! count; the round is taken only once the chain carries a certificate that shows the close in
//! time. One room each: [`roster`] rows, [`seed`] and [`beacon`] what makes the seed, [`draw`] the
//! ranking, [`holder`] what a winner signs at the counter, [`redemption_code`] how it is shown
//! there, [`rules`] what entries may do, [`index`] what nodes keep, [`prove`] what they hand out,
//! [`check`] and [`recompute`] what outsiders verify.
//!
//! Caveats: no draw can show that the roster names the people it should. In the closed profile the
//! last contributor knows the seed before giving the last part, and can choose to be named as the
//! absentee instead: once for each attempt, and never unseen.

pub mod beacon;
pub mod bls;
pub mod check;
pub mod draw;
pub mod holder;
pub mod index;
pub mod prove;
pub mod recompute;
pub mod redemption_code;
pub mod roster;
pub mod rules;
pub mod seed;
mod tags;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod whole;

use cairn_proto::v1;

use crate::hash::Hash;
pub use tags::OpenRosters;

/// The map's namespace of lottery states.
pub const NAMESPACE: &str = "lottery";
/// The map's namespace of the same, [`in_brief`]: what an applicant's proof carries.
pub const BRIEF_NAMESPACE: &str = "lottery in brief";
/// The map's namespace of voided attempts; the key is [`attempt_key`].
pub const ATTEMPT_NAMESPACE: &str = "lottery attempt";
/// The map's namespace of objections; the key is the objection's entry id.
pub const OBJECTION_NAMESPACE: &str = "objection";
/// The map's namespace of what became of rows' places; the key is [`place_key`].
pub const PLACE_NAMESPACE: &str = "place";
/// The map's namespace of the lotteries whose close waits for a certificate. One key, empty.
pub const CONTRIBUTING_NAMESPACE: &str = "lotteries contributing";

/// Lottery id (32) ‖ attempt (4, big-endian).
pub fn attempt_key(lottery_id: &Hash, attempt: u32) -> Vec<u8> {
    [&lottery_id.0[..], &attempt.to_be_bytes()].concat()
}

/// Lottery id (32) ‖ attempt (4, big-endian) ‖ serial (8, big-endian).
pub fn place_key(lottery_id: &Hash, attempt: u32, serial: u64) -> Vec<u8> {
    [&attempt_key(lottery_id, attempt)[..], &serial.to_be_bytes()].concat()
}

/// What one applicant needs of a lottery's state. The rest, contributions and keys above all, grows
/// with the institutions that take part, and would make up half of everybody's proof.
pub fn in_brief(lottery: &v1::LotteryState) -> v1::LotteryState {
    let rules = lottery.rules.as_ref().map(|rules| v1::LotteryOpen {
        title: rules.title.clone(),
        tiers: rules.tiers.clone(),
        rows_per_batch: rules.rows_per_batch,
        redemption_window_ms: rules.redemption_window_ms,
        full_ranking: rules.full_ranking,
        ..Default::default()
    });
    v1::LotteryState {
        stage: lottery.stage,
        attempt: lottery.attempt,
        open_leaf_index: lottery.open_leaf_index,
        rows: lottery.rows,
        roster_root: lottery.roster_root.clone(),
        seed: lottery.seed.clone(),
        results: lottery.results.clone(),
        document_hash: lottery.document_hash.clone(),
        rules,
        certified_at_ms: lottery.certified_at_ms,
        ..Default::default()
    }
}
