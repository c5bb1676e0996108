//! Kills and damage, a few: the long runs are `testnet/chaos`.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

fn chaos(options: &[&str]) {
    let data = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cairn-testnet"))
        .arg("--data")
        .arg(data.path())
        .arg("chaos")
        .args(options)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
}

#[test]
fn what_was_acknowledged_survives_kills_also_of_all_nodes_at_once() {
    chaos(&["--kills", "8", "--failovers", "1", "--seed", "1"]);
}

#[test]
fn a_node_with_damaged_files_says_so_or_answers_the_truth_day_one_13_14() {
    chaos(&["--damage", "--flips", "60", "--seed", "1"]);
}
