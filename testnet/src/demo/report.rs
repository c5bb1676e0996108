//! The end of the story: what was recorded, who signed, how long it took, what it shows and what
//! it does not. Printed for people and written as `demo.json`.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;

use super::crash::Crash;
use super::limit;
use super::lottery::Drawn;
use super::story::Story;
use super::verify::{Proof, Verified, draw_ms};
use crate::cairn::args;
use crate::cluster::Cluster;
use crate::layout::Layout;
use crate::steps::{Step, rounded, thousands, wrap};

/// From the start of the cluster to the last check, for the whole of Suzhou on four nodes.
const TARGET_WHOLE_S: f64 = 30.0;
/// The draw itself.
const TARGET_DRAW_MS: f64 = 500.0;
/// A node's memory.
const TARGET_MEMORY: u64 = 1 << 30;
/// The ledger database, for each row of the roster.
const TARGET_ROW_BYTES: f64 = 200.0;

/// Registering, as a multiple of [`limit::measure`].
const TARGET_REGISTERING: f64 = 2.0;

/// What a proof does not show, in words for people.
const NOT_SHOWN: [&str; 4] = [
    "that the people on the roster exist and that the registrar left nobody out: the ledger keeps \
     what it is told, and shows that nobody changed it",
    "that institutions which together satisfy the quorum policy did not agree on a lie: any two \
     certified ledgers would name those who signed both",
    "anything after its \"latest as of\": a gate decides how old a proof may be",
    "that the beacon was unpredictable: this one is a development beacon on this machine",
];

/// Everything that is worth telling.
#[derive(Debug, Serialize)]
pub struct Report {
    pub version: &'static str,
    pub applicants: u32,
    pub winners: u32,
    pub nodes: usize,
    pub rehearsal_seed: Option<String>,
    pub cores: usize,
    pub chain_id: String,
    pub lottery_id: String,
    pub lottery_seed: String,
    pub roster_root: String,
    pub ranking_root: String,
    pub beacon: String,
    pub beacon_round: u64,
    pub a_code: String,
    /// The admin listener of a member, which shows restricted bodies.
    pub auditors_node: String,
    pub checkpoint: Value,
    pub cluster_start_to_verified_s: f64,
    pub draw_ms: f64,
    pub registering_s: f64,
    /// What registering cannot do without, on this machine.
    pub registering_limit_s: f64,
    pub peak_memory_bytes: u64,
    pub peak_memory_node: u64,
    pub ledger_bytes: u64,
    pub raft_bytes: u64,
    pub proofs: Vec<Proof>,
    pub recomputed: Value,
    pub replayed: Value,
    pub crash: Option<Crash>,
    pub steps: Vec<Step>,
    pub not_shown: [&'static str; 4],
}

impl Report {
    /// Collects it while the cluster still runs.
    pub async fn collect(
        story: &Story,
        cluster: &Cluster,
        drawn: Drawn,
        verified: Verified,
        whole: Duration,
    ) -> anyhow::Result<Report> {
        let checkpoint = story.cairn.run(args!["checkpoint", "show"]).await?;
        let lottery = story.cairn.run(args!["lottery", "show", drawn.id]).await?;
        let (memory, node) = cluster.peak_memory().unwrap_or_default();
        let auditor = cluster.plan.nodes.last().context("no node")?;
        let auditors_node = format!("http://{}", auditor.ports.admin);
        let options = &story.options;
        let limit = limit::measure(story.layout.root(), options.applicants, options.nodes)?;
        let ranking_root = lottery["tiers"][0]["ranking_root"].as_str();
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            applicants: story.options.applicants,
            winners: story.options.winners.min(story.options.applicants),
            nodes: story.options.nodes,
            rehearsal_seed: story.options.seed.clone(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            chain_id: story.plan.chain_id.clone(),
            lottery_id: drawn.id,
            lottery_seed: drawn.seed,
            roster_root: drawn.roster_root,
            ranking_root: ranking_root.unwrap_or_default().to_owned(),
            beacon: drawn.beacon,
            beacon_round: drawn.beacon_round,
            a_code: drawn.issued.yellow,
            auditors_node,
            checkpoint,
            cluster_start_to_verified_s: rounded(whole),
            draw_ms: draw_ms(&verified.recomputed),
            registering_s: rounded(drawn.registering),
            registering_limit_s: rounded(limit),
            peak_memory_bytes: memory,
            peak_memory_node: node,
            ledger_bytes: 0,
            raft_bytes: 0,
            proofs: verified.proofs,
            recomputed: verified.recomputed,
            replayed: verified.replayed,
            crash: drawn.crash,
            steps: Vec::new(),
            not_shown: NOT_SHOWN,
        })
    }

    /// Prints it for people.
    pub fn print(&self, layout: &Layout) {
        self.recorded();
        self.cosigned();
        self.numbers();
        self.proof_sizes();
        heading("What a proof does not show");
        for text in self.not_shown {
            paragraph("- ", text);
        }
        heading("To replay it yourself");
        paragraph(
            "",
            "The bodies of codes and status orders are restricted, so replaying needs an endpoint for \
             auditors: a member's admin listener, while the cluster runs.",
        );
        println!(
            "  cairn audit replay --node {} --chain-id {}",
            self.auditors_node, self.chain_id
        );
        heading("Where to look");
        line("this summary", layout.report().display());
        line("data and keys", layout.root().display());
        line("commands", layout.commands_log().display());
        line(
            "node logs",
            layout.root().join("nodes/*/node.log").display(),
        );
    }

    fn recorded(&self) {
        heading("What was recorded");
        line("chain", &self.chain_id);
        line("lottery", &self.lottery_id);
        let winners = thousands(self.winners.into());
        let applicants = thousands(self.applicants.into());
        let others = match self.applicants > self.winners {
            true => ", all others ranked to wait",
            false => "",
        };
        line(
            "draw",
            format!("{winners} of {applicants} applicants{others}"),
        );
        line("seed", &self.lottery_seed);
        line("ranking root", &self.ranking_root);
        line(
            "beacon",
            format!("round {} ({})", self.beacon_round, self.beacon),
        );
        if self.rehearsal_seed.is_some() {
            line(
                "rehearsal",
                "the round was given out before its time; the same --seed gives the same draw",
            );
        }
        let blocks = self.replayed["blocks"].as_u64().unwrap_or(0);
        let entries = self.replayed["entries"].as_u64().unwrap_or(0);
        line(
            "ledger",
            format!(
                "{} entries in {} blocks",
                thousands(entries),
                thousands(blocks)
            ),
        );
    }

    fn cosigned(&self) {
        let checkpoint = &self.checkpoint;
        heading("Who cosigned the newest checkpoint");
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let mut cosigners = checkpoint["cosigners"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        cosigners.sort_by_key(|cosigner| (text(&cosigner["role"]), text(&cosigner["institution"])));
        for cosigner in &cosigners {
            let (name, role) = (text(&cosigner["institution"]), text(&cosigner["role"]));
            line(
                &role,
                format!("{name}, at {}", text(&cosigner["cosigned_at"])),
            );
        }
        line(
            "height",
            format!(
                "{}, {} entries",
                checkpoint["height"], checkpoint["tree_size"]
            ),
        );
        line("latest as of", text(&checkpoint["latest_as_of"]));
    }

    fn numbers(&self) {
        heading(&format!("How long, how much (on {} cores)", self.cores));
        let whole = self.cluster_start_to_verified_s;
        // The goal is for the whole of Suzhou on four nodes.
        let comparable = self.nodes <= 4;
        let goal = |met: bool, goal: &str| match (comparable, met) {
            (true, true) => format!("   (goal: {goal})"),
            (true, false) => format!("   (goal missed: {goal})"),
            (false, _) => String::new(),
        };
        line(
            "start -> verified",
            format!(
                "{whole:.1} s{}",
                goal(whole <= TARGET_WHOLE_S, "at most 30 s")
            ),
        );
        line(
            "the draw itself",
            format!(
                "{:.0} ms{}",
                self.draw_ms,
                goal(self.draw_ms < TARGET_DRAW_MS, "under 500 ms")
            ),
        );
        let ratio = self.registering_s / self.registering_limit_s;
        line(
            "registering",
            format!(
                "{:.1} s, {ratio:.1} times hashing and writing the rows{}",
                self.registering_s,
                goal(ratio <= TARGET_REGISTERING, "at most 2 times")
            ),
        );
        let memory = self.peak_memory_bytes;
        line(
            "memory of a node",
            format!(
                "{:.0} MiB at most (node {}){}",
                memory as f64 / f64::from(1 << 20),
                self.peak_memory_node,
                goal(memory < TARGET_MEMORY, "under 1 GiB")
            ),
        );
        let per_row = self.ledger_bytes as f64 / f64::from(self.applicants);
        let large = self.applicants >= 100_000;
        line(
            "ledger on disk",
            format!(
                "{:.1} MB, {per_row:.0} bytes for each applicant{}; Raft's log {:.1} MB",
                self.ledger_bytes as f64 / 1e6,
                if large {
                    goal(per_row < TARGET_ROW_BYTES, "under 200")
                } else {
                    String::new()
                },
                self.raft_bytes as f64 / 1e6,
            ),
        );
        if let Some(crash) = &self.crash {
            line(
                "leader killed",
                format!(
                    "certified again after {:.2} s; nothing of {} acknowledged entries lost",
                    crash.certified_again_s, crash.acknowledged_entries
                ),
            );
        }
    }

    fn proof_sizes(&self) {
        heading("Proofs that were verified offline, with nothing but the chain id");
        for proof in &self.proofs {
            line(&format!("{:>6} bytes", thousands(proof.bytes)), &proof.what);
        }
        paragraph(
            "",
            "Each file carries the genesis, so that it can be verified in many years.",
        );
    }
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn line(name: &str, value: impl std::fmt::Display) {
    println!("  {name:<18} {value}");
}

fn paragraph(mark: &str, text: &str) {
    let mut mark = mark.to_owned();
    for line in wrap(text, 92) {
        println!("  {mark}{line}");
        mark = " ".repeat(mark.len());
    }
}
