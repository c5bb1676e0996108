//! What happens to every call: it is counted, the number under way and the bytes of their bodies
//! (`bodies`) are bounded, and an error that comes from below our methods gets its `ErrorInfo` too.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::bodies::{Budget, Connection, Messages};
use super::errors::{Failure, overloaded, reason};
use crate::metrics::Metrics;

/// Calls whose answer has not begun, over all connections. One answer takes microseconds, so this
/// is a tenth of a second of work; above it, refusing early keeps those that are answered fast.
/// Submits wait for the disk and for cosignatures, and most of the places are for them.
const MAX_CALLS: usize = 4_096;

/// Where tonic puts details.
const DETAILS: &str = "grpc-status-details-bin";

/// The method of calls that are not ours.
const OTHER: &str = "(other)";

/// Wraps a server's services.
#[derive(Clone)]
pub struct Calls {
    places: Arc<Semaphore>,
    budget: Budget,
    metrics: Arc<Metrics>,
}

impl Calls {
    /// Counts into `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_CALLS)),
            budget: Budget::default(),
            metrics,
        }
    }
}

impl<S> Layer<S> for Calls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            calls: self.clone(),
        }
    }
}

/// A service behind [`Calls`].
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    calls: Calls,
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let calls = self.calls.clone();
        let Ok(place) = calls.places.clone().try_acquire_owned() else {
            calls.metrics.call("(refused)", Code::ResourceExhausted);
            let status = overloaded("this node has too many calls under way");
            return Box::pin(async move { Ok(status.into_http()) });
        };
        let path = request.uri().path();
        let (method, messages) = (method(path), messages(path));
        let connection = request.extensions().get::<Connection>();
        let connection = connection.cloned().unwrap_or_default();
        let bounded = |body| Body::new(calls.budget.bound(body, connection, messages));
        let answer = self.inner.call(request.map(bounded));
        Box::pin(async move {
            let answer = explained(answer.await?);
            // A stream's status comes at its end; here it has begun well.
            let code = Status::from_header_map(answer.headers()).map_or(Code::Ok, |s| s.code());
            // A stranger may make up any number of names.
            let known = code != Code::Unimplemented;
            calls
                .metrics
                .call(if known { &method } else { OTHER }, code);
            drop(place);
            Ok(answer)
        })
    }
}

/// `/cairn.v1.LedgerService/GetEntry` as `LedgerService/GetEntry`.
fn method(path: &str) -> String {
    match path.strip_prefix("/cairn.v1.") {
        Some(name) if name.len() < 64 => name.to_owned(),
        _ => OTHER.to_owned(),
    }
}

/// Our own calls have one message, but for one.
fn messages(path: &str) -> Messages {
    let own = path.strip_prefix("/cairn.v1.");
    if own.is_some_and(|name| name != "LedgerService/SubmitEntries") {
        Messages::One
    } else {
        Messages::Many
    }
}

/// Gives an error without details its `ErrorInfo`.
fn explained(answer: Response<Body>) -> Response<Body> {
    if answer.headers().contains_key(DETAILS) {
        return answer;
    }
    match Status::from_header_map(answer.headers()) {
        Some(status) if status.code() != Code::Ok => {
            let reason = match status.code() {
                Code::Cancelled | Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
                Code::Unimplemented => "METHOD_UNKNOWN",
                _ => reason::REQUEST_REJECTED,
            };
            Status::from(Failure::new(status.code(), reason, status.message())).into_http()
        }
        _ => answer,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_proto::v1;
    use cairn_proto::v1::ledger_service_client::LedgerServiceClient;
    use tonic::transport::Server;
    use tonic_types::StatusExt;

    use super::*;
    use crate::grpc::sockets;

    #[tokio::test]
    async fn errors_from_below_our_methods_have_a_reason_too() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let metrics = Arc::new(Metrics::default());
        let (_, health) = tonic_health::server::health_reporter();
        let server = Server::builder()
            .layer(Calls::new(metrics))
            .add_service(health)
            .serve_with_incoming(sockets::accept(listener, sockets::FIRST_BYTE));
        let server = tokio::spawn(server);
        let mut client = LedgerServiceClient::connect(address).await.unwrap();
        let status = client.get_genesis(v1::GetGenesisRequest {}).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "METHOD_UNKNOWN");
        server.abort();
    }

    #[test]
    fn only_our_own_methods_have_names_in_the_metrics() {
        let own = "/cairn.v1.LedgerService/GetEntry";
        assert_eq!(method(own), "LedgerService/GetEntry");
        for strange in [
            "/",
            "/x",
            "/grpc.health.v1.Health/Check",
            &format!("{own}{own}{own}"),
        ] {
            assert_eq!(method(strange), "(other)");
        }
    }
}
