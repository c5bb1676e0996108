//! `cairn audit code`: every change of one code.
//!
//! What holds here: the states that are shown are proven to be all that the code ever had, and each
//! order behind them is proven by the map. Whoever asks needs an endpoint that shows histories. What
//! stays out: the holder, who is not on the ledger.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_ledger::code::{NAMESPACE, ORDER_NAMESPACE, history};
use cairn_ledger::hash::Hash;
use cairn_ledger::verify::{self, VerifiedValue};
use cairn_proto::v1;
use clap::Args;
use serde::Serialize;

use crate::cli::Global;
use crate::commands::code::{in_words, states};
use crate::commands::entry::author_name;
use crate::exit::Failure;
use crate::output::{self, count, timestamp};
use crate::session::{Session, code_client, parse_hash, refused};

/// States in one answer: the most that a node gives.
const PAGE: u32 = 1_000;

/// `cairn audit code`
#[derive(Debug, Args)]
pub struct Code {
    /// The code, 64 hex digits
    #[arg(value_name = "CODE", value_parser = parse_hash)]
    code: Hash,
}

/// One change: with -o json, one a line.
#[derive(Debug, Default, Serialize)]
struct Change {
    at: String,
    timestamp_ms: u64,
    sequence: u64,
    status: &'static str,
    region: String,
    /// "issued", "ordered" or "released".
    what: &'static str,
    /// Where it took effect. A code does not say which entry issued it.
    leaf_index: Option<u64>,
    /// When it lapses, and into what; 0: with the code.
    lapses_at_ms: u64,
    on_lapse: &'static str,
    /// Check-ins that were counted while it held.
    check_ins: u32,
    /// The order that it is of, or that the code was released from.
    order: Option<String>,
    /// What that order says, where it made the change.
    #[serde(flatten)]
    said: Option<Said>,
}

/// Of an order.
#[derive(Debug, Serialize)]
struct Said {
    reason: String,
    authority: String,
    authority_name: String,
    operator: String,
    legal_basis: String,
    rule_version: String,
    corrects: Option<String>,
}

fn some_hex(bytes: &Bytes) -> Option<String> {
    (!bytes.is_empty()).then(|| hex::encode(bytes))
}

/// An order as the map proves it, and its authority as the genesis names it.
struct Order {
    state: v1::OrderState,
    authority_name: String,
}

impl Said {
    fn of(order: &Order) -> Said {
        let said = order.state.order.clone().unwrap_or_default();
        Said {
            authority_name: order.authority_name.clone(),
            authority: hex::encode(&order.state.authority),
            corrects: some_hex(&said.corrects),
            reason: said.reason,
            operator: said.operator,
            legal_basis: said.legal_basis,
            rule_version: said.rule_version,
        }
    }
}

/// What made the state of a code, by the order that it names.
fn change(state: &v1::CodeState, order: Option<&Order>) -> Result<Change, Failure> {
    let shown = Change {
        at: timestamp(state.valid_from_ms),
        timestamp_ms: state.valid_from_ms,
        sequence: state.sequence,
        status: in_words(state.status()),
        region: state.region.clone(),
        lapses_at_ms: state.lapses_at_ms,
        on_lapse: in_words(state.on_lapse()),
        check_ins: state.check_ins,
        order: some_hex(&state.order_id),
        ..Change::default()
    };
    let Some(order) = order else {
        return Ok(Change {
            what: "issued",
            ..shown
        });
    };
    if state.released_at_leaf > 0 {
        return Ok(Change {
            what: "released",
            leaf_index: Some(state.released_at_leaf),
            ..shown
        });
    }
    let took_effect = order
        .state
        .effect
        .as_ref()
        .map(|effect| effect.timestamp_ms);
    let ordered = order.state.order.as_ref().map(|order| order.status);
    if took_effect != Some(state.valid_from_ms) || ordered != Some(state.status) {
        let (sequence, id) = (state.sequence, hex::encode(&state.order_id));
        return Err(Failure::InvalidProof(format!(
            "state {sequence} of the code is not what the order {id} did"
        )));
    }
    Ok(Change {
        what: "ordered",
        leaf_index: order.state.chunk_leaves.last().copied(),
        said: Some(Said::of(order)),
        ..shown
    })
}

fn line(change: &Change) -> String {
    let mut words = vec![change.what.to_owned()];
    if let Some(said) = &change.said {
        words[0] = format!("ordered: {}", said.reason);
        words.push(format!("by {} ({})", said.authority_name, said.operator));
        words.push(said.legal_basis.clone());
        words.push(format!("rules {}", said.rule_version));
        let corrects = said.corrects.as_ref();
        words.extend(corrects.map(|order| format!("corrects order {order}")));
    }
    words.extend(change.order.as_ref().map(|order| match change.said {
        Some(_) => format!("order {order}"),
        None => format!("from order {order}"),
    }));
    words.push(match change.leaf_index {
        Some(leaf) => format!("leaf {leaf}"),
        None => format!("for {}", change.region),
    });
    if change.lapses_at_ms > 0 {
        let (at, then) = (timestamp(change.lapses_at_ms), change.on_lapse);
        words.push(format!("{then} from {at} on"));
    }
    if change.check_ins > 0 {
        words.push(format!("{} check-ins", change.check_ins));
    }
    let (at, sequence, status) = (&change.at, change.sequence, change.status);
    format!("{at}  {sequence:>3}  {status:<6}  {}", words.join(", "))
}

impl Code {
    /// Asks for the code's history, verifies it, and shows it.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let session = Session::connect(global).await?;
        let (value, states) = self.history(&session).await?;
        let mut orders: BTreeMap<Bytes, Order> = BTreeMap::new();
        for id in states.iter().map(|state| &state.order_id) {
            if !id.is_empty() && !orders.contains_key(id) {
                let (order, _) = states::value(&session, ORDER_NAMESPACE, id).await?;
                let named = |state: v1::OrderState| Order {
                    authority_name: author_name(&session.chain, &state.authority),
                    state,
                };
                let unknown = || {
                    let id = hex::encode(id);
                    Failure::InvalidProof(format!(
                        "the map has no order {id}, which the code names"
                    ))
                };
                orders.insert(id.clone(), order.map(named).ok_or_else(unknown)?);
            }
        }
        let changes = states
            .iter()
            .map(|state| change(state, orders.get(&state.order_id)));
        for change in changes.collect::<Result<Vec<_>, _>>()? {
            output::event(global, &change, line);
        }
        let header = value.checkpoint.header();
        eprintln!(
            "{} states up to block {} of {}: all of them, each named by the one after it",
            count(states.len() as u64),
            count(header.height),
            timestamp(header.timestamp_ms)
        );
        Ok(())
    }

    /// All states of the code, oldest first, and what certifies the last one.
    async fn history(
        &self,
        session: &Session,
    ) -> Result<(VerifiedValue, Vec<v1::CodeState>), Failure> {
        let answer = self.page(session, 0).await?;
        let receipt = answer.receipt.unwrap_or_default();
        let value = verify::map_receipt(&session.chain, &receipt).map_err(refused)?;
        let node = session.node();
        if value.namespace != NAMESPACE || value.key != self.code.0[..] {
            let message = format!("{node} proved another key than the code");
            return Err(Failure::InvalidProof(message));
        }
        let Some(bytes) = &value.value else {
            let (code, height) = (self.code, value.checkpoint.header().height);
            return Err(Failure::NotFound(format!(
                "code {code} was never issued, which the map of block {height} proves"
            )));
        };
        let current = states::decode(self.code.as_bytes(), bytes)?;
        let (mut earlier, mut next) = (answer.earlier, answer.next_from_sequence);
        // The certified state says how many there are; a node that goes on beyond is not asked.
        while next != 0 && (earlier.len() as u64) < current.sequence {
            let more = self.page(session, next).await?;
            earlier.extend(more.earlier);
            next = more.next_from_sequence.min(next - 1);
        }
        let states = history::verify(&current, &earlier);
        let states = states.map_err(|error| {
            let failure = Failure::InvalidProof(error.to_string());
            failure.during(&format!("the history of code {} by {node}", self.code))
        })?;
        Ok((value, states))
    }

    async fn page(
        &self,
        session: &Session,
        from_sequence: u64,
    ) -> Result<v1::GetHistoryResponse, Failure> {
        let request = v1::GetHistoryRequest {
            code: self.code.to_bytes(),
            from_sequence,
            page_size: PAGE,
        };
        let answer = session.retry("asking for a code's history", async |channel| {
            code_client(channel).get_history(request.clone()).await
        });
        Ok(answer.await?.into_inner())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn order() -> Order {
        let state = v1::OrderState {
            order: Some(v1::StatusOrder {
                reason: "contact".to_owned(),
                legal_basis: "article 12".to_owned(),
                status: v1::CodeStatus::Yellow.into(),
                operator: "desk 7".to_owned(),
                rule_version: "2022-06".to_owned(),
                corrects: vec![8; 32].into(),
                ..Default::default()
            }),
            authority: vec![5; 32].into(),
            chunk_leaves: vec![11, 12],
            effect: Some(v1::OrderEffect {
                timestamp_ms: 2_000,
                ..Default::default()
            }),
            ..Default::default()
        };
        Order {
            state,
            authority_name: "Health bureau".to_owned(),
        }
    }

    #[test]
    fn each_change_says_who_made_it_and_why() {
        let order = order();
        let issued = v1::CodeState {
            status: v1::CodeStatus::Green.into(),
            sequence: 1,
            region: "suzhou".to_owned(),
            ..Default::default()
        };
        let said = line(&change(&issued, None).unwrap());
        assert!(said.contains("issued, for suzhou"), "{said}");
        let ordered = v1::CodeState {
            status: v1::CodeStatus::Yellow.into(),
            sequence: 2,
            valid_from_ms: 2_000,
            order_id: vec![7; 32].into(),
            check_ins: 3,
            ..issued
        };
        let told = change(&ordered, Some(&order)).unwrap();
        assert_eq!((told.leaf_index, told.status), (Some(12), "yellow"));
        let said = line(&told);
        for part in [
            "ordered: contact",
            "by Health bureau (desk 7)",
            "article 12",
            "rules 2022-06",
            &format!("corrects order {}", "08".repeat(32)),
            "leaf 12",
            "3 check-ins",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(json["authority_name"], "Health bureau");
        let released = v1::CodeState {
            status: v1::CodeStatus::Green.into(),
            sequence: 3,
            released_at_leaf: 77,
            ..ordered.clone()
        };
        let said = line(&change(&released, Some(&order)).unwrap());
        assert!(said.contains("released") && said.contains("leaf 77") && !said.contains("desk"));
        // An order of another time, or of another status, did not make it.
        for other in [
            v1::CodeState {
                valid_from_ms: 2_001,
                ..ordered.clone()
            },
            v1::CodeState {
                status: v1::CodeStatus::Red.into(),
                ..ordered
            },
        ] {
            let refused = change(&other, Some(&order)).unwrap_err();
            assert_eq!(refused.exit_code(), 10);
        }
    }
}
