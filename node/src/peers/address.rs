//! Where a peer is: `host:port`, or a multiaddr of TCP. Names are looked up at every dial, so that
//! a peer that moves is found again without a restart.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use serde::{Deserialize, Deserializer};

/// A place to listen on or to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    host: String,
    port: u16,
}

/// It is neither of the two forms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not an address: write host:port (10.0.0.7:7000, node.example:7000) or /ip4/10.0.0.7/tcp/7000"
)]
pub struct BadAddress(String);

impl FromStr for PeerAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let parsed = if text.starts_with('/') {
            from_multiaddr(text)
        } else {
            from_host_port(text)
        };
        let (host, port) = parsed.ok_or_else(|| BadAddress(text.to_owned()))?;
        Ok(PeerAddress { host, port })
    }
}

fn from_multiaddr(text: &str) -> Option<(String, u16)> {
    let address: Multiaddr = text.parse().ok()?;
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => ip.to_string(),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.into_owned(),
        _ => return None,
    };
    let Some(Protocol::Tcp(port)) = parts.next() else {
        return None;
    };
    parts.next().is_none().then_some((host, port))
}

fn from_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    (!host.is_empty()).then_some((host.to_owned(), port.parse().ok()?))
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl PeerAddress {
    /// Looks the name up.
    pub async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        Ok(found.collect())
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        PeerAddress {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

/// A socket address in libp2p's form.
pub fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// The socket address in a listening multiaddr.
pub fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let (host, port) = from_multiaddr(&address.to_string())?;
    Some(SocketAddr::new(host.parse().ok()?, port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_others_are_named_in_the_error() {
        for (text, shown) in [
            ("10.0.0.7:7000", "10.0.0.7:7000"),
            ("node.example:7000", "node.example:7000"),
            ("[::1]:7000", "[::1]:7000"),
            ("/ip4/10.0.0.7/tcp/7000", "10.0.0.7:7000"),
            ("/ip6/::1/tcp/7000", "[::1]:7000"),
            ("/dns4/node.example/tcp/7000", "node.example:7000"),
        ] {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
        }
        for text in [
            "",
            "7000",
            ":7000",
            "host:",
            "host:99999",
            "/ip4/1.2.3.4/udp/1",
            "/x",
        ] {
            let error = text.parse::<PeerAddress>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
