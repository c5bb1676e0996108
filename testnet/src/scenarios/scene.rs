//! What the stories share: the offices' steps, and looks at what came of them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::applicants;
use crate::cairn::{Cairn, Field, args};
use crate::layout::Layout;
use crate::offices::Desks;
use crate::plan::{ClusterPlan, NodePlan};
use crate::rules::{LotteryRules, Offices, now_s};
use crate::steps::{Steps, thousands};

/// What a command says of something that the rules or it itself refuse.
pub const REFUSED: i32 = 1;
/// Invented people are made from this, so that the story is the same every time.
const PEOPLE: [u8; 32] = *b"the people of Lakeside, invented";
/// As thrown by nobody.
const DICE: &str = "3,1,4,1,5,2,6,5";

/// A story under way.
#[derive(Debug)]
pub struct Scene {
    pub layout: Layout,
    pub plan: ClusterPlan,
    /// Needs no node.
    pub offline: Cairn,
    /// Asks all nodes, in their order.
    pub cairn: Cairn,
    pub desks: Desks,
    pub steps: Steps,
}

impl Scene {
    pub fn new(
        layout: &Layout,
        offline: Cairn,
        plan: &ClusterPlan,
        steps: Steps,
    ) -> anyhow::Result<Scene> {
        Ok(Scene {
            desks: Desks::of(layout, plan)?,
            cairn: offline.online(&plan.urls(), &plan.chain_id),
            layout: layout.clone(),
            plan: plan.clone(),
            offline,
            steps,
        })
    }

    /// Rules with this cluster's offices; one tier.
    pub async fn rules(
        &self,
        title: &str,
        applicants: u32,
        winners: u32,
    ) -> anyhow::Result<LotteryRules> {
        let offices = Offices::load(&self.layout, &self.offline, &self.plan).await?;
        Ok(LotteryRules::of(
            offices,
            title,
            applicants,
            winners,
            now_s()?,
        ))
    }

    /// Opens a lottery; its id.
    pub async fn open(&mut self, rules: &LotteryRules) -> anyhow::Result<String> {
        let began = Instant::now();
        let path = self.layout.lottery("rules.toml");
        rules.write(&path)?;
        let opened = self.cairn.run(self.desks.open(&path)).await?;
        let id = Field(&opened, "lottery_id").text()?;
        let detail = format!("\"{}\"", rules.title);
        self.steps.done_since("opened", detail, began);
        Ok(id)
    }

    /// Invents `count` people.
    pub fn invent(&self, count: u32, tiers: &[(&str, u32)]) -> anyhow::Result<()> {
        let csv = self.layout.lottery("applicants.csv");
        applicants::write_csv(&csv, count.into(), PEOPLE, tiers)
    }

    /// Registers `count` people by the command `register`, freezes and rolls the dice.
    pub async fn enrol(
        &mut self,
        id: &str,
        count: u32,
        register: Vec<OsString>,
    ) -> anyhow::Result<()> {
        self.steps.busy("registering applicants", true);
        let registered = self.cairn.shown(register).await?;
        Field(&registered.value, "rows").is(count)?;
        let detail = format!("{} rows", thousands(count.into()));
        self.steps.done("registered", detail, registered.took);
        let began = Instant::now();
        self.cairn.run(self.desks.freeze(id)).await?;
        self.roll(id).await?;
        self.steps
            .done_since("frozen", "and dice rolled, none thrown", began);
        Ok(())
    }

    /// Rolls the dice of an attempt.
    pub async fn roll(&self, id: &str) -> anyhow::Result<Value> {
        self.cairn.run(self.desks.dice(id, DICE)?).await
    }

    /// The contributions of those whom `comes` names, one after another.
    pub async fn contribute(
        &mut self,
        id: &str,
        comes: impl Fn(&NodePlan) -> bool,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut came = Vec::new();
        for node in self.plan.nodes.iter().filter(|node| comes(node)) {
            let command = self.desks.contribute(id, node.raft_id);
            let contributed = self.cairn.run(command).await;
            contributed.with_context(|| format!("the contribution of {}", node.institution))?;
            came.push(node.institution.as_str());
        }
        let detail = came.join(", ");
        self.steps.done_since("contributions", detail, began);
        Ok(())
    }

    /// The beacon's round, and with it the draw.
    pub async fn beacon(&mut self, id: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        self.steps.busy("waiting for the beacon", false);
        let drawn = self.cairn.run(self.desks.beacon(id)).await?;
        let detail = format!(
            "round {}; every node draws",
            Field(&drawn, "round").number()?
        );
        self.steps.done_since("beacon and draw", detail, began);
        Ok(())
    }

    /// All batches.
    pub async fn publish(&mut self, id: &str) -> anyhow::Result<()> {
        let published = self.cairn.shown(self.desks.publish(id)).await?;
        Field(&published.value, "complete").holds()?;
        let detail = format!("{} batches", published.value["batches"]);
        self.steps.done("published", detail, published.took);
        Ok(())
    }

    /// The notary's certificate.
    pub async fn certify(&mut self, id: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        self.cairn.run(self.desks.certify(id)?).await?;
        self.steps
            .done_since("certified", "with the hash of the deed", began);
        Ok(())
    }

    /// Ends an attempt: the notary records why, the first member's office drafts, all others approve.
    pub async fn void(
        &self,
        id: &str,
        reason: &str,
        document: &Path,
        absent: &[&str],
    ) -> anyhow::Result<()> {
        self.cairn.run(self.desks.evidence(document)).await?;
        let (first, others) = self.plan.nodes.split_first().context("no members")?;
        let draft = self.layout.lottery("void.draft");
        let void = ["lottery", "void"];
        let office = |node: &NodePlan| args!["--key", self.layout.author_key(node.raft_id)];
        let mut propose = args![void[0], void[1], "propose", id, "--reason", reason];
        propose.extend(args!["--document", document, "--out", draft]);
        propose.extend(office(first));
        for institution in absent {
            propose.extend(args!["--absent", institution]);
        }
        self.cairn.run(propose).await?;
        for node in others {
            let mut approve = args![void[0], void[1], "approve", draft];
            approve.extend(office(node));
            self.cairn.run(approve).await?;
        }
        self.cairn
            .run(args![void[0], void[1], "submit", draft])
            .await?;
        Ok(())
    }

    /// A winner's redemption code for a shop; `made_at`: milliseconds since 1970, if not now.
    pub async fn code(
        &self,
        id: &str,
        serial: u64,
        shop: &str,
        made_at: Option<u64>,
    ) -> anyhow::Result<String> {
        let receipt = self.layout.lottery("receipt.json");
        let _ = fs::remove_file(&receipt);
        let issue = args![
            "lottery",
            "receipt",
            id,
            "--receipts",
            self.desks.receipts(),
            "--serial",
            serial.to_string(),
            "--out",
            receipt
        ];
        self.cairn.run(issue).await?;
        let mut present = args!["lottery", "present", receipt, "--shop", shop];
        if let Some(ms) = made_at {
            present.extend(args!["--signed-at-ms", ms.to_string()]);
        }
        Field(&self.cairn.run(present).await?, "code").text()
    }

    /// Where a row stands, proven to its applicant.
    pub async fn verdict(&self, id: &str, serial: u64) -> anyhow::Result<String> {
        let serial = serial.to_string();
        let receipts = self.desks.receipts();
        let check = args![
            "lottery",
            "check",
            id,
            "--receipts",
            receipts,
            "--serial",
            serial
        ];
        Field(&self.cairn.run(check).await?, "verdict").text()
    }

    /// Fails unless the row stands there.
    pub async fn stands(&self, id: &str, serial: u64, expected: &str) -> anyhow::Result<()> {
        let verdict = self.verdict(id, serial).await?;
        if verdict != expected {
            bail!("serial {serial} is said to be \"{verdict}\", expected \"{expected}\"");
        }
        Ok(())
    }

    /// The first row from `from` on that stands where `wanted` says.
    pub async fn find(&self, id: &str, wanted: &str, from: u64) -> anyhow::Result<u64> {
        for serial in from..from + 400 {
            if self.verdict(id, serial).await? == wanted {
                return Ok(serial);
            }
        }
        bail!("400 rows from serial {from} on, and none is \"{wanted}\"")
    }

    /// Exports the record, and draws again from the file, without a node.
    pub async fn recompute(&mut self, id: &str) -> anyhow::Result<Value> {
        let began = Instant::now();
        let record = self.layout.lottery("lottery.record");
        let export = args!["lottery", "export", id, "--out", record];
        self.cairn.run(export).await?;
        let outsider = self.offline.in_folder(&self.layout.outsider());
        let again = args![
            "lottery",
            "recompute",
            "--from",
            record,
            "--genesis",
            self.layout.genesis()
        ];
        let again = outsider.run(again).await?;
        Field(&again, "ok").holds()?;
        let detail = "from an exported file, by a process that asks no node";
        self.steps.done_since("drawn again", detail, began);
        Ok(again)
    }

    /// The notary's report, as one file, which names all of `parts`.
    pub async fn report(&mut self, id: &str, parts: &[&str]) -> anyhow::Result<()> {
        let began = Instant::now();
        let path = self.layout.lottery("report.html");
        let report = args!["lottery", "report", id, "--out", path];
        self.cairn.run(report).await?;
        let text = fs::read_to_string(&path)?;
        if let Some(missing) = parts.iter().find(|part| !text.contains(**part)) {
            bail!("{} does not say \"{missing}\"", path.display());
        }
        let detail = format!("{} kB of HTML, in Chinese and English", text.len() / 1_000);
        self.steps.done_since("report", detail, began);
        Ok(())
    }

    /// A document that an office has in its hands.
    pub fn document(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.layout.lottery(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}
