//! Planted bugs: the invariants must see them. The whole table is `sim --planted`.

use cairn_sim::invariants::{no_two_certified_headers_conflict, same_log_same_roots};
use cairn_sim::logs;
use cairn_sim::planted::{Planted, hunt, table};
use cairn_sim::stories::disks::{failed_sync, power_loss};
use cairn_sim::stories::liars::{alarms, two_faced_leader};
use cairn_sim::world::{Setup, World, simulate};
use std::sync::Arc;

#[test]
fn acknowledged_entries_survive_power_loss_of_all_nodes_at_once() {
    logs();
    simulate(2, Setup::FOUR, power_loss).0.unwrap();
}

#[test]
fn a_disk_that_only_says_synced_is_caught() {
    let setup = Setup {
        planted: Planted::SyncLies,
        ..Setup::FOUR
    };
    let caught = simulate(2, setup, power_loss).0;
    println!("caught: {}", caught.expect_err("the checker must see it"));
}

/// Bug 16: a failed fsync that is retried.
#[test]
fn a_node_whose_sync_failed_stops_and_the_others_go_on() {
    logs();
    simulate(4, Setup::FOUR, failed_sync).0.unwrap();
}

#[test]
fn a_two_faced_leader_gets_no_two_headers_certified_and_is_noticed() {
    logs();
    let story = |world: Arc<World>| async move {
        two_faced_leader(&world).await;
        let roots = same_log_same_roots::check(&world);
        let certified = no_two_certified_headers_conflict::check(&world);
        (alarms(&world), roots, certified)
    };
    let (alarms, roots, certified) = simulate(3, Setup::FOUR, story).0;
    assert!(
        roots.is_err(),
        "followers applied different blocks, which the checker must see"
    );
    assert_eq!(certified, Ok(()), "but no two of them were certified");
    assert!(alarms > 0, "and members raised the alarm");
}

#[test]
fn under_a_policy_that_only_detects_two_conflicting_certificates_are_caught() {
    logs();
    let setup = Setup {
        threshold: Some(2),
        ..Setup::FOUR
    };
    let story = |world: Arc<World>| async move {
        two_faced_leader(&world).await;
        no_two_certified_headers_conflict::check(&world)
    };
    let caught = simulate(3, setup, story).0;
    println!("caught: {}", caught.expect_err("the checker must see it"));
}

/// A few of the table, of different kinds.
#[test]
fn planted_bugs_are_caught_within_their_budgets() {
    const QUICK: [Planted; 7] = [
        Planted::InstallInPlace,
        Planted::EarlierTermsCounted,
        Planted::CopyKeepsOldMembers,
        Planted::VoteNotSynced,
        Planted::NoTailMarker,
        Planted::GuardNotSynced,
        Planted::StaleAcknowledgements,
    ];
    for bug in table().iter().filter(|bug| QUICK.contains(&bug.planted)) {
        let caught = hunt(bug).unwrap_or_else(|| panic!("{} is not caught", bug.what));
        assert_eq!(caught.without, Ok(()), "{}, without it", bug.what);
        println!("{}: after {} seeds: {}", bug.what, caught.seeds, caught.by);
    }
}
