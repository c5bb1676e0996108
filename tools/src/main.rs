//! The command `cairn`: keys, genesis, lotteries, codes, evidence, proofs and audits, for people
//! and for scripts.
//!
//! What holds here: every answer of a node is verified against the pinned chain before it is
//! printed; results go to stdout, everything else to stderr; what went wrong decides the exit code
//! ([`exit`]). What stays out: rules, formats and verification (`cairn_ledger`), which a
//! browser or another program uses just as this one does; and anything of a node's inside.

mod certificate;
mod cli;
mod commands;
mod cores;
mod drafts;
mod exit;
mod key_file;
mod nodes;
mod output;
mod private_file;
mod progress;
mod qr;
mod session;
mod submit;
mod system;

use std::process::ExitCode;

use clap::Parser as _;

use cli::Cli;
use exit::Failure;

fn main() -> ExitCode {
    let Cli { global, noun } = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")));
    match runtime.and_then(|runtime| runtime.block_on(commands::run(&global, noun))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&global, &failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
