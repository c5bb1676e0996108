//! `cairn evidence`: records that a document or recording existed, and shows whether it was.
//!
//! What holds here: only the document's hash leaves this machine. Recording a document again, after
//! a time-out or by a script, records nothing and answers with the entry that is there. What it does not show: who made
//! the document, or that what it says is true.

use std::path::PathBuf;

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::entry;
use cairn_ledger::evidence::NAMESPACE;
use cairn_ledger::hash::Hash;
use cairn_ledger::verify::VerifiedValue;
use cairn_proto::v1;
use clap::{Args, Subcommand};
use ed25519_dalek::SigningKey;
use serde::Serialize;

use crate::certificate::Certificate;
use crate::cli::Global;
use crate::commands::{lottery::document_hash, proof};
use crate::exit::Failure;
use crate::key_file;
use crate::output::{self, count, line, timestamp};
use crate::session::{EntryKey, Session, parse_hash};
use crate::submit::{draft, entry_id};

/// What nonces of evidence are derived with; nobody but this program does.
const NONCE_CONTEXT: &str = "cairn tools v1 nonce of recorded evidence";

/// `cairn evidence …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record a document's hash, once; the document stays where it is
    #[command(
        after_help = "Example:\n  cairn evidence record --key notary.key --file minutes.pdf --title \
                      \"Minutes of the draw\" --receipt minutes.proof --genesis genesis.bin"
    )]
    Record(Record),
    /// Show when a document was recorded, or the proof that it was not (exit 3)
    #[command(
        after_help = "Examples:\n  cairn evidence show --file minutes.pdf --genesis genesis.bin\n  \
                      cairn evidence show af13…49 --genesis genesis.bin"
    )]
    Show {
        /// The document's BLAKE3 hash, 64 hex digits
        #[arg(value_name = "HASH", value_parser = parse_hash, required_unless_present = "file")]
        hash: Option<Hash>,
        /// The document itself
        #[arg(long, value_name = "DOC", conflicts_with = "hash")]
        file: Option<PathBuf>,
    },
}

/// `cairn evidence record`
#[derive(Debug, Args)]
pub struct Record {
    /// The author's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The document
    #[arg(long, value_name = "DOC")]
    file: PathBuf,
    /// What kind of file it is
    #[arg(long, value_name = "TYPE", default_value = "application/octet-stream")]
    media_type: String,
    /// What it is called; everybody can read this
    #[arg(long, value_name = "TEXT", default_value = "")]
    title: String,
    /// Who keeps it; everybody can read this
    #[arg(long, value_name = "TEXT", default_value = "")]
    custodian: String,
    /// Write the receipt, a proof file, here
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Record(record) => record.run(global).await,
        Command::Show { hash, file } => {
            let hash = match (hash, file) {
                (Some(hash), _) => hash,
                (None, Some(file)) => document_hash(&file)?,
                (None, None) => return Err(Failure::Usage("HASH or --file DOC".to_owned())),
            };
            show(global, &hash).await
        }
    }
}

#[derive(Debug, Serialize)]
struct Recorded {
    entry_id: String,
    leaf_index: u64,
    height: u64,
    hash: String,
    receipt: Option<String>,
}

impl Recorded {
    fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("recorded", &self.hash),
            line("entry", &self.entry_id),
            line("leaf", self.leaf_index),
            line("block", count(self.height)),
        ];
        lines.extend(self.receipt.as_ref().map(|file| line("receipt", file)));
        lines
    }
}

impl Record {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        let key = key_file::author(&self.key)?;
        let hash = document_hash(&self.file)?;
        let session = Session::connect(global).await?;
        let found = match own_entry(&session, &hash, &key).await? {
            Some(found) => found,
            None => self.submit(&session, &hash, &key).await?,
        };
        let (receipt, verified) = session.receipt(found).await?;
        if let Some(path) = &self.receipt {
            let body = proof::body(&session, &receipt, &verified).await?;
            proof::write(path, proof::of_entry(&session.chain, receipt, body))?;
        }
        let recorded = Recorded {
            entry_id: verified.id.to_string(),
            leaf_index: verified.leaf_index,
            height: session.entry_status(&verified.id).await?.height,
            hash: hash.to_string(),
            receipt: self.receipt.map(|path| path.display().to_string()),
        };
        output::print(global, &recorded, Recorded::table);
        Ok(())
    }

    /// Records the document. One that was handed in a moment ago, by a run that did not see its
    /// end, is the same entry or is refused for it; both answer with what is recorded.
    async fn submit(
        &self,
        session: &Session,
        hash: &Hash,
        key: &SigningKey,
    ) -> Result<EntryKey, Failure> {
        let body = canonical::encode(&v1::Evidence {
            hash: hash.to_bytes(),
            media_type: self.media_type.clone(),
            title: self.title.clone(),
            custodian: self.custodian.clone(),
        });
        let (kind, visibility) = (v1::EntryKind::Evidence, v1::Visibility::Public);
        let draft = draft(&session.chain, kind, visibility, hash.to_bytes(), body);
        let draft = session.repeatable(draft, nonce(hash, key));
        let entry = entry::compose(&session.chain.id, draft, key, &[]);
        let id = entry_id(&entry);
        match session.submit(&entry, v1::WaitFor::Certified).await {
            Ok(_) => Ok(EntryKey::Id(id)),
            Err(failure) => match own_entry(session, hash, key).await {
                Ok(Some(found)) => Ok(found),
                _ => Err(failure.map(|message| {
                    format!(
                        "{message}; to see how far it is: cairn entry status {id}; running this \
                         again is safe, a document is recorded once"
                    )
                })),
            },
        }
    }
}

/// What tells this entry from others is the document and who records it.
fn nonce(hash: &Hash, key: &SigningKey) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(NONCE_CONTEXT);
    hasher.update(hash.as_bytes());
    hasher.update(key.verifying_key().as_bytes());
    let mut nonce = [0; 16];
    hasher.finalize_xof().fill(&mut nonce);
    nonce
}

#[derive(Debug, Serialize)]
struct Found {
    hash: String,
    recorded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    certificate: Certificate,
}

impl Found {
    fn of(hash: &Hash, value: &VerifiedValue) -> Result<Found, Failure> {
        let state = value.value.as_ref().map(read_state).transpose()?;
        Ok(Found {
            hash: hash.to_string(),
            recorded: state.is_some(),
            leaf_index: state.as_ref().map(|state| state.leaf_index),
            recorded_at: state.as_ref().map(|state| timestamp(state.timestamp_ms)),
            author: state.as_ref().map(|state| hex::encode(&state.author)),
            certificate: Certificate::of(&value.checkpoint),
        })
    }

    fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![line("document", &self.hash)];
        match (&self.recorded_at, self.leaf_index, &self.author) {
            (Some(time), Some(leaf), Some(author)) => lines.extend([
                line("recorded", format!("{time}, leaf {leaf}")),
                line("by", author),
            ]),
            _ => lines.push(line("recorded", "no: its absence is proven")),
        }
        lines.extend(self.certificate.summary());
        lines
    }
}

fn read_state(value: &Bytes) -> Result<v1::EvidenceState, Failure> {
    canonical::decode(value).map_err(|error| {
        Failure::InvalidProof(format!("what the map holds of the evidence: {error}"))
    })
}

/// The entry with which this key's owner recorded the document. A document that somebody else
/// recorded is not recorded again.
async fn own_entry(
    session: &Session,
    hash: &Hash,
    key: &SigningKey,
) -> Result<Option<EntryKey>, Failure> {
    let value = session.map_value(NAMESPACE, hash.as_bytes()).await?;
    let Some(state) = value.value.as_ref().map(read_state).transpose()? else {
        return Ok(None);
    };
    if state.author == key.verifying_key().as_bytes()[..] {
        return Ok(Some(EntryKey::Leaf(state.leaf_index)));
    }
    let (time, leaf) = (timestamp(state.timestamp_ms), state.leaf_index);
    let author = hex::encode(&state.author);
    Err(Failure::Failed(format!(
        "{hash} was recorded before, at {time} as leaf {leaf} by {author}; for a receipt: cairn \
         proof get entry {leaf} --out FILE"
    )))
}

async fn show(global: &Global, hash: &Hash) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let value = session.map_value(NAMESPACE, hash.as_bytes()).await?;
    let found = Found::of(hash, &value)?;
    output::print(global, &found, Found::table);
    if found.recorded {
        return Ok(());
    }
    let as_of = &found.certificate.latest_as_of;
    Err(Failure::NotFound(format!(
        "{hash} is not recorded, as of {as_of}"
    )))
}
