//! An order's receipt: a file that is on the disk before the order leaves, with all that is needed to
//! go on with it, and at the end with what it did.
//!
//! What holds here: JSON with hex, that another program reads as well; a file goes on with its own
//! order or with none, and says what differs. What stays out: whether the order is on the ledger.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use cairn_ledger::canonical;
use cairn_ledger::hash::{self, Hash};
use cairn_proto::v1;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::Change;
use super::outcome::Outcome;
use crate::drafts;
use crate::exit::Failure;
use crate::private_file;
use crate::session::{Session, parse_hash};
use crate::submit::entry_id;

/// What the file says it is.
const FORMAT: &str = "cairn-order-v1";

/// An order as it was signed, and the changes that its root commits to.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    pub chain_id: Hash,
    /// What days are counted from.
    pub signed_at_ms: u64,
    pub entry: v1::SignedEntry,
    /// By ascending code.
    pub changes: Vec<Change>,
}

/// The file's fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    format: String,
    chain_id: String,
    order_id: String,
    signed_at_ms: u64,
    /// Canonical bytes of a SignedEntry.
    entry: String,
    changes: Vec<Expected>,
    /// Once the order is in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    code: String,
    expected: u64,
}

/// Held while a receipt is looked for and written, so that two commands with one receipt do not give
/// two orders; it ends with its value, or with its process.
#[derive(Debug)]
pub struct Held {
    _folder: File,
}

impl Held {
    /// Waits for other commands that write a receipt into this folder.
    pub fn of(path: &Path) -> Result<Held, Failure> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| {
            folder.lock()?;
            Ok(folder)
        });
        match folder {
            Ok(_folder) => Ok(Held { _folder }),
            Err(error) => Err(Failure::Failed(format!("{}: {error}", path.display()))),
        }
    }
}

impl Given {
    /// The order's id.
    pub fn id(&self) -> Hash {
        entry_id(&self.entry)
    }

    /// What was signed.
    pub fn envelope(&self) -> Result<v1::Envelope, Failure> {
        canonical::decode(&self.entry.envelope)
            .map_err(|error| Failure::Failed(format!("the order's envelope: {error}")))
    }

    /// Reads a file; none where there is no file.
    pub fn read(path: &Path) -> Result<Option<Given>, Failure> {
        let name = path.display();
        let text = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| Failure::Failed(format!("{name}: {error}")))?,
        };
        let given = Given::parse(&text).map_err(|what| {
            Failure::Failed(format!(
                "{name} is no receipt of an order ({what}); name the file that an earlier run \
                 wrote, or with --receipt another one that is not there yet"
            ))
        });
        given.map(Some)
    }

    fn parse(text: &[u8]) -> Result<Given, String> {
        let fields: Fields = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if fields.format != FORMAT {
            return Err(format!("its format is {}", fields.format));
        }
        let hash = |name, text: &str| parse_hash(text).map_err(|what| format!("{name} {what}"));
        let entry = hex::decode(&fields.entry).map_err(|error| format!("entry: {error}"))?;
        let entry: v1::SignedEntry =
            canonical::decode(&entry).map_err(|error| format!("entry: {error}"))?;
        let changes = fields.changes.iter();
        let changes = changes.map(|change| Ok((hash("code", &change.code)?.0, change.expected)));
        let given = Given {
            chain_id: hash("chain_id", &fields.chain_id)?,
            signed_at_ms: fields.signed_at_ms,
            entry,
            changes: changes.collect::<Result<_, String>>()?,
        };
        let envelope = given.envelope().map_err(|error| error.to_string())?;
        let whole = given.id() == hash("order_id", &fields.order_id)?
            && envelope.body_hash == hash::plain(&given.entry.body).0[..];
        whole
            .then_some(given)
            .ok_or_else(|| "it was edited or damaged".to_owned())
    }

    /// Writes the file and brings it to the disk, in place of one that is there.
    pub fn write(&self, path: &Path, outcome: Option<&Outcome>) -> Result<(), Failure> {
        let expected = |(code, expected): &Change| Expected {
            code: hex::encode(code),
            expected: *expected,
        };
        let fields = Fields {
            format: FORMAT.to_owned(),
            chain_id: self.chain_id.to_string(),
            order_id: self.id().to_string(),
            signed_at_ms: self.signed_at_ms,
            entry: hex::encode(canonical::encode(&self.entry)),
            changes: self.changes.iter().map(expected).collect(),
            outcome: outcome.cloned(),
        };
        let written = private_file::write(path, |out| {
            serde_json::to_writer(&mut *out, &fields)?;
            writeln!(out)
        });
        written.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
    }

    /// Lets `approver` alone approve: an order that was handed in without the approval that its rule
    /// asks for leaves no trace, and is the same order with it. Whether anything changed.
    pub fn approved_by(
        &mut self,
        approver: Option<&SigningKey>,
        session: &Session,
    ) -> Result<bool, Failure> {
        let author = self.envelope()?.author;
        let before = self.entry.signatures.clone();
        let signatures = &mut self.entry.signatures;
        signatures.retain(|signature| signature.public_key == author);
        if let Some(approver) = approver {
            drafts::sign(session, &mut self.entry, approver);
        }
        Ok(self.entry.signatures != before)
    }

    /// Takes the file of an order away that the ledger will never have.
    pub fn discard(path: &Path) -> Result<(), Failure> {
        fs::remove_file(path)
            .map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
    }

    /// Fails unless this is the order that `asked`, `codes` and the keys make: everything but the
    /// sequences, which were proven when it was signed.
    pub fn same_as(&self, asked: &Asked<'_>, path: &Path) -> Result<(), Failure> {
        let name = path.display();
        let another = "for a new order name another file with --receipt";
        if self.chain_id != *asked.chain_id {
            let (theirs, this) = (self.chain_id, asked.chain_id);
            return Err(Failure::Failed(format!(
                "{name} holds an order on the ledger {theirs}, and this is {this}; {another}"
            )));
        }
        let mut codes: Vec<&[u8; 32]> = asked.codes.iter().collect();
        codes.sort_unstable();
        let differs = if codes
            .iter()
            .copied()
            .ne(self.changes.iter().map(|(code, _)| code))
        {
            vec!["the codes (--from, --skip, --limit)"]
        } else {
            self.differences(asked)?
        };
        if differs.is_empty() {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "{name} holds another order than this command gives, by: {}; to go on with the order in \
             the file give the command as it was then, {another}",
            differs.join(", ")
        )))
    }

    fn differences(&self, asked: &Asked<'_>) -> Result<Vec<&'static str>, Failure> {
        let envelope = self.envelope()?;
        let held: v1::StatusOrder = canonical::decode(&self.entry.body)
            .map_err(|error| Failure::Failed(format!("the order's body: {error}")))?;
        let order = asked.order;
        let pairs = [
            ("--key", envelope.author == asked.author[..]),
            ("--visibility", envelope.visibility() == asked.visibility),
            ("--region", held.region == order.region),
            ("--reason", held.reason == order.reason),
            ("--basis", held.legal_basis == order.legal_basis),
            ("--status", held.status == order.status),
            ("--lapses-days", held.lapses_at_ms == order.lapses_at_ms),
            ("--on-lapse", held.on_lapse == order.on_lapse),
            (
                "--evidence",
                held.evidence_commitment == order.evidence_commitment,
            ),
            ("--contact", held.appeal_contact == order.appeal_contact),
            ("--operator", held.operator == order.operator),
            ("--rule-version", held.rule_version == order.rule_version),
            ("--corrects", held.corrects == order.corrects),
            ("--code-by-code", held.mode == order.mode),
            (
                "the expected sequences, which somebody edited",
                held.changes_root == order.changes_root,
            ),
        ];
        let differs = pairs.into_iter().filter(|(_, same)| !same);
        Ok(differs.map(|(flag, _)| flag).collect())
    }
}

/// What the command asks for.
pub struct Asked<'a> {
    pub chain_id: &'a Hash,
    /// In the order of the file of codes.
    pub codes: &'a [[u8; 32]],
    /// Composed at the time and with the sequences of the file.
    pub order: &'a v1::StatusOrder,
    /// The author's public key. Who approves is no part of what is signed.
    pub author: [u8; 32],
    pub visibility: v1::Visibility,
}
