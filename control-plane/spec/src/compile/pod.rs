//! Settings of Job and pod.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use crate::expression::Value;
use crate::plan::Pod;
use crate::problem::{Problem, Problems};
use crate::schema::{Spec, Text};

use super::scope::claim;

/// The settings of Job and pod.
pub(super) fn build(spec: &Spec, execution: &str, problems: &mut Problems) -> Pod {
    let deadline = spec
        .job
        .active_deadline_seconds
        .as_ref()
        .or(spec.pod.active_deadline_seconds.as_ref());
    let fields = spec.pod.fields.iter().map(|(name, json)| {
        let mut value = json.value.clone();
        if name == "securityContext" {
            whole_numbers(&mut value);
        }
        (name.clone(), value)
    });
    let claims = spec.claims.iter();
    let claims = claims.map(|(name, json)| (claim(execution, name), json.value.clone()));
    Pod {
        active_deadline_seconds: deadline.and_then(|text| seconds(text, problems)),
        job_labels: texts(&spec.job.labels),
        job_annotations: texts(&spec.job.annotations),
        namespace: spec
            .job
            .namespace
            .as_ref()
            .map(|text| text.text.clone())
            .filter(|namespace| !namespace.is_empty()),
        spec: fields.collect(),
        folders: Vec::new(),
        claims: claims.collect(),
        claims_above: BTreeSet::new(),
    }
}

fn seconds(text: &Text, problems: &mut Problems) -> Option<u64> {
    let seconds = text.text.trim().parse::<u64>().ok();
    // What Kubernetes takes: the seconds of a 32-bit integer.
    let seconds = seconds.filter(|seconds| (1..=2_147_483_647).contains(seconds));
    if seconds.is_none() {
        let short: String = text.text.chars().take(60).collect();
        let message = format!("expected a number of seconds from 1 on, found `{short}`");
        problems.push(Problem::new(&text.place, message));
    }
    seconds
}

fn texts(map: &IndexMap<String, Text>) -> BTreeMap<String, String> {
    map.iter()
        .map(|(name, text)| (name.clone(), text.text.clone()))
        .collect()
}

/// Users and groups of a security context may be expressions, which give texts.
pub(super) fn whole_numbers(context: &mut Value) {
    for name in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(value) = context.get_mut(name)
            && let Some(number) = value
                .as_str()
                .and_then(|text| text.trim().parse::<i64>().ok())
        {
            *value = Value::from(number);
        }
    }
}
