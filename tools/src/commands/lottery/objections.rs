//! `cairn lottery object`, `rule` and `objections`: what somebody brought forward, and what the
//! notary said to it.
//!
//! What holds here: objections and rulings are shown as the certified map has them; that a list has
//! all of them is compared with the certified count. What would be refused is said first. What stays
//! out: the documents; their hashes go on the ledger.

use std::path::PathBuf;

use cairn_ledger::canonical;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::OBJECTION_NAMESPACE;
use cairn_ledger::lottery::rules::MAX_OBJECTION_ROWS;
use cairn_proto::v1::{self, EntryKind, LotteryStage, RulingDecision};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::facts::recorded;
use super::state::{Proven, UNDER_WAY};
use super::steps::{self, document_hash};
use crate::cli::Global;
use crate::exit::Failure;
use crate::key_file;
use crate::output::{self, count, timestamp};
use crate::session::{Patience, Session, ledger_client, parse_hash};
use crate::system;

/// Envelopes in one answer: the most that a node gives.
const PAGE: u32 = 1_000;

/// What `object` takes.
#[derive(Debug, Args)]
pub struct Object {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The notary's author key
    #[arg(long, value_name = "FILE")]
    notary_key: PathBuf,
    /// The document that states the objection; its hash goes on the ledger
    #[arg(long, value_name = "FILE")]
    document: PathBuf,
    /// The rows that it is about, with commas; without, it is about the attempt as a whole
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    serials: Vec<u64>,
}

/// What `rule` takes.
#[derive(Debug, Args)]
pub struct Rule {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The objection's entry id, as `cairn lottery objections` lists it
    #[arg(long, value_name = "ENTRY", value_parser = parse_hash)]
    objection: Hash,
    /// What was decided
    #[arg(long, value_enum)]
    decision: Decision,
    /// The notary's author key
    #[arg(long, value_name = "FILE")]
    notary_key: PathBuf,
    /// The document that gives the reasons; its hash goes on the ledger
    #[arg(long, value_name = "FILE")]
    document: PathBuf,
}

/// What `objections` takes.
#[derive(Debug, Args)]
pub struct List {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
}

/// What the notary decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Decision {
    /// Nothing changes.
    Dismissed,
    /// The rows are struck; where there are none, the attempt has to be voided.
    Upheld,
}

/// Records an objection.
pub async fn object(global: &Global, args: Object) -> Result<(), Failure> {
    let notary = key_file::author(&args.notary_key)?;
    let document_hash = document_hash(&args.document)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    expect_under_way(&lottery)?;
    expect_in_window(&lottery)?;
    let serials = rows_of(&lottery, args.serials)?;
    let attempt = lottery.state.attempt;
    let body = canonical::encode(&v1::Objection {
        lottery_id: args.id.to_bytes(),
        attempt,
        serials: serials.clone(),
        document_hash: document_hash.to_bytes(),
    });
    let kind = EntryKind::Objection;
    let status = steps::submit(&session, &args.id, kind, body, &notary, &[]).await?;
    let id = Hash::from_slice(&status.entry_id).unwrap_or_default();
    wait_for(&session, &id, "the objection", |_| true).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    let facts = recorded(&session, &lottery, &status).await?;
    facts
        .with("attempt", attempt)
        .with("objection", id.to_string())
        .with("about", about(&serials))
        .with("document_hash", document_hash.to_string())
        .with("objections_open", lottery.state.objections_open)
        .print(global);
    Ok(())
}

/// Records a ruling.
pub async fn rule(global: &Global, args: Rule) -> Result<(), Failure> {
    let notary = key_file::author(&args.notary_key)?;
    let document_hash = document_hash(&args.document)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    expect_under_way(&lottery)?;
    let attempt = lottery.state.attempt;
    let objection = expect_open(&session, &lottery, &args.objection).await?;
    let decision = match args.decision {
        Decision::Dismissed => RulingDecision::Dismissed,
        Decision::Upheld => RulingDecision::Upheld,
    };
    let body = canonical::encode(&v1::Ruling {
        lottery_id: args.id.to_bytes(),
        attempt,
        objection: args.objection.to_bytes(),
        decision: decision.into(),
        document_hash: document_hash.to_bytes(),
    });
    let kind = EntryKind::Ruling;
    let status = steps::submit(&session, &args.id, kind, body, &notary, &[]).await?;
    wait_for(&session, &args.objection, "the ruling", |state| {
        state.decision() != RulingDecision::Unspecified
    })
    .await?;
    let lottery = Proven::read(&session, &args.id).await?;
    let facts = recorded(&session, &lottery, &status).await?;
    facts
        .with("attempt", attempt)
        .with("objection", args.objection.to_string())
        .with("about", about(&objection.serials))
        .with("decision", decision_in_words(decision))
        .with("what_follows", what_follows(decision, &objection.serials))
        .with("document_hash", document_hash.to_string())
        .with("objections_open", lottery.state.objections_open)
        .print(global);
    Ok(())
}

fn expect_under_way(lottery: &Proven) -> Result<(), Failure> {
    let when =
        "objections are recorded and ruled on between the freeze and the notary's certificate";
    lottery.expect_one_of(&UNDER_WAY, when)
}

fn expect_in_window(lottery: &Proven) -> Result<(), Failure> {
    let window = lottery.rules()?.objection_window_ms;
    let until = lottery.state.completed_at_ms.saturating_add(window);
    if lottery.state.stage() != LotteryStage::Complete || system::now_ms() <= until {
        return Ok(());
    }
    let (id, until) = (lottery.id, timestamp(until));
    Err(Failure::Failed(format!(
        "objections in lottery {id} were taken until {until}; what comes later is a ground for \
         members to void the attempt: cairn lottery void propose {id}"
    )))
}

/// Ascending, each once, and all of them rows of the roster.
fn rows_of(lottery: &Proven, mut serials: Vec<u64>) -> Result<Vec<u64>, Failure> {
    serials.sort_unstable();
    serials.dedup();
    let (id, rows) = (lottery.id, lottery.state.rows);
    if let Some(serial) = serials.iter().find(|serial| **serial >= rows) {
        return Err(Failure::Failed(format!(
            "lottery {id} has the serials 0 to {}, and no serial {serial}",
            rows.saturating_sub(1)
        )));
    }
    if serials.len() > MAX_OBJECTION_ROWS {
        return Err(Failure::Failed(format!(
            "{} rows, and one objection names at most {MAX_OBJECTION_ROWS}; record several",
            serials.len()
        )));
    }
    Ok(serials)
}

/// An objection in this attempt that waits for its ruling.
async fn expect_open(
    session: &Session,
    lottery: &Proven,
    objection: &Hash,
) -> Result<v1::ObjectionState, Failure> {
    let id = lottery.id;
    let found = read(session, objection).await?;
    let found = found.filter(|state| state.lottery_id == id.0[..]);
    let state = found.ok_or_else(|| {
        Failure::NotFound(format!(
            "{objection} is no objection in lottery {id}; list them with: cairn lottery objections \
             {id}"
        ))
    })?;
    if state.attempt != lottery.state.attempt {
        return Err(Failure::Failed(format!(
            "this objection is about attempt {}, which is over; lottery {id} is in attempt {}",
            state.attempt, lottery.state.attempt
        )));
    }
    if state.decision() != RulingDecision::Unspecified {
        let (was, leaf) = (decision_in_words(state.decision()), state.ruling_leaf_index);
        return Err(Failure::Failed(format!(
            "this objection was {was} at leaf {leaf} already; a ruling is final"
        )));
    }
    Ok(state)
}

async fn read(session: &Session, id: &Hash) -> Result<Option<v1::ObjectionState>, Failure> {
    let value = session
        .map_value(OBJECTION_NAMESPACE, id.as_bytes())
        .await?;
    let state = value.value.map(|bytes| canonical::decode(&bytes));
    state.transpose().map_err(|error| {
        Failure::InvalidProof(format!("the state of objection {id} is malformed: {error}"))
    })
}

/// Reads an objection until `holds` is true of it: another node may be a moment behind.
async fn wait_for(
    session: &Session,
    id: &Hash,
    what: &str,
    holds: impl Fn(&v1::ObjectionState) -> bool,
) -> Result<(), Failure> {
    let mut patience = Patience::new(session.timeout());
    while !read(session, id).await?.is_some_and(|state| holds(&state)) {
        if !patience.pause().await {
            return Err(Failure::NotFound(format!(
                "{what} is recorded and not certified yet, and the time is up"
            )));
        }
    }
    Ok(())
}

/// An objection as it is listed.
#[derive(Debug, Serialize)]
struct Shown {
    objection: String,
    attempt: u32,
    leaf_index: u64,
    serials: Vec<u64>,
    decision: &'static str,
    ruling_leaf_index: Option<u64>,
}

/// Lists a lottery's objections, oldest first.
pub async fn list(global: &Global, args: List) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    let mut shown = Vec::new();
    for id in recorded_objections(&session, &args.id).await? {
        let Some(state) = read(&session, &id).await? else {
            continue;
        };
        let ruled = state.decision() != RulingDecision::Unspecified;
        shown.push(Shown {
            objection: id.to_string(),
            attempt: state.attempt,
            leaf_index: state.leaf_index,
            decision: decision_in_words(state.decision()),
            ruling_leaf_index: ruled.then_some(state.ruling_leaf_index),
            serials: state.serials,
        });
    }
    let (attempt, certified) = (lottery.state.attempt, lottery.state.objections as usize);
    let listed = shown.iter().filter(|o| o.attempt == attempt).count();
    if listed < certified {
        let node = session.node();
        return Err(Failure::InvalidProof(format!(
            "{node} shows {listed} objections in attempt {attempt}, and {certified} are certified; \
             ask another node with --node"
        )));
    }
    let header = ["objection", "attempt", "leaf", "about", "decision"];
    output::rows(global, &shown, &header, |o| {
        vec![
            o.objection.clone(),
            o.attempt.to_string(),
            count(o.leaf_index),
            about(&o.serials),
            o.decision.to_owned(),
        ]
    });
    Ok(())
}

/// The entry ids of what a node lists as this lottery's objections.
async fn recorded_objections(session: &Session, lottery_id: &Hash) -> Result<Vec<Hash>, Failure> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListEntriesRequest {
            page_size: PAGE,
            page_token,
            without_bodies: true,
        };
        let page = session.retry("listing entries", async |channel| {
            let mut client = ledger_client(channel);
            client.list_entries(request.clone()).await
        });
        let page = page.await?.into_inner();
        for entry in page.entries {
            let signed = entry.entry.unwrap_or_default();
            let envelope: Option<v1::Envelope> = canonical::decode(&signed.envelope).ok();
            let ours = |e: &v1::Envelope| {
                e.kind() == EntryKind::Objection && e.subject == lottery_id.0[..]
            };
            if envelope.is_some_and(|e| ours(&e)) {
                found.push(cairn_ledger::hash::plain(&signed.envelope));
            }
        }
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        page_token = page.next_page_token;
    }
}

/// What an objection is about, in words.
pub fn about(serials: &[u64]) -> String {
    match serials {
        [] => "the attempt as a whole".to_owned(),
        [serial] => format!("serial {serial}"),
        many => {
            let all: Vec<String> = many.iter().map(u64::to_string).collect();
            format!("serials {}", all.join(", "))
        }
    }
}

/// A decision in words.
pub fn decision_in_words(decision: RulingDecision) -> &'static str {
    match decision {
        RulingDecision::Unspecified => "waits for a ruling",
        RulingDecision::Dismissed => "dismissed",
        RulingDecision::Upheld => "upheld",
    }
}

fn what_follows(decision: RulingDecision, serials: &[u64]) -> &'static str {
    match (decision, serials) {
        (RulingDecision::Upheld, []) => "the attempt can only be voided: cairn lottery void",
        (RulingDecision::Upheld, _) => {
            "the rows are struck; a promotion gives their places on: cairn lottery promote"
        }
        _ => "nothing changes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_ruling_brings_is_said_in_words() {
        assert_eq!(about(&[]), "the attempt as a whole");
        assert_eq!(about(&[4]), "serial 4");
        assert_eq!(about(&[4, 9]), "serials 4, 9");
        let upheld = |serials: &[u64]| what_follows(RulingDecision::Upheld, serials);
        assert!(upheld(&[]).contains("void"));
        assert!(upheld(&[4]).contains("promote"));
        assert_eq!(
            what_follows(RulingDecision::Dismissed, &[4]),
            "nothing changes"
        );
    }
}
