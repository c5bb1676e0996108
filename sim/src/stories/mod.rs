//! What a seed can tell: the storm, and stories that lead to places where a storm rarely gets.
//!
//! What holds here: each story ends healed and checked against all invariants, unless what it tells
//! is a lie of which the outcome itself is judged.

pub mod catch_up;
pub mod disks;
pub mod liars;
pub mod members;
pub mod newcomer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::invariants::Violation;
use crate::notes::Notes;
use crate::storm;
use crate::world::{Ran, Setup, World, simulate_noted};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Story {
    Storm,
    Members,
    CatchUp,
    Interrupted,
    PowerLoss,
    LostTail,
    Damage,
    FullDisk,
    FailedSync,
    TwoFacedLeader,
    TwoCosignatures,
    HeldBack,
    WrongTime,
    LeaderAhead,
    Newcomer,
    LogDamage,
    NeverFlags,
    ConflictingCopy,
}

/// What the seeds of a campaign tell, in turns.
const TURNS: [Story; 24] = [
    Story::Storm,
    Story::Members,
    Story::Storm,
    Story::Interrupted,
    Story::Storm,
    Story::TwoCosignatures,
    Story::Storm,
    Story::HeldBack,
    Story::Storm,
    Story::CatchUp,
    Story::Members,
    Story::FullDisk,
    Story::Interrupted,
    Story::Damage,
    Story::LeaderAhead,
    Story::PowerLoss,
    Story::Newcomer,
    Story::LogDamage,
    Story::Newcomer,
    Story::NeverFlags,
    Story::ConflictingCopy,
    Story::TwoFacedLeader,
    Story::LostTail,
    Story::FailedSync,
];

impl Story {
    /// What a campaign's seed tells.
    pub fn of(seed: u64) -> Story {
        TURNS[usize::try_from(seed % TURNS.len() as u64).unwrap()]
    }

    /// The number that was acknowledged.
    async fn tell(self, world: Arc<World>) -> Result<u64, Violation> {
        match self {
            Story::Storm => storm::storm(world).await,
            Story::Members => members::story(world).await.map(|()| 0),
            Story::CatchUp => catch_up::behind_the_purge(world).await.map(|()| 0),
            Story::Interrupted => catch_up::aimed(world).await.map(|()| 0),
            Story::PowerLoss => disks::power_loss(world).await.map(|()| 1),
            Story::LostTail => disks::lost_tail(world).await.map(|()| 0),
            Story::Damage => disks::damage(world).await.map(|()| 0),
            Story::FullDisk => disks::full(world).await.map(|()| 0),
            Story::FailedSync => disks::failed_sync(world).await.map(|()| 0),
            Story::TwoFacedLeader => liars::two_faced(world).await.map(|()| 0),
            Story::TwoCosignatures => liars::two_cosignatures(world).await.map(|()| 0),
            Story::HeldBack => liars::held_back(world).await.map(|()| 0),
            Story::WrongTime => liars::wrong_time(world).await.map(|()| 0),
            Story::LeaderAhead => liars::leader_ahead(world).await.map(|()| 0),
            Story::Newcomer => newcomer::by_copy(world).await,
            Story::LogDamage => disks::log_damage(world).await,
            Story::ConflictingCopy => liars::conflicting_copy(world).await,
            Story::NeverFlags => liars::never_flags(world).await,
        }
    }
}

/// How one seed ended.
pub struct Run {
    pub outcome: Result<u64, Violation>,
    pub hash: String,
    pub events: u64,
    pub simulated: Duration,
    pub notes: Notes,
}

/// Runs one seed. A panic is a violation like any other.
pub fn run(seed: u64, setup: Setup, story: Story) -> Run {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        simulate_noted(seed, setup, |world| story.tell(world))
    }));
    match ran {
        Ok(Ran {
            answer,
            hash,
            events,
            simulated,
            notes,
        }) => {
            // Noted on the way counts first: it is nearer to the cause.
            let outcome = notes.check().and(answer);
            Run {
                outcome,
                hash,
                events,
                simulated,
                notes,
            }
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let what = text.unwrap_or("no message");
            Run {
                outcome: Err(Violation::of("nothing_panics", what)),
                hash: String::new(),
                events: 0,
                simulated: Duration::ZERO,
                notes: Notes::default(),
            }
        }
    }
}
