//! `muster.v1.ExecutionService`.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use muster_core::{execution::Stop, id::ExecutionId};
use muster_proto::v1::{
    BatchCreateExecutionsRequest, BatchCreateExecutionsResponse, CancelExecutionRequest,
    CancelExecutionResponse, CreateExecutionError, CreateExecutionRequest, CreateExecutionResponse,
    CreateExecutionResult, DeleteExecutionRequest, DeleteExecutionResponse, Execution,
    ExplainExecutionRequest, ExplainExecutionResponse, GetExecutionRequest, GetExecutionResponse,
    GetExecutionWorkflowRequest, GetExecutionWorkflowResponse, ListExecutionEventsRequest,
    ListExecutionEventsResponse, ListExecutionsRequest, ListExecutionsResponse,
    PauseExecutionRequest, PauseExecutionResponse, PinExecutionRequest, PinExecutionResponse,
    ResumeExecutionRequest, ResumeExecutionResponse, UnpinExecutionRequest, UnpinExecutionResponse,
    WatchExecutionRequest, WatchExecutionResponse, create_execution_request::Source as WireSource,
    create_execution_result, execution_service_server::ExecutionService,
};
use muster_spec::compile::Undeclared;
use tonic::{Code, Request, Response, Status};

use super::{Answers, Api, convert, filter, name, page, request::Content, retention};
use crate::app::{App, Caller, Error, NewRun, REPLICAS, Source};

/// How often a watcher looks without a word from anybody: another replica may write.
const POLL: Duration = Duration::from_secs(2);
/// Most runs of one call.
const MOST_RUNS: usize = 100;

#[tonic::async_trait]
impl ExecutionService for Api {
    async fn create_execution(
        &self,
        request: Request<CreateExecutionRequest>,
    ) -> Result<Response<CreateExecutionResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        Ok(Response::new(create(&self.app, &caller, message).await?))
    }

    async fn batch_create_executions(
        &self,
        request: Request<BatchCreateExecutionsRequest>,
    ) -> Result<Response<BatchCreateExecutionsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        name::project("parent", &message.parent)?;
        let count = message.requests.len();
        if count == 0 || count > MOST_RUNS {
            let text = format!("{count} runs: give 1 to {MOST_RUNS}");
            return Err(Error::invalid("requests", text).into());
        }
        // The first word counts: the audit log is told the same of all runs, which is one call.
        Content::new("BatchCreateExecutions")
            .on(executions(&message.parent))
            .note("runs", count.to_string())
            .request(&caller, "")?;
        let (caller, parent) = (&caller, &message.parent);
        let results = message.requests.into_iter().map(async |mut run| {
            if run.parent.is_empty() {
                run.parent.clone_from(parent);
            }
            let created = match run.parent == *parent {
                true => Box::pin(create(&self.app, caller, run)).await,
                false => Err(Error::invalid("parent", "must be that of all")),
            };
            result(created)
        });
        let results = join_all(results).await;
        self.note_refused_runs(caller, &results).await;
        Ok(Response::new(BatchCreateExecutionsResponse { results }))
    }

    async fn get_execution(
        &self,
        request: Request<GetExecutionRequest>,
    ) -> Result<Response<GetExecutionResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, id] = name::execution("name", &message.name)?;
        let found = self.app.get_execution(&caller, project, id).await?;
        Ok(Response::new(GetExecutionResponse {
            execution: Some(convert::details(project, found)),
        }))
    }

    async fn explain_execution(
        &self,
        request: Request<ExplainExecutionRequest>,
    ) -> Result<Response<ExplainExecutionResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, id] = name::execution("name", &message.name)?;
        let explained = self.app.explain_execution(&caller, project, id).await?;
        Ok(Response::new(convert::explanation(project, explained)))
    }

    async fn get_execution_workflow(
        &self,
        request: Request<GetExecutionWorkflowRequest>,
    ) -> Result<Response<GetExecutionWorkflowResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, id] = name::execution("name", &message.name)?;
        let manifest = self
            .app
            .get_execution_workflow(&caller, project, id)
            .await?;
        Ok(Response::new(GetExecutionWorkflowResponse { manifest }))
    }

    async fn list_executions(
        &self,
        request: Request<ListExecutionsRequest>,
    ) -> Result<Response<ListExecutionsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let project = name::project("parent", &message.parent)?;
        let mut filter = filter::read(&message)?;
        if !message.parent_execution.is_empty() {
            let [of, id] = name::execution("parent_execution", &message.parent_execution)?;
            if of != project {
                let text = "must be in the project of `parent`";
                return Err(Error::invalid("parent_execution", text).into());
            }
            let parent = self.app.get_execution(&caller, project, id).await?;
            filter.parent = Some(parent.execution.id);
        }
        let shown = format!("{filter:?}");
        // By its words: which tests they find may change from page to page.
        let list = page::List::new(&["ListExecutions", project, &shown, &message.test]);
        if !message.test.is_empty() {
            let tests = self.app.tests_named(&caller, project, &message.test);
            filter.tests = Some(tests.await?);
        }
        let after: Option<ExecutionId> = list.after(&message.page_token)?;
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_executions(&caller, project, &filter, after, limit)
            .await?;
        Ok(Response::new(ListExecutionsResponse {
            next_page_token: list.token(page.next),
            executions: page
                .items
                .into_iter()
                .map(|record| convert::execution(project, record))
                .collect(),
        }))
    }

    async fn cancel_execution(
        &self,
        request: Request<CancelExecutionRequest>,
    ) -> Result<Response<CancelExecutionResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, id] = name::execution("name", &message.name)?;
        let stop = if message.force {
            Stop::Forced
        } else {
            Stop::Orderly
        };
        let request = Content::new("CancelExecution")
            .on(&message.name)
            .field(&message.name)
            .field([u8::from(message.force)])
            .note("force", message.force.to_string())
            .input("message", &message.message)
            .request(&caller, &message.request_id)?;
        let canceled = self
            .app
            .cancel_execution(
                &caller,
                project,
                id,
                stop,
                &message.message,
                request.as_ref(),
            )
            .await?;
        Ok(Response::new(CancelExecutionResponse {
            execution: Some(convert::details(project, canceled)),
        }))
    }

    async fn pause_execution(
        &self,
        request: Request<PauseExecutionRequest>,
    ) -> Result<Response<PauseExecutionResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, id] = name::execution("name", &message.name)?;
        let request = Content::new("PauseExecution")
            .on(&message.name)
            .field(&message.name)
            .input("message", &message.message)
            .request(&caller, &message.request_id)?;
        let paused = self
            .app
            .pause_execution(&caller, project, id, &message.message, request.as_ref())
            .await?;
        Ok(Response::new(PauseExecutionResponse {
            execution: Some(convert::details(project, paused)),
        }))
    }

    async fn resume_execution(
        &self,
        request: Request<ResumeExecutionRequest>,
    ) -> Result<Response<ResumeExecutionResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, id] = name::execution("name", &message.name)?;
        let request = Content::new("ResumeExecution")
            .on(&message.name)
            .field(&message.name)
            .request(&caller, &message.request_id)?;
        let resumed = self
            .app
            .resume_execution(&caller, project, id, request.as_ref())
            .await?;
        Ok(Response::new(ResumeExecutionResponse {
            execution: Some(convert::details(project, resumed)),
        }))
    }

    async fn pin_execution(
        &self,
        request: Request<PinExecutionRequest>,
    ) -> Result<Response<PinExecutionResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let parts = name::execution("name", &message.name)?;
        retention::check_message("message", &message.message)?;
        let request = Content::new("PinExecution")
            .on(&message.name)
            .field(&message.name)
            .input("message", &message.message)
            .request(&caller, &message.request_id)?;
        let pinned = self
            .app
            .pin_execution(&caller, parts, &message.message, request.as_ref())
            .await?;
        Ok(Response::new(PinExecutionResponse {
            execution: Some(convert::details(parts[0], pinned)),
        }))
    }

    async fn unpin_execution(
        &self,
        request: Request<UnpinExecutionRequest>,
    ) -> Result<Response<UnpinExecutionResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let parts = name::execution("name", &message.name)?;
        let request = Content::new("UnpinExecution")
            .on(&message.name)
            .field(&message.name)
            .request(&caller, &message.request_id)?;
        let free = self
            .app
            .unpin_execution(&caller, parts, request.as_ref())
            .await?;
        Ok(Response::new(UnpinExecutionResponse {
            execution: Some(convert::details(parts[0], free)),
        }))
    }

    async fn delete_execution(
        &self,
        request: Request<DeleteExecutionRequest>,
    ) -> Result<Response<DeleteExecutionResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let parts = name::execution("name", &message.name)?;
        let request = Content::new("DeleteExecution")
            .on(&message.name)
            .field(&message.name)
            .field([u8::from(message.force)])
            .note("force", message.force.to_string())
            .request(&caller, &message.request_id)?;
        let deleted = self
            .app
            .delete_execution(&caller, parts, message.force, request.as_ref())
            .await?;
        let response = deleted.map(|deleted| DeleteExecutionResponse {
            executions: retention::signed(deleted.ids.len() as u64),
            log_bytes: retention::signed(deleted.log_bytes),
            artifact_bytes: retention::signed(deleted.artifact_bytes),
        });
        Ok(Response::new(response.unwrap_or_default()))
    }

    type WatchExecutionStream = Answers<WatchExecutionResponse>;

    async fn watch_execution(
        &self,
        request: Request<WatchExecutionRequest>,
    ) -> Result<Response<Self::WatchExecutionStream>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, id] = name::execution("name", &message.name)?;
        // Asked once here, so that a wrong name is an error of the call and not of the stream.
        self.app.get_execution(&caller, project, id).await?;
        let watch = watch(
            Arc::clone(&self.app),
            caller,
            project.to_owned(),
            id.to_owned(),
        );
        Ok(Response::new(Box::pin(watch)))
    }

    async fn list_execution_events(
        &self,
        request: Request<ListExecutionEventsRequest>,
    ) -> Result<Response<ListExecutionEventsResponse>, Status> {
        let (caller, message) = self.authenticate(request).await?;
        let [project, id] = name::execution("parent", &message.parent)?;
        let list = page::List::new(&["ListExecutionEvents", project, id]);
        let after = list.after(&message.page_token)?.unwrap_or(0);
        let limit = page::size(message.page_size)?;
        let page = self
            .app
            .list_execution_events(&caller, project, id, after, limit)
            .await?;
        Ok(Response::new(ListExecutionEventsResponse {
            next_page_token: list.token(page.next),
            events: page.items.into_iter().map(convert::event).collect(),
        }))
    }
}

/// The execution now and after every change, until it is terminal and its log has ended.
fn watch(
    app: Arc<App>,
    caller: Caller,
    project: String,
    id: String,
) -> impl futures::Stream<Item = Result<WatchExecutionResponse, Status>> {
    struct Watch {
        app: Arc<App>,
        caller: Caller,
        project: String,
        id: String,
        changes: Option<tokio::sync::watch::Receiver<u64>>,
        sent: Option<i64>,
        done: bool,
    }
    let watch = Watch {
        app,
        caller,
        project,
        id,
        changes: None,
        sent: None,
        done: false,
    };
    futures::stream::try_unfold(watch, |mut watch| async move {
        loop {
            if watch.done {
                return Ok(None);
            }
            if let Some(changes) = &mut watch.changes {
                tokio::select! {
                    // The sender lives in the hub, as long as the server.
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(POLL) => {}
                    () = watch.app.link.drain.cancelled() => {
                        return Err(Error::Stopping.into());
                    }
                }
            }
            let found = watch
                .app
                .get_execution(&watch.caller, &watch.project, &watch.id)
                .await?;
            if watch.changes.is_none() {
                // From here on no change is missed; look once more, since one may have been.
                watch.changes = Some(watch.app.hub.watch_execution(found.execution.id));
                if let Some(changes) = &mut watch.changes {
                    changes.mark_changed();
                }
            }
            let revision = found.execution.revision;
            if watch.sent == Some(revision) {
                continue;
            }
            watch.sent = Some(revision);
            watch.done = found.execution.state().is_terminal() && log_has_ended(&found);
            let execution = Some(convert::details(&watch.project, found));
            return Ok(Some((WatchExecutionResponse { execution }, watch)));
        }
    })
}

/// Whether nothing will be added to the log of a terminal execution.
fn log_has_ended(found: &muster_storage::execution::Details) -> bool {
    found
        .attempts
        .last()
        .is_none_or(|attempt| attempt.log_ended)
}

fn content(message: &CreateExecutionRequest) -> Content {
    // What the audit log is told of it is known when it is accepted, see the store.
    let content = Content::new("CreateExecution").on(executions(&message.parent));
    let source = match &message.source {
        Some(WireSource::Workflow(name)) => content.field(name),
        Some(WireSource::Inline(inline)) => content.field(&inline.manifest).field(&inline.workflow),
        Some(WireSource::Execution(name)) => content.field("again").field(name),
        None => content,
    };
    let target = message.target.clone().unwrap_or_default();
    let mut labels: Vec<_> = target
        .r#match
        .iter()
        .map(|(label, values)| format!("={label}={:?}", values.values))
        .chain(
            target
                .not
                .iter()
                .map(|(label, values)| format!("!{label}={:?}", values.values)),
        )
        .chain(target.replicate.iter().map(|label| format!("*{label}")))
        .collect();
    labels.sort();
    let wait = message.queue_policy.and_then(|policy| policy.max_wait);
    let source = source
        .field(&message.parent)
        .field(format!("{wait:?}"))
        .pairs(&message.config)
        .pairs(&message.tags)
        .field(labels.join("\n"));
    // A request of an older client has the same content as before.
    match message.failed_only {
        true => source.field("failed_only"),
        false => source,
    }
}

/// The executions of a project, as what a call is about that makes some.
fn executions(parent: &str) -> String {
    format!("{parent}/executions")
}

/// Accepts one run.
async fn create(
    app: &App,
    caller: &Caller,
    message: CreateExecutionRequest,
) -> Result<CreateExecutionResponse, Error> {
    let project = name::project("parent", &message.parent)?.to_owned();
    let request = content(&message).request(caller, &message.request_id)?;
    let new = read_run(message)?;
    let made = app
        .create_execution(caller, &project, new, request.as_ref())
        .await?;
    let mut made = made.into_iter().map(|one| convert::details(&project, one));
    let first = made.next();
    let is_replica = |first: &&Execution| first.tags.contains_key(REPLICAS);
    let replica = first.as_ref().filter(is_replica).cloned();
    Ok(CreateExecutionResponse {
        replicas: replica.into_iter().chain(made).collect(),
        execution: first,
    })
}

impl Api {
    /// Lets the audit log know of runs of a batch that were refused, for the call itself is not.
    async fn note_refused_runs(&self, caller: &Caller, results: &[CreateExecutionResult]) {
        let refused = results.iter().filter_map(|result| match &result.result {
            Some(create_execution_result::Result::Error(error)) => Some(error),
            _ => None,
        });
        let refused: Vec<_> = refused.collect();
        if let Some(first) = refused.first() {
            let count = refused.len();
            let code = Code::from_i32(first.code);
            let app = &self.app;
            app.note_refused_runs(&caller.call, count, code, &first.message)
                .await;
        }
    }
}

fn result(created: Result<CreateExecutionResponse, Error>) -> CreateExecutionResult {
    let result = match created {
        Ok(created) => create_execution_result::Result::Created(created.into()),
        Err(error) => {
            let status = Status::from(error);
            create_execution_result::Result::Error(CreateExecutionError {
                code: status.code().into(),
                message: status.message().to_owned(),
                details: status.details().to_vec().into(),
            })
        }
    };
    CreateExecutionResult {
        result: Some(result),
    }
}

fn read_run(message: CreateExecutionRequest) -> Result<NewRun, Error> {
    let source = match message.source {
        Some(WireSource::Workflow(workflow)) => {
            let form = "projects/{project}/workflows/{workflow}";
            let [project, workflow] = name::parts("workflow", &workflow, form)?;
            if project != name::project("parent", &message.parent)? {
                return Err(Error::invalid(
                    "workflow",
                    "must be in the project of `parent`",
                ));
            }
            Source::Stored(workflow.to_owned())
        }
        Some(WireSource::Execution(name)) => {
            let [project, execution] = name::execution("execution", &name)?;
            if project != name::project("parent", &message.parent)? {
                let text = "must be in the project of `parent`";
                return Err(Error::invalid("execution", text));
            }
            Source::Earlier(execution.to_owned())
        }
        Some(WireSource::Inline(inline)) => Source::Inline {
            text: inline.manifest,
            workflow: (!inline.workflow.is_empty()).then_some(inline.workflow),
        },
        None => {
            return Err(Error::invalid(
                "source",
                "give a stored `workflow`, an `inline` one or an earlier `execution`",
            ));
        }
    };
    if message.failed_only && !matches!(source, Source::Earlier(_)) {
        let text = "only an earlier `execution` can have failed";
        return Err(Error::invalid("failed_only", text));
    }
    let max_wait = message
        .queue_policy
        .and_then(|policy| policy.max_wait)
        .map(|wait| {
            Duration::try_from(wait)
                .map_err(|_refused| Error::invalid("queue_policy.max_wait", "must not be negative"))
        })
        .transpose()?;
    Ok(NewRun {
        source,
        config: message.config.into_iter().collect(),
        tags: message.tags.into_iter().collect(),
        target: convert::read_target(message.target.unwrap_or_default())?,
        max_wait,
        undeclared: Undeclared::Refused,
        failed_only: message.failed_only,
        again: None,
    })
}
