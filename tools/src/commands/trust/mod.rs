//! `cairn trust`: the file from which a gate with no network knows who certifies.
//!
//! What holds here: a file is believed only as far as it proves itself from its genesis, before it
//! is written and whenever it is read; with --chain-id or --genesis, that must be the ledger that
//! you trust. What stays out: what is in such a file (`cairn_ledger::trust`).

mod export;
mod update;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cairn_ledger::hash::Hash;
use cairn_ledger::trust::{Trust, TrustedLedger};
use clap::Subcommand;
use serde::Serialize;

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line, timestamp};
use crate::private_file;
use crate::session::pinned_chain_id;

/// What can be done with trust files.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask a node who certifies today, and write it with its proof from the genesis on
    #[command(after_help = "\
Examples:
  cairn trust export --out gate.trust --genesis genesis.bin
  cairn trust export --out gate.trust --days 7 --with nanjing.trust --genesis genesis.bin
  cairn trust export --out gate.trust --refusal suzhou/9a1c…3e --genesis genesis.bin

--with adds the ledger of another city, from a file that its institutions handed over. Whether its
passes count, and whose refusals to recognise an order, is said by the gate's policy.")]
    Export(export::Export),
    /// Verify a trust file, and show what it knows
    #[command(after_help = "\
Example:
  cairn trust show gate.trust --chain-id 5c0f…e1")]
    Show {
        /// The trust file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put a newer trust file in the place of a gate's, if it goes on where that one stands
    #[command(after_help = "\
Example:
  cairn trust update handed-over.trust --trust gate.trust

Whoever hands the file over need not be trusted: another ledger, an older file and a fork are
refused, and nothing that the gate knows is taken away.")]
    Update(update::Update),
}

/// Does what the command line says.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Export(args) => export::run(global, args).await,
        Command::Show { file } => {
            let trust = read(global, &file)?;
            output::print(global, &Shown::of(&file, &trust), Shown::table);
            Ok(())
        }
        Command::Update(args) => update::run(global, &args),
    }
}

/// Reads a trust file; it must be of the ledger that the user pinned, if any.
pub fn read(global: &Global, path: &Path) -> Result<Trust, Failure> {
    let name = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
    let trust =
        Trust::read(&bytes).map_err(|error| Failure::InvalidProof(format!("{name}: {error}")))?;
    if global.chain_id.is_some() || global.genesis.is_some() {
        let (pinned, found) = (pinned_chain_id(global)?, trust.own().chain().id);
        if pinned != found {
            return Err(Failure::InvalidProof(format!(
                "{name} is of the ledger {found}, and you pinned {pinned}"
            )));
        }
    }
    Ok(trust)
}

/// Writes a trust file whole, in the place of one that is there.
fn write(path: &Path, trust: &Trust) -> Result<(), Failure> {
    let bytes = trust.write();
    let written = private_file::write(path, |file| file.write_all(&bytes));
    written.map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

/// A trust file as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    file: String,
    not_after_ms: u64,
    /// The gate's own first.
    ledgers: Vec<Ledger>,
    refusals: Vec<RefusalShown>,
}

#[derive(Debug, Serialize)]
struct RefusalShown {
    chain_id: String,
    order_id: String,
    regions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Ledger {
    chain_id: String,
    name: String,
    epoch: u64,
    members: Vec<String>,
    height: u64,
    latest_as_of_ms: u64,
}

impl RefusalShown {
    fn of((chain_id, order_id, regions): (&Hash, &Hash, &BTreeSet<String>)) -> RefusalShown {
        RefusalShown {
            chain_id: chain_id.to_string(),
            order_id: order_id.to_string(),
            regions: regions.iter().cloned().collect(),
        }
    }
}

impl Ledger {
    fn of(ledger: &TrustedLedger) -> Ledger {
        let (newest, set) = (ledger.newest(), ledger.epochs().newest());
        let members = set.members.iter();
        Ledger {
            chain_id: ledger.chain().id.to_string(),
            name: ledger.chain().genesis.name.clone(),
            epoch: set.epoch,
            members: members.map(|member| member.institution.clone()).collect(),
            height: newest.header().height,
            latest_as_of_ms: newest.latest_as_of_ms(),
        }
    }

    fn table(&self) -> String {
        let members = self.members.join(", ");
        let (height, as_of) = (count(self.height), timestamp(self.latest_as_of_ms));
        format!(
            "{} ({})\nepoch {}: {members}\nblock {height}, latest as of {as_of}",
            self.chain_id, self.name, self.epoch
        )
    }
}

impl Shown {
    fn of(path: &Path, trust: &Trust) -> Shown {
        Shown {
            file: path.display().to_string(),
            not_after_ms: trust.not_after_ms(),
            ledgers: trust.ledgers().iter().map(Ledger::of).collect(),
            refusals: trust.refusals().iter().map(RefusalShown::of).collect(),
        }
    }

    fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("trust file", &self.file),
            line("ends", timestamp(self.not_after_ms)),
        ];
        let names = std::iter::once("own ledger").chain(std::iter::repeat("other ledger"));
        let ledgers = names.zip(&self.ledgers);
        lines.extend(ledgers.map(|(name, ledger)| line(name, ledger.table())));
        lines.extend(self.refusals.iter().map(|refusal| {
            let (order, regions) = (&refusal.order_id, refusal.regions.join(", "));
            line("refused order", format!("{order}\nby {regions}"))
        }));
        lines
    }
}
