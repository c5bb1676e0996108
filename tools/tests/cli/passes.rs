//! Passes: from a node to a QR code, and through a gate that has nothing but a trust file.

use std::fs;

use cairn_ledger::pass::Pass;
use serde_json::Value;

use crate::city::{City, DAY, HOUR, ID_CARD, SALT, code_of};
use crate::ledger::{cairn, fails, json};

/// A gate's verdict at a time: exit code and what was printed.
fn verdict(city: &City, at_ms: u64, args: &[&str]) -> (i32, Value) {
    let (trust, now) = (city.trust(), at_ms.to_string());
    let gate = ["pass", "verify", "--trust", &trust, "--now-ms", &now];
    let output = cairn(&gate).args(args).args(["-o", "json"]).output();
    let output = output.unwrap();
    let printed = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), printed)
}

/// The same for lines on standard input.
fn lines(city: &City, args: &[&str], input: impl Into<Vec<u8>>) -> (i32, Vec<Value>, String) {
    let (trust, now) = (city.trust(), (city.start + HOUR).to_string());
    let gate = ["pass", "verify", "--trust", &trust, "--now-ms", &now];
    let output = cairn(&gate)
        .args(args)
        .args(["-o", "json"])
        .write_stdin(input)
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), printed.collect(), said)
}

#[test]
fn a_pass_goes_from_a_node_through_a_gate_with_no_network() {
    let city = City::new();
    let (id, code) = (city.id(), code_of(7));
    let node = city.node(&code);
    let [trust, png, svg, paper] =
        ["new.trust", "p.png", "p.svg", "p.html"].map(|name| city.ledger.path(name));
    let asked = ["--chain-id", &id, "--node", &node.url];
    let args = ["trust", "export", "--out", &trust];
    let exported = json(&[&args[..], &asked].concat());
    assert_eq!(exported["ledgers"][0]["chain_id"], id);
    assert_eq!(exported["ledgers"][0]["height"], 2);

    let hex = code.to_string();
    let args = [
        "pass", "show", &hex, "--png", &png, "--svg", &svg, "--paper", &paper,
    ];
    let shown = json(&[&args[..], &asked].concat());
    assert_eq!(shown["status"], "green");
    let text = shown["pass"].as_str().unwrap();
    let pass = Pass::from_text(text).unwrap();
    assert_eq!(shown["bytes"], pass.to_bytes().len());
    assert!(fs::read(&png).unwrap().starts_with(b"\x89PNG"));
    assert!(fs::read_to_string(&svg).unwrap().starts_with("<svg"));
    let page = fs::read_to_string(&paper).unwrap();
    assert!(page.contains("<svg") && page.contains(&hex), "{page}");

    // A node that is gone is not missed.
    drop(node);
    let judged = json(&["pass", "verify", text, "--trust", &trust]);
    assert_eq!(judged["verdict"], "accepted");
    assert_eq!(judged["code"], hex);
    assert_eq!(judged["status"], "green");
    let output = cairn(&["pass", "verify", text, "--trust", &trust])
        .assert()
        .success();
    let table = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    assert!(table.contains("how old"), "{table}");
}

#[test]
fn a_code_that_was_never_issued_has_no_pass() {
    let city = City::new();
    let code = code_of(4_000);
    let node = city.node(&code);
    let (id, hex) = (city.id(), code.to_string());
    let said = fails(
        &["pass", "show", &hex, "--chain-id", &id, "--node", &node.url],
        3,
    );
    assert!(said.contains("never issued"), "{said}");
}

#[test]
fn who_is_refused_is_exit_4_with_the_reason_and_what_was_proven() {
    let city = City::new();
    let fresh = city.start + HOUR;
    let (green, red) = (city.pass(0).to_text(), city.pass(1).to_text());
    assert_eq!(verdict(&city, fresh, &[&green]).0, 0);
    let (code, printed) = verdict(&city, fresh, &[&red]);
    assert_eq!((code, &printed["reason"]), (4, &"STATUS".into()));
    assert_eq!(printed["status"], "red");
    let (code, printed) = verdict(&city, fresh + HOUR + 1, &[&green]);
    assert_eq!((code, &printed["reason"]), (4, &"TOO_OLD".into()));
    assert_eq!(printed["age_ms"], HOUR + 1);
    let (code, printed) = verdict(&city, fresh - DAY, &[&green]);
    assert_eq!((code, &printed["reason"]), (4, &"CLOCK_BEHIND".into()));
    let (code, printed) = verdict(&city, city.start + 30 * DAY, &[&green]);
    assert_eq!((code, &printed["reason"]), (4, &"TRUST_EXPIRED".into()));
    let mut edited = green.clone();
    let other = if &green[500..501] == "A" { "B" } else { "A" };
    edited.replace_range(500..501, other);
    let cut = &green[..green.len() - 3];
    for text in [edited.as_str(), cut] {
        let (code, printed) = verdict(&city, fresh, &[text]);
        assert_eq!(code, 4, "{printed}");
        assert_eq!(printed["verdict"], "refused");
    }
    let foreign = City::new().pass(0).to_text();
    let (code, printed) = verdict(&city, fresh, &[&foreign]);
    assert_eq!((code, &printed["reason"]), (4, &"OTHER_LEDGER".into()));
}

#[test]
fn passes_come_one_a_line_and_each_gets_its_verdict() {
    let city = City::new();
    let greens: Vec<String> = (2..50).map(|n| city.pass(n).to_text()).collect();
    let (code, printed, said) = lines(&city, &[], greens.join("\n"));
    assert_eq!((code, printed.len()), (0, greens.len()), "{said}");
    assert!(printed.iter().all(|line| line["verdict"] == "accepted"));

    let red = city.pass(1).to_text();
    let mixed = [greens[0].as_bytes(), b"\r\n\r\n\xff\xfe\n", red.as_bytes()].concat();
    let (code, printed, said) = lines(&city, &[], mixed.clone());
    let reasons: Vec<_> = printed.iter().map(|line| line["reason"].as_str()).collect();
    assert_eq!(reasons, [None, Some("NOT_A_PASS"), Some("STATUS")]);
    assert_eq!(code, 4);
    assert!(said.contains("2 of 3 passes do not let through"), "{said}");

    let file = city.ledger.write("scanned.txt", &mixed);
    let (code, printed, _) = lines(&city, &["--from", file.to_str().unwrap()], "");
    assert_eq!((code, printed.len()), (4, 3));
}

#[test]
fn an_id_card_is_matched_where_it_is_shown() {
    let city = City::new();
    let fresh = city.start + HOUR;
    let pass = city.pass(3).with_salt(SALT).to_text();
    assert_eq!(verdict(&city, fresh, &[&pass, "--id-card", ID_CARD]).0, 0);
    let (code, printed) = verdict(&city, fresh, &[&pass, "--id-card", "110105194912310021"]);
    assert_eq!((code, &printed["reason"]), (4, &"ID_CARD".into()));
    let policy = city.ledger.write("gate.toml", b"id_card = true\n");
    let asks = ["--policy", policy.to_str().unwrap()];
    let (code, printed) = verdict(&city, fresh, &[&[pass.as_str()][..], &asks].concat());
    assert_eq!((code, &printed["reason"]), (4, &"ID_CARD_NEEDED".into()));
    let both = format!("{pass}\t{ID_CARD}\n{pass}\n");
    let (code, printed, _) = lines(&city, &asks, both);
    assert_eq!(code, 4);
    assert_eq!(printed[0]["verdict"], "accepted");
    assert_eq!(printed[1]["reason"], "ID_CARD_NEEDED");
}

#[test]
fn paper_has_its_own_time_under_the_gates_policy() {
    let city = City::new();
    let paper = city.pass(3).on_paper().to_text();
    let policy = city.ledger.write(
        "gate.toml",
        b"[paper]\nmax_age_s = 604800\nid_card = false\n",
    );
    let week_old = city.start + HOUR + 7 * DAY;
    let args = [paper.as_str(), "--policy", policy.to_str().unwrap()];
    let (code, printed) = verdict(&city, week_old, &args);
    assert_eq!((code, &printed["paper"]), (0, &true.into()), "{printed}");
    let (code, printed) = verdict(&city, week_old + 1, &args);
    assert_eq!((code, &printed["reason"]), (4, &"TOO_OLD".into()));
}

#[test]
fn a_gate_that_cannot_judge_says_why_and_never_exits_4() {
    let city = City::new();
    let (pass, trust) = (city.pass(0).to_text(), city.trust());
    fails(&["pass", "verify", &pass], 2);
    let said = fails(&["pass", "verify", &pass, "--trust", "/no/such/file"], 1);
    assert!(said.contains("/no/such/file"), "{said}");
    let policy = city.ledger.write("gate.toml", b"max_age = 5\n");
    let policy = policy.to_str().unwrap();
    let said = fails(
        &[
            "pass", "verify", &pass, "--trust", &trust, "--policy", policy,
        ],
        2,
    );
    assert!(said.contains("unknown field `max_age`"), "{said}");
    assert!(said.contains("cairn pass verify --help"), "{said}");
    let mut damaged = city.trust_of(1, city.start);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let damaged = city.ledger.write("damaged.trust", &damaged);
    fails(
        &[
            "pass",
            "verify",
            &pass,
            "--trust",
            damaged.to_str().unwrap(),
        ],
        10,
    );
    let other = "5c".repeat(32);
    let said = fails(
        &[
            "pass",
            "verify",
            &pass,
            "--trust",
            &trust,
            "--chain-id",
            &other,
        ],
        10,
    );
    assert!(said.contains(&other), "{said}");
}
