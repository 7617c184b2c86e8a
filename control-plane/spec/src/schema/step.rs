//! Steps.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::problem::Place;

use super::artifacts::Artifacts;
use super::container::{Container, Run};
use super::content::Content;
use super::execute::Execute;
use super::field::{Found, Object, Reader, Text};
use super::parallel::Parallel;
use super::service::{self, Services};
use super::template_ref::TemplateRef;
use super::visit::Names;

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Where it begins.
    pub place: Arc<Place>,
    /// `id`.
    pub id: Option<Text>,
    /// `name`, a template.
    pub name: Option<Text>,
    /// `condition`, an expression.
    pub condition: Option<Text>,
    /// `pure`: it may share a container.
    pub pure: Option<bool>,
    /// `negative`.
    pub negative: bool,
    /// `paused`: it waits until somebody lets it go on.
    pub paused: bool,
    /// `optional`.
    pub optional: bool,
    /// `retry`.
    pub retry: Option<Retry>,
    /// `timeout`, a template of a duration.
    pub timeout: Option<Text>,
    /// `use`: templates that are merged into the step.
    pub uses: Vec<TemplateRef>,
    /// `template`: a template whose steps are the first ones of this step.
    pub template: Option<TemplateRef>,
    /// `content`.
    pub content: Content,
    /// `container`: defaults of what is below.
    pub container: Container,
    /// `workingDir`.
    pub working_dir: Option<Text>,
    /// `services`: helpers that live as long as the step.
    pub services: Services,
    /// `setup`.
    pub setup: Vec<Self>,
    /// `delay`, a template of a duration.
    pub delay: Option<Text>,
    /// `run`.
    pub run: Option<Run>,
    /// `shell`, a template of a script.
    pub shell: Option<Text>,
    /// `execute`: a suite of other workflows.
    pub execute: Option<Execute>,
    /// `parallel`: workers.
    pub parallel: Option<Box<Parallel>>,
    /// `steps`.
    pub steps: Vec<Self>,
    /// `artifacts`.
    pub artifacts: Option<Artifacts>,
}

/// `retry` of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Most tries after the first one.
    pub count: u32,
    /// An expression.
    pub until: Option<Text>,
}

impl Step {
    /// Reads a step.
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let id = object.take("id").and_then(|found| read_id(reader, &found));
        let step = Self {
            id,
            name: object.said(reader, "name"),
            condition: condition(reader, &mut object, "condition"),
            pure: object.flag(reader, "pure"),
            uses: TemplateRef::read_uses(reader, &mut object),
            content: Content::read(reader, &mut object),
            container: Container::read(reader, &mut object),
            working_dir: object.said(reader, "workingDir"),
            services: service::read_all(reader, &mut object),
            setup: object.list(reader, "setup", Self::read),
            steps: object.list(reader, "steps", Self::read),
            parallel: object
                .take("parallel")
                .and_then(|found| Parallel::read(reader, &found))
                .map(Box::new),
            ..Self::read_operations(reader, &mut object)
        };
        object.finish(reader);
        Some(step)
    }

    /// Reads what a step and a worker have in common: what controls it and what it does.
    pub(super) fn read_operations(reader: &mut Reader, object: &mut Object<'_>) -> Self {
        object.unsupported(reader, &["cache", "testCases"]);
        let template = object.take("template");
        let template = template.and_then(|found| TemplateRef::read(reader, &found));
        Self {
            negative: object.flag(reader, "negative").unwrap_or(false),
            paused: object.flag(reader, "paused").unwrap_or(false),
            optional: object.flag(reader, "optional").unwrap_or(false),
            retry: object
                .take("retry")
                .and_then(|found| Retry::read(reader, &found)),
            timeout: object.said(reader, "timeout"),
            template,
            delay: object.said(reader, "delay"),
            run: object
                .take("run")
                .and_then(|found| Run::read(reader, &found)),
            shell: object.text(reader, "shell"),
            execute: object
                .take("execute")
                .and_then(|found| Execute::read(reader, &found)),
            artifacts: object
                .take("artifacts")
                .and_then(|found| Artifacts::read(reader, &found)),
            ..Self::empty(object.place(reader))
        }
    }

    /// A step that does nothing.
    #[must_use]
    pub fn empty(place: Arc<Place>) -> Self {
        Self {
            place,
            id: None,
            name: None,
            condition: None,
            pure: None,
            negative: false,
            paused: false,
            optional: false,
            retry: None,
            timeout: None,
            uses: Vec::new(),
            template: None,
            content: Content::default(),
            container: Container::default(),
            working_dir: None,
            services: Services::new(),
            setup: Vec::new(),
            delay: None,
            run: None,
            shell: None,
            execute: None,
            parallel: None,
            steps: Vec::new(),
            artifacts: None,
        }
    }

    /// Whether anything was said that makes it more than [`Step::empty`].
    pub(super) fn does_something(&self) -> bool {
        *self != Self::empty(Arc::clone(&self.place))
    }

    /// Adds the names of this step and of all in it, as expressions know them.
    pub(super) fn own_names(&self, names: &mut Names) {
        let id = self.id.as_ref().map(|id| id.text.clone());
        let named = || crate::compile::slug(&self.name.as_ref()?.text);
        names.extend(id.or_else(named).map(|id| format!("step.{id}")));
        names.extend(self.services.keys().map(|name| format!("services.{name}")));
        for step in self.setup.iter().chain(&self.steps) {
            step.own_names(names);
        }
    }
}

/// An expression; a plain boolean is taken as its text, and an empty one is none.
fn condition(reader: &mut Reader, object: &mut Object<'_>, name: &'static str) -> Option<Text> {
    let text = object.take(name)?.scalar(reader, "an expression");
    text.filter(Text::is_said)
}

fn read_id(reader: &mut Reader, found: &Found<'_>) -> Option<Text> {
    let id = found.text(reader)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !id.text.is_empty() && id.text.len() <= 63 && id.text.chars().all(allowed) {
        return Some(id);
    }
    let short: String = id.text.chars().take(60).collect();
    let message = format!("expected 1 to 63 lower-case letters, digits and `_`, found `{short}`");
    reader.problem(found.node.mark, &found.path, message);
    None
}

impl Retry {
    fn read(reader: &mut Reader, found: &Found<'_>) -> Option<Self> {
        let mut object = found.object(reader)?;
        let count = object.take("count");
        let until = condition(reader, &mut object, "until");
        let Some(count) = count else {
            let path = format!("{}.count", object.path());
            reader.problem(object.mark(), &path, "`count` is missing");
            object.finish(reader);
            return None;
        };
        object.finish(reader);
        let number = u32::try_from(count.integer(reader)?).ok();
        match number.filter(|number| (1..=1000).contains(number)) {
            Some(count) => Some(Self { count, until }),
            None => {
                let message = format!("expected 1 to 1000, found {}", count.node.describe());
                reader.problem(count.node.mark, &count.path, message);
                None
            }
        }
    }
}
