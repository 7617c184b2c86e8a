//! Steps, and what they start beside themselves.

use serde_json::json;

use crate::expression::Value;
use crate::schema::{
    Artifacts, Balance, DynamicList, Execute, Member, Parallel, Service, Step, Strategy,
    TemplateRef, Transfer,
};

use super::object::Object;
use super::{config, container, container_fields, content, pod, spec_fields, text_list};

pub(super) fn step(step: &Step) -> Value {
    let mut object = Object::new();
    object.text("id", step.id.as_ref());
    object.text("name", step.name.as_ref());
    object.text("condition", step.condition.as_ref());
    object.some("pure", step.pure);
    object.list("use", &step.uses, template);
    object.object("content", content(&step.content));
    object.object("container", container(&step.container));
    object.text("workingDir", step.working_dir.as_ref());
    object.map("services", step.services.iter(), service);
    object.list("setup", &step.setup, self::step);
    object.list("steps", &step.steps, self::step);
    if let Some(parallel) = &step.parallel {
        object.set("parallel", self::parallel(parallel));
    }
    operations(step, &mut object);
    object.into_value()
}

/// What a step and a worker have in common.
fn operations(step: &Step, object: &mut Object) {
    object.flag("negative", step.negative);
    object.flag("optional", step.optional);
    object.flag("paused", step.paused);
    if let Some(retry) = &step.retry {
        let mut one = Object::new();
        one.set("count", retry.count);
        one.text("until", retry.until.as_ref());
        object.set("retry", one.into_value());
    }
    object.text("timeout", step.timeout.as_ref());
    object.some("template", step.template.as_ref().map(template));
    object.text("delay", step.delay.as_ref());
    if let Some(run) = &step.run {
        let mut one = Object::new();
        container_fields(&run.container, &mut one);
        one.text("shell", run.shell.as_ref());
        object.set("run", one.into_value());
    }
    object.text("shell", step.shell.as_ref());
    object.some("execute", step.execute.as_ref().map(execute));
    object.some("artifacts", step.artifacts.as_ref().map(artifacts));
}

pub(super) fn template(template: &TemplateRef) -> Value {
    let mut object = json!({"name": template.name.text});
    if !template.config.is_empty() {
        object["config"] = config(&template.config)["config"].clone();
    }
    object
}

fn artifacts(artifacts: &Artifacts) -> Value {
    let mut object = Object::new();
    object.text("workingDir", artifacts.working_dir.as_ref());
    object.set("paths", text_list(&artifacts.paths));
    if let Some(name) = &artifacts.compress {
        object.set("compress", json!({"name": name.text}));
    }
    object.into_value()
}

pub(super) fn service(service: &Service) -> Value {
    let mut object = Object::new();
    object.list("use", &service.uses, template);
    strategy(&service.strategy, &mut object);
    object.text("description", service.description.as_ref());
    object.text("logs", service.logs.as_ref());
    object.text("timeout", service.timeout.as_ref());
    object.list("transfer", &service.transfer, transfer);
    object.object("content", content(&service.content));
    container_fields(&service.container, &mut object);
    object.text("shell", service.shell.as_ref());
    object.object("pod", pod(&service.pod));
    object.some("restartPolicy", (!service.restarts).then_some("Never"));
    object.map("pvcs", service.claims.iter(), |claim| claim.value.clone());
    object.some(
        "readinessProbe",
        service.readiness_probe.as_ref().map(super::json_of),
    );
    object.into_value()
}

fn parallel(parallel: &Parallel) -> Value {
    let mut object = Object::new();
    object.list("use", &parallel.uses, template);
    strategy(&parallel.strategy, &mut object);
    object.text("parallelism", parallel.parallelism.as_ref());
    object.flag("failFast", parallel.fail_fast);
    object.text("description", parallel.description.as_ref());
    object.text("logs", parallel.logs.as_ref());
    object.list("transfer", &parallel.transfer, transfer);
    object.list("fetch", &parallel.fetch, transfer);
    let mut worker = parallel.worker.clone();
    if parallel.paused && !worker.steps.is_empty() {
        // The first step is the worker's own: only there `paused` means all of them.
        let own = worker.steps.remove(0);
        operations(&own, &mut object);
    }
    spec_fields(&worker, &mut object);
    object.into_value()
}

fn strategy(strategy: &Strategy, object: &mut Object) {
    object.text("count", strategy.count.as_ref());
    object.text("maxCount", strategy.max_count.as_ref());
    object.map("matrix", strategy.matrix.iter(), dynamic);
    object.map("shards", strategy.shards.iter(), dynamic);
    let by_duration = strategy.balance == Balance::Duration;
    object.some("balance", by_duration.then_some("duration"));
}

fn dynamic(list: &DynamicList) -> Value {
    match list {
        DynamicList::Items(items) => items.value.clone(),
        DynamicList::Expression(text) => text.text.as_str().into(),
    }
}

fn transfer(transfer: &Transfer) -> Value {
    let mut object = Object::new();
    object.set("from", transfer.from.text.as_str());
    object.some("files", transfer.files.as_ref().map(dynamic));
    object.text("to", transfer.to.as_ref());
    object.into_value()
}

fn execute(execute: &Execute) -> Value {
    let mut object = Object::new();
    object.text("parallelism", execute.parallelism.as_ref());
    object.flag("async", execute.detached);
    object.list("workflows", &execute.workflows, member);
    object.into_value()
}

fn member(member: &Member) -> Value {
    let mut object = Object::new();
    object.text("name", member.name.as_ref());
    if let Some(selector) = &member.selector {
        let mut one = Object::new();
        one.texts("matchLabels", selector.labels.iter());
        one.list("matchExpressions", &selector.requirements, |requirement| {
            let mut one = Object::new();
            one.set("key", requirement.key.as_str());
            one.set("operator", requirement.operator.as_str());
            if !requirement.values.is_empty() {
                one.set("values", text_list(&requirement.values));
            }
            one.into_value()
        });
        object.set("selector", one.into_value());
    }
    object.text("description", member.description.as_ref());
    object.text("executionName", member.execution_name.as_ref());
    strategy(&member.strategy, &mut object);
    object.texts("config", member.config.iter());
    object.map("tarball", member.tarball.iter(), transfer);
    object.some("target", member.target.as_ref().map(super::target));
    object.into_value()
}
