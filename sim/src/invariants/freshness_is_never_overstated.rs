//! A certificate never says that it was the latest at a time that has not come. (Day-one bugs 12
//! and 20.)

use cairn_ledger::checkpoint::CertifiedCheckpoint;

use crate::notes::Notes;

/// How far honest clocks may be off here.
pub const SKEW_MS: u64 = 750;

pub fn seen(notes: &Notes, by: u64, certified: &CertifiedCheckpoint, now_ms: u64) {
    let says = certified.latest_as_of_ms();
    if says > now_ms + SKEW_MS {
        let height = certified.header().height;
        let ahead = says - now_ms;
        let what = format!("{by} serves {height} as the latest of {ahead} ms ahead of now");
        notes.violation("freshness_is_never_overstated", what);
    }
}
