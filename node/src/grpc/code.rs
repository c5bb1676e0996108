//! `CodeStatusService`: a code's status with its proof, or the proof that it was never issued.

use cairn_consensus::Core;
use cairn_ledger::code::NAMESPACE;
use cairn_proto::v1;
use cairn_proto::v1::code_status_service_server::CodeStatusService;
use tonic::{Request, Response, Status};

use super::errors::invalid;
use super::reading::{Reading, hash, proven};

/// Codes in one batch: a thousand proofs are about 1.3 MB.
const MAX_CODES: usize = 1_000;

/// The service.
pub struct CodeApi {
    core: Core,
}

impl CodeApi {
    /// Answers from `core`'s view.
    pub fn new(core: Core) -> Self {
        Self { core }
    }
}

#[tonic::async_trait]
impl CodeStatusService for CodeApi {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let code = request.into_inner().code;
        hash("code", &code)?;
        let receipt = Reading::newest(&self.core)?.map_receipt(NAMESPACE, code)?;
        Ok(Response::new(v1::GetStatusResponse {
            state: proven(receipt.proof.as_ref())?,
            receipt: Some(receipt),
        }))
    }

    async fn batch_get_status(
        &self,
        request: Request<v1::BatchGetStatusRequest>,
    ) -> Result<Response<v1::BatchGetStatusResponse>, Status> {
        let codes = request.into_inner().codes;
        if codes.len() > MAX_CODES {
            return Err(invalid("codes", format!("are at most {MAX_CODES}")));
        }
        let reading = Reading::newest(&self.core)?;
        let prove = |code: &bytes::Bytes| {
            hash("codes", code)?;
            reading.map_proof(NAMESPACE, code)
        };
        Ok(Response::new(v1::BatchGetStatusResponse {
            proofs: codes.iter().map(prove).collect::<Result<_, _>>()?,
            checkpoint: Some(reading.checkpoint()),
        }))
    }
}
