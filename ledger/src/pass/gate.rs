//! The gate: whether a pass lets somebody through, here and now, and if not, for which one reason.
//!
//! What holds here: a verdict is a function of the pass, the trust file, the gate's policy, its
//! clock, and the certificates that it has met since it was started. First it is asked what the pass
//! proves, then what the policy makes of it. What stays out: reading files and the clock. What a
//! gate cannot know: whether whoever shows the pass is the holder, unless an ID card is matched, and
//! what changed after the time that the pass is the latest as of.

use std::collections::BTreeSet;

use cairn_proto::v1::{self, CodeStatus};

use super::certify::{Certified, Warm};
use super::refusal::{IdCardError, Refusal};
use super::{ChainTag, Pass, chain_tag};
use crate::hash::Hash;
use crate::trust::{Trust, TrustedLedger};
use crate::{canonical, code, map};

/// What a gate asks of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatePolicy {
    /// How long ago the pass may have been the latest.
    pub max_age_ms: u64,
    /// How far the gate's clock and the members' may lie apart.
    pub clock_tolerance_ms: u64,
    /// Which statuses pass.
    pub accept: Vec<CodeStatus>,
    /// Of the gate's own ledger; empty: all.
    pub regions: Vec<String>,
    /// Other ledgers whose passes count.
    pub recognised: Vec<Recognised>,
    /// Whether an ID card must match.
    pub id_card: bool,
    /// Passes on paper; none: they are passes like others.
    pub paper: Option<PaperRule>,
    /// Regions of the own ledger whose refusals to recognise an order count here: a status that
    /// such an order set stops nobody.
    pub refusals_of: Vec<String>,
}

/// Another ledger whose passes count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recognised {
    /// The ledger.
    pub chain_id: Hash,
    /// Its regions that count; empty: all.
    pub regions: Vec<String>,
    /// Until then, milliseconds since 1970.
    pub until_ms: u64,
}

/// What holds for passes that say that they are on paper. Anybody's pass can say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaperRule {
    /// In place of the policy's own.
    pub max_age_ms: u64,
    /// In place of the policy's own.
    pub id_card: bool,
}

impl Default for GatePolicy {
    /// Green, at most an hour old, of the own ledger only, by clocks two minutes apart.
    fn default() -> Self {
        Self {
            max_age_ms: 3_600_000,
            clock_tolerance_ms: 120_000,
            accept: vec![CodeStatus::Green],
            regions: Vec::new(),
            recognised: Vec::new(),
            id_card: false,
            paper: None,
            refusals_of: Vec::new(),
        }
    }
}

/// What a pass proves, whatever a policy makes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Proven {
    /// Of which ledger.
    pub chain_id: Hash,
    /// The code.
    pub code: Hash,
    /// Its state.
    pub state: v1::CodeState,
    /// What it shows at the gate's time; none before and after its validity.
    pub effective: Option<CodeStatus>,
    /// The certificate.
    pub certified: Certified,
    /// How long ago, by the gate's clock, this was the latest.
    pub age_ms: u64,
    /// Whether it is marked as shown on paper.
    pub paper: bool,
    /// Regions of the own ledger that refuse to recognise the order that set the status.
    pub refused_by: BTreeSet<String>,
}

/// Whether a pass lets through.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It does.
    Accepted(Box<Proven>),
    /// It does not.
    Refused {
        /// Why.
        why: Refusal,
        /// What it proves all the same.
        proven: Option<Box<Proven>>,
    },
}

/// A trust file, a policy, and the certificates that were met.
#[derive(Debug, Clone)]
pub struct Gate {
    trust: Trust,
    policy: GatePolicy,
    /// By the ledger's place in the trust file.
    met: Vec<Met>,
}

#[derive(Debug, Clone, Default)]
struct Met {
    warm: Warm,
    /// A time that is certainly over, by the members' clocks.
    past_ms: u64,
}

impl Gate {
    /// A gate that has met no pass yet.
    pub fn new(trust: Trust, policy: GatePolicy) -> Gate {
        let met = trust.ledgers().iter().map(|ledger| Met {
            warm: Warm::default(),
            past_ms: ledger.newest().latest_as_of_ms(),
        });
        Gate {
            met: met.collect(),
            trust,
            policy,
        }
    }

    /// Whether the pass in `text` lets through at `now_ms`. With the number of an `id_card`, that
    /// must be the holder's, whether the policy asks for it or not.
    pub fn judge(&mut self, text: &str, now_ms: u64, id_card: Option<&[u8]>) -> Verdict {
        let read = Pass::from_text(text).map_err(Refusal::from);
        let proven = read.and_then(|pass| {
            let proven = self.prove(&pass, now_ms)?;
            Ok((pass.salt, Box::new(proven)))
        });
        let (salt, proven) = match proven {
            Ok(proven) => proven,
            Err(why) => return Verdict::Refused { why, proven: None },
        };
        let holder = check_holder(&proven.state, salt.as_ref(), id_card);
        match self.admit(&proven, now_ms, holder) {
            Ok(()) => Verdict::Accepted(proven),
            Err(why) => Verdict::Refused {
                why,
                proven: Some(proven),
            },
        }
    }

    /// What a pass proves, if anything.
    fn prove(&mut self, pass: &Pass, now_ms: u64) -> Result<Proven, Refusal> {
        let not_after_ms = self.trust.not_after_ms();
        if now_ms >= not_after_ms {
            return Err(Refusal::TrustExpired { not_after_ms });
        }
        let at = self.ledger_of(&pass.chain_tag)?;
        let ledger = &self.trust.ledgers()[at];
        let key = map::map_key(code::NAMESPACE, pass.code.as_bytes());
        let implied = map::implied_root(&key, &pass.proof);
        let (map_root, _) = implied.map_err(|error| Refusal::NotAState(error.to_string()))?;
        let tolerance_ms = self.policy.clock_tolerance_ms;
        let met = &mut self.met[at];
        let certified = met.warm.certify(ledger, pass, &map_root, tolerance_ms)?;
        met.past_ms = met.past_ms.max(certified.latest_as_of_ms);
        // The own members' word about the time counts for all passes, others' for their own.
        let past_ms = met.past_ms.max(self.met[0].past_ms);
        if past_ms > now_ms.saturating_add(tolerance_ms) {
            let behind_ms = past_ms - now_ms;
            return Err(Refusal::ClockBehind { behind_ms });
        }
        let state: v1::CodeState = canonical::decode(&pass.proof.value)
            .map_err(|error| Refusal::NotAState(error.to_string()))?;
        let chain_id = ledger.chain().id;
        let order = Hash::from_slice(&state.order_id);
        let refused = order.and_then(|id| self.trust.refusals().of(&chain_id, &id));
        Ok(Proven {
            chain_id,
            code: pass.code,
            effective: code::effective_status(&state, now_ms),
            certified,
            age_ms: now_ms.saturating_sub(certified.latest_as_of_ms),
            paper: pass.paper,
            refused_by: refused.cloned().unwrap_or_default(),
            state,
        })
    }

    /// The place of the ledger with this tag, if it counts here.
    fn ledger_of(&self, tag: &ChainTag) -> Result<usize, Refusal> {
        let mut ledgers = self.trust.ledgers().iter();
        let at = ledgers.position(|ledger| ledger.tag() == *tag);
        let recognised = self.policy.recognised.iter();
        let mut named = recognised.filter(|r| chain_tag(&r.chain_id) == *tag);
        match (at, named.next()) {
            (Some(0), _) => Ok(0),
            (Some(at), Some(_)) => Ok(at),
            (None, Some(named)) => Err(Refusal::NoMembers(named.chain_id)),
            (_, None) => Err(Refusal::OtherLedger(*tag)),
        }
    }

    /// What the policy makes of it.
    fn admit(
        &self,
        proven: &Proven,
        now_ms: u64,
        holder: Result<(), IdCardError>,
    ) -> Result<(), Refusal> {
        let (policy, state) = (&self.policy, &proven.state);
        self.check_region(proven, now_ms)?;
        let paper = policy.paper.filter(|_| proven.paper);
        let max_age_ms = paper.map_or(policy.max_age_ms, |paper| paper.max_age_ms);
        if proven.age_ms > max_age_ms {
            return Err(Refusal::TooOld {
                age_ms: proven.age_ms,
                max_age_ms,
            });
        }
        let card_needed = paper.map_or(policy.id_card, |paper| paper.id_card);
        if card_needed || holder != Err(IdCardError::NotGiven) {
            holder?;
        }
        let Some(shows) = proven.effective else {
            return Err(match now_ms < state.valid_from_ms {
                true => Refusal::NotYetValid {
                    from_ms: state.valid_from_ms,
                },
                false => Refusal::Expired {
                    until_ms: state.valid_until_ms,
                },
            });
        };
        if policy.accept.contains(&shows) {
            return Ok(());
        }
        let refused_by = &proven.refused_by;
        if policy
            .refusals_of
            .iter()
            .any(|region| refused_by.contains(region))
        {
            return Ok(());
        }
        if !refused_by.is_empty() {
            let order = Hash::from_slice(&state.order_id).unwrap_or(Hash::ZERO);
            return Err(Refusal::OrderRefused(order));
        }
        match shows == state.status() {
            true => Err(Refusal::Status(shows)),
            false => Err(Refusal::Lapsed {
                at_ms: state.lapses_at_ms,
                shows,
            }),
        }
    }

    /// That ledger and region count here.
    fn check_region(&self, proven: &Proven, now_ms: u64) -> Result<(), Refusal> {
        let (chain_id, region) = (proven.chain_id, &proven.state.region);
        let own: &TrustedLedger = self.trust.own();
        let mut recognised = self.policy.recognised.iter();
        let regions = if chain_id == own.chain().id {
            &self.policy.regions
        } else {
            let named = recognised.find(|named| named.chain_id == chain_id);
            let named = named.ok_or(Refusal::OtherLedger(chain_tag(&chain_id)))?;
            let until_ms = named.until_ms;
            if now_ms >= until_ms {
                return Err(Refusal::RecognitionEnded { chain_id, until_ms });
            }
            &named.regions
        };
        match regions.is_empty() || regions.contains(region) {
            true => Ok(()),
            false => Err(Refusal::Region(region.clone())),
        }
    }
}

/// Whether the card is the holder's.
fn check_holder(
    state: &v1::CodeState,
    salt: Option<&[u8; 32]>,
    id_card: Option<&[u8]>,
) -> Result<(), IdCardError> {
    let number = id_card.ok_or(IdCardError::NotGiven)?;
    if state.holder.is_empty() {
        return Err(IdCardError::NoHolder);
    }
    let salt = salt.ok_or(IdCardError::NoSalt)?;
    match code::holder_commitment(salt, number).0[..] == state.holder {
        true => Ok(()),
        false => Err(IdCardError::Other),
    }
}

#[cfg(test)]
mod tests;
