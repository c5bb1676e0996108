//! A lottery's rules, as `cairn lottery open` reads them.
//!
//! What holds here: offices and contributors are those of the cluster; a scenario changes only what
//! it is about. What stays out: what rules are allowed (`cairn`, and every node).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::applicants::IDENTITY_COLUMN;
use crate::cairn::Cairn;
use crate::institutions::Role;
use crate::keys::{self, PublicKey};
use crate::layout::Layout;
use crate::plan::ClusterPlan;

/// How long institutions may contribute: their commands take a fraction of a second each.
const CONTRIBUTION_WINDOW_MS: u64 = 2_000;
/// From the close to the beacon's round. Half of it is the time to certify the close in, on a
/// machine where all nodes share two cores with everything else.
const BEACON_MARGIN_MS: u64 = 4_000;
/// The development beacon gives a round every second.
const BEACON_PERIOD_S: u32 = 1;

/// The rules of a lottery.
#[derive(Debug, Serialize)]
pub struct LotteryRules {
    pub title: String,
    pub rows_per_batch: u32,
    pub max_rows: u32,
    pub with_dice: bool,
    pub closed: bool,
    pub full_ranking: bool,
    pub contribution_window_ms: u64,
    pub beacon_margin_ms: u64,
    pub objection_window_ms: u64,
    pub redemption_window_ms: u64,
    pub identity_rule: String,
    pub notary: String,
    pub registrar: String,
    pub institute: String,
    pub registrar_tag_key_commitment: String,
    pub notary_tag_key_commitment: String,
    pub tier: Vec<TierRules>,
    pub contributor: Vec<ContributorRules>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beacon: Option<BeaconRules>,
}

#[derive(Debug, Serialize)]
pub struct TierRules {
    pub name: String,
    pub quota: u32,
    pub waiting_list: u32,
}

#[derive(Debug, Serialize)]
pub struct ContributorRules {
    pub institution: String,
    pub seed_key: String,
    pub seed_key_proof: String,
}

#[derive(Debug, Serialize)]
pub struct BeaconRules {
    pub chain_hash: String,
    pub public_key: String,
    pub genesis_time_s: u64,
    pub period_s: u32,
}

impl LotteryRules {
    /// Dice, all institutions' contributions and the development beacon, which gives its first
    /// round at `beacon_genesis_s`; one tier, for `winners` of `applicants`.
    pub fn of(
        offices: Offices,
        title: &str,
        applicants: u32,
        winners: u32,
        beacon_genesis_s: u64,
    ) -> LotteryRules {
        LotteryRules {
            title: title.to_owned(),
            rows_per_batch: 1_000,
            max_rows: applicants,
            with_dice: true,
            closed: false,
            full_ranking: false,
            contribution_window_ms: CONTRIBUTION_WINDOW_MS,
            beacon_margin_ms: BEACON_MARGIN_MS,
            objection_window_ms: 0,
            redemption_window_ms: 0,
            identity_rule: format!("the column {IDENTITY_COLUMN} as it stands, digits only, UTF-8"),
            notary: offices.notary.public_key,
            registrar: offices.registrar.public_key,
            institute: offices.institute.public_key,
            registrar_tag_key_commitment: offices.registrar_tag.commitment,
            notary_tag_key_commitment: offices.notary_tag.commitment,
            tier: vec![TierRules {
                name: "everybody".to_owned(),
                quota: winners,
                waiting_list: 0,
            }],
            contributor: offices.contributors,
            beacon: Some(BeaconRules::of(offices.beacon.public_key, beacon_genesis_s)),
        }
    }

    /// All must contribute, and no beacon completes the seed.
    pub fn without_beacon(self) -> LotteryRules {
        LotteryRules {
            closed: true,
            beacon_margin_ms: 0,
            beacon: None,
            ..self
        }
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, toml::to_string(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl BeaconRules {
    fn of(public_key: String, genesis_time_s: u64) -> BeaconRules {
        let chain = format!("{public_key} {genesis_time_s} {BEACON_PERIOD_S}");
        BeaconRules {
            chain_hash: blake3::hash(chain.as_bytes()).to_hex().to_string(),
            public_key,
            genesis_time_s,
            period_s: BEACON_PERIOD_S,
        }
    }
}

/// The offices and keys that a lottery names.
#[derive(Debug)]
pub struct Offices {
    pub notary: PublicKey,
    pub registrar: PublicKey,
    pub institute: PublicKey,
    pub registrar_tag: PublicKey,
    pub notary_tag: PublicKey,
    pub beacon: PublicKey,
    pub contributors: Vec<ContributorRules>,
}

impl Offices {
    /// Reads them from their key files.
    pub async fn load(
        layout: &Layout,
        cairn: &Cairn,
        plan: &ClusterPlan,
    ) -> anyhow::Result<Offices> {
        let show = async |path: PathBuf| keys::show(cairn, &path).await;
        let mut contributors = Vec::new();
        for node in &plan.nodes {
            let key = show(layout.seed_key(node.raft_id)).await?;
            contributors.push(ContributorRules {
                institution: node.institution.clone(),
                seed_key: key.public_key,
                seed_key_proof: key.proof_of_possession,
            });
        }
        let notary = plan.first(Role::Notary)?.raft_id;
        let institute = plan.first(Role::Institute)?.raft_id;
        let offices = Offices {
            notary: show(layout.author_key(notary)).await?,
            registrar: show(layout.key("registrar")).await?,
            institute: show(layout.author_key(institute)).await?,
            registrar_tag: show(layout.key("registrar-tag")).await?,
            notary_tag: show(layout.key("notary-tag")).await?,
            beacon: show(layout.key("beacon")).await?,
            contributors,
        };
        if offices.notary_tag.commitment.is_empty() {
            bail!("cairn key show gave no commitment for a tag key");
        }
        Ok(offices)
    }
}

/// The time by this machine's clock, seconds since 1970.
pub fn now_s() -> anyhow::Result<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(since.as_secs())
}
