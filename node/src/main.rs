//! The process `cairn-node`: one institution's node.
//!
//! `run` serves, `check` says whether a configuration would start, `init` forms the cluster, once.
//! What stays out: everything that an author or an auditor does; that is the command `cairn`.

mod config;
mod data;
mod grpc;
mod keys;
mod metrics;
mod peers;
mod process;
mod setup;
mod whole;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use config::{Config, Flags};

/// A block of 100,000 changes makes and frees some hundred thousand pieces of about 1 kB, which glibc
/// searches and merges one by one: with jemalloc the block takes 30 % less.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One institution's node of a Cairn ledger.
///
/// The node keeps the ledger with the other members named in the genesis, cosigns what it computed
/// itself, and answers clients with proofs. Settings come from a TOML file; every flag has an
/// environment variable, and both win over the file.
#[derive(Debug, Parser)]
#[command(name = "cairn-node", version, after_help = EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT
    #[command(after_help = EXAMPLE)]
    Run(Flags),
    /// Check settings, genesis and keys, and say what would be served; touches no data
    Check(Flags),
    /// Form the cluster of the genesis members: once, on one running node, when all are up
    #[command(
        after_help = "Asks the node that runs with this configuration, at its admin address."
    )]
    Init {
        #[command(flatten)]
        flags: Flags,
        /// Keep trying for so many seconds while the node does not answer
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        wait: u64,
    },
}

const EXAMPLE: &str = "\
Example, node.toml:
  genesis = \"genesis.bin\"          # paths are relative to this file
  data = \"data\"
  raft_id = 1                      # this member's number in the genesis
  listen = \"0.0.0.0:7000\"          # for the other members
  grpc = \"0.0.0.0:7001\"            # for clients
  admin = \"127.0.0.1:7002\"         # for you
  network_key = \"network.key\"      # made with: cairn key
  cosign_key = \"cosign.key\"
  peers = [
    { raft_id = 2, address = \"two.example:7000\" },
    { raft_id = 3, address = \"three.example:7000\" },
    { raft_id = 4, address = \"four.example:7000\" },
  ]
  # log = \"debug\"  log_json = true  metrics = \"127.0.0.1:7003\"
  # [timing]  heartbeat_ms, election_min_ms, election_max_ms

  cairn-node check --config node.toml
  cairn-node run --config node.toml
  cairn-node init --config node.toml    # once, on one node";

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(flags) => run(flags),
        Command::Check(flags) => check(flags),
        Command::Init { flags, wait } => init(flags, Duration::from_secs(wait)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairn-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: Flags) -> anyhow::Result<()> {
    let config = Config::load(flags)?;
    log(&config)?;
    process::run(config)
}

fn log(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log)
        .with_context(|| format!("log: \"{}\" is no list of levels", config.log))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if config.log_json {
        lines.json().init();
    } else {
        lines.with_ansi(false).init();
    }
    Ok(())
}

fn check(flags: Flags) -> anyhow::Result<()> {
    let config = Config::load(flags)?;
    let setup = setup::Setup::load(&config)?;
    let member = setup.member(config.raft_id);
    println!("chain      {}", setup.chain.id);
    println!("ledger     {}", setup.chain.genesis.name);
    println!("member     {} ({})", config.raft_id, member);
    println!("data       {}", config.data.display());
    println!("peers      {} (listens)", config.listen);
    for (raft_id, address) in &config.peers {
        println!(
            "           {address} ({raft_id}, {})",
            setup.member(*raft_id)
        );
    }
    println!("grpc       {}", config.grpc);
    println!("admin      {}", config.admin);
    if let Some(metrics) = config.metrics {
        println!("metrics    {metrics}");
    }
    println!("settings, genesis and keys fit together");
    Ok(())
}

fn init(flags: Flags, patience: Duration) -> anyhow::Result<()> {
    let config = Config::load(flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(setup::initialize(config.admin, patience))?;
    println!("the cluster is formed");
    Ok(())
}
