//! The simulator: real nodes on simulated disks, wires and clocks, and what must hold whatever
//! happens to them.
//!
//! What holds here: a seed fixes everything; nothing here is linked into a node. The nodes are the
//! real `Core`; every fault, every lie and every planted bug is outside of it, on its disk, its
//! wires or its clock. `CAIRN_SIM_TRACE=1` prints what happens, `CAIRN_SIM_LOG=1` what the nodes
//! log. What stays out: RocksDB, libp2p and threads, which tests with real processes cover.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that is run as a command: what may not fail ends it, and no other crate builds on it"
)]

pub mod bends;
pub mod campaign;
pub mod clock;
pub mod disks;
mod faults;
pub mod fixture;
pub mod frames;
pub mod fuses;
pub mod generations;
pub mod invariants;
pub mod notes;
pub mod oracle;
pub mod planted;
pub mod port;
pub mod rng;
pub mod run;
mod settle;
pub mod stories;
pub mod storm;
pub mod trace;
pub mod wires;
mod witness;
pub mod world;

/// Prints what the nodes log, if `CAIRN_SIM_LOG` is set.
pub fn logs() {
    if std::env::var_os("CAIRN_SIM_LOG").is_some() {
        let _ = tracing_subscriber::fmt()
            .with_env_filter("info")
            .with_writer(std::io::stderr)
            .without_time()
            .try_init();
    }
}
