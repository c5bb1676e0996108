//! A cluster that stays: up, down, status.

use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::admin::Admin;
use crate::cairn::{Cairn, args};
use crate::cluster::Cluster;
use crate::institutions;
use crate::layout::Layout;
use crate::plan::{self, ClusterPlan};
use crate::ports;
use crate::programs::Programs;
use crate::signals::interrupted;
use crate::steps::count;

/// Unless `--nodes` says otherwise.
const DEFAULT_NODES: usize = 4;

fn here(layout: &Layout, plan: ClusterPlan) -> anyhow::Result<Cluster> {
    Cluster::new(layout, &Programs::find()?, plan)
}

fn existing(layout: &Layout) -> anyhow::Result<ClusterPlan> {
    ClusterPlan::load(layout)?.with_context(|| {
        let name = layout.name();
        format!(
            "there is no cluster \"{name}\" in {}; make it with: testnet/up {name}",
            layout.root().display()
        )
    })
}

/// Starts a cluster, and makes it first where there is none.
pub async fn up(layout: Layout, nodes: Option<usize>) -> anyhow::Result<()> {
    let began = Instant::now();
    let programs = Programs::find()?;
    let plan = match ClusterPlan::load(&layout)? {
        Some(plan) => {
            if nodes.is_some_and(|nodes| nodes != plan.nodes.len()) {
                bail!(
                    "the cluster \"{name}\" has {} nodes and keeps them; make another one: \
                     testnet/up NAME --nodes N, or delete it: testnet/down {name} --delete",
                    plan.nodes.len(),
                    name = layout.name(),
                );
            }
            plan
        }
        None => {
            // What a failed first attempt left behind.
            layout.delete()?;
            let institutions = institutions::of(nodes.unwrap_or(DEFAULT_NODES));
            eprintln!(
                "making keys and a genesis for {} institutions",
                institutions.len()
            );
            layout.create_root()?;
            let cairn = Cairn::offline(&programs.cairn, layout.root(), &layout.commands_log());
            let ports = ports::choose(institutions.len())?;
            plan::prepare(&layout, &cairn, &institutions, ports, None).await?
        }
    };
    let certified = Cairn::offline(&programs.cairn, layout.root(), &layout.commands_log())
        .online(&plan.urls(), &plan.chain_id);
    let mut cluster = Cluster::new(&layout, &programs, plan)?;
    let formed = async {
        let started = cluster.start_all().await?;
        cluster.form().await?;
        // After a restart there is nothing to read until the newest block is certified again.
        certified.run(args!["checkpoint", "show"]).await?;
        anyhow::Ok(started)
    };
    let started = tokio::select! {
        formed = formed => formed,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            cluster.stop_all().await?;
            return Err(error);
        }
    };
    cluster.leave();
    let seconds = began.elapsed().as_secs_f64();
    match started {
        0 => println!("\"{}\" runs already\n", layout.name()),
        n => println!(
            "\"{}\" is up: {} started in {seconds:.1} s\n",
            layout.name(),
            count(n as u64, "node", "nodes")
        ),
    }
    print_endpoints(&layout, &cluster.plan);
    print_commands(&layout, &programs, &cluster.plan, None);
    println!("\nstop it with: testnet/down {}", layout.name());
    Ok(())
}

/// Where the nodes listen, and which chain they keep.
pub fn print_endpoints(layout: &Layout, plan: &ClusterPlan) {
    println!("  chain id  {}", plan.chain_id);
    println!("  genesis   {}", layout.genesis().display());
    println!("  keys      {}", layout.root().join("keys").display());
    for node in &plan.nodes {
        println!(
            "  node {}    gRPC http://{}   operator {}   metrics http://{}/metrics   {}",
            node.raft_id,
            node.ports.grpc,
            node.ports.admin,
            node.ports.metrics,
            node.title()
        );
    }
}

/// Three commands to try. `code`: one that was issued.
pub fn print_commands(
    layout: &Layout,
    programs: &Programs,
    plan: &ClusterPlan,
    code: Option<&str>,
) {
    let Some(first) = plan.nodes.first() else {
        return;
    };
    let at = first.ports.grpc;
    let shared = format!("--node http://{at} --chain-id {}", plan.chain_id);
    let cairn = programs.cairn.display();
    let second = match code {
        Some(code) => format!("{cairn} code status {code} {shared}"),
        None => format!(
            "{cairn} evidence record --key {} --file {} --title \"A plan\" {shared}",
            layout.author_key(first.raft_id).display(),
            layout.plan().display(),
        ),
    };
    println!("\nthree commands to try:");
    println!("  {cairn} checkpoint show {shared}");
    println!("  {second}");
    println!("  grpcurl -plaintext {at} cairn.v1.LedgerService/GetCheckpoint");
}

/// Stops a cluster.
pub async fn down(layout: Layout, delete: bool) -> anyhow::Result<()> {
    if let Some(plan) = ClusterPlan::load(&layout)? {
        let endings = here(&layout, plan)?.stop_all().await?;
        let killed: Vec<_> = endings.iter().filter(|(_, code)| code.is_none()).collect();
        match endings.len() {
            0 => println!("\"{}\" does not run", layout.name()),
            n => println!(
                "\"{}\": {} stopped",
                layout.name(),
                count(n as u64, "node", "nodes")
            ),
        }
        if !killed.is_empty() {
            bail!("did not end after SIGTERM and were killed: {killed:?}; their logs say why");
        }
    } else if !delete {
        existing(&layout)?;
    }
    if delete {
        layout.delete()?;
        println!("{} is deleted", layout.root().display());
    }
    Ok(())
}

/// Shows a cluster's nodes.
pub async fn status(layout: Layout, as_json: bool) -> anyhow::Result<()> {
    let cluster = here(&layout, existing(&layout)?)?;
    let mut rows = Vec::new();
    for node in &cluster.plan.nodes {
        let pid = cluster.pid(node.raft_id);
        let answer = match pid {
            Some(_) => Admin::new(node.ports.admin)?.status().await.ok(),
            None => None,
        };
        let state = match (pid, &answer) {
            (None, _) => "stopped".to_owned(),
            (Some(_), None) => "no answer".to_owned(),
            (Some(_), Some(answer)) => answer.raft_state.clone(),
        };
        let answer = answer.unwrap_or_default();
        rows.push(json!({
            "node": node.raft_id,
            "institution": node.institution,
            "role": node.role,
            "pid": pid,
            "state": state,
            "leader": answer.leader,
            "applied_height": answer.applied_height,
            "certified_height": answer.certified_height,
            "tree_size": answer.tree_size,
            "equivocations": answer.equivocations,
            "grpc": format!("http://{}", node.ports.grpc),
        }));
    }
    if as_json {
        println!(
            "{}",
            json!({"chain_id": cluster.plan.chain_id, "nodes": rows})
        );
        return Ok(());
    }
    println!("{} ({})", layout.name(), cluster.plan.chain_id);
    let header = [
        "node",
        "institution",
        "pid",
        "state",
        "applied",
        "certified",
        "tree size",
    ];
    let cells = |row: &serde_json::Value| {
        let cell = |key: &str| match &row[key] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let keys = [
            "node",
            "institution",
            "pid",
            "state",
            "applied_height",
            "certified_height",
            "tree_size",
        ];
        keys.map(cell)
    };
    print_row(header.map(str::to_owned));
    for row in &rows {
        print_row(cells(row));
    }
    Ok(())
}

fn print_row(cells: [String; 7]) {
    let [node, institution, pid, state, applied, certified, tree] = cells;
    println!(
        "  {node:>4}  {institution:<34} {pid:>8}  {state:<10} {applied:>9} {certified:>10} {tree:>10}"
    );
}
