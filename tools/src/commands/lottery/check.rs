//! `cairn lottery check`: one applicant's standing, proven and in plain words.
//!
//! What holds here: the salt opens the row's commitment, so the row is this person's; the row is
//! in the frozen roster; ticket, cut-off and rank agree, all under one certified checkpoint.

use std::path::PathBuf;

use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::check::{Checked, Opening, Verdict};
use cairn_ledger::verify;
use cairn_proto::v1;
use clap::Args;
use serde::Serialize;

use super::receipts::{self, Receipt};
use super::state::stage_in_words;
use crate::certificate::Certificate;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line};
use crate::session::{Session, lottery_client, parse_hash, refused};

/// What `check` takes.
#[derive(Debug, Args)]
pub struct Check {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
    /// The receipts that `cairn lottery register` wrote
    #[arg(long, value_name = "FILE")]
    receipts: PathBuf,
    /// Which applicant
    #[arg(long, value_name = "N")]
    serial: u64,
}

/// Proves and explains where an applicant stands.
pub async fn run(global: &Global, args: Check) -> Result<(), Failure> {
    let receipt = find(&args)?;
    let session = Session::connect(global).await?;
    let request = v1::GetApplicantProofRequest {
        lottery_id: args.id.to_bytes(),
        serial: args.serial,
    };
    let answer = session.retry("asking for the applicant's proof", async |channel| {
        let mut client = lottery_client(channel);
        client.get_applicant_proof(request.clone()).await
    });
    let proof = answer.await?.into_inner().proof.unwrap_or_default();
    if proof.lottery_id != args.id.as_bytes().as_slice() || proof.serial != args.serial {
        let node = session.node();
        let message = format!("{node} proved another row than serial {}", args.serial);
        return Err(Failure::InvalidProof(message));
    }
    let opening = Opening {
        salt: &receipt.salt,
        identity: &receipt.identity,
        holder_key: &receipt.holder_key,
    };
    let (checked, checkpoint) =
        verify::applicant(&session.chain, &proof, Some(&opening)).map_err(refused)?;
    let standing = Standing::of(&args, &checked, Certificate::of(&checkpoint));
    output::print(global, &standing, |standing| standing.table(&checked));
    Ok(())
}

fn find(args: &Check) -> Result<Receipt, Failure> {
    let found = receipts::find(&args.receipts, args.serial)
        .map_err(|error| Failure::Failed(error.to_string()))?;
    found.ok_or_else(|| {
        let (path, serial) = (args.receipts.display(), args.serial);
        Failure::NotFound(format!("{path} has no serial {serial}"))
    })
}

/// A verdict as it is printed.
#[derive(Debug, Serialize)]
struct Standing {
    verdict: &'static str,
    lottery_id: String,
    serial: u64,
    tier: u32,
    /// Within the tier, from 0, as on the ledger; words count from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<u64>,
    /// From 0 too.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<bool>,
    /// On the waiting list, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<u64>,
    stage: &'static str,
    certificate: Certificate,
}

impl Standing {
    fn of(args: &Check, checked: &Checked, certificate: Certificate) -> Standing {
        let base = Standing {
            verdict: "not drawn yet",
            lottery_id: args.id.to_string(),
            serial: args.serial,
            tier: checked.row.tier,
            rank: None,
            batch: None,
            published: None,
            place: None,
            stage: stage_in_words(checked.lottery.stage()),
            certificate,
        };
        match checked.verdict {
            Verdict::NotDrawnYet { .. } => base,
            Verdict::Won {
                rank,
                batch,
                published,
            } => Standing {
                verdict: "won",
                rank: Some(rank),
                batch: Some(batch),
                published: Some(published),
                ..base
            },
            Verdict::Voided => Standing {
                verdict: "voided",
                ..base
            },
            Verdict::Promoted { rank } => Standing {
                verdict: "promoted",
                rank: Some(rank),
                ..base
            },
            Verdict::Waiting { rank, place } => Standing {
                verdict: "waiting",
                rank: Some(rank),
                place: Some(place),
                ..base
            },
        }
    }

    fn table(&self, checked: &Checked) -> Vec<(String, String)> {
        let rows = count(checked.lottery.rows);
        let height = count(self.certificate.height);
        let mut lines = vec![
            line("verdict", self.in_words(checked)),
            line("lottery", &self.lottery_id),
            line("serial", self.serial),
            line(
                "proven",
                format!(
                    "the salt opens this row, and the row is in the roster of {rows} rows\n\
                     the ticket was computed again from the certified seed\n\
                     all of it under the certified map of block {height}"
                ),
            ),
            line(
                "not proven",
                "that the roster names the people it should; that everybody else's rank is right\n\
                 (cairn lottery recompute shows that)",
            ),
        ];
        lines.extend(self.certificate.summary());
        lines
    }

    fn in_words(&self, checked: &Checked) -> String {
        let from_one = |from_zero: Option<u64>| count(from_zero.unwrap_or(0) + 1);
        let tier = usize::try_from(self.tier).ok();
        let rules = checked.lottery.rules.as_ref();
        let tier = tier.and_then(|tier| rules?.tiers.get(tier));
        let tier = tier.map_or("", |tier| &tier.name);
        match self.verdict {
            "won" => {
                let published = match self.published {
                    Some(true) => "published",
                    _ => "not published yet",
                };
                let (rank, batch) = (from_one(self.rank), from_one(self.batch));
                format!("won: rank {rank} in tier {tier}, in batch {batch}, which is {published}")
            }
            "promoted" => format!(
                "promoted: rank {} in tier {tier}, came up from the waiting list",
                from_one(self.rank)
            ),
            "voided" => "voided: nobody won".to_owned(),
            "waiting" => format!(
                "waiting: rank {} in tier {tier}, place {} on the waiting list",
                from_one(self.rank),
                count(self.place.unwrap_or(0))
            ),
            _ => format!("not drawn yet: the lottery is {}", self.stage),
        }
    }
}
