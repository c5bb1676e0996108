//! Holder keys that the office makes for applicants who bring none.
//!
//! What holds here: a key's secret is random by itself and not derived from the applicant's salt.
//! The salt opens the row, and applicants show it to courts, papers and the notary who audits the
//! roster; with a secret behind it, each of those could redeem in the applicant's place. What
//! stays out: keys that applicants bring (`cohort`), and where secrets are kept (`receipts`).

use ed25519_dalek::SigningKey;

use crate::cores;
use crate::system;

/// Under this the secrets of rehearsals are derived, so that they differ from the salts.
const REHEARSAL: &str = "cairn rehearsal, holder secrets";

/// A secret, and the key that goes into the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// For the applicant alone.
    pub secret: [u8; 32],
    /// Ed25519.
    pub public: [u8; 32],
}

/// Keys of the rows with these serials; with a `seed`, those that a rehearsal has every time. On
/// all cores: a key takes a hundred times as long as the rest of a row.
pub fn make(serials: &[u64], seed: Option<&[u8; 32]>) -> Vec<Made> {
    let seed = seed.map(|seed| blake3::derive_key(REHEARSAL, seed));
    cores::map(serials.len(), |at| one(serials[at], seed.as_ref()))
}

fn one(serial: u64, seed: Option<&[u8; 32]>) -> Made {
    let secret = match seed {
        Some(seed) => *blake3::keyed_hash(seed, &serial.to_be_bytes()).as_bytes(),
        None => system::random(),
    };
    let public = SigningKey::from_bytes(&secret).verifying_key().to_bytes();
    Made { secret, public }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_has_a_key_of_its_own_that_its_secret_makes() {
        let serials: Vec<u64> = (0..100).collect();
        let made = make(&serials, None);
        let distinct: BTreeSet<_> = made.iter().map(|made| made.public).collect();
        assert_eq!(distinct.len(), 100);
        for made in made {
            let key = SigningKey::from_bytes(&made.secret);
            assert_eq!(key.verifying_key().to_bytes(), made.public);
        }
        assert!(make(&[], None).is_empty());
    }

    #[test]
    fn rehearsals_repeat_their_keys_and_show_no_salt() {
        let made = make(&[7, 9], Some(&[5; 32]));
        assert_eq!(made[1], make(&[9], Some(&[5; 32]))[0]);
        assert_ne!(made, make(&[7, 9], Some(&[6; 32])));
        let salt = blake3::keyed_hash(&[5; 32], &7u64.to_be_bytes());
        assert_ne!(made[0].secret, *salt.as_bytes());
    }
}
