//! Ports on loopback for a cluster.
//!
//! What holds here: a cluster's ports come in one block, the first free one, and lie below those
//! that the system gives to outgoing connections, so that a killed node finds its own again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::bail;

/// The first block: gRPC from 7401, the operator's from 7501, peers from 7601, metrics from 7701.
const FIRST_BASE: u16 = 7_400;
/// Blocks do not overlap.
const STEP: u16 = 400;
/// Linux gives outgoing connections ports from 32,768 on.
const LAST: u16 = 32_000;

/// One node's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ports {
    /// For clients.
    pub grpc: SocketAddr,
    /// For the operator.
    pub admin: SocketAddr,
    /// For the other nodes.
    pub peers: SocketAddr,
    /// For collectors.
    pub metrics: SocketAddr,
}

impl Ports {
    fn of(base: u16, number: u16) -> Ports {
        let at = |offset| SocketAddr::from((Ipv4Addr::LOCALHOST, base + offset + number));
        Ports {
            grpc: at(0),
            admin: at(100),
            peers: at(200),
            metrics: at(300),
        }
    }

    fn free(&self) -> bool {
        let all = [self.grpc, self.admin, self.peers, self.metrics];
        all.iter().all(|at| TcpListener::bind(at).is_ok())
    }
}

/// Ports for `count` nodes.
pub fn choose(count: usize) -> anyhow::Result<Vec<Ports>> {
    choose_beside(&[], count)
}

/// The same, of another block than that of `others`, which nobody listens on yet.
pub fn choose_beside(others: &[Ports], count: usize) -> anyhow::Result<Vec<Ports>> {
    let numbers = 1..=u16::try_from(count)?;
    for base in (FIRST_BASE..LAST).step_by(STEP.into()) {
        let block: Vec<_> = numbers.clone().map(|n| Ports::of(base, n)).collect();
        let theirs = block.iter().any(|ports| others.contains(ports));
        if !theirs && block.iter().all(Ports::free) {
            return Ok(block);
        }
    }
    bail!("no free block of ports between {FIRST_BASE} and {LAST} on 127.0.0.1")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_moves_the_whole_block() {
        let first = choose(4).unwrap();
        let _taken = TcpListener::bind(first[2].admin).unwrap();
        let next = choose(4).unwrap();
        assert_ne!(first[0], next[0]);
        assert_ne!(first[3], next[3]);
        let beside = choose_beside(&next, 3).unwrap();
        assert!(beside.iter().all(|ports| !next.contains(ports)));
    }
}
