//! A certificate never says that it was the latest at a time that has not come; and whoever answers a
//! read never says that what it has was the latest when something newer was certified long before.
//! (Day-one bugs 12 and 20.)

use std::collections::BTreeMap;

use cairn_ledger::checkpoint::CertifiedCheckpoint;

use crate::notes::Notes;

/// How far honest clocks may be off here.
pub const SKEW_MS: u64 = 750;

const NAME: &str = "freshness_is_never_overstated";

pub fn seen(notes: &Notes, by: u64, certified: &CertifiedCheckpoint, now_ms: u64) {
    let says = certified.latest_as_of_ms();
    if says > now_ms + SKEW_MS {
        let height = certified.header().height;
        let ahead = says - now_ms;
        let what = format!("{by} serves {height} as the latest of {ahead} ms ahead of now");
        notes.violation(NAME, what);
    }
}

/// `certified_at`: when each height was first certified anywhere.
pub fn read(notes: &Notes, certified_at: &BTreeMap<u64, u64>, by: u64, height: u64, as_of_ms: u64) {
    let mut newer = certified_at.range(height + 1..);
    if let Some((newer, at)) = newer.find(|(_, at)| **at + SKEW_MS < as_of_ms) {
        let before = as_of_ms - at;
        let what = format!(
            "{by} says that {height} was the latest, of a time {before} ms after {newer} was certified"
        );
        notes.violation(NAME, what);
    }
}
