//! `cairn lottery show` and `list`: how far lotteries are, each proven against the certified map.

use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, LotteryStage, SeedProfile};
use clap::Args;
use serde::Serialize;

use super::publish::ranks_in_public;
use super::state::{Proven, stage_in_words};
use crate::certificate::Certificate;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, count, line, timestamp};
use crate::session::{Session, lottery_client, parse_hash};

/// Lotteries in one answer: the most that a node gives.
const PAGE: u32 = 100;

/// What `show` takes.
#[derive(Debug, Args)]
pub struct Show {
    /// The lottery's id
    #[arg(value_parser = parse_hash)]
    id: Hash,
}

/// Shows one lottery.
pub async fn show(global: &Global, args: Show) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let lottery = Proven::read(&session, &args.id).await?;
    output::print(global, &Shown::of(&lottery)?, Shown::table);
    Ok(())
}

/// Lists all lotteries, oldest first.
pub async fn list(global: &Global) -> Result<(), Failure> {
    let session = Session::connect(global).await?;
    let mut shown = Vec::new();
    for id in ids(&session).await? {
        shown.push(Shown::of(&Proven::read(&session, &id).await?)?);
    }
    let header = ["lottery", "stage", "rows", "winners", "title"];
    output::rows(global, &shown, &header, |lottery| {
        let winners: u64 = lottery.tiers.iter().map(|tier| tier.winners).sum();
        vec![
            lottery.lottery_id.clone(),
            lottery.stage.to_owned(),
            count(lottery.rows),
            count(winners),
            lottery.title.clone(),
        ]
    });
    Ok(())
}

/// The ids that a node lists. That it leaves none out is not proven.
async fn ids(session: &Session) -> Result<Vec<Hash>, Failure> {
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListLotteriesRequest {
            page_size: PAGE,
            page_token,
        };
        let page = session.retry("listing the lotteries", async |channel| {
            let mut client = lottery_client(channel);
            client.list_lotteries(request.clone()).await
        });
        let page = page.await?.into_inner();
        let found = page.lotteries.iter();
        ids.extend(found.filter_map(|lottery| Hash::from_slice(&lottery.lottery_id)));
        if page.next_page_token.is_empty() {
            return Ok(ids);
        }
        page_token = page.next_page_token;
    }
}

/// A lottery as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    lottery_id: String,
    title: String,
    stage: &'static str,
    what_comes_next: &'static str,
    /// "beacon" or "closed".
    seed_profile: &'static str,
    attempt: u32,
    max_attempts: u32,
    voids: Vec<ShownVoid>,
    open_leaf_index: u64,
    rows: u64,
    tickets: u64,
    roster_root: String,
    dice: String,
    contributors: Vec<ShownContributor>,
    contributions_close_ms: u64,
    close_certified: bool,
    beacon_round: u64,
    beacon_round_ms: u64,
    seed: String,
    tiers: Vec<ShownTier>,
    full_ranking: bool,
    objections: u32,
    objections_open: u32,
    /// An objection against the attempt as a whole was upheld.
    tainted: bool,
    completed_at_ms: u64,
    /// The end of the window for objections; 0 before the publication is complete, or without one.
    objections_until_ms: u64,
    certified_at_ms: u64,
    document_hash: String,
    certificate: Certificate,
}

#[derive(Debug, Serialize)]
struct ShownContributor {
    institution: String,
    contributed: bool,
    /// Named as absent when an earlier attempt was voided.
    dropped: bool,
}

/// An attempt that members ended.
#[derive(Debug, Serialize)]
struct ShownVoid {
    attempt: u32,
    reason: String,
    document_hash: String,
    leaf_index: u64,
    /// Whether its ranking was known.
    drawn: bool,
}

#[derive(Debug, Default, Serialize)]
struct ShownTier {
    name: String,
    quota: u32,
    entrants: u64,
    winners: u64,
    batches: u64,
    batches_published: u32,
    waiting_list: u32,
    /// Ranks below this one were reached by promotions; 0: none was yet.
    promoted_through: u64,
    ranking_root: String,
    cutoff_ticket: String,
    cutoff_serial: u64,
}

impl Shown {
    fn of(lottery: &Proven) -> Result<Shown, Failure> {
        let (rules, state) = (lottery.rules()?, &lottery.state);
        let pinned = state.contributions_close_ms > 0 && lottery.with_beacon()?;
        let (window, completed) = (rules.objection_window_ms, state.completed_at_ms);
        let objectionable = window > 0 && completed > 0;
        let dice: Vec<String> = state.dice.iter().map(u8::to_string).collect();
        Ok(Shown {
            lottery_id: lottery.id.to_string(),
            title: rules.title.clone(),
            stage: stage_in_words(state.stage()),
            what_comes_next: what_comes_next(state.stage(), rules.seed_profile()),
            seed_profile: match rules.seed_profile() {
                SeedProfile::Beacon => "beacon",
                SeedProfile::Closed => "closed",
            },
            attempt: state.attempt,
            max_attempts: rules.max_attempts,
            voids: state.voids.iter().map(ShownVoid::of).collect(),
            open_leaf_index: state.open_leaf_index,
            rows: state.rows,
            tickets: state.tickets,
            roster_root: hex::encode(&state.roster_root),
            dice: dice.join(","),
            contributors: contributors(rules, state),
            contributions_close_ms: state.contributions_close_ms,
            close_certified: state.close_certified,
            beacon_round: state.beacon_round,
            beacon_round_ms: if pinned { lottery.round_time_ms()? } else { 0 },
            seed: hex::encode(&state.seed),
            tiers: tiers(rules, state),
            full_ranking: rules.full_ranking,
            objections: state.objections,
            objections_open: state.objections_open,
            tainted: state.tainted,
            completed_at_ms: completed,
            objections_until_ms: if objectionable { completed + window } else { 0 },
            certified_at_ms: state.certified_at_ms,
            document_hash: hex::encode(&state.document_hash),
            certificate: Certificate::of(&lottery.checkpoint),
        })
    }

    fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("lottery", &self.lottery_id),
            line("title", &self.title),
            line("stage", format!("{}: {}", self.stage, self.what_comes_next)),
            line(
                "attempt",
                format!("{} of {}", self.attempt, self.max_attempts),
            ),
            line("rows", count(self.rows)),
            line("tickets", count(self.tickets)),
            line("roster root", &self.roster_root),
        ];
        lines.extend(self.voids.iter().map(ShownVoid::told));
        let mut known = |name: &str, value: String, is_known: bool| {
            if is_known {
                lines.push(line(name, value));
            }
        };
        let contributing = self.contributions_close_ms > 0;
        known("dice", self.dice.clone(), !self.dice.is_empty());
        known("contributions", self.contributions(), contributing);
        known("contributions close", self.close(), contributing);
        let round = format!("{}, {}", self.beacon_round, timestamp(self.beacon_round_ms));
        known("beacon round", round, self.beacon_round > 0);
        known("seed", self.seed.clone(), !self.seed.is_empty());
        for tier in &self.tiers {
            lines.push(line(&format!("tier {}", tier.name), tier.in_words()));
        }
        let mut known = |name: &str, value: String, is_known: bool| {
            if is_known {
                lines.push(line(name, value));
            }
        };
        known("objections", self.objected(), self.objections > 0);
        let until = format!("until {}", timestamp(self.objections_until_ms));
        known("objections taken", until, self.objections_until_ms > 0);
        let certified = format!(
            "{}\nat {}",
            self.document_hash,
            timestamp(self.certified_at_ms)
        );
        known(
            "notary's document",
            certified,
            !self.document_hash.is_empty(),
        );
        let height = count(self.certificate.height);
        lines.push(line(
            "proven",
            format!("under the certified map of block {height}"),
        ));
        lines.extend(self.certificate.summary());
        lines
    }

    fn contributions(&self) -> String {
        let shown = |c: &ShownContributor| {
            let mark = match (c.contributed, c.dropped) {
                (true, _) => "contributed",
                (false, true) => "dropped, absent in an earlier attempt",
                (false, false) if self.seed.is_empty() => "not yet",
                (false, false) => "absent",
            };
            format!("{}: {mark}", c.institution)
        };
        self.contributors
            .iter()
            .map(shown)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn close(&self) -> String {
        let certified = match (self.beacon_round > 0, self.close_certified) {
            (false, _) => "and waits for everybody; from then on members can name absentees",
            (true, true) => "certified in time",
            (true, false) => "not certified on the chain yet",
        };
        format!("{}, {certified}", timestamp(self.contributions_close_ms))
    }

    fn objected(&self) -> String {
        let (all, open) = (self.objections, self.objections_open);
        let tainted = if self.tainted {
            "; one against the attempt as a whole was upheld: it can only be voided"
        } else {
            ""
        };
        format!("{all}, of which {open} wait for a ruling{tainted}")
    }
}

impl ShownVoid {
    fn of(void: &v1::AttemptVoid) -> ShownVoid {
        ShownVoid {
            attempt: void.attempt,
            reason: void.reason.clone(),
            document_hash: hex::encode(&void.evidence_hash),
            leaf_index: void.leaf_index,
            drawn: void.drawn,
        }
    }

    fn told(&self) -> (String, String) {
        let drawn = if self.drawn { "after" } else { "before" };
        let (reason, leaf) = (&self.reason, self.leaf_index);
        let told = format!("voided {drawn} its draw, at leaf {leaf}: {reason}");
        line(&format!("attempt {}", self.attempt), told)
    }
}

impl ShownTier {
    fn in_words(&self) -> String {
        if self.ranking_root.is_empty() {
            return format!("{} places, not drawn yet", count(self.quota.into()));
        }
        let waiting = self.entrants.saturating_sub(self.winners);
        let waiting = waiting.min(self.waiting_list.into());
        let promoted = match self.promoted_through {
            0 => String::new(),
            rank => format!("; promotions reached rank {}", count(rank)),
        };
        format!(
            "{} places, {} entrants: {} won, {} wait{promoted}; {} of {} batches published\n\
             last winner: serial {}, ticket {}\nranking root {}",
            count(self.quota.into()),
            count(self.entrants),
            count(self.winners),
            count(waiting),
            self.batches_published,
            self.batches,
            self.cutoff_serial,
            self.cutoff_ticket,
            self.ranking_root,
        )
    }
}

fn contributors(rules: &v1::LotteryOpen, state: &v1::LotteryState) -> Vec<ShownContributor> {
    let contributed = |key: &[u8]| state.contributions.iter().any(|c| c.seed_key == key);
    let shown = |c: &v1::Contributor| ShownContributor {
        institution: c.institution.clone(),
        contributed: contributed(&c.seed_key),
        dropped: state.dropped.contains(&c.seed_key),
    };
    rules.contributors.iter().map(shown).collect()
}

fn tiers(rules: &v1::LotteryOpen, state: &v1::LotteryState) -> Vec<ShownTier> {
    let per_batch = u64::from(rules.rows_per_batch.max(1));
    let shown = |(place, tier): (usize, &v1::Tier)| {
        let (name, quota) = (tier.name.clone(), tier.quota);
        let Some(result) = state.results.get(place) else {
            return ShownTier {
                name,
                quota,
                waiting_list: tier.waiting_list,
                ..Default::default()
            };
        };
        ShownTier {
            name,
            quota,
            entrants: result.entrants,
            winners: result.winners,
            batches: ranks_in_public(rules, result).div_ceil(per_batch),
            batches_published: result.batches_published,
            waiting_list: tier.waiting_list,
            promoted_through: result.promoted_through,
            ranking_root: hex::encode(&result.ranking_root),
            cutoff_ticket: hex::encode(&result.cutoff_ticket),
            cutoff_serial: result.cutoff_serial,
        }
    };
    rules.tiers.iter().enumerate().map(shown).collect()
}

pub fn what_comes_next(stage: LotteryStage, profile: SeedProfile) -> &'static str {
    match stage {
        LotteryStage::Unspecified => "this program does not know this stage",
        LotteryStage::Open => "the registrar fills the roster, then freezes it with the notary",
        LotteryStage::Frozen => "the roster is fixed; the notary rolls the dice",
        LotteryStage::Contributing if profile == SeedProfile::Closed => {
            "all institutions contribute to the seed; the last contribution completes it"
        }
        LotteryStage::Contributing => {
            "institutions contribute to the seed until the close; then the beacon's round completes it"
        }
        LotteryStage::Drawing => "drawn; the institute publishes the ranking batch by batch",
        LotteryStage::Complete => {
            "all is published; the notary certifies, once objections are ruled on"
        }
        LotteryStage::Certified => {
            "finished; places that come free go to the waiting list by promotions"
        }
        LotteryStage::Voided => "its last attempt was voided; there is no other",
    }
}
