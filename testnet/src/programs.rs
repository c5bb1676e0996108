//! The programs that a testnet runs: those beside its own.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Paths of the node and of the command.
#[derive(Debug, Clone)]
pub struct Programs {
    pub node: PathBuf,
    pub cairn: PathBuf,
}

impl Programs {
    /// Looks beside the running program.
    pub fn find() -> anyhow::Result<Programs> {
        let own = std::env::current_exe().context("where is this program?")?;
        let folder = own.parent().unwrap_or(Path::new("."));
        let find = |name: &str| {
            let path = folder.join(name);
            if !path.is_file() {
                bail!(
                    "{} is missing; run: cargo build --release --locked -p cairn-node -p cairn-tools",
                    path.display()
                );
            }
            Ok(path)
        };
        Ok(Programs {
            node: find("cairn-node")?,
            cairn: find("cairn")?,
        })
    }
}
