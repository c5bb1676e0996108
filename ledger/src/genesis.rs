//! The genesis: what everybody agrees on before the first block, and what is refused there.
//!
//! What holds here: the chain id is the hash of the genesis' canonical bytes, so whoever pins those
//! 32 bytes pins members, policy, limits, authors and mandates. A [`Chain`] exists only for a
//! genesis that passed every check.

use bytes::Bytes;
use cairn_proto::v1::{self, Role};

use crate::admission::MAX_SIGNATURES;
use crate::canonical::{self, CanonicalError};
use crate::code::rules::mandate_problem;
use crate::entry;
use crate::hash::{Domain, Hash};
use crate::lottery::seed;
use crate::policy::{self, PolicyError};

static GENESIS: Domain = Domain::new("cairn v1 genesis");
static MEMBERS: Domain = Domain::new("cairn v1 members");

/// The edition of the rules that this program knows.
pub const RULES_VERSION: u32 = 1;
/// Longest name of a ledger, an institution or an author, in bytes.
const MAX_NAME: usize = 200;
/// Peer ids are multihashes; those of Ed25519 keys take 38 bytes.
const MAX_PEER_ID: usize = 64;
/// A DNS name has at most 253 bytes; a port and its colon at most 6.
const MAX_ADDRESS: usize = 260;
/// The largest block that a node keeps in memory several times over.
const MAX_BLOCK_BYTES: u32 = 16 << 20;
/// The largest entry: a request for it stays well below what gRPC servers take.
const MAX_ENTRY_BYTES: u32 = 4 << 20;
/// Envelope, signatures and a small body fit in so many bytes.
const MIN_ENTRY_BYTES: u32 = 4 << 10;

/// Why a genesis is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Not the canonical bytes of a `Genesis`.
    #[error("the genesis is not canonical: {0}; make one with: cairn genesis new")]
    NotCanonical(#[from] CanonicalError),
    /// A newer ledger than this program.
    #[error(
        "the genesis asks for rules version {0}, this program knows {RULES_VERSION}: upgrade it"
    )]
    RulesVersion(u32),
    /// A field that cannot work.
    #[error("the genesis' {place}: {problem}")]
    Field {
        /// Which one.
        place: String,
        /// Why not.
        problem: &'static str,
    },
    /// Nobody could certify, or one institution too much.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// The immutable facts of one ledger.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The hash of the genesis.
    pub id: Hash,
    /// The canonical bytes of the genesis.
    pub bytes: Bytes,
    /// The genesis.
    pub genesis: v1::Genesis,
    /// The member set of epoch 0. Later ones follow from it: on a node from its state
    /// ([`crate::members`]), elsewhere from certified changes ([`crate::epochs`]).
    pub members: v1::MemberSet,
    limits: v1::Limits,
}

impl Chain {
    /// The ledger whose genesis has these canonical bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Chain, GenesisError> {
        let genesis: v1::Genesis = canonical::decode(bytes)?;
        if genesis.rules_version != RULES_VERSION {
            return Err(GenesisError::RulesVersion(genesis.rules_version));
        }
        check(
            text(&genesis.name) && genesis.created_at_ms > 0,
            || "name or created_at_ms".to_owned(),
            "must be set",
        )?;
        let members = check_members(&genesis)?;
        let limits = check_limits(&genesis)?;
        check_authors(&genesis)?;
        check_mandates(&genesis)?;
        check_mandate_policy(&genesis)?;
        Ok(Chain {
            id: chain_id(bytes),
            bytes: Bytes::copy_from_slice(bytes),
            members,
            limits,
            genesis,
        })
    }

    /// What apply may never exceed.
    pub fn limits(&self) -> &v1::Limits {
        &self.limits
    }
}

/// The chain id: the hash of a genesis' canonical bytes.
pub fn chain_id(genesis_bytes: &[u8]) -> Hash {
    GENESIS.hash(genesis_bytes)
}

/// What headers name a member set by.
pub fn members_hash(members: &v1::MemberSet) -> Hash {
    MEMBERS.hash(&canonical::encode(members))
}

fn check(
    holds: bool,
    place: impl FnOnce() -> String,
    problem: &'static str,
) -> Result<(), GenesisError> {
    if holds {
        return Ok(());
    }
    Err(GenesisError::Field {
        place: place(),
        problem,
    })
}

fn text(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
}

fn known_role(role: i32) -> bool {
    Role::try_from(role).is_ok_and(|role| role != Role::Unspecified)
}

fn check_members(genesis: &v1::Genesis) -> Result<v1::MemberSet, GenesisError> {
    let set = genesis.members.clone().unwrap_or_default();
    check(set.epoch == 0, || "members.epoch".to_owned(), "must be 0")?;
    check_member_fields(&set)?;
    for member in &set.members {
        let registered = genesis
            .authors
            .iter()
            .any(|author| author.public_key == member.office_key);
        check(
            member.office_key.is_empty() || registered,
            || at(member, "office_key"),
            "is no registered author's",
        )?;
    }
    policy::check(&set)?;
    Ok(set)
}

fn at(member: &v1::Member, field: &str) -> String {
    format!(
        "member {} ({}): {field}",
        member.raft_id, member.institution
    )
}

/// What holds of the members of every set, the first one and those that follow.
pub(crate) fn check_member_fields(set: &v1::MemberSet) -> Result<(), GenesisError> {
    let all = &set.members;
    check(
        !all.is_empty(),
        || "members".to_owned(),
        "must be at least one",
    )?;
    for (index, member) in all.iter().enumerate() {
        let at = |field: &str| at(member, field);
        let others = &all[..index];
        check(
            member.raft_id > others.last().map_or(0, |m| m.raft_id),
            || at("raft_id"),
            "must be above 0 and ascend",
        )?;
        check(
            text(&member.institution) && known_role(member.role),
            || at("institution or role"),
            "must be set",
        )?;
        check(
            entry::public_key(&member.cosign_key).is_some(),
            || at("cosign_key"),
            "is no sound Ed25519 key",
        )?;
        check(
            (1..=MAX_PEER_ID).contains(&member.peer_id.len()),
            || at("peer_id"),
            "must be a libp2p peer id",
        )?;
        check(
            seed_key_is_sound(member),
            || at("seed_key"),
            "is no BLS key with a proof of possession",
        )?;
        check(
            member.office_key.is_empty() || entry::public_key(&member.office_key).is_some(),
            || at("office_key"),
            "is no sound Ed25519 key",
        )?;
        check(
            member.address.len() <= MAX_ADDRESS,
            || at("address"),
            "is longer than a host and a port",
        )?;
        let same = |a: &Bytes, b: &Bytes| !a.is_empty() && a == b;
        let taken = others.iter().any(|other| {
            other.cosign_key == member.cosign_key
                || other.peer_id == member.peer_id
                || same(&other.seed_key, &member.seed_key)
                || same(&other.office_key, &member.office_key)
        });
        // One key, one purpose: what signs headers never signs entries.
        let twofold = all.iter().any(|m| m.cosign_key == member.office_key);
        check(
            !taken && !twofold,
            || at("keys"),
            "are another member's too, or serve two purposes",
        )?;
    }
    Ok(())
}

/// A member without a seed key contributes to no lottery.
fn seed_key_is_sound(member: &v1::Member) -> bool {
    if member.seed_key.is_empty() {
        return member.seed_key_proof.is_empty();
    }
    seed::verify_possession(&member.seed_key, &member.seed_key_proof).is_ok()
}

fn check_limits(genesis: &v1::Genesis) -> Result<v1::Limits, GenesisError> {
    let limits = genesis.limits.unwrap_or_default();
    let at = |field: &str| {
        let place = format!("limits.{field}");
        move || place
    };
    check(
        (MIN_ENTRY_BYTES..=MAX_ENTRY_BYTES).contains(&limits.max_entry_bytes),
        at("max_entry_bytes"),
        "must be from 4 KiB to 4 MiB",
    )?;
    check(
        (limits.max_entry_bytes..=MAX_BLOCK_BYTES).contains(&limits.max_block_bytes),
        at("max_block_bytes"),
        "must be at least max_entry_bytes and at most 16 MiB",
    )?;
    check(
        limits.max_block_entries > 0,
        at("max_block_entries"),
        "must be set",
    )?;
    check(
        limits.max_entry_lifetime_ms > 0,
        at("max_entry_lifetime_ms"),
        "must be set",
    )?;
    check(
        limits.checkpoint_every_blocks > 0 && limits.checkpoint_every_ms > 0,
        at("checkpoint_every_blocks and limits.checkpoint_every_ms"),
        "must be set",
    )?;
    Ok(limits)
}

fn check_authors(genesis: &v1::Genesis) -> Result<(), GenesisError> {
    let authors = &genesis.authors;
    for author in authors {
        let at = |field: &str| format!("author {}: {field}", author.name);
        check(
            entry::public_key(&author.public_key).is_some(),
            || at("public_key"),
            "is no sound Ed25519 key",
        )?;
        check(
            text(&author.name) && known_role(author.role),
            || at("name or role"),
            "must be set",
        )?;
    }
    check(
        authors.is_sorted_by(|a, b| a.public_key < b.public_key),
        || "authors".to_owned(),
        "must ascend by public_key, each once",
    )
}

fn check_mandates(genesis: &v1::Genesis) -> Result<(), GenesisError> {
    let mandates = &genesis.mandates;
    for mandate in mandates {
        let at = |field: &str| format!("mandate for {}: {field}", mandate.region);
        let role_of = |key: &[u8]| {
            let mut authors = genesis.authors.iter();
            authors.find(|a| a.public_key == key).map(|a| a.role())
        };
        check(
            role_of(&mandate.authority) == Some(Role::Authority),
            || at("authority"),
            "is no author with the role authority",
        )?;
        if let Some((field, problem)) = mandate_problem(mandate) {
            check(false, || at(field), problem)?;
        }
    }
    check(
        mandates.is_sorted_by(|a, b| (&a.authority, &a.region) < (&b.authority, &b.region)),
        || "mandates".to_owned(),
        "must ascend by authority and region",
    )
}

fn check_mandate_policy(genesis: &v1::Genesis) -> Result<(), GenesisError> {
    let Some(policy) = &genesis.mandate_policy else {
        return Ok(());
    };
    let granters = &policy.granters;
    let may_grant = |key: &Bytes| {
        let author = genesis.authors.iter().find(|a| a.public_key == key);
        author.is_some_and(|author| author.role() != Role::Authority)
    };
    check(
        (1..=MAX_SIGNATURES).contains(&granters.len())
            && granters.is_sorted_by(|a, b| a < b)
            && granters.iter().all(may_grant),
        || "mandate_policy.granters".to_owned(),
        "must ascend and be authors of another role than authority",
    )?;
    check(
        (1..=granters.len() as u64).contains(&u64::from(policy.required)),
        || "mandate_policy.required".to_owned(),
        "must be from 1 to the number of granters",
    )
}

#[cfg(test)]
mod tests;
