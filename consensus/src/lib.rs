//! Cairn's agreement: Raft orders proposals, every node applies them itself, members cosign what
//! they computed, and enough cosignatures make a checkpoint certified.
//!
//! What holds here: openraft, the clock and the network are behind seams (`types`, [`network`]), so
//! that the simulator runs the same code as the node. Raft survives crashes and loss; it is not
//! Byzantine fault tolerant. What a lying leader cannot do is decided by cosignatures, in `cosign`.
//! What stays out: rules and proofs (`ledger`), bytes on disk (`storage`), transport, gRPC and
//! admission (`node`).
//!
//! The way of an entry: [`Core::submit`] → `submit` (here or forwarded) → `sequencer` → Raft →
//! `applier` → `cosign` ⇄ `gossip` → [`Core::certified`], [`Core::view`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admitted;
mod applier;
mod config;
mod core;
mod cosign;
mod evidence;
mod gossip;
mod inbound;
mod log;
mod lost_leader;
mod membership;
pub mod network;
mod raft;
mod raft_network;
mod recall;
mod recent;
mod sequencer;
mod snapshot;
mod state_machine;
mod status;
mod submit;
#[cfg(test)]
mod suite;
mod timing;
mod tracker;
mod types;

pub use crate::config::{CoreConfig, InitError, Io, SIMULATED_RECENT, StartError};
pub use crate::core::Core;
pub use crate::cosign::CosignError;
pub use crate::network::{
    Clock, Inbound, Lane, MAX_FRAME_BYTES, Network, NetworkError, SystemClock,
};
pub use crate::snapshot::{COPY_EVERY_BLOCKS, COPY_EVERY_BYTES, CopyRules};
pub use crate::status::{CoreStatus, PeerView};
pub use crate::submit::SubmitRefused;
pub use crate::timing::Timing;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A secret that nobody else knows. Nothing that is decided depends on it, and so no simulation.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    for (number, part) in secret.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *part = RandomState::new().hash_one(number).to_be_bytes();
    }
    secret
}

/// Locks, also after a panic elsewhere: what our mutexes guard is consistent between statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
