//! `cairn lottery void`: members end an attempt, in public and on a stated ground.
//!
//! What holds here: a draft goes from office to office (`drafts`), and each sees which lottery,
//! which attempt and what ground it is before its key signs. What would be refused is said here
//! first, with what is to be done about it. What stays out: whether the ground is a good one.

use std::path::PathBuf;

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::CONTRIBUTING_NAMESPACE;
use cairn_proto::v1::{self, EntryKind, LotteryStage};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::facts::recorded;
use super::state::{Proven, UNDER_WAY, stage_in_words};
use super::steps::document_hash;
use crate::cli::Global;
use crate::drafts;
use crate::exit::Failure;
use crate::output::{self, line, timestamp};
use crate::session::{Session, parse_hash};
use crate::submit::entry_id;

/// The command that such drafts belong to.
const NOUN: &str = "cairn lottery void";

/// What can be done with voids.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draft the end of the attempt that is under way, and sign it as its author
    #[command(after_help = "\
Examples:
  cairn lottery void propose ID --reason \"the roster names people twice\" \\
    --document findings.pdf --key government.key --out void.draft
  cairn lottery void propose ID --reason \"no contribution came\" --document minutes.pdf \\
    --absent \"Institute\" --key government.key --out void.draft

The document must be on the ledger: cairn evidence record --file findings.pdf --key …
Where the chain itself shows that the close was not certified in time, no document is needed.")]
    Propose(Propose),
    /// Show what a draft ends, and sign it with one more office's key
    #[command(after_help = "Example:\n  cairn lottery void approve void.draft --key notary.key")]
    Approve(drafts::Approve),
    /// Hand in a draft that enough offices have signed
    #[command(after_help = "Example:\n  cairn lottery void submit void.draft")]
    Submit {
        /// The draft
        #[arg(value_name = "DRAFT")]
        draft: PathBuf,
    },
}

/// `cairn lottery void propose`
#[derive(Debug, Args)]
pub struct Propose {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The ground, in words that everybody can read; at most 500 bytes
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The document that gives the ground, recorded on the ledger as evidence
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// A contributor for whom a closed lottery waited in vain, by name; repeat it for more. They are
    /// dropped from the attempts that follow
    #[arg(long, value_name = "INSTITUTION")]
    absent: Vec<String>,
    #[command(flatten)]
    draft: drafts::Proposal,
}

/// Runs a command.
pub async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let in_force = drafts::in_force(&session).await?;
    match command {
        Command::Propose(propose) => {
            let lottery = Proven::read(&session, &propose.id).await?;
            let void = propose.body(&session, &lottery).await?;
            let key = drafts::office_key(&in_force, &propose.draft.key)?;
            let (subject, body) = (propose.id.to_bytes(), canonical::encode(&void));
            let entry = drafts::compose(&session, EntryKind::LotteryVoid, subject, body, &key);
            drafts::write(&propose.draft.out, &entry)?;
            tell(global, &Told::of(&lottery, &void, &in_force, &entry)?);
        }
        Command::Approve(approve) => {
            let mut entry = drafts::read(&approve.draft)?;
            let (lottery, void) = still_open(&session, &entry).await?;
            let key = drafts::office_key(&in_force, &approve.key)?;
            drafts::sign(&session, &mut entry, &key);
            drafts::write(&approve.draft, &entry)?;
            tell(global, &Told::of(&lottery, &void, &in_force, &entry)?);
        }
        Command::Submit { draft } => {
            let entry = drafts::read(&draft)?;
            let (lottery, void) = still_open(&session, &entry).await?;
            let approve = format!("{NOUN} approve {}", draft.display());
            drafts::enough_offices(&in_force, &entry, &approve)?;
            return submit(global, &session, &lottery, &void, &entry, &in_force).await;
        }
    }
    Ok(())
}

async fn submit(
    global: &Global,
    session: &Session,
    lottery: &Proven,
    void: &v1::LotteryVoid,
    entry: &v1::SignedEntry,
    in_force: &v1::MemberSet,
) -> Result<(), Failure> {
    let status = session.submit(entry, v1::WaitFor::Certified).await?;
    let ended = |state: &v1::LotteryState| state.voids.iter().any(|v| v.attempt == void.attempt);
    let lottery = Proven::wait_until(session, &lottery.id, "the void", ended).await?;
    let signed_by = drafts::signers(in_force, entry);
    let facts = recorded(session, &lottery, &status).await?;
    facts
        .with("voided_attempt", void.attempt)
        .with("reason", void.reason.clone())
        .with("signed_by", signed_by.join(", "))
        .with("attempt", lottery.state.attempt)
        .print(global);
    Ok(())
}

impl Propose {
    async fn body(&self, session: &Session, lottery: &Proven) -> Result<v1::LotteryVoid, Failure> {
        expect_under_way(lottery)?;
        let missed = close_was_missed(session, lottery).await?;
        if !missed {
            expect_no_pending_round(lottery)?;
        }
        let evidence_hash = match &self.document {
            Some(path) => document_hash(path)?.to_bytes(),
            None if missed => Bytes::new(),
            None => {
                return Err(Failure::Usage(
                    "name the document that gives the ground with --document FILE; record it \
                     first with: cairn evidence record --file FILE --key KEY"
                        .to_owned(),
                ));
            }
        };
        if let Some(path) = &self.document {
            expect_recorded(session, path, &evidence_hash).await?;
        }
        Ok(v1::LotteryVoid {
            lottery_id: self.id.to_bytes(),
            attempt: lottery.state.attempt,
            reason: self.reason.clone(),
            evidence_hash,
            absentees: absentees(lottery, &self.absent)?,
        })
    }
}

/// Certified lotteries and those without a roster are not voided.
fn expect_under_way(lottery: &Proven) -> Result<(), Failure> {
    let when = "an attempt is voided between the freeze and the notary's certificate";
    lottery.expect_one_of(&UNDER_WAY, when)
}

/// Whether the chain itself shows that the close was not certified before the round could be known.
async fn close_was_missed(session: &Session, lottery: &Proven) -> Result<bool, Failure> {
    let state = &lottery.state;
    let waits_for_round = state.stage() == LotteryStage::Contributing
        && lottery.with_beacon()?
        && !state.close_certified;
    if !waits_for_round {
        return Ok(false);
    }
    let value = session.map_value(CONTRIBUTING_NAMESPACE, &[]).await?;
    let list: v1::ContributingLotteries = canonical::decode(&value.value.unwrap_or_default())
        .map_err(|error| Failure::InvalidProof(format!("the list of closes: {error}")))?;
    Ok(!list.lottery_ids.iter().any(|id| id == &lottery.id.0[..]))
}

/// From the close on the round may be out, and has to be recorded before anything is voided.
fn expect_no_pending_round(lottery: &Proven) -> Result<(), Failure> {
    let state = &lottery.state;
    let closed = crate::system::now_ms() > state.contributions_close_ms;
    if state.stage() != LotteryStage::Contributing || !lottery.with_beacon()? || !closed {
        return Ok(());
    }
    let (id, round) = (lottery.id, state.beacon_round);
    Err(Failure::Failed(format!(
        "contributions to lottery {id} are closed, and round {round} is due at {}: record it first, \
         so that what is voided is seen, with: cairn lottery beacon {id}. Where the close was not \
         certified in time, an entry recorded after the round's time shows that, and this command \
         then needs no document",
        timestamp(lottery.round_time_ms()?)
    )))
}

async fn expect_recorded(
    session: &Session,
    path: &std::path::Path,
    hash: &[u8],
) -> Result<(), Failure> {
    let value = session.map_value(cairn_ledger::evidence::NAMESPACE, hash);
    if value.await?.value.is_some() {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::Failed(format!(
        "{path} is not on the ledger yet; record it first with: cairn evidence record --file \
         {path} --key KEY"
    )))
}

/// Seed keys of the contributors with these names, ascending.
fn absentees(lottery: &Proven, names: &[String]) -> Result<Vec<Bytes>, Failure> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let id = lottery.id;
    if lottery.with_beacon()? {
        return Err(Failure::Failed(format!(
            "lottery {id} waits for nobody: with a beacon, who does not contribute in time is \
             listed as absent; leave --absent out"
        )));
    }
    let close = lottery.state.contributions_close_ms;
    if crate::system::now_ms() <= close {
        return Err(Failure::Failed(format!(
            "contributions to lottery {id} are awaited until {}; nobody is absent before",
            timestamp(close)
        )));
    }
    let awaited = lottery.awaited()?;
    let mut keys = Vec::new();
    for name in names {
        let found = awaited.iter().find(|c| c.institution == *name);
        let contributor = found.ok_or_else(|| {
            let missing: Vec<&str> = awaited.iter().map(|c| c.institution.as_str()).collect();
            Failure::Failed(format!(
                "lottery {id} does not wait for \"{name}\"; it waits for: {}",
                missing.join(", ")
            ))
        })?;
        keys.push(contributor.seed_key.clone());
    }
    keys.sort();
    keys.dedup();
    Ok(keys)
}

/// A draft's void, and the lottery that it is about, which must still be in that attempt.
async fn still_open(
    session: &Session,
    entry: &v1::SignedEntry,
) -> Result<(Proven, v1::LotteryVoid), Failure> {
    let void: v1::LotteryVoid = drafts::body_of(entry, EntryKind::LotteryVoid, NOUN)?;
    let id = Hash::from_slice(&void.lottery_id);
    let id = id.ok_or_else(|| Failure::Failed("the draft names no lottery".to_owned()))?;
    let lottery = Proven::read(session, &id).await?;
    expect_under_way(&lottery)?;
    if lottery.state.attempt == void.attempt {
        return Ok((lottery, void));
    }
    let (of, now) = (void.attempt, lottery.state.attempt);
    Err(Failure::Failed(format!(
        "the draft ends attempt {of} of lottery {id}, which is in attempt {now} by now; propose it \
         again, if it still applies"
    )))
}

/// What a draft ends, and who has signed it.
#[derive(Debug, Serialize)]
struct Told {
    lottery_id: String,
    title: String,
    attempt: u32,
    max_attempts: u32,
    stage: &'static str,
    /// Whether the ranking is known.
    drawn: bool,
    reason: String,
    document_hash: String,
    absentees: Vec<String>,
    signed_by: Vec<String>,
    entry_id: String,
}

impl Told {
    fn of(
        lottery: &Proven,
        void: &v1::LotteryVoid,
        in_force: &v1::MemberSet,
        entry: &v1::SignedEntry,
    ) -> Result<Told, Failure> {
        let rules = lottery.rules()?;
        let name = |key: &Bytes| {
            let mut all = rules.contributors.iter();
            let found = all.find(|c| c.seed_key == key);
            found.map_or_else(|| hex::encode(key), |c| c.institution.clone())
        };
        Ok(Told {
            lottery_id: lottery.id.to_string(),
            title: rules.title.clone(),
            attempt: void.attempt,
            max_attempts: rules.max_attempts,
            stage: stage_in_words(lottery.state.stage()),
            drawn: !lottery.state.seed.is_empty(),
            reason: void.reason.clone(),
            document_hash: hex::encode(&void.evidence_hash),
            absentees: void.absentees.iter().map(name).collect(),
            signed_by: drafts::signers(in_force, entry),
            entry_id: entry_id(entry).to_string(),
        })
    }

    fn table(&self) -> Vec<(String, String)> {
        let drawn = match self.drawn {
            true => "drawn: its ranking stays on the ledger",
            false => "not drawn",
        };
        let document = match self.document_hash.is_empty() {
            true => "none: the chain shows that the close was not certified in time",
            false => &self.document_hash,
        };
        let next = match self.attempt < self.max_attempts {
            true => "another attempt on the same roster",
            false => "nothing: this was the last attempt",
        };
        let mut lines = vec![
            line(
                "ends",
                format!("attempt {} of {}", self.attempt, self.max_attempts),
            ),
            line("of lottery", &self.lottery_id),
            line("title", &self.title),
            line("which is", format!("{}, {drawn}", self.stage)),
            line("reason", &self.reason),
            line("document", document),
        ];
        if !self.absentees.is_empty() {
            lines.push(line("drops", self.absentees.join(", ")));
        }
        lines.push(line("then comes", next));
        lines.push(line("signed by", self.signed_by.join("\n")));
        lines.push(line("entry", &self.entry_id));
        lines
    }
}

fn tell(global: &Global, told: &Told) {
    output::print(global, told, Told::table);
}
