//! The public beacon that completes a seed: rounds of a drand-format chain with signatures in G1.
//!
//! What holds here: a round's message is the SHA-256 of its number, its randomness the SHA-256 of
//! its signature, and a round is pinned by the close of contributions alone. What stays out: how a
//! round is fetched, and whether the close was public in time (`rules`).

use cairn_proto::v1;
use sha2::{Digest, Sha256};

use super::bls::{self, BlsError, SeedSecret};

/// The BLS domain of drand's scheme with signatures in G1.
pub const BEACON_DST: &[u8] = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_";

/// Why a beacon round was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BeaconError {
    /// drand counts rounds from 1.
    #[error("a beacon has no round 0")]
    RoundZero,
    /// The signature is not the chain's for this round. Fetch the round again, as 48 bytes.
    #[error("beacon round {round}: {cause}")]
    Signature {
        /// The round asked for.
        round: u64,
        /// What is wrong with the signature or with the chain's key.
        cause: BlsError,
    },
}

/// Checks `signature` as `chain`'s for `round`, and gives the round's randomness.
pub fn verify_round(
    chain: &v1::BeaconChain,
    round: u64,
    signature: &[u8],
) -> Result<[u8; 32], BeaconError> {
    if round == 0 {
        return Err(BeaconError::RoundZero);
    }
    bls::verify(&chain.public_key, &message(round), BEACON_DST, signature)
        .map_err(|cause| BeaconError::Signature { round, cause })?;
    Ok(randomness(signature))
}

/// Signs a round, for the beacon of a development network.
pub fn sign_round(secret: &SeedSecret, round: u64) -> [u8; 48] {
    secret.sign(&message(round), BEACON_DST)
}

/// A round's randomness: SHA-256 of its signature. Verify the signature first.
pub fn randomness(signature: &[u8]) -> [u8; 32] {
    Sha256::digest(signature).into()
}

/// When `round` is published, in milliseconds since 1970; the end of time where that overflows.
pub fn round_time_ms(chain: &v1::BeaconChain, round: u64) -> u64 {
    let since = round.saturating_sub(1).saturating_mul(period_ms(chain));
    genesis_ms(chain).saturating_add(since)
}

/// The round that a lottery pins when contributions close at `close_ms`: the first one published
/// at least `margin_ms` later, counted from the chain's start.
pub fn pinned_round(chain: &v1::BeaconChain, close_ms: u64, margin_ms: u64) -> u64 {
    let since = close_ms
        .saturating_add(margin_ms)
        .saturating_sub(genesis_ms(chain));
    since.div_ceil(period_ms(chain)).saturating_add(1)
}

/// The newest round that is public at `now_ms`; 0 before the first.
pub fn round_at(chain: &v1::BeaconChain, now_ms: u64) -> u64 {
    match now_ms.checked_sub(genesis_ms(chain)) {
        Some(since) => (since / period_ms(chain)).saturating_add(1),
        None => 0,
    }
}

fn genesis_ms(chain: &v1::BeaconChain) -> u64 {
    chain.genesis_time_s.saturating_mul(1000)
}

fn period_ms(chain: &v1::BeaconChain) -> u64 {
    // Rules refuse a period of 0; whoever skipped them must not divide by it.
    u64::from(chain.period_s.max(1)) * 1000
}

fn message(round: u64) -> [u8; 32] {
    Sha256::digest(round.to_be_bytes()).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Vectors {
        chain: v1::BeaconChain,
        rounds: Vec<(u64, Vec<u8>, Vec<u8>)>,
    }

    fn quicknet() -> Vectors {
        let json: serde_json::Value =
            serde_json::from_str(include_str!("../../vectors/drand-quicknet.json")).unwrap();
        let bytes = |v: &serde_json::Value| hex::decode(v.as_str().unwrap()).unwrap();
        Vectors {
            chain: v1::BeaconChain {
                chain_hash: bytes(&json["chain"]).into(),
                public_key: bytes(&json["pk"]).into(),
                genesis_time_s: json["genesis"].as_u64().unwrap(),
                period_s: u32::try_from(json["period"].as_u64().unwrap()).unwrap(),
            },
            rounds: json["rounds"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| {
                    let round = r["round"].as_u64().unwrap();
                    (round, bytes(&r["signature"]), bytes(&r["randomness"]))
                })
                .collect(),
        }
    }

    #[test]
    fn published_rounds_of_quicknet_verify() {
        let vectors = quicknet();
        assert!(!vectors.rounds.is_empty());
        for (round, signature, randomness) in &vectors.rounds {
            let got = verify_round(&vectors.chain, *round, signature).unwrap();
            assert_eq!(got.as_slice(), randomness.as_slice());
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_round_is_refused() {
        let vectors = quicknet();
        let (round, signature, _) = &vectors.rounds[0];
        for bit in 0..signature.len() * 8 {
            let mut bad = signature.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(verify_round(&vectors.chain, *round, &bad).is_err(), "{bit}");
        }
        for other in [round - 1, round + 1, u64::MAX] {
            assert_eq!(
                verify_round(&vectors.chain, other, signature),
                Err(BeaconError::Signature {
                    round: other,
                    cause: BlsError::Mismatch
                })
            );
        }
        assert_eq!(
            verify_round(&vectors.chain, 0, signature),
            Err(BeaconError::RoundZero)
        );
    }

    #[test]
    fn the_uncompressed_form_and_the_identity_are_refused() {
        let vectors = quicknet();
        let (round, signature, _) = &vectors.rounds[0];
        let affine = blst::min_sig::Signature::from_bytes(signature)
            .unwrap()
            .serialize();
        assert_eq!(
            verify_round(&vectors.chain, *round, &affine),
            Err(BeaconError::Signature {
                round: *round,
                cause: BlsError::SignatureLength(96)
            })
        );
        let mut identity = [0; 48];
        identity[0] = 0xc0;
        assert_eq!(
            verify_round(&vectors.chain, *round, &identity),
            Err(BeaconError::Signature {
                round: *round,
                cause: BlsError::SignatureInvalid
            })
        );
    }

    #[test]
    fn another_chain_another_domain_and_points_outside_the_subgroup_are_refused() {
        let vectors = quicknet();
        let (round, signature, _) = &vectors.rounds[0];
        let refused = |chain: &v1::BeaconChain, signature: &[u8]| match verify_round(
            chain, *round, signature,
        ) {
            Err(BeaconError::Signature { cause, .. }) => cause,
            other => panic!("{other:?}"),
        };
        let secret = SeedSecret::from_key_material(&[7; 32]).unwrap();
        let own = v1::BeaconChain {
            public_key: secret.public_key().to_vec().into(),
            ..vectors.chain.clone()
        };
        assert_eq!(refused(&own, signature), BlsError::Mismatch);
        let for_own = sign_round(&secret, *round);
        assert_eq!(refused(&vectors.chain, &for_own), BlsError::Mismatch);
        // The right key over the right round, in the domain of contributions.
        let message = super::message(*round);
        let foreign = secret.sign(&message, super::super::seed::CONTRIBUTION_DST);
        assert_eq!(refused(&own, &foreign), BlsError::Mismatch);
        // x = 4 has a point on the curve, but of another order.
        let mut outside = [0; 48];
        outside[0] = 0x80;
        outside[47] = 4;
        assert_eq!(refused(&own, &outside), BlsError::SignatureInvalid);
        assert_eq!(refused(&own, &[0; 48]), BlsError::SignatureInvalid);
    }

    #[test]
    fn a_development_beacon_signs_what_verifies() {
        let secret = SeedSecret::from_key_material(&[7; 32]).unwrap();
        let chain = v1::BeaconChain {
            public_key: secret.public_key().to_vec().into(),
            ..quicknet().chain
        };
        let signature = sign_round(&secret, 42);
        assert_eq!(
            verify_round(&chain, 42, &signature),
            Ok(randomness(&signature))
        );
    }

    #[test]
    fn the_pinned_round_is_never_published_before_close_and_margin() {
        let chain = quicknet().chain;
        let genesis = chain.genesis_time_s * 1000;
        for close in (genesis..genesis + 20_000).step_by(7) {
            for margin in [1_000, 1_001, 2_999, 3_000, 600_000] {
                let round = pinned_round(&chain, close, margin);
                let time = round_time_ms(&chain, round);
                assert!(time >= close + margin);
                assert!(time < close + margin + 3_000);
                assert_eq!(round_at(&chain, time), round);
                assert_eq!(round_at(&chain, time - 1), round - 1);
            }
        }
        assert_eq!(pinned_round(&chain, 5, 5), 1, "a chain that starts later");
        assert_eq!(round_at(&chain, genesis - 1), 0);
    }
}
