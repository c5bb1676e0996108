//! `cairn audit replay`: replays the chain from its genesis in memory and compares everything.
//!
//! What holds here: nothing of a node is trusted. Every signature is verified here, every block is
//! applied here, and header bytes, outcomes and certificates must be what the node says; so every
//! root is compared too. A certificate for another header than the one computed here ends the
//! audit. What stays out: the rules (`cairn_ledger::apply`), which nodes run as well.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cairn_ledger::apply::{self, Applied, Kept};
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::OpenRosters;
use cairn_ledger::map::Warm;
use cairn_ledger::state::MemoryState;
use cairn_ledger::{canonical, checkpoint, members};
use cairn_proto::v1;
use serde::Serialize;
use tonic::Status;

use super::bodies::Bodies;
use crate::cli::Global;
use crate::exit::Failure;
use crate::nodes::next_message;
use crate::output::{self, count, line};
use crate::progress::{self, Bar};
use crate::session::{Patience, Session, ledger_client, passes, uncertified};
use crate::system;

/// Replays the chain up to the newest certified block, or to `until`, and reports.
pub async fn run(global: &Global, until: Option<u64>, bodies: &Bodies) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let begun = Instant::now();
    let target = session.checkpoint().await?;
    let last = last_height(&target, until)?;
    let bar = progress::bar(global, last + 1, "replaying blocks");
    let mut replay = Replay::new(&session.chain, target);
    replay_all(&session, &mut replay, bodies, last, &bar).await?;
    bar.finish();
    output::print(global, &replay.report(begun.elapsed()), Report::table);
    Ok(())
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
    replay: &mut Replay<'_>,
    bodies: &Bodies,
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
        let ended = loop {
            match next_message(&mut blocks).await {
                Ok(Some(message)) => replay.take(session, bodies, message).await?,
                Ok(None) => break Status::unavailable("the node ended the stream"),
                Err(status) if passes(&status) => break status,
                Err(status) => return Err(status.into()),
            }
            bar.set_position(replay.next);
            if replay.next > last {
                return Ok(());
            }
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

/// The chain as it was computed here.
struct Replay<'a> {
    chain: &'a Chain,
    /// Certified before the replay began: the chain must lead there.
    target: CertifiedCheckpoint,
    state: MemoryState,
    /// Kept from block to block, for one chunk more must not read the whole roster again.
    rosters: OpenRosters,
    /// The height that comes next.
    next: u64,
    entries: u64,
    tree_size: u64,
    /// Heights whose certificates were verified.
    certified: BTreeSet<u64>,
}

impl<'a> Replay<'a> {
    fn new(chain: &'a Chain, target: CertifiedCheckpoint) -> Self {
        Replay {
            chain,
            target,
            state: MemoryState::default(),
            rosters: OpenRosters::new(&system::random()),
            next: 0,
            entries: 0,
            tree_size: 0,
            certified: BTreeSet::new(),
        }
    }

    /// Replays the next block.
    async fn take(
        &mut self,
        session: &Session,
        bodies: &Bodies,
        message: v1::StreamBlocksResponse,
    ) -> Result<(), Failure> {
        let at = format!("block {}", self.next);
        let missing = || Failure::Failed("the node sent no block".to_owned());
        let taken = async {
            let mut block = message.block.ok_or_else(missing)?;
            bodies.complete(session, &mut block).await?;
            self.block(&block, message.checkpoint.as_ref())
        };
        taken.await.map_err(|failure: Failure| failure.during(&at))
    }

    fn block(
        &mut self,
        block: &v1::Block,
        checkpoint: Option<&v1::Checkpoint>,
    ) -> Result<(), Failure> {
        let height = self.next;
        let applied = self.apply(block)?;
        compare(&applied, block)?;
        let proposal = block.proposal.as_ref();
        self.entries += proposal.map_or(0, |proposal| proposal.entries.len() as u64);
        self.tree_size = applied.header.tree_size;
        self.state.commit(applied.writes);
        let carried = proposal.and_then(|proposal| proposal.certificate.as_ref());
        for certificate in [carried, checkpoint].into_iter().flatten() {
            self.certificate(certificate)?;
        }
        self.reaches_target(height, &applied.header_hash)?;
        self.next += 1;
        Ok(())
    }

    fn apply(&self, block: &v1::Block) -> Result<Applied, Failure> {
        let applied = if self.next == 0 {
            apply::genesis_block(self.chain)
        } else {
            let header = decode_header(block)?;
            let proposal = block.proposal.clone().unwrap_or_default();
            // Of the map nothing is taken as read before.
            let kept = Kept {
                map: &Warm::new(0),
                rosters: &self.rosters,
            };
            let (chain, state) = (self.chain, &self.state);
            let proposal = apply::Proposal::of(chain, proposal, &|_| false);
            apply::apply(chain, state, kept, &proposal, header.term)
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

    fn report(&self, took: Duration) -> Report {
        Report {
            ok: true,
            blocks: self.next,
            entries: self.entries,
            certificates: self.certified.len() as u64,
            height: self.next.saturating_sub(1),
            tree_size: self.tree_size,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
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
struct Report {
    ok: bool,
    blocks: u64,
    entries: u64,
    certificates: u64,
    height: u64,
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
