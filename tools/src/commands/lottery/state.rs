//! A lottery's state, proven against a certified checkpoint before anything is done with it.

use std::time::Duration;

use cairn_ledger::canonical;
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::{NAMESPACE, beacon};
use cairn_ledger::verify::VerifiedValue;
use cairn_proto::v1::{self, LotteryStage, SeedProfile};

use crate::exit::Failure;
use crate::session::{Patience, Session};

/// How long a state that lags behind a step may be that of a node that is catching up.
const CATCH_UP: Duration = Duration::from_secs(3);

/// The stages in which there is an attempt to object to, or to end.
pub const UNDER_WAY: [LotteryStage; 4] = [
    LotteryStage::Frozen,
    LotteryStage::Contributing,
    LotteryStage::Drawing,
    LotteryStage::Complete,
];

/// A lottery under a certified map root.
#[derive(Debug)]
pub struct Proven {
    /// The id of the entry that opened it.
    pub id: Hash,
    /// What the map holds.
    pub state: v1::LotteryState,
    /// Under which certificate.
    pub checkpoint: CertifiedCheckpoint,
    /// What proves it.
    pub receipt: v1::MapReceipt,
}

impl Proven {
    /// The lottery's state at the node that is asked.
    pub async fn read(session: &Session, id: &Hash) -> Result<Proven, Failure> {
        let (receipt, value) = session.map_receipt(NAMESPACE, id.as_bytes()).await?;
        Proven::of(*id, receipt, value)
    }

    /// The lottery's state of a verified receipt.
    pub fn of(id: Hash, receipt: v1::MapReceipt, value: VerifiedValue) -> Result<Proven, Failure> {
        let Some(bytes) = value.value else {
            let height = value.checkpoint.header().height;
            return Err(Failure::NotFound(format!(
                "there is no lottery {id}: block {height}'s certified map proves it; list those \
                 there are with: cairn lottery list"
            )));
        };
        let state = canonical::decode(&bytes).map_err(|error| {
            Failure::InvalidProof(format!("the state of lottery {id} is malformed: {error}"))
        })?;
        Ok(Proven {
            id,
            state,
            checkpoint: value.checkpoint,
            receipt,
        })
    }

    /// The lottery, which must be in `stage`.
    pub async fn read_in(
        session: &Session,
        id: &Hash,
        stage: LotteryStage,
    ) -> Result<Proven, Failure> {
        let lottery = Proven::read_from(session, id, stage).await?;
        lottery.expect_stage(stage)?;
        Ok(lottery)
    }

    /// The lottery, which must be in `stage` or further. A node that is a moment behind, because
    /// it was just restarted, is given that moment.
    pub async fn read_from(
        session: &Session,
        id: &Hash,
        stage: LotteryStage,
    ) -> Result<Proven, Failure> {
        let mut patience = Patience::new(CATCH_UP);
        loop {
            let found = Proven::read(session, id).await;
            let behind = match &found {
                Ok(lottery) => !has_reached(&lottery.state, stage),
                Err(failure) => matches!(failure, Failure::NotFound(_)),
            };
            if !behind {
                return found;
            }
            if !patience.pause().await {
                let lottery = found?;
                lottery.expect_stage(stage)?;
                return Ok(lottery);
            }
        }
    }

    /// Reads the state until `holds` is true of it. `what` says what is waited for.
    pub async fn wait_until(
        session: &Session,
        id: &Hash,
        what: &str,
        holds: impl Fn(&v1::LotteryState) -> bool,
    ) -> Result<Proven, Failure> {
        let mut patience = Patience::new(session.timeout());
        loop {
            match Proven::read(session, id).await {
                Ok(lottery) if holds(&lottery.state) => return Ok(lottery),
                // A node that is behind may not even know the lottery.
                Ok(_) | Err(Failure::NotFound(_)) => {}
                Err(failure) => return Err(failure),
            }
            if !patience.pause().await {
                return Err(Failure::NotFound(format!(
                    "lottery {id}: {what} is not certified yet, and the time is up; look again \
                     with: cairn lottery show {id}"
                )));
            }
        }
    }

    /// The rules, as opened.
    pub fn rules(&self) -> Result<&v1::LotteryOpen, Failure> {
        let rules = self.state.rules.as_ref();
        rules.ok_or_else(|| self.incomplete("rules"))
    }

    /// The beacon that completes the seed.
    pub fn beacon(&self) -> Result<&v1::BeaconChain, Failure> {
        let beacon = self.rules()?.beacon.as_ref();
        beacon.ok_or_else(|| self.incomplete("beacon"))
    }

    /// When the pinned round is published, in milliseconds since 1970.
    pub fn round_time_ms(&self) -> Result<u64, Failure> {
        Ok(beacon::round_time_ms(
            self.beacon()?,
            self.state.beacon_round,
        ))
    }

    /// Whether a beacon's round completes the seed; else all contributors together do.
    pub fn with_beacon(&self) -> Result<bool, Failure> {
        Ok(self.rules()?.seed_profile() == SeedProfile::Beacon)
    }

    /// Those whose contribution is still to come, or did not come.
    pub fn awaited(&self) -> Result<Vec<&v1::Contributor>, Failure> {
        Ok(awaited(self.rules()?, &self.state))
    }

    /// The lottery must be in one of these stages; `when` says when this is done.
    pub fn expect_one_of(&self, wanted: &[LotteryStage], when: &str) -> Result<(), Failure> {
        let stage = self.state.stage();
        if wanted.contains(&stage) {
            return Ok(());
        }
        let (id, is) = (self.id, stage_in_words(stage));
        Err(Failure::Failed(format!(
            "lottery {id} is {is}; {when}; see: cairn lottery show {id}"
        )))
    }

    fn expect_stage(&self, wanted: LotteryStage) -> Result<(), Failure> {
        if self.state.stage() == wanted {
            return Ok(());
        }
        let (id, is) = (self.id, stage_in_words(self.state.stage()));
        let wanted = stage_in_words(wanted);
        Err(Failure::Failed(format!(
            "lottery {id} is {is}, and this is done while it is {wanted}; see: cairn lottery show \
             {id}"
        )))
    }

    fn incomplete(&self, part: &str) -> Failure {
        let id = self.id;
        Failure::InvalidProof(format!("the proven state of lottery {id} has no {part}"))
    }
}

/// Contributors who have not contributed to this attempt and were not dropped before it.
pub fn awaited<'a>(
    rules: &'a v1::LotteryOpen,
    state: &v1::LotteryState,
) -> Vec<&'a v1::Contributor> {
    let given = |key: &[u8]| state.contributions.iter().any(|c| c.seed_key == key);
    let dropped = |key: &[u8]| state.dropped.iter().any(|dropped| dropped == key);
    let all = rules.contributors.iter();
    all.filter(|c| !given(&c.seed_key) && !dropped(&c.seed_key))
        .collect()
}

/// Whether this attempt is in `stage` or further, or came that far before it was voided.
pub fn has_reached(state: &v1::LotteryState, stage: LotteryStage) -> bool {
    furthest(state) as i32 >= stage as i32
}

/// Whether `attempt` is in `stage` or further, or is over.
pub fn has_passed(state: &v1::LotteryState, attempt: u32, stage: LotteryStage) -> bool {
    state.attempt > attempt || has_reached(state, stage)
}

/// The stage, or the last one before the void, as what is left of it shows.
fn furthest(state: &v1::LotteryState) -> LotteryStage {
    match state.stage() {
        LotteryStage::Voided if state.completed_at_ms > 0 => LotteryStage::Complete,
        LotteryStage::Voided if !state.seed.is_empty() => LotteryStage::Drawing,
        LotteryStage::Voided if state.contributions_close_ms > 0 => LotteryStage::Contributing,
        LotteryStage::Voided => LotteryStage::Frozen,
        stage => stage,
    }
}

/// A stage as it is shown.
pub fn stage_in_words(stage: LotteryStage) -> &'static str {
    match stage {
        LotteryStage::Unspecified => "unknown",
        LotteryStage::Open => "open",
        LotteryStage::Frozen => "frozen",
        LotteryStage::Contributing => "contributing",
        LotteryStage::Drawing => "drawing",
        LotteryStage::Complete => "complete",
        LotteryStage::Certified => "certified",
        LotteryStage::Voided => "voided",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voided_attempt_is_no_further_than_it_came() {
        let mut state = v1::LotteryState::default();
        state.set_stage(LotteryStage::Voided);
        assert!(has_reached(&state, LotteryStage::Frozen));
        assert!(!has_reached(&state, LotteryStage::Contributing));
        state.contributions_close_ms = 1;
        assert!(has_reached(&state, LotteryStage::Contributing));
        assert!(!has_reached(&state, LotteryStage::Drawing));
        state.seed = vec![1; 32].into();
        assert!(has_reached(&state, LotteryStage::Drawing));
        state.completed_at_ms = 1;
        assert!(has_reached(&state, LotteryStage::Complete));
        assert!(!has_reached(&state, LotteryStage::Certified));
    }

    #[test]
    fn an_attempt_that_is_over_has_passed_every_stage() {
        let mut state = v1::LotteryState {
            attempt: 2,
            ..Default::default()
        };
        state.set_stage(LotteryStage::Contributing);
        assert!(has_passed(&state, 1, LotteryStage::Certified));
        assert!(!has_passed(&state, 2, LotteryStage::Drawing));
    }

    #[test]
    fn only_who_neither_contributed_nor_was_dropped_is_awaited() {
        let contributor = |n: u8| v1::Contributor {
            seed_key: vec![n; 96].into(),
            ..Default::default()
        };
        let rules = v1::LotteryOpen {
            contributors: (1..=3).map(contributor).collect(),
            ..Default::default()
        };
        let state = v1::LotteryState {
            contributions: vec![v1::Contribution {
                seed_key: vec![1; 96].into(),
                ..Default::default()
            }],
            dropped: vec![vec![3; 96].into()],
            ..Default::default()
        };
        assert_eq!(awaited(&rules, &state), [&rules.contributors[1]]);
    }
}
