//! A node that says what a test tells it to: the truth, too little, or lies.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cairn_proto::v1;
use cairn_proto::v1::code_status_service_server::{CodeStatusService, CodeStatusServiceServer};
use cairn_proto::v1::ledger_service_server::{LedgerService, LedgerServiceServer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// What a node answers.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// The canonical bytes of a genesis.
    pub genesis: Vec<u8>,
    /// The newest checkpoint, and the certificate of every block that is asked for.
    pub checkpoint: v1::Checkpoint,
    /// What the node keeps against members.
    pub equivocations: Vec<v1::Equivocation>,
    /// What a map proof is answered with,
    pub map_receipt: v1::MapReceipt,
    /// but for the keys that these are about.
    pub map_receipts: Vec<v1::MapReceipt>,
    /// The statuses of a submitted entry, one call after the other; the last one stays.
    pub states: Vec<v1::EntryState>,
    /// Streams of entries break after so many answers.
    pub breaks_after: Option<usize>,
}

impl Answers {
    fn proven(&self, namespace: &str, key: &[u8]) -> &v1::MapReceipt {
        let mut receipts = self.map_receipts.iter();
        let found = receipts.find(|receipt| receipt.namespace == namespace && receipt.key == key);
        found.unwrap_or(&self.map_receipt)
    }
}

/// A running node; it ends with its value.
pub struct Node {
    /// Where it listens.
    pub url: String,
    /// The ids of the entries that came on streams.
    pub streamed: Arc<Mutex<Vec<Vec<u8>>>>,
    /// How many entries were handed in, one call each.
    single: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Node {
    pub fn start(answers: Answers) -> Node {
        let runtime = Runtime::new().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = runtime.block_on(TcpListener::bind(any)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let streamed = Arc::new(Mutex::new(Vec::new()));
        let codes = Codes(answers.clone());
        let single = Arc::new(AtomicUsize::new(0));
        let service = Scripted {
            answers,
            calls: AtomicUsize::new(0),
            streamed: streamed.clone(),
            single: single.clone(),
        };
        let server = Server::builder()
            .add_service(LedgerServiceServer::new(service))
            .add_service(CodeStatusServiceServer::new(codes));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Node {
            url,
            streamed,
            single,
            _runtime: runtime,
        }
    }

    /// How many entries were handed in, either way.
    pub fn submitted(&self) -> usize {
        self.streamed.lock().unwrap().len() + self.single.load(Ordering::Relaxed)
    }
}

struct Scripted {
    answers: Answers,
    calls: AtomicUsize,
    streamed: Arc<Mutex<Vec<Vec<u8>>>>,
    single: Arc<AtomicUsize>,
}

impl Scripted {
    /// Notes an entry that came on a stream, and certifies it; or breaks the stream.
    fn certify(
        &self,
        request: v1::SubmitEntriesRequest,
        index: usize,
    ) -> Result<v1::SubmitEntriesResponse, Status> {
        if self.answers.breaks_after == Some(index) {
            return Err(Status::unavailable("this node goes down"));
        }
        let entry = request.entry.unwrap_or_default();
        let id = blake3::hash(&entry.envelope).as_bytes().to_vec();
        self.streamed.lock().unwrap().push(id.clone());
        let status = Some(v1::EntryStatus {
            entry_id: id.into(),
            state: v1::EntryState::Certified.into(),
            ..v1::EntryStatus::default()
        });
        Ok(v1::SubmitEntriesResponse { status })
    }

    fn status(&self, entry_id: &[u8]) -> v1::EntryStatus {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let states = &self.answers.states;
        let state = states.get(call).or(states.last()).copied();
        v1::EntryStatus {
            entry_id: entry_id.to_vec().into(),
            state: state.unwrap_or_default().into(),
            height: 1,
            reason: v1::RejectReason::EvidenceExists.into(),
            ..v1::EntryStatus::default()
        }
    }
}

type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// The service with the methods that are given; it does not have the others.
macro_rules! scripted {
    ({ $($given:item)* } $($name:ident: $request:ty => $response:ty,)*) => {
        #[tonic::async_trait]
        impl LedgerService for Scripted {
            type SubmitEntriesStream = Stream<v1::SubmitEntriesResponse>;
            type WatchCheckpointsStream = Stream<v1::WatchCheckpointsResponse>;
            type StreamBlocksStream = Stream<v1::StreamBlocksResponse>;
            $($given)*
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

scripted! {
    {
        async fn get_genesis(
            &self,
            _: Request<v1::GetGenesisRequest>,
        ) -> Result<Response<v1::GetGenesisResponse>, Status> {
            let genesis = self.answers.genesis.clone().into();
            Ok(Response::new(v1::GetGenesisResponse {
                genesis,
                ..v1::GetGenesisResponse::default()
            }))
        }

        async fn get_checkpoint(
            &self,
            _: Request<v1::GetCheckpointRequest>,
        ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
            Ok(Response::new(v1::GetCheckpointResponse {
                checkpoint: Some(self.answers.checkpoint.clone()),
                consistency: None,
            }))
        }

        async fn list_equivocations(
            &self,
            _: Request<v1::ListEquivocationsRequest>,
        ) -> Result<Response<v1::ListEquivocationsResponse>, Status> {
            Ok(Response::new(v1::ListEquivocationsResponse {
                equivocations: self.answers.equivocations.clone(),
                ..v1::ListEquivocationsResponse::default()
            }))
        }

        async fn get_block(
            &self,
            _: Request<v1::GetBlockRequest>,
        ) -> Result<Response<v1::GetBlockResponse>, Status> {
            let checkpoint = self.answers.checkpoint.clone();
            let block = v1::Block {
                header: checkpoint.header.clone(),
                ..v1::Block::default()
            };
            Ok(Response::new(v1::GetBlockResponse {
                block: Some(block),
                checkpoint: Some(checkpoint),
            }))
        }

        async fn get_map_proof(
            &self,
            request: Request<v1::GetMapProofRequest>,
        ) -> Result<Response<v1::GetMapProofResponse>, Status> {
            let asked = request.into_inner();
            let receipt = Some(self.answers.proven(&asked.namespace, &asked.key).clone());
            Ok(Response::new(v1::GetMapProofResponse { receipt }))
        }

        async fn submit_entry(
            &self,
            request: Request<v1::SubmitEntryRequest>,
        ) -> Result<Response<v1::SubmitEntryResponse>, Status> {
            self.single.fetch_add(1, Ordering::Relaxed);
            let entry = request.into_inner().entry.unwrap_or_default();
            let id = blake3::hash(&entry.envelope);
            let status = Some(self.status(id.as_bytes()));
            Ok(Response::new(v1::SubmitEntryResponse { status }))
        }

        async fn submit_entries(
            &self,
            request: Request<Streaming<v1::SubmitEntriesRequest>>,
        ) -> Result<Response<Self::SubmitEntriesStream>, Status> {
            let mut entries = request.into_inner();
            let mut answers = Vec::new();
            while let Some(request) = entries.message().await? {
                let answer = self.certify(request, answers.len());
                let broken = answer.is_err();
                answers.push(answer);
                if broken {
                    break;
                }
            }
            Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
        }

        async fn get_entry_status(
            &self,
            request: Request<v1::GetEntryStatusRequest>,
        ) -> Result<Response<v1::GetEntryStatusResponse>, Status> {
            let status = Some(self.status(&request.into_inner().entry_id));
            Ok(Response::new(v1::GetEntryStatusResponse { status }))
        }
    }
    watch_checkpoints: v1::WatchCheckpointsRequest => Self::WatchCheckpointsStream,
    get_epoch_changes: v1::GetEpochChangesRequest => v1::GetEpochChangesResponse,
    get_entry: v1::GetEntryRequest => v1::GetEntryResponse,
    list_entries: v1::ListEntriesRequest => v1::ListEntriesResponse,
    get_inclusion_proof: v1::GetInclusionProofRequest => v1::GetInclusionProofResponse,
    batch_get_inclusion_proofs: v1::BatchGetInclusionProofsRequest => v1::BatchGetInclusionProofsResponse,
    get_consistency_proof: v1::GetConsistencyProofRequest => v1::GetConsistencyProofResponse,
    get_receipt: v1::GetReceiptRequest => v1::GetReceiptResponse,
    stream_blocks: v1::StreamBlocksRequest => Self::StreamBlocksStream,
}

/// The codes' service: many statuses at once, from the same receipts.
struct Codes(Answers);

#[tonic::async_trait]
impl CodeStatusService for Codes {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        Err(Status::unimplemented("get_status"))
    }

    async fn batch_get_status(
        &self,
        request: Request<v1::BatchGetStatusRequest>,
    ) -> Result<Response<v1::BatchGetStatusResponse>, Status> {
        let codes = request.into_inner().codes;
        let proofs = codes.iter().map(|code| {
            let receipt = self.0.proven(cairn_ledger::code::NAMESPACE, code);
            receipt.proof.clone().unwrap_or_default()
        });
        Ok(Response::new(v1::BatchGetStatusResponse {
            proofs: proofs.collect(),
            checkpoint: Some(self.0.checkpoint.clone()),
        }))
    }

    async fn get_history(
        &self,
        _: Request<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::GetHistoryResponse>, Status> {
        Err(Status::unimplemented("get_history"))
    }

    async fn list_orders(
        &self,
        _: Request<v1::ListOrdersRequest>,
    ) -> Result<Response<v1::ListOrdersResponse>, Status> {
        Err(Status::unimplemented("list_orders"))
    }
}
