//! `AdminService`: for the operator, on a listener of its own.

use std::sync::Arc;

use cairn_consensus::{Core, InitError};
use cairn_ledger::genesis::Chain;
use cairn_proto::v1;
use cairn_proto::v1::admin_service_server::AdminService;
use tonic::{Code, Request, Response, Status};

use super::errors::{Failure, reason};
use super::reading::Reading;

/// The service.
pub struct AdminApi {
    core: Core,
    chain: Arc<Chain>,
}

impl AdminApi {
    /// For the node of `core`.
    pub fn new(core: Core, chain: Arc<Chain>) -> Self {
        Self { core, chain }
    }

    fn institution(&self, raft_id: u64) -> String {
        let epochs = self.core.epochs();
        let epochs = epochs.borrow();
        epochs
            .member(raft_id)
            .map_or_else(String::new, |member| member.institution.clone())
    }
}

#[tonic::async_trait]
impl AdminService for AdminApi {
    async fn get_node_status(
        &self,
        _: Request<v1::GetNodeStatusRequest>,
    ) -> Result<Response<v1::GetNodeStatusResponse>, Status> {
        let status = self.core.status();
        let peers = status.peers.iter().map(|peer| v1::PeerStatus {
            raft_id: peer.raft_id,
            institution: self.institution(peer.raft_id),
            connected: peer.connected,
            cosigned_height: peer.cosigned_height,
        });
        // 0 before anything is certified.
        let tree_size = Reading::newest(&self.core).map_or(0, |r| r.header.tree_size);
        Ok(Response::new(v1::GetNodeStatusResponse {
            raft_id: status.raft_id,
            institution: self.institution(status.raft_id),
            chain_id: self.chain.id.to_bytes(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            raft_state: status.raft_state.to_owned(),
            term: status.term,
            leader: status.leader.unwrap_or(0),
            applied_height: status.applied_height,
            certified_height: status.certified_height.unwrap_or(0),
            tree_size,
            queued_entries: status.queued_entries,
            peers: peers.collect(),
            equivocations: status.equivocations,
        }))
    }

    async fn initialize_cluster(
        &self,
        _: Request<v1::InitializeClusterRequest>,
    ) -> Result<Response<v1::InitializeClusterResponse>, Status> {
        match self.core.initialize().await {
            Ok(()) => {
                tracing::info!("cluster formed by an operator's command");
                Ok(Response::new(v1::InitializeClusterResponse {}))
            }
            Err(error) => {
                let code = match error {
                    InitError::AlreadyFormed => Code::FailedPrecondition,
                    InitError::Asking | InitError::Raft(_) => Code::Unavailable,
                };
                let refused = reason::INITIALIZE_REFUSED;
                Err(Failure::new(code, refused, error.to_string()).into())
            }
        }
    }
}
