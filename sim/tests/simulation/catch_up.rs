//! Members that are behind what the others have purged: they catch up from a copy, whole or not at
//! all, and believe none that was altered.

use cairn_sim::logs;
use cairn_sim::stories::catch_up::{altered, behind_the_purge, copy_gone, interrupted};
use cairn_sim::stories::liars::conflicting_copy;
use cairn_sim::world::{Setup, simulate};

#[test]
fn a_member_behind_the_purge_catches_up_from_a_copy_while_writes_go_on() {
    logs();
    simulate(11, Setup::FOUR, behind_the_purge).0.unwrap();
}

/// Day-one bugs 9 and 10: whenever it happens, the old state or the new one is there afterwards.
#[test]
fn an_install_that_is_interrupted_leaves_the_old_state_or_the_new_one_day_one_9() {
    logs();
    let (mut before, mut after) = (0, 0);
    for moment in 0..32 {
        let story = |world| interrupted(world, moment);
        match simulate(100 + moment, Setup::FOUR, story).0.unwrap() {
            true => after += 1,
            false => before += 1,
        }
    }
    println!("interrupted before the new state was there: {before}, after: {after}");
    assert!(
        before > 0 && after > 0,
        "both sides of the instant were hit"
    );
}

#[test]
fn a_member_whose_copy_is_gone_after_an_install_makes_another_from_its_state() {
    logs();
    simulate(12, Setup::FOUR, copy_gone).0.unwrap();
}

#[test]
fn a_copy_that_was_altered_on_its_way_is_never_believed() {
    logs();
    simulate(13, Setup::FOUR, altered).0.unwrap();
}

#[test]
fn a_copy_that_contradicts_what_a_member_signed_stops_it_day_one_6() {
    logs();
    let acknowledged = simulate(14, Setup::FOUR, conflicting_copy).0.unwrap();
    assert!(acknowledged > 0);
}
