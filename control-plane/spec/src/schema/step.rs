//! Steps.

use std::sync::Arc;

use crate::problem::Place;

use super::artifacts::Artifacts;
use super::container::{Container, Run};
use super::content::Content;
use super::field::{Found, Object, Reader, Text};
use super::template_ref::TemplateRef;

/// A step.
#[derive(Debug, Clone, PartialEq)]
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
    /// `setup`.
    pub setup: Vec<Self>,
    /// `delay`, a template of a duration.
    pub delay: Option<Text>,
    /// `run`.
    pub run: Option<Run>,
    /// `shell`, a template of a script.
    pub shell: Option<Text>,
    /// `steps`.
    pub steps: Vec<Self>,
    /// `artifacts`.
    pub artifacts: Option<Artifacts>,
}

/// `retry` of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Most tries after the first one.
    pub count: u32,
    /// An expression.
    pub until: Option<Text>,
}

impl Step {
    /// Reads a step; steps of templates (`with_use` false) can not use templates.
    pub(super) fn read(reader: &mut Reader, found: &Found<'_>, with_use: bool) -> Option<Self> {
        let mut object = found.object(reader)?;
        object.unsupported(reader, &["services", "execute", "parallel"]);
        object.unsupported_if_set(reader, "paused");
        let nested = |reader: &mut Reader, found: &Found<'_>| Self::read(reader, found, with_use);
        let id = object.take("id").and_then(|found| read_id(reader, &found));
        let (uses, template) = if with_use {
            let template = object.take("template");
            (
                object.list(reader, "use", TemplateRef::read),
                template.and_then(|found| TemplateRef::read(reader, &found)),
            )
        } else {
            for name in ["use", "template"] {
                if let Some(found) = object.take(name) {
                    let message = "a template can not use templates";
                    reader.problem(found.node.mark, &found.path, message);
                }
            }
            (Vec::new(), None)
        };
        let step = Self {
            place: object.place(reader),
            id,
            name: object.text(reader, "name"),
            condition: condition(reader, &mut object, "condition"),
            pure: object.flag(reader, "pure"),
            negative: object.flag(reader, "negative").unwrap_or(false),
            optional: object.flag(reader, "optional").unwrap_or(false),
            retry: object
                .take("retry")
                .and_then(|found| Retry::read(reader, &found)),
            timeout: object.text(reader, "timeout"),
            uses,
            template,
            content: Content::read(reader, &mut object),
            container: Container::read(reader, &mut object),
            working_dir: object.text(reader, "workingDir"),
            setup: object.list(reader, "setup", nested),
            delay: object.text(reader, "delay"),
            run: object
                .take("run")
                .and_then(|found| Run::read(reader, &found)),
            shell: object.text(reader, "shell"),
            steps: object.list(reader, "steps", nested),
            artifacts: object
                .take("artifacts")
                .and_then(|found| Artifacts::read(reader, &found)),
        };
        object.finish(reader);
        Some(step)
    }
}

/// An expression; a plain boolean is taken as its text.
fn condition(reader: &mut Reader, object: &mut Object<'_>, name: &'static str) -> Option<Text> {
    object.take(name)?.scalar(reader, "an expression")
}

fn read_id(reader: &mut Reader, found: &Found<'_>) -> Option<Text> {
    let id = found.text(reader)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !id.text.is_empty() && id.text.len() <= 63 && id.text.chars().all(allowed) {
        return Some(id);
    }
    let message = "an id has 1 to 63 lower-case letters, digits and `_`";
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
                reader.problem(count.node.mark, &count.path, "expected 1 to 1000");
                None
            }
        }
    }
}
