//! Cairn's heart, pure: formats, log and map, draw, status rules, `apply`, certificates, `verify`.
//!
//! What holds here: no clock, no randomness, no disk, no threads, no hash-map order, no floats.
//! The same inputs give the same bytes on every machine, wasm32 included. What stays out: tokio,
//! storage and transport; `storage`, `consensus` and `node` bring those.

pub mod admission;
pub mod apply;
pub mod base45;
pub mod canonical;
pub mod checkpoint;
pub mod code;
pub mod entry;
pub mod epochs;
pub mod equivocation;
pub mod evidence;
pub mod foreign;
pub mod genesis;
pub mod hash;
pub mod intake;
pub mod log;
pub mod lottery;
pub mod map;
pub mod members;
pub mod pass;
pub mod policy;
pub mod rooms;
mod rule;
pub mod state;
pub mod trust;
pub mod verify;

#[cfg(test)]
mod testing;
