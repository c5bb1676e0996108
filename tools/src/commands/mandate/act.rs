//! What granters do, as a file says it: a mandate, its end, a region's rule, an erasure.

use bytes::Bytes;
use cairn_ledger::canonical;
use cairn_proto::v1::{self, EntryKind};
use serde::Deserialize;

use crate::commands::genesis::plan::{AuthorRole, Mandate, Status, ascending, hex_bytes, hex_list};
use crate::drafts;
use crate::exit::Failure;
use crate::output::count;

const HOUR_MS: u64 = 3_600_000;

/// One of the four.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Act {
    Grant(Mandate),
    Revoke(Revoke),
    Region(Region),
    Erase(Erase),
}

/// The end of a mandate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    #[serde(deserialize_with = "hex_bytes")]
    authority: Bytes,
    region: String,
}

/// A region's rule.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    region: String,
    #[serde(default)]
    check_ins: u32,
    #[serde(default)]
    consecutive: bool,
    #[serde(default)]
    day_offset_minutes: u32,
    #[serde(default)]
    release_from: Vec<Status>,
    release_to: Option<Status>,
    #[serde(default, deserialize_with = "hex_list")]
    stations: Vec<Bytes>,
    #[serde(default)]
    check_in_delay_hours: u64,
    #[serde(default)]
    paper_validity_hours: u64,
    appeals_role: Option<AuthorRole>,
}

/// Entries whose bodies every node drops.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    #[serde(deserialize_with = "hex_list")]
    entries: Vec<Bytes>,
    legal_basis: String,
}

/// An entry that is not signed yet.
pub struct Body {
    pub kind: EntryKind,
    pub subject: Bytes,
    pub body: Bytes,
}

impl Act {
    /// The entry that says it.
    pub fn body(self) -> Body {
        match self {
            Act::Grant(mandate) => {
                let mandate = mandate.format();
                Body {
                    kind: EntryKind::MandateGrant,
                    subject: mandate.authority.clone(),
                    body: canonical::encode(&mandate),
                }
            }
            Act::Revoke(revoke) => Body {
                kind: EntryKind::MandateRevoke,
                subject: revoke.authority.clone(),
                body: canonical::encode(&v1::MandateRevoke {
                    authority: revoke.authority,
                    region: revoke.region,
                }),
            },
            Act::Region(region) => Body {
                kind: EntryKind::RegionRule,
                subject: Bytes::new(),
                body: canonical::encode(&region.format()),
            },
            Act::Erase(mut erase) => {
                erase.entries.sort();
                Body {
                    kind: EntryKind::BodyErasure,
                    subject: Bytes::new(),
                    body: canonical::encode(&v1::BodyErasure {
                        entry_ids: erase.entries.concat().into(),
                        legal_basis: erase.legal_basis,
                    }),
                }
            }
        }
    }
}

impl Region {
    fn format(mut self) -> v1::RegionRule {
        self.stations.sort();
        v1::RegionRule {
            region: self.region,
            check_ins: self.check_ins,
            consecutive: self.consecutive,
            day_offset_minutes: self.day_offset_minutes,
            release_from: ascending(self.release_from),
            release_to: self.release_to.map_or(0, |status| status.format().into()),
            stations: self.stations,
            check_in_delay_ms: self.check_in_delay_hours.saturating_mul(HOUR_MS),
            paper_validity_ms: self.paper_validity_hours.saturating_mul(HOUR_MS),
            appeals_role: self.appeals_role.map_or(0, |role| role.format().into()),
        }
    }
}

/// What a draft does, in words, for whoever is to sign it.
pub fn in_words(entry: &v1::SignedEntry) -> Result<String, Failure> {
    Ok(match drafts::envelope(entry)?.kind() {
        EntryKind::MandateGrant => {
            let mandate: v1::Mandate = drafts::body(entry)?;
            let approver = match mandate.approver_role() {
                v1::Role::Unspecified => "nobody".to_owned(),
                role => format!("{role:?}").to_lowercase(),
            };
            let statuses = mandate
                .statuses()
                .map(|status| format!("{status:?}").to_lowercase());
            format!(
                "{} may set codes of {} to {} for: {}; each order is approved by {approver}, and holds \
                 for at most {} days (0: without limit)",
                hex::encode(&mandate.authority),
                mandate.region,
                statuses.collect::<Vec<_>>().join(", "),
                mandate.reasons.join(", "),
                mandate.max_duration_ms / (24 * HOUR_MS),
            )
        }
        EntryKind::MandateRevoke => {
            let revoke: v1::MandateRevoke = drafts::body(entry)?;
            let (authority, region) = (hex::encode(&revoke.authority), revoke.region);
            format!("{authority} may give no more orders for codes of {region}")
        }
        EntryKind::RegionRule => {
            let rule: v1::RegionRule = drafts::body(entry)?;
            format!(
                "in {}, {} check-ins{} at {} stations release to {:?}; a paper pass holds {} hours",
                rule.region,
                rule.check_ins,
                if rule.consecutive {
                    " on days that follow each other"
                } else {
                    ""
                },
                rule.stations.len(),
                rule.release_to(),
                rule.paper_validity_ms / HOUR_MS,
            )
        }
        EntryKind::BodyErasure => {
            let erasure: v1::BodyErasure = drafts::body(entry)?;
            let entries = count(erasure.entry_ids.len() as u64 / 32);
            format!(
                "the bodies of {entries} entries are erased for good: {}",
                erasure.legal_basis
            )
        }
        other => return Err(drafts::other_kind(other, "cairn mandate")),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_one_act() {
        let act: Act = toml::from_str(
            "[region]\nregion = \"lakeside\"\ncheck_ins = 7\nconsecutive = true\nrelease_from = \
             [\"yellow\"]\nrelease_to = \"green\"\nstations = [\"bb\", \"aa\"]\n\
             paper_validity_hours = 72\nappeals_role = \"notary\"",
        )
        .unwrap();
        let Body { kind, body, .. } = act.body();
        let rule: v1::RegionRule = canonical::decode(&body).unwrap();
        assert_eq!(kind, EntryKind::RegionRule);
        assert_eq!(rule.stations, [&b"\xaa"[..], b"\xbb"]);
        assert_eq!((rule.check_ins, rule.paper_validity_ms), (7, 72 * HOUR_MS));
        let two = "[revoke]\nauthority = \"aa\"\nregion = \"a\"\n[erase]\nentries = []\nlegal_basis = \"\"";
        assert!(toml::from_str::<Act>(two).is_err());
        assert!(toml::from_str::<Act>("[grants]").is_err());
    }
}
