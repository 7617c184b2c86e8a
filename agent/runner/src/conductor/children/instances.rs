//! Instances of a strategy, with the variables that their texts may ask for.

use std::path::PathBuf;

use muster_spec::{
    expression::{Lookup, Scope, Value, resolve_template_final},
    plan::{EnvVar, Strategy},
    schema::Balance,
    strategy::{Error, Instance, Instances, items, number},
};
use serde_json::Map;

use crate::{
    conductor::{
        operation::{At, DEFAULT_BASE, Failure},
        surroundings::Surroundings,
    },
    volumes::resolve,
};

/// A scope with the variables of one instance.
struct Own<'a> {
    inner: &'a dyn Scope,
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
    pub(super) at: &'a At<'a>,
    around: Surroundings,
}

impl<'a> Texts<'a> {
    pub(super) async fn new(
        at: &'a At<'a>,
        env: &[EnvVar],
        directory: Option<&str>,
    ) -> Result<Self, Failure> {
        let around = at.around_operation(env, directory).await?;
        Ok(Self { at, around })
    }

    /// A path from the working directory of the step.
    pub(super) fn here(&self, path: &str) -> String {
        resolve(&self.around.directory, path).display().to_string()
    }

    /// A path from the working directory of an instance, which the plan has as `directory`.
    pub(super) async fn there(
        &self,
        directory: Option<&str>,
        path: &str,
        instance: &Instance,
    ) -> Result<String, Failure> {
        let mut base = PathBuf::from(DEFAULT_BASE);
        if let Some(text) = directory.filter(|_| !path.starts_with('/')) {
            base = resolve(&base, &self.template("workingDir", text, instance).await?);
        }
        Ok(resolve(&base, path).display().to_string())
    }

    async fn evaluate<T>(
        &self,
        what: &str,
        variables: &Map<String, Value>,
        once: impl Fn(&dyn Scope) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let evaluated = self
            .at
            .evaluate(what, &self.around, |inner| once(&Own { inner, variables }));
        evaluated.await?.map_err(|error| failure(&error))
    }

    /// All instances of a strategy.
    pub(super) async fn instances(&self, strategy: &Strategy) -> Result<Instances, Failure> {
        let mut instances = self
            .evaluate("strategy", &Map::new(), |scope| {
                Instances::resolve(strategy, scope)
            })
            .await?;
        if strategy.balance == Balance::Duration {
            self.balance(&mut instances).await?;
        }
        Ok(instances)
    }

    /// A number of at least 1, or nothing.
    pub(super) async fn number(
        &self,
        field: &str,
        text: Option<&str>,
    ) -> Result<Option<usize>, Failure> {
        let number = self
            .evaluate(field, &Map::new(), |scope| number(field, text, scope))
            .await?;
        Ok(number.filter(|number| *number > 0))
    }

    /// A template with the variables of an instance.
    pub(super) async fn template(
        &self,
        what: &str,
        text: &str,
        instance: &Instance,
    ) -> Result<String, Failure> {
        let variables = &instance.variables;
        let evaluated = self.at.evaluate(what, &self.around, |inner| {
            resolve_template_final(text, &Own { inner, variables })
        });
        evaluated
            .await?
            .map_err(|error| Failure::expression(what, &error))
    }

    /// Patterns given as a list or as an expression of one; all files when there are none.
    pub(super) async fn patterns(
        &self,
        what: &str,
        list: Option<&Value>,
        instance: &Instance,
    ) -> Result<Vec<String>, Failure> {
        let Some(list) = list else {
            return Ok(vec!["**/*".to_owned()]);
        };
        let found = self
            .evaluate(what, &instance.variables, |scope| items(what, list, scope))
            .await?;
        Ok(found.iter().map(muster_spec::expression::text).collect())
    }

    /// What sets an instance apart: its description, or its values.
    pub(super) async fn label(
        &self,
        description: Option<&str>,
        instance: &Instance,
    ) -> Result<String, Failure> {
        match description {
            Some(text) => self.template("description", text, instance).await,
            None => Ok(instance.label.clone()),
        }
    }
}

fn failure(error: &Error) -> Failure {
    Failure::new("STRATEGY", error.to_string())
}
