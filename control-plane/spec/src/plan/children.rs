//! What a step starts beside itself: services, workers, members of a suite. Each becomes an
//! execution of its own; the control plane compiles it when the conductor asks for it, from the
//! spec that is kept here.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{EnvVar, Expression, Template};
use crate::schema;

/// How often something is run, and with which values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// Exactly so many of each combination.
    pub count: Option<Expression>,
    /// At most so many.
    pub max_count: Option<Expression>,
    /// Lists, with templates in their texts, or texts with an expression that gives a list.
    pub matrix: IndexMap<String, serde_json::Value>,
    /// The same, to be split over the instances.
    pub shards: IndexMap<String, serde_json::Value>,
    /// What their parts are made equal in.
    #[serde(default, skip_serializing_if = "schema::Balance::is_count")]
    pub balance: schema::Balance,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its name in `services.<name>`.
    pub name: String,
    /// Variables that its strategy and transfers may ask for.
    pub env: Vec<EnvVar>,
    /// Working directory of the step: where its relative paths begin; `/data` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<Template>,
    /// The same of its instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_dir: Option<Template>,
    /// How many instances there are.
    pub strategy: Strategy,
    /// Of an instance, for people.
    pub description: Option<Template>,
    /// Longest time until all instances are ready.
    pub timeout: Option<Template>,
    /// Files that each instance gets.
    pub transfer: Vec<Transfer>,
    /// What it is, for the compiler.
    pub spec: Box<schema::Spec>,
    /// How it is known to be ready, as a Kubernetes `Probe` with templates in its texts; it is when it
    /// runs, when absent.
    pub readiness_probe: Option<serde_json::Value>,
    /// It is started again when it fails.
    pub restarts: bool,
}

/// Workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parallel {
    /// Variables that its strategy and transfers may ask for.
    pub env: Vec<EnvVar>,
    /// Working directory of the step: where its relative paths begin; `/data` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<Template>,
    /// The same of its workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_dir: Option<Template>,
    /// How many there are.
    pub strategy: Strategy,
    /// Most at a time.
    pub parallelism: Option<Expression>,
    /// The first failure ends the others.
    pub fail_fast: bool,
    /// Each begins paused; they go on together when all that run at a time are there.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub paused: bool,
    /// Of a worker, for people.
    pub description: Option<Template>,
    /// Files that each worker gets.
    pub transfer: Vec<Transfer>,
    /// Files that come back from each worker.
    pub fetch: Vec<Transfer>,
    /// What it is, for the compiler.
    pub spec: Box<schema::Spec>,
    /// They may run anywhere that fits the target of the spec, and not just where this execution
    /// runs.
    pub spread: bool,
}

/// A suite of other workflows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Execute {
    /// Variables that names, values and strategies may ask for.
    pub env: Vec<EnvVar>,
    /// Working directory of the step: where its relative paths begin; `/data` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<Template>,
    /// Most members at a time.
    pub parallelism: Option<Expression>,
    /// The step does not wait for them.
    pub detached: bool,
    /// Which workflows.
    pub workflows: Vec<Member>,
}

/// Workflows of a suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Name of the workflow, when there is no selector.
    pub name: Option<Template>,
    /// Which workflows, by their labels.
    pub selector: Option<Selector>,
    /// For people.
    pub description: Option<Template>,
    /// How often each is run.
    pub strategy: Strategy,
    /// Values of parameters.
    pub config: BTreeMap<String, Template>,
    /// Parameters that get the address of an archive of files.
    pub tarball: BTreeMap<String, Transfer>,
    /// Where it may run: labels with their values.
    pub target: Option<schema::Target>,
}

/// A Kubernetes `LabelSelector`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels with one value each.
    pub labels: BTreeMap<String, Template>,
    /// Conditions: label, `In`, `NotIn`, `Exists` or `DoesNotExist`, values.
    pub requirements: Vec<(String, String, Vec<Template>)>,
}

/// Files of one folder, for the other side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transfer {
    /// The folder.
    pub from: Template,
    /// Patterns below it as a list or an expression of one; all of it when absent.
    pub files: Option<serde_json::Value>,
    /// The folder on the other side; the same one when absent.
    pub to: Option<Template>,
}

/// An archive that the parent execution has put aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receive {
    /// UUID of the execution that has it.
    pub execution: String,
    /// Its name there.
    pub path: String,
    /// Folder to unpack it to.
    pub to: String,
}

/// Files to put aside for the parent execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Send {
    /// The folder.
    pub from: Template,
    /// Patterns below it.
    pub files: Vec<Template>,
    /// Name of the archive.
    pub path: String,
}

/// What a conductor gives a child with it: [`Receive`]s to begin with and [`Send`]s to end with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Given {
    /// Archives to unpack before anything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receive: Vec<Receive>,
    /// Archives to make at the end, whatever it comes to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub send: Vec<Send>,
}

/// What makes an execution a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRole {
    /// How it is known to be ready, as a Kubernetes `Probe`; it is when its process runs, when
    /// absent.
    pub readiness_probe: Option<serde_json::Value>,
}
