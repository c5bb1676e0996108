//! What a command recorded, in a lottery or elsewhere: where the entry is, how far the lottery is,
//! and facts.
//!
//! What holds here: the entry's place is taken from its verified receipt, the stage and the facts
//! from the proven state.

use cairn_ledger::hash::Hash;
use cairn_proto::v1;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::Value;

use super::state::{Proven, stage_in_words};
use crate::cli::Global;
use crate::exit::Failure;
use crate::output;
use crate::session::{EntryKey, Session};

/// A list of facts: printed in this order, as a table or as one JSON object.
#[derive(Debug, Default)]
pub struct Facts(Vec<(&'static str, Value)>);

impl Facts {
    /// One fact more. Names are those of the JSON; tables show them with blanks.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Facts {
        self.0.push((name, value.into()));
        self
    }

    /// Where a certified entry is; its leaf as its verified receipt has it.
    pub async fn with_entry(
        self,
        session: &Session,
        status: &v1::EntryStatus,
    ) -> Result<Facts, Failure> {
        let id = Hash::from_slice(&status.entry_id).unwrap_or_default();
        let (_, entry) = session.receipt(EntryKey::Id(id)).await?;
        Ok(self
            .with("entry_id", id.to_string())
            .with("leaf_index", entry.leaf_index)
            .with("height", status.height))
    }

    /// Prints all of them.
    pub fn print(&self, global: &Global) {
        output::print(global, self, Facts::table);
    }

    fn table(&self) -> Vec<(String, String)> {
        let shown = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.as_u64().map_or(number.to_string(), output::count),
            other => other.to_string(),
        };
        let line = |(name, value): &(&str, Value)| (name.replace('_', " "), shown(value));
        self.0.iter().map(line).collect()
    }
}

impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// The facts that every recorded step has: which lottery, how far it is, and the entry.
pub async fn recorded(
    session: &Session,
    lottery: &Proven,
    status: &v1::EntryStatus,
) -> Result<Facts, Failure> {
    let facts = Facts::default()
        .with("lottery_id", lottery.id.to_string())
        .with("stage", stage_in_words(lottery.state.stage()));
    facts.with_entry(session, status).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn facts_keep_their_order_in_both_forms() {
        let facts = Facts::default().with("z_last", 1_000u64).with("a", "text");
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(json, r#"{"z_last":1000,"a":"text"}"#);
        let table = facts.table();
        assert_eq!(table[0], ("z last".to_owned(), "1,000".to_owned()));
        assert_eq!(table[1].1, "text");
    }
}
