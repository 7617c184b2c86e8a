//! What it costs to merge settings once more: each use of a template copies what its user has. Counted
//! in values, as the cost of expressions is.

use crate::expression;
use crate::schema::{Container, Content, EnvValue, Json, Pod, Service, Spec, Step};

fn json<'a>(values: impl IntoIterator<Item = &'a Json>) -> usize {
    let values = values.into_iter();
    values.map(|json| expression::weight(&json.value)).sum()
}

fn container(container: &Container) -> usize {
    let variables = container.env.iter().map(|variable| match &variable.value {
        EnvValue::Plain(text) => 1 + text.text.len() / 16,
        EnvValue::From(from) => 1 + expression::weight(&from.value),
    });
    variables.sum::<usize>()
        + json(&container.env_from)
        + json(&container.volume_mounts)
        + json(&container.security_context)
        + container.limits.len()
        + container.requests.len()
}

fn content(content: &Content) -> usize {
    content.files.len() + content.tarballs.len()
}

/// Of a pod's settings.
pub(super) fn pod(pod: &Pod) -> usize {
    json(pod.fields.values())
}

/// Of a step, without those in it.
pub(super) fn step(step: &Step) -> usize {
    container(&step.container)
        + content(&step.content)
        + step.setup.len()
        + step.steps.len()
        + step.services.len()
}

/// Of a service.
pub(super) fn service(service: &Service) -> usize {
    container(&service.container)
        + pod(&service.pod)
        + content(&service.content)
        + service.claims.len()
}

/// Of a spec, without what its steps have.
pub(super) fn spec(spec: &Spec) -> usize {
    container(&spec.container)
        + pod(&spec.pod)
        + content(&spec.content)
        + spec.job.labels.len()
        + spec.job.annotations.len()
        + spec.execution.tags.len()
        + spec.claims.len()
        + spec.services.len()
        + spec.setup.len()
        + spec.steps.len()
        + spec.after.len()
}
