//! `cairn lottery present`: what a winner shows at the counter, as a QR code that changes with time.
//!
//! What holds here: the holder key signs this shop and this moment, so that a photograph of the
//! screen is worth nothing a minute later nor at another shop, and the shop cannot redeem alone.
//! Where the attempt is known, from the receipt's proof or by --attempt, no node is asked. What
//! stays out: whether the row won; the shop and the ledger decide that.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_ledger::entry;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::holder::Presented;
use cairn_ledger::lottery::redemption_code::RedemptionCode;
use cairn_ledger::lottery::roster::identity_hash;
use cairn_ledger::lottery::rules::SIGNATURE_LIFETIME_MS;
use cairn_proto::v1::LotteryStage;
use clap::Args;
use ed25519_dalek::SigningKey;
use serde::Serialize;

use super::applicant;
use super::check::other_chain;
use super::receipt_file::ReceiptFile;
use super::state::Proven;
use crate::cli::{Format, Global};
use crate::exit::Failure;
use crate::output::{self, timestamp};
use crate::private_file;
use crate::qr::Qr;
use crate::session::{Session, parse_hash, pinned_chain_id, read_genesis};
use crate::{key_file, system};

/// What `present` takes.
#[derive(Debug, Args)]
pub struct Present {
    /// The winner's receipt
    #[arg(value_name = "RECEIPT")]
    receipt: PathBuf,
    /// The shop's author key, 64 hex digits: the shop shows it at the counter
    #[arg(long, value_name = "HEX", value_parser = parse_hash)]
    shop: Hash,
    /// Your own holder key, as `cairn key new --purpose author` made it; without, the one in the
    /// receipt, which the office made
    #[arg(long, value_name = "FILE")]
    holder_key: Option<PathBuf>,
    /// The attempt that was certified; without, it is taken from the receipt's proof or a node
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Show a fresh code every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=60))]
    every: Option<u64>,
    /// Write the QR code as an image too
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Write the QR code as a drawing too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Rehearsals: as if shown at this time, milliseconds since 1970
    #[arg(long, value_name = "MS", conflicts_with = "every")]
    signed_at_ms: Option<u64>,
}

/// Shows a code, or one after the other.
pub async fn run(global: &Global, args: Present) -> Result<(), Failure> {
    let file = ReceiptFile::read(&args.receipt)?;
    let holder = holder(&args, &file)?;
    let attempt = attempt(global, &args, &file).await?;
    loop {
        let signed_at_ms = args.signed_at_ms.unwrap_or_else(system::now_ms);
        let shown = show(&file, &holder, &args.shop, attempt, signed_at_ms);
        let qr = Qr::of(&shown.code);
        let qr = qr.ok_or_else(|| Failure::Failed("too long for a QR code".to_owned()))?;
        write(args.png.as_deref(), || qr.png())?;
        write(args.svg.as_deref(), || qr.svg().into_bytes())?;
        print(global, &args, &shown, &qr);
        let Some(seconds) = args.every else {
            return Ok(());
        };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// The secret that belongs to the key in the row.
fn holder(args: &Present, file: &ReceiptFile) -> Result<SigningKey, Failure> {
    let (path, receipt) = (args.receipt.display(), &file.receipt);
    if receipt.holder_key.is_empty() {
        return Err(Failure::Failed(format!(
            "{path} has no holder key: the row was registered without one, and nothing can be \
             redeemed for it"
        )));
    }
    let key = match (&args.holder_key, receipt.holder_secret) {
        (Some(own), _) => key_file::author(own)?,
        (None, Some(secret)) => SigningKey::from_bytes(&secret),
        (None, None) => {
            return Err(Failure::Usage(format!(
                "{path} has no secret: you brought your own key; pass its file with --holder-key"
            )));
        }
    };
    if key.verifying_key().as_bytes().as_slice() != receipt.holder_key {
        return Err(Failure::Failed(format!(
            "this is not the holder key of {path}, which is {}; pass the file of that key with \
             --holder-key",
            hex::encode(&receipt.holder_key)
        )));
    }
    Ok(key)
}

/// The attempt that the signature names. A wrong one makes the code useless and harms nobody.
async fn attempt(global: &Global, args: &Present, file: &ReceiptFile) -> Result<u32, Failure> {
    if entry::public_key(&args.shop.0).is_none() {
        return Err(Failure::Usage(
            "--shop is no author key; the shop shows it with: cairn key show shop.key".to_owned(),
        ));
    }
    if let Some(attempt) = args.attempt {
        return Ok(attempt);
    }
    if let Some(attempt) = certified_attempt(global, file)? {
        return Ok(attempt);
    }
    let pinned = pinned_chain_id(global)?;
    if pinned != file.chain_id {
        return Err(other_chain(&file.chain_id, &pinned));
    }
    let session = Session::connect(global).await?;
    let stage = LotteryStage::Certified;
    let lottery = Proven::read_in(&session, &file.lottery_id, stage).await?;
    Ok(lottery.state.attempt)
}

/// The attempt that the receipt's proof shows, where it shows the certificate: that is final.
fn certified_attempt(global: &Global, file: &ReceiptFile) -> Result<Option<u32>, Failure> {
    let (Some(proof), Some(genesis)) = (&file.proof, &global.genesis) else {
        return Ok(None);
    };
    let chain = read_genesis(genesis)?;
    if chain.id != file.chain_id {
        return Err(other_chain(&file.chain_id, &chain.id));
    }
    let (checked, _) = applicant::verify(&chain, proof, &file.lottery_id, &file.receipt)?;
    let certified = checked.lottery.stage() == LotteryStage::Certified;
    Ok(certified.then_some(checked.lottery.attempt))
}

/// A code as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    code: String,
    lottery_id: String,
    attempt: u32,
    serial: u64,
    shop: String,
    signed_at_ms: u64,
    /// Until when it is taken.
    shown_until: String,
}

fn show(
    file: &ReceiptFile,
    holder: &SigningKey,
    shop: &Hash,
    attempt: u32,
    signed_at_ms: u64,
) -> Shown {
    let receipt = &file.receipt;
    let presented = Presented {
        chain_id: &file.chain_id,
        lottery_id: &file.lottery_id,
        attempt,
        serial: receipt.serial,
        shop: shop.as_bytes(),
        signed_at_ms,
    };
    let code = RedemptionCode {
        serial: receipt.serial,
        signed_at_ms,
        identity_hash: identity_hash(&receipt.salt, &receipt.identity),
        holder_key: holder.verifying_key().to_bytes(),
        signature: presented.sign(holder),
    };
    Shown {
        code: code.to_text(),
        lottery_id: file.lottery_id.to_string(),
        attempt,
        serial: receipt.serial,
        shop: shop.to_string(),
        signed_at_ms,
        shown_until: timestamp(signed_at_ms.saturating_add(SIGNATURE_LIFETIME_MS)),
    }
}

fn print(global: &Global, args: &Present, shown: &Shown, qr: &Qr) {
    let terminal = std::io::stdout().is_terminal();
    if args.every.is_some() && terminal && global.output == Format::Table {
        // The old code makes room for the fresh one.
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(b"\x1b[2J\x1b[H");
    }
    output::event(global, shown, |shown| {
        let Shown {
            code,
            serial,
            shown_until,
            ..
        } = shown;
        let qr = qr.terminal(terminal);
        format!("{qr}\n{code}\nserial {serial}; to be scanned before {shown_until}")
    });
}

fn write(path: Option<&Path>, bytes: impl FnOnce() -> Vec<u8>) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let written = private_file::write_lazily(path, |file| file.write_all(&bytes()));
    written.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::receipts::Receipt;
    use super::*;

    #[test]
    fn a_code_is_signed_for_one_shop_and_one_moment() {
        let holder = SigningKey::from_bytes(&[7; 32]);
        let file = ReceiptFile {
            chain_id: Hash([1; 32]),
            lottery_id: Hash([2; 32]),
            receipt: Receipt {
                serial: 17,
                identity: b"id".to_vec(),
                salt: [3; 32],
                holder_key: holder.verifying_key().as_bytes().to_vec(),
                holder_secret: Some([7; 32]),
            },
            proof: None,
        };
        let shop = Hash([4; 32]);
        let shown = show(&file, &holder, &shop, 1, 1_000);
        let code = RedemptionCode::from_text(&shown.code).unwrap();
        assert_eq!((code.serial, code.signed_at_ms), (17, 1_000));
        let presented = Presented {
            chain_id: &file.chain_id,
            lottery_id: &file.lottery_id,
            attempt: 1,
            serial: 17,
            shop: &shop.0,
            signed_at_ms: 1_000,
        };
        assert!(presented.is_signed_by(&code.holder_key, &code.signature));
        for other in [
            Presented {
                shop: &[5; 32],
                ..presented
            },
            Presented {
                attempt: 2,
                ..presented
            },
            Presented {
                signed_at_ms: 1_001,
                ..presented
            },
        ] {
            assert!(!other.is_signed_by(&code.holder_key, &code.signature));
        }
        assert_ne!(shown.code, show(&file, &holder, &shop, 1, 1_001).code);
    }
}
