//! What the command does with a node's answers: it verifies them, passes over nodes that are down,
//! waits for entries, and ends with the exit code that says what happened.

use cairn_ledger::canonical;
use cairn_proto::v1::EntryState;

use crate::ledger::{Ledger, cairn, fails, json};
use crate::node::{Answers, Node};

fn honest(ledger: &Ledger) -> Answers {
    Answers {
        genesis: ledger.chain.bytes.to_vec(),
        checkpoint: ledger.checkpoint(4),
        ..Answers::default()
    }
}

#[test]
fn a_certified_checkpoint_is_shown_and_a_node_that_is_down_is_passed_over() {
    let ledger = Ledger::new();
    let node = Node::start(honest(&ledger));
    let id = ledger.chain.id.to_string();
    // Nothing listens on port 1.
    let nodes = format!("http://127.0.0.1:1,{}", node.url);
    let shown = json(&["checkpoint", "show", "--chain-id", &id, "--node", &nodes]);
    assert_eq!(shown["height"], 1);
    assert_eq!(shown["tree_size"], 1);
    assert_eq!(shown["cosigners"].as_array().unwrap().len(), 4);
}

#[test]
fn a_checkpoint_without_quorum_is_exit_11_and_another_ledger_exit_10() {
    let ledger = Ledger::new();
    let node = Node::start(Answers {
        checkpoint: ledger.checkpoint(2),
        ..honest(&ledger)
    });
    let show = |id: &str, code| {
        fails(
            &["checkpoint", "show", "--chain-id", id, "--node", &node.url],
            code,
        )
    };
    let said = show(&ledger.chain.id.to_string(), 11);
    assert!(said.contains("2 of 4 members cosigned"), "{said}");
    let other = "5c".repeat(32);
    let said = show(&other, 10);
    assert!(said.contains(&other), "{said}");
    assert!(said.contains(&ledger.chain.id.to_string()), "{said}");
}

#[test]
fn two_certified_headers_at_one_height_are_exit_12() {
    let ledger = Ledger::new();
    let other = ledger.other_block();
    let id = ledger.chain.id.to_string();
    let [a, b] = [ledger.checkpoint(4), other].map(|checkpoint| {
        Node::start(Answers {
            checkpoint,
            ..honest(&ledger)
        })
    });
    let compare = |a: &Node, b: &Node| {
        let nodes = format!("{},{}", a.url, b.url);
        cairn(&["checkpoint", "compare", "--chain-id", &id, "--node", &nodes]).assert()
    };
    compare(&a, &a).success();
    let output = compare(&a, &b).code(12);
    let said = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(said.contains("contradict each other"), "{said}");

    let held = ledger.write("held.bin", &canonical::encode(&ledger.checkpoint(3)));
    let held = held.to_str().unwrap();
    let show = |node: &Node| {
        cairn(&[
            "checkpoint",
            "show",
            "--held",
            held,
            "--chain-id",
            &id,
            "--node",
            &node.url,
        ])
        .assert()
    };
    show(&a).success();
    show(&b).code(12);
}

#[test]
fn proven_absence_is_exit_3_and_a_proof_of_something_else_exit_10() {
    let ledger = Ledger::new();
    let absent = [9; 32];
    let node = Node::start(Answers {
        map_receipt: ledger.map_receipt("evidence", &absent),
        ..honest(&ledger)
    });
    let id = ledger.chain.id.to_string();
    let show = |hash: &str| {
        cairn(&[
            "evidence",
            "show",
            hash,
            "--chain-id",
            &id,
            "--node",
            &node.url,
        ])
        .assert()
    };
    let output = show(&hex::encode(absent)).code(3);
    let shown = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    assert!(shown.contains("its absence is proven"), "{shown}");
    show(&hex::encode([8; 32])).code(10);
}

/// Submits the ledger's entry to a node that answers with these states.
fn submit(states: &[EntryState]) -> assert_cmd::assert::Assert {
    let ledger = Ledger::new();
    let node = Node::start(Answers {
        states: states.to_vec(),
        ..honest(&ledger)
    });
    let id = ledger.chain.id.to_string();
    let file = ledger.write("entry.bin", &canonical::encode(&ledger.entry));
    let file = file.to_str().unwrap();
    let args = [
        "entry",
        "submit",
        file,
        "--chain-id",
        &id,
        "--node",
        &node.url,
    ];
    cairn(&args).args(["--timeout", "1", "-o", "json"]).assert()
}

#[test]
fn a_submit_waits_until_the_entry_is_certified() {
    use EntryState::{Certified, Committed, Pending};
    let output = submit(&[Pending, Committed, Committed, Certified]).success();
    let printed = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    assert!(printed.contains(r#""state":"certified""#), "{printed}");
}

#[test]
fn a_rejected_entry_is_exit_1_and_one_that_stays_uncommitted_exit_3() {
    let said = |output: assert_cmd::assert::Assert| {
        String::from_utf8_lossy(&output.get_output().stderr).into_owned()
    };
    let rejected = said(submit(&[EntryState::Rejected]).code(1));
    assert!(rejected.contains("EVIDENCE_EXISTS"), "{rejected}");
    let pending = said(submit(&[EntryState::Pending]).code(3));
    assert!(pending.contains("cairn entry status"), "{pending}");
}

#[test]
fn a_stream_that_breaks_goes_on_at_the_next_node_from_the_first_entry_without_an_answer() {
    let ledger = Ledger::new();
    let [first, second] = [Some(2), None].map(|breaks_after| {
        Node::start(Answers {
            breaks_after,
            ..honest(&ledger)
        })
    });
    let entries: Vec<_> = (0..5).map(|nonce| ledger.evidence(nonce)).collect();
    let files = entries.iter().enumerate().map(|(at, entry)| {
        let file = ledger.write(&format!("{at}.bin"), &canonical::encode(entry));
        file.to_str().unwrap().to_owned()
    });
    let files: Vec<_> = files.collect();
    let (id, nodes) = (
        ledger.chain.id.to_string(),
        format!("{},{}", first.url, second.url),
    );
    let mut args = vec!["entry", "submit", "--chain-id", &id, "--node", &nodes];
    args.extend(files.iter().map(String::as_str));
    let said = json(&args);
    let ids = entries
        .iter()
        .map(|entry| blake3::hash(&entry.envelope).as_bytes().to_vec());
    let ids: Vec<_> = ids.collect();
    let answered = said
        .as_array()
        .unwrap()
        .iter()
        .map(|said| &said["entry_id"]);
    assert!(answered.eq(ids.iter().map(hex::encode).collect::<Vec<_>>().iter()));
    assert_eq!(*first.streamed.lock().unwrap(), ids[..2]);
    assert_eq!(*second.streamed.lock().unwrap(), ids[2..]);
}
