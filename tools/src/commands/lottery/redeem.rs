//! `cairn lottery redeem`: the point of sale takes a winner's code, and records the redemption.
//!
//! What holds here: everything that the ledger's rule looks at is verified here first, on a proof
//! that a node gave and nobody has to trust, so that a bad code costs no entry and is told in
//! words; goods are handed over only once the redemption is in the certified map under this shop's
//! key. What stays out: who stands at the counter. The ledger does not know faces.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::check::Checked;
use cairn_ledger::lottery::redemption_code::RedemptionCode;
use cairn_ledger::lottery::{PLACE_NAMESPACE, place_key};
use cairn_ledger::{apply, canonical, verify};
use cairn_proto::v1::{self, EntryKind, PlaceStatus, Role};
use clap::{ArgGroup, Args};
use ed25519_dalek::SigningKey;
use serde::Serialize;

use super::applicant;
use super::counter::{Counter, Refusal};
use super::steps::submit;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count};
use crate::session::{Patience, Session, parse_hash, refused};
use crate::{key_file, system};

/// What `redeem` takes.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("shown").required(true))]
pub struct Redeem {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The point of sale's author key
    #[arg(long, value_name = "FILE")]
    shop_key: PathBuf,
    /// The text of the QR code that the winner shows
    #[arg(long, value_name = "TEXT", group = "shown")]
    code: Option<String>,
    /// Codes from a scanner, one a line, until the end of the file; - is the standard input. A code
    /// that is refused does not end the run
    #[arg(long, value_name = "FILE", group = "shown")]
    scan: Option<PathBuf>,
}

/// Takes one code, or one after the other.
pub async fn run(global: &Global, args: Redeem) -> Result<(), Failure> {
    let shop = key_file::author(&args.shop_key)?;
    let session = Session::connect(global).await?;
    expect_point_of_sale(&session, &args.shop_key, &shop).await?;
    let till = Till {
        counter: Counter {
            chain_id: session.chain.id,
            lottery_id: args.id,
            shop: shop.verifying_key().to_bytes(),
        },
        session,
        shop,
    };
    match (&args.code, &args.scan) {
        (Some(code), _) => {
            let done = till.take(code).await?;
            output::event(global, &Taken::from(done), Taken::in_words);
            Ok(())
        }
        (None, Some(path)) => till.scan(global, path).await,
        (None, None) => Err(Failure::Usage("pass --code or --scan".to_owned())),
    }
}

/// The ledger would refuse every entry of another key, and the shop should hear it before the queue.
async fn expect_point_of_sale(
    session: &Session,
    file: &Path,
    shop: &SigningKey,
) -> Result<(), Failure> {
    let key = shop.verifying_key().to_bytes();
    let value = session
        .map_value(apply::AUTHOR_NAMESPACE, &key)
        .await?
        .value;
    let author = value.map(|bytes| canonical::decode::<v1::Author>(&bytes));
    let author = author.transpose().map_err(|error| {
        Failure::InvalidProof(format!("what the map holds of this author: {error}"))
    })?;
    if author.is_some_and(|author| author.role() == Role::PointOfSale) {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} is the key {}, which is not registered as a point of sale on this ledger \
         (ROLE_NOT_ALLOWED); the genesis names them",
        file.display(),
        hex::encode(key)
    )))
}

/// A shop that is open.
struct Till {
    session: Session,
    shop: SigningKey,
    counter: Counter,
}

/// A redemption that is certified.
struct Done {
    serial: u64,
    rank: u64,
    entry_id: String,
    leaf_index: u64,
    height: u64,
}

impl Till {
    async fn scan(&self, global: &Global, path: &Path) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::Failed(format!("{}: {error}", path.display()));
        let lines: Box<dyn Iterator<Item = std::io::Result<String>>> = match path.to_str() {
            Some("-") => Box::new(std::io::stdin().lines()),
            _ => {
                let file = std::fs::File::open(path).map_err(failed)?;
                Box::new(std::io::BufReader::new(file).lines())
            }
        };
        for line in lines {
            let line = line.map_err(failed)?;
            if line.is_empty() {
                continue;
            }
            let taken = match self.take(&line).await {
                Ok(done) => Taken::from(done),
                Err(failure) => Taken::refused(&line, &failure),
            };
            output::event(global, &taken, Taken::in_words);
        }
        Ok(())
    }

    /// From a text to a certified redemption.
    async fn take(&self, text: &str) -> Result<Done, Failure> {
        let (code, proof, checked) = self.verify(text).await?;
        let rank = proof.rank;
        let body = canonical::encode(&redemption(&code, proof, &checked));
        let (id, kind) = (&self.counter.lottery_id, EntryKind::Redemption);
        let submitted = submit(&self.session, id, kind, body, &self.shop, &[]).await;
        let status = submitted.map_err(|failure| failure.during("do not hand over the goods"))?;
        self.certified(&code, &checked, &status).await?;
        Ok(Done {
            serial: code.serial,
            rank,
            entry_id: hex::encode(&status.entry_id),
            leaf_index: status.leaf_index,
            height: status.height,
        })
    }

    async fn verify(
        &self,
        text: &str,
    ) -> Result<(RedemptionCode, v1::ApplicantProof, Checked), Failure> {
        let code = self.counter.read(text, system::now_ms())?;
        let (session, counter) = (&self.session, &self.counter);
        let proof = match applicant::fetch(session, &counter.lottery_id, code.serial).await {
            Err(Failure::NotFound(message)) => {
                return Err(Failure::from(Refusal::NoSuchRow(message)));
            }
            fetched => fetched?,
        };
        let verified = verify::applicant(&session.chain, &proof, None);
        let (checked, _) = verified.map_err(refused)?;
        counter.check(&code, &checked, system::now_ms())?;
        Ok((code, proof, checked))
    }

    /// Waits until the certified map says that this shop redeemed the place.
    async fn certified(
        &self,
        code: &RedemptionCode,
        checked: &Checked,
        status: &v1::EntryStatus,
    ) -> Result<(), Failure> {
        let key = place_key(
            &self.counter.lottery_id,
            checked.lottery.attempt,
            code.serial,
        );
        let mut patience = Patience::new(self.session.timeout());
        loop {
            let value = self.session.map_value(PLACE_NAMESPACE, &key).await?.value;
            let place = value.map(|bytes| canonical::decode::<v1::PlaceState>(&bytes));
            let place = place.transpose().map_err(|error| {
                Failure::InvalidProof(format!("what became of the place: {error}"))
            })?;
            let place = place.unwrap_or_default();
            if place.status() == PlaceStatus::Redeemed {
                let ours = place.shop == self.counter.shop.as_slice()
                    && place.leaf_index == status.leaf_index;
                return match ours {
                    true => Ok(()),
                    false => Err(Failure::from(self.counter.twice(&place, code))),
                };
            }
            if !patience.pause().await {
                return Err(Failure::NotFound(format!(
                    "do not hand over the goods yet: the redemption of serial {} is recorded at \
                     leaf {} and not certified so far; scan the code again in a moment",
                    code.serial, status.leaf_index
                )));
            }
        }
    }
}

/// The entry's body: the row as the node proved it, and the holder's word.
fn redemption(code: &RedemptionCode, proof: v1::ApplicantProof, at: &Checked) -> v1::Redemption {
    v1::Redemption {
        lottery_id: proof.lottery_id,
        attempt: at.lottery.attempt,
        serial: code.serial,
        identity_hash: code.identity_hash.to_bytes(),
        holder_key: code.holder_key.to_vec().into(),
        tag: proof.tag,
        tier: proof.tier,
        weight: proof.weight,
        path: proof.roster_inclusion.unwrap_or_default().path,
        signed_at_ms: code.signed_at_ms,
        holder_signature: code.signature.to_vec().into(),
    }
}

/// What became of a code, as it is printed.
#[derive(Debug, Serialize)]
struct Taken {
    redeemed: bool,
    message: String,
    /// Why not, by its stable name.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaf_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
}

impl Taken {
    fn refused(text: &str, failure: &Failure) -> Taken {
        let message = failure.to_string();
        Taken {
            redeemed: false,
            reason: Some(reason(&message).unwrap_or(failure.reason()).to_owned()),
            message,
            serial: RedemptionCode::from_text(text).ok().map(|code| code.serial),
            rank: None,
            entry_id: None,
            leaf_index: None,
            height: None,
        }
    }

    fn in_words(&self) -> String {
        self.message.clone()
    }
}

/// The stable name that stands in a refusal's sentence.
fn reason(message: &str) -> Option<&str> {
    let inside = |c: char| c.is_ascii_uppercase() || c == '_';
    let mut words = message.split(|c| !inside(c));
    words.find(|word| word.contains('_'))
}

impl From<Done> for Taken {
    fn from(done: Done) -> Taken {
        let (serial, rank) = (done.serial, count(done.rank + 1));
        Taken {
            redeemed: true,
            message: format!(
                "hand over the goods: serial {serial}, rank {rank}; the redemption is certified, at \
                 leaf {}",
                done.leaf_index
            ),
            reason: None,
            serial: Some(serial),
            rank: Some(done.rank),
            entry_id: Some(done.entry_id),
            leaf_index: Some(done.leaf_index),
            height: Some(done.height),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stable_reason_is_found_in_either_refusal() {
        let refusal = Refusal::Expired(90);
        let here = Taken::refused("V50", &Failure::from(refusal));
        assert_eq!(here.reason.as_deref(), Some("REDEMPTION_CODE_EXPIRED"));
        assert!(!here.redeemed && here.serial.is_none());
        let ledger = "entry 0a was refused by the rules: REDEMPTION_TWICE, in block 7";
        assert_eq!(reason(ledger), Some("REDEMPTION_TWICE"));
        let lost = Failure::NotFound("no node answers".to_owned());
        assert_eq!(
            Taken::refused("", &lost).reason.as_deref(),
            Some("NOT_FOUND")
        );
    }
}
