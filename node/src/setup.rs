//! Before anything runs: genesis, keys and settings, and whether they fit together; and the one
//! call that forms the cluster.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use cairn_ledger::genesis::Chain;
use cairn_proto::v1;
use cairn_proto::v1::admin_service_client::AdminServiceClient;
use ed25519_dalek::SigningKey;
use libp2p::identity;
use tonic::Code;

use crate::config::Config;
use crate::keys;
use crate::peers::PeersConfig;

/// Forming the cluster takes one round trip to a majority.
const INIT_DEADLINE: Duration = Duration::from_secs(20);
/// Between attempts to reach a node that is still starting.
const RETRY: Duration = Duration::from_millis(200);

/// Everything that a node starts from, checked.
pub struct Setup {
    /// The ledger.
    pub chain: Arc<Chain>,
    /// Proves to peers who this node is.
    pub network_key: identity::Keypair,
    /// Cosigns checkpoints.
    pub cosign_key: SigningKey,
}

impl Setup {
    /// Reads genesis and keys and checks them against each other and the settings.
    pub fn load(config: &Config) -> anyhow::Result<Setup> {
        let path = &config.genesis;
        let bytes = std::fs::read(path)
            .with_context(|| format!("cannot read the genesis {}", path.display()))?;
        let chain = Chain::from_bytes(&bytes)
            .with_context(|| format!("{} is no genesis that this node knows", path.display()))?;
        let setup = Setup {
            chain: Arc::new(chain),
            network_key: keys::network(&config.network_key)?,
            cosign_key: keys::cosign(&config.cosign_key)?,
        };
        // A node that has run before, or is to come in, is judged by what its ledger says
        // ([`cairn_consensus::Core`]), which may be newer than the genesis.
        if config.joining || config.data.join("ledger").exists() {
            return Ok(setup);
        }
        setup.peers(config).check()?;
        let members = &setup.chain.members.members;
        let own = members.iter().find(|m| m.raft_id == config.raft_id);
        let own = own.map(|member| &member.cosign_key[..]);
        if own != Some(&setup.cosign_key.verifying_key().as_bytes()[..]) {
            bail!(
                "{} is not the cosigning key that the genesis lists for member {} ({}); point \
                 cosign_key at this member's key",
                config.cosign_key.display(),
                config.raft_id,
                setup.member(config.raft_id),
            );
        }
        Ok(setup)
    }

    /// What the peers' side needs.
    pub fn peers(&self, config: &Config) -> PeersConfig {
        PeersConfig {
            chain_id: self.chain.id,
            members: self.chain.members.clone(),
            raft_id: config.raft_id,
            keypair: self.network_key.clone(),
            listen: config.listen.clone(),
            addresses: config.peers.clone(),
        }
    }

    /// A member's institution.
    pub fn member(&self, raft_id: u64) -> &str {
        let mut members = self.chain.members.members.iter();
        members
            .find(|member| member.raft_id == raft_id)
            .map_or("no member of the genesis", |member| &member.institution)
    }
}

/// Asks the node whose operator listens at `admin` to form the cluster.
pub async fn initialize(admin: SocketAddr, patience: Duration) -> anyhow::Result<()> {
    let address = format!("http://{}", reachable(admin));
    let endpoint = tonic::transport::Endpoint::from_shared(address)?.timeout(INIT_DEADLINE);
    let give_up = tokio::time::Instant::now() + patience;
    let channel = loop {
        match endpoint.connect().await {
            Ok(channel) => break channel,
            Err(_) if tokio::time::Instant::now() < give_up => tokio::time::sleep(RETRY).await,
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("no node answers at {admin}; start it first: cairn-node run")
                });
            }
        }
    };
    let mut client = AdminServiceClient::new(channel);
    match client
        .initialize_cluster(v1::InitializeClusterRequest {})
        .await
    {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::FailedPrecondition => {
            bail!("nothing to do: {}", status.message())
        }
        Err(status) => bail!(
            "the node refused: {} ({:?})",
            status.message(),
            status.code()
        ),
    }
}

/// Where to reach a node on this machine that listens on all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
