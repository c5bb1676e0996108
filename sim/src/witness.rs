//! Who sees everything that passes on the wires, and what the disks hold at that instant.
//!
//! What holds here: the witness only looks. What a member that lies makes of a frame is not shown to
//! it: it judges what the node itself said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_storage::{SimDisk, SimGenerations};
use tokio::time::Instant;

use crate::frames::{self, Frame, LogId};
use crate::generations::Adopted;
use crate::invariants::a_leader_counts_only_its_own_term::Claims;
use crate::invariants::no_reply_leaves_before_it_is_durable::{self as durable, Medium};
use crate::invariants::one_vote_one_leader_one_cosignature::Said;
use crate::notes::{Mark, Notes};

/// A transfer that was heard of so recently is going on, or was broken off by the election.
const TRANSFERRING: Duration = Duration::from_secs(3);
/// An install that is so recent was interrupted by a crash now.
const JUST_NOW_MS: u64 = 100;

/// The disks of one node.
#[derive(Debug, Clone)]
pub struct Disks {
    pub raft: SimDisk,
    pub ledger: SimGenerations,
    pub adopted: Adopted,
}

#[derive(Debug, Default)]
struct State {
    said: Said,
    claims: Claims,
    disks: BTreeMap<u64, Disks>,
    /// When a part of a copy last came to a node.
    copying: BTreeMap<u64, Instant>,
    /// By receiver and height: whose cosignatures came.
    heard: BTreeMap<(u64, u64), BTreeSet<u64>>,
    /// Members came or went, so "a majority" is not one of all disks.
    members_change: bool,
}

fn media(state: &State) -> BTreeMap<u64, Medium> {
    let disks = state.disks.iter();
    disks.map(|(id, disks)| (*id, disks.medium())).collect()
}

impl Disks {
    fn medium(&self) -> Medium {
        Medium {
            raft: self.raft.clone(),
            state: self.ledger.disk(),
        }
    }
}

/// The witness. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Witness {
    notes: Notes,
    /// Members at the beginning.
    members: u64,
    state: Arc<Mutex<State>>,
}

impl Witness {
    pub fn new(notes: Notes, members: u64) -> Self {
        Self {
            notes,
            members,
            state: Arc::default(),
        }
    }

    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn disks_of(&self, node: u64, disks: Disks) {
        self.state().disks.insert(node, disks);
    }

    pub fn members_change(&self) {
        self.state().members_change = true;
    }

    /// `from` sends this. True if it is the first frame of a new leader.
    pub fn sent(&self, from: u64, frame: &Frame) -> bool {
        let notes = &self.notes;
        let state = &mut *self.state();
        let Some(disk) = state.disks.get(&from).map(|disks| disks.raft.clone()) else {
            return false;
        };
        match frame {
            Frame::Vote(ballot) => {
                state.said.voted(notes, from, *ballot);
                durable::voted(notes, from, &disk, *ballot);
                false
            }
            Frame::Append {
                leader, committed, ..
            } => {
                let new = state.said.led(notes, *leader);
                if new {
                    // Sets of members here are as large as the first one, or larger by one.
                    let majority = usize::try_from(self.members / 2 + 1).unwrap();
                    durable::elected(notes, *leader, &media(state), majority);
                }
                if let Some(committed) = committed {
                    self.committed(state, from, *committed);
                    let said = &state.said;
                    state.claims.claims(notes, said, *leader, *committed);
                }
                new
            }
            Frame::Offer(last) => {
                state.claims.heard(*last);
                false
            }
            Frame::Cosignature(notice) => {
                let hash = &notice.header_hash;
                state.said.cosigned(notes, from, notice.height, hash);
                durable::cosigned(notes, from, &disk, notice);
                false
            }
            Frame::PreVote(_) | Frame::Other => false,
        }
    }

    fn committed(&self, state: &State, leader: u64, committed: LogId) {
        if !state.members_change {
            durable::committed(&self.notes, leader, &media(state), committed);
        }
    }

    pub fn members(&self) -> u64 {
        self.members
    }

    /// The last entry of `leader` that more than half of the disks hold, of whatever term.
    pub fn on_most_disks(&self, leader: u64) -> Option<LogId> {
        let state = self.state();
        let disks = media(&state);
        let own = &disks.get(&leader)?.raft;
        let held = |at: LogId| {
            let has = |disk: &&Medium| durable::log_id(&disk.raft, at.1) == Some(at);
            disks.values().filter(has).count() * 2 > disks.len()
        };
        let last = durable::last_index(own)?;
        let known = state.claims.highest();
        (known..=last)
            .rev()
            .filter_map(|index| durable::log_id(own, index))
            .find(|at| held(*at))
    }

    /// A frame came to `to`.
    pub fn delivered(&self, from: u64, to: u64, frame: &Frame) {
        if let Frame::Cosignature(notice) = frame {
            self.heard(to, from, notice.height);
        }
    }

    fn heard(&self, by: u64, from: u64, height: u64) {
        let heard = &mut self.state().heard;
        heard.entry((by, height)).or_default().insert(from);
    }

    /// A part of a copy came to `to`.
    pub fn copying(&self, to: u64) {
        self.state().copying.insert(to, Instant::now());
    }

    /// `by` answers `to`.
    pub fn answered(&self, by: u64, to: u64, asked: &Frame, answer: &Result<Bytes, String>) {
        let notes = &self.notes;
        let answer = match answer {
            Ok(answer) => answer,
            Err(refused) => {
                if refused.contains("ahead of this node's clock") {
                    notes.mark(Mark::ClockAheadLeaderUnheard);
                }
                return;
            }
        };
        let medium = self.state().disks.get(&by).map(Disks::medium);
        let Some(medium) = medium else { return };
        let disk = &medium.raft;
        match asked {
            Frame::Vote(ballot) if frames::granted(answer) == Some(*ballot) => {
                self.state().said.voted(notes, by, *ballot);
                durable::voted(notes, by, disk, *ballot);
            }
            Frame::Append {
                leader,
                last: Some(last),
                ..
            } if answer[..] == *frames::APPENDED => {
                durable::appended(notes, by, &medium, *leader, *last);
            }
            Frame::Cosignature(_) => {
                let Some(notice) = frames::answered(answer) else {
                    return;
                };
                let (height, hash) = (notice.height, &notice.header_hash);
                self.state().said.cosigned(notes, by, height, hash);
                durable::cosigned(notes, by, disk, &notice);
                self.heard(to, by, height);
            }
            _ => {}
        }
    }

    /// Whether some node is receiving a copy of the state.
    pub fn someone_installs(&self) -> bool {
        let state = self.state();
        let mut copying = state.copying.iter();
        copying.any(|(id, at)| {
            let disks = state.disks.get(id);
            at.elapsed() < TRANSFERRING && disks.is_some_and(|disks| disks.ledger.begun().0)
        })
    }

    /// `node` has this certificate.
    pub fn certified(&self, node: u64, certified: &CertifiedCheckpoint) {
        let state = self.state();
        let heard = state.heard.get(&(node, certified.header().height));
        let told = |member: &u64| heard.is_some_and(|heard| heard.contains(member));
        let mut signers = certified.signers().map(|member| member.raft_id);
        if signers.any(|member| member != node && !told(&member)) {
            self.notes.mark(Mark::CertificateFromAProposal);
        }
    }

    /// `node` loses power now.
    pub fn crashes(&self, node: u64, now_ms: u64) {
        let state = self.state();
        let Some(disks) = state.disks.get(&node) else {
            return;
        };
        let guarded = durable::guarded(&disks.raft);
        if guarded > Some(state.said.highest(node)) {
            self.notes.mark(Mark::CrashBetweenGuardAndSend);
        }
        if disks.ledger.begun().0 {
            self.notes.mark(Mark::CrashBeforeThePointerMoved);
        }
        let adopted = disks.adopted.at();
        if adopted > 0 && now_ms.saturating_sub(adopted) < JUST_NOW_MS {
            self.notes.mark(Mark::CrashAfterThePointerMoved);
        }
    }
}
