//! A genesis as it is shown: all that follows from its hash.

use cairn_ledger::genesis::Chain;
use cairn_proto::v1;
use libp2p_identity::PeerId;
use serde::Serialize;

use super::Policy;
use super::plan::Limits;
use crate::certificate::role_in_words;
use crate::commands::code::in_words;
use crate::output::{line, timestamp};

/// A genesis in plain values.
#[derive(Debug, Serialize)]
pub struct Shown {
    chain_id: String,
    name: String,
    created_at: String,
    rules_version: u32,
    policy: Policy,
    members: Vec<Member>,
    limits: Limits,
    authors: Vec<Author>,
    mandates: Vec<Mandate>,
    mandate_policy: Option<MandatePolicy>,
}

#[derive(Debug, Serialize)]
struct Member {
    raft_id: u64,
    institution: String,
    role: &'static str,
    cosign_key: String,
    peer_id: String,
    seed_key: String,
}

#[derive(Debug, Serialize)]
struct Author {
    name: String,
    role: &'static str,
    public_key: String,
}

#[derive(Debug, Serialize)]
struct Mandate {
    authority: String,
    region: String,
    reasons: Vec<String>,
    statuses: Vec<&'static str>,
    max_duration_ms: u64,
    approver_role: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct MandatePolicy {
    granters: Vec<String>,
    required: u32,
}

impl Shown {
    /// Of a sound genesis.
    pub fn of(chain: &Chain) -> Shown {
        let genesis = &chain.genesis;
        Shown {
            chain_id: chain.id.to_string(),
            name: genesis.name.clone(),
            created_at: timestamp(genesis.created_at_ms),
            rules_version: genesis.rules_version,
            policy: Policy::of(chain),
            members: chain.members.members.iter().map(member).collect(),
            limits: Limits::of(chain.limits()),
            authors: genesis.authors.iter().map(author).collect(),
            mandates: genesis.mandates.iter().map(mandate).collect(),
            mandate_policy: genesis.mandate_policy.as_ref().map(mandate_policy),
        }
    }

    /// As lines of a table.
    pub fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("chain id", &self.chain_id),
            line("name", &self.name),
            line("created", &self.created_at),
            line("rules", self.rules_version),
            line("certified by", self.policy.in_words(self.members.len())),
        ];
        let member = |m: &Member| format!("{} ({}), node {}", m.institution, m.role, m.raft_id);
        lines.push(line("members", joined(&self.members, member)));
        let author = |a: &Author| format!("{} ({}) {}", a.name, a.role, a.public_key);
        lines.push(line("authors", joined(&self.authors, author)));
        lines.push(line("mandates", joined(&self.mandates, Mandate::in_words)));
        let granters = |policy: &MandatePolicy| {
            let (required, all) = (policy.required, policy.granters.len());
            format!("{required} of {all}: {}", policy.granters.join(", "))
        };
        let granted_by = self.mandate_policy.as_ref().map(granters);
        let nobody = "nobody after the genesis".to_owned();
        lines.push(line("mandates granted by", granted_by.unwrap_or(nobody)));
        lines.push(line("limits", self.limits.in_words()));
        lines
    }
}

fn joined<T>(values: &[T], words: impl Fn(&T) -> String) -> String {
    values.iter().map(words).collect::<Vec<_>>().join("\n")
}

impl Mandate {
    fn in_words(&self) -> String {
        let (region, authority) = (&self.region, &self.authority);
        let (statuses, reasons) = (self.statuses.join(", "), self.reasons.join(", "));
        let approved = self
            .approver_role
            .map(|role| format!(", approved by {role}"));
        let approved = approved.unwrap_or_default();
        format!("{region}: {statuses} for {reasons}, by {authority}{approved}")
    }
}

fn member(member: &v1::Member) -> Member {
    let peer_id = PeerId::from_bytes(&member.peer_id);
    Member {
        raft_id: member.raft_id,
        institution: member.institution.clone(),
        role: role_in_words(member.role()),
        cosign_key: hex::encode(&member.cosign_key),
        peer_id: peer_id.map_or_else(|_| hex::encode(&member.peer_id), |id| id.to_base58()),
        seed_key: hex::encode(&member.seed_key),
    }
}

fn author(author: &v1::Author) -> Author {
    Author {
        name: author.name.clone(),
        role: role_in_words(author.role()),
        public_key: hex::encode(&author.public_key),
    }
}

fn mandate_policy(policy: &v1::MandatePolicy) -> MandatePolicy {
    MandatePolicy {
        granters: policy.granters.iter().map(hex::encode).collect(),
        required: policy.required,
    }
}

fn mandate(mandate: &v1::Mandate) -> Mandate {
    Mandate {
        authority: hex::encode(&mandate.authority),
        region: mandate.region.clone(),
        reasons: mandate.reasons.clone(),
        statuses: mandate.statuses().map(in_words).collect(),
        max_duration_ms: mandate.max_duration_ms,
        approver_role: (mandate.approver_role != 0).then(|| role_in_words(mandate.approver_role())),
    }
}
