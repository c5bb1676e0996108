//! What an operator may set: a TOML file, and flags and environment variables over it.
//!
//! What holds here: an unknown key is an error that names the key and the file, a value that makes
//! no sense is refused before anything starts, and relative paths are relative to the file that
//! names them. What stays out: limits that apply uses (they are in the genesis) and secrets (keys
//! are files of their own, see `keys`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_consensus::{CopyRules, Timing};
use serde::Deserialize;

use crate::peers::address::{BadAddress, PeerAddress};

/// Our own news; the libraries' warnings repeat, several times a second, what ours say once.
const DEFAULT_LOG: &str = "info,openraft=error,libp2p_swarm=warn";

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {error}; give the path with --config or CAIRN_CONFIG")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It is not TOML, or has an unknown key or a value of the wrong kind.
    #[error("{path}: {error}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Names the line and the key.
        error: Box<toml::de::Error>,
    },
    /// Nobody says what a setting is.
    #[error("{key} is not set: add it to {path}, or give --{flag}")]
    Missing {
        /// The key in the file.
        key: &'static str,
        /// The flag.
        flag: String,
        /// The file.
        path: PathBuf,
    },
    /// A value that cannot work.
    #[error("{key}: {detail}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// Why not, and what would.
        detail: String,
    },
}

/// The file's keys.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    genesis: Option<PathBuf>,
    data: Option<PathBuf>,
    raft_id: Option<u64>,
    joining: Option<bool>,
    listen: Option<PeerAddress>,
    peers: Vec<FilePeer>,
    grpc: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    network_key: Option<PathBuf>,
    cosign_key: Option<PathBuf>,
    log: Option<String>,
    log_json: Option<bool>,
    timing: FileTiming,
    copies: FileCopies,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePeer {
    raft_id: u64,
    address: PeerAddress,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileCopies {
    every_blocks: Option<u64>,
    every_mib: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileTiming {
    heartbeat_ms: Option<u64>,
    election_min_ms: Option<u64>,
    election_max_ms: Option<u64>,
}

/// Flags, each with its environment variable; what is given here wins over the file.
#[derive(Debug, Default, clap::Args)]
pub struct Flags {
    /// The configuration file
    #[arg(long, short, env = "CAIRN_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// The genesis file; its hash is the chain id
    #[arg(long, env = "CAIRN_GENESIS", value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// The folder for this node's databases
    #[arg(long, env = "CAIRN_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// This node's number in the genesis
    #[arg(long, env = "CAIRN_RAFT_ID", value_name = "N")]
    raft_id: Option<u64>,
    /// Start although the ledger does not list this node with its key yet
    #[arg(long, env = "CAIRN_JOINING")]
    joining: bool,
    /// Where to listen for peers (host:port or multiaddr)
    #[arg(long, env = "CAIRN_LISTEN", value_name = "ADDRESS")]
    listen: Option<PeerAddress>,
    /// Another member's address, as N=host:port; may be repeated
    #[arg(
        long = "peer",
        env = "CAIRN_PEERS",
        value_name = "N=ADDRESS",
        value_delimiter = ','
    )]
    peers: Vec<PeerFlag>,
    /// Where to serve gRPC to clients
    #[arg(long, env = "CAIRN_GRPC", value_name = "IP:PORT")]
    grpc: Option<SocketAddr>,
    /// Where to serve the operator's gRPC; keep it away from the public
    #[arg(long, env = "CAIRN_ADMIN", value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// Where to serve Prometheus metrics (not served unless set)
    #[arg(long, env = "CAIRN_METRICS", value_name = "IP:PORT")]
    metrics: Option<SocketAddr>,
    /// The key file that proves to peers who this node is
    #[arg(long, env = "CAIRN_NETWORK_KEY", value_name = "FILE")]
    network_key: Option<PathBuf>,
    /// The key file that cosigns checkpoints
    #[arg(long, env = "CAIRN_COSIGN_KEY", value_name = "FILE")]
    cosign_key: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives such as info,libp2p=warn
    #[arg(long, env = "CAIRN_LOG", value_name = "LEVEL")]
    log: Option<String>,
    /// Log one JSON object per line
    #[arg(long, env = "CAIRN_LOG_JSON")]
    log_json: bool,
}

#[derive(Debug, Clone)]
struct PeerFlag(u64, PeerAddress);

impl std::str::FromStr for PeerFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, address) = text.split_once('=').ok_or("write it as N=host:port")?;
        let id = id.parse().map_err(|_| format!("\"{id}\" is no raft_id"))?;
        let address = address.parse().map_err(|e: BadAddress| e.to_string())?;
        Ok(PeerFlag(id, address))
    }
}

/// A node's settings, complete and checked.
#[derive(Debug)]
pub struct Config {
    /// The genesis file.
    pub genesis: PathBuf,
    /// The folder of the databases.
    pub data: PathBuf,
    /// This node.
    pub raft_id: u64,
    /// The ledger need not list this node with its key yet.
    pub joining: bool,
    /// Where to listen for peers.
    pub listen: PeerAddress,
    /// Where the other members are.
    pub peers: BTreeMap<u64, PeerAddress>,
    /// Where clients are served.
    pub grpc: SocketAddr,
    /// Where the operator is served.
    pub admin: SocketAddr,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// The network key's file.
    pub network_key: PathBuf,
    /// The cosigning key's file.
    pub cosign_key: PathBuf,
    /// Logging directives.
    pub log: String,
    /// Log as JSON.
    pub log_json: bool,
    /// Raft's durations.
    pub timing: Timing,
    /// When copies of the state are made.
    pub copies: CopyRules,
}

impl Config {
    /// Reads the file, lays the flags over it and checks the whole.
    pub fn load(flags: Flags) -> Result<Config, ConfigError> {
        let path = flags.config.clone();
        let text = std::fs::read_to_string(&path).map_err(|error| ConfigError::Read {
            path: path.clone(),
            error,
        })?;
        let file: File = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.clone(),
            error: Box::new(error),
        })?;
        resolve(flags, file, &path)
    }
}

fn resolve(flags: Flags, file: File, path: &Path) -> Result<Config, ConfigError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let here = |found: Option<PathBuf>| found.map(|p| folder.join(p));
    let missing = |key: &'static str| ConfigError::Missing {
        key,
        flag: key.replace('_', "-"),
        path: path.to_owned(),
    };
    let mut peers = BTreeMap::new();
    for peer in file.peers {
        if peers.insert(peer.raft_id, peer.address).is_some() {
            return Err(ConfigError::Invalid {
                key: "peers",
                detail: format!("raft_id {} stands twice; remove one", peer.raft_id),
            });
        }
    }
    peers.extend(flags.peers.into_iter().map(|PeerFlag(id, at)| (id, at)));
    let raft_id = flags.raft_id.or(file.raft_id);
    let raft_id = raft_id.ok_or_else(|| missing("raft_id"))?;
    // One list may serve all members: a node's own line in it is no peer.
    peers.remove(&raft_id);
    let path_of = |flag: Option<PathBuf>, found: Option<PathBuf>, key| {
        flag.or(here(found)).ok_or_else(|| missing(key))
    };
    Ok(Config {
        genesis: path_of(flags.genesis, file.genesis, "genesis")?,
        data: path_of(flags.data, file.data, "data")?,
        raft_id,
        joining: flags.joining || file.joining.unwrap_or(false),
        listen: flags
            .listen
            .or(file.listen)
            .ok_or_else(|| missing("listen"))?,
        peers,
        grpc: flags.grpc.or(file.grpc).ok_or_else(|| missing("grpc"))?,
        admin: flags.admin.or(file.admin).ok_or_else(|| missing("admin"))?,
        metrics: flags.metrics.or(file.metrics),
        network_key: path_of(flags.network_key, file.network_key, "network_key")?,
        cosign_key: path_of(flags.cosign_key, file.cosign_key, "cosign_key")?,
        log: flags
            .log
            .or(file.log)
            .unwrap_or_else(|| DEFAULT_LOG.to_owned()),
        log_json: flags.log_json || file.log_json.unwrap_or(false),
        timing: timing(&file.timing)?,
        copies: copies(&file.copies)?,
    })
}

fn copies(file: &FileCopies) -> Result<CopyRules, ConfigError> {
    let rules = CopyRules::default();
    let rules = CopyRules {
        every_blocks: file.every_blocks.unwrap_or(rules.every_blocks),
        every_bytes: match file.every_mib {
            Some(mib) => mib.saturating_mul(1 << 20),
            None => rules.every_bytes,
        },
    };
    if rules.every_blocks == 0 || rules.every_bytes == 0 {
        return Err(ConfigError::Invalid {
            key: "copies",
            detail: "every_blocks and every_mib must be at least 1".to_owned(),
        });
    }
    Ok(rules)
}

fn timing(file: &FileTiming) -> Result<Timing, ConfigError> {
    let mut timing = Timing::default();
    if let Some(ms) = file.heartbeat_ms {
        timing.heartbeat = Duration::from_millis(ms);
    }
    if let Some(ms) = file.election_min_ms {
        timing.election.0 = Duration::from_millis(ms);
    }
    if let Some(ms) = file.election_max_ms {
        timing.election.1 = Duration::from_millis(ms);
    }
    let (min, max) = timing.election;
    if timing.heartbeat.is_zero() || min < timing.heartbeat * 3 || max <= min {
        return Err(ConfigError::Invalid {
            key: "timing",
            detail: format!(
                "heartbeat {:?}, election {min:?} to {max:?}: election_min_ms must be at least \
                 three heartbeats, so that a lost one starts no election, and election_max_ms \
                 above it",
                timing.heartbeat
            ),
        });
    }
    Ok(timing)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        genesis = "genesis.bin"
        data = "/var/lib/cairn"
        raft_id = 2
        listen = "127.0.0.1:7000"
        grpc = "127.0.0.1:7001"
        admin = "127.0.0.1:7002"
        network_key = "keys/network.key"
        cosign_key = "keys/cosign.key"
        peers = [
            { raft_id = 1, address = "one.example:7000" },
            { raft_id = 2, address = "two.example:7000" },
        ]
    "#;

    fn load(text: &str, flags: Flags) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Flags {
            config: path,
            ..flags
        })
    }

    #[test]
    fn relative_paths_start_at_the_file_and_flags_win() {
        let config = load(WHOLE, Flags::default()).unwrap();
        assert!(config.genesis.is_absolute());
        assert!(config.network_key.ends_with("keys/network.key"));
        assert_eq!(config.data, Path::new("/var/lib/cairn"));
        assert_eq!(config.peers.keys().copied().collect::<Vec<_>>(), [1]);
        let flags = Flags {
            genesis: Some("other.bin".into()),
            peers: vec!["3=three.example:7000".parse().unwrap()],
            ..Flags::default()
        };
        let config = load(WHOLE, flags).unwrap();
        assert_eq!(config.genesis, Path::new("other.bin"));
        assert_eq!(config.peers.keys().copied().collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn errors_name_the_key_and_the_file() {
        let error = |text: &str| load(text, Flags::default()).unwrap_err().to_string();
        let unknown = error(&format!("colour = \"red\"\n{WHOLE}"));
        assert!(unknown.contains("colour") && unknown.contains("node.toml"));
        let nested = error(&format!("{WHOLE}\n[timing]\nheart_ms = 1"));
        assert!(nested.contains("heart_ms"), "{nested}");
        let missing = error(&WHOLE.replace("admin = \"127.0.0.1:7002\"", ""));
        assert!(missing.contains("admin") && missing.contains("--admin"));
        let twice = error(&WHOLE.replace("raft_id = 2, address", "raft_id = 1, address"));
        assert!(twice.contains("twice"), "{twice}");
        let timing = error(&format!("{WHOLE}\n[timing]\nheartbeat_ms = 900"));
        assert!(timing.contains("three heartbeats"), "{timing}");
        let address = error(&WHOLE.replace("127.0.0.1:7000", "nowhere"));
        assert!(address.contains("nowhere") && address.contains("host:port"));
    }
}
