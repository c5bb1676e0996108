//! A lottery's public record, gathered from a node.
//!
//! What holds here: nothing is judged; what was gathered is verified by `record` just as a file's
//! content is. The record ends where the state that it begins with does. What stays out: which
//! entries there should be (`history`).

use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::{ATTEMPT_NAMESPACE, attempt_key};
use cairn_proto::v1;

use super::record::kind_of;
use super::state::Proven;
use crate::cli::Global;
use crate::exit::Failure;
use crate::progress;
use crate::session::{Session, ledger_client};

/// Proofs in one answer: the most that a node gives.
const PROOFS: usize = 1_000;

/// Gathers the record of a lottery as it stands at the node that is asked.
pub async fn fetch(
    global: &Global,
    session: &Session,
    id: &Hash,
) -> Result<v1::LotteryFile, Failure> {
    let lottery = Proven::read(session, id).await?;
    let mut attempts = Vec::new();
    for void in &lottery.state.voids {
        let key = attempt_key(id, void.attempt);
        let (receipt, _) = session.map_receipt(ATTEMPT_NAMESPACE, &key).await?;
        attempts.push(receipt);
    }
    let entries = entries(global, session, &lottery).await?;
    Ok(v1::LotteryFile {
        genesis: session.chain.bytes.clone(),
        attempts,
        pages: prove(session, entries).await?,
        lottery: Some(lottery.receipt),
    })
}

/// An accepted entry of the lottery, and its place in the log.
type Placed = (u64, v1::SignedEntry);

/// What the blocks from the opening to the state hold of the lottery.
async fn entries(
    global: &Global,
    session: &Session,
    lottery: &Proven,
) -> Result<Vec<Placed>, Failure> {
    let first_height = open_height(session, lottery).await?;
    let last_height = lottery.checkpoint.header().height;
    let bar = progress::bar(
        global,
        last_height - first_height.min(last_height),
        "blocks",
    );
    let request = v1::StreamBlocksRequest {
        first_height,
        last_height,
    };
    let stream = session.retry("reading the lottery's blocks", async |channel| {
        let mut client = ledger_client(channel);
        client.stream_blocks(request).await
    });
    let mut blocks = stream.await?.into_inner();
    let mut found = Vec::new();
    let mut done = 0;
    while let Some(answer) = blocks.message().await? {
        let block = answer.block.unwrap_or_default();
        let entries = block.proposal.unwrap_or_default().entries;
        for (signed, outcome) in entries.into_iter().zip(block.outcomes) {
            let accepted = outcome.rejected() == v1::RejectReason::Unspecified;
            if accepted && kind_of(&signed, &lottery.id).is_some() {
                found.push((outcome.leaf_index, signed));
            }
        }
        done += 1;
        bar.set_position(done);
    }
    bar.finish();
    Ok(found)
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

/// The entries with their paths in the log.
async fn prove(session: &Session, entries: Vec<Placed>) -> Result<Vec<v1::LotteryPage>, Failure> {
    let mut pages = Vec::new();
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let page: Vec<Placed> = entries.by_ref().take(PROOFS).collect();
        let request = v1::BatchGetInclusionProofsRequest {
            leaf_indexes: page.iter().map(|(leaf, _)| *leaf).collect(),
        };
        let answer = session.retry("asking for inclusion proofs", async |channel| {
            let mut client = ledger_client(channel);
            client.batch_get_inclusion_proofs(request.clone()).await
        });
        let answer = answer.await?.into_inner();
        let checkpoint = answer.checkpoint.unwrap_or_default();
        // Learns of the members' changes up to this checkpoint.
        let epoch = session.certify(&checkpoint).await?.header().epoch;
        let changes = session.epoch_changes();
        let known = usize::try_from(epoch)
            .unwrap_or(usize::MAX)
            .min(changes.len());
        let recorded = |((_, entry), inclusion): (Placed, v1::InclusionProof)| v1::RecordedEntry {
            entry: Some(entry),
            inclusion: Some(inclusion),
        };
        pages.push(v1::LotteryPage {
            checkpoint: Some(checkpoint),
            epoch_changes: changes[..known].to_vec(),
            entries: page.into_iter().zip(answer.proofs).map(recorded).collect(),
        });
    }
    Ok(pages)
}
