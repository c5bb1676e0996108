//! Orders that regions of the gate's own ledger refuse to recognise, each proven from its map.
//!
//! What holds here: a refusal counts only with its proof, for it may let somebody through whom an
//! order stops, and whoever hands over a trust file need not be trusted. Nothing shows that there
//! are no others. What stays out: what a gate makes of a refusal ([`crate::pass::gate`]).

use std::collections::{BTreeMap, BTreeSet};

use cairn_proto::v1;

use super::{Position, TrustedLedger};
use crate::checkpoint::CertifyError;
use crate::hash::Hash;
use crate::{canonical, code, map};

/// Refusals in one file: each takes more than a kilobyte.
const MAX_REFUSALS: usize = 1_000;

/// Why refusals are not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusalsError {
    /// More than a file may have.
    #[error("{0} are more than the {MAX_REFUSALS} that a file may have")]
    TooMany(usize),
    /// Each stands once, and carries no changes of members of its own.
    #[error("they must ascend by key, be about orders, and have no changes of members")]
    Form,
    /// Its checkpoint.
    #[error("a checkpoint: {0}")]
    Certificate(#[from] CertifyError),
    /// Of another history than the rest of the file.
    #[error("block {0} contradicts the other blocks of the file; keep it as evidence of a fork")]
    Fork(u64),
    /// Not in the map.
    #[error("the map proof: {0}")]
    Map(#[from] map::ProofError),
    /// The map holds nothing, or something else, under the key.
    #[error("the map does not hold the refusal that is shown")]
    NotThere,
}

/// Which regions do not recognise which orders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusals {
    /// By the chain id of the order's ledger, and the order.
    regions: BTreeMap<(Hash, Hash), BTreeSet<String>>,
}

impl Refusals {
    /// The regions that refuse to recognise this order.
    pub fn of(&self, chain_id: &Hash, order_id: &Hash) -> Option<&BTreeSet<String>> {
        self.regions.get(&(*chain_id, *order_id))
    }

    /// All of them: ledger and id of the order, and the regions.
    pub fn iter(&self) -> impl Iterator<Item = (&Hash, &Hash, &BTreeSet<String>)> {
        let all = self.regions.iter();
        all.map(|((chain_id, order_id), regions)| (chain_id, order_id, regions))
    }

    pub(super) fn read(
        own: &TrustedLedger,
        receipts: &[v1::MapReceipt],
    ) -> Result<Refusals, RefusalsError> {
        if receipts.len() > MAX_REFUSALS {
            return Err(RefusalsError::TooMany(receipts.len()));
        }
        let of_orders = |r: &v1::MapReceipt| {
            r.namespace == code::ORDER_REFUSAL_NAMESPACE && r.epoch_changes.is_empty()
        };
        if !receipts.iter().all(of_orders) || !receipts.is_sorted_by(|a, b| a.key < b.key) {
            return Err(RefusalsError::Form);
        }
        let mut refusals = Refusals::default();
        for receipt in receipts {
            let refusal = proven(own, receipt)?;
            let order = Hash::from_slice(&refusal.genesis_hash);
            let order = order.zip(Hash::from_slice(&refusal.order_id));
            let order = order.ok_or(RefusalsError::NotThere)?;
            let regions = refusals.regions.entry(order).or_default();
            regions.insert(refusal.region);
        }
        Ok(refusals)
    }
}

fn proven(
    own: &TrustedLedger,
    receipt: &v1::MapReceipt,
) -> Result<v1::OrderRefusal, RefusalsError> {
    let checkpoint = receipt.checkpoint.clone().unwrap_or_default();
    let certified = own.epochs().certify(&checkpoint)?;
    let position = Position::of(&certified);
    if own.pins().any(|pin| pin.contradicts(&position)) {
        return Err(RefusalsError::Fork(position.height));
    }
    let key = map::map_key(&receipt.namespace, &receipt.key);
    let proof = receipt.proof.clone().unwrap_or_default();
    let value = map::verify(certified.map_root(), &key, &proof)?;
    let state: Option<v1::OrderRefusalState> = value.and_then(|v| canonical::decode(&v).ok());
    let refusal = state.and_then(|state| state.refusal);
    let refusal = refusal.ok_or(RefusalsError::NotThere)?;
    let stated = code::order_refusal_key(&refusal.genesis_hash, &refusal.order_id, &refusal.region);
    match stated == receipt.key {
        true => Ok(refusal),
        false => Err(RefusalsError::NotThere),
    }
}
