//! `cairn code order --dry-run`: what would be refused, and why, before anything is submitted.
//!
//! What holds here: what is said of the mandate, of those who sign and of every code was proven from
//! the map. What stays out: that nobody changes any of it before the order is given.

use cairn_ledger::apply::AUTHOR_NAMESPACE;
use cairn_ledger::code::{DAY_MS, MANDATE_NAMESPACE, mandate_key};
use cairn_ledger::hash::Hash;
use cairn_proto::v1::{self, CodeStatus, Role};
use serde::Serialize;

use super::{Keys, Order, changes};
use crate::certificate::role_in_words;
use crate::cli::Global;
use crate::commands::code::{codes_file, in_words, states};
use crate::commands::problems::Problems;
use crate::exit::Failure;
use crate::output::{self, count, line, timestamp};
use crate::session::Session;
use crate::system;

/// Says what would be refused.
pub async fn run(global: &Global, args: &Order, keys: &Keys) -> Result<(), Failure> {
    let mut problems = Problems::default();
    let listed = codes_file::read_noting(&args.from, &mut problems)?;
    if listed.is_empty() {
        return Err(problems.into_failure(&args.from));
    }
    let listed = args.taken(listed)?;
    let session = Session::connect(global).await?;
    // What is read after it is as new, or newer.
    let checkpoint = session.checkpoint().await?;
    let changes = changes(&session, args, &listed, &mut problems).await?;
    let now_ms = system::now_ms();
    let order = args.compose(&changes, now_ms)?;
    let known = Known::read(&session, &order, keys).await?;
    let objections = known.objections(&order, now_ms);
    let judged = Judged {
        would_be_accepted: objections.is_empty() && problems.is_empty(),
        codes: changes.len() as u64,
        objections,
        bad_lines: problems.count() as u64,
        problems: problems.shown().iter().map(Problem::of).collect(),
        height: checkpoint.header().height,
        as_of: timestamp(checkpoint.latest_as_of_ms()),
    };
    output::print(global, &judged, Judged::table);
    if judged.would_be_accepted {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "this order would be refused; objections: {}, bad lines in {}: {}; nothing was submitted",
        judged.objections.len(),
        args.from.display(),
        judged.bad_lines
    )))
}

/// What the map says of whoever gives an order.
struct Known {
    /// The author's role; none where the key is not registered.
    author: Option<Role>,
    mandate: Option<v1::MandateState>,
    /// The approver's role, where there is an approver.
    approver: Option<Option<Role>>,
    /// The order that this one corrects, if the ledger has it.
    corrected: Option<v1::StatusOrder>,
}

impl Known {
    async fn read(
        session: &Session,
        order: &v1::StatusOrder,
        keys: &Keys,
    ) -> Result<Known, Failure> {
        let authority = keys.authority.verifying_key().to_bytes();
        let key = mandate_key(&authority, &order.region);
        let (mandate, _) = states::value(session, MANDATE_NAMESPACE, &key).await?;
        let approver = match &keys.approver {
            None => None,
            Some(key) => Some(role_of(session, key.verifying_key().as_bytes()).await?),
        };
        let corrected = match Hash::from_slice(&order.corrects) {
            None => None,
            Some(id) => states::order(session, &id).await?.0,
        };
        Ok(Known {
            author: role_of(session, &authority).await?,
            mandate,
            approver,
            corrected: corrected.and_then(|state| state.order),
        })
    }

    /// Why the ledger's rules would refuse the order, whatever its codes are.
    fn objections(&self, order: &v1::StatusOrder, now_ms: u64) -> Vec<String> {
        let mut found = Vec::new();
        match self.author {
            Some(Role::Authority) => {}
            Some(role) => found.push(format!(
                "the key of --key is registered as {}, and only an authority orders \
                 (ROLE_NOT_ALLOWED)",
                role_in_words(role)
            )),
            None => found.push(
                "the key of --key is not registered on this ledger (ROLE_NOT_ALLOWED)".to_owned(),
            ),
        }
        let region = &order.region;
        match &self.mandate {
            None => found.push(format!(
                "this key has no mandate for {region}, and never had one (OUTSIDE_MANDATE)"
            )),
            Some(state) if state.revoked => found.push(format!(
                "the mandate for {region} was revoked at leaf {} (OUTSIDE_MANDATE)",
                count(state.leaf_index)
            )),
            Some(state) => {
                let mandate = state.mandate.clone().unwrap_or_default();
                within(order, &mandate, now_ms, &mut found);
                found.extend(self.approval(&mandate));
            }
        }
        let corrected = self.corrected.as_ref();
        if !order.corrects.is_empty() && corrected.is_none_or(|other| other.region != *region) {
            found.push(format!(
                "--corrects names no order of {region} (CORRECTION_UNKNOWN)"
            ));
        }
        found
    }

    fn approval(&self, mandate: &v1::Mandate) -> Option<String> {
        let wanted = mandate.approver_role();
        let role = role_in_words(wanted);
        match self.approver {
            Some(_) if wanted == Role::Unspecified => Some(
                "the mandate asks for no approval: leave --approver-key out (APPROVAL_UNEXPECTED)"
                    .to_owned(),
            ),
            None if wanted == Role::Unspecified => None,
            Some(found) if found == Some(wanted) => None,
            Some(found) => Some(format!(
                "the key of --approver-key is {}, and the mandate asks for the approval of an author \
                 of the role {role} (APPROVAL_MISSING)",
                found.map_or("not registered", role_in_words)
            )),
            None => Some(format!(
                "the mandate asks for the approval of an author of the role {role}: --approver-key \
                 (APPROVAL_MISSING)"
            )),
        }
    }
}

async fn role_of(session: &Session, key: &[u8]) -> Result<Option<Role>, Failure> {
    let (author, _) = states::value::<v1::Author>(session, AUTHOR_NAMESPACE, key).await?;
    Ok(author.map(|author| author.role()))
}

/// What of the order is outside a mandate in force.
fn within(order: &v1::StatusOrder, mandate: &v1::Mandate, now_ms: u64, found: &mut Vec<String>) {
    let mut object = |what: String| found.push(format!("{what} (OUTSIDE_MANDATE)"));
    if !mandate.reasons.contains(&order.reason) {
        object(format!(
            "the mandate does not name the reason {:?}; it names: {}",
            order.reason,
            mandate.reasons.join(", ")
        ));
    }
    if !mandate.statuses.contains(&order.status) {
        let statuses: Vec<&str> = mandate.statuses().map(in_words).collect();
        object(format!(
            "the mandate does not allow {}; it allows: {}",
            in_words(order.status()),
            statuses.join(", ")
        ));
    }
    let longest = mandate.max_duration_ms;
    let days = |ms: u64| ms as f64 / DAY_MS as f64;
    if longest > 0 && order.status() != CodeStatus::Green {
        let most = days(longest);
        match order.lapses_at_ms {
            0 => object(format!(
                "the mandate asks that the status lapses within {most} days: --lapses-days"
            )),
            at if at.saturating_sub(now_ms) > longest => object(format!(
                "the status lapses after {} days, and the mandate allows {most}",
                days(at.saturating_sub(now_ms))
            )),
            _ => {}
        }
    }
    let on_lapse = order.on_lapse();
    let allowed = match on_lapse {
        CodeStatus::Unspecified | CodeStatus::Green => true,
        status => longest == 0 && mandate.statuses.contains(&(status as i32)),
    };
    if !allowed {
        object(format!(
            "the mandate does not allow that {} follows the lapse without an end",
            in_words(on_lapse)
        ));
    }
}

/// What would become of an order.
#[derive(Debug, Serialize)]
struct Judged {
    would_be_accepted: bool,
    /// Codes that would change.
    codes: u64,
    objections: Vec<String>,
    bad_lines: u64,
    /// The first ones.
    problems: Vec<Problem>,
    height: u64,
    as_of: String,
}

#[derive(Debug, Serialize)]
struct Problem {
    line: u64,
    what: String,
}

impl Problem {
    fn of((line, what): &(u64, String)) -> Problem {
        let (line, what) = (*line, what.clone());
        Problem { line, what }
    }
}

impl Judged {
    fn table(&self) -> Vec<(String, String)> {
        let verdict = match self.would_be_accepted {
            true => "accepted, as things are",
            false => "refused",
        };
        let mut lines = vec![
            line("this order would be", verdict),
            line("codes that would change", count(self.codes)),
        ];
        lines.extend(self.objections.iter().map(|what| line("objection", what)));
        let problems = self.problems.iter();
        lines.extend(problems.map(|problem| {
            let (number, what) = (problem.line, &problem.what);
            line("bad line", format!("line {number}: {what}"))
        }));
        let more = self.bad_lines - self.problems.len() as u64;
        if more > 0 {
            lines.push(line("bad line", format!("and {} more", count(more))));
        }
        let height = count(self.height);
        lines.push(line(
            "as of",
            format!("block {height}, {}, or later", self.as_of),
        ));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_000 * DAY_MS;

    fn order() -> v1::StatusOrder {
        v1::StatusOrder {
            region: "suzhou".to_owned(),
            reason: "exposure".to_owned(),
            status: CodeStatus::Yellow.into(),
            lapses_at_ms: NOW_MS + 7 * DAY_MS,
            on_lapse: CodeStatus::Green.into(),
            ..Default::default()
        }
    }

    fn known() -> Known {
        let mandate = v1::Mandate {
            region: "suzhou".to_owned(),
            reasons: vec!["exposure".to_owned()],
            statuses: vec![CodeStatus::Green.into(), CodeStatus::Yellow.into()],
            max_duration_ms: 7 * DAY_MS,
            approver_role: Role::Health.into(),
            ..Default::default()
        };
        Known {
            author: Some(Role::Authority),
            mandate: Some(v1::MandateState {
                mandate: Some(mandate),
                ..Default::default()
            }),
            approver: Some(Some(Role::Health)),
            corrected: None,
        }
    }

    fn objection(known: &Known, order: &v1::StatusOrder) -> String {
        let found = known.objections(order, NOW_MS);
        assert_eq!(found.len(), 1, "{found:?}");
        found.concat()
    }

    #[test]
    fn each_thing_outside_a_mandate_is_named() {
        assert!(known().objections(&order(), NOW_MS).is_empty());
        let edited = |edit: &dyn Fn(&mut v1::StatusOrder)| {
            let mut order = order();
            edit(&mut order);
            objection(&known(), &order)
        };
        let said = edited(&|order| order.reason = "protest".to_owned());
        assert!(said.contains("\"protest\"; it names: exposure"), "{said}");
        let said = edited(&|order| order.set_status(CodeStatus::Red));
        assert!(said.contains("red; it allows: green, yellow"), "{said}");
        let said = edited(&|order| order.lapses_at_ms += DAY_MS);
        assert!(
            said.contains("after 8 days, and the mandate allows 7"),
            "{said}"
        );
        let said = edited(&|order| (order.lapses_at_ms, order.on_lapse) = (0, 0));
        assert!(said.contains("within 7 days"), "{said}");
        let said = edited(&|order| order.set_on_lapse(CodeStatus::Yellow));
        assert!(said.contains("yellow follows the lapse"), "{said}");
        let said = edited(&|order| order.corrects = vec![1; 32].into());
        assert!(said.contains("CORRECTION_UNKNOWN"), "{said}");
    }

    #[test]
    fn who_may_not_sign_is_named() {
        let edited = |edit: &dyn Fn(&mut Known)| {
            let mut known = known();
            edit(&mut known);
            objection(&known, &order())
        };
        assert!(edited(&|known| known.mandate = None).contains("never had one"));
        let said = edited(&|known| known.author = Some(Role::Notary));
        assert!(said.contains("registered as notary"), "{said}");
        let said = edited(&|known| known.approver = None);
        assert!(said.contains("role health: --approver-key"), "{said}");
        let said = edited(&|known| known.approver = Some(None));
        assert!(said.contains("is not registered, and"), "{said}");
        let revoke = |known: &mut Known| {
            if let Some(state) = &mut known.mandate {
                state.revoked = true;
            }
        };
        assert!(edited(&revoke).contains("was revoked"));
        let nobody = |known: &mut Known| {
            let mandate = known
                .mandate
                .as_mut()
                .and_then(|state| state.mandate.as_mut());
            mandate
                .into_iter()
                .for_each(|mandate| mandate.approver_role = 0);
        };
        assert!(edited(&nobody).contains("APPROVAL_UNEXPECTED"));
    }
}
