//! One applicant's proof: fetched from a node, verified against the pinned chain.
//!
//! What holds here: a proof is about the row that was asked for, and opens with the applicant's own
//! salt, identity and holder key.

use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::check::Checked;
use cairn_ledger::verify;
use cairn_proto::v1;

use super::receipts::{self, Receipt};
use crate::exit::Failure;
use crate::session::{Session, lottery_client, refused};

/// The proof of one row, as a node gives it: not verified yet.
pub async fn fetch(
    session: &Session,
    lottery_id: &Hash,
    serial: u64,
) -> Result<v1::ApplicantProof, Failure> {
    let request = v1::GetApplicantProofRequest {
        lottery_id: lottery_id.to_bytes(),
        serial,
    };
    let answer = session.retry("asking for the applicant's proof", async |channel| {
        let mut client = lottery_client(channel);
        client.get_applicant_proof(request.clone()).await
    });
    let proof = answer.await?.into_inner().proof.unwrap_or_default();
    about(&proof, lottery_id, serial).map_err(|failure| failure.during(session.node()))?;
    Ok(proof)
}

/// Verifies a proof, and that the row is the one that `receipt` opens.
pub fn verify(
    chain: &Chain,
    proof: &v1::ApplicantProof,
    lottery_id: &Hash,
    receipt: &Receipt,
) -> Result<(Checked, CertifiedCheckpoint), Failure> {
    about(proof, lottery_id, receipt.serial)?;
    verify::applicant(chain, proof, Some(&receipt.opening())).map_err(refused)
}

/// The receipt of one serial, which the file must have.
pub fn find(path: &std::path::Path, serial: u64) -> Result<Receipt, Failure> {
    let found = receipts::find(path, serial).map_err(|error| Failure::Failed(error.to_string()))?;
    found.ok_or_else(|| Failure::NotFound(format!("{} has no serial {serial}", path.display())))
}

fn about(proof: &v1::ApplicantProof, lottery_id: &Hash, serial: u64) -> Result<(), Failure> {
    if proof.lottery_id == lottery_id.as_bytes().as_slice() && proof.serial == serial {
        return Ok(());
    }
    let message = format!("the proof is of another row than serial {serial} of {lottery_id}");
    Err(Failure::InvalidProof(message))
}
