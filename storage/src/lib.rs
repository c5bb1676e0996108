//! Cairn's bytes: one small key-value face over RocksDB and over a simulated disk, and the raft
//! log and the ledger state written once above it.
//!
//! What holds here: a batch is there whole or not at all; a read that fails is a typed error and
//! never an absence; after a failed write or sync a disk refuses everything but reads, until a new
//! process has opened it. What stays out: what the bytes mean (`ledger`), openraft's types
//! (`consensus`), async, and the network.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod disk;
pub mod generations;
pub mod guard;
pub mod log_store;
mod open;
pub mod rocks;
pub mod seal;
pub mod sim;
mod sim_generations;
pub mod state_store;
mod tail_marker;
pub mod view;

pub use disk::{Batch, Disk, DiskError, DiskRead, Durability, Limit};
pub use generations::{CopyFile, Generations, RocksGenerations};
pub use guard::{GuardRefused, Guarded, SignGuard};
pub use log_store::{LogError, LogStore, Slot};
pub use open::wait_until_closed;
pub use rocks::{Memory, Purpose, RocksDisk};
pub use sim::SimDisk;
pub use sim_generations::SimGenerations;
pub use state_store::{StateSnapshot, StateStore, StoreError};
pub use view::View;
