//! A receipt of the simulated ledger convinces a verifier; with any bit of it changed, a part left
//! out or one too many, it does not. (Day-one bug 19. Every bit of every kind of proof is flipped
//! in `ledger`'s tests; here are some, of receipts that cross changes of members too.)

use cairn_consensus::Core;
use cairn_ledger::hash::Hash;
use cairn_ledger::{canonical, verify};
use cairn_proto::v1;

use super::{Violation, acknowledged_is_never_lost};
use crate::planted::Planted;
use crate::world::World;

const NAME: &str = "no_altered_proof_is_believed";
/// Bits flipped in one run: a verification takes some 0.2 ms.
const FLIPS: u64 = 300;

pub fn check(world: &World, core: &Core, leaf_index: u64) -> Result<(), Violation> {
    let Some(view) = core.view() else {
        return Ok(());
    };
    let bytes = acknowledged_is_never_lost::receipt(&view, leaf_index)
        .map_err(|error| Violation::of(NAME, error))?;
    let truth: v1::Receipt = canonical::decode(&bytes).unwrap();
    if !believes(world, &truth, &truth) {
        return Err(Violation::of(NAME, "a true receipt is not believed"));
    }
    let bits = 8 * bytes.len() as u64;
    for _ in 0..FLIPS {
        let bit = usize::try_from(world.rng.between(0, bits - 1)).unwrap();
        let mut altered = bytes.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        // As a proof file is read. Protobuf alone would skip what it does not know, a cosignature
        // that is not needed for one.
        let altered = canonical::decode::<v1::Receipt>(&altered);
        if altered.is_ok_and(|altered| believes(world, &truth, &altered)) {
            let what = format!("the receipt of leaf {leaf_index} with bit {bit} flipped");
            return Err(Violation::of(NAME, what));
        }
    }
    for (what, altered) in worse(&truth) {
        if altered != truth && believes(world, &truth, &altered) {
            return Err(Violation::of(NAME, format!("a receipt with {what}")));
        }
    }
    Ok(())
}

/// Receipts with a part left out, or one too many.
fn worse(truth: &v1::Receipt) -> Vec<(&'static str, v1::Receipt)> {
    let with = |change: &dyn Fn(&mut v1::Receipt)| {
        let mut altered = truth.clone();
        change(&mut altered);
        altered
    };
    let path = |change: fn(&mut v1::InclusionProof)| {
        with(&|receipt| receipt.inclusion.iter_mut().for_each(change))
    };
    let checkpoint = |change: fn(&mut v1::Checkpoint)| {
        with(&|receipt| receipt.checkpoint.iter_mut().for_each(change))
    };
    vec![
        (
            "no inclusion proof",
            with(&|receipt| receipt.inclusion = None),
        ),
        ("an empty path", path(|proof| proof.path.clear())),
        (
            "a longer path",
            path(|proof| proof.path.push(Hash::ZERO.to_bytes())),
        ),
        ("another place", path(|proof| proof.leaf_index += 1)),
        ("no certificate", with(&|receipt| receipt.checkpoint = None)),
        (
            "no cosignatures",
            checkpoint(|certificate| certificate.cosignatures.clear()),
        ),
        (
            "too few cosignatures",
            checkpoint(|certificate| certificate.cosignatures.truncate(1)),
        ),
        ("no signatures", with(&|receipt| receipt.signatures.clear())),
        (
            "no changes of members",
            with(&|receipt| receipt.epoch_changes.clear()),
        ),
        (
            "changes of members twice",
            with(&|receipt| {
                receipt.epoch_changes.extend(truth.epoch_changes.clone());
            }),
        ),
    ]
}

/// What a verifier says. A planted one does not look at a part: it takes the true one for it.
fn believes(world: &World, truth: &v1::Receipt, shown: &v1::Receipt) -> bool {
    let mut seen = shown.clone();
    match world.setup.planted {
        Planted::LinksSkipped => seen.epoch_changes.clone_from(&truth.epoch_changes),
        Planted::PathSkipped => seen.inclusion.clone_from(&truth.inclusion),
        Planted::CertificateSkipped => seen.checkpoint.clone_from(&truth.checkpoint),
        _ => {}
    }
    verify::receipt(&world.ledger.chain, &seen, None).is_ok()
}
