//! A plan: what a change of members is to do, as a person writes it.
//!
//! What holds here: a key that is not known, or a member that is not there, is an error; what is left
//! out stays as it is. What stays out: whether the change is allowed.

use std::path::Path;

use bytes::Bytes;
use cairn_proto::v1;
use serde::Deserialize;

use crate::commands::genesis::plan;
use crate::exit::Failure;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Plan {
    remove: Vec<u64>,
    add: Vec<plan::Member>,
    rotate: Vec<Rotate>,
    policy: Policy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    raft_id: u64,
    #[serde(default, deserialize_with = "plan::hex_bytes")]
    cosign_key: Bytes,
    #[serde(default)]
    peer_id: Option<PeerIdText>,
    #[serde(default, deserialize_with = "plan::hex_bytes")]
    office_key: Bytes,
    #[serde(default, deserialize_with = "plan::hex_bytes")]
    seed_key: Bytes,
    #[serde(default, deserialize_with = "plan::hex_bytes")]
    seed_key_proof: Bytes,
    address: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PeerIdText(#[serde(deserialize_with = "plan::peer_id")] Bytes);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Policy {
    threshold: Option<u32>,
    min_roles: Option<u32>,
    detect_only: Option<bool>,
}

impl Plan {
    pub(super) fn read(path: &Path) -> Result<Plan, Failure> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::Failed(format!("cannot read the plan {name}: {error}")))?;
        toml::from_str(&text)
            .map_err(|error| Failure::Failed(format!("{name}: {}", error.to_string().trim_end())))
    }

    /// The set that follows `set` by this plan.
    pub(super) fn next(self, mut set: v1::MemberSet) -> Result<v1::MemberSet, Failure> {
        set.epoch += 1;
        let none = |raft_id| Failure::Failed(format!("no member has raft_id {raft_id}"));
        for raft_id in self.remove {
            let at = set.members.iter().position(|m| m.raft_id == raft_id);
            set.members.remove(at.ok_or_else(|| none(raft_id))?);
        }
        for rotate in self.rotate {
            let raft_id = rotate.raft_id;
            let mut members = set.members.iter_mut();
            let member = members.find(|m| m.raft_id == raft_id);
            rotate.apply(member.ok_or_else(|| none(raft_id))?);
        }
        set.members
            .extend(self.add.into_iter().map(|add| v1::Member {
                raft_id: 0,
                ..add.format()
            }));
        let policy = set.policy.get_or_insert_default();
        policy.threshold = self.policy.threshold.unwrap_or(policy.threshold);
        policy.min_roles = self.policy.min_roles.unwrap_or(policy.min_roles);
        policy.detect_only = self.policy.detect_only.unwrap_or(policy.detect_only);
        Ok(set)
    }
}

impl Rotate {
    fn apply(self, member: &mut v1::Member) {
        let set = |field: &mut Bytes, key: Bytes| {
            if !key.is_empty() {
                *field = key;
            }
        };
        set(&mut member.cosign_key, self.cosign_key);
        set(&mut member.office_key, self.office_key);
        set(&mut member.seed_key, self.seed_key);
        set(&mut member.seed_key_proof, self.seed_key_proof);
        set(
            &mut member.peer_id,
            self.peer_id.map_or_else(Bytes::new, |text| text.0),
        );
        if let Some(address) = self.address {
            member.address = address;
        }
    }
}
