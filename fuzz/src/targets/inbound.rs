//! What a member sends to another (`cairn_consensus::Inbound`): votes, appends, cosignatures,
//! forwarded entries, snapshots.
//!
//! Four real members in this process record what they send; then one alone is fed mutations of it.
//! A member may lie to Raft (it is not Byzantine fault tolerant), so a node that stops with a reason
//! is an answer. A panic is a bug.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use cairn_consensus::network::Inbound as _;
use cairn_consensus::{
    Clock as _, CopyRules, Core, CoreConfig, Io, Lane, Network, NetworkError, SIMULATED_RECENT,
};
use cairn_consensus::{SystemClock, Timing};
use cairn_ledger::entry::{self, Draft};
use cairn_ledger::genesis::Chain;
use cairn_ledger::{admission, canonical, hash};
use cairn_proto::v1;
use cairn_storage::{SimDisk, SimGenerations};
use ed25519_dalek::SigningKey;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::Target;

const MEMBERS: u64 = 4;
/// Who is fed.
const VICTIM: u64 = 4;
/// Seeds of each lane.
const KEPT: usize = 60;
/// Blocks until a member copies its state, and purges its log: soon, so that copies are sent.
const COPY_EVERY: u64 = 4;
/// Longest seed: a block of a few entries.
const LONGEST: usize = 4_096;
/// After so many inputs a fresh member takes over: mutated votes leave high terms behind.
const RENEWED: u32 = 500;
/// An answer that needs more than the disk is none.
const PATIENCE: Duration = Duration::from_millis(200);
const LANES: [Lane; 4] = [Lane::Control, Lane::Append, Lane::Forward, Lane::Snapshot];
/// Nobody campaigns while it is fed.
const NEVER: Duration = Duration::from_secs(100_000);

pub struct Inbound {
    runtime: Runtime,
    chain: Arc<Chain>,
    seeds: Vec<Vec<u8>>,
    victim: Option<Core>,
    fed: u32,
}

fn key(number: u64) -> SigningKey {
    SigningKey::from_bytes(hash::plain(&number.to_be_bytes()).as_bytes())
}

fn public(number: u64) -> Bytes {
    Bytes::copy_from_slice(key(number).verifying_key().as_bytes())
}

const AUTHOR: u64 = 1_000;

fn chain() -> anyhow::Result<Chain> {
    let member = |raft_id: u64| v1::Member {
        raft_id,
        institution: format!("institution {raft_id}"),
        role: v1::Role::Government.into(),
        cosign_key: public(raft_id),
        peer_id: Bytes::copy_from_slice(&raft_id.to_be_bytes()),
        ..v1::Member::default()
    };
    let genesis = v1::Genesis {
        name: "fuzz".to_owned(),
        created_at_ms: SystemClock.now_ms() - 1_000,
        rules_version: 1,
        members: Some(v1::MemberSet {
            epoch: 0,
            members: (1..=MEMBERS).map(member).collect(),
            policy: Some(v1::QuorumPolicy {
                threshold: 3,
                min_roles: 1,
                detect_only: false,
            }),
        }),
        limits: Some(v1::Limits {
            max_entry_bytes: 1 << 20,
            max_block_entries: 1_000,
            max_block_bytes: 4 << 20,
            max_entry_lifetime_ms: 86_400_000,
            checkpoint_every_blocks: 100,
            checkpoint_every_ms: 10_000,
        }),
        authors: vec![v1::Author {
            public_key: public(AUTHOR),
            name: "client".to_owned(),
            role: v1::Role::Organiser.into(),
        }],
        mandates: Vec::new(),
        mandate_policy: None,
    };
    Ok(Chain::from_bytes(&canonical::encode(&genesis))?)
}

/// Members that hear each other at once, and what they sent to [`VICTIM`].
#[derive(Default)]
struct Room {
    cores: Mutex<BTreeMap<u64, Core>>,
    sent: Mutex<Vec<(u64, Lane, Bytes)>>,
}

struct Port {
    own: u64,
    room: Weak<Room>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Network for Port {
    async fn call(&self, to: u64, lane: Lane, request: Bytes) -> Result<Bytes, NetworkError> {
        let unreachable = || NetworkError::Unreachable {
            peer: to,
            detail: "nobody there".to_owned(),
        };
        let room = self.room.upgrade().ok_or_else(unreachable)?;
        let core = locked(&room.cores).get(&to).cloned();
        let core = core.ok_or_else(unreachable)?;
        let sent = (self.own, lane, request.clone());
        locked(&room.sent).push(sent);
        let answer = core.handle(self.own, lane, request).await;
        answer.map_err(|detail| NetworkError::Refused { peer: to, detail })
    }

    fn connected(&self, peer: u64) -> bool {
        let room = self.room.upgrade();
        room.is_some_and(|room| locked(&room.cores).contains_key(&peer))
    }
}

async fn start(
    chain: &Arc<Chain>,
    own: u64,
    room: Weak<Room>,
    timing: Timing,
) -> anyhow::Result<Core> {
    let config = CoreConfig {
        raft_id: own,
        chain: chain.clone(),
        cosign_key: key(own),
        raft_disk: Arc::new(SimDisk::new()),
        ledger: Arc::new(SimGenerations::new()),
        copies: CopyRules {
            every_blocks: COPY_EVERY,
            ..CopyRules::default()
        },
        network: Arc::new(Port { own, room }),
        clock: Arc::new(SystemClock),
        timing,
        io: Io::Simulated {
            sync: Duration::ZERO,
            recent: SIMULATED_RECENT,
        },
        seed: Some(own),
    };
    Ok(Core::start(config).await?)
}

fn evidence(chain: &Chain, number: u64) -> anyhow::Result<admission::Admitted> {
    let document = hash::plain(&number.to_be_bytes());
    let body = v1::Evidence {
        hash: document.to_bytes(),
        title: format!("document {number}"),
        ..v1::Evidence::default()
    };
    let draft = Draft {
        kind: v1::EntryKind::Evidence,
        visibility: v1::Visibility::Public,
        subject: document.to_bytes(),
        nonce: [number as u8; 16],
        not_after_ms: SystemClock.now_ms() + 3_600_000,
        body: canonical::encode(&body),
    };
    let signed = entry::compose(&chain.id, draft, &key(AUTHOR), &[]);
    Ok(admission::admit(chain, signed)?)
}

/// What the members send while they form, record some entries and change their leader.
async fn record(chain: &Arc<Chain>) -> anyhow::Result<Vec<Vec<u8>>> {
    let room = Arc::new(Room::default());
    let timing = Timing {
        election: (Duration::from_millis(450), Duration::from_millis(700)),
        ..Timing::default()
    };
    for id in 1..=MEMBERS {
        let core = start(chain, id, Arc::downgrade(&room), timing.clone()).await?;
        locked(&room.cores).insert(id, core);
    }
    let cores: Vec<Core> = locked(&room.cores).values().cloned().collect();
    let first = cores.first().context("no members")?;
    first.initialize().await?;
    let until = Instant::now() + Duration::from_secs(30);
    for number in 0..24 {
        let entry = evidence(chain, number)?;
        let core = &cores[usize::try_from(number)? % cores.len()];
        loop {
            core.submit(vec![entry.clone()]).await;
            let soon = Instant::now() + Duration::from_millis(500);
            let status = core.wait(&entry.id, v1::WaitFor::Certified, soon).await?;
            if status.state() == v1::EntryState::Certified {
                break;
            }
            anyhow::ensure!(Instant::now() < until, "the members do not certify");
        }
        // The leader leaves in the middle, so that somebody else campaigns.
        if number == 12 {
            let leader = first.status().leader.unwrap_or(VICTIM);
            if leader != VICTIM {
                locked(&room.cores).remove(&leader);
                tokio::time::sleep(Duration::from_secs(2)).await;
                cores[usize::try_from(leader - 1)?].shutdown().await;
                break;
            }
        }
    }
    for core in cores {
        core.shutdown().await;
    }
    let mut counts = BTreeMap::new();
    let mut seeds = Vec::new();
    for (from, lane, request) in locked(&room.sent).drain(..) {
        let kind = (lane, request.first().copied());
        let count: &mut usize = counts.entry(kind).or_default();
        if *count < KEPT && request.len() <= LONGEST {
            *count += 1;
            let at = LANES.iter().position(|known| *known == lane).unwrap_or(0);
            seeds.push([&[from as u8, at as u8], &request[..]].concat());
        }
    }
    Ok(seeds)
}

impl Inbound {
    pub fn new() -> anyhow::Result<Inbound> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let chain = Arc::new(chain()?);
        let seeds = runtime.block_on(record(&chain))?;
        Ok(Inbound {
            runtime,
            chain,
            seeds,
            victim: None,
            fed: 0,
        })
    }
}

impl Target for Inbound {
    fn name(&self) -> &'static str {
        "inbound"
    }

    /// Sender, lane, request.
    fn seeds(&self) -> Vec<Vec<u8>> {
        self.seeds.clone()
    }

    fn feed(&mut self, input: &[u8]) -> Result<String, String> {
        let Some(([from, lane], request)) = input.split_first_chunk::<2>() else {
            return Ok("short".to_owned());
        };
        let lane = LANES[usize::from(*lane) % LANES.len()];
        let from = u64::from(*from) % MEMBERS + 1;
        self.fed += 1;
        let stopped = self
            .victim
            .as_ref()
            .is_some_and(|v| v.stopped().borrow().is_some());
        if self.fed % RENEWED == 1 || stopped {
            self.renew();
        }
        let (chain, victim) = (self.chain.clone(), self.victim.take());
        let (answer, victim) = self.runtime.block_on(async move {
            let victim = match victim {
                Some(victim) => victim,
                None => {
                    let timing = Timing {
                        election: (NEVER, 2 * NEVER),
                        ..Timing::default()
                    };
                    match start(&chain, VICTIM, Weak::new(), timing).await {
                        Ok(victim) => victim,
                        Err(error) => return (Err(error.to_string()), None),
                    }
                }
            };
            let request = Bytes::copy_from_slice(request);
            let handled = victim.handle(from, lane, request);
            let answer = match tokio::time::timeout(PATIENCE, handled).await {
                Ok(Ok(answer)) => format!(
                    "answer of {}",
                    if answer.is_empty() {
                        "nothing"
                    } else {
                        "bytes"
                    }
                ),
                Ok(Err(refused)) => refused,
                Err(_) => "no answer in time".to_owned(),
            };
            // What it does of itself with what it was told.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            let stopped = victim.stopped().borrow().clone();
            let answer = match stopped {
                Some(reason) => format!("stopped: {reason}"),
                None => answer,
            };
            (Ok(format!("{lane:?}: {answer}")), Some(victim))
        });
        self.victim = victim;
        answer
    }

    fn renew(&mut self) {
        if let Some(victim) = self.victim.take() {
            self.runtime.block_on(victim.shutdown());
        }
    }
}
