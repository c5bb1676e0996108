//! `cairn audit replay`: replays the chain from its genesis in memory and compares everything.
//!
//! What holds here: nothing of a node is trusted. Every signature is verified here, every block is
//! applied here, and header bytes, outcomes and certificates must be what the node says; so every
//! root is compared too. A certificate for another header than the one computed here ends the
//! audit. What stays out: the rules (`cairn_ledger::apply`), which nodes run as well.

use std::collections::BTreeSet;
use std::time::Instant;

use cairn_ledger::apply::{self, Applied};
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::state::MemoryState;
use cairn_ledger::{canonical, checkpoint, members};
use cairn_proto::v1;
use serde::Serialize;
use tonic::{Status, Streaming};

use crate::cli::Global;
use crate::exit::Failure;
use crate::nodes::next_message;
use crate::output::{self, count, line};
use crate::progress::{self, Bar};
use crate::session::{Patience, Session, ledger_client, passes, uncertified};

/// Replays and reports.
pub async fn run(global: &Global, until: Option<u64>) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let begun = Instant::now();
    let blocks = whole(global, &session, until, &mut |_, _| Ok(())).await?;
    let report = Report {
        seconds: (begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        ..blocks
    };
    output::print(global, &report, Report::table);
    Ok(())
}

/// Sees the state after each block.
pub type Watch<'w> = dyn FnMut(&MemoryState, &v1::Header) -> Result<(), Failure> + 'w;

/// Replays the chain up to the newest certified block, or to `until`.
pub async fn whole(
    global: &Global,
    session: &Session,
    until: Option<u64>,
    watch: &mut Watch<'_>,
) -> Result<Report, Failure> {
    let target = session.checkpoint().await?;
    let last = last_height(&target, until)?;
    let bar = progress::bar(global, last + 1, "replaying blocks");
    let mut replay = Replay::new(&session.chain, target, watch);
    replay_all(session, &mut replay, last, &bar).await?;
    bar.finish();
    Ok(replay.report())
}

fn last_height(target: &CertifiedCheckpoint, until: Option<u64>) -> Result<u64, Failure> {
    let newest = target.header().height;
    match until {
        Some(until) if until > newest => Err(Failure::NotFound(format!(
            "block {until} is not certified yet; the newest certified block is {newest}"
        ))),
        Some(until) => Ok(until),
        None => Ok(newest),
    }
}

/// Streams blocks into the replay; where a node fails, goes on with the next one.
async fn replay_all(
    session: &Session,
    replay: &mut Replay<'_, '_>,
    last: u64,
    bar: &Bar,
) -> Result<(), Failure> {
    let mut patience = Patience::new(session.timeout());
    while replay.next <= last {
        // As a request, 0 means the newest block; a chain of the genesis alone is that too.
        let request = v1::StreamBlocksRequest {
            first_height: replay.next,
            last_height: last,
        };
        let answer = session.retry("asking for blocks", async |channel| {
            ledger_client(channel).stream_blocks(request).await
        });
        let before = replay.next;
        let mut blocks = answer.await?.into_inner();
        let Some(ended) = follow(&mut blocks, replay, last, bar).await? else {
            return Ok(());
        };
        if replay.next > before {
            patience = Patience::new(session.timeout());
        }
        session
            .pass_over("asking for blocks", &ended, &mut patience)
            .await?;
    }
    Ok(())
}

/// Replays what a stream brings; what ended it, where it ended too early.
async fn follow(
    blocks: &mut Streaming<v1::StreamBlocksResponse>,
    replay: &mut Replay<'_, '_>,
    last: u64,
    bar: &Bar,
) -> Result<Option<Status>, Failure> {
    while replay.next <= last {
        match next_message(blocks).await {
            Ok(Some(message)) => {
                replay.block(&message)?;
                bar.set_position(replay.next);
            }
            Ok(None) => return Ok(Some(Status::unavailable("the node ended the stream"))),
            Err(status) if passes(&status) => return Ok(Some(status)),
            Err(status) => return Err(status.into()),
        }
    }
    Ok(None)
}

/// The chain as it was computed here.
struct Replay<'a, 'w> {
    chain: &'a Chain,
    watch: &'a mut Watch<'w>,
    /// Certified before the replay began: the chain must lead there.
    target: CertifiedCheckpoint,
    state: MemoryState,
    /// The height that comes next.
    next: u64,
    entries: u64,
    tree_size: u64,
    /// Heights whose certificates were verified.
    certified: BTreeSet<u64>,
}

impl<'a, 'w> Replay<'a, 'w> {
    fn new(chain: &'a Chain, target: CertifiedCheckpoint, watch: &'a mut Watch<'w>) -> Self {
        Replay {
            chain,
            watch,
            target,
            state: MemoryState::default(),
            next: 0,
            entries: 0,
            tree_size: 0,
            certified: BTreeSet::new(),
        }
    }

    fn block(&mut self, message: &v1::StreamBlocksResponse) -> Result<(), Failure> {
        let height = self.next;
        let at = |failure: Failure| failure.during(&format!("block {height}"));
        let missing = || Failure::Failed("the node sent no block".to_owned());
        let block = message.block.as_ref().ok_or_else(missing).map_err(at)?;
        let applied = self.apply(block).map_err(at)?;
        compare(&applied, block).map_err(at)?;
        let proposal = block.proposal.as_ref();
        self.entries += proposal.map_or(0, |proposal| proposal.entries.len() as u64);
        self.tree_size = applied.header.tree_size;
        self.state.commit(applied.writes);
        (self.watch)(&self.state, &applied.header).map_err(at)?;
        let carried = proposal.and_then(|proposal| proposal.certificate.as_ref());
        for certificate in [carried, message.checkpoint.as_ref()].into_iter().flatten() {
            self.certificate(certificate).map_err(at)?;
        }
        self.reaches_target(height, &applied.header_hash)
            .map_err(at)?;
        self.next += 1;
        Ok(())
    }

    fn apply(&self, block: &v1::Block) -> Result<Applied, Failure> {
        let applied = if self.next == 0 {
            apply::genesis_block(self.chain)
        } else {
            let header = decode_header(block)?;
            let proposal = block.proposal.clone().unwrap_or_default();
            proposal.entries.iter().try_for_each(has_its_body)?;
            apply::apply(self.chain, &self.state, &proposal, header.term, &|_| false)
        };
        applied.map_err(|error| Failure::InvalidProof(error.to_string()))
    }

    /// A certificate must be for the header that was computed here.
    fn certificate(&mut self, certificate: &v1::Checkpoint) -> Result<(), Failure> {
        // The members are those that this very replay knows.
        let header = canonical::decode::<v1::Header>(&certificate.header);
        let epoch = header
            .map_err(|error| Failure::InvalidProof(error.to_string()))?
            .epoch;
        let members = members::recorded(&self.state, epoch);
        let members = members.map_err(|error| Failure::Failed(error.to_string()))?;
        let members = members.unwrap_or_default();
        let certified = checkpoint::certify(&self.chain.id, &members, certificate);
        let certified = certified.map_err(uncertified)?;
        let height = certified.header().height;
        let ours = apply::header_at(&self.state, height);
        let ours = ours.map_err(|error| Failure::Failed(error.to_string()))?;
        let ours = ours.map(|bytes| checkpoint::header_hash(&bytes));
        if ours != Some(certified.header_hash()) {
            return Err(certified_otherwise(&certified, ours));
        }
        self.certified.insert(height);
        Ok(())
    }

    /// The checkpoint that was certified before is on this very chain.
    fn reaches_target(&self, height: u64, computed: &Hash) -> Result<(), Failure> {
        if height != self.target.header().height || *computed == self.target.header_hash() {
            return Ok(());
        }
        Err(if self.certified.contains(&height) {
            let (a, b) = (computed, self.target.header_hash());
            Failure::Fork(format!(
                "the headers {a} and {b} are both certified at this height"
            ))
        } else {
            certified_otherwise(&self.target, Some(*computed))
        })
    }

    fn report(&self) -> Report {
        Report {
            ok: true,
            blocks: self.next,
            entries: self.entries,
            certificates: self.certified.len() as u64,
            height: self.next.saturating_sub(1),
            tree_size: self.tree_size,
            seconds: 0.0,
        }
    }
}

fn certified_otherwise(certified: &CertifiedCheckpoint, ours: Option<Hash>) -> Failure {
    let (hash, height) = (certified.header_hash(), certified.header().height);
    let ours = ours.map_or("none".to_owned(), |hash| hash.to_string());
    Failure::InvalidProof(format!(
        "members certified the header {hash} at height {height}, and the replay gives {ours}"
    ))
}

fn decode_header(block: &v1::Block) -> Result<v1::Header, Failure> {
    let decoded = canonical::decode(&block.header);
    decoded.map_err(|error| Failure::InvalidProof(format!("the header is malformed: {error}")))
}

/// A body that the node withholds cannot be replayed.
fn has_its_body(entry: &v1::SignedEntry) -> Result<(), Failure> {
    let envelope = canonical::decode::<v1::Envelope>(&entry.envelope);
    let envelope = envelope.map_err(|error| Failure::InvalidProof(error.to_string()))?;
    if envelope.body_len == 0 || !entry.body.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(
        "the node withholds a restricted body, so the block cannot be replayed; ask one that shows it \
         to auditors, which is a member's admin listener: cairn audit replay --node \
         http://127.0.0.1:7501 --genesis genesis.bin (the port is \"admin\" in its node.toml)"
            .to_owned(),
    ))
}

/// What was computed here against what the node has.
fn compare(computed: &Applied, block: &v1::Block) -> Result<(), Failure> {
    if computed.outcomes != block.outcomes {
        let pairs = computed.outcomes.iter().zip(&block.outcomes);
        let same = pairs.take_while(|(a, b)| a == b).count();
        return Err(Failure::InvalidProof(format!(
            "the outcomes differ from number {} on: {} computed, {} given",
            same + 1,
            computed.outcomes.len(),
            block.outcomes.len()
        )));
    }
    if computed.header_bytes == block.header {
        return Ok(());
    }
    let theirs = decode_header(block)?;
    let fields = differing(&computed.header, &theirs).join(", ");
    Err(Failure::InvalidProof(format!(
        "the headers differ in: {fields}"
    )))
}

/// The header's fields that differ.
fn differing(ours: &v1::Header, theirs: &v1::Header) -> Vec<&'static str> {
    let fields = [
        ("chain_id", ours.chain_id != theirs.chain_id),
        ("epoch", ours.epoch != theirs.epoch),
        ("height", ours.height != theirs.height),
        ("parent_hash", ours.parent_hash != theirs.parent_hash),
        ("timestamp_ms", ours.timestamp_ms != theirs.timestamp_ms),
        ("term", ours.term != theirs.term),
        ("rules_version", ours.rules_version != theirs.rules_version),
        ("tree_size", ours.tree_size != theirs.tree_size),
        ("log_root", ours.log_root != theirs.log_root),
        ("map_root", ours.map_root != theirs.map_root),
        ("outcomes_root", ours.outcomes_root != theirs.outcomes_root),
        ("members_hash", ours.members_hash != theirs.members_hash),
        (
            "next_members_hash",
            ours.next_members_hash != theirs.next_members_hash,
        ),
        ("checkpoint", ours.checkpoint != theirs.checkpoint),
    ];
    let differing = fields.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(name, _)| name).collect()
}

/// What the replay found.
#[derive(Debug, Serialize)]
pub struct Report {
    ok: bool,
    blocks: u64,
    entries: u64,
    certificates: u64,
    /// Of the last block.
    pub height: u64,
    tree_size: u64,
    seconds: f64,
}

impl Report {
    fn table(&self) -> Vec<(String, String)> {
        vec![
            line(
                "result",
                "every header, outcome and certificate is as computed here",
            ),
            line("blocks", count(self.blocks)),
            line("entries handed in", count(self.entries)),
            line("entries in the log", count(self.tree_size)),
            line("certificates", count(self.certificates)),
            line("height", count(self.height)),
            line("seconds", self.seconds),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named() {
        let ours = v1::Header::default();
        assert!(differing(&ours, &ours).is_empty());
        let theirs = v1::Header {
            term: 3,
            map_root: vec![1].into(),
            ..v1::Header::default()
        };
        assert_eq!(differing(&ours, &theirs), ["term", "map_root"]);
    }
}
