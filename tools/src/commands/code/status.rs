//! `cairn code status`: what a code shows now, who set it, and the proof.
//!
//! What a proof does not show: whose code it is, and that nothing changed after the time that it
//! names.

use std::path::PathBuf;

use cairn_ledger::code::{NAMESPACE, effective_status};
use cairn_ledger::hash::Hash;
use cairn_ledger::verify::VerifiedValue;
use cairn_proto::v1;
use clap::Args;
use prost::Message as _;
use serde::Serialize;

use super::{in_words, states};
use crate::certificate::Certificate;
use crate::cli::Global;
use crate::commands::proof;
use crate::exit::Failure;
use crate::output::{self, count, line, timestamp};
use crate::session::{Session, parse_hash};
use crate::system;

/// What `status` takes.
#[derive(Debug, Args)]
pub struct Status {
    /// The code: 64 hex digits
    #[arg(value_parser = parse_hash)]
    code: Hash,
    /// Write the proof to this file, of a status or of absence
    #[arg(long, value_name = "PROOF")]
    out: Option<PathBuf>,
}

/// Shows a code's status.
pub async fn run(global: &Global, args: Status) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let (receipt, value) = session.map_receipt(NAMESPACE, args.code.as_bytes()).await?;
    let file = proof::of_map(&session.chain, receipt);
    let proof_bytes = file.encoded_len();
    if let Some(path) = &args.out {
        proof::write(path, file)?;
    }
    match &value.value {
        Some(bytes) => {
            let state = states::decode(args.code.as_bytes(), bytes)?;
            let shown = Shown::of(&args.code, &state, &value, proof_bytes);
            output::print(global, &shown, Shown::table);
            Ok(())
        }
        None => Err(absent(&args.code, &value)),
    }
}

fn absent(code: &Hash, value: &VerifiedValue) -> Failure {
    let height = value.checkpoint.header().height;
    let as_of = timestamp(value.checkpoint.latest_as_of_ms());
    Failure::NotFound(format!(
        "code {code} was never issued: its absence is proven under the certified map of block \
         {height}, latest as of {as_of}"
    ))
}

/// A status as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    code: String,
    /// What holds now; "expired" behind its validity.
    status: &'static str,
    recorded_status: &'static str,
    sequence: u64,
    region: String,
    valid_from_ms: u64,
    valid_until_ms: u64,
    lapses_at_ms: u64,
    on_lapse: &'static str,
    order_id: String,
    proof_bytes: usize,
    certificate: Certificate,
}

impl Shown {
    fn of(code: &Hash, state: &v1::CodeState, value: &VerifiedValue, proof_bytes: usize) -> Shown {
        let now = system::now_ms();
        let effective = effective_status(state, now);
        Shown {
            code: code.to_string(),
            status: match effective {
                Some(status) => in_words(status),
                None if now < state.valid_from_ms => "not valid yet",
                None => "expired",
            },
            recorded_status: in_words(state.status()),
            sequence: state.sequence,
            region: state.region.clone(),
            valid_from_ms: state.valid_from_ms,
            valid_until_ms: state.valid_until_ms,
            lapses_at_ms: state.lapses_at_ms,
            on_lapse: in_words(state.on_lapse()),
            order_id: hex::encode(&state.order_id),
            proof_bytes,
            certificate: Certificate::of(&value.checkpoint),
        }
    }

    fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("code", &self.code),
            line("status", self.status),
            line("region", &self.region),
            line("changes", self.sequence.saturating_sub(1)),
            line("valid from", timestamp(self.valid_from_ms)),
            line("valid until", timestamp(self.valid_until_ms)),
        ];
        if self.lapses_at_ms > 0 {
            let lapses = timestamp(self.lapses_at_ms);
            lines.push(line("lapses", format!("{lapses}, then {}", self.on_lapse)));
        }
        if !self.order_id.is_empty() {
            lines.push(line("set by order", &self.order_id));
        }
        let height = count(self.certificate.height);
        lines.push(line(
            "proven",
            format!("under the certified map of block {height}"),
        ));
        lines.push(line(
            "not proven",
            "whose code it is; that nothing changed after that time",
        ));
        lines.extend(self.certificate.summary());
        lines
    }
}
