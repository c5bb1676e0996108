//! What the chapters of the demo share.

use std::path::PathBuf;

use serde_json::Value;

use super::Options;
use crate::cairn::{Cairn, Field};
use crate::keys::Seed;
use crate::layout::Layout;
use crate::plan::ClusterPlan;
use crate::steps::Steps;

/// Something that the ledger acknowledged, and must never lose.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub what: String,
    pub entry_id: String,
    pub leaf_index: u64,
}

/// The demo under way.
#[derive(Debug)]
pub struct Story {
    pub layout: Layout,
    pub options: Options,
    pub seed: Option<Seed>,
    pub plan: ClusterPlan,
    /// Needs no node.
    pub offline: Cairn,
    /// Asks all nodes, in their order.
    pub cairn: Cairn,
    pub steps: Steps,
    pub acknowledged: Vec<Acknowledged>,
}

impl Story {
    pub fn new(
        layout: &Layout,
        options: Options,
        offline: Cairn,
        plan: &ClusterPlan,
        steps: Steps,
    ) -> Story {
        Story {
            layout: layout.clone(),
            seed: options.seed.as_deref().map(Seed::new),
            cairn: offline.online(&plan.urls(), &plan.chain_id),
            plan: plan.clone(),
            options,
            offline,
            steps,
            acknowledged: Vec::new(),
        }
    }

    /// Remembers what a command says was recorded.
    pub fn remember(&mut self, what: &str, answer: &Value) -> anyhow::Result<()> {
        self.acknowledged.push(Acknowledged {
            what: what.to_owned(),
            entry_id: Field(answer, "entry_id").text()?,
            leaf_index: Field(answer, "leaf_index").number()?,
        });
        Ok(())
    }

    /// The author key of an institution's node.
    pub fn author_key(&self, raft_id: u64) -> PathBuf {
        self.layout.author_key(raft_id)
    }

    /// 32 bytes that nobody else has, or the rehearsal's.
    pub fn random(&self, label: &str) -> anyhow::Result<[u8; 32]> {
        if let Some(seed) = &self.seed {
            return Ok(seed.derive(label));
        }
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Ok(bytes)
    }
}
