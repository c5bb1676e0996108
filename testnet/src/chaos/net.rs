//! Network namespaces: one a node, and one that holds the bridge between them and this program.
//!
//! What holds here: everything is made here, bears this process's number in its name, and is removed
//! when this is dropped; what a killed run left behind is removed by the next one. No rule,
//! interface or address outside of these namespaces is touched, and nothing leads out of them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::ports::Ports;

/// What every namespace of this command is called by; its process's number follows.
const PREFIX: &str = "cairn-chaos-";
/// Where `ip netns` keeps them.
const NAMES: &str = "/run/netns";
/// Addresses for tests of networks (RFC 2544): node `n` has `198.18.0.n`.
const NETWORK: [u8; 3] = [198, 18, 0];
/// This program's own place among them.
const HUB: u8 = 254;
/// Each node has an address of its own, so that all may have the same ports.
const PORTS: [u16; 4] = [7_401, 7_501, 7_601, 7_701];

const NO_NAMESPACES: &str = "cannot run here: --cuts makes network namespaces and a bridge; \
     a container needs CAP_NET_ADMIN and CAP_SYS_ADMIN, a kernel its bridge module";

/// The namespaces of one run.
#[derive(Debug)]
pub struct Net {
    ids: Vec<u64>,
}

/// Which packets a node loses.
#[derive(Debug, Default, Clone)]
pub struct Losses {
    /// All that come from these nodes.
    pub from: BTreeSet<u64>,
    /// All that go to these nodes.
    pub to: BTreeSet<u64>,
    /// So many of a hundred of all that come.
    pub percent: u64,
}

/// Fails, and says what to do, where namespaces cannot be used.
pub fn available() -> anyhow::Result<()> {
    needs("--cuts", &[("ip", "iproute2"), ("nft", "nftables")])
}

/// Fails, and says what to do, without root or one of these programs.
pub fn needs(what: &str, programs: &[(&str, &str)]) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("cannot run here: {what} needs root, for example: sudo testnet/chaos {what}");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        |name: &&(&str, &str)| std::env::split_paths(&path).any(|p| p.join(name.0).exists());
    let missing: Vec<_> = programs.iter().filter(|name| !found(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    let packages: BTreeSet<_> = missing.iter().map(|(_, package)| *package).collect();
    let packages: Vec<_> = packages.into_iter().collect();
    bail!(
        "cannot run here: {what} needs {} in the PATH; run: apt-get install {}",
        names.join(" and "),
        packages.join(" ")
    )
}

impl Net {
    /// Makes a namespace for each node and moves this thread into the one between them.
    pub fn make(ids: &[u64]) -> anyhow::Result<Net> {
        available()?;
        sweep()?;
        let net = Net { ids: ids.to_vec() };
        let hub = hub();
        ip(&["netns", "add", &hub]).context(NO_NAMESPACES)?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        let bridge = ["link", "add", "bridge0", "type", "bridge"];
        ip(&[["-n", &hub].as_slice(), &bridge].concat()).context(NO_NAMESPACES)?;
        let at = format!("{}/24", address(HUB.into()));
        ip(&["-n", &hub, "address", "add", &at, "dev", "bridge0"])?;
        ip(&["-n", &hub, "link", "set", "bridge0", "up"])?;
        for &id in ids {
            let (own, port) = (name(id), format!("node{id}"));
            let at = format!("{}/24", address(id));
            ip(&["netns", "add", &own])?;
            ip(&["-n", &own, "link", "set", "lo", "up"])?;
            // Both ends are made where they stay.
            let pair = ["link", "add", "eth0", "type", "veth", "peer", "name"];
            let pair: Vec<&str> = ["-n", &own]
                .into_iter()
                .chain(pair)
                .chain([port.as_str(), "netns", &hub])
                .collect();
            ip(&pair)?;
            ip(&["-n", &own, "address", "add", &at, "dev", "eth0"])?;
            ip(&["-n", &own, "link", "set", "eth0", "up"])?;
            ip(&["-n", &hub, "link", "set", &port, "master", "bridge0", "up"])?;
        }
        net.lose(&[])?;
        let hub = File::open(Path::new(NAMES).join(&hub)).context("the bridge's namespace")?;
        move_into_link_name_space(hub.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter the bridge's namespace")?;
        Ok(net)
    }

    /// The nodes' addresses.
    pub fn ports(&self) -> Vec<Ports> {
        let ports = self.ids.iter().map(|&id| {
            let at = |port| SocketAddr::new(address(id), port);
            let [grpc, admin, peers, metrics] = PORTS.map(at);
            Ports {
                grpc,
                admin,
                peers,
                metrics,
            }
        });
        ports.collect()
    }

    /// This program's address, as nodes see it.
    pub fn own_address() -> IpAddr {
        address(HUB.into())
    }

    /// The words that run a program in a node's namespace.
    pub fn within(id: u64) -> Vec<String> {
        ["ip", "netns", "exec", &name(id)].map(str::to_owned).into()
    }

    /// From now on these packets are lost, and no others.
    pub fn lose(&self, losses: &[(u64, Losses)]) -> anyhow::Result<()> {
        for &id in &self.ids {
            let found = losses.iter().find(|(node, _)| *node == id);
            let losses = found.map(|(_, losses)| losses.clone()).unwrap_or_default();
            nft(id, &losses.rules())?;
        }
        Ok(())
    }

    /// Delays all packets that nodes send, where the kernel can. `false`: it cannot.
    pub fn delay(&self, millis: u64, jitter: u64) -> anyhow::Result<bool> {
        let (millis, jitter) = (format!("{millis}ms"), format!("{jitter}ms"));
        for &id in &self.ids {
            let own = name(id);
            let words = ["-n", &own, "qdisc", "replace", "dev", "eth0", "root"];
            let delay = ["netem", "delay", &millis, &jitter];
            match run("tc", &[words.as_slice(), &delay].concat(), "") {
                Err(error) if format!("{error:#}").contains("qdisc kind is unknown") => {
                    return Ok(false);
                }
                done => done?,
            }
        }
        Ok(true)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in self.ids.iter().map(|&id| name(id)).chain([hub()]) {
            if Path::new(NAMES).join(&name).exists()
                && let Err(error) = remove(&name)
            {
                eprintln!("{error:#}");
            }
        }
    }
}

impl Losses {
    /// As nft reads them: a table that replaces the one before.
    fn rules(&self) -> String {
        let set = |ids: &BTreeSet<u64>| {
            let all: Vec<_> = ids.iter().map(|&id| address(id).to_string()).collect();
            all.join(", ")
        };
        let mut input = String::new();
        let mut output = String::new();
        if !self.from.is_empty() {
            input = format!("ip saddr {{ {} }} drop;", set(&self.from));
        }
        if self.percent > 0 {
            input.push_str(&format!(
                " iifname eth0 numgen random mod 100 < {} drop;",
                self.percent
            ));
        }
        if !self.to.is_empty() {
            output = format!("ip daddr {{ {} }} drop;", set(&self.to));
        }
        format!(
            "table inet chaos\ndelete table inet chaos\ntable inet chaos {{\n\
             chain in {{ type filter hook input priority 0; {input} }}\n\
             chain out {{ type filter hook output priority 0; {output} }}\n}}\n"
        )
    }
}

fn name(id: u64) -> String {
    format!("{PREFIX}{}-node-{id}", std::process::id())
}

fn hub() -> String {
    format!("{PREFIX}{}-bridge", std::process::id())
}

/// A node's address, or this program's.
fn address(number: u64) -> IpAddr {
    let [a, b, c] = NETWORK;
    Ipv4Addr::new(a, b, c, u8::try_from(number).unwrap_or(u8::MAX)).into()
}

/// Whose namespace this is, if one of this command made it.
fn owner(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

/// Removes what runs left behind that were killed.
pub fn sweep() -> anyhow::Result<()> {
    let Ok(names) = fs::read_dir(NAMES) else {
        return Ok(());
    };
    for entry in names {
        let name = entry?.file_name();
        let Some((name, pid)) = name.to_str().and_then(|name| Some((name, owner(name)?))) else {
            continue;
        };
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if program.trim_end() != "cairn-testnet" {
            eprintln!("removing {name}, which a killed run left behind");
            remove(name)?;
        }
    }
    Ok(())
}

/// Ends what runs in a namespace of this command, and removes it.
fn remove(name: &str) -> anyhow::Result<()> {
    let pids = Command::new("ip").args(["netns", "pids", name]).output()?;
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
        let pid: i32 = pid.parse()?;
        if u32::try_from(pid).is_ok_and(|pid| pid != std::process::id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    ip(&["netns", "delete", name])
}

fn ip(words: &[&str]) -> anyhow::Result<()> {
    run("ip", words, "")
}

fn nft(id: u64, rules: &str) -> anyhow::Result<()> {
    let own = name(id);
    run("ip", &["netns", "exec", &own, "nft", "-f", "-"], rules)
}

/// Runs a program of the system; its error says what it said.
pub fn run(program: &str, words: &[&str], input: &str) -> anyhow::Result<()> {
    let shown = || format!("{program} {}", words.join(" "));
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(shown)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(shown)?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {}",
        shown(),
        said.trim().replace('\n', " ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_commands_namespaces_have_an_owner() {
        assert_eq!(owner(&hub()), Some(std::process::id()));
        assert_eq!(owner(&name(3)), Some(std::process::id()));
        for other in [
            "cairn-chaos-",
            "cairn-chaos-x-node-1",
            "blue",
            "cairn-chaos-12",
        ] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn rules_name_only_what_is_lost() {
        let none = Losses::default().rules();
        assert!(!none.contains("drop"), "{none}");
        let some = Losses {
            from: [1, 3].into(),
            percent: 20,
            ..Losses::default()
        };
        let some = some.rules();
        assert!(some.contains("ip saddr { 198.18.0.1, 198.18.0.3 } drop"));
        assert!(some.contains("mod 100 < 20 drop") && !some.contains("daddr"));
    }
}
