//! `cairn lottery check`: one applicant's standing, proven and in plain words.
//!
//! What holds here: the salt opens the row's commitment, so the row is this person's; the row is
//! in the frozen roster; ticket, cut-off, rank and what became of the place agree, all under one
//! certified checkpoint. A receipt with a proof in it and the genesis are enough: no node is asked.
//! What stays out: how a standing is told (`standing`).

use std::path::PathBuf;
use std::time::Instant;

use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::check::Checked;
use cairn_proto::v1;
use clap::Args;

use super::applicant;
use super::receipt_file::ReceiptFile;
use super::receipts::Receipt;
use super::standing::Standing;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output;
use crate::session::{Session, parse_hash, pinned_chain_id, read_genesis};

/// What `check` takes.
#[derive(Debug, Args)]
pub struct Check {
    /// The receipt that the applicant got; or the lottery's id, with --receipts and --serial
    #[arg(value_name = "RECEIPT|ID")]
    receipt: PathBuf,
    /// The receipts of all applicants, that `cairn lottery register` wrote
    #[arg(long, value_name = "FILE", requires = "serial")]
    receipts: Option<PathBuf>,
    /// Which applicant
    #[arg(long, value_name = "N", requires = "receipts")]
    serial: Option<u64>,
    /// Ask a node for what came since, even where the receipt has a proof
    #[arg(long)]
    online: bool,
}

/// Proves and explains where an applicant stands.
pub async fn run(global: &Global, args: Check) -> Result<(), Failure> {
    let started = Instant::now();
    let asked = Asked::of(&args)?;
    let proven = match offline_chain(global, &asked, args.online)? {
        Some((chain, proof)) => asked.verify(&chain, proof, None)?,
        None => {
            if asked.proof.is_some() && global.genesis.is_none() && !args.online {
                eprintln!(
                    "note: the receipt brings its proof; with --genesis FILE it is checked without a node"
                );
            }
            let session = Session::connect(global).await?;
            asked.expect_chain(&session.chain.id)?;
            let proof = applicant::fetch(&session, &asked.lottery_id, asked.receipt.serial).await?;
            asked.verify(&session.chain, &proof, Some(session.node().to_owned()))?
        }
    };
    let standing = Standing::of(&asked, &proven, started.elapsed());
    output::print(global, &standing, Standing::table);
    Ok(())
}

/// Whose standing is asked for.
#[derive(Debug)]
pub struct Asked {
    /// In which lottery.
    pub lottery_id: Hash,
    /// What opens the row.
    pub receipt: Receipt,
    /// On which chain, where the receipt says it.
    chain_id: Option<Hash>,
    /// The proof that came with the receipt.
    proof: Option<v1::ApplicantProof>,
}

/// A verified proof.
#[derive(Debug)]
pub struct Proven {
    /// What it says.
    pub checked: Checked,
    /// Under which certificate.
    pub checkpoint: CertifiedCheckpoint,
    /// The node that gave it; none where it came with the receipt.
    pub node: Option<String>,
    /// How long verifying took, in milliseconds.
    pub verified_ms: f64,
}

impl Asked {
    fn of(args: &Check) -> Result<Asked, Failure> {
        let Some((receipts, serial)) = args.receipts.as_ref().zip(args.serial) else {
            let file = ReceiptFile::read(&args.receipt)?;
            return Ok(Asked {
                lottery_id: file.lottery_id,
                receipt: file.receipt,
                chain_id: Some(file.chain_id),
                proof: file.proof,
            });
        };
        let id = args.receipt.to_str().unwrap_or_default();
        let id = parse_hash(id).map_err(|what| Failure::Usage(format!("the id {what}")))?;
        Ok(Asked {
            lottery_id: id,
            receipt: applicant::find(receipts, serial)?,
            chain_id: None,
            proof: None,
        })
    }

    fn expect_chain(&self, pinned: &Hash) -> Result<(), Failure> {
        match &self.chain_id {
            Some(other) if other != pinned => Err(other_chain(other, pinned)),
            _ => Ok(()),
        }
    }

    fn verify(
        &self,
        chain: &Chain,
        proof: &v1::ApplicantProof,
        node: Option<String>,
    ) -> Result<Proven, Failure> {
        let started = Instant::now();
        let (id, receipt) = (&self.lottery_id, &self.receipt);
        let (checked, checkpoint) = applicant::verify(chain, proof, id, receipt)?;
        Ok(Proven {
            checked,
            checkpoint,
            node,
            verified_ms: started.elapsed().as_secs_f64() * 1_000.0,
        })
    }
}

/// A receipt of another ledger than the pinned one.
pub fn other_chain(receipt: &Hash, pinned: &Hash) -> Failure {
    Failure::Usage(format!(
        "the receipt is of the ledger {receipt}, and you pinned {pinned}; pass the genesis or chain \
         id that the institutions published for that ledger, or the right receipt"
    ))
}

/// The chain and the proof, where both are at hand and a node is not wanted.
fn offline_chain<'a>(
    global: &Global,
    asked: &'a Asked,
    online: bool,
) -> Result<Option<(Chain, &'a v1::ApplicantProof)>, Failure> {
    let (Some(proof), Some(path), false) = (&asked.proof, &global.genesis, online) else {
        return Ok(None);
    };
    let chain = read_genesis(path)?;
    if global.chain_id.is_some() {
        pinned_chain_id(global)?;
    }
    asked.expect_chain(&chain.id)?;
    Ok(Some((chain, proof)))
}
