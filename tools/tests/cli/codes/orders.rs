//! Orders: judged before they are given, on the disk before they leave, and gone on with as they are.

use std::fs;

use cairn_ledger::canonical;
use cairn_ledger::code::{self, ORDER_NAMESPACE, Refused, refused_root};
use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, EntryState, RejectReason};
use serde_json::Value;

use super::{Office, run};
use crate::city::{HOUR, code_of};
use crate::node::Node;

const LAPSES: [&str; 4] = ["--lapses-days", "7", "--on-lapse", "green"];

impl Office {
    /// An order that the mandate allows, for the codes of a file.
    fn order(&self, node: &Node, from: &str, more: &[&str]) -> Vec<String> {
        let id = self.city.id();
        let order = [
            ["--key", &self.authority],
            ["--region", "suzhou"],
            ["--reason", "exposure"],
            ["--basis", "Order 12/2022"],
            ["--from", from],
            ["--contact", "tel. 12345"],
            ["--operator", "desk 7"],
            ["--rule-version", "2022-3"],
            ["--chain-id", &id],
            ["--node", &node.url],
            ["--timeout", "1"],
            ["-o", "json"],
        ];
        let order = ["code", "order"]
            .into_iter()
            .chain(order.into_iter().flatten());
        let order = order.chain(more.iter().copied());
        order.map(str::to_owned).collect()
    }
}

#[test]
fn bad_lines_of_a_cohort_stop_an_order_and_are_all_named() {
    let office = Office::new();
    let node = office.node(&[EntryState::Certified]);
    let (one, two) = (code_of(1), code_of(2));
    let bad = format!("code,desk\n{one},a\n{two}\n12,b\n{one},c\n");
    let bad = office.file("bad.csv", &bad);
    let (code, _, said) = run(&office.order(&node, &bad, &["--status", "yellow"]));
    assert_eq!(code, 1, "{said}");
    for expected in [
        "3 bad lines, nothing was submitted",
        "line 3: 1 field, the header has 2",
        "line 4: the code is not 64 hex digits",
        "line 5: the same code as in line 2",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    let foreign = office.codes("foreign.csv", &[1, 4_000, 200]);
    let (code, _, said) = run(&office.order(&node, &foreign, &["--status", "yellow"]));
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("line 3: this code was never issued"),
        "{said}"
    );
    assert!(
        said.contains("line 4: this code is of region nanjing"),
        "{said}"
    );
}

#[test]
fn a_dry_run_says_all_that_would_be_refused_and_submits_nothing() {
    let office = Office::new();
    let node = office.node(&[EntryState::Certified]);
    let good = office.codes("good.csv", &[3, 1, 2]);
    let approved = [
        "--approver-key",
        &office.health,
        "--status",
        "yellow",
        "--dry-run",
    ];
    let fine = [&approved[..], &LAPSES].concat();
    let (code, printed, said) = run(&office.order(&node, &good, &fine));
    assert_eq!(
        (code, &printed["would_be_accepted"]),
        (0, &true.into()),
        "{said}"
    );
    assert_eq!(
        (&printed["codes"], &printed["height"]),
        (&3.into(), &2.into())
    );

    let mixed = format!(
        "code\n{}\nzz\n{}\n{}\n",
        code_of(1),
        code_of(4_000),
        code_of(200)
    );
    let mixed = office.file("mixed.csv", &mixed);
    let outside = [
        "--approver-key",
        &office.authority,
        "--status",
        "red",
        "--dry-run",
    ];
    let (code, printed, said) = run(&office.order(&node, &mixed, &outside));
    assert_eq!((code, &printed["would_be_accepted"]), (1, &false.into()));
    assert!(said.contains("objections: 3, bad lines in"), "{said}");
    let lines = printed["problems"].as_array().unwrap().iter();
    let lines: Vec<u64> = lines
        .map(|problem| problem["line"].as_u64().unwrap())
        .collect();
    assert_eq!((lines, &printed["codes"]), (vec![3, 4, 5], &1.into()));
    let objections = printed["objections"].to_string();
    for expected in [
        "does not allow red; it allows: green, yellow",
        "lapses within 14 days",
        "is authority, and the mandate asks for the approval of an author of the role health",
    ] {
        assert!(objections.contains(expected), "{objections}");
    }
    assert!(node.submitted() == 0, "a dry run submits nothing");
}

#[test]
fn an_order_is_on_the_disk_before_it_leaves_and_only_that_order_is_gone_on_with() {
    let mut office = Office::new();
    let receipt = office.city.ledger.path("order.json");
    let cohort = office.codes("cohort.csv", &[3, 1, 2]);
    let common = [
        "--approver-key",
        &office.health.clone(),
        "--code-by-code",
        "--receipt",
        &receipt,
    ];
    let yellow = [&common[..], &["--status", "yellow"], &LAPSES].concat();
    let node = office.node(&[EntryState::Pending]);
    let (code, _, said) = run(&office.order(&node, &cohort, &yellow));
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("run the same again to go on"), "{said}");
    let kept: Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
    assert_eq!(kept["format"], "cairn-order-v1");
    assert_eq!(kept["changes"].as_array().unwrap().len(), 3);

    let green = [&common[..], &["--status", "green"], &LAPSES].concat();
    let (code, _, said) = run(&office.order(&node, &cohort, &green));
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("another order than this command gives, by: --status;"),
        "{said}"
    );
    let other = office.codes("other.csv", &[3, 1]);
    let (code, _, said) = run(&office.order(&node, &other, &yellow));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("by: the codes (--from"), "{said}");

    let order_id = kept["order_id"].as_str().unwrap();
    let id = Hash::from_slice(&hex::decode(order_id).unwrap()).unwrap();
    office.keys.push((ORDER_NAMESPACE, id.0.to_vec()));
    let node = office.node(&[EntryState::Pending]);
    // Another approval is no other order.
    let without = [&common[2..], &["--status", "yellow"], &LAPSES].concat();
    let (code, _, said) = run(&office.order(&node, &cohort, &without));
    assert_eq!(code, 3, "{said}");
    let unapproved: Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
    assert_eq!(unapproved["order_id"], kept["order_id"]);
    assert_ne!(unapproved["entry"], kept["entry"]);

    // Meanwhile the order took effect, but for one code.
    let entry = hex::decode(kept["entry"].as_str().unwrap()).unwrap();
    let entry: v1::SignedEntry = canonical::decode(&entry).unwrap();
    let mut codes: Vec<Hash> = [1, 2, 3].map(code_of).to_vec();
    codes.sort();
    for (at, code) in codes.iter().enumerate() {
        let changed = v1::CodeState {
            sequence: 2,
            region: "suzhou".to_owned(),
            order_id: if at == 1 {
                vec![9; 32].into()
            } else {
                id.to_bytes()
            },
            ..Default::default()
        };
        office
            .city
            .put(code::NAMESPACE, &code.0, canonical::encode(&changed));
    }
    let refused = Refused {
        code: codes[1].0,
        expected: 1,
        found: Some(2),
        reason: RejectReason::CodeStaleSequence,
    };
    let state = v1::OrderState {
        order: Some(canonical::decode(&entry.body).unwrap()),
        received: 3,
        applied: true,
        leaf_index: 40,
        effect: Some(v1::OrderEffect {
            changed: 2,
            refused: 1,
            refused_root: refused_root(&[refused]).to_bytes(),
            timestamp_ms: 5,
        }),
        ..Default::default()
    };
    office
        .city
        .put(ORDER_NAMESPACE, &id.0, canonical::encode(&state));
    let node = office.node(&[EntryState::Certified]);
    let (code, printed, said) = run(&office.order(&node, &cohort, &yellow));
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        (&printed["order_id"], &printed["leaf_index"]),
        (&order_id.into(), &40.into())
    );
    assert_eq!(
        (&printed["changed"], &printed["refused"]),
        (&2.into(), &1.into())
    );
    assert_eq!(
        (&printed["entries"], &printed["height"]),
        (&0.into(), &1.into())
    );
    let refusal = &printed["refusals"][0];
    assert_eq!(refusal["code"], codes[1].to_string());
    assert_eq!(refusal["reason"], "CODE_STALE_SEQUENCE");
    assert_eq!(node.submitted(), 0, "nothing was left to hand in");
    let kept: Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
    assert_eq!(kept["outcome"]["changed"], 2);
    assert_eq!(kept["outcome"]["refusals"], printed["refusals"]);

    let edited = fs::read_to_string(&receipt)
        .unwrap()
        .replace("\"expected\":1}", "\"expected\":2}");
    fs::write(&receipt, edited).unwrap();
    let (code, _, said) = run(&office.order(&node, &cohort, &yellow));
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("expected sequences, which somebody edited"),
        "{said}"
    );
    fs::write(&receipt, "{}").unwrap();
    let (code, _, said) = run(&office.order(&node, &cohort, &yellow));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is no receipt of an order"), "{said}");
}

#[test]
fn an_order_that_the_rules_refuse_leaves_no_receipt() {
    let office = Office::new();
    let node = office.node(&[EntryState::Rejected]);
    let receipt = office.city.ledger.path("order.json");
    let cohort = office.codes("cohort.csv", &[1]);
    let order = ["--status", "red", "--receipt", &receipt];
    let (code, _, said) = run(&office.order(&node, &cohort, &order));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("was refused by the rules"), "{said}");
    assert!(
        fs::metadata(&receipt).is_err(),
        "there is nothing to go on with"
    );
}

#[test]
fn an_order_that_was_never_recorded_and_whose_time_is_over_is_given_anew() {
    let mut office = Office::new();
    let receipt = office.city.ledger.path("order.json");
    let cohort = office.codes("cohort.csv", &[1]);
    let order = ["--status", "green", "--receipt", &receipt];
    let kept = || -> Value { serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap() };
    let states = [EntryState::Pending];
    run(&office.order(&office.node(&states), &cohort, &order));
    let first = kept()["order_id"].clone();
    let id = hex::decode(first.as_str().unwrap()).unwrap();
    office.keys.push((ORDER_NAMESPACE, id));
    run(&office.order(&office.node(&states), &cohort, &order));
    assert_eq!(kept()["order_id"], first);
    // An hour later it is not on the ledger, and can no longer come there.
    let later = office.city.node_of_all(&office.keys, HOUR, &states);
    let (code, _, said) = run(&office.order(&later, &cohort, &order));
    assert_eq!(code, 3, "{said}");
    assert_ne!(kept()["order_id"], first);
}
