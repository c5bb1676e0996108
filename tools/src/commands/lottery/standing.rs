//! Where an applicant stands, in plain words: what is proven, and what is not.

use std::time::Duration;

use cairn_ledger::lottery::check::{Checked, Verdict};
use cairn_proto::v1::{self, LotteryStage, PlaceStatus};
use serde::Serialize;

use super::check::{Asked, Proven};
use super::state::stage_in_words;
use crate::certificate::Certificate;
use crate::output::{count, line, timestamp};

/// A verdict as it is printed.
#[derive(Debug, Serialize)]
pub struct Standing {
    verdict: &'static str,
    in_words: String,
    lottery_id: String,
    attempt: u32,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    redeemed_at: Option<String>,
    stage: &'static str,
    proven: Vec<String>,
    not_proven: Vec<&'static str>,
    /// The node that gave the proof; none where it came with the receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// From the start of the command to the verdict.
    took_ms: f64,
    /// Of which verifying.
    verified_ms: f64,
    certificate: Certificate,
}

impl Standing {
    /// Puts a verified proof into words.
    pub fn of(asked: &Asked, proven: &Proven, took: Duration) -> Standing {
        let checked = &proven.checked;
        let at = Position::of(&checked.verdict);
        let redeemed = checked.place.status() == PlaceStatus::Redeemed;
        Standing {
            verdict: at.verdict,
            in_words: in_words(checked, &at),
            lottery_id: asked.lottery_id.to_string(),
            attempt: checked.lottery.attempt,
            serial: asked.receipt.serial,
            tier: checked.row.tier,
            rank: at.rank,
            batch: at.batch,
            published: at.published,
            place: at.place,
            redeemed_at: redeemed.then(|| timestamp(checked.place.since_ms)),
            stage: stage_in_words(checked.lottery.stage()),
            proven: what_is_proven(checked, proven),
            not_proven: what_is_not(checked),
            node: proven.node.clone(),
            took_ms: took.as_secs_f64() * 1_000.0,
            verified_ms: proven.verified_ms,
            certificate: Certificate::of(&proven.checkpoint),
        }
    }

    /// As lines of a table.
    pub fn table(&self) -> Vec<(String, String)> {
        let source = match &self.node {
            Some(node) => format!("{node}, and verified here"),
            None => {
                "the receipt alone; no node was asked. What came since: add --online".to_owned()
            }
        };
        let mut lines = vec![
            line("verdict", &self.in_words),
            line("lottery", &self.lottery_id),
            line("serial", self.serial),
            line("proven", self.proven.join("\n")),
            line("not proven", self.not_proven.join("\n")),
            line("proof from", source),
            line(
                "took",
                format!(
                    "{:.1} ms, of which verifying {:.1} ms",
                    self.took_ms, self.verified_ms
                ),
            ),
        ];
        lines.extend(self.certificate.summary());
        lines
    }
}

/// The numbers of a verdict.
#[derive(Debug, Default)]
struct Position {
    verdict: &'static str,
    rank: Option<u64>,
    batch: Option<u64>,
    published: Option<bool>,
    place: Option<u64>,
}

impl Position {
    fn of(verdict: &Verdict) -> Position {
        let at = |verdict, rank: u64| Position {
            verdict,
            rank: Some(rank),
            ..Position::default()
        };
        let without = |verdict| Position {
            verdict,
            ..Position::default()
        };
        match *verdict {
            Verdict::NotDrawnYet { .. } => without("not drawn yet"),
            Verdict::Voided => without("voided"),
            Verdict::Won {
                rank,
                batch,
                published,
            } => Position {
                batch: Some(batch),
                published: Some(published),
                ..at("won", rank)
            },
            Verdict::Promoted { rank } => at("promoted", rank),
            Verdict::Waiting { rank, place } => Position {
                place: Some(place),
                ..at("waiting", rank)
            },
            Verdict::NotWon { rank } => at("not won", rank),
            Verdict::Struck { rank } => at("struck", rank),
            Verdict::Vacated { rank } => at("vacated", rank),
        }
    }
}

fn in_words(checked: &Checked, at: &Position) -> String {
    let lottery = &checked.lottery;
    let from_one = |from_zero: Option<u64>| count(from_zero.unwrap_or(0) + 1);
    let rank = match tier_name(checked) {
        Some(tier) => format!("rank {} in tier {tier}", from_one(at.rank)),
        None => format!("rank {}", from_one(at.rank)),
    };
    let words = match at.verdict {
        "won" => {
            let published = match at.published {
                Some(true) => "published",
                _ => "not published yet",
            };
            format!(
                "won: {rank}, in batch {}, which is {published}",
                from_one(at.batch)
            )
        }
        "promoted" => format!("promoted: {rank}, came up from the waiting list and has a place"),
        "waiting" => {
            let place = count(at.place.unwrap_or(0));
            format!("waiting: {rank}, place {place} on the waiting list")
        }
        "not won" => format!("not won: {rank}, behind the winners and the waiting list"),
        "struck" => format!("struck: {rank}, and an objection against this row was upheld"),
        "vacated" => format!("vacated: {rank}, and the place was given up or taken away"),
        "voided" => "voided: nobody won, for the last attempt was voided".to_owned(),
        _ => format!(
            "not drawn yet: the lottery is {}, in attempt {}",
            stage_in_words(lottery.stage()),
            lottery.attempt
        ),
    };
    [words, next_step(checked, at)].concat()
}

/// What whoever has a place does with it, or did.
fn next_step(checked: &Checked, at: &Position) -> String {
    if !["won", "promoted"].contains(&at.verdict) {
        return String::new();
    }
    if checked.place.status() == PlaceStatus::Redeemed {
        return format!("; redeemed at {}", timestamp(checked.place.since_ms));
    }
    if checked.lottery.stage() != LotteryStage::Certified {
        return "; the notary has not certified it yet".to_owned();
    }
    match redeemable_until(checked) {
        Some(until) => format!("; to be redeemed until {}", timestamp(until)),
        None => String::new(),
    }
}

/// Until when whoever has a place may redeem; none where nothing is redeemed on the ledger.
pub fn redeemable_until(checked: &Checked) -> Option<u64> {
    let lottery = &checked.lottery;
    let window = lottery.rules.as_ref()?.redemption_window_ms;
    let since = match checked.place.status() {
        PlaceStatus::Promoted => checked.place.since_ms.max(lottery.certified_at_ms),
        _ => lottery.certified_at_ms,
    };
    (window > 0).then(|| since.saturating_add(window))
}

/// The tier's name, where there is more than one.
fn tier_name(checked: &Checked) -> Option<&str> {
    let tiers = &checked.lottery.rules.as_ref()?.tiers;
    let tier: Option<&v1::Tier> = tiers.get(usize::try_from(checked.row.tier).ok()?);
    (tiers.len() > 1).then_some(&tier?.name)
}

fn what_is_proven(checked: &Checked, proven: &Proven) -> Vec<String> {
    let rows = count(checked.lottery.rows);
    let roster = match checked.lottery.stage() {
        LotteryStage::Open => "roster so far",
        _ => "frozen roster",
    };
    let mut words = vec![format!(
        "the salt opens this row, and the row is in the {roster} of {rows} rows"
    )];
    if !checked.lottery.seed.is_empty() {
        words.push("the ticket was computed again from the certified seed".to_owned());
        words.push("what became of the place since, or that nothing did".to_owned());
    }
    let height = count(proven.checkpoint.header().height);
    words.push(format!(
        "all of it under the certified map of block {height}"
    ));
    words
}

fn what_is_not(checked: &Checked) -> Vec<&'static str> {
    let mut words = vec!["that the roster names the people it should"];
    if !checked.lottery.seed.is_empty() {
        words.push("that everybody else's rank is right (cairn lottery recompute shows that)");
    }
    words.push("anything after the time that it is the latest as of");
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_ledger::lottery::roster::Row;

    use super::*;

    fn checked(verdict: Verdict, stage: LotteryStage) -> Checked {
        let tier = |name: &str| v1::Tier {
            name: name.to_owned(),
            ..Default::default()
        };
        let lottery = v1::LotteryState {
            stage: stage.into(),
            attempt: 1,
            certified_at_ms: 1_000,
            rules: Some(v1::LotteryOpen {
                tiers: vec![tier("a"), tier("b")],
                redemption_window_ms: 5_000,
                ..Default::default()
            }),
            ..Default::default()
        };
        Checked {
            verdict,
            lottery,
            row: Row {
                commitment: [0; 32],
                tag: [0; 32],
                tier: 1,
                weight: 1,
            },
            place: v1::PlaceState::default(),
        }
    }

    fn words(checked: &Checked) -> String {
        in_words(checked, &Position::of(&checked.verdict))
    }

    #[test]
    fn every_verdict_is_told_in_plain_words() {
        let won = Verdict::Won {
            rank: 1_233,
            batch: 1,
            published: true,
        };
        let rank = 7;
        for (verdict, expected) in [
            (
                won,
                "won: rank 1,234 in tier b, in batch 2, which is published; to be redeemed",
            ),
            (Verdict::Promoted { rank }, "promoted: rank 8 in tier b"),
            (
                Verdict::Waiting { rank, place: 3 },
                "waiting: rank 8 in tier b, place 3 on the",
            ),
            (
                Verdict::NotWon { rank },
                "not won: rank 8 in tier b, behind",
            ),
            (Verdict::Struck { rank }, "struck: rank 8"),
            (Verdict::Vacated { rank }, "vacated: rank 8"),
            (Verdict::Voided, "voided: nobody won"),
        ] {
            let told = words(&checked(verdict, LotteryStage::Certified));
            assert!(told.starts_with(expected), "{told}");
        }
        let stage = LotteryStage::Frozen;
        let told = words(&checked(Verdict::NotDrawnYet { stage }, stage));
        assert_eq!(told, "not drawn yet: the lottery is frozen, in attempt 1");
    }

    #[test]
    fn the_window_begins_with_the_certificate_or_a_later_promotion() {
        let mut at = checked(Verdict::Promoted { rank: 7 }, LotteryStage::Certified);
        assert_eq!(redeemable_until(&at), Some(6_000));
        at.place.set_status(PlaceStatus::Promoted);
        at.place.since_ms = 2_000;
        assert_eq!(redeemable_until(&at), Some(7_000));
        at.place.since_ms = 500;
        assert_eq!(redeemable_until(&at), Some(6_000));
        at.place.set_status(PlaceStatus::Redeemed);
        assert!(words(&at).contains("; redeemed at 1970-01-01T00:00:00.500Z"));
        at.lottery.rules.as_mut().unwrap().redemption_window_ms = 0;
        assert_eq!(redeemable_until(&at), None);
    }
}
