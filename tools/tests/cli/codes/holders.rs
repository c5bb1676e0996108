//! Codes that are bound to their holders' documents.

use std::fs;

use cairn_ledger::canonical;
use cairn_ledger::code::{self, holder_commitment};
use cairn_proto::v1;

use super::{Office, run};
use crate::city::code_of;

#[test]
fn codes_are_bound_to_holders_whose_numbers_are_written_nowhere() {
    let office = Office::new();
    let node = office.node(&[]);
    let (id, out) = (office.city.id(), office.city.ledger.path("codes.csv"));
    let people = office.file("people.csv", "id_card,name\n11010519491231002X,a\n11X,b\n");
    let issue = |people: &str, more: &[&str]| {
        let issue = [
            ["--key", &office.authority],
            ["--region", "suzhou"],
            ["--holders", people],
            ["--valid-days", "30"],
            ["--out", &out],
            ["--chain-id", &id],
            ["--node", &node.url],
            ["--timeout", "1"],
        ];
        let issue = ["code", "issue"]
            .into_iter()
            .chain(issue.into_iter().flatten());
        let issue = issue.chain(more.iter().copied());
        run(&issue.map(str::to_owned).collect::<Vec<_>>())
    };
    let (code, _, said) = issue(&people, &["--count", "3"]);
    assert_eq!(code, 2, "{said}");
    let bad = office.file("bad.csv", "id_card\n11X\n11X\n\"\"\n");
    let (code, _, said) = issue(&bad, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("line 3: the same id_card as in line 2"),
        "{said}"
    );
    assert!(said.contains("line 4: the id_card is not"), "{said}");

    // The node proves nothing of the new codes, which are on the disk by then.
    let (code, _, said) = issue(&people, &[]);
    assert_eq!(code, 10, "{said}");
    let text = fs::read_to_string(&out).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((lines.len(), &lines[0][..]), (3, &["code", "salt"][..]));
    assert!(
        lines[1..]
            .iter()
            .all(|line| line.iter().all(|field| field.len() == 64))
    );
    assert!(!text.contains("11010519491231002X"));
    let (code, _, said) = run(&[
        [
            "code",
            "issue",
            "--key",
            &office.authority,
            "--region",
            "suzhou",
            "--count",
            "2",
        ],
        [
            "--valid-days",
            "30",
            "--out",
            &out,
            "--chain-id",
            &id,
            "--node",
            &node.url,
        ],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect::<Vec<_>>());
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("was written with --holders"), "{said}");
}

#[test]
fn a_holder_with_another_commitment_is_noticed_when_an_issue_goes_on() {
    let mut office = Office::new();
    let (id, out) = (office.city.id(), office.file("codes.csv", ""));
    let salt = [4; 32];
    let line = format!("code,salt\n{},{}\n", code_of(500), hex::encode(salt));
    fs::write(&out, line).unwrap();
    let issued = v1::CodeState {
        sequence: 1,
        region: "suzhou".to_owned(),
        holder: holder_commitment(&salt, b"11X").to_bytes(),
        ..Default::default()
    };
    office
        .city
        .put(code::NAMESPACE, &code_of(500).0, canonical::encode(&issued));
    office.keys.push((code::NAMESPACE, code_of(500).0.to_vec()));
    let node = office.node(&[]);
    let issue = |number: &str| {
        let people = office.file("people.csv", &format!("id_card\n{number}\n"));
        let issue = [
            ["--key", &office.authority],
            ["--region", "suzhou"],
            ["--holders", &people],
            ["--valid-days", "30"],
            ["--out", &out],
            ["--chain-id", &id],
            ["--node", &node.url],
            ["-o", "json"],
        ];
        let issue = ["code", "issue"]
            .into_iter()
            .chain(issue.into_iter().flatten());
        run(&issue.map(str::to_owned).collect::<Vec<_>>())
    };
    let (code, printed, said) = issue("11X");
    assert_eq!(
        (code, &printed["holders"], &printed["entries"]),
        (0, &1.into(), &0.into()),
        "{said}"
    );
    let (code, _, said) = issue("12X");
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("not for the holder that --holders names"),
        "{said}"
    );
}
