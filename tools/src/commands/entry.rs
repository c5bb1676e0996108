//! `cairn entry`: submit entries that are signed already, and read what was recorded.
//!
//! What holds here: an entry that is shown was proven to be in the log; what only a node says
//! (states, heights) is marked as that.

use std::path::{Path, PathBuf};

use cairn_ledger::canonical;
use cairn_ledger::entry::leaf_hash;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::{self, Hash};
use cairn_ledger::log;
use cairn_ledger::verify::{self, VerifiedEntry};
use cairn_proto::v1;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use crate::certificate::Certificate;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line, timestamp};
use crate::session::{EntryKey, Session, ledger_client, parse_hash, refused};
use crate::submit::{reject_reason, state_in_words};

/// Entries in one page of a list, each with its proof.
const PAGE: u32 = 500;

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
    /// Submit a signed entry from a file: the canonical bytes of a SignedEntry
    #[command(
        after_help = "Example:\n  cairn entry submit entry.bin --wait certified --genesis \
                      genesis.bin"
    )]
    Submit {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
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
        Command::Get { entry, body_out } => get(global, &session, entry, body_out.as_deref()).await,
        Command::List { limit } => list(global, &session, limit).await,
        Command::Submit { file, wait } => submit(global, &session, &file, wait).await,
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
    file: &Path,
    wait: Wait,
) -> Result<(), Failure> {
    let name = file.display();
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
    let entry: v1::SignedEntry = canonical::decode(&bytes)
        .map_err(|error| Failure::Failed(format!("{name} is no signed entry: {error}")))?;
    let status = session.submit(&entry, wait.into()).await?;
    output::print(global, &Said::of(session, &status), Said::table);
    Ok(())
}

/// An entry as it is shown, proven but for the height and time.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// BLAKE3 of the envelope.
    pub entry_id: String,
    /// Its place in the log.
    pub leaf_index: u64,
    /// The kind of its body.
    pub kind: String,
    /// What it is about, hex, or empty.
    pub subject: String,
    /// Who may be shown the body.
    pub visibility: &'static str,
    /// Bytes of the body.
    pub body_len: u64,
    /// Its BLAKE3 hash.
    pub body_hash: String,
    /// In a block stamped later it would have been refused.
    pub not_after: String,
    /// Who signed, in which office.
    pub signers: Vec<Signer>,
}

/// One signature that was verified.
#[derive(Debug, Serialize)]
pub struct Signer {
    /// "author" or "approval".
    pub purpose: &'static str,
    /// As the genesis names the author, or empty.
    pub name: String,
    /// Ed25519.
    pub public_key: String,
}

impl Shown {
    /// Of a verified entry.
    pub fn of(chain: &Chain, entry: &VerifiedEntry) -> Shown {
        let envelope = &entry.envelope;
        let signer = |(key, purpose): &(bytes::Bytes, v1::SignaturePurpose)| Signer {
            purpose: match purpose {
                v1::SignaturePurpose::Approval => "approval",
                _ => "author",
            },
            name: author_name(chain, key),
            public_key: hex::encode(key),
        };
        Shown {
            entry_id: entry.id.to_string(),
            leaf_index: entry.leaf_index,
            kind: kind_in_words(envelope.kind()),
            subject: hex::encode(&envelope.subject),
            visibility: match envelope.visibility() {
                v1::Visibility::Public => "public",
                _ => "restricted",
            },
            body_len: envelope.body_len,
            body_hash: hex::encode(&envelope.body_hash),
            not_after: timestamp(envelope.not_after_ms),
            signers: entry.signers.iter().map(signer).collect(),
        }
    }

    /// As lines of a table.
    pub fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("entry", &self.entry_id),
            line("leaf", self.leaf_index),
            line("kind", &self.kind),
        ];
        if !self.subject.is_empty() {
            lines.push(line("about", &self.subject));
        }
        let (len, visibility) = (count(self.body_len), self.visibility);
        let body = format!("{len} bytes, {visibility}, BLAKE3 {}", self.body_hash);
        lines.push(line("body", body));
        let signer = |s: &Signer| format!("{} {} ({})", s.name, s.public_key, s.purpose);
        let signers: Vec<_> = self.signers.iter().map(signer).collect();
        lines.push(line("signed by", signers.join("\n")));
        lines
    }
}

fn author_name(chain: &Chain, key: &[u8]) -> String {
    let mut authors = chain.genesis.authors.iter();
    let author = authors.find(|author| author.public_key == key);
    author.map_or(String::new(), |author| author.name.clone())
}

/// `ENTRY_KIND_ROSTER_CHUNK` as `roster chunk`.
fn kind_in_words(kind: v1::EntryKind) -> String {
    let name = kind.as_str_name();
    let name = name.strip_prefix("ENTRY_KIND_").unwrap_or(name);
    name.to_lowercase().replace('_', " ")
}

#[derive(Debug, Serialize)]
struct Got {
    #[serde(flatten)]
    entry: Shown,
    body_shown: bool,
    height: u64,
    timestamp: String,
    certificate: Certificate,
}

impl Got {
    fn table(&self) -> Vec<(String, String)> {
        let mut lines = self.entry.table();
        if !self.body_shown {
            lines.push(line(
                "",
                "the node withholds the body: its author restricted it",
            ));
        }
        let (height, time) = (count(self.height), &self.timestamp);
        lines.push(line(
            "block",
            format!("{height} of {time}, as the node says"),
        ));
        lines.extend(self.certificate.summary());
        lines
    }
}

async fn get(
    global: &Global,
    session: &Session,
    key: EntryKey,
    body_out: Option<&Path>,
) -> Result<(), Failure> {
    let (receipt, verified) = session.receipt(key).await?;
    let found = fetch(session, verified.leaf_index).await?;
    let signed = found.entry.unwrap_or_default();
    let body_shown = verified.envelope.body_len == 0 || !signed.body.is_empty();
    if body_shown {
        verify::receipt(&session.chain, &receipt, Some(&signed.body)).map_err(refused)?;
    }
    if let Some(path) = body_out {
        write_body(path, body_shown, &signed.body)?;
    }
    let got = Got {
        entry: Shown::of(&session.chain, &verified),
        body_shown,
        height: found.height,
        timestamp: timestamp(found.timestamp_ms),
        certificate: Certificate::of(&verified.checkpoint),
    };
    output::print(global, &got, Got::table);
    Ok(())
}

fn write_body(path: &Path, shown: bool, body: &[u8]) -> Result<(), Failure> {
    if !shown {
        let message = "the node withholds the body: its author restricted it; ask an auditor's \
                       endpoint of a member with --node";
        return Err(Failure::Failed(message.to_owned()));
    }
    let written = std::fs::write(path, body);
    written.map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

/// An entry as a node gives it; without proof.
pub async fn fetch(session: &Session, leaf: u64) -> Result<v1::Entry, Failure> {
    let key = v1::get_entry_request::Key::LeafIndex(leaf);
    let request = v1::GetEntryRequest { key: Some(key) };
    let answer = session.retry("asking for an entry", async |channel| {
        ledger_client(channel).get_entry(request.clone()).await
    });
    Ok(answer.await?.into_inner().entry.unwrap_or_default())
}

/// One line of a list.
#[derive(Debug, Serialize)]
struct Listed {
    leaf_index: u64,
    entry_id: String,
    kind: String,
    height: u64,
    timestamp: String,
    author: String,
    author_name: String,
}

async fn list(global: &Global, session: &Session, limit: u64) -> Result<(), Failure> {
    let mut listed: Vec<Listed> = Vec::new();
    let mut token = String::new();
    loop {
        let left = limit.saturating_sub(listed.len() as u64);
        let size = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        if size == 0 {
            break;
        }
        let request = v1::ListEntriesRequest {
            page_size: size,
            page_token: std::mem::take(&mut token),
            without_bodies: true,
        };
        let answer = session.retry("listing entries", async |channel| {
            ledger_client(channel).list_entries(request.clone()).await
        });
        let page = answer.await?.into_inner();
        prove(session, &page.entries).await?;
        listed.extend(
            page.entries
                .iter()
                .map(|entry| Listed::of(&session.chain, entry)),
        );
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let header = ["leaf", "block", "time", "kind", "author", "entry"];
    output::rows(global, &listed, &header, Listed::row);
    Ok(())
}

/// Proves that a page's entries are in the log where the node says.
async fn prove(session: &Session, entries: &[v1::Entry]) -> Result<(), Failure> {
    let request = v1::BatchGetInclusionProofsRequest {
        leaf_indexes: entries.iter().map(|entry| entry.leaf_index).collect(),
    };
    let answer = session.retry("asking for inclusion proofs", async |channel| {
        let mut client = ledger_client(channel);
        client.batch_get_inclusion_proofs(request.clone()).await
    });
    let answer = answer.await?.into_inner();
    let checkpoint = session.certify(&answer.checkpoint.unwrap_or_default())?;
    let (size, root) = (checkpoint.header().tree_size, checkpoint.log_root());
    let unproven = |entry: &v1::Entry, why: &dyn std::fmt::Display| {
        let (node, leaf) = (session.node(), entry.leaf_index);
        Failure::InvalidProof(format!("{node} did not prove leaf {leaf}: {why}"))
    };
    for (at, entry) in entries.iter().enumerate() {
        let missing = || unproven(entry, &"the proof is missing");
        let signed = entry.entry.as_ref().ok_or_else(missing)?;
        let proof = answer.proofs.get(at).ok_or_else(missing)?;
        let leaf = leaf_hash(&signed.envelope, &signed.signatures);
        let verified = log::read_path(&proof.path)
            .and_then(|path| log::verify_inclusion(&leaf, entry.leaf_index, size, &path, root));
        verified.map_err(|error| unproven(entry, &error))?;
    }
    Ok(())
}

impl Listed {
    fn of(chain: &Chain, entry: &v1::Entry) -> Listed {
        let signed = entry.entry.clone().unwrap_or_default();
        // What is under the log's root was admitted; its envelope is canonical.
        let envelope = canonical::decode::<v1::Envelope>(&signed.envelope).unwrap_or_default();
        Listed {
            leaf_index: entry.leaf_index,
            entry_id: hash::plain(&signed.envelope).to_string(),
            kind: kind_in_words(envelope.kind()),
            height: entry.height,
            timestamp: timestamp(entry.timestamp_ms),
            author: hex::encode(&envelope.author),
            author_name: author_name(chain, &envelope.author),
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.leaf_index.to_string(),
            self.height.to_string(),
            self.timestamp.clone(),
            self.kind.clone(),
            self.author_name.clone(),
            self.entry_id.clone(),
        ]
    }
}
