//! `cairn code order`: one order for many codes, on a stated ground, all or nothing.
//!
//! What holds here: each code's present state is proven first, so the order names the sequence that
//! it expects and a code that somebody else changed meanwhile stops it; codes that were never
//! issued, or are of another region, are named by their lines before anything is submitted.

use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::code::{MAX_CHUNK_CODES, ORDER_NAMESPACE, changes_root};
use cairn_ledger::hash::{self, Hash};
use cairn_proto::v1::{self, CodeStatus, EntryKind, OrderMode, Visibility, WaitFor};
use clap::Args;
use ed25519_dalek::SigningKey;
use serde::Serialize;

use super::codes_file::{self, Listed};
use super::{BodyShown, Colour, DAY_MS, in_words, states};
use crate::cli::Global;
use crate::commands::in_order::{self, Sequence};
use crate::commands::lottery::document_hash;
use crate::commands::problems::Problems;
use crate::exit::Failure;
use crate::output::{self, count, line};
use crate::session::{EntryKey, Session, parse_hash, sign_entry};
use crate::submit::entry_id;
use crate::{key_file, progress, system};

/// What `order` takes.
#[derive(Debug, Args)]
pub struct Order {
    /// The authority's author key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The author key of an approver of the role that the mandate names; without, if it names none
    #[arg(long, value_name = "FILE")]
    approver_key: Option<PathBuf>,
    /// The region of the codes
    #[arg(long, value_name = "NAME")]
    region: String,
    /// The reason, as the mandate names it
    #[arg(long, value_name = "REASON")]
    reason: String,
    /// The legal basis
    #[arg(long, value_name = "TEXT")]
    basis: String,
    /// The new status
    #[arg(long, value_enum)]
    status: Colour,
    /// The codes: a CSV file with a column "code"
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Take at most so many codes of the file
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Pass over the first codes of the file
    #[arg(long, value_name = "N", default_value = "0")]
    skip: usize,
    /// The status lapses after so many days
    #[arg(
        long,
        value_name = "DAYS",
        requires = "on_lapse",
        value_parser = clap::value_parser!(u64).range(1..=36_500)
    )]
    lapses_days: Option<u64>,
    /// What holds when it has lapsed
    #[arg(long, value_enum, requires = "lapses_days")]
    on_lapse: Option<Colour>,
    /// The evidence for the order; its hash goes on the ledger. Without: the hash of nothing
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// Where those concerned can appeal
    #[arg(long, value_name = "TEXT")]
    contact: String,
    /// Who gives the order: a number or a pseudonym, never a name
    #[arg(long, value_name = "TEXT")]
    operator: String,
    /// Which edition of its rules the authority applies
    #[arg(long, value_name = "TEXT")]
    rule_version: String,
    /// The order of the same region that this one corrects
    #[arg(long, value_name = "ORDER", value_parser = parse_hash)]
    corrects: Option<Hash>,
    /// Change each code that can be changed, instead of all or none
    #[arg(long)]
    code_by_code: bool,
    /// Who may read the order's body and its codes on the ledger
    #[arg(long, value_enum, default_value = "restricted")]
    visibility: BodyShown,
}

/// Submits an order with all of its changes.
pub async fn run(global: &Global, args: Order) -> Result<(), Failure> {
    let started = Instant::now();
    let authority = key_file::author(&args.key)?;
    let approver = args
        .approver_key
        .as_deref()
        .map(key_file::author)
        .transpose()?;
    let listed = listed(&args)?;
    let session = Session::connect(global).await?;
    let changes = changes(&session, &args, &listed).await?;
    let order = compose(&args, &changes)?;
    let visibility = args.visibility.into();
    let entry = sign_entry(
        &session.chain,
        EntryKind::StatusOrder,
        visibility,
        Bytes::new(),
        canonical::encode(&order),
        &authority,
        &approver.iter().collect::<Vec<_>>(),
    );
    let order_id = entry_id(&entry);
    session.submit(&entry, WaitFor::Certified).await?;
    let mut chunks = Chunks {
        session: &session,
        order_id,
        visibility,
        authority,
        changes,
        next: 0,
    };
    let mut bar = progress::bar(global, chunks.total(), "changes");
    let submitted = in_order::submit(&session, &mut chunks, &mut bar).await?;
    let (_, receipt) = session.receipt(EntryKey::Id(order_id)).await?;
    let ordered = Ordered {
        order_id: order_id.to_string(),
        leaf_index: receipt.leaf_index,
        status: in_words(args.status.into()),
        count: chunks.total(),
        entries: submitted + 1,
        seconds: started.elapsed().as_secs_f64(),
    };
    output::print(global, &ordered, Ordered::table);
    Ok(())
}

fn listed(args: &Order) -> Result<Vec<Listed>, Failure> {
    let listed = codes_file::read(&args.from)?;
    let most = args.limit.unwrap_or(usize::MAX);
    let found = listed.len();
    let taken: Vec<Listed> = listed.into_iter().skip(args.skip).take(most).collect();
    if taken.is_empty() {
        let path = args.from.display();
        return Err(Failure::Failed(format!(
            "{path} has {found} codes, and --skip and --limit leave none of them"
        )));
    }
    Ok(taken)
}

/// A code and the sequence that it is expected to have.
type Change = ([u8; 32], u64);

/// The changes, by ascending code.
async fn changes(
    session: &Session,
    args: &Order,
    listed: &[Listed],
) -> Result<Vec<Change>, Failure> {
    let codes: Vec<[u8; 32]> = listed.iter().map(|listed| listed.code).collect();
    let states = states::proven(session, &codes).await?;
    let mut problems = Problems::default();
    let mut changes = Vec::with_capacity(codes.len());
    for (listed, state) in listed.iter().zip(states) {
        match state {
            None => problems.add(listed.line, "this code was never issued, which is proven"),
            Some(state) if state.region != args.region => {
                let region = state.region;
                problems.add(listed.line, format_args!("this code is of region {region}"));
            }
            Some(state) => changes.push((listed.code, state.sequence)),
        }
    }
    if !problems.is_empty() {
        return Err(problems.into_failure(&args.from));
    }
    changes.sort_unstable();
    Ok(changes)
}

fn compose(args: &Order, changes: &[Change]) -> Result<v1::StatusOrder, Failure> {
    let evidence = match &args.evidence {
        Some(path) => document_hash(path)?,
        None => hash::plain(&[]),
    };
    let lapses_at_ms = args
        .lapses_days
        .map(|days| system::now_ms() + days * DAY_MS);
    let on_lapse = args
        .on_lapse
        .map_or(CodeStatus::Unspecified, CodeStatus::from);
    let count = u32::try_from(changes.len()).map_err(|_| {
        Failure::Failed(format!(
            "{} codes are too many for one order",
            changes.len()
        ))
    })?;
    Ok(v1::StatusOrder {
        region: args.region.clone(),
        reason: args.reason.clone(),
        legal_basis: args.basis.clone(),
        status: CodeStatus::from(args.status).into(),
        lapses_at_ms: lapses_at_ms.unwrap_or(0),
        on_lapse: on_lapse.into(),
        evidence_commitment: evidence.to_bytes(),
        appeal_contact: args.contact.clone(),
        count,
        changes_root: changes_root(changes.iter().copied()).to_bytes(),
        mode: match args.code_by_code {
            true => OrderMode::CodeByCode.into(),
            false => OrderMode::AllOrNothing.into(),
        },
        operator: args.operator.clone(),
        rule_version: args.rule_version.clone(),
        corrects: args.corrects.map(Hash::to_bytes).unwrap_or_default(),
    })
}

/// The order's changes on their way.
struct Chunks<'a> {
    session: &'a Session,
    order_id: Hash,
    visibility: Visibility,
    authority: SigningKey,
    changes: Vec<Change>,
    next: usize,
}

impl Sequence for Chunks<'_> {
    fn total(&self) -> u64 {
        self.changes.len() as u64
    }

    async fn resume(&mut self, session: &Session) -> Result<u64, Failure> {
        let value = session
            .map_value(ORDER_NAMESPACE, self.order_id.as_bytes())
            .await?;
        let received = match value.value {
            // A node that is behind does not know the order yet.
            None => 0,
            Some(bytes) => {
                let state: v1::OrderState = canonical::decode(&bytes).map_err(|error| {
                    let id = self.order_id;
                    Failure::InvalidProof(format!("the state of order {id}: {error}"))
                })?;
                state.received
            }
        };
        self.next = usize::try_from(received).unwrap_or(usize::MAX);
        Ok(received.into())
    }

    fn next_entry(&mut self) -> Option<(v1::SignedEntry, u64)> {
        let first = self.next;
        let rest = self.changes.get(first..)?;
        let changes = &rest[..rest.len().min(MAX_CHUNK_CODES)];
        if changes.is_empty() {
            return None;
        }
        let codes: Vec<u8> = changes.iter().flat_map(|(code, _)| *code).collect();
        let body = canonical::encode(&v1::StatusChunk {
            order_id: self.order_id.to_bytes(),
            first_change: u32::try_from(first).ok()?,
            codes: codes.into(),
            expected_sequences: changes.iter().map(|(_, sequence)| *sequence).collect(),
        });
        self.next += changes.len();
        let entry = sign_entry(
            &self.session.chain,
            EntryKind::StatusChunk,
            self.visibility,
            self.order_id.to_bytes(),
            body,
            &self.authority,
            &[],
        );
        Some((entry, changes.len() as u64))
    }
}

/// What was ordered.
#[derive(Debug, Serialize)]
struct Ordered {
    order_id: String,
    leaf_index: u64,
    status: &'static str,
    count: u64,
    entries: u64,
    seconds: f64,
}

impl Ordered {
    fn table(&self) -> Vec<(String, String)> {
        vec![
            line("order", &self.order_id),
            line("leaf index", self.leaf_index),
            line(
                "codes",
                format!("{} are {} now", count(self.count), self.status),
            ),
            line("entries", count(self.entries)),
            line("time", format!("{:.2} s, certified", self.seconds)),
        ]
    }
}
