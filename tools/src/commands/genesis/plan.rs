//! The plan of a ledger, as people write it, and the genesis that follows from it.
//!
//! What holds here: an unknown key is an error, keys are checked for their form, and lists are
//! sorted as the formats demand, so that the order in a plan never matters. What stays out:
//! whether the genesis is sound, which `cairn_ledger::genesis` decides.

use std::path::Path;

use bytes::Bytes;
use cairn_ledger::code::DAY_MS;
use cairn_ledger::genesis::RULES_VERSION;
use cairn_ledger::policy;
use cairn_proto::v1;
use libp2p_identity::PeerId;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::exit::Failure;
use crate::output::count;
use crate::system;

/// What `cairn genesis new --help` ends with.
pub const EXAMPLE: &str = r#"Example:
  cairn genesis new --plan plan.toml --out genesis.bin

A plan:
  name = "Suzhou testnet"

  [[member]]                      # one per institution
  raft_id = 1
  institution = "Notary office"
  role = "notary"                 # notary, government or institute
  cosign_key = "…"                # as cairn key new prints them
  peer_id = "12D3Koo…"
  seed_key = "…"
  seed_key_proof = "…"
  office_key = "…"                # an author's key below, that signs changes of members

  [[author]]                      # a key that may sign entries
  public_key = "…"
  name = "Registrar"
  role = "registrar"              # also organiser, authority, health and the members' roles

  [[mandate]]                     # what an authority may order
  authority = "…"
  region = "suzhou"
  reasons = ["exposure"]
  statuses = ["yellow", "red"]
  max_duration_days = 14
  approver_role = "health"        # who must agree to each order; without: nobody

  [mandate_policy]                # optional: who grants and revokes mandates later
  granters = ["…"]                # authors with another role than authority
  required = 2                    # so many of them together

  [policy]                        # optional: threshold, min_roles, detect_only
  [limits]                        # optional: any of the limits that genesis show prints"#;

/// The genesis that the plan in `path` describes.
pub fn read(path: &Path) -> Result<v1::Genesis, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Failed(format!("cannot read the plan {name}: {error}")))?;
    let plan: Plan = toml::from_str(&text)
        .map_err(|error| Failure::Failed(format!("{name}: {}", error.to_string().trim_end())))?;
    Ok(plan.genesis())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    name: String,
    created_at_ms: Option<u64>,
    #[serde(default)]
    policy: Policy,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    member: Vec<Member>,
    #[serde(default)]
    author: Vec<Author>,
    #[serde(default)]
    mandate: Vec<Mandate>,
    mandate_policy: Option<MandatePolicy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    threshold: Option<u32>,
    min_roles: Option<u32>,
    #[serde(default)]
    detect_only: bool,
}

/// What apply may never exceed, as a plan sets it and as it is shown.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    max_entry_bytes: u32,
    max_block_entries: u32,
    max_block_bytes: u32,
    max_entry_lifetime_ms: u64,
    checkpoint_every_blocks: u32,
    checkpoint_every_ms: u64,
}

impl Default for Limits {
    /// A roster chunk of 4,096 rows fits four times into an entry, an entry four times into a
    /// block; certificates follow each other within a second.
    fn default() -> Limits {
        Limits {
            max_entry_bytes: 1 << 20,
            max_block_entries: 4096,
            max_block_bytes: 4 << 20,
            max_entry_lifetime_ms: DAY_MS,
            checkpoint_every_blocks: 64,
            checkpoint_every_ms: 1000,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    #[serde(default)]
    raft_id: u64,
    institution: String,
    role: MemberRole,
    #[serde(deserialize_with = "hex_bytes")]
    cosign_key: Bytes,
    #[serde(deserialize_with = "peer_id")]
    peer_id: Bytes,
    #[serde(deserialize_with = "hex_bytes")]
    seed_key: Bytes,
    #[serde(deserialize_with = "hex_bytes")]
    seed_key_proof: Bytes,
    #[serde(default, deserialize_with = "hex_bytes")]
    office_key: Bytes,
    #[serde(default)]
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Author {
    #[serde(deserialize_with = "hex_bytes")]
    public_key: Bytes,
    name: String,
    role: AuthorRole,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mandate {
    #[serde(deserialize_with = "hex_bytes")]
    authority: Bytes,
    region: String,
    reasons: Vec<String>,
    statuses: Vec<Status>,
    max_duration_days: u64,
    approver_role: Option<AuthorRole>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MandatePolicy {
    #[serde(deserialize_with = "hex_list")]
    granters: Vec<Bytes>,
    required: u32,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemberRole {
    Notary,
    Government,
    Institute,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuthorRole {
    Notary,
    Government,
    Institute,
    Organiser,
    Registrar,
    Authority,
    Health,
    #[serde(rename = "point-of-sale")]
    PointOfSale,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Green,
    Yellow,
    Red,
}

impl Plan {
    fn genesis(self) -> v1::Genesis {
        let mut authors: Vec<_> = self.author.into_iter().map(Author::format).collect();
        authors.sort_by(|a, b| a.public_key.cmp(&b.public_key));
        let mut mandates: Vec<_> = self.mandate.into_iter().map(Mandate::format).collect();
        mandates.sort_by(|a, b| (&a.authority, &a.region).cmp(&(&b.authority, &b.region)));
        let mut members: Vec<_> = self.member.into_iter().map(Member::format).collect();
        members.sort_by_key(|member| member.raft_id);
        v1::Genesis {
            name: self.name,
            created_at_ms: self.created_at_ms.unwrap_or_else(system::now_ms),
            rules_version: RULES_VERSION,
            members: Some(v1::MemberSet {
                epoch: 0,
                policy: Some(self.policy.format(members.len())),
                members,
            }),
            limits: Some(self.limits.format()),
            authors,
            mandates,
            mandate_policy: self.mandate_policy.map(MandatePolicy::format),
        }
    }
}

impl Policy {
    fn format(self, members: usize) -> v1::QuorumPolicy {
        v1::QuorumPolicy {
            threshold: self
                .threshold
                .unwrap_or_else(|| policy::default_threshold(members)),
            min_roles: self.min_roles.unwrap_or(2),
            detect_only: self.detect_only,
        }
    }
}

impl Limits {
    /// Of a genesis.
    pub fn of(limits: &v1::Limits) -> Limits {
        Limits {
            max_entry_bytes: limits.max_entry_bytes,
            max_block_entries: limits.max_block_entries,
            max_block_bytes: limits.max_block_bytes,
            max_entry_lifetime_ms: limits.max_entry_lifetime_ms,
            checkpoint_every_blocks: limits.checkpoint_every_blocks,
            checkpoint_every_ms: limits.checkpoint_every_ms,
        }
    }

    fn format(self) -> v1::Limits {
        v1::Limits {
            max_entry_bytes: self.max_entry_bytes,
            max_block_entries: self.max_block_entries,
            max_block_bytes: self.max_block_bytes,
            max_entry_lifetime_ms: self.max_entry_lifetime_ms,
            checkpoint_every_blocks: self.checkpoint_every_blocks,
            checkpoint_every_ms: self.checkpoint_every_ms,
        }
    }

    /// In words.
    pub fn in_words(&self) -> String {
        let number = |number: u32| count(u64::from(number));
        let (entry, block) = (number(self.max_entry_bytes), number(self.max_block_bytes));
        let (entries, blocks) = (
            number(self.max_block_entries),
            number(self.checkpoint_every_blocks),
        );
        format!(
            "{entry} bytes an entry, {entries} entries and {block} bytes a block,\n\
             a checkpoint every {blocks} blocks or {} ms, entries recorded within {} ms",
            count(self.checkpoint_every_ms),
            count(self.max_entry_lifetime_ms)
        )
    }
}

impl Member {
    pub(crate) fn format(self) -> v1::Member {
        let role = match self.role {
            MemberRole::Notary => v1::Role::Notary,
            MemberRole::Government => v1::Role::Government,
            MemberRole::Institute => v1::Role::Institute,
        };
        v1::Member {
            raft_id: self.raft_id,
            institution: self.institution,
            role: role.into(),
            cosign_key: self.cosign_key,
            peer_id: self.peer_id,
            seed_key: self.seed_key,
            seed_key_proof: self.seed_key_proof,
            office_key: self.office_key,
            address: self.address,
        }
    }
}

impl Author {
    fn format(self) -> v1::Author {
        v1::Author {
            public_key: self.public_key,
            name: self.name,
            role: self.role.format().into(),
        }
    }
}

impl AuthorRole {
    pub(crate) fn format(self) -> v1::Role {
        match self {
            AuthorRole::Notary => v1::Role::Notary,
            AuthorRole::Government => v1::Role::Government,
            AuthorRole::Institute => v1::Role::Institute,
            AuthorRole::Organiser => v1::Role::Organiser,
            AuthorRole::Registrar => v1::Role::Registrar,
            AuthorRole::Authority => v1::Role::Authority,
            AuthorRole::Health => v1::Role::Health,
            AuthorRole::PointOfSale => v1::Role::PointOfSale,
        }
    }
}

impl MandatePolicy {
    fn format(mut self) -> v1::MandatePolicy {
        self.granters.sort();
        v1::MandatePolicy {
            granters: self.granters,
            required: self.required,
        }
    }
}

impl Status {
    pub(crate) fn format(self) -> v1::CodeStatus {
        match self {
            Status::Green => v1::CodeStatus::Green,
            Status::Yellow => v1::CodeStatus::Yellow,
            Status::Red => v1::CodeStatus::Red,
        }
    }
}

/// As the formats have a list of statuses.
pub(crate) fn ascending(statuses: Vec<Status>) -> Vec<i32> {
    let numbers = statuses.into_iter().map(|status| status.format().into());
    let mut numbers: Vec<i32> = numbers.collect();
    numbers.sort_unstable();
    numbers
}

impl Mandate {
    pub(crate) fn format(mut self) -> v1::Mandate {
        self.reasons.sort();
        v1::Mandate {
            authority: self.authority,
            region: self.region,
            reasons: self.reasons,
            statuses: ascending(self.statuses),
            max_duration_ms: self.max_duration_days.saturating_mul(DAY_MS),
            approver_role: self.approver_role.map_or(0, |role| role.format().into()),
        }
    }
}

pub(crate) fn hex_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(from)?;
    bytes_of(&text).map_err(D::Error::custom)
}

pub(crate) fn hex_list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Bytes>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let all = texts.iter().map(|text| bytes_of(text));
    all.collect::<Result<_, _>>().map_err(D::Error::custom)
}

fn bytes_of(text: &str) -> Result<Bytes, &'static str> {
    let bytes = hex::decode(text).map(Bytes::from);
    bytes.map_err(|_| "must be hex digits, as cairn key show prints them")
}

pub(crate) fn peer_id<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(from)?;
    let id = text.parse::<PeerId>();
    let id = id.map_err(|_| D::Error::custom("must be a peer id, as cairn key show prints it"))?;
    Ok(id.to_bytes().into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
        name = "test"
        created_at_ms = 7
        [limits]
        checkpoint_every_blocks = 9
        [[author]]
        public_key = "bb"
        name = "B"
        role = "health"
        [[author]]
        public_key = "aa"
        name = "A"
        role = "authority"
        [[mandate]]
        authority = "aa"
        region = "r"
        reasons = ["z", "a"]
        statuses = ["red", "green"]
        max_duration_days = 2
        approver_role = "health"
    "#;

    #[test]
    fn lists_are_sorted_and_what_is_left_out_has_defaults() {
        let genesis = toml::from_str::<Plan>(PLAN).unwrap().genesis();
        let names = genesis.authors.iter().map(|author| author.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(genesis.mandates[0].reasons, ["a", "z"]);
        assert_eq!(genesis.mandates[0].statuses, [1, 3]);
        assert_eq!(genesis.mandates[0].max_duration_ms, 2 * DAY_MS);
        let limits = genesis.limits.unwrap();
        assert_eq!(limits.checkpoint_every_blocks, 9);
        assert_eq!(limits.checkpoint_every_ms, 1000);
        let policy = genesis.members.unwrap().policy.unwrap();
        assert_eq!((policy.min_roles, policy.detect_only), (2, false));
    }

    #[test]
    fn unknown_keys_and_malformed_values_are_errors() {
        for (from, to) in [
            ("created_at_ms", "created_at"),
            ("checkpoint_every_blocks", "checkpoint_every_block"),
            ("region", "regio"),
            ("\"red\"", "\"purple\""),
            ("\"health\"", "\"doctor\""),
            ("\"aa\"", "\"a\""),
        ] {
            let plan = PLAN.replacen(from, to, 1);
            assert!(toml::from_str::<Plan>(&plan).is_err(), "{from} as {to}");
        }
    }
}
