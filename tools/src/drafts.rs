//! Drafts: entries that offices of several members sign one after another, before they are handed in.
//!
//! What holds here: a draft is one file that goes from office to office; it holds nothing secret;
//! each signature is over the same envelope, so nobody can change what others signed. Only offices
//! of members in force sign, and only enough of them hand in. What stays out: what a draft says
//! (`commands`), and whether it is allowed, which the rules decide.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::entry;
use cairn_ledger::members;
use cairn_ledger::policy;
use cairn_proto::schema::Described;
use cairn_proto::v1;
use clap::Args;
use ed25519_dalek::SigningKey;
use prost::Message;

use crate::exit::Failure;
use crate::key_file;
use crate::session::Session;
use crate::submit::draft;
use crate::system;

/// What a draft's file begins with.
const MAGIC: &[u8] = b"cairn-draft-v1\n";

/// What proposing takes, beside what the draft is to say.
#[derive(Debug, Args)]
pub struct Proposal {
    /// The author key of the office that proposes
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where the draft is written
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// What approving a draft takes, whatever it says.
#[derive(Debug, Args)]
pub struct Approve {
    /// The draft, which gets the signature
    #[arg(value_name = "DRAFT")]
    pub draft: PathBuf,
    /// The author key of the office that approves
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// The certified set that certifies the next block.
pub async fn in_force(session: &Session) -> Result<v1::MemberSet, Failure> {
    let unreadable = || Failure::InvalidProof("the map's members are unreadable".to_owned());
    let state = session.map_value(members::NAMESPACE, &[]).await?;
    let state = v1::MembershipState::decode(state.value.unwrap_or_default());
    let epoch = state.map_err(|_| unreadable())?.epoch.to_be_bytes();
    let set = session.map_value(members::NAMESPACE, &epoch).await?;
    v1::MemberSet::decode(set.value.unwrap_or_default()).map_err(|_| unreadable())
}

/// A draft, signed by its author. It has a way to go: it may be handed in for half as long as the
/// genesis allows, so that clocks may differ.
pub fn compose(
    session: &Session,
    kind: v1::EntryKind,
    subject: Bytes,
    body: Bytes,
    author: &SigningKey,
) -> v1::SignedEntry {
    let chain = &session.chain;
    let mut draft = draft(chain, kind, v1::Visibility::Public, subject, body);
    let lifetime = chain.limits().max_entry_lifetime_ms / 2;
    draft.not_after_ms = system::now_ms().saturating_add(lifetime);
    entry::compose(&chain.id, draft, author, &[])
}

/// Adds an office's approval, once.
pub fn sign(session: &Session, entry: &mut v1::SignedEntry, key: &SigningKey) {
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

/// Writes a draft's file.
pub fn write(path: &Path, entry: &v1::SignedEntry) -> Result<(), Failure> {
    let bytes = [MAGIC, &canonical::encode(entry)].concat();
    std::fs::write(path, bytes)
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
}

/// Reads a draft's file. What it says is not looked at yet.
pub fn read(path: &Path) -> Result<v1::SignedEntry, Failure> {
    let name = path.display();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
    let none = || Failure::Failed(format!("{name} is no draft, or was cut short or edited"));
    let message = bytes.strip_prefix(MAGIC).ok_or_else(none)?;
    canonical::decode(message).map_err(|_| none())
}

/// A draft's envelope, over the very body that is in the draft.
pub fn envelope(entry: &v1::SignedEntry) -> Result<v1::Envelope, Failure> {
    let envelope: v1::Envelope = canonical::decode(&entry.envelope)
        .map_err(|error| Failure::Failed(format!("the draft's envelope: {error}")))?;
    if envelope.body_hash != cairn_ledger::hash::plain(&entry.body).0[..] {
        let message = "the draft's body is not the one that was signed";
        return Err(Failure::Failed(message.to_owned()));
    }
    Ok(envelope)
}

/// What a draft says, once it is known to be of the kind that `M` is the body of.
pub fn body<M: Message + Default + Described>(entry: &v1::SignedEntry) -> Result<M, Failure> {
    canonical::decode(&entry.body)
        .map_err(|error| Failure::Failed(format!("the draft's body: {error}")))
}

/// What a draft says, which must be of this kind and the very body that was signed. `noun` is the
/// command that such drafts belong to.
pub fn body_of<M: Message + Default + Described>(
    entry: &v1::SignedEntry,
    kind: v1::EntryKind,
    noun: &str,
) -> Result<M, Failure> {
    match envelope(entry)?.kind() {
        found if found == kind => body(entry),
        found => Err(other_kind(found, noun)),
    }
}

/// Why a draft is not for a command.
pub fn other_kind(found: v1::EntryKind, noun: &str) -> Failure {
    let found = found.as_str_name();
    let found = found.strip_prefix("ENTRY_KIND_").unwrap_or(found);
    Failure::Failed(format!(
        "this draft is a {found}, and {noun} is about others; pass it to the command that made it"
    ))
}

/// A key file's key, which must be that of a member's office.
pub fn office_key(in_force: &v1::MemberSet, path: &Path) -> Result<SigningKey, Failure> {
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

/// The member whose office has this key.
pub fn office<'a>(in_force: &'a v1::MemberSet, key: &[u8]) -> Option<&'a v1::Member> {
    let mut members = in_force.members.iter();
    members.find(|member| !key.is_empty() && member.office_key == key)
}

/// Who has signed a draft, by name.
pub fn signers(in_force: &v1::MemberSet, entry: &v1::SignedEntry) -> Vec<String> {
    let signer = |signature: &v1::Signature| match office(in_force, &signature.public_key) {
        Some(member) => member.institution.clone(),
        None => format!(
            "{} (no member's office)",
            hex::encode(&signature.public_key)
        ),
    };
    entry.signatures.iter().map(signer).collect()
}

/// What the rules will ask for: offices only, and enough of them. `approve` is the command with
/// which the next one signs.
pub fn enough_offices(
    in_force: &v1::MemberSet,
    entry: &v1::SignedEntry,
    approve: &str,
) -> Result<(), Failure> {
    let mut signers = Vec::new();
    for signature in &entry.signatures {
        let member = office(in_force, &signature.public_key).ok_or_else(|| {
            Failure::Failed(format!(
                "{} signed the draft and is no member's office, which makes it void; propose it \
                 again",
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
         {approve} --key <office key>",
        signers.len(),
        policy.threshold,
        policy.min_roles,
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub mod tests {
    use super::*;

    /// The office key of a member.
    pub fn office_of(raft_id: u64) -> SigningKey {
        SigningKey::from_bytes(&[u8::try_from(raft_id).unwrap(); 32])
    }

    /// A member.
    pub fn member(raft_id: u64) -> v1::Member {
        let office_key = office_of(raft_id).verifying_key().to_bytes().to_vec();
        v1::Member {
            raft_id,
            institution: format!("institution {raft_id}"),
            role: if raft_id.is_multiple_of(2) { 1 } else { 2 },
            cosign_key: vec![raft_id as u8; 32].into(),
            office_key: office_key.into(),
            ..v1::Member::default()
        }
    }

    /// Four members, of whom three are needed, in two roles.
    pub fn in_force() -> v1::MemberSet {
        v1::MemberSet {
            epoch: 4,
            members: (1..=4).map(member).collect(),
            policy: Some(v1::QuorumPolicy {
                threshold: 3,
                min_roles: 2,
                detect_only: false,
            }),
        }
    }

    fn draft(kind: v1::EntryKind, signers: &[u64]) -> v1::SignedEntry {
        let body = canonical::encode(&v1::LotteryVoid {
            attempt: 1,
            ..Default::default()
        });
        let mut envelope = v1::Envelope {
            body_hash: cairn_ledger::hash::plain(&body).to_bytes(),
            ..v1::Envelope::default()
        };
        envelope.set_kind(kind);
        let sign = |id: &u64| v1::Signature {
            public_key: office_of(*id).verifying_key().to_bytes().to_vec().into(),
            ..v1::Signature::default()
        };
        v1::SignedEntry {
            envelope: canonical::encode(&envelope),
            body,
            signatures: signers.iter().map(sign).collect(),
        }
    }

    #[test]
    fn only_offices_and_enough_of_them_hand_a_draft_in() {
        let (old, kind) = (in_force(), v1::EntryKind::LotteryVoid);
        let judged = |signers: &[u64]| enough_offices(&old, &draft(kind, signers), "cairn approve");
        assert!(judged(&[1, 2, 3]).is_ok());
        assert!(judged(&[1, 2, 3, 4]).is_ok());
        let few = judged(&[1, 2]).unwrap_err();
        assert_eq!(few.exit_code(), 11);
        assert!(few.to_string().contains("2 of the 3"), "{few}");
        assert!(few.to_string().contains("cairn approve --key"), "{few}");
        let stranger = judged(&[1, 2, 3, 9]).unwrap_err();
        assert!(stranger.to_string().contains("no member's office"));
    }

    #[test]
    fn a_draft_of_another_kind_or_with_another_body_is_not_read() {
        let kind = v1::EntryKind::LotteryVoid;
        let mut entry = draft(kind, &[1]);
        let body: v1::LotteryVoid = body_of(&entry, kind, "cairn lottery void").unwrap();
        assert_eq!(body.attempt, 1);
        let other = draft(v1::EntryKind::Objection, &[1]);
        let other = body_of::<v1::LotteryVoid>(&other, kind, "cairn lottery void").unwrap_err();
        assert!(other.to_string().contains("OBJECTION"), "{other}");
        entry.body = Bytes::from_static(b"\x10\x02");
        let edited = body_of::<v1::LotteryVoid>(&entry, kind, "cairn lottery void").unwrap_err();
        assert!(edited.to_string().contains("not the one"), "{edited}");
    }

    #[test]
    fn a_drafts_file_is_read_back_and_an_edited_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.draft");
        let entry = draft(v1::EntryKind::LotteryVoid, &[1]);
        write(&path, &entry).unwrap();
        assert_eq!(read(&path).unwrap(), entry);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 1);
        std::fs::write(&path, bytes).unwrap();
        assert!(read(&path).is_err());
    }
}
