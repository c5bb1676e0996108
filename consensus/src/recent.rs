//! The newest entries of Raft's log, in memory.
//!
//! What holds here: what is given is what was appended, without a hole, and is taken away when the log
//! is cut. Each follower is sent an entry, and the state machine applies it, a moment after it was
//! appended; from the disk each of them would read, check and copy it for itself. What is older comes
//! from the disk (`log`).

use std::collections::VecDeque;
use std::ops::Range;

use openraft::EntryPayload;

use crate::types::Entry;

/// What an entry takes beside its payload.
const BESIDE: usize = 128;

/// The entries, up to a number of bytes; the newest one always, unless that number is 0.
#[derive(Debug)]
pub(crate) struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    most: usize,
}

impl Recent {
    /// None yet.
    pub(crate) fn new(most: usize) -> Recent {
        Recent {
            entries: VecDeque::new(),
            bytes: 0,
            most,
        }
    }

    /// Adds an entry that was appended to the log.
    pub(crate) fn push(&mut self, entry: Entry) {
        let next = self.range().end;
        if entry.log_id.index != next {
            self.keep_below(0);
        }
        self.bytes += bytes_of(&entry);
        self.entries.push_back(entry);
        let least = usize::from(self.most > 0);
        while self.bytes > self.most && self.entries.len() > least {
            let oldest = self.entries.pop_front();
            self.bytes -= oldest.as_ref().map_or(0, bytes_of);
        }
    }

    /// The entries of `range` up to the newest one, if the first of them is here: with payloads of
    /// `budget` bytes at most, and one at least.
    pub(crate) fn get(&self, range: &Range<u64>, budget: usize) -> Option<Vec<Entry>> {
        let here = self.range();
        if !here.contains(&range.start) {
            return None;
        }
        let skip = (range.start - here.start) as usize;
        let wanted = (range.end.min(here.end) - range.start) as usize;
        let mut left = budget;
        let fits = |(at, entry): &(usize, &Entry)| {
            let fits = payload_len(entry) <= left;
            left = left.saturating_sub(payload_len(entry));
            fits || *at == 0
        };
        let entries = self.entries.iter().skip(skip).take(wanted).enumerate();
        Some(
            entries
                .take_while(fits)
                .map(|(_, entry)| entry.clone())
                .collect(),
        )
    }

    /// The log was cut: entries from `index` on are gone.
    pub(crate) fn keep_below(&mut self, index: u64) {
        while self
            .entries
            .back()
            .is_some_and(|entry| entry.log_id.index >= index)
        {
            let newest = self.entries.pop_back();
            self.bytes -= newest.as_ref().map_or(0, bytes_of);
        }
    }

    /// The log was purged: entries up to `index` are gone.
    pub(crate) fn keep_above(&mut self, index: u64) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.log_id.index <= index)
        {
            let oldest = self.entries.pop_front();
            self.bytes -= oldest.as_ref().map_or(0, bytes_of);
        }
    }

    fn range(&self) -> Range<u64> {
        match (self.entries.front(), self.entries.back()) {
            (Some(first), Some(last)) => first.log_id.index..last.log_id.index + 1,
            _ => 0..0,
        }
    }
}

fn payload_len(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(payload) => payload.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

fn bytes_of(entry: &Entry) -> usize {
    BESIDE + payload_len(entry)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::type_config::alias::CommittedLeaderIdOf;

    use super::*;
    use crate::types::{LogId, Payload, Types};

    fn entry(index: u64) -> Entry {
        Entry {
            log_id: LogId::new(CommittedLeaderIdOf::<Types>::new(1), index),
            payload: EntryPayload::Normal(Payload(Bytes::from(vec![index as u8; 10]))),
        }
    }

    fn filled(most: usize, indexes: impl IntoIterator<Item = u64>) -> Recent {
        let mut recent = Recent::new(most);
        indexes
            .into_iter()
            .for_each(|index| recent.push(entry(index)));
        recent
    }

    fn indexes(recent: &Recent, range: Range<u64>, budget: usize) -> Option<Vec<u64>> {
        let found = recent.get(&range, budget)?;
        Some(found.iter().map(|entry| entry.log_id.index).collect())
    }

    #[test]
    fn what_is_here_is_given_without_a_hole_and_within_the_budget() {
        let recent = filled(usize::MAX, 5..9);
        assert_eq!(indexes(&recent, 4..9, 99), None, "the first is not here");
        assert_eq!(indexes(&recent, 9..10, 99), None, "not appended yet");
        assert_eq!(indexes(&recent, 5..7, 99), Some(vec![5, 6]));
        assert_eq!(indexes(&recent, 7..20, 99), Some(vec![7, 8]));
        assert_eq!(indexes(&recent, 5..9, 20), Some(vec![5, 6]));
        assert_eq!(indexes(&recent, 5..9, 0), Some(vec![5]), "one at least");
        assert_eq!(indexes(&Recent::new(99), 0..1, 99), None);
    }

    #[test]
    fn what_is_cut_purged_or_too_much_is_gone() {
        let mut recent = filled(3 * (10 + BESIDE), 1..9);
        assert_eq!(recent.range(), 6..9);
        recent.keep_below(8);
        recent.push(entry(8));
        assert_eq!(recent.range(), 6..9);
        recent.keep_above(6);
        assert_eq!(recent.range(), 7..9);
        recent.push(entry(20));
        assert_eq!(recent.range(), 20..21, "a hole lies between");
        assert_eq!(recent.bytes, 10 + BESIDE);
        recent.keep_above(20);
        assert_eq!((recent.entries.len(), recent.bytes), (0, 0));
        assert_eq!(filled(1, 1..4).range(), 3..4, "the newest one stays");
        assert_eq!(filled(0, 1..4).range(), 0..0, "unless none is to");
    }
}
