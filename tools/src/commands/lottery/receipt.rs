//! `cairn lottery receipt`: each applicant's own receipt, cut out of the registrar's list.
//!
//! What holds here: a file is for its applicant's eyes (mode 0600) and has what opens one row and
//! nothing of any other; a proof that goes into it was verified, and opens with it. What stays out:
//! how it reaches the applicant.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use cairn_ledger::hash::Hash;
use clap::{ArgGroup, Args};

use super::applicant;
use super::facts::Facts;
use super::receipt_file::ReceiptFile;
use super::receipts::{self, Lines, Receipt};
use crate::cli::Global;
use crate::exit::Failure;
use crate::progress;
use crate::session::{Session, parse_hash, pinned_chain_id};

/// What `receipt` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true))]
pub struct Issue {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The receipts that `cairn lottery register` wrote
    #[arg(long, value_name = "FILE")]
    receipts: PathBuf,
    /// Which applicant
    #[arg(long, value_name = "N", requires = "out", group = "whose")]
    serial: Option<u64>,
    /// The applicant's file
    #[arg(long, value_name = "FILE", requires = "serial")]
    out: Option<PathBuf>,
    /// Every applicant's, as receipt-N.json
    #[arg(long, requires = "out_dir", group = "whose")]
    all: bool,
    /// The folder for all of them; made if it is not there
    #[arg(long, value_name = "DIR", requires = "all")]
    out_dir: Option<PathBuf>,
    /// The receipts as one list without the holder keys' secrets, for the notary who audits the
    /// roster
    #[arg(
        long,
        value_name = "FILE",
        group = "whose",
        conflicts_with = "with_proof"
    )]
    for_audit: Option<PathBuf>,
    /// Put the proof of where the applicant stands now into the file, so that it is checked without
    /// a node
    #[arg(long)]
    with_proof: bool,
}

/// Writes one receipt or all of them.
pub async fn run(global: &Global, args: Issue) -> Result<(), Failure> {
    if let Some(list) = &args.for_audit {
        let copied = receipts::without_secrets(&args.receipts, list);
        let copied = copied.map_err(|error| Failure::Failed(error.to_string()))?;
        Facts::default()
            .with("lottery_id", args.id.to_string())
            .with("receipts", copied)
            .with("file", list.display().to_string())
            .print(global);
        return Ok(());
    }
    let issuer = Issuer {
        lottery_id: args.id,
        chain_id: pinned_chain_id(global)?,
        session: match args.with_proof {
            true => Some(Session::connect(global).await?),
            false => None,
        },
    };
    let facts = match (args.serial, &args.out, &args.out_dir) {
        (Some(serial), Some(out), _) => {
            let receipt = applicant::find(&args.receipts, serial)?;
            issuer.issue(receipt, out).await?;
            Facts::default()
                .with("lottery_id", args.id.to_string())
                .with("serial", serial)
                .with("file", out.display().to_string())
        }
        (_, _, Some(folder)) => {
            let written = issuer.issue_all(global, &args.receipts, folder).await?;
            Facts::default()
                .with("lottery_id", args.id.to_string())
                .with("receipts", written)
                .with("folder", folder.display().to_string())
        }
        _ => {
            return Err(Failure::Usage(
                "pass --serial and --out, or --all".to_owned(),
            ));
        }
    };
    facts.with("with_proof", args.with_proof).print(global);
    Ok(())
}

struct Issuer {
    lottery_id: Hash,
    chain_id: Hash,
    /// Where proofs are wanted.
    session: Option<Session>,
}

impl Issuer {
    async fn issue(&self, receipt: Receipt, path: &Path) -> Result<(), Failure> {
        let proof = match &self.session {
            None => None,
            Some(session) => {
                let proof = applicant::fetch(session, &self.lottery_id, receipt.serial).await?;
                applicant::verify(&session.chain, &proof, &self.lottery_id, &receipt)?;
                Some(proof)
            }
        };
        let file = ReceiptFile {
            chain_id: self.chain_id,
            lottery_id: self.lottery_id,
            receipt,
            proof,
        };
        let written = file.write(path);
        written.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
    }

    async fn issue_all(
        &self,
        global: &Global,
        receipts: &Path,
        folder: &Path,
    ) -> Result<u64, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| failed(&format!("{}: {error}", folder.display())))?;
        let mut count = 0;
        let mut lines = Lines::open(receipts).map_err(|error| failed(&error))?;
        while lines
            .next_receipt()
            .map_err(|error| failed(&error))?
            .is_some()
        {
            count += 1;
        }
        let bar = progress::bar(global, count, "receipts");
        let mut lines = Lines::open(receipts).map_err(|error| failed(&error))?;
        let mut written = 0;
        while let Some(receipt) = lines.next_receipt().map_err(|error| failed(&error))? {
            let serial = receipt.serial;
            let path = folder.join(format!("receipt-{serial}.json"));
            let issued = self.issue(receipt, &path).await;
            issued.map_err(|failure| failure.during(&format!("serial {serial}")))?;
            written += 1;
            bar.set_position(written);
        }
        bar.finish();
        Ok(written)
    }
}
