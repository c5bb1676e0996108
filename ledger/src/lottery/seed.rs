//! The seed of a draw: what each contributor signs, and how everything comes together.
//!
//! What holds here: a contribution is a BLS signature, so nobody can choose it; the seed binds the
//! ledger, the lottery, the attempt, the frozen roster, the dice, every contributor's signature or
//! absence, and the beacon's round. Parts are framed by their lengths. What stays out: when a
//! contribution counts (`rules`), and randomness, which callers draw.

use super::bls::{self, BlsError, SeedSecret};
use crate::hash::{Domain, Hash};

/// BLS domain of contributions.
pub const CONTRIBUTION_DST: &[u8] = b"CAIRN-V1-SEED-CONTRIBUTION_BLS12381G1_XMD:SHA-256_SSWU_RO_";
/// BLS domain of proofs of possession.
pub const POSSESSION_DST: &[u8] = b"CAIRN-V1-SEED-POSSESSION_BLS12381G1_XMD:SHA-256_SSWU_RO_";

static CONTRIBUTION: Domain = Domain::new("cairn v1 seed contribution");
static SEED: Domain = Domain::new("cairn v1 lottery seed");

/// What is fixed before anybody contributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen<'a> {
    /// The ledger.
    pub chain_id: &'a Hash,
    /// The lottery.
    pub lottery_id: &'a Hash,
    /// Counts from 1.
    pub attempt: u32,
    /// Root over the roster's rows.
    pub roster_root: &'a Hash,
    /// Rows of the roster.
    pub count: u64,
    /// The notary's dice as thrown; empty where the rules ask for none.
    pub dice: &'a [u8],
}

/// The beacon's part of the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beacon<'a> {
    /// Which beacon.
    pub chain_hash: &'a [u8],
    /// The pinned round.
    pub round: u64,
    /// SHA-256 of the round's signature.
    pub randomness: &'a [u8; 32],
}

/// The 32 bytes that contributors sign.
pub fn contribution_message(frozen: &Frozen<'_>) -> Hash {
    CONTRIBUTION.hash_parts(&[
        frozen.chain_id.as_bytes(),
        frozen.lottery_id.as_bytes(),
        &frozen.attempt.to_be_bytes(),
        frozen.roster_root.as_bytes(),
        &frozen.count.to_be_bytes(),
        frozen.dice,
    ])
}

/// The 96 bytes under which a contributor is registered.
pub fn seed_key_public(secret: &SeedSecret) -> [u8; 96] {
    secret.public_key()
}

/// A contribution over the hash of [`contribution_message`].
pub fn sign_contribution(secret: &SeedSecret, message: &Hash) -> [u8; 48] {
    secret.sign(message.as_bytes(), CONTRIBUTION_DST)
}

/// Proves that the owner of the public key has its secret: a signature over the key itself.
pub fn prove_possession(secret: &SeedSecret) -> [u8; 48] {
    secret.sign(&secret.public_key(), POSSESSION_DST)
}

/// Checks a contribution over the hash of [`contribution_message`].
pub fn verify_contribution(
    seed_key: &[u8],
    message: &Hash,
    signature: &[u8],
) -> Result<(), BlsError> {
    bls::verify(seed_key, message.as_bytes(), CONTRIBUTION_DST, signature)
}

/// Checks a proof of possession.
pub fn verify_possession(seed_key: &[u8], proof: &[u8]) -> Result<(), BlsError> {
    bls::verify(seed_key, seed_key, POSSESSION_DST, proof)
}

/// The seed. `contributions` are in the order of the rules' contributors, each 48 bytes, or empty
/// where the contributor was absent. In the closed profile there is no beacon, and its three parts are
/// empty.
pub fn seed(frozen: &Frozen<'_>, contributions: &[&[u8]], beacon: Option<&Beacon<'_>>) -> Hash {
    let attempt = frozen.attempt.to_be_bytes();
    let count = frozen.count.to_be_bytes();
    let round = beacon.map(|beacon| beacon.round.to_be_bytes());
    let mut parts: Vec<&[u8]> = vec![
        frozen.chain_id.as_bytes(),
        frozen.lottery_id.as_bytes(),
        &attempt,
        frozen.roster_root.as_bytes(),
        &count,
        frozen.dice,
    ];
    parts.extend_from_slice(contributions);
    parts.extend(match (beacon, &round) {
        (Some(beacon), Some(round)) => [beacon.chain_hash, round, &beacon.randomness[..]],
        _ => [&[][..]; 3],
    });
    SEED.hash_parts(&parts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn secret(n: u8) -> SeedSecret {
        SeedSecret::from_key_material(&[n; 32]).unwrap()
    }

    fn frozen<'a>(root: &'a Hash, dice: &'a [u8]) -> Frozen<'a> {
        Frozen {
            chain_id: &Hash([1; 32]),
            lottery_id: &Hash([2; 32]),
            attempt: 1,
            roster_root: root,
            count: 7,
            dice,
        }
    }

    #[test]
    fn a_contribution_is_bound_to_its_key_and_to_everything_frozen() {
        let root = Hash([3; 32]);
        let base = frozen(&root, &[6, 1]);
        let message = contribution_message(&base);
        let key = seed_key_public(&secret(1));
        let signature = sign_contribution(&secret(1), &message);
        assert_eq!(verify_contribution(&key, &message, &signature), Ok(()));
        let other_root = Hash([4; 32]);
        let changed = [
            Frozen {
                chain_id: &other_root,
                ..base
            },
            Frozen {
                lottery_id: &other_root,
                ..base
            },
            Frozen { attempt: 2, ..base },
            Frozen {
                roster_root: &other_root,
                ..base
            },
            Frozen { count: 8, ..base },
            Frozen {
                dice: &[6, 2],
                ..base
            },
            Frozen { dice: &[], ..base },
        ];
        for changed in changed {
            assert_eq!(
                verify_contribution(&key, &contribution_message(&changed), &signature),
                Err(BlsError::Mismatch),
                "{changed:?}"
            );
        }
        assert_eq!(
            verify_contribution(&seed_key_public(&secret(2)), &message, &signature),
            Err(BlsError::Mismatch)
        );
        for bit in 0..48 * 8 {
            let mut bad = signature;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(verify_contribution(&key, &message, &bad).is_err(), "{bit}");
        }
    }

    #[test]
    fn only_compressed_points_of_the_subgroup_pass() {
        let message = Hash([9; 32]);
        let key = seed_key_public(&secret(1));
        let signature = sign_contribution(&secret(1), &message);
        let affine = blst::min_sig::Signature::from_bytes(&signature)
            .unwrap()
            .serialize();
        assert_eq!(
            verify_contribution(&key, &message, &affine),
            Err(BlsError::SignatureLength(96))
        );
        let long_key = blst::min_sig::PublicKey::from_bytes(&key)
            .unwrap()
            .serialize();
        assert_eq!(
            verify_contribution(&long_key, &message, &signature),
            Err(BlsError::KeyLength(192))
        );
        let mut identity = [0; 48];
        identity[0] = 0xc0;
        assert_eq!(
            verify_contribution(&key, &message, &identity),
            Err(BlsError::SignatureInvalid)
        );
        let mut identity_key = [0; 96];
        identity_key[0] = 0xc0;
        assert_eq!(
            verify_contribution(&identity_key, &message, &identity),
            Err(BlsError::KeyInvalid)
        );
        // x = 4 has a point on the curve, but of another order.
        let mut outside = [0; 48];
        outside[0] = 0x80;
        outside[47] = 4;
        assert!(blst::min_sig::Signature::from_bytes(&outside).is_ok());
        assert_eq!(
            verify_contribution(&key, &message, &outside),
            Err(BlsError::SignatureInvalid)
        );
        assert_eq!(
            verify_contribution(&key, &message, &[]),
            Err(BlsError::SignatureLength(0))
        );
    }

    #[test]
    fn a_contribution_is_no_proof_of_possession() {
        let key = seed_key_public(&secret(1));
        assert_eq!(
            verify_possession(&key, &prove_possession(&secret(1))),
            Ok(())
        );
        assert_eq!(
            verify_possession(&key, &prove_possession(&secret(2))),
            Err(BlsError::Mismatch)
        );
        let over_the_key = secret(1).sign(&key, CONTRIBUTION_DST);
        assert_eq!(
            verify_possession(&key, &over_the_key),
            Err(BlsError::Mismatch)
        );
    }

    #[test]
    fn a_secret_survives_its_bytes_and_is_never_printed() {
        let kept = SeedSecret::from_bytes(&*secret(1).to_bytes()).unwrap();
        assert_eq!(seed_key_public(&kept), seed_key_public(&secret(1)));
        assert_eq!(format!("{kept:?}"), "SeedSecret(hidden)");
        assert_eq!(
            SeedSecret::from_key_material(&[1; 31]).unwrap_err(),
            BlsError::KeyMaterial(31)
        );
        assert_eq!(
            SeedSecret::from_bytes(&[0; 32]).unwrap_err(),
            BlsError::SecretInvalid
        );
    }

    #[test]
    fn absence_and_order_of_contributors_change_the_seed() {
        let root = Hash([3; 32]);
        let frozen = frozen(&root, &[]);
        let beacon = Beacon {
            chain_hash: &[5; 32],
            round: 9,
            randomness: &[6; 32],
        };
        let (a, b) = ([1u8; 48], [2u8; 48]);
        let mut seeds = vec![
            seed(&frozen, &[&a, &b], Some(&beacon)),
            seed(&frozen, &[&b, &a], Some(&beacon)),
            seed(&frozen, &[&a, &[]], Some(&beacon)),
            seed(&frozen, &[&[], &a], Some(&beacon)),
            seed(&frozen, &[&a], Some(&beacon)),
            seed(
                &frozen,
                &[&a, &b],
                Some(&Beacon {
                    round: 10,
                    ..beacon
                }),
            ),
            seed(
                &frozen,
                &[&a, &b],
                Some(&Beacon {
                    randomness: &[7; 32],
                    ..beacon
                }),
            ),
            seed(
                &frozen,
                &[&a, &b],
                Some(&Beacon {
                    chain_hash: &[7; 32],
                    ..beacon
                }),
            ),
            seed(&frozen, &[&a, &b], None),
        ];
        seeds.sort();
        seeds.dedup();
        assert_eq!(seeds.len(), 9);
    }
}
