//! Every target for a moment, and every input that was kept.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Command;

#[test]
fn no_decoder_panics_stalls_or_believes_what_was_never_signed() {
    // A copy, so that bugs found do not change the tree.
    let folder = tempfile::tempdir().unwrap();
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
    let copied = Command::new("cp")
        .args(["-r", corpus])
        .arg(folder.path())
        .status();
    assert!(copied.unwrap().success());
    let output = Command::new(env!("CARGO_BIN_EXE_cairn-fuzz"))
        .args(["--runs", "4000", "--corpus"])
        .arg(folder.path().join("corpus"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
