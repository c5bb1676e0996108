//! What a simulation notes while it runs: faults that were injected, marks that were hit, and what
//! must not have happened.
//!
//! What holds here: marks are seen from outside (wires, disks, status), so no node carries code for
//! them. A campaign that never hits a mark did not test what it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::invariants::Violation;

/// Rare situations that a campaign must have been in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    ElectedDuringInstall,
    CrashBetweenGuardAndSend,
    CrashBeforeThePointerMoved,
    CrashAfterThePointerMoved,
    LeaderChangeWithEntriesInFlight,
    LogTruncatedOnAFollower,
    CertificateFromAProposal,
    JointConfigurationInterrupted,
    FullDiskOnLeader,
    ClockAheadLeaderUnheard,
    MemberBehindThePurge,
    FailedSyncStoppedANode,
    DamageStoppedANode,
    EvidenceKept,
    EntryHeldBackByTheLeader,
    CopyAcrossAnEpoch,
    CheckpointForced,
    ConflictingCopyRefused,
}

impl Mark {
    pub const ALL: [Mark; 18] = [
        Mark::ElectedDuringInstall,
        Mark::CrashBetweenGuardAndSend,
        Mark::CrashBeforeThePointerMoved,
        Mark::CrashAfterThePointerMoved,
        Mark::LeaderChangeWithEntriesInFlight,
        Mark::LogTruncatedOnAFollower,
        Mark::CertificateFromAProposal,
        Mark::JointConfigurationInterrupted,
        Mark::FullDiskOnLeader,
        Mark::ClockAheadLeaderUnheard,
        Mark::MemberBehindThePurge,
        Mark::FailedSyncStoppedANode,
        Mark::DamageStoppedANode,
        Mark::EvidenceKept,
        Mark::EntryHeldBackByTheLeader,
        Mark::CopyAcrossAnEpoch,
        Mark::CheckpointForced,
        Mark::ConflictingCopyRefused,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Mark::ElectedDuringInstall => "elected during a snapshot install",
            Mark::CrashBetweenGuardAndSend => "crash between sign guard write and send",
            Mark::CrashBeforeThePointerMoved => "crash during an install, before the pointer moved",
            Mark::CrashAfterThePointerMoved => "crash during an install, after the pointer moved",
            Mark::LeaderChangeWithEntriesInFlight => "leader change with entries in flight",
            Mark::LogTruncatedOnAFollower => "log truncated on a follower",
            Mark::CertificateFromAProposal => "certificate from a proposal adopted",
            Mark::JointConfigurationInterrupted => "joint configuration interrupted by a crash",
            Mark::FullDiskOnLeader => "full disk on the leader",
            Mark::ClockAheadLeaderUnheard => "leader with a clock ahead unheard",
            Mark::MemberBehindThePurge => "member behind the purge",
            Mark::FailedSyncStoppedANode => "failed sync stopped a node",
            Mark::DamageStoppedANode => "damaged record stopped a node",
            Mark::EvidenceKept => "evidence of two cosignatures kept",
            Mark::EntryHeldBackByTheLeader => "entry held back by the leader",
            Mark::CopyAcrossAnEpoch => "copy across a change of members",
            Mark::ConflictingCopyRefused => "copy refused that contradicts what was signed",
            Mark::CheckpointForced => "checkpoint forced that no leader asked for",
        }
    }
}

#[derive(Debug, Default)]
struct Noted {
    faults: BTreeMap<&'static str, u64>,
    marks: BTreeMap<Mark, u64>,
    violations: Vec<Violation>,
}

/// The notes of one simulation. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<Noted>>);

impl Notes {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault was injected.
    pub fn fault(&self, what: &'static str) {
        *self.noted().faults.entry(what).or_default() += 1;
    }

    pub fn mark(&self, mark: Mark) {
        *self.noted().marks.entry(mark).or_default() += 1;
    }

    pub fn violation(&self, invariant: &'static str, what: String) {
        // The first ones tell the story.
        const MOST: usize = 16;
        let violations = &mut self.noted().violations;
        if violations.len() < MOST {
            violations.push(Violation::of(invariant, what));
        }
    }

    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.noted().faults.clone()
    }

    pub fn marks(&self) -> BTreeMap<Mark, u64> {
        self.noted().marks.clone()
    }

    /// The first thing that must not have happened.
    pub fn check(&self) -> Result<(), Violation> {
        match self.noted().violations.first() {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }
}
