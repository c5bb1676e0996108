//! The nodes' processes.
//!
//! What holds here: each node is a process in a group of its own, with its pid in a file and its
//! words in a log, so that it outlives the program that started it and can be found again; a pid is
//! trusted only while the process behind it runs with that node's configuration. A node is stopped
//! with SIGTERM, and killed only when it does not end.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use cairn_ledger::genesis::Chain;
use cairn_ledger::policy;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::admin::{self, Admin};
use crate::cairn;
use crate::layout::Layout;
use crate::pids::{read_from, runs_with, signal};
use crate::plan::{ClusterPlan, NodePlan};
use crate::programs::Programs;

/// How long a node may take to serve, to be certified, or to catch up.
const PATIENCE: Duration = Duration::from_secs(60);
/// A node lets calls under way end for ten seconds, then closes its databases.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(15);
/// What a node says once it serves.
const SERVING: &str = "serving grpc=";
/// Lines of a node's log that an error quotes.
const QUOTED_LINES: usize = 8;

/// All nodes of one cluster.
#[derive(Debug)]
pub struct Cluster {
    pub plan: ClusterPlan,
    layout: Layout,
    programs: Programs,
    nodes: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    raft_id: u64,
    /// Where this program started it.
    child: Option<Child>,
    /// Words that stand before the program: where it runs.
    within: Vec<String>,
    /// Where the log ended before its start.
    log_began: u64,
    admin: Admin,
}

/// Empties `layout` for a new cluster; refused while the last one in it still runs.
pub fn clear(layout: &Layout, programs: &Programs) -> anyhow::Result<()> {
    if let Some(plan) = ClusterPlan::load(layout)? {
        let cluster = Cluster::new(layout, programs, plan)?;
        let mut nodes = cluster.plan.nodes.iter();
        if nodes.any(|node| cluster.pid(node.raft_id).is_some()) {
            let name = layout.name();
            bail!("the last run's nodes still run; stop them first: testnet/down {name}");
        }
    }
    layout.delete()?;
    layout.create_root()
}

/// How a node ended: its raft id, and its exit code where it is known.
pub type Ending = (u64, Option<i32>);

impl Cluster {
    pub fn new(layout: &Layout, programs: &Programs, plan: ClusterPlan) -> anyhow::Result<Cluster> {
        let nodes = plan.nodes.iter().map(|node| {
            Ok(Process {
                raft_id: node.raft_id,
                child: None,
                within: Vec::new(),
                log_began: 0,
                admin: Admin::new(node.ports.admin)?,
            })
        });
        Ok(Cluster {
            nodes: nodes.collect::<anyhow::Result<_>>()?,
            layout: layout.clone(),
            programs: programs.clone(),
            plan,
        })
    }

    /// Where it lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Runs a node by another program, whose words end where the node's begin.
    pub fn run_within(&mut self, raft_id: u64, words: Vec<String>) -> anyhow::Result<()> {
        let index = self.index(raft_id)?;
        self.nodes[index].within = words;
        Ok(())
    }

    fn index(&self, raft_id: u64) -> anyhow::Result<usize> {
        let found = self.nodes.iter().position(|node| node.raft_id == raft_id);
        found.with_context(|| format!("no node {raft_id}"))
    }

    /// Whether nothing is certified while any one member is down.
    pub fn needs_all(&self) -> anyhow::Result<bool> {
        let genesis = fs::read(self.layout.genesis()).context("the genesis")?;
        let members = Chain::from_bytes(&genesis)?.members;
        let all: Vec<_> = members.members.iter().collect();
        Ok(all.iter().any(|absent| {
            let others = all.iter().filter(|m| m.raft_id != absent.raft_id);
            !policy::satisfies(&members, &others.copied().collect::<Vec<_>>())
        }))
    }

    /// Starts the nodes that do not run and waits until all serve; how many were started.
    pub async fn start_all(&mut self) -> anyhow::Result<usize> {
        let ids: Vec<u64> = self.nodes.iter().map(|node| node.raft_id).collect();
        let mut started = Vec::new();
        for id in ids {
            if self.pid(id).is_none() {
                self.spawn(id)?;
                started.push(id);
            }
        }
        for &id in &started {
            self.serving(id).await?;
        }
        Ok(started.len())
    }

    /// Starts one node and waits until it serves.
    pub async fn start(&mut self, raft_id: u64) -> anyhow::Result<()> {
        self.spawn(raft_id)?;
        self.serving(raft_id).await
    }

    /// Starts one node and does not wait.
    pub fn spawn(&mut self, raft_id: u64) -> anyhow::Result<()> {
        let index = self.index(raft_id)?;
        let path = self.layout.node_log(raft_id);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        self.nodes[index].log_began = log.metadata()?.len();
        let within = self.nodes[index].within.split_first();
        let mut command = match within {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.programs.node);
                command
            }
            None => Command::new(&self.programs.node),
        };
        let child = command
            .args(["run", "--config"])
            .arg(self.layout.node_config(raft_id))
            .current_dir(self.layout.node(raft_id))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", self.programs.node.display()))?;
        let pid = child.id();
        self.nodes[index].child = Some(child);
        fs::write(self.layout.node_pid(raft_id), format!("{pid}\n"))?;
        Ok(())
    }

    async fn serving(&mut self, raft_id: u64) -> anyhow::Result<()> {
        let index = self.index(raft_id)?;
        let log = self.layout.node_log(raft_id);
        let began = Instant::now();
        loop {
            if read_from(&log, self.nodes[index].log_began)?.contains(SERVING) {
                return Ok(());
            }
            let child = self.nodes[index].child.as_mut();
            let ended = child.map(Child::try_wait).transpose()?.flatten();
            if let Some(ended) = ended {
                bail!(
                    "node {raft_id} ended while starting ({ended}){}",
                    self.last_words(raft_id)
                );
            }
            if began.elapsed() > PATIENCE {
                bail!(
                    "node {raft_id} does not serve after {PATIENCE:?}{}",
                    self.last_words(raft_id)
                );
            }
            sleep(LOOK).await;
        }
    }

    /// Forms the cluster, the first time; then waits until every node that
    /// runs has a certified checkpoint.
    pub async fn form(&mut self) -> anyhow::Result<()> {
        if !self.plan.formed {
            let first = self.nodes[0].raft_id;
            let mut init = Command::new(&self.programs.node);
            init.args(["init", "--wait", "10", "--config"])
                .arg(self.layout.node_config(first))
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let output = cairn::output(init).await?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                bail!("cairn-node init: {said}{}", self.last_words(first));
            }
            self.plan.formed = true;
            self.plan.save(&self.layout)?;
        }
        let running = self.nodes.iter().map(|node| node.raft_id);
        let running: Vec<u64> = running.filter(|id| self.pid(*id).is_some()).collect();
        for id in running {
            self.node_caught_up(id, 0).await?;
        }
        Ok(())
    }

    /// Waits until every node has a certified checkpoint at `height` or later, and knows a leader.
    pub async fn caught_up(&mut self, height: u64) -> anyhow::Result<()> {
        let ids: Vec<u64> = self.nodes.iter().map(|node| node.raft_id).collect();
        for id in ids {
            self.node_caught_up(id, height).await?;
        }
        Ok(())
    }

    /// The same for one node.
    pub async fn node_caught_up(&mut self, raft_id: u64, height: u64) -> anyhow::Result<()> {
        let index = self.index(raft_id)?;
        let began = Instant::now();
        loop {
            let status = self.nodes[index].admin.status().await;
            let ready = status
                .as_ref()
                .is_ok_and(|status| status.leader != 0 && status.certified_height >= height);
            if ready {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                bail!(
                    "node {raft_id} has no certified checkpoint at height {height} after \
                     {PATIENCE:?}: {status:?}{}",
                    self.last_words(raft_id)
                );
            }
            sleep(LOOK).await;
        }
    }

    /// The node that leads, as the first node that knows says.
    pub async fn leader(&mut self) -> anyhow::Result<u64> {
        let began = Instant::now();
        loop {
            for node in &mut self.nodes {
                match node.admin.status().await {
                    Ok(status) if status.leader != 0 => return Ok(status.leader),
                    _ => {}
                }
            }
            if began.elapsed() > PATIENCE {
                bail!("no node knows a leader after {PATIENCE:?}");
            }
            sleep(LOOK).await;
        }
    }

    /// The operator's connection to a node.
    pub fn admin(&self, raft_id: u64) -> anyhow::Result<Admin> {
        Ok(self.nodes[self.index(raft_id)?].admin.clone())
    }

    /// kill -9.
    pub fn kill(&mut self, raft_id: u64) -> anyhow::Result<()> {
        let index = self.index(raft_id)?;
        let child = self.nodes[index].child.as_mut();
        let child = child.ok_or_else(|| anyhow!("node {raft_id} was not started here"))?;
        child.kill()?;
        child.wait()?;
        self.nodes[index].child = None;
        Ok(())
    }

    /// SIGTERM to one node, and SIGKILL if it does not end in time; its exit code.
    pub async fn stop(&mut self, raft_id: u64) -> anyhow::Result<Option<i32>> {
        match self.pid(raft_id) {
            Some(pid) => {
                signal(pid, Signal::TERM)?;
                self.ending(raft_id, pid).await
            }
            None => Ok(None),
        }
    }

    /// The exit status of a node that ended by itself, once.
    pub fn take_ended(&mut self, raft_id: u64) -> anyhow::Result<Option<ExitStatus>> {
        let index = self.index(raft_id)?;
        let child = self.nodes[index].child.as_mut();
        let ended = child.map(Child::try_wait).transpose()?.flatten();
        if ended.is_some() {
            self.nodes[index].child = None;
        }
        Ok(ended)
    }

    /// What a node said since it was last started.
    pub fn words(&self, raft_id: u64) -> anyhow::Result<String> {
        let index = self.index(raft_id)?;
        read_from(&self.layout.node_log(raft_id), self.nodes[index].log_began)
    }

    /// The process of a node that runs.
    pub fn pid(&self, raft_id: u64) -> Option<u32> {
        let text = fs::read_to_string(self.layout.node_pid(raft_id)).ok()?;
        let pid: u32 = text.trim().parse().ok()?;
        let config = self.layout.node_config(raft_id);
        runs_with(pid, &config).then_some(pid)
    }

    /// The most memory that any node ever had, in bytes, and which one.
    pub fn peak_memory(&self) -> Option<(u64, u64)> {
        let peaks = self.nodes.iter().filter_map(|node| {
            let peak = admin::peak_memory(self.pid(node.raft_id)?)?;
            Some((peak, node.raft_id))
        });
        peaks.max()
    }

    /// Nodes that ended by themselves, with the end of their logs.
    pub fn ended(&mut self) -> Option<String> {
        let mut words = String::new();
        for index in 0..self.nodes.len() {
            let id = self.nodes[index].raft_id;
            let child = self.nodes[index].child.as_mut();
            if let Some(Ok(Some(status))) = child.map(Child::try_wait) {
                words.push_str(&format!(
                    "\nnode {id} ended: {status}{}",
                    self.last_words(id)
                ));
            }
        }
        (!words.is_empty()).then_some(words)
    }

    /// Leaves the nodes running when this program ends.
    pub fn leave(&mut self) {
        for node in &mut self.nodes {
            // A child that is dropped goes on; it is found again by its pid file.
            node.child = None;
        }
    }

    /// Stops all nodes: SIGTERM, and SIGKILL for those that do not end in time.
    pub async fn stop_all(&mut self) -> anyhow::Result<Vec<Ending>> {
        let ids: Vec<u64> = self.nodes.iter().map(|node| node.raft_id).collect();
        let mut running = Vec::new();
        for &id in &ids {
            if let Some(pid) = self.pid(id) {
                signal(pid, Signal::TERM)?;
                running.push((id, pid));
            }
        }
        let mut endings = Vec::new();
        for (id, pid) in running {
            endings.push((id, self.ending(id, pid).await?));
        }
        for id in ids {
            let _ = fs::remove_file(self.layout.node_pid(id));
        }
        Ok(endings)
    }

    async fn ending(&mut self, raft_id: u64, pid: u32) -> anyhow::Result<Option<i32>> {
        let index = self.index(raft_id)?;
        let config = self.layout.node_config(raft_id);
        let began = Instant::now();
        let mut killed = false;
        loop {
            match &mut self.nodes[index].child {
                Some(child) => {
                    if let Some(status) = child.try_wait()? {
                        self.nodes[index].child = None;
                        return Ok(status.code());
                    }
                }
                None if !runs_with(pid, &config) => return Ok((!killed).then_some(0)),
                None => {}
            }
            if began.elapsed() > STOP_PATIENCE && !killed {
                signal(pid, Signal::KILL)?;
                killed = true;
            }
            sleep(LOOK).await;
        }
    }

    fn last_words(&self, raft_id: u64) -> String {
        let path = self.layout.node_log(raft_id);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let from = lines.len().saturating_sub(QUOTED_LINES);
        let lines: String = lines[from..].iter().map(|l| format!("\n    {l}")).collect();
        format!("\n  log: {}{lines}", path.display())
    }
}

impl NodePlan {
    /// How it is called in tables.
    pub fn title(&self) -> String {
        format!("{} ({})", self.institution, self.role)
    }
}
