//! Code status: who changed whose code, on what ground, and what it is now.
//!
//! What holds here: a code is a random pseudonym; its state in the map says which order set it; an
//! authority acts only within its mandate; an order takes effect with its last chunk; what a code
//! shows is a function of its state and of the time at which one looks, so lapsing needs no act and
//! no entry. What stays out: passes, and what a gate accepts.

pub mod acts;
pub mod history;
pub mod rules;

use cairn_proto::v1::{self, CodeStatus, RejectReason};

use crate::apply::Ctx;
use crate::canonical;
use crate::hash::{Domain, Hash};
use crate::log;
use crate::map;
use crate::state::{StateError, StateRead};

static HOLDER: Domain = Domain::new("cairn v1 code holder");

/// The map's namespace of codes; the key is the code.
pub const NAMESPACE: &str = "code";
/// The map's namespace of status orders; the key is the order's entry id.
pub const ORDER_NAMESPACE: &str = "order";
/// The map's namespace of the logs of all acts of an authority; the key is its public key.
pub const ACTS_OF_NAMESPACE: &str = "acts of";
/// The map's namespace of counters; the key is [`counter_key`].
pub const COUNTER_NAMESPACE: &str = "order counter";
/// The map's namespace of mandates; the key is [`mandate_key`].
pub const MANDATE_NAMESPACE: &str = "mandate";
/// The map's namespace of regions' rules; the key is the region.
pub const REGION_RULE_NAMESPACE: &str = "region rule";
/// The map's namespace of appeals; the key is the appeal's entry id.
pub const APPEAL_NAMESPACE: &str = "appeal";
/// The map's namespace of the newest appeal for a code against an order; the key is order id ‖ code,
/// the value the appeal's entry id.
pub const APPEAL_OF_NAMESPACE: &str = "appeal of";
/// The map's namespace of recognised ledgers; the key is [`recognition_key`].
pub const RECOGNITION_NAMESPACE: &str = "recognition";
/// The map's namespace of orders that a region does not recognise; the key is
/// [`order_refusal_key`].
pub const ORDER_REFUSAL_NAMESPACE: &str = "order refusal";
/// The map's namespace of entries whose bodies are erased; the key is the entry id.
pub const ERASED_NAMESPACE: &str = "erased";

/// Codes in one entry.
pub const MAX_CHUNK_CODES: usize = 4_096;
/// A day of a counter, or of check-ins.
pub const DAY_MS: u64 = 86_400_000;

/// Authority's public key (32) ‖ region.
pub fn mandate_key(authority: &[u8], region: &str) -> Vec<u8> {
    [authority, region.as_bytes()].concat()
}

/// Authority's public key (32) ‖ UTC day, counted from 1970 (8, big-endian) ‖ reason.
pub fn counter_key(authority: &[u8], day: u64, reason: &str) -> Vec<u8> {
    [authority, &day.to_be_bytes(), reason.as_bytes()].concat()
}

/// The other ledger's chain id (32) ‖ region.
pub fn recognition_key(genesis_hash: &[u8], region: &str) -> Vec<u8> {
    [genesis_hash, region.as_bytes()].concat()
}

/// The chain id of the order's ledger (32) ‖ order id (32) ‖ region that refuses it.
pub fn order_refusal_key(genesis_hash: &[u8], order_id: &[u8], region: &str) -> Vec<u8> {
    [genesis_hash, order_id, region.as_bytes()].concat()
}

/// Writes a mandate of the genesis.
pub(crate) fn put_mandate<S: StateRead + ?Sized>(ctx: &mut Ctx<'_, '_, S>, mandate: &v1::Mandate) {
    let key = mandate_key(&mandate.authority, &mandate.region);
    let state = v1::MandateState {
        mandate: Some(mandate.clone()),
        ..Default::default()
    };
    ctx.map_put(MANDATE_NAMESPACE, &key, canonical::encode(&state));
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

/// The leaf of one change of an order: code (32) ‖ expected sequence (8, big-endian).
fn change_leaf(code: &[u8; 32], sequence: u64) -> Hash {
    let mut data = [0; 40];
    data[..32].copy_from_slice(code);
    data[32..].copy_from_slice(&sequence.to_be_bytes());
    log::leaf_hash(&data)
}

/// RFC 9162 root over an order's changes.
pub fn changes_root(changes: impl IntoIterator<Item = ([u8; 32], u64)>) -> Hash {
    let leaf = |(code, sequence): ([u8; 32], u64)| change_leaf(&code, sequence);
    let leaves: Vec<Hash> = changes.into_iter().map(leaf).collect();
    log::root_of(&leaves)
}

/// A change of an order that its code did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub code: [u8; 32],
    /// The sequence that the order expected.
    pub expected: u64,
    /// The sequence that the code has; none where it was never issued.
    pub found: Option<u64>,
    /// Why.
    pub reason: RejectReason,
}

impl Refused {
    /// Its leaf: code (32) ‖ expected sequence (8, big-endian) ‖ reason (4, big-endian).
    fn leaf(&self) -> Hash {
        let mut data = [0; 44];
        data[..32].copy_from_slice(&self.code);
        data[32..40].copy_from_slice(&self.expected.to_be_bytes());
        data[40..].copy_from_slice(&(self.reason as i32).to_be_bytes());
        log::leaf_hash(&data)
    }
}

/// RFC 9162 root over the refused changes of an order.
pub fn refused_root<'a>(refused: impl IntoIterator<Item = &'a Refused>) -> Hash {
    let leaves: Vec<Hash> = refused.into_iter().map(Refused::leaf).collect();
    log::root_of(&leaves)
}

/// What binds a code to the identity document of its holder without naming it. The salt is random
/// and the holder's: without it, nobody finds a number by trying all of them.
pub fn holder_commitment(salt: &[u8; 32], document_number: &[u8]) -> Hash {
    HOLDER.hash_parts(&[salt, document_number])
}

/// Whether the body of the entry `id` was erased by an order on the ledger.
pub fn is_erased<S: StateRead + ?Sized>(state: &S, id: &Hash) -> Result<bool, StateError> {
    let key = map::map_key(ERASED_NAMESPACE, id.as_bytes());
    Ok(map::get(state, &key)?.is_some())
}

#[cfg(test)]
mod tests;
