//! Merging of settings: what is nearer to a step wins, maps merge, lists grow.

use std::collections::HashSet;
use std::sync::Arc;

use crate::expression::Value;
use crate::schema::{Container, EnvValue, EnvVar, Job, Json, Pod};

/// The settings of `high` over those of `low`.
pub(super) fn container(low: &Container, high: &Container) -> Container {
    let mut limits = low.limits.clone();
    limits.extend(high.limits.clone());
    let mut requests = low.requests.clone();
    requests.extend(high.requests.clone());
    // Arguments belong to their command: a nearer command does not take those of another one.
    let args = match (&high.command, &high.args) {
        (None, None) => &low.args,
        (_, args) => args,
    };
    Container {
        working_dir: high.working_dir.clone().or_else(|| low.working_dir.clone()),
        image: high.image.clone().or_else(|| low.image.clone()),
        image_pull_policy: high
            .image_pull_policy
            .clone()
            .or_else(|| low.image_pull_policy.clone()),
        env: env(&low.env, &high.env),
        env_from: both(&low.env_from, &high.env_from),
        command: high.command.clone().or_else(|| low.command.clone()),
        args: args.clone(),
        limits,
        requests,
        security_context: match (&low.security_context, &high.security_context) {
            (Some(low), Some(high)) => Some(Json {
                value: json(&low.value, &high.value, false),
                place: Arc::clone(&high.place),
            }),
            (low, high) => high.clone().or_else(|| low.clone()),
        },
        volume_mounts: both(&low.volume_mounts, &high.volume_mounts),
    }
}

/// Variables by name; one that refers to its own former value keeps that before it.
fn env(low: &[EnvVar], high: &[EnvVar]) -> Vec<EnvVar> {
    let replaces = |variable: &&EnvVar| {
        let own = format!("$({})", variable.name);
        !matches!(&variable.value, EnvValue::Plain(text) if text.text.contains(&own))
    };
    let replaced: HashSet<&str> = high
        .iter()
        .filter(replaces)
        .map(|variable| variable.name.as_str())
        .collect();
    let kept = low
        .iter()
        .filter(|variable| !replaced.contains(variable.name.as_str()));
    kept.chain(high).cloned().collect()
}

fn both(low: &[Json], high: &[Json]) -> Vec<Json> {
    let known = texts(low.iter().map(|item| &item.value));
    let new = |item: &&Json| !known.contains(&item.value.to_string());
    low.iter().chain(high.iter().filter(new)).cloned().collect()
}

/// What sets the items of a list apart, found fast in a long one too.
fn texts<'a>(items: impl Iterator<Item = &'a Value>) -> HashSet<String> {
    items.map(Value::to_string).collect()
}

/// Maps merge; lists are joined, without what is there already, or replaced; of anything else the
/// higher one stays.
pub(super) fn json(low: &Value, high: &Value, join: bool) -> Value {
    match (low, high) {
        (Value::Object(low), Value::Object(high)) => {
            let mut merged = low.clone();
            for (key, value) in high {
                let value = match low.get(key) {
                    Some(before) => json(before, value, join),
                    None => value.clone(),
                };
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(low), Value::Array(high)) if join => {
            let known = texts(low.iter());
            let new = high
                .iter()
                .filter(|item| !known.contains(&item.to_string()));
            Value::Array(low.iter().chain(new).cloned().collect())
        }
        (_, high) => high.clone(),
    }
}

/// The pod settings of `high` over those of `low`.
pub(super) fn pod(low: &Pod, high: &Pod) -> Pod {
    let mut fields = low.fields.clone();
    for (name, value) in &high.fields {
        let merged = match low.fields.get(name) {
            Some(before) => Json {
                value: json(&before.value, &value.value, true),
                place: Arc::clone(&value.place),
            },
            None => value.clone(),
        };
        fields.insert(name.clone(), merged);
    }
    Pod {
        active_deadline_seconds: high
            .active_deadline_seconds
            .clone()
            .or_else(|| low.active_deadline_seconds.clone()),
        fields,
    }
}

/// The job settings of `high` over those of `low`.
pub(super) fn job(low: &Job, high: &Job) -> Job {
    let mut labels = low.labels.clone();
    labels.extend(high.labels.clone());
    let mut annotations = low.annotations.clone();
    annotations.extend(high.annotations.clone());
    Job {
        labels,
        annotations,
        namespace: high.namespace.clone().or_else(|| low.namespace.clone()),
        active_deadline_seconds: high
            .active_deadline_seconds
            .clone()
            .or_else(|| low.active_deadline_seconds.clone()),
    }
}
