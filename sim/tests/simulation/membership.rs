//! Members come and go while nodes crash: every story ends with the same members in Raft's
//! configuration, on every node, and with certificates that they made.

use cairn_sim::logs;
use cairn_sim::stories::members::{away, story};
use cairn_sim::stories::newcomer::by_copy;
use cairn_sim::world::{Setup, simulate};

#[test]
fn a_change_of_members_ends_in_the_same_place_whatever_crashes_day_one_21() {
    logs();
    let mut failed = Vec::new();
    for seed in crate::seeds() {
        let (outcome, hash) = simulate(seed, Setup::FOUR, story);
        match outcome {
            Ok(()) => println!("seed {seed}: trace {hash}"),
            Err(violation) => {
                println!("seed {seed}: {violation}");
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "violations with the seeds {failed:?}");
}

#[test]
fn a_node_that_was_away_follows_the_members() {
    logs();
    for seed in 0..2 {
        let (outcome, _) = simulate(seed, Setup::FOUR, away);
        outcome.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

#[test]
fn a_member_that_needs_a_copy_across_a_change_of_members_ends_where_all_are_day_one_5() {
    logs();
    for seed in 0..4 {
        let (outcome, _) = simulate(seed, Setup::FOUR, by_copy);
        outcome.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}
