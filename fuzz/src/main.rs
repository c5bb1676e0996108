//! `cairn-fuzz`: every decoder that meets foreign bytes, fed with mutated ones.
//!
//! What holds here: no input makes a target panic, take long, or take for true what was never
//! signed. Inputs come from real encodings (made at the start from the ledger's vectors and a
//! cluster in this process) and from `fuzz/corpus/`, by mutations that a seed repeats. An input
//! that is answered as none was before joins those that are mutated further. Stable Rust, one
//! plain program: nothing but cargo is needed to run it.

mod engine;
mod mutate;
mod targets;

// Decoders of the programs, which are no libraries: included as they are.
#[allow(dead_code)]
#[path = "../../node/src/peers/address.rs"]
mod address;
#[allow(dead_code)]
#[path = "../../tools/src/commands/code/codes_file.rs"]
mod codes_file;
#[allow(dead_code)]
#[path = "../../tools/src/commands/lottery/cohort.rs"]
mod cohort;
#[allow(dead_code)]
#[path = "../../node/src/config.rs"]
mod config;
#[allow(dead_code)]
#[path = "../../tools/src/cores.rs"]
mod cores;
#[allow(dead_code)]
#[path = "../../tools/src/exit.rs"]
mod exit;
#[allow(dead_code)]
#[path = "../../node/src/peers/in_portions.rs"]
mod in_portions;
#[allow(dead_code)]
#[path = "../../tools/src/key_file.rs"]
mod key_file;
#[allow(dead_code)]
#[path = "../../node/src/keys.rs"]
mod keys;
#[allow(dead_code)]
#[path = "../../tools/src/private_file.rs"]
mod private_file;
#[allow(dead_code)]
#[path = "../../tools/src/commands/problems.rs"]
mod problems;
#[allow(dead_code)]
#[path = "../../tools/src/commands/quotes.rs"]
mod quotes;
#[allow(dead_code)]
#[path = "../../tools/src/commands/lottery/resident_id.rs"]
mod resident_id;
#[allow(dead_code)]
#[path = "../../node/src/peers/streams.rs"]
mod streams;
#[allow(dead_code)]
#[path = "../../tools/src/system.rs"]
mod system;

/// Where the included modules look for each other.
mod peers {
    pub(crate) use crate::address;
}
mod commands {
    pub(crate) use crate::{problems, quotes};
}

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Feeds mutated bytes to every decoder that meets foreign ones.
#[derive(Debug, Parser)]
#[command(name = "cairn-fuzz", version)]
struct Cli {
    /// Only targets whose name contains this
    #[arg(value_name = "TARGET")]
    only: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 30, value_name = "N")]
    seconds: u64,
    /// How many inputs each target gets, instead of a time
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Repeats the mutations of another run
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Inputs that are kept, a folder a target
    #[arg(long, default_value = "fuzz/corpus", value_name = "DIR")]
    corpus: PathBuf,
    /// Write inputs that found something new into the corpus
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let limit = match cli.runs {
        Some(runs) => engine::Limit::Runs(runs),
        None => engine::Limit::Time(Duration::from_secs(cli.seconds)),
    };
    match run(&cli, limit) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} inputs are bugs; run again to replay what was kept of them");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli, limit: engine::Limit) -> anyhow::Result<usize> {
    let mut failed = 0;
    println!(
        "{:<14} {:>12} {:>8} {:>9} {:>8} {:>9} {:>5}",
        "target", "executions", "seconds", "per s", "answers", "longest", "bugs"
    );
    for target in targets::all()? {
        let wanted = cli.only.as_ref();
        if wanted.is_some_and(|only| !target.name().contains(only.as_str())) {
            continue;
        }
        failed += engine::run(target, limit, cli.seed, &cli.corpus, cli.keep)?;
    }
    if let Some(peak) = engine::peak_memory() {
        println!("peak memory of the whole run: {} MiB", peak >> 20);
    }
    Ok(failed)
}
