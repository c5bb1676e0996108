//! Trust files: shown, and replaced only by what goes on where they stand.

use std::fs;

use cairn_ledger::code;

use crate::city::{City, DAY};
use crate::ledger::{fails, json};

#[test]
fn a_trust_file_is_shown_with_whom_it_trusts_and_until_when() {
    let city = City::new();
    let shown = json(&["trust", "show", &city.trust()]);
    assert_eq!(shown["not_after_ms"], city.start + 30 * DAY);
    assert_eq!(shown["ledgers"][0]["chain_id"], city.id());
    let members = shown["ledgers"][0]["members"].as_array().unwrap();
    assert_eq!(members.len(), 4);
    let proof = city.ledger.write("a.proof", &city.ledger.entry_proof(4));
    let said = fails(&["trust", "show", proof.to_str().unwrap()], 10);
    assert!(said.contains("no trust file"), "{said}");
}

#[test]
fn a_gate_renews_its_file_and_keeps_it_where_the_one_handed_over_is_none() {
    let city = City::new();
    let gate = city.trust();
    let handed = |name: &str, bytes: &[u8]| {
        let path = city.ledger.write(name, bytes);
        path.to_str().unwrap().to_owned()
    };
    let update = ["trust", "update", "--trust", &gate];
    let newer = handed("newer", &city.trust_of(5, city.start + DAY));
    let shown = json(&[&update[..], &[&newer]].concat());
    assert_eq!(shown["ledgers"][0]["height"], 5);
    let kept = fs::read(&gate).unwrap();
    assert_eq!(kept, fs::read(&newer).unwrap());
    // Once more changes nothing.
    json(&[&update[..], &[&newer]].concat());

    let older = handed("older", &city.trust_of(4, city.start + DAY));
    let fork = handed("fork", &city.trust_of(5, city.start + 2 * DAY));
    let young = handed("young", &city.trust_of(6, city.start));
    let other = handed("other", &City::new().trust_of(9, city.start + 2 * DAY));
    for (file, code, told) in [
        (older, 1, "keep it"),
        (fork, 12, "a fork of the ledger"),
        (young, 12, "a fork of the ledger"),
        (other, 10, "of the ledger"),
        (handed("cut", &kept[..kept.len() - 9]), 10, "cut short"),
    ] {
        let said = fails(&[&update[..], &[&file]].concat(), code);
        assert!(said.contains(told), "{said}");
        assert_eq!(fs::read(&gate).unwrap(), kept, "{file}");
    }
}

#[test]
fn another_citys_ledger_is_added_from_its_own_file() {
    let (city, nanjing) = (City::new(), City::new());
    let node = city.node(&crate::city::code_of(0));
    let (id, out, theirs) = (city.id(), city.ledger.path("both.trust"), nanjing.trust());
    let args = [
        "trust", "export", "--out", &out, "--with", &theirs, "--days", "7",
    ];
    let asked = ["--chain-id", &id, "--node", &node.url];
    let shown = json(&[&args[..], &asked].concat());
    assert_eq!(shown["ledgers"][1]["chain_id"], nanjing.id());
    assert_eq!(shown["not_after_ms"], city.start + 1 + 7 * DAY);
}

#[test]
fn a_refusal_that_the_map_does_not_hold_is_not_exported() {
    let city = City::new();
    let (order, out) = (crate::city::code_of(700), city.ledger.path("gate.trust"));
    let key = code::order_refusal_key(&city.ledger.chain.id.0, &order.0, "suzhou");
    let node = city.node_of(code::ORDER_REFUSAL_NAMESPACE, &key);
    let (id, refusal) = (city.id(), format!("suzhou/{order}"));
    let args = ["trust", "export", "--out", &out, "--refusal", &refusal];
    let asked = ["--chain-id", &id, "--node", &node.url];
    let said = fails(&[&args[..], &asked].concat(), 3);
    assert!(said.contains("does not refuse"), "{said}");
    assert!(!std::path::Path::new(&out).exists());
}
