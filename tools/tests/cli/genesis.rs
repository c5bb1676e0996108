//! Genesis: made from a plan, and refused where the plan is not sound.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::ledger::{cairn, fails, json, plan};

/// Makes a genesis of a plan.
fn genesis(folder: &Path, plan: &str, name: &str) -> assert_cmd::assert::Assert {
    let (plan_file, out) = (folder.join("plan.toml"), folder.join(name));
    fs::write(&plan_file, plan).unwrap();
    let [plan_file, out] = [&plan_file, &out].map(|path| path.to_str().unwrap());
    cairn(&[
        "genesis", "new", "--plan", plan_file, "--out", out, "-o", "json",
    ])
    .assert()
}

#[test]
fn a_genesis_is_made_shown_checked_and_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), "");
    let assert = genesis(folder.path(), &plan, "genesis.bin").success();
    let made: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(made["members"], 4);
    let policy = serde_json::json!({"threshold": 3, "min_roles": 2, "detect_only": false});
    assert_eq!(made["policy"], policy);

    let file = folder.path().join("genesis.bin");
    let file = file.to_str().unwrap();
    let shown = json(&["genesis", "show", file]);
    assert_eq!(shown["chain_id"], made["chain_id"]);
    assert_eq!(shown["members"][3]["role"], "institute");
    assert_eq!(shown["limits"]["max_entry_bytes"], 1 << 20);
    let id = made["chain_id"].as_str().unwrap();
    json(&["genesis", "check", file, "--chain-id", id]);
    fails(
        &["genesis", "check", file, "--chain-id", &"5c".repeat(32)],
        10,
    );

    let again = genesis(folder.path(), &plan, "genesis.bin").code(1);
    let said = String::from_utf8_lossy(&again.get_output().stderr).into_owned();
    assert!(said.contains("is there already"), "{said}");
    fs::write(file, b"damaged").unwrap();
    assert!(fails(&["genesis", "check", file], 1).contains("is no genesis"));
}

#[test]
fn a_policy_that_one_institution_can_break_is_refused_with_the_two_sets() {
    let folder = tempfile::tempdir().unwrap();
    let weak = plan(folder.path(), "threshold = 2");
    let assert = genesis(folder.path(), &weak, "weak.bin").code(1);
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(
        said.contains("alone could get two conflicting checkpoints"),
        "{said}"
    );
    assert_eq!(said.matches("by [Institution").count(), 2, "{said}");
    assert!(!folder.path().join("weak.bin").exists());

    let explicit = weak.replace("threshold = 2", "threshold = 2\ndetect_only = true");
    let assert = genesis(folder.path(), &explicit, "weak.bin").success();
    let made: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    assert_eq!(made["policy"]["detect_only"], true);
}

#[test]
fn a_plan_with_an_unknown_key_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), "treshold = 3");
    let assert = genesis(folder.path(), &plan, "genesis.bin").code(1);
    let said = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(said.contains("treshold"), "{said}");
    assert!(said.contains("plan.toml"), "{said}");
}
