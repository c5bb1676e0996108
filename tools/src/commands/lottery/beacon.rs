//! `cairn lottery beacon`: the round that completes the seed.
//!
//! What holds here: the round is the one that the close of contributions pinned, and it is handed
//! in only once the chain itself shows that the close was public before the round could be known.
//! The chain shows that with the certificate of a checkpoint stamped after the close, which a later
//! block carries; where nobody else writes, this command writes notes until it is so. What stays
//! out: where the round comes from (`round`).

use std::path::PathBuf;
use std::time::Duration;

use cairn_ledger::canonical;
use cairn_ledger::hash::{self, Hash};
use cairn_proto::v1::{self, EntryKind, LotteryStage, Visibility, WaitFor};
use clap::Args;
use ed25519_dalek::SigningKey;

use super::facts::{Facts, recorded};
use super::round::Source;
use super::state::{Proven, has_passed, stage_in_words};
use super::steps;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::timestamp;
use crate::session::{Session, parse_hash, sign_entry};
use crate::{key_file, progress, system};

/// Waits this much past a time on this machine's clock, so that the leader's shows it too.
pub(super) const CLOCK_MARGIN_MS: u64 = 50;
/// The pause between two notes of the close.
const NOTE_PAUSE: Duration = Duration::from_millis(100);
/// Notes that are written even when it is late: the first may carry an older certificate that
/// still counts, the second its own.
const LAST_NOTES: u32 = 2;

/// What `beacon` takes.
#[derive(Debug, Args)]
pub struct Beacon {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The author key of any registered author
    #[arg(long, value_name = "FILE")]
    author_key: PathBuf,
    /// Sign the round with this seed key: a development beacon, not a public one
    #[arg(long, value_name = "FILE")]
    dev_key: Option<PathBuf>,
    /// The round of a public beacon, as JSON: {"round": N, "signature": "HEX"}
    #[arg(long, value_name = "FILE", conflicts_with = "dev_key")]
    from_file: Option<PathBuf>,
    /// Fetch the round from a relay of the public beacon, whose rounds are at URL/public/N
    #[arg(long, value_name = "URL", conflicts_with_all = ["dev_key", "from_file"],
          required_unless_present_any = ["dev_key", "from_file"])]
    url: Option<String>,
    /// Rehearsals: sign the pinned round before its time, as no public beacon would
    #[arg(long, requires = "dev_key")]
    early: bool,
}

/// What `close` takes.
#[derive(Debug, Args)]
pub struct Close {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The author key of any registered author
    #[arg(long, value_name = "FILE")]
    author_key: PathBuf,
}

/// Waits for the close of contributions and has the chain show it.
pub async fn close(global: &Global, args: Close) -> Result<(), Failure> {
    let author = key_file::author(&args.author_key)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read_in(&session, &args.id, LotteryStage::Contributing).await?;
    expect_beacon(&lottery)?;
    let notes = wait_and_show_close(global, &session, &lottery, &author).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    Facts::default()
        .with("lottery_id", args.id.to_string())
        .with("stage", stage_in_words(lottery.state.stage()))
        .with("beacon_round", lottery.state.beacon_round)
        .with("round_time", timestamp(lottery.round_time_ms()?))
        .with("notes_of_the_close", notes)
        .print(global);
    Ok(())
}

async fn wait_and_show_close(
    global: &Global,
    session: &Session,
    lottery: &Proven,
    author: &SigningKey,
) -> Result<u32, Failure> {
    let close = lottery.state.contributions_close_ms;
    wait(global, "seconds to the close", close + CLOCK_MARGIN_MS).await;
    show_close(session, lottery, author).await
}

/// A closed lottery waits for its contributors and for nothing else.
fn expect_beacon(lottery: &Proven) -> Result<(), Failure> {
    if lottery.with_beacon()? {
        return Ok(());
    }
    let id = lottery.id;
    let missing = lottery.awaited()?.into_iter();
    let missing: Vec<&str> = missing.map(|c| c.institution.as_str()).collect();
    Err(Failure::Failed(format!(
        "lottery {id} is closed: no beacon completes its seed, but the last contribution, and those \
         of {} are missing. Each of them runs: cairn lottery contribute {id}; for one that will \
         never come, members run: cairn lottery void propose {id} --absent NAME",
        missing.join(", ")
    )))
}

/// Hands in the pinned round, when its time has come.
pub async fn run(global: &Global, args: Beacon) -> Result<(), Failure> {
    let author = key_file::author(&args.author_key)?;
    let source = Source::open(args.dev_key.as_deref(), args.from_file.as_deref(), args.url)?;
    let session = Session::connect(global).await?;
    let lottery = Proven::read_in(&session, &args.id, LotteryStage::Contributing).await?;
    expect_beacon(&lottery)?;
    source.check(&lottery)?;

    let notes = wait_and_show_close(global, &session, &lottery, &author).await?;
    let round_time = lottery.round_time_ms()?;
    if !args.early {
        wait(global, "seconds to the round", round_time).await;
    }

    let round = lottery.state.beacon_round;
    let signature = source.signature(&lottery, session.timeout()).await?;
    let body = canonical::encode(&v1::BeaconRound {
        lottery_id: args.id.to_bytes(),
        attempt: lottery.state.attempt,
        round,
        signature: signature.to_vec().into(),
    });
    let kind = EntryKind::BeaconRound;
    let status = steps::submit(&session, &args.id, kind, body, &author, &[]).await?;
    let attempt = lottery.state.attempt;
    let drawn = |s: &v1::LotteryState| has_passed(s, attempt, LotteryStage::Drawing);
    let lottery = Proven::wait_until(&session, &args.id, "the round", drawn).await?;
    let facts = recorded(&session, &lottery, &status).await?;
    facts
        .with("beacon", source.label())
        .with("round", round)
        .with("round_time", timestamp(round_time))
        .with("signature", hex::encode(signature))
        .with("notes_of_the_close", notes)
        .with("seed", hex::encode(&lottery.state.seed))
        .print(global);
    Ok(())
}

/// Writes notes until the chain carries a certificate that shows the close in time. Gives how many
/// it took.
async fn show_close(
    session: &Session,
    lottery: &Proven,
    author: &SigningKey,
) -> Result<u32, Failure> {
    let half_margin = lottery.rules()?.beacon_margin_ms / 2;
    let latest = lottery.round_time_ms()?.saturating_sub(half_margin);
    let mut notes = 0;
    loop {
        let now = Proven::read(session, &lottery.id).await?.state;
        if now.attempt > lottery.state.attempt {
            let (id, attempt) = (lottery.id, lottery.state.attempt);
            return Err(Failure::Failed(format!(
                "attempt {attempt} of lottery {id} was voided; see: cairn lottery show {id}"
            )));
        }
        if now.close_certified {
            return Ok(notes);
        }
        if notes >= LAST_NOTES && system::now_ms() > latest {
            return Err(too_late(lottery, latest));
        }
        // The first block after the close is a checkpoint; the next one carries its certificate.
        session
            .submit(&note(session, lottery, author), WaitFor::Certified)
            .await?;
        notes += 1;
        tokio::time::sleep(NOTE_PAUSE * notes.saturating_sub(1).min(10)).await;
    }
}

/// A piece of evidence whose only purpose is to be recorded after the close.
fn note(session: &Session, lottery: &Proven, author: &SigningKey) -> v1::SignedEntry {
    let (id, attempt) = (lottery.id, lottery.state.attempt);
    let close = timestamp(lottery.state.contributions_close_ms);
    // A hash is recorded once, so no two notes may be alike.
    let nonce = hex::encode(system::random::<16>());
    let text =
        format!("contributions to lottery {id}, attempt {attempt}, closed at {close}; {nonce}");
    let hash = hash::plain(text.as_bytes());
    let body = canonical::encode(&v1::Evidence {
        hash: hash.to_bytes(),
        media_type: "text/plain".to_owned(),
        title: format!("contributions to lottery {id} closed"),
        custodian: String::new(),
    });
    let (kind, visibility) = (EntryKind::Evidence, Visibility::Public);
    let subject = hash.to_bytes();
    sign_entry(&session.chain, kind, visibility, subject, body, author, &[])
}

fn too_late(lottery: &Proven, latest: u64) -> Failure {
    let (id, round) = (lottery.id, lottery.state.beacon_round);
    let latest = timestamp(latest);
    Failure::Failed(format!(
        "no certificate on the chain shows that contributions to lottery {id} were closed before \
         {latest}, in time before round {round}: this attempt cannot be drawn. Members end it, when \
         the round's time has passed, with: cairn lottery void propose {id}. Start `cairn lottery \
         close` before the next attempt's contributions close; the next lottery may need a longer \
         beacon_margin_ms"
    ))
}

/// Waits until `at_ms` on this machine's clock.
pub(super) async fn wait(global: &Global, what: &'static str, at_ms: u64) {
    let left = || Duration::from_millis(at_ms.saturating_sub(system::now_ms()));
    let total = left().as_secs() + 1;
    if left().is_zero() {
        return;
    }
    let bar = progress::bar(global, total, what);
    while !left().is_zero() {
        tokio::time::sleep(left().min(Duration::from_secs(1))).await;
        bar.set_position(total - left().as_secs().min(total));
    }
    bar.finish();
}
