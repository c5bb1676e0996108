//! What clients were told, and what must therefore be true at the end.
//!
//! What holds here: an answer "committed" or "certified" is a promise. At the end every node shows
//! the entry in the place that was promised, with a proof against its certified checkpoint; the
//! listed entries are exactly the leaves under the log's root; and all nodes have the same headers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cairn_ledger::checkpoint::{self, CertifiedCheckpoint};
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::{canonical, entry, log};
use cairn_proto::v1;

use super::client::Ledger;

/// Most that one call lists or proves.
const PAGE: u32 = 1_000;

/// A promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub id: Hash,
    pub leaf_hash: Hash,
    /// The document that the entry is evidence of.
    pub document: Hash,
    pub leaf_index: u64,
    pub height: u64,
}

/// All promises so far. Clones share them.
#[derive(Debug, Clone)]
pub struct Oracle(Arc<Mutex<Heard>>);

#[derive(Debug)]
struct Heard {
    told: HashMap<Hash, Told>,
    contradictions: Vec<String>,
    certified: Instant,
    longest_gap: Duration,
}

impl Oracle {
    pub fn new() -> Oracle {
        Oracle(Arc::new(Mutex::new(Heard {
            told: HashMap::new(),
            contradictions: Vec::new(),
            certified: Instant::now(),
            longest_gap: Duration::ZERO,
        })))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client was told so.
    pub fn tell(&self, told: Told, certified: bool) {
        let heard = &mut *self.heard();
        let before = *heard.told.entry(told.id).or_insert(told);
        if before != told {
            let what = format!("one entry, two answers: {before:?}, later {told:?}");
            heard.contradictions.push(what);
        }
        if certified {
            heard.longest_gap = heard.longest_gap.max(heard.certified.elapsed());
            heard.certified = Instant::now();
        }
    }

    /// A client was told what must never be said.
    pub fn contradict(&self, what: String) {
        self.heard().contradictions.push(what);
    }

    pub fn acknowledged(&self) -> usize {
        self.heard().told.len()
    }

    pub fn all(&self) -> Vec<Told> {
        self.heard().told.values().copied().collect()
    }

    /// When something was last certified.
    pub fn last_certified(&self) -> Instant {
        self.heard().certified
    }

    /// The longest time without a certified write.
    pub fn longest_gap(&self) -> Duration {
        self.heard().longest_gap
    }

    /// Fails if answers contradicted each other.
    pub fn consistent(&self) -> anyhow::Result<()> {
        match self.heard().contradictions.first() {
            None => Ok(()),
            Some(first) => bail!("{first}"),
        }
    }
}

/// Checks everything that one node shows against the promises. The hashes of its headers.
pub async fn check(ledger: &mut Ledger, chain: &Chain, told: &[Told]) -> anyhow::Result<Vec<Hash>> {
    let request = v1::GetCheckpointRequest::default();
    let answer = ledger.get_checkpoint(request).await?.into_inner();
    let newest = certified(chain, answer.checkpoint.as_ref())?;
    let listed = list(ledger).await?;
    let (size, leaves) = (newest.header().tree_size, leaves(&listed));
    ensure!(
        size == leaves.len() as u64,
        "{size} leaves, but {} entries are listed",
        leaves.len()
    );
    ensure!(
        log::root_of(&leaves) == *newest.log_root(),
        "the listed entries are not the leaves under the log's root"
    );
    for promise in told {
        let at = usize::try_from(promise.leaf_index)?;
        let found = listed.get(at).zip(leaves.get(at));
        let (entry, leaf) = found.with_context(|| format!("lost: {promise:?}"))?;
        ensure!(
            *leaf == promise.leaf_hash && entry.height == promise.height,
            "another entry stands in the place of {promise:?}"
        );
    }
    for some in told.chunks(PAGE as usize) {
        prove(ledger, chain, some).await?;
    }
    headers(ledger, chain).await
}

fn certified(
    chain: &Chain,
    checkpoint: Option<&v1::Checkpoint>,
) -> anyhow::Result<CertifiedCheckpoint> {
    let checkpoint = checkpoint.context("no checkpoint")?;
    Ok(checkpoint::certify(&chain.id, &chain.members, checkpoint)?)
}

/// All entries that a node lists, without their bodies.
pub async fn list(ledger: &mut Ledger) -> anyhow::Result<Vec<v1::Entry>> {
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListEntriesRequest {
            page_size: PAGE,
            page_token,
            without_bodies: true,
        };
        let page = ledger.list_entries(request).await?.into_inner();
        listed.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(listed);
        }
    }
}

/// Whether the listed entries are the leaves under `root`.
pub fn is_the_log(listed: &[v1::Entry], root: &Hash) -> bool {
    log::root_of(&leaves(listed)) == *root
}

fn leaves(listed: &[v1::Entry]) -> Vec<Hash> {
    let hash = |listed: &v1::Entry| {
        let signed = listed.entry.clone().unwrap_or_default();
        entry::leaf_hash(&signed.envelope, &signed.signatures)
    };
    listed.iter().map(hash).collect()
}

/// Asks for proofs of promises and verifies them.
async fn prove(ledger: &mut Ledger, chain: &Chain, told: &[Told]) -> anyhow::Result<()> {
    let leaf_indexes = told.iter().map(|promise| promise.leaf_index).collect();
    let request = v1::BatchGetInclusionProofsRequest { leaf_indexes };
    let answer = ledger.batch_get_inclusion_proofs(request).await?;
    let answer = answer.into_inner();
    let newest = certified(chain, answer.checkpoint.as_ref())?;
    ensure!(answer.proofs.len() == told.len(), "proofs are missing");
    for (promise, proof) in told.iter().zip(&answer.proofs) {
        let (at, size) = (promise.leaf_index, newest.header().tree_size);
        let path = log::read_path(&proof.path)?;
        log::verify_inclusion(&promise.leaf_hash, at, size, &path, newest.log_root())
            .with_context(|| format!("no proof of {promise:?}"))?;
    }
    Ok(())
}

/// The hashes of a node's headers by height: each names its parent, and each certificate certifies
/// its own.
pub async fn headers(ledger: &mut Ledger, chain: &Chain) -> anyhow::Result<Vec<Hash>> {
    let request = v1::StreamBlocksRequest::default();
    let mut blocks = ledger.stream_blocks(request).await?.into_inner();
    let mut hashes = Vec::new();
    let mut parent = Hash::ZERO;
    while let Some(answer) = blocks.message().await? {
        let block = answer.block.context("no block")?;
        let header: v1::Header = canonical::decode(&block.header)?;
        ensure!(
            header.height == hashes.len() as u64 && header.parent_hash == parent.to_bytes(),
            "block {} does not follow its parent",
            header.height
        );
        parent = checkpoint::header_hash(&block.header);
        if answer.checkpoint.is_some() {
            let certificate = certified(chain, answer.checkpoint.as_ref())?;
            ensure!(
                certificate.header_hash() == parent,
                "block {} has the certificate of another",
                header.height
            );
        }
        hashes.push(parent);
    }
    Ok(hashes)
}

/// Fails unless the nodes' headers are equal as far as both have them.
pub fn same_headers(all: &[(u64, Vec<Hash>)]) -> anyhow::Result<usize> {
    let mut longest: &[Hash] = &[];
    for (id, headers) in all {
        for (height, (one, other)) in longest.iter().zip(headers).enumerate() {
            ensure!(one == other, "node {id} has another block {height}");
        }
        if headers.len() > longest.len() {
            longest = headers;
        }
    }
    Ok(longest.len())
}
