//! `spec` of workflows and templates.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::claim;
use super::container::Container;
use super::content::Content;
use super::field::{Found, Json, Object, Reader, Text};
use super::parameter::{self, Parameter};
use super::pod::{Job, Pod};
use super::recovery::{Concurrency, Recovery};
use super::service::{self, Services};
use super::step::Step;
use super::visit::Names;

/// `spec`, without `use`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Spec {
    /// `config`: parameters by name.
    #[serde(skip)]
    pub config: IndexMap<String, Parameter>,
    /// `content`, there before all steps.
    pub content: Content,
    /// `container`: defaults of all steps.
    pub container: Container,
    /// `job`.
    pub job: Job,
    /// `pod`.
    pub pod: Pod,
    /// `pvcs`: claims of volumes by name.
    pub claims: IndexMap<String, Json>,
    /// `system`.
    pub system: System,
    /// `execution`.
    pub execution: Execution,
    /// `timeouts`.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// `concurrency`.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// `services`: helpers that live as long as the workflow.
    pub services: Services,
    /// `setup`.
    pub setup: Vec<Step>,
    /// `steps`.
    pub steps: Vec<Step>,
    /// `after`.
    pub after: Vec<Step>,
}

/// `system`: how steps are put into containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct System {
    /// Steps may share a container unless they say otherwise; true by default.
    pub pure_by_default: Option<bool>,
    /// Every step has a container of its own.
    pub isolated_containers: Option<bool>,
}

/// `timeouts`: how long each stage of a run may take; all are templates of durations.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// `queue`: longest time in the queue.
    pub queue: Option<Text>,
    /// `initialization`: longest time from the agent to the first step.
    pub initialization: Option<Text>,
    /// `run`: longest time of the steps.
    pub run: Option<Text>,
    /// `grace`: longest time that `after` steps and artifacts have when it is to end.
    pub grace: Option<Text>,
}

/// `execution`: defaults of each run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Execution {
    /// Tags, as templates.
    pub tags: IndexMap<String, Text>,
    /// Where it should run.
    pub target: Option<Target>,
    /// What follows when an attempt ends badly.
    #[serde(default)]
    pub recovery: Recovery,
}

/// `execution.target`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Target {
    /// Labels that an agent must have, with any of the values.
    pub matches: BTreeMap<String, Vec<Text>>,
    /// Labels that an agent must not have, with any of the values.
    pub not: BTreeMap<String, Vec<Text>>,
    /// Labels for each of whose values it is run once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicate: Vec<Text>,
}

impl Spec {
    pub(super) fn read(reader: &mut Reader, mut object: Object<'_>) -> Self {
        let spec = Self::fields(reader, &mut object);
        object.finish(reader);
        spec
    }

    /// Reads the fields of a spec from an object that has others too.
    pub(super) fn fields(reader: &mut Reader, object: &mut Object<'_>) -> Self {
        let schedules = "schedules are not supported yet";
        object.without_effect(reader, "events", schedules);
        object.without_effect(reader, "notifications", "it is deprecated");
        Self {
            config: parameter::read_all(reader, object),
            content: Content::read(reader, object),
            container: Container::read(reader, object),
            job: Job::read(reader, object),
            pod: Pod::read(reader, object),
            claims: claim::read(reader, object),
            system: System::read(reader, object),
            execution: Execution::read(reader, object),
            timeouts: Timeouts::read(reader, object),
            concurrency: Concurrency::read(reader, object),
            services: service::read_all(reader, object),
            setup: object.list(reader, "setup", Step::read),
            steps: object.list(reader, "steps", Step::read),
            after: object.list(reader, "after", Step::read),
        }
    }

    /// Adds the names that a workflow of this spec gives to its own steps and services.
    pub(crate) fn own_names(&self, names: &mut Names) {
        names.extend(self.services.keys().map(|name| format!("services.{name}")));
        names.extend(self.claims.keys().map(|name| format!("pvcs.{name}")));
        for steps in [&self.setup, &self.steps, &self.after] {
            for step in steps {
                step.own_names(names);
            }
        }
    }
}

impl System {
    fn read(reader: &mut Reader, spec: &mut Object<'_>) -> Self {
        let Some(mut object) = spec.take("system").and_then(|found| found.object(reader)) else {
            return Self::default();
        };
        let system = Self {
            pure_by_default: object.flag(reader, "pureByDefault"),
            isolated_containers: object.flag(reader, "isolatedContainers"),
        };
        object.finish(reader);
        system
    }
}

impl Timeouts {
    /// These where they say something, and `below` where they do not.
    pub(crate) fn over(self, below: Self) -> Self {
        Self {
            queue: self.queue.or(below.queue),
            initialization: self.initialization.or(below.initialization),
            run: self.run.or(below.run),
            grace: self.grace.or(below.grace),
        }
    }

    /// All texts with their names.
    pub(crate) fn texts(&self) -> [(&'static str, Option<&Text>); 4] {
        [
            ("queue", self.queue.as_ref()),
            ("initialization", self.initialization.as_ref()),
            ("run", self.run.as_ref()),
            ("grace", self.grace.as_ref()),
        ]
    }

    pub(super) fn texts_mut(&mut self) -> impl Iterator<Item = &mut Text> {
        [
            &mut self.queue,
            &mut self.initialization,
            &mut self.run,
            &mut self.grace,
        ]
        .into_iter()
        .flatten()
    }

    fn read(reader: &mut Reader, spec: &mut Object<'_>) -> Self {
        let found = spec.take("timeouts");
        let Some(mut object) = found.and_then(|found| found.object(reader)) else {
            return Self::default();
        };
        let timeouts = Self {
            queue: object.said(reader, "queue"),
            initialization: object.said(reader, "initialization"),
            run: object.said(reader, "run"),
            grace: object.said(reader, "grace"),
        };
        object.finish(reader);
        timeouts
    }
}

impl Execution {
    fn read(reader: &mut Reader, spec: &mut Object<'_>) -> Self {
        let Some(mut object) = spec
            .take("execution")
            .and_then(|found| found.object(reader))
        else {
            return Self::default();
        };
        let why = "there are no webhooks and metrics of workflows yet";
        object.without_effect(reader, "silent", why);
        let execution = Self {
            tags: object
                .take("tags")
                .map(|found| found.scalars(reader, "text"))
                .unwrap_or_default(),
            target: object
                .take("target")
                .and_then(|found| Target::read(reader, &found)),
            recovery: object
                .take("recovery")
                .and_then(|found| Recovery::read(reader, &found))
                .unwrap_or_default(),
        };
        object.finish(reader);
        execution
    }
}

impl Target {
    /// Reads the field `target` of an execution.
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let replicate = object.take("replicate");
        let replicate = replicate.map(|found| found.text_list(reader));
        Some(Self::labels(reader, object, replicate.unwrap_or_default()))
    }

    /// Reads the field `target` of what an execution starts: `matrix` says how often that is.
    pub(super) fn read_of_child(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        object.unsupported(reader, &["replicate"]);
        Some(Self::labels(reader, object, Vec::new()))
    }

    fn labels(reader: &mut Reader, mut object: Object<'_>, replicate: Vec<Text>) -> Self {
        let target = Self {
            matches: labels(reader, &mut object, "match"),
            not: labels(reader, &mut object, "not"),
            replicate,
        };
        object.finish(reader);
        target
    }
}

/// Labels with one value or a list of them.
fn labels(
    reader: &mut Reader,
    object: &mut Object<'_>,
    name: &'static str,
) -> BTreeMap<String, Vec<Text>> {
    let Some(found) = object.take(name) else {
        return BTreeMap::new();
    };
    let mut labels = BTreeMap::new();
    for (entry, found) in found.entries(reader) {
        let values = match found.node.content {
            crate::yaml::Content::List(_) => found.text_list(reader),
            _ => found.scalar(reader, "text or a list").into_iter().collect(),
        };
        labels.insert(entry.key.clone(), values);
    }
    labels
}
