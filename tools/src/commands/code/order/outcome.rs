//! What an order did: counted by the proven state of the order, and named code by code where the map
//! still shows it.

use cairn_ledger::code::{Refused, refused_root};
use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, RejectReason};
use serde::{Deserialize, Serialize};

use super::Change;
use super::receipt::Given;
use crate::commands::code::states;
use crate::exit::Failure;
use crate::output::{count, line};
use crate::session::Session;
use crate::submit::reject_reason;

/// Refused codes that a table names; the JSON and the receipt have all of them.
const SHOWN_REFUSALS: usize = 20;

/// What a complete order did.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Of the order itself.
    pub leaf_index: u64,
    /// Of the block that recorded the order.
    pub height: u64,
    /// When it took effect.
    pub took_effect_ms: u64,
    pub changed: u32,
    pub refused: u32,
    /// Over the refused codes, as the ledger has it; empty where there are none.
    pub refused_root: String,
    /// None: codes were changed again since, and the map no longer tells which ones were refused.
    pub refusals: Option<Vec<Refusal>>,
}

/// A code that stayed as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub code: String,
    /// The sequence that the order expected.
    pub expected: u64,
    /// The one that it has now; none where it was never issued.
    pub found: Option<u64>,
    pub reason: String,
}

impl Outcome {
    /// What the map proves of a complete order.
    pub async fn of(
        session: &Session,
        given: &Given,
        state: &v1::OrderState,
    ) -> Result<Outcome, Failure> {
        let id = given.id();
        let effect = state.effect.as_ref().ok_or_else(|| {
            Failure::InvalidProof(format!("the order {id} is complete and not in effect"))
        })?;
        Ok(Outcome {
            leaf_index: state.leaf_index,
            height: session.entry_status(&id).await?.height,
            took_effect_ms: effect.timestamp_ms,
            changed: effect.changed,
            refused: effect.refused,
            refused_root: hex::encode(&effect.refused_root),
            refusals: refusals(session, given, state, effect).await?,
        })
    }
}

/// The refused codes, if those that the map shows now are those that the ledger counted.
async fn refusals(
    session: &Session,
    given: &Given,
    state: &v1::OrderState,
    effect: &v1::OrderEffect,
) -> Result<Option<Vec<Refusal>>, Failure> {
    if effect.refused == 0 {
        return Ok(Some(Vec::new()));
    }
    let codes: Vec<[u8; 32]> = given.changes.iter().map(|(code, _)| *code).collect();
    let states = states::proven(session, &codes).await?;
    let region = state.order.as_ref().map_or("", |order| &order.region);
    let refused = not_taken(&given.changes, &states, region, &given.id());
    let told = refused_root(&refused).0[..] == effect.refused_root;
    let refusal = |refused: Refused| Refusal {
        code: hex::encode(refused.code),
        expected: refused.expected,
        found: refused.found,
        reason: reject_reason(refused.reason).to_owned(),
    };
    Ok(told.then(|| refused.into_iter().map(refusal).collect()))
}

/// The changes whose codes do not show the order, and why.
fn not_taken(
    changes: &[Change],
    states: &[Option<v1::CodeState>],
    region: &str,
    order_id: &Hash,
) -> Vec<Refused> {
    let pairs = changes.iter().zip(states);
    let judged = pairs.filter_map(|((code, expected), state)| {
        let reason = match state {
            None => RejectReason::CodeUnknown,
            Some(state) if state.order_id == order_id.0[..] => return None,
            Some(state) if state.region != region => RejectReason::CodeOtherRegion,
            Some(_) => RejectReason::CodeStaleSequence,
        };
        Some(Refused {
            code: *code,
            expected: *expected,
            found: state.as_ref().map(|state| state.sequence),
            reason,
        })
    });
    judged.collect()
}

/// What was ordered.
#[derive(Debug, Serialize)]
pub struct Ordered {
    pub order_id: String,
    pub leaf_index: u64,
    pub height: u64,
    pub status: &'static str,
    pub count: u64,
    pub changed: u32,
    pub refused: u32,
    pub refusals: Option<Vec<Refusal>>,
    pub entries: u64,
    pub receipt: Option<String>,
    /// Seconds from handing the order in until all of it was certified; none where an earlier run
    /// handed it in.
    pub certified_after: Option<f64>,
    /// Of the whole command, which proves every code's state first.
    pub seconds: f64,
}

impl Ordered {
    /// As lines.
    pub fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("order", &self.order_id),
            line("leaf index", self.leaf_index),
            line("block", count(self.height)),
            line(
                "codes",
                format!("{} are {} now", count(self.changed.into()), self.status),
            ),
        ];
        if self.refused > 0 {
            lines.push(line("stayed", self.stayed()));
        }
        lines.push(line("entries", count(self.entries)));
        lines.extend(self.receipt.as_ref().map(|path| line("receipt", path)));
        let after = self.certified_after;
        lines.extend(after.map(|s| line("certified", format!("{s:.2} s after it was handed in"))));
        lines.push(line("time", format!("{:.2} s in all", self.seconds)));
        lines
    }

    /// The codes that stayed as they were.
    fn stayed(&self) -> String {
        let number = count(self.refused.into());
        let Some(refusals) = &self.refusals else {
            return format!(
                "{number} as they were; codes were changed again since, see: cairn audit code"
            );
        };
        let shown = refusals.iter().take(SHOWN_REFUSALS);
        let shown = shown.map(|refusal| format!("\n{}  {}", refusal.code, refusal.reason));
        let mut text = format!("{number} as they were:");
        text.extend(shown);
        if refusals.len() > SHOWN_REFUSALS {
            text.push_str(&format!("\nand {} more", refusals.len() - SHOWN_REFUSALS));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_does_not_show_the_order_was_refused_and_the_map_says_why() {
        let order_id = Hash([7; 32]);
        let state = |region: &str, sequence, order: Hash| {
            Some(v1::CodeState {
                region: region.to_owned(),
                sequence,
                order_id: order.to_bytes(),
                ..Default::default()
            })
        };
        let states = [
            state("suzhou", 2, order_id),
            None,
            state("nanjing", 1, Hash([8; 32])),
            state("suzhou", 5, Hash([8; 32])),
        ];
        let changes: Vec<Change> = (0..4).map(|n| ([n; 32], 1)).collect();
        let refused = not_taken(&changes, &states, "suzhou", &order_id);
        let told: Vec<_> = refused
            .iter()
            .map(|refused| (refused.code[0], refused.found, refused.reason))
            .collect();
        let expected = [
            (1, None, RejectReason::CodeUnknown),
            (2, Some(1), RejectReason::CodeOtherRegion),
            (3, Some(5), RejectReason::CodeStaleSequence),
        ];
        assert_eq!(told, expected);
    }
}
