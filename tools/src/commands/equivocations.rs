//! `cairn audit evidence`: proofs that a member cosigned two headers of one height.
//!
//! What holds here: nothing is listed or written that does not verify, and a file is verified
//! offline from the chain id alone. What stays out: how nodes come to have such proofs, and what is
//! done about them. People do that.

use std::path::{Path, PathBuf};

use cairn_ledger::equivocation::{self, Proven};
use cairn_ledger::genesis::Chain;
use cairn_proto::v1;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line, timestamp};
use crate::session::{Session, ledger_client, pinned_chain_id};

/// `cairn audit evidence`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Evidence {
    /// Also write them to this file, for anybody to verify offline
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// `cairn audit evidence …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Verify files of such proofs offline, and say whom they accuse of what; exit 10 if one does not hold
    #[command(
        after_help = "Example:\n  cairn audit evidence verify case.evidence --chain-id 5c0f…e1"
    )]
    Verify {
        /// The files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

/// One proven equivocation, in words.
#[derive(Debug, Serialize)]
struct Shown {
    institution: String,
    raft_id: u64,
    cosign_key: String,
    height: u64,
    header_hashes: [String; 2],
    cosigned_at: [String; 2],
    differs_in: Vec<&'static str>,
}

/// What a listing or a file shows.
#[derive(Debug, Serialize)]
struct Report {
    chain_id: String,
    ledger: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    equivocations: Vec<Shown>,
}

/// What it does not show, however plain it looks.
const NOT_SHOWN: &str = "whether the institution did it, lost its key, or ran its node from an old \
                         copy; and which of the two headers is the chain's";

impl Evidence {
    /// Runs the command.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        match self.command {
            Some(Command::Verify { files }) => verify(global, &files),
            None => show(global, self.out.as_deref()).await,
        }
    }
}

async fn show(global: &Global, out: Option<&Path>) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let mut kept = Vec::new();
    let mut proven = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListEquivocationsRequest {
            page_size: 0,
            page_token: page_token.clone(),
        };
        let answer = session.retry("asking for evidence", async |channel| {
            ledger_client(channel)
                .list_equivocations(request.clone())
                .await
        });
        let page = answer.await?.into_inner();
        for one in page.equivocations {
            proven.push(session.equivocation(&one).await?);
            kept.push(one);
        }
        if page.next_page_token.is_empty() || page.next_page_token == page_token {
            break;
        }
        page_token = page.next_page_token;
    }
    if let Some(path) = out.filter(|_| !kept.is_empty()) {
        write(&session, path, kept)?;
    }
    let file = out.filter(|_| !proven.is_empty());
    let file = file.map(|path| path.display().to_string());
    output::print(
        global,
        &Report::of(&session.chain, file, &proven),
        Report::table,
    );
    Ok(())
}

fn verify(global: &Global, files: &[PathBuf]) -> Result<(), Failure> {
    let pinned = pinned_chain_id(global)?;
    let mut reports = Vec::with_capacity(files.len());
    for path in files {
        let name = path.display().to_string();
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
        let verified = equivocation::verify_file(&pinned, &bytes);
        let (chain, proven) = verified
            .map_err(|error| Failure::InvalidProof(format!("{name} is no evidence: {error}")))?;
        reports.push(Report::of(&chain, Some(name), &proven));
    }
    // Only now: who reads one result reads that all of them hold.
    for report in &reports {
        output::print(global, report, Report::table);
    }
    Ok(())
}

/// Writes what was verified in this session, with what shows whose keys they were.
pub fn write(
    session: &Session,
    path: &Path,
    equivocations: Vec<v1::Equivocation>,
) -> Result<(), Failure> {
    let bytes = equivocation::write_file(&v1::EquivocationFile {
        genesis: session.chain.bytes.clone(),
        equivocations,
        epoch_changes: session.epoch_changes(),
    });
    std::fs::write(path, &bytes)
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

impl Shown {
    fn of(proven: &Proven) -> Shown {
        let [a, b] = &proven.headers;
        Shown {
            institution: proven.member.institution.clone(),
            raft_id: proven.member.raft_id,
            cosign_key: hex::encode(&proven.member.cosign_key),
            height: proven.height,
            header_hashes: proven.hashes.map(|hash| hash.to_string()),
            cosigned_at: proven.cosigned_at_ms.map(timestamp),
            differs_in: differences(a, b),
        }
    }
}

/// What the two headers disagree about, in plain words.
fn differences(a: &v1::Header, b: &v1::Header) -> Vec<&'static str> {
    let parts = [
        ("the blocks before", a.parent_hash != b.parent_hash),
        ("the time", a.timestamp_ms != b.timestamp_ms),
        ("the term of its leader", a.term != b.term),
        ("the rules", a.rules_version != b.rules_version),
        (
            "the entries that are recorded",
            a.tree_size != b.tree_size || a.log_root != b.log_root,
        ),
        ("the state", a.map_root != b.map_root),
        (
            "what became of the block's entries",
            a.outcomes_root != b.outcomes_root,
        ),
        (
            "who the members are",
            a.epoch != b.epoch
                || a.members_hash != b.members_hash
                || a.next_members_hash != b.next_members_hash,
        ),
        ("whether it is a checkpoint", a.checkpoint != b.checkpoint),
    ];
    let differing = parts.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(words, _)| words).collect()
}

impl Report {
    fn of(chain: &Chain, file: Option<String>, proven: &[Proven]) -> Report {
        Report {
            chain_id: chain.id.to_string(),
            ledger: chain.genesis.name.clone(),
            file,
            equivocations: proven.iter().map(Shown::of).collect(),
        }
    }

    fn table(&self) -> Vec<(String, String)> {
        let ledger = format!("{} ({})", self.ledger, self.chain_id);
        let mut lines = vec![line("ledger", ledger)];
        lines.extend(self.file.iter().map(|file| line("file", file)));
        if self.equivocations.is_empty() {
            lines.push(line(
                "result",
                "this node has no evidence against any member",
            ));
            return lines;
        }
        for shown in &self.equivocations {
            let (name, height) = (&shown.institution, count(shown.height));
            let [a, b] = &shown.header_hashes;
            let [at, then] = &shown.cosigned_at;
            let what = format!(
                "the key of {name} (member {}) cosigned two blocks {height}:\n{a} at {at}\n{b} at \
                 {then}\nthey differ in {}",
                shown.raft_id,
                shown.differs_in.join(", ")
            );
            lines.push(line("proven", what));
        }
        lines.push(line("it does not show", NOT_SHOWN));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_said_in_words() {
        let a = v1::Header::default();
        assert!(differences(&a, &a).is_empty());
        let b = v1::Header {
            tree_size: 3,
            map_root: vec![1].into(),
            ..v1::Header::default()
        };
        let words = ["the entries that are recorded", "the state"];
        assert_eq!(differences(&a, &b), words);
    }
}
