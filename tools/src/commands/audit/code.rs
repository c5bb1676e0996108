//! `cairn audit code`: every change of one code.
//!
//! What holds here: the history is found by applying every block of the ledger here, so nothing that
//! changed the code can be left out; whoever asks needs an endpoint that shows restricted bodies.
//! What stays out: the holder, who is not on the ledger.

use cairn_ledger::code::{self, ORDER_NAMESPACE};
use cairn_ledger::hash::Hash;
use cairn_ledger::state::{MemoryState, StateError};
use cairn_ledger::{canonical, map};
use cairn_proto::schema::Described;
use cairn_proto::v1;
use clap::Args;
use prost::Message;
use serde::Serialize;

use super::replay;
use crate::cli::Global;
use crate::commands::code::in_words;
use crate::exit::Failure;
use crate::output::{self, count, timestamp};
use crate::session::{Session, parse_hash};

/// `cairn audit code`
#[derive(Debug, Args)]
pub struct Code {
    /// The code, 64 hex digits
    #[arg(value_name = "CODE", value_parser = parse_hash)]
    code: Hash,
}

/// One change: with -o json, one a line.
#[derive(Debug, Serialize)]
struct Change {
    at: String,
    height: u64,
    sequence: u64,
    status: &'static str,
    check_ins: u32,
    why: String,
    authority: Option<String>,
    operator: Option<String>,
    legal_basis: Option<String>,
    order: Option<String>,
}

/// What the map holds under a key.
fn value_of<M: Message + Default + Described>(
    state: &MemoryState,
    namespace: &str,
    key: &[u8],
) -> Result<Option<M>, Failure> {
    let failed = |error: StateError| Failure::Failed(error.to_string());
    let value = map::get(state, &map::map_key(namespace, key)).map_err(failed)?;
    let decoded = value.map(|bytes| canonical::decode(&bytes)).transpose();
    decoded.map_err(|error| Failure::InvalidProof(format!("{namespace}: {error}")))
}

fn change(
    state: &MemoryState,
    header: &v1::Header,
    before: Option<&v1::CodeState>,
    after: &v1::CodeState,
) -> Result<Change, Failure> {
    let order: Option<v1::OrderState> = match after.order_id.is_empty() {
        true => None,
        false => value_of(state, ORDER_NAMESPACE, &after.order_id)?,
    };
    let by_order = before.is_some_and(|before| before.order_id != after.order_id);
    let said = order.as_ref().and_then(|order| order.order.as_ref());
    let why = match before {
        None => "issued".to_owned(),
        Some(_) if by_order => said.map_or_else(String::new, |order| order.reason.clone()),
        Some(before) if before.sequence == after.sequence => "checked in".to_owned(),
        Some(_) => format!("released by check-ins, leaf {}", after.released_at_leaf),
    };
    let of_order = |text: &dyn Fn(&v1::StatusOrder) -> String| said.filter(|_| by_order).map(text);
    Ok(Change {
        at: timestamp(header.timestamp_ms),
        height: header.height,
        sequence: after.sequence,
        status: in_words(after.status()),
        check_ins: after.check_ins,
        why,
        authority: order
            .as_ref()
            .filter(|_| by_order)
            .map(|o| hex::encode(&o.authority)),
        operator: of_order(&|order| order.operator.clone()),
        legal_basis: of_order(&|order| order.legal_basis.clone()),
        order: by_order.then(|| hex::encode(&after.order_id)),
    })
}

fn line(change: &Change) -> String {
    let Change {
        at,
        height,
        sequence,
        status,
        why,
        ..
    } = change;
    let office = [&change.operator, &change.legal_basis, &change.order];
    let office: Vec<&str> = office.into_iter().flatten().map(String::as_str).collect();
    let office = office.join(", ");
    format!("{at}  block {height}  {sequence}  {status:<6}  {why}  {office}")
}

impl Code {
    /// Replays the ledger and shows what it does to the code.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let session = Session::connect(global).await?;
        let mut last: Option<v1::CodeState> = None;
        let mut changes = Vec::new();
        let mut watch = |state: &MemoryState, header: &v1::Header| {
            let now = value_of(state, code::NAMESPACE, self.code.as_bytes())?;
            if now != last {
                if let Some(now) = &now {
                    changes.push(change(state, header, last.as_ref(), now)?);
                }
                last = now;
            }
            Ok(())
        };
        let report = replay::whole(global, &session, None, &mut watch).await?;
        for change in &changes {
            output::event(global, change, line);
        }
        if changes.is_empty() {
            return Err(Failure::NotFound(format!(
                "no block up to {} issues this code, by a replay of all of them",
                report.height
            )));
        }
        eprintln!(
            "{} changes up to block {}: all of them, by a replay of the ledger",
            count(changes.len() as u64),
            count(report.height)
        );
        Ok(())
    }
}
