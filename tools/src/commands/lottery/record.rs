//! The public record of a lottery: its chunks and batches, fetched from the log, each proven.
//!
//! What holds here: every entry is admitted as a node admits it (canonical, signed, bound to its
//! body), and is in the log under a certified root at the place that it claims. Which entries there
//! should be is not taken from the node: the roster's certified root says when all rows are there,
//! and the certified counts when all batches are.

use std::collections::BTreeMap;

use cairn_ledger::admission::{self, Admitted};
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::roster::{Columns, Row};
use cairn_ledger::{canonical, log};
use cairn_proto::v1::{self, EntryKind};

use super::state::Proven;
use crate::exit::Failure;
use crate::progress::Bar;
use crate::session::{Session, ledger_client};

/// Proofs in one answer: the most that a node gives.
const PROOFS: usize = 1_000;

/// What the log holds of a lottery's roster and results.
#[derive(Debug, Default)]
pub struct Record {
    /// In the order of the log.
    pub chunks: Vec<v1::RosterChunk>,
    /// In the order of the log.
    pub batches: Vec<v1::BatchResult>,
    rows: u64,
    /// Leaf hashes of all of these entries, by leaf index.
    leaves: BTreeMap<u64, Hash>,
}

impl Record {
    /// Fetches and proves all that `lottery` has.
    pub async fn fetch(
        session: &Session,
        lottery: &Proven,
        bar: &mut Bar,
    ) -> Result<Record, Failure> {
        let first_height = open_height(session, lottery).await?;
        let mut record = Record::default();
        let request = v1::StreamBlocksRequest {
            first_height,
            last_height: 0,
        };
        let stream = session.retry("reading the lottery's blocks", async |channel| {
            let mut client = ledger_client(channel);
            client.stream_blocks(request).await
        });
        let mut blocks = stream.await?.into_inner();
        while !record.is_complete(lottery) {
            let Some(answer) = blocks.message().await? else {
                return Err(record.incomplete(session, lottery));
            };
            record.take(&session.chain, lottery, answer.block.unwrap_or_default())?;
            bar.set_position(record.rows);
        }
        record.prove(session).await?;
        bar.finish();
        Ok(record)
    }

    /// Every row, in order of serial.
    pub fn rows(&self, lottery: &Proven) -> Result<Vec<Row>, Failure> {
        let tiers = lottery.rules()?.tiers.len();
        let mut rows = Vec::with_capacity(usize::try_from(self.rows).unwrap_or(0));
        for chunk in &self.chunks {
            let columns = Columns::of(chunk, tiers).map_err(|error| {
                let serial = chunk.first_serial;
                Failure::InvalidProof(format!("the chunk from serial {serial}: {error}"))
            })?;
            rows.extend(columns.rows());
        }
        Ok(rows)
    }

    fn is_complete(&self, lottery: &Proven) -> bool {
        let results = lottery.state.results.iter();
        let batches: u64 = results.map(|r| u64::from(r.batches_published)).sum();
        self.rows >= lottery.state.rows && self.batches.len() as u64 >= batches
    }

    fn incomplete(&self, session: &Session, lottery: &Proven) -> Failure {
        let (node, rows, have) = (session.node(), lottery.state.rows, self.rows);
        let (batches, id) = (self.batches.len(), lottery.id);
        Failure::InvalidProof(format!(
            "{node} showed {have} of the {rows} rows of lottery {id} and {batches} batches, fewer \
             than are certified; ask another node with --node"
        ))
    }

    /// Takes the lottery's entries that `block` accepted.
    fn take(&mut self, chain: &Chain, lottery: &Proven, block: v1::Block) -> Result<(), Failure> {
        let entries = block.proposal.unwrap_or_default().entries;
        let outcomes = block.outcomes.into_iter();
        for (signed, outcome) in entries.into_iter().zip(outcomes) {
            if outcome.rejected() != v1::RejectReason::Unspecified {
                continue;
            }
            let Some(kind) = kind_of(&signed, &lottery.id) else {
                continue;
            };
            let entry = admission::admit(chain, signed).map_err(|error| {
                let leaf = outcome.leaf_index;
                Failure::InvalidProof(format!("the entry at leaf {leaf}: {error}"))
            })?;
            self.keep(kind, &entry, outcome.leaf_index)?;
        }
        Ok(())
    }

    fn keep(&mut self, kind: EntryKind, entry: &Admitted, leaf: u64) -> Result<(), Failure> {
        let malformed =
            |error| Failure::InvalidProof(format!("the body of the entry at leaf {leaf}: {error}"));
        if kind == EntryKind::RosterChunk {
            let chunk: v1::RosterChunk = canonical::decode(entry.body()).map_err(malformed)?;
            if chunk.first_serial != self.rows {
                let (first, rows) = (chunk.first_serial, self.rows);
                return Err(Failure::InvalidProof(format!(
                    "the chunk at leaf {leaf} begins with serial {first}, and {rows} rows come \
                     before it"
                )));
            }
            self.rows += chunk.commitments.len() as u64 / 32;
            self.chunks.push(chunk);
        } else {
            let batch = canonical::decode(entry.body()).map_err(malformed)?;
            self.batches.push(batch);
        }
        self.leaves.insert(leaf, entry.leaf_hash);
        Ok(())
    }

    /// Proves that every entry is in the log where its block says.
    async fn prove(&self, session: &Session) -> Result<(), Failure> {
        let indexes: Vec<u64> = self.leaves.keys().copied().collect();
        for page in indexes.chunks(PROOFS) {
            let request = v1::BatchGetInclusionProofsRequest {
                leaf_indexes: page.to_vec(),
            };
            let answer = session.retry("asking for inclusion proofs", async |channel| {
                let mut client = ledger_client(channel);
                client.batch_get_inclusion_proofs(request.clone()).await
            });
            let answer = answer.await?.into_inner();
            let checkpoint = session
                .certify(&answer.checkpoint.unwrap_or_default())
                .await?;
            let size = checkpoint.header().tree_size;
            if answer.proofs.len() != page.len() {
                return Err(not_in_log(page[0], &"a proof is missing"));
            }
            for (leaf, proof) in page.iter().zip(&answer.proofs) {
                let path = log::read_path(&proof.path).map_err(|e| not_in_log(*leaf, &e))?;
                log::verify_inclusion(
                    &self.leaves[leaf],
                    *leaf,
                    size,
                    &path,
                    checkpoint.log_root(),
                )
                .map_err(|e| not_in_log(*leaf, &e))?;
            }
        }
        Ok(())
    }
}

fn not_in_log(leaf: u64, why: &dyn std::fmt::Display) -> Failure {
    Failure::InvalidProof(format!(
        "the entry at leaf {leaf} is not proven to be in the log: {why}"
    ))
}

/// What of the lottery an entry is; none where it is something else. Cheap, before anything is
/// verified: what is passed over here by mistake would be missing in the end.
fn kind_of(signed: &v1::SignedEntry, lottery_id: &Hash) -> Option<EntryKind> {
    let envelope: v1::Envelope = canonical::decode(&signed.envelope).ok()?;
    let ours = envelope.subject == lottery_id.as_bytes().as_slice();
    let wanted = matches!(
        envelope.kind(),
        EntryKind::RosterChunk | EntryKind::BatchResult
    );
    (ours && wanted).then(|| envelope.kind())
}

/// The block that opened the lottery: what it is made of comes after. That the node names the
/// right one needs no proof: a later one would leave rows out.
async fn open_height(session: &Session, lottery: &Proven) -> Result<u64, Failure> {
    use v1::get_entry_request::Key;
    let request = v1::GetEntryRequest {
        key: Some(Key::LeafIndex(lottery.state.open_leaf_index)),
    };
    let answer = session.retry("looking for the opening", async |channel| {
        let mut client = ledger_client(channel);
        client.get_entry(request.clone()).await
    });
    let entry = answer.await?.into_inner().entry.unwrap_or_default();
    Ok(entry.height)
}
