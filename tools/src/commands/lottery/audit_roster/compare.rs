//! The comparison of a roster with the list of those who registered.
//!
//! What holds here: a person is found by tag, wherever the row stands, so that one missing row is
//! one finding and not a finding for every row behind it.

use std::collections::HashMap;

use cairn_ledger::lottery::roster::{self, Row};
use serde::Serialize;

use crate::commands::lottery::cohort::Cohort;
use crate::commands::lottery::receipts::Receipt;

/// Findings that are listed; the others are counted.
pub const MAX_LISTED: usize = 1_000;

/// Finds each line's row by its tag, and compares the two.
pub fn compare(
    cohort: &Cohort,
    tags: &[[u8; 32]],
    receipts: &[Option<Receipt>],
    rows: &[Row],
    findings: &mut Findings,
) {
    let by_tag: HashMap<[u8; 32], usize> = rows
        .iter()
        .enumerate()
        .map(|(at, row)| (row.tag, at))
        .collect();
    let mut wanted = vec![false; rows.len()];
    let mut last: Option<(usize, u64)> = None;
    for (person, tag) in tags.iter().enumerate() {
        let line = cohort.line(person);
        let Some(serial) = by_tag.get(tag).copied() else {
            findings.add(
                Some(line),
                None,
                "missing: no row on the ledger has this person's tag",
            );
            continue;
        };
        // The list itself has this person twice, which is told already.
        if std::mem::replace(&mut wanted[serial], true) {
            continue;
        }
        match last {
            Some((before, at)) if serial < before => findings.add(
                Some(line),
                Some(serial as u64),
                format!("moved: on the ledger this row stands before that of line {at}"),
            ),
            _ => last = Some((serial, line)),
        }
        if let Some(what) = differs(cohort, person, receipts.get(serial), &rows[serial]) {
            findings.add(Some(line), Some(serial as u64), what);
        }
    }
    for (serial, _) in wanted.iter().enumerate().filter(|(_, wanted)| !**wanted) {
        let what = "extra: nobody in the list has this row's tag";
        findings.add(None, Some(serial as u64), what);
    }
}

/// What of a person's row is not as registered.
fn differs(
    cohort: &Cohort,
    person: usize,
    receipt: Option<&Option<Receipt>>,
    row: &Row,
) -> Option<String> {
    let (tier, weight) = cohort.cell(person);
    if (row.tier, row.weight) != (tier, weight) {
        let (has, of) = (row.tier, row.weight);
        return Some(format!(
            "changed: the row is in tier {has} with {of} ticket(s), the list says tier {tier} with \
             {weight}"
        ));
    }
    let Some(receipt) = receipt.and_then(Option::as_ref) else {
        return Some(
            "there is no receipt for this row, so that nobody can show whose it is".into(),
        );
    };
    let identity = cohort.identity(person);
    if receipt.identity != identity {
        return Some("the receipt of this row is another person's".into());
    }
    let opened = roster::commitment(&receipt.salt, identity, &receipt.holder_key);
    (opened.0 != row.commitment).then(|| {
        "the row's commitment does not open with the receipt's salt, identity and holder key".into()
    })
}

/// What is not as it should be.
#[derive(Debug, Default)]
pub struct Findings {
    /// The first ones.
    pub listed: Vec<Finding>,
    /// All of them.
    pub count: usize,
}

/// One thing that is not as it should be.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Of the CSV file.
    pub line: Option<u64>,
    /// On the ledger.
    pub serial: Option<u64>,
    /// In words.
    pub what: String,
}

impl Findings {
    /// Notes one thing.
    pub fn add(&mut self, line: Option<u64>, serial: Option<u64>, what: impl Into<String>) {
        self.count += 1;
        if self.listed.len() < MAX_LISTED {
            let what = what.into();
            self.listed.push(Finding { line, serial, what });
        }
    }
}

impl Finding {
    /// As a line of a table.
    pub fn told(&self) -> String {
        let place = match (self.line, self.serial) {
            (Some(line), Some(serial)) => format!("line {line}, serial {serial}"),
            (Some(line), None) => format!("line {line}"),
            (None, Some(serial)) => format!("serial {serial}"),
            (None, None) => "somewhere".to_owned(),
        };
        format!("{place}: {}", self.what)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::commands::lottery::cohort::{ColumnNames, tests::key};
    use crate::commands::lottery::tag_files;
    use crate::commands::problems::Problems;
    use crate::key_file::Secret;

    const NOTARY: [u8; 32] = [2; 32];

    fn cohort(csv: &str) -> (Cohort, usize) {
        let names = ColumnNames {
            identity: "id".to_owned(),
            ..Default::default()
        };
        let mut problems = Problems::default();
        let cohort = Cohort::read(csv.as_bytes(), &names, &[], &key(), &mut problems).unwrap();
        (cohort, problems.count())
    }

    fn receipt(serial: u64, identity: &str) -> Receipt {
        Receipt {
            serial,
            identity: identity.as_bytes().to_vec(),
            salt: [serial as u8; 32],
            holder_key: Vec::new(),
            holder_secret: None,
        }
    }

    /// The ledger's roster of these people in this order.
    fn ledger(people: &[&str]) -> (Vec<Row>, Vec<Option<Receipt>>) {
        let receipts: Vec<Receipt> = (0..)
            .zip(people)
            .map(|(serial, id)| receipt(serial, id))
            .collect();
        let row = |receipt: &Receipt| Row {
            commitment: roster::commitment(&receipt.salt, &receipt.identity, &[]).0,
            tag: roster::tag(&NOTARY, &roster::inner_tag(&key(), &receipt.identity)),
            tier: 0,
            weight: 1,
        };
        let rows = receipts.iter().map(row).collect();
        (rows, receipts.into_iter().map(Some).collect())
    }

    fn audit(csv: &str, rows: &[Row], receipts: &[Option<Receipt>]) -> Vec<String> {
        let (cohort, _) = cohort(csv);
        let notary = Secret::new(Zeroizing::new(NOTARY));
        let tags = tag_files::blind(&notary, cohort.inner_tags());
        let mut findings = Findings::default();
        compare(&cohort, &tags, receipts, rows, &mut findings);
        findings.listed.iter().map(Finding::told).collect()
    }

    const LIST: &str = "id\na\nb\nc\nd\n";

    #[test]
    fn a_roster_as_registered_has_no_findings() {
        let (rows, receipts) = ledger(&["a", "b", "c", "d"]);
        assert!(audit(LIST, &rows, &receipts).is_empty());
    }

    #[test]
    fn a_row_that_is_missing_or_extra_is_named_and_the_others_are_not() {
        let (rows, receipts) = ledger(&["a", "c", "d"]);
        let found = audit(LIST, &rows, &receipts);
        assert_eq!(
            found,
            ["line 3: missing: no row on the ledger has this person's tag"]
        );
        let (rows, receipts) = ledger(&["a", "x", "b", "c", "d"]);
        let found = audit(LIST, &rows, &receipts);
        assert_eq!(
            found,
            ["serial 1: extra: nobody in the list has this row's tag"]
        );
    }

    #[test]
    fn a_row_that_was_moved_is_named_by_its_line() {
        let (rows, receipts) = ledger(&["a", "c", "b", "d"]);
        let found = audit(LIST, &rows, &receipts);
        let moved = "line 4, serial 1: moved: on the ledger this row stands before that of line 3";
        assert_eq!(found, [moved]);
    }

    #[test]
    fn a_person_who_is_twice_in_the_list_is_told_once() {
        let csv = "id\na\nb\na\n";
        assert_eq!(cohort(csv).1, 1);
        let (rows, receipts) = ledger(&["a", "b"]);
        assert!(
            audit(csv, &rows, &receipts).is_empty(),
            "told with the list"
        );
    }

    #[test]
    fn a_changed_row_and_a_wrong_receipt_are_named() {
        let (mut rows, mut receipts) = ledger(&["a", "b", "c", "d"]);
        rows[0].weight = 64;
        rows[1].commitment = [9; 32];
        receipts[2] = Some(receipt(2, "z"));
        receipts[3] = None;
        let found = audit(LIST, &rows, &receipts);
        let expected = [
            "line 2, serial 0: changed: the row is in tier 0 with 64 ticket(s)",
            "line 3, serial 1: the row's commitment does not open",
            "line 4, serial 2: the receipt of this row is another person's",
            "line 5, serial 3: there is no receipt for this row",
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
