//! Processes by their numbers, and what they wrote.
//!
//! What holds here: a number counts as a node only while the process behind it runs with that node's
//! configuration.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// Signals a process, if it is still there.
pub fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.context("a pid is a positive number")?;
    match kill_process(pid, signal) {
        // It ended a moment ago.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("cannot signal a node"),
    }
}

/// Whether process `pid` is a node that runs with the configuration `config`.
pub fn runs_with(pid: u32, config: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let mut words = line.split(|&byte| byte == 0);
    let config = config.as_os_str().as_encoded_bytes();
    words.any(|word| word == config)
}

/// A file's text from `offset` on.
pub fn read_from(path: &Path, offset: u64) -> anyhow::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_counts_only_with_the_nodes_configuration() {
        let own = std::process::id();
        assert!(!runs_with(own, Path::new("/no/such/node.toml")));
        assert!(!runs_with(u32::MAX, Path::new("")));
    }
}
