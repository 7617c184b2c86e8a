//! `muster.v1.AgentLinkService`: the agents' streams.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use muster_core::execution::{Lease, Stop};
use muster_proto::v1::{
    ArtifactFooter, ArtifactHeader, BeginDirectUploadRequest, BeginDirectUploadResponse,
    EndDirectUploadRequest, EndDirectUploadResponse, JudgeStepRequest, JudgeStepResponse,
    LinkRequest, LinkResponse, MissArtifactsRequest, MissArtifactsResponse, ReadArchiveRequest,
    ReadArchiveResponse, ReadCredentialRequest, ReadCredentialResponse, ReadDurationsRequest,
    ReadDurationsResponse, ResumeChildrenRequest, ResumeChildrenResponse, ResumeUploadRequest,
    ResumeUploadResponse, SelectWorkflowsRequest, SelectWorkflowsResponse, StartChildrenRequest,
    StartChildrenResponse, StopChildrenRequest, StopChildrenResponse, StreamLogRequest,
    StreamLogResponse, UploadArtifactRequest, UploadArtifactResponse, UploadKept,
    WatchChildrenRequest, WatchChildrenResponse, agent_link_service_server::AgentLinkService,
    resume_upload_request, resume_upload_response::Told, upload_artifact_request::Part,
};
use muster_storage::{agent::Agent, artifact::Artifact};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, Api, auth, children, convert};
use crate::{
    app::{App, Error, Values},
    link::{direct::Given, session, upload::Upload},
};

/// Longest time that log bytes wait to become durable.
const FLUSH: Duration = Duration::from_secs(1);
/// How long a silent stream waits before what it sent becomes durable.
const IDLE_FLUSH: Duration = Duration::from_millis(100);

#[tonic::async_trait]
impl AgentLinkService for Api {
    type LinkStream = Answers<LinkResponse>;

    async fn link(
        &self,
        request: Request<Streaming<LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let token_hash = auth::token_hash(request.metadata())?;
        let (agent, requests) = self.authenticate_agent(request).await?;
        let answers = session::serve(&self.app, agent, token_hash, requests);
        Ok(Response::new(Box::pin(
            ReceiverStream::new(answers).map(Ok),
        )))
    }

    type StreamLogStream = Answers<StreamLogResponse>;

    async fn stream_log(
        &self,
        request: Request<Streaming<StreamLogRequest>>,
    ) -> Result<Response<Self::StreamLogStream>, Status> {
        let (agent, requests) = self.authenticate_agent(request).await?;
        let (sender, answers) = mpsc::channel(16);
        let app = Arc::clone(&self.app);
        self.app.tasks.spawn(async move {
            if let Err(error) = take_log(&app, &agent, requests, &sender).await {
                // The agent may be gone, which is no news.
                let _gone = sender.send(Err(error)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn upload_artifact(
        &self,
        request: Request<Streaming<UploadArtifactRequest>>,
    ) -> Result<Response<UploadArtifactResponse>, Status> {
        let (agent, parts) = self.authenticate_agent(request).await?;
        let mut parts = parts.map(|message| Ok(message?.part));
        let header = next_header(&mut parts).await?;
        let upload = self.app.begin_artifact(agent.id, header).await?;
        // On a task of its own: an agent that goes away takes this call with it, and not the note of
        // what is missing then.
        let taking = self
            .app
            .tasks
            .spawn(take_artifact(Arc::clone(&self.app), upload, parts));
        let name = taking
            .await
            .map_err(|error| Error::Internal(error.into()))??;
        Ok(Response::new(UploadArtifactResponse { name }))
    }

    async fn miss_artifacts(
        &self,
        request: Request<MissArtifactsRequest>,
    ) -> Result<Response<MissArtifactsResponse>, Status> {
        let (agent, message) = self.authenticate_agent(request).await?;
        let lease = children::lease(&message.attempt, message.epoch)?;
        self.app
            .miss_artifacts(agent.id, lease, &message.step, message.files)
            .await?;
        Ok(Response::new(MissArtifactsResponse {}))
    }

    type ResumeUploadStream = Answers<ResumeUploadResponse>;

    async fn resume_upload(
        &self,
        request: Request<Streaming<ResumeUploadRequest>>,
    ) -> Result<Response<Self::ResumeUploadStream>, Status> {
        let (agent, parts) = self.authenticate_agent(request).await?;
        let mut parts = parts.map(|message| Ok(message?.part.map(same_part)));
        let header = next_header(&mut parts).await?;
        let upload = self.app.resume_artifact(agent.id, header).await?;
        let (size, sha256) = upload.kept();
        let kept = Told::Kept(UploadKept {
            size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
            sha256,
        });
        let (sender, answers) = mpsc::channel(1);
        let app = Arc::clone(&self.app);
        self.app.tasks.spawn(async move {
            let say = |told: Result<Told, Status>| {
                let answer = |told| ResumeUploadResponse { told: Some(told) };
                sender.send(told.map(answer))
            };
            // The agent may be gone, which is no news.
            let _gone = say(Ok(kept)).await;
            let taken = take_artifact(app, upload, parts).await;
            let _gone = say(taken.map(Told::Name)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn start_children(
        &self,
        request: Request<StartChildrenRequest>,
    ) -> Result<Response<StartChildrenResponse>, Status> {
        let (agent, message) = self.authenticate_agent(request).await?;
        let lease = children::lease(&message.attempt, message.epoch)?;
        let start = children::read_start(message)?;
        let children = self.app.start_children(&agent, lease, start).await?;
        Ok(Response::new(StartChildrenResponse {
            children: children.iter().map(children::status).collect(),
        }))
    }

    type WatchChildrenStream = Answers<WatchChildrenResponse>;

    async fn watch_children(
        &self,
        request: Request<WatchChildrenRequest>,
    ) -> Result<Response<Self::WatchChildrenStream>, Status> {
        let (agent, message) = self.authenticate_agent(request).await?;
        let lease = children::lease(&message.attempt, message.epoch)?;
        let watch = children::watch(Arc::clone(&self.app), agent, lease);
        Ok(Response::new(Box::pin(watch)))
    }

    async fn stop_children(
        &self,
        request: Request<StopChildrenRequest>,
    ) -> Result<Response<StopChildrenResponse>, Status> {
        let (agent, message) = self.authenticate_agent(request).await?;
        let lease = children::lease(&message.attempt, message.epoch)?;
        let stop = if message.force {
            Stop::Forced
        } else {
            Stop::Orderly
        };
        let (group, indices) = (&message.group, &message.indices);
        self.app
            .stop_children(&agent, lease, group, indices, stop, &message.message)
            .await?;
        Ok(Response::new(StopChildrenResponse {}))
    }

    async fn resume_children(
        &self,
        request: Request<ResumeChildrenRequest>,
    ) -> Result<Response<ResumeChildrenResponse>, Status> {
        let (agent, message) = self.authenticate_agent(request).await?;
        let lease = children::lease(&message.attempt, message.epoch)?;
        self.app
            .resume_children(&agent, lease, &message.group, &message.indices)
            .await?;
        Ok(Response::new(ResumeChildrenResponse {}))
    }

    async fn select_workflows(
        &self,
        request: Request<SelectWorkflowsRequest>,
    ) -> Result<Response<SelectWorkflowsResponse>, Status> {
        let (agent, message) = self.authenticate_agent(request).await?;
        let lease = children::lease(&message.attempt, message.epoch)?;
        let labels = message.match_labels.into_iter().collect();
        let requirements = children::read_requirements(message.match_expressions);
        let workflows = self
            .app
            .select_workflows(&agent, lease, &labels, &requirements)
            .await?;
        Ok(Response::new(SelectWorkflowsResponse { workflows }))
    }

    type ReadArchiveStream = Answers<ReadArchiveResponse>;

    async fn read_archive(
        &self,
        request: Request<ReadArchiveRequest>,
    ) -> Result<Response<Self::ReadArchiveStream>, Status> {
        let (agent, message) = self.authenticate_agent(request).await?;
        let lease = children::lease(&message.attempt, message.epoch)?;
        let execution = children::execution(&message.execution)?;
        let pieces = self
            .app
            .read_archive(&agent, lease, execution, &message.path)
            .await?;
        let answers = pieces.map(|piece| match piece {
            Ok(data) => Ok(ReadArchiveResponse { data }),
            Err(error) => Err(Status::from(error)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn read_credential(
        &self,
        request: Request<ReadCredentialRequest>,
    ) -> Result<Response<ReadCredentialResponse>, Status> {
        let call = auth::call(request.extensions());
        let (agent, message) = self.authenticate_agent(request).await?;
        let lease = children::lease(&message.attempt, message.epoch)?;
        let value = self
            .app
            .read_credential(&call, &agent, lease, &message.credential)
            .await?;
        Ok(Response::new(ReadCredentialResponse { value }))
    }

    async fn read_durations(
        &self,
        request: Request<Streaming<ReadDurationsRequest>>,
    ) -> Result<Response<ReadDurationsResponse>, Status> {
        let (agent, mut parts) = self.authenticate_agent(request).await?;
        let mut values = Values::default();
        let mut lease = None;
        while let Some(part) = parts.message().await? {
            if lease.is_none() {
                lease = Some(children::lease(&part.attempt, part.epoch)?);
            }
            values.take(part.values)?;
        }
        let lease = lease.ok_or_else(|| Error::invalid("attempt", "is missing"))?;
        let known = self.app.read_durations(&agent, lease, values).await?;
        let millis =
            |known: Option<u64>| known.map_or(-1, |known| i64::try_from(known).unwrap_or(-1));
        Ok(Response::new(ReadDurationsResponse {
            durations_ms: known.millis.into_iter().map(millis).collect(),
            runs: u32::try_from(known.runs).unwrap_or(u32::MAX),
        }))
    }

    async fn judge_step(
        &self,
        request: Request<JudgeStepRequest>,
    ) -> Result<Response<JudgeStepResponse>, Status> {
        let (agent, message) = self.authenticate_agent(request).await?;
        let lease = children::lease(&message.attempt, message.epoch)?;
        let stale: HashSet<String> = message.stale.into_iter().collect();
        let judged = self
            .app
            .judge_step(&agent, lease, &message.step, &stale, message.ahead)
            .await?;
        Ok(Response::new(JudgeStepResponse {
            forgiven: judged.forgiven,
            open: judged.open,
            message: judged.message,
        }))
    }

    async fn begin_direct_upload(
        &self,
        request: Request<BeginDirectUploadRequest>,
    ) -> Result<Response<BeginDirectUploadResponse>, Status> {
        let (agent, message) = self.authenticate_agent(request).await?;
        let (header, footer) = both(message.header, message.footer)?;
        let given = self
            .app
            .begin_direct_upload(agent.id, header, &footer)
            .await?;
        let answer = given.map(|given| direct(given, message.has_authorities));
        Ok(Response::new(answer.unwrap_or_default()))
    }

    async fn end_direct_upload(
        &self,
        request: Request<EndDirectUploadRequest>,
    ) -> Result<Response<EndDirectUploadResponse>, Status> {
        let (agent, message) = self.authenticate_agent(request).await?;
        let (header, footer) = both(message.header, message.footer)?;
        let artifact = self
            .app
            .end_direct_upload(agent.id, header, &footer, message.key)
            .await?;
        let name = name_of(&self.app, &artifact).await?;
        Ok(Response::new(EndDirectUploadResponse { name }))
    }
}

/// What is told of an artifact that does not come.
fn both(
    header: Option<ArtifactHeader>,
    footer: Option<ArtifactFooter>,
) -> Result<(ArtifactHeader, ArtifactFooter), Error> {
    let header = header.ok_or_else(|| Error::invalid("header", "is missing"))?;
    let footer = footer.ok_or_else(|| Error::invalid("footer", "is missing"))?;
    Ok((header, footer))
}

fn direct(given: Given, has_authorities: bool) -> BeginDirectUploadResponse {
    let headers = given.grant.headers.into_iter();
    BeginDirectUploadResponse {
        url: given.grant.url,
        headers: headers
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        authorities: match has_authorities {
            true => Bytes::new(),
            false => given.authorities,
        },
        key: given.key,
        expire_time: Some(convert::timestamp(given.grant.expire_time)),
    }
}

/// The resource name of an artifact.
async fn name_of(app: &App, artifact: &Artifact) -> Result<String, Error> {
    let project = app.project_name(artifact.project).await?;
    Ok(format!(
        "projects/{project}/executions/{}/artifacts/{}",
        artifact.execution, artifact.id
    ))
}

/// Takes an artifact in to its end. Returns its name.
async fn take_artifact(
    app: Arc<App>,
    mut upload: Upload,
    mut parts: impl Stream<Item = NextPart> + Unpin,
) -> Result<String, Status> {
    let stop = upload.stop();
    loop {
        let next = tokio::select! {
            next = next_part(&mut parts) => next,
            () = stop.cancelled() => Err(Status::aborted("a newer call goes on with this upload")),
        };
        match next {
            Ok(Some(Part::Data(data))) => {
                if let Some(words) = upload.is_too_long(data.len()).map(str::to_owned) {
                    app.give_up(upload, "TOO_LARGE", &words).await;
                    return Err(Error::invalid("data", words).into());
                }
                if let Err(error) = upload.write(data).await {
                    let words = "it could not be stored";
                    app.give_up(upload, "STORAGE", words).await;
                    return Err(error.into());
                }
            }
            Ok(Some(Part::Footer(footer))) => {
                let artifact = app.end_artifact(upload, &footer).await?;
                return Ok(name_of(&app, &artifact).await?);
            }
            Ok(Some(Part::Header(_)) | None) => {
                app.interrupt(upload, "its end did not come").await;
                return Err(Error::invalid("part", "the footer is missing").into());
            }
            Err(broken) => {
                let words = "the connection of its pod or its agent broke before its end";
                app.interrupt(upload, words).await;
                return Err(broken);
            }
        }
    }
}

/// The next part of an artifact; none at the end of its stream.
type NextPart = Result<Option<Part>, Status>;

async fn next_part(parts: &mut (impl Stream<Item = NextPart> + Unpin)) -> NextPart {
    parts.next().await.unwrap_or(Ok(None))
}

async fn next_header(
    parts: &mut (impl Stream<Item = NextPart> + Unpin),
) -> Result<ArtifactHeader, Status> {
    match next_part(parts).await? {
        Some(Part::Header(header)) => Ok(header),
        _ => Err(Error::invalid("part", "the first message must be the header").into()),
    }
}

/// A part of an upload that goes on is one like those of any other.
fn same_part(part: resume_upload_request::Part) -> Part {
    match part {
        resume_upload_request::Part::Header(header) => Part::Header(header),
        resume_upload_request::Part::Data(data) => Part::Data(data),
        resume_upload_request::Part::Footer(footer) => Part::Footer(footer),
    }
}

/// Takes a log in until its stream ends; what was taken is durable then.
async fn take_log(
    app: &App,
    agent: &Agent,
    mut requests: Streaming<StreamLogRequest>,
    answers: &mpsc::Sender<Result<StreamLogResponse, Status>>,
) -> Result<(), Status> {
    let Some(first) = requests.message().await? else {
        return Ok(());
    };
    let attempt = first
        .attempt
        .parse()
        .map_err(|error| Error::invalid("attempt", format!("{error}")))?;
    let lease = Lease {
        attempt,
        epoch: first.epoch,
    };
    let (log, mut pace) = app.open_log(agent.id, lease, first.first_offset).await?;
    let tell = |durable| {
        answers.send(Ok(StreamLogResponse {
            durable_offset: durable,
        }))
    };
    let mut told = log.lock().await.durable();
    if tell(told).await.is_err() {
        return Ok(());
    }
    let mut waiting_since: Option<Instant> = None;
    let mut read_at = None;
    let drain = app.link.drain.clone();
    loop {
        let now = Instant::now();
        let deadline = match waiting_since {
            Some(since) => (since + FLUSH).min(now + IDLE_FLUSH),
            None => now + Duration::from_secs(3600),
        };
        let message = tokio::select! {
            // Not before its pace allows it: what is not read makes the agent wait, and its test.
            message = async {
                if let Some(at) = read_at {
                    tokio::time::sleep_until(at).await;
                }
                requests.message().await
            } => Some(message),
            () = tokio::time::sleep_until(deadline) => None,
            // This server stops: what is here is kept, the rest goes to another one.
            () = drain.cancelled() => {
                let mut log = log.lock().await;
                log.flush(app).await?;
                let _gone = tell(log.durable()).await;
                return Err(Error::Stopping.into());
            }
        };
        let mut log = log.lock().await;
        let mut flush = message.is_none();
        let mut ended = false;
        match message {
            Some(Ok(Some(message))) => {
                let size = message.chunks.iter().map(|chunk| chunk.data.len()).sum();
                read_at = pace.take(size, Instant::now());
                for chunk in message.chunks {
                    log.take(chunk, app)?;
                }
                if log.is_waiting() {
                    waiting_since.get_or_insert(now);
                }
                flush |= log.is_full();
            }
            // The agent says that this is all, or it is gone: what is here is kept.
            Some(Ok(None) | Err(_)) => ended = true,
            None => {}
        }
        if flush || ended {
            log.flush(app).await?;
            waiting_since = None;
        }
        if log.durable() > told || ended {
            told = log.durable();
            if tell(told).await.is_err() {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
    }
}
