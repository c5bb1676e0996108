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

use super::beacon;
use super::facts::recorded;
use super::state::{Proven, has_passed, has_reached};
use crate::cli::Global;
use crate::exit::Failure;
use crate::key_file;
use crate::output::timestamp;
use crate::session::{Session, parse_hash, sign_entry};
use crate::system;

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
    /// Wait for the end of the window for objections, if it is not over
    #[arg(long)]
    wait: bool,
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
    let attempt = lottery.state.attempt;
    let thrown = |s: &v1::LotteryState| has_passed(s, attempt, LotteryStage::Contributing);
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
    if lottery.state.dropped.iter().any(|key| key == &public[..]) {
        return Err(Failure::Failed(format!(
            "{institution} was named as absent when an earlier attempt was voided, and is dropped \
             from this one; see: cairn lottery show {}",
            args.id
        )));
    }
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
    let attempt = lottery.state.attempt;
    let given = |state: &v1::LotteryState| {
        let mut all = state.contributions.iter();
        state.attempt > attempt || all.any(|c| c.seed_key == public.as_slice())
    };
    let lottery = Proven::wait_until(&session, &args.id, "the contribution", given).await?;
    let expected = lottery.rules()?.contributors.len() - lottery.state.dropped.len();
    let close = lottery.state.contributions_close_ms;
    let facts = recorded(&session, &lottery, &status).await?;
    facts
        .with("institution", institution)
        .with("attempt", lottery.state.attempt)
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
    let open_until = objectionable_until(&lottery)?;
    if args.wait {
        let at_ms = open_until + beacon::CLOCK_MARGIN_MS;
        beacon::wait(global, "seconds for objections", at_ms).await;
    }
    let lottery = Proven::read_in(&session, &args.id, LotteryStage::Complete).await?;
    expect_certifiable(&lottery, open_until)?;
    let body = canonical::encode(&v1::LotteryCertify {
        lottery_id: args.id.to_bytes(),
        attempt: lottery.state.attempt,
        document_hash: document_hash.to_bytes(),
    });
    let kind = EntryKind::LotteryCertify;
    let status = submit(&session, &args.id, kind, body, &notary, &[]).await?;
    let attempt = lottery.state.attempt;
    let certified = |s: &v1::LotteryState| has_passed(s, attempt, LotteryStage::Certified);
    let lottery = Proven::wait_until(&session, &args.id, "the certificate", certified).await?;
    let facts = recorded(&session, &lottery, &status).await?;
    facts
        .with("document_hash", document_hash.to_string())
        .print(global);
    Ok(())
}

/// Until when objections are taken; 0 where the rules have no window.
fn objectionable_until(lottery: &Proven) -> Result<u64, Failure> {
    let window = lottery.rules()?.objection_window_ms;
    let until = lottery.state.completed_at_ms.saturating_add(window);
    Ok(if window == 0 { 0 } else { until })
}

/// A refusal would be final, so what is bound to be refused is not handed in.
fn expect_certifiable(lottery: &Proven, open_until: u64) -> Result<(), Failure> {
    let (id, state) = (lottery.id, &lottery.state);
    let message = if state.tainted {
        format!(
            "an objection against attempt {} of lottery {id} as a whole was upheld: it is not \
             certified but voided, with: cairn lottery void propose {id}",
            state.attempt
        )
    } else if state.objections_open > 0 {
        format!(
            "{} objection(s) in lottery {id} wait for a ruling; list them with: cairn lottery \
             objections {id}, and rule with: cairn lottery rule {id} --objection ENTRY",
            state.objections_open
        )
    } else if open_until >= system::now_ms() {
        format!(
            "objections in lottery {id} are taken until {}; certify after that, or run this with \
             --wait",
            timestamp(open_until)
        )
    } else {
        return Ok(());
    };
    Err(Failure::Failed(message))
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
