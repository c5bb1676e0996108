//! `cairn code check-in`: a station saw the holders of codes; the region's rule counts the days.
//!
//! What holds here: codes that were never issued, or are of another region, are named before anything
//! is submitted; how many were counted, and which the rule released, is what the map proves after.
//! Repeating it counts no day twice. A station without a network keeps a journal: `cairn intake`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::code::MAX_CHUNK_CODES;
use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, EntryKind, WaitFor};
use clap::Args;

use super::codes_file::{self, Listed};
use super::{BodyShown, parse_text, states};
use crate::cli::Global;
use crate::commands::audit::parse_time;
use crate::commands::lottery::facts::Facts;
use crate::commands::problems::Problems;
use crate::exit::Failure;
use crate::output::timestamp;
use crate::session::{Session, parse_hash, sign_entry};
use crate::{key_file, progress, system};

/// What `check-in` takes.
#[derive(Debug, Args)]
pub struct CheckIn {
    /// The author key of a station of the region's rule
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The region of the codes
    #[arg(long, value_name = "NAME", value_parser = parse_text)]
    region: String,
    /// The codes, 64 hex digits each
    #[arg(
        value_name = "CODE",
        value_parser = parse_hash,
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    codes: Vec<Hash>,
    /// The codes as a CSV file with a column "code"
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// When the station saw the holders, in UTC: 2026-06-01T08:30:00Z. Without: now
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    observed_at: Option<u64>,
    /// Who may read the list of codes on the ledger
    #[arg(long, value_enum, default_value = "restricted")]
    visibility: BodyShown,
}

/// Records check-ins.
pub async fn run(global: &Global, args: CheckIn) -> Result<(), Failure> {
    let started = Instant::now();
    let observed_at_ms = args.observed_at.unwrap_or_else(system::now_ms);
    let station = key_file::author(&args.key)?;
    let listed = listed(&args)?;
    let session = Session::connect(global).await?;
    let before = known(&session, &args, &listed).await?;
    let codes: Vec<[u8; 32]> = before.iter().map(|(code, _)| *code).collect();
    let parts = codes.chunks(MAX_CHUNK_CODES);
    let entries = parts.clone().map(|codes| {
        let body = canonical::encode(&v1::CheckIn {
            region: args.region.clone(),
            codes: Bytes::copy_from_slice(codes.as_flattened()),
            observed_at_ms,
        });
        let (kind, visibility) = (EntryKind::CheckIn, args.visibility.into());
        let chain = &session.chain;
        sign_entry(chain, kind, visibility, Bytes::new(), body, &station, &[])
    });
    let bar = progress::bar(global, codes.len() as u64, "check-ins");
    let mut done = |index: usize, _: &v1::EntryStatus| {
        let codes = parts.clone().take(index + 1).map(<[_]>::len);
        bar.set_position(codes.sum::<usize>() as u64);
    };
    let submitted = session.submit_all(entries, WaitFor::Certified, &mut done);
    let entries = submitted.await?.len();
    bar.finish();
    let after = states::proven(&session, &codes).await?;
    let changed = before.iter().zip(&after);
    let changed = changed.filter_map(|((_, before), after)| Some((before, after.as_ref()?)));
    let changed: Vec<_> = changed
        .filter(|(before, after)| counted(before, after))
        .collect();
    let released = |(before, after): &&(&v1::CodeState, &v1::CodeState)| {
        before.released_at_leaf != after.released_at_leaf
    };
    Facts::default()
        .with("codes", codes.len())
        .with("counted", changed.len())
        .with("released", changed.iter().filter(released).count())
        .with("entries", entries)
        .with("observed_at_ms", observed_at_ms)
        .with("observed_at", timestamp(observed_at_ms))
        .with("seconds", started.elapsed().as_secs_f64())
        .print(global);
    Ok(())
}

/// Whether the rule counted a check-in between these states of one code.
fn counted(before: &v1::CodeState, after: &v1::CodeState) -> bool {
    let marks = |state: &v1::CodeState| {
        (
            state.check_ins,
            state.last_check_in_day,
            state.released_at_leaf,
        )
    };
    // Whoever ordered something meanwhile began a new count.
    before.order_id == after.order_id && marks(before) != marks(after)
}

/// The codes of the file or of the command line, each once.
fn listed(args: &CheckIn) -> Result<Vec<Listed>, Failure> {
    if let Some(path) = &args.from {
        return codes_file::read(path);
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = args.codes.iter().find(|code| !seen.insert(**code)) {
        return Err(Failure::Usage(format!("the code {twice} is there twice")));
    }
    let codes = (1..).zip(&args.codes);
    let listed = codes.map(|(line, code)| Listed { code: code.0, line });
    Ok(listed.collect())
}

/// The states of all codes, ascending; fails with all that the ledger would refuse.
async fn known(
    session: &Session,
    args: &CheckIn,
    listed: &[Listed],
) -> Result<Vec<([u8; 32], v1::CodeState)>, Failure> {
    let mut problems = Problems::default();
    let mut found = states::of_region(session, &args.region, listed, &mut problems).await?;
    if !problems.is_empty() {
        let from = args.from.as_deref();
        return Err(problems.into_failure(from.unwrap_or(Path::new("the codes given"))));
    }
    found.sort_unstable_by_key(|(code, _)| *code);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_in_that_changes_nothing_is_not_counted() {
        let before = v1::CodeState {
            check_ins: 1,
            last_check_in_day: 20_000,
            ..Default::default()
        };
        assert!(!counted(&before, &before));
        // The count began anew after a day that was missed.
        let again = v1::CodeState {
            last_check_in_day: 20_002,
            ..before.clone()
        };
        assert!(counted(&before, &again));
        let released = v1::CodeState {
            check_ins: 0,
            last_check_in_day: 0,
            released_at_leaf: 9,
            ..before.clone()
        };
        assert!(counted(&before, &released));
        let ordered = v1::CodeState {
            check_ins: 0,
            last_check_in_day: 0,
            order_id: vec![1; 32].into(),
            ..before.clone()
        };
        assert!(!counted(&before, &ordered));
    }
}
