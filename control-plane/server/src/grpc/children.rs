//! Children on the wire: what agents ask for parents, and how children stand.

use std::{collections::HashMap, sync::Arc, time::Duration};

use muster_core::{
    execution::{Lease, State},
    id::{AttemptId, ExecutionId},
};
use muster_proto::v1::{
    ChildInstance, ChildStatus, LabelRequirement, StartChildrenRequest, WatchChildrenResponse,
};
use muster_storage::{agent::Agent, execution::Child};
use serde_json::{Map, Value};
use tonic::Status;

use super::convert;
use crate::app::{App, Error, MAX_INSTANCES, NewChild, Requirement, StartChildren};

/// How often a watcher looks without a word from anybody: another replica may write.
const POLL: Duration = Duration::from_secs(2);
/// Shortest time between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest JSON of variables, in bytes.
const MAX_VARIABLES: usize = 1 << 20;

/// A lease as an agent tells it.
pub(super) fn lease(attempt: &str, epoch: i64) -> Result<Lease, Error> {
    let attempt: AttemptId = attempt
        .parse()
        .map_err(|error| Error::invalid("attempt", format!("{error}")))?;
    Ok(Lease { attempt, epoch })
}

pub(super) fn execution(id: &str) -> Result<ExecutionId, Error> {
    id.parse()
        .map_err(|error| Error::invalid("execution", format!("{error}")))
}

pub(super) fn read_start(message: StartChildrenRequest) -> Result<StartChildren, Error> {
    let index = |field: &str, number: u32| {
        usize::try_from(number).map_err(|_refused| Error::invalid(field, "is too large"))
    };
    Ok(StartChildren {
        operation: index("operation", message.operation)?,
        item: index("item", message.item)?,
        variables: read_variables("variables", &message.variables)?,
        instances: message
            .instances
            .into_iter()
            .map(read_instance)
            .collect::<Result<_, _>>()?,
        group: message.group,
        step: message.step,
    })
}

fn read_instance(message: ChildInstance) -> Result<NewChild, Error> {
    let given = match message.given.is_empty() {
        true => Ok(muster_spec::plan::Given::default()),
        false => serde_json::from_slice(&message.given),
    };
    Ok(NewChild {
        index: message.index,
        variables: read_variables("instances.variables", &message.variables)?,
        description: message.description,
        given: given.map_err(|error| Error::invalid("instances.given", error.to_string()))?,
        workflow: message.workflow,
        config: message.config.into_iter().collect(),
    })
}

fn read_variables(field: &str, json: &[u8]) -> Result<Map<String, Value>, Error> {
    if json.is_empty() {
        return Ok(Map::new());
    }
    if json.len() > MAX_VARIABLES {
        let text = format!("{} bytes, at most {MAX_VARIABLES} are allowed", json.len());
        return Err(Error::invalid(field, text));
    }
    serde_json::from_slice(json).map_err(|error| Error::invalid(field, error.to_string()))
}

pub(super) fn read_requirements(message: Vec<LabelRequirement>) -> Vec<Requirement> {
    let all = message.into_iter();
    all.map(|one| Requirement {
        key: one.key,
        operator: one.operator,
        values: one.values,
    })
    .collect()
}

/// How a child stands.
pub(super) fn status(child: &Child) -> ChildStatus {
    let execution = &child.execution;
    let origin = execution.origin.as_ref();
    let attempt = child.attempt.as_ref();
    ChildStatus {
        group: origin
            .map(|origin| origin.group.clone())
            .unwrap_or_default(),
        index: origin
            .and_then(|origin| u32::try_from(origin.index).ok())
            .unwrap_or_default(),
        execution: execution.id.to_string(),
        display_name: execution.display_name.clone(),
        state: convert::state(execution.state()).into(),
        reason: execution.reason.clone(),
        message: execution.message.clone(),
        address: attempt.map(|it| it.address.clone()).unwrap_or_default(),
        ready: attempt.is_some_and(|attempt| attempt.ready),
        description: origin
            .map(|origin| origin.description.clone())
            .unwrap_or_default(),
        held: execution.state() == State::Paused && !execution.lifecycle.pause.paused,
        taken_over: origin.is_some_and(|origin| origin.taken_over),
    }
}

/// The children of an attempt now, and those that change, as long as its lease lives.
pub(super) fn watch(
    app: Arc<App>,
    agent: Agent,
    lease: Lease,
) -> impl futures::Stream<Item = Result<WatchChildrenResponse, Status>> {
    struct Watch {
        app: Arc<App>,
        agent: Agent,
        lease: Lease,
        changes: Option<tokio::sync::watch::Receiver<u64>>,
        sent: HashMap<String, ChildStatus>,
        waiting: Vec<ChildStatus>,
    }
    let watch = Watch {
        app,
        agent,
        lease,
        changes: None,
        sent: HashMap::new(),
        waiting: Vec::new(),
    };
    futures::stream::try_unfold(watch, |mut watch| async move {
        loop {
            if !watch.waiting.is_empty() {
                let more = watch
                    .waiting
                    .split_off(watch.waiting.len().min(MAX_INSTANCES));
                let children = std::mem::replace(&mut watch.waiting, more);
                return Ok(Some((WatchChildrenResponse { children }, watch)));
            }
            if let Some(changes) = &mut watch.changes {
                tokio::select! {
                    // The sender lives in the hub, as long as the server.
                    _ = changes.changed() => tokio::time::sleep(PAUSE).await,
                    () = tokio::time::sleep(POLL) => {}
                    () = watch.app.link.drain.cancelled() => {
                        return Err(Error::Stopping.into());
                    }
                }
                changes.mark_unchanged();
            }
            let (parent, children) = watch.app.watch_children(&watch.agent, watch.lease).await?;
            if watch.changes.is_none() {
                // From here on no change is missed; look once more, since one may have been.
                let mut changes = watch.app.hub.watch_execution(parent);
                changes.mark_changed();
                watch.changes = Some(changes);
            }
            for child in &children {
                let status = status(child);
                if watch.sent.get(&status.execution) != Some(&status) {
                    watch.sent.insert(status.execution.clone(), status.clone());
                    watch.waiting.push(status);
                }
            }
        }
    })
}
