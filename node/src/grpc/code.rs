//! `CodeStatusService`: a code's status with its proof, or the proof that it was never issued.

use cairn_consensus::Core;
use cairn_ledger::code::{ACTS_OF_NAMESPACE, NAMESPACE, acts};
use cairn_proto::v1;
use cairn_proto::v1::code_status_service_server::CodeStatusService;
use tonic::{Request, Response, Status};

use super::errors::{invalid, unreadable};
use super::reading::{Reading, hash, proven};

/// Codes in one batch: a thousand proofs are about 1.3 MB.
const MAX_CODES: usize = 1_000;
/// Acts in one answer: some hundred bytes each.
const MAX_ACTS: u64 = 4_096;

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

    async fn list_orders(
        &self,
        request: Request<v1::ListOrdersRequest>,
    ) -> Result<Response<v1::ListOrdersResponse>, Status> {
        let v1::ListOrdersRequest {
            authority,
            from_ms,
            to_ms,
        } = request.into_inner();
        hash("authority", &authority)?;
        let reading = Reading::newest(&self.core)?;
        let to_ms = match to_ms {
            0 => reading.header.timestamp_ms,
            to_ms if to_ms < from_ms => return Err(invalid("to_ms", "is before from_ms")),
            to_ms => to_ms,
        };
        let window = acts::window(&*reading.view, &authority, from_ms, to_ms);
        let window = window.map_err(|error| unreadable(&error))?;
        let window = window.start..window.end.min(window.start + MAX_ACTS);
        let range = acts::prove(&*reading.view, &authority, window);
        Ok(Response::new(v1::ListOrdersResponse {
            range: Some(range.map_err(|error| unreadable(&error))?),
            log: Some(reading.map_receipt(ACTS_OF_NAMESPACE, authority)?),
        }))
    }
}
