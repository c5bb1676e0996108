//! `cairn pass show`: what a node proves of a code, as a pass that gates read with no network.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use cairn_ledger::canonical;
use cairn_ledger::code::{NAMESPACE, effective_status};
use cairn_ledger::hash::Hash;
use cairn_ledger::pass::refusal::name;
use cairn_ledger::pass::{PackError, Pass};
use cairn_ledger::verify::VerifiedValue;
use cairn_proto::v1;
use clap::Args;
use serde::Serialize;

use super::page::{self, Page};
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, timestamp};
use crate::private_file;
use crate::qr::Qr;
use crate::session::{Session, parse_hash};
use crate::system;

/// What `show` takes.
#[derive(Debug, Args)]
pub struct Show {
    /// The code: 64 hex digits
    #[arg(value_parser = parse_hash)]
    code: Hash,
    /// The salt that the holder got with the code, so that a gate can match the ID card
    #[arg(long, value_name = "HEX", value_parser = parse_hash)]
    salt: Option<Hash>,
    /// Write the QR code as an image too
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Write the QR code as a drawing too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write a page to print too, whose pass is marked as one on paper
    #[arg(long, value_name = "HTML")]
    paper: Option<PathBuf>,
}

/// Shows a pass.
pub async fn run(global: &Global, args: Show) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let (receipt, value) = session.map_receipt(NAMESPACE, args.code.as_bytes()).await?;
    let pass = pass(&session, &args, &receipt)?;
    let shown = Shown::of(&args.code, &pass, &value)?;
    let qr = code_of(Qr::of_long(&shown.pass))?;
    write(args.png.as_deref(), || qr.png())?;
    write(args.svg.as_deref(), || qr.svg().into_bytes())?;
    if let Some(path) = &args.paper {
        let qr = code_of(Qr::of(&pass.on_paper().to_text()))?;
        let page = Page {
            code: &shown.code,
            status: shown.status,
            region: &shown.region,
            latest_as_of_ms: shown.latest_as_of_ms,
            valid_until_ms: shown.valid_until_ms,
            qr: &qr,
        };
        write(Some(path), || page::html(&page).into_bytes())?;
    }
    output::event(global, &shown, |shown| shown.text(&qr));
    Ok(())
}

fn pass(session: &Session, args: &Show, receipt: &v1::MapReceipt) -> Result<Pass, Failure> {
    let pass = Pass::of_receipt(&session.chain, receipt).map_err(|error| match error {
        PackError::NeverIssued => Failure::NotFound(format!(
            "code {} was never issued, which was proven: it has no pass",
            args.code
        )),
        error => Failure::Failed(error.to_string()),
    })?;
    Ok(match args.salt {
        Some(salt) => pass.with_salt(salt.0),
        None => pass,
    })
}

fn code_of(qr: Option<Qr>) -> Result<Qr, Failure> {
    qr.ok_or_else(|| Failure::Failed("too long for a QR code".to_owned()))
}

fn write(path: Option<&Path>, bytes: impl FnOnce() -> Vec<u8>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let written = private_file::write_lazily(path, |file| file.write_all(&bytes()));
    written.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}

/// A pass as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    /// The text of the QR code.
    pass: String,
    bytes: usize,
    code: String,
    status: &'static str,
    region: String,
    valid_until_ms: u64,
    height: u64,
    latest_as_of_ms: u64,
}

impl Shown {
    fn of(code: &Hash, pass: &Pass, value: &VerifiedValue) -> Result<Shown, Failure> {
        let bytes = value.value.clone().unwrap_or_default();
        let state: v1::CodeState = canonical::decode(&bytes)
            .map_err(|error| Failure::InvalidProof(format!("code {code}: {error}")))?;
        Ok(Shown {
            pass: pass.to_text(),
            bytes: pass.to_bytes().len(),
            code: code.to_string(),
            status: effective_status(&state, system::now_ms()).map_or("not valid now", name),
            region: state.region,
            valid_until_ms: state.valid_until_ms,
            height: value.checkpoint.header().height,
            latest_as_of_ms: value.checkpoint.latest_as_of_ms(),
        })
    }

    fn text(&self, qr: &Qr) -> String {
        let qr = qr.terminal(std::io::stdout().is_terminal());
        let (pass, status, region, bytes) = (&self.pass, self.status, &self.region, self.bytes);
        let as_of = timestamp(self.latest_as_of_ms);
        let until = timestamp(self.valid_until_ms);
        format!(
            "{qr}\n{pass}\n{status} in {region}, latest as of {as_of}, valid until {until}; {bytes} \
             bytes"
        )
    }
}
