//! A ledger with four members in a temporary folder, and its processes.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_ledger::epochs::Epochs;
use cairn_ledger::genesis::Chain;
use cairn_ledger::hash::Hash;
use cairn_ledger::lottery::{bls::SeedSecret, seed};
use cairn_ledger::{admission, canonical, checkpoint, entry, log, verify};
use cairn_proto::v1;
use cairn_proto::v1::admin_service_client::AdminServiceClient;
use cairn_proto::v1::ledger_service_client::LedgerServiceClient;
use ed25519_dalek::SigningKey;
use futures::StreamExt;
use tonic::Status;
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

const PATIENCE: Duration = Duration::from_secs(40);
const EXE: &str = env!("CARGO_BIN_EXE_cairn-node");

struct Node {
    config: PathBuf,
    log: PathBuf,
    grpc: SocketAddr,
    admin: SocketAddr,
    metrics: SocketAddr,
    process: Option<Child>,
}

pub struct Cluster {
    folder: tempfile::TempDir,
    chain: Chain,
    epochs: Mutex<Epochs>,
    /// The members' line in every configuration.
    peers: String,
    nodes: Vec<Node>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut process) = node.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

fn index(id: u8) -> usize {
    usize::from(id) - 1
}

/// Distinct seeds by purpose and member.
fn secret(purpose: u8, id: u8) -> [u8; 32] {
    let mut bytes = [purpose; 32];
    bytes[0] = id;
    bytes
}

pub fn author() -> SigningKey {
    SigningKey::from_bytes(&secret(3, 1))
}

/// May order about codes in [`REGION`].
pub fn authority() -> SigningKey {
    SigningKey::from_bytes(&secret(6, 1))
}

pub const REGION: &str = "suzhou";

pub fn office(id: u8) -> SigningKey {
    SigningKey::from_bytes(&secret(5, id))
}

fn member(id: u8) -> v1::Member {
    let network = libp2p::identity::Keypair::ed25519_from_bytes(secret(1, id)).unwrap();
    let cosign = SigningKey::from_bytes(&secret(2, id));
    let seed_secret = SeedSecret::from_key_material(&secret(4, id)).unwrap();
    let role = match id {
        1 => v1::Role::Notary,
        4 => v1::Role::Institute,
        _ => v1::Role::Government,
    };
    v1::Member {
        raft_id: id.into(),
        institution: format!("Institution {id}"),
        role: role.into(),
        cosign_key: cosign.verifying_key().to_bytes().to_vec().into(),
        peer_id: network.public().to_peer_id().to_bytes().into(),
        seed_key: seed::seed_key_public(&seed_secret).to_vec().into(),
        seed_key_proof: seed::prove_possession(&seed_secret).to_vec().into(),
        office_key: public(&office(id)),
        address: String::new(),
    }
}

fn genesis() -> v1::Genesis {
    let office = |id: u8| v1::Author {
        public_key: member(id).office_key,
        name: member(id).institution,
        role: member(id).role,
    };
    let mut authors: Vec<v1::Author> = (1..=4).map(office).collect();
    authors.push(v1::Author {
        public_key: public(&author()),
        name: "Notary's clerk".to_owned(),
        role: v1::Role::Notary.into(),
    });
    authors.push(v1::Author {
        public_key: public(&authority()),
        name: "Authority".to_owned(),
        role: v1::Role::Authority.into(),
    });
    authors.sort_by(|a, b| a.public_key.cmp(&b.public_key));
    let mut granters: Vec<Bytes> = (1..=4).map(|id| member(id).office_key).collect();
    granters.sort();
    v1::Genesis {
        name: "process test".to_owned(),
        created_at_ms: now_ms() - 1_000,
        rules_version: 1,
        members: Some(v1::MemberSet {
            epoch: 0,
            members: (1..=4).map(member).collect(),
            policy: Some(v1::QuorumPolicy {
                threshold: 3,
                min_roles: 2,
                detect_only: false,
            }),
        }),
        limits: Some(v1::Limits {
            max_entry_bytes: 1 << 20,
            max_block_entries: 4_096,
            max_block_bytes: 4 << 20,
            max_entry_lifetime_ms: 3_600_000,
            checkpoint_every_blocks: 64,
            checkpoint_every_ms: 5_000,
        }),
        authors,
        mandates: vec![v1::Mandate {
            authority: public(&authority()),
            region: REGION.to_owned(),
            reasons: vec!["contact".to_owned()],
            statuses: vec![1, 2],
            ..Default::default()
        }],
        mandate_policy: Some(v1::MandatePolicy {
            granters,
            required: 2,
        }),
    }
}

fn public(key: &SigningKey) -> Bytes {
    Bytes::copy_from_slice(key.verifying_key().as_bytes())
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A port that was free a moment ago, below those that the system gives to outgoing connections:
/// a killed node has to find its own again.
fn free_address() -> SocketAddr {
    loop {
        let mut random = [0; 2];
        getrandom::fill(&mut random).unwrap();
        let port = 20_000 + u16::from_be_bytes(random) % 10_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}

fn write_key(path: &PathBuf, purpose: &str, secret: [u8; 32]) {
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    writeln!(file, "cairn-{purpose}-key-v1 {}", hex::encode(secret)).unwrap();
}

impl Cluster {
    /// Writes genesis, keys and configurations; starts nothing.
    pub fn new() -> Cluster {
        Self::with("")
    }

    /// The same, with more at the end of each configuration.
    pub fn with(more: &str) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let bytes = canonical::encode(&genesis());
        let chain = Chain::from_bytes(&bytes).unwrap();
        fs::write(folder.path().join("genesis.bin"), &bytes).unwrap();
        let listen: Vec<SocketAddr> = (1..=4).map(|_| free_address()).collect();
        let peers: Vec<String> = (1..=4)
            .zip(&listen)
            .map(|(id, at)| format!("{{ raft_id = {id}, address = \"{at}\" }}"))
            .collect();
        let nodes = (1..=4_u8).map(|id| {
            let own = folder.path().join(id.to_string());
            fs::create_dir(&own).unwrap();
            write_key(&own.join("network.key"), "network", secret(1, id));
            write_key(&own.join("cosign.key"), "cosign", secret(2, id));
            let (grpc, admin, metrics) = (free_address(), free_address(), free_address());
            let config = own.join("node.toml");
            let text = format!(
                "genesis = \"../genesis.bin\"\ndata = \"data\"\nraft_id = {id}\n\
                 listen = \"{}\"\ngrpc = \"{grpc}\"\nadmin = \"{admin}\"\n\
                 metrics = \"{metrics}\"\n\
                 network_key = \"network.key\"\ncosign_key = \"cosign.key\"\n\
                 peers = [{}]\n{more}\n",
                listen[index(id)],
                peers.join(", ")
            );
            fs::write(&config, text).unwrap();
            Node {
                log: own.join("log"),
                config,
                grpc,
                admin,
                metrics,
                process: None,
            }
        });
        let nodes = nodes.collect();
        Cluster {
            nodes,
            folder,
            epochs: Mutex::new(Epochs::of_genesis(&chain)),
            peers: peers.join(", "),
            chain,
        }
    }

    /// Member five, as a plan of the next set lists it, and its node, not started. Nobody's
    /// configuration names its address.
    pub fn newcomer(&mut self) -> v1::Member {
        let id = 5;
        let own = self.folder.path().join(id.to_string());
        fs::create_dir(&own).unwrap();
        write_key(&own.join("network.key"), "network", secret(1, id));
        write_key(&own.join("cosign.key"), "cosign", secret(2, id));
        let (grpc, admin, metrics) = (free_address(), free_address(), free_address());
        let listen = free_address();
        let config = own.join("node.toml");
        let text = format!(
            "genesis = \"../genesis.bin\"\ndata = \"data\"\nraft_id = {id}\njoining = true\n\
             listen = \"{listen}\"\ngrpc = \"{grpc}\"\nadmin = \"{admin}\"\n\
             metrics = \"{metrics}\"\n\
             network_key = \"network.key\"\ncosign_key = \"cosign.key\"\n\
             peers = [{}]\n",
            self.peers
        );
        fs::write(&config, text).unwrap();
        self.nodes.push(Node {
            log: own.join("log"),
            config,
            grpc,
            admin,
            metrics,
            process: None,
        });
        v1::Member {
            raft_id: 0,
            address: listen.to_string(),
            ..member(id)
        }
    }

    /// The newest members that this test knows, one epoch on.
    pub fn next_members(&self) -> v1::MemberSet {
        let mut set = self.epochs.lock().unwrap().newest().clone();
        set.epoch += 1;
        set
    }

    /// A change of members that these offices sign.
    pub fn change(&self, next: &v1::MemberSet, signers: &[u8]) -> v1::SignedEntry {
        let body = v1::MembershipChange {
            next_members: Some(next.clone()),
        };
        let keys: Vec<SigningKey> = signers.iter().map(|id| office(*id)).collect();
        let (kind, shown) = (v1::EntryKind::MembershipChange, v1::Visibility::Public);
        self.compose(kind, shown, &[], &body, &keys)
    }

    /// An entry by the first of the signers, approved by the others.
    pub fn compose(
        &self,
        kind: v1::EntryKind,
        visibility: v1::Visibility,
        subject: &[u8],
        body: &impl prost::Message,
        signers: &[SigningKey],
    ) -> v1::SignedEntry {
        let body = Bytes::from(body.encode_to_vec());
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&cairn_ledger::hash::plain(&body).0[..16]);
        let draft = entry::Draft {
            kind,
            visibility,
            subject: Bytes::copy_from_slice(subject),
            nonce,
            not_after_ms: now_ms() + 600_000,
            body,
        };
        let approvers: Vec<&SigningKey> = signers[1..].iter().collect();
        entry::compose(&self.chain.id, draft, &signers[0], &approvers)
    }

    /// Follows the changes of members, as any client does.
    pub async fn follow(&self, id: u8, epoch: u64) {
        let began = Instant::now();
        loop {
            let known_epoch = self.epochs.lock().unwrap().newest().epoch;
            if known_epoch >= epoch {
                return;
            }
            let request = v1::GetEpochChangesRequest { known_epoch };
            let answer = self.ledger(id).await.get_epoch_changes(request).await;
            let changes = answer.unwrap().into_inner().epoch_changes;
            self.epochs.lock().unwrap().extend_all(&changes).unwrap();
            assert!(began.elapsed() < PATIENCE, "epoch {epoch} never came");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the newest checkpoint at `id` is of `epoch`; who cosigned it, by number.
    pub async fn cosigners(&self, id: u8, epoch: u64) -> Vec<u64> {
        let began = Instant::now();
        loop {
            let request = v1::GetCheckpointRequest::default();
            let answer = self.ledger(id).await.get_checkpoint(request).await.unwrap();
            let found = answer.into_inner().checkpoint.unwrap();
            let certified = self.epochs.lock().unwrap().certify(&found).unwrap();
            if certified.header().epoch == epoch {
                return certified.signers().map(|member| member.raft_id).collect();
            }
            assert!(began.elapsed() < PATIENCE, "no checkpoint of epoch {epoch}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether a node has this one among its members and is connected to it.
    pub async fn connected(&self, id: u8, to: u64) -> bool {
        let address = format!("http://{}", self.nodes[index(id)].admin);
        let mut admin = AdminServiceClient::connect(address).await.unwrap();
        let status = admin.get_node_status(v1::GetNodeStatusRequest {}).await;
        let peers = status.unwrap().into_inner().peers;
        peers
            .iter()
            .any(|peer| peer.raft_id == to && peer.connected)
    }

    /// Starts a node and waits for its readiness line.
    pub fn start(&mut self, id: u8) {
        let node = &mut self.nodes[index(id)];
        let log = File::options()
            .create(true)
            .append(true)
            .open(&node.log)
            .unwrap();
        let seen = log.metadata().unwrap().len();
        let process = Command::new(EXE)
            .args(["run", "--config"])
            .arg(&node.config)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        node.process = Some(process);
        let began = Instant::now();
        loop {
            let text = self.log(id);
            let new = text.get(usize::try_from(seen).unwrap()..).unwrap_or("");
            if new.contains("serving grpc=") {
                return;
            }
            let process = self.nodes[index(id)].process.as_mut().unwrap();
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self, id: u8) -> String {
        fs::read_to_string(&self.nodes[index(id)].log).unwrap()
    }

    /// Waits until the node has said `words`.
    pub async fn says(&self, id: u8, words: &str) {
        let began = Instant::now();
        while !self.log(id).contains(words) {
            assert!(began.elapsed() < PATIENCE, "{}", self.log(id));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The node's data folder.
    pub fn data(&self, id: u8) -> PathBuf {
        self.nodes[index(id)].config.with_file_name("data")
    }

    /// kill -9.
    pub fn kill(&mut self, id: u8) {
        let mut process = self.nodes[index(id)].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self, id: u8) -> Option<i32> {
        let mut process = self.nodes[index(id)].process.take().unwrap();
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let began = Instant::now();
        while process.try_wait().unwrap().is_none() {
            if began.elapsed() > PATIENCE {
                process.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        process.wait().unwrap().code()
    }

    pub async fn ledger(&self, id: u8) -> LedgerServiceClient<Channel> {
        let address = format!("http://{}", self.nodes[index(id)].grpc);
        LedgerServiceClient::connect(address).await.unwrap()
    }

    pub async fn healthy(&self, id: u8) -> bool {
        let address = format!("http://{}", self.nodes[index(id)].grpc);
        let channel = Channel::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap();
        let service = "cairn.v1.LedgerService".to_owned();
        let answer = HealthClient::new(channel)
            .check(HealthCheckRequest { service })
            .await
            .unwrap();
        answer.into_inner().status() == ServingStatus::Serving
    }

    /// The services that the public listener names, by both versions of reflection.
    pub async fn reflected(&self, id: u8) -> Vec<String> {
        use tonic_reflection::pb::{v1 as new, v1alpha as old};
        let address = format!("http://{}", self.nodes[index(id)].grpc);
        let channel = Channel::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap();

        let ask = new::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(
                new::server_reflection_request::MessageRequest::ListServices(String::new()),
            ),
        };
        let mut client =
            new::server_reflection_client::ServerReflectionClient::new(channel.clone());
        let answers = client
            .server_reflection_info(futures::stream::iter([ask]))
            .await;
        let answer = answers.unwrap().into_inner().next().await.unwrap().unwrap();
        let Some(new::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
            answer.message_response
        else {
            panic!("no list");
        };
        let mut names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();

        let ask = old::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(
                old::server_reflection_request::MessageRequest::ListServices(String::new()),
            ),
        };
        let mut client = old::server_reflection_client::ServerReflectionClient::new(channel);
        let answers = client
            .server_reflection_info(futures::stream::iter([ask]))
            .await;
        let answer = answers.unwrap().into_inner().next().await.unwrap().unwrap();
        let Some(old::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
            answer.message_response
        else {
            panic!("no list");
        };
        let mut old_names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
        names.sort();
        old_names.sort();
        assert_eq!(names, old_names);
        names
    }

    /// Whether the public listener does not know the operator's service.
    pub async fn public_admin_is_unknown(&self, id: u8) -> bool {
        let address = format!("http://{}", self.nodes[index(id)].grpc);
        let mut admin = AdminServiceClient::connect(address).await.unwrap();
        let answer = admin.get_node_status(v1::GetNodeStatusRequest {}).await;
        answer.unwrap_err().code() == tonic::Code::Unimplemented
    }

    /// Who leads, as the running nodes say.
    pub async fn leader(&self) -> u8 {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "no leader");
            for node in self.nodes.iter().filter(|node| node.process.is_some()) {
                let address = format!("http://{}", node.admin);
                let mut admin = AdminServiceClient::connect(address).await.unwrap();
                let status = admin.get_node_status(v1::GetNodeStatusRequest {}).await;
                let leader = status.unwrap().into_inner().leader;
                if leader != 0 {
                    return u8::try_from(leader).unwrap();
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a client knows.
    pub fn client(&self) -> Client {
        Client {
            chain_id: self.chain.id,
            grpc: self.nodes.iter().map(|node| node.grpc).collect(),
        }
    }

    /// An entry that any registered author may sign.
    pub fn evidence(&self, number: u32) -> v1::SignedEntry {
        self.client().evidence(number)
    }

    /// The ledger.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The genesis' canonical bytes.
    pub fn genesis(&self) -> Bytes {
        self.chain.bytes.clone()
    }

    /// A connection to the public listener.
    pub async fn channel(&self, id: u8) -> Channel {
        let address = format!("http://{}", self.nodes[index(id)].grpc);
        let endpoint = Channel::from_shared(address).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// A connection to the operator's listener, where auditors ask.
    pub async fn auditors_channel(&self, id: u8) -> Channel {
        let address = format!("http://{}", self.nodes[index(id)].admin);
        let endpoint = Channel::from_shared(address).unwrap();
        endpoint.connect().await.unwrap()
    }

    /// Resident memory of a node, in bytes.
    pub fn memory(&self, id: u8) -> usize {
        let process = self.nodes[index(id)].process.as_ref().unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().strip_suffix("kB").unwrap();
        kib.trim().parse::<usize>().unwrap() * 1024
    }

    /// Starts all nodes, forms the cluster and waits for the first certificate.
    pub async fn form(&mut self) {
        (1..=4).for_each(|id| self.start(id));
        let (code, text) = run_to_end(self, "init", 1, &["--wait", "20"]);
        assert_eq!(code, Some(0), "{text}");
        self.caught_up(2, 0).await;
        self.leader().await;
    }

    pub async fn submit(&self, id: u8, entry: v1::SignedEntry) -> Result<v1::EntryStatus, Status> {
        let request = v1::SubmitEntryRequest {
            entry: Some(entry),
            wait_for: v1::WaitFor::Certified.into(),
        };
        let answer = self.ledger(id).await.submit_entry(request).await?;
        Ok(answer.into_inner().status.unwrap())
    }

    /// Many entries on one stream, then a request without an entry: the statuses, and the error.
    pub async fn stream(
        &self,
        id: u8,
        entries: Vec<v1::SignedEntry>,
    ) -> (Vec<v1::EntryStatus>, Status) {
        let requests = entries.into_iter().map(Some).chain([None]);
        let requests = requests.map(|entry| v1::SubmitEntriesRequest {
            entry,
            wait_for: v1::WaitFor::Certified.into(),
        });
        let requests = futures::stream::iter(requests.collect::<Vec<_>>());
        let answers = self.ledger(id).await.submit_entries(requests).await;
        let mut answers = answers.unwrap().into_inner();
        let mut statuses = Vec::new();
        loop {
            match answers.next().await.unwrap() {
                Ok(answer) => statuses.push(answer.status.unwrap()),
                Err(error) => return (statuses, error),
            }
        }
    }

    /// Follows checkpoints until one at `height` or above was certified.
    pub async fn watch(&self, id: u8, height: u64) -> tokio::task::JoinHandle<()> {
        let mut ledger = self.ledger(id).await;
        let request = v1::WatchCheckpointsRequest {};
        let mut seen = ledger
            .watch_checkpoints(request)
            .await
            .unwrap()
            .into_inner();
        let (chain_id, members) = (self.chain.id, self.chain.members.clone());
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let found = seen.next().await.unwrap().unwrap().checkpoint.unwrap();
                let certified = checkpoint::certify(&chain_id, &members, &found).unwrap();
                let at = certified.header().height;
                assert!(last.is_none_or(|last| last < at), "{last:?} {at}");
                if at >= height {
                    return;
                }
                last = Some(at);
            }
        })
    }

    /// What Prometheus would scrape.
    pub fn metrics(&self, id: u8) -> String {
        let mut socket = std::net::TcpStream::connect(self.nodes[index(id)].metrics).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK") && text.ends_with("# EOF\n"),
            "{text}"
        );
        text
    }

    /// Submits until the entry is certified; an election may be under way.
    pub async fn certified(&self, id: u8, entry: v1::SignedEntry) -> v1::EntryStatus {
        let began = Instant::now();
        loop {
            let answer = self.submit(id, entry.clone()).await;
            match &answer {
                Ok(status) if status.state() == v1::EntryState::Certified => {
                    return answer.unwrap();
                }
                _ => assert!(began.elapsed() < PATIENCE, "{answer:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The newest checkpoint's header, its certificate checked.
    pub async fn verified_checkpoint(&self, id: u8) -> v1::Header {
        let request = v1::GetCheckpointRequest::default();
        let answer = self.ledger(id).await.get_checkpoint(request).await.unwrap();
        self.verify(&answer.into_inner().checkpoint.unwrap())
    }

    fn verify(&self, found: &v1::Checkpoint) -> v1::Header {
        self.epochs
            .lock()
            .unwrap()
            .certify(found)
            .unwrap()
            .header()
            .clone()
    }

    /// Waits until the node's certified view has reached `height`.
    pub async fn caught_up(&self, id: u8, height: u64) {
        let began = Instant::now();
        let mut ledger = self.ledger(id).await;
        loop {
            let answer = ledger
                .get_checkpoint(v1::GetCheckpointRequest::default())
                .await;
            if let Ok(answer) = &answer {
                let found = answer.get_ref().checkpoint.as_ref().unwrap();
                if self.verify(found).height >= height {
                    return;
                }
            }
            assert!(began.elapsed() < PATIENCE, "{answer:?}\n{}", self.log(id));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// An entry's receipt, checked as a stranger would: the leaf computed from the entry, size and
    /// root from the certificate.
    pub async fn receipt_verifies(&self, id: u8, entry_id: &Bytes) {
        let mut ledger = self.ledger(id).await;
        let key = v1::get_entry_request::Key::EntryId(entry_id.clone());
        let request = v1::GetEntryRequest { key: Some(key) };
        let entry = ledger.get_entry(request).await.unwrap().into_inner().entry;
        let signed = entry.unwrap().entry.unwrap();
        let admitted = admission::admit(&self.chain, signed.clone()).unwrap();
        assert_eq!(admitted.id.to_bytes(), entry_id);

        let key = v1::get_receipt_request::Key::EntryId(entry_id.clone());
        let request = v1::GetReceiptRequest { key: Some(key) };
        let answer = ledger.get_receipt(request).await.unwrap();
        let receipt = answer.into_inner().receipt.unwrap();
        assert_eq!(receipt.envelope, signed.envelope);
        assert_eq!(receipt.signatures, signed.signatures);
        // From the genesis alone, whatever members have come since.
        let verified = verify::receipt(&self.chain, &receipt, None).unwrap();
        assert_eq!(verified.id.to_bytes(), entry_id);
        let header = self.verify(&receipt.checkpoint.unwrap());
        let inclusion = receipt.inclusion.unwrap();
        let path = log::read_path(&inclusion.path).unwrap();
        let root = Hash::from_slice(&header.log_root).unwrap();
        let (at, size) = (inclusion.leaf_index, header.tree_size);
        log::verify_inclusion(&admitted.leaf_hash, at, size, &path, &root).unwrap();
    }

    /// Pages, blocks and proofs show the same log.
    pub async fn listing_and_blocks_agree(&self, id: u8) {
        let mut ledger = self.ledger(id).await;
        let mut listed = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListEntriesRequest {
                page_size: 7,
                page_token,
                without_bodies: false,
            };
            let page = ledger.list_entries(request).await.unwrap().into_inner();
            listed.extend(page.entries);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let indexes: Vec<u64> = listed.iter().map(|entry| entry.leaf_index).collect();
        assert_eq!(indexes, (0..listed.len() as u64).collect::<Vec<_>>());

        let request = v1::StreamBlocksRequest::default();
        let mut stream = ledger.stream_blocks(request).await.unwrap().into_inner();
        let mut parent = Hash::ZERO;
        let mut entries = Vec::new();
        while let Some(block) = stream.next().await {
            let block = block.unwrap();
            if let Some(certificate) = &block.checkpoint {
                self.verify(certificate);
            }
            let block = block.block.unwrap();
            let header: v1::Header = canonical::decode(&block.header).unwrap();
            assert_eq!(
                header.parent_hash,
                parent.to_bytes(),
                "height {}",
                header.height
            );
            parent = checkpoint::header_hash(&block.header);
            entries.extend(block.proposal.unwrap_or_default().entries);
        }
        let listed: Vec<_> = listed
            .into_iter()
            .map(|entry| entry.entry.unwrap())
            .collect();
        assert!(
            entries.starts_with(&listed),
            "{} {}",
            entries.len(),
            listed.len()
        );

        let leaf_indexes = (0..listed.len() as u64).collect();
        let request = v1::BatchGetInclusionProofsRequest { leaf_indexes };
        let answer = ledger.batch_get_inclusion_proofs(request).await.unwrap();
        let answer = answer.into_inner();
        let header = self.verify(&answer.checkpoint.unwrap());
        assert_eq!(answer.proofs.len(), listed.len());
        for proof in &answer.proofs {
            assert!(log::read_path(&proof.path).is_ok() && proof.leaf_index < header.tree_size);
        }
    }
}

/// A client of all nodes.
pub struct Client {
    chain_id: Hash,
    grpc: Vec<SocketAddr>,
}

impl Client {
    /// An entry that any registered author may sign.
    pub fn evidence(&self, number: u32) -> v1::SignedEntry {
        self.evidence_with(number, &author(), |_| {})
    }

    /// The same by `author`, with the envelope changed before it is signed.
    pub fn evidence_with(
        &self,
        number: u32,
        author: &SigningKey,
        change: impl FnOnce(&mut v1::Envelope),
    ) -> v1::SignedEntry {
        let hash = Bytes::from(number.to_be_bytes().repeat(8));
        let body = canonical::encode(&v1::Evidence {
            hash: hash.clone(),
            media_type: "video/mp4".to_owned(),
            title: format!("recording {number}"),
            custodian: "archive".to_owned(),
        });
        let mut envelope = v1::Envelope {
            chain_id: self.chain_id.to_bytes(),
            kind: v1::EntryKind::Evidence.into(),
            author: author.verifying_key().to_bytes().to_vec().into(),
            nonce: number.to_be_bytes().repeat(4).into(),
            not_after_ms: now_ms() + 600_000,
            visibility: v1::Visibility::Public.into(),
            body_hash: cairn_ledger::hash::plain(&body).to_bytes(),
            body_len: body.len() as u64,
            subject: hash,
        };
        change(&mut envelope);
        self.signed(canonical::encode(&envelope), body, author)
    }

    /// An envelope's bytes, as they are, signed.
    pub fn signed(&self, envelope: Bytes, body: Bytes, author: &SigningKey) -> v1::SignedEntry {
        let purpose = v1::SignaturePurpose::Author;
        let signature = entry::sign(author, &self.chain_id, purpose, &envelope);
        v1::SignedEntry {
            envelope,
            signatures: vec![signature],
            body,
        }
    }

    /// Hands an entry to a node that may be down, and waits until it is certified.
    pub async fn submit(&self, id: u8, entry: v1::SignedEntry) -> Result<v1::EntryStatus, Status> {
        let request = v1::SubmitEntryRequest {
            entry: Some(entry),
            wait_for: v1::WaitFor::Certified.into(),
        };
        let address = format!("http://{}", self.grpc[index(id)]);
        let mut ledger = LedgerServiceClient::connect(address)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let answer = ledger.submit_entry(request).await?;
        let status = answer.into_inner().status.unwrap();
        match status.state() {
            v1::EntryState::Certified => Ok(status),
            state => Err(Status::deadline_exceeded(format!("{state:?}"))),
        }
    }
}

/// Runs `cairn-node <command>` for a member and returns its exit code and all that it printed.
pub fn run_to_end(
    cluster: &Cluster,
    command: &str,
    id: u8,
    more: &[&str],
) -> (Option<i32>, String) {
    let output = Command::new(EXE)
        .args([command, "--config"])
        .arg(&cluster.nodes[index(id)].config)
        .args(more)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}
