//! `cairn intake`: a field team's journal of registrations and tests, kept without a network.
//!
//! What holds here: what is acknowledged is on the disk, signed, behind what was recorded before it;
//! sending it later is safe to repeat; the ledger's rules decide, and what they do not take is told
//! and kept. What stays out: the journal's format (`ledger::intake`).

mod file;
mod listed;
mod sync;

use std::io::{self, BufRead as _};
use std::path::PathBuf;

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::code::DAY_MS;
use cairn_ledger::intake::Said;
use cairn_proto::v1::{self, EntryKind};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line};
use crate::session::{parse_hash, pinned_chain_id};
use crate::{key_file, system};
use cairn_ledger::hash::Hash;
use file::JournalFile;

/// `cairn intake …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Begin a journal, while the ledger's id is at hand
    #[command(
        after_help = "Example:\n  cairn intake begin --journal day.journal --key station.key --region \
                      lakeside --chain-id 5c0f…e1"
    )]
    Begin(Begin),
    /// Record new codes for people who register; needs no network
    #[command(
        after_help = "Example:\n  cairn intake register --journal day.journal --key station.key --count \
                      3 --valid-days 30"
    )]
    Register(Register),
    /// Record tests or check-ins of holders who are here now; needs no network
    #[command(
        after_help = "Examples:\n  cairn intake test --journal day.journal --key station.key 9f02…aa\n  \
                      scanner | cairn intake test --journal day.journal --key station.key -"
    )]
    Test(Test),
    /// Check a journal and list what it holds; needs no network
    #[command(after_help = "Example:\n  cairn intake list --journal day.journal -o json")]
    List {
        /// The journal
        #[arg(long, value_name = "FILE")]
        journal: PathBuf,
        /// Only what is not settled, or was not taken
        #[arg(long)]
        open: bool,
    },
    /// Send what is not on the ledger yet; safe to repeat at any moment
    #[command(
        after_help = "Example:\n  cairn intake sync --journal day.journal --key station.key \
                      --authority-key district.key"
    )]
    Sync(sync::Sync),
}

/// `cairn intake begin`
#[derive(Debug, Args)]
pub struct Begin {
    /// Where the journal goes; nothing is written over
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
    /// The station's author key, which signs every record
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The region of the codes
    #[arg(long, value_name = "NAME")]
    region: String,
}

/// `cairn intake register`
#[derive(Debug, Args)]
pub struct Register {
    /// The journal
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
    /// The station's author key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// For how many people
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=4_096)
    )]
    count: u32,
    /// For how many days the codes are valid
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    valid_days: u64,
}

/// `cairn intake test`
#[derive(Debug, Args)]
pub struct Test {
    /// The journal
    #[arg(long, value_name = "FILE")]
    journal: PathBuf,
    /// The station's author key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The holders' codes, 64 hex digits each; - reads them from standard input, one a line
    #[arg(required = true, value_name = "CODE")]
    codes: Vec<String>,
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Begin(begin) => begin.run(global),
        Command::Register(register) => register.run(global),
        Command::Test(test) => test.run(global),
        Command::List { journal, open } => listed::run(global, &journal, open),
        Command::Sync(sync) => sync.run(global).await,
    }
}

#[derive(Debug, Serialize)]
struct Begun {
    journal: String,
    chain_id: String,
    region: String,
}

impl Begin {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let chain_id = pinned_chain_id(global)?;
        let station = key_file::author(&self.key)?;
        JournalFile::create(&self.journal, &station, &chain_id, self.region.clone())?;
        let begun = Begun {
            journal: self.journal.display().to_string(),
            chain_id: chain_id.to_string(),
            region: self.region,
        };
        output::print(global, &begun, |begun| {
            vec![
                line("journal", &begun.journal),
                line("ledger", &begun.chain_id),
                line("region", &begun.region),
            ]
        });
        Ok(())
    }
}

/// One record, once it is on the disk.
#[derive(Debug, Serialize)]
struct Kept {
    record: u64,
    code: String,
}

fn kept(global: &Global, record: u64, code: &[u8; 32]) {
    let kept = Kept {
        record,
        code: hex::encode(code),
    };
    output::event(global, &kept, |kept| {
        format!("record {}  {}", count(kept.record), kept.code)
    });
}

impl Register {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let station = key_file::author(&self.key)?;
        let mut file = JournalFile::open(&self.journal)?;
        for _ in 0..self.count {
            let code: [u8; 32] = system::random();
            let issue = v1::CodeIssue {
                region: file.journal.opened.region.clone(),
                codes: Bytes::copy_from_slice(&code),
                valid_until_ms: system::now_ms() + self.valid_days * DAY_MS,
                ..Default::default()
            };
            let record = file.journal.next;
            let fact = said(EntryKind::CodeIssue, canonical::encode(&issue));
            file.add(&station, [fact])?;
            kept(global, record, &code);
        }
        Ok(())
    }
}

impl Test {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let station = key_file::author(&self.key)?;
        let mut file = JournalFile::open(&self.journal)?;
        let mut one = |text: &str| -> Result<(), Failure> {
            let code: Hash = parse_hash(text.trim()).map_err(Failure::Failed)?;
            let check_in = v1::CheckIn {
                region: file.journal.opened.region.clone(),
                codes: code.to_bytes(),
                observed_at_ms: system::now_ms(),
            };
            let record = file.journal.next;
            let fact = said(EntryKind::CheckIn, canonical::encode(&check_in));
            file.add(&station, [fact])?;
            kept(global, record, &code.0);
            Ok(())
        };
        if self.codes != ["-"] {
            return self.codes.iter().try_for_each(|code| one(code));
        }
        // A scanner goes on after a line that it read wrongly.
        let (mut number, mut bad) = (0, 0);
        for line in io::stdin().lock().lines() {
            number += 1;
            let text = line.map_err(|error| Failure::Failed(format!("line {number}: {error}")))?;
            if text.trim().is_empty() {
                continue;
            }
            match one(&text) {
                Err(Failure::Failed(what)) if parse_hash(text.trim()).is_err() => {
                    bad += 1;
                    eprintln!("line {number} is not recorded: {what}");
                }
                done => done?,
            }
        }
        match bad {
            0 => Ok(()),
            bad => Err(Failure::Failed(format!("{bad} line(s) held no code"))),
        }
    }
}

fn said(kind: EntryKind, body: Bytes) -> Said {
    Said::Fact(v1::IntakeFact {
        kind: kind.into(),
        body,
    })
}
