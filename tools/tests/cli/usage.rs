//! Usage: help, exit codes, and what is said to somebody who left something out.

use serde_json::Value;

use crate::ledger::{cairn, fails};

const NOUNS: [&str; 11] = [
    "key",
    "genesis",
    "entry",
    "lottery",
    "code",
    "pass",
    "trust",
    "evidence",
    "proof",
    "checkpoint",
    "audit",
];

#[test]
fn help_lists_the_exit_codes_and_every_noun_shows_an_example() {
    let output = cairn(&["--help"]).assert().success();
    let help = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    for code in [
        "0  done",
        "1  failed",
        "2  ",
        "3  not found",
        "4  a gate refuses",
        "10  ",
        "11  ",
        "12  a fork",
    ] {
        assert!(help.contains(code), "{code}");
    }
    for noun in NOUNS {
        assert!(help.contains(noun), "{noun}");
        let output = cairn(&[noun, "--help"]).assert().success();
        let help = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        assert!(help.contains("Example:\n  cairn "), "{noun}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    let id = "5c".repeat(32);
    for args in [
        &["lottery"][..],
        &["key", "new"],
        &["key", "new", "--purpose", "other", "--out", "x"],
        &["checkpoint", "show", "--chain-id", "5c"],
        &["checkpoint", "show", "--chain-id", &id, "--timeout", "0"],
        &["checkpoint", "show", "--chain-id", &id, "--node", "no url"],
        &["checkpoint", "compare", "--chain-id", &id],
        &["entry", "get", "neither", "--chain-id", &id],
        &["evidence", "show", "--chain-id", &id],
        &["proof", "verify", "x", "--salt", &id, "--chain-id", &id],
    ] {
        fails(args, 2);
    }
}

#[test]
fn whoever_asks_a_node_must_pin_the_ledger_and_is_told_how() {
    for args in [
        &["checkpoint", "show"][..],
        &["entry", "list"],
        &["proof", "verify", "x"],
        &["audit", "replay"],
    ] {
        let said = fails(args, 2);
        assert!(said.contains("--chain-id HEX"), "{said}");
        assert!(said.contains("--genesis FILE"), "{said}");
    }
}

#[test]
fn a_node_that_does_not_answer_is_named_in_time() {
    // Nothing listens on port 1.
    let (id, node) = ("5c".repeat(32), "http://127.0.0.1:1");
    let args = [
        "checkpoint",
        "show",
        "--chain-id",
        &id,
        "--node",
        node,
        "--timeout",
        "1",
    ];
    let said = fails(&args, 1);
    assert!(said.contains(node), "{said}");
    assert!(said.contains("within 1 s"), "{said}");
}

#[test]
fn failures_are_json_where_results_would_be() {
    let said = fails(&["checkpoint", "show", "-o", "json"], 2);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["error"]["reason"], "USAGE");
    assert!(said["error"]["message"].is_string());
}
