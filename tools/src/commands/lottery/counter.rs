//! What a shop looks at before it takes a winner's code: the same as the ledger's rule, and in words.
//!
//! What holds here: every refusal has the stable name that the ledger's own has, where it has one.

use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::check::{Checked, Verdict};
use cairn_ledger::lottery::holder::Presented;
use cairn_ledger::lottery::redemption_code::{CodeError, RedemptionCode};
use cairn_ledger::lottery::roster::commitment_of;
use cairn_ledger::lottery::rules::{SIGNATURE_AHEAD_MS, SIGNATURE_LIFETIME_MS};
use cairn_proto::v1::{self, LotteryStage, PlaceStatus};

use super::standing::redeemable_until;
use super::state::stage_in_words;
use crate::exit::Failure;
use crate::output::{count, timestamp};

/// Which lottery is redeemed where.
#[derive(Debug, Clone)]
pub struct Counter {
    /// The chain.
    pub chain_id: Hash,
    /// The lottery.
    pub lottery_id: Hash,
    /// The shop's author key.
    pub shop: [u8; 32],
}

/// Why a code is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something else was scanned.
    #[error("this is no redemption code: {0}; have it shown and scanned once more")]
    Unreadable(#[from] CodeError),
    /// A screenshot, or a phone whose clock is wrong.
    #[error(
        "this code was made {0} seconds ago: have the winner show a fresh one; if it is fresh, one \
         of the two clocks is wrong"
    )]
    Expired(u64),
    /// The phone's clock is ahead.
    #[error("this code was made {0} seconds from now: the phone's clock or this one is wrong")]
    Ahead(u64),
    /// The node knows no such row.
    #[error("there is no such row in this lottery: {0}")]
    NoSuchRow(String),
    /// Identity and holder key are not those of the row.
    #[error("serial {0} was registered for another person or with another holder key")]
    WrongRow(u64),
    /// Before the certificate, or after a void.
    #[error("the lottery is {0}: nothing is redeemed before the notary has certified it")]
    Stage(&'static str),
    /// The receipt that the phone has is from before a void.
    #[error(
        "this code is of attempt {signed}, which was voided; attempt {certified} was certified: \
         whoever has a place there shows a fresh code"
    )]
    Attempt {
        /// What the holder signed.
        signed: u32,
        /// What counts.
        certified: u32,
    },
    /// Made for another shop or lottery, or by somebody without the key.
    #[error(
        "the holder did not sign this lottery, this shop and this time: the code was made for \
         another shop or lottery, or changed"
    )]
    Holder,
    /// Drew no place.
    #[error("serial {serial} has no place: {why}")]
    NotAWinner {
        /// Which row.
        serial: u64,
        /// What it drew, or what became of it.
        why: String,
    },
    /// Used up.
    #[error("serial {serial} was redeemed already, at {at}, {by}")]
    Twice {
        /// Which row.
        serial: u64,
        /// The ledger's time.
        at: String,
        /// Which shop, and what to do.
        by: String,
    },
    /// The rules have none.
    #[error("nothing is redeemed on the ledger in this lottery: its rules have no window for it")]
    NoWindow,
    /// Too late.
    #[error("the time to redeem is over since {0}")]
    Window(String),
}

impl Refusal {
    /// A name that programs may compare: the ledger's, where it refuses for the same reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::Unreadable(_) => "REDEMPTION_CODE_UNREADABLE",
            Refusal::Expired(_) | Refusal::Ahead(_) => "REDEMPTION_CODE_EXPIRED",
            Refusal::NoSuchRow(_) | Refusal::WrongRow(_) => "REDEMPTION_WRONG_ROW",
            Refusal::Stage(_) => "LOTTERY_WRONG_STAGE",
            Refusal::Attempt { .. } => "LOTTERY_WRONG_ATTEMPT",
            Refusal::Holder => "REDEMPTION_HOLDER_INVALID",
            Refusal::NotAWinner { .. } => "REDEMPTION_NOT_A_WINNER",
            Refusal::Twice { .. } => "REDEMPTION_TWICE",
            Refusal::NoWindow | Refusal::Window(_) => "REDEMPTION_WINDOW",
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let reason = refusal.reason();
        Failure::Failed(format!("do not hand over the goods: {refusal} ({reason})"))
    }
}

impl Counter {
    /// The code that was scanned, if it is fresh.
    pub fn read(&self, text: &str, now_ms: u64) -> Result<RedemptionCode, Refusal> {
        let code = RedemptionCode::from_text(text)?;
        if let Some(ahead) = code.signed_at_ms.checked_sub(now_ms)
            && ahead > SIGNATURE_AHEAD_MS
        {
            return Err(Refusal::Ahead(ahead / 1_000));
        }
        let age = now_ms.saturating_sub(code.signed_at_ms);
        if age > SIGNATURE_LIFETIME_MS {
            return Err(Refusal::Expired(age / 1_000));
        }
        Ok(code)
    }

    /// Whether the place that a verified proof shows can be redeemed with this code, now.
    pub fn check(
        &self,
        code: &RedemptionCode,
        checked: &Checked,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let commitment = commitment_of(&code.identity_hash, &code.holder_key);
        if commitment.0 != checked.row.commitment {
            return Err(Refusal::WrongRow(code.serial));
        }
        if checked.lottery.stage() != LotteryStage::Certified {
            return Err(Refusal::Stage(stage_in_words(checked.lottery.stage())));
        }
        self.check_signature(code, checked.lottery.attempt)?;
        if checked.place.status() == PlaceStatus::Redeemed {
            return Err(self.twice(&checked.place, code));
        }
        let has_place = matches!(
            checked.verdict,
            Verdict::Won { .. } | Verdict::Promoted { .. }
        );
        if !has_place {
            return Err(Refusal::NotAWinner {
                serial: code.serial,
                why: why_not(&checked.verdict),
            });
        }
        let until = redeemable_until(checked).ok_or(Refusal::NoWindow)?;
        if now_ms > until {
            return Err(Refusal::Window(timestamp(until)));
        }
        Ok(())
    }

    fn check_signature(&self, code: &RedemptionCode, certified: u32) -> Result<(), Refusal> {
        let signed = |attempt: u32| {
            let presented = Presented {
                chain_id: &self.chain_id,
                lottery_id: &self.lottery_id,
                attempt,
                serial: code.serial,
                shop: &self.shop,
                signed_at_ms: code.signed_at_ms,
            };
            presented.is_signed_by(&code.holder_key, &code.signature)
        };
        if signed(certified) {
            return Ok(());
        }
        match (1..certified).find(|attempt| signed(*attempt)) {
            Some(signed) => Err(Refusal::Attempt { signed, certified }),
            None => Err(Refusal::Holder),
        }
    }

    /// What to say of a place that was redeemed before.
    pub fn twice(&self, place: &v1::PlaceState, code: &RedemptionCode) -> Refusal {
        let leaf = place.leaf_index;
        let by = if place.shop != self.shop.as_slice() {
            format!("by the shop {}, at leaf {leaf}", hex::encode(&place.shop))
        } else if place.since_ms < code.signed_at_ms {
            format!("by this shop, at leaf {leaf}, before this code was made")
        } else {
            // The answer to an earlier scan of this very code may have been lost.
            format!(
                "by this shop, at leaf {leaf}, after this code was made: if it was scanned before \
                 and no goods were handed over for it, hand them over now"
            )
        };
        Refusal::Twice {
            serial: code.serial,
            at: timestamp(place.since_ms),
            by,
        }
    }
}

fn why_not(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Waiting { place, .. } => {
            format!("it is on the waiting list, in place {}", count(*place))
        }
        Verdict::NotWon { rank } => format!("it did not win, at rank {}", count(rank + 1)),
        Verdict::Struck { .. } => "an objection against it was upheld".to_owned(),
        Verdict::Vacated { .. } => "its place was given up or taken away".to_owned(),
        _ => "nobody has one yet".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_ledger::lottery::roster::Row;
    use ed25519_dalek::SigningKey;

    use super::*;

    const NOW: u64 = 1_795_341_600_000;
    const IDENTITY: Hash = Hash([6; 32]);

    fn counter() -> Counter {
        Counter {
            chain_id: Hash([1; 32]),
            lottery_id: Hash([2; 32]),
            shop: [4; 32],
        }
    }

    /// Made for this counter by the holder, in attempt 2 unless said.
    fn code(counter: &Counter, attempt: u32) -> RedemptionCode {
        let holder = SigningKey::from_bytes(&[7; 32]);
        let presented = Presented {
            chain_id: &counter.chain_id,
            lottery_id: &counter.lottery_id,
            attempt,
            serial: 17,
            shop: &counter.shop,
            signed_at_ms: NOW,
        };
        RedemptionCode {
            serial: 17,
            signed_at_ms: NOW,
            identity_hash: IDENTITY,
            holder_key: holder.verifying_key().to_bytes(),
            signature: presented.sign(&holder),
        }
    }

    fn winner() -> Checked {
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        Checked {
            verdict: Verdict::Won {
                rank: 3,
                batch: 0,
                published: true,
            },
            lottery: v1::LotteryState {
                stage: LotteryStage::Certified.into(),
                attempt: 2,
                certified_at_ms: NOW - 1_000,
                rules: Some(v1::LotteryOpen {
                    redemption_window_ms: 100_000,
                    ..Default::default()
                }),
                ..Default::default()
            },
            row: Row {
                commitment: commitment_of(&IDENTITY, key.as_bytes()).0,
                tag: [0; 32],
                tier: 0,
                weight: 1,
            },
            place: v1::PlaceState::default(),
        }
    }

    #[test]
    fn a_code_is_read_while_it_is_fresh() {
        let (counter, code) = (counter(), code(&counter(), 2));
        let text = code.to_text();
        assert_eq!(counter.read(&text, NOW), Ok(code));
        assert_eq!(counter.read(&text, NOW + 60_000), Ok(code));
        assert_eq!(counter.read(&text, NOW - SIGNATURE_AHEAD_MS), Ok(code));
        assert_eq!(counter.read(&text, NOW + 61_000), Err(Refusal::Expired(61)));
        assert_eq!(counter.read(&text, NOW - 61_000), Err(Refusal::Ahead(61)));
        let bad = counter.read("hello", NOW).unwrap_err();
        assert_eq!(bad.reason(), "REDEMPTION_CODE_UNREADABLE");
        let text = Failure::from(bad).to_string();
        assert!(text.starts_with("do not hand over the goods: "), "{text}");
    }

    #[test]
    fn a_winner_redeems_until_the_window_ends() {
        let (counter, code) = (counter(), code(&counter(), 2));
        let mut checked = winner();
        assert_eq!(counter.check(&code, &checked, NOW), Ok(()));
        let after = counter.check(&code, &checked, NOW + 99_001).unwrap_err();
        assert_eq!(after.reason(), "REDEMPTION_WINDOW");
        checked.verdict = Verdict::Promoted { rank: 9 };
        assert_eq!(counter.check(&code, &checked, NOW), Ok(()));
        checked.lottery.rules.as_mut().unwrap().redemption_window_ms = 0;
        assert_eq!(counter.check(&code, &checked, NOW), Err(Refusal::NoWindow));
    }

    #[test]
    fn who_has_no_place_redeems_nothing() {
        let (counter, code) = (counter(), code(&counter(), 2));
        for verdict in [
            Verdict::Waiting { rank: 9, place: 1 },
            Verdict::NotWon { rank: 9 },
            Verdict::Struck { rank: 3 },
            Verdict::Vacated { rank: 3 },
        ] {
            let checked = Checked {
                verdict,
                ..winner()
            };
            let refusal = counter.check(&code, &checked, NOW).unwrap_err();
            assert_eq!(refusal.reason(), "REDEMPTION_NOT_A_WINNER", "{refusal}");
        }
        let mut early = winner();
        early.lottery.set_stage(LotteryStage::Complete);
        assert_eq!(
            counter.check(&code, &early, NOW),
            Err(Refusal::Stage("complete"))
        );
    }

    #[test]
    fn a_code_for_another_shop_attempt_or_row_is_refused() {
        let here = counter();
        let elsewhere = Counter {
            shop: [5; 32],
            ..counter()
        };
        let other_shop = here.check(&code(&elsewhere, 2), &winner(), NOW);
        assert_eq!(other_shop, Err(Refusal::Holder));
        let voided = Refusal::Attempt {
            signed: 1,
            certified: 2,
        };
        assert_eq!(here.check(&code(&here, 1), &winner(), NOW), Err(voided));
        let mut forged = code(&here, 2);
        forged.identity_hash = Hash([8; 32]);
        assert_eq!(
            here.check(&forged, &winner(), NOW),
            Err(Refusal::WrongRow(17))
        );
    }

    #[test]
    fn a_place_is_used_up_once_and_the_shop_that_lost_an_answer_is_told() {
        let (here, code) = (counter(), code(&counter(), 2));
        let mut checked = winner();
        checked.place.set_status(PlaceStatus::Redeemed);
        for (shop, since_ms, said) in [
            ([5; 32], NOW, "by the shop 0505"),
            ([4; 32], NOW - 1, "before this code was made"),
            ([4; 32], NOW + 10, "hand them over now"),
        ] {
            checked.place.shop = shop.to_vec().into();
            checked.place.since_ms = since_ms;
            let refusal = here.check(&code, &checked, NOW).unwrap_err();
            assert_eq!(refusal.reason(), "REDEMPTION_TWICE");
            let told = refusal.to_string();
            assert!(told.contains(said), "{told}");
            assert_eq!(
                told.contains("hand them over now"),
                said.starts_with("hand")
            );
        }
    }
}
