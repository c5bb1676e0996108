//! `cairn code issue`: new codes, written to a file before they go on the ledger.
//!
//! What holds here: whoever has the file has all codes that were issued, and the salts that bind them
//! to their holders' documents, even if this process dies half way; then the same command goes on with
//! what the ledger does not have yet. Numbers of documents are hashed here and written nowhere.

use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::code::{DAY_MS, MAX_CHUNK_CODES, holder_commitment};
use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, EntryKind, Visibility};
use clap::Args;
use ed25519_dalek::SigningKey;
use serde::Serialize;

use super::codes_file::{self, NewCode};
use super::{BodyShown, states};
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
    /// How many codes; without: one for each holder
    #[arg(
        long,
        value_name = "N",
        required_unless_present = "holders",
        value_parser = clap::value_parser!(u64).range(1..=10_000_000)
    )]
    count: Option<u64>,
    /// Bind each code to its holder's identity document: a CSV file with a column "id_card", one line
    /// for each code. The numbers stay here; --out gets a salt beside each code
    #[arg(long, value_name = "FILE")]
    holders: Option<PathBuf>,
    /// For how many days they are valid
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    valid_days: u64,
    /// Where the codes go, one a line; with --holders in the order of that file
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
    let holders = args.holders.as_deref().map(codes_file::read_id_cards);
    let holders = holders.transpose()?;
    let asked = asked(&args, holders.as_deref())?;
    let session = Session::connect(global).await?;
    let codes = codes(&args, asked, holders)?;
    let holders = codes.iter().filter(|(_, holder)| holder.is_some()).count();
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
        holders: holders as u64,
        valid_until_ms: entries.valid_until_ms,
        seconds: started.elapsed().as_secs_f64(),
    };
    output::print(global, &issued, Issued::table);
    Ok(())
}

/// A code, and the commitment to its holder's document.
type Bound = ([u8; 32], Option<Hash>);

/// The codes to issue, ascending: those of the file if it is there, otherwise new ones.
fn codes(args: &Issue, asked: u64, holders: Option<Vec<Vec<u8>>>) -> Result<Vec<Bound>, Failure> {
    let codes = if args.out.exists() {
        codes_file::read_new(&args.out)?
    } else {
        let mut codes: Vec<[u8; 32]> = (0..asked).map(|_| system::random()).collect();
        codes.sort_unstable();
        let new = |code| NewCode {
            code,
            salt: holders.is_some().then(system::random),
        };
        codes.into_iter().map(new).collect()
    };
    let (path, found) = (args.out.display(), codes.len() as u64);
    let salted = codes.iter().any(|code| code.salt.is_some());
    if salted != holders.is_some() {
        let how = if salted { "with" } else { "without" };
        return Err(Failure::Failed(format!(
            "{path} is there already, and was written {how} --holders; to go on with its codes give \
             the command as it was then, for new ones name another file with --out"
        )));
    }
    if found != asked {
        return Err(Failure::Failed(format!(
            "{path} is there already, with {found} codes instead of {asked}; to go on with these \
             ask for {found}, for new ones name another file with --out"
        )));
    }
    if !args.out.exists() {
        codes_file::create(&args.out, &codes)?;
    }
    let mut numbers = holders.unwrap_or_default().into_iter();
    let bound = codes.into_iter().map(|NewCode { code, salt }| {
        let number = numbers.next().unwrap_or_default();
        (code, salt.map(|salt| holder_commitment(&salt, &number)))
    });
    let mut bound: Vec<Bound> = bound.collect();
    bound.sort_unstable();
    Ok(bound)
}

/// How many codes: what was said, or one for each holder, which must not contradict each other.
fn asked(args: &Issue, holders: Option<&[Vec<u8>]>) -> Result<u64, Failure> {
    match (args.count, holders.map(|holders| holders.len() as u64)) {
        (Some(asked), Some(holders)) if asked != holders => Err(Failure::Usage(format!(
            "--count is {asked}, and --holders has {holders}; leave --count out"
        ))),
        // The command line demands one of the two.
        (count, holders) => Ok(count.or(holders).unwrap_or(0)),
    }
}

/// The codes on their way.
struct Entries<'a> {
    session: &'a Session,
    region: String,
    valid_until_ms: u64,
    visibility: Visibility,
    authority: SigningKey,
    codes: Vec<Bound>,
    /// What is still to be handed in, as numbers of chunks.
    missing: std::vec::IntoIter<usize>,
}

impl Entries<'_> {
    fn chunk(&self, number: usize) -> &[Bound] {
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
        let firsts: Vec<Bound> = self
            .codes
            .iter()
            .step_by(MAX_CHUNK_CODES)
            .copied()
            .collect();
        let codes: Vec<[u8; 32]> = firsts.iter().map(|(code, _)| *code).collect();
        let states = states::proven(session, &codes).await?;
        for ((code, holder), state) in firsts.iter().zip(&states) {
            same_holder(code, holder.as_ref(), state.as_ref())?;
        }
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
        let codes_of: Vec<u8> = codes.iter().flat_map(|(code, _)| *code).collect();
        let holders = codes.iter().filter_map(|(_, holder)| *holder);
        let holders: Vec<u8> = holders.flat_map(|holder| holder.0).collect();
        let body = canonical::encode(&v1::CodeIssue {
            region: self.region.clone(),
            codes: codes_of.into(),
            valid_until_ms: self.valid_until_ms,
            holders: holders.into(),
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

/// A code that an earlier run issued for this holder; with another list of holders, others would get
/// codes that are bound to somebody else.
fn same_holder(
    code: &[u8; 32],
    holder: Option<&Hash>,
    state: Option<&v1::CodeState>,
) -> Result<(), Failure> {
    let bound = holder.map(|holder| holder.to_bytes()).unwrap_or_default();
    match state {
        Some(state) if state.holder != bound => Err(Failure::Failed(format!(
            "code {} is issued already, and not for the holder that --holders names for it; give \
             --holders as the run that wrote the file of --out had it, or name another --out",
            hex::encode(code)
        ))),
        _ => Ok(()),
    }
}

/// What was issued.
#[derive(Debug, Serialize)]
struct Issued {
    codes: u64,
    entries: u64,
    file: String,
    /// How many of them are bound to a document.
    holders: u64,
    valid_until_ms: u64,
    seconds: f64,
}

impl Issued {
    fn table(&self) -> Vec<(String, String)> {
        vec![
            line("codes", format!("{}, all green", count(self.codes))),
            line("bound to holders", count(self.holders)),
            line("entries", count(self.entries)),
            line("valid until", output::timestamp(self.valid_until_ms)),
            line("file", &self.file),
            line("time", format!("{:.2} s, certified", self.seconds)),
        ]
    }
}
