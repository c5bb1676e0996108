//! A disk that fills up under load, a follower's and then the leader's.
//!
//! What holds here: the node says that its disk is full and stops or takes no part; what it still
//! answers is true; nothing is promised at it; the others go on. It refuses to start, or starts and
//! says the truth, while there is no space, and has everything again after there is.

use std::fmt;
use std::fs;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cairn_ledger::canonical;
use cairn_proto::v1;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::Client;
use super::damage::copy;
use super::dice::Dice;
use super::disk::SmallDisk;
use super::examine::{Outcome, Truth, examine};
use super::oracle::{self, Oracle};
use crate::cluster::Cluster;
use crate::layout::{Layout, bytes_below};
use crate::steps::thousands;

/// Until the disk must be full.
const FILLS: Duration = Duration::from_secs(180);
/// Until the others certify again, also when their leader is gone.
const OTHERS: Duration = Duration::from_secs(30);
/// Until the node serves or ends after a start.
const STARTS: Duration = Duration::from_secs(30);
const ANSWERS: Duration = Duration::from_secs(60);
/// So many leaders are stopped at most until the wanted node leads.
const TRIES: u32 = 24;
/// Leadership that is handed over stays among the two lowest: of members whose logs reach equally
/// far, the lowest gets it.
const HEIRS: u64 = 2;
/// Streams that fill, each in portions of so many entries, with texts of so many bytes.
const STREAMS: usize = 3;
const PORTION: usize = 200;
const TEXT: usize = 200;
/// So many of the promised entries are asked for one by one.
const ASKED: usize = 200;
/// Longer than a certificate takes once nobody writes.
const SETTLES: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);
/// How a full disk is called, in a node's words or in the system's.
const FULL: [&str; 2] = ["no space", "disk is full"];

/// How a node took it.
#[derive(Debug)]
enum Taken {
    Ended(ExitStatus),
    StoppedTakingPart,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Taken::Ended(status) => write!(f, "it ended by itself, {status}"),
            Taken::StoppedTakingPart => write!(f, "it stopped taking part, and serves reads"),
        }
    }
}

/// Fills the disk of one node.
pub async fn run(
    cluster: &mut Cluster,
    layout: &Layout,
    client: &Client,
    (oracle, dice): (&Oracle, &Dice),
    disks: &mut Vec<SmallDisk>,
    leads: bool,
) -> anyhow::Result<()> {
    let all: Vec<u64> = cluster.plan.nodes.iter().map(|node| node.raft_id).collect();
    let leader = cluster.leader().await?;
    // One that has its disk to itself as yet, and that comes to lead if it is to.
    let fit = |id: &u64| {
        let free = !disks.iter().any(|disk| disk.is_at(&layout.node_data(*id)));
        *id != leader && free && (*id <= HEIRS) == leads
    };
    let fit: Vec<u64> = all.iter().copied().filter(fit).collect();
    let victim = *dice.pick(&fit).context("no followers")?;
    let others: Vec<u64> = all.iter().copied().filter(|id| *id != victim).collect();
    let role = if leads { "leader" } else { "follower" };

    cluster.stop(victim).await?;
    let disk = move_to_small_disk(layout, victim)?;
    eprintln!("  node {victim}, the {role}: {}", disk.kind());
    disks.push(disk);
    let disk = disks.last().context("no disk")?;
    cluster.start(victim).await?;
    client.certified(&all, dice, oracle, OTHERS).await?;
    cluster.caught_up(highest(oracle)).await?;
    if leads {
        make_leader(cluster, client, (oracle, dice), victim).await?;
    }

    let began = Instant::now();
    let before = oracle.acknowledged();
    let mut fillers = JoinSet::new();
    for &at in others.iter().cycle().take(STREAMS) {
        fillers.spawn(fill(client.clone(), at, oracle.clone(), dice.fork()));
    }
    let taken = loop {
        if let Some(taken) = taken(cluster, victim)? {
            break taken;
        }
        if began.elapsed() > FILLS {
            bail!(
                "node {victim} said nothing in {FILLS:?}; {} bytes are free on its disk",
                thousands(disk.free()?)
            );
        }
        while let Some(ended) = fillers.try_join_next() {
            ended??;
        }
        sleep(LOOK).await;
    };
    let filled = began.elapsed();
    let goes_on = client.certified(&others, dice, oracle, OTHERS).await;
    let goes_on = goes_on.context("the others did not go on")?;
    fillers.shutdown().await;
    let entries = oracle.acknowledged() - before;
    let words = cluster.words(victim)?;
    let reason = reason(&words)
        .with_context(|| format!("{taken}, and it does not say that its disk is full:\n{words}"))?;
    println!(
        "disk of node {victim}, the {role}, full after {} entries in {:.1} s: {taken}; the others \
         certified after {:.2} s\n  {reason}",
        thousands(entries as u64),
        filled.as_secs_f64(),
        goes_on.as_secs_f64(),
    );

    // Behind everything that was promised, so that the others have certified all of it.
    client.certified(&others, dice, oracle, OTHERS).await?;
    let whole = *others.first().context("no others")?;
    let pair = Pair { whole, victim };
    if let Taken::StoppedTakingPart = taken {
        let asked = ask(cluster, client, oracle, pair).await?;
        refuses(client, (oracle, dice), victim).await?;
        let code = cluster.stop(victim).await?;
        println!("  while it was full: {asked:?}; writes refused; SIGTERM: exit code {code:?}");
    }
    let again = start_full(cluster, client, oracle, pair).await?;
    println!("  started while it is full: {again}");

    disk.grow()?;
    let began = Instant::now();
    cluster.start(victim).await?;
    cluster.node_caught_up(victim, highest(oracle)).await?;
    println!(
        "  with space again it had everything {:.1} s after its start",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

fn highest(oracle: &Oracle) -> u64 {
    let all = oracle.all();
    all.iter().map(|told| told.height).max().unwrap_or(0)
}

/// Moves a stopped node's folder to a disk of its own.
fn move_to_small_disk(layout: &Layout, victim: u64) -> anyhow::Result<SmallDisk> {
    let data = layout.node_data(victim);
    let before = layout.node(victim).join("before");
    fs::rename(&data, &before)?;
    fs::create_dir(&data)?;
    let image = layout.root().join(format!("disk-{victim}.img"));
    let disk = SmallDisk::mount(&data, &image, bytes_below(&before))?;
    copy(&before, &data)?;
    // There must never be two of them.
    fs::remove_dir_all(&before)?;
    Ok(disk)
}

/// Stops whoever else leads until `wanted` does. Killing them would leave it to chance, and chance is
/// against a node whose small disk is slow.
async fn make_leader(
    cluster: &mut Cluster,
    client: &Client,
    (oracle, dice): (&Oracle, &Dice),
    wanted: u64,
) -> anyhow::Result<()> {
    for _ in 0..TRIES {
        let leader = cluster.leader().await?;
        if leader == wanted {
            return Ok(());
        }
        cluster.stop(leader).await?;
        client.certified(&[wanted], dice, oracle, OTHERS).await?;
        cluster.start(leader).await?;
        client.certified(&[wanted], dice, oracle, OTHERS).await?;
        cluster.caught_up(highest(oracle)).await?;
    }
    bail!("node {wanted} did not lead after {TRIES} changes of leader")
}

/// Hands in large entries until it is dropped.
async fn fill(client: Client, at: u64, oracle: Oracle, dice: Dice) -> anyhow::Result<()> {
    let text = "x".repeat(TEXT);
    loop {
        let portion = (0..PORTION).map(|_| client.entry_with(&dice, &text));
        let portion: Vec<_> = portion.collect();
        let mut done = 0;
        while done < portion.len() {
            let (more, ended) = client.stream(at, &portion[done..], Some(&oracle)).await?;
            done += more;
            if ended.is_some() {
                sleep(LOOK).await;
            }
        }
    }
}

/// Whether the node has ended or stopped.
fn taken(cluster: &mut Cluster, victim: u64) -> anyhow::Result<Option<Taken>> {
    if let Some(status) = cluster.take_ended(victim)? {
        return Ok(Some(Taken::Ended(status)));
    }
    let stopped = cluster.words(victim)?.contains("stopped taking part");
    Ok(stopped.then_some(Taken::StoppedTakingPart))
}

/// The line in which a node names a full disk.
fn reason(words: &str) -> Option<&str> {
    let names = |line: &&str| FULL.iter().any(|full| line.to_lowercase().contains(full));
    words.lines().find(names)
}

/// A node that has everything, and the one whose disk is full.
#[derive(Debug, Clone, Copy)]
struct Pair {
    whole: u64,
    victim: u64,
}

/// What `whole` shows, once it shows as much as `victim` does: certificates reach one before another.
async fn truth(client: &Client, oracle: &Oracle, pair: Pair) -> anyhow::Result<Truth> {
    let Pair { whole, victim } = pair;
    // The last certificates are still on their way to both.
    sleep(SETTLES).await;
    let request = v1::GetCheckpointRequest::default();
    let shown = match client.connect(victim)?.get_checkpoint(request).await {
        Ok(answer) => answer.into_inner().checkpoint.context("no checkpoint")?,
        Err(_) => v1::Checkpoint::default(),
    };
    let shown = canonical::decode::<v1::Header>(&shown.header)?.height;
    let began = Instant::now();
    let headers = loop {
        let headers = oracle::headers(&mut client.ledger(whole)?, &client.chain).await?;
        if headers.len() as u64 > shown {
            break headers;
        }
        ensure!(
            began.elapsed() < OTHERS,
            "node {victim} shows block {shown}, which node {whole} does not have"
        );
        sleep(LOOK).await;
    };
    let mut told = oracle.all();
    told.sort_by_key(|told| told.leaf_index);
    let every = told.len().div_ceil(ASKED).max(1);
    Ok(Truth {
        chain: client.chain.clone(),
        told: told.into_iter().step_by(every).collect(),
        headers,
    })
}

/// Asks the node everything; a false answer is an error. What the fillers had handed in last may still
/// have become blocks after the others were asked, so an answer is false only when it differs from
/// what the others show after it, too.
async fn ask(
    cluster: &mut Cluster,
    client: &Client,
    oracle: &Oracle,
    pair: Pair,
) -> anyhow::Result<Outcome> {
    let victim = pair.victim;
    let mut ledger = client.connect(victim)?;
    let mut shown = 0;
    loop {
        let truth = truth(client, oracle, pair).await?;
        let asked = tokio::time::timeout(ANSWERS, examine(&mut ledger, &truth)).await;
        if cluster.take_ended(victim)?.is_some() {
            return Ok(Outcome::Stopped);
        }
        let asked = asked.with_context(|| format!("node {victim} hangs"))?;
        if asked.is_err() && truth.headers.len() > shown {
            shown = truth.headers.len();
            continue;
        }
        let asked = asked.with_context(|| format!("node {victim}, whose disk is full"))?;
        ensure!(asked != Outcome::Wrong, "node {victim} answers falsely");
        return Ok(asked);
    }
}

/// Nothing is promised at a node whose disk is full.
async fn refuses(
    client: &Client,
    (oracle, dice): (&Oracle, &Dice),
    victim: u64,
) -> anyhow::Result<()> {
    let (signed, told) = client.entry(dice);
    let wait_for = v1::WaitFor::Committed;
    match client
        .hand_in(victim, &signed, told, wait_for, oracle)
        .await?
    {
        Ok(told) => bail!("node {victim}, whose disk is full, promised {told:?}"),
        Err(_) => Ok(()),
    }
}

/// Starts the node without space: it says so, or what it says is true.
async fn start_full(
    cluster: &mut Cluster,
    client: &Client,
    oracle: &Oracle,
    pair: Pair,
) -> anyhow::Result<String> {
    let victim = pair.victim;
    cluster.spawn(victim)?;
    let began = Instant::now();
    loop {
        let words = cluster.words(victim)?;
        if let Some(status) = cluster.take_ended(victim)? {
            ensure!(status.code() == Some(1), "it ended with {status}:\n{words}");
            let last = words.lines().last().unwrap_or_default();
            return Ok(format!("it refuses: {last}"));
        }
        if words.contains("serving grpc=") {
            break;
        }
        ensure!(
            began.elapsed() < STARTS,
            "it hangs while starting:\n{words}"
        );
        sleep(LOOK).await;
    }
    let asked = ask(cluster, client, oracle, pair).await?;
    let code = cluster.stop(victim).await?;
    Ok(format!("it serves, {asked:?}; SIGTERM: exit code {code:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_a_name() {
        assert_eq!(
            reason("a\nthe disk is full: x\nb"),
            Some("the disk is full: x")
        );
        assert_eq!(
            reason("IO error: No space left on device"),
            Some("IO error: No space left on device")
        );
        assert_eq!(reason("all is well"), None);
    }
}
