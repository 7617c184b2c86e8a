//! Resolves all texts of a document in place, and gathers what is wrong with them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::expression::{self, Budget, Error, Expression, Lookup, Scope, Template, Value};
use crate::problem::{Place, Problem, Problems};
use crate::schema::{Json, Names, Strategy, Text, Visitor};

use super::scope::{of_instances, only_in_instances};
use super::{credential, secret};

/// The variables of one stage, and which others a later stage may know.
pub(super) trait Stage: Scope + std::fmt::Debug {
    /// Refuses a variable that no stage knows; `block` says that the text is compiled once more,
    /// for a worker, service or member.
    fn check(&self, path: &str, block: bool) -> Result<(), String>;

    /// Whether a resolved expression asks for what is not known while a document is checked by
    /// itself.
    fn is_open(&self, expression: &Expression) -> bool;
}

/// A scope without the variables that a block has of its own.
struct Hiding<'a> {
    scope: &'a dyn Stage,
    blocks: &'a [Names],
}

impl Hiding<'_> {
    fn hides(&self, path: &str) -> bool {
        let mut blocks = self.blocks.iter();
        blocks.any(|own| names_overlap(own, path))
    }
}

/// Whether a variable is one of these, or below or above one.
pub(super) fn names_overlap(names: &Names, path: &str) -> bool {
    let below = |long: &str, short: &str| {
        long.strip_prefix(short)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    names
        .iter()
        .any(|name| below(path, name) || below(name, path))
}

impl Scope for Hiding<'_> {
    fn variable(&self, path: &str) -> Lookup {
        if self.hides(path) {
            return Lookup::Unknown;
        }
        self.scope.variable(path)
    }

    fn function(&self, name: &str, arguments: &[Value]) -> Lookup {
        self.scope.function(name, arguments)
    }
}

/// Visits the texts of one document.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    scope: &'a dyn Stage,
    budget: &'a Budget,
    problems: &'a mut Problems,
    /// The blocks around the text, the outermost first.
    blocks: Vec<Names>,
    /// Texts that were seen, long ones counted more.
    size: usize,
    /// What was said of variables that are refused, by their paths: outside of blocks, and in them.
    refused: [HashMap<String, String>; 2],
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        scope: &'a dyn Stage,
        budget: &'a Budget,
        problems: &'a mut Problems,
    ) -> Self {
        Self {
            scope,
            budget,
            problems,
            blocks: Vec::new(),
            size: 0,
            refused: Default::default(),
        }
    }

    /// All of the document is compiled once more, for a worker or a service with these names of its
    /// own.
    pub(super) fn within(&mut self, own: Names) {
        self.blocks.push(own);
    }

    /// How large the document is.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Marks a place where something is asked for that is not known yet.
    fn note_open(&self, place: &mut Arc<Place>, rest: impl IntoIterator<Item = Expression>) {
        let mut rest = rest.into_iter();
        if rest.any(|expression| self.scope.is_open(&expression)) {
            Arc::make_mut(place).open = true;
        }
    }

    fn count(&mut self, text: &str) {
        self.size += 1 + text.len() / 256;
    }

    fn problem(&mut self, place: &Place, message: impl AsRef<str>) {
        self.problems
            .push(Problem::of_text(place, message.as_ref()));
    }

    /// Refuses variables and functions that no stage knows, wherever they stand.
    fn check(&mut self, place: &Place, expression: &Expression) -> bool {
        let mut good = true;
        let block = !self.blocks.is_empty();
        for path in expression.variables() {
            // Each name is looked up once: for advice it is compared with all that are there.
            let refused = &mut self.refused[usize::from(block)];
            if !refused.contains_key(&path) {
                if self.problems.is_full() {
                    // It is refused whatever this is.
                    return false;
                }
                let Err(message) = self.scope.check(&path, block) else {
                    continue;
                };
                refused.insert(path.clone(), message);
            }
            // What blocks have of their own only they know.
            if !self.blocks.iter().any(|own| names_overlap(own, &path)) {
                self.problems.push(Problem::of_text(place, &refused[&path]));
                good = false;
            }
        }
        good
    }

    /// Refuses secrets and credentials where no process is that they could be for.
    fn check_secrets(
        &mut self,
        place: &Place,
        expressions: impl IntoIterator<Item = Expression>,
    ) -> bool {
        let expressions = expressions.into_iter();
        let called: BTreeSet<String> = expressions.flat_map(|one| one.functions()).collect();
        let hidden = [secret::FUNCTION, credential::FUNCTION];
        let found = hidden.into_iter().find(|name| called.contains(*name));
        if let Some(name) = found {
            let message = format!("`{name}` is known only where a step runs, not in this field");
            let mut cure = format!("`{name}` {}", secret::PLACES);
            if name == secret::FUNCTION {
                cure.push_str("; elsewhere use `valueFrom`");
            }
            self.problems
                .push(Problem::new(place, message).with_cure(cure));
        }
        found.is_none()
    }

    /// The template as far as it is known now; nothing when it is wrong.
    fn resolve(&mut self, place: &Place, text: &str) -> Option<Template> {
        let result = Template::parse(text).and_then(|template| {
            let mut good = true;
            for expression in template.expressions() {
                good &= self.check(place, &expression);
            }
            if good {
                let scope = Hiding {
                    scope: self.scope,
                    blocks: &self.blocks,
                };
                template.resolve_within(&scope, self.budget).map(Some)
            } else {
                Ok(None)
            }
        });
        let resolved = result.unwrap_or_else(|error| {
            self.problem(place, error.to_string());
            None
        })?;
        Some(resolved)
    }

    /// The text of a template that must be known now.
    fn known(&mut self, place: &mut Arc<Place>, text: &str) -> Option<String> {
        self.count(text);
        if !text.contains("{{") {
            return Some(text.to_owned());
        }
        let template = self.resolve(place, text)?;
        if !self.check_secrets(place, template.expressions()) {
            return None;
        }
        // What a block asks for is asked again when the block is compiled.
        let is_late = |rest: &Expression| self.blocks.is_empty() && !self.scope.is_open(rest);
        if let Some(late) = template.expressions().find(is_late) {
            let variables = late.variables();
            let mut variables = variables.iter();
            let message = match variables.find(|path| of_instances(path)) {
                Some(path) => only_in_instances(path),
                None => {
                    let late: String = late.to_string().chars().take(80).collect();
                    format!("`{late}` is known only in the pod, too late for this field")
                }
            };
            self.problem(place, message);
            return None;
        }
        self.note_open(place, template.expressions());
        let known = template.text().filter(|_| self.blocks.is_empty());
        Some(known.map_or_else(|| template.print(), str::to_owned))
    }

    /// An expression as far as it is known now; nothing when it is wrong.
    fn formula_of(&mut self, text: &mut Text, expression: &str) -> Option<Expression> {
        let resolved = Expression::parse(expression).and_then(|expression| {
            if !self.check(&text.place, &expression) {
                return Ok(None);
            }
            let scope = Hiding {
                scope: self.scope,
                blocks: &self.blocks,
            };
            expression.resolve_within(&scope, self.budget).map(Some)
        });
        match resolved {
            Ok(resolved) => {
                self.check_secrets(&text.place, resolved.clone());
                self.note_open(&mut text.place, resolved.clone());
                resolved
            }
            Err(error) => {
                let wrapped = text.text.trim_start().starts_with("{{");
                let mut problem = Problem::of_text(&text.place, &error.to_string());
                if wrapped && matches!(error, Error::Syntax { .. }) {
                    problem = problem.with_cure("write the expression without `{{ }}`");
                }
                self.problems.push(problem);
                None
            }
        }
    }

    /// Whether one of the texts asks for what is not known yet.
    fn values(&mut self, place: &Arc<Place>, value: &mut Value) -> bool {
        let mut open = false;
        match value {
            Value::String(text) => {
                let mut place = Arc::clone(place);
                if let Some(known) = self.known(&mut place, text) {
                    *text = known;
                }
                open = place.open;
            }
            Value::Array(items) => {
                for item in items {
                    open |= self.values(place, item);
                }
            }
            Value::Object(map) => {
                for item in map.values_mut() {
                    open |= self.values(place, item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        open
    }
}

impl Visitor for Resolver<'_> {
    fn template(&mut self, text: &mut Text) {
        self.count(&text.text);
        if text.text.contains("{{")
            && let Some(template) = self.resolve(&text.place, &text.text)
        {
            self.check_secrets(&text.place, template.expressions());
            self.note_open(&mut text.place, template.expressions());
            text.text = template.print();
        }
    }

    fn inside(&mut self, text: &mut Text) {
        self.count(&text.text);
        if text.text.contains("{{")
            && let Some(template) = self.resolve(&text.place, &text.text)
        {
            self.note_open(&mut text.place, template.expressions());
            text.text = template.print();
        }
    }

    fn expression(&mut self, text: &mut Text) {
        self.count(&text.text);
        let written = text.text.clone();
        if let Some(expression) = self.formula_of(text, &written) {
            text.text = match expression.value() {
                // All that matters of a condition is whether it is true.
                Some(value) => expression::truthy(value).to_string(),
                None => expression.to_string(),
            };
        }
    }

    fn formula(&mut self, text: &mut Text) {
        self.count(&text.text);
        // Some write it as they would write a text.
        let bare = text.text.trim();
        let bare = bare
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"));
        let bare = bare
            .filter(|inner| !inner.contains("}}"))
            .unwrap_or(&text.text)
            .to_owned();
        if let Some(expression) = self.formula_of(text, &bare) {
            text.text = expression.to_string();
        }
    }

    fn late_value(&mut self, value: &mut Json) {
        self.blocks.push(Names::new());
        self.value(value);
        self.blocks.pop();
    }

    fn enter(&mut self, own: Names, _strategy: &Strategy) {
        self.blocks.push(own);
    }

    fn leave(&mut self) {
        self.blocks.pop();
    }

    fn value(&mut self, value: &mut Json) {
        if self.values(&value.place, &mut value.value) {
            Arc::make_mut(&mut value.place).open = true;
        }
    }

    fn early(&mut self, text: &mut Text) {
        if let Some(known) = self.known(&mut text.place, &text.text) {
            text.text = known;
        }
    }
}
