//! `cairn lottery show` and `list`: how far lotteries are, each proven against the certified map.

use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, LotteryStage};
use clap::Args;
use serde::Serialize;

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
    attempt: u32,
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
    document_hash: String,
    certificate: Certificate,
}

#[derive(Debug, Serialize)]
struct ShownContributor {
    institution: String,
    contributed: bool,
}

#[derive(Debug, Default, Serialize)]
struct ShownTier {
    name: String,
    quota: u32,
    entrants: u64,
    winners: u64,
    batches: u64,
    batches_published: u32,
    ranking_root: String,
    cutoff_ticket: String,
    cutoff_serial: u64,
}

impl Shown {
    fn of(lottery: &Proven) -> Result<Shown, Failure> {
        let (rules, state) = (lottery.rules()?, &lottery.state);
        let began = state.contributions_close_ms > 0;
        let dice: Vec<String> = state.dice.iter().map(u8::to_string).collect();
        Ok(Shown {
            lottery_id: lottery.id.to_string(),
            title: rules.title.clone(),
            stage: stage_in_words(state.stage()),
            what_comes_next: what_comes_next(state.stage()),
            attempt: state.attempt,
            open_leaf_index: state.open_leaf_index,
            rows: state.rows,
            tickets: state.tickets,
            roster_root: hex::encode(&state.roster_root),
            dice: dice.join(","),
            contributors: contributors(rules, state),
            contributions_close_ms: state.contributions_close_ms,
            close_certified: state.close_certified,
            beacon_round: state.beacon_round,
            beacon_round_ms: if began { lottery.round_time_ms()? } else { 0 },
            seed: hex::encode(&state.seed),
            tiers: tiers(rules, state),
            document_hash: hex::encode(&state.document_hash),
            certificate: Certificate::of(&lottery.checkpoint),
        })
    }

    fn table(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("lottery", &self.lottery_id),
            line("title", &self.title),
            line("stage", format!("{}: {}", self.stage, self.what_comes_next)),
            line("attempt", self.attempt),
            line("rows", count(self.rows)),
            line("tickets", count(self.tickets)),
            line("roster root", &self.roster_root),
        ];
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
        known("beacon round", round, contributing);
        known("seed", self.seed.clone(), !self.seed.is_empty());
        for tier in &self.tiers {
            lines.push(line(&format!("tier {}", tier.name), tier.in_words()));
        }
        if !self.document_hash.is_empty() {
            lines.push(line("notary's document", &self.document_hash));
        }
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
            let mark = if c.contributed {
                "contributed"
            } else {
                "absent"
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
        let certified = if self.close_certified {
            "certified in time"
        } else {
            "not certified on the chain yet"
        };
        format!("{}, {certified}", timestamp(self.contributions_close_ms))
    }
}

impl ShownTier {
    fn in_words(&self) -> String {
        if self.ranking_root.is_empty() {
            return format!("{} places, not drawn yet", count(self.quota.into()));
        }
        let waiting = self.entrants - self.winners.min(self.entrants);
        format!(
            "{} places, {} entrants: {} won, {} wait; {} of {} batches published\n\
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
                ..Default::default()
            };
        };
        ShownTier {
            name,
            quota,
            entrants: result.entrants,
            winners: result.winners,
            batches: result.winners.div_ceil(per_batch),
            batches_published: result.batches_published,
            ranking_root: hex::encode(&result.ranking_root),
            cutoff_ticket: hex::encode(&result.cutoff_ticket),
            cutoff_serial: result.cutoff_serial,
        }
    };
    rules.tiers.iter().enumerate().map(shown).collect()
}

fn what_comes_next(stage: LotteryStage) -> &'static str {
    match stage {
        LotteryStage::Unspecified => "this program does not know this stage",
        LotteryStage::Open => "the registrar fills the roster, then freezes it with the notary",
        LotteryStage::Frozen => "the roster is fixed; the notary rolls the dice",
        LotteryStage::Contributing => {
            "institutions contribute to the seed until the close; then the beacon's round completes it"
        }
        LotteryStage::Drawing => "drawn; the institute publishes the winners batch by batch",
        LotteryStage::Complete => "all winners are published; the notary certifies",
        LotteryStage::Certified => "finished",
        LotteryStage::Voided => "its last attempt was voided; there is no other",
    }
}
