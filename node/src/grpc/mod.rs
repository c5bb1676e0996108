//! gRPC: what clients, operators and load balancers ask of this node.
//!
//! What holds here: all reads come from the certified view; messages, streams, calls and waits are
//! bounded; the operator's service has a listener of its own. Health says SERVING while there is a
//! view to serve from and the node takes part. What stays out: what is true (`cairn_ledger`, `cairn_consensus`).

mod admin;
mod blocks;
mod bodies;
mod calls;
mod code;
mod equivocations;
mod errors;
mod ledger;
mod lottery;
mod reading;
mod sockets;
mod submit;

use std::sync::Arc;
use std::time::Duration;

use cairn_consensus::Core;
use cairn_ledger::genesis::Chain;
use cairn_proto::v1;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::metrics::Metrics;
use ledger::Restricted;

use v1::admin_service_server::AdminServiceServer;
use v1::code_status_service_server::CodeStatusServiceServer;
use v1::ledger_service_server::LedgerServiceServer;
use v1::lottery_service_server::LotteryServiceServer;

/// What a request may have around an entry of the largest size. Other requests are a few hundred
/// bytes, and a batch of leaf indexes ten thousand: this is their bound.
const MAX_REQUEST: usize = 64 << 10;
/// Bytes of one call, and of one connection, that the client may send before they are read: round
/// trips of 100 ms still carry 20 and 40 MBit/s.
const CALL_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// Calls at once on one connection.
const MAX_STREAMS_PER_CONNECTION: u32 = 512;
/// Request headers; ours are a few hundred bytes.
const MAX_HEADERS: u32 = 16 << 10;
/// Streams that a client opens and resets before they were answered: beyond, the connection ends.
const MAX_PENDING_RESETS: usize = 64;
/// A connection that does not answer a ping is closed.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// The longest wait of a submit, and a little.
const LONGEST_CALL: Duration = Duration::from_secs(65);

/// What the services share.
pub struct Services {
    /// The node's part in the agreement.
    pub core: Core,
    /// The ledger.
    pub chain: Arc<Chain>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Ends listeners and streams.
    pub stop: CancellationToken,
}

fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(CALL_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE))
        .timeout(LONGEST_CALL)
}

impl Services {
    /// The largest request that hands in an entry.
    fn max_submission(&self) -> usize {
        self.chain.limits().max_entry_bytes as usize + MAX_REQUEST
    }

    /// Serves clients on `listener` until `stop`, then lets calls under way end.
    pub async fn serve_public(self: Arc<Self>, listener: TcpListener) -> anyhow::Result<()> {
        let (core, chain, stop) = (&self.core, &self.chain, &self.stop);
        let ledger = ledger::LedgerApi::new(
            core.clone(),
            chain.clone(),
            stop.clone(),
            Restricted::Withheld,
        );
        let (health, health_service) = tonic_health::server::health_reporter();
        let following = tokio::spawn(follow_health(core.clone(), health, stop.clone()));
        let router = server()
            .layer(calls::Calls::new(self.metrics.clone()))
            .add_service(
                LedgerServiceServer::new(ledger).max_decoding_message_size(self.max_submission()),
            )
            .add_service(
                LotteryServiceServer::new(lottery::LotteryApi::new(core.clone()))
                    .max_decoding_message_size(MAX_REQUEST),
            )
            .add_service(
                CodeStatusServiceServer::new(code::CodeApi::new(
                    core.clone(),
                    Restricted::Withheld,
                ))
                .max_decoding_message_size(MAX_REQUEST),
            )
            .add_service(health_service.max_decoding_message_size(MAX_REQUEST))
            .add_service(
                reflection(&PUBLIC)
                    .build_v1()?
                    .max_decoding_message_size(MAX_REQUEST),
            )
            .add_service(
                reflection(&PUBLIC)
                    .build_v1alpha()?
                    .max_decoding_message_size(MAX_REQUEST),
            );
        let incoming = sockets::accept(listener, sockets::FIRST_BYTE);
        let stopped = stop.clone().cancelled_owned();
        router
            .serve_with_incoming_shutdown(incoming, stopped)
            .await?;
        following.abort();
        Ok(())
    }

    /// Serves the operator on `listener` until `stop`. The ledger's service is there too, with
    /// restricted bodies, and that of the codes, with their histories.
    pub async fn serve_admin(self: Arc<Self>, listener: TcpListener) -> anyhow::Result<()> {
        let (core, chain, stop) = (&self.core, &self.chain, &self.stop);
        let ledger =
            ledger::LedgerApi::new(core.clone(), chain.clone(), stop.clone(), Restricted::Shown);
        let admin = admin::AdminApi::new(core.clone(), chain.clone());
        let router = server()
            .layer(calls::Calls::new(self.metrics.clone()))
            .add_service(AdminServiceServer::new(admin))
            .add_service(
                LedgerServiceServer::new(ledger).max_decoding_message_size(self.max_submission()),
            )
            .add_service(
                CodeStatusServiceServer::new(code::CodeApi::new(core.clone(), Restricted::Shown))
                    .max_decoding_message_size(MAX_REQUEST),
            )
            .add_service(reflection(&OPERATOR).build_v1()?)
            .add_service(reflection(&OPERATOR).build_v1alpha()?);
        let incoming = sockets::accept(listener, sockets::FIRST_BYTE);
        let stopped = stop.clone().cancelled_owned();
        Ok(router
            .serve_with_incoming_shutdown(incoming, stopped)
            .await?)
    }
}

/// What the public listener serves, as reflection tells it.
const PUBLIC: [&str; 4] = [
    "cairn.v1.LedgerService",
    "cairn.v1.LotteryService",
    "cairn.v1.CodeStatusService",
    "grpc.health.v1.Health",
];

/// What the operator's listener serves.
const OPERATOR: [&str; 3] = [
    "cairn.v1.AdminService",
    "cairn.v1.LedgerService",
    "cairn.v1.CodeStatusService",
];

fn reflection(services: &[&str]) -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(cairn_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    services
        .iter()
        .fold(builder, |builder, name| builder.with_service_name(*name))
}

/// Health: the whole server and each of its services are up while there is a view and the node
/// takes part. One that diverged, contradicted itself or lost its disk still answers those who ask
/// it, but nobody should be sent there.
async fn follow_health(
    core: Core,
    health: tonic_health::server::HealthReporter,
    stop: CancellationToken,
) {
    let mut certified = core.certified();
    let mut stopped = core.stopped();
    loop {
        let serving = core.view().is_some() && !stop.is_cancelled() && stopped.borrow().is_none();
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        // The empty name is the whole server.
        health.set_service_status("", status).await;
        for service in PUBLIC {
            health.set_service_status(service, status).await;
        }
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            changed = certified.changed() => if changed.is_err() { return },
            changed = stopped.changed() => if changed.is_err() { return },
            () = stop.cancelled() => {}
        }
    }
}
