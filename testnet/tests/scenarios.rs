//! The stories of lotteries, from keys to the last check.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

fn tell(story: &str) {
    let data = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cairn-testnet"))
        .arg("--data")
        .arg(data.path())
        .args(["scenario", story])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn homes_are_drawn_in_two_tiers_and_keys_handed_over_once() {
    tell("housing");
}

#[test]
fn a_hundred_thousand_applicants_are_drawn_and_each_can_check() {
    tell("draw");
}

#[test]
fn a_voided_attempt_stays_to_be_seen_and_the_next_one_counts() {
    tell("voided");
}

#[test]
fn who_does_not_come_is_listed_and_holds_up_a_closed_lottery_only() {
    tell("absent");
}
