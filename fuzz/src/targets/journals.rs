//! Field journals, as a laptop keeps them.
//!
//! The truth is one day of one station, whose key nobody else has: whatever is read is the beginning
//! of that day.

use bytes::Bytes;
use cairn_ledger::entry::{self, Draft};
use cairn_ledger::hash;
use cairn_ledger::intake::{Journal, Said};
use cairn_proto::v1::{self, EntryKind, Visibility};
use ed25519_dalek::SigningKey;

use super::{Target, must, plain};

/// Records that say what was seen.
const FACTS: u8 = 12;

/// A day, and the bytes of its file.
fn day() -> anyhow::Result<(Journal, Vec<u8>)> {
    let station = SigningKey::from_bytes(&[9; 32]);
    let chain_id = hash::plain(b"a ledger");
    let (mut journal, mut file) = Journal::open(&station, &chain_id, "fuzz".to_owned(), 1);
    let body = |number: u8| Bytes::from(vec![number; 40]);
    for number in 0..FACTS {
        let fact = v1::IntakeFact {
            kind: EntryKind::Evidence.into(),
            body: body(number),
        };
        file.extend(journal.add(&station, number.into(), Said::Fact(fact))?);
    }
    let first = journal.facts.first().map_or(0, |fact| fact.sequence);
    let draft = Draft {
        kind: EntryKind::Evidence,
        visibility: Visibility::Restricted,
        subject: Bytes::new(),
        nonce: [1; 16],
        not_after_ms: 99,
        body: body(0),
    };
    let entry = entry::compose(&chain_id, draft, &station, &[]);
    let settled = v1::IntakeSettled {
        fact: first,
        entry_id: hash::plain(&entry.envelope).to_bytes(),
        height: 3,
        leaf_index: 7,
        reason: 0,
    };
    let handed_in = v1::IntakeHandedIn {
        fact: first,
        entry: Some(entry),
    };
    for said in [Said::HandedIn(handed_in), Said::Settled(settled)] {
        file.extend(journal.add(&station, 50, said)?);
    }
    Ok((journal, file))
}

/// All targets of stations.
pub fn all() -> anyhow::Result<Vec<Box<dyn Target>>> {
    let (whole, file) = day()?;
    let half = file[..file.len() / 2].to_vec();
    let seeds = vec![file, half];
    Ok(vec![plain("journals", seeds, move |input| {
        let (read, sound) = match Journal::read(input) {
            Ok(read) => read,
            Err(error) => return Ok(error.to_string()),
        };
        must(read.opened == whole.opened, "another station's journal")?;
        let same = read.facts.iter().zip(&whole.facts);
        let known = same.clone().count() == read.facts.len()
            && same
                .clone()
                .all(|(read, known)| read.fact == known.fact && read.at_ms == known.at_ms);
        must(known, "a forged record")?;
        let again = Journal::read(&input[..sound]);
        must(again == Ok((read, sound)), "what is sound reads otherwise")?;
        Ok("a beginning of the day".to_owned())
    })])
}
