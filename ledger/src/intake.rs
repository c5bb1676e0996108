//! A field team's journal: what was seen while there was no network, in an order that nobody can
//! change later.
//!
//! What holds here: a journal is a sequence of frames; each names the hash of the one before and is
//! signed by the station that keeps it, so that a frame that was changed, left out, put in or moved
//! is noticed. Only the last one may be torn, by a power loss while it was written: it was never
//! acknowledged. What stays out: the file and its syncs, and what the entries mean.
//!
//! What it does not show: that the last frames were not cut off. Whoever has the entries that a
//! later frame hands in can tell; nobody else can.

use cairn_proto::v1;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::canonical;
use crate::entry;
use crate::hash::{self, Hash};

/// What the signed bytes begin with.
const TAG: &[u8] = b"cairn v1 intake";
/// Before each frame: the length of its record, big-endian.
const LENGTH: usize = 4;
const SIGNATURE: usize = 64;
/// The longest record: an entry with its body.
pub const MAX_RECORD: usize = 1 << 20;

/// Why a file is no journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Nothing whole is in it.
    #[error("this is no intake journal, or its first record was never finished")]
    Empty,
    /// A frame, with others behind it, is not what was written.
    #[error(
        "record {sequence}, at byte {offset}, {what}; what is before it is sound, and what is \
         behind it cannot be relied on"
    )]
    Damaged {
        /// The record's number.
        sequence: u64,
        /// Where its frame begins.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Another key keeps it.
    #[error("this journal is kept by the station {station}, and this is another key")]
    OtherStation {
        /// The station's public key, in hex.
        station: String,
    },
}

/// What a record says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Something was seen.
    Fact(v1::IntakeFact),
    /// An entry is about to be handed in.
    HandedIn(v1::IntakeHandedIn),
    /// It is settled.
    Settled(v1::IntakeSettled),
}

/// Something that was seen, and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The number of its record.
    pub sequence: u64,
    /// The device's clock, milliseconds since 1970.
    pub at_ms: u64,
    /// What was seen.
    pub fact: v1::IntakeFact,
    /// The newest entry made of it.
    pub handed_in: Option<v1::SignedEntry>,
    /// What became of that.
    pub settled: Option<v1::IntakeSettled>,
}

/// A journal as far as it was read or written.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    /// Whose it is.
    pub opened: v1::IntakeOpened,
    /// In the order in which they were recorded.
    pub facts: Vec<Fact>,
    /// The hash of the last frame.
    pub head: Hash,
    /// The number of the next record.
    pub next: u64,
}

impl Journal {
    /// Begins a journal; also the bytes of its first frame.
    pub fn open(
        station: &SigningKey,
        chain_id: &Hash,
        region: String,
        at_ms: u64,
    ) -> (Journal, Vec<u8>) {
        let opened = v1::IntakeOpened {
            chain_id: chain_id.to_bytes(),
            station: station.verifying_key().to_bytes().to_vec().into(),
            region,
        };
        let frame = frame(
            &v1::IntakeRecord {
                at_ms,
                opened: Some(opened.clone()),
                ..Default::default()
            },
            station,
        );
        let journal = Journal {
            opened,
            facts: Vec::new(),
            head: hash::plain(&frame),
            next: 1,
        };
        (journal, frame)
    }

    /// Reads a journal; also how many of the bytes are whole frames. What is behind them was being
    /// written when the power failed, and may be cut off.
    pub fn read(bytes: &[u8]) -> Result<(Journal, usize), JournalError> {
        let first = Frame::at(bytes).ok_or(JournalError::Empty)?;
        let opened = first.record().and_then(|record| match record {
            v1::IntakeRecord {
                sequence: 0,
                opened: Some(opened),
                fact: None,
                handed_in: None,
                settled: None,
                ..
            } if record.previous.is_empty() => Some(opened),
            _ => None,
        });
        let opened = opened.ok_or(JournalError::Empty)?;
        let station = entry::public_key(&opened.station).ok_or(JournalError::Empty)?;
        if !first.is_signed_by(&station) {
            return Err(JournalError::Empty);
        }
        let mut journal = Journal {
            opened,
            facts: Vec::new(),
            head: hash::plain(first.bytes),
            next: 1,
        };
        let mut whole = first.bytes.len();
        while let Some(frame) = Frame::at(&bytes[whole..]) {
            match journal.take(&frame, &station) {
                Ok(()) => whole += frame.bytes.len(),
                // A page of it may not have reached the disk.
                Err(_) if whole + frame.bytes.len() == bytes.len() => break,
                Err(what) => {
                    return Err(JournalError::Damaged {
                        sequence: journal.next,
                        offset: whole,
                        what,
                    });
                }
            }
        }
        // A frame that was being written has none behind it, however its own length reads.
        let behind = (whole + 1..bytes.len()).filter_map(|at| Frame::at(&bytes[at..]));
        if behind
            .into_iter()
            .any(|frame| frame.record().is_some() && frame.is_signed_by(&station))
        {
            return Err(JournalError::Damaged {
                sequence: journal.next,
                offset: whole,
                what: "is not what was written",
            });
        }
        Ok((journal, whole))
    }

    fn take(&mut self, frame: &Frame<'_>, station: &VerifyingKey) -> Result<(), &'static str> {
        let record = frame.record().ok_or("is not what was written")?;
        if !frame.is_signed_by(station) {
            return Err("is not signed by the station");
        }
        if record.sequence != self.next || record.previous != self.head.0[..] {
            return Err("does not follow the one before it");
        }
        let said = match (record.opened, record.fact, record.handed_in, record.settled) {
            (None, Some(fact), None, None) => Said::Fact(fact),
            (None, None, Some(handed_in), None) => Said::HandedIn(handed_in),
            (None, None, None, Some(settled)) => Said::Settled(settled),
            _ => return Err("says not exactly one thing"),
        };
        self.note(record.sequence, record.at_ms, said)?;
        self.head = hash::plain(frame.bytes);
        self.next += 1;
        Ok(())
    }

    fn note(&mut self, sequence: u64, at_ms: u64, said: Said) -> Result<(), &'static str> {
        let unknown = "is about a fact that is not before it";
        match said {
            Said::Fact(fact) => self.facts.push(Fact {
                sequence,
                at_ms,
                fact,
                handed_in: None,
                settled: None,
            }),
            Said::HandedIn(handed_in) => {
                let fact = self.fact(handed_in.fact).ok_or(unknown)?;
                fact.handed_in = handed_in.entry;
            }
            Said::Settled(settled) => {
                let fact = self.fact(settled.fact).ok_or(unknown)?;
                fact.settled = Some(settled);
            }
        }
        Ok(())
    }

    fn fact(&mut self, sequence: u64) -> Option<&mut Fact> {
        let at = self
            .facts
            .binary_search_by_key(&sequence, |fact| fact.sequence);
        self.facts.get_mut(at.ok()?)
    }

    /// Adds a record; gives the bytes to append to the file. `said` is about a fact of this journal.
    pub fn add(
        &mut self,
        station: &SigningKey,
        at_ms: u64,
        said: Said,
    ) -> Result<Vec<u8>, JournalError> {
        if self.opened.station != station.verifying_key().to_bytes()[..] {
            let station = hex::encode(&self.opened.station);
            return Err(JournalError::OtherStation { station });
        }
        let mut record = v1::IntakeRecord {
            sequence: self.next,
            previous: self.head.to_bytes(),
            at_ms,
            ..Default::default()
        };
        match said.clone() {
            Said::Fact(fact) => record.fact = Some(fact),
            Said::HandedIn(handed_in) => record.handed_in = Some(handed_in),
            Said::Settled(settled) => record.settled = Some(settled),
        }
        let frame = frame(&record, station);
        let noted = self.note(self.next, at_ms, said);
        noted.map_err(|what| JournalError::Damaged {
            sequence: self.next,
            offset: 0,
            what,
        })?;
        self.head = hash::plain(&frame);
        self.next += 1;
        Ok(frame)
    }
}

/// length (4) ‖ record ‖ signature (64).
fn frame(record: &v1::IntakeRecord, station: &SigningKey) -> Vec<u8> {
    let record = canonical::encode(record);
    let signature = station.sign(&[TAG, &record[..]].concat()).to_bytes();
    let length = (record.len() as u32).to_be_bytes();
    [&length[..], &record[..], &signature[..]].concat()
}

/// A frame with the bytes that its length asks for.
struct Frame<'a> {
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    fn at(bytes: &'a [u8]) -> Option<Frame<'a>> {
        let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        let sound = (1..=MAX_RECORD).contains(&length);
        let bytes = bytes.get(..LENGTH + length + SIGNATURE)?;
        sound.then_some(Frame { bytes })
    }

    fn split(&self) -> (&'a [u8], &'a [u8]) {
        self.bytes[LENGTH..].split_at(self.bytes.len() - LENGTH - SIGNATURE)
    }

    fn record(&self) -> Option<v1::IntakeRecord> {
        canonical::decode(self.split().0).ok()
    }

    fn is_signed_by(&self, station: &VerifyingKey) -> bool {
        let (record, signature) = self.split();
        let message = [TAG, record].concat();
        Signature::from_slice(signature)
            .is_ok_and(|signature| station.verify_strict(&message, &signature).is_ok())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn station() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn fact(number: u8) -> v1::IntakeFact {
        v1::IntakeFact {
            kind: v1::EntryKind::Evidence.into(),
            body: Bytes::from(vec![number; 40]),
        }
    }

    /// A journal of so many facts, and where its frames end.
    fn journal(facts: u8) -> (Journal, Vec<u8>, Vec<usize>) {
        let chain = Hash([3; 32]);
        let (mut journal, mut bytes) = Journal::open(&station(), &chain, "lakeside".to_owned(), 5);
        let mut ends = vec![bytes.len()];
        for number in 0..facts {
            let said = Said::Fact(fact(number));
            bytes.extend(journal.add(&station(), u64::from(number), said).unwrap());
            ends.push(bytes.len());
        }
        (journal, bytes, ends)
    }

    #[test]
    fn what_was_written_is_read() {
        let (mut written, mut bytes, _) = journal(3);
        let handed_in = v1::IntakeHandedIn {
            fact: 2,
            entry: Some(v1::SignedEntry::default()),
        };
        let settled = v1::IntakeSettled {
            fact: 2,
            height: 9,
            ..Default::default()
        };
        for said in [Said::HandedIn(handed_in), Said::Settled(settled.clone())] {
            bytes.extend(written.add(&station(), 8, said).unwrap());
        }
        let (read, whole) = Journal::read(&bytes).unwrap();
        assert_eq!((&read, whole), (&written, bytes.len()));
        assert_eq!(read.facts[1].settled, Some(settled));
        assert_eq!(read.facts[0].handed_in, None);
    }

    #[test]
    fn wherever_the_power_fails_the_whole_frames_are_read_and_nothing_else() {
        let (_, bytes, ends) = journal(3);
        for cut in ends[0]..=bytes.len() {
            let whole = *ends.iter().rfind(|end| **end <= cut).unwrap();
            let facts = ends.iter().filter(|end| **end <= cut).count() - 1;
            // Cut off, followed by nothing or by bytes that never came; or only those.
            let zeros = vec![0; 4_096];
            for left in [bytes[..cut].to_vec(), [&bytes[..whole], &zeros].concat()] {
                let (read, end) = Journal::read(&left).unwrap();
                assert_eq!((read.facts.len(), end), (facts, whole), "cut at {cut}");
            }
        }
        for cut in 0..ends[0] {
            assert_eq!(Journal::read(&bytes[..cut]), Err(JournalError::Empty));
        }
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_noticed_and_takes_at_most_the_last_record(
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let (_, mut bytes, ends) = journal(4);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            match Journal::read(&bytes) {
                Err(_) => {}
                // As if it had been torn.
                Ok((read, whole)) => prop_assert_eq!(
                    (read.facts.len(), whole, at >= ends[3]),
                    (3, ends[3], true)
                ),
            }
        }
    }

    #[test]
    fn frames_that_are_moved_left_out_or_of_another_journal_are_damage() {
        let (_, bytes, ends) = journal(4);
        let part = |number: usize| &bytes[ends[number - 1]..ends[number]];
        let first = &bytes[..ends[0]];
        let damaged = |parts: &[&[u8]]| match Journal::read(&parts.concat()) {
            Err(JournalError::Damaged {
                sequence, offset, ..
            }) => (sequence, offset),
            other => panic!("{other:?}"),
        };
        assert_eq!(damaged(&[first, part(2), part(1), part(3)]), (1, ends[0]));
        assert_eq!(damaged(&[first, part(1), part(3), part(4)]), (2, ends[1]));
        assert_eq!(damaged(&[first, part(1), part(1), part(2)]), (2, ends[1]));
        let other = SigningKey::from_bytes(&[8; 32]);
        let (mut journal, mut bytes) = Journal::open(&station(), &Hash([3; 32]), String::new(), 5);
        let said = Said::Fact(fact(1));
        assert!(matches!(
            journal.add(&other, 1, said),
            Err(JournalError::OtherStation { .. })
        ));
        bytes.extend(part(1));
        bytes.extend(part(2));
        assert!(matches!(
            Journal::read(&bytes),
            Err(JournalError::Damaged { sequence: 1, .. })
        ));
    }

    #[test]
    fn a_record_is_about_a_fact_before_it() {
        let (mut journal, mut bytes, _) = journal(1);
        let about = |fact| {
            Said::Settled(v1::IntakeSettled {
                fact,
                ..Default::default()
            })
        };
        assert!(journal.clone().add(&station(), 1, about(2)).is_err());
        bytes.extend(journal.add(&station(), 1, about(1)).unwrap());
        assert!(Journal::read(&bytes).is_ok());
    }
}
