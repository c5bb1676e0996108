//! `cairn proof`: proofs as files, fetched from a node, verified offline.
//!
//! What holds here: a proof is verified before it is written, and a file carries the genesis that
//! it starts from, so that its verifier needs nothing but the chain id. What stays out: what the
//! proofs mean in words (`explain`).

mod explain;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_ledger::code;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::verify::{self, VerifiedEntry};
use cairn_proto::v1;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::Global;
use crate::commands::entry::{self, Missing};
use crate::exit::Failure;
use crate::output::{self, count, line};
use crate::session::{EntryKey, Session, lottery_client, parse_hash, pinned_chain_id, refused};
use explain::{Explained, Opening};

/// `cairn proof …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fetch a proof and write it to a file
    #[command(
        subcommand,
        after_help = "Example:\n  cairn proof get code 9f03…07 --out code.proof --genesis genesis.bin"
    )]
    Get(Get),
    /// Verify a proof file offline, and say what it proves and what not
    #[command(
        after_help = "Examples:\n  cairn proof verify entry.proof --chain-id 5c0f…e1\n  \
                      cairn proof verify mine.proof --receipts receipts.csv --chain-id 5c0f…e1"
    )]
    Verify(Verify),
}

/// `cairn proof get …`
#[derive(Debug, Subcommand)]
pub enum Get {
    /// That an entry is recorded
    #[command(
        after_help = "Example:\n  cairn proof get entry 0 --out entry.proof --genesis genesis.bin"
    )]
    Entry {
        /// The entry's id (64 hex digits) or its leaf index
        #[arg(value_name = "ID|LEAF")]
        entry: EntryKey,
        /// The proof file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Put the body into the file
        #[arg(long)]
        with_body: bool,
    },
    /// What the map holds under a key, or that it holds nothing
    #[command(
        after_help = "Example:\n  cairn proof get map author 3b6a…29 --out author.proof --genesis \
                      genesis.bin"
    )]
    Map {
        /// author, lottery, code, order, "acts of", evidence, mandate or another one of the formats
        namespace: String,
        /// The key in hex
        #[arg(value_name = "KEY", value_parser = parse_hex)]
        key: Bytes,
        /// The proof file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Where an applicant stands in a lottery
    #[command(
        after_help = "Example:\n  cairn proof get applicant 41d2…c0 17 --out mine.proof --genesis \
                      genesis.bin"
    )]
    Applicant {
        /// The lottery's id, 64 hex digits
        #[arg(value_name = "LOTTERY", value_parser = parse_hash)]
        lottery: Hash,
        /// The applicant's serial
        serial: u64,
        /// The proof file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// A code's status, or that it was never issued
    #[command(
        after_help = "Example:\n  cairn proof get code 9f03…07 --out code.proof --genesis genesis.bin"
    )]
    Code {
        /// The code, 64 hex digits
        #[arg(value_name = "CODE", value_parser = parse_hash)]
        code: Hash,
        /// The proof file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// `cairn proof verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// The proof file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// For an applicant: the receipts that open the row, as lottery register wrote them
    #[arg(long, value_name = "CSV", conflicts_with_all = ["salt", "identity"])]
    receipts: Option<PathBuf>,
    /// For an applicant: the salt that opens the row, 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = parse_hash, requires = "identity")]
    salt: Option<Hash>,
    /// For an applicant: the identity, written as the lottery's rules say
    #[arg(long, value_name = "TEXT", requires = "salt")]
    identity: Option<String>,
    /// For an applicant: the holder's key in hex, where the row has one
    #[arg(long, value_name = "HEX", value_parser = parse_hex, requires = "salt")]
    holder_key: Option<Bytes>,
}

fn parse_hex(text: &str) -> Result<Bytes, String> {
    let bytes = hex::decode(text).map(Bytes::from);
    bytes.map_err(|_| "must be hex digits".to_owned())
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Get(get) => get.run(global).await,
        Command::Verify(verify) => verify.run(global),
    }
}

#[derive(Debug, Serialize)]
struct Written {
    file: String,
    kind: &'static str,
    bytes: usize,
}

impl Written {
    fn table(&self) -> Vec<(String, String)> {
        let bytes = count(self.bytes as u64);
        let verify = format!("cairn proof verify {} --chain-id HEX", self.file);
        vec![
            line("proof", format!("{}, {} bytes", self.kind, bytes)),
            line("file", &self.file),
            line("verify it", verify),
        ]
    }
}

impl Get {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        let session = Session::connect(global).await?;
        let chain = &session.chain;
        let (kind, out, file) = match self {
            Get::Entry {
                entry,
                out,
                with_body,
            } => {
                let (receipt, verified) = session.receipt(entry).await?;
                let body = if with_body {
                    body(&session, &receipt, &verified).await?
                } else {
                    Bytes::new()
                };
                ("entry", out, of_entry(chain, receipt, body))
            }
            Get::Map {
                namespace,
                key,
                out,
            } => {
                let (receipt, _) = session.map_receipt(&namespace, &key).await?;
                ("map", out, of_map(chain, receipt))
            }
            Get::Applicant {
                lottery,
                serial,
                out,
            } => {
                let proof = applicant(&session, &lottery, serial).await?;
                ("applicant", out, of_applicant(chain, proof))
            }
            Get::Code { code, out } => {
                let (receipt, _) = session.map_receipt(code::NAMESPACE, &code.0).await?;
                ("code", out, of_map(chain, receipt))
            }
        };
        let bytes = write(&out, file)?;
        let file = out.display().to_string();
        output::print(global, &Written { file, kind, bytes }, Written::table);
        Ok(())
    }
}

/// The entry's body, as the envelope commits to it.
pub async fn body(
    session: &Session,
    receipt: &v1::Receipt,
    entry: &VerifiedEntry,
) -> Result<Bytes, Failure> {
    let found = entry::fetch(session, entry.leaf_index).await?;
    let body = found.entry.unwrap_or_default().body;
    if body.is_empty() && entry.envelope.body_len > 0 {
        let missing = Missing::of(session, &entry.id).await?;
        let message = format!("{missing}; for a proof without it, leave --with-body out");
        return Err(Failure::Failed(message));
    }
    verify::receipt(&session.chain, receipt, Some(&body)).map_err(refused)?;
    Ok(body)
}

/// An applicant's standing, verified.
pub async fn applicant(
    session: &Session,
    lottery: &Hash,
    serial: u64,
) -> Result<v1::ApplicantProof, Failure> {
    let request = v1::GetApplicantProofRequest {
        lottery_id: lottery.to_bytes(),
        serial,
    };
    let answer = session.retry("asking for an applicant's proof", async |channel| {
        let mut client = lottery_client(channel);
        client.get_applicant_proof(request.clone()).await
    });
    let proof = answer.await?.into_inner().proof.unwrap_or_default();
    verify::applicant(&session.chain, &proof, None).map_err(refused)?;
    if proof.lottery_id != lottery.0[..] || proof.serial != serial {
        let node = session.node();
        let message = format!("{node} proved another applicant than the one that was asked for");
        return Err(Failure::InvalidProof(message));
    }
    Ok(proof)
}

fn of_chain(chain: &Chain) -> v1::ProofFile {
    v1::ProofFile {
        genesis: chain.bytes.clone(),
        ..v1::ProofFile::default()
    }
}

/// A file that proves an entry; with its body where that is not empty.
pub fn of_entry(chain: &Chain, receipt: v1::Receipt, body: Bytes) -> v1::ProofFile {
    v1::ProofFile {
        receipt: Some(receipt),
        body,
        ..of_chain(chain)
    }
}

/// A file that proves what the map holds, or that it holds nothing.
pub fn of_map(chain: &Chain, receipt: v1::MapReceipt) -> v1::ProofFile {
    v1::ProofFile {
        map_receipt: Some(receipt),
        ..of_chain(chain)
    }
}

/// A file that proves where an applicant stands.
pub fn of_applicant(chain: &Chain, proof: v1::ApplicantProof) -> v1::ProofFile {
    v1::ProofFile {
        applicant: Some(proof),
        ..of_chain(chain)
    }
}

/// Writes a proof file and says how large it is.
pub fn write(path: &Path, file: v1::ProofFile) -> Result<usize, Failure> {
    let bytes = verify::write_file(&file);
    let written = std::fs::write(path, &bytes);
    written
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))?;
    Ok(bytes.len())
}

impl Verify {
    fn run(self, global: &Global) -> Result<(), Failure> {
        let pinned = pinned_chain_id(global)?;
        let name = self.file.display().to_string();
        let bytes = std::fs::read(&self.file)
            .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
        let read = verify::read_file(&pinned, &bytes);
        let (chain, file) =
            read.map_err(|error| Failure::InvalidProof(format!("{name}: {error}")))?;
        let opening = self.opening(file.applicant.as_ref())?;
        let explained = explained(&chain, &file, opening.as_ref());
        let explained = explained.map_err(|failure| failure.during(&name))?;
        output::print(global, &explained, Explained::table);
        Ok(())
    }

    /// What opens the row, where the user has it.
    fn opening(&self, proof: Option<&v1::ApplicantProof>) -> Result<Option<Opening>, Failure> {
        let pair = self.salt.zip(self.identity.as_ref());
        let Some(proof) = proof else {
            if self.receipts.is_some() || pair.is_some() {
                let message = "only an applicant's proof can be opened; leave --receipts, --salt \
                               and --identity out";
                return Err(Failure::Usage(message.to_owned()));
            }
            return Ok(None);
        };
        if let Some(path) = &self.receipts {
            return Opening::from_receipts(path, proof.serial).map(Some);
        }
        Ok(pair.map(|(salt, identity)| Opening {
            salt: salt.0,
            identity: identity.clone().into_bytes(),
            holder_key: self.holder_key.clone().unwrap_or_default().to_vec(),
        }))
    }
}

/// Verifies the one proof in a file.
fn explained(
    chain: &Chain,
    file: &v1::ProofFile,
    opening: Option<&Opening>,
) -> Result<Explained, Failure> {
    match (&file.receipt, &file.map_receipt, &file.applicant) {
        (Some(receipt), None, None) => explain::entry(chain, receipt, &file.body),
        (None, Some(receipt), None) => explain::map(chain, receipt),
        (None, None, Some(proof)) => explain::applicant(chain, proof, opening),
        _ => {
            let message = "holds not exactly one proof";
            Err(Failure::InvalidProof(message.to_owned()))
        }
    }
}
