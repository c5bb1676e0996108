//! Whatever a node said before a crash still binds it: in one term it votes once and one node leads,
//! and at one height it cosigns one header. Seen on the wires. (Day-one bugs 1, 3, 17.)

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::frames::Ballot;
use crate::notes::Notes;

const NAME: &str = "one_vote_one_leader_one_cosignature";

/// All that was said.
#[derive(Debug, Default)]
pub struct Said {
    votes: BTreeMap<(u64, u64), u64>,
    leaders: BTreeMap<u64, u64>,
    cosigned: BTreeMap<(u64, u64), Bytes>,
}

impl Said {
    pub fn voted(&mut self, notes: &Notes, voter: u64, (term, candidate): Ballot) {
        let first = *self.votes.entry((voter, term)).or_insert(candidate);
        if first != candidate {
            let what = format!("{voter} voted for {first} and for {candidate} in term {term}");
            notes.violation(NAME, what);
        }
    }

    /// True the first time that a term's leader is heard.
    pub fn led(&mut self, notes: &Notes, (term, leader): Ballot) -> bool {
        let new = !self.leaders.contains_key(&term);
        let first = *self.leaders.entry(term).or_insert(leader);
        if first != leader {
            notes.violation(NAME, format!("{first} and {leader} lead in term {term}"));
        }
        new
    }

    pub fn leader_of(&self, term: u64) -> Option<u64> {
        self.leaders.get(&term).copied()
    }

    pub fn cosigned(&mut self, notes: &Notes, member: u64, height: u64, hash: &Bytes) {
        let first = self.cosigned.entry((member, height));
        let first = first.or_insert_with(|| hash.clone());
        if first != hash {
            notes.violation(NAME, format!("{member} cosigned two headers at {height}"));
        }
    }

    /// The highest header that `member` said it cosigned.
    pub fn highest(&self, member: u64) -> u64 {
        let mut of = self.cosigned.range((member, 0)..=(member, u64::MAX));
        of.next_back().map_or(0, |((_, height), _)| *height)
    }
}
