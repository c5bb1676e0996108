//! The leader is killed while the winners are published; nothing that was acknowledged may be lost.
//!
//! What holds here: the publishing command runs through the crash without being told of it. While
//! it does, a witness records small documents without pause, and keeps what was acknowledged. Where
//! the policy needs every member, the leader is started again at once, for nothing is certified
//! without it. In the end the node that was killed and the one that leads must both have all of it, where it was.

use std::cell::Cell;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::time::sleep;

use super::story::{Acknowledged, Story};
use crate::admin::Admin;
use crate::cairn::{Answer, Cairn, Field, args};
use crate::cluster::Cluster;
use crate::steps::count;

/// Between two looks at the leader's log.
const LOOK: Duration = Duration::from_millis(2);
/// A publication that shows nothing within this time does not run.
const PATIENCE: Duration = Duration::from_secs(60);

/// What happened to the leader.
#[derive(Debug, Serialize)]
pub struct Crash {
    pub killed: u64,
    /// Whether it was started again right away: nothing is certified without it.
    pub needed: bool,
    pub next_leader: u64,
    /// Results that the others had when the leader was killed.
    pub batches_before: u64,
    /// From the kill to the next certified block of the others.
    pub certified_again_s: f64,
    /// From its start to the others' height.
    pub caught_up_s: f64,
    pub acknowledged_entries: usize,
    pub all_found: bool,
}

/// Publishes, and kills the leader as soon as the first results are recorded.
pub async fn publish(
    story: &mut Story,
    cluster: &mut Cluster,
    command: Vec<OsString>,
) -> anyhow::Result<(Answer, Crash)> {
    let done = Cell::new(false);
    let killed = Cell::new(false);
    let (published, crashed, witnessed) = tokio::join!(
        async {
            let answer = story.cairn.shown(command).await;
            done.set(true);
            answer
        },
        async {
            let crash = kill(cluster, &done).await;
            killed.set(true);
            crash
        },
        witness(story, &killed, &done),
    );
    let published = published?;
    let crash = crashed?;
    story.acknowledged.extend(witnessed?);
    Ok((published, crash))
}

async fn kill(cluster: &mut Cluster, done: &Cell<bool>) -> anyhow::Result<Crash> {
    let leader = cluster.leader().await?;
    let others = cluster.plan.nodes.iter().map(|node| node.raft_id);
    let others = others.filter(|&id| id != leader);
    let mut others: Vec<Admin> = others
        .map(|id| cluster.admin(id))
        .collect::<Result<_, _>>()?;
    let Some(watched) = others.first_mut() else {
        bail!("there is only one node");
    };
    let before = watched.status().await?.tree_size;
    let began = Instant::now();
    let needed = cluster.needs_all()?;
    let mut size = before;
    while size == before && !done.get() {
        if began.elapsed() > PATIENCE {
            bail!("no results were recorded in {PATIENCE:?}");
        }
        sleep(LOOK).await;
        size = watched.status().await?.tree_size;
    }
    cluster.kill(leader)?;
    let began = Instant::now();
    let then = watched.status().await?;
    if needed {
        cluster.start(leader).await?;
    }
    let next_leader = loop {
        let status = watched.status().await?;
        // A new term has a new leader, if only the same one again.
        let certified = status.certified_height > then.certified_height;
        if certified && status.term > then.term && status.leader != 0 {
            break status.leader;
        }
        if began.elapsed() > PATIENCE {
            bail!("nothing was certified in {PATIENCE:?} after the leader was killed: {status:?}");
        }
        sleep(LOOK).await;
    };
    Ok(Crash {
        killed: leader,
        needed,
        next_leader,
        batches_before: size - before,
        certified_again_s: began.elapsed().as_secs_f64(),
        caught_up_s: 0.0,
        acknowledged_entries: 0,
        all_found: false,
    })
}

/// Records documents from the kill until the publication is done; what was acknowledged.
async fn witness(
    story: &Story,
    killed: &Cell<bool>,
    done: &Cell<bool>,
) -> anyhow::Result<Vec<Acknowledged>> {
    let mut seen = Vec::new();
    for number in 1.. {
        let path = story.layout.lottery(&format!("witness-{number}.txt"));
        std::fs::write(&path, format!("the witness's note {number}\n"))?;
        let key = story.layout.key("organiser");
        let record = args!["evidence", "record", "--key", key, "--file", path];
        let answer = story.cairn.run(record).await?;
        seen.push(Acknowledged {
            what: format!("the witness's note {number}"),
            entry_id: Field(&answer, "entry_id").text()?,
            leaf_index: Field(&answer, "leaf_index").number()?,
        });
        if done.get() && killed.get() {
            break;
        }
    }
    Ok(seen)
}

/// Starts the killed node again if it does not run, waits until it has caught up, and looks for everything that was
/// acknowledged, there and at the leader.
pub async fn recover(
    story: &mut Story,
    cluster: &mut Cluster,
    mut crash: Crash,
) -> anyhow::Result<Crash> {
    let began = Instant::now();
    story.steps.busy("looking at the killed node again", false);
    let height = cluster
        .admin(crash.next_leader)?
        .status()
        .await?
        .certified_height;
    if !crash.needed {
        cluster.start(crash.killed).await?;
    }
    cluster.node_caught_up(crash.killed, height).await?;
    crash.caught_up_s = began.elapsed().as_secs_f64();
    for id in [crash.killed, crash.next_leader] {
        let node = cluster.plan.nodes.iter().find(|node| node.raft_id == id);
        let node = node.with_context(|| format!("no node {id}"))?;
        let urls = [format!("http://{}", node.ports.grpc)];
        let one = story.offline.online(&urls, &story.plan.chain_id);
        for entry in &story.acknowledged {
            find(&one, entry)
                .await
                .with_context(|| format!("node {id} lost {}", entry.what))?;
        }
    }
    story.cairn.run(args!["checkpoint", "compare"]).await?;
    crash.acknowledged_entries = story.acknowledged.len();
    crash.all_found = true;
    let detail = format!(
        "node {} was killed with {} recorded{}; node {} led on, certified again after {:.2} s; \
         back and level after {:.2} s; all {} acknowledged entries are in their places",
        crash.killed,
        count(crash.batches_before, "batch", "batches"),
        match crash.needed {
            true => " and started again at once, since all institutions have to cosign",
            false => "",
        },
        crash.next_leader,
        crash.certified_again_s,
        crash.caught_up_s,
        crash.acknowledged_entries,
    );
    story.steps.done_since("leader killed", detail, began);
    Ok(crash)
}

async fn find(cairn: &Cairn, entry: &Acknowledged) -> anyhow::Result<()> {
    let found = cairn.run(args!["entry", "get", entry.entry_id]).await?;
    Field(&found, "leaf_index").is(entry.leaf_index)
}
