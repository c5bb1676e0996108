//! `cairn audit authority`: all that an authority did in a time.

use cairn_proto::v1::{self, ActKind};
use clap::Args;
use serde::Serialize;

use super::acts::{Asked, Shown};
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, timestamp};
use crate::session::Session;

/// `cairn audit authority`
#[derive(Debug, Args)]
pub struct Authority {
    #[command(flatten)]
    asked: Asked,
}

/// One act, as it is shown: with -o json, one a line.
#[derive(Debug, Serialize)]
struct Act {
    at: String,
    timestamp_ms: u64,
    act: &'static str,
    leaf_index: u64,
    height: u64,
    region: String,
    order: String,
    reason: String,
    codes: u32,
    refused: u32,
}

/// What an act is called.
fn name(kind: ActKind) -> &'static str {
    match kind {
        ActKind::Unspecified => "unknown",
        ActKind::Ordered => "ordered",
        ActKind::TookEffect => "took effect",
        ActKind::CodesIssued => "codes issued",
        ActKind::MandateGranted => "mandate granted",
        ActKind::MandateRevoked => "mandate revoked",
    }
}

fn shown(act: &v1::AuthorityAct) -> Act {
    Act {
        at: timestamp(act.timestamp_ms),
        timestamp_ms: act.timestamp_ms,
        act: name(act.kind()),
        leaf_index: act.leaf_index,
        height: act.height,
        region: act.region.clone(),
        order: hex::encode(&act.order_id),
        reason: act.reason.clone(),
        codes: act.codes,
        refused: act.refused,
    }
}

fn line(act: &Act) -> String {
    let refused = match act.refused {
        0 => String::new(),
        refused => format!(", {} refused", count(refused.into())),
    };
    let codes = match act.codes {
        0 => String::new(),
        codes => format!("  {} codes{refused}", count(codes.into())),
    };
    let Act {
        at,
        act,
        leaf_index,
        region,
        order,
        reason,
        ..
    } = act;
    let order = order.get(..16).unwrap_or_default();
    format!("{at}  {act:<15} leaf {leaf_index}  {region}  {order}  {reason}{codes}")
}

impl Authority {
    /// Lists the acts, and says up to when they are all.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let session = Session::connect(global).await?;
        let Shown {
            acts,
            to_ms,
            height,
            as_of_ms,
        } = self.asked.all(&session).await?;
        for act in &acts {
            output::event(global, &shown(act), line);
        }
        eprintln!(
            "{} acts from {} to {}: all of them, by the checkpoint of block {height} of {}",
            count(acts.len() as u64),
            timestamp(self.asked.from),
            timestamp(to_ms),
            timestamp(as_of_ms)
        );
        Ok(())
    }
}
