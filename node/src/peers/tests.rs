//! Real swarms on loopback: order, bounds, strangers and restarts.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn key(id: u8) -> identity::Keypair {
    identity::Keypair::ed25519_from_bytes([id; 32]).unwrap()
}

/// Members 1 to `n`, with the keys of their numbers.
fn members(n: u8) -> v1::MemberSet {
    let members = (1..=n).map(|id| v1::Member {
        raft_id: u64::from(id),
        institution: format!("institution {id}"),
        peer_id: PeerId::from(key(id).public()).to_bytes().into(),
        ..Default::default()
    });
    v1::MemberSet {
        members: members.collect(),
        ..Default::default()
    }
}

/// A port that was free a moment ago, below those that the system gives to outgoing connections.
fn free_port() -> PeerAddress {
    loop {
        let mut random = [0; 2];
        getrandom::fill(&mut random).unwrap();
        let port = 20_000 + u16::from_be_bytes(random) % 10_000;
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap().into();
        }
    }
}

fn config(raft_id: u8, n: u8, addresses: &BTreeMap<u64, PeerAddress>) -> PeersConfig {
    let mut others = addresses.clone();
    let listen = others.remove(&u64::from(raft_id)).unwrap();
    PeersConfig {
        chain_id: Hash([7; 32]),
        members: members(n),
        raft_id: u64::from(raft_id),
        keypair: key(raft_id),
        listen,
        addresses: others,
    }
}

fn addresses(n: u8) -> BTreeMap<u64, PeerAddress> {
    (1..=n).map(|id| (u64::from(id), free_port())).collect()
}

/// Answers with what it was asked, and records the order per (peer, lane).
#[derive(Default)]
struct Echo {
    seen: Mutex<HashMap<(u64, Lane), Vec<u64>>>,
    handled: AtomicUsize,
}

#[async_trait]
impl Inbound for Echo {
    async fn handle(&self, from: u64, lane: Lane, request: Bytes) -> Result<Bytes, String> {
        self.handled.fetch_add(1, Ordering::Relaxed);
        let Some(number) = request.first_chunk::<8>() else {
            return Err("too short".to_owned());
        };
        let number = u64::from_be_bytes(*number);
        {
            let mut seen = self.seen.lock().unwrap();
            seen.entry((from, lane)).or_default().push(number);
        }
        // Some finish later than those that came after them.
        if number.is_multiple_of(7) {
            tokio::task::yield_now().await;
        }
        Ok(request)
    }
}

/// Waits until every lane answers.
async fn connected(node: &Peers, to: u64) {
    let up = async {
        for lane in LANES {
            while node
                .call(to, lane, Bytes::from_static(&[0; 8]))
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    timeout(PATIENCE, up).await.unwrap();
    assert!(node.connected(to));
}

async fn start(raft_id: u8, n: u8, at: &BTreeMap<u64, PeerAddress>) -> (Arc<Peers>, Arc<Echo>) {
    let node = Peers::start(config(raft_id, n, at)).await.unwrap();
    let echo = Arc::new(Echo::default());
    node.serve(echo.clone());
    (node, echo)
}

#[tokio::test]
async fn calls_on_every_lane_are_answered_and_begun_in_order() {
    const CALLS: u64 = 2_000;
    let at = addresses(3);
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(start(id, 3, &at).await);
    }
    let mut all = Vec::new();
    for from in 1..=3_u64 {
        for to in (1..=3_u64).filter(|to| *to != from) {
            let node = nodes[usize::try_from(from).unwrap() - 1].0.clone();
            connected(&node, to).await;
            for lane in LANES {
                let node = node.clone();
                all.push(tokio::spawn(async move {
                    let calls = (1..=CALLS).map(|number| {
                        let node = node.clone();
                        async move {
                            let mut request = number.to_be_bytes().to_vec();
                            request.resize(8 + usize::try_from(number % 3_000).unwrap(), 1);
                            let request = Bytes::from(request);
                            let answer = node.call(to, lane, request.clone()).await;
                            assert_eq!(answer, Ok(request), "{lane:?} {number}");
                        }
                    });
                    // Within the lane's own bound, many at once.
                    futures::stream::iter(calls)
                        .buffered(rules(lane).max_outstanding.min(64))
                        .collect::<()>()
                        .await;
                }));
            }
        }
    }
    for task in all {
        timeout(PATIENCE, task).await.unwrap().unwrap();
    }
    for (_, echo) in &nodes {
        for ((from, lane), seen) in echo.seen.lock().unwrap().iter() {
            let asked: Vec<u64> = seen.iter().copied().filter(|n| *n != 0).collect();
            assert!(asked.iter().copied().eq(1..=CALLS), "{from} {lane:?}");
        }
    }
    for (node, _) in nodes {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_stranger_is_dropped_before_anything_is_decoded() {
    let at = addresses(2);
    let (node, echo) = start(1, 2, &at).await;
    // Nine is in its own member set, not in that of member 1.
    let mut theirs = config(2, 2, &at);
    theirs.keypair = key(9);
    theirs.members.members[1].peer_id = PeerId::from(key(9).public()).to_bytes().into();
    let own = PeerId::from(key(9).public()).to_bytes();
    let dials = own < PeerId::from(key(1).public()).to_bytes();
    // Whoever dials, the connection must not stand.
    let stranger = Peers::start(theirs).await.unwrap();
    stranger.serve(Arc::new(Echo::default()));
    tokio::time::sleep(Duration::from_millis(600)).await;
    let answer = stranger.call(1, Lane::Control, Bytes::from_static(&[0; 8]));
    assert!(answer.await.is_err(), "dials: {dials}");
    assert!(!node.connected(2));
    assert_eq!(echo.handled.load(Ordering::Relaxed), 0);
}

/// Which of members 1 and 2 dials, and which does not.
fn dialler() -> (u8, u8) {
    let id = |n| PeerId::from(key(n).public()).to_bytes();
    if id(1) < id(2) { (1, 2) } else { (2, 1) }
}

#[tokio::test]
async fn an_oversized_frame_ends_the_stream_and_only_the_stream() {
    let at = addresses(2);
    let (a, _) = start(1, 2, &at).await;
    let (b, echo) = start(2, 2, &at).await;
    connected(&a, 2).await;
    let before = echo.handled.load(Ordering::Relaxed);
    let to = PeerId::from(key(2).public());
    let name = protocol(&a.chain_prefix, Lane::Control);
    let mut raw = a.control.clone().open_stream(to, name).await.unwrap();
    raw.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    raw.write_all(&[0; 64]).await.unwrap();
    raw.flush().await.unwrap();
    let mut rest = Vec::new();
    let closed = timeout(PATIENCE, raw.read_to_end(&mut rest)).await.unwrap();
    assert!(closed.is_err() || rest.is_empty());
    assert_eq!(echo.handled.load(Ordering::Relaxed), before);
    // The connection stands, and the lane comes back.
    connected(&a, 2).await;
    let too_long = Bytes::from(vec![0; rules(Lane::Control).max_payload + 1]);
    let refused = a.call(2, Lane::Control, too_long).await;
    assert!(
        matches!(refused, Err(NetworkError::TooLarge { .. })),
        "{refused:?}"
    );
    drop(b);
}

#[tokio::test]
async fn a_restarted_peer_is_connected_again() {
    let at = addresses(2);
    let (first, second) = dialler();
    let (node, _) = start(first, 2, &at).await;
    let (other, _) = start(second, 2, &at).await;
    connected(&node, second.into()).await;
    for _ in 0..2 {
        other.shutdown().await;
        let gone = async {
            while node.connected(second.into()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap();
        let (again, _) = start(second, 2, &at).await;
        let began = Instant::now();
        connected(&node, second.into()).await;
        connected(&again, first.into()).await;
        assert!(began.elapsed() < Duration::from_secs(6));
        again.shutdown().await;
    }
}

#[tokio::test]
async fn a_refusal_and_a_silent_handler_are_told_apart() {
    struct Odd;
    #[async_trait]
    impl Inbound for Odd {
        async fn handle(&self, _: u64, _: Lane, request: Bytes) -> Result<Bytes, String> {
            if request.is_empty() {
                std::future::pending::<()>().await;
            }
            Err(format!("no {}", request.len()))
        }
    }
    let at = addresses(2);
    let (a, _) = start(1, 2, &at).await;
    let b = Peers::start(config(2, 2, &at)).await.unwrap();
    b.serve(Arc::new(Odd));
    let answer = async {
        loop {
            match a.call(2, Lane::Forward, Bytes::from_static(b"x")).await {
                Err(NetworkError::Unreachable { .. }) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                other => break other,
            }
        }
    };
    let answer = timeout(PATIENCE, answer).await.unwrap();
    let no = NetworkError::Refused {
        peer: 2,
        detail: "no 1".to_owned(),
    };
    assert_eq!(answer, Err(no));
    // A lane of its own: the silence on it delays no other.
    let silent = a.call(2, Lane::Control, Bytes::new());
    let spoken = a.call(2, Lane::Forward, Bytes::from_static(b"xy"));
    let (silent, spoken) = futures::join!(silent, spoken);
    assert_eq!(silent, Err(NetworkError::TimedOut { peer: 2 }));
    assert!(matches!(spoken, Err(NetworkError::Refused { .. })));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut at = addresses(2);
    at.insert(1, taken.local_addr().unwrap().into());
    let error = Peers::start(config(1, 2, &at)).await.err().unwrap();
    let text = error.to_string();
    assert!(
        text.contains(&taken.local_addr().unwrap().to_string()),
        "{text}"
    );
    assert!(text.contains("another process"), "{text}");
}
