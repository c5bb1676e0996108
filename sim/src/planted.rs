//! Bugs on purpose: each is one that real systems had, planted outside of the node's code, and a
//! checker that does not see it is worth nothing.
//!
//! What holds here: a planted bug is a field of the simulation's setup; no node has a switch for it.
//! A bug counts as caught only where the same seed without it is good. The numbers are those of the
//! list of day-one bugs. Not here: of 21, who may dial, which is the transport's
//! (`a_fifth_member_comes_in_and_certifies_and_one_that_left_is_not_heard_day_one_21`); 22 and 23,
//! which need backups and two versions of the program; 24 to 27, which are rules and signatures, with
//! their tests in `ledger`.

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
    /// After a start the height is that of some blocks ago, and all else is what it was.
    TipGoesBack,
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
    /// A leader calls committed what most have, of whatever term.
    EarlierTermsCounted,
    /// A copy is sent with the members that the ledger began with.
    CopyKeepsOldMembers,
    /// Raft's position in the state names the members that the ledger began with.
    MembersForgotten,
    /// Whoever left is answered as if it were a member.
    LeaverIsHeard,
    /// The Raft log takes what it reads for what it wrote.
    LogChecksumsIgnored,
    /// What was decided some blocks ago may be decided again.
    DedupeForgets,
    /// A read is called as fresh as the clock of the node that answers.
    FreshByTheClock,
    /// A verifier does not look at the changes of members.
    LinksSkipped,
    /// A verifier does not look at the path to the root.
    PathSkipped,
    /// A verifier does not look at the certificate.
    CertificateSkipped,
    /// Blocks of the old state are still read after an install.
    OldBlocksStay,
    /// No block is a checkpoint unless its leader wants that.
    NoForcedCheckpoint,
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
            Planted::EarlierTermsCounted,
            4,
            "an entry of an earlier term is counted",
            Story::Storm,
            30,
        ),
        bug(
            Planted::CopyKeepsOldMembers,
            5,
            "a copy that keeps an old member set",
            Story::Newcomer,
            10,
        ),
        bug(
            Planted::OldBlocksStay,
            6,
            "a conflicting copy is taken",
            Story::ConflictingCopy,
            10,
        ),
        bug(
            Planted::LogChecksumsIgnored,
            7,
            "a read error becomes a malformed append",
            Story::LogDamage,
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
            Planted::TipGoesBack,
            10,
            "the height goes down after a crash",
            Story::Storm,
            10,
        ),
        bug(
            Planted::DedupeForgets,
            11,
            "a retry gets a second place",
            Story::Storm,
            10,
        ),
        bug(
            Planted::FreshByTheClock,
            12,
            "a cut off node answers as fresh",
            Story::Storm,
            10,
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
            Planted::LinksSkipped,
            19,
            "a verifier skips links",
            Story::Newcomer,
            5,
        ),
        bug(
            Planted::PathSkipped,
            19,
            "a verifier accepts an empty proof",
            Story::Newcomer,
            5,
        ),
        bug(
            Planted::CertificateSkipped,
            19,
            "a verifier trusts what stands beside",
            Story::Newcomer,
            5,
        ),
        bug(
            Planted::ClocksAgreeOnAWrongTime,
            20,
            "freshness overstated",
            Story::WrongTime,
            5,
        ),
        bug(
            Planted::MembersForgotten,
            21,
            "a crash forgets a change of members",
            Story::Members,
            20,
        ),
        bug(
            Planted::LeaverIsHeard,
            21,
            "a removed member campaigns and is heard",
            Story::Members,
            40,
        ),
        bug(
            Planted::NoForcedCheckpoint,
            28,
            "a leader that never flags a checkpoint",
            Story::NeverFlags,
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
    /// What the same seed says of the same story without the bug; it must be nothing.
    pub without: Result<(), String>,
}

/// Runs seeds until the bug shows; `None`: it never did.
pub fn hunt(bug: &Bug) -> Option<Caught> {
    let mut hours = Duration::ZERO;
    for seed in 0..bug.budget {
        let run = stories::run(seed, bug.setup, bug.story);
        hours += run.simulated;
        if let Err(violation) = run.outcome {
            // The policy of two is a bug too.
            let setup = Setup {
                planted: Planted::Nothing,
                threshold: None,
                ..bug.setup
            };
            let without = stories::run(seed, setup, bug.story).outcome;
            return Some(Caught {
                by: violation.to_string(),
                seeds: seed + 1,
                hours,
                without: without
                    .map(|_| ())
                    .map_err(|violation| violation.to_string()),
            });
        }
    }
    None
}
