//! `cairn member`: who certifies, and changes of it that several offices sign one after another.
//!
//! What holds here: a draft is one file that is handed from office to office; each sees what it
//! changes, computed here from the certified set in force, before its key signs. What stays out:
//! starting and stopping nodes, and whether a change is allowed, which the rules decide.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_ledger::entry;
use cairn_ledger::{canonical, members, policy};
use cairn_proto::v1;
use clap::{Args, Subcommand};
use ed25519_dalek::SigningKey;
use libp2p_identity::PeerId;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::certificate::role_in_words;
use crate::cli::Global;
use crate::commands::genesis::plan;
use crate::exit::Failure;
use crate::key_file;
use crate::output::{self, count, line};
use crate::session::Session;
use crate::submit::{draft, entry_id};

/// What `cairn member propose --help` ends with.
const EXAMPLE: &str = r#"Example:
  cairn member propose --plan next.toml --key notary.key --out change.draft --genesis genesis.bin

A plan; all parts are optional:
  remove = [4]                    # by raft_id

  [[add]]                         # as a member of a genesis plan, without raft_id
  institution = "Institute"
  role = "institute"
  cosign_key = "…"
  peer_id = "12D3Koo…"
  seed_key = "…"
  seed_key_proof = "…"
  office_key = "…"
  address = "10.0.0.9:7000"

  [[rotate]]                      # other keys for a member that stays
  raft_id = 2
  cosign_key = "…"                # any of cosign_key, peer_id, office_key, seed_key with
                                  # seed_key_proof, address
  [policy]                        # threshold, min_roles, detect_only; those left out stay
  threshold = 4"#;

/// What a draft's file begins with.
const MAGIC: &[u8] = b"cairn-draft-v1\n";

/// `cairn member …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the members in force, certified
    #[command(after_help = "Example:\n  cairn member show --genesis genesis.bin")]
    Show,
    /// Draft a change from a plan and sign it as its author
    #[command(after_help = EXAMPLE)]
    Propose(Propose),
    /// Show what a draft changes, and sign it with one more office's key
    #[command(
        after_help = "Example:\n  cairn member approve change.draft --key institute.key --genesis \
                      genesis.bin"
    )]
    Approve(Approve),
    /// Hand in a draft that enough offices have signed
    #[command(after_help = "Example:\n  cairn member submit change.draft --genesis genesis.bin")]
    Submit {
        /// The draft
        #[arg(value_name = "DRAFT")]
        draft: PathBuf,
    },
}

/// `cairn member propose`
#[derive(Debug, Args)]
pub struct Propose {
    /// What is to change
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// The key file of a member's office
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the draft is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `cairn member approve`
#[derive(Debug, Args)]
pub struct Approve {
    /// The draft, which gets the signature
    #[arg(value_name = "DRAFT")]
    draft: PathBuf,
    /// The key file of a member's office
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Plan {
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
    fn read(path: &Path) -> Result<Plan, Failure> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::Failed(format!("cannot read the plan {name}: {error}")))?;
        toml::from_str(&text)
            .map_err(|error| Failure::Failed(format!("{name}: {}", error.to_string().trim_end())))
    }

    /// The set that follows `set` by this plan.
    fn next(self, mut set: v1::MemberSet) -> Result<v1::MemberSet, Failure> {
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

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let in_force = in_force(&session).await?;
    match command {
        Command::Show => {
            output::print(global, &Shown::of(&in_force), Shown::table);
            Ok(())
        }
        Command::Propose(propose) => {
            let next = Plan::read(&propose.plan)?.next(in_force.clone())?;
            policy::check(&next)
                .map_err(|error| Failure::Failed(format!("the plan's policy: {error}")))?;
            let key = office_key(&in_force, &propose.key)?;
            let body = canonical::encode(&v1::MembershipChange {
                next_members: Some(next),
            });
            let (kind, visibility) = (v1::EntryKind::MembershipChange, v1::Visibility::Public);
            let mut entry = draft(&session.chain, kind, visibility, Bytes::new(), body);
            // The draft has a way to go: half of what the genesis allows, so that clocks may differ.
            let lifetime = session.chain.limits().max_entry_lifetime_ms / 2;
            entry.not_after_ms = crate::system::now_ms().saturating_add(lifetime);
            let entry = entry::compose(&session.chain.id, entry, &key, &[]);
            write(&propose.out, &entry)?;
            told(global, &in_force, &entry)
        }
        Command::Approve(approve) => {
            let mut entry = read(&approve.draft)?;
            // Nobody signs what is nothing any more.
            change_of(&entry, &in_force)?;
            let key = office_key(&in_force, &approve.key)?;
            sign(&session, &mut entry, &key);
            write(&approve.draft, &entry)?;
            told(global, &in_force, &entry)
        }
        Command::Submit { draft } => {
            let entry = read(&draft)?;
            told(global, &in_force, &entry)?;
            enough_offices(&in_force, &entry, &draft)?;
            let status = session.submit(&entry, v1::WaitFor::Certified).await?;
            let recorded = Recorded {
                entry_id: entry_id(&entry).to_string(),
                height: status.height,
            };
            output::print(global, &recorded, Recorded::table);
            Ok(())
        }
    }
}

fn sign(session: &Session, entry: &mut v1::SignedEntry, key: &SigningKey) {
    let purpose = v1::SignaturePurpose::Approval;
    let signature = entry::sign(key, &session.chain.id, purpose, &entry.envelope);
    let signed = entry.signatures.iter();
    let known = signed.clone().any(|s| s.public_key == signature.public_key);
    if !known {
        entry.signatures.push(signature);
    }
    let order = |s: &v1::Signature| (s.public_key.clone(), s.purpose);
    entry.signatures.sort_by_key(order);
}

/// The certified set that certifies the next block.
async fn in_force(session: &Session) -> Result<v1::MemberSet, Failure> {
    let unreadable = || Failure::InvalidProof("the map's members are unreadable".to_owned());
    let state = session.map_value(members::NAMESPACE, &[]).await?;
    let state = v1::MembershipState::decode(state.value.unwrap_or_default());
    let epoch = state.map_err(|_| unreadable())?.epoch.to_be_bytes();
    let set = session.map_value(members::NAMESPACE, &epoch).await?;
    v1::MemberSet::decode(set.value.unwrap_or_default()).map_err(|_| unreadable())
}

fn write(path: &Path, entry: &v1::SignedEntry) -> Result<(), Failure> {
    let bytes = [MAGIC, &canonical::encode(entry)].concat();
    std::fs::write(path, bytes)
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

fn read(path: &Path) -> Result<v1::SignedEntry, Failure> {
    let name = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
    let none = || Failure::Failed(format!("{name} is no draft, or was cut short or edited"));
    let message = bytes.strip_prefix(MAGIC).ok_or_else(none)?;
    canonical::decode(message).map_err(|_| none())
}

/// A key file's key, which must be that of a member's office.
fn office_key(in_force: &v1::MemberSet, path: &Path) -> Result<SigningKey, Failure> {
    let key = key_file::author(path)?;
    match office(in_force, key.verifying_key().as_bytes()) {
        Some(_) => Ok(key),
        None => Err(Failure::Failed(format!(
            "{} is the key of no member's office, and its signature would make the draft void; \
             cairn member show -o json lists the offices' keys",
            path.display()
        ))),
    }
}

fn office<'a>(in_force: &'a v1::MemberSet, key: &[u8]) -> Option<&'a v1::Member> {
    let mut members = in_force.members.iter();
    members.find(|member| !key.is_empty() && member.office_key == key)
}

/// The set that a draft asks for, if it still follows the one in force.
fn change_of(entry: &v1::SignedEntry, in_force: &v1::MemberSet) -> Result<v1::MemberSet, Failure> {
    let body: v1::MembershipChange = canonical::decode(&entry.body)
        .map_err(|error| Failure::Failed(format!("the draft's body: {error}")))?;
    let envelope: v1::Envelope = canonical::decode(&entry.envelope)
        .map_err(|error| Failure::Failed(format!("the draft's envelope: {error}")))?;
    if envelope.body_hash != cairn_ledger::hash::plain(&entry.body).0[..] {
        let message = "the draft's body is not the one that was signed";
        return Err(Failure::Failed(message.to_owned()));
    }
    let next = body.next_members.unwrap_or_default();
    if next.epoch != in_force.epoch + 1 {
        return Err(Failure::Failed(format!(
            "the draft follows epoch {}, and the members are in epoch {} now; propose the change \
             again, and have it signed again",
            next.epoch.saturating_sub(1),
            in_force.epoch
        )));
    }
    Ok(next)
}

/// What the rules will ask for: offices only, and enough of them.
fn enough_offices(
    in_force: &v1::MemberSet,
    entry: &v1::SignedEntry,
    draft: &Path,
) -> Result<(), Failure> {
    let mut signers = Vec::new();
    for signature in &entry.signatures {
        let member = office(in_force, &signature.public_key).ok_or_else(|| {
            Failure::Failed(format!(
                "{} signed the draft and is no member's office, which makes it void; propose the \
                 change again",
                hex::encode(&signature.public_key)
            ))
        })?;
        signers.push(member);
    }
    if policy::satisfies(in_force, &signers) {
        return Ok(());
    }
    let policy = in_force.policy.unwrap_or_default();
    Err(Failure::QuorumNotMet(format!(
        "{} of the {} offices that are needed, from {} roles, have signed; the next one signs with: \
         cairn member approve {} --key <office key>",
        signers.len(),
        policy.threshold,
        policy.min_roles,
        draft.display()
    )))
}

/// What becomes of each member whom a change is about, in words.
fn differences(old: &v1::MemberSet, next: &v1::MemberSet) -> Vec<String> {
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

fn told(global: &Global, in_force: &v1::MemberSet, entry: &v1::SignedEntry) -> Result<(), Failure> {
    let next = change_of(entry, in_force)?;
    let signer = |signature: &v1::Signature| match office(in_force, &signature.public_key) {
        Some(member) => member.institution.clone(),
        None => format!(
            "{} (no member's office)",
            hex::encode(&signature.public_key)
        ),
    };
    let told = Told {
        entry_id: entry_id(entry).to_string(),
        changes: differences(in_force, &next),
        next: Shown::of(&next),
        signed_by: entry.signatures.iter().map(signer).collect(),
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
struct Recorded {
    entry_id: String,
    height: u64,
}

impl Recorded {
    fn table(&self) -> Vec<(String, String)> {
        vec![
            line("certified", &self.entry_id),
            line("block", count(self.height)),
        ]
    }
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
struct Shown {
    epoch: u64,
    threshold: u32,
    min_roles: u32,
    detect_only: bool,
    members: Vec<Member>,
}

impl Shown {
    fn of(set: &v1::MemberSet) -> Shown {
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

    fn table(&self) -> Vec<(String, String)> {
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
