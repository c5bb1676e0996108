//! One applicant's receipt as a file of their own: what opens their row, their holder key's secret
//! where the office made it, and perhaps the proof of where they stand.
//!
//! What holds here: the file is JSON with hex, so that another program reads it as well; a secret
//! that does not make the holder key is refused when the file is read. What stays out: whether any
//! of it is so; `check` verifies it against the pinned chain.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use cairn_ledger::canonical;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::check::Opening;
use cairn_proto::v1;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::receipts::Receipt;
use crate::exit::Failure;
use crate::private_file;
use crate::session::parse_hash;

/// What the file says it is.
const FORMAT: &str = "cairn-receipt-v1";
/// What is read of a file: a receipt with a proof is about 10 kB.
const MAX_BYTES: u64 = 1 << 20;

/// A receipt, and of which lottery it is.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiptFile {
    /// The chain.
    pub chain_id: Hash,
    /// The lottery.
    pub lottery_id: Hash,
    /// What opens the row.
    pub receipt: Receipt,
    /// Where the applicant stood when the file was written, with its checkpoint.
    pub proof: Option<v1::ApplicantProof>,
}

/// The file's fields.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    format: String,
    chain_id: String,
    lottery_id: String,
    serial: u64,
    /// Where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    /// Where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity_hex: Option<String>,
    salt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder_secret: Option<String>,
    /// Canonical bytes of an ApplicantProof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
}

impl ReceiptFile {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<ReceiptFile, Failure> {
        let name = path.display();
        let wrong = |what: String| Failure::Failed(format!("{name}: {what}"));
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let mut text = Vec::new();
        let read = file.take(MAX_BYTES).read_to_end(&mut text);
        read.map_err(|error| wrong(error.to_string()))?;
        ReceiptFile::parse(&text).map_err(|what| {
            wrong(format!(
                "this is no applicant's receipt ({what}); pass the file that `cairn lottery \
                 receipt` wrote, or a lottery's id with --receipts and --serial"
            ))
        })
    }

    fn parse(text: &[u8]) -> Result<ReceiptFile, String> {
        let fields: Fields = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if fields.format != FORMAT {
            return Err(format!("its format is {}", fields.format));
        }
        let hash = |name, text: &str| parse_hash(text).map_err(|what| format!("{name} {what}"));
        let secret = fields.holder_secret.as_deref();
        let secret = secret.map(|text| hash("holder_secret", text)).transpose()?;
        let key = fields.holder_key.as_deref();
        let key = key.map(|text| hash("holder_key", text)).transpose()?;
        let made = secret.map(|secret| SigningKey::from_bytes(&secret.0).verifying_key());
        if made.is_some_and(|made| key.map(|key| key.0) != Some(made.to_bytes())) {
            return Err("holder_secret does not make holder_key".to_owned());
        }
        let identity = match (fields.identity, fields.identity_hex) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(digits)) => {
                hex::decode(digits).map_err(|e| format!("identity_hex: {e}"))?
            }
            _ => return Err("exactly one of identity and identity_hex is needed".to_owned()),
        };
        Ok(ReceiptFile {
            chain_id: hash("chain_id", &fields.chain_id)?,
            lottery_id: hash("lottery_id", &fields.lottery_id)?,
            receipt: Receipt {
                serial: fields.serial,
                identity,
                salt: hash("salt", &fields.salt)?.0,
                holder_key: key.map(|key| key.0.to_vec()).unwrap_or_default(),
                holder_secret: secret.map(|secret| secret.0),
            },
            proof: fields.proof.map(|digits| read_proof(&digits)).transpose()?,
        })
    }

    /// Writes the file, in place of one that is there.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.fields())?;
        private_file::write_lazily(path, |file| {
            file.write_all(&text)?;
            file.write_all(b"\n")
        })
    }

    fn fields(&self) -> Fields {
        let receipt = &self.receipt;
        let text = String::from_utf8(receipt.identity.clone()).ok();
        let digits = text.is_none().then(|| hex::encode(&receipt.identity));
        let key = &receipt.holder_key;
        let proof = self.proof.as_ref();
        Fields {
            format: FORMAT.to_owned(),
            chain_id: self.chain_id.to_string(),
            lottery_id: self.lottery_id.to_string(),
            serial: receipt.serial,
            identity: text,
            identity_hex: digits,
            salt: hex::encode(receipt.salt),
            holder_key: (!key.is_empty()).then(|| hex::encode(key)),
            holder_secret: receipt.holder_secret.map(hex::encode),
            proof: proof.map(|proof| hex::encode(canonical::encode(proof))),
        }
    }
}

impl Receipt {
    /// What opens the row.
    pub fn opening(&self) -> Opening<'_> {
        Opening {
            salt: &self.salt,
            identity: &self.identity,
            holder_key: &self.holder_key,
        }
    }
}

fn read_proof(digits: &str) -> Result<v1::ApplicantProof, String> {
    let bytes = hex::decode(digits).map_err(|error| format!("proof: {error}"))?;
    canonical::decode(&bytes).map_err(|error| format!("proof: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(identity: &[u8]) -> ReceiptFile {
        let secret = [7; 32];
        let key = SigningKey::from_bytes(&secret).verifying_key();
        ReceiptFile {
            chain_id: Hash([1; 32]),
            lottery_id: Hash([2; 32]),
            receipt: Receipt {
                serial: 17,
                identity: identity.to_vec(),
                salt: [3; 32],
                holder_key: key.as_bytes().to_vec(),
                holder_secret: Some(secret),
            },
            proof: Some(v1::ApplicantProof {
                serial: 17,
                ..Default::default()
            }),
        }
    }

    #[test]
    fn a_receipt_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipt-17.json");
        for identity in [&b"plain"[..], "张三".as_bytes(), &[0xff, 0x00]] {
            let mut written = file(identity);
            written.write(&path).unwrap();
            assert_eq!(ReceiptFile::read(&path).unwrap(), written);
            written.proof = None;
            written.receipt.holder_secret = None;
            written.receipt.holder_key = Vec::new();
            written.write(&path).unwrap();
            assert_eq!(ReceiptFile::read(&path).unwrap(), written);
        }
    }

    #[test]
    fn what_is_no_receipt_is_refused_with_what_to_pass_instead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receipt.json");
        file(b"a").write(&path).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        for (text, said) in [
            (String::new(), "EOF"),
            (good.replace(FORMAT, "other"), "its format is other"),
            (
                good.replace(&"07".repeat(32), &"08".repeat(32)),
                "does not make holder_key",
            ),
            (
                good.replace(&"03".repeat(32), "03"),
                "salt must be 64 hex digits",
            ),
            (good.replace("\"identity\"", "\"name\""), "unknown field"),
            (
                good.replace("\"identity\": \"a\",", ""),
                "exactly one of identity",
            ),
            (good.replace("\"proof\": \"", "\"proof\": \"0"), "proof:"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = ReceiptFile::read(&path).unwrap_err().to_string();
            assert!(
                error.contains(said) && error.contains("pass the file"),
                "{error}"
            );
        }
    }
}
