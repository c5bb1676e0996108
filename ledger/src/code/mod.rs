//! Code status: who changed whose code, on what ground, and what it is now.
//!
//! What holds here: a code is a random pseudonym; its state in the map says which order set it; an
//! authority acts only within its mandate; an order takes effect with its last chunk, all or
//! nothing; what a code shows is a function of its state and of the time at which one looks, so
//! lapsing needs no act and no entry. What stays out: passes, check-ins, appeals.

pub mod rules;

use cairn_proto::v1::{self, CodeStatus};

use crate::apply::Ctx;
use crate::canonical;
use crate::hash::Hash;
use crate::log;
use crate::state::StateRead;

/// The map's namespace of codes; the key is the code.
pub const NAMESPACE: &str = "code";
/// The map's namespace of status orders; the key is the order's entry id.
pub const ORDER_NAMESPACE: &str = "order";
/// The map's namespace of the logs of all orders of an authority; the key is its public key.
pub const ORDERS_OF_NAMESPACE: &str = "orders of";
/// The map's namespace of mandates; the key is [`mandate_key`].
pub const MANDATE_NAMESPACE: &str = "mandate";

/// Codes in one entry.
pub const MAX_CHUNK_CODES: usize = 4_096;

/// Authority's public key (32) ‖ region.
pub fn mandate_key(authority: &[u8], region: &str) -> Vec<u8> {
    [authority, region.as_bytes()].concat()
}

pub(crate) fn put_mandate<S: StateRead + ?Sized>(ctx: &mut Ctx<'_, '_, S>, mandate: &v1::Mandate) {
    let key = mandate_key(&mandate.authority, &mandate.region);
    ctx.map_put(MANDATE_NAMESPACE, &key, canonical::encode(mandate));
}

/// What a code with this state shows at `now_ms`; none after its validity, or before.
pub fn effective_status(state: &v1::CodeState, now_ms: u64) -> Option<CodeStatus> {
    if now_ms < state.valid_from_ms || now_ms >= state.valid_until_ms {
        return None;
    }
    let lapsed = state.lapses_at_ms != 0 && now_ms >= state.lapses_at_ms;
    Some(if lapsed {
        state.on_lapse()
    } else {
        state.status()
    })
}

/// RFC 9162 root over an order's changes: code (32) ‖ expected sequence (8, big-endian).
pub fn changes_root(changes: impl IntoIterator<Item = ([u8; 32], u64)>) -> Hash {
    let leaf = |(code, sequence): ([u8; 32], u64)| {
        log::leaf_hash(&[&code[..], &sequence.to_be_bytes()].concat())
    };
    let leaves: Vec<Hash> = changes.into_iter().map(leaf).collect();
    log::root_of(&leaves)
}

#[cfg(test)]
mod tests;
