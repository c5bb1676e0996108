//! `cairn intake sync`: brings a journal's facts to the ledger.
//!
//! What holds here: an entry is in the journal before it is handed in, and is handed in again as it
//! is until its outcome is known; only one whose time is over on the ledger, where it can no longer
//! be recorded, is signed anew. So a fact is recorded once, whenever this stops. A test that is older
//! than the code's status does not change it; that is told as a conflict.

use std::path::PathBuf;

use cairn_ledger::canonical;
use cairn_ledger::code::NAMESPACE;
use cairn_ledger::hash::Hash;
use cairn_ledger::intake::{Fact, Said};
use cairn_proto::v1::{self, EntryKind, EntryState, RejectReason, Visibility, WaitFor};
use clap::Args;
use ed25519_dalek::SigningKey;
use serde::Serialize;

use super::file::JournalFile;
use super::listed::{about, accepted};
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line, timestamp};
use crate::session::Session;
use crate::submit::{reject_reason, sign_entry};
use crate::{key_file, progress};

/// Facts whose entries are on their way at once: a block has room for more, and their records are
/// one write.
const AT_ONCE: usize = 64;

/// `cairn intake sync`
#[derive(Debug, Args)]
pub struct Sync {
    /// The journal
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
    /// The station's author key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The author key of the authority that issues the registered codes; without, tests alone are
    /// sent
    #[arg(long, value_name = "FILE")]
    authority_key: Option<PathBuf>,
}

/// A fact that did not do what it was recorded for.
#[derive(Debug, Serialize)]
struct Conflict {
    record: u64,
    code: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct Synced {
    recorded: u64,
    earlier: u64,
    left: u64,
    conflicts: Vec<Conflict>,
}

impl Sync {
    /// Sends everything, in the order in which it was recorded.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let station = key_file::author(&self.key)?;
        let authority = self.authority_key.as_deref().map(key_file::author);
        let authority = authority.transpose()?;
        let mut file = JournalFile::open(&self.journal)?;
        let session = Session::connect(global).await?;
        if file.journal.opened.chain_id != session.chain.id.to_bytes() {
            let (path, chain) = (self.journal.display(), session.chain.id);
            let theirs = hex::encode(&file.journal.opened.chain_id);
            return Err(Failure::Failed(format!(
                "{path} is for the ledger {theirs}, and this is {chain}; name its nodes with --node"
            )));
        }
        let signer = |fact: &Fact| match fact.fact.kind() {
            EntryKind::CodeIssue => authority.as_ref(),
            _ => Some(&station),
        };
        let facts = &file.journal.facts;
        let earlier = facts.iter().filter(|fact| fact.settled.is_some()).count() as u64;
        let waiting = facts.iter().filter(|fact| fact.settled.is_none());
        let signed = waiting.clone();
        let signed = signed.filter_map(|fact| Some((fact.clone(), signer(fact)?)));
        let ours: Vec<(Fact, &SigningKey)> = signed.collect();
        let left = (waiting.count() - ours.len()) as u64;
        let bar = progress::bar(global, ours.len() as u64, "records");
        let mut settled = Vec::new();
        for part in ours.chunks(AT_ONCE) {
            // A code must be there before its holder is tested.
            settled.extend(settle(&session, &mut file, part, &station).await?);
            bar.set_position(settled.len() as u64);
        }
        bar.finish();
        let mut synced = Synced {
            recorded: settled.iter().filter(|fact| accepted(fact)).count() as u64,
            earlier,
            left,
            conflicts: Vec::new(),
        };
        for fact in &settled {
            synced.conflicts.extend(conflict(&session, fact).await?);
        }
        output::print(global, &synced, Synced::table);
        match synced.conflicts.is_empty() {
            false => Err(Failure::Failed(format!(
                "{} record(s) did not do what they were made for: see above, and cairn intake list \
                 --open",
                synced.conflicts.len()
            ))),
            true => Ok(()),
        }
    }
}

/// Brings some facts, each with the key that signs its entry, to the ledger; gives them as they are
/// then.
async fn settle(
    session: &Session,
    file: &mut JournalFile,
    facts: &[(Fact, &SigningKey)],
    station: &SigningKey,
) -> Result<Vec<Fact>, Failure> {
    let now_ms = session.checkpoint().await?.header().timestamp_ms;
    let mut entries = Vec::new();
    let mut fresh = Vec::new();
    for (fact, key) in facts {
        let before = fact
            .handed_in
            .clone()
            .filter(|entry| !is_over(entry, now_ms));
        // One whose time is over may have been recorded before.
        let before = match (before, &fact.handed_in) {
            (None, Some(old)) if is_known(session, old).await? => Some(old.clone()),
            (before, _) => before,
        };
        entries.push(match before {
            Some(entry) => entry,
            None => {
                let entry = entry_of(session, fact, key);
                fresh.push(Said::HandedIn(v1::IntakeHandedIn {
                    fact: fact.sequence,
                    entry: Some(entry.clone()),
                }));
                entry
            }
        });
    }
    file.add(station, fresh)?;
    // First all of them into blocks, then one wait for the certificates.
    for entry in &entries {
        session.decide(entry, WaitFor::Committed).await?;
    }
    let mut settled = Vec::new();
    for ((fact, _), entry) in facts.iter().zip(&entries) {
        let status = session.decide(entry, WaitFor::Certified).await?;
        settled.push(v1::IntakeSettled {
            fact: fact.sequence,
            entry_id: status.entry_id.clone(),
            height: status.height,
            leaf_index: status.leaf_index,
            reason: status.reason().into(),
        });
    }
    file.add(station, settled.iter().cloned().map(Said::Settled))?;
    let pairs = facts.iter().zip(settled);
    let after = pairs.map(|((fact, _), settled)| Fact {
        settled: Some(settled),
        ..fact.clone()
    });
    Ok(after.collect())
}

/// Whether the ledger's time is past the entry's end, so that it can no longer be recorded.
fn is_over(entry: &v1::SignedEntry, ledger_ms: u64) -> bool {
    let envelope: Option<v1::Envelope> = canonical::decode(&entry.envelope).ok();
    envelope.is_none_or(|envelope| envelope.not_after_ms < ledger_ms)
}

async fn is_known(session: &Session, entry: &v1::SignedEntry) -> Result<bool, Failure> {
    let status = session
        .entry_status(&crate::submit::entry_id(entry))
        .await?;
    let states = [
        EntryState::Committed,
        EntryState::Certified,
        EntryState::Rejected,
    ];
    Ok(states.contains(&status.state()))
}

fn entry_of(session: &Session, fact: &Fact, key: &SigningKey) -> v1::SignedEntry {
    sign_entry(
        &session.chain,
        fact.fact.kind(),
        Visibility::Restricted,
        Default::default(),
        fact.fact.body.clone(),
        key,
        &[],
    )
}

/// Why a settled fact changed nothing, if it did not.
async fn conflict(session: &Session, fact: &Fact) -> Result<Option<Conflict>, Failure> {
    let (_, code) = about(&fact.fact);
    let conflict = |why: String| {
        let (record, code) = (fact.sequence, code.clone());
        Some(Conflict { record, code, why })
    };
    let reason = fact.settled.as_ref().map(|settled| settled.reason());
    match reason {
        Some(RejectReason::Unspecified) => {}
        Some(reason) => return Ok(conflict(format!("refused: {}", reject_reason(reason)))),
        None => return Ok(None),
    }
    let Ok(check_in) = canonical::decode::<v1::CheckIn>(&fact.fact.body) else {
        return Ok(None);
    };
    if fact.fact.kind() != EntryKind::CheckIn {
        return Ok(None);
    }
    let Some(key) = Hash::from_slice(&check_in.codes) else {
        return Ok(None);
    };
    let value = session.map_value(NAMESPACE, key.as_bytes()).await?.value;
    let state: Option<v1::CodeState> = value.and_then(|bytes| canonical::decode(&bytes).ok());
    Ok(state.and_then(|state| {
        // A code that was issued after its holder's test has no other status since.
        let changed = state.sequence > 1 && state.released_at_leaf == 0;
        let newer = changed && state.valid_from_ms > check_in.observed_at_ms;
        let at = timestamp(state.valid_from_ms);
        newer
            .then(|| conflict(format!("not counted: the code's status is newer, of {at}")))
            .flatten()
    }))
}

impl Synced {
    fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("recorded now", count(self.recorded)),
            line("settled before", count(self.earlier)),
        ];
        if self.left > 0 {
            lines.push(line(
                "left",
                format!("{} registrations: name --authority-key", count(self.left)),
            ));
        }
        let conflicts = self.conflicts.iter();
        lines.extend(conflicts.map(|conflict| {
            let (record, code) = (count(conflict.record), &conflict.code);
            line(
                "conflict",
                format!("record {record}, {code}: {}", conflict.why),
            )
        }));
        lines
    }
}
