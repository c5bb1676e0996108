//! A lottery's history: the record's entries, sorted into attempts, and compared with the proven
//! states from the first row to the last promotion.
//!
//! What holds here: everything is computed again: the roster's root, every contribution, the
//! beacon's round, the seed, each row's ticket, the ranking, the cut-offs, what was published, who
//! came up. An entry that the certified states speak of and the record lacks is an error. Caveat:
//! a promotion that only frees places, because nobody was left on the list, leaves no trace in a
//! lottery's state; that one is missing would not be seen here.

mod places;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::draw::Ranking;
use cairn_ledger::lottery::index::Entrants;
use cairn_ledger::lottery::recompute::{RecomputeError, recompute_roster, redraw};
use cairn_ledger::lottery::roster::{Columns, Row};
use cairn_proto::v1::{self, LotteryStage, RulingDecision};

use super::publish::ranks_in_public;
use super::record::{Act, Record, Recorded};
use crate::exit::Failure;
use places::{Places, promote, strike};

/// An entry and its body.
pub type Entry<'a, B> = (&'a Recorded, &'a B);

/// A lottery from its opening on.
#[derive(Debug)]
pub struct History<'a> {
    /// What opened it.
    pub opening: &'a Recorded,
    /// What froze the roster, once it is frozen.
    pub freeze: Option<&'a Recorded>,
    /// Oldest first; the last one is the current one.
    pub attempts: Vec<Attempt<'a>>,
    /// How long seeds, tickets, sorting and the rankings' roots took.
    pub draw_took: Duration,
}

/// One attempt.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// As the map has it, or had it when the attempt was voided.
    pub state: &'a v1::LotteryState,
    pub dice: Option<Entry<'a, v1::DiceRoll>>,
    pub contributions: Vec<Entry<'a, v1::SeedContribution>>,
    pub round: Option<Entry<'a, v1::BeaconRound>>,
    pub batches: Vec<Entry<'a, v1::BatchResult>>,
    pub objections: Vec<Objected<'a>>,
    pub promotions: Vec<Entry<'a, v1::Promotion>>,
    pub certificate: Option<Entry<'a, v1::LotteryCertify>>,
    pub void: Option<Entry<'a, v1::LotteryVoid>>,
}

/// An objection, and what was said to it.
#[derive(Debug)]
pub struct Objected<'a> {
    pub objection: Entry<'a, v1::Objection>,
    pub ruling: Option<Entry<'a, v1::Ruling>>,
}

impl<'a> History<'a> {
    /// Computes the lottery again from its record.
    pub fn of(chain: &Chain, record: &'a Record) -> Result<History<'a>, Failure> {
        let mut history = History::sorted(record)?;
        history.compare(record)?;
        let lottery = &record.lottery;
        let tiers = lottery.rules()?.tiers.len();
        let columns: Result<Vec<Columns<'_>>, Failure> =
            record.chunks().map(|chunk| columns(chunk, tiers)).collect();
        let columns = columns?;
        let mut entrants = Entrants::default();
        for row in columns.iter().flat_map(Columns::rows) {
            entrants.push(row.tier, row.weight);
        }
        // The roster's root and the draws do not need each other.
        let (rooted, drawn) = std::thread::scope(|scope| {
            let rows = columns.iter().flat_map(Columns::rows);
            let rooted = scope.spawn(|| check_roster(lottery.id, &lottery.state, rows));
            let drawn = history.draw(chain, &lottery.id, &entrants);
            (rooted.join(), drawn)
        });
        let lost = |_| Failure::Failed("the thread that hashes the roster failed".to_owned());
        rooted.map_err(lost)??;
        history.draw_took = drawn?;
        Ok(history)
    }

    /// Whether any attempt was drawn.
    pub fn is_drawn(&self) -> bool {
        self.attempts.iter().any(|a| !a.state.seed.is_empty())
    }

    /// The entries, each in its attempt.
    fn sorted(record: &'a Record) -> Result<History<'a>, Failure> {
        let state = &record.lottery.state;
        let mut states: BTreeMap<u32, &v1::LotteryState> = BTreeMap::new();
        states.extend(record.voided.iter().map(|state| (state.attempt, state)));
        states.entry(state.attempt).or_insert(state);
        let mut attempts: BTreeMap<u32, Attempt<'a>> = states
            .into_iter()
            .map(|(number, state)| (number, Attempt::of(state)))
            .collect();
        let (mut opening, mut freeze) = (None, None);
        for entry in &record.entries {
            let of = match &entry.act {
                Act::Open(_) => {
                    opening = Some(entry);
                    continue;
                }
                Act::Freeze(_) => {
                    freeze = Some(entry);
                    continue;
                }
                Act::Chunk(_) => continue,
                act => attempt_of(act),
            };
            let attempt = attempts
                .get_mut(&of)
                .ok_or_else(|| missing(entry, "its attempt"))?;
            attempt.take(entry)?;
        }
        let opening = opening.ok_or_else(|| {
            Failure::InvalidProof("the record lacks the entry that opened the lottery".to_owned())
        })?;
        Ok(History {
            opening,
            freeze,
            attempts: attempts.into_values().collect(),
            draw_took: Duration::ZERO,
        })
    }

    /// Opening, freeze and every attempt are what the states say.
    fn compare(&self, record: &Record) -> Result<(), Failure> {
        let (id, state) = (record.lottery.id, &record.lottery.state);
        let opened = match &self.opening.act {
            Act::Open(rules) => {
                self.opening.id == id
                    && self.opening.leaf_index == state.open_leaf_index
                    && state.rules.as_ref() == Some(&**rules)
            }
            _ => false,
        };
        agree(opened, "the opening and the rules")?;
        let frozen = match self.freeze.map(|entry| &entry.act) {
            Some(Act::Freeze(freeze)) => {
                freeze.count == state.rows && freeze.roster_root == state.roster_root
            }
            _ => state.stage() == LotteryStage::Open,
        };
        agree(frozen, "the freeze and the roster")?;
        let rules = record.lottery.rules()?;
        for attempt in &self.attempts {
            let compared = attempt.compare(rules);
            let number = attempt.state.attempt;
            compared.map_err(|failure| failure.during(&format!("attempt {number}")))?;
        }
        Ok(())
    }

    /// Draws every attempt whose seed is known, and compares all that followed from the ranking.
    fn draw(&self, chain: &Chain, id: &Hash, entrants: &Entrants) -> Result<Duration, Failure> {
        let mut took = Duration::ZERO;
        for attempt in self.attempts.iter().filter(|a| !a.state.seed.is_empty()) {
            let state = attempt.state;
            let number = state.attempt;
            let of_attempt = |failure: Failure| failure.during(&format!("attempt {number}"));
            let drawing = Instant::now();
            let rankings = redraw(&chain.id, id, state, entrants)
                .map_err(|error| of_attempt(differs(&error)))?;
            took += drawing.elapsed();
            attempt.check_batches(&rankings).map_err(of_attempt)?;
            attempt.check_promotions(&rankings).map_err(of_attempt)?;
        }
        Ok(took)
    }
}

impl<'a> Attempt<'a> {
    fn of(state: &'a v1::LotteryState) -> Self {
        Attempt {
            state,
            dice: None,
            contributions: Vec::new(),
            round: None,
            batches: Vec::new(),
            objections: Vec::new(),
            promotions: Vec::new(),
            certificate: None,
            void: None,
        }
    }

    fn take(&mut self, entry: &'a Recorded) -> Result<(), Failure> {
        match &entry.act {
            Act::Dice(body) => self.dice = Some((entry, body)),
            Act::Contribution(body) => self.contributions.push((entry, body)),
            Act::Round(body) => self.round = Some((entry, body)),
            Act::Batch(body) => self.batches.push((entry, body)),
            Act::Certify(body) => self.certificate = Some((entry, body)),
            Act::Void(body) => self.void = Some((entry, body)),
            Act::Promotion(body) => self.promotions.push((entry, body)),
            Act::Objection(body) => self.objections.push(Objected {
                objection: (entry, body),
                ruling: None,
            }),
            Act::Ruling(body) => {
                let mut all = self.objections.iter_mut();
                let objected = all.find(|o| body.objection == o.objection.0.id.0[..]);
                let objected = objected.ok_or_else(|| missing(entry, "its objection"))?;
                objected.ruling = Some((entry, body));
            }
            Act::Open(_) | Act::Chunk(_) | Act::Freeze(_) => {}
        }
        Ok(())
    }

    /// The entries are those that the state speaks of.
    fn compare(&self, rules: &v1::LotteryOpen) -> Result<(), Failure> {
        let state = self.state;
        let dice = self.dice.map_or(&[][..], |(_, roll)| &roll.digits);
        agree(state.dice == dice, "the dice")?;
        let given = self
            .contributions
            .iter()
            .map(|(_, c)| (&c.seed_key, &c.signature));
        let stated = state.contributions.iter();
        let stated = stated.map(|c| (&c.seed_key, &c.signature));
        agree(given.eq(stated), "the contributions")?;
        let round = self.round.map_or(&[][..], |(_, round)| &round.signature);
        agree(state.beacon_signature == round, "the beacon's round")?;
        let document = self.certificate.map_or(&[][..], |(_, c)| &c.document_hash);
        agree(state.document_hash == document, "the certificate")?;
        self.compare_objections()?;
        self.compare_void()?;
        let per_batch = u64::from(rules.rows_per_batch.max(1));
        let complete = !state.results.is_empty()
            && state.results.iter().all(|result| {
                u64::from(result.batches_published) * per_batch >= ranks_in_public(rules, result)
            });
        agree(complete == (state.completed_at_ms > 0), "the publication")
    }

    fn compare_objections(&self) -> Result<(), Failure> {
        let state = self.state;
        let open = self.objections.iter().filter(|o| o.ruling.is_none());
        let counted = self.objections.len() == state.objections as usize
            && open.count() == state.objections_open as usize;
        agree(counted, "the objections and rulings")?;
        let tainted = self.objections.iter().any(|objected| {
            let whole = objected.objection.1.serials.is_empty();
            whole && objected.decision() == RulingDecision::Upheld
        });
        agree(
            tainted == state.tainted,
            "what the rulings say of the attempt as a whole",
        )
    }

    fn compare_void(&self) -> Result<(), Failure> {
        let mut voids = self.state.voids.iter();
        let stated = voids.find(|void| void.attempt == self.state.attempt);
        let same = match (stated, self.void) {
            (None, None) => true,
            (Some(stated), Some((entry, void))) => {
                stated.leaf_index == entry.leaf_index
                    && stated.reason == void.reason
                    && stated.evidence_hash == void.evidence_hash
            }
            _ => false,
        };
        agree(same, "the void")
    }

    /// Every published batch is the slice of the ranking that its number names, and none is missing.
    fn check_batches(&self, rankings: &[Ranking]) -> Result<(), Failure> {
        let rules = self.state.rules.as_ref();
        let size = rules.map_or(1, |rules| rules.rows_per_batch.max(1)) as usize;
        let mut next = vec![0u32; rankings.len()];
        for (_, batch) in &self.batches {
            let (tier, number) = (batch.tier, batch.batch);
            let at = usize::try_from(tier).unwrap_or(usize::MAX);
            let differs = || {
                Failure::InvalidProof(format!(
                    "batch {number} of tier {tier} as published is not what the seed and the \
                     roster give"
                ))
            };
            let (ranking, next) = rankings.get(at).zip(next.get_mut(at)).ok_or_else(differs)?;
            if *next != number {
                return Err(Failure::InvalidProof(format!(
                    "batch {number} of tier {tier} follows {next} batches"
                )));
            }
            *next += 1;
            let first = (number as usize).saturating_mul(size);
            let drawn = ranking.serials().skip(first).take(batch.serials.len());
            let equal = batch.serials.len() <= size
                && drawn.map(u64::from).eq(batch.serials.iter().copied());
            if !equal {
                return Err(differs());
            }
        }
        let stated = self.state.results.iter().map(|r| r.batches_published);
        agree(stated.eq(next), "the published batches")
    }

    /// Everybody who came up was next, and everybody who made room had a place.
    fn check_promotions(&self, rankings: &[Ranking]) -> Result<(), Failure> {
        let mut places = Places::new();
        let mut reached: Vec<u64> = self.state.results.iter().map(|r| r.winners).collect();
        let mut rulings: Vec<&Objected<'_>> = self.objections.iter().collect();
        rulings.retain(|objected| objected.decision() == RulingDecision::Upheld);
        rulings.sort_by_key(|objected| objected.ruled_at());
        let mut rulings = rulings.into_iter().peekable();
        for (entry, promotion) in &self.promotions {
            while let Some(ruled) = rulings.next_if(|r| r.ruled_at() < entry.leaf_index) {
                strike(&mut places, &ruled.objection.1.serials);
            }
            let at = usize::try_from(promotion.tier).unwrap_or(usize::MAX);
            let found = rankings.get(at).zip(reached.get_mut(at));
            let (ranking, reached) = found.ok_or_else(|| missing(entry, "its tier"))?;
            let waiting = self
                .state
                .rules
                .as_ref()
                .and_then(|rules| rules.tiers.get(at));
            let waiting = waiting.map_or(0, |tier| u64::from(tier.waiting_list));
            let end = (self.state.results[at].winners + waiting).min(ranking.len() as u64);
            let moved = promote(&mut places, ranking, *reached..end, promotion);
            *reached = moved.ok_or_else(|| {
                let leaf = entry.leaf_index;
                Failure::InvalidProof(format!(
                    "the promotion at leaf {leaf} is not what ranking and rulings give"
                ))
            })?;
        }
        let stated = self.state.results.iter();
        let stated = stated.map(|r| r.winners.max(r.promoted_through));
        agree(stated.eq(reached), "the promotions")
    }
}

impl Objected<'_> {
    /// What was decided; unspecified while it waits.
    pub fn decision(&self) -> RulingDecision {
        self.ruling
            .map_or(RulingDecision::Unspecified, |(_, ruling)| ruling.decision())
    }

    fn ruled_at(&self) -> u64 {
        self.ruling.map_or(u64::MAX, |(entry, _)| entry.leaf_index)
    }
}

/// Which attempt an act belongs to; those of the whole lottery belong to none.
fn attempt_of(act: &Act) -> u32 {
    match act {
        Act::Open(_) | Act::Chunk(_) | Act::Freeze(_) => 0,
        Act::Dice(body) => body.attempt,
        Act::Contribution(body) => body.attempt,
        Act::Round(body) => body.attempt,
        Act::Batch(body) => body.attempt,
        Act::Certify(body) => body.attempt,
        Act::Void(body) => body.attempt,
        Act::Objection(body) => body.attempt,
        Act::Ruling(body) => body.attempt,
        Act::Promotion(body) => body.attempt,
    }
}

fn columns(chunk: &v1::RosterChunk, tiers: usize) -> Result<Columns<'_>, Failure> {
    Columns::of(chunk, tiers).map_err(|error| {
        let serial = chunk.first_serial;
        Failure::InvalidProof(format!("the chunk from serial {serial}: {error}"))
    })
}

fn check_roster(
    id: Hash,
    state: &v1::LotteryState,
    rows: impl Iterator<Item = Row>,
) -> Result<(), Failure> {
    let entrants = recompute_roster(state, rows);
    entrants
        .map(drop)
        .map_err(|error| differs(&error).during(&format!("lottery {id}")))
}

fn differs(error: &RecomputeError) -> Failure {
    Failure::InvalidProof(error.to_string())
}

fn agree(holds: bool, what: &str) -> Result<(), Failure> {
    if holds {
        return Ok(());
    }
    Err(Failure::InvalidProof(format!(
        "{what}: the record's entries and the certified state do not agree, or entries are missing; \
         ask another node with --node, or export the record again"
    )))
}

fn missing(entry: &Recorded, what: &str) -> Failure {
    let leaf = entry.leaf_index;
    Failure::InvalidProof(format!("the entry at leaf {leaf} stands without {what}"))
}
