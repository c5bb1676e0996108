//! When a person has had enough.

use tokio::signal::unix::{SignalKind, signal};

/// Returns when the user wants to stop.
pub async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut term), Ok(mut hangup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = term.recv() => {}
        _ = hangup.recv() => {}
    }
}
