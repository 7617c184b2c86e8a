//! What a workflow may ask of a pod. Every field is looked up in a list of what is allowed; one
//! that is not there is refused, so a field that Kubernetes invents tomorrow is not let through.
//!
//! Defaults are added in [`super::security`], not here.

mod container;
mod key;
mod volume;

use muster_spec::plan::{Container, Plan, Tool};
use serde_json::Value;

use super::security::Level;
use crate::{backend::Denied, config};

/// Prefix of names that are the agent's own.
pub(super) const OWN: &str = "muster-";
/// Settings of the kernel that a pod may change without harm to others.
const SAFE_SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
];

/// Checks everything that a plan asks of its pod.
pub(super) fn check(
    plan: &Plan,
    settings: &config::Kubernetes,
    level: Level,
) -> Result<(), Denied> {
    let claims = plan.pod.claims.keys().chain(&plan.pod.claims_above);
    let mut check = Check {
        settings,
        level,
        claims: claims.map(String::as_str).collect(),
        problems: Vec::new(),
    };
    check.namespace(plan.pod.namespace.as_deref());
    check.keys("job.labels", plan.pod.job_labels.keys());
    check.keys("job.annotations", plan.pod.job_annotations.keys());
    for (field, value) in &plan.pod.spec {
        check.pod_field(field, value);
    }
    for container in &plan.containers {
        check.container(container);
    }
    for folder in &plan.pod.folders {
        check.mount("content", &serde_json::json!({"mountPath": folder}));
    }
    for name in plan.pod.claims.keys().filter(|name| !name.starts_with(OWN)) {
        let why = format!("the claim '{name}' has no name of the agent's own");
        check.refuse("pvcs", &why);
    }
    for (name, claim) in &plan.pod.claims {
        check.claim_source(&format!("pvcs '{name}'"), claim);
    }
    let needs_git = |one: &Container| one.tool == Some(Tool::Git);
    if settings.git_image.is_none() && plan.containers.iter().any(needs_git) {
        let why = "this agent has no image with git; start it with --git-image";
        check.refuse("content.git", why);
    }
    if check.problems.is_empty() {
        return Ok(());
    }
    Err(Denied {
        reason: "POLICY_DENIED",
        message: check.problems.join("; "),
    })
}

/// One check, and the problems found so far.
struct Check<'a> {
    settings: &'a config::Kubernetes,
    level: Level,
    /// Claims that are made for the plan, or for an execution above it.
    claims: Vec<&'a str>,
    problems: Vec<String>,
}

impl Check<'_> {
    fn refuse(&mut self, path: &str, why: &str) {
        self.problems.push(format!("{path}: {why}"));
    }

    fn unknown(&mut self, path: &str) {
        let why = "the pod policy of this agent does not know this field; leave it out";
        self.refuse(path, why);
    }

    /// Refuses what gives a pod power over its node.
    fn privileged(&mut self, path: &str, what: &str) {
        if self.level != Level::Privileged {
            let why = format!(
                "{what} is not allowed by the pod policy of this agent; leave it out, or use an agent with --pod-security=privileged"
            );
            self.refuse(path, &why);
        }
    }

    fn namespace(&mut self, wanted: Option<&str>) {
        let Some(wanted) = wanted else { return };
        if wanted != self.settings.namespace && !self.settings.namespaces.contains(wanted) {
            let mut allowed: Vec<_> = self
                .settings
                .namespaces
                .iter()
                .map(String::as_str)
                .collect();
            allowed.insert(0, &self.settings.namespace);
            let why = format!(
                "'{wanted}' is not a namespace of this agent; it has {}",
                allowed.join(", ")
            );
            self.refuse("job.namespace", &why);
        }
    }

    fn pod_field(&mut self, field: &str, value: &Value) {
        let path = format!("pod.{field}");
        let policy = &self.settings.policy;
        match field {
            "dnsPolicy"
            | "dnsConfig"
            | "hostname"
            | "subdomain"
            | "hostAliases"
            | "imagePullSecrets"
            | "preemptionPolicy"
            | "schedulingGates"
            | "resourceClaims"
            | "disableFsGroupDefaulting"
            | "activeDeadlineSeconds" => {}
            "labels" | "annotations" => {
                if let Some(map) = value.as_object() {
                    self.keys(&path, map.keys());
                }
            }
            "nodeSelector" | "affinity" | "tolerations" | "topologySpreadConstraints" => {
                if !policy.scheduling {
                    self.refuse(
                        &path,
                        "workflows may not choose nodes here; use labels of agents",
                    );
                }
            }
            "hostNetwork" | "hostPID" | "hostIPC" => {
                if value != &Value::Bool(false) {
                    self.privileged(&path, "a namespace of the host");
                }
            }
            "nodeName" => {
                if !policy.node_name {
                    self.refuse(&path, "a node by name goes past the scheduler and is not allowed here; use nodeSelector");
                }
            }
            "serviceAccountName" => {
                self.listed(&path, value, &policy.service_accounts, "service account");
            }
            "priorityClassName" => {
                self.listed(&path, value, &policy.priority_classes, "priority class");
            }
            "securityContext" => self.pod_security(&path, value),
            "volumes" => self.volumes(&path, value),
            _ => self.unknown(&path),
        }
    }

    fn listed(
        &mut self,
        path: &str,
        value: &Value,
        allowed: &std::collections::BTreeSet<String>,
        what: &str,
    ) {
        let name = value.as_str().unwrap_or_default();
        if !allowed.contains(name) {
            let list: Vec<_> = allowed.iter().map(String::as_str).collect();
            let list = if list.is_empty() {
                "none".to_owned()
            } else {
                list.join(", ")
            };
            let why = format!(
                "the {what} '{name}' is not allowed by the pod policy of this agent; allowed: {list}"
            );
            self.refuse(path, &why);
        }
    }

    fn pod_security(&mut self, path: &str, value: &Value) {
        let Some(fields) = value.as_object() else {
            return self.refuse(path, "it is not an object");
        };
        for (field, value) in fields {
            let path = format!("{path}.{field}");
            match field.as_str() {
                "fsGroup"
                | "fsGroupChangePolicy"
                | "supplementalGroups"
                | "supplementalGroupsPolicy"
                | "runAsGroup" => {}
                "runAsUser" | "runAsNonRoot" | "seccompProfile" | "appArmorProfile" => {
                    self.confinement(&path, field, value);
                }
                "sysctls" => self.sysctls(&path, value),
                "seLinuxOptions" => self.privileged(&path, "another SELinux label"),
                _ => self.unknown(&path),
            }
        }
    }

    fn sysctls(&mut self, path: &str, value: &Value) {
        for name in value
            .as_array()
            .into_iter()
            .flatten()
            .map(|s| s["name"].as_str().unwrap_or_default())
        {
            if !SAFE_SYSCTLS.contains(&name) {
                self.privileged(path, &format!("the kernel setting '{name}'"));
            }
        }
    }

    /// Fields that pod and container have in common.
    fn confinement(&mut self, path: &str, field: &str, value: &Value) {
        let restricted = self.level == Level::Restricted;
        match field {
            "runAsUser" if restricted && (value == &Value::from(0) || value == "0") => {
                self.restricted(path, "user 0");
            }
            "runAsNonRoot" if restricted && value != &Value::Bool(true) => {
                self.restricted(path, "to run as root");
            }
            "seccompProfile" | "appArmorProfile" => match value["type"].as_str() {
                Some("RuntimeDefault" | "Localhost") => {}
                _ => self.privileged(path, "to go without the profile of the runtime"),
            },
            _ => {}
        }
    }

    /// Refuses what the `restricted` standard does not allow.
    fn restricted(&mut self, path: &str, what: &str) {
        let why = format!(
            "{what} is not possible where the 'restricted' Pod Security Standard holds; leave the field out, or use an agent whose namespace allows it"
        );
        self.refuse(path, &why);
    }
}

#[cfg(test)]
mod tests;
