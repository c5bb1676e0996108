//! The demo, small: the programs as they are, from keys to the last check.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

fn demo(data: &Path, options: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_cairn-testnet"))
        .arg("--data")
        .arg(data)
        .args(["demo", "--applicants", "400", "--winners", "60"])
        .args(options)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report = std::fs::read(data.join("demo/demo.json")).unwrap();
    serde_json::from_slice(&report).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_draw_even_if_the_leader_is_killed() {
    let first = tempfile::tempdir().unwrap();
    let second = tempfile::tempdir().unwrap();
    let a = demo(first.path(), &["--seed", "seven"]);
    let b = demo(second.path(), &["--seed", "seven", "--kill-leader"]);
    for key in ["chain_id", "lottery_id", "lottery_seed", "ranking_root"] {
        assert_eq!(a[key], b[key], "{key}");
        assert_eq!(a[key].as_str().unwrap().len(), 64, "{key}");
    }
    assert_eq!(b["crash"]["all_found"], true);
    assert!(b["crash"]["acknowledged_entries"].as_u64().unwrap() > 10);
}
