//! Evidence against a member: exported by nodes, made by comparing them, verified offline.

use cairn_ledger::epochs::Epochs;
use cairn_ledger::equivocation;
use cairn_proto::v1;

use crate::ledger::{Ledger, cairn, fails, json};
use crate::node::{Answers, Node};

/// What a fork of the ledger's block proves: all four members signed both.
fn proofs(ledger: &Ledger) -> Vec<v1::Equivocation> {
    let epochs = Epochs::of_genesis(&ledger.chain);
    let [a, b] = [ledger.checkpoint(4), ledger.other_block()];
    let (a, b) = (epochs.certify(&a).unwrap(), epochs.certify(&b).unwrap());
    equivocation::between(&a, &b)
}

fn node(ledger: &Ledger, checkpoint: v1::Checkpoint, kept: Vec<v1::Equivocation>) -> Node {
    Node::start(Answers {
        genesis: ledger.chain.bytes.to_vec(),
        checkpoint,
        equivocations: kept,
        ..Answers::default()
    })
}

#[test]
fn what_a_node_keeps_is_exported_and_verified_offline() {
    let ledger = Ledger::new();
    let id = ledger.chain.id.to_string();
    let kept = proofs(&ledger);
    assert_eq!(kept.len(), 4);
    let running = node(&ledger, ledger.checkpoint(4), kept.clone());
    let file = ledger.write("case.evidence", b"");
    let file = file.to_str().unwrap();
    let url = &running.url;
    let export = [
        "audit",
        "evidence",
        "--out",
        file,
        "--chain-id",
        &id,
        "--node",
        url,
    ];
    let shown = json(&export);
    assert_eq!(shown["equivocations"].as_array().unwrap().len(), 4);
    drop(running);

    let verify = ["audit", "evidence", "verify", file, "--chain-id", &id];
    let shown = json(&verify);
    let first = &shown["equivocations"][0];
    assert_eq!(first["height"], 1);
    assert!(
        !first["institution"].as_str().unwrap().is_empty(),
        "{first}"
    );
    let hashes = first["header_hashes"].as_array().unwrap();
    assert_ne!(hashes[0], hashes[1]);
    let words = first["differs_in"].as_array().unwrap();
    assert!(
        words.iter().any(|w| w == "the entries that are recorded"),
        "{first}"
    );
    let told = cairn(&verify).assert().success();
    let told = String::from_utf8_lossy(&told.get_output().stdout).into_owned();
    assert!(told.contains("cosigned two blocks 1"), "{told}");

    // Another ledger, an honest member, a file that is none: exit 10.
    let other = "5c".repeat(32);
    fails(
        &["audit", "evidence", "verify", file, "--chain-id", &other],
        10,
    );
    let honest = v1::Equivocation {
        header_b: kept[0].header_a.clone(),
        cosignature_b: kept[0].cosignature_a.clone(),
        ..kept[0].clone()
    };
    let bytes = equivocation::write_file(&v1::EquivocationFile {
        genesis: ledger.chain.bytes.clone(),
        equivocations: vec![honest.clone()],
        epoch_changes: Vec::new(),
    });
    let innocent = ledger.write("innocent", &bytes);
    let innocent = innocent.to_str().unwrap();
    let said = fails(
        &["audit", "evidence", "verify", innocent, "--chain-id", &id],
        10,
    );
    assert!(said.contains("one and the same header"), "{said}");
    fails(
        &[
            "audit",
            "evidence",
            "verify",
            file,
            innocent,
            "--chain-id",
            &id,
        ],
        10,
    );

    // A node that accuses without proof is not believed.
    let liar = node(&ledger, ledger.checkpoint(4), vec![honest]);
    fails(
        &["audit", "evidence", "--chain-id", &id, "--node", &liar.url],
        10,
    );
    let quiet = node(&ledger, ledger.checkpoint(4), Vec::new());
    let shown = json(&["audit", "evidence", "--chain-id", &id, "--node", &quiet.url]);
    assert_eq!(shown["equivocations"].as_array().unwrap().len(), 0);
}

#[test]
fn comparing_two_forked_nodes_writes_the_evidence() {
    let ledger = Ledger::new();
    let id = ledger.chain.id.to_string();
    let a = node(&ledger, ledger.checkpoint(4), Vec::new());
    let b = node(&ledger, ledger.other_block(), Vec::new());
    let file = ledger.write("fork.evidence", b"");
    let file = file.to_str().unwrap();
    let nodes = format!("{},{}", a.url, b.url);
    let compare = ["checkpoint", "compare", "--chain-id", &id, "--node", &nodes];
    let said = fails(&compare, 12);
    assert!(
        said.contains("cosigned both; run it again with --evidence FILE"),
        "{said}"
    );
    let said = fails(&[&compare[..], &["--evidence", file]].concat(), 12);
    assert!(said.contains("the proof is in"), "{said}");
    let shown = json(&["audit", "evidence", "verify", file, "--chain-id", &id]);
    assert_eq!(shown["equivocations"].as_array().unwrap().len(), 4);
}
