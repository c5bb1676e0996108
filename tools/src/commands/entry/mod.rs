//! `cairn entry`: submit entries that are signed already, and read what was recorded.
//!
//! What holds here: an entry that is shown was proven to be in the log; what only a node says
//! (states, heights) is marked as that.

mod list;
mod missing;
mod show;

use std::path::{Path, PathBuf};

use cairn_ledger::canonical;
use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line};
use crate::progress;
use crate::session::{EntryKey, Session, parse_hash};
use crate::submit::{reject_reason, state_in_words};

pub use missing::Missing;
pub use show::{Shown, author_name, fetch};

/// `cairn entry …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say how far an entry is: pending, committed, certified, rejected (as the node says)
    #[command(after_help = "Example:\n  cairn entry status 7be1…04 --genesis genesis.bin")]
    Status {
        /// The entry's id, 64 hex digits
        #[arg(value_name = "ID", value_parser = parse_hash)]
        id: Hash,
    },
    /// Show a recorded entry, proven to be in the log
    #[command(
        after_help = "Examples:\n  cairn entry get 0 --genesis genesis.bin\n  \
                      cairn entry get 7be1…04 --body-out body.bin --genesis genesis.bin"
    )]
    Get {
        /// The entry's id (64 hex digits) or its leaf index
        #[arg(value_name = "ID|LEAF")]
        entry: EntryKey,
        /// Write the body to this file
        #[arg(long, value_name = "FILE")]
        body_out: Option<PathBuf>,
    },
    /// List entries in the order of the log, each proven to be there
    #[command(after_help = "Example:\n  cairn entry list --limit 50 --genesis genesis.bin")]
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u64,
    },
    /// Submit signed entries from files, in order: each the canonical bytes of a SignedEntry
    #[command(
        after_help = "Examples:\n  cairn entry submit entry.bin --genesis genesis.bin\n  \
                      cairn entry submit first.bin second.bin --wait committed --genesis genesis.bin"
    )]
    Submit {
        /// The files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// How far it must be before this command ends
        #[arg(long, value_enum, default_value_t = Wait::Certified)]
        wait: Wait,
    },
}

/// How far an entry must be.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Wait {
    /// In a block that a majority has on disk
    Committed,
    /// Under a certified checkpoint
    Certified,
}

impl From<Wait> for v1::WaitFor {
    fn from(wait: Wait) -> v1::WaitFor {
        match wait {
            Wait::Committed => v1::WaitFor::Committed,
            Wait::Certified => v1::WaitFor::Certified,
        }
    }
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    match command {
        Command::Status { id } => status(global, &session, &id).await,
        Command::Get { entry, body_out } => {
            show::get(global, &session, entry, body_out.as_deref()).await
        }
        Command::List { limit } => list::list(global, &session, limit).await,
        Command::Submit { files, wait } => submit(global, &session, &files, wait.into()).await,
    }
}

/// What a node says of an entry.
#[derive(Debug, Serialize)]
struct Said {
    entry_id: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    node: String,
}

impl Said {
    fn of(session: &Session, status: &v1::EntryStatus) -> Said {
        use v1::EntryState::{Certified, Committed, Rejected};
        let state = status.state();
        Said {
            entry_id: hex::encode(&status.entry_id),
            state: state_in_words(state),
            height: matches!(state, Committed | Certified | Rejected).then_some(status.height),
            leaf_index: matches!(state, Committed | Certified).then_some(status.leaf_index),
            reason: (state == Rejected).then(|| reject_reason(status.reason())),
            node: session.node().to_owned(),
        }
    }

    fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![line("entry", &self.entry_id), line("state", self.state)];
        lines.extend(self.reason.map(|reason| line("reason", reason)));
        lines.extend(self.height.map(|height| line("height", count(height))));
        lines.extend(self.leaf_index.map(|leaf| line("leaf", leaf)));
        let node = &self.node;
        let word = format!("{node} says so; for a proof: cairn proof get entry ID --out FILE");
        lines.push(line("source", word));
        lines
    }

    fn row(&self) -> Vec<String> {
        let number =
            |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
        vec![
            self.entry_id.clone(),
            self.state.to_owned(),
            number(self.height),
            number(self.leaf_index),
        ]
    }
}

async fn status(global: &Global, session: &Session, id: &Hash) -> Result<(), Failure> {
    let status = session.entry_status(id).await?;
    let said = Said::of(session, &status);
    output::print(global, &said, Said::table);
    match status.state() {
        v1::EntryState::Committed | v1::EntryState::Certified => Ok(()),
        v1::EntryState::Rejected => {
            let reason = said.reason.unwrap_or_default();
            Err(Failure::Failed(format!(
                "entry {id} was refused by the rules: {reason}"
            )))
        }
        _ => Err(Failure::NotFound(format!(
            "entry {id} is not committed: {}",
            said.state
        ))),
    }
}

async fn submit(
    global: &Global,
    session: &Session,
    files: &[PathBuf],
    wait: v1::WaitFor,
) -> Result<(), Failure> {
    let entries = files.iter().map(|file| read(file));
    let entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    if let [entry] = &entries[..] {
        let status = session.submit(entry, wait).await?;
        output::print(global, &Said::of(session, &status), Said::table);
        return Ok(());
    }
    let bar = progress::bar(global, entries.len() as u64, "entries");
    let mut note = |index: usize, _: &v1::EntryStatus| bar.set_position(index as u64 + 1);
    let statuses = session.submit_all(entries, wait, &mut note).await?;
    bar.finish();
    let said: Vec<_> = statuses
        .iter()
        .map(|status| Said::of(session, status))
        .collect();
    let header = ["entry", "state", "block", "leaf"];
    output::rows(global, &said, &header, Said::row);
    Ok(())
}

fn read(file: &Path) -> Result<v1::SignedEntry, Failure> {
    let name = file.display();
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
    canonical::decode(&bytes)
        .map_err(|error| Failure::Failed(format!("{name} is no signed entry: {error}")))
}
