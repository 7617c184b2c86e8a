//! Resolves all texts of a document in place, and gathers what is wrong with them.

use crate::expression::{self, Budget, Error, Expression, Template, Value};
use crate::problem::{Place, Problem, Problems};
use crate::schema::{Json, Text, Visitor};

use super::scope::Stage;

/// Visits the texts of one document.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    scope: &'a Stage<'a>,
    budget: &'a Budget,
    problems: &'a mut Problems,
    /// Texts that were seen, long ones counted more.
    size: usize,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        scope: &'a Stage<'a>,
        budget: &'a Budget,
        problems: &'a mut Problems,
    ) -> Self {
        Self {
            scope,
            budget,
            problems,
            size: 0,
        }
    }

    /// How large the document is.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    fn count(&mut self, text: &str) {
        self.size += 1 + text.len() / 256;
    }

    fn problem(&mut self, place: &Place, message: impl Into<String>) {
        self.problems.push(Problem::new(place, message));
    }

    /// Refuses variables and functions that no stage knows, wherever they stand.
    fn check(&mut self, place: &Place, expression: &Expression) -> bool {
        let mut good = true;
        for path in expression.variables() {
            if let Err(message) = self.scope.check(&path) {
                self.problem(place, message);
                good = false;
            }
        }
        good
    }

    /// The template as far as it is known now; nothing when it is wrong.
    fn resolve(&mut self, place: &Place, text: &str) -> Option<Template> {
        let result = Template::parse(text).and_then(|template| {
            let good = template
                .expressions()
                .all(|expression| self.check(place, &expression));
            if good {
                template.resolve_within(self.scope, self.budget).map(Some)
            } else {
                Ok(None)
            }
        });
        result.unwrap_or_else(|error| {
            self.problem(place, error.to_string());
            None
        })
    }

    /// The text of a template that must be known now.
    fn known(&mut self, place: &Place, text: &str) -> Option<String> {
        self.count(text);
        if !text.contains("{{") {
            return Some(text.to_owned());
        }
        let template = self.resolve(place, text)?;
        let text = template.text().map(str::to_owned);
        if text.is_none() {
            let rest = template.expressions().next().map(|rest| rest.to_string());
            let rest: String = rest.unwrap_or_default().chars().take(80).collect();
            let message = format!("`{rest}` is known only in the pod, too late for this field");
            self.problem(place, message);
        }
        text
    }

    fn values(&mut self, place: &Place, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(known) = self.known(place, text) {
                    *text = known;
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.values(place, item);
                }
            }
            Value::Object(map) => {
                for item in map.values_mut() {
                    self.values(place, item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

impl Visitor for Resolver<'_> {
    fn template(&mut self, text: &mut Text) {
        self.count(&text.text);
        if text.text.contains("{{")
            && let Some(template) = self.resolve(&text.place, &text.text)
        {
            text.text = template.print();
        }
    }

    fn expression(&mut self, text: &mut Text) {
        self.count(&text.text);
        let parsed = Expression::parse(&text.text);
        let resolved = parsed.and_then(|expression| {
            if !self.check(&text.place, &expression) {
                return Ok(None);
            }
            expression.resolve_within(self.scope, self.budget).map(Some)
        });
        match resolved {
            Ok(Some(expression)) => {
                text.text = match expression.value() {
                    // All that matters of a condition is whether it is true.
                    Some(value) => expression::truthy(value).to_string(),
                    None => expression.to_string(),
                };
            }
            Ok(None) => {}
            Err(error) => {
                let wrapped = text.text.trim_start().starts_with("{{");
                let mut problem = Problem::new(&text.place, error.to_string());
                if wrapped && matches!(error, Error::Syntax { .. }) {
                    problem = problem.with_cure("write the expression without `{{ }}`");
                }
                self.problems.push(problem);
            }
        }
    }

    fn value(&mut self, value: &mut Json) {
        let place = std::sync::Arc::clone(&value.place);
        self.values(&place, &mut value.value);
    }

    fn early(&mut self, text: &mut Text) {
        let place = std::sync::Arc::clone(&text.place);
        if let Some(known) = self.known(&place, &text.text) {
            text.text = known;
        }
    }
}
