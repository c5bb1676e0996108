//! `cairn lottery beacon`: the round that completes the seed.
//!
//! What holds here: the round is the one that the close of contributions pinned, and it is handed
//! in only once the chain itself shows that the close was public before the round could be known.
//! The chain shows that with the certificate of a checkpoint stamped after the close, which a later
//! block carries; where nobody else writes, this command writes notes until it is so. What stays
//! out: fetching a public beacon's round. A file brings it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_ledger::canonical;
use cairn_ledger::hash::{self, Hash};
use cairn_ledger::lottery::beacon;
use cairn_ledger::lottery::bls::SeedSecret;
use cairn_proto::v1::{self, EntryKind, LotteryStage, Visibility, WaitFor};
use clap::Args;
use ed25519_dalek::SigningKey;
use serde::Deserialize;

use super::facts::{Facts, recorded};
use super::state::{Proven, has_passed, stage_in_words};
use super::steps;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::timestamp;
use crate::session::{Session, parse_hash, sign_entry};
use crate::{key_file, progress, system};

/// What everything that comes of a `--dev-key` is labelled with.
const DEVELOPMENT: &str = "development beacon, not a public one";
/// What a round from a file is labelled with.
const HANDED_IN: &str = "handed in from a file, verified under the beacon's key in the rules";
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
    #[arg(long, value_name = "FILE", required_unless_present = "from_file")]
    dev_key: Option<PathBuf>,
    /// The round of a public beacon, as JSON: {"round": N, "signature": "HEX"}
    #[arg(long, value_name = "FILE", conflicts_with = "dev_key")]
    from_file: Option<PathBuf>,
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
    let source = Source::open(&args)?;
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
    let signature = source.signature(round);
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

/// Where the round comes from.
enum Source {
    Development(SeedSecret),
    File { round: u64, signature: [u8; 48] },
}

impl Source {
    fn open(args: &Beacon) -> Result<Source, Failure> {
        match (&args.dev_key, &args.from_file) {
            (Some(path), _) => key_file::seed(path).map(Source::Development),
            (None, Some(path)) => read_round(path),
            (None, None) => Err(Failure::Usage("give --dev-key or --from-file".to_owned())),
        }
    }

    /// Whether this is the lottery's beacon, before anybody waits for it.
    fn check(&self, lottery: &Proven) -> Result<(), Failure> {
        let (id, pinned) = (lottery.id, lottery.state.beacon_round);
        let chain = lottery.beacon()?;
        match self {
            Source::Development(secret) => {
                if secret.public_key().as_slice() == chain.public_key {
                    return Ok(());
                }
                Err(Failure::Failed(format!(
                    "the rules of lottery {id} name another beacon than this --dev-key; a public \
                     beacon's round is handed in with --from-file"
                )))
            }
            Source::File { round, .. } if *round != pinned => Err(Failure::Failed(format!(
                "this file has round {round}, and lottery {id} pinned round {pinned}"
            ))),
            Source::File { round, signature } => beacon::verify_round(chain, *round, signature)
                .map(drop)
                .map_err(|error| Failure::Failed(error.to_string())),
        }
    }

    fn signature(&self, round: u64) -> [u8; 48] {
        match self {
            Source::Development(secret) => beacon::sign_round(secret, round),
            Source::File { signature, .. } => *signature,
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Source::Development(_) => DEVELOPMENT,
            Source::File { .. } => HANDED_IN,
        }
    }
}

/// A round as drand's HTTP relays give it.
#[derive(Debug, Deserialize)]
struct RoundFile {
    round: u64,
    signature: String,
    /// Redundant; if it is there it must be right.
    randomness: Option<String>,
}

fn read_round(path: &Path) -> Result<Source, Failure> {
    let wrong =
        |what: &dyn std::fmt::Display| Failure::Failed(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    parse_round(&text).map_err(|what| wrong(&what))
}

fn parse_round(text: &str) -> Result<Source, String> {
    let file: RoundFile = serde_json::from_str(text)
        .map_err(|e| format!("expected {{\"round\": N, \"signature\": \"HEX\"}}: {e}"))?;
    let mut signature = [0; 48];
    hex::decode_to_slice(&file.signature, &mut signature)
        .map_err(|_| "the signature is not 96 hex digits, a compressed point in G1")?;
    let randomness = hex::encode(beacon::randomness(&signature));
    if file.randomness.is_some_and(|given| given != randomness) {
        return Err("the randomness is not the SHA-256 of the signature".to_owned());
    }
    let round = file.round;
    Ok(Source::File { round, signature })
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn round(json: &str) -> Result<(u64, [u8; 48]), String> {
        match parse_round(json)? {
            Source::File { round, signature } => Ok((round, signature)),
            Source::Development(_) => Err("a key".to_owned()),
        }
    }

    #[test]
    fn a_round_is_read_as_relays_give_it() {
        let signature = [7; 48];
        let hex = hex::encode(signature);
        let plain = format!(r#"{{"round": 9, "signature": "{hex}"}}"#);
        assert_eq!(round(&plain), Ok((9, signature)));
        let randomness = hex::encode(beacon::randomness(&signature));
        let full = |randomness: &str| {
            format!(r#"{{"round": 9, "signature": "{hex}", "randomness": "{randomness}", "x": 1}}"#)
        };
        assert_eq!(round(&full(&randomness)), Ok((9, signature)));
        let wrong = round(&full(&"00".repeat(32))).unwrap_err();
        assert!(wrong.contains("randomness"), "{wrong}");
    }

    #[test]
    fn the_uncompressed_form_and_other_files_are_refused() {
        let long = format!(r#"{{"round": 9, "signature": "{}"}}"#, "00".repeat(96));
        assert!(round(&long).unwrap_err().contains("96 hex digits"));
        assert!(round("{}").unwrap_err().contains("missing field"));
        assert!(round("round 9").is_err());
    }
}
