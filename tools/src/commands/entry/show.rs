//! One recorded entry, proven to be in the log.

use std::path::Path;

use bytes::Bytes;
use cairn_ledger::genesis::Chain;
use cairn_ledger::verify::{self, VerifiedEntry};
use cairn_proto::v1;
use serde::Serialize;

use super::Missing;
use crate::certificate::Certificate;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line, timestamp};
use crate::session::{EntryKey, Session, ledger_client, refused};

/// What a verified entry says.
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
        let signer = |(key, purpose): &(Bytes, v1::SignaturePurpose)| Signer {
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

/// As the genesis names the author with this key, or empty.
pub fn author_name(chain: &Chain, key: &[u8]) -> String {
    let mut authors = chain.genesis.authors.iter();
    let author = authors.find(|author| author.public_key == key);
    author.map_or(String::new(), |author| author.name.clone())
}

/// `ENTRY_KIND_ROSTER_CHUNK` as `roster chunk`.
pub fn kind_in_words(kind: v1::EntryKind) -> String {
    let name = kind.as_str_name();
    let name = name.strip_prefix("ENTRY_KIND_").unwrap_or(name);
    name.to_lowercase().replace('_', " ")
}

#[derive(Debug, Serialize)]
struct Got {
    #[serde(flatten)]
    entry: Shown,
    body_shown: bool,
    /// Where granters had the body erased: their leaf of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased_by_leaf: Option<u64>,
    #[serde(skip)]
    missing: Option<Missing>,
    height: u64,
    timestamp: String,
    certificate: Certificate,
}

impl Got {
    fn table(&self) -> Vec<(String, String)> {
        let mut lines = self.entry.table();
        lines.extend(self.missing.map(|missing| line("", missing)));
        let (height, time) = (count(self.height), &self.timestamp);
        lines.push(line(
            "block",
            format!("{height} of {time}, as the node says"),
        ));
        lines.extend(self.certificate.summary());
        lines
    }
}

/// Shows an entry; writes its body where the user wants it.
pub async fn get(
    global: &Global,
    session: &Session,
    key: EntryKey,
    body_out: Option<&Path>,
) -> Result<(), Failure> {
    let (receipt, verified) = session.receipt(key).await?;
    let found = fetch(session, verified.leaf_index).await?;
    let signed = found.entry.unwrap_or_default();
    let body_shown = verified.envelope.body_len == 0 || !signed.body.is_empty();
    let missing = if body_shown {
        verify::receipt(&session.chain, &receipt, Some(&signed.body)).map_err(refused)?;
        None
    } else {
        Some(Missing::of(session, &verified.id).await?)
    };
    if let Some(path) = body_out {
        write_body(path, missing, &signed.body)?;
    }
    let got = Got {
        entry: Shown::of(&session.chain, &verified),
        body_shown,
        erased_by_leaf: missing.and_then(Missing::erased_by),
        missing,
        height: found.height,
        timestamp: timestamp(found.timestamp_ms),
        certificate: Certificate::of(&verified.checkpoint),
    };
    output::print(global, &got, Got::table);
    Ok(())
}

fn write_body(path: &Path, missing: Option<Missing>, body: &[u8]) -> Result<(), Failure> {
    if let Some(missing) = missing {
        return Err(Failure::Failed(missing.to_string()));
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
