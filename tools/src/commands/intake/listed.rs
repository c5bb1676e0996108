//! `cairn intake list`: what a journal holds, and what became of it.

use std::path::Path;

use cairn_ledger::canonical;
use cairn_ledger::intake::Fact;
use cairn_proto::v1::{self, EntryKind, RejectReason};
use serde::Serialize;

use super::file::JournalFile;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, timestamp};
use crate::submit::reject_reason;

/// A fact as it is shown.
#[derive(Debug, Serialize)]
pub struct Shown {
    record: u64,
    at_ms: u64,
    what: &'static str,
    code: String,
    state: String,
    leaf_index: Option<u64>,
}

/// Whether a fact is on the ledger.
pub fn accepted(fact: &Fact) -> bool {
    let settled = fact.settled.as_ref();
    settled.is_some_and(|settled| settled.reason() == RejectReason::Unspecified)
}

/// What a fact is, and about which code.
pub fn about(fact: &v1::IntakeFact) -> (&'static str, String) {
    let codes = match fact.kind() {
        EntryKind::CodeIssue => canonical::decode(&fact.body).map(|b: v1::CodeIssue| b.codes),
        EntryKind::CheckIn => canonical::decode(&fact.body).map(|b: v1::CheckIn| b.codes),
        _ => Ok(Default::default()),
    };
    let what = match fact.kind() {
        EntryKind::CodeIssue => "registration",
        EntryKind::CheckIn => "test",
        _ => "unknown",
    };
    (what, hex::encode(codes.unwrap_or_default()))
}

fn shown(fact: &Fact) -> Shown {
    let (what, code) = about(&fact.fact);
    let state = match (&fact.settled, &fact.handed_in) {
        (Some(_), _) if accepted(fact) => "on the ledger".to_owned(),
        (Some(settled), _) => format!("refused: {}", reject_reason(settled.reason())),
        (None, Some(_)) => "handed in".to_owned(),
        (None, None) => "waits".to_owned(),
    };
    let taken = fact.settled.as_ref().filter(|_| accepted(fact));
    Shown {
        record: fact.sequence,
        at_ms: fact.at_ms,
        what,
        code,
        state,
        leaf_index: taken.map(|settled| settled.leaf_index),
    }
}

/// Lists a journal.
pub fn run(global: &Global, path: &Path, open: bool) -> Result<(), Failure> {
    let journal = JournalFile::read(path)?;
    let facts = journal.facts.iter().filter(|fact| !open || !accepted(fact));
    let facts: Vec<Shown> = facts.map(shown).collect();
    let header = ["record", "when", "what", "code", "state"];
    output::rows(global, &facts, &header, |fact| {
        vec![
            count(fact.record),
            timestamp(fact.at_ms),
            fact.what.to_owned(),
            fact.code.clone(),
            fact.state.clone(),
        ]
    });
    Ok(())
}
