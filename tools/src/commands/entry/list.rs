//! Entries in the order of the log, each proven to be there.

use cairn_ledger::entry::leaf_hash;
use cairn_ledger::genesis::Chain;
use cairn_ledger::{canonical, hash, log};
use cairn_proto::v1;
use serde::Serialize;

use super::show::{author_name, kind_in_words};
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, timestamp};
use crate::session::{Session, ledger_client};

/// Entries in one page of a list, each with its proof.
const PAGE: u32 = 500;

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

/// Lists the first entries.
pub async fn list(global: &Global, session: &Session, limit: u64) -> Result<(), Failure> {
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
    let checkpoint = session
        .certify(&answer.checkpoint.unwrap_or_default())
        .await?;
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
