//! `CodeStatusService`: a code's status with its proof, or the proof that it was never issued.
//!
//! What holds here: the public service shows what a code is, and never what it was before; histories
//! are where restricted bodies are shown.

use cairn_consensus::Core;
use cairn_ledger::code::{ACTS_OF_NAMESPACE, NAMESPACE, acts, history};
use cairn_proto::v1;
use cairn_proto::v1::code_status_service_server::CodeStatusService;
use tonic::{Code, Request, Response, Status};

use super::errors::{Failure, invalid, reason, unreadable};
use super::ledger::Restricted;
use super::reading::{Reading, hash, page_size, proven};

/// Codes in one batch: a thousand proofs are about 1.3 MB.
const MAX_CODES: usize = 1_000;
/// Acts in one answer: some hundred bytes each.
const MAX_ACTS: u64 = 4_096;

/// The service.
pub struct CodeApi {
    core: Core,
    restricted: Restricted,
}

impl CodeApi {
    /// Answers from `core`'s view; histories where `show` says so.
    pub fn new(core: Core, show: Restricted) -> Self {
        Self {
            core,
            restricted: show,
        }
    }

    fn shows_histories(&self) -> Result<(), Status> {
        if self.restricted == Restricted::Shown {
            return Ok(());
        }
        let message = "what a code was before is shown to auditors only: ask a member's admin \
                       listener, as with --node http://127.0.0.1:7501 (the port is \"admin\" in its \
                       node.toml)";
        Err(Failure::new(Code::PermissionDenied, reason::HISTORY_RESTRICTED, message).into())
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

    async fn get_history(
        &self,
        request: Request<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::GetHistoryResponse>, Status> {
        self.shows_histories()?;
        let request = request.into_inner();
        hash("code", &request.code)?;
        let size = page_size(request.page_size, 100, 1_000)?;
        let reading = Reading::newest(&self.core)?;
        let receipt = reading.map_receipt(NAMESPACE, request.code.clone())?;
        let current: Option<v1::CodeState> = proven(receipt.proof.as_ref())?;
        let sequence = current.map_or(0, |current| current.sequence);
        let below = match request.from_sequence {
            0 => sequence,
            from if from < sequence => from + 1,
            _ => {
                let detail = format!("is at most {}", sequence.saturating_sub(1));
                return Err(invalid("from_sequence", detail));
            }
        };
        let earlier = history::read(&*reading.view, &request.code, below, size);
        let earlier = earlier.map_err(|error| unreadable(&error))?;
        Ok(Response::new(v1::GetHistoryResponse {
            receipt: Some(receipt),
            next_from_sequence: below.saturating_sub(earlier.len() as u64 + 1),
            earlier,
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
            // Its own block's acts too.
            0 => reading.header.timestamp_ms.saturating_add(1),
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
