//! How soon something is certified again after the leader was killed.
//!
//! A sample is the time from the kill until an entry that was handed in after it, at another node,
//! is certified.

use std::time::Duration;

use super::client::Client;
use super::dice::Dice;
use super::oracle::Oracle;
use super::times::median_and_worst;
use crate::cluster::Cluster;

/// Twice the longest election timeout that nodes have by default.
const TWICE_ELECTION_MAX: Duration = Duration::from_millis(3_000);
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes so many samples and prints them.
pub async fn measure(
    cluster: &mut Cluster,
    client: &Client,
    oracle: &Oracle,
    dice: &Dice,
    samples: u32,
) -> anyhow::Result<()> {
    let all: Vec<u64> = cluster.plan.nodes.iter().map(|node| node.raft_id).collect();
    let mut times = Vec::new();
    for _ in 0..samples {
        client.certified(&all, dice, oracle, PATIENCE).await?;
        tokio::time::sleep(Duration::from_millis(200) + dice.millis(300)).await;
        let leader = cluster.leader().await?;
        let others: Vec<u64> = all.iter().copied().filter(|id| *id != leader).collect();
        cluster.kill(leader)?;
        times.push(client.certified(&others, dice, oracle, PATIENCE).await?);
        cluster.start(leader).await?;
        let told = oracle.all();
        let height = told.iter().map(|told| told.height).max().unwrap_or(0);
        cluster.caught_up(height).await?;
    }
    let (median, worst) = median_and_worst(&times);
    println!(
        "leader killed to next certified write, {samples} samples: median {:.2} s, worst {:.2} s; \
         twice election_max is {:.1} s",
        median.as_secs_f64(),
        worst.as_secs_f64(),
        TWICE_ELECTION_MAX.as_secs_f64(),
    );
    Ok(())
}
