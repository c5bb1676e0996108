//! The offices of a lottery at work: each step as the command that the office types, with its keys.
//!
//! What holds here: the demo and the scenarios take these steps in the same way. What stays out:
//! what comes of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::applicants::IDENTITY_COLUMN;
use crate::cairn::args;
use crate::institutions::Role;
use crate::layout::Layout;
use crate::plan::ClusterPlan;

/// The offices' keys, and where their files lie.
#[derive(Debug, Clone)]
pub struct Desks {
    layout: Layout,
    pub notary: PathBuf,
    pub registrar: PathBuf,
    pub institute: PathBuf,
    pub organiser: PathBuf,
}

impl Desks {
    pub fn of(layout: &Layout, plan: &ClusterPlan) -> anyhow::Result<Desks> {
        let author = |role| anyhow::Ok(layout.author_key(plan.first(role)?.raft_id));
        Ok(Desks {
            notary: author(Role::Notary)?,
            registrar: layout.key("registrar"),
            institute: author(Role::Institute)?,
            organiser: layout.key("organiser"),
            layout: layout.clone(),
        })
    }

    /// The receipts of a lottery whose applicants stand in `applicants.csv`.
    pub fn receipts(&self) -> PathBuf {
        self.layout.lottery("receipts.csv")
    }

    pub fn open(&self, rules: &Path) -> Vec<OsString> {
        args![
            "lottery",
            "open",
            "--rules",
            rules,
            "--organiser-key",
            self.organiser,
            "--notary-key",
            self.notary,
        ]
    }

    /// Everybody in `applicants.csv`, with both offices' tag keys on one machine.
    pub fn register(&self, id: &str) -> Vec<OsString> {
        let mut command = self.register_rows(id);
        command.extend(self.tag_keys());
        command
    }

    /// The same, with tags that the two offices made one after the other.
    pub fn register_with_tags(&self, id: &str, tags: &Path) -> Vec<OsString> {
        let mut command = self.register_rows(id);
        command.extend(args![
            "--registrar-tag-key",
            self.layout.key("registrar-tag"),
            "--tags",
            tags
        ]);
        command
    }

    fn register_rows(&self, id: &str) -> Vec<OsString> {
        let mut command = args!["lottery", "register", id, "--registrar-key", self.registrar];
        command.extend(self.applicants());
        command.extend(args!["--receipts", self.receipts()]);
        command
    }

    /// The registrar's part of the tags.
    pub fn blind(&self, id: &str, inner: &Path) -> Vec<OsString> {
        let key = self.layout.key("registrar-tag");
        let mut command = args!["lottery", "tag", "inner", id, "--out", inner];
        command.extend(self.applicants());
        command.extend(args!["--registrar-tag-key", key]);
        command
    }

    /// The notary's part, from the registrar's.
    pub fn blind_again(&self, id: &str, inner: &Path, tags: &Path) -> Vec<OsString> {
        let key = self.layout.key("notary-tag");
        args![
            "lottery",
            "tag",
            "outer",
            id,
            "--inner",
            inner,
            "--notary-tag-key",
            key,
            "--out",
            tags
        ]
    }

    /// Every row against the registrations, with both offices' tag keys.
    pub fn audit_roster(&self, id: &str) -> Vec<OsString> {
        let mut command = args!["lottery", "audit-roster", id];
        command.extend(self.applicants());
        command.extend(self.tag_keys());
        command.extend(args!["--receipts", self.receipts()]);
        command
    }

    fn applicants(&self) -> Vec<OsString> {
        let csv = self.layout.lottery("applicants.csv");
        args!["--csv", csv, "--identity-column", IDENTITY_COLUMN]
    }

    fn tag_keys(&self) -> Vec<OsString> {
        args![
            "--registrar-tag-key",
            self.layout.key("registrar-tag"),
            "--notary-tag-key",
            self.layout.key("notary-tag")
        ]
    }

    pub fn freeze(&self, id: &str) -> Vec<OsString> {
        args![
            "lottery",
            "freeze",
            id,
            "--registrar-key",
            self.registrar,
            "--notary-key",
            self.notary,
        ]
    }

    /// `digits`: from 1 to 6, with commas between them.
    pub fn dice(&self, id: &str, digits: &str) -> anyhow::Result<Vec<OsString>> {
        let recording = self.layout.lottery("dice.txt");
        let text = format!("No dice were thrown: a demo made them up.\n{digits}\n");
        std::fs::write(&recording, text)?;
        Ok(args![
            "lottery",
            "dice",
            id,
            "--notary-key",
            self.notary,
            "--digits",
            digits,
            "--evidence",
            recording,
        ])
    }

    /// The contribution of the institution that runs node `raft_id`.
    pub fn contribute(&self, id: &str, raft_id: u64) -> Vec<OsString> {
        args![
            "lottery",
            "contribute",
            id,
            "--seed-key",
            self.layout.seed_key(raft_id),
            "--author-key",
            self.layout.author_key(raft_id),
        ]
    }

    /// The close, and the development beacon's round.
    pub fn beacon(&self, id: &str) -> Vec<OsString> {
        args![
            "lottery",
            "beacon",
            id,
            "--author-key",
            self.organiser,
            "--dev-key",
            self.layout.key("beacon"),
        ]
    }

    /// A document's hash, recorded by the notary.
    pub fn evidence(&self, document: &Path) -> Vec<OsString> {
        args![
            "evidence",
            "record",
            "--key",
            self.notary,
            "--file",
            document
        ]
    }

    pub fn publish(&self, id: &str) -> Vec<OsString> {
        args!["lottery", "publish", id, "--institute-key", self.institute]
    }

    pub fn certify(&self, id: &str) -> anyhow::Result<Vec<OsString>> {
        let deed = self.layout.lottery("deed.txt");
        let text = format!(
            "Notarial deed (a demo)\nI watched lottery {id}: roster, dice, draw and results.\n"
        );
        std::fs::write(&deed, text)?;
        Ok(args![
            "lottery",
            "certify",
            id,
            "--notary-key",
            self.notary,
            "--document",
            deed,
        ])
    }
}
