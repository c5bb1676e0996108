//! Where things lie: one folder a cluster.
//!
//! ```text
//! <data>/<name>/cluster.json          who takes part, ports, chain id
//!               plan.toml genesis.bin
//!               keys/                 authors, seed keys, tag keys, the development beacon
//!               nodes/<raft_id>/      node.toml, network and cosigning key, node.log, pid, data/
//!               lottery/ codes/ proofs/ outsider/   what a demo makes
//!               commands.log          every `cairn` command with its answer
//! ```

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The folder of one cluster.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    name: String,
}

impl Layout {
    /// The cluster `name` below `data`; makes no folder yet.
    pub fn new(data: &Path, name: &str) -> anyhow::Result<Layout> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            bail!("\"{name}\" is no name for a cluster: use letters, digits, - and _");
        }
        let data = std::path::absolute(data).context("the data folder")?;
        Ok(Layout {
            root: data.join(name),
            name: name.to_owned(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn cluster_file(&self) -> PathBuf {
        self.root.join("cluster.json")
    }

    pub fn plan(&self) -> PathBuf {
        self.root.join("plan.toml")
    }

    pub fn genesis(&self) -> PathBuf {
        self.root.join("genesis.bin")
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.root.join("keys").join(format!("{name}.key"))
    }

    pub fn author_key(&self, raft_id: u64) -> PathBuf {
        self.key(&format!("author-{raft_id}"))
    }

    pub fn seed_key(&self, raft_id: u64) -> PathBuf {
        self.key(&format!("seed-{raft_id}"))
    }

    pub fn node(&self, raft_id: u64) -> PathBuf {
        self.root.join("nodes").join(raft_id.to_string())
    }

    pub fn node_config(&self, raft_id: u64) -> PathBuf {
        self.node(raft_id).join("node.toml")
    }

    pub fn node_log(&self, raft_id: u64) -> PathBuf {
        self.node(raft_id).join("node.log")
    }

    pub fn node_pid(&self, raft_id: u64) -> PathBuf {
        self.node(raft_id).join("pid")
    }

    pub fn node_data(&self, raft_id: u64) -> PathBuf {
        self.node(raft_id).join("data")
    }

    pub fn network_key(&self, raft_id: u64) -> PathBuf {
        self.node(raft_id).join("network.key")
    }

    pub fn cosign_key(&self, raft_id: u64) -> PathBuf {
        self.node(raft_id).join("cosign.key")
    }

    pub fn lottery(&self, file: &str) -> PathBuf {
        self.root.join("lottery").join(file)
    }

    pub fn codes(&self, file: &str) -> PathBuf {
        self.root.join("codes").join(file)
    }

    pub fn proof(&self, file: &str) -> PathBuf {
        self.root.join("proofs").join(file)
    }

    /// Where those work who know nothing but the chain id.
    pub fn outsider(&self) -> PathBuf {
        self.root.join("outsider")
    }

    pub fn commands_log(&self) -> PathBuf {
        self.root.join("commands.log")
    }

    pub fn report(&self) -> PathBuf {
        self.root.join("demo.json")
    }

    /// Makes the cluster's folder, for its owner only: keys, receipts and commands lie in it.
    pub fn create_root(&self) -> anyhow::Result<()> {
        if let Some(data) = self.root.parent() {
            std::fs::create_dir_all(data).with_context(|| unmade(data))?;
        }
        private(&self.root)
    }

    /// Makes the folders.
    pub fn create(&self, raft_ids: &[u64]) -> anyhow::Result<()> {
        self.create_root()?;
        let named = ["keys", "lottery", "codes", "proofs", "outsider"];
        let folders = named.into_iter().map(|name| self.root.join(name));
        for folder in folders.chain(raft_ids.iter().map(|&id| self.node(id))) {
            private(&folder)?;
        }
        Ok(())
    }

    /// Removes the cluster's folder, if it is one.
    pub fn delete(&self) -> anyhow::Result<()> {
        if !self.root.exists() {
            return Ok(());
        }
        let ours = ["cluster.json", "keys", "commands.log"];
        if !ours.iter().any(|name| self.root.join(name).exists()) {
            bail!(
                "{} does not look like a testnet's folder; remove it yourself",
                self.root.display()
            );
        }
        std::fs::remove_dir_all(&self.root)
            .with_context(|| format!("cannot remove {}", self.root.display()))
    }
}

/// A folder that only its owner enters, whatever it was before.
fn private(folder: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.and_then(|()| std::fs::set_permissions(folder, Permissions::from_mode(0o700)))
        .with_context(|| unmade(folder))
}

fn unmade(folder: &Path) -> String {
    format!("cannot make the folder {}", folder.display())
}

/// Bytes in all files below `folder`, each file once however many names it has.
pub fn bytes_below(folder: &Path) -> u64 {
    fn walk(folder: &Path, seen: &mut std::collections::HashSet<u64>) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(entries) = std::fs::read_dir(folder) else {
            return 0;
        };
        let mut sum = 0;
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => sum += walk(&entry.path(), seen),
                Ok(meta) if seen.insert(meta.ino()) => sum += meta.len(),
                _ => {}
            }
        }
        sum
    }
    walk(folder, &mut std::collections::HashSet::new())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leaves_the_data_folder() {
        for bad in ["", "..", "a/b", "/etc", "a b", "."] {
            assert!(Layout::new(Path::new("data"), bad).is_err(), "{bad:?}");
        }
        assert!(Layout::new(Path::new("data"), "demo-2").is_ok());
    }

    #[test]
    fn folders_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), "x").unwrap();
        layout.create(&[1]).unwrap();
        for path in [
            layout.root().to_owned(),
            layout.node(1),
            layout.root().join("keys"),
        ] {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn only_a_testnets_folder_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), "x").unwrap();
        layout.delete().unwrap();
        std::fs::create_dir(layout.root()).unwrap();
        std::fs::write(layout.root().join("precious"), "").unwrap();
        assert!(layout.delete().is_err());
        layout.create(&[1]).unwrap();
        layout.delete().unwrap();
        assert!(!layout.root().exists());
    }

    #[test]
    fn a_file_with_two_names_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), [0; 100]).unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::hard_link(folder.path().join("a"), folder.path().join("b/a")).unwrap();
        std::fs::write(folder.path().join("b/c"), [0; 11]).unwrap();
        assert_eq!(bytes_below(folder.path()), 111);
    }
}
