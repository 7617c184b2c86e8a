//! Which volumes a workflow may bring.

use serde_json::Value;

use super::{Check, OWN};

/// Kinds that show nothing of the node and no token of the cluster.
const HARMLESS: [&str; 7] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
];

impl Check<'_> {
    pub(super) fn volumes(&mut self, path: &str, value: &Value) {
        for (index, volume) in value.as_array().into_iter().flatten().enumerate() {
            self.volume(&format!("{path}[{index}]"), volume);
        }
    }

    fn volume(&mut self, path: &str, volume: &Value) {
        let Some(fields) = volume.as_object() else {
            return self.refuse(path, "it is not an object");
        };
        for (kind, source) in fields {
            let path = format!("{path}.{kind}");
            match kind.as_str() {
                "name" => {
                    if source.as_str().is_some_and(|name| name.starts_with(OWN)) {
                        self.refuse(&path, "volumes whose name begins with 'muster-' are the agent's own; use another name");
                    }
                }
                "secret" => self.secret(&path, &source["secretName"]),
                "projected" => self.projected(&path, source),
                _ if HARMLESS.contains(&kind.as_str()) => {}
                _ => self.privileged(&path, "this kind of volume"),
            }
        }
    }

    fn projected(&mut self, path: &str, source: &Value) {
        for part in source["sources"].as_array().into_iter().flatten() {
            self.secret(path, &part["secret"]["name"]);
            for kind in part.as_object().into_iter().flatten().map(|(kind, _)| kind) {
                if !["configMap", "downwardAPI", "secret"].contains(&kind.as_str()) {
                    self.privileged(path, &format!("the source '{kind}'"));
                }
            }
        }
    }
}
