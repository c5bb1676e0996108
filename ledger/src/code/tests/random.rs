//! Whatever is handed in: a code changes by one step, within a mandate or by rule, and its history,
//! the logs and the counters say all of it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{checkpoint, foreign};

#[derive(Debug, Clone)]
enum Op {
    Issue(u8),
    Order {
        other: bool,
        from: u8,
        many: u8,
        stale: bool,
        by_code: bool,
        status: i32,
    },
    Chunk(usize, bool),
    Grant(bool, i32),
    Revoke(bool),
    CheckIn(u8, u8),
    Day,
}

fn op() -> impl Strategy<Value = Op> {
    let order = (
        any::<bool>(),
        10..20u8,
        1..6u8,
        0..8u8,
        any::<bool>(),
        1..4i32,
    );
    prop_oneof![
        2 => (10..22u8).prop_map(Op::Issue),
        4 => order.prop_map(|(other, from, many, stale, by_code, status)| Op::Order {
            other,
            from,
            many,
            stale: stale == 0,
            by_code,
            status,
        }),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(n, half)| Op::Chunk(n, half)),
        1 => (any::<bool>(), 1..4i32).prop_map(|(other, status)| Op::Grant(other, status)),
        1 => any::<bool>().prop_map(Op::Revoke),
        2 => (10..20u8, 1..6u8).prop_map(|(from, many)| Op::CheckIn(from, many)),
        1 => Just(Op::Day),
    ]
}

fn authority(other: bool) -> u8 {
    if other { OTHER_AUTHORITY } else { AUTHORITY }
}

type States = BTreeMap<u8, v1::CodeState>;

fn states(ledger: &Ledger) -> States {
    (10..30)
        .filter_map(|n| Some((n, state(ledger, n)?)))
        .collect()
}

/// What the test knows beside the ledger.
struct World {
    ledger: Ledger,
    orders: Vec<(Hash, u8, Changes)>,
    /// Statuses that an authority may order in [`FREE_REGION`]; empty without a mandate.
    mandates: BTreeMap<u8, Vec<i32>>,
    /// The states that codes had before, oldest first.
    past: BTreeMap<u8, Vec<v1::CodeState>>,
}

impl World {
    fn new() -> Self {
        let mut ledger = Ledger::new();
        let rule = v1::RegionRule {
            region: FREE_REGION.to_owned(),
            check_ins: 2,
            consecutive: true,
            release_from: vec![2, 3],
            release_to: 1,
            stations: vec![public(HEALTH)],
            check_in_delay_ms: DAY_MS,
            ..Default::default()
        };
        signed(&mut ledger, EntryKind::RegionRule, &[], &rule, &GRANTERS).unwrap();
        let all = vec![1, 2, 3];
        Self {
            ledger,
            orders: Vec::new(),
            past: BTreeMap::new(),
            mandates: [(AUTHORITY, all.clone()), (OTHER_AUTHORITY, all)].into(),
        }
    }

    /// Hands in what `op` says; whether it was accepted.
    fn step(&mut self, op: &Op) -> bool {
        let ledger = &mut self.ledger;
        match *op {
            Op::Issue(n) => {
                let mut body = issue_body(ledger, FREE_REGION, &codes(n..n + 3));
                body.valid_until_ms += 100 * DAY_MS;
                submit(ledger, EntryKind::CodeIssue, AUTHORITY, &body).is_ok()
            }
            Op::Order {
                other,
                from,
                many,
                stale,
                by_code,
                status,
            } => {
                let sequence = |n| state(ledger, n).map_or(1, |state| state.sequence);
                let mut changes: Changes = (from..from + many)
                    .map(|n| (code(n), sequence(n)))
                    .collect();
                changes[0].1 += u64::from(stale);
                let mut body = order_body(FREE_REGION, &changes);
                body.status = status;
                body.mode += i32::from(by_code);
                let draft = ledger.draft(EntryKind::StatusOrder, &[], &body);
                let entry = ledger.compose(draft, authority(other), &[]);
                let accepted = ledger.submit(entry.clone()).is_ok();
                assert_eq!(accepted, self.mandates[&authority(other)].contains(&status));
                if accepted {
                    self.orders.push((id(&entry), authority(other), changes));
                }
                accepted
            }
            Op::Chunk(n, half) => {
                let Some((order, by, changes)) = self.orders.get(n % self.orders.len().max(1))
                else {
                    return false;
                };
                let kept: v1::OrderState = ledger.map(ORDER_NAMESPACE, order.as_bytes()).unwrap();
                let first = kept.received as usize;
                let rest = &changes[first.min(changes.len() - 1)..];
                let part = if half {
                    rest.len().div_ceil(2)
                } else {
                    rest.len()
                };
                let draft = chunk_draft(ledger, order, first as u32, &rest[..part]);
                let entry = ledger.compose(draft, *by, &[]);
                ledger.submit(entry).is_ok()
            }
            Op::Grant(other, status) => {
                let mandate = v1::Mandate {
                    authority: public(authority(other)),
                    region: FREE_REGION.to_owned(),
                    reasons: vec!["contact".to_owned()],
                    statuses: vec![status],
                    ..Default::default()
                };
                let subject = mandate.authority.clone();
                let kind = EntryKind::MandateGrant;
                signed(ledger, kind, &subject, &mandate, &GRANTERS).unwrap();
                self.mandates.insert(authority(other), vec![status]);
                true
            }
            Op::Revoke(other) => {
                let subject = public(authority(other));
                let body = v1::MandateRevoke {
                    authority: subject.clone(),
                    region: FREE_REGION.to_owned(),
                };
                let before = self.mandates.insert(authority(other), vec![]);
                let kind = EntryKind::MandateRevoke;
                let accepted = signed(ledger, kind, &subject, &body, &GRANTERS).is_ok();
                assert_eq!(accepted, before.is_some_and(|before| !before.is_empty()));
                accepted
            }
            Op::CheckIn(from, many) => {
                let body = v1::CheckIn {
                    region: FREE_REGION.to_owned(),
                    codes: codes(from..from + many).concat().into(),
                    observed_at_ms: ledger.now,
                };
                submit(ledger, EntryKind::CheckIn, HEALTH, &body).is_ok()
            }
            Op::Day => {
                next_day(ledger);
                false
            }
        }
    }

    /// What one step did to the codes was allowed, and is what the ledger says of it.
    fn check(&mut self, op: &Op, accepted: bool, before: &States) {
        let after = states(&self.ledger);
        let mut changed = 0;
        for (n, after) in &after {
            let Some(before) = before.get(n) else {
                assert!(matches!(op, Op::Issue(_)) && after.sequence == 1);
                continue;
            };
            if after == before {
                continue;
            }
            assert!(accepted && matches!(op, Op::Chunk(..) | Op::CheckIn(..)));
            assert_eq!(
                (&after.region, &after.holder),
                (&before.region, &before.holder)
            );
            if after.sequence == before.sequence {
                // A check-in that is counted, and nothing more.
                let counted = v1::CodeState {
                    check_ins: after.check_ins,
                    last_check_in_day: after.last_check_in_day,
                    ..before.clone()
                };
                assert_eq!((after, after.check_ins), (&counted, 1));
                continue;
            }
            changed += 1;
            assert_eq!(after.sequence, before.sequence + 1);
            self.past.entry(*n).or_default().push(before.clone());
            if matches!(op, Op::CheckIn(..)) {
                assert_eq!((after.status, before.check_ins), (1, 1));
                assert!(after.released_at_leaf > 0 && after.order_id == before.order_id);
            }
        }
        assert!(before.keys().all(|n| after.contains_key(n)));
        if let (Op::Chunk(n, _), true) = (op, accepted) {
            let (order, by, changes) = &self.orders[n % self.orders.len()];
            let kept: v1::OrderState = self.ledger.map(ORDER_NAMESPACE, order.as_bytes()).unwrap();
            let order = kept.order.unwrap();
            assert!(self.mandates[by].contains(&order.status));
            let effect = kept.effect.unwrap_or_default();
            assert_eq!(
                (effect.changed, kept.applied),
                (changed, kept.received == order.count)
            );
            if kept.applied {
                assert_eq!(effect.changed + effect.refused, changes.len() as u32);
                assert!(order.mode() == OrderMode::CodeByCode || effect.refused == 0);
            }
        }
    }

    /// The history of each code is the one that it had, and whoever copies the state checks it.
    fn check_histories(&mut self) {
        for (n, current) in states(&self.ledger) {
            let shown = history::verify(&current, &past(&self.ledger, n)).unwrap();
            let mut known = self.past.remove(&n).unwrap_or_default();
            known.push(current);
            assert_eq!(shown, known);
        }
        let proto = self.ledger.checkpoint(&[0, 1, 3]);
        let chain = &self.ledger.chain;
        let certified = checkpoint::certify(&chain.id, &chain.members, &proto).unwrap();
        foreign::check(chain, &self.ledger.state, &certified, &[7; 32]).unwrap();
    }

    /// The logs and counters say the same, and no more than that.
    fn check_logs(&self) {
        let mut ordered = 0;
        for by in [AUTHORITY, OTHER_AUTHORITY] {
            let acts = acts_of(&self.ledger, by);
            let leaf = |act| log::leaf_hash(&canonical::encode(act));
            let leaves: Vec<Hash> = acts.iter().map(leaf).collect();
            let kept = acts::log_of(&self.ledger.state, &public(by)).unwrap();
            assert_eq!(kept.root, naive_root(&leaves).0[..]);
            ordered += acts
                .iter()
                .filter(|act| act.kind() == v1::ActKind::Ordered)
                .count();
            for ((day, reason), counter) in acts::tally(&acts) {
                let key = counter_key(&public(by), day, &reason);
                assert_eq!(self.ledger.map(COUNTER_NAMESPACE, &key), Some(counter));
            }
        }
        assert_eq!(ordered, self.orders.len());
    }
}

/// The root of RFC 9162 2.1.1, by its recursive definition.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => log::empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            log::node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn codes_change_by_one_step_within_a_mandate_and_histories_logs_and_counters_say_all_of_it(
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let mut world = World::new();
        for op in &ops {
            let before = states(&world.ledger);
            let accepted = world.step(op);
            world.check(op, accepted, &before);
        }
        world.check_logs();
        world.check_histories();
    }
}
