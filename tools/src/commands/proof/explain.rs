//! What a verified proof says, in plain words: what is proven, as of when, who stands behind it,
//! and what it does not prove.
//!
//! What holds here: nothing is said before `cairn_ledger::verify` has accepted the proof.

use std::path::Path;

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::genesis::Chain;
use cairn_ledger::lottery::check::{self, Checked, Verdict};
use cairn_ledger::verify::{self, VerifiedValue};
use cairn_ledger::{apply, code, evidence, lottery};
use cairn_proto::schema::Described;
use cairn_proto::v1;
use serde::Serialize;

use crate::certificate::{Certificate, NOT_SHOWN, list, role_in_words};
use crate::commands::code::in_words;
use crate::commands::entry::Shown;
use crate::commands::lottery::receipts;
use crate::exit::Failure;
use crate::output::{count, entries, line, timestamp};
use crate::session::refused;

/// A verified proof in words.
#[derive(Debug, Serialize)]
pub struct Explained {
    ok: bool,
    kind: &'static str,
    chain_id: String,
    ledger: String,
    proven: Vec<String>,
    not_proven: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<Shown>,
    certificate: Certificate,
}

impl Explained {
    fn new(
        kind: &'static str,
        chain: &Chain,
        checkpoint: &CertifiedCheckpoint,
        proven: Vec<String>,
    ) -> Explained {
        Explained {
            ok: true,
            kind,
            chain_id: chain.id.to_string(),
            ledger: chain.genesis.name.clone(),
            proven,
            not_proven: NOT_SHOWN.map(str::to_owned).to_vec(),
            entry: None,
            certificate: Certificate::of(checkpoint),
        }
    }

    fn without(mut self, what: impl Into<String>) -> Explained {
        self.not_proven.push(what.into());
        self
    }

    /// As lines of a table.
    pub fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("proof", "valid"),
            line("ledger", format!("{} ({})", self.ledger, self.chain_id)),
            line("it proves", list(&self.proven)),
        ];
        lines.extend(self.entry.iter().flat_map(Shown::table));
        let (height, size) = (self.certificate.height, self.certificate.tree_size);
        let state = format!("block {} with {}", count(height), entries(size));
        lines.push(line("under", state));
        lines.extend(self.certificate.summary());
        lines.push(line("it does not prove", list(&self.not_proven)));
        lines
    }
}

/// An entry's receipt.
pub fn entry(chain: &Chain, receipt: &v1::Receipt, body: &Bytes) -> Result<Explained, Failure> {
    let shown = (!body.is_empty()).then_some(&body[..]);
    let verified = verify::receipt(chain, receipt, shown).map_err(refused)?;
    let (leaf, time) = (
        verified.leaf_index,
        verified.checkpoint.header().timestamp_ms,
    );
    let mut proven = vec![
        format!(
            "this entry is leaf {leaf} of the log and was recorded by {}",
            timestamp(time)
        ),
        "whoever is named below signed it, and it was not changed since".to_owned(),
    ];
    proven.extend(shown.map(|_| "the body in this file is the one that was signed".to_owned()));
    let mut explained = Explained::new("entry", chain, &verified.checkpoint, proven);
    explained.entry = Some(Shown::of(chain, &verified));
    Ok(match shown {
        Some(_) => explained,
        None => explained.without("what the body says: it is not in this file"),
    })
}

/// A map receipt.
pub fn map(chain: &Chain, receipt: &v1::MapReceipt) -> Result<Explained, Failure> {
    let verified = verify::map_receipt(chain, receipt).map_err(refused)?;
    let proven = match &verified.value {
        None => vec![absence(&verified)],
        Some(value) => presence(&verified, value)?,
    };
    Ok(Explained::new("map", chain, &verified.checkpoint, proven))
}

fn absence(verified: &VerifiedValue) -> String {
    let key = hex::encode(&verified.key);
    match verified.namespace.as_str() {
        code::NAMESPACE => format!("code {key} was never issued"),
        evidence::NAMESPACE => format!("no document with the hash {key} was recorded"),
        lottery::NAMESPACE => format!("there is no lottery {key}"),
        apply::AUTHOR_NAMESPACE => format!("{key} is no registered author"),
        code::ERASED_NAMESPACE => format!("the body of entry {key} was not erased"),
        namespace => format!("the map holds nothing under ({namespace}, {key})"),
    }
}

fn presence(verified: &VerifiedValue, value: &Bytes) -> Result<Vec<String>, Failure> {
    let key = hex::encode(&verified.key);
    Ok(match verified.namespace.as_str() {
        code::NAMESPACE => {
            let as_of = verified.checkpoint.latest_as_of_ms();
            code_in_words(&key, &decode(value)?, as_of)
        }
        evidence::NAMESPACE => {
            let state: v1::EvidenceState = decode(value)?;
            let (time, leaf) = (timestamp(state.timestamp_ms), state.leaf_index);
            let author = hex::encode(&state.author);
            vec![format!(
                "a document with the hash {key} was recorded at {time} by {author}, leaf {leaf}"
            )]
        }
        lottery::NAMESPACE => lottery_in_words(&key, &decode(value)?),
        apply::AUTHOR_NAMESPACE => {
            let author: v1::Author = decode(value)?;
            let (name, role) = (&author.name, role_in_words(author.role()));
            vec![format!("{key} is the registered author {name}, as {role}")]
        }
        code::ERASED_NAMESPACE => {
            let state: v1::ErasedState = decode(value)?;
            let leaf = state.leaf_index;
            vec![format!(
                "the body of entry {key} was erased, by leaf {leaf}"
            )]
        }
        namespace => {
            let value = hex::encode(value);
            vec![format!("the map holds under ({namespace}, {key}): {value}")]
        }
    })
}

fn decode<M: prost::Message + Default + Described>(value: &Bytes) -> Result<M, Failure> {
    let decoded = canonical::decode(value);
    decoded.map_err(|error| Failure::InvalidProof(format!("the map's value: {error}")))
}

fn code_in_words(code: &str, state: &v1::CodeState, as_of_ms: u64) -> Vec<String> {
    let as_of = timestamp(as_of_ms);
    let effective = code::effective_status(state, as_of_ms);
    let shown = effective.map_or("not valid", in_words);
    let (region, until) = (&state.region, timestamp(state.valid_until_ms));
    let sequence = state.sequence;
    let mut words = vec![
        format!("code {code} of {region} was {shown} at {as_of} (state number {sequence})"),
        format!("it is valid until {until}"),
    ];
    if !state.order_id.is_empty() {
        let order = hex::encode(&state.order_id);
        words.push(format!("the status was set by order {order}"));
    }
    words
}

fn lottery_in_words(id: &str, state: &v1::LotteryState) -> Vec<String> {
    let title = state
        .rules
        .as_ref()
        .map_or("", |rules| rules.title.as_str());
    let stage = state.stage().as_str_name();
    let stage = stage.strip_prefix("LOTTERY_STAGE_").unwrap_or(stage);
    let (stage, rows) = (stage.to_lowercase(), count(state.rows));
    let mut words = vec![format!(
        "lottery {id}, {title}, is {stage} with {rows} rows"
    )];
    if !state.seed.is_empty() {
        words.push(format!("its seed is {}", hex::encode(&state.seed)));
    }
    words
}

/// What opens an applicant's row.
#[derive(Debug)]
pub struct Opening {
    /// From the applicant's receipt of registration.
    pub salt: [u8; 32],
    /// As it was hashed.
    pub identity: Vec<u8>,
    /// The applicant's key, or empty.
    pub holder_key: Vec<u8>,
}

impl Opening {
    /// The opening of one serial, from the receipts that registering wrote.
    pub fn from_receipts(path: &Path, serial: u64) -> Result<Opening, Failure> {
        let found = receipts::find(path, serial);
        let found = found.map_err(|error| Failure::Failed(error.to_string()))?;
        let receipt = found.ok_or_else(|| {
            let path = path.display();
            Failure::NotFound(format!("{path} has no receipt of serial {serial}"))
        })?;
        Ok(Opening {
            salt: receipt.salt,
            identity: receipt.identity,
            holder_key: receipt.holder_key,
        })
    }

    fn borrowed(&self) -> check::Opening<'_> {
        check::Opening {
            salt: &self.salt,
            identity: &self.identity,
            holder_key: &self.holder_key,
        }
    }
}

/// An applicant's proof; with an opening, also whose row it is.
pub fn applicant(
    chain: &Chain,
    proof: &v1::ApplicantProof,
    opening: Option<&Opening>,
) -> Result<Explained, Failure> {
    let borrowed = opening.map(Opening::borrowed);
    let verified = verify::applicant(chain, proof, borrowed.as_ref());
    let (checked, checkpoint) = verified.map_err(refused)?;
    let mut proven = standing(proof, &checked);
    proven.extend(opening.map(|_| "the row is that of the identity that you gave".to_owned()));
    let explained = Explained::new("applicant", chain, &checkpoint, proven)
        .without("that the roster names the people it should");
    Ok(match opening {
        Some(_) => explained,
        None => explained.without(
            "whose row it is: add --receipts CSV, or --salt HEX --identity TEXT, to open it",
        ),
    })
}

fn standing(proof: &v1::ApplicantProof, checked: &Checked) -> Vec<String> {
    let (serial, lottery) = (proof.serial, hex::encode(&proof.lottery_id));
    let roster = match checked.lottery.stage() {
        v1::LotteryStage::Open => "roster so far",
        _ => "frozen roster",
    };
    let row = format!("serial {serial} is in the {roster} of lottery {lottery}");
    let verdict = match &checked.verdict {
        Verdict::NotDrawnYet { .. } => "the lottery is not drawn yet".to_owned(),
        Verdict::Won {
            rank,
            batch,
            published,
        } => {
            let published = if *published {
                "published"
            } else {
                "not yet published"
            };
            let (rank, batch) = (count(rank + 1), batch + 1);
            format!("it won: place {rank} of the draw, batch {batch}, {published}")
        }
        Verdict::Voided => "the lottery was voided: nobody won".to_owned(),
        Verdict::Promoted { rank } => {
            let rank = count(rank + 1);
            format!("it came up from the waiting list: place {rank} of the draw")
        }
        Verdict::Waiting { rank, place } => {
            let (rank, place) = (count(rank + 1), count(*place));
            format!("it did not win: place {rank} of the draw, place {place} of the waiting list")
        }
        Verdict::NotWon { rank } => {
            let rank = count(rank + 1);
            format!("it did not win: place {rank} of the draw, behind the waiting list")
        }
        Verdict::Struck { rank } => {
            let rank = count(rank + 1);
            format!("it was struck, for an objection was upheld: place {rank} of the draw")
        }
        Verdict::Vacated { rank } => {
            let rank = count(rank + 1);
            format!("it had a place and lost it: place {rank} of the draw")
        }
    };
    vec![row, verdict]
}
