//! What a node with damaged files may answer: what is true, or an error that has a name.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use cairn_ledger::canonical;
use cairn_ledger::checkpoint;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::{self, Hash};
use cairn_ledger::verify;
use cairn_proto::v1;
use tokio::time::sleep;
use tonic::{Code, Status};

use super::client::Ledger;
use super::oracle::{self, Told};

/// A node whose newest block has its certificate serves at once.
const VIEW: Duration = Duration::from_millis(400);
/// How often a node may move on while it is asked: nobody writes meanwhile.
const MOVES: u32 = 5;
const LOOK: Duration = Duration::from_millis(20);

/// What is true.
#[derive(Debug)]
pub struct Truth {
    pub chain: Chain,
    pub told: Vec<Told>,
    pub headers: Vec<Hash>,
}

/// How a node took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It said why and ended, before it served.
    Refused,
    /// It ended with an error, or stopped taking part.
    Stopped,
    /// It serves, and has nothing certified to answer from.
    NoView,
    /// Some answers were errors, all others true.
    Errors,
    /// All answers were true, at an earlier block than before.
    Earlier,
    /// All answers were true.
    Works,
    /// A false answer, an absence that is none, a panic, or it hangs.
    Wrong,
}

impl Outcome {
    pub const ALL: [(Outcome, &'static str); 7] = [
        (Outcome::Refused, "refused"),
        (Outcome::Stopped, "stopped"),
        (Outcome::NoView, "no view"),
        (Outcome::Errors, "errors"),
        (Outcome::Earlier, "earlier"),
        (Outcome::Works, "works"),
        (Outcome::Wrong, "WRONG"),
    ];
}

/// Asks a node everything. `Err`: an answer was wrong.
pub async fn examine(ledger: &mut Ledger, truth: &Truth) -> anyhow::Result<Outcome> {
    let mut at = newest(ledger).await;
    for _ in 0..MOVES {
        let looked = look(ledger, truth).await;
        // Answers from before and after a new certificate do not fit together; that is no lie.
        let now = newest(ledger).await;
        if looked.is_ok() || now == at {
            return looked;
        }
        at = now;
    }
    look(ledger, truth).await
}

/// The newest certified header, where the node shows one.
async fn newest(ledger: &mut Ledger) -> Option<Vec<u8>> {
    let request = v1::GetCheckpointRequest::default();
    let answer = ledger.get_checkpoint(request).await.ok()?;
    Some(answer.into_inner().checkpoint?.header.to_vec())
}

async fn look(ledger: &mut Ledger, truth: &Truth) -> anyhow::Result<Outcome> {
    let began = Instant::now();
    let newest = loop {
        let request = v1::GetCheckpointRequest::default();
        match ledger.get_checkpoint(request).await {
            Ok(answer) => break answer.into_inner().checkpoint.context("no checkpoint")?,
            Err(status) if status.code() == Code::Unavailable => {
                if began.elapsed() > VIEW {
                    return Ok(Outcome::NoView);
                }
                sleep(LOOK).await;
            }
            Err(status) => return named(&status).map(|()| Outcome::Errors),
        }
    };
    let chain = &truth.chain;
    let newest = checkpoint::certify(&chain.id, &chain.members, &newest)?;
    let at = newest.header().height;
    let expected = usize::try_from(at)
        .ok()
        .and_then(|at| truth.headers.get(at));
    ensure!(
        expected == Some(&newest.header_hash()),
        "another block {at} is certified"
    );

    let mut errors = false;
    let covered = truth.told.iter().filter(|told| told.height <= at);
    for told in covered {
        errors |= !receipt(ledger, truth, told).await?;
        errors |= !state(ledger, truth, told).await?;
        errors |= !status(ledger, told).await?;
    }
    errors |= !absence(ledger, truth).await?;
    match oracle::headers(ledger, chain).await {
        Ok(headers) => ensure!(
            headers.len() > usize::try_from(at)? && truth.headers.starts_with(&headers),
            "{} blocks are shown, not those that there are",
            headers.len()
        ),
        Err(error) => match error.downcast_ref::<Status>() {
            Some(status) => {
                named(status).context("blocks")?;
                errors = true;
            }
            None => return Err(error),
        },
    }
    let size = usize::try_from(newest.header().tree_size)?;
    match oracle::list(ledger).await {
        Ok(listed) => ensure!(
            listed.len() == size && oracle::is_the_log(&listed, newest.log_root()),
            "the listed entries are not the log"
        ),
        Err(error) => {
            let status = error.downcast_ref::<Status>();
            named(status.context("listing")?).context("listing")?;
            errors = true;
        }
    }
    Ok(if errors {
        Outcome::Errors
    } else if usize::try_from(at)? + 1 < truth.headers.len() {
        Outcome::Earlier
    } else {
        Outcome::Works
    })
}

/// An error that a damaged node may answer: anything but "there is no such thing".
fn named(status: &Status) -> anyhow::Result<()> {
    match status.code() {
        Code::NotFound => bail!("what is there was said not to be: {}", status.message()),
        Code::Internal | Code::Unavailable | Code::DataLoss => Ok(()),
        code => bail!("{code:?}: {}", status.message()),
    }
}

async fn receipt(ledger: &mut Ledger, truth: &Truth, told: &Told) -> anyhow::Result<bool> {
    let key = v1::get_receipt_request::Key::EntryId(told.id.to_bytes());
    let request = v1::GetReceiptRequest { key: Some(key) };
    let answer = match ledger.get_receipt(request).await {
        Ok(answer) => answer.into_inner().receipt.context("no receipt")?,
        Err(status) => return named(&status).context("receipt").map(|()| false),
    };
    let found = verify::receipt(&truth.chain, &answer, None).context("receipt")?;
    ensure!(
        found.id == told.id && found.leaf_index == told.leaf_index,
        "the receipt is of another entry than {told:?}"
    );
    Ok(true)
}

async fn state(ledger: &mut Ledger, truth: &Truth, told: &Told) -> anyhow::Result<bool> {
    let request = v1::GetMapProofRequest {
        namespace: "evidence".to_owned(),
        key: told.document.to_bytes(),
    };
    let answer = match ledger.get_map_proof(request).await {
        Ok(answer) => answer.into_inner().receipt.context("no map receipt")?,
        Err(status) => return named(&status).context("map proof").map(|()| false),
    };
    let found = verify::map_receipt(&truth.chain, &answer).context("map proof")?;
    let value = found
        .value
        .with_context(|| format!("proven absent: {told:?}"))?;
    let value: v1::EvidenceState = canonical::decode(&value)?;
    ensure!(
        value.leaf_index == told.leaf_index,
        "the map has another state of {told:?}"
    );
    Ok(true)
}

async fn status(ledger: &mut Ledger, told: &Told) -> anyhow::Result<bool> {
    let entry_id = told.id.to_bytes();
    let request = v1::GetEntryStatusRequest { entry_id };
    let status = match ledger.get_entry_status(request).await {
        Ok(answer) => answer.into_inner().status.unwrap_or_default(),
        Err(status) => return named(&status).context("status").map(|()| false),
    };
    ensure!(
        status.state() == v1::EntryState::Certified
            && (status.height, status.leaf_index) == (told.height, told.leaf_index),
        "{told:?} has the status {status:?}"
    );
    Ok(true)
}

async fn absence(ledger: &mut Ledger, truth: &Truth) -> anyhow::Result<bool> {
    let request = v1::GetMapProofRequest {
        namespace: "evidence".to_owned(),
        key: hash::plain(b"never recorded").to_bytes(),
    };
    let answer = match ledger.get_map_proof(request).await {
        Ok(answer) => answer.into_inner().receipt.context("no map receipt")?,
        Err(status) => return named(&status).context("absence").map(|()| false),
    };
    let found = verify::map_receipt(&truth.chain, &answer).context("absence")?;
    ensure!(found.value.is_none(), "what was never recorded has a state");
    Ok(true)
}
