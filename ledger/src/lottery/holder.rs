//! What a winner signs at the counter: this shop, now.
//!
//! What holds here: the holder key is the one in the row's commitment, which the salted hash of the
//! identity opens without naming anybody; the signature names chain, lottery, attempt, serial, shop
//! and time, so that it is of no use elsewhere, later, or to a shop alone. What stays out: whether
//! the row won, and whether the window is open (`rules`).

use cairn_proto::v1;
use ed25519_dalek::{Signature, Signer, SigningKey};

use super::roster::{MAX_WEIGHT, Row, commitment_of};
use crate::entry;
use crate::hash::Hash;

/// What the signed bytes begin with.
const REDEMPTION_TAG: &[u8] = b"cairn v1 redemption";

/// What a holder signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The ledger.
    pub chain_id: &'a Hash,
    /// The lottery.
    pub lottery_id: &'a Hash,
    /// The attempt that was certified.
    pub attempt: u32,
    /// The winner's row.
    pub serial: u64,
    /// The author key of the point of sale.
    pub shop: &'a [u8],
    /// The holder's clock, milliseconds since 1970.
    pub signed_at_ms: u64,
}

impl Presented<'_> {
    /// tag ‖ chain id ‖ lottery id ‖ attempt (4) ‖ serial (8) ‖ shop (32) ‖ time (8), big-endian.
    pub(super) fn message(&self) -> Vec<u8> {
        [
            REDEMPTION_TAG,
            self.chain_id.as_bytes(),
            self.lottery_id.as_bytes(),
            &self.attempt.to_be_bytes(),
            &self.serial.to_be_bytes(),
            self.shop,
            &self.signed_at_ms.to_be_bytes(),
        ]
        .concat()
    }

    /// The holder's signature.
    pub fn sign(&self, holder: &SigningKey) -> [u8; 64] {
        holder.sign(&self.message()).to_bytes()
    }

    /// Whether `signature` is the holder's.
    pub fn is_signed_by(&self, holder_key: &[u8], signature: &[u8]) -> bool {
        match (
            entry::public_key(holder_key),
            Signature::from_slice(signature),
        ) {
            (Some(key), Ok(signature)) => key.verify_strict(&self.message(), &signature).is_ok(),
            _ => false,
        }
    }
}

/// The row that a redemption shows; none where its fields have wrong lengths or the holder key is
/// no sound Ed25519 key.
pub fn row_of(redemption: &v1::Redemption) -> Option<Row> {
    let identity_hash = Hash::from_slice(&redemption.identity_hash)?;
    entry::public_key(&redemption.holder_key)?;
    let row = Row {
        commitment: commitment_of(&identity_hash, &redemption.holder_key).0,
        tag: Hash::from_slice(&redemption.tag)?.0,
        tier: redemption.tier,
        weight: redemption.weight,
    };
    (1..=MAX_WEIGHT).contains(&row.weight).then_some(row)
}
