//! Who takes part, written down: the genesis plan, the nodes' settings, and the keys of all
//! offices.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::cairn::{Cairn, Field, args};
use crate::institutions::{Institution, Role};
use crate::keys::{self, Purpose, Seed};
use crate::layout::Layout;
use crate::ports::Ports;

/// The region in which codes are issued.
pub const REGION: &str = "lakeside";
/// A region of the same ledger that another authority has a mandate for.
pub const NEIGHBOUR: &str = "riverside";
/// The reasons that the authority's mandate allows.
pub const REASONS: [&str; 2] = ["close contact", "confirmed case"];

/// Keys beside those of the institutions: file, purpose.
const OFFICES: [(&str, Purpose); 10] = [
    ("organiser", Purpose::Author),
    ("shop", Purpose::Author),
    ("registrar", Purpose::Author),
    ("authority", Purpose::Author),
    ("health", Purpose::Author),
    ("station", Purpose::Author),
    ("neighbour", Purpose::Author),
    ("registrar-tag", Purpose::Tag),
    ("notary-tag", Purpose::Tag),
    ("beacon", Purpose::Seed),
];

/// A rehearsal's genesis bears this time, so that its chain id depends on its seed alone.
const REHEARSAL_CREATED_MS: u64 = 1_580_601_600_000;
/// Entries of a rehearsal may live so long: their end is part of their ids and must not depend on
/// the day of the run. A hundred years.
const REHEARSAL_LIFETIME_MS: u64 = 100 * 365 * 86_400_000;

/// A cluster as `cluster.json` keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ClusterPlan {
    pub chain_id: String,
    /// Whether the nodes have formed their cluster, which is done once.
    pub formed: bool,
    pub nodes: Vec<NodePlan>,
}

/// One node as `cluster.json` keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodePlan {
    pub raft_id: u64,
    pub institution: String,
    pub role: String,
    #[serde(flatten)]
    pub ports: Ports,
}

impl ClusterPlan {
    /// The cluster that lies in `layout`, if there is one.
    pub fn load(layout: &Layout) -> anyhow::Result<Option<ClusterPlan>> {
        let path = layout.cluster_file();
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| {
                format!(
                    "{} is damaged; testnet/down {} --delete",
                    path.display(),
                    layout.name()
                )
            })?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub fn save(&self, layout: &Layout) -> anyhow::Result<()> {
        let path = layout.cluster_file();
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Where clients ask, all nodes.
    pub fn urls(&self) -> Vec<String> {
        let urls = self.nodes.iter();
        urls.map(|n| format!("http://{}", n.ports.grpc)).collect()
    }

    /// The first node of a role; every cluster has one.
    pub fn first(&self, role: Role) -> anyhow::Result<&NodePlan> {
        let found = self.nodes.iter().find(|n| n.role == role.name());
        found.with_context(|| format!("no member is a {}", role.name()))
    }
}

#[derive(Serialize)]
struct GenesisPlan<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<LimitsPlan>,
    member: Vec<MemberPlan<'a>>,
    author: Vec<AuthorPlan<'a>>,
    mandate: Vec<MandatePlan<'a>>,
    mandate_policy: MandatePolicyPlan,
}

#[derive(Serialize)]
struct LimitsPlan {
    max_entry_lifetime_ms: u64,
}

#[derive(Serialize)]
struct MemberPlan<'a> {
    raft_id: u64,
    institution: &'a str,
    role: &'a str,
    cosign_key: String,
    peer_id: String,
    seed_key: String,
    seed_key_proof: String,
    office_key: String,
}

#[derive(Serialize)]
struct AuthorPlan<'a> {
    public_key: String,
    name: &'a str,
    role: &'a str,
}

#[derive(Serialize)]
struct MandatePlan<'a> {
    authority: String,
    region: &'a str,
    reasons: [&'a str; 2],
    statuses: [&'a str; 3],
    max_duration_days: u64,
    approver_role: &'a str,
}

#[derive(Serialize)]
struct MandatePolicyPlan {
    granters: Vec<String>,
    required: u32,
}

/// Makes keys, genesis and settings of a new cluster.
pub async fn prepare(
    layout: &Layout,
    cairn: &Cairn,
    institutions: &[Institution],
    ports: Vec<Ports>,
    seed: Option<&Seed>,
) -> anyhow::Result<ClusterPlan> {
    let ids: Vec<u64> = institutions.iter().map(|i| i.raft_id).collect();
    layout.create(&ids)?;
    let (members, mut authors) = members(layout, cairn, institutions, seed).await?;
    // The members' own offices grant mandates, two of them together.
    let granters = authors.iter().map(|a| a.public_key.clone()).collect();
    let mut offices = Vec::new();
    for (name, purpose) in OFFICES {
        let key = keys::make(cairn, seed, purpose, &layout.key(name)).await?;
        offices.push((name, key.public_key));
    }
    let office = |name: &str| {
        let found = offices.iter().find(|(office, _)| *office == name);
        let found = found.map(|(_, key)| key.clone());
        found.with_context(|| format!("no key for the {name}"))
    };
    for (name, institution, role) in [
        ("organiser", "Department of Commerce", "organiser"),
        ("registrar", "Citizen Service Centre", "registrar"),
        ("shop", "Harbour Street Pharmacy", "point-of-sale"),
        ("authority", "Epidemic Control Office", "authority"),
        ("health", "Centre for Public Health", "health"),
        ("station", "Harbour Street Test Station", "registrar"),
        (
            "neighbour",
            "Riverside Epidemic Control Office",
            "authority",
        ),
    ] {
        authors.push(AuthorPlan {
            public_key: office(name)?,
            name: institution,
            role,
        });
    }
    let plan = GenesisPlan {
        name: "A Cairn testnet on one machine",
        created_at_ms: seed.map(|_| REHEARSAL_CREATED_MS),
        limits: seed.map(|_| LimitsPlan {
            max_entry_lifetime_ms: REHEARSAL_LIFETIME_MS,
        }),
        member: members,
        author: authors,
        mandate: [("authority", REGION), ("neighbour", NEIGHBOUR)]
            .into_iter()
            .map(|(name, region)| {
                Ok(MandatePlan {
                    authority: office(name)?,
                    region,
                    reasons: REASONS,
                    statuses: ["green", "yellow", "red"],
                    max_duration_days: 30,
                    approver_role: "health",
                })
            })
            .collect::<anyhow::Result<_>>()?,
        mandate_policy: MandatePolicyPlan {
            granters,
            required: 2,
        },
    };
    fs::write(layout.plan(), toml::to_string(&plan)?)?;
    let genesis = layout.genesis();
    let made = cairn
        .run(args![
            "genesis",
            "new",
            "--plan",
            layout.plan(),
            "--out",
            genesis
        ])
        .await?;
    let nodes = institutions.iter().zip(ports);
    let plan = ClusterPlan {
        chain_id: Field(&made, "chain_id").text()?,
        formed: false,
        nodes: nodes
            .map(|(institution, ports)| NodePlan {
                raft_id: institution.raft_id,
                institution: institution.name.to_owned(),
                role: institution.role.name().to_owned(),
                ports,
            })
            .collect(),
    };
    write_node_configs(layout, &plan, |_, to| to.ports.peers)?;
    plan.save(layout)?;
    Ok(plan)
}

async fn members<'a>(
    layout: &Layout,
    cairn: &Cairn,
    institutions: &[Institution],
    seed: Option<&Seed>,
) -> anyhow::Result<(Vec<MemberPlan<'a>>, Vec<AuthorPlan<'a>>)> {
    let mut members = Vec::new();
    let mut authors = Vec::new();
    for &Institution {
        raft_id,
        name,
        role,
    } in institutions
    {
        let make = async |purpose, path: PathBuf| keys::make(cairn, seed, purpose, &path).await;
        let network = make(Purpose::Network, layout.network_key(raft_id)).await?;
        let cosign = make(Purpose::Cosign, layout.cosign_key(raft_id)).await?;
        let contributes = make(Purpose::Seed, layout.seed_key(raft_id)).await?;
        let author = make(Purpose::Author, layout.author_key(raft_id)).await?;
        members.push(MemberPlan {
            raft_id,
            institution: name,
            role: role.name(),
            cosign_key: cosign.public_key,
            peer_id: network.peer_id,
            seed_key: contributes.public_key,
            seed_key_proof: contributes.proof_of_possession,
            office_key: author.public_key.clone(),
        });
        authors.push(AuthorPlan {
            public_key: author.public_key,
            name,
            role: role.name(),
        });
    }
    Ok((members, authors))
}

/// Writes each node's `node.toml`. `peer`: where one node finds another.
pub fn write_node_configs(
    layout: &Layout,
    plan: &ClusterPlan,
    peer: impl Fn(&NodePlan, &NodePlan) -> SocketAddr,
) -> anyhow::Result<()> {
    for node in &plan.nodes {
        let Ports {
            grpc,
            admin,
            peers,
            metrics,
        } = node.ports;
        let mut text = format!(
            "# {}\ngenesis = \"../../genesis.bin\"\ndata = \"data\"\nraft_id = {}\n\
             listen = \"{peers}\"\ngrpc = \"{grpc}\"\nadmin = \"{admin}\"\nmetrics = \"{metrics}\"\n\
             network_key = \"network.key\"\ncosign_key = \"cosign.key\"\npeers = [\n",
            node.institution, node.raft_id,
        );
        for other in plan.nodes.iter().filter(|p| p.raft_id != node.raft_id) {
            let (id, at) = (other.raft_id, peer(node, other));
            writeln!(text, "  {{ raft_id = {id}, address = \"{at}\" }},")?;
        }
        text.push_str("]\n");
        let path = layout.node_config(node.raft_id);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::institutions;

    #[test]
    fn a_node_names_all_others_as_peers() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(Path::new(folder.path()), "x").unwrap();
        let all = institutions::of(4);
        layout.create(&[1, 2, 3, 4]).unwrap();
        let ports = crate::ports::choose(4).unwrap();
        let plan = ClusterPlan {
            chain_id: "00".repeat(32),
            formed: false,
            nodes: all
                .iter()
                .zip(ports)
                .map(|(i, ports)| NodePlan {
                    raft_id: i.raft_id,
                    institution: i.name.to_owned(),
                    role: i.role.name().to_owned(),
                    ports,
                })
                .collect(),
        };
        write_node_configs(&layout, &plan, |_, to| to.ports.peers).unwrap();
        let text = fs::read_to_string(layout.node_config(2)).unwrap();
        let config: toml::Table = text.parse().unwrap();
        assert_eq!(config["raft_id"].as_integer(), Some(2));
        assert_eq!(config["peers"].as_array().unwrap().len(), 3);
        plan.save(&layout).unwrap();
        let loaded = ClusterPlan::load(&layout).unwrap().unwrap();
        assert_eq!(loaded.urls(), plan.urls());
        assert_eq!(loaded.first(Role::Institute).unwrap().raft_id, 4);
    }
}
