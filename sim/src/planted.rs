//! Bugs on purpose: each is one that real systems had, planted outside of the node's code, and a
//! checker that does not see it is worth nothing.
//!
//! What holds here: a planted bug is a field of the simulation's setup; no node has a switch for it.

use std::time::Duration;

use crate::stories::{self, Story};
use crate::world::Setup;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Planted {
    #[default]
    Nothing,
    /// The Raft disk says "synced" and does nothing.
    SyncLies,
    /// A vote is written and not synced before it is answered.
    VoteNotSynced,
    /// The sign guard is written and not synced before the cosignature leaves.
    GuardNotSynced,
    /// A sync that failed is tried again, and "succeeds".
    FailedSyncRetried,
    /// A write to a full disk is dropped, and nobody is told.
    FullDiskDropsWrites,
    /// A block's writes and Raft's position are two batches.
    BlockInTwoBatches,
    /// A received state is copied over the old one, key by key.
    InstallInPlace,
    /// What cannot be read reads as absent.
    DamageReadsAsAbsent,
    /// Nothing outside of the log says how far it was synced.
    NoTailMarker,
    /// An append that was lost counts as acknowledged.
    StaleAcknowledgements,
    /// A vote that was lost counts as granted.
    VotesMadeUp,
    /// Half of the members certify.
    HalfCertifies,
    /// The clocks of enough members to certify jump together.
    ClocksAgreeOnAWrongTime,
    /// Evidence of two cosignatures is dropped.
    EvidenceDropped,
}

/// One line of the table.
pub struct Bug {
    pub planted: Planted,
    /// In the list of day-one bugs.
    pub number: u32,
    pub what: &'static str,
    pub story: Story,
    pub setup: Setup,
    /// Seeds within which it must be caught.
    pub budget: u64,
}

const fn setup(planted: Planted) -> Setup {
    Setup {
        planted,
        ..Setup::FOUR
    }
}

/// All planted bugs.
pub fn table() -> Vec<Bug> {
    let bug = |planted, number, what, story, budget| Bug {
        planted,
        number,
        what,
        story,
        setup: setup(planted),
        budget,
    };
    let mut table = vec![
        bug(
            Planted::VoteNotSynced,
            1,
            "a vote is answered before it is durable",
            Story::Storm,
            5,
        ),
        bug(
            Planted::SyncLies,
            2,
            "an acknowledgement before fsync",
            Story::PowerLoss,
            5,
        ),
        bug(
            Planted::StaleAcknowledgements,
            3,
            "commit without a real quorum",
            Story::Storm,
            10,
        ),
        bug(
            Planted::VotesMadeUp,
            3,
            "elected without a quorum",
            Story::Storm,
            10,
        ),
        bug(
            Planted::BlockInTwoBatches,
            8,
            "applied index and state written apart",
            Story::Storm,
            30,
        ),
        bug(
            Planted::InstallInPlace,
            9,
            "an install that is not atomic",
            Story::Interrupted,
            30,
        ),
        bug(
            Planted::NoTailMarker,
            13,
            "synced records lost in silence",
            Story::LostTail,
            5,
        ),
        bug(
            Planted::DamageReadsAsAbsent,
            14,
            "damage reads as not found",
            Story::Damage,
            10,
        ),
        bug(
            Planted::FullDiskDropsWrites,
            15,
            "a full disk drops writes",
            Story::FullDisk,
            10,
        ),
        bug(
            Planted::FailedSyncRetried,
            16,
            "a failed fsync is retried",
            Story::FailedSync,
            5,
        ),
        bug(
            Planted::GuardNotSynced,
            17,
            "a cosignature leaves before its guard",
            Story::Storm,
            5,
        ),
        bug(
            Planted::EvidenceDropped,
            18,
            "evidence is not kept",
            Story::TwoCosignatures,
            10,
        ),
        bug(
            Planted::ClocksAgreeOnAWrongTime,
            20,
            "freshness overstated",
            Story::WrongTime,
            5,
        ),
    ];
    table.push(Bug {
        planted: Planted::HalfCertifies,
        number: 18,
        what: "two conflicting certificates",
        story: Story::TwoFacedLeader,
        setup: Setup {
            threshold: Some(2),
            ..setup(Planted::HalfCertifies)
        },
        budget: 10,
    });
    table
}

/// How a planted bug was caught.
pub struct Caught {
    pub by: String,
    /// The seeds that it took.
    pub seeds: u64,
    pub hours: Duration,
}

/// Runs seeds until the bug shows; `None`: it never did.
pub fn hunt(bug: &Bug) -> Option<Caught> {
    let mut hours = Duration::ZERO;
    for seed in 0..bug.budget {
        let run = stories::run(seed, bug.setup, bug.story);
        hours += run.simulated;
        if let Err(violation) = run.outcome {
            return Some(Caught {
                by: violation.to_string(),
                seeds: seed + 1,
                hours,
            });
        }
    }
    None
}
