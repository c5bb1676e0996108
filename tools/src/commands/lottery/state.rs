//! A lottery's state, proven against a certified checkpoint before anything is done with it.

use std::time::Duration;

use cairn_ledger::canonical;
use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::{NAMESPACE, beacon};
use cairn_proto::v1::{self, LotteryStage};

use crate::exit::Failure;
use crate::session::{Patience, Session};

/// How long a state that lags behind a step may be that of a node that is catching up.
const CATCH_UP: Duration = Duration::from_secs(3);

/// A lottery under a certified map root.
#[derive(Debug)]
pub struct Proven {
    /// The id of the entry that opened it.
    pub id: Hash,
    /// What the map holds.
    pub state: v1::LotteryState,
    /// Under which certificate.
    pub checkpoint: CertifiedCheckpoint,
}

impl Proven {
    /// The lottery's state at the node that is asked.
    pub async fn read(session: &Session, id: &Hash) -> Result<Proven, Failure> {
        let value = session.map_value(NAMESPACE, id.as_bytes()).await?;
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
            id: *id,
            state,
            checkpoint: value.checkpoint,
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

/// Whether `state` is in `stage` or further.
pub fn has_reached(state: &v1::LotteryState, stage: LotteryStage) -> bool {
    state.stage >= stage as i32
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
