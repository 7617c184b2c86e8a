//! An agent that says what a test wants, over the real link.

use std::time::Duration;

use muster_proto::v1::{
    AgentHello, ArtifactFooter, ArtifactHeader, Assignment, AttemptRef, AttemptReport, Completion,
    Credit, Execution, LinkRequest, LinkResponse, LogChunk, StepResult, StreamLogRequest,
    UploadArtifactRequest, UploadArtifactResponse, Welcome, attempt_report::Phase, execution,
    link_request::Message, link_response, step_result, upload_artifact_request::Part,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::fixture::{Clients, Fixture, run};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream to the server.
pub(crate) struct Agent {
    pub(crate) clients: Clients,
    requests: mpsc::Sender<LinkRequest>,
    answers: Streaming<LinkResponse>,
    sequence: i64,
}

pub(crate) fn sha256(data: &[u8]) -> String {
    Sha256::digest(data)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// An administrator, and an agent with an execution that runs on it.
pub(crate) async fn running(fixture: &Fixture) -> (Clients, Agent, Execution, Assignment) {
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(fixture, &token, Vec::new()).await;
    let made = admin.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    (admin, agent, made, work)
}

impl Agent {
    /// Connects as a new process and hears the welcome.
    pub(crate) async fn connect(
        fixture: &Fixture,
        token: &str,
        attempts: Vec<AttemptRef>,
    ) -> (Self, Welcome) {
        let session = uuid::Uuid::now_v7().to_string();
        Self::connect_as(fixture, token, &session, attempts).await
    }

    /// Connects as a process with this id and hears the welcome.
    pub(crate) async fn connect_as(
        fixture: &Fixture,
        token: &str,
        session: &str,
        attempts: Vec<AttemptRef>,
    ) -> (Self, Welcome) {
        let hello = Self::hello(session, attempts);
        let connected = Self::try_to_connect(fixture, token, hello).await;
        connected.expect("a welcome")
    }

    /// Connects as a new process that has room for this many attempts.
    pub(crate) async fn connect_with(
        fixture: &Fixture,
        token: &str,
        capacity: u32,
    ) -> (Self, Welcome) {
        let hello = AgentHello {
            capacity,
            ..Self::hello(&uuid::Uuid::now_v7().to_string(), Vec::new())
        };
        let connected = Self::try_to_connect(fixture, token, hello).await;
        connected.expect("a welcome")
    }

    /// Connects and hears the welcome; none when the server can not give it now.
    pub(crate) async fn try_to_connect(
        fixture: &Fixture,
        token: &str,
        hello: AgentHello,
    ) -> Option<(Self, Welcome)> {
        let mut agent = Self::open(fixture, token, hello).await.ok()?;
        match agent.try_hear().await? {
            link_response::Message::Welcome(welcome) => Some((agent, welcome)),
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// Says hello and hears the first word.
    pub(crate) async fn say_hello(
        fixture: &Fixture,
        token: &str,
        hello: AgentHello,
    ) -> Option<link_response::Message> {
        let agent = Self::open(fixture, token, hello).await;
        agent.expect("the token is good").try_hear().await
    }

    /// Leases as an agent tells that it holds them.
    pub(crate) fn held(works: &[&Assignment]) -> Vec<AttemptRef> {
        let held = works.iter().map(|work| AttemptRef {
            attempt: work.attempt.clone(),
            epoch: work.epoch,
        });
        held.collect()
    }

    /// What a process with this id and these attempts says first.
    pub(crate) fn hello(session: &str, attempts: Vec<AttemptRef>) -> AgentHello {
        AgentHello {
            min_protocol: 1,
            max_protocol: 2,
            session: session.to_owned(),
            capacity: 4,
            backend: "process".to_owned(),
            attempts,
            ..AgentHello::default()
        }
    }

    /// Connects as a process with this id and hears the first word.
    pub(crate) async fn try_connect_as(
        fixture: &Fixture,
        token: &str,
        session: &str,
    ) -> Option<link_response::Message> {
        Self::say_hello(fixture, token, Self::hello(session, Vec::new())).await
    }

    async fn open(fixture: &Fixture, token: &str, hello: AgentHello) -> Result<Self, Status> {
        let mut clients = fixture.clients(token).await;
        let (requests, receiver) = mpsc::channel(64);
        let first = LinkRequest {
            message: Some(Message::Hello(hello)),
        };
        requests.send(first).await.expect("there is space");
        let stream = ReceiverStream::new(receiver);
        let answers = clients.link.link(stream).await?.into_inner();
        Ok(Self {
            clients,
            requests,
            answers,
            sequence: 0,
        })
    }

    /// It has reported this often before, on other streams.
    pub(crate) fn after(&mut self, sequence: i64) {
        self.sequence = sequence;
    }

    pub(crate) async fn say(&self, message: Message) {
        let message = LinkRequest {
            message: Some(message),
        };
        self.requests
            .send(message)
            .await
            .expect("the stream is open");
    }

    pub(crate) async fn hear(&mut self) -> link_response::Message {
        self.try_hear().await.expect("the stream goes on")
    }

    /// The next message, `None` at the end of the stream.
    pub(crate) async fn try_hear(&mut self) -> Option<link_response::Message> {
        let message = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        message.expect("it answers in time").ok()??.message
    }

    /// Asks for one assignment and waits for it.
    pub(crate) async fn work(&mut self) -> Assignment {
        self.say(Message::Credit(Credit {
            slots: 1,
            exempt: 0,
        }))
        .await;
        loop {
            if let link_response::Message::Assignment(work) = self.hear().await {
                return work;
            }
        }
    }

    pub(crate) fn report_of(&mut self, work: &Assignment, phase: Phase) -> AttemptReport {
        self.sequence += 1;
        AttemptReport {
            attempt: work.attempt.clone(),
            epoch: work.epoch,
            sequence: self.sequence,
            phase: phase.into(),
            ..AttemptReport::default()
        }
    }

    /// Reports a phase and waits for the acknowledgement.
    pub(crate) async fn report(&mut self, work: &Assignment, phase: Phase) {
        let report = self.report_of(work, phase);
        self.send_report(report).await;
    }

    pub(crate) async fn send_report(&mut self, report: AttemptReport) {
        let sequence = report.sequence;
        self.say(Message::Report(report)).await;
        loop {
            if let link_response::Message::ReportAck(ack) = self.hear().await {
                assert_eq!(ack.sequence, sequence);
                return;
            }
        }
    }

    /// Reports that every step passed, with this log.
    pub(crate) async fn complete(&mut self, work: &Assignment, log: &[u8]) {
        let report = self.completed(work, log);
        self.send_report(report).await;
    }

    /// The report that every step passed, with this log.
    pub(crate) fn completed(&mut self, work: &Assignment, log: &[u8]) -> AttemptReport {
        let mut report = self.report_of(work, Phase::Completed);
        report.steps = vec![StepResult {
            reference: "s1".to_owned(),
            display_name: "Greet".to_owned(),
            state: step_result::State::Passed.into(),
            exit_code: Some(0),
            tries: 1,
            ..StepResult::default()
        }];
        report.completion = Some(Completion {
            outcome: execution::State::Passed.into(),
            log_size_bytes: i64::try_from(log.len()).expect("short"),
            log_sha256: sha256(log),
            ..Completion::default()
        });
        report
    }

    /// Sends log bytes in chunks of 1,000 from an offset on; returns what is durable at the end.
    pub(crate) async fn log(
        &mut self,
        work: &Assignment,
        from: usize,
        log: &[u8],
    ) -> Result<i64, Status> {
        self.clients.send_log(work, from, log, 0).await
    }

    /// The same for a log of which everything before is not to be had any more.
    pub(crate) async fn log_after(
        &mut self,
        work: &Assignment,
        from: usize,
        log: &[u8],
    ) -> Result<i64, Status> {
        self.clients.send_log(work, from, log, from).await
    }

    pub(crate) async fn artifact(
        &mut self,
        work: &Assignment,
        path: &str,
        data: &[u8],
        sha256: String,
    ) -> Result<UploadArtifactResponse, Status> {
        let header = ArtifactHeader {
            attempt: work.attempt.clone(),
            epoch: work.epoch,
            path: path.to_owned(),
            mode: 0o644,
            step: "s1".to_owned(),
        };
        let footer = ArtifactFooter {
            size_bytes: i64::try_from(data.len()).expect("short"),
            sha256,
        };
        let mut parts = vec![Part::Header(header)];
        parts.extend(
            data.chunks(100_000)
                .map(|data| Part::Data(data.to_vec().into())),
        );
        parts.push(Part::Footer(footer));
        let parts = parts
            .into_iter()
            .map(|part| UploadArtifactRequest { part: Some(part) });
        let stream = tokio_stream::iter(parts.collect::<Vec<_>>());
        Ok(self
            .clients
            .link
            .upload_artifact(stream)
            .await?
            .into_inner())
    }
}

impl Clients {
    /// Sends log bytes in chunks of 1,000 from an offset on; returns what is durable at the end. What
    /// is below `first` is not to be had any more.
    pub(crate) async fn send_log(
        &mut self,
        work: &Assignment,
        from: usize,
        log: &[u8],
        first: usize,
    ) -> Result<i64, Status> {
        let opening = StreamLogRequest {
            attempt: work.attempt.clone(),
            epoch: work.epoch,
            first_offset: i64::try_from(first).expect("short"),
            ..StreamLogRequest::default()
        };
        let mut messages = vec![opening.clone()];
        let mut offset = from;
        for data in log.chunks(1000) {
            let chunk = LogChunk {
                offset: i64::try_from(offset).expect("short"),
                data: data.to_vec().into(),
                step: "s1".to_owned(),
                ..LogChunk::default()
            };
            offset += data.len();
            messages.push(StreamLogRequest {
                chunks: vec![chunk],
                first_offset: 0,
                ..opening.clone()
            });
        }
        let stream = tokio_stream::iter(messages);
        let mut answers = self.link.stream_log(stream).await?.into_inner();
        let mut durable = 0;
        while let Some(answer) = answers.message().await? {
            durable = answer.durable_offset;
        }
        Ok(durable)
    }
}
