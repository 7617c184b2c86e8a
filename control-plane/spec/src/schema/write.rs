//! Workflows back as documents of the language: what was read gives the same when it is read again.
//! Places, comments and fields without effect are not kept.

mod object;
mod step;

use indexmap::IndexMap;
use serde_json::json;

use crate::expression::Value;

use super::document::{API_VERSIONS, WORKFLOW};
use super::spec::{Spec, Target};
use super::{Container, Content, EnvValue, Job, Json, Metadata, Parameter, Pod, TemplateRef, Text};
use object::Object;

/// A workflow as a document.
pub(crate) fn workflow(metadata: &Metadata, description: Option<&str>, spec: &Spec) -> Value {
    let mut document = Object::new();
    document.set("apiVersion", API_VERSIONS[0]);
    document.set("kind", WORKFLOW);
    let mut head = Object::new();
    head.set("name", metadata.name.as_str());
    head.some("namespace", metadata.namespace.as_deref());
    head.map("labels", metadata.labels.iter(), |text| {
        text.as_str().into()
    });
    head.map("annotations", metadata.annotations.iter(), |text| {
        text.as_str().into()
    });
    document.set("metadata", head.into_value());
    document.some("description", description);
    let mut fields = Object::new();
    spec_fields(spec, &mut fields);
    document.set("spec", fields.into_value());
    document.into_value()
}

/// Adds the templates that a workflow uses.
pub(crate) fn uses(document: &mut Value, uses: &[TemplateRef]) {
    if !uses.is_empty() {
        document["spec"]["use"] = Value::from_iter(uses.iter().map(step::template));
    }
}

/// The fields of a spec, into an object that may have others.
fn spec_fields(spec: &Spec, object: &mut Object) {
    object.map("config", spec.config.iter(), parameter);
    object.object("content", content(&spec.content));
    object.object("container", container(&spec.container));
    object.object("job", job(&spec.job));
    object.object("pod", pod(&spec.pod));
    object.map("pvcs", spec.claims.iter(), |claim| claim.value.clone());
    let mut system = Object::new();
    system.some("pureByDefault", spec.system.pure_by_default);
    system.some("isolatedContainers", spec.system.isolated_containers);
    object.object("system", system);
    let mut execution = Object::new();
    execution.texts("tags", spec.execution.tags.iter());
    if let Some(target) = &spec.execution.target {
        execution.set("target", self::target(target));
    }
    let mut recovery = Object::new();
    for (name, text) in spec.execution.recovery.texts() {
        recovery.text(name, text);
    }
    execution.object("recovery", recovery);
    object.object("execution", execution);
    let mut timeouts = Object::new();
    for (name, text) in spec.timeouts.texts() {
        timeouts.text(name, text);
    }
    object.object("timeouts", timeouts);
    let mut concurrency = Object::new();
    concurrency.text("group", spec.concurrency.group.as_ref());
    concurrency.text("max", spec.concurrency.max.as_ref());
    concurrency.some("cancelInProgress", spec.concurrency.cancel_in_progress);
    object.object("concurrency", concurrency);
    object.map("services", spec.services.iter(), step::service);
    object.list("setup", &spec.setup, step::step);
    object.list("steps", &spec.steps, step::step);
    object.list("after", &spec.after, step::step);
}

fn parameter(parameter: &Parameter) -> Value {
    let mut object = Object::new();
    object.some("description", parameter.description.as_deref());
    object.set("type", parameter.kind.name());
    object.text("default", parameter.default.as_ref());
    object.list("enum", &parameter.allowed, |text| text.as_str().into());
    object.flag("sensitive", parameter.sensitive);
    object.text("pattern", parameter.pattern.as_ref());
    object.some("minLength", parameter.min_length);
    object.some("maxLength", parameter.max_length);
    object.some("minimum", parameter.minimum);
    object.some("maximum", parameter.maximum);
    object.some("exclusiveMinimum", parameter.exclusive_minimum);
    object.some("exclusiveMaximum", parameter.exclusive_maximum);
    object.some("multipleOf", parameter.multiple_of);
    object.into_value()
}

fn target(target: &Target) -> Value {
    let labels = |values: &Vec<Text>| Value::from_iter(values.iter().map(|one| one.text.clone()));
    let mut object = Object::new();
    object.map("match", target.matches.iter(), labels);
    object.map("not", target.not.iter(), labels);
    object.into_value()
}

fn job(job: &Job) -> Object {
    let mut object = Object::new();
    object.texts("labels", job.labels.iter());
    object.texts("annotations", job.annotations.iter());
    object.text("namespace", job.namespace.as_ref());
    object.text(
        "activeDeadlineSeconds",
        job.active_deadline_seconds.as_ref(),
    );
    object
}

fn pod(pod: &Pod) -> Object {
    let mut object = Object::new();
    object.text(
        "activeDeadlineSeconds",
        pod.active_deadline_seconds.as_ref(),
    );
    for (name, field) in &pod.fields {
        object.set(name, field.value.clone());
    }
    object
}

fn container(container: &Container) -> Object {
    let mut object = Object::new();
    container_fields(container, &mut object);
    object
}

/// The fields of a container, into an object that may have others.
fn container_fields(container: &Container, object: &mut Object) {
    object.text("workingDir", container.working_dir.as_ref());
    object.text("image", container.image.as_ref());
    object.text("imagePullPolicy", container.image_pull_policy.as_ref());
    object.list("env", &container.env, |variable| {
        let mut one = Object::new();
        one.set("name", variable.name.as_str());
        value(&mut one, "value", "valueFrom", Some(&variable.value));
        one.flag("global", variable.global);
        one.into_value()
    });
    object.list("envFrom", &container.env_from, json_of);
    for (name, list) in [("command", &container.command), ("args", &container.args)] {
        if let Some(list) = list {
            object.set(name, text_list(list));
        }
    }
    let mut resources = Object::new();
    resources.texts("limits", container.limits.iter());
    resources.texts("requests", container.requests.iter());
    object.object("resources", resources);
    object.some(
        "securityContext",
        container.security_context.as_ref().map(json_of),
    );
    object.list("volumeMounts", &container.volume_mounts, json_of);
}

fn content(content: &Content) -> Object {
    let mut object = Object::new();
    object.list("files", &content.files, |file| {
        let mut one = Object::new();
        one.set("path", file.path.text.as_str());
        value(&mut one, "content", "contentFrom", Some(&file.content));
        one.some("mode", file.mode);
        one.into_value()
    });
    if let Some(git) = &content.git {
        let mut one = Object::new();
        one.text("uri", git.uri.as_ref());
        one.text("revision", git.revision.as_ref());
        value(&mut one, "username", "usernameFrom", git.username.as_ref());
        value(&mut one, "token", "tokenFrom", git.token.as_ref());
        value(&mut one, "sshKey", "sshKeyFrom", git.ssh_key.as_ref());
        one.some("authType", git.auth_type.map(super::AuthType::name));
        one.text("mountPath", git.mount_path.as_ref());
        one.some("cone", git.cone);
        one.list("paths", &git.paths, |path| path.text.as_str().into());
        one.some("verbose", git.verbose);
        if let Some(retries) = git.retries {
            one.set("retry", json!({"count": retries}));
        }
        object.set("git", one.into_value());
    }
    object.list("tarball", &content.tarballs, |tarball| {
        let mut one = Object::new();
        one.set("url", tarball.url.text.as_str());
        one.set("path", tarball.path.text.as_str());
        one.some("mount", tarball.mount);
        one.into_value()
    });
    object
}

fn value(object: &mut Object, name: &str, from: &str, value: Option<&EnvValue>) {
    match value {
        Some(EnvValue::Plain(text)) => object.set(name, text.text.as_str()),
        Some(EnvValue::From(source)) => object.set(from, source.value.clone()),
        None => {}
    }
}

fn json_of(json: &Json) -> Value {
    json.value.clone()
}

fn text_list(texts: &[Text]) -> Value {
    Value::from_iter(texts.iter().map(|text| text.text.clone()))
}

fn config(texts: &IndexMap<String, Text>) -> Value {
    let mut object = Object::new();
    object.texts("config", texts.iter());
    object.into_value()
}
