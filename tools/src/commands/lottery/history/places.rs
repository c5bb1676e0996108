//! What became of rows' places: rulings strike them, promotions move them, as the ledger's rules say.

use std::collections::BTreeMap;

use cairn_ledger::lottery::draw::Ranking;
use cairn_proto::v1::{self, PlaceStatus};

/// By serial; nothing has become of a place that is not here.
pub type Places = BTreeMap<u64, PlaceStatus>;

/// Who gave a place up before is not struck beside it.
pub fn strike(places: &mut Places, serials: &[u64]) {
    for serial in serials {
        let place = places.entry(*serial).or_insert(PlaceStatus::Unspecified);
        if *place != PlaceStatus::Vacated {
            *place = PlaceStatus::Struck;
        }
    }
}

/// Moves places as a promotion says; gives the rank that was reached, or none where the promotion is
/// not the one that these ranks give.
pub fn promote(
    places: &mut Places,
    ranking: &Ranking,
    mut ranks: std::ops::Range<u64>,
    promotion: &v1::Promotion,
) -> Option<u64> {
    let status = |places: &Places, serial: u64| {
        places
            .get(&serial)
            .copied()
            .unwrap_or(PlaceStatus::Unspecified)
    };
    let reached = usize::try_from(ranks.start).ok()?;
    let mut holders: Vec<u64> = ranking.serials().take(reached).map(u64::from).collect();
    holders.sort_unstable();
    for serial in &promotion.vacated {
        let held = status(places, *serial) != PlaceStatus::Vacated;
        if !held || holders.binary_search(serial).is_err() {
            return None;
        }
    }
    let mut promoted = Vec::new();
    let mut passed_over = Vec::new();
    while ranks.start < ranks.end && promoted.len() < promotion.vacated.len() {
        let (serial, _) = ranking.at(usize::try_from(ranks.start).ok()?)?;
        let serial = u64::from(serial);
        match status(places, serial) {
            PlaceStatus::Unspecified => promoted.push(serial),
            _ => passed_over.push(serial),
        }
        ranks.start += 1;
    }
    if promoted != promotion.serials {
        return None;
    }
    let vacated = promotion.vacated.iter().chain(&passed_over);
    places.extend(vacated.map(|serial| (*serial, PlaceStatus::Vacated)));
    places.extend(
        promoted
            .iter()
            .map(|serial| (*serial, PlaceStatus::Promoted)),
    );
    Some(ranks.start)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_ledger::hash::Hash;
    use cairn_ledger::lottery::draw;

    use super::*;

    fn ranking() -> (Ranking, Vec<u64>) {
        let ranking = draw::rank(&Hash([1; 32]), 0, (0..10).map(|serial| (serial, 1)));
        let serials = ranking.serials().map(u64::from).collect();
        (ranking, serials)
    }

    fn promotion(vacated: &[u64], serials: &[u64]) -> v1::Promotion {
        v1::Promotion {
            vacated: vacated.to_vec(),
            serials: serials.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn only_the_next_of_the_list_comes_up() {
        let (ranking, at) = ranking();
        let mut places = Places::new();
        for wrong in [&[at[4]][..], &[at[3], at[4]], &[]] {
            let tried = promote(&mut places, &ranking, 3..6, &promotion(&[at[0]], wrong));
            assert_eq!(tried, None, "{wrong:?}");
        }
        let moved = promote(&mut places, &ranking, 3..6, &promotion(&[at[0]], &[at[3]]));
        assert_eq!(moved, Some(4));
        assert_eq!(places[&at[0]], PlaceStatus::Vacated);
        assert_eq!(places[&at[3]], PlaceStatus::Promoted);
    }

    #[test]
    fn who_was_struck_on_the_list_is_passed_over() {
        let (ranking, at) = ranking();
        let mut places = Places::new();
        strike(&mut places, &[at[3]]);
        let moved = promote(&mut places, &ranking, 3..6, &promotion(&[at[1]], &[at[4]]));
        assert_eq!(moved, Some(5));
        assert_eq!(places[&at[3]], PlaceStatus::Vacated);
    }

    #[test]
    fn nobody_makes_room_who_has_no_place_or_gave_it_up() {
        let (ranking, at) = ranking();
        let mut places = Places::new();
        let loser = promote(&mut places, &ranking, 3..6, &promotion(&[at[7]], &[at[3]]));
        assert_eq!(loser, None);
        let first = promotion(&[at[0]], &[at[3]]);
        promote(&mut places, &ranking, 3..6, &first).unwrap();
        let again = promote(&mut places, &ranking, 4..6, &promotion(&[at[0]], &[at[4]]));
        assert_eq!(again, None);
    }

    #[test]
    fn at_the_end_of_the_list_places_stay_empty() {
        let (ranking, at) = ranking();
        let mut places = Places::new();
        let both = promotion(&[at[0], at[1]], &[at[3]]);
        assert_eq!(promote(&mut places, &ranking, 3..4, &both), Some(4));
    }
}
