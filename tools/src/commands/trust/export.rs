//! `cairn trust export`: who certifies today, with its proof from the genesis on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cairn_ledger::code::{self, DAY_MS};
use cairn_ledger::hash::Hash;
use cairn_ledger::trust::Trust;
use cairn_proto::v1;
use clap::Args;

use super::Shown;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output;
use crate::session::{Session, parse_hash};

/// What `export` takes.
#[derive(Debug, Args)]
pub struct Export {
    /// The trust file; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long gates may use it
    #[arg(
        long,
        value_name = "N",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=366)
    )]
    days: u64,
    /// Another city's trust file: its own ledger is added. Repeat the flag for more
    #[arg(long = "with", value_name = "FILE")]
    with: Vec<PathBuf>,
    /// A status order that a region of this ledger refuses to recognise; with the chain id of its
    /// ledger where that is another one. Repeat the flag for more
    #[arg(long = "refusal", value_name = "REGION/[CHAIN/]ORDER", value_parser = parse_refusal)]
    refusals: Vec<RefusedOrder>,
}

/// An order, and the region that does not recognise it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RefusedOrder {
    region: String,
    /// Of the order; none: this ledger's.
    chain_id: Option<Hash>,
    order: Hash,
}

fn parse_refusal(text: &str) -> Result<RefusedOrder, String> {
    let (before, order) = text.rsplit_once('/').ok_or("must be REGION/ORDER")?;
    let order = parse_hash(order).map_err(|what| format!("the order {what}"))?;
    let with_chain = before.rsplit_once('/');
    let with_chain = with_chain.and_then(|(region, id)| Some((region, parse_hash(id).ok()?)));
    let (region, chain_id) = match with_chain {
        Some((region, id)) => (region, Some(id)),
        None => (before, None),
    };
    Ok(RefusedOrder {
        region: region.to_owned(),
        chain_id,
        order,
    })
}

/// Writes a trust file.
pub async fn run(global: &Global, args: Export) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    // Before the newest checkpoint: no refusal is then of members that the file does not know.
    let refusals = refusals(&session, &args.refusals).await?;
    let newest = session.checkpoint().await?;
    let epochs = usize::try_from(newest.header().epoch).unwrap_or(usize::MAX);
    let own = v1::TrustedLedger {
        genesis: session.chain.bytes.clone(),
        epoch_changes: session.epoch_changes().into_iter().take(epochs).collect(),
        checkpoint: Some(newest.to_proto()),
    };
    let mut others = Vec::new();
    // The ledger that is pinned is this one; theirs proves itself, and the policy names it.
    let unpinned = Global {
        chain_id: None,
        genesis: None,
        ..global.clone()
    };
    for path in &args.with {
        let trust = super::read(&unpinned, path)?;
        others.push((trust.own().chain().id, trust.file().ledgers[0].clone()));
    }
    others.sort_by_key(|(id, _)| *id);
    let file = v1::TrustFile {
        ledgers: std::iter::once(own)
            .chain(others.into_iter().map(|(_, ledger)| ledger))
            .collect(),
        not_after_ms: newest.latest_as_of_ms().saturating_add(args.days * DAY_MS),
        refusals,
    };
    let trust = Trust::of(file).map_err(|error| Failure::Failed(error.to_string()))?;
    super::write(&args.out, &trust)?;
    output::print(global, &Shown::of(&args.out, &trust), Shown::table);
    Ok(())
}

/// What proves the refusals, by key.
async fn refusals(
    session: &Session,
    orders: &[RefusedOrder],
) -> Result<Vec<v1::MapReceipt>, Failure> {
    let mut proven = BTreeMap::new();
    for refused in orders {
        let (region, order) = (&refused.region, &refused.order);
        let chain_id = refused.chain_id.unwrap_or(session.chain.id);
        let key = code::order_refusal_key(&chain_id.0, &order.0, region);
        let found = session.map_receipt(code::ORDER_REFUSAL_NAMESPACE, &key);
        let (receipt, value) = found.await?;
        if value.value.is_none() {
            return Err(Failure::NotFound(format!(
                "the region {region} does not refuse to recognise the order {order}, which was \
                 proven"
            )));
        }
        // The file holds them once, for all.
        let receipt = v1::MapReceipt {
            epoch_changes: Vec::new(),
            ..receipt
        };
        proven.insert(key, receipt);
    }
    Ok(proven.into_values().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_region_and_order_and_the_ledger_where_it_is_another() {
        let (a, b) = ("0a".repeat(32), "0b".repeat(32));
        let refused = |region: &str, chain_id| RefusedOrder {
            region: region.to_owned(),
            chain_id,
            order: Hash([0x0b; 32]),
        };
        let parsed = parse_refusal(&format!("suzhou/{b}"));
        assert_eq!(parsed, Ok(refused("suzhou", None)));
        let parsed = parse_refusal(&format!("su/zhou/{a}/{b}"));
        assert_eq!(parsed, Ok(refused("su/zhou", Some(Hash([0x0a; 32])))));
        for bad in ["", "suzhou", &b, "suzhou/5c", &format!("{b}/")] {
            assert!(parse_refusal(bad).is_err(), "{bad}");
        }
    }
}
