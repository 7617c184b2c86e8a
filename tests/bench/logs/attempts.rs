//! Simulated attempts that run nothing and print what they are told.

use std::{ops::Range, time::Duration};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use muster_proto::v1::{
    AgentHello, AttemptRef, AttemptReport, Completion, CreateAgentRequest, CreateExecutionRequest,
    Credit, InlineWorkflow, LinkRequest, LogChunk, RenewLeases, StreamLogRequest,
    StreamLogResponse, agent_link_service_client::AgentLinkServiceClient, attempt_report::Phase,
    create_execution_request::Source, execution::State, link_request::Message, link_response,
};
use muster_tests::{control_plane::ControlPlane, run::PROJECT};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

/// Logs that share a connection.
const SHARED: usize = 50;
/// How often leases are renewed.
const RENEW: Duration = Duration::from_secs(8);

const WORKFLOW: &str = "\
apiVersion: testworkflows.testkube.io/v1
kind: TestWorkflow
metadata:
  name: logs
spec:
  execution:
    target:
      match:
        kind: [KIND]
  steps:
  - name: Print
    shell: 'true'
";

/// All attempts of one agent.
pub(super) struct Attempts {
    pub(super) all: Vec<Attempt>,
    link: mpsc::Sender<LinkRequest>,
}

/// One attempt.
pub(super) struct Attempt {
    id: String,
    epoch: i64,
    execution: String,
    channel: Channel,
    token: MetadataValue<Ascii>,
}

impl Attempts {
    /// Makes an agent and that many executions, and lets it take them.
    pub(super) async fn start(
        server: &ControlPlane,
        kind: &str,
        count: usize,
    ) -> anyhow::Result<Self> {
        let request = CreateAgentRequest {
            agent_id: kind.to_owned(),
            ..CreateAgentRequest::default()
        };
        let made = server.client.agents().create_agent(request).await?;
        let token: MetadataValue<Ascii> = format!("Bearer {}", made.into_inner().token).parse()?;
        let channel = Endpoint::from_shared(server.url.clone())?.connect_lazy();
        let (link, requests) = mpsc::channel(64);
        let slots = u32::try_from(count)?;
        let hello = AgentHello {
            min_protocol: 1,
            max_protocol: 1,
            session: uuid::Uuid::now_v7().to_string(),
            capacity: slots,
            backend: "process".to_owned(),
            labels: [("kind".to_owned(), kind.to_owned())].into(),
            ..AgentHello::default()
        };
        link.send(said(Message::Hello(hello))).await?;
        let mut call = Request::new(ReceiverStream::new(requests));
        call.metadata_mut().insert("authorization", token.clone());
        let mut answers = AgentLinkServiceClient::new(channel)
            .link(call)
            .await?
            .into_inner();
        link.send(said(Message::Credit(Credit { slots, exempt: 0 })))
            .await?;
        let manifest = WORKFLOW.replace("KIND", kind);
        for _ in 0..count {
            let request = CreateExecutionRequest {
                parent: PROJECT.to_owned(),
                source: Some(Source::Inline(InlineWorkflow {
                    manifest: manifest.clone(),
                    ..InlineWorkflow::default()
                })),
                ..CreateExecutionRequest::default()
            };
            server.client.executions().create_execution(request).await?;
        }
        let mut all: Vec<Attempt> = Vec::with_capacity(count);
        let mut channel = None;
        while all.len() < count {
            let answer = answers.message().await?.context("the link ended")?;
            let Some(link_response::Message::Assignment(work)) = answer.message else {
                continue;
            };
            if all.len().is_multiple_of(SHARED) {
                channel = Some(Endpoint::from_shared(server.url.clone())?.connect_lazy());
            }
            let running = report(&work.attempt, work.epoch, 1, Phase::Running);
            link.send(said(Message::Report(running))).await?;
            all.push(Attempt {
                id: work.attempt,
                epoch: work.epoch,
                execution: format!("{PROJECT}/executions/{}", work.execution),
                channel: channel.clone().context("a channel")?,
                token: token.clone(),
            });
        }
        let held = all.iter().map(|attempt| AttemptRef {
            attempt: attempt.id.clone(),
            epoch: attempt.epoch,
        });
        tokio::spawn(renew(link.clone(), held.collect()));
        tokio::spawn(async move { while let Ok(Some(_)) = answers.message().await {} });
        Ok(Self { all, link })
    }

    /// Ends all, whose logs are `each` pieces; returns the first execution.
    pub(super) async fn end_all(&self, text: &Bytes, each: usize) -> anyhow::Result<String> {
        let mut digest = Sha256::new();
        for number in 0..each {
            digest.update(super::piece(text, number));
        }
        let sha256: String = digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        for attempt in &self.all {
            let ended = AttemptReport {
                completion: Some(Completion {
                    outcome: State::Passed.into(),
                    log_size_bytes: i64::try_from(each * super::CHUNK)?,
                    log_sha256: sha256.clone(),
                    ..Completion::default()
                }),
                ..report(&attempt.id, attempt.epoch, 2, Phase::Completed)
            };
            self.link.send(said(Message::Report(ended))).await?;
        }
        let first = self.all.first().context("an attempt")?;
        Ok(first.execution.clone())
    }
}

async fn renew(link: mpsc::Sender<LinkRequest>, attempts: Vec<AttemptRef>) {
    for sequence in 1.. {
        tokio::time::sleep(RENEW).await;
        let attempts = attempts.clone();
        let renew = RenewLeases { sequence, attempts };
        if link.send(said(Message::Renew(renew))).await.is_err() {
            return;
        }
    }
}

fn said(message: Message) -> LinkRequest {
    LinkRequest {
        message: Some(message),
    }
}

fn report(attempt: &str, epoch: i64, sequence: i64, phase: Phase) -> AttemptReport {
    AttemptReport {
        attempt: attempt.to_owned(),
        epoch,
        sequence,
        phase: phase.into(),
        ..AttemptReport::default()
    }
}

impl Attempt {
    /// Writes these pieces, as fast as they are taken, behind those that are durable already, and waits until
    /// all are.
    pub(super) async fn write(&self, text: &Bytes, pieces: Range<usize>) -> anyhow::Result<()> {
        let (sender, mut answers) = self.open(pieces.start * super::CHUNK).await?;
        let (text, opening, end) = (text.clone(), self.opening(), pieces.end);
        let sending = tokio::spawn(async move {
            for number in pieces {
                let offset = i64::try_from(number * super::CHUNK).unwrap_or(0);
                let request = chunk(&opening, offset, super::piece(&text, number));
                if sender.send(request).await.is_err() {
                    return;
                }
            }
        });
        wait(&mut answers, end * super::CHUNK).await?;
        sending.await?;
        Ok(())
    }

    /// Writes so many bytes four times a second, and waits until all are durable.
    pub(super) async fn trickle(
        &self,
        text: &Bytes,
        size: usize,
        seconds: u64,
    ) -> anyhow::Result<()> {
        let (sender, mut answers) = self.open(0).await?;
        let (text, opening) = (text.clone(), self.opening());
        let pieces = usize::try_from(seconds * 4)?;
        let sending = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(250));
            for number in 0..pieces {
                ticks.tick().await;
                let offset = i64::try_from(number * size).unwrap_or(0);
                let data = super::piece(&text, number).slice(..size);
                if sender.send(chunk(&opening, offset, data)).await.is_err() {
                    return;
                }
            }
        });
        wait(&mut answers, pieces * size).await?;
        sending.await?;
        Ok(())
    }

    async fn open(
        &self,
        durable: usize,
    ) -> anyhow::Result<(mpsc::Sender<StreamLogRequest>, Streaming<StreamLogResponse>)> {
        let (sender, requests) = mpsc::channel(2);
        sender.send(self.opening()).await?;
        let mut call = Request::new(ReceiverStream::new(requests));
        call.metadata_mut()
            .insert("authorization", self.token.clone());
        let mut answers = AgentLinkServiceClient::new(self.channel.clone())
            .stream_log(call)
            .await?
            .into_inner();
        let first = answers.message().await?.context("an answer")?;
        let found = usize::try_from(first.durable_offset)?;
        ensure!(found == durable, "{found} bytes are durable, not {durable}");
        Ok((sender, answers))
    }

    fn opening(&self) -> StreamLogRequest {
        StreamLogRequest {
            attempt: self.id.clone(),
            epoch: self.epoch,
            ..StreamLogRequest::default()
        }
    }
}

fn chunk(opening: &StreamLogRequest, offset: i64, data: Bytes) -> StreamLogRequest {
    let chunk = LogChunk {
        offset,
        data,
        step: "s1".to_owned(),
        ..LogChunk::default()
    };
    StreamLogRequest {
        chunks: vec![chunk],
        ..opening.clone()
    }
}

async fn wait(answers: &mut Streaming<StreamLogResponse>, size: usize) -> anyhow::Result<()> {
    let size = i64::try_from(size)?;
    while let Some(answer) = answers.message().await? {
        if answer.durable_offset >= size {
            return Ok(());
        }
    }
    bail!("the stream ended before all was durable")
}
