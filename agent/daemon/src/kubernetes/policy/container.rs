//! What a workflow may ask of a container.

use muster_spec::plan::Container;
use serde_json::Value;

use super::{Check, OWN};
use crate::kubernetes::security::Level;

/// Capabilities that container runtimes give by default.
const BASELINE: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Where the runner is.
const RUNNER: &str = "/.muster";

impl Check<'_> {
    pub(super) fn container(&mut self, container: &Container) {
        let at = format!("container '{}'", container.name);
        for (index, variable) in container.env_from_cluster.iter().enumerate() {
            let from = &variable["valueFrom"];
            self.secret(&format!("{at} env[{index}]"), &from["secretKeyRef"]["name"]);
        }
        for (index, source) in container.env_from.iter().enumerate() {
            self.secret(
                &format!("{at} envFrom[{index}]"),
                &source["secretRef"]["name"],
            );
        }
        for (index, mount) in container.volume_mounts.iter().enumerate() {
            self.mount(&format!("{at} volumeMounts[{index}]"), mount);
        }
        if let Some(context) = &container.security_context {
            self.container_security(&format!("{at} securityContext"), context);
        }
    }

    /// The agent's own Secrets hold tokens of other runs.
    pub(super) fn secret(&mut self, path: &str, name: &Value) {
        if name.as_str().is_some_and(|name| name.starts_with(OWN)) {
            self.refuse(
                path,
                "Secrets whose name begins with 'muster-' are the agent's own; use another name",
            );
        }
    }

    pub(super) fn mount(&mut self, path: &str, mount: &Value) {
        let target = mount["mountPath"].as_str().unwrap_or_default();
        let clean = target.trim_end_matches('/');
        let inside = clean
            .strip_prefix(RUNNER)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let odd =
            target.split('/').any(|part| part == ".." || part == ".") || target.contains("//");
        if inside || odd || clean.is_empty() {
            self.refuse(path, "give a plain absolute path that is not / and not in /.muster, which holds the runner");
        }
        if mount["name"]
            .as_str()
            .is_some_and(|name| name.starts_with(OWN))
        {
            self.refuse(
                path,
                "volumes whose name begins with 'muster-' are the agent's own",
            );
        }
        if mount["mountPropagation"]
            .as_str()
            .is_some_and(|how| how != "None")
        {
            self.privileged(path, "mount propagation");
        }
    }

    fn container_security(&mut self, path: &str, context: &Value) {
        let Some(fields) = context.as_object() else {
            return self.refuse(path, "it is not an object");
        };
        for (field, value) in fields {
            let path = format!("{path}.{field}");
            match field.as_str() {
                "runAsGroup" | "readOnlyRootFilesystem" => {}
                "runAsUser" | "runAsNonRoot" | "seccompProfile" | "appArmorProfile" => {
                    self.confinement(&path, field, value);
                }
                "allowPrivilegeEscalation" => {
                    if self.level == Level::Restricted && value != &Value::Bool(false) {
                        self.restricted(&path, "to gain privileges");
                    }
                }
                "privileged" => {
                    if value != &Value::Bool(false) {
                        self.privileged(&path, "a privileged container");
                    }
                }
                "procMount" => {
                    if value.as_str() != Some("Default") {
                        self.privileged(&path, "an unmasked /proc");
                    }
                }
                "seLinuxOptions" => self.privileged(&path, "another SELinux label"),
                "capabilities" => self.capabilities(&path, value),
                _ => self.unknown(&path),
            }
        }
    }

    fn capabilities(&mut self, path: &str, value: &Value) {
        for added in value["add"].as_array().into_iter().flatten() {
            let name = added.as_str().unwrap_or_default();
            let path = format!("{path}.add");
            let bare = name.strip_prefix("CAP_").unwrap_or(name);
            match self.level {
                Level::Restricted if bare != "NET_BIND_SERVICE" => {
                    self.restricted(&path, &format!("the capability '{name}'"));
                }
                Level::Baseline if !BASELINE.contains(&bare) => {
                    self.privileged(&path, &format!("the capability '{name}'"));
                }
                Level::Privileged | Level::Restricted | Level::Baseline => {}
            }
        }
    }
}
