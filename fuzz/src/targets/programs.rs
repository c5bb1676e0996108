//! Files that people give to the programs: settings, keys, lists.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cairn_keys::Secret;
use zeroize::Zeroizing;

use super::{Target, must, plain};
use crate::cohort::{Cohort, ColumnNames, ReadError};
use crate::problems::Problems;
use crate::{codes_file, config, key_file, keys, resident_id};

/// A folder of this run, removed at its end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, String> {
        let path = self.0.join(name);
        let file = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(bytes))
            .map_err(|error| error.to_string())?;
        Ok(path)
    }
}

const CONFIG: &str = r#"genesis = "genesis.bin"
data = "data"
raft_id = 2
listen = "127.0.0.1:7000"
grpc = "127.0.0.1:7001"
admin = "[::1]:7002"
metrics = "127.0.0.1:7003"
network_key = "network.key"
cosign_key = "cosign.key"
log = "info"
log_json = false
peers = [ { raft_id = 1, address = "/dns4/one.example/tcp/7000" }, { raft_id = 3, address = "three.example:7000" } ]
[timing]
heartbeat_ms = 150
election_min_ms = 750
election_max_ms = 1500
"#;

const APPLICANTS: &str = "name,identity,tier,weight,key\nA,1,families,1,\nB,\"2\"\"x\",others,7,\r\n\
                          C,\"3\n4\",families,2,\
                          d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n";

/// All targets of files.
pub fn all() -> anyhow::Result<Vec<Box<dyn Target>>> {
    let shared = Path::new("/dev/shm");
    let base = if shared.is_dir() {
        shared.to_owned()
    } else {
        std::env::temp_dir()
    };
    let folder = base.join(format!("cairn-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let folder = Rc::new(Folder(folder));
    let digits = "2a".repeat(32);
    let key = |purpose: &str| format!("cairn-{purpose}-key-v1 {digits}\n").into_bytes();
    let key_seeds = ["network", "cosign", "seed", "author", "tag"].map(key);
    let codes = format!("code,note\n{digits},a\n{},b\n", "2b".repeat(32));
    Ok(vec![
        config_files(folder.clone()),
        key_files(folder.clone(), key_seeds.to_vec()),
        plain("applicants", vec![APPLICANTS.into()], applicants),
        code_files(folder, codes.into_bytes()),
    ])
}

fn config_files(folder: Rc<Folder>) -> Box<dyn Target> {
    plain("config", vec![CONFIG.into()], move |input| {
        let mut flags = config::Flags::default();
        flags.config = folder.file("node.toml", input)?;
        Ok(match config::Config::load(flags) {
            Ok(_) => "settings".to_owned(),
            // The lines above quote the file.
            Err(error) => {
                let said = error.to_string();
                said.lines().last().unwrap_or_default().to_owned()
            }
        })
    })
}

fn key_files(folder: Rc<Folder>, seeds: Vec<Vec<u8>>) -> Box<dyn Target> {
    let good = seeds.clone();
    plain("key_files", seeds, move |input| {
        let path = folder.file("some.key", input)?;
        let of_node = match (keys::network(&path), keys::cosign(&path)) {
            (Ok(_), Ok(_)) => return Err("one file is two keys".to_owned()),
            (Ok(_), _) => "network".to_owned(),
            (_, Ok(_)) => "cosign".to_owned(),
            (Err(error), _) => error.to_string(),
        };
        let of_tools = match key_file::read(&path) {
            Ok((purpose, _)) => purpose.to_string(),
            Err(error) => error.to_string(),
        };
        let line = input.strip_suffix(b"\n").unwrap_or(input);
        let length = |key: &Vec<u8>| key.len() == line.len() + 1;
        let read = ["network", "cosign"].contains(&&of_node[..]);
        must(!read || good.iter().any(length), "a key that is no line")?;
        must(!read || of_node == of_tools, "node and tools read two keys")?;
        let _ = (
            key_file::author(&path),
            key_file::seed(&path),
            key_file::tag(&path),
        );
        Ok(of_tools)
    })
}

fn applicants(input: &[u8]) -> Result<String, String> {
    let names = ColumnNames {
        identity: "identity".to_owned(),
        tier: Some("tier".to_owned()),
        weight: Some("weight".to_owned()),
        // Inputs that were kept from before have no such column.
        holder_key: input
            .windows(3)
            .any(|w| w == b"key")
            .then(|| "key".to_owned()),
        resident_ids: false,
    };
    let key = Secret::new(Zeroizing::new([1; 32]));
    let tiers = ["families".to_owned(), "others".to_owned()];
    let mut problems = Problems::default();
    let cohort = match Cohort::read(input, &names, &tiers, &key, &mut problems) {
        Ok(cohort) => cohort,
        Err(ReadError::ColumnMissing { .. }) => return Ok("a column is missing".to_owned()),
        Err(ReadError::ColumnTwice(_)) => return Ok("a column is there twice".to_owned()),
        Err(ReadError::Empty) => return Ok("an empty file".to_owned()),
        Err(ReadError::NotClosed(_)) => return Ok("a quote is not closed".to_owned()),
        Err(ReadError::Csv(error)) => return Ok(error.to_string()),
    };
    let rows = cohort.len();
    for row in 0..rows {
        let (tier, weight) = cohort.cell(row);
        let _ = (cohort.holder_key(row), cohort.inner_tags()[row]);
        let _ = resident_id::check(cohort.identity(row));
        must(tier < 2 && weight > 0, "a row in no tier or without weight")?;
    }
    let _ = cohort.tickets();
    if problems.is_empty() {
        return Ok("read".to_owned());
    }
    let _ = problems.into_failure(Path::new("a.csv")).to_string();
    Ok("bad rows".to_owned())
}

fn code_files(folder: Rc<Folder>, seed: Vec<u8>) -> Box<dyn Target> {
    plain("codes", vec![seed], move |input| {
        let path = folder.file("codes.csv", input)?;
        Ok(match codes_file::read(&path) {
            Ok(_) => "read".to_owned(),
            Err(error) => error.to_string(),
        })
    })
}
