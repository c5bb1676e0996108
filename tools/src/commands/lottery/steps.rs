//! The steps of a lottery that are one entry each: freeze, dice, contribution, certificate.
//!
//! What holds here: each looks at the proven state first, so that a step in the wrong stage costs
//! nothing and says what comes before it; the ledger's rules decide all the same.

use std::fs::File;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::recompute::contribution_message;
use cairn_ledger::lottery::seed;
use cairn_proto::v1::{self, EntryKind, LotteryStage, Visibility, WaitFor};
use clap::Args;
use ed25519_dalek::SigningKey;

use super::report::recorded;
use super::state::{Proven, has_reached};
use crate::cli::Global;
use crate::exit::Failure;
use crate::key_file;
use crate::output::timestamp;
use crate::session::{Session, parse_hash, sign_entry};

/// What `freeze` takes.
#[derive(Debug, Args)]
pub struct Freeze {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The registrar's author key
    #[arg(long, value_name = "FILE")]
    registrar_key: PathBuf,
    /// The notary's author key
    #[arg(long, value_name = "FILE")]
    notary_key: PathBuf,
}

/// What `dice` takes.
#[derive(Debug, Args)]
pub struct Dice {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The notary's author key
    #[arg(long, value_name = "FILE")]
    notary_key: PathBuf,
    /// The dice as they were thrown, 1 to 6 each, with commas
    #[arg(
        long,
        value_delimiter = ',',
        required = true,
        value_parser = clap::value_parser!(u8).range(1..=6)
    )]
    digits: Vec<u8>,
    /// The recording of the throw; its hash goes on the ledger
    #[arg(long, value_name = "FILE")]
    evidence: PathBuf,
}

/// What `contribute` takes.
#[derive(Debug, Args)]
pub struct Contribute {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The contributing institution's seed key
    #[arg(long, value_name = "FILE")]
    seed_key: PathBuf,
    /// The author key of any registered author
    #[arg(long, value_name = "FILE")]
    author_key: PathBuf,
}

/// What `certify` takes.
#[derive(Debug, Args)]
pub struct Certify {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The notary's author key
    #[arg(long, value_name = "FILE")]
    notary_key: PathBuf,
    /// The notarial document; its hash goes on the ledger
    #[arg(long, value_name = "FILE")]
    document: PathBuf,
}

/// Freezes the roster as the nodes have it.
pub async fn freeze(global: &Global, args: Freeze) -> Result<(), Failure> {
    let registrar = key_file::author(&args.registrar_key)?;
    let notary = key_file::author(&args.notary_key)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read_in(&session, &args.id, LotteryStage::Open).await?;
    let body = canonical::encode(&v1::RosterFreeze {
        lottery_id: args.id.to_bytes(),
        roster_root: lottery.state.roster_root.clone(),
        count: lottery.state.rows,
    });
    let kind = EntryKind::RosterFreeze;
    let status = submit(&session, &args.id, kind, body, &registrar, &[&notary]).await?;
    let frozen = |state: &v1::LotteryState| has_reached(state, LotteryStage::Frozen);
    let lottery = Proven::wait_until(&session, &args.id, "the freeze", frozen).await?;
    let facts = recorded(&session, &lottery, &status).await?;
    facts
        .with("rows", lottery.state.rows)
        .with("tickets", lottery.state.tickets)
        .with("roster_root", hex::encode(&lottery.state.roster_root))
        .with(
            "contributions_close_ms",
            lottery.state.contributions_close_ms,
        )
        .with("beacon_round", lottery.state.beacon_round)
        .print(global);
    Ok(())
}

/// Records the notary's dice.
pub async fn dice(global: &Global, args: Dice) -> Result<(), Failure> {
    let notary = key_file::author(&args.notary_key)?;
    let evidence_hash = document_hash(&args.evidence)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read_in(&session, &args.id, LotteryStage::Frozen).await?;
    let body = canonical::encode(&v1::DiceRoll {
        lottery_id: args.id.to_bytes(),
        attempt: lottery.state.attempt,
        digits: args.digits.into(),
        evidence_hash: evidence_hash.to_bytes(),
    });
    let status = submit(&session, &args.id, EntryKind::DiceRoll, body, &notary, &[]).await?;
    let thrown = |state: &v1::LotteryState| has_reached(state, LotteryStage::Contributing);
    let lottery = Proven::wait_until(&session, &args.id, "the throw", thrown).await?;
    let digits: Vec<String> = lottery.state.dice.iter().map(u8::to_string).collect();
    let facts = recorded(&session, &lottery, &status).await?;
    facts
        .with("digits", digits.join(","))
        .with("evidence_hash", evidence_hash.to_string())
        .with(
            "contributions_close_ms",
            lottery.state.contributions_close_ms,
        )
        .with("beacon_round", lottery.state.beacon_round)
        .print(global);
    Ok(())
}

/// Hands in an institution's contribution to the seed.
pub async fn contribute(global: &Global, args: Contribute) -> Result<(), Failure> {
    let secret = key_file::seed(&args.seed_key)?;
    let author = key_file::author(&args.author_key)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read_in(&session, &args.id, LotteryStage::Contributing).await?;
    let public = secret.public_key();
    let mut contributors = lottery.rules()?.contributors.iter();
    let contributor = contributors.find(|c| c.seed_key == public.as_slice());
    let institution = contributor.map(|c| c.institution.clone()).ok_or_else(|| {
        let (file, id) = (args.seed_key.display(), args.id);
        Failure::Failed(format!(
            "{file} is no contributor's key in the rules of lottery {id}"
        ))
    })?;
    let message = contribution_message(&session.chain.id, &args.id, &lottery.state)
        .map_err(|error| Failure::InvalidProof(error.to_string()))?;
    let body = canonical::encode(&v1::SeedContribution {
        lottery_id: args.id.to_bytes(),
        attempt: lottery.state.attempt,
        seed_key: public.to_vec().into(),
        signature: seed::sign_contribution(&secret, &message).to_vec().into(),
    });
    let kind = EntryKind::SeedContribution;
    let status = submit(&session, &args.id, kind, body, &author, &[]).await?;
    let given = |state: &v1::LotteryState| {
        let mut all = state.contributions.iter();
        all.any(|c| c.seed_key == public.as_slice())
    };
    let lottery = Proven::wait_until(&session, &args.id, "the contribution", given).await?;
    let expected = lottery.rules()?.contributors.len();
    let close = lottery.state.contributions_close_ms;
    let facts = recorded(&session, &lottery, &status).await?;
    facts
        .with("institution", institution)
        .with("contributions", lottery.state.contributions.len())
        .with("contributors", expected)
        .with("contributions_close_ms", close)
        .with("contributions_close", timestamp(close))
        .print(global);
    Ok(())
}

/// Records the notary's last word.
pub async fn certify(global: &Global, args: Certify) -> Result<(), Failure> {
    let notary = key_file::author(&args.notary_key)?;
    let document_hash = document_hash(&args.document)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read_in(&session, &args.id, LotteryStage::Complete).await?;
    let body = canonical::encode(&v1::LotteryCertify {
        lottery_id: args.id.to_bytes(),
        attempt: lottery.state.attempt,
        document_hash: document_hash.to_bytes(),
    });
    let kind = EntryKind::LotteryCertify;
    let status = submit(&session, &args.id, kind, body, &notary, &[]).await?;
    let certified = |state: &v1::LotteryState| has_reached(state, LotteryStage::Certified);
    let lottery = Proven::wait_until(&session, &args.id, "the certificate", certified).await?;
    let facts = recorded(&session, &lottery, &status).await?;
    facts
        .with("document_hash", document_hash.to_string())
        .print(global);
    Ok(())
}

/// Signs and submits an entry about a lottery, and waits until it is certified.
pub async fn submit(
    session: &Session,
    lottery_id: &Hash,
    kind: EntryKind,
    body: Bytes,
    author: &SigningKey,
    approvers: &[&SigningKey],
) -> Result<v1::EntryStatus, Failure> {
    let subject = lottery_id.to_bytes();
    let chain = &session.chain;
    let entry = sign_entry(
        chain,
        kind,
        Visibility::Public,
        subject,
        body,
        author,
        approvers,
    );
    session.submit(&entry, WaitFor::Certified).await
}

/// BLAKE3 of a file, however large.
pub fn document_hash(path: &Path) -> Result<Hash, Failure> {
    let mut hasher = blake3::Hasher::new();
    let hashed = File::open(path).and_then(|file| hasher.update_reader(file).map(drop));
    hashed.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}
