//! Key files: private from the first moment, and never printed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use crate::ledger::{fails, json, key};

#[test]
fn keys_are_private_and_shown_without_their_secret() {
    let folder = tempfile::tempdir().unwrap();
    for (purpose, fields) in [
        ("network", &["public_key", "peer_id"][..]),
        ("cosign", &["public_key"]),
        ("seed", &["public_key", "proof_of_possession"]),
        ("author", &["public_key"]),
        ("tag", &["commitment"]),
    ] {
        let made = key(folder.path(), purpose, purpose);
        let file = folder.path().join(format!("{purpose}.key"));
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let shown = json(&["key", "show", file.to_str().unwrap()]);
        assert_eq!(made, shown);
        for field in fields {
            assert!(shown[field].is_string(), "{purpose} has a {field}");
        }
        let line = fs::read_to_string(&file).unwrap();
        let secret = line.split_whitespace().nth(1).unwrap();
        assert!(!shown.to_string().contains(secret));
        let args = [
            "key",
            "new",
            "--purpose",
            purpose,
            "--out",
            file.to_str().unwrap(),
        ];
        assert!(fails(&args, 1).contains("never overwritten"));
        assert_eq!(fs::read_to_string(&file).unwrap(), line);
    }
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    key(folder.path(), "author", "author");
    let file = folder.path().join("author.key");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let file = file.to_str().unwrap();
    let said = fails(&["key", "show", file], 1);
    assert!(said.contains("mode 0644"), "{said}");
    assert!(said.contains(&format!("chmod 0600 '{file}'")), "{said}");
    let id = "5c".repeat(32);
    let args = [
        "evidence",
        "record",
        "--key",
        file,
        "--file",
        file,
        "--chain-id",
        &id,
    ];
    assert!(fails(&args, 1).contains("chmod 0600"));
}
