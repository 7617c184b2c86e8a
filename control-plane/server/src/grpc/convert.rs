//! From records to messages, and back where it is more than a field.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use muster_core::execution::State;
use muster_proto::v1;
use muster_storage::{
    agent, artifact,
    attempt::Attempt,
    execution::{
        Details, Event, Execution, LogSummary, Origin, Role, StepOutput, StepResult, StepState,
        Target,
    },
    project::Project,
    token,
};

use super::{recovery, retention};
use crate::app::{Error, Explanation, Reason};

/// A time for the wire.
pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

/// A time of a request.
pub(super) fn read_time(field: &str, time: prost_types::Timestamp) -> Result<Timestamp, Error> {
    Timestamp::new(time.seconds, time.nanos)
        .map_err(|error| Error::invalid(field, error.to_string()))
}

fn pairs(map: BTreeMap<String, String>) -> HashMap<String, String> {
    map.into_iter().collect()
}

pub(super) fn state(state: State) -> v1::execution::State {
    use v1::execution::State as S;
    match state {
        State::Queued => S::Queued,
        State::Assigned => S::Assigned,
        State::Preparing => S::Preparing,
        State::Running => S::Running,
        State::Paused => S::Paused,
        State::Finishing => S::Finishing,
        State::Passed => S::Passed,
        State::Failed => S::Failed,
        State::Aborted => S::Aborted,
        State::Canceled => S::Canceled,
        State::TimedOut => S::TimedOut,
    }
}

/// A state of a filter.
pub(super) fn read_state(value: i32) -> Result<State, Error> {
    State::ALL
        .into_iter()
        .find(|known| i32::from(state(*known)) == value)
        .ok_or_else(|| Error::invalid("states", format!("{value} is not a state")))
}

pub(super) fn execution(project: &str, record: Execution) -> v1::Execution {
    v1::Execution {
        name: format!("projects/{project}/executions/{}", record.id),
        uid: record.id.to_string(),
        state: state(record.state()).into(),
        cancel_requested: record.lifecycle.stop.is_some(),
        pause_requested: record.lifecycle.pause.paused,
        display_name: record.display_name,
        number: record.number,
        workflow: record.workflow,
        workflow_revision: record.workflow_revision,
        reason: record.reason,
        message: record.message,
        tags: pairs(record.tags),
        labels: pairs(record.labels),
        config: pairs(record.config),
        target: Some(target(record.target)),
        create_time: Some(timestamp(record.create_time)),
        assign_time: record.assign_time.map(timestamp),
        start_time: record.start_time.map(timestamp),
        finish_time: record.finish_time.map(timestamp),
        steps: Vec::new(),
        attempts: Vec::new(),
        log: Some(log(record.log)),
        etag: record.revision.to_string(),
        warnings: record.warnings,
        creator: record.creator,
        artifact_count: signed(record.artifact_count),
        pin: record.pin.map(retention::pin),
        logs_delete_time: record.logs_delete_time.map(timestamp),
        artifacts_delete_time: record.artifacts_delete_time.map(timestamp),
        origin: record.origin.map(|given| origin(project, given)),
        children: Vec::new(),
        outputs: Vec::new(),
        rerun: record.rerun.map(|given| v1::Rerun {
            execution: format!("projects/{project}/executions/{}", given.execution),
            display_name: given.name,
            failed_only: given.failed,
        }),
    }
}

pub(super) fn details(project: &str, details: Details) -> v1::Execution {
    v1::Execution {
        steps: details.steps.into_iter().map(step).collect(),
        attempts: details.attempts.into_iter().map(attempt).collect(),
        outputs: details.outputs.into_iter().map(output).collect(),
        children: details
            .children
            .into_iter()
            .map(|child| execution(project, child))
            .collect(),
        ..execution(project, details.execution)
    }
}

fn origin(project: &str, record: Origin) -> v1::ChildOrigin {
    use v1::child_origin::Role as R;
    let role = match record.role {
        Role::Worker => R::Worker,
        Role::Service => R::Service,
        Role::Member => R::Member,
        Role::Detached => R::Detached,
    };
    v1::ChildOrigin {
        parent: format!("projects/{project}/executions/{}", record.parent),
        role: role.into(),
        group: record.group,
        index: i32::try_from(record.index).unwrap_or(i32::MAX),
        description: record.description,
        step: record.step,
        taken_over: record.taken_over,
    }
}

fn log(summary: LogSummary) -> v1::LogSummary {
    v1::LogSummary {
        size_bytes: summary.size,
        sha256: summary.sha256.unwrap_or_default(),
        complete: summary.complete,
    }
}

fn step(record: StepResult) -> v1::StepResult {
    use v1::step_result::State as S;
    let state = match record.state {
        StepState::Queued => S::Queued,
        StepState::Running => S::Running,
        StepState::Paused => S::Paused,
        StepState::Passed => S::Passed,
        StepState::Failed => S::Failed,
        StepState::TimedOut => S::TimedOut,
        StepState::Skipped => S::Skipped,
        StepState::Aborted => S::Aborted,
        StepState::Canceled => S::Canceled,
    };
    v1::StepResult {
        reference: record.reference,
        parent: record.parent,
        id: record.id,
        display_name: record.display_name,
        state: state.into(),
        exit_code: record.exit_code,
        reason: record.reason,
        message: record.message,
        start_time: record.start_time.map(timestamp),
        finish_time: record.finish_time.map(timestamp),
        tries: record.tries,
        optional: record.optional,
        negative: record.negative,
        paused_duration: (record.paused_ms > 0)
            .then(|| std::time::Duration::from_millis(record.paused_ms))
            .and_then(|paused| paused.try_into().ok()),
        outputs: pairs(record.outputs),
    }
}

fn output(record: StepOutput) -> v1::StepOutput {
    v1::StepOutput {
        step: record.step,
        name: record.name,
        json: record.json,
    }
}

fn attempt(record: Attempt) -> v1::Attempt {
    v1::Attempt {
        uid: record.id.to_string(),
        agent: record.agent_name,
        epoch: record.epoch,
        create_time: Some(timestamp(record.create_time)),
        finish_time: record.finish_time.map(timestamp),
        reason: record.reason,
        message: record.message,
        steps: record.steps.into_iter().map(step).collect(),
    }
}

/// Why an execution is where it is.
pub(super) fn explanation(project: &str, explained: Explanation) -> v1::ExplainExecutionResponse {
    let agents = explained
        .agents
        .into_iter()
        .map(|verdict| v1::AgentVerdict {
            agent: verdict.agent,
            hindrance: verdict.refused.map(hindrance),
        });
    v1::ExplainExecutionResponse {
        execution: Some(execution(project, explained.execution)),
        hindrances: explained.reasons.into_iter().map(hindrance).collect(),
        queued_before: explained
            .before
            .map(|before| i64::try_from(before).unwrap_or(i64::MAX)),
        agents: agents.collect(),
    }
}

fn hindrance(reason: Reason) -> v1::Hindrance {
    v1::Hindrance {
        reason: reason.code.to_owned(),
        message: reason.message,
    }
}

fn target(record: Target) -> v1::Target {
    let values = |map: BTreeMap<String, Vec<String>>| {
        map.into_iter()
            .map(|(label, values)| (label, v1::LabelValues { values }))
            .collect()
    };
    v1::Target {
        r#match: values(record.matches),
        not: values(record.not),
        replicate: record.replicate,
    }
}

/// A target as a caller gives it; one without labels is none.
pub(super) fn read_target(given: v1::Target) -> Result<Option<Target>, Error> {
    if given.r#match.is_empty() && given.not.is_empty() && given.replicate.is_empty() {
        return Ok(None);
    }
    let values = |field: &str, map: HashMap<String, v1::LabelValues>| {
        map.into_iter()
            .map(|(label, values)| match values.values {
                values if values.is_empty() => Err(Error::invalid(
                    format!("target.{field}.{label}"),
                    "must have at least one value",
                )),
                values => Ok((label, values)),
            })
            .collect::<Result<BTreeMap<_, _>, _>>()
    };
    Ok(Some(Target {
        matches: values("match", given.r#match)?,
        not: values("not", given.not)?,
        replicate: given.replicate,
    }))
}

pub(super) fn event(record: Event) -> v1::ExecutionEvent {
    v1::ExecutionEvent {
        sequence: record.sequence,
        time: Some(timestamp(record.time)),
        r#type: record.kind,
        message: record.message,
    }
}

pub(super) fn artifact(project: &str, record: artifact::Artifact) -> v1::Artifact {
    v1::Artifact {
        name: format!(
            "projects/{project}/executions/{}/artifacts/{}",
            record.execution, record.id
        ),
        path: record.path,
        size_bytes: record.size,
        sha256: record.sha256,
        content_type: record.content_type,
        preview: preview(record.preview).into(),
        mode: record.mode,
        step: record.step,
        create_time: Some(timestamp(record.create_time)),
        attempt: record.attempt.to_string(),
    }
}

const fn preview(preview: artifact::Preview) -> v1::artifact::Preview {
    use v1::artifact::Preview as P;
    match preview {
        artifact::Preview::None => P::None,
        artifact::Preview::Text => P::Text,
        artifact::Preview::Image => P::Image,
        artifact::Preview::Html => P::Html,
        artifact::Preview::Pdf => P::Pdf,
        artifact::Preview::Video => P::Video,
        artifact::Preview::Audio => P::Audio,
        artifact::Preview::Report => P::Report,
    }
}

pub(super) fn artifact_folder(record: artifact::Folder) -> v1::ArtifactFolder {
    v1::ArtifactFolder {
        path: record.path,
        file_count: record.files,
        size_bytes: record.bytes,
    }
}

pub(super) fn missing_artifact(record: artifact::Missing) -> v1::MissingArtifact {
    v1::MissingArtifact {
        path: record.path,
        step: record.step,
        reason: record.reason,
        message: record.message,
        create_time: Some(timestamp(record.create_time)),
        attempt: record.attempt.to_string(),
    }
}

pub(super) fn agent(record: agent::Agent, projects: Vec<String>, connected: bool) -> v1::Agent {
    v1::Agent {
        name: format!("agents/{}", record.name),
        uid: record.id.to_string(),
        labels: pairs(record.effective_labels()),
        projects,
        connected,
        version: record.told.version,
        backend: record.told.backend,
        capacity: signed(record.told.capacity),
        running: signed(record.running),
        create_time: Some(timestamp(record.create_time)),
        last_seen_time: record.last_seen_time.map(timestamp),
        cordoned: record.cordon.is_some(),
        cordon_message: record.cordon.map(|it| it.message).unwrap_or_default(),
    }
}

pub(super) fn project(record: Project) -> v1::Project {
    let settings = record.settings;
    v1::Project {
        name: format!("projects/{}", record.name),
        uid: record.id.to_string(),
        display_name: record.display_name,
        create_time: Some(timestamp(record.create_time)),
        weight: signed(settings.weight),
        max_running: settings.max_running.map(signed),
        max_queued: settings.max_queued.map(signed),
        max_per_minute: settings.max_per_minute.map(signed),
        paused: settings.pause.is_some(),
        pause_message: settings.pause.unwrap_or_default(),
        recovery: Some(recovery::show(&settings.policy)),
        max_log_bytes: settings.logs.max_size,
        max_log_rate: settings.logs.max_rate,
        max_log_rate_each: settings.logs.max_rate_each,
        retention: Some(retention::show(&settings.retention)),
        hold: settings.hold.map(retention::hold),
    }
}

pub(super) fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(super) fn token(record: token::Token, project: Option<String>) -> v1::Token {
    use v1::token::Role as R;
    let role = match record.role {
        token::Role::Viewer => R::Viewer,
        token::Role::Member => R::Member,
        token::Role::Admin => R::Admin,
    };
    v1::Token {
        name: format!("tokens/{}", record.id),
        display_name: record.display_name,
        role: role.into(),
        project: project.map_or_else(String::new, |name| format!("projects/{name}")),
        create_time: Some(timestamp(record.create_time)),
        expire_time: record.expire_time.map(timestamp),
    }
}

/// A role as a caller gives it.
pub(super) fn read_role(role: v1::token::Role) -> Result<token::Role, Error> {
    use v1::token::Role as R;
    match role {
        R::Viewer => Ok(token::Role::Viewer),
        R::Member => Ok(token::Role::Member),
        R::Admin => Ok(token::Role::Admin),
        R::Unspecified => Err(Error::invalid("role", "must be viewer, member or admin")),
    }
}
