//! The quorum policy: which members together certify, and why no institution can do so twice.
//!
//! What holds here: a policy is safe when no two sets of members that each satisfy it overlap only
//! inside one institution; then two conflicting certificates need at least two institutions that
//! signed both. It is checked by enumeration when a policy is set, not argued about.

use std::collections::BTreeSet;

use cairn_proto::v1;

/// Members of one ledger: the check looks at every set of them.
pub const MAX_MEMBERS: usize = 16;

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// There is no policy, or a threshold of zero.
    #[error("the policy asks for no cosignatures: set threshold and min_roles to at least 1")]
    Empty,
    /// More members than the check enumerates.
    #[error("{0} members; at most {MAX_MEMBERS} are supported")]
    TooManyMembers(usize),
    /// Nothing could ever be certified.
    #[error(
        "all {members} members together do not satisfy the policy (threshold {threshold}, {min_roles} roles): lower it"
    )]
    Unsatisfiable {
        /// How many members there are.
        members: usize,
        /// What the policy asks for.
        threshold: u32,
        /// What the policy asks for.
        min_roles: u32,
    },
    /// Two conflicting checkpoints could be certified by one institution's misbehaviour.
    #[error(
        "{institution} alone could get two conflicting checkpoints certified, by [{}] and by [{}]: raise the threshold to {safe_threshold}, or set detect_only to accept that such a fork is only detected",
        .first.join(", "), .second.join(", ")
    )]
    Unsafe {
        /// The only institution that would sign both.
        institution: String,
        /// One set that satisfies the policy, by institution.
        first: Vec<String>,
        /// Another one.
        second: Vec<String>,
        /// A threshold that is safe for so many members of different institutions.
        safe_threshold: u32,
    },
}

/// The default threshold for `members` institutions: ⌊(n+1)/2⌋ + 1.
pub fn default_threshold(members: usize) -> u32 {
    u32::try_from(members.div_ceil(2) + 1).unwrap_or(u32::MAX)
}

/// Whether `signers`, each counted once, satisfy the policy of `members`.
pub fn satisfies(members: &v1::MemberSet, signers: &[&v1::Member]) -> bool {
    let Some(policy) = &members.policy else {
        return false;
    };
    let ids: BTreeSet<u64> = signers.iter().map(|member| member.raft_id).collect();
    let roles: BTreeSet<i32> = signers.iter().map(|member| member.role).collect();
    policy.threshold > 0
        && ids.len() as u64 >= u64::from(policy.threshold)
        && roles.len() as u64 >= u64::from(policy.min_roles)
}

/// Checks that the policy of `members` can be satisfied and is safe, unless it says that it only
/// detects.
pub fn check(members: &v1::MemberSet) -> Result<(), PolicyError> {
    let policy = members.policy.as_ref().ok_or(PolicyError::Empty)?;
    if policy.threshold == 0 || policy.min_roles == 0 {
        return Err(PolicyError::Empty);
    }
    let all = &members.members;
    if all.len() > MAX_MEMBERS {
        return Err(PolicyError::TooManyMembers(all.len()));
    }
    let everyone: Vec<&v1::Member> = all.iter().collect();
    if !satisfies(members, &everyone) {
        return Err(PolicyError::Unsatisfiable {
            members: all.len(),
            threshold: policy.threshold,
            min_roles: policy.min_roles,
        });
    }
    if policy.detect_only {
        return Ok(());
    }
    match unsafe_pair(members) {
        None => Ok(()),
        Some((institution, first, second)) => Err(PolicyError::Unsafe {
            institution: institution.to_owned(),
            first: names(&first),
            second: names(&second),
            safe_threshold: default_threshold(all.len()),
        }),
    }
}

type Pair<'a> = (&'a str, Vec<&'a v1::Member>, Vec<&'a v1::Member>);

/// An institution and two sets that satisfy the policy and overlap only inside of it. For a given
/// first set and institution the largest such second set is all others and that institution.
fn unsafe_pair(members: &v1::MemberSet) -> Option<Pair<'_>> {
    let all = &members.members;
    let institutions: BTreeSet<&str> = all.iter().map(|m| m.institution.as_str()).collect();
    for bits in 0u32..1 << all.len() {
        let within = |at: usize| bits & (1 << at) != 0;
        let indexed = || all.iter().enumerate();
        let first: Vec<_> = indexed()
            .filter(|(at, _)| within(*at))
            .map(|(_, m)| m)
            .collect();
        if !satisfies(members, &first) {
            continue;
        }
        for institution in &institutions {
            let second: Vec<_> = indexed()
                .filter(|(at, m)| !within(*at) || m.institution == *institution)
                .map(|(_, m)| m)
                .collect();
            if satisfies(members, &second) {
                return Some((institution, first, second));
            }
        }
    }
    None
}

fn names(members: &[&v1::Member]) -> Vec<String> {
    members.iter().map(|m| m.institution.clone()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use cairn_proto::v1::Role;

    use super::*;

    fn set(institutions: &[(&str, Role)], threshold: u32, min_roles: u32) -> v1::MemberSet {
        let member = |(raft_id, (name, role)): (u64, &(&str, Role))| v1::Member {
            raft_id,
            institution: (*name).to_owned(),
            role: *role as i32,
            ..Default::default()
        };
        v1::MemberSet {
            epoch: 0,
            members: (1..).zip(institutions).map(member).collect(),
            policy: Some(v1::QuorumPolicy {
                threshold,
                min_roles,
                detect_only: false,
            }),
        }
    }

    const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

    fn of(count: usize, threshold: u32) -> v1::MemberSet {
        let roles = [Role::Notary, Role::Government, Role::Institute];
        let members: Vec<_> = (0..count).map(|n| (NAMES[n], roles[n % 3])).collect();
        set(&members, threshold, 2)
    }

    #[test]
    fn the_default_thresholds_are_the_least_safe_ones() {
        for (members, threshold) in [(3, 3), (4, 3), (5, 4), (6, 4), (7, 5)] {
            assert_eq!(default_threshold(members), threshold);
            assert_eq!(check(&of(members, threshold)), Ok(()), "{members}");
            let error = check(&of(members, threshold - 1)).unwrap_err();
            assert!(matches!(error, PolicyError::Unsafe { .. }), "{members}");
        }
    }

    #[test]
    fn an_unsafe_policy_is_refused_with_two_sets_that_overlap_in_one_institution() {
        let PolicyError::Unsafe {
            institution,
            first,
            second,
            ..
        } = check(&of(4, 2)).unwrap_err()
        else {
            panic!("refused for another reason");
        };
        let shared: Vec<_> = first.iter().filter(|n| second.contains(n)).collect();
        assert!(shared.iter().all(|name| **name == institution));
        assert!(first.len() >= 2 && second.len() >= 2);
    }

    #[test]
    fn two_members_of_one_institution_are_one_institution() {
        let roles = [Role::Notary, Role::Government, Role::Institute];
        let members = [
            ("a", roles[0]),
            ("a", roles[1]),
            ("b", roles[1]),
            ("c", roles[2]),
        ];
        assert!(matches!(
            check(&set(&members, 3, 2)),
            Err(PolicyError::Unsafe { institution, .. }) if institution == "a"
        ));
    }

    #[test]
    fn detect_only_allows_what_is_not_safe_but_not_what_is_impossible() {
        let mut unsafe_set = of(4, 2);
        unsafe_set.policy.as_mut().unwrap().detect_only = true;
        assert_eq!(check(&unsafe_set), Ok(()));
        assert!(matches!(
            check(&of(3, 4)),
            Err(PolicyError::Unsatisfiable { .. })
        ));
        assert_eq!(check(&of(3, 0)), Err(PolicyError::Empty));
    }

    #[test]
    fn a_signer_counts_once_and_roles_count() {
        let set = of(4, 3);
        let m = &set.members;
        assert!(satisfies(&set, &[&m[0], &m[1], &m[2]]));
        assert!(!satisfies(&set, &[&m[0], &m[1], &m[1]]));
        let same_role = of(7, 3);
        let m = &same_role.members;
        assert!(!satisfies(&same_role, &[&m[0], &m[3], &m[6]]));
    }
}
