//! How cosignatures travel: each member tells each other its newest, until it is heard.
//!
//! What holds here: one task per peer, one message at a time, a newer notice replaces an older one.
//! An answer brings the peer's own cosignature of the same height, so one message that arrives
//! heals all that were lost before.

use std::sync::Arc;
use std::time::Duration;

use cairn_proto::v1;
use prost::Message as _;
use tokio::sync::watch;

use crate::cosign::{CosignError, Cosigner};
use crate::network::{Lane, Network};
use crate::raft_network::Kind;

/// A notice that is not answered in this time is sent again.
const DEADLINE: Duration = Duration::from_secs(1);
/// Pauses between attempts, doubling.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Tells `peer` every newest notice, until the runtime ends.
pub(crate) async fn tell(
    peer: u64,
    cosigner: Arc<Cosigner>,
    network: Arc<dyn Network>,
    failed: watch::Sender<Option<String>>,
) {
    let mut notices = cosigner.notice();
    let mut pause = PAUSES.0;
    let mut told = None;
    loop {
        let newest = notices.borrow_and_update().clone();
        let Some(newest) = newest.filter(|newest| Some(newest) != told.as_ref()) else {
            if notices.changed().await.is_err() {
                return;
            }
            continue;
        };
        let request = Kind::Cosignature.frame(&newest.encode_to_vec());
        let call = network.call(peer, Lane::Control, request);
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(answer)) => {
                told = Some(newest);
                pause = PAUSES.0;
                if let Ok(v1::CosignatureAnswer { mine: Some(theirs) }) =
                    v1::CosignatureAnswer::decode(answer)
                    && let Err(error) = cosigner.receive(peer, &theirs)
                {
                    stop(&failed, &error);
                    return;
                }
            }
            Ok(Err(_)) | Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Renews this member's newest cosignature while nothing newer comes.
pub(crate) async fn renew(
    cosigner: Arc<Cosigner>,
    every: Duration,
    failed: watch::Sender<Option<String>>,
) {
    loop {
        tokio::time::sleep(every).await;
        if let Err(error) = cosigner.renew(every) {
            stop(&failed, &error);
            return;
        }
    }
}

/// A cosigning error stops the node: it must not go on after a contradiction.
pub(crate) fn stop(failed: &watch::Sender<Option<String>>, error: &CosignError) {
    tracing::error!(%error, "this node must not go on");
    failed.send_replace(Some(error.to_string()));
}
