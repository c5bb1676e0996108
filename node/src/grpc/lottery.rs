//! `LotteryService`: lotteries, rankings and one applicant's standing, each from the certified view.

use cairn_consensus::Core;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::{NAMESPACE, index, prove};
use cairn_proto::v1;
use cairn_proto::v1::lottery_service_server::LotteryService;
use tonic::{Code, Request, Response, Status};

use super::errors::{self, Failure, not_found, reason};
use super::reading::{Page, Reading, hash, page_size, proven};

/// The service.
pub struct LotteryApi {
    core: Core,
}

impl LotteryApi {
    /// Answers from `core`'s view.
    pub fn new(core: Core) -> Self {
        Self { core }
    }
}

fn unknown(id: &Hash) -> Status {
    let message = format!("no lottery {id} in this node's certified view");
    not_found(reason::LOTTERY_NOT_FOUND, message)
}

#[tonic::async_trait]
impl LotteryService for LotteryApi {
    async fn get_lottery(
        &self,
        request: Request<v1::GetLotteryRequest>,
    ) -> Result<Response<v1::GetLotteryResponse>, Status> {
        let id = request.into_inner().lottery_id;
        hash("lottery_id", &id)?;
        let receipt = Reading::newest(&self.core)?.map_receipt(NAMESPACE, id)?;
        // Unset where there is none, which the receipt proves.
        Ok(Response::new(v1::GetLotteryResponse {
            lottery: proven(receipt.proof.as_ref())?,
            receipt: Some(receipt),
        }))
    }

    async fn list_lotteries(
        &self,
        request: Request<v1::ListLotteriesRequest>,
    ) -> Result<Response<v1::ListLotteriesResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size, 20, 100)?;
        let reading = Reading::newest(&self.core)?;
        let page = Page::from_token(&request.page_token, reading.header.tree_size)?;
        let state = &*reading.view;
        // One more than the page holds tells where the next one begins.
        let mut found = prove::lotteries(state, page.next, size + 1).map_err(errors::state)?;
        found.retain(|(leaf, _)| *leaf < page.tree_size);
        let next = (found.len() > size).then(|| found[size].0);
        found.truncate(size);
        let summary = |(_, id): (u64, Hash)| {
            let lottery = prove::lottery(state, &id).map_err(errors::state)?;
            let lottery_id = id.to_bytes();
            Ok::<_, Status>(v1::LotterySummary {
                lottery_id,
                lottery,
            })
        };
        Ok(Response::new(v1::ListLotteriesResponse {
            lotteries: found.into_iter().map(summary).collect::<Result<_, _>>()?,
            next_page_token: next
                .map(|next| Page::token(page.tree_size, next))
                .unwrap_or_default(),
        }))
    }

    async fn get_applicant_proof(
        &self,
        request: Request<v1::GetApplicantProofRequest>,
    ) -> Result<Response<v1::GetApplicantProofResponse>, Status> {
        let request = request.into_inner();
        let id = hash("lottery_id", &request.lottery_id)?;
        let reading = Reading::newest(&self.core)?;
        let root = hash("map_root", &reading.header.map_root)?;
        let proof = prove::prove_applicant(&*reading.view, &root, &id, request.serial)
            .map_err(|e| errors::unreadable(&e))?;
        let Some(mut proof) = proof else {
            if prove::lottery(&*reading.view, &id)
                .map_err(errors::state)?
                .is_none()
            {
                return Err(unknown(&id));
            }
            let message = format!("lottery {id} has no serial {}", request.serial);
            return Err(not_found(reason::SERIAL_NOT_FOUND, message));
        };
        proof.checkpoint = Some(reading.checkpoint());
        proof.epoch_changes = reading.epoch_changes()?;
        Ok(Response::new(v1::GetApplicantProofResponse {
            proof: Some(proof),
        }))
    }

    async fn list_results(
        &self,
        request: Request<v1::ListResultsRequest>,
    ) -> Result<Response<v1::ListResultsResponse>, Status> {
        let request = request.into_inner();
        let id = hash("lottery_id", &request.lottery_id)?;
        let size = page_size(request.page_size, 1_000, 10_000)?;
        let reading = Reading::newest(&self.core)?;
        let page = Page::from_token(&request.page_token, reading.header.tree_size)?;
        let state = &*reading.view;
        let lottery = prove::lottery(state, &id)
            .map_err(errors::state)?
            .ok_or_else(|| unknown(&id))?;
        let lottery = match request.attempt {
            0 => lottery,
            attempt if attempt == lottery.attempt => lottery,
            attempt => prove::voided_attempt(state, &id, attempt)
                .map_err(errors::state)?
                .ok_or_else(|| {
                    let message = format!("lottery {id} has no attempt {attempt}");
                    not_found(reason::ATTEMPT_NOT_FOUND, message)
                })?,
        };
        if lottery.seed.is_empty() {
            let message = format!("lottery {id} is not drawn yet");
            let failure = Failure::new(Code::FailedPrecondition, reason::NOT_DRAWN, message);
            return Err(failure.into());
        }
        let tier = usize::try_from(request.tier).ok();
        let result = tier.and_then(|tier| lottery.results.get(tier));
        let entrants = result.map(|result| result.entrants).ok_or_else(|| {
            let message = format!("lottery {id} has no tier {}", request.tier);
            not_found(reason::TIER_NOT_FOUND, message)
        })?;
        let attempt = lottery.attempt;
        let serials = index::ranking_slice(state, &id, attempt, request.tier, page.next, size)
            .map_err(errors::state)?;
        let next = page.next.saturating_add(serials.len() as u64);
        let more = !serials.is_empty() && next < entrants;
        Ok(Response::new(v1::ListResultsResponse {
            serials,
            first_rank: page.next,
            next_page_token: page.token_if(more, next),
        }))
    }
}
