//! A leader calls an entry of an earlier term committed only with one of its own behind it, or where
//! somebody else called it so before: it never counts who has it. (Day-one bug 4.)

use crate::frames::{Ballot, LogId};
use crate::invariants::one_vote_one_leader_one_cosignature::Said;
use crate::notes::Notes;

const NAME: &str = "a_leader_counts_only_its_own_term";

/// What was called committed so far.
#[derive(Debug, Default)]
pub struct Claims {
    highest: u64,
}

impl Claims {
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// `leader` says that all up to here is committed.
    pub fn claims(&mut self, notes: &Notes, said: &Said, leader: Ballot, committed: LogId) {
        let (term, index) = committed;
        let own = term == leader.0;
        // It committed it itself when it led in that term, and told nobody.
        let known = said.leader_of(term) == Some(leader.1);
        // The very first entry, which forms the cluster, is of term 0.
        if index > self.highest && term > 0 && !own && !known {
            let what = format!("{leader:?} calls {committed:?} committed");
            notes.violation(NAME, what);
        }
        self.heard(committed);
    }

    /// Somebody has a copy up to here, so it is committed.
    pub fn heard(&mut self, (_, index): LogId) {
        self.highest = self.highest.max(index);
    }
}
