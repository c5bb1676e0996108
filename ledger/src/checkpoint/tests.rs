//! What certifies, what does not and why, and the two times that a certificate shows.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::testing::*;

fn certify_here(
    ledger: &Ledger,
    checkpoint: &v1::Checkpoint,
) -> Result<CertifiedCheckpoint, CertifyError> {
    certify(&ledger.chain.id, &ledger.chain.members, checkpoint)
}

#[test]
fn a_cosignature_is_for_one_header_of_one_chain_at_one_time() {
    let members = genesis().members.unwrap();
    let (chain_id, header) = (Hash([1; 32]), Hash([2; 32]));
    let good = cosign(&key(MEMBERS[1]), &chain_id, &header, START);
    let verify = |chain_id: &Hash, header: &Hash, c: &v1::Cosignature| {
        verify_cosignature(&members, chain_id, header, c).cloned()
    };
    assert_eq!(
        verify(&chain_id, &header, &good),
        Ok(members.members[1].clone())
    );
    let invalid = Err(CosignatureError::Invalid("institution 102".to_owned()));
    assert_eq!(verify(&header, &header, &good), invalid);
    assert_eq!(verify(&chain_id, &chain_id, &good), invalid);
    let mut later = good.clone();
    later.cosigned_at_ms += 1;
    assert_eq!(verify(&chain_id, &header, &later), invalid);
    let mut short = good.clone();
    short.signature = short.signature.slice(..63);
    assert_eq!(verify(&chain_id, &header, &short), invalid);
    let mut of_another = good;
    of_another.public_key = public(MEMBERS[0]);
    assert!(matches!(
        verify(&chain_id, &header, &of_another),
        Err(CosignatureError::Invalid(name)) if name == "institution 101"
    ));
    let stranger = cosign(&key(STRANGER), &chain_id, &header, START);
    assert_eq!(
        verify(&chain_id, &header, &stranger),
        Err(CosignatureError::NotAMember(hex::encode(public(STRANGER))))
    );
}

#[test]
fn a_certificate_shows_its_header_roots_and_signers() {
    let mut ledger = Ledger::new();
    ledger.block(vec![ledger.evidence(1)]);
    let checkpoint = ledger.checkpoint(&[3, 0, 2]);
    let certified = certify_here(&ledger, &checkpoint).unwrap();
    let tip = ledger.tip();
    assert_eq!(certified.header(), &tip.header);
    assert_eq!(certified.header_hash(), tip.header_hash);
    assert_eq!(certified.log_root().0[..], tip.header.log_root);
    assert_eq!(certified.map_root().0[..], tip.header.map_root);
    assert_eq!(certified.to_proto(), checkpoint);
    assert!(!certified.detect_only());
    let mut signers: Vec<u64> = certified.signers().map(|member| member.raft_id).collect();
    signers.sort_unstable();
    assert_eq!(signers, [101, 103, 104]);
    // Of three that are needed, the earliest and the latest bound the two times.
    assert_eq!(certified.latest_as_of_ms(), ledger.now + 1);
    assert_eq!(certified.certified_by_ms(), ledger.now + 4);
}

#[test]
fn too_few_or_too_alike_is_told_apart_from_wrong() {
    let mut ledger = Ledger::new();
    let good = ledger.checkpoint(&[0, 1, 3]);
    for few in [&[][..], &[2], &[1, 2]] {
        let checkpoint = ledger.certificate(good.header.clone(), few);
        let roles = usize::from(!few.is_empty());
        assert_eq!(
            certify_here(&ledger, &checkpoint),
            Err(CertifyError::QuorumNotMet {
                found: few.len(),
                members: 4,
                roles,
                threshold: 3,
                min_roles: 2,
            })
        );
    }
    // One that is wrong is not made up for by enough others, nor hidden among too few.
    for signers in [&[0, 1, 2, 3][..], &[0]] {
        let mut checkpoint = ledger.certificate(good.header.clone(), signers);
        checkpoint.cosignatures[0].cosigned_at_ms += 1;
        assert!(matches!(
            certify_here(&ledger, &checkpoint),
            Err(CertifyError::Cosignature(CosignatureError::Invalid(_)))
        ));
    }
}

#[test]
fn cosignatures_ascend_and_each_member_has_one() {
    let mut ledger = Ledger::new();
    let good = ledger.checkpoint(&[0, 1, 3]);
    let mut reversed = good.clone();
    reversed.cosignatures.reverse();
    assert_eq!(certify_here(&ledger, &reversed), Err(CertifyError::Order));
    let mut swapped = good.clone();
    swapped.cosignatures.swap(1, 2);
    assert_eq!(certify_here(&ledger, &swapped), Err(CertifyError::Order));
    // The same twice, and one member at two times: neither makes two out of one.
    let two = ledger.certificate(good.header.clone(), &[0, 1]);
    let hash = header_hash(&good.header);
    for at in [two.cosignatures[0].cosigned_at_ms, ledger.now + 99] {
        let mut twice = two.clone();
        let member = MEMBERS
            .into_iter()
            .find(|n| public(*n) == two.cosignatures[0].public_key);
        let again = cosign(&key(member.unwrap()), &ledger.chain.id, &hash, at);
        twice.cosignatures.insert(1, again);
        assert_eq!(certify_here(&ledger, &twice), Err(CertifyError::Order));
    }
}

#[test]
fn strangers_other_headers_and_other_chains_certify_nothing() {
    let mut ledger = Ledger::new();
    let good = ledger.checkpoint(&[0, 1, 3]);
    let id = &ledger.chain.id;
    let at = |n: u8| (n, ledger.now);

    let with_stranger = [MEMBERS[0], MEMBERS[1], MEMBERS[3], STRANGER].map(at);
    let checkpoint = certificate(id, good.header.clone(), with_stranger);
    assert!(matches!(
        certify_here(&ledger, &checkpoint),
        Err(CertifyError::Cosignature(CosignatureError::NotAMember(_)))
    ));
    let elsewhere = MEMBERS.map(at);
    let checkpoint = certificate(&Hash([9; 32]), good.header.clone(), elsewhere);
    assert!(matches!(
        certify_here(&ledger, &checkpoint),
        Err(CertifyError::Cosignature(CosignatureError::Invalid(_)))
    ));

    let header = ledger.tip().header;
    let of = |change: fn(&mut v1::Header)| {
        let mut header = header.clone();
        change(&mut header);
        let bytes = canonical::encode(&header);
        let moved = v1::Checkpoint {
            header: bytes.clone(),
            ..good.clone()
        };
        (
            certify_here(&ledger, &moved),
            certify_here(&ledger, &certificate(id, bytes, elsewhere)),
        )
    };
    // Good cosignatures under another header; and cosigned, but not what members of here cosign.
    let (moved, cosigned) = of(|h| h.height += 1);
    assert!(matches!(moved, Err(CertifyError::Cosignature(_))));
    assert!(cosigned.is_ok());
    let (moved, cosigned) = of(|h| h.chain_id = Hash([9; 32]).to_bytes());
    assert!(matches!(moved, Err(CertifyError::WrongChain { .. })));
    assert!(matches!(cosigned, Err(CertifyError::WrongChain { .. })));
    let (moved, cosigned) = of(|h| h.members_hash = Hash([9; 32]).to_bytes());
    assert_eq!(moved, Err(CertifyError::WrongMembers { epoch: 0 }));
    assert_eq!(cosigned, Err(CertifyError::WrongMembers { epoch: 0 }));
    let (moved, cosigned) = of(|h| h.epoch = 1);
    assert_eq!(moved, Err(CertifyError::WrongMembers { epoch: 1 }));
    assert_eq!(cosigned, Err(CertifyError::WrongMembers { epoch: 1 }));
    let (moved, cosigned) = of(|h| h.checkpoint = false);
    assert_eq!(moved, Err(CertifyError::NotACheckpoint { height: 1 }));
    assert_eq!(cosigned, Err(CertifyError::NotACheckpoint { height: 1 }));

    let padded: Bytes = [&good.header[..], &[0x78, 1]].concat().into();
    let padded = certificate(id, padded, elsewhere);
    assert!(matches!(
        certify_here(&ledger, &padded),
        Err(CertifyError::NotCanonical(_))
    ));
    let mut other_members = ledger.chain.members.clone();
    other_members.policy.as_mut().unwrap().threshold = 1;
    assert_eq!(
        certify(id, &other_members, &good),
        Err(CertifyError::WrongMembers { epoch: 0 })
    );
}

/// A member's role, and when it cosigned, if it did.
type Signing = (i32, Option<u64>);

fn enough(
    signings: &[Signing],
    threshold: u32,
    min_roles: u32,
    counts: impl Fn(u64) -> bool,
) -> bool {
    let counted = signings.iter().filter(|(_, at)| at.is_some_and(&counts));
    let roles = (1..=3).filter(|role| counted.clone().any(|(r, _)| r == role));
    counted.clone().count() >= threshold as usize && roles.count() >= min_roles as usize
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_two_times_are_those_of_the_naive_model(
        signings in proptest::collection::vec((1..=3i32, proptest::option::weighted(0.8, 0..6u64)), 1..7),
        threshold in 1..5u32,
        min_roles in 1..4u32,
        detect_only: bool,
    ) {
        let member = |(n, (role, _)): (u8, &Signing)| v1::Member {
            raft_id: u64::from(n),
            institution: format!("institution {n}"),
            role: *role,
            cosign_key: public(n),
            ..Default::default()
        };
        let set = v1::MemberSet {
            epoch: 3,
            members: (1..).zip(&signings).map(member).collect(),
            policy: Some(v1::QuorumPolicy { threshold, min_roles, detect_only }),
        };
        let chain_id = Hash([5; 32]);
        let header = canonical::encode(&v1::Header {
            chain_id: chain_id.to_bytes(),
            epoch: 3,
            log_root: Hash([6; 32]).to_bytes(),
            map_root: Hash([7; 32]).to_bytes(),
            members_hash: genesis::members_hash(&set).to_bytes(),
            checkpoint: true,
            ..Default::default()
        });
        let signed = (1..).zip(&signings).filter_map(|(n, (_, at))| Some((n, START + (*at)?)));
        let checkpoint = certificate(&chain_id, header, signed);
        let result = certify(&chain_id, &set, &checkpoint);

        let latest = (0..6).rev().find(|t| enough(&signings, threshold, min_roles, |at| at >= *t));
        let by = (0..6).find(|t| enough(&signings, threshold, min_roles, |at| at <= *t));
        match latest.zip(by) {
            Some((latest, by)) => {
                let certified = result.unwrap();
                prop_assert_eq!(certified.latest_as_of_ms(), START + latest);
                prop_assert_eq!(certified.certified_by_ms(), START + by);
                prop_assert_eq!(certified.detect_only(), detect_only);
            }
            None => {
                let found = signings.iter().filter(|(_, at)| at.is_some()).count();
                let counted = match result {
                    Err(CertifyError::QuorumNotMet { found, .. }) => Some(found),
                    _ => None,
                };
                prop_assert_eq!(counted, Some(found));
            }
        }
    }
}
