//! The stories of lotteries and codes, from keys to the last check.
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

#[test]
fn a_district_is_released_by_check_ins_on_two_days() {
    tell("district");
}

#[test]
fn codes_turned_red_on_a_pretext_are_counted_refused_next_door_and_corrected() {
    tell("henan");
}

#[test]
fn a_gate_judges_passes_while_every_node_is_down() {
    tell("gate");
}

#[test]
fn a_field_teams_journal_outlives_a_power_cut_and_counts_once() {
    tell("field");
}

#[test]
fn a_city_recognises_another_as_far_as_its_policy_says() {
    tell("cities");
}
