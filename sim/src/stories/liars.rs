//! Members that lie, with their real keys: what they get out of it, and whether it is noticed.
//!
//! What holds here: under the default policy no lie of one member makes two certificates that
//! conflict, loses what was acknowledged, or holds the others up for good.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_consensus::Lane;
use cairn_ledger::{canonical, checkpoint};
use cairn_proto::v1;
use prost::Message as _;
use tokio::time::Instant;

use crate::fixture::CHECKPOINT_EVERY;
use crate::invariants::{Violation, no_two_certified_headers_conflict, same_log_same_roots};
use crate::notes::Mark;
use crate::oracle::Oracle;
use crate::planted::Planted;
use crate::storm::{begin, check};
use crate::wires::{Lie, Told, Twist};
use crate::world::World;

use super::catch_up::{follower, write_beyond};

const NAME: &str = "a_lie_gets_nothing";

/// A leader that sends one entry to some followers and another to the rest, so that each story has
/// half of the members. Who was deceived.
pub async fn two_faced_leader(world: &World) -> BTreeSet<u64> {
    begin(world).await;
    let leader = world.core(1).unwrap().status().leader.unwrap();
    let others: Vec<u64> = world.ids().into_iter().filter(|id| *id != leader).collect();
    let (truth, lie) = (world.ledger.evidence(1, 7), world.ledger.evidence(1, 8));
    let half = world.ids().len() / 2;
    let deceived: BTreeSet<u64> = others.iter().rev().take(half).copied().collect();
    world.notes.fault("two-faced leader");
    world.wires.lie(Lie {
        from: leader,
        to: deceived.clone(),
        truth: truth.signed.encode_to_vec().into(),
        lie: lie.signed.encode_to_vec().into(),
    });
    world.core(leader).unwrap().submit(vec![truth]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    deceived
}

/// How many alarms the members raised.
pub fn alarms(world: &World) -> u64 {
    let running = world.running();
    let alarms = running.iter().map(|(_, core)| core.status().equivocations);
    alarms.sum()
}

/// Bug 18, seen by certificates alone: followers apply different blocks, which nobody certifies.
pub async fn two_faced(world: Arc<World>) -> Result<(), Violation> {
    for id in two_faced_leader(&world).await {
        world.set_deceived(id);
    }
    same_log_same_roots::check(&world)?;
    no_two_certified_headers_conflict::check(&world)?;
    if alarms(&world) == 0 {
        return Err(Violation::of(NAME, "nobody noticed"));
    }
    Ok(())
}

/// A leader deceives one member, which applies and signs a block that nobody else has, and is then
/// away until only a copy helps it. The copy contradicts what it signed: it stops, and neither serves
/// nor signs the other history. (Day-one bug 6.)
pub async fn conflicting_copy(world: Arc<World>) -> Result<u64, Violation> {
    begin(&world).await;
    let oracle = Oracle::default();
    let (leader, id) = (world.leader().unwrap(), follower(&world));
    let (truth, lie) = (world.ledger.evidence(1, 7), world.ledger.evidence(1, 8));
    world.notes.fault("two-faced leader");
    world.set_deceived(id);
    world.wires.lie(Lie {
        from: leader,
        to: [id].into(),
        truth: truth.signed.encode_to_vec().into(),
        lie: lie.signed.encode_to_vec().into(),
    });
    let core = world.core(id).unwrap();
    world.core(leader).unwrap().submit(vec![truth]).await;
    let signed = async {
        loop {
            let at = core.entry_status(&lie.id).map_or(0, |status| status.height);
            if at > 0 && world.guarded(id) >= Some(at) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let signed = tokio::time::timeout(Duration::from_secs(3), signed).await;
    let last = core.status().last_log_index.unwrap_or(0);
    drop(core);
    world.crash(&[id], false).await;
    world.wires.honest();
    if signed.is_ok() {
        write_beyond(&world, &oracle, last + 10).await;
        // It may refuse to start at all.
        let stands = match world.start(id).await {
            Err(_) => true,
            Ok(()) => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                let core = world.core(id).unwrap();
                core.status().stopped.is_some()
            }
        };
        if !stands {
            let what = format!("{id} goes on with another history than the one it signed");
            return Err(Violation::of("a_conflicting_copy_is_refused", what));
        }
        world.notes.mark(Mark::ConflictingCopyRefused);
    }
    world.retire(id).await;
    world.settle().await?;
    check(&world, &oracle)?;
    Ok(oracle.acknowledged().len() as u64)
}

/// The same header with another time, cosigned with the member's own key.
fn another(world: &World, member: u64, notice: &v1::CosignatureNotice) -> v1::CosignatureNotice {
    let mut header = v1::Header::decode(notice.header.clone()).unwrap();
    header.timestamp_ms += 1;
    let bytes = canonical::encode(&header);
    let hash = checkpoint::header_hash(&bytes);
    let at = notice.cosignature.as_ref().map_or(0, |c| c.cosigned_at_ms);
    let key = world.ledger.cosign_key(member);
    v1::CosignatureNotice {
        height: notice.height,
        header_hash: hash.to_bytes(),
        cosignature: Some(checkpoint::cosign(&key, &world.ledger.chain.id, &hash, at)),
        header: bytes,
    }
}

/// A member cosigns two headers of every height. Certificates never conflict, and the evidence is
/// kept.
pub async fn two_cosignatures(world: Arc<World>) -> Result<(), Violation> {
    const COSIGNATURE: u8 = 5;
    begin(&world).await;
    let liar = follower(&world);
    world.notes.fault("two cosignatures");
    let (turn, weak) = (AtomicU64::new(0), Arc::downgrade(&world));
    let twist: Twist = Arc::new(move |from, _, lane, request: &Bytes| {
        let notice = request.strip_prefix(&[COSIGNATURE]);
        let Some(notice) = notice.filter(|_| from == liar && lane == Lane::Control) else {
            return Told::Truth;
        };
        // Now one, now the other, so that everybody hears both sooner or later.
        let lies = turn.fetch_add(1, Ordering::Relaxed) % 3 == 0;
        match (v1::CosignatureNotice::decode(notice), weak.upgrade()) {
            (Ok(notice), Some(world)) if lies => {
                let lie = another(&world, liar, &notice).encode_to_vec();
                Told::Instead([&[COSIGNATURE], &lie[..]].concat().into())
            }
            _ => Told::Truth,
        }
    });
    world.wires.twist(twist);
    let oracle = Oracle::default();
    let until = Instant::now() + Duration::from_secs(8);
    let rng = world.rng.fork();
    oracle.clone().client(world.clone(), 9, rng, until).await;
    world.wires.honest();
    world.settle().await?;
    check(&world, &oracle)?;
    let kept = |(_, core): &(u64, cairn_consensus::Core)| {
        core.equivocations().is_ok_and(|kept| !kept.is_empty())
    };
    if !world.running().iter().any(kept) {
        return Err(Violation::of("evidence_is_kept", "nobody kept a proof"));
    }
    world.notes.mark(Mark::EvidenceKept);
    Ok(())
}

/// A leader that says "queued" to what others forward and drops it: the entry stays pending where
/// it was handed in, and is recorded by another way or the next leader.
pub async fn held_back(world: Arc<World>) -> Result<(), Violation> {
    begin(&world).await;
    let leader = world.leader().unwrap();
    let other = world.ids().into_iter().find(|id| *id != leader).unwrap();
    world.notes.fault("entries held back");
    let twist: Twist = Arc::new(move |_, to, lane, request: &Bytes| {
        let asked = v1::ForwardRequest::decode(request.clone());
        match asked {
            Ok(asked) if to == leader && lane == Lane::Forward => {
                let refused = vec![String::new(); asked.entries.len()];
                Told::Answer(v1::ForwardResponse { refused }.encode_to_vec().into())
            }
            _ => Told::Truth,
        }
    });
    world.wires.twist(twist);
    let core = world.core(other).unwrap();
    let entry = world.ledger.evidence(3, 1);
    core.submit(vec![entry.clone()]).await;
    let deadline = Instant::now() + Duration::from_secs(3);
    let status = core.wait(&entry.id, v1::WaitFor::Committed, deadline).await;
    let state = status.map(|status| status.state());
    if state != Ok(v1::EntryState::Pending) {
        let what = format!("what the leader holds back is {state:?} at {other}");
        return Err(Violation::of(NAME, what));
    }
    world.notes.mark(Mark::EntryHeldBackByTheLeader);
    if world.rng.per_mille(500) {
        // Another way: straight to the leader, who cannot tell whose it is.
        world
            .core(leader)
            .unwrap()
            .submit(vec![entry.clone()])
            .await;
    } else {
        world.wires.honest();
        world.crash(&[leader], true).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.start(leader).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = core.wait(&entry.id, v1::WaitFor::Committed, deadline).await;
    if !status.is_ok_and(|status| status.height > 0) {
        return Err(Violation::of(NAME, "it was never recorded"));
    }
    world.wires.honest();
    world.settle().await?;
    check(&world, &Oracle::default())
}

/// Day-one bug 20: the clocks of all that certify jump together. Planted, since with honest clocks
/// nothing of the kind can be.
pub async fn wrong_time(world: Arc<World>) -> Result<(), Violation> {
    const AHEAD_MS: i64 = 600_000;
    begin(&world).await;
    if world.setup.planted == Planted::ClocksAgreeOnAWrongTime {
        for id in world.ids() {
            world.set_skew(id, AHEAD_MS);
        }
    }
    let oracle = Oracle::default();
    let until = Instant::now() + Duration::from_secs(8);
    let rng = world.rng.fork();
    oracle.clone().client(world.clone(), 9, rng, until).await;
    world.settle().await?;
    check(&world, &oracle)
}

/// A leader that lies about the time, more each round. Blocks keep rising times, nobody follows it
/// beyond what clocks may differ, and another leads where it goes too far.
pub async fn leader_ahead(world: Arc<World>) -> Result<(), Violation> {
    begin(&world).await;
    let oracle = Oracle::default();
    let until = Instant::now() + Duration::from_secs(24);
    let rng = world.rng.fork();
    let client = tokio::spawn(oracle.clone().client(world.clone(), 9, rng, until));
    let liar = world.leader().unwrap();
    let sign = if world.rng.per_mille(300) { -1 } else { 1 };
    for ahead in [500, 1_900, 60_000, 86_400_000_i64] {
        world.notes.fault("clock");
        world.set_skew(liar, sign * ahead);
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut tips = world.running().into_iter().filter_map(|(id, _)| {
            let store = world.readable_store(id)?;
            let tip = cairn_ledger::apply::tip(&store).ok()??;
            Some((id, tip.header.timestamp_ms))
        });
        let now = world.now_ms();
        // The liar may have applied nothing of its own that the others did not accept.
        if let Some((id, stamp)) = tips.find(|(_, stamp)| *stamp > now + MOST_AHEAD_MS) {
            let what = format!("{id} has a block of {} ms ahead", stamp - now);
            return Err(Violation::of(NAME, what));
        }
    }
    world.set_skew(liar, 0);
    client.await.unwrap();
    world.settle().await?;
    check(&world, &oracle)
}

/// How many blocks may wait for a certificate: as many as the ledger lets pass without a checkpoint,
/// and as many again until that one is certified.
const MOST_UNCERTIFIED: u64 = 2 * CHECKPOINT_EVERY.0 as u64;

/// Leaders that commit and never flag a checkpoint, all of them. The ledger makes some by itself, so
/// the uncertified tail stays short and what is read is not old. (Day-one bug 28.)
pub async fn never_flags(world: Arc<World>) -> Result<u64, Violation> {
    world.notes.fault("checkpoints never flagged");
    world.bend.unflagged.store(true, Ordering::Relaxed);
    begin(&world).await;
    let oracle = Oracle::default();
    let until = Instant::now() + Duration::from_secs(20);
    for name in 1..=2 {
        let rng = world.rng.fork();
        tokio::spawn(oracle.clone().client(world.clone(), name, rng, until));
    }
    let mut forced = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if world.rng.per_mille(20) {
            let leader = world.leader().unwrap();
            world.crash(&[leader], world.rng.per_mille(500)).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            world.try_start(leader).await?;
        }
        for (id, core) in world.running() {
            let status = core.status();
            let certified = status.certified_height.unwrap_or(0);
            forced = forced.max(certified);
            if status.applied_height > certified + MOST_UNCERTIFIED {
                let tip = status.applied_height;
                let what = format!("at {id}, {tip} blocks, and {certified} of them certified");
                return Err(Violation::of("the_uncertified_tail_is_bounded", what));
            }
        }
    }
    if forced > 0 {
        world.notes.mark(Mark::CheckpointForced);
    }
    world.bend.unflagged.store(false, Ordering::Relaxed);
    world.settle().await?;
    check(&world, &oracle)?;
    Ok(oracle.acknowledged().len() as u64)
}

/// What followers tolerate, and what honest clocks may differ in.
const MOST_AHEAD_MS: u64 = 2_000 + 750;
