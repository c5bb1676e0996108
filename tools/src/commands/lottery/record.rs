//! The public record of a lottery: its states and all of its entries but redemptions, each proven.
//!
//! What holds here: a record that a node gave and one from a file are read by the same function,
//! so neither is believed more than the other. Every entry is admitted as a node admits it
//! (canonical, signed, bound to its body), and is in the log under a certified root at the place
//! that it claims. What stays out: whether entries and states agree and whether any is missing
//! (`history`); redemptions, which say who fetched what and change no draw.

use std::path::Path;

use bytes::Bytes;
use cairn_ledger::admission::{self, Admitted};
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::epochs::Epochs;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::{ATTEMPT_NAMESPACE, NAMESPACE, attempt_key};
use cairn_ledger::{canonical, log, verify};
use cairn_proto::schema::Described;
use cairn_proto::v1::{self, EntryKind};
use prost::Message;

use super::state::Proven;
use crate::cores;
use crate::exit::Failure;
use crate::session::{refused, uncertified};

/// What a record's file begins with.
const MAGIC: &[u8] = b"cairn-lottery-v1\n";

/// A lottery's record, verified entry by entry.
#[derive(Debug)]
pub struct Record {
    /// The current state, or that of the last attempt.
    pub lottery: Proven,
    /// The states of the voided attempts, oldest first.
    pub voided: Vec<v1::LotteryState>,
    /// In the order of the log.
    pub entries: Vec<Recorded>,
}

/// An entry of the lottery.
#[derive(Debug)]
pub struct Recorded {
    /// Its place in the log.
    pub leaf_index: u64,
    /// BLAKE3 of the envelope.
    pub id: Hash,
    /// Who signed it.
    pub author: Bytes,
    /// Who approved it.
    pub approvals: Vec<Bytes>,
    /// What it did.
    pub act: Act,
}

/// What an entry did to a lottery.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Act {
    Open(Box<v1::LotteryOpen>),
    Chunk(v1::RosterChunk),
    Freeze(v1::RosterFreeze),
    Dice(v1::DiceRoll),
    Contribution(v1::SeedContribution),
    Round(v1::BeaconRound),
    Batch(v1::BatchResult),
    Certify(v1::LotteryCertify),
    Void(v1::LotteryVoid),
    Objection(v1::Objection),
    Ruling(v1::Ruling),
    Promotion(v1::Promotion),
}

impl Record {
    /// Verifies what a node gave or a file holds.
    pub fn of(chain: &Chain, file: v1::LotteryFile) -> Result<Record, Failure> {
        let lottery = lottery_of(chain, file.lottery.unwrap_or_default())?;
        let voided = voided_of(chain, &lottery, &file.attempts)?;
        let mut entries = Vec::new();
        let mut sources = Vec::new();
        for page in file.pages {
            let checkpoint = page.checkpoint.unwrap_or_default();
            let epochs = Epochs::follow(chain, &page.epoch_changes);
            let epochs = epochs.map_err(|error| refused(error.into()))?;
            let checkpoint = epochs.certify(&checkpoint).map_err(uncertified)?;
            sources.push((checkpoint, page.entries));
        }
        let size = lottery.checkpoint.header().tree_size;
        for (checkpoint, page) in &mut sources {
            let reader = Reader {
                chain,
                lottery_id: &lottery.id,
                checkpoint,
            };
            entries.extend(reader.all(std::mem::take(page))?);
        }
        let ascending = entries.is_sorted_by(|a, b| a.leaf_index < b.leaf_index);
        let last = entries.last().map_or(0, |entry| entry.leaf_index);
        if !ascending || last >= size {
            return Err(Failure::InvalidProof(format!(
                "the record's entries are not in the order of the log, or come after the state \
                 that it shows, which is of {size} entries"
            )));
        }
        Ok(Record {
            lottery,
            voided,
            entries,
        })
    }

    /// Every roster chunk, in order.
    pub fn chunks(&self) -> impl Iterator<Item = &v1::RosterChunk> {
        self.entries.iter().filter_map(|entry| match &entry.act {
            Act::Chunk(chunk) => Some(chunk),
            _ => None,
        })
    }
}

/// The bytes of a record's file.
pub fn encode(file: &v1::LotteryFile) -> Bytes {
    [MAGIC, &canonical::encode(file)].concat().into()
}

/// The record in a file, of the ledger that the user pinned.
pub fn read(pinned: &Hash, path: &Path) -> Result<(Chain, Record), Failure> {
    let name = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
    let (chain, file) =
        decode(pinned, &bytes).map_err(|failure| failure.during(&name.to_string()))?;
    let record = Record::of(&chain, file).map_err(|failure| failure.during(&name.to_string()))?;
    Ok((chain, record))
}

fn decode(pinned: &Hash, bytes: &[u8]) -> Result<(Chain, v1::LotteryFile), Failure> {
    let message = bytes.strip_prefix(MAGIC).ok_or_else(|| {
        Failure::Failed(
            "this is no record of a lottery: it does not begin with the line cairn-lottery-v1; \
             write one with: cairn lottery export ID --out FILE"
                .to_owned(),
        )
    })?;
    let file: v1::LotteryFile = canonical::decode(message).map_err(|error| {
        Failure::InvalidProof(format!("the record was cut short or edited: {error}"))
    })?;
    let chain = Chain::from_bytes(&file.genesis)
        .map_err(|error| Failure::InvalidProof(format!("the record's genesis: {error}")))?;
    if chain.id == *pinned {
        return Ok((chain, file));
    }
    let id = chain.id;
    Err(Failure::InvalidProof(format!(
        "the record is from the ledger {id}, and you pinned {pinned}"
    )))
}

fn lottery_of(chain: &Chain, receipt: v1::MapReceipt) -> Result<Proven, Failure> {
    let value = verify::map_receipt(chain, &receipt).map_err(refused)?;
    match Hash::from_slice(&value.key) {
        Some(id) if value.namespace == NAMESPACE => Proven::of(id, receipt, value),
        _ => Err(Failure::InvalidProof(
            "the record proves something else than a lottery's state".to_owned(),
        )),
    }
}

/// The states of the attempts that the lottery's state lists as voided.
fn voided_of(
    chain: &Chain,
    lottery: &Proven,
    receipts: &[v1::MapReceipt],
) -> Result<Vec<v1::LotteryState>, Failure> {
    let voids = &lottery.state.voids;
    if receipts.len() != voids.len() {
        let (have, all) = (receipts.len(), voids.len());
        return Err(Failure::InvalidProof(format!(
            "the record has {have} of the {all} attempts that were voided"
        )));
    }
    let mut states = Vec::new();
    for (void, receipt) in voids.iter().zip(receipts) {
        let value = verify::map_receipt(chain, receipt).map_err(refused)?;
        let key = attempt_key(&lottery.id, void.attempt);
        let unproven = || {
            let attempt = void.attempt;
            Failure::InvalidProof(format!("the state of attempt {attempt} is not proven"))
        };
        let ours = value.namespace == ATTEMPT_NAMESPACE && value.key == key;
        let bytes = value.value.filter(|_| ours).ok_or_else(unproven)?;
        let state: v1::LotteryState = canonical::decode(&bytes).map_err(|_| unproven())?;
        states.push(state);
    }
    Ok(states)
}

/// What of the lottery an entry is; none where it is something else. Cheap, before anything is
/// verified: what is passed over here by mistake would be missing in the end.
pub fn kind_of(signed: &v1::SignedEntry, lottery_id: &Hash) -> Option<EntryKind> {
    use EntryKind::{
        BatchResult, BeaconRound, DiceRoll, LotteryCertify, LotteryOpen, LotteryVoid, Objection,
        Promotion, RosterChunk, RosterFreeze, Ruling, SeedContribution,
    };
    let envelope: v1::Envelope = canonical::decode(&signed.envelope).ok()?;
    let kind = envelope.kind();
    let ours = match kind {
        LotteryOpen => cairn_ledger::hash::plain(&signed.envelope) == *lottery_id,
        RosterChunk | RosterFreeze | DiceRoll | SeedContribution | BeaconRound | BatchResult
        | LotteryCertify | LotteryVoid | Objection | Ruling | Promotion => {
            envelope.subject == lottery_id.as_bytes().as_slice()
        }
        _ => false,
    };
    ours.then_some(kind)
}

/// Verifies the entries of one page.
struct Reader<'a> {
    chain: &'a Chain,
    lottery_id: &'a Hash,
    checkpoint: &'a CertifiedCheckpoint,
}

impl Reader<'_> {
    /// All entries of a page, on as many threads as there are cores.
    fn all(&self, entries: Vec<v1::RecordedEntry>) -> Result<Vec<Recorded>, Failure> {
        let read = cores::map(entries.len(), |at| self.one(&entries[at]));
        read.into_iter().collect()
    }

    fn one(&self, entry: &v1::RecordedEntry) -> Result<Recorded, Failure> {
        let inclusion = entry.inclusion.clone().unwrap_or_default();
        let leaf = inclusion.leaf_index;
        let signed = entry.entry.clone().unwrap_or_default();
        let kind = kind_of(&signed, self.lottery_id).ok_or_else(|| {
            let id = self.lottery_id;
            Failure::InvalidProof(format!("the entry at leaf {leaf} is none of lottery {id}"))
        })?;
        let admitted = admission::admit(self.chain, signed)
            .map_err(|error| Failure::InvalidProof(format!("the entry at leaf {leaf}: {error}")))?;
        self.in_log(&admitted.leaf_hash, &inclusion)?;
        Ok(Recorded {
            leaf_index: leaf,
            id: admitted.id,
            author: admitted.envelope.author.clone(),
            approvals: admitted.approvals().map(Bytes::copy_from_slice).collect(),
            act: act(kind, &admitted, leaf)?,
        })
    }

    fn in_log(&self, leaf_hash: &Hash, inclusion: &v1::InclusionProof) -> Result<(), Failure> {
        let leaf = inclusion.leaf_index;
        let size = self.checkpoint.header().tree_size;
        let proven = log::read_path(&inclusion.path).and_then(|path| {
            log::verify_inclusion(leaf_hash, leaf, size, &path, self.checkpoint.log_root())
        });
        proven.map_err(|why| {
            Failure::InvalidProof(format!(
                "the entry at leaf {leaf} is not proven to be in the log: {why}"
            ))
        })
    }
}

fn act(kind: EntryKind, entry: &Admitted, leaf: u64) -> Result<Act, Failure> {
    fn body<M: Message + Default + Described>(entry: &Admitted, leaf: u64) -> Result<M, Failure> {
        canonical::decode(entry.body()).map_err(|error| {
            Failure::InvalidProof(format!("the body of the entry at leaf {leaf}: {error}"))
        })
    }
    Ok(match kind {
        EntryKind::LotteryOpen => Act::Open(Box::new(body(entry, leaf)?)),
        EntryKind::RosterChunk => Act::Chunk(body(entry, leaf)?),
        EntryKind::RosterFreeze => Act::Freeze(body(entry, leaf)?),
        EntryKind::DiceRoll => Act::Dice(body(entry, leaf)?),
        EntryKind::SeedContribution => Act::Contribution(body(entry, leaf)?),
        EntryKind::BeaconRound => Act::Round(body(entry, leaf)?),
        EntryKind::BatchResult => Act::Batch(body(entry, leaf)?),
        EntryKind::LotteryCertify => Act::Certify(body(entry, leaf)?),
        EntryKind::LotteryVoid => Act::Void(body(entry, leaf)?),
        EntryKind::Objection => Act::Objection(body(entry, leaf)?),
        EntryKind::Ruling => Act::Ruling(body(entry, leaf)?),
        EntryKind::Promotion => Act::Promotion(body(entry, leaf)?),
        _ => {
            let message = format!("the entry at leaf {leaf} has no place in a lottery's record");
            return Err(Failure::InvalidProof(message));
        }
    })
}
