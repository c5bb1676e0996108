//! `cairn member`: who certifies, and changes of it that several offices sign one after another.
//!
//! What holds here: a draft is one file that is handed from office to office; each sees what it
//! changes, computed here from the certified set in force, before its key signs. What stays out:
//! starting and stopping nodes, and whether a change is allowed, which the rules decide.

mod plan;
mod shown;

use std::path::PathBuf;

use bytes::Bytes;
use cairn_ledger::{canonical, policy};
use cairn_proto::v1;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::Global;
use crate::drafts;
use crate::exit::Failure;
use crate::output::{self, count, line};
use crate::session::Session;
use crate::submit::entry_id;
use plan::Plan;
use shown::{Shown, told};

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
    Approve(drafts::Approve),
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
    #[command(flatten)]
    draft: drafts::Proposal,
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let in_force = drafts::in_force(&session).await?;
    match command {
        Command::Show => {
            output::print(global, &Shown::of(&in_force), Shown::table);
            Ok(())
        }
        Command::Propose(propose) => {
            let next = Plan::read(&propose.plan)?.next(in_force.clone())?;
            policy::check(&next)
                .map_err(|error| Failure::Failed(format!("the plan's policy: {error}")))?;
            let key = drafts::office_key(&in_force, &propose.draft.key)?;
            let body = canonical::encode(&v1::MembershipChange {
                next_members: Some(next),
            });
            let kind = v1::EntryKind::MembershipChange;
            let entry = drafts::compose(&session, kind, Bytes::new(), body, &key);
            drafts::write(&propose.draft.out, &entry)?;
            told(global, &in_force, &entry)
        }
        Command::Approve(approve) => {
            let mut entry = drafts::read(&approve.draft)?;
            // Nobody signs what is nothing any more.
            change_of(&entry, &in_force)?;
            let key = drafts::office_key(&in_force, &approve.key)?;
            drafts::sign(&session, &mut entry, &key);
            drafts::write(&approve.draft, &entry)?;
            told(global, &in_force, &entry)
        }
        Command::Submit { draft } => {
            let entry = drafts::read(&draft)?;
            told(global, &in_force, &entry)?;
            let approve = format!("cairn member approve {}", draft.display());
            drafts::enough_offices(&in_force, &entry, &approve)?;
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

/// The set that a draft asks for, if it still follows the one in force.
fn change_of(entry: &v1::SignedEntry, in_force: &v1::MemberSet) -> Result<v1::MemberSet, Failure> {
    let kind = v1::EntryKind::MembershipChange;
    let body: v1::MembershipChange = drafts::body_of(entry, kind, "cairn member")?;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::drafts::tests::{in_force, member, office_of};

    fn draft_of(next: v1::MemberSet, signers: &[u64]) -> v1::SignedEntry {
        let body = canonical::encode(&v1::MembershipChange {
            next_members: Some(next),
        });
        let envelope = canonical::encode(&v1::Envelope {
            kind: v1::EntryKind::MembershipChange.into(),
            body_hash: cairn_ledger::hash::plain(&body).to_bytes(),
            ..v1::Envelope::default()
        });
        let sign = |id: &u64| v1::Signature {
            public_key: office_of(*id).verifying_key().to_bytes().to_vec().into(),
            ..v1::Signature::default()
        };
        v1::SignedEntry {
            envelope,
            body,
            signatures: signers.iter().map(sign).collect(),
        }
    }

    #[test]
    fn a_draft_for_another_epoch_or_with_another_body_is_nothing_any_more() {
        let old = in_force();
        let mut next = in_force();
        next.epoch = 5;
        let mut draft = draft_of(next.clone(), &[1]);
        assert_eq!(change_of(&draft, &old).unwrap(), next);
        draft.body = draft_of(in_force(), &[1]).body;
        assert!(change_of(&draft, &old).is_err());
        let late = change_of(&draft_of(in_force(), &[1]), &old).unwrap_err();
        assert!(late.to_string().contains("epoch 4 now"), "{late}");
    }

    #[test]
    fn what_a_draft_changes_is_said_in_words() {
        let mut next = in_force();
        next.members.remove(3);
        next.members[1].cosign_key = vec![9; 32].into();
        next.members.push(v1::Member {
            raft_id: 0,
            ..member(7)
        });
        let told = shown::differences(&in_force(), &next);
        let expected = [
            "2  institution 2 gets another cosigning key",
            "4  institution 4 leaves",
            "new  institution 7 comes in",
        ];
        assert_eq!(told, expected);
        assert!(shown::differences(&next, &next).len() == 1, "the new one");
    }
}
