//! `execute` of a step: a suite of other workflows.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::problem::Place;

use super::field::{Found, Object, Reader, Text};
use super::spec::Target;
use super::strategy::{self, Strategy};
use super::transfer::Transfer;
use super::visit::Visitor;

/// A suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execute {
    /// `parallelism`: most members at a time, an expression.
    pub parallelism: Option<Text>,
    /// `async`: the step does not wait for them.
    pub detached: bool,
    /// `workflows`.
    pub workflows: Vec<Member>,
}

/// One item of `workflows`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Where it begins.
    pub place: Arc<Place>,
    /// `name` of the workflow, a template.
    pub name: Option<Text>,
    /// `selector` of workflows by their labels.
    pub selector: Option<Selector>,
    /// `description`, a template.
    pub description: Option<Text>,
    /// `executionName`, a template.
    pub execution_name: Option<Text>,
    /// How often it is run, and with which values.
    pub strategy: Strategy,
    /// `config`: values of the workflow's parameters, templates.
    pub config: IndexMap<String, Text>,
    /// `tarball`: parameters that get the address of an archive of files.
    pub tarball: IndexMap<String, Transfer>,
    /// `target`: where it should run.
    pub target: Option<Target>,
}

/// A Kubernetes `LabelSelector`: all must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selector {
    /// Where it begins.
    pub place: Arc<Place>,
    /// `matchLabels`, with templates.
    pub labels: BTreeMap<String, Text>,
    /// `matchExpressions`.
    pub requirements: Vec<Requirement>,
}

/// One item of `matchExpressions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// The values, with templates.
    pub values: Vec<Text>,
}

/// Most items of `workflows`, and most conditions of one selector.
const MAX_MEMBERS: usize = 1000;
pub(crate) const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

impl Execute {
    /// Reads the field `execute` of a step.
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        if let Some(tests) = object.take("tests") {
            let message = "`tests` names tests of a format before workflows; name `workflows`";
            reader.problem(tests.node.mark, &tests.path, message);
        }
        let workflows = object.list(reader, "workflows", Member::read);
        let execute = Self {
            parallelism: strategy::number(reader, &mut object, "parallelism"),
            detached: object.flag(reader, "async").unwrap_or(false),
            workflows,
        };
        if execute.workflows.is_empty() || execute.workflows.len() > MAX_MEMBERS {
            let path = format!("{}.workflows", object.path());
            let found = execute.workflows.len();
            let message = format!("expected 1 to {MAX_MEMBERS} workflows, found {found}");
            reader.problem(object.mark(), &path, message);
        }
        object.finish(reader);
        Some(execute)
    }

    pub(super) fn visit(&mut self, visitor: &mut dyn Visitor) {
        if let Some(text) = &mut self.parallelism {
            visitor.formula(text);
        }
        for member in &mut self.workflows {
            member.visit(visitor);
        }
    }
}

impl Member {
    fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        object.unsupported(reader, &["as", "fetch"]);
        let config = object
            .take("config")
            .map(|found| found.scalars(reader, "text or a number"));
        let mut tarball = IndexMap::new();
        if let Some(found) = object.take("tarball") {
            for (entry, found) in found.entries(reader) {
                if let Some(files) = Transfer::read_tarball(reader, &found) {
                    tarball.insert(entry.key.clone(), files);
                }
            }
        }
        let member = Self {
            place: object.place(reader),
            name: object.said(reader, "name"),
            selector: object
                .take("selector")
                .and_then(|found| Selector::read(reader, &found)),
            description: object.said(reader, "description"),
            execution_name: object.said(reader, "executionName"),
            strategy: Strategy::read(reader, &mut object),
            config: config.unwrap_or_default(),
            tarball,
            target: object
                .take("target")
                .and_then(|found| Target::read_of_child(reader, &found)),
        };
        if member.name.is_some() == member.selector.is_some() {
            let message = match member.name.is_some() {
                true => "name the workflow by `name`, or several by `selector`, not both",
                false => "name the workflow by `name`, or several by `selector`",
            };
            reader.problem(object.mark(), object.path().to_owned().as_str(), message);
        }
        object.finish(reader);
        Some(member)
    }

    fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.strategy.visit(visitor);
        visitor.enter(self.strategy.names(), &self.strategy);
        let texts = [
            &mut self.name,
            &mut self.description,
            &mut self.execution_name,
        ];
        for text in texts.into_iter().flatten().chain(self.config.values_mut()) {
            visitor.template(text);
        }
        for files in self.tarball.values_mut() {
            files.visit(visitor);
        }
        if let Some(selector) = &mut self.selector {
            let values = selector.requirements.iter_mut();
            let values = values.flat_map(|requirement| &mut requirement.values);
            for text in selector.labels.values_mut().chain(values) {
                visitor.template(text);
            }
        }
        if let Some(target) = &mut self.target {
            target.visit(visitor);
        }
        visitor.leave();
    }
}

impl Selector {
    fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let labels = object
            .take("matchLabels")
            .map(|found| found.scalars(reader, "text"));
        let selector = Self {
            place: object.place(reader),
            labels: labels.unwrap_or_default().into_iter().collect(),
            requirements: object.list(reader, "matchExpressions", Requirement::read),
        };
        let conditions = selector.labels.len() + selector.requirements.len();
        if conditions == 0 || conditions > MAX_MEMBERS {
            let message = format!(
                "a selector has 1 to {MAX_MEMBERS} conditions in `matchLabels` and `matchExpressions`, this one has {conditions}"
            );
            let path = object.path().to_owned();
            reader.problem(object.mark(), &path, message);
        }
        object.finish(reader);
        Some(selector)
    }
}

impl Requirement {
    fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object: Object<'_> = found.object(reader)?;
        let key = object.text(reader, "key");
        let operator = object.text(reader, "operator");
        let values = object.take("values");
        let values = values.map(|found| found.text_list(reader));
        let values = values.unwrap_or_default();
        let path = object.path().to_owned();
        let operator_text = operator.as_ref().map_or("", |text| text.text.as_str());
        if key.is_none() || !OPERATORS.contains(&operator_text) {
            let allowed = OPERATORS.join(", ");
            let message = format!("expected a `key` and an `operator`, one of {allowed}");
            reader.problem(object.mark(), &path, message);
        } else if matches!(operator_text, "In" | "NotIn") == values.is_empty() {
            let message = "`In` and `NotIn` need `values`, the other operators must have none";
            reader.problem(object.mark(), &path, message);
        }
        object.finish(reader);
        Some(Self {
            key: key?.text,
            operator: operator?.text,
            values,
        })
    }
}
