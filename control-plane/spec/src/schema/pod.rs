//! `job` and `pod`: settings of the Kubernetes objects.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::field::{Json, Object, Reader, Text};

/// `job`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Job {
    /// `labels`.
    pub labels: IndexMap<String, Text>,
    /// `annotations`.
    pub annotations: IndexMap<String, Text>,
    /// `namespace`.
    pub namespace: Option<Text>,
    /// `activeDeadlineSeconds`.
    pub active_deadline_seconds: Option<Text>,
}

/// `pod`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pod {
    /// `activeDeadlineSeconds`.
    pub active_deadline_seconds: Option<Text>,
    /// All other fields, by name: those of a Kubernetes `PodSpec` that the language allows.
    pub fields: IndexMap<String, Json>,
}

/// Fields of `pod` that are passed on.
pub(crate) const FIELDS: [&str; 24] = [
    "labels",
    "annotations",
    "serviceAccountName",
    "imagePullSecrets",
    "nodeSelector",
    "volumes",
    "dnsPolicy",
    "nodeName",
    "securityContext",
    "disableFsGroupDefaulting",
    "hostname",
    "subdomain",
    "affinity",
    "tolerations",
    "hostAliases",
    "priorityClassName",
    "priority",
    "dnsConfig",
    "preemptionPolicy",
    "topologySpreadConstraints",
    "schedulingGates",
    "resourceClaims",
    "hostPID",
    "schedulerName",
];

impl Job {
    pub(super) fn read(reader: &mut Reader, spec: &mut Object<'_>) -> Self {
        let Some(mut object) = spec.take("job").and_then(|found| found.object(reader)) else {
            return Self::default();
        };
        let job = Self {
            labels: object.texts(reader, "labels"),
            annotations: object.texts(reader, "annotations"),
            namespace: object.said(reader, "namespace"),
            active_deadline_seconds: object.scalar(reader, "activeDeadlineSeconds"),
        };
        object.finish(reader);
        job
    }
}

impl Pod {
    pub(super) fn read(reader: &mut Reader, spec: &mut Object<'_>) -> Self {
        let Some(mut object) = spec.take("pod").and_then(|found| found.object(reader)) else {
            return Self::default();
        };
        let mut pod = Self {
            active_deadline_seconds: object.scalar(reader, "activeDeadlineSeconds"),
            fields: IndexMap::new(),
        };
        for name in FIELDS {
            let Some(found) = object.take(name) else {
                continue;
            };
            let shaped = match name {
                "labels" | "annotations" | "nodeSelector" => {
                    let before = reader.problems.0.len();
                    found.texts(reader);
                    reader.problems.0.len() == before
                }
                "imagePullSecrets"
                | "volumes"
                | "tolerations"
                | "hostAliases"
                | "topologySpreadConstraints"
                | "schedulingGates"
                | "resourceClaims" => {
                    let items = found.items(reader);
                    items.iter().all(|item| item.object(reader).is_some())
                }
                "securityContext" | "affinity" | "dnsConfig" => found.object(reader).is_some(),
                "disableFsGroupDefaulting" | "hostPID" => found.flag(reader).is_some(),
                "priority" => found.scalar(reader, "an integer").is_some(),
                _ => found.text(reader).is_some(),
            };
            if shaped {
                pod.fields.insert(name.to_owned(), found.json(reader));
            }
        }
        object.finish(reader);
        pod
    }
}
