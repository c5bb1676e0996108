//! Codes as an authority handles them: what is said to whoever typed something wrong, and what is
//! refused before it leaves.

mod holders;
mod orders;

use cairn_ledger::apply::AUTHOR_NAMESPACE;
use cairn_ledger::canonical;
use cairn_ledger::code::{self, MANDATE_NAMESPACE, ORDER_NAMESPACE, mandate_key};
use cairn_proto::v1::{self, CodeStatus, EntryState, Role};
use serde_json::Value;

use crate::city::{City, DAY, code_of};
use crate::ledger::{cairn, fails, json};
use crate::node::Node;

/// A city with an authority that has a mandate, and a health office that approves.
struct Office {
    city: City,
    authority: String,
    health: String,
    keys: Vec<(&'static str, Vec<u8>)>,
}

impl Office {
    fn new() -> Office {
        let mut city = City::new();
        let [authority, health] = ["authority", "health"].map(|name| {
            let path = city.ledger.path(&format!("{name}.key"));
            let key = json(&["key", "new", "--purpose", "author", "--out", &path]);
            (
                path,
                hex::decode(key["public_key"].as_str().unwrap()).unwrap(),
            )
        });
        let mandate = v1::Mandate {
            authority: authority.1.clone().into(),
            region: "suzhou".to_owned(),
            reasons: vec!["exposure".to_owned()],
            statuses: vec![CodeStatus::Green.into(), CodeStatus::Yellow.into()],
            max_duration_ms: 14 * DAY,
            approver_role: Role::Health.into(),
        };
        let state = v1::MandateState {
            mandate: Some(mandate),
            ..Default::default()
        };
        let mandate = mandate_key(&authority.1, "suzhou");
        city.put(MANDATE_NAMESPACE, &mandate, canonical::encode(&state));
        for (key, role) in [(&authority.1, Role::Authority), (&health.1, Role::Health)] {
            let author = v1::Author {
                public_key: key.clone().into(),
                name: "an office".to_owned(),
                role: role.into(),
            };
            city.put(AUTHOR_NAMESPACE, key, canonical::encode(&author));
        }
        let elsewhere = v1::CodeState {
            status: CodeStatus::Green.into(),
            sequence: 1,
            region: "nanjing".to_owned(),
            ..Default::default()
        };
        city.put(
            code::NAMESPACE,
            &code_of(200).0,
            canonical::encode(&elsewhere),
        );
        let codes = (0..9)
            .chain([200, 4_000])
            .map(|n| (code::NAMESPACE, code_of(n).0.to_vec()));
        let mut keys: Vec<_> = codes.collect();
        keys.push((MANDATE_NAMESPACE, mandate));
        let offices = [authority.1, health.1];
        keys.extend(offices.map(|key| (AUTHOR_NAMESPACE, key)));
        Office {
            city,
            authority: authority.0,
            health: health.0,
            keys,
        }
    }

    fn node(&self, states: &[EntryState]) -> Node {
        self.city.node_of_all(&self.keys, 1, states)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.city.ledger.write(name, text.as_bytes());
        path.to_str().unwrap().to_owned()
    }

    fn codes(&self, name: &str, codes: &[u32]) -> String {
        let lines = codes.iter().map(|n| format!("{}\n", code_of(*n)));
        self.file(name, &format!("code\n{}", lines.collect::<String>()))
    }
}

/// Runs a command: its exit code, its result and what it said.
fn run(args: &[String]) -> (i32, Value, String) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = cairn(&args).output().unwrap();
    let printed = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), printed, said)
}

#[test]
fn a_wrong_command_about_codes_is_exit_2() {
    let id = "5c".repeat(32);
    let long = "x".repeat(501);
    let issue = [
        "code",
        "issue",
        "--key",
        "k",
        "--region",
        "r",
        "--valid-days",
        "9",
        "--out",
        "o",
    ];
    let check_in = ["code", "check-in", "--key", "k", "--region", "r"];
    let decide = [
        "code",
        "decide",
        "--key",
        "k",
        "--appeal",
        &id,
        "--reasons",
        "f",
    ];
    let recognise = [
        "code",
        "recognise",
        "--key",
        "k",
        "--region",
        "r",
        "--ledger",
        &id,
    ];
    let refuse = [
        "code",
        "refuse-order",
        "--key",
        "k",
        "--order",
        &id,
        "--reason",
        "no",
    ];
    let named = ["--name", "n", "--regions", "a", "--until", "2100-01-01"];
    let cases: [(&[&str], &[&str]); 13] = [
        (&issue, &[]),
        (&issue, &["--count", "0"]),
        (&check_in, &[]),
        (&check_in, &[&id, "--from", "f"]),
        (&check_in, &["5c"]),
        (&check_in, &[&id, "--observed-at", "yesterday"]),
        (&decide, &[]),
        (&decide, &["--grant", "--reject"]),
        (&decide, &["--reject", "--correcting-order", &id]),
        (&recognise, &named),
        (&recognise, &["--revoke", "--name", "n"]),
        (&recognise, &["--statuses", "blue"]),
        (&refuse, &["--region", &long]),
    ];
    for (command, more) in cases {
        fails(&[command, more].concat(), 2);
    }
}

#[test]
fn a_check_in_of_what_is_no_code_here_is_refused_before_it_leaves() {
    let office = Office::new();
    let node = office.node(&[EntryState::Certified]);
    let (id, one, two) = (
        office.city.id(),
        code_of(1).to_string(),
        code_of(4_000).to_string(),
    );
    let asked = [
        "--key",
        &office.authority,
        "--region",
        "suzhou",
        "--chain-id",
        &id,
    ];
    let asked = [&["code", "check-in", "--node", &node.url][..], &asked].concat();
    let said = fails(&[&asked[..], &[&one, &one]].concat(), 2);
    assert!(said.contains("is there twice"), "{said}");
    let said = fails(&[&asked[..], &[&one, &two]].concat(), 1);
    assert!(
        said.contains("line 2: this code was never issued"),
        "{said}"
    );
    let file = office.codes("seen.csv", &[1, 200]);
    let said = fails(&[&asked[..], &["--from", &file]].concat(), 1);
    assert!(said.contains("seen.csv: 1 bad line"), "{said}");
    assert!(
        said.contains("line 3: this code is of region nanjing"),
        "{said}"
    );
    assert_eq!(node.submitted(), 0);
}

#[test]
fn what_is_said_of_others_must_be_of_others() {
    let mut office = Office::new();
    let order = v1::OrderState {
        order: Some(v1::StatusOrder {
            region: "suzhou".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    office
        .city
        .put(ORDER_NAMESPACE, &[7; 32], canonical::encode(&order));
    for order in [[7; 32], [8; 32]] {
        office.keys.push((ORDER_NAMESPACE, order.to_vec()));
    }
    let node = office.node(&[EntryState::Certified]);
    let id = office.city.id();
    let asked = [
        "--key",
        &office.authority,
        "--region",
        "suzhou",
        "--chain-id",
        &id,
    ];
    let asked = [&["--node", &node.url][..], &asked].concat();
    let refuse = |order: u8, code| {
        let order = hex::encode([order; 32]);
        let refuse = [
            "code",
            "refuse-order",
            "--reason",
            "no ground",
            "--order",
            &order,
        ];
        fails(&[&refuse[..], &asked].concat(), code)
    };
    let said = refuse(7, 1);
    assert!(said.contains("wrong at home is corrected"), "{said}");
    let said = refuse(8, 3);
    assert!(
        said.contains("is no order on this ledger, which is proven"),
        "{said}"
    );
    let recognise = [
        "code",
        "recognise",
        "--name",
        "n",
        "--regions",
        "a",
        "--statuses",
        "green",
    ];
    let until = |until| [&recognise[..], &["--until", until, "--ledger", &id], &asked].concat();
    let said = fails(&until("2100-01-01"), 2);
    assert!(said.contains("this ledger itself"), "{said}");
    let said = fails(&until("2020-01-01"), 2);
    assert!(said.contains("is over already"), "{said}");
    assert_eq!(node.submitted(), 0);
}
