//! One applicant's standing, checked by an outsider from a certified map root alone.
//!
//! What holds here: the row is in the roster, the lottery's state is under the map root, the
//! ticket is recomputed from the seed and compared with the tier's cut-off, the rank is under the
//! ranking's root, and what became of the place since is under the map root; all of them must
//! agree. What stays out: the certificate (`checkpoint`), and whether the whole ranking was
//! computed rightly (`recompute`).

use cairn_proto::v1::{self, LotteryStage, PlaceStatus};
use prost::Message;

use super::roster::{self, Row};
use super::{BRIEF_NAMESPACE, PLACE_NAMESPACE, draw, place_key, recompute};
use crate::hash::Hash;
use crate::log;
use crate::map;

/// What an applicant knows of their own row.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// From the applicant's receipt of registration.
    pub salt: &'a [u8; 32],
    /// Written as the rules' identity rule says.
    pub identity: &'a [u8],
    /// The applicant's Ed25519 key, or empty.
    pub holder_key: &'a [u8],
}

/// Where an applicant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The row is in the roster; the draw is still to come.
    NotDrawnYet {
        /// How far the lottery is.
        stage: LotteryStage,
    },
    /// Among the winners.
    Won {
        /// From 0, within the tier.
        rank: u64,
        /// The batch that publishes this rank, from 0.
        batch: u64,
        /// Whether that batch was published already.
        published: bool,
    },
    /// Behind the winners, and reached by a promotion.
    Promoted {
        /// From 0, within the tier.
        rank: u64,
    },
    /// On the waiting list, behind all who were given a place.
    Waiting {
        /// From 0, within the tier.
        rank: u64,
        /// From 1: place 1 comes up next, unless it was struck.
        place: u64,
    },
    /// Behind the end of the waiting list.
    NotWon {
        /// From 0, within the tier.
        rank: u64,
    },
    /// An objection against the row was upheld: whatever it drew, it has no place.
    Struck {
        /// From 0, within the tier.
        rank: u64,
    },
    /// Had a place and lost it: renounced, or did not come.
    Vacated {
        /// From 0, within the tier.
        rank: u64,
    },
    /// The last attempt was voided: nobody won, whatever was drawn.
    Voided,
}

/// A proof that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Where the applicant stands.
    pub verdict: Verdict,
    /// The lottery's state under the map root, [in brief](super::in_brief).
    pub lottery: v1::LotteryState,
    /// The applicant's row.
    pub row: Row,
    /// What became of the row's place since the draw; the default where nothing has yet.
    pub place: v1::PlaceState,
}

/// Why a proof is refused. Ask another node for the proof, and keep this one as a complaint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A field has a wrong length, is missing, or is there without need.
    #[error("the proof is malformed: {0}")]
    Malformed(&'static str),
    /// The lottery's state is not under the map root.
    #[error("the lottery's state is not proven: {0}")]
    Lottery(map::ProofError),
    /// The map root proves that there is no such lottery.
    #[error("there is no such lottery under this checkpoint")]
    NoSuchLottery,
    /// The row is not in the roster.
    #[error("the row is not in the roster: {0}")]
    Roster(log::ProofError),
    /// Salt, identity or holder key are not those of this row.
    #[error("salt, identity and holder key do not open this row's commitment")]
    Opening,
    /// The rank is not in the ranking.
    #[error("the rank is not in the ranking: {0}")]
    Ranking(log::ProofError),
    /// What became of the place is not under the map root.
    #[error("what became of the place is not proven: {0}")]
    Place(map::ProofError),
    /// Ticket and cut-off say one thing, the rank or the place another.
    #[error("ticket, rank and place contradict each other: the ranking is not the draw's")]
    Contradiction,
}

/// Checks `proof` against the map root of a certified checkpoint. With an `opening` it also checks
/// that the row is that applicant's; without, the verdict is about a serial.
pub fn check_applicant(
    map_root: &Hash,
    proof: &v1::ApplicantProof,
    opening: Option<&Opening<'_>>,
) -> Result<Checked, CheckError> {
    let row = row_of(proof)?;
    let lottery = lottery_of(map_root, proof)?;
    check_roster(proof, &row, &lottery)?;
    if let Some(opening) = opening {
        let opened = roster::commitment(opening.salt, opening.identity, opening.holder_key);
        if opened.0 != row.commitment {
            return Err(CheckError::Opening);
        }
    }
    let (stands, place) = if lottery.seed.is_empty() {
        (not_drawn_yet(proof, &lottery)?, v1::PlaceState::default())
    } else {
        let place = place_of(map_root, proof, &lottery)?;
        (drawn(proof, &row, &lottery, &place)?, place)
    };
    let verdict = match lottery.stage() {
        LotteryStage::Voided => Verdict::Voided,
        _ => stands,
    };
    Ok(Checked {
        verdict,
        lottery,
        row,
        place,
    })
}

fn row_of(proof: &v1::ApplicantProof) -> Result<Row, CheckError> {
    let hash = |bytes: &[u8]| Hash::from_slice(bytes).map(|h| h.0);
    Ok(Row {
        commitment: hash(&proof.commitment).ok_or(CheckError::Malformed("commitment"))?,
        tag: hash(&proof.tag).ok_or(CheckError::Malformed("tag"))?,
        tier: proof.tier,
        weight: proof.weight,
    })
}

fn lottery_of(map_root: &Hash, proof: &v1::ApplicantProof) -> Result<v1::LotteryState, CheckError> {
    if proof.lottery_id.len() != 32 {
        return Err(CheckError::Malformed("lottery_id"));
    }
    let map_proof = proof.lottery.as_ref();
    let map_proof = map_proof.ok_or(CheckError::Malformed("lottery"))?;
    let key = map::map_key(BRIEF_NAMESPACE, &proof.lottery_id);
    let value = map::verify(map_root, &key, map_proof).map_err(CheckError::Lottery)?;
    let value = value.ok_or(CheckError::NoSuchLottery)?;
    v1::LotteryState::decode(value).map_err(|_| CheckError::Malformed("lottery's state"))
}

fn check_roster(
    proof: &v1::ApplicantProof,
    row: &Row,
    lottery: &v1::LotteryState,
) -> Result<(), CheckError> {
    let root = Hash::from_slice(&lottery.roster_root);
    let root = root.ok_or(CheckError::Malformed("roster root"))?;
    let inclusion = proof.roster_inclusion.as_ref();
    let inclusion = inclusion.ok_or(CheckError::Malformed("roster_inclusion"))?;
    if inclusion.leaf_index != proof.serial {
        return Err(CheckError::Malformed("roster_inclusion.leaf_index"));
    }
    let path = log::read_path(&inclusion.path).map_err(CheckError::Roster)?;
    log::verify_inclusion(&row.leaf_hash(), proof.serial, lottery.rows, &path, &root)
        .map_err(CheckError::Roster)
}

fn not_drawn_yet(
    proof: &v1::ApplicantProof,
    lottery: &v1::LotteryState,
) -> Result<Verdict, CheckError> {
    if proof.rank != 0 || proof.ranking_inclusion.is_some() || proof.place.is_some() {
        return Err(CheckError::Malformed("rank before the draw"));
    }
    Ok(Verdict::NotDrawnYet {
        stage: lottery.stage(),
    })
}

fn place_of(
    map_root: &Hash,
    proof: &v1::ApplicantProof,
    lottery: &v1::LotteryState,
) -> Result<v1::PlaceState, CheckError> {
    let id = Hash::from_slice(&proof.lottery_id).ok_or(CheckError::Malformed("lottery_id"))?;
    let map_proof = proof.place.as_ref().ok_or(CheckError::Malformed("place"))?;
    let key = place_key(&id, lottery.attempt, proof.serial);
    let key = map::map_key(PLACE_NAMESPACE, &key);
    let value = map::verify(map_root, &key, map_proof).map_err(CheckError::Place)?;
    let place = value.map(v1::PlaceState::decode).transpose();
    place
        .map(Option::unwrap_or_default)
        .map_err(|_| CheckError::Malformed("place's state"))
}

fn drawn(
    proof: &v1::ApplicantProof,
    row: &Row,
    lottery: &v1::LotteryState,
    place: &v1::PlaceState,
) -> Result<Verdict, CheckError> {
    let tier = usize::try_from(row.tier).ok();
    let result = tier.and_then(|tier| lottery.results.get(tier));
    let result = result.ok_or(CheckError::Malformed("tier"))?;
    check_ranking(proof, result)?;
    let won = beats_cutoff(proof, row, lottery, result)?;
    let rank = proof.rank;
    if won != (rank < result.winners) {
        return Err(CheckError::Contradiction);
    }
    let rules = lottery.rules.as_ref();
    let rules = rules.ok_or(CheckError::Malformed("rules"))?;
    let reached = result.winners.max(result.promoted_through);
    match place.status() {
        PlaceStatus::Struck => return Ok(Verdict::Struck { rank }),
        PlaceStatus::Vacated if rank < reached => return Ok(Verdict::Vacated { rank }),
        // A promotion passes over nobody but the struck, and reaches nobody who won.
        PlaceStatus::Unspecified if won || rank >= reached => {}
        PlaceStatus::Promoted if !won && rank < reached => {}
        PlaceStatus::Redeemed if rank < reached => {}
        _ => return Err(CheckError::Contradiction),
    }
    if won {
        let batch = rank.checked_div(u64::from(rules.rows_per_batch));
        let batch = batch.ok_or(CheckError::Malformed("rows_per_batch"))?;
        return Ok(Verdict::Won {
            rank,
            batch,
            published: batch < u64::from(result.batches_published),
        });
    }
    let tier = tier.and_then(|tier| rules.tiers.get(tier));
    let waiting_list = tier.map_or(0, |tier| u64::from(tier.waiting_list));
    Ok(match rank.checked_sub(reached) {
        None => Verdict::Promoted { rank },
        Some(ahead) if rank < result.winners.saturating_add(waiting_list) => Verdict::Waiting {
            rank,
            place: ahead + 1,
        },
        Some(_) => Verdict::NotWon { rank },
    })
}

fn check_ranking(proof: &v1::ApplicantProof, result: &v1::TierResult) -> Result<(), CheckError> {
    let root = Hash::from_slice(&result.ranking_root);
    let root = root.ok_or(CheckError::Malformed("ranking root"))?;
    let inclusion = proof.ranking_inclusion.as_ref();
    let inclusion = inclusion.ok_or(CheckError::Malformed("ranking_inclusion"))?;
    if inclusion.leaf_index != proof.rank {
        return Err(CheckError::Malformed("ranking_inclusion.leaf_index"));
    }
    let path = log::read_path(&inclusion.path).map_err(CheckError::Ranking)?;
    let leaf = recompute::ranking_leaf(proof.serial);
    log::verify_inclusion(&leaf, proof.rank, result.entrants, &path, &root)
        .map_err(CheckError::Ranking)
}

/// Whether the row's own ticket is among the winners': one hash from the certified seed.
fn beats_cutoff(
    proof: &v1::ApplicantProof,
    row: &Row,
    lottery: &v1::LotteryState,
    result: &v1::TierResult,
) -> Result<bool, CheckError> {
    if result.winners == 0 {
        return Ok(false);
    }
    let seed = Hash::from_slice(&lottery.seed).ok_or(CheckError::Malformed("seed"))?;
    let cutoff = Hash::from_slice(&result.cutoff_ticket);
    let cutoff = cutoff.ok_or(CheckError::Malformed("cutoff_ticket"))?;
    let serial = u32::try_from(proof.serial).map_err(|_| CheckError::Malformed("serial"))?;
    if row.weight > roster::MAX_WEIGHT {
        return Err(CheckError::Malformed("weight"));
    }
    let ticket = draw::least_ticket(&seed, row.tier, serial, row.weight);
    Ok((ticket, proof.serial) <= (cutoff.0, result.cutoff_serial))
}
