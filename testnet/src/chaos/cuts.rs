//! Cut, one-way, lossy and slow lines between nodes that go on running.
//!
//! What holds here: clients reach every node at all times, so that a node which is cut off can be
//! heard making promises that it must not make. Where enough nodes hear each other, something new is
//! certified while the lines are cut; after each cut every node has everything again; both within a
//! bound.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cairn_proto::v1;
use tokio::time::sleep;

use super::client::Client;
use super::dice::Dice;
use super::net::{Losses, Net};
use super::oracle::Oracle;
use super::proxy::Proxies;
use super::times::Times;
use crate::cluster::Cluster;
use crate::layout::Layout;
use crate::plan::{self, NodePlan};

/// While enough nodes hear each other, and after a cut, something is certified within this time.
/// A connection that lost packets for seconds sends again only after seconds.
const HEALS: Duration = Duration::from_secs(30);
/// Cuts last so long at least, and so much longer at most.
const CUT: Duration = Duration::from_millis(500);
const CUT_LONGER: u64 = 5_000;
/// Of a hundred packets so many are lost at most.
const MOST_LOSS: u64 = 20;
/// So many milliseconds a slow line takes at most: with both ways and a block on the line that is
/// still below the shortest election timeout.
const MOST_DELAY: u64 = 150;
/// Every so many rounds the lines are slow instead of cut.
const SLOW: u32 = 4;
/// Where the proxies listen: this, ten times who connects, and to whom.
const PROXIES: u16 = 20_000;

/// What happens to the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    /// The leader alone, both ways.
    Leader,
    /// Some node alone, both ways.
    Node,
    Halves,
    /// Every node alone.
    All,
    /// One line, both ways.
    Line,
    /// One node hears nobody.
    Deaf,
    /// Nobody hears one node.
    Mute,
    /// One node does not hear one other.
    OneWay,
    /// All lines lose some packets.
    Lossy,
}

impl Cut {
    const ALL: [(Cut, &'static str); 9] = [
        (Cut::Leader, "the leader alone"),
        (Cut::Node, "a node alone"),
        (Cut::Halves, "halves"),
        (Cut::All, "every node alone"),
        (Cut::Line, "one line"),
        (Cut::Deaf, "a deaf node"),
        (Cut::Mute, "a mute node"),
        (Cut::OneWay, "one way of a line"),
        (Cut::Lossy, "lossy lines"),
    ];
}

/// How long it took by what was cut.
#[derive(Debug, Default)]
pub struct Measured {
    meanwhile: Times<&'static str>,
    healed: Times<&'static str>,
}

/// From whom, to whom: packets that are lost.
type Pairs = BTreeSet<(u64, u64)>;

/// Cuts lines so many times.
pub async fn storm(
    cluster: &mut Cluster,
    client: &Client,
    (net, oracle, dice): (&Net, &Oracle, &Dice),
    rounds: u32,
) -> anyhow::Result<Measured> {
    let all: Vec<u64> = cluster.plan.nodes.iter().map(|node| node.raft_id).collect();
    let needs_all = cluster.needs_all()?;
    let mut measured = Measured::default();
    for round in 0..rounds {
        // Each kind once before chance decides.
        let (cut, name) = match Cut::ALL.get(usize::try_from(round)?) {
            Some(next) => *next,
            None => *dice.pick(&Cut::ALL).context("no cuts")?,
        };
        let victim = match (cut, dice.below(2)) {
            (Cut::Leader, _) | (Cut::Deaf | Cut::Mute | Cut::OneWay, 0) => cluster.leader().await?,
            _ => *dice.pick(&all).context("no nodes")?,
        };
        let (lost, percent) = pairs(cut, &all, victim, dice);
        let leader = cluster.leader().await?;
        net.lose(&losses(&all, &lost, percent, dice))?;
        let began = Instant::now();
        let mut meanwhile = None;
        if let Some(group) = enough(&all, &lost).filter(|_| !needs_all) {
            let took = client.certified(&group, dice, oracle, HEALS).await;
            let took = took.with_context(|| format!("{name}, victim {victim}, leader {leader}"))?;
            measured.meanwhile.add(name, took);
            meanwhile = Some(took);
        } else if let Cut::Halves | Cut::All = cut {
            // Too few hear each other, whoever they are.
            let (signed, told) = client.entry(dice);
            let wait_for = v1::WaitFor::Certified;
            let promised = client
                .hand_in(victim, &signed, told, wait_for, oracle)
                .await?;
            ensure!(
                promised.is_err(),
                "{name}: node {victim} promised {promised:?}"
            );
        }
        sleep((CUT + dice.millis(CUT_LONGER)).saturating_sub(began.elapsed())).await;
        net.lose(&[])?;
        let took = healed(cluster, client, oracle, dice, &all).await;
        let took = took.with_context(|| format!("after {name}, victim {victim}"))?;
        measured.healed.add(name, took);
        eprintln!(
            "  {:>3} of {rounds}: {name:<18} node {victim}, leader {leader}; certified {}; after it {took:.2?}",
            round + 1,
            meanwhile.map_or("nothing".to_owned(), |took| format!("after {took:.2?}")),
        );
    }
    Ok(measured)
}

/// Makes all lines slow and lossy so many times, by the kernel or by proxies; what did it.
pub async fn slow(
    cluster: &mut Cluster,
    client: &Client,
    layout: &Layout,
    (net, oracle, dice): (&Net, &Oracle, &Dice),
    rounds: u32,
) -> anyhow::Result<(&'static str, Measured)> {
    let all: Vec<u64> = cluster.plan.nodes.iter().map(|node| node.raft_id).collect();
    let by_kernel = net.delay(0, 0)?;
    let mut proxies = Proxies::default();
    if !by_kernel {
        through_proxies(cluster, layout, &mut proxies, dice).await?;
        client.certified(&all, dice, oracle, HEALS).await?;
    }
    let mut measured = Measured::default();
    for _ in 0..rounds {
        let millis = dice.below(MOST_DELAY);
        let jitter = dice.below(MOST_DELAY - millis + 1);
        let percent = dice.below(MOST_LOSS / 4);
        match by_kernel {
            true => {
                net.delay(millis, jitter)?;
            }
            false => proxies.delay(millis, jitter),
        }
        net.lose(&losses(&all, &Pairs::new(), percent, dice))?;
        let began = Instant::now();
        let took = client.certified(&all, dice, oracle, HEALS).await;
        let what = || format!("lines of {millis} ms, up to {jitter} ms more, {percent} % lost");
        measured
            .meanwhile
            .add("slow lines", took.with_context(what)?);
        sleep((CUT + dice.millis(CUT_LONGER)).saturating_sub(began.elapsed())).await;
        proxies.delay(0, 0);
        if by_kernel {
            net.delay(0, 0)?;
        }
        net.lose(&[])?;
        let took = healed(cluster, client, oracle, dice, &all).await;
        measured.healed.add("slow lines", took.with_context(what)?);
    }
    if !by_kernel {
        plan::write_node_configs(layout, &cluster.plan, |_, to| to.ports.peers)?;
        restart(cluster).await?;
    }
    Ok((if by_kernel { "tc netem" } else { "proxies" }, measured))
}

/// How many of so many rounds are slow ones.
pub fn slow_rounds(rounds: u32) -> u32 {
    rounds.div_ceil(SLOW)
}

impl Measured {
    pub fn print(&self) {
        self.meanwhile.print("next certified write meanwhile");
        self.healed.print("all nodes have everything after it");
    }
}

/// Which packets a cut loses, and how many of a hundred of all.
fn pairs(cut: Cut, all: &[u64], victim: u64, dice: &Dice) -> (Pairs, u64) {
    let others: Vec<u64> = all.iter().copied().filter(|id| *id != victim).collect();
    let other = dice.pick(&others).copied().unwrap_or(victim);
    let to_all = others.iter().map(|&id| (victim, id));
    let from_all = others.iter().map(|&id| (id, victim));
    let lost: Pairs = match cut {
        Cut::Leader | Cut::Node => to_all.chain(from_all).collect(),
        Cut::Mute => to_all.collect(),
        Cut::Deaf => from_all.collect(),
        Cut::Line => [(victim, other), (other, victim)].into(),
        Cut::OneWay => [(victim, other)].into(),
        Cut::Halves => {
            let mut left: BTreeSet<u64> = [victim].into();
            while left.len() < all.len() / 2 {
                left.extend(dice.pick(&others));
            }
            every_pair(all)
                .filter(|(a, b)| left.contains(a) != left.contains(b))
                .collect()
        }
        Cut::All => every_pair(all).collect(),
        Cut::Lossy => return (Pairs::new(), 1 + dice.below(MOST_LOSS)),
    };
    (lost, 0)
}

fn every_pair(all: &[u64]) -> impl Iterator<Item = (u64, u64)> {
    let pairs = all.iter().flat_map(|&a| all.iter().map(move |&b| (a, b)));
    pairs.filter(|(a, b)| a != b)
}

/// Each loss at the one end or at the other.
fn losses(all: &[u64], lost: &Pairs, percent: u64, dice: &Dice) -> Vec<(u64, Losses)> {
    let at_sender: Vec<bool> = lost.iter().map(|_| dice.below(2) == 0).collect();
    let mut losses = Vec::new();
    for &id in all {
        let mut own = Losses {
            percent,
            ..Losses::default()
        };
        for (&(from, to), &at_sender) in lost.iter().zip(&at_sender) {
            match at_sender {
                true if from == id => own.to.insert(to),
                false if to == id => own.from.insert(from),
                _ => continue,
            };
        }
        losses.push((id, own));
    }
    losses
}

/// The nodes, if all but one or all of them, that hear each other both ways: they certify.
fn enough(all: &[u64], lost: &Pairs) -> Option<Vec<u64>> {
    let whole = |group: &[u64]| {
        !lost
            .iter()
            .any(|(a, b)| group.contains(a) && group.contains(b))
    };
    let without = |absent: &u64| all.iter().copied().filter(|id| id != absent).collect();
    let mut groups = std::iter::once(all.to_vec()).chain(all.iter().map(without));
    groups.find(|group: &Vec<u64>| whole(group))
}

/// Until something new is certified and every node has it.
async fn healed(
    cluster: &mut Cluster,
    client: &Client,
    oracle: &Oracle,
    dice: &Dice,
    all: &[u64],
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    client.certified(all, dice, oracle, HEALS).await?;
    let height = oracle.all().iter().map(|told| told.height).max();
    cluster.caught_up(height.unwrap_or(0)).await?;
    oracle.consistent()?;
    if let Some(words) = cluster.ended() {
        bail!("a node ended by itself:{words}");
    }
    let took = began.elapsed();
    if took > HEALS {
        bail!("a node had not everything after {took:.1?}");
    }
    Ok(took)
}

/// Lets every node find the others behind proxies.
async fn through_proxies(
    cluster: &mut Cluster,
    layout: &Layout,
    proxies: &mut Proxies,
    dice: &Dice,
) -> anyhow::Result<()> {
    let at = |from: &NodePlan, to: &NodePlan| {
        let port = u16::try_from(from.raft_id * 10 + to.raft_id).unwrap_or(0);
        SocketAddr::new(Net::own_address(), PROXIES + port)
    };
    let nodes = &cluster.plan.nodes;
    for from in nodes {
        for to in nodes.iter().filter(|to| to.raft_id != from.raft_id) {
            let dice = dice.fork();
            proxies.line(at(from, to), to.ports.peers, dice).await?;
        }
    }
    plan::write_node_configs(layout, &cluster.plan, at)?;
    restart(cluster).await
}

async fn restart(cluster: &mut Cluster) -> anyhow::Result<()> {
    cluster.stop_all().await?;
    cluster.start_all().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: [u64; 4] = [1, 2, 3, 4];

    #[test]
    fn enough_nodes_are_those_that_hear_each_other() {
        let dice = Dice::new(1);
        let group = |cut| enough(&FOUR, &pairs(cut, &FOUR, 2, &dice).0);
        for cut in [Cut::Leader, Cut::Node, Cut::Mute, Cut::Deaf] {
            assert_eq!(group(cut), Some(vec![1, 3, 4]), "{cut:?}");
        }
        assert_eq!(group(Cut::Lossy), Some(FOUR.into()));
        assert_eq!(group(Cut::Line).map(|group| group.len()), Some(3));
        assert_eq!(group(Cut::Halves), None);
        assert_eq!(group(Cut::All), None);
    }

    #[test]
    fn every_loss_stands_at_one_end_of_its_line() {
        let dice = Dice::new(1);
        let (lost, _) = pairs(Cut::Halves, &FOUR, 3, &dice);
        assert_eq!(lost.len(), 8);
        let losses = losses(&FOUR, &lost, 0, &dice);
        let mut found = Pairs::new();
        for (id, own) in losses {
            found.extend(own.from.iter().map(|from| (*from, id)));
            found.extend(own.to.iter().map(|to| (id, *to)));
        }
        assert_eq!(found, lost);
    }
}
