//! Members and changes of them, for people and programs.
//!
//! What holds here: all is computed from the certified set in force and the draft itself, so that an
//! office signs what it has seen. What stays out: fetching either.

use cairn_proto::v1;
use libp2p_identity::PeerId;
use serde::Serialize;

use super::change_of;
use crate::certificate::role_in_words;
use crate::cli::Global;
use crate::drafts;
use crate::exit::Failure;
use crate::output::{self, line};
use crate::submit::entry_id;

/// What becomes of each member whom a change is about, in words.
pub(super) fn differences(old: &v1::MemberSet, next: &v1::MemberSet) -> Vec<String> {
    let stays = |id| next.members.iter().find(|member| member.raft_id == id);
    let mut told = Vec::new();
    for member in &old.members {
        let (id, name) = (member.raft_id, &member.institution);
        let Some(new) = stays(id) else {
            told.push(format!("{id}  {name} leaves"));
            continue;
        };
        let fields = [
            ("cosigning key", member.cosign_key != new.cosign_key),
            ("peer id", member.peer_id != new.peer_id),
            ("seed key", member.seed_key != new.seed_key),
            ("office key", member.office_key != new.office_key),
            ("role", member.role != new.role),
            ("address", member.address != new.address),
        ];
        let changed: Vec<&str> = fields.iter().filter(|f| f.1).map(|f| f.0).collect();
        if !changed.is_empty() {
            told.push(format!("{id}  {name} gets another {}", changed.join(", ")));
        }
    }
    let new = next.members.iter().filter(|member| member.raft_id == 0);
    told.extend(new.map(|member| format!("new  {} comes in", member.institution)));
    if old.policy != next.policy {
        told.push("the policy becomes another".to_owned());
    }
    told
}

/// What a draft changes, and who has signed it.
#[derive(Debug, Serialize)]
struct Told {
    entry_id: String,
    changes: Vec<String>,
    next: Shown,
    signed_by: Vec<String>,
}

pub(super) fn told(
    global: &Global,
    in_force: &v1::MemberSet,
    entry: &v1::SignedEntry,
) -> Result<(), Failure> {
    let next = change_of(entry, in_force)?;
    let told = Told {
        entry_id: entry_id(entry).to_string(),
        changes: differences(in_force, &next),
        next: Shown::of(&next),
        signed_by: drafts::signers(in_force, entry),
    };
    output::print(global, &told, |told| {
        let mut lines = vec![line("changes", told.changes.join("\n"))];
        lines.extend(told.next.table());
        lines.push(line("signed by", told.signed_by.join("\n")));
        lines.push(line("entry", &told.entry_id));
        lines
    });
    Ok(())
}

#[derive(Debug, Serialize)]
struct Member {
    raft_id: u64,
    institution: String,
    role: &'static str,
    cosign_key: String,
    peer_id: String,
    office_key: String,
    address: String,
}

/// A set of members in plain values.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    epoch: u64,
    threshold: u32,
    min_roles: u32,
    detect_only: bool,
    members: Vec<Member>,
}

impl Shown {
    pub(super) fn of(set: &v1::MemberSet) -> Shown {
        let policy = set.policy.unwrap_or_default();
        let member = |member: &v1::Member| Member {
            raft_id: member.raft_id,
            institution: member.institution.clone(),
            role: role_in_words(member.role()),
            cosign_key: hex::encode(&member.cosign_key),
            peer_id: PeerId::from_bytes(&member.peer_id).map_or_else(
                |_| hex::encode(&member.peer_id),
                |peer_id| peer_id.to_string(),
            ),
            office_key: hex::encode(&member.office_key),
            address: member.address.clone(),
        };
        Shown {
            epoch: set.epoch,
            threshold: policy.threshold,
            min_roles: policy.min_roles,
            detect_only: policy.detect_only,
            members: set.members.iter().map(member).collect(),
        }
    }

    pub(super) fn table(&self) -> Vec<(String, String)> {
        let members = self.members.iter().map(|member| {
            let number = match member.raft_id {
                0 => "new".to_owned(),
                raft_id => raft_id.to_string(),
            };
            let Member {
                institution, role, ..
            } = member;
            let cosign = &member.cosign_key;
            format!("{number}  {institution} ({role})\n   cosigns as {cosign}")
        });
        let mut certified = format!(
            "{} of {} members, from {} roles",
            self.threshold,
            self.members.len(),
            self.min_roles
        );
        if self.detect_only {
            certified.push_str("; forks are only detected");
        }
        vec![
            line("epoch", self.epoch),
            line("certified by", certified),
            line("members", members.collect::<Vec<_>>().join("\n")),
        ]
    }
}
