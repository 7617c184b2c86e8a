//! Which volumes a workflow may bring.

use serde_json::Value;

use super::{Check, OWN};

/// Kinds that show nothing of the node, of other runs, and no token of the cluster.
const HARMLESS: [&str; 5] = ["configMap", "csi", "downwardAPI", "emptyDir", "image"];

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
                "persistentVolumeClaim" => {
                    let name = source["claimName"].as_str().unwrap_or_default();
                    if name.starts_with(OWN) && !self.claims.contains(&name) {
                        self.refuse(&path, "claims whose name begins with 'muster-' belong to other runs; declare one in `pvcs`");
                    }
                }
                "ephemeral" => self.claim_source(&path, &source["volumeClaimTemplate"]["spec"]),
                "projected" => self.projected(&path, source),
                _ if HARMLESS.contains(&kind.as_str()) => {}
                _ => self.privileged(&path, "this kind of volume"),
            }
        }
    }

    /// A claim may begin as a copy of another one.
    pub(super) fn claim_source(&mut self, path: &str, claim: &Value) {
        for field in ["dataSource", "dataSourceRef"] {
            let name = claim[field]["name"].as_str().unwrap_or_default();
            if name.starts_with(OWN) && !self.claims.contains(&name) {
                let path = format!("{path}.{field}");
                self.refuse(
                    &path,
                    "claims whose name begins with 'muster-' belong to other runs",
                );
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
