//! Why a node's answer has no body.

use std::fmt;

use cairn_ledger::code::ERASED_NAMESPACE;
use cairn_ledger::hash::Hash;
use cairn_proto::v1;

use crate::commands::code::states;
use crate::exit::Failure;
use crate::session::Session;

/// Why a body is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Its author restricted it, and this node does not show it to the public.
    Withheld,
    /// Granters ordered it, in this leaf of the log, which the map proves.
    Erased(u64),
}

impl Missing {
    /// Asks the map.
    pub async fn of(session: &Session, id: &Hash) -> Result<Missing, Failure> {
        let (erased, _) = states::value(session, ERASED_NAMESPACE, id.as_bytes()).await?;
        let by = |erased: v1::ErasedState| Missing::Erased(erased.leaf_index);
        Ok(erased.map_or(Missing::Withheld, by))
    }

    /// Whose order it was that the body is gone.
    pub fn erased_by(self) -> Option<u64> {
        match self {
            Missing::Withheld => None,
            Missing::Erased(leaf_index) => Some(leaf_index),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Withheld => f.write_str(
                "the node withholds the body: its author restricted it; auditors ask a member's \
                 admin listener, as with --node http://127.0.0.1:7501 (the port is \"admin\" in its \
                 node.toml)",
            ),
            Missing::Erased(leaf) => write!(
                f,
                "the body was erased by leaf {leaf}, which is proven: no node shows it any \
                 more; everything else of the entry stands"
            ),
        }
    }
}
