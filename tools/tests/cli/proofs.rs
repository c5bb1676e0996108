//! Proof files, verified by a process that has nothing but the chain id.

use std::path::Path;

use cairn_ledger::evidence::NAMESPACE;
use serde_json::Value;

use crate::ledger::{Ledger, cairn};

/// Verifies a file; the exit code and what was printed.
fn verify(file: &Path, chain_id: &str) -> (i32, Value) {
    let file = file.to_str().unwrap();
    let args = [
        "proof",
        "verify",
        file,
        "--chain-id",
        chain_id,
        "-o",
        "json",
    ];
    let output = cairn(&args).output().unwrap();
    let code = output.status.code().unwrap();
    let printed = if code == 0 {
        output.stdout
    } else {
        output.stderr
    };
    (code, serde_json::from_slice(&printed).unwrap())
}

#[test]
fn an_entry_is_proven_offline_and_the_limits_of_that_are_said() {
    let ledger = Ledger::new();
    let file = ledger.write("entry.proof", &ledger.entry_proof(3));
    let (code, printed) = verify(&file, &ledger.chain.id.to_string());
    assert_eq!((code, &printed["ok"]), (0, &Value::Bool(true)), "{printed}");
    assert_eq!(printed["entry"]["subject"], ledger.document.to_string());
    assert_eq!(printed["entry"]["signers"][0]["purpose"], "author");
    assert_eq!(
        printed["certificate"]["cosigners"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    let not_proven = printed["not_proven"].to_string();
    assert!(
        not_proven.contains("what people recorded is true"),
        "{not_proven}"
    );

    let args = ["proof", "verify", file.to_str().unwrap(), "--chain-id"];
    let output = cairn(&args)
        .arg(ledger.chain.id.to_string())
        .assert()
        .success();
    let table = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(table.contains("Institution 1 (notary)"), "{table}");
    assert!(table.contains("it does not prove"), "{table}");
}

#[test]
fn presence_and_absence_are_proven_offline() {
    let ledger = Ledger::new();
    let id = ledger.chain.id.to_string();
    let there = ledger.map_proof(NAMESPACE, ledger.document.as_bytes());
    let (code, printed) = verify(&ledger.write("there.proof", &there), &id);
    assert_eq!(code, 0);
    assert!(
        printed["proven"][0]
            .as_str()
            .unwrap()
            .contains("was recorded at")
    );
    let absent = ledger.map_proof("code", &[9; 32]);
    let (code, printed) = verify(&ledger.write("absent.proof", &absent), &id);
    assert_eq!(code, 0);
    assert!(
        printed["proven"][0]
            .as_str()
            .unwrap()
            .contains("was never issued")
    );
}

#[test]
fn another_ledger_and_a_missing_quorum_have_their_exit_codes() {
    let ledger = Ledger::new();
    let id = ledger.chain.id.to_string();
    let file = ledger.write("entry.proof", &ledger.entry_proof(4));
    assert_eq!(verify(&file, &"5c".repeat(32)).0, 10);
    let file = ledger.write("two.proof", &ledger.entry_proof(2));
    let (code, printed) = verify(&file, &id);
    assert_eq!(
        (code, &printed["error"]["reason"]),
        (11, &"QUORUM_NOT_MET".into())
    );
    assert_eq!(verify(Path::new("/no/such/file"), &id).0, 1);

    // Only an applicant's row can be opened.
    let args = [
        "proof",
        "verify",
        file.to_str().unwrap(),
        "--receipts",
        "x",
        "--chain-id",
        &id,
    ];
    cairn(&args).assert().code(2);
}

#[test]
fn a_truncated_proof_file_is_exit_10() {
    let ledger = Ledger::new();
    let id = ledger.chain.id.to_string();
    let whole = ledger.entry_proof(3);
    for parts in 0..16 {
        let cut = &whole[..whole.len() * parts / 16];
        let (code, printed) = verify(&ledger.write("cut.proof", cut), &id);
        assert_eq!(
            code,
            10,
            "{} of {} bytes: {printed}",
            cut.len(),
            whole.len()
        );
    }
    let longer = [&whole[..], b"\0"].concat();
    assert_eq!(verify(&ledger.write("long.proof", &longer), &id).0, 10);
}

/// Every bit is tried against the library elsewhere; here a bit in every part of the file.
#[test]
fn an_edited_proof_file_is_exit_10() {
    let ledger = Ledger::new();
    let id = ledger.chain.id.to_string();
    for whole in [
        ledger.entry_proof(3),
        ledger.map_proof("evidence", &ledger.document.0),
    ] {
        for at in (0..whole.len()).step_by(29) {
            let mut edited = whole.clone();
            edited[at] ^= 1 << (at % 8);
            let (code, printed) = verify(&ledger.write("edited.proof", &edited), &id);
            assert_eq!(code, 10, "byte {at}: {printed}");
        }
    }
}
