//! `cairn checkpoint`: the newest certified state, followed, and compared between nodes.
//!
//! What holds here: every checkpoint is verified before it is shown, and the log behind a later one
//! is proven to extend the one before. Two certified headers that contradict each other are a fork
//! (exit 12), which needs at least two institutions that signed both.

use std::path::{Path, PathBuf};

use cairn_ledger::canonical;
use cairn_ledger::checkpoint::{CertifiedCheckpoint, header_hash};
use cairn_ledger::equivocation;
use cairn_ledger::log;
use cairn_proto::v1;
use clap::Subcommand;
use serde::Serialize;
use tonic::Status;

use crate::certificate::{Certificate, NOT_SHOWN, list};
use crate::cli::Global;
use crate::commands::equivocations;
use crate::exit::Failure;
use crate::output::{self, count, entries, line};
use crate::session::{Patience, Session, ledger_client, passes};

/// `cairn checkpoint …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the newest certified checkpoint: roots, who cosigned, as of when
    #[command(
        after_help = "Examples:\n  cairn checkpoint show --genesis genesis.bin\n  \
                      cairn checkpoint show --held monday.bin --out tuesday.bin --genesis genesis.bin"
    )]
    Show {
        /// Also write its canonical bytes to this file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// A checkpoint that you wrote earlier: the newest one must be proven to extend it
        #[arg(long, value_name = "FILE")]
        held: Option<PathBuf>,
    },
    /// Follow certified checkpoints as they come, each proven to extend the one before
    #[command(after_help = "Example:\n  cairn checkpoint watch --count 5 --genesis genesis.bin")]
    Watch {
        /// End after so many
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Compare what nodes certify; exit 12 on a fork
    #[command(
        after_help = "Example:\n  cairn checkpoint compare --node http://10.0.0.1:7401 \
                      --node http://10.0.0.2:7401 --evidence case.evidence --genesis genesis.bin"
    )]
    Compare {
        /// On a fork, write the proofs against each member that cosigned both to this file
        #[arg(long, value_name = "FILE")]
        evidence: Option<PathBuf>,
    },
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Show { out, held } => show(global, out.as_deref(), held.as_deref()).await,
        Command::Watch { count } => watch(global, count).await,
        Command::Compare { evidence } => compare(global, evidence.as_deref()).await,
    }
}

async fn show(global: &Global, out: Option<&Path>, held: Option<&Path>) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let checkpoint = session.checkpoint().await?;
    if let Some(path) = held {
        extends_held(&session, path, &checkpoint).await?;
    }
    if let Some(path) = out {
        let bytes = canonical::encode(&checkpoint.to_proto());
        let written = std::fs::write(path, &bytes);
        written.map_err(|error| {
            Failure::Failed(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    output::print(global, &Certificate::of(&checkpoint), |certificate| {
        let mut lines = certificate.lines();
        lines.push(line("it does not show", list(&NOT_SHOWN)));
        lines
    });
    Ok(())
}

/// The newest checkpoint is on the chain of one that the user holds.
async fn extends_held(
    session: &Session,
    path: &Path,
    newest: &CertifiedCheckpoint,
) -> Result<(), Failure> {
    let name = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
    let held: v1::Checkpoint = canonical::decode(&bytes)
        .map_err(|error| Failure::InvalidProof(format!("{name} is no checkpoint: {error}")))?;
    let held = session.certify(&held).await;
    let held = held.map_err(|failure| failure.during(&name.to_string()))?;
    let (holds, has) = (held.header().height, newest.header().height);
    if has < holds {
        let node = session.node();
        return Err(Failure::NotFound(format!(
            "{node} is behind: it has certified block {has}, and {name} is of block {holds}; ask \
             again later, or another node with --node"
        )));
    }
    if let Some(theirs) = contradicting(session, &held).await? {
        return Err(fork(&held, &theirs));
    }
    extends(session, &held, newest).await
}

async fn watch(global: &Global, count: Option<u64>) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let mut patience = Patience::new(session.timeout());
    let mut last = None;
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let answer = session.retry("following checkpoints", async |channel| {
            let request = v1::WatchCheckpointsRequest {};
            ledger_client(channel).watch_checkpoints(request).await
        });
        let mut stream = answer.await?.into_inner();
        let ended = loop {
            let checkpoint = match stream.message().await {
                Ok(Some(message)) => message.checkpoint.unwrap_or_default(),
                Ok(None) => break Status::unavailable("the node ended the stream"),
                Err(status) if passes(&status) => break status,
                Err(status) => return Err(status.into()),
            };
            patience = Patience::new(session.timeout());
            if let Some(next) = newer(&session, last.as_ref(), &checkpoint).await? {
                output::event(global, &Certificate::of(&next), told);
                last = Some(next);
                left -= 1;
            }
            if left == 0 {
                return Ok(());
            }
        };
        let what = "following checkpoints";
        session.pass_over(what, &ended, &mut patience).await?;
    }
    Ok(())
}

/// The checkpoint, verified, where it is later than the last one. Another node may be behind.
async fn newer(
    session: &Session,
    last: Option<&CertifiedCheckpoint>,
    checkpoint: &v1::Checkpoint,
) -> Result<Option<CertifiedCheckpoint>, Failure> {
    let next = session.certify(checkpoint).await?;
    let Some(last) = last else {
        return Ok(Some(next));
    };
    if next.header().height < last.header().height {
        return Ok(None);
    }
    extends(session, last, &next).await?;
    Ok((next.header().height > last.header().height).then_some(next))
}

fn told(certificate: &Certificate) -> String {
    let cosigners = certificate.cosigners.iter();
    let cosigners: Vec<_> = cosigners.map(|c| c.institution.as_str()).collect();
    format!(
        "{}  height {}  {}  cosigned by {}",
        certificate.timestamp,
        count(certificate.height),
        entries(certificate.tree_size),
        cosigners.join(", ")
    )
}

/// Proves that the log of `new` begins with the log of `old`. `session` asks a node that has `new`.
pub async fn extends(
    session: &Session,
    old: &CertifiedCheckpoint,
    new: &CertifiedCheckpoint,
) -> Result<(), Failure> {
    let same_block = old.header_hash() == new.header_hash();
    if contradict(old.header(), new.header(), same_block) {
        return Err(fork(old, new));
    }
    let (old_size, new_size) = (old.header().tree_size, new.header().tree_size);
    if old_size == 0 || old_size == new_size {
        return Ok(());
    }
    let request = v1::GetConsistencyProofRequest { old_size, new_size };
    let answer = session.retry("asking for a consistency proof", async |channel| {
        ledger_client(channel).get_consistency_proof(request).await
    });
    let proof = answer.await?.into_inner().proof.unwrap_or_default();
    let verified = log::read_path(&proof.path).and_then(|path| {
        log::verify_consistency(old_size, old.log_root(), new_size, new.log_root(), &path)
    });
    verified.map_err(|error| {
        let node = session.node();
        Failure::InvalidProof(format!(
            "{node} did not prove that its log of {new_size} entries begins with the certified \
             {old_size}: {error}"
        ))
    })
}

/// Whether no chain has both headers, as one sees without asking for a proof. `old` is not above
/// `new`.
fn contradict(old: &v1::Header, new: &v1::Header, same_block: bool) -> bool {
    let (old_size, new_size) = (old.tree_size, new.tree_size);
    (old.height == new.height && !same_block)
        || new_size < old_size
        || (old_size == new_size && old.log_root != new.log_root)
}

fn fork(a: &CertifiedCheckpoint, b: &CertifiedCheckpoint) -> Failure {
    let headers = [a, b].map(|checkpoint| {
        let signers: Vec<_> = checkpoint
            .signers()
            .map(|m| m.institution.as_str())
            .collect();
        let (height, hash) = (checkpoint.header().height, checkpoint.header_hash());
        format!(
            "height {height}, header {hash}, cosigned by {}",
            signers.join(", ")
        )
    });
    Failure::Fork(format!(
        "two certified checkpoints contradict each other: {}; and {}. Whoever cosigned both \
         misbehaved: keep both (cairn checkpoint show --out FILE at each node) and tell the members",
        headers[0], headers[1]
    ))
}

#[derive(Debug, Serialize)]
struct Comparison {
    same_chain: bool,
    /// Up to this height all agree.
    height: u64,
    nodes: Vec<Seen>,
}

#[derive(Debug, Serialize)]
struct Seen {
    node: String,
    height: u64,
    tree_size: u64,
    header_hash: String,
    latest_as_of: String,
}

/// The lowest checkpoint is compared with what each other node has at its height.
async fn compare(global: &Global, evidence: Option<&Path>) -> Result<(), Failure> {
    if global.nodes.len() < 2 {
        let message = "compare needs two nodes: --node URL --node URL";
        return Err(Failure::Usage(message.to_owned()));
    }
    let mut seen = Vec::with_capacity(global.nodes.len());
    for node in &global.nodes {
        let one = Global {
            nodes: vec![node.clone()],
            ..global.clone()
        };
        let session = Session::connect(&one).await?;
        let checkpoint = session.checkpoint().await?;
        seen.push((session, checkpoint));
    }
    seen.sort_by_key(|(_, checkpoint)| checkpoint.header().height);
    let Some(((_, lowest), others)) = seen.split_first() else {
        return Ok(());
    };
    for (session, checkpoint) in others {
        if let Some(theirs) = contradicting(session, lowest).await? {
            return Err(accused(session, evidence, lowest, &theirs));
        }
        extends(session, lowest, checkpoint).await?;
    }
    let comparison = Comparison {
        same_chain: true,
        height: lowest.header().height,
        nodes: seen.iter().map(Seen::of).collect(),
    };
    output::print(global, &comparison, Comparison::table);
    Ok(())
}

/// The fork, with the evidence that both sides make together.
fn accused(
    session: &Session,
    file: Option<&Path>,
    a: &CertifiedCheckpoint,
    b: &CertifiedCheckpoint,
) -> Failure {
    let proofs = equivocation::between(a, b);
    let both = b.signers().filter(|signer| {
        let mut others = a.signers();
        others.any(|other| other.cosign_key == signer.cosign_key)
    });
    let both: Vec<_> = both.map(|member| member.institution.clone()).collect();
    let said = match file {
        _ if proofs.is_empty() => "nobody cosigned both".to_owned(),
        None => format!(
            "{} cosigned both; run it again with --evidence FILE to keep the proof",
            both.join(", ")
        ),
        Some(path) => match equivocations::write(session, path, proofs) {
            Ok(()) => format!(
                "{} cosigned both; the proof is in {}, which cairn audit evidence verify checks offline",
                both.join(", "),
                path.display()
            ),
            Err(failure) => format!("{} cosigned both, but {failure}", both.join(", ")),
        },
    };
    fork(a, b).map(|message| format!("{message}. {said}"))
}

/// What the session's node certified instead of the certified block. `None`: it has that block.
async fn contradicting(
    session: &Session,
    certified: &CertifiedCheckpoint,
) -> Result<Option<CertifiedCheckpoint>, Failure> {
    let height = certified.header().height;
    let answer = session.retry("asking for a block", async |channel| {
        let request = v1::GetBlockRequest { height };
        ledger_client(channel).get_block(request).await
    });
    let answer = answer.await?.into_inner();
    if let Some(checkpoint) = &answer.checkpoint {
        let theirs = session.certify(checkpoint).await?;
        if theirs.header().height == height && theirs.header_hash() != certified.header_hash() {
            return Ok(Some(theirs));
        }
    }
    let block = answer.block.unwrap_or_default();
    if header_hash(&block.header) == certified.header_hash() {
        return Ok(None);
    }
    let node = session.node();
    Err(Failure::InvalidProof(format!(
        "{node} has another block at height {height} than the certified one, and shows no \
         certificate for it"
    )))
}

impl Seen {
    fn of((session, checkpoint): &(Session, CertifiedCheckpoint)) -> Seen {
        let certificate = Certificate::of(checkpoint);
        Seen {
            node: session.node().to_owned(),
            height: certificate.height,
            tree_size: certificate.tree_size,
            header_hash: certificate.header_hash,
            latest_as_of: certificate.latest_as_of,
        }
    }
}

impl Comparison {
    fn table(&self) -> Vec<(String, String)> {
        let height = count(self.height);
        let same = format!("all agree up to height {height}, and every log extends the shortest");
        let mut lines = vec![line("result", same)];
        lines.extend(self.nodes.iter().map(|seen| {
            let (height, size) = (count(seen.height), entries(seen.tree_size));
            let (hash, as_of) = (&seen.header_hash, &seen.latest_as_of);
            let text = format!("height {height}, {size}, latest as of {as_of}\n{hash}");
            line(&seen.node, text)
        }));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(height: u64, tree_size: u64, root: u8) -> v1::Header {
        v1::Header {
            height,
            tree_size,
            log_root: vec![root; 32].into(),
            ..Default::default()
        }
    }

    #[test]
    fn two_certified_headers_that_no_chain_has_are_a_fork() {
        for (old, new, same, fork) in [
            (header(3, 10, 1), header(3, 10, 1), true, false),
            (header(3, 10, 1), header(3, 10, 1), false, true),
            (header(3, 10, 1), header(4, 12, 2), false, false),
            (header(3, 10, 1), header(4, 10, 1), false, false),
            (header(3, 10, 1), header(4, 10, 2), false, true),
            // A log never becomes shorter.
            (header(3, 10, 1), header(4, 9, 2), false, true),
        ] {
            assert_eq!(contradict(&old, &new, same), fork, "{old:?} {new:?}");
        }
    }
}
