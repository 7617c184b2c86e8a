//! Instances of a strategy, with the variables that their texts may ask for.

use std::collections::BTreeMap;

use muster_spec::{
    expression::{Lookup, Scope, Value, resolve_template_final},
    plan::{EnvVar, Strategy},
    strategy::{Error, Instance, Instances, items, number},
};
use serde_json::Map;

use crate::conductor::{
    operation::{At, Failure},
    scope,
};

/// A scope with the variables of one instance.
pub(super) struct Own<'a> {
    inner: scope::Scope<'a>,
    variables: &'a Map<String, Value>,
}

impl Scope for Own<'_> {
    fn variable(&self, path: &str) -> Lookup {
        match self.variables.get(path) {
            Some(value) => Lookup::Known(value.clone()),
            None => self.inner.variable(path),
        }
    }

    fn function(&self, name: &str, arguments: &[Value]) -> Lookup {
        self.inner.function(name, arguments)
    }
}

/// What texts of one operation are resolved with.
pub(super) struct Texts<'a> {
    at: &'a At<'a>,
    environment: BTreeMap<String, String>,
}

impl<'a> Texts<'a> {
    pub(super) fn new(at: &'a At<'a>, env: &[EnvVar]) -> Result<Self, Failure> {
        Ok(Self {
            at,
            environment: at.environment(None, env)?,
        })
    }

    fn scope<'s>(&'s self, variables: &'s Map<String, Value>) -> Own<'s> {
        Own {
            inner: scope::Scope {
                sight: self.at.sight,
                environment: &self.environment,
            },
            variables,
        }
    }

    /// All instances of a strategy.
    pub(super) fn instances(&self, strategy: &Strategy) -> Result<Instances, Failure> {
        let none = Map::new();
        Instances::resolve(strategy, &self.scope(&none)).map_err(|error| failure(&error))
    }

    /// A number of at least 1, or nothing.
    pub(super) fn number(&self, field: &str, text: Option<&str>) -> Result<Option<usize>, Failure> {
        let none = Map::new();
        let number = number(field, text, &self.scope(&none)).map_err(|error| failure(&error))?;
        Ok(number.filter(|number| *number > 0))
    }

    /// A template with the variables of an instance.
    pub(super) fn template(
        &self,
        what: &str,
        text: &str,
        instance: &Instance,
    ) -> Result<String, Failure> {
        resolve_template_final(text, &self.scope(&instance.variables))
            .map_err(|error| Failure::new("EXPRESSION", format!("{what}: {error}")))
    }

    /// Patterns given as a list or as an expression of one; all files when there are none.
    pub(super) fn patterns(
        &self,
        what: &str,
        list: Option<&Value>,
        instance: &Instance,
    ) -> Result<Vec<String>, Failure> {
        let Some(list) = list else {
            return Ok(vec!["**/*".to_owned()]);
        };
        let scope = self.scope(&instance.variables);
        let found = items(what, list, &scope).map_err(|error| failure(&error))?;
        Ok(found.iter().map(muster_spec::expression::text).collect())
    }

    /// What sets an instance apart: its description, or its values.
    pub(super) fn label(
        &self,
        description: Option<&str>,
        instance: &Instance,
    ) -> Result<String, Failure> {
        match description {
            Some(text) => self.template("description", text, instance),
            None => Ok(instance.label.clone()),
        }
    }
}

fn failure(error: &Error) -> Failure {
    Failure::new("STRATEGY", error.to_string())
}
