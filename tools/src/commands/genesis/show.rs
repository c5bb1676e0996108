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
    approvers: Vec<String>,
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
        format!("{region}: {statuses} for {reasons}, by {authority}")
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

fn mandate(mandate: &v1::Mandate) -> Mandate {
    Mandate {
        authority: hex::encode(&mandate.authority),
        region: mandate.region.clone(),
        reasons: mandate.reasons.clone(),
        statuses: mandate.statuses().map(in_words).collect(),
        max_duration_ms: mandate.max_duration_ms,
        approvers: mandate.approvers.iter().map(hex::encode).collect(),
    }
}
