//! The other end of the link: real gRPC on loopback, told by a test what to say.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use muster_proto::v1::{
    self, AgentHello, Assignment, AttemptOrder, AttemptReport, LeasesRenewed, LinkRequest,
    LinkResponse, RenewLeases, ReportAck, StreamLogRequest, StreamLogResponse,
    UploadArtifactRequest, UploadArtifactResponse, Welcome,
    agent_link_service_server::{AgentLinkService, AgentLinkServiceServer},
    link_request::Message as Told,
    link_response::Message as Say,
    upload_artifact_request::Part,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What survives a restart of the server.
#[derive(Default)]
pub(crate) struct Store {
    /// Durable log by attempt.
    pub(crate) logs: Mutex<HashMap<String, Vec<u8>>>,
    /// Artifacts by path.
    pub(crate) artifacts: Mutex<HashMap<String, Vec<u8>>>,
    /// The beginnings of artifacts that broke, by path.
    pub(crate) kept: Mutex<HashMap<String, Vec<u8>>>,
    /// Paths of artifacts that were put around the agent.
    pub(crate) direct: Mutex<Vec<String>>,
    /// Files that are missing, with reasons.
    pub(crate) missed: Mutex<Vec<(String, String)>>,
    /// Answer log streams with this many bytes as durable at most; then say nothing more.
    pub(crate) durable_limit: Mutex<Option<usize>>,
}

impl Store {
    /// The bytes of a log below `first` that are not here are not to be had any more.
    fn skip(&self, attempt: &str, first: usize) {
        let mut logs = self.logs.lock().expect("no panic");
        let log = logs.entry(attempt.to_owned()).or_default();
        log.resize(log.len().max(first), b'?');
    }

    pub(crate) fn log(&self, attempt: &str) -> String {
        let logs = self.logs.lock().expect("no panic");
        String::from_utf8_lossy(logs.get(attempt).map_or(&[], Vec::as_slice)).into_owned()
    }
}

/// A server on loopback.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<Store>,
    links: mpsc::Receiver<Link>,
    runtime: Option<Runtime>,
}

/// One link of an agent.
pub(crate) struct Link {
    pub(crate) hello: AgentHello,
    pub(crate) authorization: String,
    requests: Streaming<LinkRequest>,
    responses: mpsc::Sender<Result<LinkResponse, Status>>,
    /// What the agent last asked for.
    slots: Option<u32>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), Arc::default())
    }

    /// Starts at an address with what an earlier server has stored.
    pub(crate) fn start_at(address: SocketAddr, store: Arc<Store>) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (sender, links) = mpsc::channel(8);
        let service = Service {
            store: Arc::clone(&store),
            links: sender,
        };
        let in_runtime = runtime.enter();
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(address).expect("the address is free");
        let listener: TcpListener = socket.listen(64).expect("it listens");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(AgentLinkServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        drop(in_runtime);
        Self {
            address,
            store,
            links,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next link.
    pub(crate) async fn link(&mut self) -> Link {
        timeout(PATIENCE, self.next_link())
            .await
            .expect("an agent links in time")
    }

    /// The same, however long it takes.
    pub(crate) async fn next_link(&mut self) -> Link {
        self.links.recv().await.expect("a link")
    }

    /// The next link, welcomed with these orders.
    pub(crate) async fn welcome(&mut self, orders: Vec<AttemptOrder>) -> Link {
        let times = (Duration::from_secs(1), Duration::from_secs(30));
        self.welcome_with(orders, times).await
    }

    /// The same with other times: how often to renew, and how long a lease lives.
    pub(crate) async fn welcome_with(
        &mut self,
        orders: Vec<AttemptOrder>,
        (renew, lease): (Duration, Duration),
    ) -> Link {
        let link = self.link().await;
        link.say(Say::Welcome(Welcome {
            protocol: 1,
            orders,
            renew_interval: renew.try_into().ok(),
            lease_duration: lease.try_into().ok(),
        }))
        .await;
        link
    }

    /// Ends the server and all its connections at once. Its address is free then.
    pub(crate) async fn kill(mut self) -> (SocketAddr, Arc<Store>) {
        if let Some(runtime) = self.runtime.take() {
            tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE))
                .await
                .expect("it does not panic");
        }
        (self.address, Arc::clone(&self.store))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Link {
    pub(crate) async fn say(&self, message: Say) {
        let response = LinkResponse {
            message: Some(message),
        };
        self.responses
            .send(Ok(response))
            .await
            .expect("the agent listens");
    }

    pub(crate) async fn assign(&self, assignment: Assignment) {
        self.say(Say::Assignment(assignment)).await;
    }

    pub(crate) async fn fail(self, status: Status) {
        self.responses
            .send(Err(status))
            .await
            .expect("the agent listens");
    }

    /// The next message; renewals are answered and left out.
    pub(crate) async fn told(&mut self) -> Told {
        let told = timeout(PATIENCE, async {
            loop {
                let message = self.requests.message().await.expect("the stream is whole");
                let message = message.expect("the stream goes on").message;
                match message.expect("a message") {
                    Told::Renew(renew) => self.renewed(renew.sequence).await,
                    Told::Credit(credit) => {
                        self.slots = Some(credit.slots);
                        return Told::Credit(credit);
                    }
                    other => return other,
                }
            }
        });
        told.await.expect("the agent speaks in time")
    }

    /// Waits for the next renewal, which is not answered; leaves everything else out.
    pub(crate) async fn renewal(&mut self) -> RenewLeases {
        let renewal = timeout(PATIENCE, async {
            loop {
                let message = self.requests.message().await.expect("the stream is whole");
                let message = message.expect("the stream goes on").message;
                if let Some(Told::Renew(renewal)) = message {
                    return renewal;
                }
            }
        });
        renewal.await.expect("the agent renews in time")
    }

    /// Listens, and answers renewals, until `work` is done.
    pub(crate) async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = self.told() => {}
            }
        }
    }

    pub(crate) async fn renewed(&self, sequence: i64) {
        self.say(Say::Renewed(LeasesRenewed {
            sequence,
            lost: Vec::new(),
        }))
        .await;
    }

    /// Waits until the agent asks for this much.
    pub(crate) async fn credit(&mut self, slots: u32) {
        while self.slots != Some(slots) {
            self.told().await;
        }
    }

    /// Acknowledges reports until one fits, which is not acknowledged.
    pub(crate) async fn report(&mut self, fits: impl Fn(&AttemptReport) -> bool) -> AttemptReport {
        loop {
            if let Told::Report(report) = self.told().await {
                if fits(&report) {
                    return report;
                }
                self.acknowledge(&report).await;
            }
        }
    }

    pub(crate) async fn acknowledge(&self, report: &AttemptReport) {
        let ack = ReportAck {
            attempt: report.attempt.clone(),
            sequence: report.sequence,
        };
        self.say(Say::ReportAck(ack)).await;
    }
}

struct Service {
    store: Arc<Store>,
    links: mpsc::Sender<Link>,
}

fn authorization<T>(request: &Request<T>) -> String {
    let header = request.metadata().get("authorization");
    header
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

#[tonic::async_trait]
impl AgentLinkService for Service {
    type LinkStream = ReceiverStream<Result<LinkResponse, Status>>;
    type StreamLogStream = ReceiverStream<Result<StreamLogResponse, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let authorization = authorization(&request);
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|first| first.message);
        let Some(Told::Hello(hello)) = first else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (responses, outgoing) = mpsc::channel(64);
        let link = Link {
            hello,
            authorization,
            requests,
            responses,
            slots: None,
        };
        self.links
            .send(link)
            .await
            .map_err(|_closed| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn stream_log(
        &self,
        request: Request<Streaming<StreamLogRequest>>,
    ) -> Result<Response<Self::StreamLogStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("empty"))?;
        let store = Arc::clone(&self.store);
        let (responses, outgoing) = mpsc::channel(64);
        tokio::spawn(async move {
            let first_offset = usize::try_from(first.first_offset).expect("it is small");
            store.skip(&first.attempt, first_offset);
            let say = |store: &Store| {
                let durable = store.durable(&first.attempt);
                let durable_offset = i64::try_from(durable).expect("it is small");
                responses.send(Ok(StreamLogResponse { durable_offset }))
            };
            say(&store).await.ok();
            while let Ok(Some(request)) = requests.message().await {
                for chunk in request.chunks {
                    store.append(&first.attempt, chunk.offset, &chunk.data);
                }
                say(&store).await.ok();
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn upload_artifact(
        &self,
        request: Request<Streaming<UploadArtifactRequest>>,
    ) -> Result<Response<UploadArtifactResponse>, Status> {
        let mut requests = request.into_inner();
        let (mut path, mut bytes, mut whole) = (String::new(), Vec::new(), false);
        while let Some(request) = requests.message().await? {
            match request.part.expect("a part") {
                Part::Header(header) if header.path.contains("..") => {
                    return Err(Status::invalid_argument("bad path"));
                }
                Part::Header(header) => path = header.path,
                Part::Data(data) => bytes.extend_from_slice(&data),
                Part::Footer(footer) => whole = footer.size_bytes == bytes.len() as i64,
            }
        }
        if !whole {
            return Err(Status::data_loss("cut short"));
        }
        self.store
            .artifacts
            .lock()
            .expect("no panic")
            .insert(path.clone(), bytes);
        Ok(Response::new(UploadArtifactResponse { name: path }))
    }

    type ResumeUploadStream = ReceiverStream<Result<v1::ResumeUploadResponse, Status>>;

    async fn resume_upload(
        &self,
        request: Request<Streaming<v1::ResumeUploadRequest>>,
    ) -> Result<Response<Self::ResumeUploadStream>, Status> {
        use v1::{resume_upload_request::Part, resume_upload_response::Told};
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|first| first.part);
        let Some(Part::Header(header)) = first else {
            return Err(Status::invalid_argument("no header"));
        };
        let kept = self.store.kept.lock().expect("no panic");
        let Some(mut bytes) = kept.get(&header.path).cloned() else {
            return Err(Status::unimplemented("this server keeps nothing"));
        };
        drop(kept);
        let (responses, outgoing) = mpsc::channel(4);
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let say = async |told| {
                let told = v1::ResumeUploadResponse { told: Some(told) };
                responses.send(Ok(told)).await.ok();
            };
            let digest = Sha256::digest(&bytes);
            let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let size_bytes = i64::try_from(bytes.len()).expect("it is small");
            say(Told::Kept(v1::UploadKept { size_bytes, sha256 })).await;
            while let Ok(Some(request)) = requests.message().await {
                match request.part.expect("a part") {
                    Part::Header(_) => panic!("a second header"),
                    Part::Data(data) => bytes.extend_from_slice(&data),
                    Part::Footer(footer) => {
                        assert_eq!(footer.size_bytes, bytes.len() as i64);
                        let bytes = std::mem::take(&mut bytes);
                        store
                            .artifacts
                            .lock()
                            .expect("no panic")
                            .insert(header.path.clone(), bytes);
                        say(Told::Name(header.path.clone())).await;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn start_children(
        &self,
        _request: Request<v1::StartChildrenRequest>,
    ) -> Result<Response<v1::StartChildrenResponse>, Status> {
        Err(Status::unimplemented(NO_CHILDREN))
    }

    type WatchChildrenStream = ReceiverStream<Result<v1::WatchChildrenResponse, Status>>;

    async fn watch_children(
        &self,
        _request: Request<v1::WatchChildrenRequest>,
    ) -> Result<Response<Self::WatchChildrenStream>, Status> {
        Err(Status::unimplemented(NO_CHILDREN))
    }

    async fn stop_children(
        &self,
        _request: Request<v1::StopChildrenRequest>,
    ) -> Result<Response<v1::StopChildrenResponse>, Status> {
        Err(Status::unimplemented(NO_CHILDREN))
    }

    async fn resume_children(
        &self,
        _request: Request<v1::ResumeChildrenRequest>,
    ) -> Result<Response<v1::ResumeChildrenResponse>, Status> {
        Err(Status::unimplemented(NO_CHILDREN))
    }

    async fn select_workflows(
        &self,
        _request: Request<v1::SelectWorkflowsRequest>,
    ) -> Result<Response<v1::SelectWorkflowsResponse>, Status> {
        Err(Status::unimplemented(NO_CHILDREN))
    }

    type ReadArchiveStream = ReceiverStream<Result<v1::ReadArchiveResponse, Status>>;

    async fn read_archive(
        &self,
        _request: Request<v1::ReadArchiveRequest>,
    ) -> Result<Response<Self::ReadArchiveStream>, Status> {
        Err(Status::unimplemented(NO_CHILDREN))
    }

    async fn miss_artifacts(
        &self,
        request: Request<v1::MissArtifactsRequest>,
    ) -> Result<Response<v1::MissArtifactsResponse>, Status> {
        let request = request.into_inner();
        if request.files.iter().any(|file| file.path.contains("..")) {
            return Err(Status::invalid_argument("bad path"));
        }
        let mut missed = self.store.missed.lock().expect("no panic");
        missed.extend(
            request
                .files
                .into_iter()
                .map(|file| (file.path, file.reason)),
        );
        Ok(Response::new(v1::MissArtifactsResponse {}))
    }

    async fn read_credential(
        &self,
        _request: Request<v1::ReadCredentialRequest>,
    ) -> Result<Response<v1::ReadCredentialResponse>, Status> {
        Err(Status::unimplemented("this server knows no credentials"))
    }

    async fn read_durations(
        &self,
        _request: Request<Streaming<v1::ReadDurationsRequest>>,
    ) -> Result<Response<v1::ReadDurationsResponse>, Status> {
        Err(Status::unimplemented("this server knows no durations"))
    }

    async fn judge_step(
        &self,
        _request: Request<v1::JudgeStepRequest>,
    ) -> Result<Response<v1::JudgeStepResponse>, Status> {
        Err(Status::unimplemented("this server knows no quarantine"))
    }

    async fn begin_direct_upload(
        &self,
        request: Request<v1::BeginDirectUploadRequest>,
    ) -> Result<Response<v1::BeginDirectUploadResponse>, Status> {
        let footer = request.into_inner().footer.unwrap_or_default();
        // Odd sizes go by the agent.
        let url = match footer.size_bytes % 2 {
            0 => "http://store/key".to_owned(),
            _ => String::new(),
        };
        Ok(Response::new(v1::BeginDirectUploadResponse {
            url,
            key: "key".to_owned(),
            ..v1::BeginDirectUploadResponse::default()
        }))
    }

    async fn end_direct_upload(
        &self,
        request: Request<v1::EndDirectUploadRequest>,
    ) -> Result<Response<v1::EndDirectUploadResponse>, Status> {
        let request = request.into_inner();
        if request.key != "key" {
            return Err(Status::invalid_argument("another key"));
        }
        let header = request.header.unwrap_or_default();
        let mut direct = self.store.direct.lock().expect("no panic");
        direct.push(header.path);
        Ok(Response::new(v1::EndDirectUploadResponse::default()))
    }
}

/// The tests here start no children.
const NO_CHILDREN: &str = "this server knows no children";

impl Store {
    fn durable(&self, attempt: &str) -> usize {
        let logs = self.logs.lock().expect("no panic");
        logs.get(attempt).map_or(0, Vec::len)
    }

    /// Takes what is new of a chunk; a gap is a fault of the agent. Forgets what is beyond the
    /// limit, as a server that dies before it has stored it.
    fn append(&self, attempt: &str, offset: i64, data: &[u8]) {
        let mut logs = self.logs.lock().expect("no panic");
        let log = logs.entry(attempt.to_owned()).or_default();
        let offset = usize::try_from(offset).expect("an offset");
        let limit = self
            .durable_limit
            .lock()
            .expect("no panic")
            .unwrap_or(usize::MAX);
        if log.len() >= limit {
            return;
        }
        assert!(
            offset <= log.len(),
            "a gap: {} bytes, then offset {offset}",
            log.len()
        );
        let new = data.get(log.len() - offset..).unwrap_or_default();
        log.extend_from_slice(new);
        log.truncate(limit);
    }
}
