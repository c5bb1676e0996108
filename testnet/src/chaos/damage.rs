//! Damaged disks: files of a stopped node are changed, and it is started alone.
//!
//! What holds here: it says why it does not start, or why it does not answer, or every answer is
//! true and verifies. A false answer, an absence that is none, a panic and a node that hangs are
//! violations; then the damaged folder is kept.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::time::sleep;

use super::client::Client;
use super::dice::Dice;
use super::examine::{Outcome, Truth, examine};
use super::oracle::{self, Oracle};
use crate::cluster::Cluster;
use crate::layout::Layout;
use crate::programs::Programs;
use crate::steps::thousands;

/// Entries before the node's files became tables, and after.
const ENTRIES: usize = 30;
const PATIENCE: Duration = Duration::from_secs(60);
/// A node opens a small ledger in a fraction of this, or hangs.
const STARTS: Duration = Duration::from_secs(20);
/// An examination takes a fraction of this, or the node hangs.
const ANSWERS: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);
/// More would say nothing new.
const MAX_VIOLATIONS: u32 = 20;
/// Bytes that are lost together.
const BLOCK: u64 = 512;

/// What happens to a file.
#[derive(Debug, Clone, Copy)]
enum Wound {
    /// One bit of the byte at this place.
    Flip(u64, u8),
    /// A block of zeros from here.
    Zeros(u64),
    /// Cut to this length.
    Cut(u64),
    Removed,
}

/// Damages files `flips` times; 0: every byte of every file.
pub async fn run(
    cluster: &mut Cluster,
    layout: &Layout,
    programs: &Programs,
    client: &Client,
    dice: &Dice,
    flips: u64,
) -> anyhow::Result<()> {
    let victim = cluster.plan.nodes.first().context("no nodes")?.raft_id;
    let truth = record(cluster, client, dice, victim).await?;
    let subject = Subject::new(layout, programs, client, victim)?;
    let (outcome, _) = subject.trial(&truth).await?;
    ensure!(
        outcome == Outcome::Works,
        "the undamaged node does not work alone: {outcome:?}"
    );

    let files = subject.files()?;
    let bytes: u64 = files.iter().map(|(_, size)| size).sum();
    let began = Instant::now();
    eprintln!("  {} files, {} bytes", files.len(), thousands(bytes));
    let mut seen: BTreeMap<(String, Outcome), u64> = BTreeMap::new();
    let (mut tried, mut violations) = (0_u64, 0);
    let all = if flips == 0 {
        every(&files, dice)
    } else {
        Vec::new()
    };
    let mut all = all.into_iter();
    loop {
        let next = match flips {
            0 => all.next(),
            _ => (tried < flips).then(|| some(&files, dice)).flatten(),
        };
        let Some((path, wound)) = next else { break };
        subject.restore()?;
        wound.inflict(&subject.data.join(&path))?;
        let outcome = match subject.trial(&truth).await {
            Ok((outcome, _)) => outcome,
            Err(error) => {
                violations += 1;
                let kept = layout.root().join(format!("violation-{violations}"));
                copy(&subject.data, &kept)?;
                eprintln!("{wound:?} in {}: {error:#}\n", path.display());
                ensure!(violations < MAX_VIOLATIONS, "too many violations");
                Outcome::Wrong
            }
        };
        tried += 1;
        *seen.entry((kind(&path), outcome)).or_default() += 1;
        if tried.is_multiple_of(100) {
            eprintln!("  {} tried", thousands(tried));
        }
    }
    print(&seen);
    println!(
        "{} wounds in {} files in {:.0} s; wrong: {violations}",
        thousands(tried),
        files.len(),
        began.elapsed().as_secs_f64()
    );
    ensure!(violations == 0, "damaged folders are kept as violation-<n>");
    // The files were the reason: the node as it was joins the others again.
    subject.restore()?;
    cluster.start_all().await?;
    let oracle = Oracle::new();
    client.certified(&[victim], dice, &oracle, PATIENCE).await?;
    Ok(())
}

/// Records entries, some of them in tables and some in write-ahead logs, and stops all nodes.
async fn record(
    cluster: &mut Cluster,
    client: &Client,
    dice: &Dice,
    victim: u64,
) -> anyhow::Result<Truth> {
    let oracle = Oracle::new();
    for _ in 0..2 {
        for _ in 0..ENTRIES {
            client.certified(&[victim], dice, &oracle, PATIENCE).await?;
        }
        cluster.kill(victim)?;
        cluster.start(victim).await?;
        cluster.caught_up(0).await?;
    }
    for _ in 0..ENTRIES {
        client.certified(&[victim], dice, &oracle, PATIENCE).await?;
    }
    let told = oracle.all();
    let height = told.iter().map(|told| told.height).max().unwrap_or(0);
    cluster.caught_up(height).await?;
    let mut ledger = client.ledger(victim)?;
    let headers = oracle::check(&mut ledger, &client.chain, &told).await?;
    cluster.kill(victim)?;
    cluster.stop_all().await?;
    Ok(Truth {
        chain: client.chain.clone(),
        told,
        headers,
    })
}

/// The node whose files are damaged.
struct Subject<'a> {
    client: &'a Client,
    raft_id: u64,
    program: PathBuf,
    config: PathBuf,
    data: PathBuf,
    whole: PathBuf,
    log: PathBuf,
}

impl Subject<'_> {
    fn new<'a>(
        layout: &Layout,
        programs: &Programs,
        client: &'a Client,
        raft_id: u64,
    ) -> anyhow::Result<Subject<'a>> {
        let subject = Subject {
            client,
            raft_id,
            program: programs.node.clone(),
            config: layout.node_config(raft_id),
            data: layout.node_data(raft_id),
            whole: layout.root().join("whole"),
            log: layout.node(raft_id).join("damaged.log"),
        };
        copy(&subject.data, &subject.whole)?;
        Ok(subject)
    }

    fn restore(&self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.data)?;
        copy(&self.whole, &self.data)
    }

    /// All files below the data folder that hold anything, with their sizes.
    fn files(&self) -> anyhow::Result<Vec<(PathBuf, u64)>> {
        let mut files = Vec::new();
        let mut folders = vec![self.whole.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let (path, meta) = entry.and_then(|e| Ok((e.path(), e.metadata()?)))?;
                if meta.is_dir() {
                    folders.push(path);
                } else if meta.len() > 0 {
                    files.push((path.strip_prefix(&self.whole)?.to_owned(), meta.len()));
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Starts the node, asks it everything, and ends it.
    async fn trial(&self, truth: &Truth) -> anyhow::Result<(Outcome, Duration)> {
        let began = Instant::now();
        let log = File::create(&self.log)?;
        let child = Command::new(&self.program)
            .args(["run", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut child = Ended(child);
        let outcome = self.outcome(&mut child.0, truth).await;
        drop(child);
        let words = fs::read(&self.log)?;
        let words = String::from_utf8_lossy(&words);
        let outcome = outcome.with_context(|| words.clone().into_owned())?;
        ensure!(!words.contains("panicked"), "a panic:\n{words}");
        Ok((outcome, began.elapsed()))
    }

    async fn outcome(&self, child: &mut Child, truth: &Truth) -> anyhow::Result<Outcome> {
        let began = Instant::now();
        loop {
            let words = fs::read(&self.log)?;
            if String::from_utf8_lossy(&words).contains("serving grpc=") {
                break;
            }
            if let Some(status) = child.try_wait()? {
                ensure!(status.code() == Some(1), "it ended with {status}");
                return Ok(Outcome::Refused);
            }
            ensure!(began.elapsed() < STARTS, "it hangs while starting");
            sleep(LOOK).await;
        }
        let mut ledger = self.client.connect(self.raft_id)?;
        let examined = tokio::time::timeout(ANSWERS, examine(&mut ledger, truth)).await;
        let ended = child.try_wait()?;
        if let Some(status) = ended {
            ensure!(status.code() == Some(1), "it ended with {status}");
            return Ok(Outcome::Stopped);
        }
        let outcome = examined.context("it hangs")??;
        let words = fs::read(&self.log)?;
        let stopped = String::from_utf8_lossy(&words).contains("stopped taking part");
        Ok(if stopped { Outcome::Stopped } else { outcome })
    }
}

/// A process that ends with this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

impl Wound {
    fn inflict(self, path: &Path) -> anyhow::Result<()> {
        let open = || File::options().read(true).write(true).open(path);
        match self {
            Wound::Flip(at, bit) => {
                let file = open()?;
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                file.write_all_at(&[byte[0] ^ (1 << bit)], at)?;
            }
            Wound::Zeros(at) => {
                let file = open()?;
                let end = file.metadata()?.len().min(at + BLOCK);
                file.write_all_at(&vec![0; usize::try_from(end - at)?], at)?;
            }
            Wound::Cut(length) => open()?.set_len(length)?,
            Wound::Removed => fs::remove_file(path)?,
        }
        Ok(())
    }
}

/// A file by chance, half of the time by its size, and what happens to it.
fn some(files: &[(PathBuf, u64)], dice: &Dice) -> Option<(PathBuf, Wound)> {
    let total: u64 = files.iter().map(|(_, size)| size).sum();
    let mut at = dice.below(total.max(1));
    let by_size = files.iter().find(|(_, size)| {
        let here = at < *size;
        at = at.saturating_sub(*size);
        here
    });
    let (path, size) = match dice.below(2) {
        0 => by_size?,
        _ => dice.pick(files)?,
    };
    let at = dice.below(*size);
    let wound = match dice.below(20) {
        0 => Wound::Removed,
        1 => Wound::Cut(at),
        2 => Wound::Zeros(at - at % BLOCK),
        _ => Wound::Flip(at, dice.below(8) as u8),
    };
    Some((path.clone(), wound))
}

/// One bit of every byte, and each file once cut and once gone.
fn every(files: &[(PathBuf, u64)], dice: &Dice) -> Vec<(PathBuf, Wound)> {
    let mut all = Vec::new();
    for (path, size) in files {
        all.extend([Wound::Removed, Wound::Cut(size / 2)].map(|wound| (path.clone(), wound)));
        let flips = (0..*size).map(|at| Wound::Flip(at, dice.below(8) as u8));
        all.extend(flips.map(|wound| (path.clone(), wound)));
    }
    all
}

/// What a file is: its folder, and its name without numbers.
fn kind(path: &Path) -> String {
    let digit = |c: char| c.is_ascii_digit();
    let parts = path.iter().map(|part| part.to_string_lossy());
    let parts: Vec<String> = parts
        .map(|part| part.trim_start_matches(digit).to_owned())
        .map(|part| {
            part.trim_end_matches(digit)
                .trim_end_matches('-')
                .to_owned()
        })
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("/")
}

fn print(seen: &BTreeMap<(String, Outcome), u64>) {
    print!("{:<28}", "");
    for (_, name) in Outcome::ALL {
        print!("{name:>9}");
    }
    println!();
    let mut kinds: Vec<&String> = seen.keys().map(|(kind, _)| kind).collect();
    kinds.dedup();
    for kind in kinds {
        print!("{kind:<28}");
        for (outcome, _) in Outcome::ALL {
            let count = seen.get(&(kind.clone(), outcome)).copied().unwrap_or(0);
            print!("{count:>9}");
        }
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_kind_count_together() {
        assert_eq!(kind(Path::new("raft/000012.sst")), "raft/.sst");
        assert_eq!(
            kind(Path::new("ledger/3/MANIFEST-000004")),
            "ledger/MANIFEST"
        );
        assert_eq!(kind(Path::new("identity")), "identity");
    }
}
