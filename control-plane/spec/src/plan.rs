//! The plan: the compiled form of a resolved workflow, and all that the agent and the pod need.
//!
//! A plan is a JSON document with a version. The compiler in this crate is its only writer, the
//! agent and the conductor its only readers; the server stores and forwards it unread. Strings
//! of type [`Template`] and [`Expression`] are resolved as far as was possible when the plan was
//! compiled; what is left needs the pod (`env.*`, step results, files).
//!
//! How a plan is walked is the conductor's business, not described here.

mod children;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use serde::{Deserialize, Serialize};

pub use children::{
    Execute, Given, Member, Parallel, Receive, Selector, Send, Service, ServiceRole, Strategy,
    Transfer,
};

/// The version that this compiler writes. A reader refuses a greater one.
pub const PLAN_VERSION: u32 = 1;

/// Exit codes by which a tool tells of failures. Above are those of shells for a program that they did
/// not find, could not run, or that a signal ended.
pub const FAILURE_CODES: RangeInclusive<i32> = 1..=125;

/// A string with `{{ expression }}` parts that are left for the pod.
pub type Template = String;

/// A bare expression that is left for the pod; `true` and `false` are the commonest.
pub type Expression = String;

/// All that is needed to run one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`PLAN_VERSION`] of the compiler that wrote it.
    pub version: u32,
    /// What expressions in the pod may ask of the execution: top-level names such as
    /// `execution`, `workflow`, `labels`, with their JSON values. Nothing secret.
    pub context: BTreeMap<String, serde_json::Value>,
    /// Environment variables of every step, below those of a step itself.
    pub env: Vec<EnvVar>,
    /// Containers of the pod, apart from the conductor's. A [`Run`] names one by index.
    pub containers: Vec<Container>,
    /// Settings of Job and pod.
    pub pod: Pod,
    /// Names of the project's credentials that texts of the pod may ask for: those that the
    /// workflow names, and those of its workers and services. The control plane gives no other.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub credentials: BTreeSet<String>,
    /// Values of `sensitive` parameters, and those made of them: they stand in texts of the plan, and
    /// are not shown where these are printed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub masked: BTreeSet<String>,
    /// Set when this is a service of another execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRole>,
    /// What to do, in order: `setup`, `steps` and `after` of the workflow in one list.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Index of the container in which a service runs; nothing when it is no service.
    #[must_use]
    pub fn service_container(&self) -> Option<usize> {
        self.service.as_ref()?;
        let mut operations = self.steps.iter().flat_map(|step| &step.operations);
        operations.find_map(|operation| match operation {
            Operation::Run(run) => Some(run.container),
            _ => None,
        })
    }

    /// The step of a reference, wherever it is nested.
    #[must_use]
    pub fn step(&self, reference: &str) -> Option<&Step> {
        fn find<'a>(steps: &'a [Step], reference: &str) -> Option<&'a Step> {
            steps.iter().find_map(|step| {
                if step.reference == reference {
                    return Some(step);
                }
                step.operations
                    .iter()
                    .find_map(|operation| match operation {
                        Operation::Steps { steps } => find(steps, reference),
                        _ => None,
                    })
            })
        }
        find(&self.steps, reference)
    }
}

/// A container that holds steps with the same settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// DNS label, unique in the pod.
    pub name: String,
    /// Image reference; absent for that of `tool`.
    pub image: Option<String>,
    /// What the agent's own image in this container is for, when there is no `image`; absent for
    /// the runner's with its bundled tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Tool>,
    /// `Always`, `IfNotPresent` or `Never`; absent for the cluster's default.
    pub image_pull_policy: Option<String>,
    /// A step relies on the image's ENTRYPOINT or CMD, so the agent must read its config.
    pub needs_image_config: bool,
    /// Variables that only the cluster can resolve (`valueFrom`), as Kubernetes `EnvVar` objects.
    /// References to keys are optional: a missing one gives an empty value.
    pub env_from_cluster: Vec<serde_json::Value>,
    /// Kubernetes `EnvFromSource` objects.
    pub env_from: Vec<serde_json::Value>,
    /// Kubernetes `ResourceRequirements`: limits and requests by name, as quantities.
    pub resources: Resources,
    /// Kubernetes `SecurityContext`, checked for known fields, absent when not given.
    pub security_context: Option<serde_json::Value>,
    /// Kubernetes `VolumeMount` objects of the workflow; the language's own volumes are not here.
    pub volume_mounts: Vec<serde_json::Value>,
}

/// Containers that no step of the workflow runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tool {
    /// Has the programs that fetch repositories.
    Git,
    /// Runs nothing: its environment has values that the cluster resolves for the conductor.
    Values,
}

/// Limits and requests by resource name, as Kubernetes quantities.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Upper bounds.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    /// What the scheduler sets aside.
    #[serde(default)]
    pub requests: BTreeMap<String, String>,
}

/// Settings of Job and pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Longest life of the Job in seconds (`spec.job.activeDeadlineSeconds`, or the pod's).
    pub active_deadline_seconds: Option<u64>,
    /// Labels of the Job.
    pub job_labels: BTreeMap<String, String>,
    /// Annotations of the Job.
    pub job_annotations: BTreeMap<String, String>,
    /// Namespace asked for by the workflow; the agent decides whether it is allowed.
    pub namespace: Option<String>,
    /// Fields of the Kubernetes `PodSpec` that the workflow sets (`nodeSelector`, `volumes`, …);
    /// `labels` and `annotations` are the pod's metadata.
    pub spec: serde_json::Map<String, serde_json::Value>,
    /// Folders that all containers share beside the language's own: absolute, normal, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
    /// Claims of volumes to make for this attempt, by their names in the cluster: Kubernetes
    /// `PersistentVolumeClaimSpec` objects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, serde_json::Value>,
    /// Claims of the executions above this one, by their names in the cluster: it may mount them, and
    /// they are not its to make.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub claims_above: BTreeSet<String>,
}

/// One environment variable with a value that may hold expressions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value.
    pub value: Template,
}

/// One step: what controls it, and its operations in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Unique in the plan and stable between compilations: position in the tree, `s2`, `s2.1`.
    pub reference: String,
    /// Key of `step.<id>` in expressions.
    pub id: Option<String>,
    /// Name for people.
    pub name: Template,
    /// Runs only when true; `passed` by default, `always` for a step of artifacts alone.
    pub condition: Expression,
    /// Its failure does not count.
    pub optional: bool,
    /// Its outcome is inverted.
    pub negative: bool,
    /// It waits until somebody lets it go on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
    /// Tries again.
    pub retry: Option<Retry>,
    /// Longest run of all its operations, a duration such as `1m30s`; each try has all of it.
    pub timeout: Option<Template>,
    /// It comes from the workflow's `after` list, so a cancel or a lost step does not skip it
    /// when its condition holds.
    pub after: bool,
    /// What it does, in the order of the language page: delay, files, repository, archives,
    /// nested `setup`, run, nested `steps`, artifacts. After a failed operation only [`Operation::Artifacts`] still
    /// run.
    pub operations: Vec<Operation>,
}

/// How often and until when a step is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Most tries after the first one; at least 1.
    pub count: u32,
    /// Stops when true; `passed` by default.
    pub until: Expression,
    /// Waits between the tries, each time longer: for services, which are started again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub backoff: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// One thing that a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Operation {
    /// Wait.
    Delay {
        /// A duration such as `5s`.
        duration: Template,
    },
    /// Write files.
    Files {
        /// Index into [`Plan::containers`] of the container that sees them; the conductor
        /// itself writes files on shared volumes when absent.
        container: Option<usize>,
        /// The files.
        files: Vec<File>,
    },
    /// Fetch a repository.
    Git(Box<Git>),
    /// Fetch an archive and unpack it; the conductor does it.
    Tarball {
        /// `http` or `https`.
        url: Template,
        /// Folder for its content: absolute, on a folder that all containers share.
        path: String,
    },
    /// Run a process.
    Run(Run),
    /// Start services and wait until they are ready. They end with the step, or with the
    /// workflow when they are `lasting`.
    Services {
        /// The services.
        services: Vec<Service>,
        /// They live as long as the workflow.
        lasting: bool,
    },
    /// Run workers and wait for them.
    Parallel(Box<Parallel>),
    /// Run other workflows.
    Execute(Execute),
    /// Take files that the parent execution has put aside.
    Receive {
        /// The archives.
        archives: Vec<Receive>,
    },
    /// Put files aside for the parent execution; runs whether the steps before passed or not.
    Send {
        /// The archives.
        archives: Vec<Send>,
    },
    /// Nested steps: they share a scope of `passed` and `failed`.
    Steps {
        /// In order.
        steps: Vec<Step>,
    },
    /// Collect files; runs whether the operations before passed or not.
    Artifacts(Artifacts),
}

/// One file of `content.files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Absolute, or relative to the working directory.
    pub path: Template,
    /// Content.
    pub content: Template,
    /// Permission bits; 0644 when not given.
    pub mode: u32,
    /// Index of the container whose environment `content` is about; that which writes the file
    /// when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<usize>,
}

/// A repository to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Git {
    /// Index into [`Plan::containers`] of the container that has git.
    pub container: usize,
    /// Index of the container whose environment the credentials are about.
    pub values: Option<usize>,
    /// As git takes it.
    pub uri: Template,
    /// Branch, tag or commit; the repository's HEAD when absent or empty.
    pub revision: Option<Template>,
    /// User name for HTTP.
    pub username: Option<Template>,
    /// Password or token for HTTP.
    pub token: Option<Template>,
    /// Send the token as a bearer instead of as a password.
    pub bearer: bool,
    /// Private key for SSH.
    pub ssh_key: Option<Template>,
    /// Folder for the tree: absolute, on a folder that the container shares with others.
    pub path: String,
    /// All that is wanted of the tree; everything when empty.
    pub paths: Vec<Template>,
    /// `paths` are folders, not patterns.
    pub cone: bool,
    /// Show git's progress.
    pub verbose: bool,
    /// Most tries after the first one.
    pub retries: u32,
}

/// A process in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Index into [`Plan::containers`].
    pub container: usize,
    /// What to run.
    pub command: Command,
    /// Variables of this step, above [`Plan::env`].
    pub env: Vec<EnvVar>,
    /// Working directory; the image's when absent. A missing one is made.
    pub working_dir: Option<Template>,
}

/// What a process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Command {
    /// A script for the container's shell, which stops at the first failing line (`set -e`).
    Shell {
        /// The script.
        script: Template,
    },
    /// A program as Kubernetes starts it: absent or empty `command` means the image's
    /// ENTRYPOINT; absent `args` means its CMD when `command` is absent too.
    Exec {
        /// Replaces ENTRYPOINT.
        command: Option<Vec<Template>>,
        /// Replaces CMD.
        args: Option<Vec<Template>>,
    },
}

/// Files to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifacts {
    /// Index into [`Plan::containers`] of the container whose files are meant; the conductor
    /// collects from the shared volumes when absent or when that container is gone.
    pub container: Option<usize>,
    /// Base of relative patterns; the step's working directory when absent.
    pub working_dir: Option<Template>,
    /// Globs with `**`; a leading `!` excludes.
    pub paths: Vec<Template>,
    /// One archive of this name instead of single files.
    pub compress: Option<Template>,
}
