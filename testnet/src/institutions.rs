//! Who takes part: the institutions that run nodes, for each size of cluster.

/// A member's part in public life; the quorum policy asks for cosignatures from two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Notary,
    Government,
    Institute,
}

impl Role {
    /// As a genesis plan writes it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Notary => "notary",
            Role::Government => "government",
            Role::Institute => "institute",
        }
    }
}

/// One institution, which runs one node.
#[derive(Debug, Clone, Copy)]
pub struct Institution {
    pub raft_id: u64,
    pub name: &'static str,
    pub role: Role,
}

const ALL: [(&str, Role); 7] = [
    ("Lakeside Notary Office", Role::Notary),
    ("Department of Commerce", Role::Government),
    ("Institute of Information Security", Role::Institute),
    ("Department of Civil Affairs", Role::Government),
    ("Institute of Metrology", Role::Institute),
    ("Department of Transport", Role::Government),
    ("Riverside Notary Office", Role::Notary),
];

/// The institutions of a cluster of `count`.
pub fn of(count: usize) -> Vec<Institution> {
    let mut chosen: Vec<_> = ALL.iter().take(count).copied().collect();
    chosen.sort_by_key(|&(_, role)| role);
    let numbered = (1..).zip(chosen);
    numbered
        .map(|(raft_id, (name, role))| Institution {
            raft_id,
            name,
            role,
        })
        .collect()
}

/// Reads `--nodes`.
pub fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ (3 | 4 | 5 | 7)) => Ok(count),
        _ => Err("must be 3, 4, 5 or 7".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_are_a_notary_two_departments_and_an_institute() {
        let roles: Vec<_> = of(4).iter().map(|i| i.role).collect();
        let expected = [
            Role::Notary,
            Role::Government,
            Role::Government,
            Role::Institute,
        ];
        assert_eq!(roles, expected);
    }

    #[test]
    fn every_size_has_all_roles_and_distinct_names() {
        for count in [3, 4, 5, 7] {
            let all = of(count);
            assert_eq!(all.len(), count);
            for role in [Role::Notary, Role::Government, Role::Institute] {
                assert!(all.iter().any(|i| i.role == role), "{count} {role:?}");
            }
            let mut names: Vec<_> = all.iter().map(|i| i.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
        assert!(parse_count("6").is_err() && parse_count("4").is_ok());
    }
}
