//! The command `cairn` as a process: what it prints, how it exits, what it refuses.
//!
//! What stays out: real nodes; clusters of processes are tested with the node and by the demo.

#![allow(clippy::unwrap_used)]

mod city;
mod codes;
mod equivocations;
mod genesis;
mod keys;
mod ledger;
mod lotteries;
mod node;
mod online;
mod passes;
mod proofs;
mod trust;
mod usage;
