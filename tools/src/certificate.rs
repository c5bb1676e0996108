//! How a certificate is told: what was certified, by whom, as of when, and what that does not show.

use cairn_ledger::checkpoint::CertifiedCheckpoint;
use cairn_proto::v1;
use serde::Serialize;

use crate::output::{count, line, timestamp};

/// What no checkpoint shows, in words for people.
pub const NOT_SHOWN: [&str; 3] = [
    "that what people recorded is true: only that it was recorded, as it is, and when",
    "that nothing was left out before it was recorded: watch the status of your own entries",
    "anything after the time that it is the latest as of",
];

/// What [`CertifiedCheckpoint::detect_only`] means.
pub const DETECT_ONLY: &str = "this ledger's policy only detects forks: a single institution could get \
                           another checkpoint certified at this height";

/// A certificate in plain values.
#[derive(Debug, Serialize)]
pub struct Certificate {
    /// Of the certified block.
    pub height: u64,
    /// Entries in the log.
    pub tree_size: u64,
    /// The block's ledger time.
    pub timestamp: String,
    /// The certified header's hash.
    pub header_hash: String,
    /// Root of the log.
    pub log_root: String,
    /// Root of the map.
    pub map_root: String,
    /// The members' set in force.
    pub epoch: u64,
    /// By then enough members had cosigned.
    pub certified_by: String,
    /// At that time this was still the latest checkpoint.
    pub latest_as_of: String,
    /// The same in milliseconds since 1970.
    pub latest_as_of_ms: u64,
    /// Whether the policy only detects forks.
    pub detect_only: bool,
    /// Who cosigned.
    pub cosigners: Vec<Cosigner>,
}

/// One member's part in a certificate.
#[derive(Debug, Serialize)]
pub struct Cosigner {
    /// Its name.
    pub institution: String,
    /// Its role.
    pub role: &'static str,
    /// By its own clock.
    pub cosigned_at: String,
}

impl Certificate {
    /// Of a verified checkpoint.
    pub fn of(checkpoint: &CertifiedCheckpoint) -> Certificate {
        let header = checkpoint.header();
        Certificate {
            height: header.height,
            tree_size: header.tree_size,
            timestamp: timestamp(header.timestamp_ms),
            header_hash: checkpoint.header_hash().to_string(),
            log_root: checkpoint.log_root().to_string(),
            map_root: checkpoint.map_root().to_string(),
            epoch: header.epoch,
            certified_by: timestamp(checkpoint.certified_by_ms()),
            latest_as_of: timestamp(checkpoint.latest_as_of_ms()),
            latest_as_of_ms: checkpoint.latest_as_of_ms(),
            detect_only: checkpoint.detect_only(),
            cosigners: cosigners(checkpoint),
        }
    }

    /// The whole certificate as lines of a table.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("height", count(self.height)),
            line("entries", count(self.tree_size)),
            line("ledger time", &self.timestamp),
            line("header hash", &self.header_hash),
            line("log root", &self.log_root),
            line("map root", &self.map_root),
        ];
        lines.extend(self.summary());
        lines
    }

    /// Who stands behind it and as of when, as lines of a table.
    pub fn summary(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            line("cosigned by", self.cosigners_in_words()),
            line("certified by", &self.certified_by),
            line("latest as of", &self.latest_as_of),
        ];
        if self.detect_only {
            lines.push(line("detect only", DETECT_ONLY));
        }
        lines
    }

    fn cosigners_in_words(&self) -> String {
        let words = self.cosigners.iter().map(|cosigner| {
            let Cosigner {
                institution,
                role,
                cosigned_at,
            } = cosigner;
            format!("{institution} ({role}) at {cosigned_at}")
        });
        words.collect::<Vec<_>>().join("\n")
    }
}

/// Signers come in the order of the cosignatures.
fn cosigners(checkpoint: &CertifiedCheckpoint) -> Vec<Cosigner> {
    let cosignatures = checkpoint.to_proto().cosignatures;
    let pairs = checkpoint.signers().zip(cosignatures);
    let cosigners = pairs.map(|(member, cosignature)| Cosigner {
        institution: member.institution.clone(),
        role: role_in_words(member.role()),
        cosigned_at: timestamp(cosignature.cosigned_at_ms),
    });
    cosigners.collect()
}

/// A role as people write it.
pub fn role_in_words(role: v1::Role) -> &'static str {
    match role {
        v1::Role::Unspecified => "no role",
        v1::Role::Notary => "notary",
        v1::Role::Government => "government",
        v1::Role::Institute => "institute",
        v1::Role::Organiser => "organiser",
        v1::Role::Registrar => "registrar",
        v1::Role::Authority => "authority",
        v1::Role::Health => "health",
        v1::Role::PointOfSale => "point of sale",
    }
}

/// Sentences, each on a line of its own.
pub fn list(sentences: &[impl AsRef<str>]) -> String {
    let lines = sentences.iter().map(|line| format!("- {}", line.as_ref()));
    lines.collect::<Vec<_>>().join("\n")
}
