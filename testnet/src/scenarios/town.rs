//! What the stories about codes share: the steps of authorities, stations and gates.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;
use serde_json::Value;

use super::scene::{REFUSED, Scene};
use crate::cairn::{Cairn, Field, args};
use crate::keys;
use crate::plan::{REASONS, REGION};
use crate::steps::thousands;

/// What a gate's command ends with when it does not let through.
pub const NOT_THROUGH: i32 = 4;

/// An order as an authority gives it.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// The key of the authority, by its file's name.
    pub authority: &'a str,
    /// That of the office that approves.
    pub approver: Option<&'a str>,
    pub region: &'a str,
    pub reason: &'a str,
    pub status: &'a str,
    pub from: PathBuf,
    pub corrects: Option<String>,
}

impl<'a> Order<'a> {
    /// As the authority of the first region gives it, approved by the health office.
    pub fn of(status: &'a str, from: PathBuf) -> Order<'a> {
        Order {
            authority: "authority",
            approver: Some("health"),
            region: REGION,
            reason: REASONS[0],
            status,
            from,
            corrects: None,
        }
    }
}

impl Scene {
    /// What the granters of the genesis say together; `act` as `cairn mandate propose` reads it.
    pub async fn granted(&self, name: &str, act: &str) -> anyhow::Result<Value> {
        let file = self.layout.codes(&format!("{name}.toml"));
        let draft = self.layout.codes(&format!("{name}.draft"));
        fs::write(&file, act)?;
        let [first, second, ..] = &self.plan.nodes[..] else {
            bail!("two members' offices grant together");
        };
        let office = |raft_id| args!["--key", self.layout.author_key(raft_id)];
        let mut propose = args!["mandate", "propose", file, "--out", draft];
        propose.extend(office(first.raft_id));
        self.cairn.run(propose).await?;
        // One granter alone is not enough.
        let submit = || args!["mandate", "submit", draft];
        self.cairn.refused(submit(), QUORUM_NOT_MET).await?;
        let mut approve = args!["mandate", "approve", draft];
        approve.extend(office(second.raft_id));
        self.cairn.run(approve).await?;
        self.cairn.run(submit()).await
    }

    /// The command that issues codes.
    pub fn issuing(&self, out: &Path, count: usize) -> Vec<OsString> {
        args![
            "code",
            "issue",
            "--key",
            self.layout.key("authority"),
            "--region",
            REGION,
            "--count",
            count.to_string(),
            "--valid-days",
            "30",
            "--out",
            out
        ]
    }

    /// Issues codes, and says where they stand.
    pub async fn issue(&mut self, file: &str, count: usize) -> anyhow::Result<PathBuf> {
        let out = self.layout.codes(file);
        self.steps.busy("issuing codes", true);
        let issued = self.cairn.shown(self.issuing(&out, count)).await?;
        Field(&issued.value, "codes").is(count)?;
        let detail = format!("{} pseudonyms for {REGION}", thousands(count as u64));
        self.steps.done("codes issued", detail, issued.took);
        Ok(out)
    }

    /// The command that gives an order.
    pub fn order(&self, order: &Order<'_>) -> Vec<OsString> {
        let mut command = args![
            "code",
            "order",
            "--key",
            self.layout.key(order.authority),
            "--region",
            order.region,
            "--reason",
            order.reason,
            "--basis",
            "Act on Epidemic Control (a story), article 7",
            "--status",
            order.status,
            "--from",
            order.from,
            "--contact",
            "appeals@example.org",
            "--operator",
            "desk 7",
            "--rule-version",
            "2026-1"
        ];
        if order.status != "green" {
            command.extend(args!["--lapses-days", "7", "--on-lapse", "green"]);
        }
        if let Some(approver) = order.approver {
            command.extend(args!["--approver-key", self.layout.key(approver)]);
        }
        if let Some(corrects) = &order.corrects {
            command.extend(args!["--corrects", corrects]);
        }
        command
    }

    /// Gives an order that must take effect whole; its id.
    pub async fn ordered(&mut self, title: &str, order: &Order<'_>) -> anyhow::Result<String> {
        self.steps.busy(title, true);
        let ordered = self.cairn.shown(self.order(order)).await?;
        let count = Field(&ordered.value, "count").number()?;
        let certified = ordered.value["certified_after"].as_f64();
        let what = format!(
            "{} codes {}, certified {:.2} s after it was handed in",
            thousands(count),
            order.status,
            certified.unwrap_or_default()
        );
        self.steps.done(title, what, ordered.took);
        Field(&ordered.value, "order_id").text()
    }

    /// Gives an order that the ledger must refuse.
    pub async fn order_refused(&self, order: &Order<'_>) -> anyhow::Result<()> {
        self.cairn.refused(self.order(order), REFUSED).await?;
        Ok(())
    }

    /// Fails unless the code shows the status, which is proven.
    pub async fn shows(&self, code: &str, status: &str) -> anyhow::Result<Value> {
        let shown = self.cairn.run(args!["code", "status", code]).await?;
        Field(&shown, "status").is(status)?;
        Ok(shown)
    }

    /// The pass of a code.
    pub async fn pass(&self, code: &str) -> anyhow::Result<String> {
        let shown = self.cairn.run(args!["pass", "show", code]).await?;
        Field(&shown, "pass").text()
    }

    /// Everything that a gate without a network needs; `more`: flags of `cairn trust export`.
    pub async fn trust(&self, more: Vec<OsString>) -> anyhow::Result<PathBuf> {
        let trust = self.layout.outsider().join("gate.trust");
        let mut export = args!["trust", "export", "--out", trust];
        export.extend(more);
        self.cairn.run(export).await?;
        Ok(trust)
    }

    /// A gate's policy.
    pub fn policy(&self, text: &str) -> anyhow::Result<PathBuf> {
        let policy = self.layout.outsider().join("gate.toml");
        fs::write(&policy, text)?;
        Ok(policy)
    }

    /// What a gate says of a pass, asking nobody: `accepted`, or the reason why not.
    pub async fn gate(
        &self,
        pass: &str,
        trust: &Path,
        more: Vec<OsString>,
        expected: &str,
    ) -> anyhow::Result<Value> {
        let gate = self.offline.in_folder(&self.layout.outsider());
        let mut verify = args!["pass", "verify", pass, "--trust", trust];
        verify.extend(more);
        let (judged, field) = match expected {
            "accepted" => (gate.run(verify).await?, "verdict"),
            _ => (gate.refused(verify, NOT_THROUGH).await?, "reason"),
        };
        Field(&judged, field).is(expected)?;
        Ok(judged)
    }

    /// The acts of an authority, all of them; the command checks that.
    pub async fn acts(&mut self, authority: &str) -> anyhow::Result<Vec<Value>> {
        let key = self.public(authority).await?;
        self.cairn.rows(args!["audit", "authority", key]).await
    }

    /// Asks where restricted bodies and histories are shown: at the members' own listeners.
    pub fn auditors(&self) -> Cairn {
        let urls = self.plan.nodes.iter();
        let urls: Vec<String> = urls.map(|n| format!("http://{}", n.ports.admin)).collect();
        self.offline.online(&urls, &self.plan.chain_id)
    }

    /// The public part of a key, by its file's name.
    pub async fn public(&self, name: &str) -> anyhow::Result<String> {
        let shown = keys::show(&self.offline, &self.layout.key(name)).await?;
        Ok(shown.public_key)
    }
}

/// What `cairn mandate submit` ends with before enough have signed.
const QUORUM_NOT_MET: i32 = 11;
