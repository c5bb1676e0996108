//! `cairn code issue`: new codes, written to a file before they go on the ledger.
//!
//! What holds here: whoever has the file has all codes that were issued, even if this process dies
//! half way; then the same command goes on with what the ledger does not have yet.

use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::code::MAX_CHUNK_CODES;
use cairn_proto::v1::{self, EntryKind, Visibility};
use clap::Args;
use ed25519_dalek::SigningKey;
use serde::Serialize;

use super::{BodyShown, DAY_MS, codes_file, states};
use crate::cli::Global;
use crate::commands::in_order::{self, Sequence};
use crate::exit::Failure;
use crate::output::{self, count, line};
use crate::session::{Session, sign_entry};
use crate::{key_file, progress, system};

/// What `issue` takes.
#[derive(Debug, Args)]
pub struct Issue {
    /// The authority's author key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The region of the codes, as in the authority's mandate
    #[arg(long, value_name = "NAME")]
    region: String,
    /// How many codes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: u64,
    /// For how many days they are valid
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    valid_days: u64,
    /// Where the codes go, one a line
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Who may read the list of codes on the ledger
    #[arg(long, value_enum, default_value = "restricted")]
    visibility: BodyShown,
}

/// Issues codes.
pub async fn run(global: &Global, args: Issue) -> Result<(), Failure> {
    let started = Instant::now();
    let authority = key_file::author(&args.key)?;
    let session = Session::connect(global).await?;
    let codes = codes(&args)?;
    let mut entries = Entries {
        session: &session,
        region: args.region,
        valid_until_ms: system::now_ms() + args.valid_days * DAY_MS,
        visibility: args.visibility.into(),
        authority,
        codes,
        missing: Vec::new().into_iter(),
    };
    let mut bar = progress::bar(global, entries.total(), "codes");
    let submitted = in_order::submit(&session, &mut entries, &mut bar).await?;
    let issued = Issued {
        codes: entries.total(),
        entries: submitted,
        file: args.out.display().to_string(),
        valid_until_ms: entries.valid_until_ms,
        seconds: started.elapsed().as_secs_f64(),
    };
    output::print(global, &issued, Issued::table);
    Ok(())
}

/// The codes to issue, ascending: those of the file if it is there, otherwise new ones.
fn codes(args: &Issue) -> Result<Vec<[u8; 32]>, Failure> {
    let mut codes: Vec<[u8; 32]> = if args.out.exists() {
        let listed = codes_file::read(&args.out)?;
        listed.into_iter().map(|listed| listed.code).collect()
    } else {
        (0..args.count).map(|_| system::random()).collect()
    };
    codes.sort_unstable();
    let (found, asked) = (codes.len() as u64, args.count);
    if found != asked {
        let path = args.out.display();
        return Err(Failure::Failed(format!(
            "{path} is there already, with {found} codes instead of {asked}; to go on with these \
             say --count {found}, for new ones name another file with --out"
        )));
    }
    if !args.out.exists() {
        codes_file::create(&args.out, &codes)?;
    }
    Ok(codes)
}

/// The codes on their way.
struct Entries<'a> {
    session: &'a Session,
    region: String,
    valid_until_ms: u64,
    visibility: Visibility,
    authority: SigningKey,
    codes: Vec<[u8; 32]>,
    /// What is still to be handed in, as numbers of chunks.
    missing: std::vec::IntoIter<usize>,
}

impl Entries<'_> {
    fn chunk(&self, number: usize) -> &[[u8; 32]] {
        let first = number * MAX_CHUNK_CODES;
        &self.codes[first..self.codes.len().min(first + MAX_CHUNK_CODES)]
    }
}

impl Sequence for Entries<'_> {
    fn total(&self) -> u64 {
        self.codes.len() as u64
    }

    /// An entry's codes are issued together or not at all, so the first of each tells.
    async fn resume(&mut self, session: &Session) -> Result<u64, Failure> {
        let firsts: Vec<[u8; 32]> = self
            .codes
            .iter()
            .step_by(MAX_CHUNK_CODES)
            .copied()
            .collect();
        let states = states::proven(session, &firsts).await?;
        let absent = states
            .iter()
            .enumerate()
            .filter(|(_, state)| state.is_none());
        let missing: Vec<usize> = absent.map(|(number, _)| number).collect();
        self.missing = missing.into_iter();
        let left = self
            .missing
            .clone()
            .map(|number| self.chunk(number).len() as u64);
        Ok(self.total() - left.sum::<u64>())
    }

    fn next_entry(&mut self) -> Option<(v1::SignedEntry, u64)> {
        let number = self.missing.next()?;
        let codes = self.chunk(number);
        let body = canonical::encode(&v1::CodeIssue {
            region: self.region.clone(),
            codes: Bytes::copy_from_slice(codes.as_flattened()),
            valid_until_ms: self.valid_until_ms,
            holders: Bytes::new(),
        });
        let entry = sign_entry(
            &self.session.chain,
            EntryKind::CodeIssue,
            self.visibility,
            Bytes::new(),
            body,
            &self.authority,
            &[],
        );
        Some((entry, codes.len() as u64))
    }
}

/// What was issued.
#[derive(Debug, Serialize)]
struct Issued {
    codes: u64,
    entries: u64,
    file: String,
    valid_until_ms: u64,
    seconds: f64,
}

impl Issued {
    fn table(&self) -> Vec<(String, String)> {
        vec![
            line("codes", format!("{}, all green", count(self.codes))),
            line("entries", count(self.entries)),
            line("valid until", output::timestamp(self.valid_until_ms)),
            line("file", &self.file),
            line("time", format!("{:.2} s, certified", self.seconds)),
        ]
    }
}
