//! The JSON documents of `--output json`: an interface for programs, so fields are only added.

use std::collections::BTreeMap;

use jiff::Timestamp;
use muster_proto::v1::{self, step_result};
use serde::Serialize;

use crate::error::Error;

/// A whole execution.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Execution {
    id: String,
    name: String,
    project: String,
    workflow: String,
    number: i64,
    state: String,
    reason: String,
    message: String,
    cancel_requested: bool,
    pause_requested: bool,
    creator: String,
    tags: BTreeMap<String, String>,
    config: BTreeMap<String, String>,
    create_time: Option<Timestamp>,
    start_time: Option<Timestamp>,
    finish_time: Option<Timestamp>,
    steps: Vec<Step>,
    attempts: Vec<Attempt>,
    artifacts: Vec<Artifact>,
    log: Log,
    warnings: Vec<String>,
    /// Why it is kept whatever the retention is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<Pin>,
    /// When its log was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    logs_delete_time: Option<Timestamp>,
    /// When its artifacts were deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    artifacts_delete_time: Option<Timestamp>,
    /// What another execution has started it for; absent when a caller did.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    /// Which execution is run again; absent when none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    rerun: Option<Rerun>,
    /// What it has started itself, and what it has taken over of the execution that it runs again.
    children: Vec<Child>,
    /// What its steps gave out.
    outputs: Vec<Output>,
}

/// Why an execution is kept.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pin {
    creator: String,
    message: String,
    create_time: Option<Timestamp>,
}

/// A value that a step gave out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Output {
    step: String,
    name: String,
    value: serde_json::Value,
}

/// Which execution has started another one, and as what.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Origin {
    parent: String,
    role: String,
    group: String,
    index: i32,
    description: String,
    step: String,
    taken_over: bool,
}

/// Which execution is run again.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rerun {
    execution: String,
    name: String,
    failed_only: bool,
}

impl Rerun {
    fn new(rerun: &v1::Rerun) -> Self {
        let execution = rerun.execution.rsplit('/').next().unwrap_or_default();
        Self {
            execution: execution.to_owned(),
            name: rerun.display_name.clone(),
            failed_only: rerun.failed_only,
        }
    }
}

/// A child in short; `muster get` shows the whole.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Child {
    id: String,
    name: String,
    workflow: String,
    state: String,
    reason: String,
    message: String,
    origin: Option<Origin>,
}

impl Origin {
    fn new(origin: &v1::ChildOrigin) -> Self {
        let parent = origin.parent.rsplit('/').next().unwrap_or_default();
        Self {
            parent: parent.to_owned(),
            role: role(origin.role()).to_owned(),
            group: origin.group.clone(),
            index: origin.index,
            description: origin.description.clone(),
            step: origin.step.clone(),
            taken_over: origin.taken_over,
        }
    }
}

impl Child {
    fn new(child: &v1::Execution) -> Self {
        Self {
            id: child.uid.clone(),
            name: child.display_name.clone(),
            workflow: child.workflow.clone(),
            state: state(child.state()),
            reason: child.reason.clone(),
            message: child.message.clone(),
            origin: child.origin.as_ref().map(Origin::new),
        }
    }
}

/// What a child is to its parent.
pub(crate) const fn role(role: v1::child_origin::Role) -> &'static str {
    use v1::child_origin::Role as R;
    match role {
        R::Unspecified => "",
        R::Worker => "worker",
        R::Service => "service",
        R::Member => "member",
        R::Detached => "detached",
    }
}

/// One step.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Step {
    reference: String,
    parent: String,
    id: String,
    name: String,
    state: String,
    exit_code: Option<i32>,
    reason: String,
    message: String,
    start_time: Option<Timestamp>,
    finish_time: Option<Timestamp>,
    tries: i32,
    optional: bool,
    negative: bool,
    paused_seconds: f64,
    outputs: BTreeMap<String, String>,
}

/// One placement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attempt {
    id: String,
    agent: String,
    epoch: i64,
    create_time: Option<Timestamp>,
    finish_time: Option<Timestamp>,
    reason: String,
    message: String,
}

/// One artifact.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Artifact {
    path: String,
    size: i64,
    sha256: String,
    content_type: String,
    preview: &'static str,
    mode: u32,
    step: String,
}

/// A folder of artifacts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArtifactFolder {
    path: String,
    files: i64,
    size: i64,
}

/// A file that is missing.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MissingArtifact {
    path: String,
    step: String,
    reason: String,
    message: String,
}

/// The log as a whole.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Log {
    size: i64,
    sha256: String,
    complete: bool,
}

impl Execution {
    /// The document of an execution and its artifacts.
    pub(crate) fn new(execution: &v1::Execution, artifacts: &[v1::Artifact]) -> Self {
        let log = execution.log.clone().unwrap_or_default();
        let sorted = |map: &std::collections::HashMap<String, String>| {
            map.iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        };
        let project = execution.name.split('/').nth(1).unwrap_or_default();
        Self {
            id: execution.uid.clone(),
            name: execution.display_name.clone(),
            project: project.to_owned(),
            workflow: execution.workflow.clone(),
            number: execution.number,
            state: state(execution.state()),
            reason: execution.reason.clone(),
            message: execution.message.clone(),
            cancel_requested: execution.cancel_requested,
            pause_requested: execution.pause_requested,
            creator: execution.creator.clone(),
            tags: sorted(&execution.tags),
            config: sorted(&execution.config),
            create_time: time(execution.create_time.as_ref()),
            start_time: time(execution.start_time.as_ref()),
            finish_time: time(execution.finish_time.as_ref()),
            steps: execution.steps.iter().map(Step::new).collect(),
            attempts: execution.attempts.iter().map(Attempt::new).collect(),
            artifacts: artifacts.iter().map(Artifact::new).collect(),
            log: Log {
                size: log.size_bytes,
                sha256: log.sha256,
                complete: log.complete,
            },
            warnings: execution.warnings.clone(),
            pin: execution.pin.as_ref().map(|pin| Pin {
                creator: pin.creator.clone(),
                message: pin.message.clone(),
                create_time: time(pin.create_time.as_ref()),
            }),
            logs_delete_time: time(execution.logs_delete_time.as_ref()),
            artifacts_delete_time: time(execution.artifacts_delete_time.as_ref()),
            origin: execution.origin.as_ref().map(Origin::new),
            rerun: execution.rerun.as_ref().map(Rerun::new),
            children: execution.children.iter().map(Child::new).collect(),
            outputs: execution.outputs.iter().map(Output::new).collect(),
        }
    }
}

impl Output {
    fn new(output: &v1::StepOutput) -> Self {
        let text = || serde_json::Value::from(output.json.as_str());
        Self {
            step: output.step.clone(),
            name: output.name.clone(),
            value: serde_json::from_str(&output.json).unwrap_or_else(|_| text()),
        }
    }
}

impl Step {
    fn new(step: &v1::StepResult) -> Self {
        Self {
            reference: step.reference.clone(),
            parent: step.parent.clone(),
            id: step.id.clone(),
            name: step.display_name.clone(),
            state: step_state(step.state()),
            exit_code: step.exit_code,
            reason: step.reason.clone(),
            message: step.message.clone(),
            start_time: time(step.start_time.as_ref()),
            finish_time: time(step.finish_time.as_ref()),
            tries: step.tries,
            optional: step.optional,
            negative: step.negative,
            paused_seconds: crate::report::step::paused(step).as_secs_f64(),
            outputs: step.outputs.clone().into_iter().collect(),
        }
    }
}

impl Attempt {
    fn new(attempt: &v1::Attempt) -> Self {
        Self {
            id: attempt.uid.clone(),
            agent: attempt.agent.clone(),
            epoch: attempt.epoch,
            create_time: time(attempt.create_time.as_ref()),
            finish_time: time(attempt.finish_time.as_ref()),
            reason: attempt.reason.clone(),
            message: attempt.message.clone(),
        }
    }
}

impl Artifact {
    /// The description of one artifact.
    pub(crate) fn new(artifact: &v1::Artifact) -> Self {
        Self {
            path: artifact.path.clone(),
            size: artifact.size_bytes,
            sha256: artifact.sha256.clone(),
            content_type: artifact.content_type.clone(),
            preview: preview(artifact.preview()),
            mode: artifact.mode,
            step: artifact.step.clone(),
        }
    }
}

const fn preview(preview: v1::artifact::Preview) -> &'static str {
    use v1::artifact::Preview as P;
    match preview {
        P::Unspecified | P::None => "none",
        P::Text => "text",
        P::Image => "image",
        P::Html => "html",
        P::Pdf => "pdf",
        P::Video => "video",
        P::Audio => "audio",
        P::Report => "report",
    }
}

impl ArtifactFolder {
    /// The description of one folder.
    pub(crate) fn new(folder: &v1::ArtifactFolder) -> Self {
        Self {
            path: folder.path.clone(),
            files: folder.file_count,
            size: folder.size_bytes,
        }
    }
}

impl MissingArtifact {
    /// The description of one missing file.
    pub(crate) fn new(missing: &v1::MissingArtifact) -> Self {
        Self {
            path: missing.path.clone(),
            step: missing.step.clone(),
            reason: missing.reason.clone(),
            message: missing.message.clone(),
        }
    }
}

/// The name of a state: `passed`, `timed_out`.
pub(crate) fn state(state: v1::execution::State) -> String {
    name(state.as_str_name())
}

/// The name of a step's state.
pub(crate) fn step_state(state: step_result::State) -> String {
    name(state.as_str_name())
}

fn name(proto: &str) -> String {
    proto.trim_start_matches("STATE_").to_ascii_lowercase()
}

/// A time of the wire; none when it is not set or out of range.
pub(crate) fn time(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// A time for the wire.
pub(crate) fn wire(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

/// Writes one document to standard output.
pub(crate) fn print(document: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| Error::Corrupt(error.to_string()))?;
    crate::command::print(&format!("{text}\n"))
}
