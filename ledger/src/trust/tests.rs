//! Trust files: what is believed, and what takes the place of what.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::checkpoint::CertifyError;
use crate::pass::fixture::{City, DAY, NOW, code_of, file};
use crate::{code, hash};

fn alone(city: &mut City, at_ms: u64) -> v1::TrustFile {
    let checkpoint = city.checkpoint(at_ms);
    file([city.trusted(&checkpoint)], at_ms + 30 * DAY)
}

#[test]
fn a_file_comes_back_and_knows_the_members_of_today() {
    let mut city = City::new("a");
    city.rotate(0, 120, NOW - 2 * DAY);
    city.rotate(1, 121, NOW - DAY);
    let trust = Trust::of(alone(&mut city, NOW)).unwrap();
    let read = Trust::read(&trust.write()).unwrap();
    assert_eq!(read.file(), trust.file());
    assert_eq!(read.own().epochs().newest().epoch, 2);
    assert_eq!(read.own().chain().id, city.chain.id);
    assert_eq!(read.own().newest().header().height, city.height);
    assert_eq!(read.not_after_ms(), NOW + 30 * DAY);
}

#[test]
fn no_bit_of_what_a_file_proves_can_change() {
    let mut city = City::new("a");
    city.rotate(0, 120, NOW - DAY);
    // As few cosignatures as do, so that each is needed.
    let mut good = alone(&mut city, NOW);
    let checkpoint = good.ledgers[0].checkpoint.as_mut().unwrap();
    checkpoint.cosignatures.pop();
    let trust = Trust::of(good).unwrap();
    let bytes = trust.write();
    // Every third bit: the whole takes long, and others try each bit of a change of members.
    for bit in (0..bytes.len() * 8).step_by(3) {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok(read) = Trust::read(&flipped) else {
            continue;
        };
        // What a file says about its end, and of which ledger it is, nobody signs.
        let another = read.own().chain().id != city.chain.id;
        let end = read.not_after_ms() != trust.not_after_ms();
        let superfluous =
            read.file().ledgers[0].epoch_changes != trust.file().ledgers[0].epoch_changes;
        assert!(another || end || superfluous, "bit {bit}");
    }
    for len in 0..bytes.len() {
        // Without its end, a file ended in 1970.
        let read = Trust::read(&bytes[..len]);
        assert!(
            read.map_or(0, |trust| trust.not_after_ms()) == 0,
            "cut at {len}"
        );
    }
}

#[test]
fn a_file_whose_members_do_not_follow_is_refused() {
    let mut city = City::new("a");
    city.rotate(0, 120, NOW - DAY);
    let good = alone(&mut city, NOW);
    let mut without = good.clone();
    without.ledgers[0].epoch_changes.clear();
    assert!(matches!(
        Trust::of(without),
        Err(TrustError::Certificate {
            error: CertifyError::UnknownEpoch { epoch: 1, known: 0 },
            ..
        })
    ));
    // A change behind the newest checkpoint: the file would know more than it shows.
    let mut before = City::new("a");
    let checkpoint = before.checkpoint(NOW - 2 * DAY);
    let mut old = good.clone();
    old.ledgers[0].checkpoint = Some(checkpoint);
    assert!(matches!(
        Trust::of(old),
        Err(TrustError::Members {
            error: EpochError::WrongEnd { found: 1, epoch: 0 },
            ..
        })
    ));
    let mut two = good.clone();
    let checkpoint = two.ledgers[0].checkpoint.as_mut().unwrap();
    checkpoint.cosignatures.truncate(2);
    assert!(matches!(
        Trust::of(two),
        Err(TrustError::Certificate {
            error: CertifyError::QuorumNotMet { .. },
            ..
        })
    ));
    let none = v1::TrustFile::default();
    assert!(matches!(Trust::of(none), Err(TrustError::Ledgers(_))));
    assert!(matches!(
        Trust::read(b"cairn-proof-v1\n"),
        Err(TrustError::NotATrustFile)
    ));
}

#[test]
fn blocks_that_contradict_each_other_are_a_fork_inside_a_file() {
    let mut city = City::new("a");
    city.rotate(0, 120, NOW);
    // The new members certify a block before their own beginning.
    city.height -= 10;
    let forked = alone(&mut city, NOW + DAY);
    assert!(matches!(
        Trust::of(forked),
        Err(TrustError::Fork {
            first: 101,
            second: 92,
            ..
        })
    ));
}

#[test]
fn an_end_lies_within_a_bound_of_what_the_members_signed() {
    let mut city = City::new("a");
    let mut long = alone(&mut city, NOW);
    long.not_after_ms = NOW + MAX_LIFETIME_MS;
    Trust::of(long.clone()).unwrap();
    long.not_after_ms += 1;
    assert!(matches!(Trust::of(long), Err(TrustError::Lifetime { .. })));
}

#[test]
fn ledgers_have_one_order_and_stand_once() {
    let (mut a, mut b, mut c) = (City::new("a"), City::new("b"), City::new("c"));
    let [a, b, c] = [&mut a, &mut b, &mut c].map(|city| {
        let checkpoint = city.checkpoint(NOW);
        (city.chain.id, city.trusted(&checkpoint))
    });
    let mut others = [b.clone(), c.clone()];
    others.sort_by_key(|(id, _)| *id);
    let [first, second] = others.map(|(_, ledger)| ledger);
    let of = |ledgers: &[&v1::TrustedLedger]| {
        Trust::of(file(ledgers.iter().map(|l| (*l).clone()), NOW + DAY))
    };
    assert_eq!(of(&[&a.1, &first, &second]).unwrap().ledgers().len(), 3);
    for wrong in [
        &[&a.1, &second, &first][..],
        &[&a.1, &first, &first],
        &[&first, &first],
    ] {
        assert!(matches!(of(wrong), Err(TrustError::Ledgers(_))));
    }
}

#[test]
fn refusals_count_only_as_the_own_ledgers_map_proves_them() {
    let (mut a, mut b) = (City::new("a"), City::new("b"));
    let (id, order) = (b.chain.id, hash::plain(b"order"));
    let good = a.refuse("440100", &id, &order, NOW);
    let base = alone(&mut a, NOW + 1);
    let of = |refusals: &[&v1::MapReceipt]| {
        let refusals = refusals.iter().map(|r| (*r).clone()).collect();
        let trust = Trust::of(v1::TrustFile {
            refusals,
            ..base.clone()
        });
        trust.map_err(|error| match error {
            TrustError::Refusals(error) => error,
            other => panic!("{other}"),
        })
    };
    let trust = of(&[&good]).unwrap();
    let regions = trust.refusals().of(&id, &order).unwrap();
    assert_eq!(*regions, ["440100".to_owned()].into());
    assert_eq!(trust.refusals().of(&a.chain.id, &order), None);
    assert_eq!(Trust::read(&trust.write()).unwrap().file(), trust.file());

    assert_eq!(of(&[&good, &good]).unwrap_err(), RefusalsError::Form);
    // Another ledger's refusal, one that is not there, and one about another order.
    let theirs = b.refuse("440100", &id, &order, NOW);
    let error = of(&[&theirs]).unwrap_err();
    assert!(matches!(error, RefusalsError::Certificate(_)), "{error}");
    let mut other_key = good.clone();
    other_key.key = code::order_refusal_key(&id.0, &id.0, "440100").into();
    let error = of(&[&other_key]).unwrap_err();
    assert!(matches!(error, RefusalsError::Map(_)), "{error}");
    let mut code = a.receipt(&code_of(1), base.ledgers[0].checkpoint.as_ref().unwrap());
    assert_eq!(of(&[&code]).unwrap_err(), RefusalsError::Form);
    code.namespace = code::ORDER_REFUSAL_NAMESPACE.to_owned();
    let error = of(&[&code]).unwrap_err();
    assert!(matches!(error, RefusalsError::Map(_)), "{error}");
    // Certified, and of another history.
    let mut forked = a.clone();
    forked.height -= 1;
    let forked = forked.refuse("440300", &id, &order, NOW + 2);
    let error = of(&[&forked]).unwrap_err();
    assert_eq!(error, RefusalsError::Fork(base_height(&trust)));
}

fn base_height(trust: &Trust) -> u64 {
    trust.own().newest().header().height
}

#[test]
fn a_newer_file_takes_the_place_of_an_older_one_across_changes_of_members() {
    let mut city = City::new("a");
    let old = city.trust(NOW);
    city.rotate(0, 120, NOW + DAY);
    city.rotate(1, 121, NOW + 2 * DAY);
    let new = city.trust(NOW + 3 * DAY);
    let updated = old.updated(&new).unwrap();
    assert_eq!(updated.file(), new.file());
    let back = Err(UpdateError::Older {
        found: old.own().newest().header().height,
        own: city.height,
    });
    assert_eq!(new.updated(&old).map(|_| ()), back);
    let same = new.updated(&new).map(|_| ());
    assert_eq!(same, Err(UpdateError::NothingNew));
}

#[test]
fn another_ledgers_file_never_takes_the_place() {
    let (mut a, mut b) = (City::new("a"), City::new("b"));
    let (own, found) = (a.chain.id, b.chain.id);
    let error = a.trust(NOW).updated(&b.trust(NOW + DAY)).map(|_| ());
    assert_eq!(error, Err(UpdateError::OtherLedger { found, own }));
}

#[test]
fn a_fork_never_takes_the_place() {
    let mut city = City::new("a");
    let mut other = city.clone();
    let ours = city.trust(NOW);
    let known = city.height;
    let forked = |found: u64, known: u64| {
        Err(UpdateError::Fork {
            chain_id: city.chain.id,
            found,
            known,
        })
    };
    // The same height, another block.
    let theirs = other.trust(NOW + DAY);
    assert_eq!(ours.updated(&theirs).map(|_| ()), forked(known, known));
    // Higher and older.
    let theirs = other.trust(NOW - DAY);
    assert_eq!(ours.updated(&theirs).map(|_| ()), forked(known + 1, known));
    // Another change of members, where ours knows of one.
    let mut first = city.clone();
    first.rotate(0, 120, NOW + DAY);
    let ours = first.trust(NOW + 2 * DAY);
    let mut second = city.clone();
    second.height += 5;
    second.rotate(0, 121, NOW + 3 * DAY);
    let theirs = second.trust(NOW + 4 * DAY);
    assert_eq!(
        ours.updated(&theirs).map(|_| ()),
        forked(city.height + 6, city.height + 1)
    );
}

#[test]
fn an_update_keeps_how_epochs_ended_as_it_was_first_seen() {
    let mut city = City::new("a");
    let old_keys = city.keys.clone();
    city.rotate(0, 120, NOW);
    let ours = city.trust(NOW + DAY);
    // Whoever has the old keys says that their time went on.
    let end = city.changes[0].checkpoint.clone().unwrap();
    let header = canonical::decode(&end.header).unwrap();
    let late: Vec<_> = old_keys.iter().map(|key| (*key, NOW + 20 * DAY)).collect();
    city.changes[0].checkpoint = Some(city.certify(&header, &late));
    let theirs = city.trust(NOW + 2 * DAY);
    let updated = ours.updated(&theirs).unwrap();
    let kept = &updated.file().ledgers[0];
    assert_eq!(kept.epoch_changes, ours.file().ledgers[0].epoch_changes);
    assert_eq!(kept.checkpoint, theirs.file().ledgers[0].checkpoint);
}

#[test]
fn an_update_takes_nothing_away() {
    let (mut a, mut b) = (City::new("a"), City::new("b"));
    let theirs = [NOW, NOW + DAY].map(|at| {
        let checkpoint = b.checkpoint(at);
        b.trusted(&checkpoint)
    });
    let refusal = a.refuse("440100", &b.chain.id, &code_of(9), NOW);
    let checkpoint = a.checkpoint(NOW + DAY);
    let mut ours = file([a.trusted(&checkpoint), theirs[1].clone()], NOW + 30 * DAY);
    ours.refusals = vec![refusal];
    let ours = Trust::of(ours).unwrap();
    // One that has the other ledger in an older state, one that lacks it; no refusal, a nearer end.
    let checkpoint = a.checkpoint(NOW + 2 * DAY);
    let own = a.trusted(&checkpoint);
    for ledgers in [vec![own.clone(), theirs[0].clone()], vec![own.clone()]] {
        let handed = Trust::of(file(ledgers, NOW)).unwrap();
        let updated = ours.updated(&handed).unwrap();
        let known = updated.file();
        assert_eq!(known.ledgers, [own.clone(), theirs[1].clone()]);
        assert_eq!(known.refusals, ours.file().refusals);
        assert_eq!(known.not_after_ms, ours.not_after_ms());
        let again = updated.updated(&handed).map(|_| ());
        assert_eq!(again, Err(UpdateError::NothingNew));
    }
}
