//! The Job of an attempt, made from its plan. Pure: nothing here asks the cluster.
//!
//! What a plan may ask for is checked before, in [`super::policy`].

use std::collections::{BTreeMap, BTreeSet};

use muster_core::id::{AgentId, AttemptId};
use muster_proto::runner::v1::SECRET_PREFIX;
use muster_spec::plan::{Container, Plan, Resources, Tool};
use serde_json::{Map, Value, json};

use super::{
    resources,
    security::{self, Level},
};
use crate::config;

/// Label of everything that an agent makes.
pub(super) const MANAGED: (&str, &str) = ("app.kubernetes.io/managed-by", "muster");
/// Label with the agent.
pub(super) const AGENT: &str = "muster.dev/agent";
/// Label with the attempt.
pub(super) const ATTEMPT: &str = "muster.dev/attempt";
/// Label with the epoch of the attempt's lease.
pub(super) const EPOCH: &str = "muster.dev/epoch";
/// Name of the conductor's container.
pub(super) const CONDUCTOR: &str = "conductor";
/// Key of the token in an attempt's Secret.
pub(super) const TOKEN: &str = "token";

const RUNNER: &str = "/.muster/bin/muster-runner";
/// Volumes of every container.
const VOLUMES: [(&str, &str); 4] = [
    ("muster-runner", "/.muster"),
    ("muster-data", "/data"),
    ("muster-testkube", "/testkube"),
    ("muster-tmp", "/tmp"),
];
/// Fields of the pod that are taken as they are, once the policy has let them through.
const TAKEN: [&str; 18] = [
    "affinity",
    "dnsConfig",
    "dnsPolicy",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostname",
    "nodeName",
    "nodeSelector",
    "preemptionPolicy",
    "priorityClassName",
    "resourceClaims",
    "schedulingGates",
    "serviceAccountName",
    "subdomain",
    "tolerations",
    "topologySpreadConstraints",
];

/// All that a Job is made from.
pub(super) struct Blueprint<'a> {
    pub(super) attempt: AttemptId,
    pub(super) epoch: i64,
    pub(super) execution: &'a str,
    pub(super) project: &'a str,
    pub(super) display_name: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) settings: &'a config::Kubernetes,
    /// Short name of the agent.
    pub(super) agent: AgentId,
    /// Certificate that conductors trust.
    pub(super) certificate: &'a str,
    pub(super) level: Level,
}

/// Name of an attempt's Job and Secret.
pub(super) fn name(attempt: AttemptId) -> String {
    format!("{}{attempt}", super::policy::OWN)
}

/// The attempt of a Job's name.
pub(super) fn attempt_of(name: &str) -> Option<AttemptId> {
    name.strip_prefix(super::policy::OWN)?.parse().ok()
}

/// Labels of everything that belongs to an attempt.
pub(super) fn labels(attempt: AttemptId, epoch: i64, agent: AgentId) -> BTreeMap<String, String> {
    let pairs = [
        (MANAGED.0, MANAGED.1.to_owned()),
        (AGENT, agent.to_string()),
        (ATTEMPT, attempt.to_string()),
        (EPOCH, epoch.to_string()),
    ];
    let owned = pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    owned.collect()
}

impl Blueprint<'_> {
    /// The Job.
    ///
    /// # Errors
    ///
    /// What the plan gives and Kubernetes can not take.
    pub(super) fn job(&self) -> Result<Value, String> {
        let pod = &self.plan.pod;
        let own = labels(self.attempt, self.epoch, self.agent);
        let mut job_labels = pod.job_labels.clone();
        job_labels.extend(own.clone());
        let mut annotations = pod.job_annotations.clone();
        annotations.extend([
            ("muster.dev/execution".to_owned(), self.execution.to_owned()),
            ("muster.dev/project".to_owned(), self.project.to_owned()),
            ("muster.dev/name".to_owned(), self.display_name.to_owned()),
        ]);
        let mut pod_labels = strings(pod.spec.get("labels"));
        pod_labels.extend(own);
        let deadline = pod.active_deadline_seconds;
        let deadline = deadline.unwrap_or(self.settings.job_deadline.as_secs());
        let spec = json!({
            "activeDeadlineSeconds": deadline,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": 3600,
            "template": {
                "metadata": {
                    "labels": pod_labels,
                    "annotations": strings(pod.spec.get("annotations")),
                },
                "spec": self.pod()?,
            },
        });
        Ok(json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name(self.attempt),
                "labels": job_labels,
                "annotations": annotations,
            },
            "spec": spec,
        }))
    }

    fn pod(&self) -> Result<Value, String> {
        let given = &self.plan.pod.spec;
        let own_group = given.get("disableFsGroupDefaulting") != Some(&Value::Bool(true));
        let resources: Vec<&Resources> =
            self.plan.containers.iter().map(|c| &c.resources).collect();
        let shared = resources::share(&resources)?;
        let mut containers = vec![self.conductor()];
        let service = self.plan.service_container();
        for (index, (container, resources)) in self.plan.containers.iter().zip(&shared).enumerate()
        {
            let mut made = self.container(container, resources);
            if service == Some(index) {
                self.make_service(&mut made);
            }
            containers.push(made);
        }
        let mut volumes: Vec<Value> = VOLUMES
            .iter()
            .map(|(name, _)| json!({"name": name, "emptyDir": {}}))
            .collect();
        let folders = 0..self.plan.pod.folders.len();
        volumes.extend(folders.map(|index| json!({"name": folder(index), "emptyDir": {}})));
        volumes.extend(list(given.get("volumes")));
        let mut spec = Map::new();
        for field in TAKEN {
            if let Some(value) = given.get(field) {
                spec.insert(field.to_owned(), value.clone());
            }
        }
        let own = json!({
            "restartPolicy": "Never",
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 30,
            "securityContext": security::pod(given.get("securityContext"), own_group),
            "imagePullSecrets": self.pull_secrets().iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
            "containers": containers,
            "volumes": volumes,
        });
        if let Value::Object(own) = own {
            spec.extend(own);
        }
        // Who names an account wants its token, if the account gives one.
        if !spec.contains_key("serviceAccountName") {
            spec.insert("automountServiceAccountToken".to_owned(), false.into());
        }
        Ok(Value::Object(spec))
    }

    /// Names of the pod's pull secrets.
    fn pull_secrets(&self) -> BTreeSet<String> {
        pull_secrets(self.plan, self.settings)
    }

    fn conductor(&self) -> Value {
        let token = json!({"secretKeyRef": {"name": name(self.attempt), "key": TOKEN}});
        // Known to the cluster alone when the agent takes the namespace that it runs in.
        let namespace = json!({"fieldRef": {"fieldPath": "metadata.namespace"}});
        let mut container = json!({
            "name": CONDUCTOR,
            "image": self.settings.runner_image,
            "command": ["/muster-runner", "conductor"],
            "env": [
                {"name": "MUSTER_AGENT_ADDRESS", "value": self.settings.relay_advertise},
                {"name": "MUSTER_AGENT_TLS_CA", "value": self.certificate},
                {"name": "MUSTER_ATTEMPT", "value": self.attempt.to_string()},
                {"name": "MUSTER_ATTEMPT_TOKEN", "valueFrom": token},
                {"name": "MUSTER_NAMESPACE", "valueFrom": namespace},
            ],
            "resources": {
                "requests": {"cpu": "5m", "memory": "16Mi"},
                "limits": {"memory": "128Mi"},
            },
            "securityContext": security::conductor(),
            "volumeMounts": self.mounts(&[]),
            "lifecycle": {
                "postStart": {"exec": {"command": ["/muster-runner", "install", "/.muster"]}},
            },
        });
        if let Some(policy) = &self.settings.image_pull_policy {
            container["imagePullPolicy"] = json!(policy);
        }
        container
    }

    fn container(&self, container: &Container, resources: &Resources) -> Value {
        let image = container.image.as_ref();
        let policy = match image {
            Some(_) => container.image_pull_policy.as_ref(),
            None => self.settings.image_pull_policy.as_ref(),
        };
        // A plan that needs git is refused when there is no image for it.
        let own = match container.tool {
            Some(Tool::Git) => self.settings.git_image.as_ref(),
            Some(Tool::Values) | None => None,
        };
        let own = own.unwrap_or(&self.settings.runner_image);
        let security = match container.tool {
            Some(Tool::Values) => security::conductor(),
            _ => security::container(container.security_context.as_ref(), self.level),
        };
        let mut made = json!({
            "name": container.name,
            "image": image.unwrap_or(own),
            "command": [RUNNER, "shim", "--container", container.name],
            "env": container.env_from_cluster,
            "envFrom": with_marked_secrets(&container.env_from),
            "resources": resources,
            "securityContext": security,
            "volumeMounts": self.mounts(&container.volume_mounts),
        });
        if let Some(policy) = policy {
            made["imagePullPolicy"] = json!(policy);
        }
        made
    }
}

/// Sources of variables, and those that are Secrets once more under a prefix of our own: the runner masks
/// their values, and nothing else tells them from what the image has set.
fn with_marked_secrets(sources: &[Value]) -> Vec<Value> {
    let secrets = sources.iter().filter_map(|source| source.get("secretRef"));
    let marked = secrets.enumerate().map(|(index, secret)| {
        json!({"prefix": format!("{SECRET_PREFIX}{index}_"), "secretRef": secret})
    });
    sources.iter().cloned().chain(marked).collect()
}

impl Blueprint<'_> {
    /// What the container of a service has besides: its address, and its readiness probe, which
    /// is the kubelet's business.
    fn make_service(&self, container: &mut Value) {
        let address = json!({
            "name": "MUSTER_ADDRESS",
            "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
        });
        if let Some(env) = container["env"].as_array_mut() {
            env.push(address);
        }
        let service = self.plan.service.as_ref();
        if let Some(probe) = service.and_then(|service| service.readiness_probe.as_ref()) {
            container["readinessProbe"] = probe.clone();
        }
    }

    /// The language's volumes and the folders of the plan, apart from those in whose place a
    /// workflow mounts its own.
    fn mounts(&self, given: &[Value]) -> Vec<Value> {
        let taken: Vec<_> = given
            .iter()
            .filter_map(|mount| mount["mountPath"].as_str())
            .map(|path| path.trim_end_matches('/'))
            .collect();
        let own = VOLUMES
            .iter()
            .map(|(name, path)| ((*name).to_owned(), *path));
        let folders = self.plan.pod.folders.iter().enumerate();
        let folders = folders.map(|(index, path)| (folder(index), path.as_str()));
        own.chain(folders)
            .filter(|(_, path)| !taken.contains(path))
            .map(|(name, path)| json!({"name": name, "mountPath": path}))
            .chain(given.iter().cloned())
            .collect()
    }
}

/// Names of the pull secrets of a plan's pod.
pub(super) fn pull_secrets(plan: &Plan, settings: &config::Kubernetes) -> BTreeSet<String> {
    let given = list(plan.pod.spec.get("imagePullSecrets"));
    let names = given.iter().filter_map(|secret| secret["name"].as_str());
    let own = settings.image_pull_secrets.iter().map(String::as_str);
    own.chain(names).map(str::to_owned).collect()
}

/// Name of the volume of a folder of the plan.
fn folder(index: usize) -> String {
    format!("{}folder-{index}", super::policy::OWN)
}

fn list(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

fn strings(value: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs
        .map(|(key, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (key.clone(), text)
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests;
