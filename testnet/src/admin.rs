//! What a node says of itself to its operator, and what the system says of its process.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use cairn_proto::v1::admin_service_client::AdminServiceClient;
use cairn_proto::v1::{GetNodeStatusRequest, GetNodeStatusResponse};
use tonic::transport::{Channel, Endpoint};

/// A node on this machine answers within milliseconds, or is busy or gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// The operator's connection to one node.
#[derive(Debug, Clone)]
pub struct Admin(AdminServiceClient<Channel>);

impl Admin {
    /// Connects when first asked.
    pub fn new(address: SocketAddr) -> anyhow::Result<Admin> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE);
        Ok(Admin(AdminServiceClient::new(endpoint.connect_lazy())))
    }

    /// Asks the node.
    pub async fn status(&mut self) -> anyhow::Result<GetNodeStatusResponse> {
        let answer = self.0.get_node_status(GetNodeStatusRequest {}).await;
        Ok(answer.context("the operator's port")?.into_inner())
    }
}

/// The most memory that a process ever had resident, in bytes.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_peak() {
        let peak = peak_memory(std::process::id());
        assert!(peak.is_some_and(|bytes| bytes > 100_000), "{peak:?}");
        assert_eq!(peak_memory(u32::MAX), None);
    }
}
