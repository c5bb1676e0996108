//! The draw: every row gets a ticket from the seed, and the tickets are sorted.
//!
//! What holds here: `ticket = BLAKE3-keyed(seed, tier ‖ serial ‖ k)` with fixed widths, big-endian;
//! a row of weight w takes the least of its w tickets; rank follows (ticket, serial). Nothing
//! depends on the order in which rows come, on a modulo or on a random-number crate, and anyone
//! with the seed and the roster computes the same.
//!
//! Caveat: the first pick is exactly proportional to weight; a row's chance to be among the first
//! n is not.

use crate::hash::Hash;

/// A ticket: compared as bytes, least first.
pub type Ticket = [u8; 32];

/// One tier's rows in order of rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking {
    seed: Hash,
    tier: u32,
    placed: Vec<Placed>,
}

/// Sixteen bytes a row, so that a million sort in cache-friendly strides. Field order is the sort
/// order; serials are unique, so weight never decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    prefix: u64,
    serial: u32,
    weight: u32,
}

impl Ranking {
    /// How many rows entered.
    pub fn len(&self) -> usize {
        self.placed.len()
    }

    /// Whether nobody entered.
    pub fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    /// Serials in order of rank.
    pub fn serials(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.placed.iter().map(|p| p.serial)
    }

    /// The serial at `rank` (from 0) and its ticket.
    pub fn at(&self, rank: usize) -> Option<(u32, Ticket)> {
        let p = self.placed.get(rank)?;
        Some((p.serial, self.ticket_of(p)))
    }

    fn ticket_of(&self, p: &Placed) -> Ticket {
        least_ticket(&self.seed, self.tier, p.serial, p.weight)
    }
}

/// The ticket of a row: the least of its `weight` tickets.
pub fn least_ticket(seed: &Hash, tier: u32, serial: u32, weight: u32) -> Ticket {
    let mut input = [0; 16];
    input[..4].copy_from_slice(&tier.to_be_bytes());
    input[4..12].copy_from_slice(&u64::from(serial).to_be_bytes());
    let mut least = *blake3::keyed_hash(&seed.0, &input).as_bytes();
    for k in 1..weight {
        input[12..].copy_from_slice(&k.to_be_bytes());
        least = least.min(*blake3::keyed_hash(&seed.0, &input).as_bytes());
    }
    least
}

/// Ranks `entrants`, pairs of (serial, weight) with every serial at most once, in any order.
pub fn rank(seed: &Hash, tier: u32, entrants: impl IntoIterator<Item = (u32, u32)>) -> Ranking {
    rank_by(seed, tier, entrants, first_eight)
}

fn first_eight(ticket: &Ticket) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&ticket[..8]);
    u64::from_be_bytes(first)
}

/// Sorts by a `prefix` of the ticket, which must keep the tickets' order, then repairs the runs in
/// which prefixes are equal by whole tickets.
fn rank_by(
    seed: &Hash,
    tier: u32,
    entrants: impl IntoIterator<Item = (u32, u32)>,
    prefix: impl Fn(&Ticket) -> u64,
) -> Ranking {
    let mut placed: Vec<Placed> = entrants
        .into_iter()
        .map(|(serial, weight)| Placed {
            prefix: prefix(&least_ticket(seed, tier, serial, weight)),
            serial,
            weight,
        })
        .collect();
    placed.sort_unstable();
    for run in placed.chunk_by_mut(|a, b| a.prefix == b.prefix) {
        if run.len() > 1 {
            run.sort_by_cached_key(|p| (least_ticket(seed, tier, p.serial, p.weight), p.serial));
        }
    }
    Ranking {
        seed: *seed,
        tier,
        placed,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: Hash = Hash([42; 32]);

    /// The definition, written down without any cleverness.
    fn naive(tier: u32, entrants: &[(u32, u32)]) -> Vec<u32> {
        let mut all: Vec<([u8; 32], u32)> = entrants
            .iter()
            .map(|&(serial, weight)| {
                let tickets = (0..weight).map(|k| {
                    let mut data = tier.to_be_bytes().to_vec();
                    data.extend(u64::from(serial).to_be_bytes());
                    data.extend(k.to_be_bytes());
                    *blake3::keyed_hash(&SEED.0, &data).as_bytes()
                });
                (tickets.min().unwrap(), serial)
            })
            .collect();
        all.sort();
        all.into_iter().map(|(_, serial)| serial).collect()
    }

    fn ranked(tier: u32, entrants: &[(u32, u32)]) -> Vec<u32> {
        rank(&SEED, tier, entrants.iter().copied())
            .serials()
            .collect()
    }

    proptest! {
        #[test]
        fn the_ranking_is_the_naive_one_whatever_order_rows_come_in(
            weights in prop::collection::btree_map(any::<u32>(), 1u32..=64, 0..40),
            tier in 0u32..16,
            shift in 0usize..40,
        ) {
            let mut entrants: Vec<(u32, u32)> = weights.into_iter().collect();
            let expected = naive(tier, &entrants);
            prop_assert_eq!(&ranked(tier, &entrants), &expected);
            let by = shift % entrants.len().max(1);
            entrants.rotate_left(by);
            prop_assert_eq!(&ranked(tier, &entrants), &expected);
            entrants.reverse();
            prop_assert_eq!(&ranked(tier, &entrants), &expected);
        }

        #[test]
        fn rows_with_equal_prefixes_stand_in_the_order_of_whole_tickets(
            count in 0u32..300, bits in 0u32..8, weight in 1u32..4,
        ) {
            let entrants: Vec<(u32, u32)> = (0..count).map(|s| (s, weight)).collect();
            // A prefix so short that most rows share it with others.
            let coarse = |t: &Ticket| u64::from(t[0] >> (8 - bits).min(7));
            let got: Vec<u32> = rank_by(&SEED, 3, entrants.iter().copied(), coarse)
                .serials()
                .collect();
            prop_assert_eq!(got, naive(3, &entrants));
        }
    }

    #[test]
    fn tier_and_seed_both_change_the_ranking() {
        let entrants: Vec<(u32, u32)> = (0..50).map(|s| (s, 1)).collect();
        assert_ne!(ranked(0, &entrants), ranked(1, &entrants));
        let other: Vec<u32> = rank(&Hash([43; 32]), 0, entrants.iter().copied())
            .serials()
            .collect();
        assert_ne!(ranked(0, &entrants), other);
    }

    #[test]
    fn weight_raises_the_chance_of_the_first_pick_in_proportion() {
        // Of 4,000 draws between weight 3 and weight 1, about 3,000 go to weight 3.
        let wins = (0u32..4_000)
            .filter(|n| {
                let seed = crate::hash::plain(&n.to_be_bytes());
                rank(&seed, 0, [(0, 3), (1, 1)]).serials().next() == Some(0)
            })
            .count();
        assert!((2_850..3_150).contains(&wins), "{wins}");
    }

    #[test]
    fn at_gives_the_ticket_that_decided() {
        let ranking = rank(&SEED, 0, (0..20).map(|s| (s, 1 + s % 3)));
        let mut before = [0; 32];
        for (i, serial) in ranking.serials().enumerate() {
            let (same, ticket) = ranking.at(i).unwrap();
            assert_eq!(same, serial);
            assert_eq!(ticket, least_ticket(&SEED, 0, serial, 1 + serial % 3));
            assert!(before < ticket);
            before = ticket;
        }
        assert_eq!(ranking.at(20), None);
        assert!(rank(&SEED, 0, []).is_empty());
    }

    /// Pearson's statistic of `counts` against `expected` in each cell.
    fn chi_square(counts: &[u64], expected: f64) -> f64 {
        let part = |count: &u64| (*count as f64 - expected).powi(2) / expected;
        counts.iter().map(part).sum()
    }

    #[test]
    fn winners_come_evenly_from_all_entry_times_and_into_all_batches() {
        // Twelve thousand rows in order of entry, ten tranches of them, 2,400 winners in eight
        // batches, over forty draws: where in the line somebody stood must show nowhere.
        let (rows, tranches, winners, batches, draws) = (12_000u32, 10, 2_400u32, 8u32, 40u8);
        let mut by_tranche = vec![0u64; tranches];
        let mut by_cell = vec![0u64; tranches * batches as usize];
        for n in 0..draws {
            let ranking = rank(&Hash([n; 32]), 0, (0..rows).map(|serial| (serial, 1)));
            for (place, serial) in (0u32..).zip(ranking.serials()).take(winners as usize) {
                let tranche = (serial / (rows / tranches as u32)) as usize;
                by_tranche[tranche] += 1;
                let batch = place / (winners / batches);
                by_cell[tranche * batches as usize + batch as usize] += 1;
            }
        }
        let all = f64::from(winners) * f64::from(draws);
        // Exceeded once in a million by chance, with 9 and with 79 degrees of freedom.
        assert!(chi_square(&by_tranche, all / 10.0) < 45.1, "{by_tranche:?}");
        assert!(chi_square(&by_cell, all / 80.0) < 149.0, "{by_cell:?}");
        // A draw that favours the early, as a broken one once did, would be seen.
        let mut skewed = by_tranche.clone();
        let moved = skewed[9] / 20;
        skewed[9] -= moved;
        skewed[0] += moved;
        assert!(chi_square(&skewed, all / 10.0) > 45.1, "{skewed:?}");
    }
}
