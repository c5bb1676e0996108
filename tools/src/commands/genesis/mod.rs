//! `cairn genesis`: the first thing that everybody agrees on, made from a plan, shown, checked.
//!
//! What holds here: what is written has passed every check that nodes make when they start. What
//! stays out: the plan's form (`plan`), the shown form (`show`) and the checks themselves (`cairn_ledger::genesis`).

pub(crate) mod plan;
mod show;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cairn_ledger::canonical;
use cairn_ledger::genesis::{Chain, GenesisError};
use clap::Subcommand;
use serde::Serialize;

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, line};
use crate::session::{self, pinned_chain_id};
use show::Shown;

/// `cairn genesis …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a genesis from a plan; refuses a policy that one institution could break
    #[command(after_help = plan::EXAMPLE)]
    New {
        /// Who takes part and under which rules, as TOML
        #[arg(long, value_name = "FILE")]
        plan: PathBuf,
        /// The genesis file; an existing one is never overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Show a genesis: its chain id, members, policy, limits, authors and mandates
    #[command(after_help = "Example:\n  cairn genesis show genesis.bin")]
    Show {
        /// The genesis file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Check a genesis, and with --chain-id that it is the one that you pinned
    #[command(after_help = "Example:\n  cairn genesis check genesis.bin --chain-id 5c0f…e1")]
    Check {
        /// The genesis file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::New { plan, out } => new(global, &plan, &out),
        Command::Show { file } => {
            let chain = session::read_genesis(&file)?;
            output::print(global, &Shown::of(&chain), Shown::table);
            Ok(())
        }
        Command::Check { file } => check(global, &file),
    }
}

#[derive(Debug, Serialize)]
struct Brief {
    chain_id: String,
    file: String,
    members: usize,
    policy: Policy,
}

#[derive(Debug, Serialize)]
struct Policy {
    threshold: u32,
    min_roles: u32,
    detect_only: bool,
}

impl Policy {
    fn of(chain: &Chain) -> Policy {
        let policy = chain.members.policy.unwrap_or_default();
        Policy {
            threshold: policy.threshold,
            min_roles: policy.min_roles,
            detect_only: policy.detect_only,
        }
    }

    fn in_words(&self, members: usize) -> String {
        let Policy {
            threshold,
            min_roles,
            ..
        } = self;
        let words = format!("{threshold} of {members} members, from at least {min_roles} roles");
        if self.detect_only {
            return format!("{words}; only detects forks: a single institution can make one");
        }
        words
    }
}

impl Brief {
    fn of(chain: &Chain, file: &Path) -> Brief {
        Brief {
            chain_id: chain.id.to_string(),
            file: file.display().to_string(),
            members: chain.members.members.len(),
            policy: Policy::of(chain),
        }
    }

    fn table(&self) -> Vec<(String, String)> {
        vec![
            line("chain id", &self.chain_id),
            line("file", &self.file),
            line("certified by", self.policy.in_words(self.members)),
        ]
    }
}

fn new(global: &Global, plan: &Path, out: &Path) -> Result<(), Failure> {
    let genesis = plan::read(plan)?;
    let bytes = canonical::encode(&genesis);
    let chain = Chain::from_bytes(&bytes).map_err(|error| refused(plan, error))?;
    write_new(out, &bytes)?;
    output::print(global, &Brief::of(&chain, out), Brief::table);
    Ok(())
}

fn refused(plan: &Path, error: GenesisError) -> Failure {
    Failure::Failed(format!("{}: {error}", plan.display()))
}

/// A genesis is never overwritten: data folders and pins refer to it.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let file = File::options().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| {
        let path = path.display();
        Failure::Failed(match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{path} is there already; name another file, or take it away first")
            }
            _ => format!("cannot write {path}: {error}"),
        })
    })
}

fn check(global: &Global, file: &Path) -> Result<(), Failure> {
    let chain = session::read_genesis(file)?;
    if global.chain_id.is_some() {
        let pinned = pinned_chain_id(global)?;
        if pinned != chain.id {
            let (file, id) = (file.display(), chain.id);
            return Err(Failure::InvalidProof(format!(
                "{file} is the genesis of {id}, not of {pinned}"
            )));
        }
    }
    output::print(global, &Brief::of(&chain, file), |brief| {
        let mut lines = brief.table();
        lines.push(line("checked", "sound; a node starts from it"));
        lines
    });
    Ok(())
}
