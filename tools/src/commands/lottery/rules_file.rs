//! `rules.toml`: a lottery's rules as an organiser writes them.
//!
//! What holds here: a key that is unknown, missing or malformed is named, with its place in the
//! file; what passes is what every node accepts, as far as that can be told without the ledger.

use bytes::Bytes;
use cairn_ledger::lottery::rules::check_rules;
use cairn_proto::v1;
use serde::{Deserialize, Deserializer, de};

/// Attempts, unless the rules say otherwise.
const DEFAULT_ATTEMPTS: u32 = 2;

/// What `check_rules` allows, for those whose rules it refuses.
const BOUNDS: &str = "title of 1 to 200 bytes; identity_rule of 1 to 1000; 1 to 16 tiers with \
    distinct names of at most 100 bytes and quotas above 0; 1 to 16 contributors with distinct \
    keys that prove their possession; rows_per_batch of 1 to 10000; max_rows of 1 to 4000000; \
    max_attempts of 1 to 16; contribution_window_ms of 1000 to 30 days; beacon_margin_ms of 1000 \
    to one day; the beacon's period_s of 1 to 86400 and a public key on the curve";

/// Why a rules file was refused.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// Not TOML, or a key is unknown, missing or malformed.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// Every node would refuse these rules.
    #[error("a value is outside of what the ledger allows ({reason}): {BOUNDS}")]
    OutOfRange {
        /// The reason that nodes would record.
        reason: &'static str,
    },
}

/// The rules in `text`.
pub fn parse(text: &str) -> Result<v1::LotteryOpen, RulesError> {
    let rules = v1::LotteryOpen::from(toml::from_str::<RulesFile>(text)?);
    check_rules(&rules).map_err(|reason| RulesError::OutOfRange {
        reason: reason.as_str_name(),
    })?;
    Ok(rules)
}

/// Exactly `N` bytes, written as hex.
#[derive(Debug, Clone)]
struct Hex<const N: usize>(Bytes);

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = hex::decode(&text)
            .map_err(|_| de::Error::custom(format_args!("\"{text}\" is not hex")))?;
        if bytes.len() == N {
            Ok(Hex(bytes.into()))
        } else {
            let (digits, found) = (2 * N, text.len());
            let message = format_args!("expected {digits} hex digits, found {found}");
            Err(de::Error::custom(message))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    title: String,
    identity_rule: String,
    rows_per_batch: u32,
    max_rows: u32,
    #[serde(default)]
    with_dice: bool,
    contribution_window_ms: u64,
    #[serde(default)]
    beacon_margin_ms: u64,
    /// All must contribute, and no beacon completes the seed.
    #[serde(default)]
    closed: bool,
    #[serde(default)]
    objection_window_ms: u64,
    #[serde(default)]
    redemption_window_ms: u64,
    #[serde(default)]
    full_ranking: bool,
    #[serde(default = "default_attempts")]
    max_attempts: u32,
    notary: Hex<32>,
    registrar: Hex<32>,
    institute: Hex<32>,
    registrar_tag_key_commitment: Hex<32>,
    notary_tag_key_commitment: Hex<32>,
    tier: Vec<TierTable>,
    contributor: Vec<ContributorTable>,
    beacon: Option<BeaconTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TierTable {
    name: String,
    quota: u32,
    #[serde(default)]
    waiting_list: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContributorTable {
    institution: String,
    seed_key: Hex<96>,
    seed_key_proof: Hex<48>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeaconTable {
    chain_hash: Hex<32>,
    public_key: Hex<96>,
    genesis_time_s: u64,
    period_s: u32,
}

fn default_attempts() -> u32 {
    DEFAULT_ATTEMPTS
}

impl From<RulesFile> for v1::LotteryOpen {
    fn from(file: RulesFile) -> Self {
        v1::LotteryOpen {
            title: file.title,
            tiers: file.tier.into_iter().map(v1::Tier::from).collect(),
            rows_per_batch: file.rows_per_batch,
            notary: file.notary.0,
            registrar: file.registrar.0,
            institute: file.institute.0,
            contributors: file
                .contributor
                .into_iter()
                .map(v1::Contributor::from)
                .collect(),
            with_dice: file.with_dice,
            contribution_window_ms: file.contribution_window_ms,
            beacon_margin_ms: file.beacon_margin_ms,
            beacon: file.beacon.map(v1::BeaconChain::from),
            max_attempts: file.max_attempts,
            identity_rule: file.identity_rule,
            registrar_tag_key_commitment: file.registrar_tag_key_commitment.0,
            notary_tag_key_commitment: file.notary_tag_key_commitment.0,
            max_rows: file.max_rows,
            seed_profile: match file.closed {
                true => v1::SeedProfile::Closed.into(),
                false => v1::SeedProfile::Beacon.into(),
            },
            objection_window_ms: file.objection_window_ms,
            redemption_window_ms: file.redemption_window_ms,
            full_ranking: file.full_ranking,
        }
    }
}

impl From<TierTable> for v1::Tier {
    fn from(table: TierTable) -> Self {
        v1::Tier {
            name: table.name,
            quota: table.quota,
            waiting_list: table.waiting_list,
        }
    }
}

impl From<ContributorTable> for v1::Contributor {
    fn from(table: ContributorTable) -> Self {
        v1::Contributor {
            institution: table.institution,
            seed_key: table.seed_key.0,
            seed_key_proof: table.seed_key_proof.0,
        }
    }
}

impl From<BeaconTable> for v1::BeaconChain {
    fn from(table: BeaconTable) -> Self {
        v1::BeaconChain {
            chain_hash: table.chain_hash.0,
            public_key: table.public_key.0,
            genesis_time_s: table.genesis_time_s,
            period_s: table.period_s,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_ledger::lottery::bls::SeedSecret;
    use cairn_ledger::lottery::seed;

    use super::*;

    fn rules() -> String {
        let secret = SeedSecret::from_key_material(&[1; 32]).unwrap();
        let seed_key = hex::encode(secret.public_key());
        let proof = hex::encode(seed::prove_possession(&secret));
        let key = |n: u8| hex::encode([n; 32]);
        format!(
            r#"
            title = "Masks"
            identity_rule = "18 digits, X in upper case"
            rows_per_batch = 1000
            max_rows = 600000
            contribution_window_ms = 2000
            beacon_margin_ms = 2000
            notary = "{}"
            registrar = "{}"
            institute = "{}"
            registrar_tag_key_commitment = "{}"
            notary_tag_key_commitment = "{}"
            [[tier]]
            name = "all"
            quota = 100000
            [[contributor]]
            institution = "Institute"
            seed_key = "{seed_key}"
            seed_key_proof = "{proof}"
            [beacon]
            chain_hash = "{}"
            public_key = "{seed_key}"
            genesis_time_s = 1600000000
            period_s = 1
            "#,
            key(1),
            key(2),
            key(3),
            key(4),
            key(5),
            key(6),
        )
    }

    #[test]
    fn a_complete_file_gives_the_rules() {
        let rules = parse(&rules()).unwrap();
        assert_eq!(rules.title, "Masks");
        assert_eq!((rules.tiers[0].quota, rules.max_attempts), (100_000, 2));
        assert!(!rules.with_dice);
        assert_eq!(rules.beacon.unwrap().chain_hash, vec![6; 32]);
    }

    #[test]
    fn an_unknown_key_is_named_wherever_it_stands() {
        for (place, with) in [
            ("title =", "tilte = 1\ntitle ="),
            ("quota =", "qouta = 1\nquota ="),
            ("seed_key_proof =", "proof = \"\"\nseed_key_proof ="),
            ("period_s =", "period = 1\nperiod_s ="),
        ] {
            let text = parse(&rules().replace(place, with))
                .unwrap_err()
                .to_string();
            let unknown = with.split(' ').next().unwrap();
            assert!(
                text.contains(&format!("unknown field `{unknown}`")),
                "{text}"
            );
        }
        let text = parse(&rules().replace("title = \"Masks\"", "")).unwrap_err();
        assert!(text.to_string().contains("missing field `title`"), "{text}");
    }

    #[test]
    fn keys_must_be_hex_of_their_length() {
        let short = parse(&rules().replace(&hex::encode([2; 32]), "0202")).unwrap_err();
        assert!(
            short
                .to_string()
                .contains("expected 64 hex digits, found 4")
        );
        let other = parse(&rules().replace(&hex::encode([2; 32]), "notary")).unwrap_err();
        assert!(other.to_string().contains("\"notary\" is not hex"));
    }

    #[test]
    fn what_every_node_would_refuse_is_refused_here() {
        let error = parse(&rules().replace("quota = 100000", "quota = 0")).unwrap_err();
        assert!(matches!(error, RulesError::OutOfRange { .. }), "{error}");
    }
}
